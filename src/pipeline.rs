//! The telemetry plane, on a thread of its own: queue -> measure -> enrich -> buffer -> sampling -> route -> batch ->
//! deliver. What was said in a kept span's call leaves it before the buffer, as an event.
//!
//! Each stage is a plain function or a small value, called in this order by [`Pipeline::run`]. Nothing here is ever
//! waited for by a call.

mod batch;
mod buffer;
mod enrich;
mod events;
mod measure;
mod route;
mod sampling;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::OptionFuture;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::budget::Budget;
use crate::exporters::{self, Delivered, Exporter};
use crate::otlp::{self, Resource};
use crate::telemetry::{Loss, Metrics};
use crate::trace::SpanSource;
pub use events::{Events, EventsBackend};
pub use measure::{CallMetrics, Reporter};

/// The stages and what they are set to.
#[derive(Debug)]
pub struct Pipeline {
    /// Finished spans.
    pub source: SpanSource,
    /// The observed workload.
    pub resource: Resource,
    /// Where spans go; `None` if no backend is configured.
    pub exporter: Option<Box<dyn Exporter>>,
    /// How spans are gathered.
    pub limits: Limits,
    /// Lends the bytes that spans wait in.
    pub budget: Arc<Budget>,
    /// The agent's metrics, which every span counts in.
    pub calls: Arc<CallMetrics>,
    /// Where those go; `None` if no backend is configured.
    pub reporter: Option<Reporter>,
    /// What was said in calls, and where that goes.
    pub events: Events,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// `OTEL_BSP_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long spans gather before a batch leaves.
    pub schedule_delay: Duration,
    /// The most spans that wait for delivery, those under way included.
    pub max_queue_size: usize,
    /// The most spans in one request.
    pub max_export_batch_size: usize,
    /// The longest that one request may take.
    pub export_timeout: Duration,
}

impl Pipeline {
    /// Runs until `stop`, then delivers what is left until `give_up`, and counts the rest lost. Spans, metrics and
    /// events do not wait for each other.
    pub async fn run(mut self, stop: CancellationToken, give_up: CancellationToken) {
        let counted = CancellationToken::new();
        let reporter = self.reporter.take().map(|reporter| reporter.run(counted.clone(), give_up.clone()));
        let events = self.events.delivery(counted.clone(), give_up.clone());
        let (reporter, events) = (OptionFuture::from(reporter), OptionFuture::from(events));
        tokio::join!(self.deliver(stop, give_up, counted), reporter, events);
    }

    /// `counted` is said when no span can come that the metrics do not have.
    async fn deliver(mut self, stop: CancellationToken, give_up: CancellationToken, counted: CancellationToken) {
        let mut buffer = buffer::Buffer::new(self.limits.max_queue_size, &self.budget);
        self.metrics.spans_queue_capacity.set(self.limits.max_queue_size);
        let mut stopping = false;
        loop {
            if !stopping {
                self.gather(&mut buffer, &stop).await;
            }
            stopping = stop.is_cancelled();
            accept(&mut self.source, &mut buffer, &self.events, &self.calls, &self.metrics);
            if stopping {
                counted.cancel();
            }
            // What has gathered until now is due; what comes meanwhile leaves with it only if it fills a batch.
            let mut due = buffer.waiting();
            // At the end everything is due.
            while due > 0
                || buffer.waiting() >= self.limits.max_export_batch_size
                || (stop.is_cancelled() && buffer.waiting() > 0)
            {
                let Some(spans) = batch::next(&mut buffer, self.limits.max_export_batch_size) else { break };
                due = due.saturating_sub(spans.len());
                let Some(exporter) = route::backend(self.exporter.as_deref()) else {
                    self.metrics.lost(Loss::NoBackend, spans.len());
                    buffer.delivered();
                    continue;
                };
                let count = spans.len();
                let body = otlp::encode(&self.resource, &spans);
                let size = body.len();
                drop(spans);
                let mut delivery =
                    pin!(exporters::deliver(exporter, body, self.limits.export_timeout, &self.metrics.export, &stop));
                let delivered = loop {
                    tokio::select! {
                        delivered = &mut delivery => break Some(delivered),
                        () = self.source.some() => {
                            // In its own time: a wake-up per span is what this queue is there to avoid.
                            tokio::select! {
                                delivered = &mut delivery => break Some(delivered),
                                () = tokio::time::sleep(GATHER) => {}
                                () = self.source.full() => {}
                            }
                        }
                        // What calls left behind is in the queue by now: metrics need not wait for this batch.
                        () = stop.cancelled(), if !counted.is_cancelled() => {}
                        () = give_up.cancelled() => break None,
                    }
                    let last = stop.is_cancelled();
                    accept(&mut self.source, &mut buffer, &self.events, &self.calls, &self.metrics);
                    if last {
                        counted.cancel();
                    }
                };
                buffer.delivered();
                self.account(delivered, count, size);
                self.metrics.spans_queued.set(buffer.held());
                if give_up.is_cancelled() {
                    break;
                }
            }
            accept(&mut self.source, &mut buffer, &self.events, &self.calls, &self.metrics);
            if stopping && (buffer.waiting() == 0 || give_up.is_cancelled()) {
                self.metrics.lost(Loss::Shutdown, buffer.held());
                let (created, exported) = (self.metrics.spans_created.value(), self.metrics.spans_exported.value());
                info!("pipeline stopped created={created} exported={exported} lost={}", self.metrics.all_losses());
                return;
            }
        }
    }

