//! B3: `b3`, and its older form in several `x-b3-*` headers.
//!
//! Source: openzipkin/b3-propagation, `README.md`. Ids are accepted in either case, and 64-bit trace ids padded on the
//! left. Debug means sampled and goes on as that. Both forms are read if either is configured; one that is not, but came,
//! is written too: left as it is, it would contradict the other.

use http::header::{HeaderName, HeaderValue};

use super::{
    Carrier, Edits, Incoming, Placement, RemoteContext, header_value, is_there, loose_hex, loose_hex_64, only,
};

/// The one header first, then the several.
pub(super) fn read(carrier: &impl Carrier) -> Incoming {
    let single = only(carrier, &B3).and_then(parse_single);
    single.or_else(|| read_multi(carrier)).unwrap_or(Incoming::Nothing)
}

/// Writes the configured forms, `(single, multi)`, and those that came.
pub(super) fn write(placement: &Placement, (single, multi): (bool, bool), carrier: &impl Carrier, edits: &mut Edits) {
    let sampled = if placement.flags.is_sampled() { "1" } else { "0" };
    if single || is_there(carrier, &B3) {
        edits.set(B3, header_value(&format!("{}-{}-{sampled}", placement.trace_id, placement.span_id)));
    }
    if multi || [TRACE_ID, SPAN_ID, SAMPLED, FLAGS, PARENT].iter().any(|name| is_there(carrier, name)) {
        edits.set(TRACE_ID, header_value(&placement.trace_id.to_string()));
        edits.set(SPAN_ID, header_value(&placement.span_id.to_string()));
        edits.set(SAMPLED, HeaderValue::from_static(sampled));
        for old in [FLAGS, PARENT] {
            if is_there(carrier, &old) {
                edits.remove(old);
            }
        }
    }
}

/// `{trace id}-{span id}[-{state}[-{parent id}]]`, or a state alone.
fn parse_single(value: &[u8]) -> Option<Incoming> {
    if let Some(sampled) = state(value) {
        return Some(Incoming::Decision(sampled));
    }
    let mut parts = value.split(|&byte| byte == b'-');
    let (trace_id, span_id) = (id_128(parts.next()?)?, loose_hex_64(parts.next()?, 16..=16)?);
    let sampled = parts.next().map(|text| state(text).ok_or(())).transpose().ok()?;
    if let Some(parent) = parts.next() {
        loose_hex_64(parent, 16..=16)?;
    }
    if parts.next().is_some() {
        return None;
    }
    RemoteContext::new(trace_id, span_id, sampled).map(Incoming::Context)
}

fn read_multi(carrier: &impl Carrier) -> Option<Incoming> {
    let debug = only(carrier, &FLAGS) == Some(b"1");
    let sampled = match only(carrier, &SAMPLED) {
        _ if debug => Some(true),
        // The last two are what early implementations sent.
        Some(b"1" | b"true") => Some(true),
        Some(b"0" | b"false") => Some(false),
        Some(_) => return None,
        None if is_there(carrier, &SAMPLED) => return None,
        None => None,
    };
    if !is_there(carrier, &TRACE_ID) && !is_there(carrier, &SPAN_ID) {
        return sampled.map(Incoming::Decision);
    }
    let (trace_id, span_id) = (id_128(only(carrier, &TRACE_ID)?)?, loose_hex_64(only(carrier, &SPAN_ID)?, 16..=16)?);
    RemoteContext::new(trace_id, span_id, sampled).map(Incoming::Context)
}

fn id_128(digits: &[u8]) -> Option<u128> {
    loose_hex(digits, 16..=16).or_else(|| loose_hex(digits, 32..=32))
}

fn state(text: &[u8]) -> Option<bool> {
    match text {
        b"1" | b"d" => Some(true),
        b"0" => Some(false),
        _ => None,
    }
}

const B3: HeaderName = HeaderName::from_static("b3");
const TRACE_ID: HeaderName = HeaderName::from_static("x-b3-traceid");
const SPAN_ID: HeaderName = HeaderName::from_static("x-b3-spanid");
const PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

#[cfg(test)]
mod tests {
    use super::super::tests::{decision_or_flags, headers};
    use super::*;

    type Lines = &'static [(&'static str, &'static str)];

    const ID: &str = "80f198ee56343ba864fe8b2a57d3eff7";
    const SPAN: &str = "e457b5a2e4d86bd1";
    const PARENT_ID: &str = "05e3ac9a4f6e3b90";

