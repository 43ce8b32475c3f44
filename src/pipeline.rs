//! The telemetry plane, on a thread of its own: queue -> measure -> enrich -> buffer -> sampling -> route -> batch ->
//! deliver.
//!
//! Each stage is a plain function or a small value, called in this order by [`Pipeline::run`]. Nothing here is ever
//! waited for by a call.

mod batch;
mod buffer;
mod enrich;
mod measure;
mod route;
mod sampling;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::budget::Budget;
use crate::exporters::{self, Delivered, Exporter};
use crate::otlp::{self, Resource};
use crate::telemetry::{Loss, Metrics};
use crate::trace::SpanSource;

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
    /// Runs until `stop`, then delivers what is left until `give_up`, and counts the rest lost.
    pub async fn run(mut self, stop: CancellationToken, give_up: CancellationToken) {
        let mut buffer = buffer::Buffer::new(self.limits.max_queue_size, &self.budget);
        self.metrics.spans_queue_capacity.set(self.limits.max_queue_size);
        let mut stopping = false;
        loop {
            if !stopping {
                self.gather(&mut buffer, &stop).await;
            }
            stopping = stop.is_cancelled();
            accept(&mut self.source, &mut buffer, &self.metrics);
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
                    pin!(exporters::deliver(exporter, body, self.limits.export_timeout, &self.metrics, &stop));
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
                        () = give_up.cancelled() => break None,
                    }
                    accept(&mut self.source, &mut buffer, &self.metrics);
                };
                buffer.delivered();
                self.account(delivered, count, size);
                self.metrics.spans_queued.set(buffer.held());
                if give_up.is_cancelled() {
                    break;
                }
            }
            accept(&mut self.source, &mut buffer, &self.metrics);
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
                () = tokio::time::sleep(GATHER) => accept(&mut self.source, buffer, &self.metrics),
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
        self.metrics.export_batches.inc(outcome);
        if matches!(outcome, "delivered" | "partial") {
            self.metrics.export_bytes.add(bytes as u64);
        }
    }
}

/// The stages that every finished span passes at once, whatever the backend does.
fn accept(source: &mut SpanSource, buffer: &mut buffer::Buffer, metrics: &Metrics) {
    let mut spans = source.drain();
    measure::fold(&spans, metrics);
    enrich::enrich(&mut spans);
    sampling::keep(&mut spans, metrics);
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
}
