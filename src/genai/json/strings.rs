//! The strings of a document: their escapes (RFC 8259, section 7), characters that are cut between two pieces, and how much of
//! them is kept.

use std::ops::Range;

use memchr::memchr2;

use super::Node;
use super::reader::{Reader, State, field};
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
                    bytes = match bytes {
                        [] => return bytes,
                        [b'"', rest @ ..] => {
                            self.end_text(purpose, each);
                            return rest;
                        }
                        // The common case, quickly: an escape is there as a whole.
                        [b'\\', letter, rest @ ..] if *letter != b'u' => {
                            self.keep_letter(*letter, purpose);
                            rest
                        }
                        [b'\\', b'u', a, b, c, d, rest @ ..] if character([*a, *b, *c, *d]).is_some() => {
                            self.keep_char(character([*a, *b, *c, *d]), purpose);
                            rest
                        }
                        [b'\\', rest @ ..] => {
                            self.state = State::Text(purpose, Escape::Begun);
                            return rest;
                        }
                        _ if purpose == Purpose::Long => self.keep_long(bytes),
                        _ => self.keep_plain(bytes, purpose),
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
                self.keep_letter(byte, purpose);
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

    /// Keeps what comes before the next quote or backslash, with which what is left begins.
    fn keep_plain<'b>(&mut self, bytes: &'b [u8], purpose: Purpose) -> &'b [u8] {
        let end = special(bytes).unwrap_or(bytes.len());
        let (piece, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
        self.keep(piece, purpose);
        rest
    }

    /// The same of a long string, block by block, past the escapes of one letter. What is left may begin with anything.
    fn keep_long<'b>(&mut self, mut bytes: &'b [u8]) -> &'b [u8] {
        while let Some(block) = bytes.first_chunk::<BLOCK>() {
            self.make_room(2 * BLOCK);
            let (mut special, mut done) = (specials(block), 0);
            while special != 0 {
                let found = special.trailing_zeros() as usize;
                gather(&mut self.text, bytes, done..found);
                let rest = bytes.get(found..).unwrap_or_default();
                let [b'\\', letter, ..] = rest else { return rest };
                let Some(byte) = unescaped(*letter) else { return rest };
                self.text.push(byte);
                done = found + 2;
                // With its letter, which may be one.
                special &= !(0b11 << found);
            }
            gather(&mut self.text, bytes, done..BLOCK.max(done));
            bytes = bytes.get(BLOCK.max(done)..).unwrap_or_default();
        }
        self.keep_plain(bytes, Purpose::Long)
    }

    /// What a letter behind a backslash stands for.
    fn keep_letter(&mut self, letter: u8, purpose: Purpose) {
        match unescaped(letter) {
            Some(byte) => self.keep(&[byte], purpose),
            None => self.keep(REPLACEMENT, purpose),
        }
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
                self.make_room(piece.len());
                self.text.extend_from_slice(piece);
            }
        }
    }

    /// Escapes cut a text into small pieces, and to hash or to check each costs more than to copy it: they are gathered.
    fn make_room(&mut self, length: usize) {
        if self.text.len() + length > GATHERED {
            self.push_gathered();
        }
    }

    fn push_gathered(&mut self) {
        if let Some(text) = &mut self.long {
            push_lossy(text, &self.text, &mut self.carry);
        }
        self.text.clear();
    }

    fn end_text(&mut self, purpose: Purpose, each: &mut dyn FnMut(&'static str, Node)) {
        match purpose {
            Purpose::Name => {
                if let Some(frame) = self.stack.last_mut() {
                    (frame.name, frame.wanted) = field(frame.shape, &self.text);
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

/// Which bytes of a block are quotes and backslashes: a bit for each. A plain loop, of which compilers make vectors.
#[inline]
fn specials(block: &[u8; BLOCK]) -> u64 {
    let mut hits = [0; BLOCK];
    for (hit, byte) in hits.iter_mut().zip(block) {
        *hit = u8::from((*byte == b'"') | (*byte == b'\\'));
    }
    let (words, _) = hits.as_chunks::<8>();
    // The lowest bits of eight bytes, side by side.
    let bits = words.iter().map(|word| u64::from_le_bytes(*word).wrapping_mul(0x0102_0408_1020_4080) >> 56);
    bits.enumerate().fold(0, |all, (index, bits)| all | bits << (8 * index))
}

/// Copies a part of some bytes. It is short: to copy more and to forget it is quicker than to be exact.
#[inline]
fn gather(out: &mut Vec<u8>, bytes: &[u8], part: Range<usize>) {
    let length = part.len();
    match bytes.get(part.start..).and_then(|bytes| bytes.first_chunk::<BLOCK>()) {
        Some(chunk) if length <= BLOCK => {
            let end = out.len() + length;
            out.extend_from_slice(chunk);
            out.truncate(end);
        }
        _ => out.extend_from_slice(bytes.get(part).unwrap_or_default()),
    }
}

/// What four digits behind `\u` stand for; `None` for half of a pair, and for what is no number.
fn character(digits: [u8; 4]) -> Option<char> {
    let digits = digits.into_iter().map(|digit| char::from(digit).to_digit(16));
    char::from_u32(digits.into_iter().try_fold(0, |number, digit| Some(number << 4 | digit?))?)
}

/// What a letter behind a backslash stands for.
fn unescaped(letter: u8) -> Option<u8> {
    LETTERS.get(usize::from(letter)).copied().filter(|byte| *byte != 0)
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
    let (piece, begun) = piece.split_at(piece.len() - begun(piece));
    // The common case, quickly.
    if let Ok(whole) = simdutf8::basic::from_utf8(piece) {
        text.push(whole);
    } else {
        for chunk in piece.utf8_chunks() {
            text.push(chunk.valid());
            if !chunk.invalid().is_empty() {
                text.push("\u{fffd}");
            }
        }
    }
    if let Some(buffer) = carry.0.get_mut(..begun.len()) {
        buffer.copy_from_slice(begun);
        carry.1 = begun.len();
    }
}

/// How many bytes at the end begin a character that is not whole.
fn begun(piece: &[u8]) -> usize {
    let is_begun = |length: &usize| {
        let end = piece.get(piece.len() - length..).unwrap_or_default();
        std::str::from_utf8(end).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    };
    (1..=piece.len().min(3)).find(is_begun).unwrap_or(0)
}

const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();
/// Bytes of a name or an id.
const MAX_SHORT: usize = 1024;
/// Bytes of a long string that are gathered before they are looked at.
const GATHERED: usize = 4096;
/// By letter: text is full of them, in an order that no processor guesses.
#[cfg_attr(not(test), allow(clippy::indexing_slicing, reason = "an index that is too large does not compile"))]
static LETTERS: [u8; 256] = {
    let mut letters = [0; 256];
    letters[b'n' as usize] = b'\n';
    letters[b't' as usize] = b'\t';
    letters[b'r' as usize] = b'\r';
    letters[b'b' as usize] = 0x08;
    letters[b'f' as usize] = 0x0c;
    letters[b'"' as usize] = b'"';
    letters[b'/' as usize] = b'/';
    letters[b'\\' as usize] = b'\\';
    letters
};
/// Bytes that are looked at together.
const BLOCK: usize = 64;
/// Words of eight bytes.
const NEAR: usize = 8;
