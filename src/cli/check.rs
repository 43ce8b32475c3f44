//! `sidetrace check`: sends a token to an address that is never routed, and expects it back from the outbound port.
//!
//! Before the sidecar runs (the init container's last step) the check listens on that port itself; later the sidecar
//! answers. With `--trust` it asks the runtimes of this machine whom they trust, with `--health` the sidecar whether it is ready.

pub(super) mod health;
pub(super) mod trust;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use nix::unistd::geteuid;
use rand::Rng;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::check::{GREETING, PROBE_LOOPBACK, PROBE_V4, PROBE_V6, TOKEN};
use crate::config::Config;

/// Runs the probes. 0 if all came back, 1 if one did not.
pub(super) fn run(config: &Config, ipv6: &str, quiet: bool) -> ExitCode {
    let mut failed = false;
    for (probe, wanted) in [(PROBE_V4, true), (PROBE_V6, ipv6 == "on" || (ipv6 == "auto" && has_ipv6_route()))] {
        if !wanted {
            if ipv6 == "auto" && !quiet {
                let _ = writeln!(io::stdout(), "IPv6: not tried, for it has no default route here");
            }
            continue;
        }
        let family = if probe.is_ipv4() { "IPv4" } else { "IPv6" };
        match outcome(config.outbound_port, probe) {
            Ok(_) if quiet => {}
            Ok(how) => {
                let _ = writeln!(io::stdout(), "{family}: redirected to port {} ({how})", config.outbound_port);
            }
            Err(why) => {
                failed = true;
                let _ = writeln!(io::stderr(), "sidetrace check: {family}: {why}");
                let _ = writeln!(io::stderr(), "{}", advice(config, &why, probe));
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Why a probe did not come back.
#[derive(Debug)]
enum Why {
    /// Somebody else, or nobody, has the port.
    Port(io::Error),
    /// The probe got through to nobody, or to the wrong one.
    NotRedirected(io::Error),
    /// Something answered, but neither the check nor a sidecar.
    Stranger,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Why::Port(error) => write!(f, "cannot listen on the outbound port, and no sidecar answers there: {error}"),
            Why::NotRedirected(error) => write!(f, "not redirected: {error}"),
            Why::Stranger => f.write_str("something else than Sidetrace answered"),
        }
    }
}

fn outcome(port: u16, probe: SocketAddr) -> Result<&'static str, Why> {
    let mut token = [0; TOKEN];
    rand::rng().fill(&mut token);
    let local: SocketAddr =
        if probe.is_ipv4() { (Ipv4Addr::LOCALHOST, port).into() } else { (Ipv6Addr::LOCALHOST, port).into() };
    let listener = match TcpListener::bind(local) {
        Ok(listener) => Some(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => None,
        Err(error) => return Err(Why::Port(error)),
    };
    let (mut stream, probe) = match connect(probe) {
        // A namespace without a route says so before iptables sees anything; loopback is always there.
        Err(error) if error.kind() == io::ErrorKind::NetworkUnreachable && probe.is_ipv4() => {
            (connect(PROBE_LOOPBACK).map_err(Why::NotRedirected)?, PROBE_LOOPBACK)
        }
        connected => (connected.map_err(Why::NotRedirected)?, probe),
    };
    stream.write_all(&token).map_err(Why::NotRedirected)?;
    let how = match &listener {
        Some(listener) => {
            answer_own_probe(listener, probe, &token)?;
            "the check itself answered"
        }
        None => "a running sidecar answered",
    };
    let mut answer = [0; GREETING.len() + TOKEN];
    let read = stream.read_exact(&mut answer);
    if read.is_err() || answer != *[GREETING, &token].concat() {
        return Err(Why::Stranger);
    }
    Ok(how)
}

/// The probe must be the connection that arrives: its original destination and its token say so.
fn answer_own_probe(listener: &TcpListener, probe: SocketAddr, token: &[u8]) -> Result<(), Why> {
    listener.set_nonblocking(true).map_err(Why::Port)?;
    // The probe's connect has succeeded: if it came here it is in the backlog by now. Anybody else may be before it.
    while let Ok((mut stream, _)) = listener.accept() {
        stream.set_nonblocking(false).and_then(|()| stream.set_read_timeout(Some(PATIENCE))).map_err(Why::Port)?;
        let socket = SockRef::from(&stream);
        let original = if probe.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
        if original.ok().and_then(|original| original.as_socket()) != Some(probe) {
            continue;
        }
        let mut heard = [0; TOKEN];
        if stream.read_exact(&mut heard).is_ok() && heard == token {
            return stream.write_all(&[GREETING, token].concat()).map_err(Why::NotRedirected);
        }
    }
    Err(Why::NotRedirected(io::Error::other("the probe connected, but to somebody else")))
}

/// With a TTL of 1: where nothing redirects it, the probe does not get past the first router.
fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    if to.is_ipv4() {
        socket.set_ttl_v4(1)?
    } else {
        socket.set_unicast_hops_v6(1)?
    }
    socket.connect_timeout(&to.into(), PATIENCE)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn advice(config: &Config, why: &Why, probe: SocketAddr) -> String {
    let port = config.outbound_port;
    let uid = geteuid().as_raw();
    match why {
        Why::Port(_) => format!("  Another program has port {port}: set SIDETRACE_OUTBOUND_PORT for it and for iptables/init.sh."),
        Why::NotRedirected(_) if uid == config.uid => {
            format!("  This runs as uid {uid}, which is exempt from the redirect: run it as the agent's user.")
        }
        Why::NotRedirected(_) if probe.is_ipv6() => {
            "  Run iptables/init.sh in this network namespace; if its --ipv6 is off on purpose: sidetrace check --ipv6 off."
                .to_owned()
        }
        Why::NotRedirected(_) => format!(
            "  Run iptables/init.sh in this network namespace (needs NET_ADMIN), and see that SIDETRACE_OUTBOUND_PORT is \
             {port} for both. If {} is excluded (--service-cidr), the check cannot see the redirect.",
            probe.ip()
        ),
        Why::Stranger => format!("  Port {port} belongs to another program, or to a sidecar of another version."),
    }
}

/// A default route, without which the probe's address cannot be tried. The kernel's null route is none.
fn has_ipv6_route() -> bool {
    let routes = std::fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    routes.lines().any(|route| {
        let fields: Vec<_> = route.split_whitespace().collect();
        let [destination, prefix, _, _, _, metric, ..] = fields.as_slice() else { return false };
        *prefix == "00" && destination.bytes().all(|digit| digit == b'0') && *metric != "ffffffff"
    })
}

const PATIENCE: Duration = Duration::from_secs(3);
