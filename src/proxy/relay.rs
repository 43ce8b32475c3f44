//! Moves bytes between the two sockets of a connection, each end passed on in kind: FIN as half-close, RST as RST, a side
//! that does not read holds up the other. What the bytes mean is the business of a [`Watch`].
//!
//! Nothing is held for a connection on which nothing happens: the buffers belong to the thread.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::net::Abort;
use crate::telemetry::Metrics;

/// Sees the bytes of a connection go by.
pub(super) trait Watch {
    /// The client's bytes: what is to go on is put into `out`.
    fn up(&mut self, bytes: &[u8], out: &mut Gather) -> Verdict;

    /// Upstream's bytes: what is to go on is put into `out`. How many of them belong to this conversation.
    fn down(&mut self, bytes: &[u8], out: &mut Gather) -> (usize, Verdict);

    /// Whether the client is to be read.
    fn wants_client(&self) -> bool {
        true
    }

    /// Whether bytes that were kept back can go on now.
    fn is_due(&self) -> bool {
        false
    }

    /// When bytes that were kept back go on even if nothing comes. It moves forward only.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// That time has passed.
    fn expired(&mut self) {}

    /// The drain has begun.
    fn draining(&mut self) {}

    /// The client's bytes that were kept back until upstream had said something.
    fn resume(&mut self, _: &mut Gather) -> Verdict {
        Verdict::Go
    }

    /// The client has said FIN: what was kept back goes before it.
    fn client_finished(&mut self, _: &mut Gather) {}

    /// Upstream has said FIN: what was kept back goes before it. Who leaves keeps it from the client.
    fn upstream_finished(&mut self, _: &mut Gather) -> Verdict {
        Verdict::Go
    }

    /// Upstream has said RST: what was kept back of what it said before goes before it. Who leaves keeps it from the client.
    fn upstream_broke(&mut self, _: &mut Gather) -> Verdict {
        Verdict::Go
    }

    /// Whether the connection may be closed without breaking anything off.
    fn is_idle(&self) -> bool {
        false
    }
}

/// Whether the relay goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It does.
    Go,
    /// Nothing more may pass: both sides are reset.
    Refuse,
    /// What has passed goes on; what follows is another conversation.
    Leave,
}

/// How a relay ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// Both sides have said FIN.
    Complete,
    /// The client's side failed.
    Client,
    /// Upstream's side failed.
    Upstream(io::Error),
    /// The watch refused it.
    Refused,
    /// The watch left; bytes that belong to what follows, and that it has not seen.
    Left { from_client: Bytes, from_upstream: Bytes },
    /// It was idle while we drain.
    Drained,
}

/// Relays until the end. A side that failed has been reset on the other one.
pub(super) async fn relay<C, U, W>(
    client: (&mut C, Bytes),
    upstream: (&mut U, Bytes),
    watch: &mut W,
    metrics: &Metrics,
    drain: &CancellationToken,
) -> Ended
where
    C: AsyncRead + AsyncWrite + Abort + Unpin,
    U: AsyncRead + AsyncWrite + Abort + Unpin,
    W: Watch,
{
    let mut relay = Relay {
        up: Way::new(client.1),
        down: Way::new(upstream.1),
        client: client.0,
        upstream: upstream.0,
        metrics,
        turn: 0,
        left: None,
        writing_failed: None,
    };
    let mut drained = std::pin::pin!(drain.cancelled());
    let (mut draining, mut timer) = (false, Timer::default());
    let ended = poll_fn(|cx| {
        loop {
            let ended = SCRATCH.with_borrow_mut(|scratch| relay.poll(cx, scratch, watch));
            if ended.is_ready() {
                return ended;
            }
            // Behind the reading: what came while nobody looked is progress.
            let mut again = timer.poll(cx, watch);
            if !draining && drained.as_mut().poll(cx).is_ready() {
                draining = true;
                watch.draining();
                again |= watch.is_due();
            }
            if draining && watch.is_idle() && relay.is_empty() {
                return Poll::Ready(Ended::Drained);
            }
            if !again {
                return Poll::Pending;
            }
        }
    })
    .await;
    match &ended {
        Ended::Client => relay.upstream.abort(),
        Ended::Upstream(_) => relay.client.abort(),
        Ended::Refused => {
            relay.client.abort();
            relay.upstream.abort();
        }
        Ended::Drained => {
            // An announced end, where the protocol has one. What does not leave at once is not waited for.
            poll_fn(|cx| {
                let _ = Pin::new(&mut *relay.client).poll_shutdown(cx);
                let _ = Pin::new(&mut *relay.upstream).poll_shutdown(cx);
                Poll::Ready(())
            })
            .await;
        }
        Ended::Complete | Ended::Left { .. } => {}
    }
    ended
}

