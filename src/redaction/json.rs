//! JSON that may be cut, or be none: walked without recursion, treated value by value, written again only where something
//! changes.

use std::borrow::Cow;
use std::ops::Range;

use super::path::Place;
use super::{Hit, Redaction, SECRET, assignments, run};

/// What became of a text that should be JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json<'a> {
    /// Without what had to go.
    pub text: Cow<'a, str>,
    /// Whether it is one whole value of JSON.
    pub valid: bool,
}

pub(super) fn redact<'a>(redaction: &Redaction, text: &'a str, cut: bool) -> Json<'a> {
    nested(redaction, text, cut, 0)
}

/// `inside`: in how many strings of JSON this one stands.
fn nested<'a>(redaction: &Redaction, text: &'a str, cut: bool, inside: usize) -> Json<'a> {
    let mut walk = Walk {
        redaction,
        text,
        bytes: text.as_bytes(),
        at: 0,
        cut,
        inside,
        frames: Vec::new(),
        named: Vec::new(),
        treated: Vec::new(),
    };
    let found = walk.walk();
    let (named, mut treated) = (walk.named, walk.treated);
    match found {
        // A path names a value whole: nothing inside of it was looked at.
        Found::Whole | Found::Cut => {
            treated.extend(named);
            treated.sort_by_key(|hit| hit.range.start);
            Json { text: apply(text, &treated), valid: matches!(found, Found::Whole) }
        }
        Found::Broken => {
            let text = match apply(text, &named) {
                Cow::Borrowed(text) => redaction.redact(text, cut),
                Cow::Owned(text) => Cow::Owned(redaction.redact(&text, cut).into_owned()),
            };
            Json { text, valid: false }
        }
    }
}

/// A text as a string of JSON, quotes included.
pub(crate) fn quote(text: &str, out: &mut String) {
    out.push('"');
    escape(text, out);
    out.push('"');
}

fn escape(text: &str, out: &mut String) {
    let mut done = 0;
    for (at, byte) in text.bytes().enumerate().filter(|(_, byte)| *byte < b' ' || matches!(byte, b'"' | b'\\')) {
        out.push_str(text.get(done..at).unwrap_or_default());
        done = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            _ => out.push_str(&format!("\\u{byte:04x}")),
        }
    }
    out.push_str(text.get(done..).unwrap_or_default());
}

