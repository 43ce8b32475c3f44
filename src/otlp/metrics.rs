//! Metrics as OTLP: sums and histograms, point by point.
//!
//! Source: `opentelemetry-proto` v1.11, `opentelemetry/proto/{collector/metrics,metrics}/v1/*.proto`.

use std::time::SystemTime;

use bytes::Bytes;
use opentelemetry::{KeyValue, SpanId, TraceId};

use super::wire::{nanos, put_attribute, put_bytes, put_fixed64, put_head, put_varint};
use super::{Resource, request};
use crate::config::Temporality;

/// What all points of a metric share.
#[derive(Clone, Copy, Debug)]
pub struct Instrument {
    /// Its name by the conventions.
    pub name: &'static str,
    /// UCUM.
    pub unit: &'static str,
    /// One sentence.
    pub description: &'static str,
    /// What is counted.
    pub kind: Kind,
}

/// What a metric's points are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A sum that only grows, of whole numbers.
    Count,
    /// A sum that only grows, of any.
    Amount,
    /// How many values were at most as large as each of these bounds and larger than the one before.
    Histogram(&'static [f64]),
}

/// One series at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Point<'a> {
    /// What tells it from the other series of its metric.
    pub attributes: &'a [KeyValue],
    /// What was measured later than this, …
    pub start: SystemTime,
    /// … and until now.
    pub time: SystemTime,
    /// The numbers.
    pub value: Value<'a>,
    /// Some of the measurements.
    pub exemplars: &'a [Exemplar],
}

/// A point's numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Of [`Kind::Count`].
    Count(u64),
    /// Of [`Kind::Amount`].
    Amount(f64),
    /// Of [`Kind::Histogram`].
    Histogram {
        /// One more than there are bounds: the last counts what is larger than all of them.
        counts: &'a [u64],
        /// All values together.
        sum: f64,
    },
}

/// One measurement, and the span that it was taken from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exemplar {
    /// The span's trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// When.
    pub time: SystemTime,
    /// What was measured.
    pub value: f64,
}

/// An `ExportMetricsServiceRequest` under construction.
#[derive(Debug)]
pub struct Writer {
    temporality: Temporality,
    metrics: Vec<u8>,
    points: Vec<u8>,
    message: Vec<u8>,
}

impl Writer {
    /// Without metrics.
    pub fn new(temporality: Temporality) -> Self {
        Self { temporality, metrics: Vec::new(), points: Vec::new(), message: Vec::new() }
    }

    /// Adds a point of the metric that [`end_metric`](Self::end_metric) ends.
    pub fn point(&mut self, instrument: &Instrument, point: &Point<'_>) {
        self.message.clear();
        put_point(&mut self.message, instrument, point);
        put_bytes(&mut self.points, field::DATA_POINTS, &self.message);
    }

    /// Ends a metric, which is left out if it has no points.
    pub fn end_metric(&mut self, instrument: &Instrument) {
        if self.points.is_empty() {
            return;
        }
        put_varint(&mut self.points, field::AGGREGATION_TEMPORALITY, temporality(self.temporality));
        let data = if let Kind::Histogram(_) = instrument.kind {
            field::HISTOGRAM
        } else {
            put_varint(&mut self.points, field::IS_MONOTONIC, 1);
            field::SUM
        };
        self.message.clear();
        put_bytes(&mut self.message, field::NAME, instrument.name.as_bytes());
        put_bytes(&mut self.message, field::DESCRIPTION, instrument.description.as_bytes());
        put_bytes(&mut self.message, field::UNIT, instrument.unit.as_bytes());
        put_bytes(&mut self.message, data, &self.points);
        put_bytes(&mut self.metrics, super::field::SCOPE_RECORDS, &self.message);
        self.points.clear();
    }

    /// How many bytes there are.
    pub fn size(&self) -> usize {
        self.metrics.len() + self.points.len()
    }

    /// The request.
    pub fn finish(self, resource: &Resource) -> Bytes {
        request(resource, &self.metrics)
    }
}

