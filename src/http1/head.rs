//! A message's head: its first line, its header lines, and the length of the body behind it.

use http::Version;
use memchr::{memchr, memchr_iter, memchr2};

use super::{Body, Fault};
use crate::trace::propagation::Carrier;

/// One header line of a head, as positions in the head's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    start: u32,
    name_end: u32,
    value_start: u32,
    value_end: u32,
    end: u32,
}

/// A head that was read: its bytes and where its header lines are.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    bytes: &'a [u8],
    fields: &'a [Field],
    crlf: bool,
}

/// The first line of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLine<'a> {
    /// A token, as it came.
    pub method: &'a str,
    /// The request target in any of its forms (RFC 9112, section 3.2), any bytes but blanks.
    pub target: &'a [u8],
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
}

/// The first line of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusLine {
    /// From 100 to 999.
    pub status: u16,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
}

/// Where the head that begins with `bytes` ends: behind its empty line. Nothing before `scanned` is looked at again.
/// Empty lines before the head belong to it (RFC 9112, section 2.2).
pub fn end(bytes: &[u8], scanned: usize) -> Option<usize> {
    let first = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'))?;
    let from = scanned.saturating_sub(2).max(first);
    memchr_iter(b'\n', bytes.get(from..)?).map(|at| from + at).find_map(|at| match bytes.get(at + 1..)? {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

/// Reads a whole request head, which [`end`] has found. `fields` is overwritten with its header lines.
pub fn request<'a>(bytes: &'a [u8], fields: &'a mut Vec<Field>) -> Result<(RequestLine<'a>, Head<'a>), Fault> {
    let (first, lines, crlf) = read(bytes, fields)?;
    let head = Head { bytes, fields, crlf };
    let line = request_line(first).ok_or(Fault::Unreadable)?;
    lines.judge_request(&head, line.version)?;
    Ok((line, head))
}

/// `METHOD SP target SP HTTP/1.x`, RFC 9112, section 3.
pub fn request_line(line: &[u8]) -> Option<RequestLine<'_>> {
    let blank = memchr(b' ', line)?;
    let (method, target) = (line.get(..blank)?, line.get(blank + 1..line.len().checked_sub(9)?)?);
    let [b' ', version @ ..] = line.get(line.len() - 9..)? else { return None };
    let is_line = !method.is_empty()
        && method.iter().copied().all(is_token)
        && !target.is_empty()
        && !target.iter().any(|byte| matches!(byte, 0..=b' ' | 0x7f));
    let method = std::str::from_utf8(method).ok().filter(|_| is_line)?;
    Some(RequestLine { method, target, version: version_of(version)? })
}

/// Reads a whole head of an answer, which [`end`] has found. `fields` is overwritten with its header lines.
pub fn answer<'a>(bytes: &'a [u8], fields: &'a mut Vec<Field>) -> Result<(StatusLine, Head<'a>), Fault> {
    let (first, _, crlf) = read(bytes, fields)?;
    let version = first.get(..8).and_then(version_of).ok_or(Fault::Unreadable)?;
    let status = match first.get(8..) {
        Some([b' ', digits @ ..]) => digits,
        _ => return Err(Fault::Unreadable),
    };
    let (digits, reason) = status.split_at_checked(3).ok_or(Fault::Unreadable)?;
    if !matches!(reason, [] | [b' ', ..]) || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Fault::Unreadable);
    }
    let status = digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
    if status < 100 {
        return Err(Fault::Unreadable);
    }
    Ok((StatusLine { status, version }, Head { bytes, fields, crlf }))
}

