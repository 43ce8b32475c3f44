//! The address that proves the redirect: a connection to it can only arrive here if iptables sent it.
//!
//! It lies in blocks that are never routed (TEST-NET-1, RFC 5737; the discard prefix, RFC 6666), and the probe's packets
//! have a TTL of 1, so nothing leaves the machine where there is no redirect. Used by `sidetrace check` and by the proxy,
//! which answers the probe when it is running already.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Where the probe goes, for IPv4.
pub const PROBE_V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 101)), PROBE_PORT);
/// Where the probe goes, for IPv6.
pub const PROBE_V6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0x101)), PROBE_PORT);
/// Where the probe goes if the namespace has no route at all, for IPv4.
pub const PROBE_LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 15, 10, 1)), PROBE_PORT);

/// What the one who answers writes before the token.
pub const GREETING: &[u8] = b"sidetrace check ";
/// The length of a token.
pub const TOKEN: usize = 16;

/// Whether a redirected connection is a probe.
pub fn is_probe(original: SocketAddr) -> bool {
    [PROBE_V4, PROBE_V6, PROBE_LOOPBACK].contains(&original)
}

/// Answers a probe with its own token.
pub async fn answer(mut stream: TcpStream) {
    let mut token = [0; TOKEN];
    if stream.read_exact(&mut token).await.is_ok() {
        // The prober that went away needs no answer.
        let _ = stream.write_all(&[GREETING, &token].concat()).await;
    }
}

const PROBE_PORT: u16 = 15109;
