//! How a body is cut into events: SSE, NDJSON, the event streams of AWS, or one document. Stands between `encoding`, which
//! gives it bytes, and the reading of JSON, which is its [`Sink`].
//!
//! Payload is handed on as it comes, in slices of what came in: no event is put together here, so none can be too large.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::string_slice))]

mod eventstream;
mod lines;
mod sse;

pub(crate) use eventstream::EventStream;
pub(crate) use lines::Lines;
pub(crate) use sse::Sse;

/// Takes what a framing finds.
pub(crate) trait Sink {
    /// The next piece of the current event's payload: of an SSE event's data with its lines joined by `\n`, of a line of
    /// NDJSON, of an event stream message's payload. Never empty. The event may have begun with it.
    fn data(&mut self, piece: &[u8]);

    /// The current event is whole. `name`: an SSE event's `event:` field, an event stream message's `:event-type`, empty if
    /// there is none. Without data before it, the payload was empty.
    fn end(&mut self, name: &str, kind: Kind);
}

/// What an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One of those that the stream is made of.
    Event,
    /// An event stream message whose `:message-type` is `exception` or `error`: its name is the `:exception-type` or the
    /// `:error-code`.
    Exception,
}

/// Why a body cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A length that does not fit the others, or is beyond the format's limits.
    BadLength,
    /// The bytes are not those that were sent. What was handed on of the event may be wrong, and it has no end.
    BadChecksum,
    /// A header of an event stream message that is none.
    BadHeader,
    /// The body ended inside an event.
    Truncated,
    /// Not in the content coding that it claims.
    BadCoding,
    /// It decodes to more than the limit.
    TooLarge,
}

impl Fault {
    /// For a metric's label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Fault::BadLength => "bad_length",
            Fault::BadChecksum => "bad_checksum",
            Fault::BadHeader => "bad_header",
            Fault::Truncated => "truncated",
            Fault::BadCoding => "bad_coding",
            Fault::TooLarge => "too_large",
        }
    }
}

/// The framing of one body.
#[derive(Debug)]
pub(crate) enum Frames {
    /// `text/event-stream`.
    Sse(Sse),
    /// `application/x-ndjson`.
    Lines(Lines),
    /// `application/vnd.amazon.eventstream`.
    EventStream(EventStream),
    /// One document: everything is data.
    Whole,
}

impl Frames {
    /// The next bytes of the body. After a fault nothing more is found.
    pub(crate) fn feed(&mut self, bytes: &[u8], sink: &mut impl Sink) -> Result<(), Fault> {
        match self {
            Frames::Sse(sse) => sse.feed(bytes, sink),
            Frames::Lines(lines) => lines.feed(bytes, sink),
            Frames::EventStream(messages) => return messages.feed(bytes, sink),
            Frames::Whole if bytes.is_empty() => {}
            Frames::Whole => sink.data(bytes),
        }
        Ok(())
    }

    /// The body has ended, properly or not. A last event of SSE, a last line and a document end with it, whole or not:
    /// their JSON tells.
    pub(crate) fn finish(&mut self, sink: &mut impl Sink) -> Result<(), Fault> {
        match self {
            Frames::Sse(sse) => sse.finish(sink),
            Frames::Lines(lines) => lines.finish(sink),
            Frames::EventStream(messages) => return messages.finish(),
            Frames::Whole => sink.end("", Kind::Event),
        }
        Ok(())
    }
}

/// The start of a name: what is longer is cut, as no name that means something to us is as long.
#[derive(Clone, Copy, Debug)]
struct Name {
    bytes: [u8; MAX_NAME],
    length: usize,
}

impl Default for Name {
    fn default() -> Self {
        Self { bytes: [0; MAX_NAME], length: 0 }
    }
}

impl Name {
    fn clear(&mut self) {
        self.length = 0;
    }

    fn push(&mut self, piece: &[u8]) {
        let room = self.bytes.get_mut(self.length..).unwrap_or_default();
        let taken = room.len().min(piece.len());
        room.iter_mut().zip(piece).for_each(|(to, from)| *to = *from);
        self.length += taken;
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Up to the first byte that is no UTF-8, be it for the cut.
    fn as_str(&self) -> &str {
        self.as_bytes().utf8_chunks().next().map_or("", |chunk| chunk.valid())
    }
}

const MAX_NAME: usize = 64;

#[cfg(test)]
mod tests;
