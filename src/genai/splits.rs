//! However a body is cut into pieces, the same is found in it: what tests and fuzz targets hold against any bytes.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "no part of the program")]

use super::encoding::Decoder;
use super::frames::{EventStream, Fault, Frames, Kind, Lines, Sink, Sse};

/// Two bytes, which framing and how large the pieces are, and a body.
pub fn frames(data: &[u8]) {
    let [framing, size, body @ ..] = data else { return };
    let fresh = || match framing % 5 {
        0 => Frames::Sse(Sse::default()),
        1 => Frames::Lines(Lines::default()),
        2 | 3 => Frames::EventStream(EventStream::default()),
        _ => Frames::Whole,
    };
    // Checksums are not guessed: every other event stream gets right ones.
    let sealed = if framing % 5 == 3 { sealed(body) } else { body.to_vec() };
    let (whole, size) = (read(fresh(), [&sealed[..]]), usize::from(*size).max(1));
    assert_eq!(read(fresh(), sealed.chunks(size)), whole);
    let (left, right) = sealed.split_at(size.min(sealed.len()));
    assert_eq!(read(fresh(), [left, right]), whole);
    let found: usize = whole.events.iter().map(|event| event.1.len()).sum();
    assert!(found + whole.open.len() <= sealed.len() && whole.events.iter().all(|event| event.0.len() <= 64));
}

/// Two bytes, which codings and how large the pieces are, and a body.
pub fn decoder(data: &[u8]) {
    let [coding, size, body @ ..] = data else { return };
    let names = CODINGS[usize::from(*coding) % CODINGS.len()];
    let (whole, size) = (decode(names, [body], LIMIT), usize::from(*size).max(1));
    let pieces = decode(names, body.chunks(size), LIMIT);
    assert!(whole.0.len() as u64 <= LIMIT && pieces.0.len() as u64 <= LIMIT);
    // A fault may be seen before or behind what came with it.
    if let (Ok(()), Ok(())) = (whole.1, pieces.1) {
        assert_eq!(whole.0, pieces.0);
    }
    // A zstd frame that is there in one piece is decoded at once, without a window that would be too large.
    assert!(whole.1.is_ok() == pieces.1.is_ok() || names.contains("zstd"), "{:?} and {:?}", whole.1, pieces.1);
}

/// What a framing found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Every event that ended: its name, payload and kind.
    pub(crate) events: Vec<(String, Vec<u8>, Kind)>,
    /// The payload of one that did not.
    pub(crate) open: Vec<u8>,
    /// Why no more was found.
    pub(crate) fault: Option<Fault>,
}

impl Sink for Found {
    fn data(&mut self, piece: &[u8]) {
        assert!(!piece.is_empty());
        self.open.extend_from_slice(piece);
    }

    fn end(&mut self, name: &str, kind: Kind) {
        self.events.push((name.to_owned(), std::mem::take(&mut self.open), kind));
    }
}

pub(crate) fn read<'a>(mut frames: Frames, pieces: impl IntoIterator<Item = &'a [u8]>) -> Found {
    let mut found = Found::default();
    for piece in pieces {
        if let Err(fault) = frames.feed(piece, &mut found) {
            // It stays broken.
            assert_eq!(frames.feed(b"x", &mut found), Err(fault));
            assert_eq!(frames.finish(&mut found), Err(fault));
            found.fault = Some(fault);
            return found;
        }
    }
    found.fault = frames.finish(&mut found).err();
    found
}

/// What comes out, and whether all of it does.
pub(crate) fn decode<'a>(
    names: &str,
    pieces: impl IntoIterator<Item = &'a [u8]>,
    limit: u64,
) -> (Vec<u8>, Result<(), Fault>) {
    let mut plain = Vec::new();
    let mut decoder = Decoder::new([names.as_bytes()].into_iter(), limit).unwrap();
    for piece in pieces {
        let fed = decoder.feed(piece, |piece| {
            assert!(!piece.is_empty());
            plain.extend_from_slice(piece);
        });
        assert!(decoder.memory() <= 3 * MOST_MEMORY);
        if let Err(fault) = fed {
            assert_eq!(decoder.feed(b"x", |_| panic!("more after {fault:?}")), Err(fault));
            return (plain, Err(fault));
        }
    }
    (plain, Ok(()))
}

/// An event stream message.
pub(crate) fn message(headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = |bytes: usize| u32::try_from(bytes).unwrap().to_be_bytes();
    let mut message = [length(16 + headers.len() + payload.len()), length(headers.len())].concat();
    message.extend(checksum(&message));
    message.extend([headers, payload].concat());
    message.extend(checksum(&message));
    message
}

pub(crate) fn checksum(bytes: &[u8]) -> [u8; 4] {
    let mut checksum = flate2::Crc::new();
    checksum.update(bytes);
    checksum.sum().to_be_bytes()
}

/// Messages with headers and payloads as the bytes have it: two lengths, then both.
fn sealed(mut bytes: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    while let [headers, payload, rest @ ..] = bytes {
        let (headers, rest) = rest.split_at(rest.len().min((*headers).into()));
        let (payload, rest) = rest.split_at(rest.len().min((*payload).into()));
        stream.extend(message(headers, payload));
        bytes = rest;
    }
    stream
}

const CODINGS: [&str; 6] = ["gzip", "deflate", "br", "zstd", "gzip, br", "zstd, deflate, gzip"];
const LIMIT: u64 = 1024 * 1024;
/// Brotli's window while it grows, and tables.
const MOST_MEMORY: usize = 26 * 1024 * 1024;
