//! Metrics of calls, folded from finished spans before sampling: their number by how they ended, how long they took.

use opentelemetry::trace::SpanKind;

use crate::telemetry::{CallProtocol, Metrics};
use crate::trace::{Span, semconv};

/// Counts every span.
pub(super) fn fold(spans: &[Span], metrics: &Metrics) {
    for span in spans {
        metrics.calls.inc(span.outcome.as_str());
        let inbound = span.kind == SpanKind::Server;
        // A clock that was set back: no time, rather than no call.
        let took = span.end.duration_since(span.start).unwrap_or_default();
        metrics.call_duration.of(inbound, protocol(span)).observe(took);
    }
}

/// What the attributes tell. A call of which they tell nothing was a connection.
fn protocol(span: &Span) -> CallProtocol {
    let mut found = CallProtocol::Tcp;
    for attribute in &span.attributes {
        match attribute.key.as_str() {
            semconv::RPC_SYSTEM_NAME => return CallProtocol::Grpc,
            semconv::NETWORK_PROTOCOL_VERSION if attribute.value.as_str() == "2" => return CallProtocol::Http2,
            semconv::HTTP_REQUEST_METHOD => found = CallProtocol::Http1,
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::trace::{End, propagation};

    fn span(kind: SpanKind, attributes: &[(&'static str, &'static str)]) -> Span {
        let mut span = Span::new(propagation::start(&mut rand::rng()), "GET");
        span.kind = kind;
        span.end = span.start + Duration::from_millis(30);
        span.outcome = End::Complete;
        attributes.iter().for_each(|(key, value)| span.push(key, *value));
        span
    }

    #[test]
    fn calls_are_told_apart_by_what_they_spoke_and_which_way_they_went() {
        use CallProtocol::{Grpc, Http1, Http2, Tcp};
        let method = (semconv::HTTP_REQUEST_METHOD, "GET");
        let version = |version| (semconv::NETWORK_PROTOCOL_VERSION, version);
        let cases: [(_, &[_], _); 6] = [
            (SpanKind::Client, &[method, version("1.1")], (false, Http1)),
            (SpanKind::Server, &[method], (true, Http1)),
            (SpanKind::Client, &[method, version("2")], (false, Http2)),
            (SpanKind::Server, &[(semconv::RPC_SYSTEM_NAME, "grpc")], (true, Grpc)),
            (SpanKind::Client, &[(semconv::NETWORK_TRANSPORT, "tcp")], (false, Tcp)),
            (SpanKind::Client, &[], (false, Tcp)),
        ];
        for (kind, attributes, (inbound, protocol)) in cases {
            let metrics = Metrics::default();
            fold(&[span(kind, attributes)], &metrics);
            let durations = metrics.call_duration.of(inbound, protocol).durations();
            assert_eq!((durations.count, durations.sum), (1, 0.03), "{attributes:?}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_counts_as_no_time() {
        let metrics = Metrics::default();
        let mut span = span(SpanKind::Client, &[]);
        span.end = span.start - Duration::from_secs(5);
        fold(&[span], &metrics);
        let durations = metrics.call_duration.of(false, CallProtocol::Tcp).durations();
        assert_eq!((durations.count, durations.sum), (1, 0.0));
    }
}
