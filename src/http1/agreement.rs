//! Another reader of HTTP/1 (httparse, which is strict) reads what ours accepts, and sees the same lines and the same length.

use proptest::prelude::*;

use super::{Body, head};

/// What another proxy or server would make of it, by the letter of RFC 9112, section 6.3. `None`: it refuses.
fn by_the_letter(bytes: &[u8]) -> Option<(usize, Body)> {
    let mut lines = vec![httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut lines);
    let httparse::Status::Complete(length) = request.parse(bytes).ok()? else { return None };
    let values = |name: &'static str| {
        let of_name = request.headers.iter().filter(move |line| line.name.eq_ignore_ascii_case(name));
        of_name.map(|line| std::str::from_utf8(line.value).ok()).collect::<Option<Vec<_>>>()
    };
    let (codings, lengths) = (values("transfer-encoding")?, values("content-length")?);
    if let Some(last) = codings.last() {
        let chunked = last.rsplit(',').next()?.trim_matches([' ', '\t']).eq_ignore_ascii_case("chunked");
        return (chunked && lengths.is_empty() && request.version == Some(1)).then(|| (length, Body::chunked(true)));
    }
    let mut members = lengths.iter().flat_map(|value| value.split(','));
    let Some(first) = members.next() else { return Some((length, Body::length(0))) };
    let number = |text: &str| -> Option<u64> {
        let digits = text.trim_matches([' ', '\t']);
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let first = number(first)?;
    members.all(|member| number(member) == Some(first)).then(|| (length, Body::length(first)))
}

/// Lines of which many are right, many nearly, and some anything.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        3 => Just("Content-Length"), 3 => Just("Transfer-Encoding"), 2 => Just("X"), 1 => Just("Transfer_Encoding"),
        1 => Just("Host"), 1 => Just("Content-Length "), 1 => Just(" Transfer-Encoding"), 1 => Just(""),
        1 => Just("\u{b}Content-Length"), 1 => Just("Transfer-Encoding\0")
    ];
    let colon = prop_oneof![8 => Just(":"), 4 => Just(": "), 1 => Just(" :"), 1 => Just(":\t "), 1 => Just(""), 1 => Just(":\u{c}")];
    let value = prop_oneof![
        3 => Just("5".to_owned()), 3 => Just("chunked".to_owned()), 1 => Just("5, 5".to_owned()), 1 => Just("+5".to_owned()),
        1 => Just("5,6".to_owned()), 1 => Just("gzip, chunked".to_owned()), 1 => Just("chunked\u{c}".to_owned()),
        1 => Just("CHUNKED".to_owned()), 1 => Just("0x5".to_owned()), 1 => Just("a\r\n b".to_owned()),
        1 => Just("chunked\r\n Content-Length: 3".to_owned()), 2 => "[ -~\t\r\u{b}\u{c}\0]{0,6}"
    ];
    let end =
        prop_oneof![12 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r\r\n"), 1 => Just("\n\r\n"), 1 => Just("\r")];
    (name, colon, value, end).prop_map(|(name, colon, value, end)| format!("{name}{colon}{value}{end}").into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_strict_reader_sees_the_length_that_ours_accepts(
        first in prop_oneof![
            6 => Just("POST / HTTP/1.1\r\n"), 1 => Just("POST / HTTP/1.0\r\n"), 1 => Just("\r\nGET /a HTTP/1.1\r\n"),
            1 => Just("POST / HTTP/1.1\n")
        ],
        lines in proptest::collection::vec(line(), 0..5),
        end in prop_oneof![8 => Just("\r\n"), 1 => Just("\n")],
        behind in "[ -~\r\n]{0,20}",
    ) {
        let bytes = [first.as_bytes(), &lines.concat(), end.as_bytes(), behind.as_bytes()].concat();
        let Some(length) = head::end(&bytes, 0) else { return Ok(()) };
        let mut fields = Vec::new();
        let Ok((_, found)) = head::request(&bytes[..length], &mut fields) else { return Ok(()) };
        // A reader that refuses cannot be led astray.
        if let Some((other, body)) = by_the_letter(&bytes) {
            prop_assert_eq!(other, length);
            prop_assert_eq!(body, found.request_body());
        }
    }
}
