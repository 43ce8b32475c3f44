//! How long a request's head waits for its body, whichever version of HTTP: what places the call stands at the body's end.

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::telemetry::Metrics;

/// Why a head no longer waits; a label of `sidetrace_held_requests_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Released {
    /// The body is whole.
    Complete,
    /// It is too long.
    Size,
    /// Nothing has come for a while.
    Stalled,
    /// There is no memory for more of it.
    Budget,
    /// The client has gone, upstream has answered or gone, or the drain has begun.
    Ended,
}

impl Released {
    pub(super) fn count(self, metrics: &Metrics) {
        metrics.held.inc(match self {
            Released::Complete => "complete",
            Released::Size => "size",
            Released::Stalled => "stalled",
            Released::Budget => "budget",
            Released::Ended => "ended",
        });
    }
}

/// The most of a body that is waited for.
pub(super) const MAX_BODY: usize = 4 * 1024 * 1024;
/// How long a body may make no progress.
pub(super) const PATIENCE: Duration = Duration::from_millis(100);
