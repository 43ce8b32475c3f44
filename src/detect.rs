//! What a connection speaks, from its first bytes. Pure: bytes in, verdict out.
//!
//! No timers: who has not said enough is waited for, and whoever speaks first otherwise decides. So the bias is towards
//! opaque: bytes are waited for only while they can still become HTTP or TLS in a way that a real client would write.

pub mod client_hello;

use client_hello::ClientHello;

use crate::http1::head;

/// What the client's first bytes say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// A request line of HTTP/1.
    Http1,
    /// The preface of HTTP/2 with prior knowledge (RFC 9113, section 3.4).
    Http2,
    /// A TLS ClientHello, read whole.
    Tls(ClientHello),
    /// Neither: why.
    Opaque(Reason),
}

/// Why a connection is passed through unread; the value of `sidetrace.passthrough.reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// TLS is not intercepted.
    Tls,
    /// It looked like TLS, but is no ClientHello that we understand.
    TlsNotUnderstood,
    /// Upstream spoke before the client.
    ServerFirst,
    /// The client's first bytes are not HTTP.
    NotHttp,
    /// One side closed before there was enough to tell.
    ClosedEarly,
    /// A first line longer than [`MAX_FIRST_LINE`].
    TooLong,
}

impl Reason {
    /// The attribute's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Tls => "tls",
            Reason::TlsNotUnderstood => "tls_not_understood",
            Reason::ServerFirst => "server_first",
            Reason::NotHttp => "not_http",
            Reason::ClosedEarly => "closed_early",
            Reason::TooLong => "too_long",
        }
    }
}

/// Reads the client's first bytes; `None` asks for more.
pub fn client(bytes: &[u8]) -> Option<Protocol> {
    match bytes {
        [] => None,
        [TLS_HANDSHAKE, ..] => match client_hello::read(bytes) {
            client_hello::Read::Complete(hello) => Some(Protocol::Tls(hello)),
            client_hello::Read::More => None,
            client_hello::Read::Not => Some(Protocol::Opaque(Reason::TlsNotUnderstood)),
        },
        _ if bytes.starts_with(PREFACE) => Some(Protocol::Http2),
        _ if PREFACE.starts_with(bytes) => None,
        _ => http1(bytes),
    }
}

/// Whether bytes that upstream sent before the client spoke leave the question open: servers of HTTP/2 send their
/// SETTINGS frame (RFC 9113, section 6.5) before they read. `None` asks for more.
pub fn upstream_is_settings(bytes: &[u8]) -> Option<bool> {
    // Length (three bytes, below 512), type, flags, stream.
    let expected = [0..=0, 0..=1, 0..=255, 4..=4, 0..=0, 0..=0, 0..=0, 0..=0, 0..=0];
    if !bytes.iter().zip(expected).all(|(byte, range)| range.contains(byte)) {
        return Some(false);
    }
    match bytes {
        [_, mid, low, _, _, _, _, _, _, ..] => Some((u16::from(*mid) * 256 + u16::from(*low)).is_multiple_of(6)),
        _ => None,
    }
}

/// `METHOD SP target SP HTTP/1.x`, RFC 9112, section 3; CRLFs before it as section 2.2 allows.
fn http1(bytes: &[u8]) -> Option<Protocol> {
    let mut line = bytes;
    while let [b'\r' | b'\n', rest @ ..] = line {
        line = rest;
    }
    // A client that says an empty line and nothing else waits for an answer to it: finger, gopher, whois.
    if line.is_empty() {
        return Some(Protocol::Opaque(Reason::NotHttp));
    }
    let whole = line.iter().position(|&byte| byte == b'\n').and_then(|end| line.get(..end));
    let method = line.split(|&byte| byte == b' ').next().unwrap_or_default();
    let complete_method = method.len() < line.len();
    match whole {
        Some(line) => {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let is_http = head::request_line(line).is_some();
            Some(if is_http { Protocol::Http1 } else { Protocol::Opaque(Reason::NotHttp) })
        }
        None if line.len() > MAX_FIRST_LINE => Some(Protocol::Opaque(Reason::TooLong)),
        // An unfinished line: wait only if it begins as a known method does, and goes on as a request line can.
        None => {
            let known = METHODS.iter().any(|known| {
                let known = known.as_bytes();
                if complete_method { known == method } else { known.starts_with(method) }
            });
            let plausible = line.iter().all(|&byte| matches!(byte, b' '..=b'~' | b'\r' | 0x80..));
            if known && plausible { None } else { Some(Protocol::Opaque(Reason::NotHttp)) }
        }
    }
}

