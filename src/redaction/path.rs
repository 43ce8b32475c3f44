//! Paths to values of JSON: `$.password`, `$..token`, `$.a[*].b`, `$['odd key'][0]`. Followed while the text is walked: what
//! is remembered of a place is a set of how far the path has come.

use std::fmt;

/// Keys, indices and `*` behind `$`; `..` means any depth.
#[derive(Clone, PartialEq, Eq)]
pub struct Path {
    text: String,
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    /// However deep.
    deep: bool,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Key(String),
    Index(u64),
    Any,
}

/// A place in a value: what it is called there.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    Key(&'a str),
    Index(u64),
}

impl Path {
    /// Why not, if it is none.
    pub fn new(text: &str) -> Result<Self, String> {
        let accepted = || "is not a path such as $.password, $..token, $.items[*].key or $['a key'][0]".to_owned();
        let mut rest = text.strip_prefix('$').ok_or_else(accepted)?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, behind) = step(rest).ok_or_else(accepted)?;
            steps.push(step);
            rest = behind;
        }
        match steps.len() {
            0 => Err(accepted()),
            1..=MAX_STEPS => Ok(Self { text: text.to_owned(), steps }),
            _ => Err(format!("has more than {MAX_STEPS} steps")),
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How far one has come at a place, from how far one had come above it: a bit for each step that may be next. The second
    /// says that the place is what the path names.
    pub(super) fn follow(&self, come: u32, place: Place<'_>) -> (u32, bool) {
        let (mut next, mut there) = (0, false);
        for (index, step) in self.steps.iter().enumerate().filter(|(index, _)| come & (1 << index) != 0) {
            if step.deep {
                next |= 1 << index;
            }
            let fits = match (&step.what, place) {
                (What::Any, _) => true,
                (What::Key(key), Place::Key(name)) => key == name,
                (What::Index(wanted), Place::Index(index)) => *wanted == index,
                _ => false,
            };
            if fits && index + 1 == self.steps.len() {
                there = true;
            } else if fits {
                next |= 1 << (index + 1);
            }
        }
        (next, there)
    }
}

/// The first step, and what is behind it.
fn step(text: &str) -> Option<(Step, &str)> {
    let (deep, rest) = match text.strip_prefix("..") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if let Some(inner) = rest.strip_prefix('[') {
        return bracket(inner).map(|(what, rest)| (Step { deep, what }, rest));
    }
    let rest = if deep { rest } else { rest.strip_prefix('.')? };
    let end = rest.find(['.', '[']).unwrap_or(rest.len());
    let (name, rest) = rest.split_at_checked(end)?;
    let plain = |c: char| c != '*' && c != ']' && c != '\'' && c != '"' && !c.is_whitespace() && !c.is_control();
    let what = match name {
        "*" => What::Any,
        name if !name.is_empty() && name.chars().all(plain) => What::Key(name.to_owned()),
        _ => return None,
    };
    Some((Step { deep, what }, rest))
}

/// `*]`, `0]`, `'a key']`.
fn bracket(inner: &str) -> Option<(What, &str)> {
    if let Some(rest) = inner.strip_prefix("*]") {
        return Some((What::Any, rest));
    }
    if let Some(quote) = inner.chars().next().filter(|c| matches!(c, '\'' | '"')) {
        let (key, rest) = inner.get(1..)?.split_once(quote)?;
        return Some((What::Key(key.to_owned()), rest.strip_prefix(']')?));
    }
    let (digits, rest) = inner.split_once(']')?;
    let number = digits.bytes().all(|byte| byte.is_ascii_digit());
    Some((What::Index(digits.parse().ok().filter(|_| number)?), rest))
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

/// One bit each.
const MAX_STEPS: usize = 32;
