//! Jaeger: `uber-trace-id`. Its baggage, `uberctx-*`, is left alone.
//!
//! Source: Jaeger, "Client Libraries", "Propagation Format". Ids may lack leading zeros; the whole may be URL-encoded.

use http::header::HeaderName;
use opentelemetry::SpanId;
use percent_encoding::percent_decode;

use super::{Carrier, Edits, Incoming, Placement, RemoteContext, header_value, loose_hex, loose_hex_64, only};

/// The caller's context.
pub(super) fn read(carrier: &impl Carrier) -> Incoming {
    only(carrier, &UBER_TRACE_ID).and_then(parse).map_or(Incoming::Nothing, Incoming::Context)
}

/// `{trace id}:{span id}:{parent id}:{flags}`
pub(super) fn write(placement: &Placement, edits: &mut Edits) {
    let parent = placement.parent.unwrap_or(SpanId::INVALID);
    let parent = if parent == SpanId::INVALID { "0".to_owned() } else { parent.to_string() };
    let flags = u8::from(placement.flags.is_sampled());
    let text = format!("{}:{}:{parent}:{flags}", placement.trace_id, placement.span_id);
    edits.set(UBER_TRACE_ID, header_value(&text));
}

fn parse(value: &[u8]) -> Option<RemoteContext> {
    let decoded = std::borrow::Cow::from(percent_decode(value));
    let mut parts = decoded.split(|&byte| byte == b':');
    let (trace_id, span_id) = (loose_hex(parts.next()?, 1..=32)?, loose_hex_64(parts.next()?, 1..=16)?);
    loose_hex_64(parts.next()?, 1..=16)?;
    let flags = loose_hex(parts.next()?, 1..=2)?;
    if parts.next().is_some() {
        return None;
    }
    RemoteContext::new(trace_id, span_id, Some(flags & (SAMPLED | DEBUG) != 0))
}

const UBER_TRACE_ID: HeaderName = HeaderName::from_static("uber-trace-id");
const SAMPLED: u128 = 1;
const DEBUG: u128 = 2;

#[cfg(test)]
mod tests {
    use super::super::tests::{decision_or_flags, headers};
    use super::*;

    #[test]
    fn a_header_is_read_exactly_as_jaeger_says() {
        let ids = "80f198ee56343ba864fe8b2a57d3eff7:e457b5a2e4d86bd1";
        let table = [
            (format!("{ids}:0:1"), "context 1"),
            (format!("{ids}:05e3ac9a4f6e3b90:01"), "context 1"),
            (format!("{ids}:0:0"), "context 0"),
            (format!("{ids}:0:2"), "context 1"),
            (format!("{ids}:0:3"), "context 1"),
            (format!("{ids}:0:8"), "context 0"),
            (format!("{ids}:0:ff"), "context 1"),
            (ids.replace(':', "%3A") + "%3a0%3A1", "context 1"),
            ("1:2:0:1".into(), "context 1"),
            (format!("{ids}:0"), "nothing"),
            (format!("{ids}:0:"), "nothing"),
            (format!("{ids}::1"), "nothing"),
            (format!("{ids}:0:100"), "nothing"),
            (format!("{ids}:0:1:"), "nothing"),
            (format!("{ids}:0:g"), "nothing"),
            (format!("{ids}:0:+1"), "nothing"),
            (format!("0{ids}:0:1"), "nothing"),
            ("0:2:0:1".into(), "nothing"),
            ("1:0:0:1".into(), "nothing"),
            (":2:0:1".into(), "nothing"),
            ("1:12345678901234567:0:1".into(), "nothing"),
            ("%".into(), "nothing"),
            (String::new(), "nothing"),
        ];
        for (value, expected) in table {
            assert_eq!(decision_or_flags(&read(&headers(&[("uber-trace-id", &value)]))), expected, "{value:?}");
        }
        let whole = format!("{ids}:05e3ac9a4f6e3b90:1");
        for end in 0..whole.len() {
            assert_eq!(read(&headers(&[("uber-trace-id", &whole[..end])])), Incoming::Nothing, "{end}");
        }
    }

    #[test]
    fn leading_zeros_may_be_missing() {
        let read = read(&headers(&[("uber-trace-id", "f198ee56343ba864:7b5:0:1")]));
        let context = read.context().unwrap();
        assert_eq!(context.trace_id.to_string(), "0000000000000000f198ee56343ba864");
        assert_eq!(context.span_id.to_string(), "00000000000007b5");
    }
}