/// What goes on of one piece that was read: pieces that were written anew, and the rest as it came.
#[derive(Debug, Default)]
pub(super) struct Gather {
    written: Vec<u8>,
    rest: Range<usize>,
}

impl Gather {
    /// Adds bytes that are not among those that were read.
    pub(super) fn write(&mut self, read: &[u8], bytes: &[u8]) {
        self.settle(read);
        self.written.extend_from_slice(bytes);
    }

    /// Adds a part of what was read.
    pub(super) fn pass(&mut self, read: &[u8], range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        if self.rest.end == range.start && !self.rest.is_empty() {
            self.rest.end = range.end;
            return;
        }
        self.settle(read);
        self.rest = range;
    }

    /// Adds bytes that are not among those that were read, with the memory they are in.
    pub(super) fn give(&mut self, read: &[u8], bytes: Vec<u8>) {
        self.settle(read);
        if self.written.is_empty() {
            self.written = bytes;
        } else {
            self.written.extend_from_slice(&bytes);
        }
    }

    /// All that goes on, of the piece that was read.
    pub(super) fn into_bytes(mut self, read: &[u8]) -> Vec<u8> {
        self.settle(read);
        self.written
    }

    /// Copies the part that would no longer be the last.
    fn settle(&mut self, read: &[u8]) {
        let rest = std::mem::take(&mut self.rest);
        self.written.extend_from_slice(read.get(rest).unwrap_or_default());
    }

    /// Copies what is left: for bytes that do not outlive the call, and for parts so small that one write is cheaper.
    fn settle_all_but(&mut self, read: &[u8], large: usize) {
        if self.rest.len() < large && !(self.written.is_empty()) {
            self.settle(read);
        }
    }

    fn clear(&mut self) {
        if self.written.capacity() > 2 * BUFFER {
            // One large head is no reason for a thread to keep its memory.
            self.written = Vec::new();
        }
        self.written.clear();
        self.rest = 0..0;
    }
}

/// Wakes a connection that keeps bytes back. One that never does has none.
#[derive(Default)]
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Whether the watch has been told that its time is over.
    fn poll(&mut self, cx: &mut Context<'_>, watch: &mut impl Watch) -> bool {
        let Some(deadline) = watch.deadline() else { return false };
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        // One that is armed already may fire early: that is cheaper than to arm it anew with every piece.
        while sleep.as_mut().poll(cx).is_ready() {
            if sleep.deadline() >= deadline {
                watch.expired();
                return true;
            }
            sleep.as_mut().reset(deadline);
        }
        false
    }
}

/// The buffers of a thread.
#[derive(Default)]
struct Scratch {
    read: Vec<u8>,
    gather: Gather,
}

thread_local!(static SCRATCH: RefCell<Scratch> = RefCell::default());

struct Relay<'a, C, U> {
    client: &'a mut C,
    upstream: &'a mut U,
    up: Way,
    down: Way,
    metrics: &'a Metrics,
    /// Reads that are left to a direction before it is the other one's turn.
    turn: u32,
    /// The watch has left; what of upstream's bytes belongs to what follows.
    left: Option<Bytes>,
    /// Upstream takes nothing more; what it said before may still be there.
    writing_failed: Option<io::Error>,
}

/// One direction.
#[derive(Debug)]
struct Way {
    /// What detection has read.
    first: Bytes,
    /// What the receiver has not taken yet.
    waiting: Bytes,
    unflushed: bool,
    /// The sender has said FIN.
    finished: bool,
    /// So have we.
    shut: bool,
}

impl Way {
    fn new(first: Bytes) -> Self {
        Self { first, waiting: Bytes::new(), unflushed: false, finished: false, shut: false }
    }

    fn is_flushed(&self) -> bool {
        self.waiting.is_empty() && !self.unflushed
    }

