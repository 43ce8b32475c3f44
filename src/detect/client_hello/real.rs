//! What real TLS stacks say, from `tests/fixtures/client_hello`: read as Wireshark reads it, however it is cut; and what
//! hostile hands make of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::*;
use crate::detect::{Protocol, Reason, client};

/// The frame of SSL 2.0, which OpenSSL 1.0.2 used to offer all it had.
const SSL2: &str = "openssl-1.0.2-ssl2_frame";

#[test]
fn every_stack_is_read_as_wireshark_reads_it() {
    let mut table: BTreeMap<_, _> = wireshark().into_iter().collect();
    let (mut stacks, mut wrong) = (BTreeSet::new(), Vec::new());
    for (name, bytes) in hellos() {
        let mut theirs = table.remove(&name).unwrap_or_else(|| panic!("{name} is not in the table"));
        stacks.insert(name.split('-').next().unwrap().to_owned());
        let ours = complete(&bytes);
        // More than any client's own.
        theirs.alpn.truncate(MAX_ALPN);
        theirs.fingerprint = ours.fingerprint;
        if ours != theirs {
            wrong.push(format!("{name}\nwe        {ours:?}\nWireshark {theirs:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(table.into_keys().collect::<Vec<_>>(), [SSL2], "without a fixture");
    assert!(stacks.len() >= 10, "{stacks:?}");
}

#[test]
fn names_and_protocols_are_what_the_clients_were_told_to_ask_for() {
    let all = hellos();
    for (name, server_name, alpn) in [
        ("boringssl-chromium_", Some("api.example.com"), &["h2", "http/1.1"][..]),
        ("boringssl-grpc_", Some("api.example.com"), &["h2"]),
        ("go-rclone_1.75.2-no_h2", Some("api.example.com"), &[]),
        ("jsse-17.0.15-httpclient", Some("api.example.com"), &["h2", "http/1.1"]),
        ("openssl-1.0.2-ssl3", None, &[]),
        ("openssl-3.0.19-curl-http1_address", None, &["http/1.1"]),
        ("openssl-3.0.19-httpx_h2", Some("api.example.com"), &["http/1.1", "h2"]),
        ("openssl-3.0.19-no_name", None, &[]),
        ("openssl-3.0.19-upper_case", Some("api.example.com"), &[]),
        ("openssl-3.5.7-node24-http2", Some("api.example.com"), &["h2"]),
    ] {
        let found: Vec<_> = all.iter().filter(|(known, _)| known.starts_with(name)).collect();
        assert!(!found.is_empty(), "{name}");
        for (name, bytes) in found {
            let hello = complete(bytes);
            assert_eq!((hello.server_name.as_deref(), hello.strange_name), (server_name, false), "{name}");
            assert_eq!(hello.alpn, alpn, "{name}");
        }
    }
}

#[test]
fn whatever_the_two_pieces_the_first_asks_for_more_and_both_give_the_whole() {
    for (name, bytes) in hellos() {
        let whole = Some(Protocol::Tls(complete(&bytes)));
        let end = records_end(&bytes);
        for cut in 0..end {
            assert_eq!(client(&bytes[..cut]), None, "{name}, {cut} bytes");
        }
        for cut in [end, end + 1, bytes.len()] {
            assert_eq!(client(&bytes[..cut.min(bytes.len())]), whole, "{name}, {cut} bytes");
        }
    }
}

#[test]
fn whatever_the_size_of_the_records_the_same_is_read() {
    for (name, bytes) in hellos() {
        let (whole, message) = (complete(&bytes), message(&bytes));
        // Beyond 64 bytes some sizes stand for their neighbours.
        let sizes = (1..64).chain((64..message.len()).step_by(13)).chain([message.len()]);
        for size in sizes {
            assert_eq!(complete(&records(&message, size)), whole, "{name}, records of {size}");
        }
    }
}

#[test]
fn a_frame_of_ssl_2_is_opaque_from_its_first_byte() {
    let (_, bytes) = fixtures().into_iter().find(|(name, _)| name == SSL2).unwrap();
    for end in 1..bytes.len() {
        assert_eq!(client(&bytes[..end]), Some(Protocol::Opaque(Reason::NotHttp)), "{end}");
    }
}

#[test]
fn a_client_is_known_again_when_it_resumes_and_when_it_shuffles() {
    let all: BTreeMap<_, _> = hellos().into_iter().collect();
    let fingerprint = |name: &str| complete(&all[name]).fingerprint;
    let openssl = fingerprint("openssl-3.0.19-not_resumed");
    assert_eq!(fingerprint("openssl-3.0.19-resumed_1_3"), openssl);
    assert_eq!(fingerprint("openssl-3.0.19-early_data"), openssl);
    let chromium = "boringssl-chromium_156.0.8078.79";
    assert_eq!(fingerprint(chromium), fingerprint(&format!("{chromium}-again")));
    assert_ne!(all[chromium], all[&format!("{chromium}-again")]);
    assert_eq!(fingerprint("openssl-3.0.19-tls1_2"), fingerprint("openssl-3.0.19-resumed_1_2"));
    let apart = [chromium, "nss-firefox_153.7.0", "openssl-3.0.19-curl-h2", "go-rclone_1.75.2", "rustls-0.23.46-ring"];
    assert_eq!(apart.map(fingerprint).iter().collect::<BTreeSet<_>>().len(), apart.len());
}

#[test]
fn any_changed_byte_gives_an_answer_of_bounded_size() {
    for (name, bytes) in hellos() {
        // Ends and middles of what a byte can say: all for small hellos, one in turn for each byte of large ones.
        let changes = [0x01, 0x80, 0xff, 0x7f];
        for at in 0..bytes.len() {
            let some = if bytes.len() < 300 { &changes[..] } else { &changes[at % 4..][..1] };
            for change in some {
                let mut bytes = bytes.clone();
                bytes[at] ^= change;
                bounded(&read(&bytes), &format!("{name}, byte {at} ^ {change:#x}"));
            }
        }
    }
}

#[test]
fn a_message_that_says_it_ends_within_itself_is_decided_at_its_end() {
    for (name, bytes) in hellos() {
        let message = message(&bytes);
        for length in (0..message.len() - 4).step_by(1 + message.len() / 500) {
            let header = [CLIENT_HELLO, 0, (length >> 8) as u8, length as u8];
            let shorter = [&header, &message[4..4 + length]].concat();
            let read = read(&records(&shorter, 16 * 1024));
            assert_ne!(read, Read::More, "{name}, {length}");
            bounded(&read, &name);
        }
    }
}

#[test]
fn a_gibibyte_is_decided_within_the_first_bytes() {
    let piece = vec![CLIENT_HELLO; 16 * 1024];
    let longest = u32::try_from(MAX).unwrap() - 4;
    let begin = |length: u32| [&[CLIENT_HELLO][..], &length.to_be_bytes()[1..]].concat();
    for (what, first, size) in [
        ("the longest hello", begin(longest), piece.len()),
        ("the same in bytes", begin(longest), 1),
        ("a longer one", begin(longest + 1), piece.len()),
        ("the longest that can be said", begin(0xff_ffff), piece.len()),
        ("none", begin(0), piece.len()),
        ("none, in bytes", begin(0), 1),
        ("a header in bytes", begin(longest), 3),
    ] {
        let endless = std::iter::once(records(&first, 1)).chain(std::iter::repeat_with(|| records(&piece, size)));
        let mut bytes = Vec::new();
        for part in endless.take((1 << 30) / piece.len()) {
            bytes.extend(part);
            if read(&bytes) != Read::More {
                break;
            }
        }
        // The first end at which it was decided: never later than the limit.
        bytes.truncate(MAX);
        assert_ne!(read(&bytes), Read::More, "{what}");
        let decided = (0..bytes.len()).collect::<Vec<_>>().partition_point(|end| read(&bytes[..*end]) == Read::More);
        assert!(decided <= MAX, "{what}: {decided}");
        assert_ne!(read(&bytes[..decided]), Read::More, "{what}");
    }
    for empty in [[HANDSHAKE, 3, 1, 0, 0], [HANDSHAKE, 3, 3, 0, 0]] {
        let after = records(&[CLIENT_HELLO], 1);
        assert_eq!(read(&[&after[..], &empty].concat()), Read::Not, "records without content");
    }
}

fn fixtures() -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "bin") {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            found.push((name, std::fs::read(path).unwrap()));
        }
    }
    found.sort();
    found
}

/// Those that are TLS.
fn hellos() -> Vec<(String, Vec<u8>)> {
    let found: Vec<_> = fixtures().into_iter().filter(|(name, _)| name != SSL2).collect();
    assert!(found.len() >= 50, "{} fixtures", found.len());
    found
}

fn wireshark() -> Vec<(String, ClientHello)> {
    let text = std::fs::read_to_string(folder().join("wireshark.tsv")).unwrap();
    let rows = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let columns: Vec<_> = line.split('\t').collect();
        let numbers =
            |at: usize| columns[at].split_whitespace().map(|n| u16::from_str_radix(n, 16).unwrap()).collect::<Vec<_>>();
        let hello = ClientHello {
            server_name: Some(columns[1].to_lowercase()).filter(|name| !name.is_empty()),
            alpn: columns[2].split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            versions: numbers(3),
            cipher_suites: numbers(4),
            groups: numbers(5),
            key_shares: numbers(6),
            signature_schemes: numbers(7),
            ..ClientHello::default()
        };
        (columns[0].trim_end_matches(".bin").to_owned(), hello)
    });
    rows.collect()
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/client_hello")
}

