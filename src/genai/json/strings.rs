//! The strings of a document: their escapes (RFC 8259, section 7), characters that are cut between two pieces, and how much of
//! them is kept.

use memchr::memchr2;

use super::Node;
use super::reader::{Reader, State, name};
use crate::genai::item::Text;

/// What a string is read for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Purpose {
    Name,
    Short,
    Long,
    Skip,
}

/// Where in an escape sequence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Escape {
    No,
    /// Behind a backslash.
    Begun,
    /// In the digits of `\u`: the number so far, how many digits, and the half of a pair that came before.
    Unicode(u16, u8, Option<u16>),
    /// The half of a pair wants its other half: nothing, or a backslash, has come.
    Half(u16, bool),
}

impl Reader {
    /// A string.
    pub(super) fn in_text<'b>(
        &mut self,
        bytes: &'b [u8],
        purpose: Purpose,
        escape: Escape,
        each: &mut dyn FnMut(&'static str, Node),
    ) -> &'b [u8] {
        match escape {
            Escape::No => {
                let mut bytes = bytes;
                loop {
                    let Some(found) = special(bytes) else {
                        self.keep(bytes, purpose);
                        return &[];
                    };
                    let (piece, rest) = bytes.split_at_checked(found).unwrap_or((bytes, &[]));
                    self.keep(piece, purpose);
                    match rest {
                        // The common case, quickly: an escape of one letter is there as a whole.
                        [b'\\', letter, rest @ ..] if *letter != b'u' => {
                            self.keep(unescaped(*letter), purpose);
                            bytes = rest;
                        }
                        [b'\\', b'u', a, b, c, d, rest @ ..] if character([*a, *b, *c, *d]).is_some() => {
                            self.keep_char(character([*a, *b, *c, *d]), purpose);
                            bytes = rest;
                        }
                        [b'\\', rest @ ..] => {
                            self.state = State::Text(purpose, Escape::Begun);
                            return rest;
                        }
                        _ => {
                            self.end_text(purpose, each);
                            return rest.get(1..).unwrap_or_default();
                        }
                    }
                }
            }
            _ => {
                let Some((&byte, rest)) = bytes.split_first() else { return &[] };
                let next = self.escaped(byte, purpose, escape);
                self.state = State::Text(purpose, next.unwrap_or(Escape::No));
                // The half of a pair that stayed alone: this byte belongs to what follows.
                if next.is_none() { bytes } else { rest }
            }
        }
    }

    /// One byte of an escape sequence. `None`: the byte does not belong to it.
    fn escaped(&mut self, byte: u8, purpose: Purpose, escape: Escape) -> Option<Escape> {
        Some(match escape {
            Escape::No => Escape::No,
            Escape::Begun if byte == b'u' => Escape::Unicode(0, 0, None),
            Escape::Begun => {
                self.keep(unescaped(byte), purpose);
                Escape::No
            }
            Escape::Unicode(number, digits, half) => {
                let Some(digit) = char::from(byte).to_digit(16) else {
                    self.keep(REPLACEMENT, purpose);
                    return None;
                };
                let number = number << 4 | u16::try_from(digit).unwrap_or_default();
                if digits < 3 {
                    return Some(Escape::Unicode(number, digits + 1, half));
                }
                match (half, number) {
                    (None, 0xd800..=0xdbff) => return Some(Escape::Half(number, false)),
                    (Some(high), 0xdc00..=0xdfff) => {
                        let code = 0x10000 + (u32::from(high - 0xd800) << 10) + u32::from(number - 0xdc00);
                        self.keep_char(char::from_u32(code), purpose);
                    }
                    (Some(_), 0xd800..=0xdbff) => {
                        self.keep(REPLACEMENT, purpose);
                        return Some(Escape::Half(number, false));
                    }
                    (half, _) => {
                        if half.is_some() {
                            self.keep(REPLACEMENT, purpose);
                        }
                        self.keep_char(char::from_u32(number.into()), purpose);
                    }
                }
                Escape::No
            }
            Escape::Half(high, false) if byte == b'\\' => Escape::Half(high, true),
            Escape::Half(high, true) if byte == b'u' => Escape::Unicode(0, 0, Some(high)),
            Escape::Half(_, backslash) => {
                self.keep(REPLACEMENT, purpose);
                if backslash {
                    return self.escaped(byte, purpose, Escape::Begun);
                }
                return None;
            }
        })
    }

    fn keep_char(&mut self, found: Option<char>, purpose: Purpose) {
        let mut buffer = [0; 4];
        match found {
            Some(found) => self.keep(found.encode_utf8(&mut buffer).as_bytes(), purpose),
            None => self.keep(REPLACEMENT, purpose),
        }
    }

    fn keep(&mut self, piece: &[u8], purpose: Purpose) {
        match purpose {
            Purpose::Skip => {}
            Purpose::Name | Purpose::Short => {
                let room = MAX_SHORT.saturating_sub(self.text.len()).min(piece.len());
                self.incomplete |= room < piece.len() && purpose == Purpose::Short;
                self.text.extend_from_slice(piece.get(..room).unwrap_or_default());
            }
            Purpose::Long => {
                // Escapes cut a text into small pieces, and to hash or to check each costs more than to copy it.
                if self.text.len() + piece.len() > GATHERED {
                    self.push_gathered();
                }
                if piece.len() > GATHERED {
                    self.push(piece);
                } else {
                    self.text.extend_from_slice(piece);
                }
            }
        }
    }

    fn push_gathered(&mut self) {
        let mut gathered = std::mem::take(&mut self.text);
        self.push(&gathered);
        gathered.clear();
        self.text = gathered;
    }

    fn push(&mut self, piece: &[u8]) {
        if let Some(text) = &mut self.long {
            push_lossy(text, piece, &mut self.carry);
        }
    }

    fn end_text(&mut self, purpose: Purpose, each: &mut dyn FnMut(&'static str, Node)) {
        match purpose {
            Purpose::Name => {
                if let Some(frame) = self.stack.last_mut() {
                    frame.name = name(frame.shape, &self.text);
                }
                self.state = State::Colon;
            }
            Purpose::Short => {
                self.held += self.text.len();
                let text = String::from_utf8_lossy(&self.text).into();
                self.value(Node::Short(text), each);
            }
            Purpose::Long => {
                self.push_gathered();
                let mut text = self.long.take();
                if let Some(text) = text.as_mut().filter(|_| self.carry.1 > 0) {
                    text.push("\u{fffd}");
                }
                self.carry.1 = 0;
                if let Some(text) = text {
                    self.held += size_of::<Text>() + text.kept().len();
                    self.value(Node::Text(text), each);
                }
            }
            Purpose::Skip => {
                if self.shape().is_some() {
                    self.value(Node::Null, each);
                } else {
                    self.state = State::Behind;
                }
            }
        }
    }
}

