//! Which spans are kept. Today the head decision only: what a caller has not sampled stays unsampled.

use crate::telemetry::{Loss, Metrics};
use crate::trace::Span;

/// Drops and counts what is not to be exported.
pub(super) fn keep(spans: &mut Vec<Span>, metrics: &Metrics) {
    let before = spans.len();
    spans.retain(|span| span.placement.flags.is_sampled());
    metrics.lost(Loss::Unsampled, before - spans.len());
}
