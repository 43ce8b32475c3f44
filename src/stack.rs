//! A call, from its request's head to its answer's last byte, whichever version of HTTP carries it: place -> header lines to
//! write -> record; and back: record the answer.
//!
//! The bytes are moved elsewhere: [`crate::proxy`] asks here what a request's head becomes ([`Context::begin`]), and tells the
//! [`Call`] what it sees go by. Nothing here can fail or hold up an exchange.

mod error;
mod record;

use std::sync::Arc;

use opentelemetry::trace::SpanKind;
use tracing::debug;

pub use error::io_error_type;
pub use record::{Call, RequestHead, connection_span, network_attributes, refused};

use crate::net::{Direction, Target};
use crate::telemetry::Metrics;
use crate::trace::{ActiveSpan, SpanSink, semconv};

/// What the calls of one connection share.
#[derive(Clone, Debug)]
pub struct Context {
    /// Where the connection goes.
    pub target: Arc<Target>,
    /// Where finished spans go.
    pub sink: SpanSink,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

impl Context {
    /// The record of what passes unread behind calls that were read.
    pub fn passed_through(&self, reason: &'static str) -> ActiveSpan {
        let target = &self.target;
        let mut span = connection_span(target, format!("connect {}", target.original));
        span.push(semconv::SERVER_ADDRESS, target.address.clone());
        span.push(semconv::SERVER_PORT, i64::from(target.port));
        network_attributes(target, &mut span);
        span.push(semconv::NETWORK_TRANSPORT, "tcp");
        span.push(semconv::SIDETRACE_PASSTHROUGH_REASON, reason);
        ActiveSpan::new(span, self.sink.clone())
    }

    /// A request was refused: two readers could see its end in different places.
    pub fn refuse(&self, why: &'static str) {
        debug!(original = %self.target.original, why, "refused a request");
        self.metrics.ambiguous.inc();
        let mut span = connection_span(&self.target, "HTTP".to_owned());
        span.kind = match self.target.direction {
            Direction::Outbound => SpanKind::Client,
            Direction::Inbound => SpanKind::Server,
        };
        span.push(semconv::SERVER_ADDRESS, self.target.address.clone());
        span.push(semconv::SERVER_PORT, i64::from(self.target.port));
        network_attributes(&self.target, &mut span);
        span.push(semconv::SIDETRACE_REFUSED_REASON, why);
        span.fail(AMBIGUOUS);
        ActiveSpan::new(span, self.sink.clone()).conclude(crate::trace::End::Refused);
    }
}

const AMBIGUOUS: &str = "ambiguous_request";
