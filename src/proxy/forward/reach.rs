//! From a name to a connection: look-up, judgement, and the addresses in turn (RFC 8305, without its sorting, which the
//! resolver does).

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;
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
    let found = match to.host.parse::<IpAddr>() {
        Ok(ip) => vec![SocketAddr::new(ip, to.port)],
        Err(_) => timeout(
            LOOK_UP,
            look_up(&forward.lookups, to.clone(), |to| Ok((to.host.as_str(), to.port).to_socket_addrs()?.collect())),
        )
        .await
        .map_err(|_| Refusal::Timeout)?
        .map_err(|_| Refusal::NoSuchName)?,
    };
    let judged =
        found.into_iter().take(MOST_ADDRESSES).map(|address| forward.destinations.judge(address, net::is_local));
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

/// Each takes a thread, and that is one of few until the resolver has answered, whether anybody still waits for it or not.
async fn look_up(
    few: &Arc<Semaphore>,
    to: Authority,
    ask: impl FnOnce(&Authority) -> io::Result<Vec<SocketAddr>> + Send + 'static,
) -> io::Result<Vec<SocketAddr>> {
    let one_of_few = few.clone().acquire_owned().await.map_err(io::Error::other)?;
    let asked = tokio::task::spawn_blocking(move || {
        let _one_of_few = one_of_few;
        ask(&to)
    });
    asked.await.map_err(io::Error::other)?
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_look_up_that_nobody_waits_for_still_takes_its_thread() {
        let few = Arc::new(Semaphore::new(1));
        let to = Authority { host: "one.test".to_owned(), port: 80 };
        let (begun, begins) = tokio::sync::oneshot::channel();
        let (answer, answered) = std::sync::mpsc::channel();
        let asking = look_up(&few, to, move |_| {
            begun.send(()).unwrap();
            answered.recv().map_err(io::Error::other)
        });
        tokio::select! {
            found = asking => panic!("{found:?}"),
            begins = begins => begins.unwrap(),
        }
        assert_eq!(few.available_permits(), 0);
        answer.send(vec![]).unwrap();
        let _free = timeout(Duration::from_secs(30), few.acquire()).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn an_address_is_not_looked_up() {
        let forward = Forward::new("0123456789abcdef", vec![80..=80], vec![]);
        forward.lookups.close();
        let to = |host: &str| Authority { host: host.to_owned(), port: 80 };
        for (host, address) in [("192.0.2.1", "192.0.2.1:80"), ("2001:db8::1", "[2001:db8::1]:80")] {
            assert_eq!(resolve(&forward, &to(host)).await.unwrap(), [address.parse().unwrap()]);
        }
        assert!(resolve(&forward, &to("169.254.169.254")).await.is_err());
        assert!(matches!(resolve(&forward, &to("one.test")).await, Err(Refusal::NoSuchName)));
    }
}
