//! Spans that wait for delivery: first in, first out, bounded, what does not fit is counted.

use std::collections::VecDeque;

use crate::telemetry::{Loss, Metrics};
use crate::trace::Span;

/// The queue. A batch under way still counts as held: its spans may be needed for another try.
#[derive(Debug)]
pub(super) struct Buffer {
    waiting: VecDeque<Span>,
    under_way: usize,
    capacity: usize,
}

impl Buffer {
    pub(super) fn new(capacity: usize) -> Self {
        Self { waiting: VecDeque::new(), under_way: 0, capacity }
    }

    /// Adds spans while there is room. The newest are lost, as in every SDK: what waits is older and nearer to delivery.
    pub(super) fn push(&mut self, mut spans: Vec<Span>, metrics: &Metrics) {
        let room = self.capacity.saturating_sub(self.held());
        if spans.len() > room {
            metrics.lost(Loss::QueueFull, spans.len() - room);
            spans.truncate(room);
        }
        self.waiting.extend(spans);
    }

    /// Takes up to `count` spans for delivery.
    pub(super) fn take(&mut self, count: usize) -> Vec<Span> {
        let taken: Vec<_> = self.waiting.drain(..count.min(self.waiting.len())).collect();
        self.under_way += taken.len();
        taken
    }

    /// Forgets spans that were taken: delivered, refused or given up.
    pub(super) fn delivered(&mut self, count: usize) {
        self.under_way = self.under_way.saturating_sub(count);
    }

    /// Spans that no delivery has taken yet.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Spans waiting and under way.
    pub(super) fn held(&self) -> usize {
        self.waiting.len() + self.under_way
    }
}
