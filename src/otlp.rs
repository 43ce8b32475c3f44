//! Our spans as OTLP: the wire types' home.
//!
//! Source: `opentelemetry-proto` v1.11, `opentelemetry/proto/trace/v1/trace.proto`.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry::{Array, KeyValue, Value};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1 as common;
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1 as wire;

use crate::trace::{Span, semconv};

/// A span on the wire.
pub fn span(span: Span) -> wire::Span {
    let placement = span.placement;
    // The caller is on the other side of a wire, always: bits 8 and 9 of the flags (`SpanFlags`).
    let remote = if placement.parent.is_some() { HAS_IS_REMOTE | IS_REMOTE } else { HAS_IS_REMOTE };
    let status =
        span.error.then(|| wire::Status { message: String::new(), code: wire::status::StatusCode::Error as i32 });
    wire::Span {
        trace_id: placement.trace_id.to_bytes().to_vec(),
        span_id: placement.span_id.to_bytes().to_vec(),
        parent_span_id: placement.parent.map(|parent| parent.to_bytes().to_vec()).unwrap_or_default(),
        trace_state: placement.tracestate.to_string(),
        flags: u32::from(placement.flags.to_u8()) | remote,
        name: span.name.into_owned(),
        kind: kind(&span.kind) as i32,
        start_time_unix_nano: nanos(span.start),
        // A clock that was set back must not make a span of negative length.
        end_time_unix_nano: nanos(span.end.max(span.start)),
        attributes: span.attributes.into_iter().map(attribute).collect(),
        status,
        ..wire::Span::default()
    }
}

/// One request to a collector: spans of one resource and one scope.
pub fn request(resource: &Resource, spans: Vec<wire::Span>) -> ExportTraceServiceRequest {
    let scope = common::InstrumentationScope {
        name: env!("CARGO_PKG_NAME").into(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..common::InstrumentationScope::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![wire::ResourceSpans {
            resource: Some(resource.clone()),
            scope_spans: vec![wire::ScopeSpans { scope: Some(scope), spans, schema_url: String::new() }],
            schema_url: semconv::SCHEMA_URL.into(),
        }],
    }
}

/// The observed workload.
pub fn resource(attributes: &[KeyValue]) -> Resource {
    Resource { attributes: attributes.iter().cloned().map(attribute).collect(), ..Resource::default() }
}

fn attribute(attribute: KeyValue) -> common::KeyValue {
    common::KeyValue {
        key: attribute.key.into(),
        value: Some(any_value(attribute.value)),
        ..common::KeyValue::default()
    }
}

fn any_value(value: Value) -> common::AnyValue {
    let list = |values: Vec<any_value::Value>| {
        let values = values.into_iter().map(|value| common::AnyValue { value: Some(value) }).collect();
        any_value::Value::ArrayValue(common::ArrayValue { values })
    };
    let value = match value {
        Value::Bool(value) => any_value::Value::BoolValue(value),
        Value::I64(value) => any_value::Value::IntValue(value),
        Value::F64(value) => any_value::Value::DoubleValue(value),
        Value::String(value) => any_value::Value::StringValue(value.into()),
        Value::Array(Array::Bool(values)) => list(values.into_iter().map(any_value::Value::BoolValue).collect()),
        Value::Array(Array::I64(values)) => list(values.into_iter().map(any_value::Value::IntValue).collect()),
        Value::Array(Array::F64(values)) => list(values.into_iter().map(any_value::Value::DoubleValue).collect()),
        Value::Array(Array::String(values)) => {
            list(values.into_iter().map(|value| any_value::Value::StringValue(value.into())).collect())
        }
        // The enum may grow; what is new is shown as text rather than lost.
        other => any_value::Value::StringValue(other.to_string()),
    };
    common::AnyValue { value: Some(value) }
}

fn kind(kind: &opentelemetry::trace::SpanKind) -> wire::span::SpanKind {
    use opentelemetry::trace::SpanKind;
    match kind {
        SpanKind::Client => wire::span::SpanKind::Client,
        SpanKind::Server => wire::span::SpanKind::Server,
        SpanKind::Producer => wire::span::SpanKind::Producer,
        SpanKind::Consumer => wire::span::SpanKind::Consumer,
        SpanKind::Internal => wire::span::SpanKind::Internal,
    }
}

fn nanos(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{End, propagation};

    #[test]
    fn ids_flags_times_and_status_arrive_on_the_wire() {
        let context = http::HeaderMap::from_iter([
            (
                http::HeaderName::from_static("traceparent"),
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap(),
            ),
            (http::HeaderName::from_static("tracestate"), "a=1".parse().unwrap()),
        ]);
        let placement = propagation::proceed(&propagation::extract(&context).unwrap(), &mut rand::rng());
        let mut record = Span::new(placement.clone(), "GET");
        record.push(semconv::SERVER_PORT, 80_i64);
        record.fail("500");
        record.end = record.start + std::time::Duration::from_nanos(5);
        record.outcome = End::Complete;
        let sent = span(record);
        assert_eq!(sent.trace_id, placement.trace_id.to_bytes());
        assert_eq!(sent.span_id, placement.span_id.to_bytes());
        assert_eq!(sent.parent_span_id, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
        assert_eq!((sent.trace_state.as_str(), sent.flags, sent.kind), ("a=1", 0x301, 3));
        assert_eq!(sent.end_time_unix_nano - sent.start_time_unix_nano, 5);
        assert_eq!(sent.status.unwrap().code, 2);
        let port = &sent.attributes[0];
        assert_eq!(port.key, "server.port");
        assert_eq!(port.value.as_ref().unwrap().value, Some(any_value::Value::IntValue(80)));
    }

    #[test]
    fn a_root_has_no_parent_and_a_span_never_ends_before_it_starts() {
        let mut record = Span::new(propagation::start(&mut rand::rng()), "GET");
        record.end = record.start - std::time::Duration::from_secs(1);
        let sent = span(record);
        assert!(sent.parent_span_id.is_empty());
        assert_eq!(sent.flags, 0x103);
        assert_eq!(sent.start_time_unix_nano, sent.end_time_unix_nano);
    }
}
