//! The explicit proxy, for pods without the right to redirect: a client says by CONNECT or in absolute form where it wants to
//! go, and from there on the connection is as if it had been redirected.
//!
//! Here, unlike there, some answers are our own (`answer`). Nobody is served without the pod's credential; where a
//! connection may go is judged by the address that a name was resolved to (`destination`). A client's connection has one
//! upstream at a time: when the next request is for another server, upstream is closed behind the last answer, and a new one
//! opened.

mod answer;
mod destination;
mod plain;
mod reach;
mod request;

use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::debug;

use self::answer::{ESTABLISHED, Manner, Refusal};
use self::destination::Destinations;
use self::reach::Reached;
use self::request::{Form, Request};
use super::held::Held;
use super::http1::MAX_HEAD;
use super::{Proxy, Read, client_uid, read_some, talk};
use crate::budget::Use;
use crate::http1::head;
use crate::net::{self, Abort, Target};
use crate::stack::Context;

/// What the forward proxy asks for, and where it goes.
pub struct Forward {
    /// As it is said behind `Basic`.
    credential: String,
    destinations: Destinations,
    lookups: Semaphore,
}

impl std::fmt::Debug for Forward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forward").field("destinations", &self.destinations).finish_non_exhaustive()
    }
}

impl Forward {
    /// Serves who has the password of the user `sidetrace`. Connects to these ports, but not to our own ones.
    pub fn new(password: &str, ports: Vec<RangeInclusive<u16>>, own_ports: Vec<u16>) -> Self {
        Self {
            credential: STANDARD.encode(format!("{USER}:{password}")),
            destinations: Destinations::new(ports, own_ports),
            lookups: Semaphore::new(reach::LOOK_UPS),
        }
    }

    fn read(&self, head: &[u8]) -> (Manner, Result<Request, Refusal>) {
        request::read(head, self.credential.as_bytes())
    }
}

/// Serves one accepted connection to its end.
pub async fn serve(proxy: &Proxy, forward: &Forward, client: TcpStream, peer: SocketAddr) {
    let _open = proxy.metrics.connections_open.guard();
    proxy.metrics.forward_connections.inc();
    proxy.metrics.known_opens.inc();
    // Where nothing can be redirected, the kernel may not even know the question.
    let redirected = net::original_destination(&client).ok().flatten().is_some();
    let own = client.local_addr().is_ok_and(|local| proxy.guard.is_own(peer, local));
    if redirected || own {
        proxy.metrics.loops.inc();
        debug!(%peer, redirected, "refused: no client of the forward proxy");
        return client.abort();
    }
    if let Err(error) = Box::pin(requests(proxy, forward, client, peer)).await {
        debug!(%peer, %error, "connection ended");
    }
}

/// The requests of a connection, up to one that takes the rest of it.
async fn requests(proxy: &Proxy, forward: &Forward, mut client: TcpStream, peer: SocketAddr) -> io::Result<()> {
    client.set_nodelay(true)?;
    net::keep_alive(&socket2::SockRef::from(&client))?;
    let local = client.local_addr()?;
    let names_uids = proxy.settings.policies.load().names_uids();
    let uid = names_uids.then(|| client_uid(proxy, peer, local)).flatten();
    let mut said = BytesMut::new();
    while let Some((head, rest)) = timeout(HEAD, next_head(proxy, &mut client, said)).await?? {
        let begun = SystemTime::now();
        let (manner, asked) = forward.read(&head);
        let reached = match asked {
            Ok(request) => {
                reach(proxy, forward, (&client, uid), &request, begun).await?.map(|reached| (request, reached))
            }
            Err(refusal) => Err(refusal),
        };
        let (request, (context, reached)) = match reached {
            Ok(reached) => reached,
            Err(refusal) => {
                proxy.metrics.forward_refused.inc(refusal.label());
                debug!(?refusal, "refused");
                client.write_all(refusal.answer(manner).as_bytes()).await?;
                if !manner.keeps {
                    return farewell(client).await;
                }
                said = rest;
                continue;
            }
        };
        let (mut upstream, _, own) = reached;
        if request.form == Form::Tunnel {
            client.write_all(ESTABLISHED).await?;
            let read = Read { client: rest, ..Read::default() };
            return Box::pin(talk(proxy, context, begun, (client, upstream, Some(own)), read)).await;
        }
        proxy.metrics.detected.inc("http1");
        let admits = |head: &[u8]| match forward.read(head).1 {
            Ok(Request { to, form: Form::Plain(plain) }) if to == request.to => Some(plain),
            _ => None,
        };
        let first = Bytes::from([head.as_slice(), &rest].concat());
        match Box::pin(plain::serve(proxy, &context, (&mut client, first), &mut upstream, admits)).await {
            Some(beyond) => said = beyond,
            None => return Ok(()),
        }
    }
    Ok(())
}

