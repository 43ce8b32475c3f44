//! Where a message's body ends (RFC 9112, sections 6 and 7), fed in pieces of any size.

use super::Fault;

/// A body under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    state: State,
    strict: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes are still to come.
    Length(u64),
    /// Up to the end of the connection.
    UntilClose,
    Chunked(Chunked),
    Done,
}

/// Where inside the chunked coding (RFC 9112, section 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunked {
    /// In the digits of a size: the size so far, and how many digits it has.
    Size(u64, u8),
    /// Blanks behind the digits.
    Blank(u64),
    /// Extensions up to the line's end.
    Extension(u64),
    /// The line feed behind a size.
    SizeLf(u64),
    /// In a chunk.
    Data(u64),
    /// The line end behind a chunk.
    DataCr,
    DataLf,
    /// At the start of a trailer line.
    TrailerStart,
    /// In a trailer line.
    Trailer,
    /// The line feed behind a trailer line.
    TrailerLf,
    /// The line feed of the last, empty line.
    LastLf,
}

/// What a piece was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fed {
    /// How much of it belongs to the body; less than all only if the body is done.
    pub consumed: usize,
    /// Whether the body has ended.
    pub done: bool,
}

impl Body {
    /// As many bytes.
    pub fn length(length: u64) -> Self {
        let state = if length == 0 { State::Done } else { State::Length(length) };
        Self { state, strict: true }
    }

    /// Chunks. `strict` refuses a bare line feed as a line's end, which another reader may not take for one.
    pub fn chunked(strict: bool) -> Self {
        Self { state: State::Chunked(Chunked::Size(0, 0)), strict }
    }

    /// Everything up to the end of the connection.
    pub fn until_close() -> Self {
        Self { state: State::UntilClose, strict: false }
    }

    /// Whether it has ended.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether all its chunks have come, and nothing but trailers is still to come.
    pub fn is_in_trailers(&self) -> bool {
        use Chunked::{LastLf, Trailer, TrailerLf, TrailerStart};
        matches!(self.state, State::Chunked(TrailerStart | Trailer | TrailerLf | LastLf))
    }

    /// Whether it is made of chunks.
    pub fn is_chunked(&self) -> bool {
        matches!(self.state, State::Chunked(_))
    }

    /// Whether the end of the connection is its proper end.
    pub fn ends_with_connection(&self) -> bool {
        self.state == State::UntilClose
    }

    /// Reads a piece. `data` sees what the body is made of, without chunk sizes and trailers. On a fault: how much of the
    /// piece came before it.
    pub fn feed(&mut self, piece: &[u8], mut data: impl FnMut(&[u8])) -> Result<Fed, (Fault, usize)> {
        match &mut self.state {
            State::Done => Ok(Fed { consumed: 0, done: true }),
            State::UntilClose => {
                data(piece);
                Ok(Fed { consumed: piece.len(), done: false })
            }
            State::Length(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(piece.len());
                data(piece.get(..taken).unwrap_or_default());
                *left -= taken as u64;
                if *left == 0 {
                    self.state = State::Done;
                }
                Ok(Fed { consumed: taken, done: self.is_done() })
            }
            State::Chunked(chunked) => {
                let mut at = 0;
                while let Some(&byte) = piece.get(at) {
                    if let Chunked::Data(left) = *chunked {
                        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len() - at);
                        data(piece.get(at..at + taken).unwrap_or_default());
                        at += taken;
                        let left = left - taken as u64;
                        *chunked = if left == 0 { Chunked::DataCr } else { Chunked::Data(left) };
                        continue;
                    }
                    match chunked.next(byte, self.strict) {
                        Ok(Some(next)) => *chunked = next,
                        Ok(None) => {
                            self.state = State::Done;
                            return Ok(Fed { consumed: at + 1, done: true });
                        }
                        Err(fault) => return Err((fault, at)),
                    }
                    at += 1;
                }
                Ok(Fed { consumed: at, done: false })
            }
        }
    }
}