    /// Waits until spans are due: a batch is full, or the first of them has waited for the schedule's delay. What comes in
    /// meanwhile is accepted now and then, so that the counters on `/metrics` are not late.
    async fn gather(&mut self, buffer: &mut buffer::Buffer, stop: &CancellationToken) {
        if buffer.waiting() == 0 {
            tokio::select! {
                () = self.source.some() => {}
                () = stop.cancelled() => return,
            }
        }
        let mut due = pin!(tokio::time::sleep(self.limits.schedule_delay));
        while buffer.waiting() < self.limits.max_export_batch_size {
            tokio::select! {
                () = &mut due => return,
                () = self.source.full() => return,
                () = stop.cancelled() => return,
                () = tokio::time::sleep(GATHER) => accept(&mut self.source, buffer, &self.events, &self.calls, &self.metrics),
            }
        }
    }

    fn account(&self, delivered: Option<Delivered>, count: usize, bytes: usize) {
        let outcome = match delivered {
            Some(Delivered::All) => {
                self.metrics.spans_exported.add(count as u64);
                "delivered"
            }
            Some(Delivered::Partly { rejected, message }) => {
                let rejected = rejected.min(count);
                warn!(rejected, message, "the backend refused some spans");
                self.metrics.lost(Loss::PartiallyRejected, rejected);
                self.metrics.spans_exported.add((count - rejected) as u64);
                "partial"
            }
            Some(Delivered::Refused(reason)) => {
                warn!(spans = count, reason, "the backend refused a batch for good");
                self.metrics.lost(Loss::Rejected, count);
                "refused"
            }
            None => {
                warn!(spans = count, "no time left to deliver");
                self.metrics.lost(Loss::Shutdown, count);
                "given_up"
            }
        };
        self.metrics.export.ended(outcome, bytes);
    }
}

/// The stages that every finished span passes at once, whatever the backend does.
fn accept(
    source: &mut SpanSource,
    buffer: &mut buffer::Buffer,
    events: &Events,
    calls: &CallMetrics,
    metrics: &Metrics,
) {
    let mut spans = source.drain();
    measure::fold(&spans, metrics, calls);
    enrich::enrich(&mut spans);
    sampling::keep(&mut spans, metrics);
    events.take(&mut spans);
    buffer.push(spans, metrics);
    metrics.spans_queued.set(buffer.held());
}

