//! The parts of a TLS ClientHello that are noted when TLS is passed through: server name and ALPN offer.
//!
//! Sources: RFC 8446, sections 4.1.2 and 5.1 (the message, its fragmentation over records); RFC 6066, section 3 (server
//! name); RFC 7301, section 3.1 (ALPN). Unknown extensions, GREASE and any size up to [`MAX`] are accepted.

/// What was noted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The host name the client asks for, lower case; `None` if it sent none, or one that is no DNS name.
    pub server_name: Option<String>,
    /// The protocols it offers, in its order; not UTF-8 and GREASE values left out.
    pub alpn: Vec<String>,
}

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

/// Reads a ClientHello from the first bytes of a connection.
pub fn read(bytes: &[u8]) -> Read {
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
        if handshake.len() >= needed && needed > 4 {
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
    body.take(2 + 32)?; // version, random
    body.vector(1)?; // session id
    body.vector(2)?; // cipher suites
    body.vector(1)?; // compression methods
    let mut hello = ClientHello::default();
    if body.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = Cursor(body.vector(2)?);
    while !extensions.0.is_empty() {
        let kind = number(extensions.take(2)?);
        let mut content = Cursor(extensions.vector(2)?);
        match kind {
            SERVER_NAME => {
                let mut names = Cursor(content.vector(2)?);
                while !names.0.is_empty() {
                    let kind = names.take(1)?;
                    let name = names.vector(2)?;
                    if kind == [HOST_NAME] && hello.server_name.is_none() {
                        hello.server_name = host_name(name);
                    }
                }
            }
            ALPN => {
                let mut protocols = Cursor(content.vector(2)?);
                while !protocols.0.is_empty() {
                    let protocol = protocols.vector(1)?;
                    if let Ok(protocol) = std::str::from_utf8(protocol)
                        && protocol.bytes().all(|byte| byte.is_ascii_graphic())
                        && hello.alpn.len() < MAX_ALPN
                    {
                        hello.alpn.push(protocol.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    Some(hello)
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

/// The largest ClientHello that is read. Real ones are below 2 KiB, about 4 KiB with post-quantum key shares.
pub const MAX: usize = 32 * 1024;
const MAX_RECORD: usize = 16 * 1024;
const MAX_ALPN: usize = 16;
const HANDSHAKE: u8 = 0x16;
const CLIENT_HELLO: u8 = 1;
const HOST_NAME: u8 = 0;
const SERVER_NAME: usize = 0;
const ALPN: usize = 16;

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

    fn full() -> Vec<u8> {
        let names = vector(2, &[&[HOST_NAME][..], &vector(2, b"API.example.com")].concat());
        let alpn = vector(2, &[vector(1, &[0x2a, 0x2a]), vector(1, b"h2"), vector(1, b"http/1.1")].concat());
        let share = vec![0xab; 1216];
        let parts = [
            extension(0x3a3a, &[]),
            extension(0, &names),
            extension(51, &vector(2, &share)),
            extension(16, &alpn),
            extension(0xfafa, &[0]),
        ];
        message(&parts.concat())
    }

    fn noted() -> ClientHello {
        ClientHello {
            server_name: Some("api.example.com".into()),
            alpn: vec!["**".into(), "h2".into(), "http/1.1".into()],
        }
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
        assert_eq!(read(&records(&message(&[]), 999)), Read::Complete(ClientHello::default()));
        let names = vector(2, &[&[HOST_NAME][..], &vector(2, b"no host\0")].concat());
        assert_eq!(read(&records(&message(&extension(0, &names)), 999)), Read::Complete(ClientHello::default()));
    }

    #[test]
    fn what_is_no_client_hello_is_not_waited_for() {
        for bytes in [
            &[HANDSHAKE, 2][..],
            &[HANDSHAKE, 3, 9],
            &[HANDSHAKE, 3, 1, 0, 0],
            &[HANDSHAKE, 3, 1, 0xff, 0xff],
            &[HANDSHAKE, 3, 1, 0, 10, 2],
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
