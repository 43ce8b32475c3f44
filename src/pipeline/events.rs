//! What was said in calls, on its way to a backend of its own, beside the spans: neither waits for the other.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::budget::{Budget, Loan, Use};
use crate::exporters::{self, Delivered, Exporter};
use crate::otlp::{self, Resource};
use crate::telemetry::Metrics;
use crate::trace::{Span, Workload};

/// Takes the content out of spans and sends it as events.
///
/// Bounded: 2,048 events, and an eighth of the budget, which is not the spans': a backend that takes no events loses none of them.
#[derive(Debug)]
pub struct Events {
    // None without a backend.
    queue: Option<mpsc::Sender<Record>>,
    delivery: Option<Delivery>,
    budget: Arc<Budget>,
    metrics: Arc<Metrics>,
}

/// Where events go.
#[derive(Debug)]
pub struct EventsBackend {
    /// The backend.
    pub exporter: Box<dyn Exporter>,
    /// The observed workload.
    pub resource: Resource,
    /// How long events gather before a batch leaves.
    pub schedule_delay: Duration,
    /// The longest that one try may take.
    pub timeout: Duration,
}

/// An event: whose it is, and its record, encoded; and the bytes that it was lent.
#[derive(Debug)]
struct Record {
    event: (Option<Arc<Workload>>, Vec<u8>),
    loan: Loan,
}

impl Events {
    /// Without a backend every event is counted lost.
    pub fn new(backend: Option<EventsBackend>, budget: &Arc<Budget>, metrics: &Arc<Metrics>) -> Self {
        let parts = backend.map(|backend| {
            let (queue, waiting) = mpsc::channel(CAPACITY);
            (queue, Delivery { backend, waiting, next: None, failing: false, metrics: metrics.clone() })
        });
        let (queue, delivery) = parts.unzip();
        Self { queue, delivery, budget: budget.clone(), metrics: metrics.clone() }
    }

    /// Takes the content out of spans that are kept.
    pub(super) fn take(&self, spans: &mut [Span]) {
        for span in spans {
            let Some(content) = span.content.take() else { continue };
            self.metrics.events_created.inc();
            let workload = span.workload.clone();
            if let Err(reason) = self.send(workload, || otlp::logs::content(span, &content)) {
                self.metrics.events_dropped.inc(reason);
            }
        }
    }

    /// Runs until every span is counted, and every event delivered, or until `give_up`. `None` if there is nothing to run.
    pub(super) fn delivery(
        &mut self,
        counted: CancellationToken,
        give_up: CancellationToken,
    ) -> Option<impl Future<Output = ()> + use<>> {
        self.delivery.take().map(|delivery| delivery.run(counted, give_up))
    }

    fn send(&self, workload: Option<Arc<Workload>>, encode: impl FnOnce() -> Vec<u8>) -> Result<(), &'static str> {
        let queue = self.queue.as_ref().ok_or("no_backend")?;
        let place = queue.try_reserve().map_err(|_| "full")?;
        let bytes = encode();
        let loan = self.budget.lend(bytes.capacity(), Use::Events).ok_or("budget")?;
        place.send(Record { event: (workload, bytes), loan });
        Ok(())
    }
}

#[derive(Debug)]
struct Delivery {
    backend: EventsBackend,
    waiting: mpsc::Receiver<Record>,
    // Did not fit into the batch before.
    next: Option<Record>,
    failing: bool,
    metrics: Arc<Metrics>,
}

impl Delivery {
    async fn run(mut self, counted: CancellationToken, give_up: CancellationToken) {
        while !give_up.is_cancelled()
            && let Some(records) = self.gather(&counted).await
        {
            let count = records.len();
            let (events, held): (Vec<_>, Vec<Loan>) =
                records.into_iter().map(|record| (record.event, record.loan)).unzip();
            let body = otlp::logs::encode(&self.backend.resource, &events);
            let size = body.len();
            // Their bytes are in the body now; what they were lent is given back when it is.
            drop(events);
            let EventsBackend { exporter, timeout, .. } = &self.backend;
            let delivery = exporters::deliver(&**exporter, body, *timeout, &self.metrics.logs_export, &counted);
            let delivered = give_up.run_until_cancelled(delivery).await;
            drop(held);
            self.account(delivered, count, size);
        }
        let mut left = self.next.iter().len();
        while self.waiting.try_recv().is_ok() {
            left += 1;
        }
        self.metrics.events_dropped.add("shutdown", left as u64);
    }

