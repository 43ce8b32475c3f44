//! From a name to a connection: look-up, judgement, and the addresses in turn (RFC 8305, without its sorting, which the
//! resolver does).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Forward;
use super::answer::Refusal;
use super::request::Authority;
use crate::net::{self, OwnConnection};
use crate::proxy::Proxy;

/// Upstream, and where it is.
pub(super) type Reached = (TcpStream, SocketAddr, OwnConnection);

/// Where a destination may be reached: one address at least.
pub(super) async fn resolve(forward: &Forward, to: &Authority) -> Result<Vec<SocketAddr>, Refusal> {
    forward.destinations.judge_port(to.port).map_err(Refusal::Forbidden)?;
    let looking_up = async {
        // Each takes a thread.
        let _one_of_few = forward.lookups.acquire().await;
        tokio::net::lookup_host((to.host.as_str(), to.port)).await
    };
    let found = timeout(LOOK_UP, looking_up).await.map_err(|_| Refusal::Timeout)?.map_err(|_| Refusal::NoSuchName)?;
    let judged = found.take(MOST_ADDRESSES).map(|address| forward.destinations.judge(address, net::is_local));
    let (mut allowed, mut refused) = (Vec::new(), Refusal::NoSuchName);
    for address in judged {
        match address {
            Ok(address) if !allowed.contains(&address) => allowed.push(address),
            Ok(_) => {}
            Err(why) => refused = Refusal::Forbidden(why),
        }
    }
    if allowed.is_empty() { Err(refused) } else { Ok(allowed) }
}

/// Connects to the first address that answers. Each has a start over the next one.
pub(super) async fn connect(proxy: &Proxy, addresses: &[SocketAddr]) -> io::Result<Reached> {
    timeout(CONNECT, race(proxy, addresses)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn race(proxy: &Proxy, addresses: &[SocketAddr]) -> io::Result<Reached> {
    let (mut waiting, mut tries) = (addresses.iter().copied(), JoinSet::new());
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        if let Some(address) = waiting.next() {
            tries.spawn(one(proxy.clone(), address));
        }
        tokio::select! {
            biased;
            tried = tries.join_next() => match tried {
                Some(Ok(Ok(reached))) => return Ok(reached),
                Some(Ok(Err(error))) => failed = error,
                Some(Err(error)) => failed = io::Error::other(error),
                None => return Err(failed),
            },
            () = sleep(START), if waiting.len() > 0 => {}
        }
    }
}

async fn one(proxy: Proxy, address: SocketAddr) -> io::Result<Reached> {
    let mut own = None;
    let connecting = proxy.connector.connect(address, |local| own = Some(proxy.guard.remember(local, address)));
    let upstream = connecting.await?;
    let own = own.ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok((upstream, address, own))
}

/// Look-ups at once, of all connections.
pub(super) const LOOK_UPS: usize = 32;
/// Longer than the resolver waits for two servers by default.
const LOOK_UP: Duration = Duration::from_secs(15);
const CONNECT: Duration = Duration::from_secs(30);
/// RFC 8305, section 5.
const START: Duration = Duration::from_millis(250);
const MOST_ADDRESSES: usize = 16;
