//! Single values of the rules file. An error completes the sentence that begins with the value.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use http::HeaderName;

use crate::config::assembly::{ABSOLUTE, absolute_path};
use crate::config::rules::{Action, Cidr, ExternalContext, HostPattern, PathPattern, PortRange};
use crate::net::Direction;

/// What a value is not, with what is accepted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_not(accepted: &str) -> Refused {
    Refused(format!("is not {accepted}"))
}

pub(super) fn action(text: &str) -> Result<Action, Refused> {
    match text {
        "record" => Ok(Action::Record),
        "count" => Ok(Action::Count),
        "ignore" => Ok(Action::Ignore),
        _ => Err(is_not("record, count or ignore")),
    }
}

pub(super) fn context(text: &str) -> Result<ExternalContext, Refused> {
    match text {
        "continue" => Ok(ExternalContext::Continue),
        "link" => Ok(ExternalContext::Link),
        "ignore" => Ok(ExternalContext::Ignore),
        _ => Err(is_not("continue, link or ignore")),
    }
}

pub(super) fn direction(text: &str) -> Result<Direction, Refused> {
    match text {
        "outbound" => Ok(Direction::Outbound),
        "inbound" => Ok(Direction::Inbound),
        _ => Err(is_not("outbound or inbound; leave it out for both")),
    }
}

pub(super) fn boolean(text: &str) -> Result<bool, Refused> {
    match text {
        "true" | "True" | "TRUE" => Ok(true),
        "false" | "False" | "FALSE" => Ok(false),
        _ => Err(is_not("true or false")),
    }
}

pub(super) fn method(text: &str) -> Result<String, Refused> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    // A star would be read as a pattern.
    let fits = !text.is_empty() && text.len() <= 32 && text.bytes().all(token) && !text.contains('*');
    if fits { Ok(text.to_ascii_uppercase()) } else { Err(is_not("one method such as POST; leave it out for any")) }
}

pub(super) fn port(text: &str) -> Result<PortRange, Refused> {
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u16>().ok()).flatten();
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first != 0 && first <= last => Ok(PortRange { first, last }),
        _ => Err(is_not("a port from 1 to 65535, or a range such as 8000-8999")),
    }
}

pub(super) fn uid(text: &str) -> Result<u32, Refused> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // The last one means "no user" to the kernel.
    let number = digits.then(|| text.parse::<u32>().ok()).flatten().filter(|uid| *uid != u32::MAX);
    number.ok_or_else(|| is_not("a user id from 0 to 4294967294"))
}

/// Of a resource.
pub(super) fn attribute_name(text: &str) -> Result<(), Refused> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
    if text.is_empty() || text.len() > MAX_NAME || !text.bytes().all(plain) {
        return Err(is_not("an attribute's name, such as service.version"));
    }
    Ok(())
}

pub(super) fn attribute_value(text: &str) -> Result<String, Refused> {
    if text.is_empty() || text.len() > MAX_VALUE || text.contains(char::is_control) {
        return Err(is_not("a text of up to 256 bytes on one line"));
    }
    Ok(text.to_owned())
}

pub(super) fn path(text: &str) -> Result<PathPattern, Refused> {
    let (whole, prefix) = match text.strip_suffix('*') {
        Some(prefix) => (prefix, true),
        None => (text, false),
    };
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"*?#".contains(&byte);
    if !whole.starts_with('/') || whole.len() > MAX_PATH || !whole.bytes().all(plain) {
        return Err(is_not("a path without query that begins with /, such as /v1/traces, or /v1/* for what begins so"));
    }
    Ok(if prefix { PathPattern::Begins(whole.into()) } else { PathPattern::Is(whole.into()) })
}

pub(super) fn provider(text: &str) -> Result<String, Refused> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    let fits = (1..=64).contains(&text.len()) && text.bytes().all(plain);
    fits.then(|| text.to_owned()).ok_or_else(|| is_not("a provider's name in small letters, such as openai or x_ai"))
}

pub(super) fn model(text: &str) -> Result<String, Refused> {
    let name = text.strip_suffix('*').unwrap_or(text);
    let plain = |c: char| !c.is_control() && !c.is_whitespace() && c != '*';
    let fits = !text.is_empty() && text.len() <= MAX_NAME && name.chars().all(plain);
    fits.then(|| text.to_owned()).ok_or_else(|| is_not("a model's name, or what names begin with and one star"))
}

pub(super) fn tokens_price(text: &str) -> Result<f64, Refused> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let price = text.parse::<f64>().ok().filter(|price| plain && (0.0..=1e6).contains(price));
    price.ok_or_else(|| is_not("what a million tokens cost, from 0 to 1000000, such as 2.5"))
}

