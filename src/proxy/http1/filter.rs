//! An answer out of which something is taken: its body is framed anew, and each piece goes on as it comes, but for what the
//! filter keeps back.

use super::{DownState, Exchange, Http1};
use crate::http1::{Body, Fed, Head};
use crate::stack::Call;

/// How such a body goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filtering {
    /// In chunks: it had a length, or chunks of its own.
    Chunks { ended: bool },
    /// Up to the end of the connection.
    Bare,
}

impl Filtering {
    /// How a body goes on that came so.
    pub(super) fn of(body: &Body) -> Self {
        if body.ends_with_connection() { Self::Bare } else { Self::Chunks { ended: false } }
    }

    /// The next bytes. On a fault: how many came before it.
    pub(super) fn feed(
        &mut self,
        body: &mut Body,
        bytes: &[u8],
        call: &mut Call,
        out: &mut Vec<u8>,
    ) -> Result<Fed, usize> {
        let chunked = body.is_chunked();
        let (mut data, mut tail, mut at) = (Vec::new(), Vec::new(), 0);
        // By lines: trailers begin behind one.
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let in_trailers = body.is_in_trailers();
            let fed = body.feed(line, |piece| {
                call.answer_data(piece);
                call.filter(piece, false, &mut data);
            });
            let taken = fed.as_ref().map_or_else(|(_, before)| *before, |fed| fed.consumed);
            if in_trailers {
                tail.extend_from_slice(line.get(..taken).unwrap_or_default());
            }
            at += taken;
            match fed {
                Ok(fed) if fed.done => break,
                Ok(_) => {}
                Err(_) => {
                    // Nothing follows that the filter would see; chunks that have not ended stay so.
                    if body.is_in_trailers() {
                        self.write(&data, true, call, out);
                    } else {
                        call.filter(&[], true, &mut data);
                        self.write(&data, false, call, out);
                    }
                    out.extend_from_slice(&tail);
                    return Err(at);
                }
            }
        }
        let done = body.is_done();
        self.write(&data, done || body.is_in_trailers(), call, out);
        out.extend_from_slice(if done && !chunked && *self != Self::Bare { b"\r\n" } else { &tail });
        Ok(Fed { consumed: at, done })
    }

    /// What the filter has left of a piece, and, at the end of the data, what it has kept back.
    pub(super) fn write(&mut self, data: &[u8], ends: bool, call: &mut Call, out: &mut Vec<u8>) {
        let mut all = data.to_vec();
        let ended = matches!(self, Self::Chunks { ended: true });
        if ends && !ended {
            call.filter(&[], true, &mut all);
        }
        match self {
            Self::Bare => out.extend_from_slice(&all),
            Self::Chunks { ended } => {
                chunk(&all, out);
                if ends && !std::mem::replace(ended, true) {
                    out.extend_from_slice(LAST_CHUNK);
                }
            }
        }
    }
}

impl Http1<'_> {
    /// Whether the head of the next answer must not go on before it is whole: its length may change.
    pub(super) fn withholds(&self) -> bool {
        self.calls.front().is_some_and(|exchange| exchange.rewritten)
    }

    /// Upstream has ended, perhaps inside a head or a body: what was kept back of it.
    pub(super) fn kept_back(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        if std::mem::take(&mut self.down.withheld) {
            rest = self.down.held.take();
        }
        self.flush_filter(&mut rest);
        rest
    }

    fn flush_filter(&mut self, out: &mut Vec<u8>) {
        let Some(filtering) = self.down.filtering.take() else { return };
        let call = self.calls.front_mut().and_then(|exchange| exchange.call.as_mut());
        if let (Some(call), DownState::Body(_)) = (call, &self.down.state)
            && filtering != (Filtering::Chunks { ended: true })
        {
            let mut rest = Vec::new();
            call.filter(&[], true, &mut rest);
            match filtering {
                Filtering::Bare => out.extend_from_slice(&rest),
                Filtering::Chunks { .. } => chunk(&rest, out),
            }
        }
    }
}

/// The call of an exchange, whose answer is filtered.
pub(super) fn filtered(exchange: Option<&mut Exchange>) -> Option<&mut Call> {
    exchange.and_then(|exchange| exchange.call.as_mut())
}

/// An answer's head with its length replaced by chunks, in the same place.
pub(super) fn chunked_head(head: &Head<'_>) -> Vec<u8> {
    let (mut new, mut done, mut said) = (Vec::with_capacity(head.bytes().len() + 16), 0, false);
    let pass = |new: &mut Vec<u8>, range: std::ops::Range<usize>| {
        new.extend_from_slice(head.bytes().get(range).unwrap_or_default());
    };
    for field in head.fields().iter().filter(|field| head.name(field).eq_ignore_ascii_case(b"content-length")) {
        let line = head.line(field);
        pass(&mut new, done..line.start);
        done = line.end;
        if !std::mem::replace(&mut said, true) {
            new.extend_from_slice(b"Transfer-Encoding: chunked");
            new.extend_from_slice(head.line_end());
        }
    }
    pass(&mut new, done..head.bytes().len());
    new
}

/// One chunk; nothing for nothing, which would be the end.
pub(super) fn chunk(data: &[u8], out: &mut Vec<u8>) {
    if !data.is_empty() {
        out.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
}

/// Trailers, or an empty line, follow.
pub(super) const LAST_CHUNK: &[u8] = b"0\r\n";
