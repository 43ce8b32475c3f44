//! What is made of deflate (RFC 1951): gzip (RFC 1952), of several members, and HTTP's `deflate`, which is zlib (RFC 1950), or
//! as some servers send it without that frame.

use flate2::{Crc, Decompress, FlushDecompress, Status};

use crate::genai::frames::Fault;

/// One body.
pub(super) struct Inflate {
    at: At,
    /// Boxed by its crate.
    inflate: Decompress,
    /// Of the current member's content.
    checksum: Crc,
}

enum At {
    /// The first byte tells zlib from raw deflate.
    Deflate,
    Header(Header),
    Content {
        gzip: bool,
    },
    /// The checksum and the length of a member's content, of which so many bytes are there.
    Trailer([u8; 8], usize),
    /// Another member may follow.
    Between,
    /// What follows means nothing: clients pass it over, too.
    Over,
}

impl Inflate {
    /// The window of 32 KiB and the tables.
    pub(super) const MEMORY: usize = 44 * 1024;

    pub(super) fn gzip() -> Self {
        Self { at: At::Header(Header::default()), inflate: Decompress::new(false), checksum: Crc::new() }
    }

    pub(super) fn deflate() -> Self {
        Self { at: At::Deflate, ..Self::gzip() }
    }

    pub(super) fn step<'a>(&mut self, mut input: &'a [u8], output: &mut [u8]) -> Result<(&'a [u8], usize), Fault> {
        loop {
            let first = input.first().copied();
            match (&mut self.at, first) {
                (At::Content { gzip }, _) => {
                    let gzip = *gzip;
                    return self.content(gzip, input, output);
                }
                (_, None) => return Ok((input, 0)),
                (At::Over, _) => return Ok((&[], 0)),
                (At::Deflate, Some(first)) => {
                    // zlib's first byte says method 8 and a window up to 32 KiB. Read as raw deflate it is a stored block
                    // with bits set in its padding, which nobody writes.
                    self.inflate.reset(first & 0x0f == 8 && first >> 4 <= 7);
                    self.at = At::Content { gzip: false };
                }
                (At::Between, Some(first)) => {
                    self.at = if first == ID1 { At::Header(Header::default()) } else { At::Over };
                }
                (At::Header(header), Some(first)) => {
                    input = input.get(1..).unwrap_or_default();
                    if header.feed(first)? {
                        self.inflate.reset(false);
                        self.checksum.reset();
                        self.at = At::Content { gzip: true };
                    }
                }
                (At::Trailer(trailer, seen), Some(first)) => {
                    input = input.get(1..).unwrap_or_default();
                    trailer.get_mut(*seen).into_iter().for_each(|byte| *byte = first);
                    *seen += 1;
                    if *seen == trailer.len() {
                        let said = u64::from_le_bytes(*trailer);
                        let found = u64::from(self.checksum.sum()) | u64::from(self.checksum.amount()) << 32;
                        if said != found {
                            return Err(Fault::BadChecksum);
                        }
                        self.at = At::Between;
                    }
                }
            }
        }
    }

    fn content<'a>(&mut self, gzip: bool, input: &'a [u8], output: &mut [u8]) -> Result<(&'a [u8], usize), Fault> {
        let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
        let status = self.inflate.decompress(input, output, FlushDecompress::None).map_err(|_| Fault::BadCoding)?;
        let read = usize::try_from(self.inflate.total_in() - read).unwrap_or(usize::MAX);
        let written = usize::try_from(self.inflate.total_out() - written).unwrap_or(usize::MAX);
        if gzip {
            self.checksum.update(output.get(..written).unwrap_or_default());
        }
        if status == Status::StreamEnd {
            self.at = if gzip { At::Trailer([0; 8], 0) } else { At::Over };
        }
        Ok((input.get(read..).unwrap_or_default(), written))
    }
}

/// A member's header, byte by byte; nothing of it is kept, so none can be too long.
#[derive(Default)]
struct Header {
    flags: u8,
    /// Fixed part: how many bytes are there. Then: which of the optional parts we are in.
    seen: u8,
    part: Part,
}

#[derive(Clone, Copy, Default)]
enum Part {
    #[default]
    Fixed,
    ExtraLength(Option<u8>),
    Extra(u16),
    Name,
    Comment,
    /// So many bytes of the header's own checksum are to come.
    Checksum(u8),
}

impl Header {
    /// Whether it ends with this byte.
    fn feed(&mut self, byte: u8) -> Result<bool, Fault> {
        let over = match &mut self.part {
            Part::Fixed => {
                let fits = match self.seen {
                    0 => byte == ID1,
                    1 => byte == ID2,
                    2 => byte == DEFLATE,
                    3 => {
                        self.flags = byte;
                        byte & RESERVED == 0
                    }
                    _ => true,
                };
                if !fits {
                    return Err(Fault::BadCoding);
                }
                self.seen += 1;
                self.seen == FIXED
            }
            Part::ExtraLength(low @ None) => {
                *low = Some(byte);
                return Ok(false);
            }
            Part::ExtraLength(Some(low)) => {
                let length = u16::from_le_bytes([*low, byte]);
                self.part = Part::Extra(length);
                length == 0
            }
            Part::Extra(left) => {
                *left = left.saturating_sub(1);
                *left == 0
            }
            Part::Name | Part::Comment => byte == 0,
            Part::Checksum(left) => {
                *left -= 1;
                *left == 0
            }
        };
        Ok(over && self.next_part())
    }

    /// Whether there is none.
    fn next_part(&mut self) -> bool {
        let after = match self.part {
            Part::Fixed => 0,
            Part::ExtraLength(_) | Part::Extra(_) => 1,
            Part::Name => 2,
            Part::Comment => 3,
            Part::Checksum(_) => 4,
        };
        let parts = [
            (EXTRA, Part::ExtraLength(None)),
            (NAME, Part::Name),
            (COMMENT, Part::Comment),
            (CHECKSUM, Part::Checksum(2)),
        ];
        let next = parts.into_iter().skip(after).find(|(flag, _)| self.flags & flag != 0);
        next.map(|(_, part)| self.part = part).is_none()
    }
}

const ID1: u8 = 0x1f;
const ID2: u8 = 0x8b;
const DEFLATE: u8 = 8;
/// Bytes before the optional parts.
const FIXED: u8 = 10;
/// The flags, and those that mean nothing yet.
const CHECKSUM: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;
const RESERVED: u8 = 0xe0;
