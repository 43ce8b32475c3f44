//! What must not leave the process is taken out of captured content: credentials, personal numbers and addresses that are
//! known by their shape, and what the user's rules name. Before anything is bounded, queued or written.
//!
//! The shapes are found by one pass of an automaton over the literals that they begin with, a look at every `@`, and a walk
//! over the digits; each is then read by a scanner of its own. All of it is linear in the text, and clean text costs little
//! more than the pass. Biases: rather a word too many behind `password=` than one too few; a digit run without separators is
//! no phone number, and a card's number has to have the length, the first digits and the check digit of a card, so that ids
//! and timestamps stay. What is secret only by its meaning ("the password is …", a name, a street) is not found.

mod addresses;
mod assignments;
mod json;
mod numbers;
mod path;
mod tokens;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use regex::{Regex, RegexBuilder};

pub use json::Json;
pub(crate) use json::quote;
pub use path::Path;

/// A rule of the user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redact {
    /// Whatever a regular expression matches.
    Pattern {
        /// The expression.
        pattern: Pattern,
        /// What stands in its place, as it is: `$1` means nothing.
        replace: String,
    },
    /// The value at a path of tools' arguments and results.
    Path(Path),
}

/// A regular expression in the `regex` crate's syntax: linear in the text, and bounded in size.
#[derive(Clone)]
pub struct Pattern(Regex);

impl Pattern {
    /// Why not, if it cannot be compiled within bounds.
    pub fn new(text: &str) -> Result<Self, String> {
        let compiled = RegexBuilder::new(text).size_limit(MAX_PROGRAM).dfa_size_limit(MAX_CACHE).nest_limit(64).build();
        let regex = compiled.map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => format!("needs more than {} KiB compiled", MAX_PROGRAM / 1024),
            // The first lines draw the expression once more.
            other => other.to_string().lines().last().unwrap_or_default().trim().to_owned(),
        })?;
        if regex.is_match("") {
            return Err("matches nothing at all, and so everywhere".to_owned());
        }
        Ok(Self(regex))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// What is taken out: what is built in, and the user's rules.
#[derive(Clone, Debug, Default)]
pub struct Redaction {
    patterns: Vec<(Pattern, String)>,
    paths: Vec<Path>,
}

impl Redaction {
    /// The most rules of the user's.
    pub const MAX_RULES: usize = 64;

    /// With the user's rules, of which those beyond [`Self::MAX_RULES`] are not looked at.
    pub fn new(rules: &[Redact]) -> Self {
        let mut redaction = Self::default();
        for rule in rules.iter().take(Self::MAX_RULES) {
            match rule {
                Redact::Pattern { pattern, replace } => redaction.patterns.push((pattern.clone(), replace.clone())),
                Redact::Path(path) => redaction.paths.push(path.clone()),
            }
        }
        redaction
    }

    /// A whole text. What was redacted already stays as it is, but for expressions of the user's that match their own
    /// replacement.
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.redact(text, false)
    }

    /// The beginning of a text whose end was not kept: what stands at its end may be the beginning of a secret, and is taken
    /// for one as soon as its prefix tells (`sk-a`, `+49 30 12`, `me@exam`). What a secret has before its prefix, such as
    /// the name before an `@`, cannot be told.
    pub fn beginning<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.redact(text, true)
    }

    /// A text that should be JSON: values at the user's paths are replaced by `"[REDACTED]"`, those under keys such as
    /// `password` by `"[REDACTED:secret]"`, other strings and numbers are treated as texts. What is no JSON is one text.
    /// `cut`: its end was not kept.
    pub fn json<'a>(&self, text: &'a str, cut: bool) -> Json<'a> {
        json::redact(self, text, cut)
    }

    fn redact<'a>(&self, text: &'a str, cut: bool) -> Cow<'a, str> {
        let mut hits = find(text, cut);
        for (pattern, replace) in &self.patterns {
            let found = pattern.0.find_iter(text).filter(|found| !found.is_empty());
            hits.extend(found.map(|found| Hit { range: found.range(), with: Cow::Borrowed(replace.as_str()) }));
        }
        let Some(mut clean) = replace(text, hits) else { return Cow::Borrowed(text) };
        // What was taken out may leave something behind that is a secret by its new neighbours. Every turn leaves fewer bytes
        // outside of marks, so it ends; more than two turns are hostile.
        for _ in 0..MAX_TURNS {
            match replace(&clean, find(&clean, cut)) {
                Some(cleaner) => clean = cleaner,
                None => break,
            }
        }
        Cow::Owned(clean)
    }
}

