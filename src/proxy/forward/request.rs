//! What a request asks of the forward proxy: a tunnel, or to be sent on in origin form. Pure.

use std::net::Ipv6Addr;

use http::Version;

use super::answer::{Manner, Refusal};
use crate::http1::{Body, Field, Head, RequestLine, head};
use crate::proxy::http1::asks_for_upgrade;

/// A request that may be fulfilled.
#[derive(Debug, PartialEq)]
pub(super) struct Request {
    pub(super) to: Authority,
    pub(super) form: Form,
}

/// How it is sent on.
#[derive(Debug, PartialEq)]
pub(super) enum Form {
    /// CONNECT: what follows is a conversation of its own.
    Tunnel,
    /// As a request to its server.
    Plain(Plain),
}

/// A request to its server (RFC 9112, section 3.2.1), and what follows it.
#[derive(Debug, PartialEq)]
pub(super) struct Plain {
    pub(super) head: Vec<u8>,
    pub(super) body: Body,
    /// It asks for another protocol.
    pub(super) upgrades: bool,
}

/// Where a request is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Authority {
    /// A name or an address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

/// Reads a whole head. `credential` is what `Proxy-Authorization` has to say behind `Basic`.
pub(super) fn read(bytes: &[u8], credential: &[u8]) -> (Manner, Result<Request, Refusal>) {
    let mut fields = Vec::new();
    match head::request(bytes, &mut fields) {
        Ok((line, head)) => {
            let closes = head.has_token("connection", "close") || head.has_token("proxy-connection", "close");
            let keeps = line.version == Version::HTTP_11 && head.request_body().is_done() && !closes;
            let tunnels = line.method == "CONNECT";
            (Manner { to_head: line.method == "HEAD", keeps, tunnels }, request(&line, &head, credential))
        }
        Err(_) => (
            Manner { to_head: false, keeps: false, tunnels: false },
            Err(Refusal::Malformed("this is no HTTP/1 request")),
        ),
    }
}

fn request(line: &RequestLine<'_>, head: &Head<'_>, credential: &[u8]) -> Result<Request, Refusal> {
    let tunnels = line.method == "CONNECT";
    let (to, named, path) = if tunnels {
        let authority = std::str::from_utf8(line.target).ok().and_then(|target| authority(target, None));
        (authority.ok_or(Refusal::Malformed("CONNECT takes a host and a port"))?, line.target, &b""[..])
    } else {
        absolute(line.target)?
    };
    authenticate(head, credential)?;
    if !tunnels {
        let upgrades = asks_for_upgrade(line, head);
        let plain = Plain { head: origin_form(line, head, named, path)?, body: head.request_body(), upgrades };
        return Ok(Request { to, form: Form::Plain(plain) });
    }
    // Its meaning is not defined (RFC 9110, section 9.3.6).
    if !head.request_body().is_done() {
        return Err(Refusal::Malformed("CONNECT has no body"));
    }
    Ok(Request { to, form: Form::Tunnel })
}

/// The authority of a target in absolute form, as it is spelled too, and what stands behind it.
fn absolute(target: &[u8]) -> Result<(Authority, &[u8], &[u8]), Refusal> {
    let not_absolute = Refusal::Malformed("this is a proxy: a request names its destination (http://host/path)");
    let Some(scheme) = target.windows(3).position(|three| three == b"://") else { return Err(not_absolute) };
    let (name, rest) = (target.get(..scheme).unwrap_or_default(), target.get(scheme + 3..).unwrap_or_default());
    if name.is_empty() || !name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)) {
        return Err(not_absolute);
    }
    if !name.eq_ignore_ascii_case(b"http") {
        return Err(Refusal::Scheme);
    }
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (named, path) = rest.split_at_checked(end).unwrap_or((rest, b""));
    let to = std::str::from_utf8(named).ok().and_then(|named| authority(named, Some(80)));
    Ok((to.ok_or(Refusal::Malformed("the destination is no host with a port"))?, named, path))
}

/// Host and port; nothing else, user information least of all (RFC 9110, section 4.2.4).
fn authority(text: &str, default: Option<u16>) -> Option<Authority> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, if port.is_empty() { "" } else { port.strip_prefix(':')? })
        }
        None => {
            let (host, port) = text.split_once(':').unwrap_or((text, ""));
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            // No name is longer (RFC 1035, section 2.3.4), its final dot included.
            ((1..=254).contains(&host.len()) && host.bytes().all(is_name)).then_some((host, port))?
        }
    };
    let port = match port {
        "" => default?,
        digits if digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
        _ => return None,
    };
    (port != 0).then(|| Authority { host: host.to_owned(), port })
}

