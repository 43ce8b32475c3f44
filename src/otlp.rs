//! Our telemetry as OTLP: spans here, the agent's metrics in [`metrics`], events in [`logs`].
//!
//! Written straight from the compact records into the request's bytes: through `opentelemetry-proto`'s structs every
//! attribute would cost two allocations, and export the greater part of what tracing costs. The tests read it back through
//! those structs.
//!
//! Source: `opentelemetry-proto` v1.11, `opentelemetry/proto/{collector/trace,trace,common,resource}/v1/*.proto`; Protocol
//! Buffers, "Encoding".

pub mod logs;
pub mod metrics;
mod resource;
mod wire;

use std::sync::Arc;

use bytes::Bytes;
use opentelemetry::trace::SpanKind;

pub use self::resource::Resource;

use self::wire::{nanos, put_attribute, put_bytes, put_fixed32, put_fixed64, put_varint};
use crate::trace::{Span, SpanLink, Workload, semconv};

/// One `ExportTraceServiceRequest`: spans of one scope, in a group for each workload.
pub fn encode(resource: &Resource, spans: &[Span]) -> Bytes {
    let mut message = Vec::with_capacity(2 * TYPICAL_SPAN);
    grouped(
        resource,
        spans,
        |span| span.workload.as_ref(),
        |span, out| {
            message.clear();
            put_span(&mut message, span);
            put_bytes(out, field::SCOPE_RECORDS, &message);
        },
    )
}

/// The request of any signal, which differ in their records alone: those of one resource and one scope, each with its tag.
fn request(resource: &Resource, records: &[u8]) -> Bytes {
    let mut request = Vec::with_capacity(records.len() + OVERHEAD);
    put_group(&mut request, &resource.of(None), records);
    request.into()
}

/// The same of several workloads: each is a group, in the order of their first records. `put` writes one record with its tag.
fn grouped<R>(
    resource: &Resource,
    records: &[R],
    workload: impl Fn(&R) -> Option<&Arc<Workload>>,
    mut put: impl FnMut(&R, &mut Vec<u8>),
) -> Bytes {
    let mut workloads: Vec<Option<&Arc<Workload>>> = Vec::new();
    // Most pods have one: a comparison for each record.
    for record in records {
        if !workloads.contains(&workload(record)) {
            workloads.push(workload(record));
        }
    }
    let mut request = Vec::new();
    let mut group = Vec::with_capacity(records.len() * TYPICAL_SPAN);
    for of in workloads {
        group.clear();
        records.iter().filter(|record| workload(record) == of).for_each(|record| put(record, &mut group));
        request.reserve(group.len() + OVERHEAD);
        put_group(&mut request, &resource.of(of), &group);
    }
    request.into()
}

fn put_group(out: &mut Vec<u8>, resource: &[u8], records: &[u8]) {
    let mut scope = Vec::new();
    put_bytes(&mut scope, field::SCOPE_NAME, env!("CARGO_PKG_NAME").as_bytes());
    put_bytes(&mut scope, field::SCOPE_VERSION, env!("CARGO_PKG_VERSION").as_bytes());

    let mut of_scope = Vec::with_capacity(records.len() + 64);
    put_bytes(&mut of_scope, field::SCOPE, &scope);
    of_scope.extend_from_slice(records);

    let mut of_resource = Vec::with_capacity(of_scope.len() + resource.len() + 128);
    put_bytes(&mut of_resource, field::RESOURCE, resource);
    put_bytes(&mut of_resource, field::SCOPES, &of_scope);
    put_bytes(&mut of_resource, field::SCHEMA_URL, semconv::SCHEMA_URL.as_bytes());

    put_bytes(out, field::RESOURCES, &of_resource);
}

fn put_span(out: &mut Vec<u8>, span: &Span) {
    let placement = &span.placement;
    put_bytes(out, field::TRACE_ID, &placement.trace_id.to_bytes());
    put_bytes(out, field::SPAN_ID, &placement.span_id.to_bytes());
    if !placement.tracestate.is_empty() {
        put_bytes(out, field::TRACE_STATE, placement.tracestate.as_bytes());
    }
    if let Some(parent) = placement.parent {
        put_bytes(out, field::PARENT_SPAN_ID, &parent.to_bytes());
    }
    put_bytes(out, field::NAME, span.name.as_bytes());
    put_varint(out, field::KIND, kind(&span.kind));
    put_fixed64(out, field::START, nanos(span.start));
    // A clock that was set back must not make a span of negative length.
    put_fixed64(out, field::END, nanos(span.end.max(span.start)));
    span.attributes.iter().for_each(|attribute| put_attribute(out, field::ATTRIBUTES, attribute));
    placement.links.iter().for_each(|link| put_link(out, link));
    if span.error {
        let mut status = Vec::new();
        put_varint(&mut status, field::STATUS_CODE, STATUS_ERROR);
        put_bytes(out, field::STATUS, &status);
    }
    // The caller is on the other side of a wire, always: bits 8 and 9 of the flags (`SpanFlags`).
    let remote = if placement.parent.is_some() { HAS_IS_REMOTE | IS_REMOTE } else { HAS_IS_REMOTE };
    put_fixed32(out, field::FLAGS, u32::from(placement.flags.to_u8()) | remote);
}