    /// The next batch: it is full, or the first of it has waited long enough. `None` at the end.
    async fn gather(&mut self, counted: &CancellationToken) -> Option<Vec<Record>> {
        let first = match self.next.take() {
            Some(record) => record,
            None => tokio::select! {
                biased;
                record = self.waiting.recv() => record?,
                () = counted.cancelled() => self.waiting.try_recv().ok()?,
            },
        };
        let mut size = first.event.1.len();
        let mut records = vec![first];
        let mut due = std::pin::pin!(tokio::time::sleep(self.backend.schedule_delay));
        while records.len() < MOST_RECORDS {
            let record = tokio::select! {
                biased;
                record = self.waiting.recv() => record,
                () = counted.cancelled() => self.waiting.try_recv().ok(),
                () = &mut due => None,
            };
            let Some(record) = record else { break };
            size += record.event.1.len();
            if size > MOST_BYTES {
                self.next = Some(record);
                break;
            }
            records.push(record);
        }
        Some(records)
    }

    fn account(&mut self, delivered: Option<Delivered>, count: usize, bytes: usize) {
        let (outcome, lost) = match delivered {
            Some(Delivered::All) => ("delivered", None),
            Some(Delivered::Partly { rejected, message }) => {
                warn!(rejected, message, "the backend refused some events");
                ("partial", Some(("partially_rejected", rejected.min(count))))
            }
            Some(Delivered::Refused(reason)) => {
                if !self.failing {
                    warn!(events = count, reason, "content events were refused; a backend that takes none: {NONE}");
                }
                ("refused", Some(("rejected", count)))
            }
            None => {
                warn!(events = count, "no time left to deliver");
                ("given_up", Some(("shutdown", count)))
            }
        };
        let failing = outcome == "refused";
        if self.failing && !failing && outcome != "given_up" {
            info!("the backend takes events again");
        }
        self.failing = failing;
        let dropped = lost.map_or(0, |(_, dropped)| dropped);
        if let Some((reason, dropped)) = lost {
            self.metrics.events_dropped.add(reason, dropped as u64);
        }
        self.metrics.events_exported.add((count - dropped) as u64);
        self.metrics.logs_export.ended(outcome, bytes);
    }
}

