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
    /// How much room its sender gets back for what waits.
    owed: usize,
    /// What was kept before, and was seen then.
    kept: Option<Kept>,
    /// The end was seen.
    ended: bool,
    done: bool,
}

/// What goes by, before it goes on.
pub(super) enum Seen<'a> {
    /// A piece, and whether it is the last. What is left there goes on.
    Data(&'a mut Bytes, bool),
    /// No more data. What is put there goes before what follows.
    End(&'a mut Bytes),
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
        Self { from, to, waiting: Bytes::new(), last: false, owed: 0, kept, ended, done }
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
                        bytes.add(piece.len() as u64);
                        // Its sender has the room back already.
                        self.take(piece, 0)?;
                    }
                    None => self.kept = None,
                }
                continue;
            }
            match ready!(self.from.poll_data(cx)) {
                Some(Ok(mut piece)) => {
                    let length = piece.len();
                    self.last = self.from.is_end_stream();
                    bytes.add(length as u64);
                    observe(Seen::Data(&mut piece, self.last));
                    // What was taken out of it makes room at once.
                    let owed = length.min(piece.len());
                    if owed < length {
                        self.from.flow_control().release_capacity(length - owed).map_err(Failed::From)?;
                    }
                    if length == 0 || self.last || !piece.is_empty() {
                        self.take(piece, owed)?;
                    }
                }
                Some(Err(error)) => return Poll::Ready(Err(Failed::From(error))),
                None if !self.ended => {
                    self.ended = true;
                    let mut rest = Bytes::new();
                    observe(Seen::End(&mut rest));
                    if !rest.is_empty() {
                        self.take(rest, 0)?;
                    }
                }
                None => {
                    let trailers = ready!(self.from.poll_trailers(cx)).map_err(Failed::From)?;
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

    fn take(&mut self, piece: Bytes, owed: usize) -> Result<(), Failed> {
        self.owed = owed;
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
        let length = piece.len().min(self.owed);
        self.owed -= length;
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
