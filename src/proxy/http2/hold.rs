//! A request that waits for its body before its head goes upstream: what places the call stands at the body's end. Its pieces
//! are kept as they came, and their senders get the room back: no window is as large as a body may be.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::request::Parts;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::exchange::request_head;
use crate::budget::{Budget, Loan, Use};
use crate::genai::Inspection;
use crate::policy::Policy;
use crate::proxy::hold::{MAX_BODY, MAX_WAIT, PATIENCE, Released};
use crate::stack::{Call, Context};

/// A request that waits.
pub(super) struct Waiting<'a> {
    context: &'a Context,
    policy: &'a Policy,
    parts: &'a Parts,
    /// Gone with the waiting.
    inspection: Option<Box<Inspection>>,
    kept: Kept,
}

/// Pieces of a body that its sender has the room for back.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) pieces: VecDeque<Bytes>,
    /// Small pieces, which would pin the large buffers that they were read into.
    small: BytesMut,
    length: usize,
    /// The memory that it takes.
    size: usize,
    loan: Option<Loan>,
    /// Nothing but trailers follows, and whoever reads the body knows.
    pub(super) ended: bool,
}

impl Kept {
    /// False if the budget has no room. The piece is kept all the same: it is here.
    fn keep(&mut self, piece: Bytes, budget: &Arc<Budget>) -> bool {
        let before = self.size.max(FREE);
        self.length += piece.len();
        if piece.len() < SMALL {
            if self.small.len() + piece.len() > BLOCK {
                self.settle();
            }
            let capacity = self.small.capacity();
            self.small.extend_from_slice(&piece);
            self.size += self.small.capacity() - capacity;
        } else {
            self.settle();
            self.size += piece.len();
            self.pieces.push_back(piece);
        }
        match (self.size.saturating_sub(before), &mut self.loan) {
            (0, _) => true,
            (beyond, Some(loan)) => loan.grow(beyond),
            (beyond, none) => {
                *none = budget.lend(beyond, Use::Bodies);
                none.is_some()
            }
        }
    }

    /// The small pieces are one.
    fn settle(&mut self) {
        let small = std::mem::take(&mut self.small).freeze();
        self.pieces.extend((!small.is_empty()).then_some(small));
    }

    /// All of it in one piece.
    pub(super) fn whole(&self) -> Vec<u8> {
        self.pieces.iter().flat_map(|piece| piece.iter().copied()).collect()
    }
}

impl<'a> Waiting<'a> {
    pub(super) fn new(context: &'a Context, policy: &'a Policy, parts: &'a Parts, inspection: Box<Inspection>) -> Self {
        Self { context, policy, parts, inspection: Some(inspection), kept: Kept::default() }
    }

    /// Waits. `None`: the client or upstream has gone, and upstream has not heard of it.
    pub(super) async fn wait(
        mut self,
        body: &mut RecvStream,
        respond: &mut SendResponse<Bytes>,
        gone: &CancellationToken,
    ) -> Option<(Box<Inspection>, Kept)> {
        let began = Instant::now();
        let mut deadline = began + PATIENCE;
        let mut timer = pin!(sleep_until(deadline));
        let mut last_look = pin!(None);
        let mut gone = pin!(gone.cancelled());
        let why = poll_fn(|cx| {
            loop {
                if respond.poll_reset(cx).is_ready() {
                    return Poll::Ready(None);
                }
                if gone.as_mut().poll(cx).is_ready() {
                    // The client may send it again without a doubt (RFC 9113, section 8.7).
                    respond.send_reset(Reason::REFUSED_STREAM);
                    self.leave().iter_mut().for_each(|call| call.reset(Reason::REFUSED_STREAM));
                    return Poll::Ready(None);
                }
                match body.poll_data(cx) {
                    Poll::Ready(Some(Ok(piece))) => {
                        last_look.set(None);
                        deadline = (Instant::now() + PATIENCE).min(began + MAX_WAIT);
                        if let Some(why) = self.came(piece, body) {
                            return Poll::Ready(Some(why));
                        }
                    }
                    // Trailers follow.
                    Poll::Ready(None) => {
                        self.ended();
                        return Poll::Ready(Some(Released::Complete));
                    }
                    Poll::Ready(Some(Err(_))) => return Poll::Ready(None),
                    Poll::Pending => {
                        while timer.as_mut().poll(cx).is_ready() {
                            if timer.deadline() >= deadline {
                                // The task may not have run all the while, and the data be in the socket: the connection is
                                // driven before a yield is over.
                                if last_look.is_none() {
                                    last_look.set(Some(yield_now()));
                                }
                                ready!(last_look.as_mut().as_pin_mut().map_or(Poll::Ready(()), |look| look.poll(cx)));
                                return Poll::Ready(Some(Released::Stalled));
                            }
                            // Cheaper than to arm it anew with every piece.
                            timer.as_mut().reset(deadline);
                        }
                        return Poll::Pending;
                    }
                }
            }
        });
        let why = why.await?;
        why.count(&self.context.settings.metrics);
        let inspection = self.inspection.take()?;
        self.kept.settle();
        Some((inspection, std::mem::take(&mut self.kept)))
    }

    /// A piece has come. Why it no longer waits.
    fn came(&mut self, piece: Bytes, body: &mut RecvStream) -> Option<Released> {
        if let Some(inspection) = &mut self.inspection {
            inspection.request(&piece);
        }
        // Fails where the client has gone, which is seen next.
        let _ = body.flow_control().release_capacity(piece.len());
        let lent = self.kept.keep(piece, &self.context.settings.budget);
        if body.is_end_stream() {
            self.ended();
            return Some(Released::Complete);
        }
        if !lent {
            return Some(Released::Budget);
        }
        if !self.inspection.as_ref().is_some_and(|inspection| inspection.reads_request()) {
            return Some(Released::Unread);
        }
        (self.kept.length > MAX_BODY).then_some(Released::Size)
    }

    /// Upstream has not heard of it, but it was a call.
    fn leave(&mut self) -> Option<Call> {
        let inspection = self.inspection.take()?;
        Released::Ended.count(&self.context.settings.metrics);
        self.context.begin(self.policy, &request_head(self.context, self.parts), Some(inspection)).1
    }

    fn ended(&mut self) {
        self.kept.ended = true;
        if let Some(inspection) = &mut self.inspection {
            inspection.request_ended();
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // The client has gone: cancelled.
        drop(self.leave());
    }
}

/// What may be kept without asking.
const FREE: usize = 16 * 1024;
/// A piece that is smaller is copied.
const SMALL: usize = 4096;
/// How much of them is one.
const BLOCK: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_pin_no_buffers_and_all_memory_is_lent() {
        let (budget, mut kept, mut sent) = (Budget::unlimited(), Kept::default(), Vec::new());
        for index in 0..5000_usize {
            let length = if index % 100 == 99 { SMALL } else { index % 50 };
            // One of 16 KiB, of which this is a part.
            let piece = Bytes::from(vec![index as u8; 16 * 1024]).slice(..length);
            sent.extend_from_slice(&piece);
            assert!(kept.keep(piece, &budget));
            let lent = kept.loan.as_ref().map_or(0, |loan| loan.bytes() as usize);
            assert!(
                kept.size <= FREE + lent && kept.size < 2 * sent.len() + 1024,
                "{index}: {} {}",
                kept.size,
                sent.len()
            );
        }
        kept.settle();
        assert!(kept.whole() == sent && kept.length == sent.len());
    }
}
