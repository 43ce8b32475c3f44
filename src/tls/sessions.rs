//! Sessions that upstream lets us resume. Each TLS 1.3 ticket is used once (RFC 8446, appendix C.4), so many are kept of a
//! server that many connections go to at the same time: what resumes saves both sides most of a handshake. All configurations
//! share one limit of tickets, for each holds a copy of its server's chain: some 4 KiB mostly, and never more than 128 KiB. Of
//! TLS 1.2 each configuration keeps one session for each of eight servers.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_rustls::rustls::NamedGroup;
use tokio_rustls::rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use tokio_rustls::rustls::pki_types::ServerName;

/// The sessions of one configuration.
#[derive(Debug)]
pub(super) struct Sessions {
    /// Sessions of TLS 1.2, which can be resumed again and again, and the groups that servers chose.
    lasting: ClientSessionMemoryCache,
    // Held for a push or a pop, once a connection, never across an await.
    tickets: Mutex<HashMap<ServerName<'static>, VecDeque<Kept>>>,
    all: Arc<AtomicUsize>,
}

/// A ticket that counts while it is kept.
#[derive(Debug)]
struct Kept {
    ticket: Tls13ClientSessionValue,
    _place: Place,
}

/// One of [`MOST`].
#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(all: &Arc<AtomicUsize>) -> Option<Self> {
        let more = |taken| (taken < MOST).then_some(taken + 1);
        all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Self(all.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Sessions {
    /// `all` counts the tickets of all that share the limit.
    pub(super) fn new(all: Arc<AtomicUsize>) -> Self {
        Self { lasting: ClientSessionMemoryCache::new(SERVERS), tickets: Mutex::default(), all }
    }

    fn tickets(&self) -> MutexGuard<'_, HashMap<ServerName<'static>, VecDeque<Kept>>> {
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, server: ServerName<'static>, group: NamedGroup) {
        self.lasting.set_kx_hint(server, group);
    }

    fn kx_hint(&self, server: &ServerName<'_>) -> Option<NamedGroup> {
        self.lasting.kx_hint(server)
    }

    fn set_tls12_session(&self, server: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.lasting.set_tls12_session(server, session);
    }

    fn tls12_session(&self, server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.lasting.tls12_session(server)
    }

    fn remove_tls12_session(&self, server: &ServerName<'static>) {
        self.lasting.remove_tls12_session(server);
    }

    fn insert_tls13_ticket(&self, server: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        let mut tickets = self.tickets();
        if tickets.len() >= SERVERS && !tickets.contains_key(&server) {
            let any = tickets.keys().next().cloned();
            any.map(|any| tickets.remove(&any));
        }
        if self.all.load(Ordering::Relaxed) >= MOST
            && let Some(longest) = tickets.values_mut().max_by_key(|kept| kept.len())
        {
            longest.pop_front();
        }
        let kept = tickets.entry(server).or_default();
        if kept.len() >= TICKETS {
            kept.pop_front();
        }
        if let Some(place) = Place::take(&self.all) {
            kept.push_back(Kept { ticket, _place: place });
        }
    }

    fn take_tls13_ticket(&self, server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.tickets().get_mut(server)?.pop_back().map(|kept| kept.ticket)
    }
}

/// Servers that are remembered.
const SERVERS: usize = 64;
/// Tickets of each: fewer run out where fifty connections are made at the same time.
const TICKETS: usize = 64;
/// Tickets of all.
const MOST: usize = 256;