fn apply<'a>(text: &'a str, hits: &[Hit<'_>]) -> Cow<'a, str> {
    if hits.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for hit in hits {
        out.push_str(text.get(done..hit.range.start).unwrap_or_default());
        out.push_str(&hit.with);
        done = hit.range.end;
    }
    out.push_str(text.get(done..).unwrap_or_default());
    Cow::Owned(out)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    /// One value, and nothing behind it.
    Whole,
    /// The beginning of one.
    Cut,
    /// Something else.
    Broken,
}

/// An open list or object.
struct Frame {
    object: bool,
    /// Of a list: the next place.
    index: u64,
    /// How far each path has come here.
    come: Vec<u32>,
    /// Whether the values in it are secret: it stands under a secret's key.
    secret: bool,
    /// Of an object: its name is a secret's, and so its `value` is one.
    pair: bool,
    /// Of an object whose name is not known: its `value`, as a hit would replace it.
    value: Option<(Range<usize>, &'static str)>,
}

struct Walk<'a> {
    redaction: &'a Redaction,
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    cut: bool,
    inside: usize,
    frames: Vec<Frame>,
    /// What the paths name, and what is too deep to look at.
    named: Vec<Hit<'static>>,
    /// What was found in single strings and numbers.
    treated: Vec<Hit<'static>>,
}

/// Why a walk stops early.
struct Stop(Found);

impl Walk<'_> {
    fn walk(&mut self) -> Found {
        // The user's paths begin at the root, which a string's is not.
        let start = vec![u32::from(self.inside == 0); self.redaction.paths.len()];
        match self.value(start, false).and_then(|()| self.inside()) {
            Ok(()) => {
                self.blanks();
                if self.at == self.bytes.len() { Found::Whole } else { Found::Broken }
            }
            Err(Stop(found)) => found,
        }
    }

    /// Until everything that was opened is closed.
    fn inside(&mut self) -> Result<(), Stop> {
        // After an opening bracket a value or the end, after a value a comma or the end.
        let mut fresh = true;
        while let Some(frame) = self.frames.last() {
            let close = if frame.object { b'}' } else { b']' };
            match self.peek()? {
                byte if byte == close => {
                    self.at += 1;
                    self.frames.pop();
                    fresh = false;
                    continue;
                }
                b',' if !fresh => {
                    self.at += 1;
                    // A comma before the end is no JSON.
                    if self.peek()? == close {
                        return Err(Stop(Found::Broken));
                    }
                }
                _ if fresh => {}
                _ => return Err(Stop(Found::Broken)),
            }
            let depth = self.frames.len();
            self.member()?;
            fresh = self.frames.len() > depth;
        }
        Ok(())
    }

    /// A value in a list, or a key and its value.
    fn member(&mut self) -> Result<(), Stop> {
        let Some(frame) = self.frames.last_mut() else { return Ok(()) };
        let (mut secret, pair) = (frame.secret, frame.pair);
        let (key, index) = match frame.object {
            true => (Some(self.key()?), 0),
            false => {
                frame.index += 1;
                (None, frame.index - 1)
            }
        };
        let place = key.as_deref().map_or(Place::Index(index), Place::Key);
        let Some(frame) = self.frames.last() else { return Ok(()) };
        let (mut come, mut named) = (Vec::with_capacity(frame.come.len()), false);
        for (path, above) in self.redaction.paths.iter().zip(&frame.come) {
            let (next, there) = path.follow(*above, place);
            come.push(next);
            named |= there;
        }
        secret |= key.as_deref().is_some_and(assignments::names_a_secret);
        if named {
            self.peek()?;
            return self.whole("\"[REDACTED]\"");
        }
        let half = key.as_deref().and_then(Half::of);
        secret |= pair && half == Some(Half::Value);
        match half.filter(|_| !secret) {
            Some(half) => self.half(half, come),
            None => self.value(come, secret),
        }
    }

    /// A name or a value that may belong together, in either order: `{"name": "Authorization", "value": "…"}`.
    fn half(&mut self, half: Half, come: Vec<u32>) -> Result<(), Stop> {
        let quoted = self.peek()? == b'"';
        let from = self.at;
        if half == Half::Value {
            let depth = self.frames.len();
            let read = self.value(come, false);
            let (range, with) = match quoted {
                true => (from + 1..(self.at - usize::from(read.is_ok())).max(from + 1), SECRET),
                false => (from..self.at, "\"[REDACTED:secret]\""),
            };
            // Of one that was opened only the beginning is read.
            let whole = self.frames.len() == depth;
            if let Some(frame) = self.frames.last_mut().filter(|frame| whole && frame.value.is_none()) {
                frame.value = Some((range, with));
            }
            return read;
        }
        if !quoted {
            return self.value(come, false);
        }
        let name = self.treated_string(false)?;
        let Some(frame) = self.frames.last_mut().filter(|_| assignments::names_a_secret(&name)) else { return Ok(()) };
        frame.pair = true;
        if let Some((range, with)) = frame.value.take() {
            let said = self.text.get(range.clone()).unwrap_or_default();
            if !assignments::is_placeholder(said) {
                let first = self.treated.partition_point(|hit| hit.range.start < range.start);
                let last = self.treated.partition_point(|hit| hit.range.start < range.end);
                self.treated.splice(first..last, [Hit::new(range, with)]);
            }
        }
        Ok(())
    }

    /// Reads a key and its colon. One that has a secret in it is treated as any string.
    fn key(&mut self) -> Result<String, Stop> {
        if self.peek()? != b'"' {
            return Err(Stop(Found::Broken));
        }
        let key = self.treated_string(false)?;
        if self.peek()? != b':' {
            return Err(Stop(Found::Broken));
        }
        self.at += 1;
        Ok(key)
    }

    /// One value; of a list or an object only the opening.
    fn value(&mut self, come: Vec<u32>, secret: bool) -> Result<(), Stop> {
        match self.peek()? {
            b'{' | b'[' if self.frames.len() >= MAX_DEPTH => self.whole("\"[REDACTED:depth]\""),
            byte @ (b'{' | b'[') => {
                self.at += 1;
                let object = byte == b'{';
                self.frames.push(Frame { object, index: 0, come, secret, pair: false, value: None });
                Ok(())
            }
            b'"' => self.treated_string(secret).map(drop),
            _ => self.scalar(secret),
        }
    }

    /// A string, or its beginning.
    fn treated_string(&mut self, secret: bool) -> Result<String, Stop> {
        let from = self.at + 1;
        let read = self.string();
        match &read {
            Ok(said) => self.treat(from..self.at - 1, said, secret),
            Err(Stop(Found::Cut)) => {
                let (said, _) = unescape(self.text.get(from..).unwrap_or_default());
                self.at = self.bytes.len();
                self.treat(from..self.at, &said, secret);
            }
            Err(_) => {}
        }
        read
    }

    /// A string's range without its quotes: what it says, decoded.
    fn treat(&mut self, range: Range<usize>, said: &str, secret: bool) {
        let cut = self.cut && range.end == self.bytes.len();
        if secret && !assignments::is_placeholder(said) {
            self.treated.push(Hit::new(range, SECRET));
            return;
        }
        let json = self.inside < MAX_INSIDE && said.trim_start().starts_with(['{', '[']);
        let inner = if json { nested(self.redaction, said, cut, self.inside + 1).text } else { Cow::Borrowed(said) };
        let clean = match self.redaction.redact(&inner, cut) {
            Cow::Owned(clean) => Some(clean),
            Cow::Borrowed(_) => match inner {
                Cow::Owned(inner) => Some(inner),
                Cow::Borrowed(_) => None,
            },
        };
        if let Some(clean) = clean {
            let mut with = String::with_capacity(clean.len());
            escape(&clean, &mut with);
            self.treated.push(Hit { range, with: Cow::Owned(with) });
        }
    }

    /// A number, which may be a card's, or a word.
    fn scalar(&mut self, secret: bool) -> Result<(), Stop> {
        let from = self.at;
        self.at += run(self.bytes, from, |byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        let said = self.text.get(from..self.at).unwrap_or_default();
        let cut = self.at == self.bytes.len();
        let word = ["true", "false", "null"];
        if word.contains(&said) {
            return Ok(());
        }
        if !is_number(said) {
            let begun = !said.is_empty() && (word.iter().any(|word| word.starts_with(said)) || is_number_begun(said));
            return Err(Stop(if cut && begun { Found::Cut } else { Found::Broken }));
        }
        // A number alone goes on where the text is cut.
        let cut = cut && self.cut;
        if secret {
            self.treated.push(Hit::new(from..self.at, "\"[REDACTED:secret]\""));
        } else if let Some(digits) = digits(said)
            && let Cow::Owned(clean) = self.redaction.redact(&digits, cut)
        {
            let mut with = String::new();
            quote(&clean, &mut with);
            self.treated.push(Hit { range: from..self.at, with: Cow::Owned(with) });
        }
        Ok(())
    }

    /// A string with its quotes, decoded.
    fn string(&mut self) -> Result<String, Stop> {
        let from = self.at + 1;
        let mut at = from;
        loop {
            match self.bytes.get(at) {
                None => return Err(Stop(Found::Cut)),
                Some(b'"') => break,
                Some(b'\\') => at += 2,
                Some(byte) if *byte < b' ' => return Err(Stop(Found::Broken)),
                Some(_) => at += 1,
            }
        }
        let (said, sound) = unescape(self.text.get(from..at).unwrap_or_default());
        if !sound {
            return Err(Stop(Found::Broken));
        }
        self.at = at + 1;
        Ok(said)
    }

    /// One value that is not looked at: it goes, however deep it is, and whether it ends or not.
    fn whole(&mut self, with: &'static str) -> Result<(), Stop> {
        let from = self.at;
        let mut depth = 0_usize;
        let mut found = Ok(());
        loop {
            match self.bytes.get(self.at) {
                None => found = Err(Stop(Found::Cut)),
                Some(b'"') => match self.string() {
                    Ok(_) => {}
                    Err(stop) => {
                        // What comes behind a broken string cannot be told from it.
                        self.at = self.bytes.len();
                        found = Err(stop);
                    }
                },
                Some(b'{' | b'[') => (depth, self.at) = (depth + 1, self.at + 1),
                Some(b'}' | b']') if depth > 0 => (depth, self.at) = (depth - 1, self.at + 1),
                Some(b',' | b':') if depth > 0 => self.at += 1,
                Some(byte) if byte.is_ascii_whitespace() && depth > 0 => self.at += 1,
                Some(_) => {
                    let word = run(self.bytes, self.at, |byte| byte > b' ' && !b"{}[],:\"".contains(&byte));
                    self.at += word;
                    if word == 0 {
                        found = Err(Stop(Found::Broken));
                    }
                }
            }
            if depth == 0 || found.is_err() {
                break;
            }
        }
        self.named.push(Hit::new(from..self.at, with));
        found
    }

    fn blanks(&mut self) {
        self.at += run(self.bytes, self.at, |byte| b" \t\r\n".contains(&byte));
    }

    /// The next byte that is no blank. None: the text ends inside of a value.
    fn peek(&mut self) -> Result<u8, Stop> {
        self.blanks();
        self.bytes.get(self.at).copied().ok_or(Stop(Found::Cut))
    }
}

/// What a string says. An escape that is cut or lone says nothing that can be shown; one that does not exist is not sound.
fn unescape(raw: &str) -> (String, bool) {
    let mut said = String::with_capacity(raw.len());
    let mut sound = true;
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        said.push_str(rest.get(..at).unwrap_or_default());
        rest = rest.get(at + 1..).unwrap_or_default();
        let Some(escape) = rest.chars().next() else { return (said, false) };
        rest = rest.get(escape.len_utf8()..).unwrap_or_default();
        match escape {
            '"' | '\\' | '/' => said.push(escape),
            'b' => said.push('\u{8}'),
            'f' => said.push('\u{c}'),
            'n' => said.push('\n'),
            'r' => said.push('\r'),
            't' => said.push('\t'),
            'u' => {
                let Some(high) = unit(rest) else {
                    sound = false;
                    continue;
                };
                rest = rest.get(4..).unwrap_or_default();
                let low = rest.strip_prefix("\\u").and_then(unit).filter(|low| (0xdc00..0xe000).contains(low));
                match (high, low) {
                    (0xd800..0xdc00, Some(low)) => {
                        rest = rest.get(6..).unwrap_or_default();
                        let code = 0x10000 + ((u32::from(high) - 0xd800) << 10) + (u32::from(low) - 0xdc00);
                        said.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                    }
                    _ => said.push(char::from_u32(high.into()).unwrap_or(char::REPLACEMENT_CHARACTER)),
                }
            }
            _ => sound = false,
        }
    }
    said.push_str(rest);
    (said, sound)
}

