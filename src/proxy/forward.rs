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
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use self::answer::{ESTABLISHED, Manner, Refusal};
use self::destination::Destinations;
use self::plain::Next;
use self::reach::Reached;
use self::request::{Form, Request};
use super::held::Held;
use super::http1::MAX_HEAD;
use super::{Proxy, Read, client_uid, read_some, talk};
use crate::budget::{Budget, Use};
use crate::http1::head;
use crate::net::{self, Abort, Target};
use crate::stack::Context;

/// What the forward proxy asks for, and where it goes.
pub struct Forward {
    /// As it is said behind `Basic`.
    credential: String,
    destinations: Destinations,
    lookups: Arc<Semaphore>,
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
            lookups: Arc::new(Semaphore::new(reach::LOOK_UPS)),
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
    while let Some(Heard { head, rest, held }) =
        timeout(HEAD, next_head(&mut client, said, &proxy.settings.budget, &proxy.drain)).await??
    {
        let begun = SystemTime::now();
        let (mut manner, asked) = forward.read(&head);
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
                // It may be said to whom the client takes for a server, and is no request to us.
                manner.keeps &= !manner.tunnels || rest.is_empty();
                say(&mut client, refusal.answer(manner).as_bytes(), &proxy.drain).await?;
                if !manner.keeps {
                    return farewell(client).await;
                }
                said = rest;
                continue;
            }
        };
        let (mut upstream, _, own) = reached;
        if request.form == Form::Tunnel {
            say(&mut client, ESTABLISHED, &proxy.drain).await?;
            let read = Read { client: rest, ..Read::default() };
            return Box::pin(talk(proxy, context, begun, (client, upstream, Some(own)), read)).await;
        }
        proxy.metrics.detected.inc("http1");
        let admits = |head: &[u8]| match forward.read(head).1 {
            Ok(Request { to, form: Form::Plain(plain) }) if to == request.to => Some(plain),
            _ => None,
        };
        let first = Bytes::from_owner(OnLoan { bytes: [head.as_slice(), &rest].concat(), _held: held });
        match Box::pin(plain::serve(&context, (&mut client, first), &mut upstream, &proxy.drain, admits)).await {
            Next::Said(beyond) => said = beyond,
            Next::Close => return farewell(client).await,
            Next::Closed => return Ok(()),
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

/// A head, and what was read behind it.
struct Heard {
    head: Vec<u8>,
    rest: BytesMut,
    /// It is on loan from here.
    held: Held,
}

/// Bytes that are on loan until the relay has read them.
struct OnLoan {
    bytes: Vec<u8>,
    _held: Held,
}

impl AsRef<[u8]> for OnLoan {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The next head, and what was read behind it. `None` if there is none.
async fn next_head(
    client: &mut (impl AsyncRead + Unpin),
    mut said: BytesMut,
    budget: &Arc<Budget>,
    drain: &CancellationToken,
) -> io::Result<Option<Heard>> {
    let (mut held, mut empty) = (Held::default(), 0);
    loop {
        if held.is_empty() {
            // Empty lines before a head (RFC 9112, section 2.2) are not looked at again.
            let blank = said.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            said.advance(blank);
            empty += blank;
            if empty > MOST_EMPTY {
                return Ok(None);
            }
        }
        if !held.keep(&said, budget, Use::Heads) {
            return Ok(None);
        }
        said.clear();
        let bytes = held.bytes();
        // What can be no request is not waited for: the answer to it says so.
        let foreign = bytes.first().is_some_and(|first| !first.is_ascii_alphabetic());
        if let Some(length) = head::end(bytes, held.scanned).or(foreign.then_some(bytes.len())) {
            let mut head = held.take();
            let rest = head.split_off(length);
            return Ok(Some(Heard { head, rest: BytesMut::from(&*rest), held }));
        }
        held.scanned = bytes.len();
        if held.scanned > MAX_HEAD {
            return Ok(None);
        }
        tokio::select! {
            biased;
            read = read_some(client, &mut said) => if read? == 0 { return Ok(None) },
            () = drain.cancelled(), if held.is_empty() => return Ok(None),
        }
    }
}

/// Says something of our own. Who does not take it is waited for neither for ever nor when we drain.
async fn say(client: &mut (impl AsyncWrite + Unpin), bytes: &[u8], drain: &CancellationToken) -> io::Result<()> {
    tokio::select! {
        biased;
        said = timeout(HEAD, client.write_all(bytes)) => said?,
        () = drain.cancelled() => Err(io::ErrorKind::TimedOut.into()),
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
/// A client has so long to say what it wants, and to take what we answer.
const HEAD: Duration = Duration::from_secs(30);
const FAREWELL: Duration = Duration::from_secs(2);
const MOST_UNREAD: u64 = 1024 * 1024;
/// Of empty lines before a head.
const MOST_EMPTY: usize = 4096;

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn a_few_empty_lines_before_a_head_are_nothing_and_many_are_the_end() {
        let head = b"GET / HTTP/1.1\r\n\r\n";
        for (empty, read_before, found) in
            [(0, 0, true), (7, 3, true), (1024, 0, true), (2049, 0, false), (1 << 20, 0, false)]
        {
            let said = [b"\r\n".repeat(empty).as_slice(), head, b"rest"].concat();
            let (before, mut more) = said.split_at(read_before);
            let (budget, drain) = (Budget::unlimited(), CancellationToken::new());
            let next = next_head(&mut more, before.into(), &budget, &drain).await.unwrap();
            assert_eq!(next.is_some(), found, "{empty}");
            assert!(next.is_none_or(|heard| heard.head == head && b"rest".starts_with(&heard.rest)), "{empty}");
            assert_eq!(more.len() > 1000, empty == 1 << 20, "nobody reads on");
        }
    }

    #[tokio::test]
    async fn a_large_head_is_on_loan_until_it_was_handed_on() {
        let (budget, drain) = (Budget::of(8 * 1_000_000), CancellationToken::new());
        let head = [b"GET / HTTP/1.1\r\nA: ", vec![b'a'; 600_000].as_slice(), b"\r\n\r\n"].concat();
        let Heard { head, held, .. } =
            next_head(&mut head.as_slice(), BytesMut::new(), &budget, &drain).await.unwrap().unwrap();
        let mut first = Bytes::from_owner(OnLoan { bytes: head, _held: held });
        first.advance(500_000);
        assert!(budget.lend(900_000, Use::Heads).is_none());
        drop(first);
        assert!(budget.lend(900_000, Use::Heads).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_take_our_answer_is_not_waited_for() {
        let (mut client, _reads_nothing) = duplex(1);
        let drain = CancellationToken::new();
        assert!(say(&mut client, b"no", &drain).await.is_err(), "not for ever");
        drain.cancel();
        let begun = tokio::time::Instant::now();
        assert!(say(&mut client, b"no", &drain).await.is_err());
        assert_eq!(begun.elapsed(), Duration::ZERO, "nor in the drain");
        let (mut client, _takes_it) = duplex(2);
        say(&mut client, b"no", &drain).await.unwrap();
    }
}