fn put_point(out: &mut Vec<u8>, instrument: &Instrument, point: &Point<'_>) {
    let (attributes, exemplars) = match instrument.kind {
        Kind::Histogram(_) => (field::HISTOGRAM_ATTRIBUTES, field::HISTOGRAM_EXEMPLARS),
        Kind::Count | Kind::Amount => (field::NUMBER_ATTRIBUTES, field::NUMBER_EXEMPLARS),
    };
    point.attributes.iter().for_each(|attribute| put_attribute(out, attributes, attribute));
    put_fixed64(out, field::START, nanos(point.start));
    put_fixed64(out, field::TIME, nanos(point.time.max(point.start)));
    match point.value {
        Value::Count(count) => put_fixed64(out, field::NUMBER_AS_INT, count),
        Value::Amount(amount) => put_fixed64(out, field::NUMBER_AS_DOUBLE, amount.to_bits()),
        Value::Histogram { counts, sum } => {
            put_fixed64(out, field::COUNT, counts.iter().sum());
            put_fixed64(out, field::HISTOGRAM_SUM, sum.to_bits());
            put_packed(out, field::BUCKET_COUNTS, counts.iter().copied());
            if let Kind::Histogram(bounds) = instrument.kind {
                put_packed(out, field::EXPLICIT_BOUNDS, bounds.iter().map(|bound| bound.to_bits()));
            }
        }
    }
    point.exemplars.iter().for_each(|exemplar| put_exemplar(out, exemplars, exemplar));
}

fn put_exemplar(out: &mut Vec<u8>, number: u32, exemplar: &Exemplar) {
    let mut message = Vec::with_capacity(64);
    put_fixed64(&mut message, field::EXEMPLAR_TIME, nanos(exemplar.time));
    put_fixed64(&mut message, field::EXEMPLAR_AS_DOUBLE, exemplar.value.to_bits());
    put_bytes(&mut message, field::EXEMPLAR_SPAN_ID, &exemplar.span_id.to_bytes());
    put_bytes(&mut message, field::EXEMPLAR_TRACE_ID, &exemplar.trace_id.to_bytes());
    put_bytes(out, number, &message);
}

/// Numbers of eight bytes, one behind the other.
fn put_packed(out: &mut Vec<u8>, number: u32, values: impl ExactSizeIterator<Item = u64>) {
    put_head(out, number, 8 * values.len());
    values.for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
}

/// `AggregationTemporality`
fn temporality(temporality: Temporality) -> u64 {
    match temporality {
        Temporality::Delta | Temporality::LowMemory => 1,
        Temporality::Cumulative => 2,
    }
}

/// Field numbers.
mod field {
    pub(super) const NAME: u32 = 1;
    pub(super) const DESCRIPTION: u32 = 2;
    pub(super) const UNIT: u32 = 3;
    pub(super) const SUM: u32 = 7;
    pub(super) const HISTOGRAM: u32 = 9;
    // Of `Sum` and `Histogram`.
    pub(super) const DATA_POINTS: u32 = 1;
    pub(super) const AGGREGATION_TEMPORALITY: u32 = 2;
    pub(super) const IS_MONOTONIC: u32 = 3;
    // Of both kinds of points.
    pub(super) const START: u32 = 2;
    pub(super) const TIME: u32 = 3;
    pub(super) const NUMBER_AS_DOUBLE: u32 = 4;
    pub(super) const NUMBER_EXEMPLARS: u32 = 5;
    pub(super) const NUMBER_AS_INT: u32 = 6;
    pub(super) const NUMBER_ATTRIBUTES: u32 = 7;
    pub(super) const COUNT: u32 = 4;
    pub(super) const HISTOGRAM_SUM: u32 = 5;
    pub(super) const BUCKET_COUNTS: u32 = 6;
    pub(super) const EXPLICIT_BOUNDS: u32 = 7;
    pub(super) const HISTOGRAM_EXEMPLARS: u32 = 8;
    pub(super) const HISTOGRAM_ATTRIBUTES: u32 = 9;
    pub(super) const EXEMPLAR_TIME: u32 = 2;
    pub(super) const EXEMPLAR_AS_DOUBLE: u32 = 3;
    pub(super) const EXEMPLAR_SPAN_ID: u32 = 4;
    pub(super) const EXEMPLAR_TRACE_ID: u32 = 5;
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value;
    use opentelemetry_proto::tonic::metrics::v1 as wire;
    use prost::Message;

    use super::*;
    use crate::trace::semconv;

    const DURATION: Instrument =
        Instrument { name: "d", unit: "s", description: "How long.", kind: Kind::Histogram(&[0.5, 1.0]) };
    const TOKENS: Instrument = Instrument { name: "t", unit: "{token}", description: "", kind: Kind::Count };
    const COST: Instrument = Instrument { name: "c", unit: "1", description: "", kind: Kind::Amount };

