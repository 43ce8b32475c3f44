//! The cases of the W3C's own test suite for Trace Context (`w3c/trace-context`, `test/test.py`, levels 2/2), each under
//! its name there, as rows: what comes in, and what must go out.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::SpanId;

use super::{Carrier, Handling, Propagators, proceed, start, trim_ows};

/// A head as HTTP/1 writes it: any case, any order.
struct Head(Vec<(&'static str, String)>);

impl Carrier for Head {
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.0.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_bytes())
    }
}

/// What must be true of the head that goes on.
enum Expected {
    /// A trace of our own, without `tracestate`.
    New,
    /// The caller's trace with these flags and this `tracestate` line; empty for none.
    Continued(u8, String),
}

use Expected::{Continued, New};

type Lines = &'static [(&'static str, &'static str)];
type Case = (&'static str, Vec<(&'static str, String)>, Expected);

#[test]
fn every_case_of_the_official_suite() {
    let cases =
        [parents(), broken_parents(), states(), limits_of_states()].into_iter().flatten().collect::<Vec<Case>>();
    let names: std::collections::BTreeSet<_> = cases.iter().map(|(name, ..)| *name).collect();
    assert_eq!(names.len(), 41, "the suite has 41 tests at level 2");
    for (name, lines, expected) in cases {
        // The suite's tests of several calls are those of one: each must have its own span id.
        let sent: Vec<_> = (0..3).map(|_| sent(&lines)).collect();
        for (parent, state) in &sent {
            let ours: Vec<&str> = parent.split('-').collect();
            let [version, trace_id, span_id, flags] = ours[..] else { panic!("{name}: {parent}") };
            assert_eq!((version, trace_id.len(), span_id.len()), ("00", 32, 16), "{name}");
            assert_ne!((trace_id.trim_matches('0'), span_id.trim_matches('0')), ("", ""), "{name}");
            assert_ne!(span_id, SPAN, "{name}");
            match &expected {
                New => {
                    let came = lines.iter().any(|(_, value)| value.contains(trace_id));
                    assert_eq!((came, flags, state.as_str()), (false, "03", ""), "{name}: {lines:?}");
                }
                Continued(with, line) => {
                    let expected = (TRACE, format!("{with:02x}"), line.as_str());
                    assert_eq!((trace_id, flags.to_owned(), state.as_str()), expected, "{name}: {lines:?}");
                }
            }
        }
        assert!(sent[0].0 != sent[1].0 && sent[1].0 != sent[2].0, "{name}");
    }
}

