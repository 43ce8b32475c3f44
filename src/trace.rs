//! What one call leaves behind: the span record, the handle that ends it, and the queue it goes to.
//!
//! The data plane knows nothing of OTLP: it fills a [`Span`] through an [`ActiveSpan`] and forgets it; the telemetry
//! plane reads finished spans from a [`SpanSource`].

pub mod propagation;
pub mod sampler;
pub mod semconv;
mod sink;
pub mod url;

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use opentelemetry::trace::SpanKind;
use opentelemetry::{Array, KeyValue, SpanId, TraceFlags, TraceId, Value};

use propagation::RemoteContext;
pub use sink::{SpanSink, SpanSource, channel, channel_within};

/// Where a call stands in its trace. Fixed before the call's headers are written, final after that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The trace that the call belongs to.
    pub trace_id: TraceId,
    /// The call's own span id, new for every call.
    pub span_id: SpanId,
    /// The caller's span, when the call brought a context along.
    pub parent: Option<SpanId>,
    /// W3C trace flags as sent upstream: sampled, random.
    pub flags: TraceFlags,
    /// The `tracestate` as sent upstream; empty for none.
    pub tracestate: Arc<str>,
    /// Spans of other traces that have to do with this one; most often none.
    pub links: Vec<SpanLink>,
}

/// A span that ours points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanLink {
    /// Its trace.
    pub trace_id: TraceId,
    /// Its id.
    pub span_id: SpanId,
    /// The flags that came with it.
    pub flags: TraceFlags,
    /// The `tracestate` that came with it; empty for none.
    pub tracestate: Arc<str>,
}

impl From<&RemoteContext> for SpanLink {
    fn from(context: &RemoteContext) -> Self {
        Self {
            trace_id: context.trace_id,
            span_id: context.span_id,
            flags: context.flags,
            tracestate: context.tracestate.clone(),
        }
    }
}

/// How a call came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both directions said their last byte.
    Complete,
    /// The upstream side failed: reset, truncated, unreadable.
    Broken,
    /// The client gave up, or the call was dropped for another reason before it was done.
    Cancelled,
    /// Upstream could not be reached at all.
    Refused,
}

impl End {
    /// The value of [`semconv::SIDETRACE_END`].
    pub fn as_str(self) -> &'static str {
        match self {
            End::Complete => "complete",
            End::Broken => "broken",
            End::Cancelled => "cancelled",
            End::Refused => "refused",
        }
    }
}

/// One finished call.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its place in a trace.
    pub placement: Placement,
    /// CLIENT for what the agent calls.
    pub kind: SpanKind,
    /// The name by the conventions.
    pub name: Cow<'static, str>,
    /// Before the first byte went upstream.
    pub start: SystemTime,
    /// After the last byte of the answer.
    pub end: SystemTime,
    /// Attributes; a key appears once.
    pub attributes: Vec<KeyValue>,
    /// True for status ERROR; the attribute `error.type` says why.
    pub error: bool,
    /// What the other side said of the error, redacted and bounded; the status's description.
    pub description: Option<Box<str>>,
    /// The times between the chunks of a streamed answer.
    pub chunks: Option<Box<ChunkTimes>>,
    /// What the model was told and said, where that leaves as an event: attribute names and JSON texts, redacted and bounded.
    pub content: Option<Box<Content>>,
    /// Whose call it is, where the pod has several that are told apart.
    pub workload: Option<Arc<Workload>>,
    /// How it ended.
    pub outcome: End,
}

/// One of several workloads of a pod: what is different in its resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Its `service.name`.
    pub name: Box<str>,
    /// Its `k8s.container.name`.
    pub container: Option<Box<str>>,
    /// Others, in the pod's place.
    pub attributes: Vec<KeyValue>,
}

