//! One direction of a stream: pieces as they come, no more than the other side has room for, then trailers or the end.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::HeaderMap;

use super::hold::Kept;
use crate::telemetry::Sharded;

/// Moves a body.
#[derive(Debug)]
pub(super) struct Pump {
    from: RecvStream,
    to: SendStream<Bytes>,
    waiting: Bytes,
    /// What waits is the last piece.
    last: bool,
    /// What was kept before, and was seen then.
    kept: Option<Kept>,
    /// The end was seen.
    ended: bool,
    done: bool,
}

/// What goes by, before it goes on.
pub(super) enum Seen<'a> {
    Data(&'a [u8]),
    /// No more data.
    End,
    /// Behind the end.
    Trailers(&'a HeaderMap),
}

/// Which side has failed.
#[derive(Debug)]
pub(super) enum Failed {
    From(h2::Error),
    To(h2::Error),
}

impl Pump {
    /// `done`: the end has been said with the head. `kept` goes before what still comes.
    pub(super) fn new(from: RecvStream, to: SendStream<Bytes>, done: bool, kept: Option<Kept>) -> Self {
        let ended = kept.as_ref().is_some_and(|kept| kept.ended);
        Self { from, to, waiting: Bytes::new(), last: false, kept, ended, done }
    }

    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Tells the receiver why nothing more comes.
    pub(super) fn reset(&mut self, reason: h2::Reason) {
        self.to.send_reset(reason);
    }

    /// Whether the receiver has reset the stream.
    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Result<h2::Reason, h2::Error>> {
        self.to.poll_reset(cx)
    }

    /// Ready at the end. `bytes` counts.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &Sharded,
        mut observe: impl FnMut(Seen<'_>),
    ) -> Poll<Result<(), Failed>> {
        while !self.done {
            if !self.waiting.is_empty() {
                ready!(self.poll_waiting(cx)).map_err(Failed::To)?;
                continue;
            }
            if let Some(kept) = &mut self.kept {
                let next = kept.pieces.pop_front();
                let last = kept.pieces.is_empty();
                match next {
                    Some(piece) => {
                        self.last = last && self.from.is_end_stream();
                        self.take(piece, bytes)?;
                    }
                    None => self.kept = None,
                }
                continue;
            }
            match ready!(self.from.poll_data(cx)) {
                Some(Ok(piece)) => {
                    self.last = self.from.is_end_stream();
                    observe(Seen::Data(&piece));
                    if self.last {
                        observe(Seen::End);
                    }
                    self.take(piece, bytes)?;
                }
                Some(Err(error)) => return Poll::Ready(Err(Failed::From(error))),
                None => {
                    let trailers = ready!(self.from.poll_trailers(cx)).map_err(Failed::From)?;
                    if !self.ended {
                        observe(Seen::End);
                    }
                    match trailers {
                        Some(found) => {
                            observe(Seen::Trailers(&found));
                            self.to.send_trailers(found).map_err(Failed::To)?;
                        }
                        None => self.to.send_data(Bytes::new(), true).map_err(Failed::To)?,
                    }
                    self.done = true;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn take(&mut self, piece: Bytes, bytes: &Sharded) -> Result<(), Failed> {
        bytes.add(piece.len() as u64);
        if piece.is_empty() {
            return self.send(piece).map_err(Failed::To);
        }
        self.to.reserve_capacity(piece.len());
        self.waiting = piece;
        Ok(())
    }

    /// Sends as much of what waits as there is room for, and gives its sender that room back.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        let mut room = self.to.capacity();
        if room == 0 {
            room = match ready!(self.to.poll_capacity(cx)) {
                Some(room) => room?,
                None => return Poll::Ready(Err(h2::Reason::CANCEL.into())),
            };
        }
        let piece = self.waiting.split_to(room.min(self.waiting.len()));
        // The sender of what was kept has its room back already.
        let length = if self.kept.is_some() { 0 } else { piece.len() };
        self.send(piece)?;
        Poll::Ready(self.from.flow_control().release_capacity(length))
    }

    fn send(&mut self, piece: Bytes) -> Result<(), h2::Error> {
        self.done = self.last && self.waiting.is_empty();
        if self.done {
            self.kept = None;
        }
        self.to.send_data(piece, self.done)
    }
}
