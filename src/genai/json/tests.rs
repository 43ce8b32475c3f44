//! Whatever is kept is what the document says, however it is cut; whatever is hostile costs little and ends.

use proptest::prelude::*;
use serde_json::Value;

use super::reader::{Fault, MAX_FIELDS, MAX_HELD};
use super::*;
use crate::genai::item::{Key, Text};

/// What is kept of a document that comes in these pieces, and what was handed out.
fn read<'a>(shape: &'static Shape, pieces: impl Iterator<Item = &'a [u8]>) -> (Result<Node, Fault>, Vec<Node>, bool) {
    let (mut reader, mut out) = (Reader::new(shape, 1 << 20, Key::random()), Vec::new());
    let mut each = |_: &'static str, node| out.push(node);
    for piece in pieces {
        if reader.feed(piece, &mut each).is_err() {
            return (Err(Fault::Malformed), out, reader.is_incomplete());
        }
    }
    let end = reader.end(&mut each);
    (end, out, reader.is_incomplete())
}

fn whole(shape: &'static Shape, text: &[u8]) -> (Result<Node, Fault>, Vec<Node>, bool) {
    read(shape, [text].into_iter())
}

fn written(node: &Node) -> String {
    let mut text = Text::new(usize::MAX, &Key::random());
    node.write(&mut text);
    text.kept().to_owned()
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(|number| (f64::from(number) + 0.5).into()),
        any::<String>().prop_map(Value::from),
        "[\\x00-\\x20\"\\\\é€😀]{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_kept_is_what_another_reader_finds(value in value(), pretty in any::<bool>(), cut in any::<usize>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let (node, _, incomplete) = whole(&ANY, text.as_bytes());
        let node = node.unwrap();
        prop_assert!(!incomplete);
        prop_assert_eq!(&serde_json::from_str::<Value>(&written(&node)).unwrap(), &value);
        let cut = cut % (text.len() + 1);
        let (one, other) = text.as_bytes().split_at(cut);
        prop_assert_eq!(written(&read(&ANY, [one, other].into_iter()).0.unwrap()), written(&node));
        prop_assert_eq!(written(&read(&ANY, text.as_bytes().chunks(1)).0.unwrap()), written(&node));
    }

    #[test]
    fn bytes_of_any_kind_are_read_alike_however_they_are_cut(
        bytes in proptest::collection::vec(prop_oneof![
            proptest::sample::select(b"{}[]\",:\\u0d8t-1e ".to_vec()), any::<u8>()], 0..200),
        cut in any::<usize>(),
    ) {
        let cut = cut % (bytes.len() + 1);
        let (one, other) = bytes.split_at(cut);
        for shape in [&ANY, &SCALAR] {
            let (node, _, _) = whole(shape, &bytes);
            let (again, _, _) = read(shape, [one, other].into_iter());
            prop_assert_eq!(format!("{:?}", node.as_ref().map(written)), format!("{:?}", again.as_ref().map(written)));
        }
    }

    #[test]
    fn a_long_string_is_what_another_reader_finds_however_it_is_cut(
        parts in proptest::collection::vec(prop_oneof![
            proptest::sample::select(LONG_STRINGS.to_vec()).prop_map(str::to_owned), "[ -!#-\\[\\]-~]{0,90}"], 0..300),
        size in 1_usize..5000,
    ) {
        let text = format!("\"{}\"", parts.concat());
        let expected: String = serde_json::from_str(&text).unwrap();
        for size in [size, text.len()] {
            let node = read(&CONTENT, text.as_bytes().chunks(size)).0.unwrap();
            prop_assert_eq!(node.as_str(), Some(&*expected));
        }
    }

    #[test]
    fn bytes_that_are_no_characters_are_replaced_however_they_are_cut(
        bytes in proptest::collection::vec(prop_oneof![b' '..=b'!', b'a'..=255, 0xe0..=255_u8], 0..9000),
        size in 1_usize..5000,
    ) {
        let text = [b"\"".as_slice(), &bytes, b"\""].concat();
        for size in [size, text.len()] {
            let node = read(&CONTENT, text.chunks(size)).0.unwrap();
            prop_assert_eq!(node.as_str(), Some(&*String::from_utf8_lossy(&bytes)));
        }
    }
}

