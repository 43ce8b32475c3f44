//! Spans that wait for delivery: first in, first out, bounded in number and in bytes, what does not fit is counted.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::budget::{Budget, Loan, Use};
use crate::telemetry::{Loss, Metrics};
use crate::trace::Span;

/// The queue. A batch under way still counts as held: its spans may be needed for another try.
#[derive(Debug)]
pub(super) struct Buffer {
    waiting: VecDeque<Span>,
    under_way: UnderWay,
    capacity: usize,
    // None only if a budget refuses nothing at all.
    loan: Option<Loan>,
}

#[derive(Debug, Default)]
struct UnderWay {
    spans: usize,
    bytes: usize,
}

impl Buffer {
    pub(super) fn new(capacity: usize, budget: &Arc<Budget>) -> Self {
        Self { waiting: VecDeque::new(), under_way: UnderWay::default(), capacity, loan: budget.lend(0, Use::Queue) }
    }

    /// Adds spans while there is room. The newest are lost, as in every SDK: what waits is older and nearer to delivery.
    pub(super) fn push(&mut self, mut spans: Vec<Span>, metrics: &Metrics) {
        let room = self.capacity.saturating_sub(self.held());
        if spans.len() > room {
            metrics.lost(Loss::QueueFull, spans.len() - room);
            spans.truncate(room);
        }
        let before = spans.len();
        spans.retain(|span| self.loan.as_mut().is_some_and(|loan| loan.grow(span.size())));
        metrics.lost(Loss::QueueBudget, before - spans.len());
        self.waiting.extend(spans);
    }

    /// Takes up to `count` spans for delivery.
    pub(super) fn take(&mut self, count: usize) -> Vec<Span> {
        let taken: Vec<_> = self.waiting.drain(..count.min(self.waiting.len())).collect();
        self.under_way.spans += taken.len();
        self.under_way.bytes += taken.iter().map(Span::size).sum::<usize>();
        taken
    }

    /// Forgets the spans that were taken: delivered, refused or given up.
    pub(super) fn delivered(&mut self) {
        let UnderWay { bytes, .. } = std::mem::take(&mut self.under_way);
        if let Some(loan) = &mut self.loan {
            loan.shrink(bytes);
        }
    }

    /// Spans that no delivery has taken yet.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Spans waiting and under way.
    pub(super) fn held(&self) -> usize {
        self.waiting.len() + self.under_way.spans
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::propagation;

    fn spans(count: usize) -> Vec<Span> {
        (0..count).map(|_| Span::new(propagation::start(&mut rand::rng()), "GET")).collect()
    }

    #[test]
    fn bytes_bound_the_queue_where_the_number_does_not_and_a_batch_under_way_holds_its_own() {
        let (metrics, size) = (Metrics::default(), spans(1)[0].size() as u64);
        let budget = Budget::of(2 * (4 * size + 4));
        let mut buffer = Buffer::new(100, &budget);
        buffer.push(spans(2), &metrics);
        buffer.push(spans(3), &metrics);
        assert_eq!((buffer.held(), metrics.losses(Loss::QueueBudget)), (3, 2));
        assert_eq!(buffer.take(2).len(), 2);
        buffer.push(spans(1), &metrics);
        assert_eq!((buffer.held(), metrics.losses(Loss::QueueBudget)), (3, 3), "the batch is not delivered yet");
        buffer.delivered();
        buffer.push(spans(3), &metrics);
        assert_eq!((buffer.held(), metrics.losses(Loss::QueueBudget)), (3, 4));
        assert_eq!(metrics.losses(Loss::QueueFull), 0);
        drop(buffer);
        assert!(budget.lend(3 * spans(1)[0].size(), Use::Queue).is_some());
    }
}
