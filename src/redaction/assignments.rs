//! `password=…`, `"api_key": "…"`, `--token …`, `Cookie: …`: values whose names say that they are secret.

use std::ops::Range;

use super::{SECRET, is_dashed, run};

/// The value of the name around `start..end`, if that is a secret's, and up to where all names have been looked at.
pub(super) fn value(text: &str, start: usize, end: usize, cut: bool) -> (usize, Option<(Range<usize>, &'static str)>) {
    let bytes = text.as_bytes();
    let before = bytes.get(..start).unwrap_or_default();
    let from = start - before.iter().rev().take_while(|byte| is_dashed(**byte)).count();
    // A trigger may end with what stands behind the name.
    let end = start + run(bytes, start, is_dashed).min(end - start);
    let to = end + run(bytes, end, is_dashed);
    let name = text.get(from..to).unwrap_or_default();
    let spaced = name.eq_ignore_ascii_case("key")
        && text.get(from.saturating_sub(4)..from).is_some_and(|before| before.eq_ignore_ascii_case("api "));
    let asked = from.checked_sub(1).and_then(|at| bytes.get(at)).is_some_and(|byte| b"?&;".contains(byte));
    let signs = asked && bytes.get(to) == Some(&b'=') && is_signature(name);
    let Some(secrecy) = (if spaced || signs { Some(Secrecy::Value) } else { secrecy(name) }) else {
        return (to, None);
    };
    let Some(at) = behind_the_sign(bytes, to, name.starts_with("--")) else { return (to, None) };
    let said = text.get(at..).unwrap_or_default();
    if OPENINGS.iter().any(|opening| said.starts_with(opening)) {
        return (to, None);
    }
    let (from, to) = match bytes.get(at) {
        Some(quote @ (b'"' | b'\'' | b'`')) => quoted(bytes, at, *quote),
        Some(b'\\') if matches!(bytes.get(at + 1), Some(b'"' | b'\'')) => escaped(text, at),
        _ if secrecy == Secrecy::Line => (at, at + run(bytes, at, |byte| !b"\r\n\"'`\\".contains(&byte))),
        _ => (at, at + run(bytes, at, |byte| byte > b' ' && !b",;&\"'`<>(){}]\\".contains(&byte))),
    };
    let said = text.get(from..to).unwrap_or_default();
    let hidden = !is_placeholder(said) || (cut && to == bytes.len() && !said.is_empty());
    (to.max(end), hidden.then_some((from..to, SECRET)))
}

/// Whether a key's value is to be hidden, whatever it says.
pub(super) fn names_a_secret(name: &str) -> bool {
    secrecy(name).is_some()
}

/// Nothing, what is there already, what stands for a value, and types in code.
pub(super) fn is_placeholder(said: &str) -> bool {
    let said = said.trim();
    said.bytes().all(|byte| b"*.xX-_=".contains(&byte))
        || OPENINGS.iter().any(|opening| said.starts_with(opening))
        || PLACEHOLDERS.iter().any(|word| word.eq_ignore_ascii_case(said))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Secrecy {
    /// A word, or what is quoted.
    Value,
    /// All of the line: a header.
    Line,
}

/// Of a query, whose owner may do what it says: elsewhere a signature is nobody's secret.
fn is_signature(name: &str) -> bool {
    let name = name.as_bytes();
    let end = name.len().checked_sub(b"signature".len()).and_then(|at| name.get(at..));
    name.eq_ignore_ascii_case(b"sig") || end.is_some_and(|end| end.eq_ignore_ascii_case(b"signature"))
}

/// By the end of the name: `max_tokens`, `token_count` and `secretary` are none.
fn secrecy(name: &str) -> Option<Secrecy> {
    if name.len() > MAX_NAME {
        return None;
    }
    let mut plain: String = name.chars().filter(char::is_ascii_alphabetic).collect();
    plain.make_ascii_lowercase();
    let core = ENDINGS.iter().find_map(|ending| plain.strip_suffix(ending)).unwrap_or(&plain);
    if LINES.contains(&core) {
        return Some(Secrecy::Line);
    }
    let secret = NAMES.iter().any(|end| core.ends_with(end)) || core == "pass" || core.ends_with("dbpass");
    (secret && !HARMLESS.iter().any(|end| core.ends_with(end))).then_some(Secrecy::Value)
}

/// Behind the end of a quoted name, blanks, a sign and blanks. Options need no sign.
fn behind_the_sign(bytes: &[u8], mut at: usize, option: bool) -> Option<usize> {
    let blank = |byte| byte == b' ' || byte == b'\t';
    at += run(bytes, at, |byte| byte == b'\\').min(4);
    at += usize::from(matches!(bytes.get(at), Some(b'"' | b'\'' | b'`' | b']')));
    let blanks = run(bytes, at, blank);
    at += blanks;
    match (bytes.get(at), bytes.get(at + 1)) {
        (Some(b':'), Some(b'/')) => return None,
        (Some(b'='), Some(b'=')) => return None,
        (Some(b':' | b'='), Some(b'=' | b'>')) => at += 2,
        (Some(b':' | b'='), _) => at += 1,
        (Some(byte), _) if option && blanks > 0 && *byte != b'-' => return Some(at),
        _ => return None,
    }
    Some(at + run(bytes, at, blank))
}

/// To the same quote, or to the end of the line.
fn quoted(bytes: &[u8], at: usize, quote: u8) -> (usize, usize) {
    let from = at + 1;
    let mut to = from;
    while let Some(byte) = bytes.get(to) {
        match byte {
            b'\\' => to += 1,
            b'\n' => break,
            byte if *byte == quote => break,
            _ => {}
        }
        to += 1;
    }
    (from, to.min(bytes.len()))
}

/// Inside of a string: to the next quote, whose backslashes are not the value's.
fn escaped(text: &str, at: usize) -> (usize, usize) {
    let from = at + 2;
    let rest = text.get(from..).unwrap_or_default();
    let end = rest.find(['"', '\'', '\n']).unwrap_or(rest.len());
    let value = rest.get(..end).unwrap_or_default();
    (from, from + if end < rest.len() { value.trim_end_matches('\\').len() } else { end })
}

/// Of a name, its letters alone.
const NAMES: [&str; 25] = [
    "password",
    "passwd",
    "passwort",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "accesskeyid",
    "secretkey",
    "privatekey",
    "signingkey",
    "encryptionkey",
    "masterkey",
    "accountkey",
    "sharedkey",
    "authkey",
    "servicekey",
    "subscriptionkey",
    "credential",
    "credentials",
    "apisecretkey",
    "xamzsignature",
    "xgoogsignature",
];
const LINES: [&str; 4] = ["authorization", "proxyauthorization", "cookie", "setcookie"];
const ENDINGS: [&str; 4] = ["value", "hash", "confirmation", "base"];
const HARMLESS: [&str; 6] = ["pagetoken", "nexttoken", "continuationtoken", "synctoken", "stoptoken", "eostoken"];
/// What stands for a value that is elsewhere.
const OPENINGS: [&str; 4] = ["${", "$(", "{{", "[REDACTED"];
const PLACEHOLDERS: [&str; 11] =
    ["redacted", "true", "false", "null", "none", "nil", "undefined", "string", "str", "required", "optional"];
const MAX_NAME: usize = 128;