impl<'a> Head<'a> {
    /// The whole head, its empty line included.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The values of a header, blanks around them removed. The name's case does not matter.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let (bytes, name) = (self.bytes, name.as_bytes());
        let of_name = self.fields.iter().filter(move |field| {
            (field.name_end - field.start) as usize == name.len()
                && slice(bytes, field.start, field.name_end).eq_ignore_ascii_case(name)
        });
        of_name.map(move |field| slice(bytes, field.value_start, field.value_end))
    }

    /// The first value of a header.
    pub fn value(&self, name: &str) -> Option<&'a [u8]> {
        self.values(name).next()
    }

    /// Whether one of the header's comma-separated members is this token.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        let mut members = self.values(name).flat_map(|value| value.split(|byte| *byte == b','));
        members.any(|member| member.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    /// The header lines, in order.
    pub fn fields(&self) -> &'a [Field] {
        self.fields
    }

    /// A header line's name.
    pub fn name(&self, field: &Field) -> &'a [u8] {
        slice(self.bytes, field.start, field.name_end)
    }

    /// Where a header line stands in the bytes, its line end included.
    pub fn line(&self, field: &Field) -> std::ops::Range<usize> {
        field.start as usize..field.end as usize
    }

    /// Where another header line may be put: before the empty line.
    pub fn insertion(&self) -> usize {
        self.bytes.len() - if self.bytes.ends_with(b"\r\n") { 2 } else { 1 }
    }

    /// How this head ends its lines.
    pub fn line_end(&self) -> &'static [u8] {
        if self.crlf { b"\r\n" } else { b"\n" }
    }

    /// The body behind a request (RFC 9112, section 6.3), whose head was judged when it was read.
    pub fn request_body(&self) -> Body {
        if self.value("transfer-encoding").is_some() {
            return Body::chunked(true);
        }
        self.content_length().ok().flatten().map_or(Body::length(0), Body::length)
    }

    /// The body behind an answer to a request of this method (RFC 9112, section 6.3).
    pub fn answer_body(&self, method_is_head: bool, status: u16) -> Result<Body, Fault> {
        if method_is_head || status < 200 || matches!(status, 204 | 304) {
            return Ok(Body::length(0));
        }
        // The coding overrides a length. Without "chunked" at its end the connection's end is the body's.
        if let Some(coding) = self.values("transfer-encoding").last() {
            let last = coding.rsplit(|byte| *byte == b',').next().unwrap_or_default();
            let chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
            return Ok(if chunked { Body::chunked(false) } else { Body::until_close() });
        }
        Ok(self.content_length()?.map_or(Body::until_close(), Body::length))
    }

    /// Several equal lengths are one (RFC 9110, section 8.6).
    fn content_length(&self) -> Result<Option<u64>, Fault> {
        let mut length = None;
        for member in self.values("content-length").flat_map(|value| value.split(|byte| *byte == b',')) {
            let found = decimal(member.trim_ascii()).ok_or(Fault::Ambiguous("content-length is no number"))?;
            if length.is_some_and(|length| length != found) {
                return Err(Fault::Ambiguous("content-length differs"));
            }
            length = Some(found);
        }
        Ok(length)
    }
}

impl Carrier for Head<'_> {
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        Head::values(self, name)
    }
}

/// What reading the lines has shown of their form.
#[derive(Debug, Default)]
struct Lines {
    bare_lf: bool,
    crlf: bool,
    framing_in_disguise: bool,
    folded_framing: bool,
}

impl Lines {
    /// Refuses what another reader could see the end of somewhere else.
    fn judge_request(&self, head: &Head<'_>, version: Version) -> Result<(), Fault> {
        let coded = head.value("transfer-encoding").is_some();
        let length = head.content_length()?.is_some();
        if self.framing_in_disguise {
            return Err(Fault::Ambiguous("a length or coding that only some would read"));
        }
        if self.folded_framing {
            return Err(Fault::Ambiguous("a folded length or coding"));
        }
        if self.bare_lf && self.crlf && (coded || length) {
            return Err(Fault::Ambiguous("bare line feeds among the lines"));
        }
        if coded {
            if length {
                return Err(Fault::Ambiguous("content-length and transfer-encoding"));
            }
            if version == Version::HTTP_10 {
                return Err(Fault::Ambiguous("transfer-encoding in HTTP/1.0"));
            }
            let codings = || head.values("transfer-encoding").flat_map(|value| value.split(|byte| *byte == b','));
            let is_chunked = |coding: &[u8]| coding.trim_ascii().eq_ignore_ascii_case(b"chunked");
            let chunked = codings().filter(|coding| is_chunked(coding)).count();
            if chunked != 1 || !codings().last().is_some_and(is_chunked) {
                return Err(Fault::Ambiguous("transfer-encoding does not end in chunked"));
            }
        }
        Ok(())
    }
}

