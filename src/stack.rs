//! One HTTP request through the layers: place -> write headers -> record -> upstream; and back: record the answer,
//! observe its body.

mod body;
mod error;
mod handover;
mod place;
mod record;
mod upgrade;
mod upstream;

use std::sync::Arc;

use http::{Request, Response};
use tower::util::BoxService;

pub use body::{BodyEnd, ObservedBody, Observer};
pub use error::io_error_type;
pub use error::{Fault, StackError};
pub use handover::{Handover, UpstreamConnection};
pub use record::{network_attributes, refused};
pub use upstream::{
    CONNECTION_WINDOW, Http1Upstream, Http2Reconnect, Http2Upstream, MAX_HEAD, MAX_HEADER_LIST, MAX_HEADERS, Reconnect,
    STREAM_WINDOW, Tracked, http1_handshake, http2_handshake,
};

use crate::net::Target;
use crate::net::linked::Link;
use crate::trace::SpanSink;
use crate::trace::propagation::Propagators;
use crate::trace::sampler::Sampler;

/// The whole stack behind one connection.
pub type HttpService = BoxService<Request<ObservedBody>, Response<ObservedBody>, StackError>;

/// What the layers of one connection share.
#[derive(Clone, Debug)]
pub struct Context {
    /// Where the connection goes.
    pub target: Arc<Target>,
    /// Where finished spans go.
    pub sink: SpanSink,
    /// The formats that calls carry their context in.
    pub propagators: Propagators,
    /// Which traces are exported.
    pub sampler: Sampler,
    /// The connection's two sockets, where requests follow one another (HTTP/1).
    pub link: Option<Link>,
    /// What calls leave to the connection's task (HTTP/1).
    pub handover: Option<Handover>,
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
    let service = upgrade::Upgrade::new(context.handover.clone(), upstream);
    let service = record::Record::new(context.clone(), service);
    let handling = place::handling(&context.target);
    BoxService::new(place::Place::new(context.propagators, context.sampler, handling, service))
}