    #[test]
    fn a_request_is_what_the_structs_of_the_protocol_would_have_written() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let attributes = [KeyValue::new("a", "x".repeat(200)), KeyValue::new("b", 443_i64)];
        let exemplar = Exemplar { trace_id: 7_u128.into(), span_id: 9_u64.into(), time: at(15), value: 0.75 };
        let exemplars = [exemplar, exemplar];
        let value = Value::Histogram { counts: &[0, 300, 2], sum: 250.5 };
        let point = Point { attributes: &attributes, start: at(10), time: at(20), value, exemplars: &exemplars };
        let mut writer = Writer::new(Temporality::Cumulative);
        writer.point(&DURATION, &point);
        writer.point(&DURATION, &Point { attributes: &[], exemplars: &[], ..point });
        writer.end_metric(&DURATION);
        writer.end_metric(&DURATION);
        for (instrument, value) in [(TOKENS, Value::Count(1 << 40)), (COST, Value::Amount(0.125))] {
            writer.point(&instrument, &Point { value, exemplars: &[], ..point });
            writer.end_metric(&instrument);
        }
        let resource = Resource::new(&[KeyValue::new("service.name", "a")]);
        let mut request = ExportMetricsServiceRequest::decode(writer.finish(&resource)).unwrap();
        let mut group = request.resource_metrics.remove(0);
        assert_eq!((group.resource.unwrap().attributes.len(), &*group.schema_url), (1, semconv::SCHEMA_URL));
        let scope = group.scope_metrics.remove(0);
        assert_eq!(scope.scope.unwrap().name, "sidetrace");
        let [duration, tokens, cost] = &scope.metrics[..] else { panic!("{:?}", scope.metrics) };
        assert_eq!((&*duration.name, &*duration.unit, &*duration.description), ("d", "s", "How long."));
        let Some(wire::metric::Data::Histogram(histogram)) = &duration.data else { panic!("{duration:?}") };
        assert_eq!(histogram.aggregation_temporality(), wire::AggregationTemporality::Cumulative);
        assert_eq!(histogram.data_points.len(), 2);
        let point = &histogram.data_points[0];
        assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (10_000_000_000, 20_000_000_000));
        assert_eq!((point.count, point.sum), (302, Some(250.5)));
        assert_eq!((&point.bucket_counts[..], &point.explicit_bounds[..]), (&[0, 300, 2][..], &[0.5, 1.0][..]));
        let value = |index: usize| point.attributes[index].value.clone().unwrap().value.unwrap();
        assert_eq!(value(0), any_value::Value::StringValue("x".repeat(200)));
        assert_eq!(value(1), any_value::Value::IntValue(443));
        let exemplar = &point.exemplars[1];
        assert_eq!(exemplar.trace_id, 7_u128.to_be_bytes());
        assert_eq!((&exemplar.span_id[..], exemplar.time_unix_nano), (&9_u64.to_be_bytes()[..], 15_000_000_000));
        assert_eq!(exemplar.value, Some(wire::exemplar::Value::AsDouble(0.75)));
        for (metric, expected) in [
            (tokens, wire::number_data_point::Value::AsInt(1 << 40)),
            (cost, wire::number_data_point::Value::AsDouble(0.125)),
        ] {
            let Some(wire::metric::Data::Sum(sum)) = &metric.data else { panic!("{metric:?}") };
            assert!(sum.is_monotonic);
            assert_eq!((sum.data_points[0].value, sum.data_points[0].attributes.len()), (Some(expected), 2));
        }
    }

    #[test]
    fn deltas_say_so() {
        for temporality in [Temporality::Delta, Temporality::LowMemory] {
            let mut writer = Writer::new(temporality);
            let now = SystemTime::now();
            let point = Point { attributes: &[], start: now, time: now, value: Value::Count(1), exemplars: &[] };
            writer.point(&TOKENS, &point);
            writer.end_metric(&TOKENS);
            let request = ExportMetricsServiceRequest::decode(writer.finish(&Resource::new(&[]))).unwrap();
            let metric = &request.resource_metrics[0].scope_metrics[0].metrics[0];
            let Some(wire::metric::Data::Sum(sum)) = &metric.data else { panic!("{metric:?}") };
            assert_eq!(sum.aggregation_temporality(), wire::AggregationTemporality::Delta);
        }
    }
}