    /// Writes what waits. Ready when nothing does.
    fn poll_flush<S: AsyncWrite + Unpin>(&mut self, to: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.waiting))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.waiting.advance(written);
        }
        if self.unflushed {
            ready!(Pin::new(&mut *to).poll_flush(cx))?;
            self.unflushed = false;
        }
        if self.finished && !self.shut {
            match ready!(Pin::new(&mut *to).poll_shutdown(cx)) {
                Err(error) if error.kind() != io::ErrorKind::NotConnected => return Poll::Ready(Err(error)),
                _ => self.shut = true,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes two pieces, one behind the other; what is not taken waits.
    fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        to: &mut S,
        cx: &mut Context<'_>,
        pieces: [&[u8]; 2],
    ) -> io::Result<()> {
        let [mut first, mut second] = pieces;
        while !(first.is_empty() && second.is_empty()) {
            self.unflushed = true;
            let polled = if first.is_empty() || second.is_empty() {
                let one = if first.is_empty() { second } else { first };
                Pin::new(&mut *to).poll_write(cx, one)
            } else {
                Pin::new(&mut *to).poll_write_vectored(cx, &[IoSlice::new(first), IoSlice::new(second)])
            };
            match polled {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => {
                    let of_first = written.min(first.len());
                    first = first.get(of_first..).unwrap_or_default();
                    second = second.get(written - of_first..).unwrap_or_default();
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {
                    self.waiting = [first, second].concat().into();
                    break;
                }
            }
        }
        Ok(())
    }
}

impl<C, U> Relay<'_, C, U>
where
    C: AsyncRead + AsyncWrite + Abort + Unpin,
    U: AsyncRead + AsyncWrite + Abort + Unpin,
{
    fn poll(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch, watch: &mut impl Watch) -> Poll<Ended> {
        if scratch.read.is_empty() {
            scratch.read.resize(BUFFER, 0);
        }
        loop {
            self.turn = READS;
            if let Poll::Ready(Some(ended)) = self.poll_up(cx, scratch, watch) {
                return Poll::Ready(ended);
            }
            // As it was when the client was left: from here on only upstream can set it free.
            let wanted_client = watch.wants_client();
            let more_up = self.turn == 0;
            self.turn = READS;
            if let Poll::Ready(Some(ended)) = self.poll_down(cx, scratch, watch) {
                return Poll::Ready(ended);
            }
            if self.down.shut && (self.up.shut || self.writing_failed.is_some()) {
                return Poll::Ready(match self.writing_failed.take() {
                    Some(error) => Ended::Upstream(error),
                    None => Ended::Complete,
                });
            }
            // A direction that was not at its end, only at the end of its turn, has nobody else to wake it.
            let turn_over = more_up || self.turn == 0;
            // What upstream has said may have set the client free. Where upstream takes nothing, its waker is what counts.
            let takes_more =
                self.left.is_none() && self.writing_failed.is_none() && self.up.is_flushed() && !self.up.shut;
            let set_free = takes_more && (watch.is_due() || (!wanted_client && watch.wants_client()));
            if !turn_over && !set_free {
                return Poll::Pending;
            }
        }
    }

    /// `Ready(None)`: this direction is at its end.
    fn poll_up(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch, watch: &mut impl Watch) -> Poll<Option<Ended>> {
        if self.writing_failed.is_some() {
            return Poll::Ready(None);
        }
        if self.left.is_some() {
            return Poll::Pending;
        }
        loop {
            match self.up.poll_flush(self.upstream, cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return self.upstream_takes_no_more(error),
                Poll::Pending => return Poll::Pending,
            }
            if self.up.shut {
                return Poll::Ready(None);
            }
            if self.turn == 0 {
                return Poll::Pending;
            }
            self.turn -= 1;
            if !watch.wants_client() {
                return Poll::Pending;
            }
            let Scratch { read, gather } = scratch;
            gather.clear();
            let mut verdict = watch.resume(gather);
            let length = if verdict != Verdict::Go || !gather.written.is_empty() {
                0
            } else {
                match ready!(fill(&mut self.up.first, self.client, cx, read)) {
                    Ok(0) => {
                        self.up.finished = true;
                        if self.client.was_cut() {
                            self.upstream.cut();
                        }
                        watch.client_finished(gather);
                        0
                    }
                    Ok(length) => {
                        self.metrics.bytes_sent.add(length as u64);
                        length
                    }
                    Err(error) => return client_failed(&error),
                }
            };
            let bytes = read.get(..length).unwrap_or_default();
            if length > 0 {
                verdict = watch.up(bytes, gather);
            }
            if verdict == Verdict::Refuse {
                return Poll::Ready(Some(Ended::Refused));
            }
            if gather.written.len() > 2 * BUFFER {
                // What was held: as it is, not copied once more if upstream does not take it at once.
                gather.settle(bytes);
                self.up.waiting = std::mem::take(&mut gather.written).into();
                self.up.unflushed = true;
                continue;
            }
            gather.settle_all_but(bytes, LARGE);
            let rest = bytes.get(gather.rest.clone()).unwrap_or_default();
            if let Err(error) = self.up.poll_write(self.upstream, cx, [&gather.written, rest]) {
                return self.upstream_takes_no_more(error);
            }
            if verdict == Verdict::Leave {
                // Once the client has all that was said to it.
                self.left = Some(Bytes::new());
                return Poll::Pending;
            }
        }
    }

    /// Nothing can be said to upstream; what it said before it went is still there, and its end behind it.
    fn upstream_takes_no_more(&mut self, error: io::Error) -> Poll<Option<Ended>> {
        self.writing_failed = Some(error);
        Poll::Ready(None)
    }

    /// `Ready(None)`: this direction is at its end.
    fn poll_down(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        watch: &mut impl Watch,
    ) -> Poll<Option<Ended>> {
        loop {
            match ready!(self.down.poll_flush(self.client, cx)) {
                Ok(()) => {}
                Err(error) => return client_failed(&error),
            }
            if let Some(left) = self.left.take() {
                let from_client = std::mem::take(&mut self.up.first);
                return Poll::Ready(Some(Ended::Left { from_client, from_upstream: left }));
            }
            if self.down.shut {
                return Poll::Ready(None);
            }
            if self.turn == 0 {
                return Poll::Pending;
            }
            self.turn -= 1;
            let Scratch { read, gather } = scratch;
            let length = match ready!(fill(&mut self.down.first, self.upstream, cx, read)) {
                Ok(0) => {
                    gather.clear();
                    match watch.upstream_finished(gather) {
                        Verdict::Leave => self.left = Some(Bytes::new()),
                        Verdict::Go | Verdict::Refuse => {
                            self.down.finished = true;
                            if self.upstream.was_cut() {
                                self.client.cut();
                            }
                        }
                    }
                    if let Err(error) = self.down.poll_write(self.client, cx, [&gather.written, &[]]) {
                        return client_failed(&error);
                    }
                    continue;
                }
                Ok(length) => length,
                Err(error) => {
                    gather.clear();
                    if watch.upstream_broke(gather) == Verdict::Leave {
                        self.left = Some(Bytes::new());
                        continue;
                    }
                    // As far as the client takes it at once: a reset waits for nobody.
                    if self.down.poll_write(self.client, cx, [&gather.written, &[]]).is_ok() {
                        let _ = self.down.poll_flush(self.client, cx);
                    }
                    return Poll::Ready(Some(Ended::Upstream(error)));
                }
            };
            self.metrics.bytes_received.add(length as u64);
            let bytes = read.get(..length).unwrap_or_default();
            gather.clear();
            let (taken, verdict) = watch.down(bytes, gather);
            gather.settle_all_but(bytes, LARGE);
            let left = bytes.get(taken..).unwrap_or_default();
            let rest = bytes.get(gather.rest.clone()).unwrap_or_default();
            if let Err(error) = self.down.poll_write(self.client, cx, [&gather.written, rest]) {
                return client_failed(&error);
            }
            match verdict {
                Verdict::Go => {}
                Verdict::Refuse => return Poll::Ready(Some(Ended::Refused)),
                Verdict::Leave => self.left = Some(Bytes::copy_from_slice(left)),
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.up.waiting.is_empty() && self.down.waiting.is_empty() && self.up.first.is_empty()
    }
}

fn client_failed(error: &io::Error) -> Poll<Option<Ended>> {
    debug!(%error, "client");
    Poll::Ready(Some(Ended::Client))
}

/// Reads what is there: first what detection has read.
fn fill<S: AsyncRead + Unpin>(
    first: &mut Bytes,
    from: &mut S,
    cx: &mut Context<'_>,
    into: &mut [u8],
) -> Poll<io::Result<usize>> {
    if !first.is_empty() {
        let length = first.len().min(into.len());
        first.copy_to_slice(into.get_mut(..length).unwrap_or_default());
        if first.is_empty() {
            // And with it what it was in.
            *first = Bytes::new();
        }
        return Poll::Ready(Ok(length));
    }
    let mut buffer = ReadBuf::new(into);
    ready!(Pin::new(from).poll_read(cx, &mut buffer))?;
    Poll::Ready(Ok(buffer.filled().len()))
}

const BUFFER: usize = 64 * 1024;
/// Reads of one direction before the other one has its turn: an answer must not wait for the end of an upload.
const READS: u32 = 16;
/// A part that is smaller than this is copied behind what was written anew: one write is cheaper than a vector.
const LARGE: usize = 4096;
