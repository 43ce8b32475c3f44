//! Spans into export requests: one body for as many as a request may hold.

use bytes::Bytes;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1 as wire;
use prost::Message;

use super::buffer::Buffer;
use crate::otlp;

/// The next batch, oldest spans first.
pub(super) fn next(buffer: &mut Buffer, size: usize) -> Option<Vec<wire::Span>> {
    let spans = buffer.take(size);
    (!spans.is_empty()).then_some(spans)
}

/// An `ExportTraceServiceRequest` as protobuf, encoded once for all tries.
pub(super) fn encode(resource: &Resource, spans: Vec<wire::Span>) -> Bytes {
    otlp::request(resource, spans).encode_to_vec().into()
}
