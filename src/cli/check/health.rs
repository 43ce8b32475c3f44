//! `sidetrace check --health`: asks the health port of this pod's sidecar whether it is ready. For exec probes and hooks, in an
//! image without a shell.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// 0 if the sidecar says that it is ready, within `wait` at the latest; 1 if not. It is asked at least once.
pub(crate) fn run(port: u16, wait: Duration, quiet: bool) -> ExitCode {
    let until = Instant::now() + wait;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        // One try of many may not use up the time that the next one could be answered in.
        match ask(port, Instant::now() + left.clamp(LEAST, PATIENCE)) {
            Ok(()) => {
                if !quiet {
                    let _ = writeln!(io::stdout(), "ready");
                }
                return ExitCode::SUCCESS;
            }
            Err(why) if left.is_zero() => {
                let _ = writeln!(io::stderr(), "sidetrace check: 127.0.0.1:{port}: {why}");
                return ExitCode::FAILURE;
            }
            Err(_) => std::thread::sleep(PAUSE.min(left)),
        }
    }
}

/// Why a sidecar is not ready.
#[derive(Debug)]
enum Why {
    /// Nobody answers there.
    Silent(io::Error),
    /// It says so.
    NotReady,
    /// What answers is no sidecar.
    Stranger,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Silent(error) => {
                write!(f, "no sidecar answers: {error}; is it running, and SIDETRACE_HEALTH_PORT the same for both?")
            }
            Why::NotReady => f.write_str("the sidecar is not ready: it starts or drains"),
            Why::Stranger => f.write_str("something else than Sidetrace answers"),
        }
    }
}

fn ask(port: u16, until: Instant) -> Result<(), Why> {
    match &exchange(port, until).map_err(Why::Silent)? {
        READY => Ok(()),
        NOT_READY => Err(Why::NotReady),
        _ => Err(Why::Stranger),
    }
}

/// The beginning of the answer, which is all that is asked for; the rest is zero if it is shorter.
fn exchange(port: u16, until: Instant) -> io::Result<[u8; READY.len()]> {
    // No timeout of zero: the standard library refuses it.
    let left = || until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, left())?;
    stream.set_write_timeout(Some(left()))?;
    stream.write_all(b"GET /ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut heard = [0; READY.len()];
    let mut length = 0;
    while let Some(room) = heard.get_mut(length..).filter(|room| !room.is_empty()) {
        stream.set_read_timeout(Some(left()))?;
        match stream.read(room) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
    }
    Ok(heard)
}

const READY: &[u8; 13] = b"HTTP/1.1 200 ";
const NOT_READY: &[u8; 13] = b"HTTP/1.1 503 ";

const PATIENCE: Duration = Duration::from_secs(2);
const LEAST: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);