fn authenticate(head: &Head<'_>, credential: &[u8]) -> Result<(), Refusal> {
    let mut said = head.values(AUTHORIZATION);
    let Some(first) = said.next() else { return Err(Refusal::NoCredential) };
    let blank = first.iter().position(|byte| *byte == b' ').unwrap_or(first.len());
    let (scheme, rest) = first.split_at_checked(blank).unwrap_or_default();
    let same = aws_lc_rs::constant_time::verify_slices_are_equal(rest.trim_ascii(), credential).is_ok();
    let ours = scheme.eq_ignore_ascii_case(b"basic") && same && said.next().is_none();
    if ours { Ok(()) } else { Err(Refusal::WrongCredential) }
}

/// The head as its server is to see it: the target without scheme and authority, which is what Host says (RFC 9112, section
/// 3.2.2), and says once; the lines for a proxy left out, all else as it came.
fn origin_form(line: &RequestLine<'_>, head: &Head<'_>, named: &[u8], path: &[u8]) -> Result<Vec<u8>, Refusal> {
    let bytes = head.bytes();
    let first = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or_default();
    let mut done = first + line.method.len() + 1 + line.target.len();
    let mut plain = Vec::with_capacity(bytes.len());
    plain.extend_from_slice(line.method.as_bytes());
    plain.push(b' ');
    match path {
        [] if line.method == "OPTIONS" => plain.push(b'*'),
        [b'/', ..] => {}
        _ => plain.push(b'/'),
    }
    plain.extend_from_slice(path);
    let host = [b"Host: ", named, head.line_end()].concat();
    let mut says_host = head.value("host").is_some();
    if !says_host {
        let end = bytes.iter().skip(done).position(|byte| *byte == b'\n').map_or(bytes.len(), |at| done + at + 1);
        plain.extend_from_slice(bytes.get(done..end).unwrap_or_default());
        plain.extend_from_slice(&host);
        done = end;
    }
    for field in head.fields() {
        let place = head.line(field);
        let is_host = head.name(field).eq_ignore_ascii_case(HOST.as_bytes());
        let first = is_host && std::mem::take(&mut says_host);
        if first && head.value(HOST) == Some(named) {
            continue;
        }
        if is_for_us(head, field)? || is_host {
            plain.extend_from_slice(bytes.get(done..place.start).unwrap_or_default());
            plain.extend_from_slice(if first { &host } else { b"" });
            done = place.end;
        }
    }
    plain.extend_from_slice(bytes.get(done..).unwrap_or_default());
    Ok(plain)
}

/// Whether a line is a proxy's. One that only some would take for it is refused: it may hold the credential. So is another Host
/// that only some would see.
fn is_for_us(head: &Head<'_>, field: &Field) -> Result<bool, Refusal> {
    let name = head.name(field);
    let is = |ours: &str| name.eq_ignore_ascii_case(ours.as_bytes());
    if is(AUTHORIZATION) || is("proxy-connection") {
        return Ok(true);
    }
    // A folded line (RFC 9112, section 5.2) is one of its own to some.
    let lines = head.bytes().get(head.line(field)).unwrap_or_default().split(|byte| *byte == b'\n').skip(1);
    let folded = lines.filter_map(|line| Some(line.split_at_checked(line.iter().position(|byte| *byte == b':')?)?.0));
    for (name, folded) in std::iter::once((name, false)).chain(folded.map(|name| (name, true))) {
        if letters(name).eq(letters(AUTHORIZATION.as_bytes())) {
            return Err(Refusal::Malformed("a credential in disguise"));
        }
        let is_token = name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte));
        if (folded || !is_token) && letters(name).eq(letters(HOST.as_bytes())) {
            return Err(Refusal::Malformed("a host in disguise"));
        }
    }
    Ok(false)
}

fn letters(name: &[u8]) -> impl Iterator<Item = u8> {
    name.iter().filter(|byte| byte.is_ascii_alphabetic()).map(u8::to_ascii_lowercase)
}

const HOST: &str = "host";
const AUTHORIZATION: &str = "proxy-authorization";

#[cfg(test)]
mod tests {
    use super::*;

    /// user:0123456789abcdef
    const CREDENTIAL: &str = "dXNlcjowMTIzNDU2Nzg5YWJjZGVm";

    fn asked(text: &str) -> (Manner, Result<Request, Refusal>) {
        let text = text.replace("CREDENTIAL", &format!("Proxy-Authorization: Basic {CREDENTIAL}\r\n"));
        read(text.as_bytes(), CREDENTIAL.as_bytes())
    }

