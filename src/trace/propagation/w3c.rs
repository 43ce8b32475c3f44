//! W3C Trace Context: `traceparent` and `tracestate`.
//!
//! Source: W3C Trace Context level 2, sections 3.2 (`traceparent`), 3.3 (`tracestate`), 4 (mutating). The OpenTelemetry
//! propagator is not used: it drops the random flag and accepts malformed values.

use std::sync::Arc;

use http::header::{HeaderName, HeaderValue};
use opentelemetry::{SpanId, TraceFlags, TraceId};

use super::{Carrier, Edits, Placement, RANDOM, RemoteContext, SAMPLED, hex, is_there, only, trim_ows};

/// The caller's context, if it sent a valid one. A `tracestate` without it counts for nothing.
pub(super) fn read(carrier: &impl Carrier) -> Option<RemoteContext> {
    let (trace_id, span_id, flags) = parse_traceparent(only(carrier, &TRACEPARENT)?)?;
    Some(RemoteContext { trace_id, span_id, flags, deferred: false, tracestate: read_tracestate(carrier) })
}

/// Exactly one `traceparent`; the placement's `tracestate`, untouched if one line said it.
pub(super) fn write(placement: &Placement, carrier: &impl Carrier, edits: &mut Edits) {
    edits.set(TRACEPARENT, traceparent(placement));
    if placement.tracestate.is_empty() {
        if is_there(carrier, &TRACESTATE) {
            edits.remove(TRACESTATE);
        }
    } else if only(carrier, &TRACESTATE) != Some(placement.tracestate.as_bytes())
        && let Ok(line) = HeaderValue::from_str(&placement.tracestate)
    {
        edits.set(TRACESTATE, line);
    }
}

