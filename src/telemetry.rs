//! What Sidetrace says about itself: numbers for `/metrics`, and its own log. Not the agent's telemetry.
//!
//! [`instruments`] counts, [`metrics`] names everything that is counted, [`exposition`] writes it down, [`process`] asks the
//! kernel about us, [`log`] is the log.

pub mod exposition;
pub mod instruments;
pub mod log;
pub mod metrics;
pub mod process;

pub use instruments::{Counter, Counters, Gauge, GaugeGuard, Histogram, Sharded};
pub use log::{LogFilter, start_log};
pub use metrics::{CallProtocol, Deliveries, Loss, Metrics};
