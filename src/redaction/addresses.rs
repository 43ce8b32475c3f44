//! E-mail addresses, and what stands before the `@` of a URL.

use std::ops::Range;

use super::{CREDENTIALS, EMAIL, Hit};

/// Every `@` is looked at, from both sides: no two share a character.
pub(super) fn find(text: &str, cut: bool, hits: &mut Vec<Hit<'static>>) {
    let mut credentials: Vec<usize> =
        hits.iter().filter(|hit| hit.with == CREDENTIALS).map(|hit| hit.range.end).collect();
    credentials.sort_unstable();
    for at in memchr::memchr_iter(b'@', text.as_bytes()) {
        let (Some(before), Some(after)) = (text.get(..at), text.get(at + 1..)) else { continue };
        let local: usize = before.chars().rev().take_while(|c| is_local(*c)).map(char::len_utf8).sum();
        let name = before.get(at - local..).unwrap_or_default();
        let name = name.trim_start_matches(['.', '-', '\'', '/', '+', '%']);
        if name.is_empty() || matches!(name, "git" | "REDACTED") || credentials.binary_search(&at).is_ok() {
            continue;
        }
        let length: usize = after.chars().take_while(|c| is_domain(*c)).map(char::len_utf8).sum();
        let whole = after.get(..length).unwrap_or_default();
        let domain = whole.split_once("..").map_or(whole, |(domain, _)| domain).trim_end_matches(['.', '-', '_']);
        if is_host(domain) || (cut && length == after.len()) {
            let end = if cut && length == after.len() { length } else { domain.len() };
            hits.push(Hit::new(at - name.len()..at + 1 + end, EMAIL));
        }
    }
}

/// The user information of a URL whose authority begins here, if there is a password in it.
pub(super) fn credentials(text: &str, from: usize, cut: bool) -> Option<Range<usize>> {
    let rest = text.get(from..)?;
    let end = rest.find(|c: char| c.is_whitespace() || "/?#\"'`<>\\".contains(c)).unwrap_or(rest.len());
    let authority = rest.get(..end)?;
    match authority.rsplit_once('@') {
        Some((user, _)) => (user.contains(':') && user != "REDACTED:REDACTED").then(|| from..from + user.len()),
        // What follows a colon without being a port.
        None if cut && end == rest.len() => {
            let (_, password) = authority.split_once(':')?;
            let port = password.len() <= 5 && password.bytes().all(|byte| byte.is_ascii_digit());
            (!port).then(|| from..from + end)
        }
        None => None,
    }
}

/// A dot, and letters behind one: what is written right behind an address may look like more of it. `@2x.png` is a picture.
fn is_host(domain: &str) -> bool {
    let Some((first, rest)) = domain.split_once('.') else { return false };
    let picture = first.strip_suffix('x').is_some_and(|scale| scale.bytes().all(|byte| byte.is_ascii_digit()));
    let lettered = |label: &str| label.chars().take_while(|c| c.is_alphabetic()).count() >= 2;
    rest.split('.').any(lettered) && !first.is_empty() && !picture
}

/// Letters of scripts that write words without blanks are not taken for parts of an address: the sentence around it would go
/// with it.
fn is_letter(c: char) -> bool {
    c.is_ascii_alphanumeric() || (('\u{80}'..'\u{2e80}').contains(&c) && c.is_alphanumeric())
}

fn is_local(c: char) -> bool {
    is_letter(c) || "._%+'-!$*^~".contains(c)
}

fn is_domain(c: char) -> bool {
    is_letter(c) || matches!(c, '.' | '-' | '_')
}
