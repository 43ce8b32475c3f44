//! One metric: its series, found by their attributes, bounded in number and in bytes.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::SystemTime;

use opentelemetry::KeyValue;

use super::labels::Labels;
use crate::budget::{Budget, Loan, Use};
use crate::otlp::metrics::{Exemplar, Instrument, Kind, Point, Value};
use crate::trace::{ChunkTimes, semconv};

/// A metric. Series are added and never removed: what has been exported stays true.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) instrument: Instrument,
    series: Vec<Series>,
    /// By the hash of its attributes, the newest series with that hash.
    newest: HashMap<u64, usize>,
    /// The series of what found no room.
    overflow: Option<usize>,
}

/// One set of attributes and its numbers.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) attributes: Box<[KeyValue]>,
    pub(super) numbers: Numbers,
    /// The latest of each bucket, in no order.
    pub(super) exemplars: Vec<Exemplar>,
    /// The next older series with the same hash.
    older: Option<usize>,
    /// When the numbers were taken that a backend has; or what the first delta begins with.
    since: SystemTime,
    /// What a backend has, where it is sent deltas.
    delivered: Option<Numbers>,
    /// What is on its way there.
    under_way: Option<(SystemTime, Numbers)>,
}

/// What is counted.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Numbers {
    Count(u64),
    Amount(f64),
    Histogram { counts: Box<[u64]>, sum: f64 },
}

/// What all metrics share while spans are folded into them.
#[derive(Debug)]
pub(super) struct Room {
    keys: RandomState,
    // None only if a budget refuses nothing at all.
    loan: Option<Loan>,
    /// When numbers were collected last: no new series has counted anything before.
    pub(super) collected: SystemTime,
    /// How often something counted in an overflow series.
    pub(super) overflowed: u64,
}

impl Room {
    pub(super) fn new(budget: &Arc<Budget>, now: SystemTime) -> Self {
        Self { keys: RandomState::new(), loan: budget.lend(0, Use::Series), collected: now, overflowed: 0 }
    }
}

impl Family {
    pub(super) fn new(instrument: Instrument) -> Self {
        Self { instrument, series: Vec::new(), newest: HashMap::new(), overflow: None }
    }

    /// Counts one value. `exemplar` is where it comes from, if that is kept.
    pub(super) fn observe(&mut self, room: &mut Room, labels: &Labels<'_>, value: f64, exemplar: Option<Exemplar>) {
        let Kind::Histogram(bounds) = self.instrument.kind else { return };
        let Some(series) = self.series(room, labels) else { return };
        if let Numbers::Histogram { counts, sum } = &mut series.numbers {
            let bucket = bucket(bounds, value);
            if let Some(count) = counts.get_mut(bucket) {
                *count += 1;
            }
            *sum += value;
            let Some(exemplar) = exemplar.map(|exemplar| Exemplar { value, ..exemplar }) else { return };
            match series.exemplars.iter_mut().find(|old| self::bucket(bounds, old.value) == bucket) {
                Some(old) => *old = exemplar,
                None => series.exemplars.push(exemplar),
            }
        }
    }

    /// Adds a histogram that has the same buckets.
    pub(super) fn merge(&mut self, room: &mut Room, labels: &Labels<'_>, times: &ChunkTimes) {
        let Some(series) = self.series(room, labels) else { return };
        if let Numbers::Histogram { counts, sum } = &mut series.numbers {
            counts.iter_mut().zip(times.counts).for_each(|(count, more)| *count += u64::from(more));
            *sum += times.sum;
        }
    }

    /// Adds to a sum of whole numbers.
    pub(super) fn count(&mut self, room: &mut Room, labels: &Labels<'_>, more: u64) {
        if let Some(Series { numbers: Numbers::Count(count), .. }) = self.series(room, labels) {
            *count = count.saturating_add(more);
        }
    }

    /// Adds to a sum.
    pub(super) fn amount(&mut self, room: &mut Room, labels: &Labels<'_>, more: f64) {
        if let Some(Series { numbers: Numbers::Amount(amount), .. }) = self.series(room, labels) {
            *amount += more;
        }
    }

    /// In the order in which they came.
    pub(super) fn all(&self) -> &[Series] {
        &self.series
    }

    /// In the order in which they came.
    pub(super) fn all_mut(&mut self) -> &mut [Series] {
        &mut self.series
    }

    /// The series of these attributes, or that of what found no room.
    fn series(&mut self, room: &mut Room, labels: &Labels<'_>) -> Option<&mut Series> {
        let hash = room.keys.hash_one(labels);
        let at = match self.find(hash, labels) {
            Some(at) => at,
            None => match self.add(room, hash, labels) {
                Some(at) => at,
                None => self.overflow(room),
            },
        };
        self.series.get_mut(at)
    }