/// Attribute names of a content event and their JSON texts.
pub type Content = Vec<(&'static str, Box<str>)>;

/// How long after one chunk of an answer the next one came: a histogram of its own, folded into the metric's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ChunkTimes {
    /// How many were at most as long as each of [`ChunkTimes::BOUNDS`] and longer than the one before; the last counts the rest.
    pub counts: [u32; ChunkTimes::BOUNDS.len() + 1],
    /// All of them, in seconds.
    pub sum: f64,
}

impl ChunkTimes {
    /// In seconds (GenAI conventions, `gen_ai.client.operation.time_per_output_chunk`).
    pub const BOUNDS: [f64; 14] =
        [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];

    /// Counts one.
    pub fn observe(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        let place = Self::BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(Self::BOUNDS.len());
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
        }
        self.sum += seconds;
    }
}

impl Span {
    /// A span that starts now.
    pub fn new(placement: Placement, name: impl Into<Cow<'static, str>>) -> Self {
        let now = SystemTime::now();
        Self {
            placement,
            kind: SpanKind::Client,
            name: name.into(),
            start: now,
            end: now,
            attributes: Vec::with_capacity(16),
            error: false,
            description: None,
            chunks: None,
            content: None,
            workload: None,
            outcome: End::Cancelled,
        }
    }

    /// Adds an attribute. Keys are not compared: the caller adds each once.
    pub fn push(&mut self, key: &'static str, value: impl Into<Value>) {
        self.attributes.push(KeyValue::new(key, value.into()));
    }

    /// About how many bytes of memory the span holds. Biased upwards: texts that are static or shared count too.
    pub fn size(&self) -> usize {
        let held = |attribute: &KeyValue| match &attribute.value {
            Value::String(text) => text.as_str().len(),
            Value::Array(Array::String(texts)) => texts.iter().map(|text| 32 + text.as_str().len()).sum(),
            Value::Array(_) => 64,
            _ => 0,
        };
        size_of::<Self>()
            + self.name.len()
            + self.placement.tracestate.len()
            + self.attributes.capacity() * size_of::<KeyValue>()
            + self.attributes.iter().map(held).sum::<usize>()
            + self.description.as_ref().map_or(0, |text| text.len())
            + self.chunks.as_ref().map_or(0, |_| size_of::<ChunkTimes>())
            + self.content.iter().flat_map(|content| content.iter()).map(|(_, text)| 32 + text.len()).sum::<usize>()
    }

    /// Marks the span failed with a low-cardinality reason. The first reason stays.
    pub fn fail(&mut self, error_type: impl Into<Value>) {
        if !self.error {
            self.error = true;
            self.push(semconv::ERROR_TYPE, error_type);
        }
    }
}

/// A call under way. The span is sent to the sink when the last clone of the handle drops; a call that nobody concluded
/// was [`End::Cancelled`].
#[derive(Clone, Debug)]
pub struct ActiveSpan(Arc<Active>);

#[derive(Debug)]
struct Active {
    // Locked by the one task that drives the call, a few times a call: never contended.
    state: Mutex<State>,
    sink: SpanSink,
}

#[derive(Debug)]
struct State {
    // Taken by the drop.
    span: Option<Span>,
    concluded: bool,
}

impl ActiveSpan {
    /// Opens a span that will be sent to `sink`. Where telemetry is shed the record is forgotten at once, and the handle
    /// does nothing.
    pub fn new(span: Span, sink: SpanSink) -> Self {
        let span = sink.admits().then_some(span);
        Self(Arc::new(Active { state: Mutex::new(State { span, concluded: false }), sink }))
    }

    /// Changes the record.
    pub fn update(&self, change: impl FnOnce(&mut Span)) {
        if let Some(span) = &mut self.0.lock().span {
            change(span);
        }
    }

    /// Says how the call ended, and when: now. The first conclusion stays.
    pub fn conclude(&self, end: End) {
        self.conclude_with(end, |_| {});
    }

    /// The same, with what only this end adds to the record.
    pub fn conclude_with(&self, end: End, change: impl FnOnce(&mut Span)) {
        let mut state = self.0.lock();
        if !state.concluded {
            state.conclude(end);
            state.span.as_mut().map(change);
        }
    }
}

