//! Sockets: listeners, the original destination of a redirected connection, the way upstream, the guard against loops.

pub mod linked;
pub mod owner;

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::telemetry::Metrics;

/// Which way a connection goes, seen from the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the agent to somewhere else.
    Outbound,
    /// From somewhere else to the pod.
    Inbound,
}

/// Where a connection goes: the key of every policy. The Host header is no part of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Seen from the pod.
    pub direction: Direction,
    /// Where the client wanted to go before it was redirected.
    pub original: SocketAddr,
    /// Its host as text, shared by all spans of the connection: the IP address; the name asked for inside a tunnel, and of
    /// the forward proxy.
    pub address: Arc<str>,
    /// The far side's socket: upstream's, or the client's of an inbound connection.
    pub peer: SocketAddr,
    /// Its IP address as text.
    pub peer_address: Arc<str>,
    /// Inside a tunnel: the port asked for.
    pub port: u16,
    /// It is inside a tunnel.
    pub tunnel: bool,
    /// Of an outbound connection's client, where somebody wants to know it ([`owner`]).
    pub uid: Option<u32>,
    /// What was agreed with upstream, where TLS is intercepted.
    pub tls: Option<Arc<Session>>,
}

/// A TLS session with upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Session {
    /// `1.2` or `1.3`.
    pub version: &'static str,
    /// By its IANA name.
    pub cipher: &'static str,
    /// Whether it continues an earlier one.
    pub resumed: bool,
    /// The protocol that upstream chose, if it was asked.
    pub alpn: Option<String>,
    /// The name that upstream has proved to be; `None` if it has proved its address.
    pub server_name: Option<Box<str>>,
}

impl Target {
    /// The target of an outbound connection.
    pub fn outbound(original: SocketAddr) -> Self {
        let address: Arc<str> = original.ip().to_string().into();
        let (peer, peer_address, port) = (original, address.clone(), original.port());
        let (tunnel, uid, tls) = (false, None, None);
        Self { direction: Direction::Outbound, original, address, peer, peer_address, port, tunnel, uid, tls }
    }

    /// The target of an outbound connection that the forward proxy was asked for by this name: in all else it is as if it had
    /// been redirected.
    pub fn asked(name: &str, resolved: SocketAddr) -> Self {
        Self { address: name.into(), ..Self::outbound(resolved) }
    }

    /// The target of an inbound connection from `client`.
    pub fn inbound(original: SocketAddr, client: SocketAddr) -> Self {
        let peer_address = client.ip().to_string().into();
        Self { direction: Direction::Inbound, peer: client, peer_address, ..Self::outbound(original) }
    }

    /// Host and port as a span's name says them.
    pub fn authority(&self) -> String {
        if self.address.contains(':') {
            format!("[{}]:{}", self.address, self.port)
        } else {
            format!("{}:{}", self.address, self.port)
        }
    }

    /// What is reached through a CONNECT proxy at this target.
    pub fn through(&self, authority: &str) -> Self {
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
        let host = host.trim_start_matches('[').trim_end_matches(']');
        // No name is longer (RFC 1035, section 2.3.4).
        let end = (0..=host.len().min(255)).rev().find(|end| host.is_char_boundary(*end));
        let host = host.get(..end.unwrap_or(0)).unwrap_or_default();
        Self { address: host.into(), port: port.parse().unwrap_or(self.port), tunnel: true, tls: None, ..self.clone() }
    }

    /// The same, with what was agreed with upstream.
    pub fn secured(&self, session: Session) -> Self {
        Self { tls: Some(Arc::new(session)), ..self.clone() }
    }

