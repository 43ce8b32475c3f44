//! The two sockets of one proxied HTTP/2 connection, each of which knows whether the other one was reset.
//!
//! An HTTP library sees one socket at a time, and closes where the other side was reset. Here a reset becomes a reset.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Abort;

/// Joins the two sides. The bytes that detection has read already are given back first.
pub fn join<C: Abort, U: Abort>(client: (C, Bytes), upstream: (U, Bytes)) -> (Linked<C>, Linked<U>) {
    let resets = Arc::default();
    (Linked::new(client, &resets, CLIENT), Linked::new(upstream, &resets, UPSTREAM))
}

/// One side of a proxied connection.
#[derive(Debug)]
pub struct Linked<S: Abort> {
    stream: S,
    given_back: Bytes,
    /// Which sides were reset.
    resets: Arc<AtomicU8>,
    side: u8,
}

impl<S: Abort> Linked<S> {
    fn new((stream, given_back): (S, Bytes), resets: &Arc<AtomicU8>, side: u8) -> Self {
        Self { stream, given_back, resets: resets.clone(), side }
    }

    /// These bytes are read before all others.
    pub fn give_back(&mut self, bytes: Bytes) {
        self.given_back = bytes;
    }

    fn note<T>(&self, outcome: io::Result<T>) -> io::Result<T> {
        outcome.inspect_err(|error| {
            if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::TimedOut) {
                self.resets.fetch_or(self.side, Ordering::AcqRel);
            }
        })
    }

    fn other_was_reset(&self) -> bool {
        self.resets.load(Ordering::Acquire) & !self.side != 0
    }
}

impl<S: AsyncRead + Abort + Unpin> AsyncRead for Linked<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.given_back.is_empty() {
            let count = self.given_back.len().min(buf.remaining());
            buf.put_slice(&self.given_back.split_to(count));
            return Poll::Ready(Ok(()));
        }
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        Poll::Ready(self.note(read))
    }
}

impl<S: AsyncWrite + Abort + Unpin> AsyncWrite for Linked<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf));
        Poll::Ready(self.note(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs));
        Poll::Ready(self.note(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.other_was_reset() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: Abort> Drop for Linked<S> {
    fn drop(&mut self) {
        if self.other_was_reset() {
            self.stream.abort();
        }
    }
}

const CLIENT: u8 = 1;
const UPSTREAM: u8 = 2;