    fn find(&self, hash: u64, labels: &Labels<'_>) -> Option<usize> {
        let mut at = *self.newest.get(&hash)?;
        loop {
            let series = self.series.get(at)?;
            if labels.are(&series.attributes) {
                return Some(at);
            }
            at = series.older?;
        }
    }

    fn add(&mut self, room: &mut Room, hash: u64, labels: &Labels<'_>) -> Option<usize> {
        let own = self.series.len() - usize::from(self.overflow.is_some());
        if own + 1 >= MOST_SERIES || !room.loan.as_mut()?.grow(labels.size() + self.size_of_series()) {
            return None;
        }
        let at = self.push(labels.to_attributes(), room.collected);
        let older = self.newest.insert(hash, at);
        self.series.last_mut()?.older = older;
        Some(at)
    }

    /// OpenTelemetry metrics SDK, "Overflow attribute". Not lent by the budget: there is one for each metric.
    fn overflow(&mut self, room: &mut Room) -> usize {
        room.overflowed += 1;
        if let Some(at) = self.overflow {
            return at;
        }
        let at = self.push([KeyValue::new(semconv::OTEL_METRIC_OVERFLOW, true)].into(), room.collected);
        self.overflow = Some(at);
        at
    }

    fn push(&mut self, attributes: Box<[KeyValue]>, since: SystemTime) -> usize {
        let numbers = match self.instrument.kind {
            Kind::Count => Numbers::Count(0),
            Kind::Amount => Numbers::Amount(0.0),
            Kind::Histogram(bounds) => Numbers::Histogram { counts: vec![0; bounds.len() + 1].into(), sum: 0.0 },
        };
        let (exemplars, older, delivered, under_way) = (Vec::new(), None, None, None);
        self.series.push(Series { attributes, numbers, exemplars, older, since, delivered, under_way });
        self.series.len() - 1
    }

    /// Beside the attributes. Biased upwards: as if every bucket had an exemplar and deltas were exported.
    fn size_of_series(&self) -> usize {
        let buckets = if let Kind::Histogram(bounds) = self.instrument.kind { bounds.len() + 1 } else { 0 };
        size_of::<Series>() + 64 + buckets * (3 * size_of::<u64>() + size_of::<Exemplar>())
    }
}

impl Series {
    /// Everything since the start.
    pub(super) fn total(&self, start: SystemTime, time: SystemTime) -> Point<'_> {
        Point { attributes: &self.attributes, start, time, value: self.numbers.value(), exemplars: &self.exemplars }
    }

    /// What came since the last delivery, kept in `scratch`; none if nothing did.
    pub(super) fn delta<'a>(&'a mut self, time: SystemTime, scratch: &'a mut Numbers) -> Option<Point<'a>> {
        self.under_way = None;
        *scratch = match &self.delivered {
            Some(before) if *before == self.numbers => return None,
            Some(before) => self.numbers.since(before),
            None => self.numbers.clone(),
        };
        self.under_way = Some((time, self.numbers.clone()));
        let (attributes, start) = (&*self.attributes, self.since);
        Some(Point { attributes, start, time, value: scratch.value(), exemplars: &self.exemplars })
    }

    /// A backend has what was under way.
    pub(super) fn delivered(&mut self) {
        if let Some((time, numbers)) = self.under_way.take() {
            (self.since, self.delivered) = (time, Some(numbers));
            // They belong to the interval that is over.
            self.exemplars.clear();
        }
    }
}

impl Numbers {
    pub(super) fn value(&self) -> Value<'_> {
        match self {
            Numbers::Count(count) => Value::Count(*count),
            Numbers::Amount(amount) => Value::Amount(*amount),
            Numbers::Histogram { counts, sum } => Value::Histogram { counts, sum: *sum },
        }
    }

    fn since(&self, before: &Numbers) -> Numbers {
        match (self, before) {
            (Numbers::Count(now), Numbers::Count(before)) => Numbers::Count(now - before),
            (Numbers::Amount(now), Numbers::Amount(before)) => Numbers::Amount(now - before),
            (Numbers::Histogram { counts, sum }, Numbers::Histogram { counts: earlier, sum: before }) => {
                let counts = counts.iter().zip(earlier).map(|(now, before)| now - before).collect();
                Numbers::Histogram { counts, sum: sum - before }
            }
            _ => self.clone(),
        }
    }
}

/// Bounds are inclusive (OTLP, `HistogramDataPoint.explicit_bounds`).
fn bucket(bounds: &[f64], value: f64) -> usize {
    bounds.partition_point(|bound| *bound < value)
}

/// The most series of one metric, the one of what found no room included (OpenTelemetry metrics SDK, "Cardinality limits").
pub(super) const MOST_SERIES: usize = 2000;
