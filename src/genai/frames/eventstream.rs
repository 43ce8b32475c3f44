//! `application/vnd.amazon.eventstream`: messages of a prelude (two lengths and their checksum), headers, a payload and a
//! checksum over all of it, in network order. Of the headers only those are kept that say what the message is.
//!
//! A payload has been handed on when its checksum comes: only the event's end says that it is right.

use flate2::Crc;

use super::{Fault, Kind, Name, Sink};

/// Where in the stream we are.
#[derive(Debug, Default)]
pub(crate) struct EventStream {
    at: At,
    /// Of the current message's bytes so far.
    checksum: Crc,
    headers: Box<Headers>,
    payload: u32,
    broken: Option<Fault>,
}

#[derive(Clone, Copy, Debug)]
enum At {
    Prelude(Fixed<12>),
    /// So many bytes of headers are to come.
    Headers(u32),
    /// So many bytes of payload are to come.
    Payload(u32),
    Checksum(Fixed<4>),
}

impl Default for At {
    fn default() -> Self {
        At::Prelude(Fixed::default())
    }
}

impl EventStream {
    pub(super) fn feed(&mut self, mut bytes: &[u8], sink: &mut impl Sink) -> Result<(), Fault> {
        self.broken.map_or(Ok(()), Err)?;
        while !bytes.is_empty() {
            bytes = self.step(bytes, sink).inspect_err(|fault| self.broken = Some(*fault))?;
        }
        Ok(())
    }

    pub(super) fn finish(&mut self) -> Result<(), Fault> {
        match (self.broken, self.at) {
            (Some(fault), _) => Err(fault),
            (None, At::Prelude(Fixed { length: 0, .. })) => Ok(()),
            (None, _) => Err(Fault::Truncated),
        }
    }

    fn step<'a>(&mut self, bytes: &'a [u8], sink: &mut impl Sink) -> Result<&'a [u8], Fault> {
        match &mut self.at {
            At::Prelude(prelude) => {
                let rest = prelude.take(bytes);
                if prelude.is_full() {
                    let prelude = prelude.bytes;
                    self.begin(prelude)?;
                }
                Ok(rest)
            }
            At::Headers(left) => {
                let (piece, rest) = split(bytes, left);
                let ended = *left == 0;
                self.checksum.update(piece);
                self.headers.feed(piece)?;
                if ended {
                    self.headers_ended()?;
                }
                Ok(rest)
            }
            At::Payload(left) => {
                let (piece, rest) = split(bytes, left);
                if *left == 0 {
                    self.at = At::Checksum(Fixed::default());
                }
                self.checksum.update(piece);
                sink.data(piece);
                Ok(rest)
            }
            At::Checksum(checksum) => {
                let rest = checksum.take(bytes);
                if checksum.is_full() {
                    if u32::from_be_bytes(checksum.bytes) != self.checksum.sum() {
                        return Err(Fault::BadChecksum);
                    }
                    let (name, kind) = self.headers.said();
                    sink.end(name, kind);
                    self.at = At::default();
                }
                Ok(rest)
            }
        }
    }

    fn begin(&mut self, prelude: [u8; 12]) -> Result<(), Fault> {
        let [t0, t1, t2, t3, h0, h1, h2, h3, c0, c1, c2, c3] = prelude;
        let (total, headers) = (u32::from_be_bytes([t0, t1, t2, t3]), u32::from_be_bytes([h0, h1, h2, h3]));
        self.checksum.reset();
        self.checksum.update(&[t0, t1, t2, t3, h0, h1, h2, h3]);
        if self.checksum.sum() != u32::from_be_bytes([c0, c1, c2, c3]) {
            return Err(Fault::BadChecksum);
        }
        self.checksum.update(&[c0, c1, c2, c3]);
        let payload = total.checked_sub(FRAMING).and_then(|inner| inner.checked_sub(headers));
        self.payload = payload.filter(|payload| *payload <= MAX_PAYLOAD).ok_or(Fault::BadLength)?;
        if headers > MAX_HEADERS {
            return Err(Fault::BadLength);
        }
        *self.headers = Headers::default();
        self.at = At::Headers(headers);
        if headers == 0 { self.headers_ended() } else { Ok(()) }
    }

    fn headers_ended(&mut self) -> Result<(), Fault> {
        if !matches!(self.headers.at, InHeader::NameLength) {
            return Err(Fault::BadHeader);
        }
        self.at = if self.payload == 0 { At::Checksum(Fixed::default()) } else { At::Payload(self.payload) };
        Ok(())
    }
}

/// What a message's headers say, and where in them we are.
#[derive(Debug, Default)]
struct Headers {
    at: InHeader,
    /// The current header's name, then its value, if it is one to keep.
    text: Name,
    role: Option<Role>,
    exception: bool,
    event_name: Name,
    exception_name: Name,
}

