//! A call, from its request's head to its answer's last byte: place -> write headers -> record; and back: record the answer,
//! observe its body.
//!
//! [`Context::begin`] is the part that all versions of HTTP share. HTTP/2 is multiplexed by a library, and goes through tower
//! services: [`build`]. HTTP/1 is read where its bytes pass (`proxy/http1.rs`), so that they can pass as they are.

mod body;
mod error;
mod http2;
mod record;
mod upstream;

use std::sync::Arc;

use http::{Request, Response};
use opentelemetry::trace::SpanKind;
use tower::util::BoxService;
use tracing::debug;

pub use body::{BodyEnd, ObservedBody, Observer};
pub use error::{Fault, StackError, io_error_type};
pub use record::{Call, RequestHead, connection_span, network_attributes, refused};
pub use upstream::{
    CONNECTION_WINDOW, Http2Upstream, MAX_HEADER_LIST, Reconnect, STREAM_WINDOW, Tracked, http2_handshake,
};

use crate::net::{Direction, Target};
use crate::telemetry::Metrics;
use crate::trace::{ActiveSpan, SpanSink, semconv};

/// The whole stack behind one connection.
pub type HttpService = BoxService<Request<ObservedBody>, Response<ObservedBody>, StackError>;

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

/// Puts the layers around the way upstream. Every layer is always ready: the leaf waits for its connection inside the
/// call.
pub fn build<U>(context: &Context, upstream: U) -> HttpService
where
    U: tower::Service<Request<ObservedBody>, Response = Response<hyper::body::Incoming>, Error = StackError>
        + Send
        + 'static,
    U::Future: Send + 'static,
{
    BoxService::new(http2::Record::new(context.clone(), upstream))
}

const AMBIGUOUS: &str = "ambiguous_request";