/// A `Span.Link`. What we point at came over a wire.
fn put_link(out: &mut Vec<u8>, link: &SpanLink) {
    let mut message = Vec::with_capacity(64);
    put_bytes(&mut message, field::TRACE_ID, &link.trace_id.to_bytes());
    put_bytes(&mut message, field::SPAN_ID, &link.span_id.to_bytes());
    if !link.tracestate.is_empty() {
        put_bytes(&mut message, field::TRACE_STATE, link.tracestate.as_bytes());
    }
    put_fixed32(&mut message, field::LINK_FLAGS, u32::from(link.flags.to_u8()) | HAS_IS_REMOTE | IS_REMOTE);
    put_bytes(out, field::LINKS, &message);
}

/// `Span.SpanKind`
fn kind(kind: &SpanKind) -> u64 {
    match kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    }
}

/// Field numbers.
mod field {
    // The same for all signals: `resource_spans`, `resource_metrics`, …; `scope_spans`, …; `spans`, `metrics`, `log_records`.
    pub(super) const RESOURCES: u32 = 1;
    pub(super) const RESOURCE: u32 = 1;
    pub(super) const SCOPES: u32 = 2;
    pub(super) const SCHEMA_URL: u32 = 3;
    pub(super) const RESOURCE_ATTRIBUTES: u32 = 1;
    pub(super) const SCOPE: u32 = 1;
    pub(super) const SCOPE_RECORDS: u32 = 2;
    pub(super) const SCOPE_NAME: u32 = 1;
    pub(super) const SCOPE_VERSION: u32 = 2;
    pub(super) const TRACE_ID: u32 = 1;
    pub(super) const SPAN_ID: u32 = 2;
    pub(super) const TRACE_STATE: u32 = 3;
    pub(super) const PARENT_SPAN_ID: u32 = 4;
    pub(super) const NAME: u32 = 5;
    pub(super) const KIND: u32 = 6;
    pub(super) const START: u32 = 7;
    pub(super) const END: u32 = 8;
    pub(super) const ATTRIBUTES: u32 = 9;
    pub(super) const LINKS: u32 = 13;
    pub(super) const LINK_FLAGS: u32 = 6;
    pub(super) const STATUS: u32 = 15;
    pub(super) const STATUS_CODE: u32 = 3;
    pub(super) const FLAGS: u32 = 16;
}

const STATUS_ERROR: u64 = 2;
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;
const TYPICAL_SPAN: usize = 512;
/// What resource and scope take.
const OVERHEAD: usize = 1024;

#[cfg(test)]
mod tests {
    use opentelemetry::{Array, KeyValue, StringValue, Value};
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value;
    use opentelemetry_proto::tonic::trace::v1 as wire;
    use prost::Message;

    use super::*;
    use crate::trace::End;
    use crate::trace::propagation::{self, Propagators};

    /// Through the wire and back.
    fn sent(resource: &[KeyValue], spans: &[Span]) -> ExportTraceServiceRequest {
        ExportTraceServiceRequest::decode(encode(&Resource::new(resource), spans)).unwrap()
    }

    fn only(span: Span) -> wire::Span {
        sent(&[], &[span]).resource_spans.remove(0).scope_spans.remove(0).spans.remove(0)
    }

    #[test]
    fn a_request_is_what_the_structs_of_the_protocol_would_have_written() {
        let placement = propagation::start(&mut rand::rng());
        let mut record = Span::new(placement, "n".repeat(300));
        let strings = vec![StringValue::from("h2"), StringValue::from("")];
        record.push("text", "t".repeat(20_000));
        record.push("empty", "");
        record.push("yes", true);
        record.push("negative", -1_i64);
        record.push("large", i64::MAX);
        record.push("double", 0.25);
        record.push("strings", Value::Array(Array::String(strings)));
        record.push("numbers", Value::Array(Array::I64(vec![0, -5])));
        let resource = [KeyValue::new("service.name", "a"), KeyValue::new("port", 80_i64)];
        let request = sent(&resource, &[record.clone(), record]);
        let group = &request.resource_spans[0];
        assert_eq!(group.schema_url, semconv::SCHEMA_URL);
        let attributes = &group.resource.as_ref().unwrap().attributes;
        assert_eq!((attributes[0].key.as_str(), attributes.len()), ("service.name", 2));
        let scope = group.scope_spans[0].scope.as_ref().unwrap();
        assert_eq!((scope.name.as_str(), scope.version.as_str()), ("sidetrace", env!("CARGO_PKG_VERSION")));
        assert_eq!(group.scope_spans[0].spans.len(), 2);
        let span = &group.scope_spans[0].spans[1];
        assert_eq!(span.name.len(), 300);
        let value = |key: &str| {
            let found = span.attributes.iter().find(|attribute| attribute.key == key).unwrap();
            found.value.clone().unwrap().value.unwrap()
        };
        assert_eq!(value("text"), any_value::Value::StringValue("t".repeat(20_000)));
        assert_eq!(value("empty"), any_value::Value::StringValue(String::new()));
        assert_eq!(value("yes"), any_value::Value::BoolValue(true));
        assert_eq!(value("negative"), any_value::Value::IntValue(-1));
        assert_eq!(value("large"), any_value::Value::IntValue(i64::MAX));
        assert_eq!(value("double"), any_value::Value::DoubleValue(0.25));
        let any_value::Value::ArrayValue(array) = value("strings") else { panic!() };
        assert_eq!(array.values.len(), 2);
        assert_eq!(array.values[0].value, Some(any_value::Value::StringValue("h2".into())));
        let any_value::Value::ArrayValue(array) = value("numbers") else { panic!() };
        assert_eq!(array.values[1].value, Some(any_value::Value::IntValue(-5)));
    }

