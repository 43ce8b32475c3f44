#![allow(clippy::indexing_slicing, clippy::string_slice, reason = "a test that fails here says where")]

use base64::Engine as _;
use proptest::prelude::*;

use super::*;
use crate::genai::splits::{self, checksum, message, read};

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/genai/streams/", $name, ".bin")).as_slice()
    };
}

fn sse() -> Frames {
    Frames::Sse(Sse::default())
}

fn lines() -> Frames {
    Frames::Lines(Lines::default())
}

fn messages() -> Frames {
    Frames::EventStream(EventStream::default())
}

/// A provider, its stream and that one's framing, and the names of its events.
type Stream = (&'static str, &'static [u8], fn() -> Frames, Vec<&'static str>);

fn streams() -> Vec<Stream> {
    let plain = |events| vec![""; events];
    let responses = [
        "response.created",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.output_item.done",
        "response.completed",
    ];
    let anthropic = [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ];
    let converse =
        ["messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"];
    vec![
        ("chat", fixture!("chat"), sse, plain(7)),
        ("responses", fixture!("responses"), sse, responses.into()),
        ("anthropic", fixture!("anthropic"), sse, anthropic.into()),
        ("gemini", fixture!("gemini"), sse, plain(2)),
        ("converse", fixture!("converse"), messages, converse.into()),
        ("invoke", fixture!("invoke"), messages, vec!["chunk"]),
        ("cohere", fixture!("cohere"), sse, plain(5)),
        ("mistral", fixture!("mistral"), sse, plain(3)),
        ("ollama", fixture!("ollama"), lines, plain(2)),
    ]
}

#[test]
fn the_stream_of_every_provider_is_read_however_it_is_cut() {
    for (provider, bytes, fresh, names) in streams() {
        let whole = read(fresh(), [bytes]);
        let found: Vec<_> = whole.events.iter().map(|event| event.0.as_str()).collect();
        assert_eq!((found, whole.fault), (names, None), "{provider}");
        for (_, payload, kind) in &whole.events {
            let json = serde_json::from_slice::<serde_json::Value>(payload).is_ok_and(|value| value.is_object());
            assert!(json || payload == b"[DONE]", "{provider}: {}", String::from_utf8_lossy(payload));
            assert_eq!(*kind, Kind::Event);
        }
        for cut in 0..=bytes.len() {
            assert_eq!(read(fresh(), [&bytes[..cut], &bytes[cut..]]), whole, "{provider} cut at {cut}");
        }
        for size in 1..=16 {
            assert_eq!(read(fresh(), bytes.chunks(size)), whole, "{provider} in pieces of {size}");
        }
    }
}

#[test]
fn every_prefix_of_a_stream_has_the_events_that_it_has_whole() {
    for (provider, bytes, fresh, names) in streams() {
        let whole = read(fresh(), [bytes]);
        for end in 0..bytes.len() {
            let found = read(fresh(), [&bytes[..end]]);
            // The last one may be cut short: its JSON tells.
            let sure = found.events.len().saturating_sub(1);
            assert_eq!(found.events[..sure], whole.events[..sure], "{provider} up to {end}");
            assert!(found.events.len() <= names.len() && matches!(found.fault, None | Some(Fault::Truncated)));
        }
    }
}

/// The events as `name=data`.
fn said(frames: Frames, bytes: &[u8]) -> Vec<String> {
    let found = read(frames, [bytes]);
    assert_eq!((found.open, found.fault), (Vec::new(), None));
    let text = |data: &[u8]| String::from_utf8_lossy(data).into_owned();
    found.events.iter().map(|(name, data, _)| format!("{name}={}", text(data))).collect()
}

#[test]
fn sse_is_read_as_its_specification_has_it() {
    let table: &[(&str, &[&str])] = &[
        ("data: a\n\ndata: b\r\n\r\ndata: c\r\rdata: d\n\r", &["=a", "=b", "=c", "=d"]),
        ("data: a\ndata:b\ndata:  c\n\n", &["=a\nb\n c"]),
        ("\u{feff}data: a\n\n", &["=a"]),
        ("\u{feff}\u{feff}data: a\n\ndata: b\n\n", &["=b"]),
        ("\u{feff}\n\n: only a comment\n\n", &[]),
        (": ping\n\nid: 1\nretry: 10\n\nevent: nothing\n\ndata: a\n\n", &["=a"]),
        ("event: x\ndata: a\nid: 7\n\ndata: b\n\n", &["x=a", "=b"]),
        ("event: x\nevent: y\ndata: a\n\nevent: z\nevent\ndata: b\n\n", &["y=a", "=b"]),
        ("data: a\nevent:x\n\n", &["x=a"]),
        ("data\n\ndata\ndata\n\ndata:\n\ndata: \n\n", &["=", "=\n", "=", "="]),
        ("dat: a\ndatas: b\ndatum\nDATA: c\n data: d\neventually: e\nd\ne\n\ndata: f\n\n", &["=f"]),
        ("data: a: b:c\n\n", &["=a: b:c"]),
        ("data: a", &["=a"]),
        ("data: a\nevent: x\ndata: b", &["x=a\nb"]),
        ("data: a\r", &["=a"]),
        ("data: a\n\ndata", &["=a"]),
        ("data: ü\u{0}\n\n", &["=ü\u{0}"]),
        ("", &[]),
    ];
    for (stream, events) in table {
        assert_eq!(said(sse(), stream.as_bytes()), *events, "{stream:?}");
        for size in 1..stream.len() {
            let pieces = stream.as_bytes().chunks(size);
            assert_eq!(read(sse(), pieces), read(sse(), [stream.as_bytes()]), "{stream:?} in pieces of {size}");
        }
    }
    let long = format!("event: {}é{}\ndata: a\n\n", "x".repeat(63), "y".repeat(100_000));
    assert_eq!(
        said(sse(), long.as_bytes()),
        [format!("{}=a", "x".repeat(63))],
        "cut before the letter that is too much"
    );
    assert_eq!(said(sse(), b"event: a\xFFb\ndata: 1\n\n"), ["a=1"]);
}

#[test]
fn an_event_ends_with_its_line_and_not_with_what_follows() {
    for end in ["\n\n", "\r\r", "\r\n\r"] {
        let (mut frames, mut found) = (sse(), splits::Found::default());
        frames.feed(b"data: a", &mut found).unwrap();
        assert_eq!(found.open, b"a");
        frames.feed(end.as_bytes(), &mut found).unwrap();
        assert_eq!(found.events.len(), 1, "{end:?}");
        frames.feed(b"\ndata: b\n\n", &mut found).unwrap();
        assert_eq!(found.events.len(), 2, "{end:?}");
    }
}

#[test]
fn lines_that_are_not_blank_are_events() {
    let table: &[(&str, &[&str])] = &[
        ("{}\n[1]\r\n{\"a\": 1}", &["={}", "=[1]", "={\"a\": 1}"]),
        ("\n\r\n  \n\t{} \n\n", &["={} "]),
        (" ", &[]),
        ("", &[]),
    ];
    for (stream, events) in table {
        assert_eq!(said(lines(), stream.as_bytes()), *events, "{stream:?}");
        for size in 1..stream.len() {
            assert_eq!(read(lines(), stream.as_bytes().chunks(size)), read(lines(), [stream.as_bytes()]), "{stream:?}");
        }
    }
}

#[test]
fn one_document_is_one_event() {
    assert_eq!(said(Frames::Whole, b"{\n\n}"), ["={\n\n}"]);
    assert_eq!(said(Frames::Whole, b""), ["="]);
}

/// A message of an AWS service, as `semconv.md` 3.12 has it.
fn vector() -> Vec<u8> {
    let text = "AAAAegAAAFHKLEZlCzpldmVudC10eXBlBwALbWVzc2FnZVN0b3ANOmNvbnRlbnQtdHlwZQcAEGFwcGxpY2F0aW9uL2pzb24NOm1lc3NhZ2Ut\
                dHlwZQcABWV2ZW50eyJzdG9wUmVhc29uIjoidG9vbF91c2UifZ3LKYE=";
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

fn header(name: &str, kind: u8, value: &[u8]) -> Vec<u8> {
    [&[u8::try_from(name.len()).unwrap()], name.as_bytes(), &[kind], value].concat()
}

fn text(name: &str, value: &str) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    header(name, 7, &[&length, value.as_bytes()].concat())
}

#[test]
fn a_message_of_aws_is_read() {
    assert_eq!(said(messages(), &vector()), ["messageStop={\"stopReason\":\"tool_use\"}"]);
}

#[test]
fn a_bit_that_is_wrong_anywhere_in_a_message_is_seen() {
    let good = vector();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let found = read(messages(), [&bad[..]]);
        assert!(found.fault.is_some() && found.events.is_empty(), "bit {bit}: {found:?}");
        let among = read(messages(), [&good[..], &bad, &good]);
        assert_eq!((among.events.len(), among.fault), (1, found.fault), "bit {bit}");
    }
}