/// Where the first quote or backslash is. Most are near, where a search that is made for long texts is slow to begin.
pub(super) fn special(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & (ONES << 7);
    let (words, _) = bytes.as_chunks::<8>();
    let near = words.get(..words.len().min(NEAR)).unwrap_or_default();
    for (index, word) in near.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // Each byte that is one of them has its highest bit set; above the first one others may have, too.
        let found = zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\')));
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let behind = near.len() * 8;
    memchr2(b'"', b'\\', bytes.get(behind..).unwrap_or_default()).map(|found| behind + found)
}

/// What four digits behind `\u` stand for; `None` for half of a pair, and for what is no number.
fn character(digits: [u8; 4]) -> Option<char> {
    let digits = digits.into_iter().map(|digit| char::from(digit).to_digit(16));
    char::from_u32(digits.into_iter().try_fold(0, |number, digit| Some(number << 4 | digit?))?)
}

/// What a letter behind a backslash stands for.
fn unescaped(letter: u8) -> &'static [u8] {
    match letter {
        b'n' => b"\n",
        b't' => b"\t",
        b'r' => b"\r",
        b'b' => b"\x08",
        b'f' => b"\x0c",
        b'"' => b"\"",
        b'/' => b"/",
        b'\\' => b"\\",
        _ => REPLACEMENT,
    }
}

/// Adds bytes as text; a character may be cut between two pieces.
fn push_lossy(text: &mut Text, mut piece: &[u8], carry: &mut ([u8; 4], usize)) {
    while carry.1 > 0 {
        let Some((&byte, rest)) = piece.split_first() else { return };
        let (buffer, length) = carry;
        if let Some(place) = buffer.get_mut(*length) {
            *place = byte;
        }
        let whole = buffer.get(..*length + 1).unwrap_or_default();
        match std::str::from_utf8(whole) {
            Ok(character) => {
                text.push(character);
                carry.1 = 0;
                piece = rest;
            }
            Err(error) if error.error_len().is_none() && *length < 3 => {
                *length += 1;
                piece = rest;
            }
            Err(_) => {
                // What came before was no character; this byte may begin one.
                text.push("\u{fffd}");
                carry.1 = 0;
            }
        }
    }
    // The common case, quickly.
    if let Ok(whole) = std::str::from_utf8(piece) {
        return text.push(whole);
    }
    let mut chunks = piece.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        text.push(chunk.valid());
        let invalid = chunk.invalid();
        if invalid.is_empty() {
            continue;
        }
        let cut = chunks.peek().is_none() && std::str::from_utf8(invalid).is_err_and(|e| e.error_len().is_none());
        match carry.0.get_mut(..invalid.len()).filter(|_| cut) {
            Some(buffer) => {
                buffer.copy_from_slice(invalid);
                carry.1 = invalid.len();
            }
            None => text.push("\u{fffd}"),
        }
    }
}

const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();
/// Bytes of a name or an id.
const MAX_SHORT: usize = 1024;
/// Bytes of a long string that are gathered before they are looked at.
const GATHERED: usize = 4096;
/// Words of eight bytes.
const NEAR: usize = 8;
