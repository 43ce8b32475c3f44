//! Notices upstream's SETTINGS and GOAWAY as they pass. h2 keeps a GOAWAY to itself until the last stream has ended, and a
//! client that is not told goes on opening streams that nobody will answer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// A stream of HTTP/2 frames from upstream, unchanged.
#[derive(Debug)]
pub(super) struct FrameWatch<S> {
    inner: S,
    frames: Frames,
    seen: Arc<Seen>,
}

/// What has been noticed.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Told of every GOAWAY.
    pub(super) goaway: Notify,
    settings: AtomicBool,
}

impl Seen {
    /// Whether upstream has sent its settings.
    pub(super) fn settings(&self) -> bool {
        self.settings.load(Ordering::Acquire)
    }
}

impl<S> FrameWatch<S> {
    pub(super) fn new(inner: S, seen: Arc<Seen>) -> Self {
        Self { inner, frames: Frames::default(), seen }
    }
}

/// What a client says, its preface first, as far as it was looked at.
#[derive(Debug, Default)]
pub(super) struct Client {
    frames: Frames,
    looked: usize,
}

impl Client {
    /// Whether it has begun a request. `said` is everything so far.
    pub(super) fn has_headers(&mut self, said: &[u8]) -> bool {
        let from = self.looked.max(PREFACE);
        self.looked = said.len();
        self.frames.feed(said.get(from..).unwrap_or_default()).begun & bit(HEADERS) != 0
    }
}

/// Types of frames, a bit each.
#[derive(Clone, Copy, Debug, Default)]
struct Kinds {
    /// Whose length and type have been read.
    begun: u16,
    /// Whose last byte has been read.
    whole: u16,
}

/// Where in the sequence of frames the stream is (RFC 9113, section 4.1).
#[derive(Debug, Default)]
struct Frames {
    header: [u8; 4],
    have: usize,
    skip: usize,
    kind: u8,
}

impl Frames {
    /// The frames that begin or end in these bytes.
    fn feed(&mut self, mut bytes: &[u8]) -> Kinds {
        let mut seen = Kinds::default();
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                bytes = bytes.get(skipped..).unwrap_or_default();
                self.skip -= skipped;
                if self.skip == 0 {
                    seen.whole |= bit(self.kind);
                }
                continue;
            }
            let missing = self.header.iter_mut().skip(self.have);
            let taken = missing.zip(bytes).map(|(to, from)| *to = *from).count();
            bytes = bytes.get(taken..).unwrap_or_default();
            self.have += taken;
            if self.have == self.header.len() {
                let [high, mid, low, kind] = self.header;
                let length = usize::from(high) << 16 | usize::from(mid) << 8 | usize::from(low);
                seen.begun |= bit(kind);
                self.kind = kind;
                (self.have, self.skip) = (0, REST_OF_HEADER + length);
            }
        }
        seen
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FrameWatch<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        let seen = this.frames.feed(buf.filled().get(before..).unwrap_or_default());
        if seen.begun & bit(GOAWAY) != 0 {
            this.seen.goaway.notify_one();
        }
        if seen.whole & bit(SETTINGS) != 0 {
            this.seen.settings.store(true, Ordering::Release);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FrameWatch<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

fn bit(kind: u8) -> u16 {
    if kind < 16 { 1 << kind } else { 0 }
}

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
/// The length of a client's preface (RFC 9113, section 3.4).
const PREFACE: usize = 24;
/// Flags and stream identifier, behind length and type.
const REST_OF_HEADER: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, 0, 0, 0, 0, 0], payload].concat()
    }

    #[test]
    fn a_goaway_is_noticed_wherever_the_bytes_are_cut_and_nothing_else_is() {
        let others = [frame(4, &[]), frame(0, &[7; 300]), frame(1, &frame(7, &[0; 8]))].concat();
        let all = [others.clone(), frame(7, &[0; 8]), frame(0, &[1; 9])].concat();
        for cut in 0..=all.len() {
            let mut frames = Frames::default();
            let first = frames.feed(&all[..cut]).begun & bit(GOAWAY) != 0;
            assert_eq!(first, cut >= others.len() + 4, "{cut}");
            assert_eq!(frames.feed(&all[cut..]).begun & bit(GOAWAY) != 0, !first, "{cut}");
        }
        let mut frames = Frames::default();
        assert!(!others.iter().any(|byte| frames.feed(&[*byte]).begun & bit(GOAWAY) != 0));
        let preface = [vec![b'P'; PREFACE], frame(SETTINGS, &[1; 6])].concat();
        let mut client = Client::default();
        assert!(!client.has_headers(&preface) && client.has_headers(&[preface, frame(HEADERS, &[])].concat()));
        let settings = frame(SETTINGS, &[1; 6]);
        let mut frames = Frames::default();
        assert_eq!(frames.feed(&settings[..14]).whole, 0);
        assert_eq!(frames.feed(&settings[14..]).whole, bit(SETTINGS));
    }
}
