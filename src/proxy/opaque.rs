//! A connection that is passed through unread: bytes both ways, half-close and reset as they come, one span.

use std::cell::RefCell;
use std::io::{self, Read};
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use opentelemetry::{Array, StringValue, Value};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::Proxy;
use crate::detect::Reason;
use crate::detect::client_hello::ClientHello;
use crate::net::Target;
use crate::net::linked::Abort;
use crate::stack;
use crate::telemetry::Sharded;
use crate::trace::{ActiveSpan, End, Span, propagation, semconv};

/// Copies until both sides have closed, or one was reset.
pub(super) async fn pass(
    proxy: &Proxy,
    target: &Target,
    reason: Reason,
    hello: Option<&ClientHello>,
    begun: SystemTime,
    (client, from_client): (TcpStream, Bytes),
    (upstream, from_upstream): (TcpStream, Bytes),
) {
    let span = ActiveSpan::new(span(target, reason, hello, begun), proxy.sink.clone());
    let metrics = &proxy.metrics;
    let counted =
        Counted { sent: Count::new(&metrics.bytes_sent), received: Count::new(&metrics.bytes_received), span: &span };
    let (client_done, upstream_done) = (AtomicBool::new(false), AtomicBool::new(false));
    let up = pin!(copy(&client, &upstream, from_client, &counted.sent, &client_done));
    let down = pin!(copy(&upstream, &client, from_upstream, &counted.received, &upstream_done));
    let Some((by_client, error)) = both(up, down).await else { return span.conclude(End::Complete) };
    let (other, done) = if by_client { (&upstream, &client_done) } else { (&client, &upstream_done) };
    other.abort();
    if done.load(Ordering::Relaxed) {
        // It had said all it had to say before it was gone: many programs close without reading the last bytes.
        span.conclude(End::Complete);
    } else if by_client {
        span.conclude(End::Cancelled);
    } else {
        span.conclude_with(End::Broken, |span| span.fail(stack::io_error_type(&error)));
    }
}

fn span(target: &Target, reason: Reason, hello: Option<&ClientHello>, begun: SystemTime) -> Span {
    let name = hello.and_then(|hello| hello.server_name.clone());
    let port = target.original.port();
    let title = match &name {
        Some(name) => format!("connect {name}:{port}"),
        None => format!("connect {}", target.original),
    };
    let mut span = Span::new(propagation::start(&mut rand::rng()), title);
    span.start = begun;
    span.push(semconv::SERVER_ADDRESS, name.clone().map_or_else(|| Value::from(target.address.clone()), Value::from));
    span.push(semconv::SERVER_PORT, i64::from(port));
    stack::network_attributes(target, &mut span);
    span.push(semconv::NETWORK_TRANSPORT, "tcp");
    span.push(semconv::SIDETRACE_PASSTHROUGH_REASON, reason.as_str());
    if let Some(name) = name {
        span.push(semconv::SIDETRACE_TLS_SERVER_NAME, name);
    }
    if let Some(hello) = hello.filter(|hello| !hello.alpn.is_empty()) {
        let alpn = hello.alpn.iter().cloned().map(StringValue::from).collect();
        span.push(semconv::SIDETRACE_TLS_ALPN, Value::Array(Array::String(alpn)));
    }
    span
}

/// Writes the byte counts into the span however the copying ends.
struct Counted<'a> {
    sent: Count<'a>,
    received: Count<'a>,
    span: &'a ActiveSpan,
}

/// The bytes of one direction: of this connection, and of all.
struct Count<'a> {
    own: AtomicU64,
    all: &'a Sharded,
}

impl<'a> Count<'a> {
    fn new(all: &'a Sharded) -> Self {
        Self { own: AtomicU64::new(0), all }
    }

    fn add(&self, bytes: usize) {
        self.own.fetch_add(bytes as u64, Ordering::Relaxed);
        self.all.add(bytes as u64);
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let count = |count: &Count| i64::try_from(count.own.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
        let (sent, received) = (count(&self.sent), count(&self.received));
        self.span.update(|span| {
            span.push(semconv::SIDETRACE_BYTES_SENT, sent);
            span.push(semconv::SIDETRACE_BYTES_RECEIVED, received);
        });
    }
}

/// Runs both directions to their ends. If one side failed: which, and how.
async fn both(
    mut up: Pin<&mut impl Future<Output = Result<(), Failed>>>,
    mut down: Pin<&mut impl Future<Output = Result<(), Failed>>>,
) -> Option<(bool, io::Error)> {
    let (upwards, first) = tokio::select! {
        ended = &mut up => (true, ended),
        ended = &mut down => (false, ended),
    };
    let rest = async { if upwards { down.await } else { up.await } };
    match first {
        Ok(()) => rest.await.err().map(|failed| failed.seen_from(!upwards)),
        // Nothing more comes from that side, and nothing can be said to it.
        Err(failed) if failed.reading => Some(failed.seen_from(upwards)),
        // Nothing can be said to that side; what it said before it went is still there, and its end behind it.
        Err(failed) => {
            let _ = rest.await;
            Some(failed.seen_from(upwards))
        }
    }
}

struct Failed {
    reading: bool,
    error: io::Error,
}

impl Failed {
    fn reading(error: io::Error) -> Self {
        Self { reading: true, error }
    }

    fn writing(error: io::Error) -> Self {
        Self { reading: false, error }
    }

    /// Whether it was the client that failed, given which way the bytes went.
    fn seen_from(self, upwards: bool) -> (bool, io::Error) {
        (self.reading == upwards, self.error)
    }
}

/// One direction: `first`, then what comes, then the FIN.
async fn copy(
    from: &TcpStream,
    to: &TcpStream,
    first: Bytes,
    count: &Count<'_>,
    done: &AtomicBool,
) -> Result<(), Failed> {
    write(to, &first).await.map_err(Failed::writing)?;
    count.add(first.len());
    drop(first);
    loop {
        from.readable().await.map_err(Failed::reading)?;
        // A buffer is held only while there is something in it: an idle connection has none.
        let mut buffer = Buffer::take();
        match read(from, &mut buffer.0) {
            Ok(0) => break,
            Ok(length) => {
                write(to, buffer.0.get(..length).unwrap_or_default()).await.map_err(Failed::writing)?;
                count.add(length);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(Failed::reading(error)),
        }
    }
    done.store(true, Ordering::Relaxed);
    match SockRef::from(to).shutdown(Shutdown::Write) {
        Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(Failed::writing(error)),
        _ => Ok(()),
    }
}

/// Reads once. A short read has emptied the socket: saying so to tokio saves the read that would only find that out.
fn read(from: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut short = None;
    let outcome = from.try_io(Interest::READABLE, || {
        let length = (&*SockRef::from(from)).read(buffer)?;
        if length > 0 && length < buffer.len() {
            short = Some(length);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(length)
    });
    short.map_or(outcome, Ok)
}

async fn write(to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.try_write(bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A copy buffer of this thread.
struct Buffer(Vec<u8>);

thread_local!(static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) });

impl Buffer {
    fn take() -> Self {
        Self(SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; BUFFER]))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < MAX_SPARE {
                spare.push(std::mem::take(&mut self.0));
            }
        });
    }
}

const BUFFER: usize = 64 * 1024;
const MAX_SPARE: usize = 4;