/// The `traceparent` and `tracestate` that go on.
fn sent(lines: &[(&'static str, String)]) -> (String, String) {
    let head = Head(lines.to_vec());
    let incoming = Propagators::default().extract(&head);
    let placement = match incoming.context() {
        Some(context) => proceed(context, &mut rand::rng()),
        None => start(&mut rand::rng()),
    };
    assert_ne!(placement.span_id, SpanId::INVALID);
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    Propagators::default().inject(&placement, Handling::default(), &head).apply(&mut map);
    let only = |name: &str| {
        let all: Vec<&[u8]> = Carrier::values(&map, name).collect();
        assert!(all.len() <= 1, "{name}: {all:?}");
        String::from_utf8(all.concat()).unwrap()
    };
    (only("traceparent"), String::from_utf8(trim_ows(only("tracestate").as_bytes()).to_vec()).unwrap())
}

fn parents() -> Vec<Case> {
    let parent = |name: &'static str, rest: &str| vec![(name, format!("{}{rest}", whole("00", TRACE, SPAN, "01")))];
    let of = |value: String| vec![("traceparent", value)];
    let good = whole("00", TRACE, SPAN, "01");
    let future = whole("cc", TRACE, SPAN, "01");
    vec![
        ("both_traceparent_and_tracestate_missing", vec![], New),
        ("traceparent_included_tracestate_missing", of(good.clone()), same(1)),
        (
            "traceparent_duplicated",
            vec![
                ("traceparent", whole("00", "12345678901234567890123456789011", SPAN, "01")),
                ("traceparent", good.clone()),
            ],
            New,
        ),
        ("traceparent_header_name", parent("trace-parent", ""), New),
        ("traceparent_header_name", parent("trace.parent", ""), New),
        ("traceparent_header_name_valid_casing", parent("TraceParent", ""), same(1)),
        ("traceparent_header_name_valid_casing", parent("TrAcEpArEnT", ""), same(1)),
        ("traceparent_header_name_valid_casing", parent("TRACEPARENT", ""), same(1)),
        ("traceparent_version_0x00", parent("traceparent", "."), New),
        ("traceparent_version_0x00", parent("traceparent", "-what-the-future-will-be-like"), New),
        ("traceparent_version_0xcc", of(future.clone()), same(1)),
        ("traceparent_version_0xcc", of(format!("{future}-what-the-future-will-be-like")), same(1)),
        ("traceparent_version_0xcc", of(format!("{future}.what-the-future-will-be-like")), New),
        ("traceparent_version_0xff", of(whole("ff", TRACE, SPAN, "01")), New),
        ("traceparent_ows_handling", of(format!(" {good}")), same(1)),
        ("traceparent_ows_handling", of(format!("\t{good}")), same(1)),
        ("traceparent_ows_handling", of(format!("{good} ")), same(1)),
        ("traceparent_ows_handling", of(format!("{good}\t")), same(1)),
        ("traceparent_ows_handling", of(format!("\t {good} \t")), same(1)),
        ("multiple_requests_with_valid_traceparent", of(good), same(1)),
        ("multiple_requests_without_traceparent", vec![], New),
        ("multiple_requests_with_illegal_traceparent", of(whole("00", &"0".repeat(32), SPAN, "01")), New),
        ("propagates_random_flag", of(whole("00", TRACE, SPAN, "02")), same(2)),
    ]
}

fn broken_parents() -> Vec<Case> {
    let digits = "0".repeat(32);
    [
        ("traceparent_version_illegal_characters", ".0", TRACE, SPAN, "01"),
        ("traceparent_version_illegal_characters", "0.", TRACE, SPAN, "01"),
        ("traceparent_version_too_long", "000", TRACE, SPAN, "01"),
        ("traceparent_version_too_long", "0000", TRACE, SPAN, "01"),
        ("traceparent_version_too_short", "0", TRACE, SPAN, "01"),
        ("traceparent_trace_id_all_zero", "00", &digits, SPAN, "01"),
        ("traceparent_trace_id_illegal_characters", "00", ".2345678901234567890123456789012", SPAN, "01"),
        ("traceparent_trace_id_illegal_characters", "00", "1234567890123456789012345678901.", SPAN, "01"),
        ("traceparent_trace_id_too_long", "00", "123456789012345678901234567890123", SPAN, "01"),
        ("traceparent_trace_id_too_short", "00", "1234567890123456789012345678901", SPAN, "01"),
        ("traceparent_parent_id_all_zero", "00", TRACE, &digits[..16], "01"),
        ("traceparent_parent_id_illegal_characters", "00", TRACE, ".234567890123456", "01"),
        ("traceparent_parent_id_illegal_characters", "00", TRACE, "123456789012345.", "01"),
        ("traceparent_parent_id_too_long", "00", TRACE, "12345678901234567", "01"),
        ("traceparent_parent_id_too_short", "00", TRACE, "123456789012345", "01"),
        ("traceparent_trace_flags_illegal_characters", "00", TRACE, SPAN, ".0"),
        ("traceparent_trace_flags_illegal_characters", "00", TRACE, SPAN, "0."),
        ("traceparent_trace_flags_too_long", "00", TRACE, SPAN, "001"),
        ("traceparent_trace_flags_too_short", "00", TRACE, SPAN, "1"),
    ]
    .into_iter()
    .map(|(name, version, trace, span, flags)| {
        (name, vec![("traceparent", whole(version, trace, span, flags)), ("tracestate", "foo=1".into())], New)
    })
    .collect()
}

fn states() -> Vec<Case> {
    let alone = |state: &str| vec![("tracestate", state.to_owned())];
    let missing = "tracestate_included_traceparent_missing";
    let mut cases = vec![(missing, alone("foo=1"), New), (missing, alone("foo=1,bar=2"), New)];
    let casing = "tracestate_header_name_valid_casing";
    let empty = "tracestate_empty_header";
    let double = "tracestate_duplicated_keys";
    let ows = "tracestate_ows_handling";
    let rows: [(&'static str, Lines, &str); 23] = [
        ("tracestate_included_traceparent_included", &[("tracestate", "foo=1,bar=2")], "foo=1,bar=2"),
        ("tracestate_header_name", &[("trace-state", "foo=1")], ""),
        ("tracestate_header_name", &[("trace.state", "foo=1")], ""),
        (casing, &[("TraceState", "foo=1")], "foo=1"),
        (casing, &[("TrAcEsTaTe", "foo=1")], "foo=1"),
        (casing, &[("TRACESTATE", "foo=1")], "foo=1"),
        (empty, &[("tracestate", "")], ""),
        (empty, &[("tracestate", "foo=1"), ("tracestate", "")], "foo=1"),
        (empty, &[("tracestate", ""), ("tracestate", "foo=1")], "foo=1"),
        (
            "tracestate_multiple_headers_different_keys",
            &[("tracestate", "foo=1,bar=2"), ("tracestate", "rojo=1,congo=2"), ("tracestate", "baz=3")],
            "foo=1,bar=2,rojo=1,congo=2,baz=3",
        ),
        (double, &[("tracestate", "foo=1,foo=1")], "foo=1"),
        (double, &[("tracestate", "foo=1,foo=2")], "foo=1"),
        (double, &[("tracestate", "foo=1"), ("tracestate", "foo=1")], "foo=1"),
        (double, &[("tracestate", "foo=1"), ("tracestate", "foo=2")], "foo=1"),
        // White space around members goes on as it came: the line is the caller's.
        (ows, &[("tracestate", "foo=1 \t , \t bar=2, \t baz=3")], "foo=1 \t , \t bar=2, \t baz=3"),
        (ows, &[("tracestate", "foo=1\t \t,\t \tbar=2,\t \tbaz=3")], "foo=1\t \t,\t \tbar=2,\t \tbaz=3"),
        (ows, &[("tracestate", " foo=1")], "foo=1"),
        (ows, &[("tracestate", "\tfoo=1")], "foo=1"),
        (ows, &[("tracestate", "foo=1 ")], "foo=1"),
        (ows, &[("tracestate", "foo=1\t")], "foo=1"),
        (ows, &[("tracestate", "\t foo=1 \t")], "foo=1"),
        ("tracestate_value_illegal_characters", &[("tracestate", "foo=bar=baz")], ""),
        ("tracestate_value_illegal_characters", &[("tracestate", "foo=,bar=3")], ""),
    ];
    cases.extend(rows.map(|(name, lines, state)| {
        let lines = lines.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let parent = ("traceparent", whole("00", TRACE, SPAN, "00"));
        (name, [parent].into_iter().chain(lines).collect(), Continued(0, state.to_owned()))
    }));
    cases
}

fn limits_of_states() -> Vec<Case> {
    let key = "abcdefghijklmnopqrstuvwxyz0123456789_-*/";
    let value: String = (' '..='~').filter(|letter| !matches!(letter, ',' | '=')).collect();
    let group = |range: std::ops::RangeInclusive<u8>| {
        range.map(|number| format!("bar{number:02}={number:02}")).collect::<Vec<_>>().join(",")
    };
    let most = vec![group(1..=10), group(11..=20), group(21..=30), group(31..=32)];
    let over = vec![group(1..=10), group(11..=20), group(21..=30), group(31..=33)];
    let all = "tracestate_all_allowed_characters";
    let illegal = "tracestate_key_illegal_characters";
    let vendor = "tracestate_key_illegal_vendor_format";
    let length = "tracestate_key_length_limit";
    let mut rows: Vec<(&'static str, Vec<String>, bool)> = vec![
        (all, vec![format!("{key}={value}")], true),
        (all, vec![format!("{key}@a-z0-9_-*/={value}")], true),
        (illegal, vec!["foo =1".into()], false),
        (illegal, vec!["FOO=1".into()], false),
        (illegal, vec!["foo.bar=1".into()], false),
        (vendor, vec!["foo@=1,bar=2".into()], true),
        (vendor, vec!["@foo=1,bar=2".into()], false),
        (vendor, vec!["foo@@bar=1,bar=2".into()], true),
        (vendor, vec!["foo@bar@baz=1,bar=2".into()], true),
        ("tracestate_member_count_limit", most, true),
        ("tracestate_member_count_limit", over, false),
    ];
    let keys = [
        ("z".repeat(256), true),
        ("z".repeat(257), false),
        (format!("{}@{}", "t".repeat(241), "v".repeat(14)), true),
        (format!("{}@v", "t".repeat(242)), true),
        (format!("t@{}", "v".repeat(15)), true),
    ];
    rows.extend(keys.map(|(key, kept)| (length, vec!["foo=1".into(), format!("{key}=1")], kept)));
    let case = |(name, lines, kept): (&'static str, Vec<String>, bool)| {
        let expected = if kept { lines.join(",") } else { String::new() };
        let parent = ("traceparent", whole("00", TRACE, SPAN, "00"));
        let lines = lines.into_iter().map(|line| ("tracestate", line));
        (name, [parent].into_iter().chain(lines).collect(), Continued(0, expected))
    };
    rows.into_iter().map(case).collect()
}

fn whole(version: &str, trace: &str, span: &str, flags: &str) -> String {
    format!("{version}-{trace}-{span}-{flags}")
}

fn same(flags: u8) -> Expected {
    Continued(flags, String::new())
}

const TRACE: &str = "12345678901234567890123456789012";
const SPAN: &str = "1234567890123456";
