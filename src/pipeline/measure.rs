//! Metrics of calls, folded from finished spans before sampling. Today their number by how they ended.

use crate::telemetry::Metrics;
use crate::trace::Span;

/// Counts every span.
pub(super) fn fold(spans: &[Span], metrics: &Metrics) {
    for span in spans {
        metrics.calls.inc(span.outcome.as_str());
    }
}