    fn label(text: &str) -> &'static str {
        asked(text).1.map_or_else(|refused| refused.label(), |_| "fulfilled")
    }

    fn plain(text: &str) -> (String, u16, String) {
        match asked(text).1.unwrap() {
            Request { to, form: Form::Plain(plain) } => (to.host, to.port, String::from_utf8(plain.head).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_tunnel_is_asked_for_by_host_and_port_alone() {
        for (target, host, port) in [
            ("api.openai.com:443", "api.openai.com", 443),
            ("a_b.example.:8443", "a_b.example.", 8443),
            ("10.0.0.1:80", "10.0.0.1", 80),
            ("[2001:db8::1]:443", "2001:db8::1", 443),
            ("[::ffff:169.254.169.254]:80", "::ffff:169.254.169.254", 80),
        ] {
            let (_, request) = asked(&format!("CONNECT {target} HTTP/1.1\r\nHost: x\r\nCREDENTIAL\r\n"));
            let to = Authority { host: host.to_owned(), port };
            assert_eq!(request.unwrap(), Request { to, form: Form::Tunnel }, "{target}");
        }
        let long = "a".repeat(255);
        for target in [
            "host",
            "host:",
            ":443",
            "host:0",
            "host:65536",
            "host:+80",
            "host:00080x",
            "me:secret@host:443",
            "[::1]",
            "[::1]443",
            "[fe80::1%25eth0]:80",
            "::1:80",
            "h\u{f6}st:80",
            "host/path:80",
            "http://host:80",
            "a b:80",
            &long,
        ] {
            assert_eq!(label(&format!("CONNECT {target} HTTP/1.1\r\nCREDENTIAL\r\n")), "malformed", "{target}");
        }
        assert_eq!(label("CONNECT a:443 HTTP/1.1\r\nCREDENTIALContent-Length: 1\r\n\r\n"), "malformed");
    }

    #[test]
    fn an_absolute_target_becomes_one_in_origin_form_and_the_other_lines_stay() {
        for (method, target, host, port, first) in [
            ("GET", "http://a.example/x?y=http://b", "a.example", 80, "GET /x?y=http://b HTTP/1.1"),
            ("GET", "HTTP://a.example:8080", "a.example", 8080, "GET / HTTP/1.1"),
            ("OPTIONS", "http://a.example", "a.example", 80, "OPTIONS * HTTP/1.1"),
            ("GET", "http://a.example?q", "a.example", 80, "GET /?q HTTP/1.1"),
            ("get", "http://[::1]:81/%3A//", "::1", 81, "get /%3A// HTTP/1.1"),
        ] {
            let authority = target[7..].split(['/', '?']).next().unwrap();
            let rest = format!("\r\nhOST:{authority}\r\nX-A:\t1 \r\nX-A: 2\r\n\r\n");
            let text = format!(
                "{method} {target} HTTP/1.1{}",
                rest.replacen("X-A", "CREDENTIALproxy-CONNECTION: a\r\nX-A", 1)
            );
            assert_eq!(plain(&text), (host.to_owned(), port, format!("{first}{rest}")), "{target}");
        }
        // Empty lines before it, bare line feeds, HTTP/1.0, folded lines.
        let text = format!("\r\n\nGET http://a/ HTTP/1.0\nProxy-Authorization:\n Basic {CREDENTIAL}\n\n");
        assert!(matches!(asked(&text).1, Ok(_) | Err(Refusal::WrongCredential)), "however it is folded, it is ours");
        let text = format!("\r\n\nGET http://a/ HTTP/1.0\nHost: a\nProxy-Authorization: Basic {CREDENTIAL}\n\n");
        assert_eq!(plain(&text).2, "GET / HTTP/1.0\nHost: a\n\n");
        for target in [
            "/path",
            "*",
            "a.example:80",
            "://a/",
            "/x?u=http://b/",
            "http://",
            "http://me:pw@a/",
            "http:///",
            "http://a#b",
        ] {
            assert_eq!(label(&format!("GET {target} HTTP/1.1\r\nCREDENTIAL\r\n")), "malformed", "{target}");
        }
        for target in ["https://a/", "ftp://a/", "ws://a/"] {
            let answer = asked(&format!("GET {target} HTTP/1.1\r\nCREDENTIAL\r\n")).1.unwrap_err();
            assert!(matches!(answer, Refusal::Scheme), "{target}");
        }
    }

    #[test]
    fn the_server_hears_one_host_and_that_is_the_destination() {
        for (target, came, goes) in [
            ("a.example", "Host: a.example\r\nB: c\r\n", "Host: a.example\r\nB: c\r\n"),
            ("a.example", "B: c\r\nhost: b.example\r\nD: e\r\n", "B: c\r\nHost: a.example\r\nD: e\r\n"),
            ("A.example:81", "host: a.example:81\r\n", "Host: A.example:81\r\n"),
            ("a.example", "Host: b\r\nB: c\r\nHost: a.example\r\n", "Host: a.example\r\nB: c\r\n"),
            ("a.example", "Host: a.example\r\nHost: b\r\nHOST: a.example\r\n", "Host: a.example\r\n"),
            ("a.example", "Host: a.example\r\n b\r\n", "Host: a.example\r\n"),
            ("a.example", "Host:\r\n", "Host: a.example\r\n"),
            ("a.example", "B: c\r\n", "Host: a.example\r\nB: c\r\n"),
            ("[::1]:81", "", "Host: [::1]:81\r\n"),
        ] {
            for version in ["1.0", "1.1"] {
                for text in [format!("{came}CREDENTIAL"), format!("CREDENTIAL{came}")] {
                    let text = format!("GET http://{target}/ HTTP/{version}\r\n{text}\r\n");
                    assert_eq!(plain(&text).2, format!("GET / HTTP/{version}\r\n{goes}\r\n"), "{text}");
                }
            }
        }
        for line in ["Host : b", "\x0bHost: b", "X: 1\r\n host: b", "X: 1\r\n\tb\r\n  Host : b"] {
            let text = format!("GET http://a/ HTTP/1.1\r\nHost: a\r\nCREDENTIAL{line}\r\n\r\n");
            assert_eq!(label(&text), "malformed", "{line:?}");
        }
    }

    #[test]
    fn who_has_not_the_credential_learns_nothing_of_destinations() {
        let with = |lines: &str| label(&format!("CONNECT 169.254.169.254:80 HTTP/1.1\r\n{lines}\r\n"));
        assert_eq!(with(""), "no_credential");
        assert_eq!(with("Authorization: Basic dXNlcjowMTIzNDU2Nzg5YWJjZGVm\r\n"), "no_credential");
        for value in [
            "",
            "Basic",
            "Basic ",
            "Basic dXNlcjo=",
            "Bearer dXNlcjowMTIzNDU2Nzg5YWJjZGVm",
            "dXNlcjowMTIzNDU2Nzg5YWJjZGVm",
        ] {
            assert_eq!(with(&format!("Proxy-Authorization: {value}\r\n")), "wrong_credential", "{value}");
        }
        assert_eq!(with("CREDENTIALproxy-authorization: Basic x\r\n"), "wrong_credential", "one of them is enough");
        assert_eq!(with(&format!("PROXY-AUTHORIZATION:   bASIC   {CREDENTIAL}  \r\n")), "fulfilled");
    }

    #[test]
    fn the_credential_goes_no_further_however_its_name_is_spelled() {
        for name in ["Proxy-Authorization ", "Proxy_Authorization", "\x0bproxy-authorization", "Proxy-Authorization\t"]
        {
            let text = format!("GET http://a/ HTTP/1.1\r\nCREDENTIAL{name}: Basic {CREDENTIAL}\r\n\r\n");
            assert_eq!(label(&text), "malformed", "{name:?}");
        }
        for folded in [" Proxy-Authorization", "\tproxy-authorization ", " a\r\n proxy_authorization"] {
            let text = format!("GET http://a/ HTTP/1.1\r\nCREDENTIALX: 1\r\n{folded}: Basic {CREDENTIAL}\r\n\r\n");
            assert_eq!(label(&text), "malformed", "{folded:?}");
        }
    }

    #[test]
    fn a_connection_is_kept_where_the_request_was_whole() {
        let keeps = |text: &str| asked(text).0.keeps;
        assert!(keeps("CONNECT a:443 HTTP/1.1\r\n\r\n") && keeps("GET http://a/ HTTP/1.1\r\n\r\n"));
        assert!(!keeps("POST http://a/ HTTP/1.1\r\nContent-Length: 1\r\n\r\n"));
        assert!(!keeps("POST http://a/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"));
        assert!(!keeps("GET http://a/ HTTP/1.0\r\n\r\n") && !keeps("nonsense\r\n\r\n"));
        assert!(!keeps("GET http://a/ HTTP/1.1\r\nConnection: close\r\n\r\n"));
    }
}