#[test]
fn headers_of_every_type_are_passed_over() {
    let headers: Vec<u8> = [
        header("true", 0, b""),
        header("false", 1, b""),
        header("byte", 2, b"1"),
        header("short", 3, b"12"),
        header("int", 4, b"1234"),
        header("long", 5, b"12345678"),
        header("bytes", 6, b"\0\x03abc"),
        header("none", 6, b"\0\0"),
        text("text", "abc"),
        header("time", 8, b"12345678"),
        header("uuid", 9, b"1234567890123456"),
        // Not of the type that it has to be, so not this header.
        header(":event-type", 6, b"\0\x01x"),
        text(":event-type", "chunk"),
        text(&"n".repeat(255), &"v".repeat(65_535)),
        text(":message-type", "event"),
    ]
    .concat();
    let stream = [message(&headers, b"{}"), message(b"", b""), message(b"", b"1")].concat();
    let whole = read(messages(), [&stream[..]]);
    let event = |name: &str, data: &[u8]| (name.to_owned(), data.to_vec(), Kind::Event);
    assert_eq!(whole.events, [event("chunk", b"{}"), event("", b""), event("", b"1")]);
    for size in [1, 2, 3, 5, 1000] {
        assert_eq!(read(messages(), stream.chunks(size)), whole);
    }
    let head = 600;
    for cut in 0..head {
        assert_eq!(read(messages(), [&stream[..cut], &stream[cut..]]), whole, "cut at {cut}");
    }
}

