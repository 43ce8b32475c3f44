//! Counters, gauges and histograms: fixed labels, fixed buckets, no lock. Cardinality is bounded by construction.

use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The sum so far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that only grows, for what every worker adds to all the time: each thread has a cache line of its own.
#[derive(Debug, Default)]
pub struct Sharded([Line; SHARDS]);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Line(Counter);

impl Sharded {
    /// Adds `count`.
    pub fn add(&self, count: u64) {
        if let Some(Line(counter)) = self.0.get(own_shard()) {
            counter.add(count);
        }
    }

    /// The sum so far.
    pub fn value(&self) -> u64 {
        self.0.iter().map(|Line(counter)| counter.value()).sum()
    }
}

/// Which of [`SHARDS`] places this thread uses. Threads share one only when there are more of them.
pub fn own_shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static OWN: Cell<usize> = const { Cell::new(usize::MAX) });
    OWN.with(|own| {
        if own.get() == usize::MAX {
            own.set(NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS);
        }
        own.get()
    })
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Adds one until the guard drops.
    pub fn guard(&self) -> GaugeGuard<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        GaugeGuard(self)
    }

    /// Sets the value.
    pub fn set(&self, value: usize) {
        self.0.store(i64::try_from(value).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// The value now.
    pub fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Takes its one back when it drops.
#[derive(Debug)]
pub struct GaugeGuard<'a>(&'a Gauge);

impl Drop for GaugeGuard<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counters that differ in the value of one label.
#[derive(Debug)]
pub struct Counters<const N: usize>([(&'static str, Counter); N]);

impl<const N: usize> Counters<N> {
    /// One counter for each value.
    pub fn new(values: [&'static str; N]) -> Self {
        Self(values.map(|value| (value, Counter::default())))
    }

    /// Adds one to the counter of this label value. A value that was not declared counts nowhere.
    pub fn inc(&self, value: &str) {
        self.add(value, 1);
    }

    /// The same for `count` at once.
    pub fn add(&self, value: &str, count: u64) {
        let found = self.0.iter().find(|(label, _)| *label == value);
        debug_assert!(found.is_some(), "undeclared label value {value}");
        if let Some((_, counter)) = found {
            counter.add(count);
        }
    }

    /// Every value with its sum.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(label, counter)| (*label, counter.value()))
    }
}

/// How long something took: how often it was at most as long as each bound, and the sum.
#[derive(Debug, Default)]
pub struct Histogram {
    // One more than there are bounds: what is longer than all of them. Not cumulative.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

/// What a histogram holds at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Durations {
    /// For each of [`BOUNDS`]: how many were at most that long.
    pub cumulative: [u64; BOUNDS.len()],
    /// How many in all.
    pub count: u64,
    /// Seconds in all.
    pub sum: f64,
}

impl Histogram {
    /// Adds one.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let index = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        if let Some(bucket) = self.buckets.get(index) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// The numbers now. The count is the last bucket's by construction; the sum may be one observation ahead or behind.
    pub fn durations(&self) -> Durations {
        let mut count = 0;
        let mut cumulative = [0; BOUNDS.len()];
        let mut next = |bucket: &AtomicU64| {
            count += bucket.load(Ordering::Relaxed);
            count
        };
        for (sum, bucket) in cumulative.iter_mut().zip(&self.buckets) {
            *sum = next(bucket);
        }
        self.buckets.last().map(&mut next);
        Durations { cumulative, count, sum: Duration::from_nanos(self.nanos.load(Ordering::Relaxed)).as_secs_f64() }
    }
}

/// Upper bounds in seconds, as the semantic conventions advise for `http.client.request.duration` and
/// `rpc.client.call.duration`.
pub const BOUNDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// How many places [`own_shard`] chooses from.
pub const SHARDS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_the_bucket_of_its_bound_and_all_above() {
        let histogram = Histogram::default();
        for millis in [0, 5, 6, 1000, 10_000, 10_001] {
            histogram.observe(Duration::from_millis(millis));
        }
        let durations = histogram.durations();
        assert_eq!(durations.cumulative, [2, 3, 3, 3, 3, 3, 3, 3, 3, 4, 4, 4, 4, 5]);
        assert_eq!((durations.count, durations.sum), (6, 21.012));
    }

    #[test]
    fn the_shards_of_many_threads_add_up() {
        let counter = Sharded::default();
        std::thread::scope(|scope| {
            for _ in 0..2 * SHARDS {
                scope.spawn(|| (0..1000).for_each(|_| counter.add(3)));
            }
        });
        assert_eq!(counter.value(), 3000 * 2 * SHARDS as u64);
    }

    #[test]
    fn a_gauge_guard_takes_its_one_back() {
        let gauge = Gauge::default();
        let guard = gauge.guard();
        assert_eq!(gauge.value(), 1);
        drop(guard);
        assert_eq!(gauge.value(), 0);
    }
}