impl State {
    fn conclude(&mut self, end: End) {
        if let Some(span) = self.span.as_mut().filter(|_| !self.concluded) {
            span.end = SystemTime::now();
            span.outcome = end;
            self.concluded = true;
        }
    }
}

impl Active {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let mut state = self.lock();
        state.conclude(End::Cancelled);
        let Some(mut span) = state.span.take() else { return };
        drop(state);
        if span.outcome != End::Complete {
            span.push(semconv::SIDETRACE_END, span.outcome.as_str());
        }
        self.sink.send(span);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use crate::telemetry::{Loss, Metrics};

    fn placement() -> Placement {
        propagation::start(&mut rand::rng())
    }

    #[test]
    fn a_span_is_sent_once_when_its_last_handle_drops() {
        let (sink, mut source) = channel(8, 1, Arc::new(Metrics::default()));
        let first = ActiveSpan::new(Span::new(placement(), "GET"), sink);
        let second = first.clone();
        first.conclude(End::Complete);
        drop(first);
        assert!(source.drain().is_empty());
        drop(second);
        let spans = source.drain();
        assert_eq!(spans.len(), 1);
        assert_eq!(spans[0].outcome, End::Complete);
        assert!(spans[0].attributes.is_empty());
    }

    #[test]
    fn a_span_that_nobody_concludes_is_cancelled_and_says_so() {
        let (sink, mut source) = channel(8, 1, Arc::new(Metrics::default()));
        drop(ActiveSpan::new(Span::new(placement(), "GET"), sink));
        let span = source.drain().remove(0);
        assert_eq!(span.outcome, End::Cancelled);
        assert_eq!(span.attributes, [KeyValue::new(semconv::SIDETRACE_END, "cancelled")]);
        assert!(!span.error);
    }

    #[test]
    fn the_first_conclusion_stays_wherever_the_start_was_set_to() {
        let (sink, mut source) = channel(8, 1, Arc::new(Metrics::default()));
        let mut begun_earlier = Span::new(placement(), "connect");
        begun_earlier.start -= Duration::from_secs(1);
        let span = ActiveSpan::new(begun_earlier, sink);
        span.conclude(End::Broken);
        span.conclude(End::Complete);
        drop(span);
        assert_eq!(source.drain().remove(0).outcome, End::Broken);
    }

    #[test]
    fn a_call_that_begins_while_telemetry_is_shed_is_counted_and_leaves_no_span() {
        let (budget, metrics) = (Budget::of(1_000_000), Arc::new(Metrics::default()));
        let (sink, mut source) = channel_within(budget.clone(), 8, 1, metrics.clone());
        let before = ActiveSpan::new(Span::new(placement(), "GET"), sink.clone());
        budget.observe(900_000);
        let shed = ActiveSpan::new(Span::new(placement(), "GET"), sink.clone());
        shed.update(|span| span.fail("500"));
        shed.conclude(End::Complete);
        drop((before, shed));
        budget.observe(100);
        drop(ActiveSpan::new(Span::new(placement(), "GET"), sink));
        assert_eq!(source.drain().len(), 2);
        assert_eq!((metrics.spans_created.value(), metrics.losses(Loss::Shed)), (3, 1));
    }

    #[test]
    fn a_spans_size_grows_with_what_it_holds() {
        let mut span = Span::new(placement(), "GET");
        let empty = span.size();
        assert!((500..4000).contains(&empty), "{empty}");
        span.push(semconv::URL_FULL, "x".repeat(1000));
        assert_eq!(span.size(), empty + 1000);
    }

    #[test]
    fn the_first_error_type_stays() {
        let mut span = Span::new(placement(), "GET");
        span.fail("500");
        span.fail("connection_reset");
        assert_eq!(span.attributes, [KeyValue::new(semconv::ERROR_TYPE, "500")]);
    }
}