fn unit(text: &str) -> Option<u16> {
    let digits = text.get(..4).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u16::from_str_radix(digits, 16).ok()
}

/// RFC 8259, section 6.
fn is_number(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|exponent| digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)))
}

/// A number without a fraction that matters, written plainly. A card's is small enough to be exact as a float.
fn digits(number: &str) -> Option<Cow<'_, str>> {
    if number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Cow::Borrowed(number));
    }
    let whole = number.split_once('.').filter(|(_, fraction)| fraction.bytes().all(|byte| byte == b'0'));
    if let Some((whole, _)) = whole {
        return Some(Cow::Borrowed(whole));
    }
    let value: f64 = number.parse().ok()?;
    ((1e12..9e15).contains(&value) && value.fract() == 0.0).then(|| format!("{value:.0}").into())
}

fn is_number_begun(text: &str) -> bool {
    is_number(&format!("{text}0"))
}

/// A member whose name says what it is to its sibling.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    Name,
    Value,
}

impl Half {
    fn of(key: &str) -> Option<Self> {
        let is = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(key));
        if is(&["name", "key", "header", "field"]) {
            Some(Half::Name)
        } else if is(&["value", "val", "values"]) {
            Some(Half::Value)
        } else {
            None
        }
    }
}

/// JSON in strings of JSON is read so deep; what is deeper is text.
const MAX_INSIDE: usize = 2;
/// Deeper values go whole.
const MAX_DEPTH: usize = 100;
