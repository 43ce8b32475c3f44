//! What a TLS ClientHello offers: so much of it that the same can be offered to upstream, and that the client is known again.
//!
//! Sources: RFC 8446, sections 4.1.2, 4.2 and 5.1 (the message, its extensions, its fragmentation over records); RFC 6066,
//! section 3 (server name); RFC 7301, section 3.1 (ALPN); RFC 8701 (GREASE). Unknown extensions, GREASE and any size
//! up to [`MAX`] are accepted.

use std::hash::{DefaultHasher, Hash, Hasher};

/// What it says. Lists are in the client's order and without GREASE values, and end where no real client's go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The host name the client asks for, lower case; `None` if it sent none, or one that is no DNS name.
    pub server_name: Option<String>,
    /// There was a server name that we cannot read: it is nobody's to answer for.
    pub strange_name: bool,
    /// The protocols it offers; not printable ASCII left out.
    pub alpn: Vec<String>,
    /// The versions it offers, `0x0303` for TLS 1.2.
    pub versions: Vec<u16>,
    /// `TLS_*` by their IANA numbers.
    pub cipher_suites: Vec<u16>,
    /// Named groups.
    pub groups: Vec<u16>,
    /// The groups that it sent a key share for: what upstream can choose without another round trip.
    pub key_shares: Vec<u16>,
    /// Signature schemes.
    pub signature_schemes: Vec<u16>,
    /// It has no room for records of the usual size.
    pub small_records: bool,
    /// The same for every connection of one client program, other ones mostly have another: what it offers, but nothing that
    /// changes from one connection to the next.
    pub fingerprint: u64,
}

impl ClientHello {
    /// Whether TLS 1.2 or 1.3 is offered.
    pub fn offers_version(&self, version: u16) -> bool {
        self.versions.contains(&version)
    }
}

/// TLS 1.2 as it is written on the wire.
pub const TLS_1_2: u16 = 0x0303;
/// TLS 1.3 as it is written on the wire.
pub const TLS_1_3: u16 = 0x0304;

/// The outcome of [`read`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// The whole message was there.
    Complete(ClientHello),
    /// So far so good: more bytes are needed.
    More,
    /// Not a ClientHello, or larger than [`MAX`].
    Not,
}

/// Reads a ClientHello from the first bytes of a connection. What it says of them stands when more follow, and it asks for
/// more only below [`MAX`] bytes.
pub fn read(bytes: &[u8]) -> Read {
    match read_records(bytes.get(..MAX).unwrap_or(bytes)) {
        Read::More if bytes.len() >= MAX => Read::Not,
        read => read,
    }
}

fn read_records(bytes: &[u8]) -> Read {
    let mut records = Cursor(bytes);
    let mut handshake = Vec::new();
    loop {
        let needed = match handshake.as_slice() {
            [CLIENT_HELLO, high, mid, low, ..] => 4 + number(&[*high, *mid, *low]),
            [CLIENT_HELLO, ..] | [] => 4,
            _ => return Read::Not,
        };
        if needed > MAX {
            return Read::Not;
        }
        if handshake.len() >= needed {
            let body = handshake.get(4..needed).unwrap_or_default();
            return parse(body).map_or(Read::Not, Read::Complete);
        }
        // The next record: type, version 3.x, length.
        let expected = [HANDSHAKE..=HANDSHAKE, 3..=3, 0..=4];
        if !records.0.iter().zip(expected).all(|(byte, range)| range.contains(byte)) {
            return Read::Not;
        }
        let Some(header) = records.take(5) else { return Read::More };
        let length = number(header.get(3..).unwrap_or_default());
        if length == 0 || length > MAX_RECORD {
            return Read::Not;
        }
        let available = records.0.len();
        handshake.extend_from_slice(records.0.get(..length.min(available)).unwrap_or_default());
        if records.take(length).is_none() {
            // The record is incomplete; what is there must still begin like a ClientHello.
            return if handshake.first().is_none_or(|kind| *kind == CLIENT_HELLO) { Read::More } else { Read::Not };
        }
    }
}

