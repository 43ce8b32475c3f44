//! The two sockets of one proxied connection, each of which knows how the other one ended.
//!
//! An HTTP library sees one socket at a time: it closes where the other side was reset, and it takes a half-close for the
//! end of everything. Here each end is passed on in kind: a reset becomes a reset, and a client that has said all it had
//! to say (FIN after its request) is still answered, while upstream sees the same FIN.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Joins the two sides. The bytes that detection has read already are given back first.
pub fn join<C: Abort, U: Abort>(client: (C, Bytes), upstream: (U, Bytes)) -> (Linked<C>, Linked<U>, Link) {
    let link = Link(Arc::default());
    let side = |side| (link.clone(), side);
    let (client, upstream) = (Linked::new(client, side(Side::Client)), Linked::new(upstream, side(Side::Upstream)));
    (client, upstream, link)
}

/// A stream that can end with a reset instead of a close.
pub trait Abort {
    /// The close that follows will send RST.
    fn abort(&self);
}

impl Abort for TcpStream {
    fn abort(&self) {
        // Fails only on a socket that is gone already.
        let _ = self.set_zero_linger();
    }
}

/// One side of a proxied connection.
#[derive(Debug)]
pub struct Linked<S: Abort> {
    stream: S,
    given_back: Bytes,
    link: Link,
    side: Side,
    unflushed: bool,
    shut: bool,
}

/// What both sides and the exchanges between them know of each other.
#[derive(Clone, Debug)]
pub struct Link(Arc<AtomicU16>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Upstream,
}

impl Link {
    /// A request has come in.
    pub fn exchange_begins(&self) {
        self.clear(AWAITING_ANSWER | WRITTEN | BODY_WAITS);
        self.set(EXCHANGE);
    }

    /// Whether a request is being answered.
    pub fn in_exchange(&self) -> bool {
        self.has(EXCHANGE)
    }

    /// A request has been handed on whole and its answer is not there yet: from now on a FIN of the client is a half-close.
    pub fn request_complete(&self) {
        // An answer may be over before its request is.
        if self.in_exchange() {
            self.set(AWAITING_ANSWER);
        }
    }

    /// Upstream's side has asked for more of the request's body: is there nothing at the moment?
    pub fn body_waits(&self, waits: bool) {
        if waits { self.set(BODY_WAITS) } else { self.clear(BODY_WAITS) }
    }

    /// The client said FIN: it half-closed, or it has given up.
    pub fn client_finished(&self) -> bool {
        self.has(CLIENT_FIN)
    }

    /// The answer is complete, or the exchange was given up.
    pub fn exchange_over(&self) {
        self.clear(EXCHANGE | AWAITING_ANSWER | WRITTEN | BODY_WAITS);
    }

    /// Whether the HTTP library learns of the client's FIN, which it takes for the end of everything. In the middle of a
    /// body it must. Behind a whole request it must not, and whether the request is whole is known only when upstream's
    /// side has taken the last piece of it, which it does after the library has read it.
    fn tells_fin(&self) -> bool {
        let in_the_middle = !self.has(FIN_IS_NEW) && !self.has(AWAITING_ANSWER) && self.has(BODY_WAITS);
        !self.has(EXCHANGE) || in_the_middle
    }

    /// Upstream's side has had its turn. True if the library must now be told of a FIN that was kept from it: nothing else
    /// would make it read again.
    pub fn upstream_polled(&self) -> bool {
        self.clear(FIN_IS_NEW);
        let due = self.has(FIN_KEPT) && self.tells_fin();
        if due {
            self.clear(FIN_KEPT);
        }
        due
    }

    /// Another upstream connection takes the place of the first.
    pub fn upstream<S: Abort>(&self, stream: S) -> Linked<S> {
        self.clear(UPSTREAM_RESET);
        Linked::new((stream, Bytes::new()), (self.clone(), Side::Upstream))
    }