    #[test]
    fn one_header_is_read_exactly_as_b3_says() {
        let table = [
            (format!("{ID}-{SPAN}-1"), "context 1"),
            (format!(" {ID}-{SPAN}-1\t"), "context 1"),
            (format!("{ID}-{SPAN}-0"), "context 0"),
            (format!("{ID}-{SPAN}-d"), "context 1"),
            (format!("{ID}-{SPAN}"), "context ?"),
            (format!("{ID}-{SPAN}-1-{PARENT_ID}"), "context 1"),
            (format!("{}-{SPAN}-1", ID.to_uppercase()), "context 1"),
            ("0".into(), "decision false"),
            ("1".into(), "decision true"),
            ("d".into(), "decision true"),
            (String::new(), "nothing"),
            ("2".into(), "nothing"),
            ("-".into(), "nothing"),
            ("true".into(), "nothing"),
            (format!("{ID}-{SPAN}-"), "nothing"),
            (format!("{ID}-{SPAN}-2"), "nothing"),
            (format!("{ID}-{SPAN}-01"), "nothing"),
            (format!("{ID}-{SPAN}-1-"), "nothing"),
            (format!("{ID}-{SPAN}-1-{PARENT_ID}-"), "nothing"),
            (format!("{ID}-{SPAN}-1-{ID}"), "nothing"),
            (format!("{}-{SPAN}-1", &ID[1..]), "nothing"),
            (format!("0{ID}-{SPAN}-1"), "nothing"),
            (format!("{ID}-{}-1", &SPAN[1..]), "nothing"),
            (format!("{}-{SPAN}-1", "0".repeat(32)), "nothing"),
            (format!("{ID}-{}-1", "0".repeat(16)), "nothing"),
            (format!("+{}-{SPAN}-1", &ID[1..]), "nothing"),
            (format!("{ID}-{SPAN}-1,{ID}-{SPAN}-1"), "nothing"),
        ];
        for (value, expected) in table {
            let read = read(&headers(&[("b3", &value)]));
            assert_eq!(decision_or_flags(&read), expected, "{value:?}");
            if let Some(context) = read.context() {
                assert_eq!((context.trace_id.to_string(), context.span_id.to_string()), (ID.into(), SPAN.into()));
            }
        }
        let one = format!("{ID}-{SPAN}-1");
        assert_eq!(read(&headers(&[("b3", &one), ("b3", &one)])), Incoming::Nothing);
    }

    #[test]
    fn a_trace_id_of_64_bits_is_padded_on_the_left() {
        let read = read(&headers(&[("b3", "64fe8b2a57d3eff7-e457b5a2e4d86bd1-1")]));
        assert_eq!(read.context().unwrap().trace_id.to_string(), "000000000000000064fe8b2a57d3eff7");
    }

    #[test]
    fn no_prefix_of_a_header_says_more_than_its_decision() {
        let whole = format!("{ID}-{SPAN}-1-{PARENT_ID}");
        for end in 0..whole.len() {
            let expected = match end {
                // The prefixes that are whole themselves.
                49 => "context ?",
                51 => "context 1",
                _ => "nothing",
            };
            assert_eq!(decision_or_flags(&read(&headers(&[("b3", &whole[..end])]))), expected, "{end}");
        }
    }

    #[test]
    fn several_headers_are_read_exactly_as_b3_says() {
        let ids = [("x-b3-traceid", ID), ("x-b3-spanid", SPAN)];
        let table: [(Lines, &str, &str); 12] = [
            (&[("x-b3-sampled", "1")], "context 1", "decision true"),
            (&[("x-b3-sampled", "0")], "context 0", "decision false"),
            (&[("x-b3-sampled", "true")], "context 1", "decision true"),
            (&[("x-b3-sampled", "false")], "context 0", "decision false"),
            (&[("x-b3-flags", "1")], "context 1", "decision true"),
            (&[("x-b3-flags", "0")], "context ?", "nothing"),
            (&[("x-b3-sampled", "0"), ("x-b3-flags", "1")], "context 1", "decision true"),
            (&[("x-b3-parentspanid", PARENT_ID)], "context ?", "nothing"),
            (&[], "context ?", "nothing"),
            (&[("x-b3-sampled", "")], "nothing", "nothing"),
            (&[("x-b3-sampled", "2")], "nothing", "nothing"),
            (&[("x-b3-sampled", "1"), ("x-b3-sampled", "0")], "nothing", "nothing"),
        ];
        for (lines, with_ids, without) in table {
            let all = headers(&[&ids[..], lines].concat());
            assert_eq!(decision_or_flags(&read(&all)), with_ids, "{lines:?}");
            assert_eq!(decision_or_flags(&read(&headers(lines))), without, "{lines:?}");
        }
        for half in [ids[0], ids[1]] {
            assert_eq!(read(&headers(&[half, ("x-b3-sampled", "1")])), Incoming::Nothing);
        }
        assert_eq!(read(&headers(&[ids[0], ids[0], ids[1]])), Incoming::Nothing);
        assert_eq!(read(&headers(&[ids[0], ("x-b3-spanid", "123")])), Incoming::Nothing);
    }
}