/// A request line longer than this is not waited for.
pub const MAX_FIRST_LINE: usize = 64 * 1024;
const TLS_HANDSHAKE: u8 = 0x16;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The IANA HTTP method registry, and what is widely used beside it. Other methods are recognised too, when their first
/// line arrives in one piece.
const METHODS: [&str; 45] = [
    "GET",
    "POST",
    "PUT",
    "HEAD",
    "DELETE",
    "OPTIONS",
    "PATCH",
    "CONNECT",
    "TRACE",
    "QUERY",
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "COPY",
    "LABEL",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "ORDERPATCH",
    "PROPFIND",
    "PROPPATCH",
    "REBIND",
    "REPORT",
    "SEARCH",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
    "PURGE",
    "NOTIFY",
    "SUBSCRIBE",
    "UNSUBSCRIBE",
    "M-SEARCH",
    "SOURCE",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Detection over a growing prefix must not change its mind, and must wait for nothing once the input is whole.
    fn stream(bytes: &[u8]) -> (Option<Protocol>, usize) {
        for end in 0..=bytes.len() {
            if let Some(protocol) = client(&bytes[..end]) {
                return (Some(protocol), end);
            }
        }
        (None, bytes.len())
    }

    #[test]
    fn http1_is_known_by_its_first_line_at_every_split() {
        for text in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.0\n\n",
            "OPTIONS * HTTP/1.1\r\n\r\n",
            "CONNECT api.example:443 HTTP/1.1\r\n\r\n",
            "POST http://a/b%20c?d HTTP/1.1\r\n\r\n",
            "VERSION-CONTROL /x HTTP/1.1\r\n\r\n",
        ] {
            let (protocol, end) = stream(text.as_bytes());
            assert_eq!(protocol, Some(Protocol::Http1), "{text:?}");
            assert_eq!(text.as_bytes()[end - 1], b'\n', "decided at the end of the line: {text:?}");
        }
        assert_eq!(client(b"\r\nGET / HTTP/1.1\r\n\r\n"), Some(Protocol::Http1));
        assert_eq!(client(b"BREW /pot HTTP/1.1\r\n\r\n"), Some(Protocol::Http1), "any method, if the line is whole");
    }

    #[test]
    fn http2_is_known_by_its_whole_preface() {
        let (protocol, end) = stream(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
        assert_eq!((protocol, end), (Some(Protocol::Http2), 24));
        assert_eq!(client(b"PRI * HTTP/2.0\r\n\r\nXX"), Some(Protocol::Opaque(Reason::NotHttp)));
    }

    #[test]
    fn other_protocols_are_opaque_as_soon_as_they_can_be_told() {
        let table: [(&[u8], usize); 12] = [
            (b"*1\r\n$4\r\nPING\r\n", 1), // Redis
            (b"PING\r\n", 2),             // Redis, inline
            (b"ruok", 1),                 // ZooKeeper waits for the answer: no newline will come
            (b"stats\r\n", 1),            // memcached
            (b"get foo\r\n", 1),
            (b"SSH-2.0-OpenSSH_9.6\r\n", 2),
            (b"EHLO me\r\n", 1),
            (b"\0\0\0\x08\x04\xd2\x16\x2f", 1), // PostgreSQL SSLRequest
            (b"AMQP\0\0\x09\x01", 2),
            (b"\x10\x1a\0\x04MQTT", 1),
            (b"GET\0", 4),
            (b"MAIL FROM:<a@b>\r\n", 2),
        ];
        for (bytes, at) in table {
            assert_eq!(stream(bytes), (Some(Protocol::Opaque(Reason::NotHttp)), at), "{bytes:?}");
        }
        assert_eq!(client(b"GET foo\r\n"), Some(Protocol::Opaque(Reason::NotHttp)));
        assert_eq!(client(b"GET / HTTP/2.0\r\n"), Some(Protocol::Opaque(Reason::NotHttp)));
        assert_eq!(client(b" / HTTP/1.1\r\n"), Some(Protocol::Opaque(Reason::NotHttp)));
        assert_eq!(client(b"\r\n"), Some(Protocol::Opaque(Reason::NotHttp)), "finger, gopher");
        for target in ["/a<b>", "/a#b", "/a`b", "http://", "/\u{e9}"] {
            let line = format!("GET {target} HTTP/1.1\r\n");
            assert_eq!(client(line.as_bytes()), Some(Protocol::Http1), "{target}");
        }
        for target in ["/\u{7f}", "/a b", "/a\tb", ""] {
            let line = format!("GET {target} HTTP/1.1\r\n");
            assert_eq!(client(line.as_bytes()), Some(Protocol::Opaque(Reason::NotHttp)), "{target}");
        }
    }

    #[test]
    fn an_endless_line_is_not_waited_for() {
        let mut line = b"GET /".to_vec();
        line.resize(MAX_FIRST_LINE, b'a');
        assert_eq!(client(&line), None);
        line.extend(b"aaaaaaaa");
        assert_eq!(client(&line), Some(Protocol::Opaque(Reason::TooLong)));
    }

    #[test]
    fn early_settings_of_http2_decide_nothing_and_any_other_greeting_does() {
        let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x05\0\0\x40\0";
        for end in 0..9 {
            assert_eq!(upstream_is_settings(&settings[..end]), None, "{end}");
        }
        assert_eq!(upstream_is_settings(settings), Some(true));
        assert_eq!(upstream_is_settings(b"\0\0\0\x04\0\0\0\0\0"), Some(true), "empty SETTINGS");
        assert_eq!(upstream_is_settings(b"\0\0\x05\x04\0\0\0\0\0"), Some(false), "not a multiple of six");
        for greeting in [&b"220 smtp\r\n"[..], b"SSH-2.0", b"J\0\0\0\x0a8.0.36", b"\0\0\x06\x05", b"RFB 003"] {
            assert_eq!(upstream_is_settings(greeting), Some(false), "{greeting:?}");
        }
    }
}