/// Something that has to go, and what stands in its place.
#[derive(Debug)]
struct Hit<'a> {
    range: Range<usize>,
    with: Cow<'a, str>,
}

impl Hit<'_> {
    fn new(range: Range<usize>, kind: &'static str) -> Self {
        Self { range, with: Cow::Borrowed(kind) }
    }
}

/// All that is built in.
fn find(text: &str, cut: bool) -> Vec<Hit<'static>> {
    let mut hits = Vec::new();
    tokens::find(text, cut, &mut hits);
    addresses::find(text, cut, &mut hits);
    numbers::find(text, cut, &mut hits);
    hits
}

/// `None` if nothing changes. Hits that overlap are one, with the replacement of the first; a mark that is there already stays,
/// unless it is part of something larger.
fn replace(text: &str, mut hits: Vec<Hit<'_>>) -> Option<String> {
    if hits.is_empty() {
        return None;
    }
    let marks = marks(text);
    hits.retain_mut(|hit| {
        let around = |at: usize| marks.iter().find(|mark| mark.start < at && at < mark.end);
        let (start, end) = (around(hit.range.start), around(hit.range.end));
        let inside = marks.iter().any(|mark| mark.start <= hit.range.start && hit.range.end <= mark.end);
        hit.range = start.map_or(hit.range.start, |mark| mark.start)..end.map_or(hit.range.end, |mark| mark.end);
        !inside
    });
    hits.sort_by_key(|hit| (hit.range.start, usize::MAX - hit.range.end));
    let mut clean = String::with_capacity(text.len());
    let mut done = 0;
    for hit in &hits {
        if hit.range.start >= done {
            clean.push_str(text.get(done..hit.range.start)?);
            clean.push_str(&hit.with);
        }
        done = done.max(hit.range.end);
    }
    clean.push_str(text.get(done..)?);
    (!hits.is_empty()).then_some(clean)
}

/// Where `[REDACTED]` and `[REDACTED:kind]` stand.
fn marks(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (start, opening) in text.match_indices("[REDACTED") {
        let rest = text.get(start + opening.len()..).unwrap_or_default();
        let kind = rest.strip_prefix(':').unwrap_or(rest);
        let name = kind.bytes().take_while(|byte| byte.is_ascii_lowercase() || *byte == b'_').count();
        if kind.as_bytes().get(name) == Some(&b']') {
            found.push(start..text.len() - kind.len() + name + 1);
        }
    }
    found
}

/// The bytes of a run from `at` on that are of a class.
fn run(bytes: &[u8], at: usize, class: impl Fn(u8) -> bool) -> usize {
    bytes.get(at..).unwrap_or_default().iter().take_while(|byte| class(**byte)).count()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_dashed(byte: u8) -> bool {
    is_word(byte) || byte == b'-'
}

const API_KEY: &str = "[REDACTED:api_key]";
const TOKEN: &str = "[REDACTED:token]";
const WEBHOOK: &str = "[REDACTED:webhook]";
const SECRET: &str = "[REDACTED:secret]";
const CREDENTIALS: &str = "[REDACTED:credentials]";
const PRIVATE_KEY: &str = "[REDACTED:private_key]";
const EMAIL: &str = "[REDACTED:email]";
const CARD: &str = "[REDACTED:card]";
const PHONE: &str = "[REDACTED:phone]";
/// Of an expression, compiled, and of what it remembers while it searches.
const MAX_PROGRAM: usize = 256 * 1024;
const MAX_CACHE: usize = 1024 * 1024;
const MAX_TURNS: usize = 16;

#[cfg(test)]
mod tests;