fn complete(bytes: &[u8]) -> ClientHello {
    match read(bytes) {
        Read::Complete(hello) => hello,
        other => panic!("{other:?}"),
    }
}

fn bounded(read: &Read, what: &str) {
    if let Read::Complete(hello) = read {
        assert!(hello.server_name.as_ref().is_none_or(|name| name.len() <= 255), "{what}");
        assert!(hello.alpn.len() <= MAX_ALPN && hello.key_shares.len() <= MAX_ALPN, "{what}");
        for list in [&hello.versions, &hello.cipher_suites, &hello.groups, &hello.signature_schemes] {
            assert!(list.len() <= MAX_LIST, "{what}");
        }
    }
}

/// The handshake message, without its records' headers and what comes behind.
fn message(bytes: &[u8]) -> Vec<u8> {
    let (mut message, mut at) = (Vec::new(), 0);
    while at < records_end(bytes) {
        let end = at + 5 + number(&bytes[at + 3..at + 5]);
        message.extend(&bytes[at + 5..end]);
        at = end;
    }
    message
}

/// Where the last record ends that belongs to the hello.
fn records_end(bytes: &[u8]) -> usize {
    let needed = 4 + number(&bytes[6..9]);
    let (mut at, mut have) = (0, 0);
    while have < needed {
        have += number(&bytes[at + 3..at + 5]);
        at += 5 + number(&bytes[at + 3..at + 5]);
    }
    assert_eq!(have, needed, "nothing shares the hello's last record");
    at
}

fn records(message: &[u8], size: usize) -> Vec<u8> {
    let record = |part: &[u8]| [&[HANDSHAKE, 3, 1][..], &(part.len() as u16).to_be_bytes(), part].concat();
    message.chunks(size).flat_map(record).collect()
}