/// Events that wait, those under way not included.
const CAPACITY: usize = 2048;
const MOST_RECORDS: usize = 512;
/// Backends take 4 MiB, gRPC's default, of which resource and scope need some. A longer event goes alone.
const MOST_BYTES: usize = (4 << 20) - (64 << 10);
const NONE: &str = "OTEL_LOGS_EXPORTER=none";

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use bytes::Bytes;
    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use prost::Message;

    use super::*;
    use crate::exporters::Answer;
    use crate::trace::{propagation, semconv};

    /// A backend that keeps what it is sent, and answers so.
    #[derive(Clone, Debug)]
    struct Keeping(Arc<Mutex<Vec<usize>>>, Option<Delivered>);

    impl Exporter for Keeping {
        fn export(&self, body: Bytes) -> BoxFuture<'_, Answer> {
            let request = ExportLogsServiceRequest::decode(body).unwrap();
            self.0.lock().unwrap().push(request.resource_logs[0].scope_logs[0].log_records.len());
            let answer = self.1.clone();
            async move {
                match answer {
                    Some(delivered) => Answer::Delivered(delivered),
                    None => std::future::pending().await,
                }
            }
            .boxed()
        }
    }

    fn backend(answer: Option<Delivered>) -> (EventsBackend, Arc<Mutex<Vec<usize>>>) {
        let kept = Arc::default();
        let exporter = Box::new(Keeping(Arc::clone(&kept), answer));
        let delay = Duration::from_secs(1);
        let backend =
            EventsBackend { exporter, resource: Resource::new(&[]), schedule_delay: delay, timeout: Duration::MAX };
        (backend, kept)
    }

    /// Spans with so many bytes of content each.
    fn spans(count: usize, size: usize) -> Vec<Span> {
        let span = |_| {
            let mut span = Span::new(propagation::start(&mut rand::rng()), "chat");
            let text = format!("\"{}\"", "x".repeat(size));
            span.content = Some(Box::new(vec![(semconv::GEN_AI_TOOL_CALL_RESULT, text.into())]));
            span
        };
        (0..count).map(span).collect()
    }

    fn dropped(metrics: &Metrics) -> Vec<(&'static str, u64)> {
        metrics.events_dropped.values().filter(|(_, count)| *count > 0).collect()
    }

    fn ledger(metrics: &Metrics) -> (u64, u64) {
        (metrics.events_created.value(), metrics.events_exported.value())
    }

    #[tokio::test(start_paused = true)]
    async fn events_leave_in_batches_bounded_by_number_and_by_bytes_and_give_their_bytes_back() {
        for (count, size, batches) in [(600, 10, vec![512, 88]), (5, 1 << 20, vec![3, 2]), (2, 5 << 20, vec![1, 1])] {
            let (metrics, budget) = (Arc::new(Metrics::default()), Budget::of(1 << 30));
            let (backend, kept) = backend(Some(Delivered::All));
            let mut events = Events::new(Some(backend), &budget, &metrics);
            let (counted, give_up) = (CancellationToken::new(), CancellationToken::new());
            let delivery = events.delivery(counted.clone(), give_up).unwrap();
            let mut spans = spans(count, size);
            events.take(&mut spans);
            assert!(spans.iter().all(|span| span.content.is_none()));
            counted.cancel();
            delivery.await;
            assert_eq!(*kept.lock().unwrap(), batches);
            assert_eq!((ledger(&metrics), dropped(&metrics)), ((count as u64, count as u64), vec![]));
            assert!(budget.lend(1 << 26, Use::Events).is_some(), "all of it is back");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_gathers_leaves_after_the_delay_without_another_reason() {
        let metrics = Arc::new(Metrics::default());
        let (backend, kept) = backend(Some(Delivered::Partly { rejected: 1, message: "one".into() }));
        let mut events = Events::new(Some(backend), &Budget::unlimited(), &metrics);
        let (counted, give_up) = (CancellationToken::new(), CancellationToken::new());
        let delivery = events.delivery(counted.clone(), give_up).unwrap();
        let calls = async {
            events.take(&mut spans(2, 10));
            tokio::time::sleep(Duration::from_millis(900)).await;
            events.take(&mut spans(1, 10));
            assert!(kept.lock().unwrap().is_empty());
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert_eq!(*kept.lock().unwrap(), [3]);
            assert_eq!((ledger(&metrics), dropped(&metrics)), ((3, 2), vec![("partially_rejected", 1)]));
            events.take(&mut spans(1, 10));
            counted.cancel();
        };
        tokio::join!(delivery, calls);
        assert_eq!(*kept.lock().unwrap(), [3, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn every_event_that_does_not_arrive_is_counted_with_its_reason() {
        let (metrics, budget) = (Arc::new(Metrics::default()), Budget::unlimited());
        Events::new(None, &budget, &metrics).take(&mut spans(3, 10));
        assert_eq!(dropped(&metrics), [("no_backend", 3)]);

        let metrics = Arc::new(Metrics::default());
        Events::new(Some(backend(None).0), &Budget::of(16 * 15_000), &metrics).take(&mut spans(2, 10_000));
        assert_eq!(dropped(&metrics), [("budget", 1)]);

        let metrics = Arc::new(Metrics::default());
        let mut events = Events::new(Some(backend(None).0), &budget, &metrics);
        let (counted, give_up) = (CancellationToken::new(), CancellationToken::new());
        let delivery = events.delivery(counted.clone(), give_up.clone()).unwrap();
        events.take(&mut spans(CAPACITY + 1, 10));
        let ending = async {
            counted.cancel();
            tokio::time::sleep(Duration::from_secs(1)).await;
            give_up.cancel();
        };
        tokio::join!(delivery, ending);
        assert_eq!(dropped(&metrics), [("full", 1), ("shutdown", CAPACITY as u64)]);

        let metrics = Arc::new(Metrics::default());
        let (backend, _) = backend(Some(Delivered::Refused("404".into())));
        let mut events = Events::new(Some(backend), &budget, &metrics);
        let (counted, give_up) = (CancellationToken::new(), CancellationToken::new());
        let delivery = events.delivery(counted.clone(), give_up).unwrap();
        events.take(&mut spans(2, 10));
        counted.cancel();
        delivery.await;
        assert_eq!((ledger(&metrics), dropped(&metrics)), ((2, 0), vec![("rejected", 2)]));
    }
}