/// Upstream, or why not. An error means that the client is gone.
async fn reach(
    proxy: &Proxy,
    forward: &Forward,
    (client, uid): (&TcpStream, Option<u32>),
    request: &Request,
    begun: SystemTime,
) -> io::Result<Result<(Context, Reached), Refusal>> {
    let to = &request.to;
    let addresses = match reach::resolve(forward, to).await {
        Ok(addresses) => addresses,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let context = |address: &SocketAddr| {
        let target = Target { uid, ..Target::asked(&to.host, *address) };
        let policy = proxy.settings.policies.load();
        let workload = policy.workload(target.direction, uid, target.port).cloned();
        Context { target: Arc::new(target), workload, settings: proxy.settings.clone() }
    };
    let Some(first) = addresses.first() else { return Ok(Err(Refusal::NoSuchName)) };
    let connected = tokio::select! {
        connected = reach::connect(proxy, &addresses) => connected,
        // A reset, no mere FIN: the client has given up.
        gone = client.ready(Interest::ERROR) => {
            context(first).given_up(None, begun);
            return Err(gone.err().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into()));
        }
    };
    Ok(match connected {
        Ok(reached) => Ok((context(&reached.1), reached)),
        Err(error) => {
            proxy.metrics.detected.inc("refused");
            context(first).refused(None, &error, begun);
            Err(if error.kind() == io::ErrorKind::TimedOut { Refusal::Timeout } else { Refusal::Unreachable(error) })
        }
    })
}

/// The next head, and what was read behind it. `None` if there is none.
async fn next_head(
    proxy: &Proxy,
    client: &mut TcpStream,
    mut said: BytesMut,
) -> io::Result<Option<(Vec<u8>, BytesMut)>> {
    let mut held = Held::default();
    loop {
        if !held.keep(&said, &proxy.settings.budget, Use::Heads) {
            return Ok(None);
        }
        said.clear();
        let bytes = held.bytes();
        // What can be no request is not waited for: the answer to it says so.
        let foreign =
            bytes.first().is_some_and(|first| !first.is_ascii_alphabetic() && !matches!(first, b'\r' | b'\n'));
        if let Some(length) = head::end(bytes, held.scanned).or(foreign.then_some(bytes.len())) {
            let mut head = held.take();
            let rest = head.split_off(length);
            return Ok(Some((head, BytesMut::from(&*rest))));
        }
        held.scanned = bytes.len();
        if held.scanned > MAX_HEAD {
            return Ok(None);
        }
        tokio::select! {
            biased;
            read = read_some(client, &mut said) => if read? == 0 { return Ok(None) },
            () = proxy.drain.cancelled(), if held.is_empty() => return Ok(None),
        }
    }
}

/// An end that does not destroy the answer before it was read: what the client still says is taken, within bounds.
async fn farewell(mut client: TcpStream) -> io::Result<()> {
    client.shutdown().await?;
    let mut rest = (&mut client).take(MOST_UNREAD);
    let _ = timeout(FAREWELL, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
    Ok(())
}

const USER: &str = "sidetrace";
/// A client has so long to say what it wants.
const HEAD: Duration = Duration::from_secs(30);
const FAREWELL: Duration = Duration::from_secs(2);
const MOST_UNREAD: u64 = 1024 * 1024;
