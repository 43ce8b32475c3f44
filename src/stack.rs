//! A call, from its request's head to its answer's last byte, whichever version of HTTP carries it: place -> header lines to
//! write -> record; and back: record the answer.
//!
//! The bytes are moved elsewhere: [`crate::proxy`] asks here what a request's head becomes ([`Context::begin`]), and tells the
//! [`Call`] what it sees go by. Nothing here can fail or hold up an exchange.

mod error;
mod forwarded;
mod record;

use std::sync::Arc;
use std::time::SystemTime;

use opentelemetry::Value;
use opentelemetry::trace::SpanKind;
use tracing::debug;

pub use error::io_error_type;
pub use record::{Call, RequestHead};

use crate::budget::Budget;
use crate::genai;
use crate::net::{Direction, Target};
use crate::policy::{Policies, Subject, Verdict};
use crate::telemetry::Metrics;
use crate::trace::propagation::Propagators;
use crate::trace::sampler::Sampler;
use crate::trace::{ActiveSpan, End, Span, SpanSink, Workload, semconv};

/// What the calls of one connection share.
#[derive(Clone, Debug)]
pub struct Context {
    /// Where the connection goes.
    pub target: Arc<Target>,
    /// Whose calls these are; `None`: the pod's.
    pub workload: Option<Arc<Workload>>,
    /// What all connections share.
    pub settings: Arc<Settings>,
}

/// What all calls share.
#[derive(Debug)]
pub struct Settings {
    /// Without it nothing is recorded and no header line changes.
    pub enabled: bool,
    /// Where finished spans go.
    pub sink: SpanSink,
    /// Lends what a call holds beyond the usual.
    pub budget: Arc<Budget>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// The formats that calls carry their context in.
    pub propagators: Propagators,
    /// Which traces are exported.
    pub sampler: Sampler,
    /// The rules in force.
    pub policies: Policies,
    /// How bodies are read.
    pub genai: Arc<genai::Settings>,
}

impl Context {
    /// The record of a connection, or of the part of one, that passes unread: if it is to be recorded. `name` is the server's
    /// where it was seen.
    pub fn passed_through(&self, reason: &'static str, name: Option<&str>, begun: SystemTime) -> Option<ActiveSpan> {
        self.records_connection(name).then(|| {
            let mut span = self.connection_span(self.title(name), name);
            span.start = begun;
            span.push(semconv::SIDETRACE_PASSTHROUGH_REASON, reason);
            ActiveSpan::new(span, self.settings.sink.clone())
        })
    }

    /// A connection only asked whether the port is open.
    pub fn probed(&self) {
        if self.settings.enabled {
            self.is_recorded(Verdict::Probe);
        }
    }

    /// The record of a connection that the client gave up before it was made. `name` is the server's where it was seen.
    pub fn given_up(&self, name: Option<&str>, begun: SystemTime) {
        if self.records_connection(name) {
            let mut span = self.connection_span(self.title(name), name);
            span.start = begun;
            ActiveSpan::new(span, self.settings.sink.clone()).conclude(End::Cancelled);
        }
    }

    /// The record of a connection that could not be made.
    pub fn refused(&self, name: Option<&str>, error: &std::io::Error, begun: SystemTime) {
        if self.records_connection(name) {
            let mut span = self.connection_span(self.title(name), name);
            span.start = begun;
            span.fail(io_error_type(error));
            ActiveSpan::new(span, self.settings.sink.clone()).conclude(End::Refused);
        }
    }

    /// The record of a connection whose client did not trust the certificate that it was shown. `name` is the server's.
    pub fn distrusted(&self, name: Option<&str>, why: &'static str, begun: SystemTime) {
        if self.records_connection(name) {
            let mut span = self.connection_span(self.title(name), name);
            span.start = begun;
            span.fail(why);
            ActiveSpan::new(span, self.settings.sink.clone()).conclude(End::Refused);
        }
    }

    /// A request was refused: two readers could see its end in different places.
    pub fn refuse(&self, why: &'static str) {
        debug!(original = %self.target.original, why, "refused a request");
        self.settings.metrics.ambiguous.inc();
        if self.records_connection(None) {
            let mut span = self.connection_span("HTTP".to_owned(), None);
            span.push(semconv::SIDETRACE_REFUSED_REASON, why);
            span.fail(AMBIGUOUS);
            ActiveSpan::new(span, self.settings.sink.clone()).conclude(End::Refused);
        }
    }

    fn records_connection(&self, name: Option<&str>) -> bool {
        let subject = Subject {
            direction: self.target.direction,
            address: self.target.original.ip(),
            port: self.target.original.port(),
            host: name,
            method: "",
            path: "",
            content_type: None,
            user_agent: None,
        };
        self.settings.enabled
            && self.is_recorded(self.settings.policies.load().verdict(&subject))
            && self.settings.sink.admits()
    }

    /// Whether a call is recorded; if not, it is counted.
    fn is_recorded(&self, verdict: Verdict) -> bool {
        let reason = match verdict {
            Verdict::Record => return true,
            Verdict::Count => "count",
            Verdict::Ignore => "ignore",
            Verdict::Telemetry(kind) => kind,
            Verdict::Probe => "probe",
        };
        self.settings.metrics.unrecorded.inc(reason);
        false
    }

    fn title(&self, name: Option<&str>) -> String {
        match name {
            Some(name) => format!("connect {name}:{}", self.target.port),
            None => format!("connect {}", self.target.authority()),
        }
    }

    fn connection_span(&self, title: String, name: Option<&str>) -> Span {
        let target = &self.target;
        let mut span = Span::new(self.settings.sampler.start(&mut rand::rng()), title);
        if target.direction == Direction::Inbound {
            span.kind = SpanKind::Server;
            span.push(semconv::CLIENT_ADDRESS, target.peer_address.clone());
        }
        let address = name.map_or_else(|| Value::from(target.address.clone()), |name| Value::from(name.to_owned()));
        span.push(semconv::SERVER_ADDRESS, address);
        span.push(semconv::SERVER_PORT, i64::from(target.port));
        record::network_attributes(target, &mut span);
        span.push(semconv::NETWORK_TRANSPORT, "tcp");
        span.workload = self.workload.clone();
        span
    }
}

const AMBIGUOUS: &str = "ambiguous_request";
