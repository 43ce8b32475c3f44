//! The hand-over from the data plane to the telemetry plane: bounded, never waits, one wake-up per batch.
//!
//! Spans gather in one shard per worker thread. A worker takes only its own shard's lock, which nobody else holds but
//! the pipeline in the moment it empties the shard; the pipeline is woken once when spans begin to gather and once when a
//! batch is full, never per span.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Span;
use crate::budget::{Budget, Loan, Use};
use crate::telemetry::instruments::{SHARDS, own_shard};
use crate::telemetry::{Loss, Metrics};

/// Makes a queue that holds at most `capacity` spans and wakes its reader when `batch` of them wait. Bounded by their
/// number alone.
pub fn channel(capacity: usize, batch: usize, metrics: Arc<Metrics>) -> (SpanSink, SpanSource) {
    channel_within(Budget::unlimited(), capacity, batch, metrics)
}

/// The same, within a budget of bytes too.
pub fn channel_within(
    budget: Arc<Budget>,
    capacity: usize,
    batch: usize,
    metrics: Arc<Metrics>,
) -> (SpanSink, SpanSource) {
    let shards = (0..SHARDS).map(|_| Shard::default()).collect();
    let queue = Arc::new(Queue {
        budget,
        shards,
        waiting: AtomicUsize::new(0),
        capacity,
        batch,
        some: Notify::new(),
        full: Notify::new(),
        metrics,
    });
    (SpanSink(queue.clone()), SpanSource(queue))
}

/// The data plane's end.
#[derive(Clone, Debug)]
pub struct SpanSink(Arc<Queue>);

/// The telemetry plane's end.
#[derive(Debug)]
pub struct SpanSource(Arc<Queue>);

#[derive(Debug)]
struct Queue {
    budget: Arc<Budget>,
    shards: Box<[Shard]>,
    waiting: AtomicUsize,
    capacity: usize,
    batch: usize,
    some: Notify,
    full: Notify,
    metrics: Arc<Metrics>,
}

// A cache line of its own, so that workers do not share one.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(Mutex<Gathered>);

#[derive(Debug, Default)]
struct Gathered {
    spans: Vec<Span>,
    loan: Option<Loan>,
}

impl Shard {
    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gathered {
    /// False if the budget has no room.
    fn push(&mut self, span: Span, budget: &Arc<Budget>) -> bool {
        let size = span.size();
        let lent = match &mut self.loan {
            Some(loan) => loan.grow(size),
            none => {
                *none = budget.lend(size, Use::Sink);
                none.is_some()
            }
        };
        if lent {
            self.spans.push(span);
        }
        lent
    }
}

impl SpanSink {
    /// Whether a call that begins now is to be recorded. One that is not, because memory is nearly used up, is counted.
    pub fn admits(&self) -> bool {
        let shedding = self.0.budget.shedding();
        if shedding {
            self.0.metrics.spans_created.inc();
            self.0.metrics.lost(Loss::Shed, 1);
        }
        !shedding
    }

    /// The same for a call that has not begun yet: nothing is counted.
    pub fn would_admit(&self) -> bool {
        !self.0.budget.shedding()
    }

    /// Hands a finished span over, or counts it lost. Never waits.
    pub fn send(&self, span: Span) {
        let queue = &*self.0;
        queue.metrics.spans_created.inc();
        let before = queue.waiting.fetch_add(1, Ordering::AcqRel);
        if before >= queue.capacity {
            queue.waiting.fetch_sub(1, Ordering::Relaxed);
            queue.metrics.lost(Loss::SinkFull, 1);
            return;
        }
        let kept = queue.shards.get(own_shard()).is_some_and(|shard| shard.lock().push(span, &queue.budget));
        if !kept {
            queue.waiting.fetch_sub(1, Ordering::AcqRel);
            queue.metrics.lost(Loss::SinkBudget, 1);
        }
        // Even if this one was not kept: another worker's may have come behind it meanwhile, and counts on us.
        if before == 0 {
            queue.some.notify_one();
        }
        if before + 1 == queue.batch {
            queue.full.notify_one();
        }
    }
}

impl SpanSource {
    /// Waits until there is something to [`drain`](Self::drain).
    pub async fn some(&self) {
        // The notice is a wake-up, the number is the truth: a notice that somebody took and forgot is not missed.
        while self.0.waiting.load(Ordering::Acquire) == 0 {
            self.0.some.notified().await;
        }
    }

    /// Waits until a batch has gathered. May fire early: it is a hint to hurry.
    pub async fn full(&self) {
        self.0.full.notified().await;
    }

    /// Takes everything that was handed over.
    pub fn drain(&mut self) -> Vec<Span> {
        let mut spans = Vec::new();
        for shard in &self.0.shards {
            let mut shard = shard.lock();
            if spans.is_empty() {
                std::mem::swap(&mut shard.spans, &mut spans);
            } else {
                spans.append(&mut shard.spans);
            }
            shard.loan = None;
        }
        self.0.waiting.fetch_sub(spans.len(), Ordering::AcqRel);
        spans
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::propagation;

    fn span() -> Span {
        Span::new(propagation::start(&mut rand::rng()), "GET")
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let metrics = Arc::new(Metrics::default());
        let (sink, mut source) = channel(3, 2, metrics.clone());
        for _ in 0..5 {
            sink.send(span());
        }
        assert_eq!(source.drain().len(), 3);
        assert_eq!(metrics.spans_created.value(), 5);
        assert_eq!(metrics.losses(Loss::SinkFull), 2);
        sink.send(span());
        assert_eq!(source.drain().len(), 1, "room again after a drain");
    }

    #[test]
    fn what_the_budget_has_no_room_for_is_counted() {
        let (metrics, size) = (Arc::new(Metrics::default()), span().size() as u64);
        let budget = Budget::of(2 * (2 * size + size / 2));
        let (sink, mut source) = channel_within(budget.clone(), 100, 64, metrics.clone());
        for _ in 0..5 {
            sink.send(span());
        }
        assert_eq!(metrics.losses(Loss::SinkBudget), 3);
        assert_eq!(source.drain().len(), 2);
        sink.send(span());
        assert_eq!(source.drain().len(), 1, "room again after a drain");
        assert!(budget.lend(2 * span().size(), Use::Sink).is_some(), "what was drained is given back");
    }

    #[tokio::test]
    async fn the_reader_hears_of_spans_until_it_has_taken_them() {
        let (sink, mut source) = channel(64, 3, Arc::new(Metrics::default()));
        sink.send(span());
        sink.send(span());
        source.some().await;
        source.some().await;
        assert!(futures_util::FutureExt::now_or_never(source.full()).is_none());
        sink.send(span());
        source.full().await;
        assert_eq!(source.drain().len(), 3);
        assert!(futures_util::FutureExt::now_or_never(source.some()).is_none());
        sink.send(span());
        source.some().await;
    }

    #[test]
    fn spans_of_many_threads_all_arrive() {
        let metrics = Arc::new(Metrics::default());
        let (sink, mut source) = channel(100_000, 512, metrics.clone());
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let sink = sink.clone();
                std::thread::spawn(move || (0..1000).for_each(|_| sink.send(span())))
            })
            .collect();
        let mut seen = 0;
        while threads.iter().any(|thread| !thread.is_finished()) {
            seen += source.drain().len();
            std::thread::yield_now();
        }
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(seen + source.drain().len(), 8000);
        assert_eq!(metrics.losses(Loss::SinkFull), 0);
    }
}
