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
        members.any(|member| trim(member).eq_ignore_ascii_case(token.as_bytes()))
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

    /// Whether a reader that takes nothing but CRLF for a line's end would look for this head's end further on.
    pub fn ends_loosely(&self) -> bool {
        self.crlf && !self.bytes.ends_with(b"\r\n\r\n")
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
            let chunked = trim(last).eq_ignore_ascii_case(b"chunked");
            return Ok(if chunked { Body::chunked(false) } else { Body::until_close() });
        }
        Ok(self.content_length()?.map_or(Body::until_close(), Body::length))
    }

    /// Several equal lengths are one (RFC 9110, section 8.6).
    fn content_length(&self) -> Result<Option<u64>, Fault> {
        let mut length = None;
        for member in self.values("content-length").flat_map(|value| value.split(|byte| *byte == b',')) {
            let found = decimal(trim(member)).ok_or(Fault::Ambiguous("content-length is no number"))?;
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
            let is_chunked = |coding: &[u8]| trim(coding).eq_ignore_ascii_case(b"chunked");
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
            let blanks = text.iter().rev().take_while(|byte| is_blank(**byte)).count();
            (last.value_end, last.end) = (position(at + text.len() - blanks)?, position(end)?);
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
        let leading = value.iter().take_while(|byte| is_blank(**byte)).count();
        let trimmed = trim(value).len();
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

/// Without the blanks around it (RFC 9110, section 5.6.3). Other white space is no blank: what one reader strips, another
/// takes for a part of the value.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn slice(bytes: &[u8], start: u32, end: u32) -> &[u8] {
    bytes.get(start as usize..end as usize).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request_of(text: &str) -> Result<(String, String, Body), Fault> {
        let bytes = text.as_bytes();
        assert_eq!(end(bytes, 0), Some(bytes.len()), "{text:?}");
        let mut fields = Vec::new();
        let (line, head) = request(bytes, &mut fields)?;
        Ok((line.method.to_owned(), String::from_utf8_lossy(line.target).into_owned(), head.request_body()))
    }

    fn body_of(lines: &str) -> Result<Body, Fault> {
        request_of(&format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")).map(|(_, _, body)| body)
    }

    fn answer_of(text: &str, to_head: bool) -> Result<(u16, Body), Fault> {
        let mut fields = Vec::new();
        let (line, head) = answer(text.as_bytes(), &mut fields)?;
        Ok((line.status, head.answer_body(to_head, line.status)?))
    }

    #[test]
    fn a_head_ends_behind_its_empty_line_however_it_is_cut() {
        for text in ["GET / HTTP/1.1\r\nA: b\r\n\r\n", "GET / HTTP/1.0\n\n", "\r\n\r\nGET / HTTP/1.1\r\nA: b\n\r\n"] {
            let with_more = format!("{text}more");
            for cut in 0..with_more.len() {
                let found = end(&with_more.as_bytes()[..cut], 0);
                assert_eq!(found, (cut >= text.len()).then_some(text.len()), "{text:?} {cut}");
                // What has been looked at once is not looked at again, and nothing is missed.
                if found.is_none() {
                    assert_eq!(end(with_more.as_bytes(), cut), Some(text.len()), "{text:?} {cut}");
                }
            }
        }
        assert_eq!(end(b"\r\n\r\n", 0), None, "empty lines are no head");
    }

    #[test]
    fn a_request_line_is_taken_as_it_came() {
        let (method, target, _) = request_of("pOsT http://a/%3A?<x>#y HTTP/1.0\r\n\r\n").unwrap();
        assert_eq!((method.as_str(), target.as_str()), ("pOsT", "http://a/%3A?<x>#y"));
        for line in
            ["GET /", "GET / HTTP/2.0", "GET  / HTTP/1.1", "GET /a b HTTP/1.1", "G(T / HTTP/1.1", " GET / HTTP/1.1"]
        {
            assert_eq!(request_of(&format!("{line}\r\n\r\n")), Err(Fault::Unreadable), "{line}");
        }
    }

    #[test]
    fn the_length_of_a_request_is_what_everybody_would_read_or_it_is_refused() {
        let length = Body::length;
        let chunked = || Body::chunked(true);
        let table = [
            ("", Ok(length(0))),
            ("Content-Length: 5\r\n", Ok(length(5))),
            ("content-length:5\r\n", Ok(length(5))),
            ("Content-Length: 5, 5\r\nContent-Length: 5\r\n", Ok(length(5))),
            ("Transfer-Encoding: chunked\r\n", Ok(chunked())),
            ("Transfer-Encoding: gzip, Chunked\r\n", Ok(chunked())),
            ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", Ok(chunked())),
            ("X: a\r\n b\r\nContent-Length: 5\r\n", Ok(length(5))),
            ("X-Content-Length : 7\r\nContent-Length: 5\r\n", Ok(length(5))),
        ];
        for (lines, expected) in table {
            assert_eq!(body_of(lines), expected, "{lines:?}");
        }
        for lines in [
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: 5, 6\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: -5\r\n",
            "Content-Length: 0x5\r\n",
            "Content-Length: 5 5\r\n",
            "Content-Length:\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "Transfer-Encoding: gzip\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: chunked, gzip\r\n",
            "Transfer-Encoding: chunked, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding: \x0bchunked\r\n",
            "Transfer-Encoding: \x0cchunked\r\n",
            "Transfer-Encoding: chunked\x0c\r\n",
            "Content-Length: \x0c5\r\n",
            "Transfer-Encoding:\r\n chunked\r\n",
            "Transfer-Encoding : chunked\r\n",
            "Transfer-Encoding\t: chunked\r\n",
            "\x0bTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding\r\n",
            " Transfer-Encoding: chunked\r\n",
            "X: a\r\n Transfer-Encoding: chunked\r\n",
            "Content-Length: 5\r\n 6\r\n",
            "X: a\nContent-Length: 5\r\n",
            "X: a\rContent-Length: 5\r\n",
            "X: a\0\r\n",
        ] {
            assert!(matches!(body_of(lines), Err(Fault::Ambiguous(_))), "{lines:?}");
        }
        assert_eq!(body_of("no colon\r\n"), Err(Fault::Unreadable));
        let old = request_of("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert!(matches!(old, Err(Fault::Ambiguous(_))));
        let only_lf = request_of("POST / HTTP/1.0\nContent-Length: 5\n\n").unwrap();
        assert_eq!(only_lf.2, length(5));
    }

    #[test]
    fn a_head_ends_loosely_if_only_some_readers_would_see_its_end() {
        let cases = [
            ("GET / HTTP/1.1\r\nA: b\r\n\r\n", false),
            ("GET / HTTP/1.1\nA: b\r\n\r\n", false),
            ("GET / HTTP/1.1\nA: b\n\n", false),
            ("GET / HTTP/1.1\r\nA: b\n\r\n", true),
            ("GET / HTTP/1.0\r\n\n", true),
        ];
        for (text, loosely) in cases {
            let mut fields = Vec::new();
            let (_, head) = request(text.as_bytes(), &mut fields).unwrap();
            assert_eq!(head.ends_loosely(), loosely, "{text:?}");
        }
    }

    #[test]
    fn the_length_of_an_answer_depends_on_what_was_asked() {
        let answer = |line: &str, lines: &str, to_head| answer_of(&format!("HTTP/1.1 {line}\r\n{lines}\r\n"), to_head);
        let five = "Content-Length: 5\r\n";
        assert_eq!(answer("200 OK", five, false), Ok((200, Body::length(5))));
        assert_eq!(answer("200", five, false), Ok((200, Body::length(5))), "no reason");
        assert_eq!(answer("200 ", five, false), Ok((200, Body::length(5))));
        assert_eq!(answer("200 OK", five, true), Ok((200, Body::length(0))));
        assert_eq!(answer("304 Not Modified", five, false), Ok((304, Body::length(0))));
        assert_eq!(answer("204 No Content", "", false), Ok((204, Body::length(0))));
        assert_eq!(answer("103 Early Hints", "", false), Ok((103, Body::length(0))));
        assert_eq!(answer("200 OK", "", false), Ok((200, Body::until_close())));
        let both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n";
        assert_eq!(answer("599 \u{e9}", both, false), Ok((599, Body::chunked(false))));
        assert_eq!(answer("200 OK", "Transfer-Encoding: gzip\r\n", false), Ok((200, Body::until_close())));
        assert!(answer("200 OK", "Content-Length: 5\r\nContent-Length: 6\r\n", false).is_err());
        for line in ["20 OK", "2000 OK", "099 OK", "abc OK", "-20 OK", ""] {
            assert_eq!(answer(line, "", false), Err(Fault::Unreadable), "{line:?}");
        }
        assert_eq!(answer_of("ICY 200 OK\r\n\r\n", false), Err(Fault::Unreadable));
    }

    #[test]
    fn header_lines_are_found_by_name_in_any_case_and_in_order() {
        let text = "GET / HTTP/1.1\r\nx-a: 1\r\nX-A:\t 2 \r\nConnection: keep-alive, Upgrade\r\nEmpty:\r\n\r\n";
        let mut fields = Vec::new();
        let (_, head) = request(text.as_bytes(), &mut fields).unwrap();
        assert_eq!(head.values("x-a").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(head.value("empty"), Some(b"".as_slice()));
        assert_eq!(head.value("none"), None);
        assert!(head.has_token("connection", "upgrade") && !head.has_token("connection", "up"));
        assert_eq!(&text[head.line(&head.fields()[1])], "X-A:\t 2 \r\n");
        assert_eq!(&text[head.insertion()..], "\r\n");
    }

    #[test]
    fn thousands_of_header_lines_are_read() {
        let lines: String = (0..10_000).map(|n| format!("X-{n}: {n}\r\n")).collect();
        let text = format!("GET / HTTP/1.1\r\n{lines}\r\n");
        let mut fields = Vec::new();
        let (_, head) = request(text.as_bytes(), &mut fields).unwrap();
        assert_eq!(head.value("x-9999"), Some(b"9999".as_slice()));
    }
}
