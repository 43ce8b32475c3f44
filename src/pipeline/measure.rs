//! Metrics of calls, folded from finished spans before sampling: Sidetrace's own, by how calls ended and how long they
//! took; and the agent's, by the conventions ([`CallMetrics`]).

mod call;
mod families;
mod family;
mod labels;
mod prometheus;
mod report;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use opentelemetry::trace::SpanKind;

use self::families::Families;
use self::family::{Numbers, Room};
pub use self::report::Reporter;
use crate::budget::Budget;
use crate::config::{MetricNames, Temporality};
use crate::otlp::Resource;
use crate::otlp::metrics::Writer;
use crate::telemetry::exposition::Exposition;
use crate::telemetry::{CallProtocol, Metrics};
use crate::trace::{Span, semconv};

/// The agent's metrics: HTTP, RPC, GenAI and MCP calls by the semantic conventions.
///
/// Bounded: 2,000 series a metric with texts of 128 bytes at most, and an eighth of the budget over all metrics. What
/// finds no room counts in one more series, which says so.
#[derive(Debug)]
pub struct CallMetrics {
    names: MetricNames,
    start: SystemTime,
    // Entered by the pipeline once a batch and once a request, and by who reads `/metrics`: never by a call.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    families: Families,
    room: Room,
}

/// A place in the order of all series, which grows and never changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cursor {
    family: usize,
    series: usize,
}

impl CallMetrics {
    /// Without series.
    pub fn new(names: MetricNames, budget: &Arc<Budget>) -> Self {
        let start = SystemTime::now();
        Self {
            names,
            start,
            state: Mutex::new(State { families: Families::default(), room: Room::new(budget, start) }),
        }
    }

    /// Every series as Prometheus reads it, page by page: all of them may be more text than should be held at once.
    pub fn pages(self: Arc<Self>) -> impl Iterator<Item = String> + Send + Sync {
        let mut at = Cursor::default();
        std::iter::from_fn(move || {
            let mut text = Exposition::default();
            let state = self.lock();
            for family in state.families.all().skip(at.family) {
                at.series = prometheus::expose(family, at.series, &mut text);
                if text.size() >= prometheus::PAGE {
                    break;
                }
                at = Cursor { family: at.family + 1, series: 0 };
            }
            (text.size() > 0).then(|| text.into_text())
        })
    }

    fn fold(&self, spans: &[Span], metrics: &Metrics) {
        let State { families, room } = &mut *self.lock();
        spans.iter().for_each(|span| call::fold(span, self.names, families, room));
        metrics.metrics_overflow.add(std::mem::take(&mut room.overflowed));
    }

    /// An export begins: the first delta of a series that is new after this begins here.
    fn collect(&self) {
        self.lock().room.collected = SystemTime::now();
    }

    /// The next request from a place on, if anything is left, and where it ends.
    fn encode(
        &self,
        mut at: Cursor,
        resource: &Resource,
        temporality: Temporality,
        now: SystemTime,
    ) -> Option<(Bytes, Cursor)> {
        let (mut writer, mut scratch) = (Writer::new(temporality), Numbers::Count(0));
        let state = &mut *self.lock();
        'all: for family in state.families.all_mut().skip(at.family) {
            let instrument = family.instrument;
            for series in family.all_mut().iter_mut().skip(at.series) {
                if writer.size() >= MOST_BYTES {
                    writer.end_metric(&instrument);
                    break 'all;
                }
                at.series += 1;
                let point = match temporality {
                    Temporality::Cumulative => Some(series.total(self.start, now)),
                    Temporality::Delta | Temporality::LowMemory => series.delta(now, &mut scratch),
                };
                point.inspect(|point| writer.point(&instrument, point));
            }
            writer.end_metric(&instrument);
            at = Cursor { family: at.family + 1, series: 0 };
        }
        (writer.size() > 0).then(|| (writer.finish(resource), at))
    }

    /// A backend has what stands between two places.
    fn delivered(&self, from: Cursor, to: Cursor) {
        let state = &mut *self.lock();
        for (index, family) in state.families.all_mut().enumerate().skip(from.family) {
            let first = if index == from.family { from.series } else { 0 };
            let last = if index == to.family { to.series } else { usize::MAX };
            if index > to.family {
                return;
            }
            family.all_mut().iter_mut().take(last).skip(first).for_each(family::Series::delivered);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts every span.
pub(super) fn fold(spans: &[Span], metrics: &Metrics, calls: &CallMetrics) {
    if spans.is_empty() {
        return;
    }
    for span in spans {
        metrics.calls.inc(span.outcome.as_str());
        let inbound = span.kind == SpanKind::Server;
        // A clock that was set back: no time, rather than no call.
        let took = span.end.duration_since(span.start).unwrap_or_default();
        metrics.call_duration.of(inbound, protocol(span)).observe(took);
    }
    calls.fold(spans, metrics);
}

/// What the attributes tell. A call of which they tell nothing was a connection.
fn protocol(span: &Span) -> CallProtocol {
    let mut found = CallProtocol::Tcp;
    for attribute in &span.attributes {
        match attribute.key.as_str() {
            semconv::RPC_SYSTEM_NAME if attribute.value.as_str() == "grpc" => return CallProtocol::Grpc,
            semconv::NETWORK_PROTOCOL_VERSION if attribute.value.as_str() == "2" => return CallProtocol::Http2,
            semconv::HTTP_REQUEST_METHOD => found = CallProtocol::Http1,
            _ => {}
        }
    }
    found
}

/// A request begins no further point behind this: backends take 4 MiB, gRPC's default.
const MOST_BYTES: usize = 1 << 20;