#[derive(Clone, Copy, Debug, Default)]
enum InHeader {
    #[default]
    NameLength,
    /// So many bytes of the name are to come.
    Name(u32),
    Type,
    /// The length of the value.
    Length(Fixed<2>),
    /// So many bytes of the value are to come.
    Value(u32),
}

/// What a header is for.
#[derive(Clone, Copy, Debug)]
enum Role {
    MessageType,
    EventType,
    /// `:exception-type` of an exception, `:error-code` of an error.
    Exception,
}

impl Headers {
    fn said(&self) -> (&str, Kind) {
        if self.exception {
            (self.exception_name.as_str(), Kind::Exception)
        } else {
            (self.event_name.as_str(), Kind::Event)
        }
    }

    fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        while let Some((&first, after)) = bytes.split_first() {
            bytes = match &mut self.at {
                InHeader::NameLength if first == 0 => return Err(Fault::BadHeader),
                InHeader::NameLength => {
                    self.text.clear();
                    self.at = InHeader::Name(first.into());
                    after
                }
                InHeader::Name(left) => {
                    let (piece, rest) = split(bytes, left);
                    self.text.push(piece);
                    if *left == 0 {
                        self.at = InHeader::Type;
                    }
                    rest
                }
                InHeader::Type => {
                    self.type_known(first)?;
                    after
                }
                InHeader::Length(length) => {
                    let rest = length.take(bytes);
                    if length.is_full() {
                        let length = u16::from_be_bytes(length.bytes);
                        self.value_follows(length.into());
                    }
                    rest
                }
                InHeader::Value(left) => {
                    let (piece, rest) = split(bytes, left);
                    let ended = *left == 0;
                    if self.role.is_some() {
                        self.text.push(piece);
                    }
                    if ended {
                        self.value_ended();
                    }
                    rest
                }
            };
        }
        Ok(())
    }

    fn type_known(&mut self, kind: u8) -> Result<(), Fault> {
        self.role = match self.text.as_bytes() {
            b":message-type" if kind == STRING => Some(Role::MessageType),
            b":event-type" if kind == STRING => Some(Role::EventType),
            b":exception-type" | b":error-code" if kind == STRING => Some(Role::Exception),
            _ => None,
        };
        self.text.clear();
        match kind {
            // True and false have no value of their own.
            0 | 1 => self.value_follows(0),
            2 => self.value_follows(1),
            3 => self.value_follows(2),
            4 => self.value_follows(4),
            5 | 8 => self.value_follows(8),
            6 | STRING => self.at = InHeader::Length(Fixed::default()),
            9 => self.value_follows(16),
            _ => return Err(Fault::BadHeader),
        }
        Ok(())
    }

    fn value_follows(&mut self, length: u32) {
        self.at = InHeader::Value(length);
        if length == 0 {
            self.value_ended();
        }
    }

    fn value_ended(&mut self) {
        match self.role {
            Some(Role::MessageType) => self.exception = matches!(self.text.as_bytes(), b"exception" | b"error"),
            Some(Role::EventType) => self.event_name = self.text,
            Some(Role::Exception) => self.exception_name = self.text,
            None => {}
        }
        self.at = InHeader::NameLength;
    }
}

/// A field of N bytes, gathered.
#[derive(Clone, Copy, Debug)]
struct Fixed<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Default for Fixed<N> {
    fn default() -> Self {
        Self { bytes: [0; N], length: 0 }
    }
}

impl<const N: usize> Fixed<N> {
    /// Takes what it lacks, and gives back the rest.
    fn take<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let room = self.bytes.get_mut(self.length..).unwrap_or_default();
        let (taken, rest) = bytes.split_at_checked(room.len()).unwrap_or((bytes, &[]));
        room.iter_mut().zip(taken).for_each(|(to, from)| *to = *from);
        self.length += taken.len();
        rest
    }

    fn is_full(&self) -> bool {
        self.length == N
    }
}

/// At most `left` bytes, which become fewer by them, and the rest.
fn split<'a>(bytes: &'a [u8], left: &mut u32) -> (&'a [u8], &'a [u8]) {
    let wanted = usize::try_from(*left).unwrap_or(usize::MAX);
    let (piece, rest) = bytes.split_at_checked(wanted).unwrap_or((bytes, &[]));
    *left -= u32::try_from(piece.len()).unwrap_or(*left);
    (piece, rest)
}

/// What a message has beside headers and payload: two lengths and two checksums.
const FRAMING: u32 = 16;
/// The format's own limits.
const MAX_HEADERS: u32 = 128 * 1024;
const MAX_PAYLOAD: u32 = 24 * 1024 * 1024;
/// The type of a header's value that is text.
const STRING: u8 = 7;