    /// The name that upstream has proved to be.
    pub fn verified_name(&self) -> Option<&str> {
        self.tls.as_ref().and_then(|session| session.server_name.as_deref())
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

/// A stream that can end in more ways than by a close.
pub trait Abort {
    /// The close that follows will send RST.
    fn abort(&self);

    /// Whether the far side's end came without the announcement that its protocol has for it: TLS's `close_notify`.
    fn was_cut(&self) -> bool {
        false
    }

    /// Our end will come without one.
    fn cut(&mut self) {}
}

impl Abort for TcpStream {
    fn abort(&self) {
        // Fails only on a socket that is gone already.
        let _ = self.set_zero_linger();
    }
}

/// Listens on one port where redirected connections arrive: IPv4 always, IPv6 where the host has it. What leaves the pod is
/// redirected to loopback, where nobody from outside can come; what comes in, to the address that it came in on.
pub fn listen_redirected(direction: Direction, port: u16) -> io::Result<Vec<TcpListener>> {
    match direction {
        Direction::Outbound => listen_loopback(port),
        Direction::Inbound => listen_both(Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED, port),
    }
}

/// Listens on one port of loopback: IPv4 always, IPv6 where the host has it.
pub fn listen_loopback(port: u16) -> io::Result<Vec<TcpListener>> {
    listen_both(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST, port)
}

fn listen_both(v4: Ipv4Addr, v6: Ipv6Addr, port: u16) -> io::Result<Vec<TcpListener>> {
    let first = listen((v4, port).into(), true)?;
    let port = first.local_addr()?.port();
    let mut listeners = vec![first];
    match listen((v6, port).into(), true) {
        Ok(listener) => listeners.push(listener),
        Err(error) if matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported) => {}
        Err(error) => return Err(error),
    }
    Ok(listeners)
}

/// Listens on one port of every address, for what the kubelet or a scraper asks.
pub fn listen_everywhere(port: u16) -> io::Result<TcpListener> {
    listen((Ipv6Addr::UNSPECIFIED, port).into(), false).or_else(|_| listen((Ipv4Addr::UNSPECIFIED, port).into(), false))
}

fn listen(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Where a redirected connection wanted to go, or `None` if it was not redirected: the kernel has no entry for it
/// (ENOENT), or the entry names the address that it came in on.
pub fn original_destination(stream: &TcpStream) -> io::Result<Option<SocketAddr>> {
    let local = stream.local_addr()?;
    let socket = SockRef::from(stream);
    let found = if local.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    match found {
        Ok(original) => Ok(original.as_socket().filter(|original| *original != local)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens connections that iptables does not redirect: by the process's uid, or by a mark where uids are not mapped.
#[derive(Clone, Debug, Default)]
pub struct Connector {
    /// `SO_MARK` of every socket; needs CAP_NET_ADMIN or, from Linux 5.17 on, CAP_NET_RAW.
    pub mark: Option<u32>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

impl Connector {
    /// Whether connections can be made as they must be: without the right to set the mark every one of them would fail.
    pub fn check(&self) -> io::Result<()> {
        match self.mark {
            Some(mark) => Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?.set_mark(mark),
            None => Ok(()),
        }
    }

    /// Connects. `started` hears the local address as soon as the kernel has chosen it, before the far side answers.
    pub async fn connect(&self, to: SocketAddr, started: impl FnOnce(SocketAddr)) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        if let Some(mark) = self.mark {
            socket.set_mark(mark)?;
        }
        socket.set_tcp_nodelay(true)?;
        keep_alive(&SockRef::from(&socket))?;
        // Given up before it is made, it was a client that was reset: the far side, which may have accepted, hears that.
        socket.set_linger(Some(Duration::ZERO))?;
        match socket.connect(&to.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        self.metrics.known_opens.inc();
        if let Some(local) = socket.local_addr()?.as_socket() {
            started(local);
        }
        let stream = TcpStream::from_std(socket.into())?;
        stream.writable().await?;
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        SockRef::from(&stream).set_linger(None)?;
        Ok(stream)
    }
}

/// Idle connections live as long as both ends do; a dead peer is noticed, as the kernel would between the two.
pub fn keep_alive(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE_INTERVAL))
}

/// Refuses what would come back to us: our own ports as a destination, and our own connections as clients, which means
/// that the redirect does not exempt us.
#[derive(Debug)]
pub struct LoopGuard {
    own_ports: Vec<u16>,
    upstream: Mutex<HashSet<(SocketAddr, SocketAddr)>>,
}

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loop {
    /// Its destination is one of our own listeners.
    OwnPort,
    /// Its client is ourselves.
    OwnConnection,
}

impl LoopGuard {
    /// Guards these ports of the local addresses.
    pub fn new(own_ports: Vec<u16>) -> Self {
        Self { own_ports, upstream: Mutex::default() }
    }

    /// Whether a connection from `client` to `original` would loop.
    pub fn check(&self, client: SocketAddr, original: SocketAddr) -> Result<(), Loop> {
        if self.own_ports.contains(&original.port()) && is_local(original.ip()) {
            return Err(Loop::OwnPort);
        }
        if self.is_own(client, original) { Err(Loop::OwnConnection) } else { Ok(()) }
    }

    /// Whether a connection from `client` to `destination` is one of ours.
    pub fn is_own(&self, client: SocketAddr, destination: SocketAddr) -> bool {
        self.lock().contains(&(client, destination))
    }

    /// Remembers a connection of ours until the guard drops. Both ends: the agent may use the same local address towards
    /// another destination.
    pub fn remember(self: &Arc<Self>, local: SocketAddr, destination: SocketAddr) -> OwnConnection {
        let ends = (local, destination);
        self.lock().insert(ends);
        OwnConnection { guard: self.clone(), ends }
    }

    // Held for one look-up or insert, once a connection, never across an await.
    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<(SocketAddr, SocketAddr)>> {
        self.upstream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that we opened; forgotten when this drops.
#[derive(Debug)]
pub struct OwnConnection {
    guard: Arc<LoopGuard>,
    ends: (SocketAddr, SocketAddr),
}

impl Drop for OwnConnection {
    fn drop(&mut self) {
        self.guard.lock().remove(&self.ends);
    }
}

/// Whether an address is one of this network namespace's own.
pub fn is_local(address: IpAddr) -> bool {
    address.is_loopback()
        || address.is_unspecified()
        || nix::ifaddrs::getifaddrs().is_ok_and(|mut interfaces| {
            interfaces.any(|interface| {
                interface.address.is_some_and(|local| {
                    let v4 = local.as_sockaddr_in().map(|local| IpAddr::V4(local.ip()));
                    let v6 = local.as_sockaddr_in6().map(|local| IpAddr::V6(local.ip()));
                    v4.or(v6) == Some(address)
                })
            })
        })
}

const BACKLOG: i32 = 4096;
const EINPROGRESS: i32 = nix::errno::Errno::EINPROGRESS as i32;
const KEEP_ALIVE: Duration = Duration::from_secs(60);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_of_a_proxy_is_named_without_credentials_and_without_end() {
        let proxy = Target::outbound("10.0.0.5:3128".parse().unwrap());
        let through = proxy.through("user:pa@ss@[2001:db8::1]:443");
        assert_eq!(
            (&*through.address, through.port, through.authority().as_str()),
            ("2001:db8::1", 443, "[2001:db8::1]:443")
        );
        assert_eq!(&*through.peer_address, "10.0.0.5");
        assert_eq!(proxy.through(&"é".repeat(1000)).address.len(), 254);
    }

    #[test]
    fn our_own_ports_are_refused_on_local_addresses_only() {
        let guard = Arc::new(LoopGuard::new(vec![15101, 15120]));
        let client = "127.0.0.1:40000".parse().unwrap();
        let check = |to: &str| guard.check(client, to.parse().unwrap());
        assert_eq!(check("127.0.0.1:15101"), Err(Loop::OwnPort));
        assert_eq!(check("127.9.9.9:15120"), Err(Loop::OwnPort));
        assert_eq!(check("[::1]:15101"), Err(Loop::OwnPort));
        assert_eq!(check("0.0.0.0:15101"), Err(Loop::OwnPort));
        assert_eq!(check("127.0.0.1:80"), Ok(()));
        assert_eq!(check("192.0.2.1:15101"), Ok(()), "another pod's port is not ours");
    }

    #[test]
    fn our_own_connections_are_refused_while_they_live() {
        let guard = Arc::new(LoopGuard::new(vec![]));
        let own: SocketAddr = "10.0.0.1:40000".parse().unwrap();
        let to = "192.0.2.1:80".parse().unwrap();
        let remembered = guard.remember(own, to);
        assert_eq!(guard.check(own, to), Err(Loop::OwnConnection));
        assert_eq!(guard.check(own, "192.0.2.1:81".parse().unwrap()), Ok(()), "the agent's socket, same local address");
        drop(remembered);
        assert_eq!(guard.check(own, to), Ok(()));
    }

    #[tokio::test]
    async fn a_connection_that_was_not_redirected_has_no_original_destination() {
        let listener = listen_redirected(Direction::Outbound, 0).unwrap().remove(0);
        let client = Connector::default().connect(listener.local_addr().unwrap(), |_| {}).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        assert_eq!(original_destination(&accepted).unwrap(), None);
        drop(client);
    }

    #[tokio::test]
    async fn a_refused_connect_says_so_and_its_local_address_was_known_before() {
        let listener = listen_redirected(Direction::Outbound, 0).unwrap().remove(0);
        let address = listener.local_addr().unwrap();
        drop(listener);
        let mut local = None;
        let error = Connector::default().connect(address, |address| local = Some(address)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(local.is_none_or(|local| local.ip().is_loopback()));
    }
}
