//! Events as OTLP: log records with a name, which is what an event is.
//!
//! Source: `opentelemetry-proto` v1.11, `opentelemetry/proto/logs/v1/logs.proto`.

use std::sync::Arc;

use bytes::Bytes;

use super::Resource;
use super::wire::{nanos, put_attribute, put_bytes, put_fixed32, put_fixed64, put_structured, put_varint};
use crate::trace::semconv::event;
use crate::trace::{Content, Span, Workload};

/// The record of what was said in a call: the span's own attributes, and the content, structured.
pub fn content(span: &Span, content: &Content) -> Vec<u8> {
    let size = content.iter().map(|(_, text)| text.len()).sum::<usize>();
    let mut record = Vec::with_capacity(size + size / 4 + TYPICAL_RECORD);
    // Of a clock that was set back, as the span's end.
    let time = nanos(span.end.max(span.start));
    put_fixed64(&mut record, field::TIME, time);
    put_varint(&mut record, field::SEVERITY_NUMBER, INFO);
    put_bytes(&mut record, field::SEVERITY_TEXT, b"INFO");
    for attribute in &span.attributes {
        // The span may have the content too, as text.
        if content.iter().all(|(name, _)| *name != attribute.key.as_str()) {
            put_attribute(&mut record, field::ATTRIBUTES, attribute);
        }
    }
    content.iter().for_each(|(name, text)| put_structured(&mut record, field::ATTRIBUTES, name, text));
    put_fixed32(&mut record, field::FLAGS, u32::from(span.placement.flags.to_u8()));
    put_bytes(&mut record, field::TRACE_ID, &span.placement.trace_id.to_bytes());
    put_bytes(&mut record, field::SPAN_ID, &span.placement.span_id.to_bytes());
    put_fixed64(&mut record, field::OBSERVED_TIME, time);
    put_bytes(&mut record, field::EVENT_NAME, event::GEN_AI_CLIENT_INFERENCE_OPERATION_DETAILS.as_bytes());
    record
}

/// One `ExportLogsServiceRequest`: encoded records of one scope, in a group for each workload.
pub fn encode(resource: &Resource, records: &[(Option<Arc<Workload>>, Vec<u8>)]) -> Bytes {
    super::grouped(
        resource,
        records,
        |(workload, _)| workload.as_ref(),
        |(_, record), out| put_bytes(out, super::field::SCOPE_RECORDS, record),
    )
}

/// Field numbers of a `LogRecord`.
mod field {
    pub(super) const TIME: u32 = 1;
    pub(super) const SEVERITY_NUMBER: u32 = 2;
    pub(super) const SEVERITY_TEXT: u32 = 3;
    pub(super) const ATTRIBUTES: u32 = 6;
    pub(super) const FLAGS: u32 = 8;
    pub(super) const TRACE_ID: u32 = 9;
    pub(super) const SPAN_ID: u32 = 10;
    pub(super) const OBSERVED_TIME: u32 = 11;
    pub(super) const EVENT_NAME: u32 = 12;
}

/// `SEVERITY_NUMBER_INFO`
const INFO: u64 = 9;
const TYPICAL_RECORD: usize = 1024;

#[cfg(test)]
mod tests {
    use opentelemetry::KeyValue;
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
    use opentelemetry_proto::tonic::logs::v1::LogRecord;
    use prost::Message;

    use super::*;
    use crate::trace::{propagation, semconv};

    fn value<'a>(record: &'a LogRecord, key: &str) -> &'a Any {
        let found: Vec<_> = record.attributes.iter().filter(|attribute| attribute.key == key).collect();
        assert_eq!(found.len(), 1, "{key}");
        found[0].value.as_ref().unwrap().value.as_ref().unwrap()
    }

    #[test]
    fn a_record_is_the_spans_with_its_attributes_once_and_structured_content() {
        let mut span = Span::new(propagation::start(&mut rand::rng()), "chat gpt-4o");
        span.end = span.start + std::time::Duration::from_secs(1);
        span.push(semconv::GEN_AI_REQUEST_MODEL, "gpt-4o");
        let text = r#"[{"role":"user","parts":[]}]"#;
        span.push(semconv::GEN_AI_INPUT_MESSAGES, text);
        let record = content(&span, &vec![(semconv::GEN_AI_INPUT_MESSAGES, text.into())]);
        let resource = Resource::new(&[KeyValue::new("service.name", "a")]);
        let records = [(None, record.clone()), (None, record)];
        let request = ExportLogsServiceRequest::decode(encode(&resource, &records)).unwrap();
        let group = &request.resource_logs[0];
        assert_eq!(group.schema_url, semconv::SCHEMA_URL);
        assert_eq!(group.resource.as_ref().unwrap().attributes.len(), 1);
        assert_eq!(group.scope_logs[0].scope.as_ref().unwrap().name, "sidetrace");
        assert_eq!(group.scope_logs[0].log_records.len(), 2);
        let record = &group.scope_logs[0].log_records[1];
        assert_eq!(record.event_name, "gen_ai.client.inference.operation.details");
        assert_eq!((record.time_unix_nano, record.observed_time_unix_nano), (nanos(span.end), nanos(span.end)));
        assert_eq!((record.severity_number, record.severity_text.as_str()), (9, "INFO"));
        assert_eq!(record.trace_id, span.placement.trace_id.to_bytes());
        assert_eq!(record.span_id, span.placement.span_id.to_bytes());
        assert_eq!((record.flags, record.body.as_ref()), (u32::from(span.placement.flags.to_u8()), None));
        assert_eq!(value(record, semconv::GEN_AI_REQUEST_MODEL), &Any::StringValue("gpt-4o".into()));
        let Any::ArrayValue(messages) = value(record, semconv::GEN_AI_INPUT_MESSAGES) else { panic!("{record:?}") };
        let Some(Any::KvlistValue(message)) = &messages.values[0].value else { panic!("{messages:?}") };
        assert_eq!(message.values[0].key, "role");
        assert_eq!(message.values[0].value.as_ref().unwrap().value, Some(Any::StringValue("user".into())));
        assert_eq!(message.values[1].key, "parts");
        assert_eq!(record.attributes.len(), 2);
    }
}