fn parse(body: &[u8]) -> Option<ClientHello> {
    let mut body = Cursor(body);
    let legacy = number(body.take(2)?);
    body.take(32)?; // random
    body.vector(1)?; // session id
    let mut hello = ClientHello { cipher_suites: numbers(body.vector(2)?)?, ..ClientHello::default() };
    body.vector(1)?; // compression methods
    let mut seen = Vec::new();
    if !body.0.is_empty() {
        let mut extensions = Cursor(body.vector(2)?);
        while !extensions.0.is_empty() {
            let kind = number(extensions.take(2)?);
            hello.extension(kind, Cursor(extensions.vector(2)?))?;
            if seen.len() < MAX_LIST && !is_grease(kind) && !CHANGING.contains(&kind) {
                seen.push(kind);
            }
        }
    }
    if hello.versions.is_empty() && legacy >= usize::from(TLS_1_2) {
        hello.versions.push(TLS_1_2);
    }
    // Some stacks shuffle their extensions.
    seen.sort_unstable();
    let mut hasher = DefaultHasher::new();
    let ClientHello { alpn, versions, cipher_suites, groups, signature_schemes, .. } = &hello;
    (seen, alpn, versions, cipher_suites, groups, signature_schemes).hash(&mut hasher);
    hello.fingerprint = hasher.finish();
    Some(hello)
}

impl ClientHello {
    fn extension(&mut self, kind: usize, mut content: Cursor<'_>) -> Option<()> {
        match kind {
            SERVER_NAME => {
                let mut names = Cursor(content.vector(2)?);
                while !names.0.is_empty() {
                    let kind = names.take(1)?;
                    let name = names.vector(2)?;
                    if kind == [HOST_NAME] && self.server_name.is_none() {
                        self.server_name = host_name(name);
                    }
                }
                self.strange_name = self.server_name.is_none();
            }
            ALPN => {
                let mut protocols = Cursor(content.vector(2)?);
                while !protocols.0.is_empty() {
                    let protocol = protocols.vector(1)?;
                    if let Ok(protocol) = std::str::from_utf8(protocol)
                        && protocol.bytes().all(|byte| byte.is_ascii_graphic())
                        && !(protocol.len() == 2 && is_grease(number(protocol.as_bytes())))
                        && self.alpn.len() < MAX_ALPN
                    {
                        self.alpn.push(protocol.to_owned());
                    }
                }
            }
            // RFC 6066, section 4; RFC 8449.
            MAX_FRAGMENT_LENGTH => self.small_records = true,
            RECORD_SIZE_LIMIT => self.small_records |= number(content.take(2)?) < 0x4000,
            SUPPORTED_VERSIONS => self.versions = numbers(content.vector(1)?)?,
            SUPPORTED_GROUPS => self.groups = numbers(content.vector(2)?)?,
            SIGNATURE_ALGORITHMS => self.signature_schemes = numbers(content.vector(2)?)?,
            KEY_SHARE => {
                let mut shares = Cursor(content.vector(2)?);
                while !shares.0.is_empty() {
                    let group = number(shares.take(2)?);
                    shares.vector(2)?;
                    if let Ok(known) = u16::try_from(group)
                        && !is_grease(group)
                        && self.key_shares.len() < MAX_ALPN
                    {
                        self.key_shares.push(known);
                    }
                }
            }
            _ => {}
        }
        Some(())
    }
}

/// Two bytes each, without GREASE.
fn numbers(bytes: &[u8]) -> Option<Vec<u16>> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let known = pairs.iter().map(|pair| u16::from_be_bytes(*pair)).filter(|number| !is_grease(usize::from(*number)));
    rest.is_empty().then(|| known.take(MAX_LIST).collect())
}