impl Chunked {
    /// The state behind one more byte; `None` behind the last one.
    fn next(self, byte: u8, strict: bool) -> Result<Option<Self>, Fault> {
        let after_size = |size| if size == 0 { Self::TrailerStart } else { Self::Data(size) };
        let bare_lf = byte == b'\n' && !strict;
        Ok(Some(match (self, byte) {
            (Self::Size(size, digits), _) if byte.is_ascii_hexdigit() => {
                if digits == MAX_SIZE_DIGITS {
                    return Err(Fault::Ambiguous("a chunk's size is too long"));
                }
                Self::Size(size << 4 | u64::from(hex(byte)), digits + 1)
            }
            (Self::Size(_, 0), _) => return Err(Fault::Ambiguous("a chunk without a size")),
            (Self::Size(size, _) | Self::Blank(size) | Self::Extension(size), b'\r') => Self::SizeLf(size),
            (Self::Size(size, _) | Self::Blank(size) | Self::Extension(size), b'\n') if bare_lf => after_size(size),
            (Self::Size(size, _) | Self::Blank(size), b' ' | b'\t') => Self::Blank(size),
            (Self::Size(size, _) | Self::Blank(size), b';') => Self::Extension(size),
            (Self::Size(..) | Self::Blank(_), _) => return Err(Fault::Ambiguous("a chunk's size is no number")),
            (Self::Extension(_) | Self::Trailer, b'\n' | 0) if !bare_lf => {
                return Err(Fault::Ambiguous("a bare line feed or NUL in a chunk's line"));
            }
            (Self::Extension(size), _) => Self::Extension(size),
            (Self::SizeLf(size), b'\n') => after_size(size),
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataCr, b'\n') if bare_lf => Self::Size(0, 0),
            (Self::DataLf, b'\n') => Self::Size(0, 0),
            (Self::TrailerStart, b'\r') => Self::LastLf,
            (Self::TrailerStart, b'\n') if bare_lf => return Ok(None),
            (Self::TrailerStart, b'\n') => return Err(Fault::Ambiguous("a bare line feed behind the last chunk")),
            (Self::Trailer, b'\r') => Self::TrailerLf,
            (Self::Trailer, b'\n') => Self::TrailerStart,
            (Self::TrailerStart | Self::Trailer, _) => Self::Trailer,
            (Self::TrailerLf, b'\n') => Self::TrailerStart,
            (Self::LastLf, b'\n') => return Ok(None),
            (Self::SizeLf(_) | Self::DataCr | Self::DataLf | Self::TrailerLf | Self::LastLf, _) => {
                return Err(Fault::Ambiguous("a chunk's line ends badly"));
            }
            (Self::Data(_), _) => self,
        }))
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A').wrapping_add(10),
    }
}

/// Of a size that fits into 60 bits: nobody sends more, and no reader's number overflows.
const MAX_SIZE_DIGITS: u8 = 15;

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `text` in two pieces; what the body was made of, and how much of the text it took.
    fn feed(body: &Body, text: &str, cut: usize) -> Result<(String, usize, bool), usize> {
        let (mut body, mut data, mut at) = (body.clone(), Vec::new(), 0);
        for piece in [&text.as_bytes()[..cut], &text.as_bytes()[cut..]] {
            let fed = body.feed(piece, |bytes| data.extend_from_slice(bytes)).map_err(|(_, before)| at + before)?;
            at += fed.consumed;
            assert_eq!(fed.done, body.is_done());
        }
        Ok((String::from_utf8(data).unwrap(), at, body.is_done()))
    }

    fn always(body: &Body, text: &str) -> Result<(String, usize, bool), usize> {
        let whole = feed(body, text, 0);
        for cut in 0..=text.len() {
            assert_eq!(feed(body, text, cut), whole, "{text:?} cut at {cut}");
        }
        whole
    }

    #[test]
    fn a_length_ends_where_it_says() {
        assert_eq!(always(&Body::length(3), "abcdef"), Ok(("abc".into(), 3, true)));
        assert_eq!(always(&Body::length(9), "abcdef"), Ok(("abcdef".into(), 6, false)));
        assert!(Body::length(0).is_done());
        assert_eq!(always(&Body::until_close(), "abc"), Ok(("abc".into(), 3, false)));
    }

    #[test]
    fn chunks_end_behind_their_trailers() {
        for (text, data) in [
            ("0\r\n\r\n", ""),
            ("3\r\nabc\r\n0\r\n\r\n", "abc"),
            ("A;x=\"y\"\r\n0123456789\r\n000 ;z\r\nT: 1\r\nU: 2\r\n\r\n", "0123456789"),
            ("1 \t\r\na\r\n0\r\n\r\n", "a"),
        ] {
            let rest = format!("{text}GET");
            for strict in [true, false] {
                assert_eq!(always(&Body::chunked(strict), &rest), Ok((data.into(), text.len(), true)), "{text:?}");
            }
        }
    }

    #[test]
    fn what_another_reader_could_end_elsewhere_is_a_fault_at_its_place() {
        for (text, at) in [
            ("\r\n", 0),
            ("x\r\n", 0),
            ("-1\r\n", 0),
            ("0x3\r\nabc", 1),
            ("3 3\r\n", 2),
            ("3\rabc", 2),
            ("3\r\nabcd\r\n", 6),
            ("3\r\nabc\r\r", 7),
            ("1234567890123456\r\n", 15),
            ("0\r\n\rX", 4),
            ("0\r\nT: 1\rX", 8),
        ] {
            for strict in [true, false] {
                assert_eq!(always(&Body::chunked(strict), text), Err(at), "{text:?}");
            }
        }
        for text in ["3\nabc\n0\n\n", "3;a\nabc\n0\n\n"] {
            assert!(always(&Body::chunked(true), text).is_err(), "{text:?}");
            assert_eq!(always(&Body::chunked(false), text), Ok(("abc".into(), text.len(), true)));
        }
    }
}