    #[test]
    fn spans_of_several_workloads_are_groups_with_a_resource_each_and_keep_their_order() {
        let span = |name: &'static str, workload: Option<&Arc<Workload>>| {
            let mut span = Span::new(propagation::start(&mut rand::rng()), name);
            span.workload = workload.cloned();
            span
        };
        let workload = |name: &str| Arc::new(Workload { name: name.into(), container: None, attributes: Vec::new() });
        let (planner, writer) = (workload("planner"), workload("writer"));
        // Of rules that were read again.
        let again = workload("planner");
        let spans = [
            span("1", Some(&planner)),
            span("2", None),
            span("3", Some(&writer)),
            span("4", Some(&again)),
            span("5", None),
        ];
        let found: Vec<(String, Vec<String>)> = sent(&[KeyValue::new("service.name", "pod")], &spans)
            .resource_spans
            .into_iter()
            .map(|group| {
                let service = group.resource.unwrap().attributes.remove(0).value.unwrap().value.unwrap();
                let any_value::Value::StringValue(service) = service else { panic!("{service:?}") };
                assert_eq!((group.schema_url.as_str(), group.scope_spans.len()), (semconv::SCHEMA_URL, 1));
                (service, group.scope_spans[0].spans.iter().map(|span| span.name.clone()).collect())
            })
            .collect();
        let expected = [("planner", vec!["1", "4"]), ("pod", vec!["2", "5"]), ("writer", vec!["3"])];
        for ((service, names), (expected, expected_names)) in found.iter().zip(&expected) {
            assert_eq!((service.as_str(), names), (*expected, &expected_names.iter().map(|n| n.to_string()).collect()));
        }
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn ids_flags_times_and_status_arrive_on_the_wire() {
        let context = http::HeaderMap::from_iter([
            (
                http::HeaderName::from_static("traceparent"),
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap(),
            ),
            (http::HeaderName::from_static("tracestate"), "a=1".parse().unwrap()),
        ]);
        let placement =
            propagation::proceed(Propagators::default().extract(&context).context().unwrap(), &mut rand::rng());
        let mut record = Span::new(placement.clone(), "GET");
        record.push(semconv::SERVER_PORT, 80_i64);
        record.fail("500");
        record.end = record.start + std::time::Duration::from_nanos(5);
        record.outcome = End::Complete;
        let sent = only(record);
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
    fn links_arrive_on_the_wire_with_the_state_that_came_with_them() {
        let mut placement = propagation::start(&mut rand::rng());
        let link = |tracestate: &str| SpanLink {
            trace_id: 1_u128.into(),
            span_id: 2_u64.into(),
            flags: opentelemetry::TraceFlags::SAMPLED,
            tracestate: tracestate.into(),
        };
        placement.links = vec![link("a=1"), link("")];
        let sent = only(Span::new(placement, "GET"));
        assert_eq!(sent.links.len(), 2);
        assert_eq!(sent.links[0].trace_id, 1_u128.to_be_bytes());
        assert_eq!(sent.links[0].span_id, 2_u64.to_be_bytes());
        assert_eq!((sent.links[0].trace_state.as_str(), sent.links[0].flags), ("a=1", 0x301));
        assert_eq!(sent.links[1].trace_state, "");
    }

    #[test]
    fn a_root_has_no_parent_and_a_span_never_ends_before_it_starts() {
        let mut record = Span::new(propagation::start(&mut rand::rng()), "GET");
        record.end = record.start - std::time::Duration::from_secs(1);
        let sent = only(record);
        assert!(sent.parent_span_id.is_empty());
        assert_eq!(sent.flags, 0x103);
        assert_eq!(sent.start_time_unix_nano, sent.end_time_unix_nano);
    }
}