const GATHER: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;

    use super::*;
    use crate::config::{MetricNames, Temporality};
    use crate::exporters::Answer;
    use crate::trace::{Span, channel, propagation};

    /// A backend that takes its time.
    #[derive(Debug)]
    struct Slow;

    impl Exporter for Slow {
        fn export(&self, _: Bytes) -> BoxFuture<'_, Answer> {
            async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Answer::Delivered(Delivered::All)
            }
            .boxed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn spans_that_come_while_a_batch_is_on_its_way_are_delivered_without_another_reason_to_wake() {
        let metrics = Arc::new(Metrics::default());
        let (sink, source) = channel(1000, 4, metrics.clone());
        let (stop, give_up) = (CancellationToken::new(), CancellationToken::new());
        let limits = Limits {
            schedule_delay: Duration::from_millis(20),
            max_queue_size: 1000,
            max_export_batch_size: 4,
            export_timeout: Duration::from_secs(10),
        };
        let pipeline = Pipeline {
            source,
            resource: Resource::new(&[]),
            exporter: Some(Box::new(Slow)),
            limits,
            budget: Budget::unlimited(),
            calls: Arc::new(CallMetrics::new(MetricNames::Old, &Budget::unlimited())),
            reporter: None,
            events: Events::new(None, &Budget::unlimited(), &metrics),
            metrics: metrics.clone(),
        };
        let calls = async {
            // Many different moments of a delivery's fifty milliseconds.
            for pause in 0..100 {
                sink.send(Span::new(propagation::start(&mut rand::rng()), "GET"));
                tokio::time::sleep(Duration::from_millis(pause % 61)).await;
            }
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(metrics.spans_exported.value(), 100, "before the stop");
            sink.send(Span::new(propagation::start(&mut rand::rng()), "GET"));
            stop.cancel();
        };
        tokio::join!(pipeline.run(stop.clone(), give_up), calls);
        assert_eq!((metrics.spans_exported.value(), metrics.all_losses()), (101, 0));
    }

    /// A backend that keeps what it is sent, after this many refusals.
    #[derive(Clone, Debug, Default)]
    struct Keeping {
        refusals: Arc<std::sync::Mutex<usize>>,
        kept: Arc<std::sync::Mutex<Vec<Bytes>>>,
    }

    impl Exporter for Keeping {
        fn export(&self, body: Bytes) -> BoxFuture<'_, Answer> {
            let mut refusals = self.refusals.lock().unwrap();
            let answer = match refusals.checked_sub(1) {
                Some(fewer) => {
                    *refusals = fewer;
                    Delivered::Refused("404".into())
                }
                None => {
                    self.kept.lock().unwrap().push(body);
                    Delivered::All
                }
            };
            async { Answer::Delivered(answer) }.boxed()
        }
    }

    /// A backend that never answers.
    #[derive(Debug)]
    struct Dead;

    impl Exporter for Dead {
        fn export(&self, _: Bytes) -> BoxFuture<'_, Answer> {
            std::future::pending().boxed()
        }
    }

    fn with_reporter(
        exporter: Box<dyn Exporter>,
        reports: Box<dyn Exporter>,
    ) -> (crate::trace::SpanSink, Arc<Metrics>, Pipeline) {
        let metrics = Arc::new(Metrics::default());
        let (sink, source) = channel(1000, 4, metrics.clone());
        let calls = Arc::new(CallMetrics::new(MetricNames::Old, &Budget::unlimited()));
        let reporter = Reporter {
            calls: calls.clone(),
            exporter: reports,
            resource: Resource::new(&[]),
            interval: Duration::from_secs(60),
            try_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
            temporality: Temporality::Delta,
            metrics: metrics.clone(),
        };
        let limits = Limits {
            schedule_delay: Duration::from_millis(20),
            max_queue_size: 1000,
            max_export_batch_size: 4,
            export_timeout: Duration::MAX,
        };
        let pipeline = Pipeline {
            source,
            resource: Resource::new(&[]),
            exporter: Some(exporter),
            limits,
            budget: Budget::unlimited(),
            calls,
            reporter: Some(reporter),
            events: Events::new(None, &Budget::unlimited(), &metrics),
            metrics: metrics.clone(),
        };
        (sink, metrics, pipeline)
    }

    fn call() -> Span {
        let mut span = Span::new(propagation::start(&mut rand::rng()), "GET");
        span.push(crate::trace::semconv::HTTP_REQUEST_METHOD, "GET");
        span
    }

    /// How many requests a backend has heard of.
    fn heard(kept: &Keeping) -> Vec<u64> {
        use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
        use opentelemetry_proto::tonic::metrics::v1::metric::Data;
        let bodies = kept.kept.lock().unwrap();
        let count = |body: &Bytes| {
            let request = <ExportMetricsServiceRequest as prost::Message>::decode(body.clone()).unwrap();
            match &request.resource_metrics[0].scope_metrics[0].metrics[0].data {
                Some(Data::Histogram(histogram)) => histogram.data_points[0].count,
                other => panic!("{other:?}"),
            }
        };
        bodies.iter().map(count).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_backend_that_never_answers_for_spans_does_not_hold_up_the_last_metrics() {
        let kept = Keeping::default();
        let (sink, metrics, pipeline) = with_reporter(Box::new(Dead), Box::new(kept.clone()));
        let (stop, give_up) = (CancellationToken::new(), CancellationToken::new());
        let ending = async {
            sink.send(call());
            tokio::time::sleep(Duration::from_secs(1)).await;
            // The first is on its way for good. What comes now is counted too.
            sink.send(call());
            stop.cancel();
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(heard(&kept), [2]);
            give_up.cancel();
        };
        tokio::join!(pipeline.run(stop.clone(), give_up.clone()), ending);
        assert_eq!((metrics.spans_exported.value(), metrics.all_losses()), (0, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn metrics_leave_in_intervals_and_what_was_refused_is_in_the_next() {
        let kept = Keeping { refusals: Arc::new(std::sync::Mutex::new(1)), ..Keeping::default() };
        let (sink, metrics, pipeline) = with_reporter(Box::new(Slow), Box::new(kept.clone()));
        let (stop, give_up) = (CancellationToken::new(), CancellationToken::new());
        let ending = async {
            for minute in 0..4 {
                assert_eq!(heard(&kept), [vec![], vec![], vec![2], vec![2, 1]][minute]);
                sink.send(call());
                tokio::time::sleep(Duration::from_secs(60)).await;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            sink.send(call());
            stop.cancel();
        };
        tokio::join!(pipeline.run(stop.clone(), give_up), ending);
        assert_eq!(heard(&kept), [2, 1, 1, 1]);
        assert_eq!((metrics.spans_exported.value(), metrics.all_losses()), (5, 0));
        let outcomes: Vec<_> = metrics.metrics_export.outcomes.values().collect();
        assert_eq!(outcomes, [("delivered", 4), ("partial", 0), ("refused", 1), ("given_up", 0)]);
    }
}