/// What long strings are made of, beside what needs no escape.
const LONG_STRINGS: &[&str] =
    &[r#"\""#, r"\\", r"\n", r"\t", r"\/", r"\b\f\r", r"\u00e9", r"\ud83d\ude00", "é", "東京", "😀"];

#[test]
fn a_shape_keeps_what_it_names_and_hands_out_what_it_lists() {
    static SHAPE: Shape = Shape::object(&[("a", &SCALAR), ("list", &Shape::each("list", &ITEM)), ("t", &CONTENT)]);
    static ITEM: Shape = Shape::object(&[("x", &SCALAR)]);
    let text =
        br#"{"skip":{"a":[1,{"b":"}"}]},"a":1,"list":[{"x":1,"y":[2]},{"x":"two"}],"a":2,"t":"text","n":"\u00e9"}"#;
    let (node, items, incomplete) = whole(&SHAPE, text);
    assert_eq!(written(&node.unwrap()), r#"{"a":2,"list":[],"t":"text"}"#, "of two the last counts");
    assert_eq!(items.iter().map(written).collect::<Vec<_>>(), [r#"{"x":1}"#, r#"{"x":"two"}"#]);
    assert!(!incomplete);
}

#[test]
fn what_is_hostile_ends_and_is_held_by_nobody() {
    let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
    let (node, _, incomplete) = whole(&ANY, &deep);
    assert!(node.is_ok() && incomplete, "what is too deep is skipped");
    assert!(whole(&SCALAR, &deep).0.is_ok(), "what nobody wants may be as deep as it likes");
    let never_closed = b"{\"a\":".repeat(100_000);
    assert!(whole(&ANY, &never_closed).0.is_err());

    let huge = format!("[1e999,-1e999,{},0.{},{}]", "9".repeat(5000), "1".repeat(5000), i64::MIN);
    assert_eq!(written(&whole(&ANY, huge.as_bytes()).0.unwrap()), format!("[null,null,null,null,{}]", i64::MIN));

    let bad = whole(&ANY, b"{\"\xff\xfe\":\"a\xf0\x9fb\\ud800\\udc00 \\ud800x \\udc00\"}").0.unwrap();
    assert_eq!(written(&bad), "{\"\u{fffd}\u{fffd}\":\"a\u{fffd}b\u{10000} \u{fffd}x \u{fffd}\"}");

    let many: String = (0..100_000).map(|n| format!("\"k{n}\":{n},")).collect();
    let (node, _, incomplete) = whole(&ANY, format!("{{{many}\"z\":1}}").as_bytes());
    assert!(node.unwrap().fields().len() <= MAX_FIELDS && incomplete);

    let mut reader = Reader::new(&ANY, 1 << 20, Key::random());
    let long = [b"[".as_slice(), &b"\"0123456789\",".repeat(1_000_000), b"1]"].concat();
    for piece in long.chunks(65_536) {
        reader.feed(piece, &mut |_, _| {}).unwrap();
        assert!(reader.held() < 2 * MAX_HELD, "{}", reader.held());
    }
    assert!(reader.end(&mut |_, _| {}).is_ok() && reader.is_incomplete());
}

#[test]
fn what_is_no_json_is_none() {
    for text in ["", "{", "{]", "[1 2]", "{\"a\" 1}", "{1:2}", "tru", "nul]", "[,1]x", "\"", "{\"a\":}", "[1]]", "1 2"]
    {
        assert!(whole(&ANY, text.as_bytes()).0.is_err(), "{text}");
    }
}

#[test]
fn the_same_value_has_the_same_digest_however_it_was_written() {
    let key = Key::random();
    let digest = |text: &str| {
        let mut reader = Reader::new(&ANY, 0, key);
        reader.feed(text.as_bytes(), &mut |_, _| {}).unwrap();
        reader.end(&mut |_, _| {}).unwrap().digest(&key).unwrap()
    };
    assert_eq!(digest(r#"{"a":1,"b":[true,"\u0078"]}"#), digest(" { \"b\" : [ true , \"x\" ] , \"a\" : 1.0 } "));
    let different =
        [r#"{"a":1}"#, r#"{"a":"1"}"#, r#"{"a":[1]}"#, r#"{"a":null}"#, r#"{"b":1}"#, r#"[["a"],[]]"#, r#"[["a",[]]]"#];
    for (index, one) in different.iter().enumerate() {
        assert!(different.iter().skip(index + 1).all(|other| digest(one) != digest(other)), "{one}");
    }
}
