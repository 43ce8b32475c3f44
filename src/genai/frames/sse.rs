//! Server-sent events as WHATWG's HTML has them (9.2.6): lines that end with CR, LF or CRLF, each a field; an empty one ends
//! the event. Of `id` it is known whether there is one; `retry`, comments and fields that nobody knows are passed over.

use memchr::memchr2;

use super::{Kind, Name, Sink};

/// Where in the stream we are.
#[derive(Debug, Default)]
pub(crate) struct Sse {
    at: At,
    /// The last line ended with a CR: an LF that follows belongs to it.
    after_cr: bool,
    /// The event has a line of data, though it may be empty.
    has_data: bool,
    /// An event has an id.
    has_ids: bool,
    name: Name,
}

#[derive(Clone, Copy, Debug)]
enum At {
    /// At the very beginning, with so many bytes of a byte order mark.
    Mark(u8),
    /// At the start of a line.
    Line,
    /// In a field's name, of which so many bytes are as they have to be.
    Field(Field, u8),
    /// Behind the colon: one space does not count.
    Colon(Field),
    /// In a field's value.
    Value(Field),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Data,
    Event,
    Id,
    Other,
}

impl Default for At {
    fn default() -> Self {
        At::Mark(0)
    }
}

impl Field {
    fn name(self) -> &'static [u8] {
        match self {
            Field::Data => b"data",
            Field::Event => b"event",
            Field::Id => b"id",
            Field::Other => b"",
        }
    }

    /// The common case, quickly: the whole name and its colon are there.
    fn at_once(line: &[u8]) -> Option<(Self, &[u8])> {
        let known = [(Field::Data, b"data:".as_slice()), (Field::Event, b"event:")];
        known.into_iter().find_map(|(field, name)| Some((field, line.strip_prefix(name)?)))
    }
}

impl Sse {
    pub(super) fn feed(&mut self, mut bytes: &[u8], sink: &mut impl Sink) {
        while let Some((&first, rest)) = bytes.split_first() {
            if std::mem::take(&mut self.after_cr) && first == b'\n' {
                bytes = rest;
                continue;
            }
            bytes = match self.at {
                At::Mark(seen) => self.mark(seen, bytes),
                At::Line => match Field::at_once(bytes) {
                    Some((field, rest)) => {
                        self.begin(field, sink);
                        self.at = At::Colon(field);
                        rest
                    }
                    None => self.line(first, rest, sink),
                },
                At::Field(field, seen) => self.field(field, seen, first, rest, sink),
                At::Colon(field) => {
                    self.at = At::Value(field);
                    if first == b' ' { rest } else { bytes }
                }
                At::Value(field) => self.value(field, bytes, sink),
            };
        }
    }

    /// Whether events have ids, by which the rest of the stream may be asked for.
    pub(crate) fn has_ids(&self) -> bool {
        self.has_ids
    }

    pub(super) fn finish(&mut self, sink: &mut impl Sink) {
        self.dispatch(sink);
        self.at = At::Line;
    }

    fn mark<'a>(&mut self, seen: u8, bytes: &'a [u8]) -> &'a [u8] {
        match bytes.split_first() {
            Some((first, rest)) if MARK.get(usize::from(seen)) == Some(first) => {
                self.at = if usize::from(seen) + 1 == MARK.len() { At::Line } else { At::Mark(seen + 1) };
                rest
            }
            // What looked like a mark is the start of a field's name that nobody knows.
            _ => {
                self.at = if seen == 0 { At::Line } else { At::Value(Field::Other) };
                bytes
            }
        }
    }

    fn line<'a>(&mut self, first: u8, rest: &'a [u8], sink: &mut impl Sink) -> &'a [u8] {
        self.at = match first {
            b'\r' | b'\n' => {
                self.dispatch(sink);
                self.ended(first);
                At::Line
            }
            b'd' => At::Field(Field::Data, 1),
            b'e' => At::Field(Field::Event, 1),
            b'i' => At::Field(Field::Id, 1),
            _ => At::Value(Field::Other),
        };
        rest
    }

    fn field<'a>(&mut self, field: Field, seen: u8, next: u8, rest: &'a [u8], sink: &mut impl Sink) -> &'a [u8] {
        let expected = field.name().get(usize::from(seen)).copied();
        self.at = match (next, expected) {
            (b':', None) => {
                self.begin(field, sink);
                At::Colon(field)
            }
            // A field without a colon has an empty value.
            (b'\r' | b'\n', _) => {
                if expected.is_none() {
                    self.begin(field, sink);
                }
                self.ended(next);
                At::Line
            }
            (byte, Some(expected)) if byte == expected => At::Field(field, seen + 1),
            _ => At::Value(Field::Other),
        };
        rest
    }

    fn value<'a>(&mut self, field: Field, bytes: &'a [u8], sink: &mut impl Sink) -> &'a [u8] {
        let end = memchr2(b'\n', b'\r', bytes);
        let (value, rest) = bytes.split_at_checked(end.unwrap_or(bytes.len())).unwrap_or_default();
        match field {
            Field::Data if !value.is_empty() => sink.data(value),
            Field::Event => self.name.push(value),
            Field::Data | Field::Id | Field::Other => {}
        }
        let Some((end, rest)) = rest.split_first() else { return rest };
        self.ended(*end);
        self.at = At::Line;
        rest
    }

    fn begin(&mut self, field: Field, sink: &mut impl Sink) {
        match field {
            Field::Data if std::mem::replace(&mut self.has_data, true) => sink.data(b"\n"),
            Field::Event => self.name.clear(),
            Field::Id => self.has_ids = true,
            Field::Data | Field::Other => {}
        }
    }

    fn ended(&mut self, end: u8) {
        self.after_cr = end == b'\r';
    }

    fn dispatch(&mut self, sink: &mut impl Sink) {
        if std::mem::take(&mut self.has_data) {
            sink.end(self.name.as_str(), Kind::Event);
        }
        self.name.clear();
    }
}

const MARK: &[u8] = b"\xEF\xBB\xBF";