/// `00-{trace id}-{span id}-{flags}`
pub fn traceparent(placement: &Placement) -> HeaderValue {
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
    write_hex(&mut text, 3, &placement.trace_id.to_bytes());
    write_hex(&mut text, 36, &placement.span_id.to_bytes());
    write_hex(&mut text, 53, &[placement.flags.to_u8()]);
    // Hex digits and dashes are always a header value.
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn write_hex(text: &mut [u8; 55], at: usize, bytes: &[u8]) {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    for (place, nibble) in text.iter_mut().skip(at).zip(digits) {
        *place = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    }
}

fn parse_traceparent(value: &[u8]) -> Option<(TraceId, SpanId, TraceFlags)> {
    let (version, rest) = (hex(value.get(..2)?)?, value.get(55..)?);
    let dashes = [2, 35, 52].iter().all(|&at| value.get(at) == Some(&b'-'));
    let rest_fits = match version {
        0xff => false,
        0 => rest.is_empty(),
        _ => rest.is_empty() || rest.first() == Some(&b'-'),
    };
    if !dashes || !rest_fits {
        return None;
    }
    let trace_id = TraceId::from(hex(value.get(3..35)?)?);
    let span_id = SpanId::from(u64::try_from(hex(value.get(36..52)?)?).ok()?);
    let flags = u8::try_from(hex(value.get(53..55)?)?).ok()?;
    let valid = trace_id != TraceId::INVALID && span_id != SpanId::INVALID;
    valid.then(|| (trace_id, span_id, TraceFlags::new(flags & (SAMPLED | RANDOM))))
}

/// One line in the form in which it may go on: as it came, or, of several lines, duplicates or empty members, put
/// together. Empty if none came or none that is valid.
fn read_tracestate(carrier: &impl Carrier) -> Arc<str> {
    let name = TRACESTATE;
    let lines: Vec<&[u8]> = carrier.values(name.as_str()).map(trim_ows).collect();
    let mut members: Vec<(&[u8], &[u8])> = Vec::new();
    let mut clean = lines.len() == 1;
    for member in lines.iter().flat_map(|line| line.split(|&byte| byte == b',')) {
        let member = trim_ows(member);
        if member.is_empty() {
            clean = false;
            continue;
        }
        let Some((key, value)) = split_member(member) else { return Arc::default() };
        if members.iter().any(|(seen, _)| *seen == key) {
            clean = false;
            continue;
        }
        if members.len() == MAX_MEMBERS {
            return Arc::default();
        }
        members.push((key, value));
    }
    let line = if clean {
        lines.concat()
    } else {
        members.iter().map(|(key, value)| [key, b"=".as_slice(), value].concat()).collect::<Vec<_>>().join(&b',')
    };
    Arc::from(String::from_utf8_lossy(&line))
}

fn split_member(member: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = member.iter().position(|&byte| byte == b'=')?;
    let (key, value) = (member.get(..equals)?, member.get(equals + 1..)?);
    let first = *key.first()?;
    let key_fits = key.len() <= 256
        && (first.is_ascii_lowercase() || first.is_ascii_digit())
        && key.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@'));
    let value_fits =
        (1..=256).contains(&value.len()) && value.iter().all(|byte| matches!(byte, b' '..=b'~') && *byte != b'=');
    (key_fits && value_fits).then_some((key, value))
}

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Members that a `tracestate` may have.
pub(super) const MAX_MEMBERS: usize = 32;

#[cfg(test)]
mod tests {
    use super::super::tests::headers;
    use super::super::{Propagators, proceed, start};
    use super::*;

    const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn state(lines: &[&str]) -> Arc<str> {
        let mut all = vec![("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")];
        all.extend(lines.iter().map(|line| ("tracestate", *line)));
        read(&headers(&all)).unwrap().tracestate
    }

    fn written(placement: &Placement, map: &mut http::HeaderMap) {
        Propagators::default().inject(placement, super::super::Handling::default(), map).apply(map);
    }

    #[test]
    fn a_traceparent_is_accepted_or_not_exactly_as_the_specification_says() {
        let table = [
            (format!("00-{ID}-{SPAN}-01"), Some(1)),
            (format!("00-{ID}-{SPAN}-00"), Some(0)),
            (format!("00-{ID}-{SPAN}-03"), Some(3)),
            (format!("00-{ID}-{SPAN}-ff"), Some(3)),
            (format!("00-{ID}-{SPAN}-fc"), Some(0)),
            (format!("  00-{ID}-{SPAN}-01\t"), Some(1)),
            (format!("01-{ID}-{SPAN}-01"), Some(1)),
            (format!("01-{ID}-{SPAN}-01-what-the-future-brings"), Some(1)),
            (format!("cc-{ID}-{SPAN}-01"), Some(1)),
            (format!("01-{ID}-{SPAN}-01."), None),
            (format!("01-{ID}-{SPAN}-011"), None),
            (format!("00-{ID}-{SPAN}-01-"), None),
            (format!("00-{ID}-{SPAN}-01-x"), None),
            (format!("ff-{ID}-{SPAN}-01"), None),
            (format!("0-{ID}-{SPAN}-01"), None),
            (format!("000-{ID}-{SPAN}-01"), None),
            (format!("+0-{ID}-{SPAN}-01"), None),
            (format!("00-{ID}-{SPAN}-1"), None),
            (format!("00-{ID}-{SPAN}-+1"), None),
            (format!("00-{ID}-{SPAN}"), None),
            (format!("00-{ID}-{SPAN}-"), None),
            (format!("00-{}-{SPAN}-01", "0".repeat(32)), None),
            (format!("00-{ID}-{}-01", "0".repeat(16)), None),
            (format!("00-{}-{SPAN}-01", ID.to_uppercase()), None),
            (format!("00-{ID}-{}-01", SPAN.to_uppercase()), None),
            (format!("00-{ID}-{SPAN}-0A"), None),
            (format!("00_{ID}-{SPAN}-01"), None),
            (format!("00-{}-{SPAN}-01", &ID[1..]), None),
            (format!("00-{ID}-{}-01", &SPAN[1..]), None),
            (format!("00-{ID}-{SPAN}-01,00-{ID}-{SPAN}-01"), None),
            (String::new(), None),
        ];
        for (value, flags) in table {
            let context = read(&headers(&[("traceparent", &value)]));
            assert_eq!(context.as_ref().map(|context| context.flags.to_u8()), flags, "{value:?}");
            if let Some(context) = context {
                assert_eq!((context.trace_id.to_string(), context.span_id.to_string()), (ID.into(), SPAN.into()));
            }
        }
    }

    #[test]
    fn every_prefix_of_a_traceparent_is_refused() {
        let whole = format!("00-{ID}-{SPAN}-01");
        for end in 0..whole.len() {
            assert_eq!(read(&headers(&[("traceparent", &whole[..end])])), None, "{end}");
        }
    }

    #[test]
    fn two_traceparents_are_none() {
        let one = format!("00-{ID}-{SPAN}-01");
        assert_eq!(read(&headers(&[("traceparent", &one), ("traceparent", &one)])), None);
    }

    #[test]
    fn a_tracestate_is_kept_joined_or_discarded_as_a_whole() {
        let full: Vec<String> = (0..32).map(|n| format!("k{n}=v")).collect();
        let over = format!("{},k32=v", full.join(","));
        assert_eq!(&*state(&[]), "");
        assert_eq!(&*state(&[""]), "");
        assert_eq!(&*state(&["a=1"]), "a=1");
        assert_eq!(&*state(&["a=1, b=2"]), "a=1, b=2");
        assert_eq!(&*state(&["a=1 2"]), "a=1 2");
        assert_eq!(&*state(&["tenant@sys=1,0x/*_-=~"]), "tenant@sys=1,0x/*_-=~");
        assert_eq!(&*state(&["a=1", "b=2"]), "a=1,b=2");
        assert_eq!(&*state(&["a=1", ""]), "a=1");
        assert_eq!(&*state(&["a=1,,b=2 "]), "a=1,b=2");
        assert_eq!(&*state(&["a=1,b=2,a=3"]), "a=1,b=2");
        assert_eq!(&*state(&[&full.join(",")]), &full.join(","));
        assert_eq!(&*state(&[&over]), "");
        for bad in ["a", "a=", "=1", "A=1", "a=1=2", "a b=1", "a =1", "_a=1", "a=1,b", "a=\u{e9}", "a=\tb"] {
            assert_eq!(&*state(&[bad]), "", "{bad:?}");
        }
        assert_eq!(&*state(&[&format!("{}=1", "k".repeat(257))]), "");
        assert_eq!(&*state(&[&format!("a={}", "v".repeat(257))]), "");
        let longest = format!("{}={}", "k".repeat(256), "v".repeat(256));
        assert_eq!(&*state(&[&longest]), &longest);
    }

    #[test]
    fn a_continued_context_keeps_trace_flags_and_state_and_gets_a_new_span_id() {
        let mut map = headers(&[
            ("x-first", "1"),
            ("traceparent", &format!("cc-{ID}-{SPAN}-ff-more")),
            ("tracestate", "a=1, b=2"),
            ("x-last", "2"),
        ]);
        let placement = proceed(&read(&map).unwrap(), &mut rand::rng());
        written(&placement, &mut map);
        assert_eq!(map["traceparent"], format!("00-{ID}-{}-03", placement.span_id));
        assert_ne!(placement.span_id.to_string(), SPAN);
        assert_eq!(map["tracestate"], "a=1, b=2");
        assert_eq!(placement.parent.unwrap().to_string(), SPAN);
        let order: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        assert_eq!(order, ["x-first", "traceparent", "tracestate", "x-last"]);
    }

    #[test]
    fn a_new_trace_drops_a_foreign_state_and_keeps_the_order_of_the_rest() {
        let mut map = headers(&[
            ("b", "1"),
            ("tracestate", "a=1"),
            ("c", "2"),
            ("traceparent", "broken"),
            ("traceparent", "twice"),
            ("b", "3"),
            ("d", "4"),
        ]);
        assert_eq!(read(&map), None);
        let placement = start(&mut rand::rng());
        written(&placement, &mut map);
        let lines: Vec<_> = map.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        let own = format!("00-{}-{}-03", placement.trace_id, placement.span_id);
        assert_eq!(lines, [("b", "1"), ("b", "3"), ("c", "2"), ("traceparent", &own), ("d", "4")]);
    }

    #[test]
    fn several_states_leave_as_one_line() {
        let mut map = headers(&[
            ("traceparent", &format!("00-{ID}-{SPAN}-01")),
            ("tracestate", "a=1"),
            ("tracestate", "b=2,a=3"),
        ]);
        let placement = proceed(&read(&map).unwrap(), &mut rand::rng());
        written(&placement, &mut map);
        assert_eq!(map.get_all("tracestate").iter().collect::<Vec<_>>(), ["a=1,b=2"]);
    }
}