/// `0x?a?a`, both the same (RFC 8701, section 2).
fn is_grease(number: usize) -> bool {
    number & 0x0f0f == 0x0a0a && number >> 8 == number & 0xff
}

fn host_name(name: &[u8]) -> Option<String> {
    let fits = (1..=255).contains(&name.len())
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    fits.then(|| String::from_utf8_lossy(name).to_ascii_lowercase())
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A vector behind a length of `width` bytes.
    fn vector(&mut self, width: usize) -> Option<&'a [u8]> {
        let length = number(self.take(width)?);
        self.take(length)
    }
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

/// The largest ClientHello that is read, with the headers of its records: who cuts it into bytes makes six of each. Real ones are
/// about 2 KiB with post-quantum key shares.
pub const MAX: usize = 32 * 1024;
const MAX_RECORD: usize = 16 * 1024;
const MAX_ALPN: usize = 16;
/// Longer than any list of a real client's.
const MAX_LIST: usize = 200;
const HANDSHAKE: u8 = 0x16;
const CLIENT_HELLO: u8 = 1;
const HOST_NAME: u8 = 0;
const SERVER_NAME: usize = 0;
const MAX_FRAGMENT_LENGTH: usize = 1;
const SUPPORTED_GROUPS: usize = 10;
const SIGNATURE_ALGORITHMS: usize = 13;
const ALPN: usize = 16;
const RECORD_SIZE_LIMIT: usize = 28;
const SUPPORTED_VERSIONS: usize = 43;
const KEY_SHARE: usize = 51;
/// Padding, session ticket, pre-shared key, early data, cookie: what one client sends in one connection and not in the next.
const CHANGING: [usize; 5] = [21, 35, 41, 42, 44];

#[cfg(test)]
mod real;
#[cfg(test)]
mod tests {
    use super::*;

    fn vector(width: usize, content: &[u8]) -> Vec<u8> {
        let length = content.len().to_be_bytes();
        [&length[length.len() - width..], content].concat()
    }

    fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes(), vector(2, content).as_slice()].concat()
    }

    fn message(extensions: &[u8]) -> Vec<u8> {
        let body = [
            &[3, 3][..],
            &[7; 32],
            &vector(1, &[9; 32]),
            &vector(2, &[0x13, 1, 0x5a, 0x5a]),
            &vector(1, &[0]),
            &vector(2, extensions),
        ]
        .concat();
        [&[CLIENT_HELLO][..], &vector(3, &body)].concat()
    }

    fn records(message: &[u8], size: usize) -> Vec<u8> {
        message.chunks(size).flat_map(|part| [&[HANDSHAKE, 3, 1][..], &vector(2, part)].concat()).collect()
    }

    fn offer(changing: u8) -> Vec<u8> {
        let names = vector(2, &[&[HOST_NAME][..], &vector(2, b"API.example.com")].concat());
        let alpn = vector(2, &[vector(1, &[0x2a, 0x2a]), vector(1, b"h2"), vector(1, b"http/1.1")].concat());
        let shares = [&[0x1a, 0x1a][..], &vector(2, &[0]), &[0x11, 0xec], &vector(2, &[changing; 1216])].concat();
        let mut parts = [
            extension(0x3a3a, &[]),
            extension(0, &names),
            extension(51, &vector(2, &shares)),
            extension(16, &alpn),
            extension(43, &vector(1, &[0x4a, 0x4a, 3, 4, 3, 3])),
            extension(10, &vector(2, &[0x5a, 0x5a, 0x11, 0xec, 0, 0x1d])),
            extension(13, &vector(2, &[4, 3, 8, 4])),
            extension(0xfafa, &[0]),
        ];
        parts.rotate_left(usize::from(changing) % 3);
        let last = if changing.is_multiple_of(2) { Vec::new() } else { extension(41, &[changing; 50]) };
        message(&[parts.concat(), last].concat())
    }

    fn full() -> Vec<u8> {
        offer(0)
    }

    fn parsed(bytes: &[u8]) -> ClientHello {
        match read(bytes) {
            Read::Complete(hello) => hello,
            other => panic!("{other:?}"),
        }
    }

    fn noted() -> ClientHello {
        ClientHello {
            server_name: Some("api.example.com".into()),
            alpn: vec!["h2".into(), "http/1.1".into()],
            versions: vec![TLS_1_3, TLS_1_2],
            cipher_suites: vec![0x1301],
            groups: vec![0x11ec, 0x1d],
            key_shares: vec![0x11ec],
            signature_schemes: vec![0x0403, 0x0804],
            ..parsed(&records(&full(), 9999))
        }
    }

    #[test]
    fn a_client_is_known_again_by_what_it_offers_and_not_by_what_changes() {
        let fingerprints: Vec<_> = (0..6).map(|n| parsed(&records(&offer(n), 9999)).fingerprint).collect();
        assert!(fingerprints.iter().all(|other| *other == fingerprints[0]), "{fingerprints:?}");
        let other = message(&extension(13, &vector(2, &[4, 3, 8, 5])));
        assert_ne!(parsed(&records(&other, 999)).fingerprint, fingerprints[0]);
    }

    #[test]
    fn a_hello_without_versions_offers_tls_1_2_unless_it_is_older() {
        let mut old = message(&[]);
        assert_eq!(parsed(&records(&old, 999)).versions, [TLS_1_2]);
        old[5] = 1; // TLS 1.0
        assert!(parsed(&records(&old, 999)).versions.is_empty());
    }

    #[test]
    fn name_and_alpn_are_read_however_the_message_is_cut_into_records() {
        let message = full();
        for size in [1, 2, 3, 5, 100, 1000, 16_000] {
            let bytes = records(&message, size);
            assert_eq!(read(&bytes), Read::Complete(noted()), "records of {size}");
            assert_eq!(read(&[&bytes[..], b"early data"].concat()), Read::Complete(noted()));
        }
    }

    #[test]
    fn every_prefix_asks_for_more() {
        let bytes = records(&full(), 400);
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end]), Read::More, "{end}");
        }
    }

    #[test]
    fn a_hello_without_extensions_or_without_a_usable_name_has_none() {
        let bare = parsed(&records(&message(&[]), 999));
        assert_eq!((bare.server_name, bare.strange_name), (None, false));
        let names = vector(2, &[&[HOST_NAME][..], &vector(2, b"no host\0")].concat());
        let strange = parsed(&records(&message(&extension(0, &names)), 999));
        assert_eq!((strange.server_name, strange.strange_name), (None, true));
    }

    #[test]
    fn what_is_no_client_hello_is_not_waited_for() {
        for bytes in [
            &[HANDSHAKE, 2][..],
            &[HANDSHAKE, 3, 9],
            &[HANDSHAKE, 3, 1, 0, 0],
            &[HANDSHAKE, 3, 1, 0xff, 0xff],
            &[HANDSHAKE, 3, 1, 0, 10, 2],
            &[HANDSHAKE, 3, 1, 0, 4, CLIENT_HELLO, 0, 0, 0],
            &[HANDSHAKE, 3, 1, 0, 4, CLIENT_HELLO, 0xff, 0, 0],
            &[HANDSHAKE, 3, 1, 0, 6, CLIENT_HELLO, 0, 0, 2, 3, 3],
        ] {
            assert_eq!(read(bytes), Read::Not, "{bytes:?}");
        }
    }

    #[test]
    fn any_changed_byte_gives_an_answer_and_no_panic() {
        let bytes = records(&full(), 700);
        for at in 0..bytes.len() {
            for change in [0, 1, 0x7f, 0xff] {
                let mut bytes = bytes.clone();
                bytes[at] = change;
                let _ = read(&bytes);
            }
        }
    }
}
