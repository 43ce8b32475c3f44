//! A request's head that waits for its body: what places the call stands at the body's end. It waits until the body is whole,
//! until it is too long, until nothing has come for a while or it has taken too long, until there is no memory for it, or until somebody leaves or
//! answers. Then everything goes on as it came, behind the placed head.

use tokio::time::Instant;

use super::{Http1, Read, UpState, filter, pass, request_head};
use crate::budget::Use;
use crate::genai::Inspection;
use crate::http1::{Body, Fault, Head, RequestLine, head};
use crate::proxy::hold::{MAX_BODY, MAX_WAIT, PATIENCE, Released};
use crate::proxy::relay::{Gather, Verdict};
use crate::stack::RequestHead;

/// A head that waits. Its bytes, and those of its body that have come, are held.
#[derive(Debug)]
pub(super) struct Holding {
    inspection: Box<Inspection>,
    /// What is still to come.
    body: Body,
    /// The head's length.
    head: usize,
    began: Instant,
    /// When something has come last.
    progress: Instant,
}

impl Holding {
    /// When it no longer waits if nothing comes.
    pub(super) fn deadline(&self) -> Instant {
        (self.progress + PATIENCE).min(self.began + MAX_WAIT)
    }
}

impl Http1<'_> {
    /// Whether a head waits.
    pub(super) fn holds(&self) -> bool {
        matches!(self.up.state, UpState::Holding(_))
    }

    /// A head that is to wait for its body. What came whole in one piece is placed at once. How many bytes it took.
    pub(super) fn hold(
        &mut self,
        read: Read<'_>,
        line: &RequestLine<'_>,
        request: &RequestHead<'_, Head<'_>>,
        mut inspection: Box<Inspection>,
        out: &mut Gather,
    ) -> Result<usize, Fault> {
        let (head, mut body) = (request.headers.bytes().len(), request.headers.request_body());
        let came = read.bytes.get(read.at + head..).unwrap_or_default();
        let fed = body.feed(came, |data| inspection.request(data));
        let (taken, why) = match &fed {
            Err(_) => (0, Released::Ended),
            Ok(fed) if fed.done => (fed.consumed, Released::Complete),
            Ok(fed) if fed.consumed > MAX_BODY => (fed.consumed, Released::Size),
            Ok(fed) if !inspection.reads_request() => (fed.consumed, Released::Unread),
            Ok(fed) => {
                // Of bytes that were held before, and are held anew.
                self.up.held.written();
                let all = read.bytes.get(read.at..).unwrap_or_default();
                if self.up.held.keep(all, &self.context.settings.budget, Use::Bodies) {
                    let began = Instant::now();
                    let holding = Holding { inspection, body, head, began, progress: began };
                    self.up.state = UpState::Holding(Box::new(holding));
                    return Ok(all.len());
                }
                (fed.consumed, Released::Budget)
            }
        };
        if body.is_done() {
            inspection.request_ended();
        }
        why.count(&self.context.settings.metrics);
        let whole = came.get(..taken).filter(|_| why == Released::Complete);
        let rewritten = self.begin(read, line, request, Some(inspection), whole, out);
        fed.map_err(|(fault, _)| fault)?;
        if !rewritten {
            let body_at = read.at + head;
            pass(out, read.bytes, body_at..body_at + taken, read.owned);
        }
        self.rest_follows(body);
        Ok(head + taken)
    }

    /// More of a body that is waited for.
    pub(super) fn hold_more(&mut self, bytes: &[u8], out: &mut Gather) -> Verdict {
        let UpState::Holding(holding) = &mut self.up.state else { return Verdict::Go };
        let Holding { inspection, body, head, progress, .. } = &mut **holding;
        let (taken, why) = match body.feed(bytes, |data| inspection.request(data)) {
            Err((fault, _)) => {
                self.release(Released::Ended, out);
                return self.refuse(fault);
            }
            Ok(fed) if fed.done => {
                inspection.request_ended();
                (fed.consumed, Released::Complete)
            }
            Ok(fed) if self.up.held.bytes().len() - *head + fed.consumed > MAX_BODY => (fed.consumed, Released::Size),
            Ok(fed) if !inspection.reads_request() => (fed.consumed, Released::Unread),
            Ok(_) if self.up.held.keep(bytes, &self.context.settings.budget, Use::Bodies) => {
                *progress = Instant::now();
                return Verdict::Go;
            }
            Ok(fed) => (fed.consumed, Released::Budget),
        };
        let last = bytes.get(..taken).unwrap_or_default();
        let kept = self.up.held.keep(last, &self.context.settings.budget, Use::Bodies);
        // What is not whole here has no other body in its place.
        self.release(if kept || why != Released::Complete { why } else { Released::Budget }, out);
        if !kept {
            out.pass(bytes, 0..taken);
        }
        self.requests(bytes, taken, false, out)
    }

    /// What is held goes on behind its placed head, if a head waits: in the memory that it is in.
    pub(super) fn release(&mut self, why: Released, out: &mut Gather) {
        if !self.holds() {
            return;
        }
        let UpState::Holding(holding) = std::mem::replace(&mut self.up.state, UpState::Head) else { return };
        let Holding { inspection, body, head: length, .. } = *holding;
        why.count(&self.context.settings.metrics);
        let mut held = self.up.held.take();
        let read = Read { bytes: &held, at: 0, owned: true };
        let whole = held.get(length..).filter(|_| why == Released::Complete);
        let (mut fields, mut placed, mut rewritten) = (std::mem::take(&mut self.fields), Gather::default(), false);
        // It was read once.
        if let Ok((line, head)) = head::request(read.next(length), &mut fields) {
            let target = String::from_utf8_lossy(line.target);
            let request = request_head(&line, &head, &target, self.context.target.scheme());
            rewritten = self.begin(read, &line, &request, Some(inspection), whole, &mut placed);
        }
        self.fields = fields;
        let placed = placed.into_bytes(&[]);
        if rewritten {
            out.give(&[], placed);
        } else {
            held.reserve_exact(placed.len().saturating_sub(length));
            held.splice(..length, placed);
            out.give(&[], held);
        }
        self.rest_follows(body);
    }

    /// The same where nothing can be written now: upstream, the client or the drain does not let it wait.
    pub(super) fn release_later(&mut self) {
        self.release_with_next(Released::Ended);
    }

    /// Nothing has come for a while.
    pub(super) fn stalled(&mut self) {
        self.release_with_next(Released::Stalled);
    }

    fn release_with_next(&mut self, why: Released) {
        if self.holds() {
            let mut out = Gather::default();
            self.release(why, &mut out);
            self.up.ready = out.into_bytes(&[]);
            self.up.resume = true;
        }
    }

    /// What is left of a body whose end, if it has come, the inspection knows.
    fn rest_follows(&mut self, body: Body) {
        let done = body.is_done();
        self.up.state = UpState::Body(body);
        if done {
            self.request_ended();
        }
    }
}

/// What a body is made of, without the framing of the transfer.
pub(super) fn decoded(raw: &[u8], mut body: Body) -> Vec<u8> {
    let mut data = Vec::with_capacity(raw.len());
    // It was read once.
    let _ = body.feed(raw, |piece| data.extend_from_slice(piece));
    data
}

/// A body in the place of this whole one: framed as that was, with its trailers.
pub(super) fn framed(new: &[u8], raw: &[u8], mut body: Body) -> Vec<u8> {
    if !body.is_chunked() {
        return new.to_vec();
    }
    let mut framed = Vec::with_capacity(new.len() + 64);
    filter::chunk(new, &mut framed);
    framed.extend_from_slice(filter::LAST_CHUNK);
    for line in raw.split_inclusive(|byte| *byte == b'\n') {
        if body.is_in_trailers() {
            framed.extend_from_slice(line);
        }
        let _ = body.feed(line, |_| {});
    }
    framed
}
