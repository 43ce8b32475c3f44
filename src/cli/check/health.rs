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
            Err(_) => pause(PAUSE.min(left)),
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "another process starts: there is no event to wait for")]
fn pause(time: Duration) {
    std::thread::sleep(time);
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
    let answer = exchange(port, until).map_err(Why::Silent)?;
    let is = |status: &[u8], body: &[u8]| answer.starts_with(status) && answer.ends_with(body);
    match () {
        () if is(b"HTTP/1.1 200 ", b"\r\n\r\nready\n") => Ok(()),
        () if is(b"HTTP/1.1 503 ", b"\r\n\r\nnot ready\n") => Err(Why::NotReady),
        () => Err(Why::Stranger),
    }
}

/// The answer, as far as one of ours can be long.
fn exchange(port: u16, until: Instant) -> io::Result<Vec<u8>> {
    // No timeout of zero: the standard library refuses it.
    let left = || until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, left())?;
    stream.set_write_timeout(Some(left()))?;
    stream.write_all(b"GET /ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    while answer.len() < LONGEST {
        let mut heard = [0; LONGEST];
        stream.set_read_timeout(Some(left()))?;
        match stream.read(&mut heard) {
            Ok(0) => break,
            Ok(length) => answer.extend(heard.iter().take(length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}

const LONGEST: usize = 1024;
const PATIENCE: Duration = Duration::from_secs(2);
const LEAST: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);
