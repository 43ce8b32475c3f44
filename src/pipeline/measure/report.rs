//! The agent's metrics on their way to a backend: every so often, and a last time when all spans are counted.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{CallMetrics, Cursor};
use crate::config::Temporality;
use crate::exporters::{self, Delivered, Exporter};
use crate::otlp::Resource;
use crate::telemetry::Metrics;

/// Exports the metrics of calls, beside the spans and without waiting for them.
#[derive(Debug)]
pub struct Reporter {
    /// The numbers.
    pub calls: Arc<CallMetrics>,
    /// Where they go.
    pub exporter: Box<dyn Exporter>,
    /// The observed workload.
    pub resource: Resource,
    /// How often.
    pub interval: Duration,
    /// The longest that one try may take.
    pub try_timeout: Duration,
    /// The longest that all tries of one export may take together. After that newer numbers are worth more.
    pub timeout: Duration,
    /// What the numbers count.
    pub temporality: Temporality,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// Why an export was not taken.
enum Failure {
    Refused(String),
    TimedOut,
    GivenUp,
}

impl Reporter {
    /// Runs until every span is counted, then exports a last time, until `give_up`.
    pub(crate) async fn run(self, counted: CancellationToken, give_up: CancellationToken) {
        let mut due = tokio::time::interval_at(Instant::now() + self.interval, self.interval);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            let last = tokio::select! {
                biased;
                () = counted.cancelled() => true,
                _ = due.tick() => false,
            };
            let exported = tokio::select! {
                exported = tokio::time::timeout(self.timeout, self.export(&counted)) => {
                    exported.unwrap_or(Err(Failure::TimedOut))
                }
                () = give_up.cancelled() => Err(Failure::GivenUp),
            };
            match &exported {
                Ok(()) if failing => info!("the backend takes metrics again"),
                Err(reason) if !failing => warn!(%reason, "metrics were not exported"),
                _ => {}
            }
            failing = exported.is_err();
            if let Err(Failure::TimedOut | Failure::GivenUp) = exported {
                self.metrics.metrics_export.ended("given_up", 0);
            }
            if last || give_up.is_cancelled() {
                return;
            }
        }
    }

    /// One request after the other, of bounded size. What a backend did not take is in the next export.
    async fn export(&self, stop: &CancellationToken) -> Result<(), Failure> {
        let counts = &self.metrics.metrics_export;
        let mut at = Cursor::default();
        self.calls.collect();
        while let Some((body, next)) = self.calls.encode(at, &self.resource, self.temporality, SystemTime::now()) {
            let size = body.len();
            let delivered = exporters::deliver(&*self.exporter, body, self.try_timeout, counts, stop).await;
            let outcome = match delivered {
                Delivered::All => "delivered",
                Delivered::Partly { rejected, message } => {
                    warn!(rejected, message, "the backend refused some points");
                    "partial"
                }
                Delivered::Refused(reason) => {
                    counts.ended("refused", size);
                    return Err(Failure::Refused(reason));
                }
            };
            counts.ended(outcome, size);
            self.calls.delivered(at, next);
            at = next;
        }
        Ok(())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused(reason) => {
                write!(f, "{reason}; a backend that takes spans only: OTEL_METRICS_EXPORTER=none")
            }
            Failure::TimedOut => f.write_str("no answer in time"),
            Failure::GivenUp => f.write_str("no time left"),
        }
    }
}