#[test]
fn exceptions_and_errors_have_their_own_names() {
    let table = [
        (["exception", ":exception-type", "throttlingException"], Kind::Exception, "throttlingException"),
        (["error", ":error-code", "InternalError"], Kind::Exception, "InternalError"),
        (["event", ":exception-type", "odd"], Kind::Event, "chunk"),
        (["", ":error-code", "odd"], Kind::Event, "chunk"),
    ];
    for ([kind, header, value], expected, name) in table {
        let parts = [text(":message-type", kind), text(header, value), text(":event-type", "chunk")];
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
            let found = read(messages(), [&message(&order.map(|at| parts[at].clone()).concat(), b"{}")[..]]);
            assert_eq!(found.events, [(name.to_owned(), b"{}".to_vec(), expected)], "{kind}");
        }
    }
}

/// A prelude with a right checksum.
fn prelude(total: u32, headers: u32) -> Vec<u8> {
    let lengths = [total.to_be_bytes(), headers.to_be_bytes()].concat();
    [&lengths[..], &checksum(&lengths)].concat()
}

#[test]
fn lengths_that_lie_are_faults() {
    let fault = |bytes: &[u8]| {
        let found = read(messages(), [bytes]);
        assert_eq!(read(messages(), bytes.chunks(1)), found);
        assert!(found.events.is_empty());
        found.fault
    };
    for (total, headers) in
        [(0, 0), (15, 0), (16, 1), (100, 85), (u32::MAX, 0), (u32::MAX, u32::MAX), (0, u32::MAX), (1 << 24, 131_073)]
    {
        assert_eq!(fault(&prelude(total, headers)), Some(Fault::BadLength), "{total} {headers}");
    }
    assert_eq!(fault(&prelude(16 + 24 * 1024 * 1024 + 1, 0)), Some(Fault::BadLength));
    assert_eq!(fault(&prelude(16 + 24 * 1024 * 1024 + 131_072, 131_072)), Some(Fault::Truncated));
    let bad = [
        header("", 0, b""),
        header("x", 10, b""),
        header("x", 255, b"1234"),
        header("x", 5, b"1234567"),
        header("x", 7, b"\0\x05abcd"),
        header("x", 7, b"\0"),
        b"\x05abc".to_vec(),
        b"\x01x".to_vec(),
    ];
    for headers in bad {
        assert_eq!(fault(&message(&headers, b"{}")), Some(Fault::BadHeader), "{headers:?}");
    }
    let whole = vector();
    for end in 1..whole.len() {
        assert_eq!(fault(&whole[..end]), Some(Fault::Truncated));
    }
}

#[test]
fn a_framing_remembers_little() {
    assert!(size_of::<Frames>() <= 128, "{}", size_of::<Frames>());
}

/// SSE by its specification, of a whole stream at once.
fn specified(stream: &str) -> Vec<String> {
    let stream = stream.strip_prefix('\u{feff}').unwrap_or(stream).replace("\r\n", "\n").replace('\r', "\n");
    let (mut events, mut data, mut name) = (Vec::new(), String::new(), String::new());
    for line in format!("{stream}\n\n").split('\n') {
        if line.is_empty() {
            if let Some(data) = data.strip_suffix('\n') {
                events.push(format!("{name}={data}"));
            }
            (data, name) = (String::new(), String::new());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        match (field, value.strip_prefix(' ').unwrap_or(value)) {
            ("data", value) => data = format!("{data}{value}\n"),
            ("event", value) => name = value.to_owned(),
            _ => {}
        }
    }
    events
}

proptest! {
    #[test]
    fn sse_of_any_parts_is_read_as_specified(parts in proptest::collection::vec(proptest::sample::select(
        &["data", "event", ":", " ", "\n", "\r", "x", "id", "\u{feff}", "data: y\n", "\n\n", "\r\n"][..]), 0..40)) {
        // A name without a colon says nothing at the end of a stream: it may go on.
        let stream = parts.concat() + "\n";
        prop_assert_eq!(said(sse(), stream.as_bytes()), specified(&stream));
    }

    #[test]
    fn any_bytes_are_read_alike_however_they_are_cut(data in proptest::collection::vec(any::<u8>(), 0..300)) {
        splits::frames(&data);
    }

    #[test]
    fn a_damaged_stream_is_read_alike_however_it_is_cut(
        which in 0..9_usize, size in any::<u8>(), damage in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..8)) {
        let (_, bytes, fresh, _) = streams().swap_remove(which);
        let framing = match fresh() { Frames::Sse(_) => 0, Frames::Lines(_) => 1, _ => 2 };
        let mut data = [&[framing, size], bytes].concat();
        for (at, byte) in damage {
            let at = 2 + at % bytes.len();
            data[at] = byte;
        }
        splits::frames(&data);
    }
}