pub(super) fn file(text: &str) -> Result<PathBuf, Refused> {
    absolute_path(text).ok_or_else(|| is_not(ABSOLUTE))
}

pub(super) fn cidr(text: &str) -> Result<Cidr, Refused> {
    let refused = || is_not("a network such as 10.0.0.0/8 or fd00::/8, or one address");
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => {
            let digits = (1..=3).contains(&prefix.len()) && prefix.bytes().all(|byte| byte.is_ascii_digit());
            (address, Some(prefix.parse::<u8>().ok().filter(|_| digits).ok_or_else(refused)?))
        }
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| refused())?;
    let prefix = prefix.unwrap_or(if address.is_ipv4() { 32 } else { 128 });
    let cidr = Cidr::new(address, prefix).ok_or_else(refused)?;
    if cidr.network() != address.to_canonical() {
        return Err(Refused(format!("has bits behind its prefix; did you mean {cidr}?")));
    }
    Ok(cidr)
}

pub(super) fn host(text: &str) -> Result<HostPattern, Refused> {
    let refused = || {
        is_not(
            "a host name without scheme and port, \"*.name\" for the names below it, or \"*\" (international names in \
             their xn-- form)",
        )
    };
    let lower = text.to_ascii_lowercase();
    let name = lower.strip_suffix('.').unwrap_or(&lower);
    if name == "*" {
        return Ok(HostPattern::Any);
    }
    if let Some(suffix) = name.strip_prefix("*.") {
        return if is_name(suffix) { Ok(HostPattern::Below(format!(".{suffix}"))) } else { Err(refused()) };
    }
    let bracketed = name.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(name);
    match bracketed.parse::<Ipv6Addr>() {
        Ok(_) => Ok(HostPattern::Is(bracketed.to_owned())),
        Err(_) if is_name(name) => Ok(HostPattern::Is(name.to_owned())),
        Err(_) => Err(refused()),
    }
}

/// Labels as they are used, underscores included; an IPv4 address is one too.
fn is_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    name.len() <= 253 && name.split('.').all(|label| (1..=63).contains(&label.len()) && label.bytes().all(letter))
}

pub(super) fn header(text: &str) -> Result<HeaderName, Refused> {
    let name = text.parse::<HeaderName>().ok().filter(|_| text.len() <= MAX_NAME);
    let name = name.ok_or_else(|| is_not("a header's name, such as x-request-id"))?;
    if names_a_credential(name.as_str()) {
        return Err(Refused("carries credentials: it can never be captured".into()));
    }
    Ok(name)
}

pub(super) fn parameter(text: &str) -> Result<String, Refused> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"&=?#*".contains(&byte);
    if text.is_empty() || text.len() > MAX_NAME || !text.bytes().all(plain) {
        return Err(is_not("a query parameter's name as it stands in the URL, such as page"));
    }
    if names_a_credential(&text.to_ascii_lowercase()) {
        return Err(Refused("may carry a credential: its values never stay".into()));
    }
    Ok(text.to_owned())
}

/// By the name's words. Rather one name too many: what is refused costs an attribute, what is missed costs a key. Counters
/// such as `x-ratelimit-remaining-tokens` pass.
fn names_a_credential(name: &str) -> bool {
    let words = || name.split(['-', '_', '.', '[', ']', ':', '$']).filter(|word| !word.is_empty());
    let ends = words().any(|word| SECRET_ENDS.iter().any(|end| word.ends_with(end)));
    let is = words().any(|word| SECRET_WORDS.contains(&word));
    let key = words().next_back() == Some("key") && !HARMLESS_KEYS.contains(&name);
    ends || is || key || SECRET_NAMES.contains(&name)
}

const SECRET_ENDS: [&str; 12] = [
    "authorization",
    "cookie",
    "cookies",
    "token",
    "secret",
    "password",
    "passwd",
    "apikey",
    "accesskey",
    "credential",
    "credentials",
    "signature",
];
const SECRET_WORDS: [&str; 10] =
    ["auth", "cookie2", "jwt", "pwd", "sig", "assertion", "saml", "samlresponse", "otp", "pin"];
const SECRET_NAMES: [&str; 5] = ["x-amzn-oidc-data", "code", "sid", "sessionid", "mcp-session-id"];
const HARMLESS_KEYS: [&str; 5] =
    ["idempotency-key", "x-idempotency-key", "surrogate-key", "sec-websocket-key", "x-cache-key"];
const MAX_NAME: usize = 128;
const MAX_VALUE: usize = 256;
const MAX_PATH: usize = 1024;