    // Both sides and the exchange are polled by one task in HTTP/1; elsewhere a late look only delays a close.
    fn set(&self, bits: u16) {
        self.0.fetch_or(bits, Ordering::AcqRel);
    }

    fn clear(&self, bits: u16) {
        self.0.fetch_and(!bits, Ordering::AcqRel);
    }

    fn has(&self, bits: u16) -> bool {
        self.0.load(Ordering::Acquire) & bits == bits
    }
}

impl<S: Abort> Linked<S> {
    fn new((stream, given_back): (S, Bytes), (link, side): (Link, Side)) -> Self {
        Self { stream, given_back, link, side, unflushed: false, shut: false }
    }

    fn note(&self, error: &io::Error) {
        let reset = matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::TimedOut);
        match self.side {
            Side::Client if reset => self.link.set(CLIENT_RESET),
            Side::Upstream if reset => self.link.set(UPSTREAM_RESET),
            _ => {}
        }
    }

    fn other_was_reset(&self) -> bool {
        self.link.has(match self.side {
            Side::Client => UPSTREAM_RESET,
            Side::Upstream => CLIENT_RESET,
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Abort + Unpin> Linked<S> {
    /// Passes the client's FIN on once the request before it is written out.
    fn poll_half_close(&mut self, cx: &mut Context<'_>) {
        let due = self.side == Side::Upstream
            && !self.shut
            && !self.unflushed
            && self.link.has(CLIENT_FIN | AWAITING_ANSWER | WRITTEN);
        if due {
            self.shut = Pin::new(&mut self.stream).poll_shutdown(cx).is_ready();
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Abort + Unpin> AsyncRead for Linked<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.given_back.is_empty() {
            let count = this.given_back.len().min(buf.remaining());
            buf.put_slice(&this.given_back.split_to(count));
            return Poll::Ready(Ok(()));
        }
        this.poll_half_close(cx);
        let before = buf.filled().len();
        match ready!(Pin::new(&mut this.stream).poll_read(cx, buf)) {
            Ok(()) if buf.filled().len() == before && buf.remaining() > 0 && this.side == Side::Client => {
                let first_seen = !this.link.client_finished();
                if first_seen {
                    this.link.set(CLIENT_FIN | FIN_IS_NEW);
                }
                // Bytes of the answer that the library still has to write would be lost with the rest.
                if !this.link.tells_fin() {
                    this.link.set(FIN_KEPT);
                } else if !this.unflushed {
                    return Poll::Ready(Ok(()));
                }
                // The library reads again whenever this task is polled, and is told as soon as it may be. Once more after
                // upstream's side was polled, which is done by the same task.
                if first_seen {
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
            Ok(()) => Poll::Ready(Ok(())),
            Err(error) => {
                this.note(&error);
                Poll::Ready(Err(error))
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Abort + Unpin> AsyncWrite for Linked<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.unflushed = true;
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf));
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.unflushed = true;
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs));
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.shut || self.other_was_reset() {
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        self.shut = true;
        Poll::Ready(Ok(()))
    }
}

impl<S: Abort> Linked<S> {
    fn wrote(&self, written: io::Result<usize>) -> Poll<io::Result<usize>> {
        match &written {
            Ok(_) if self.side == Side::Upstream => self.link.set(WRITTEN),
            Ok(_) => {}
            Err(error) => self.note(error),
        }
        Poll::Ready(written)
    }
}

impl<S: Abort> Drop for Linked<S> {
    fn drop(&mut self) {
        if self.other_was_reset() {
            self.stream.abort();
        }
    }
}

const CLIENT_FIN: u16 = 1;
const CLIENT_RESET: u16 = 2;
const UPSTREAM_RESET: u16 = 4;
const AWAITING_ANSWER: u16 = 8;
const WRITTEN: u16 = 16;
const EXCHANGE: u16 = 32;
const BODY_WAITS: u16 = 64;
const FIN_IS_NEW: u16 = 128;
const FIN_KEPT: u16 = 256;