/// Splits a head into lines. Returns the first one.
fn read<'a>(bytes: &'a [u8], fields: &mut Vec<Field>) -> Result<(&'a [u8], Lines, bool), Fault> {
    fields.clear();
    let mut lines = Lines::default();
    let mut at = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).ok_or(Fault::Unreadable)?;
    let mut first = None;
    while let Some(length) = memchr(b'\n', bytes.get(at..).unwrap_or_default()) {
        let end = at + length + 1;
        let line = bytes.get(at..end - 1).unwrap_or_default();
        let text = match line.strip_suffix(b"\r") {
            Some(text) => {
                lines.crlf = true;
                text
            }
            None => {
                lines.bare_lf = true;
                line
            }
        };
        if memchr2(b'\r', 0, text).is_some() {
            return Err(Fault::Ambiguous("a bare carriage return or NUL"));
        }
        if first.is_none() {
            first = Some(text);
        } else if text.is_empty() {
            break;
        } else {
            lines.field(text, at, end, fields, bytes)?;
        }
        at = end;
    }
    let crlf = lines.crlf;
    first.map(|first| (first, lines, crlf)).ok_or(Fault::Unreadable)
}

impl Lines {
    fn field(
        &mut self,
        text: &[u8],
        at: usize,
        end: usize,
        fields: &mut Vec<Field>,
        bytes: &[u8],
    ) -> Result<(), Fault> {
        let position = |at: usize| u32::try_from(at).map_err(|_| Fault::Unreadable);
        let colon = memchr(b':', text);
        let name = text.get(..colon.unwrap_or(text.len())).unwrap_or_default();
        if matches!(text, [b' ' | b'\t', ..]) {
            // A folded line (RFC 9112, section 5.2) goes on with the one before it; another reader takes it for one of its own.
            let Some(last) = fields.last_mut() else { return Err(Fault::Ambiguous("a folded first line")) };
            self.folded_framing |= is_framing(slice(bytes, last.start, last.name_end));
            self.framing_in_disguise |= is_framing(name);
            let trimmed = text.trim_ascii_end().len();
            (last.value_end, last.end) = (position(at + trimmed)?, position(end)?);
            return Ok(());
        }
        let Some(colon) = colon else {
            self.framing_in_disguise |= is_framing(name);
            return Err(if self.framing_in_disguise {
                Fault::Ambiguous("a length or coding that only some would read")
            } else {
                Fault::Unreadable
            });
        };
        if name.is_empty() || !name.iter().copied().all(is_token) {
            self.framing_in_disguise |= is_framing(name);
        }
        let value = text.get(colon + 1..).unwrap_or_default();
        let leading = value.len() - value.trim_ascii_start().len();
        let trimmed = value.trim_ascii().len();
        fields.push(Field {
            start: position(at)?,
            name_end: position(at + colon)?,
            value_start: position(at + colon + 1 + leading)?,
            value_end: position(at + colon + 1 + leading + trimmed)?,
            end: position(end)?,
        });
        Ok(())
    }
}

/// Whether a name says how long a body is, whatever is around or inside it that is no part of a name.
fn is_framing(name: &[u8]) -> bool {
    let shortest = "content-length".len();
    let is = |known: &[u8]| {
        let mut letters = name.iter().filter(|byte| is_token(**byte)).map(u8::to_ascii_lowercase);
        known.iter().all(|byte| letters.next() == Some(*byte)) && letters.next().is_none()
    };
    name.len() >= shortest && (is(b"content-length") || is(b"transfer-encoding"))
}

fn version_of(text: &[u8]) -> Option<Version> {
    match text {
        b"HTTP/1.1" => Some(Version::HTTP_11),
        b"HTTP/1.0" => Some(Version::HTTP_10),
        _ => None,
    }
}

/// Digits only: no sign, no blank inside, not empty.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn slice(bytes: &[u8], start: u32, end: u32) -> &[u8] {
    bytes.get(start as usize..end as usize).unwrap_or_default()
}
