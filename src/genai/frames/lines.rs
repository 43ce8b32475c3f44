//! Newline-delimited JSON: every line that is not blank is an event. A CR ends a line, too: inside of JSON's strings there is
//! none, and between its tokens in a line none is written.

use memchr::memchr2;

use super::{Kind, Sink};

/// Where in the stream we are.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    has_data: bool,
}

impl Lines {
    pub(super) fn feed(&mut self, mut bytes: &[u8], sink: &mut impl Sink) {
        loop {
            if !self.has_data {
                bytes = bytes.trim_ascii_start();
            }
            let end = memchr2(b'\n', b'\r', bytes);
            let (piece, rest) = bytes.split_at_checked(end.unwrap_or(bytes.len())).unwrap_or_default();
            if !piece.is_empty() {
                self.has_data = true;
                sink.data(piece);
            }
            let Some((_, rest)) = rest.split_first() else { return };
            self.finish(sink);
            bytes = rest;
        }
    }

    pub(super) fn finish(&mut self, sink: &mut impl Sink) {
        if std::mem::take(&mut self.has_data) {
            sink.end("", Kind::Event);
        }
    }
}
