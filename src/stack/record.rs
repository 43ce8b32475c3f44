//! Records a call: its span begins with the request, learns from the answer's head and trailers, and ends with the
//! answer's last byte.
//!
//! Source: semantic conventions, `docs/http/http-spans.md` (HTTP client), `docs/rpc/grpc.md` (gRPC client).

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version, header};
use http_body::Body;
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tower::Service;

use super::{BodyEnd, Context, Fault, ObservedBody, Observer, StackError};
use crate::net::Target;
use crate::net::linked::Link;
use crate::trace::sampler::Sampler;
use crate::trace::{ActiveSpan, End, Placement, Span, semconv, url};

/// The service.
#[derive(Debug)]
pub(super) struct Record<S> {
    context: Context,
    inner: S,
}

impl<S> Record<S> {
    pub(super) fn new(context: Context, inner: S) -> Self {
        Self { context, inner }
    }
}

impl<S> Service<Request<ObservedBody>> for Record<S>
where
    S: Service<Request<ObservedBody>, Response = Response<Incoming>, Error = StackError>,
{
    type Response = Response<ObservedBody>;
    type Error = StackError;
    type Future = Recorded<S::Future>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), StackError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ObservedBody>) -> Self::Future {
        let (mut parts, mut body) = request.into_parts();
        let placement = parts.extensions.remove::<Placement>();
        let placement = placement.unwrap_or_else(|| self.context.sampler.start(&mut rand::rng()));
        let grpc = is_grpc(&parts).then(Grpc::default);
        let span = if grpc.is_some() {
            grpc_span(&parts, &self.context.target, placement)
        } else {
            http_span(&parts, &self.context.target, placement)
        };
        let span = ActiveSpan::new(span, self.context.sink.clone());
        let link = self.context.link.clone();
        if let Some(link) = &link {
            link.exchange_begins();
        }
        if link.is_some() || !body.is_end_stream() {
            body.observe(Box::new(RequestBody { span: span.clone(), is_grpc: grpc.is_some(), link: link.clone() }));
        }
        let call = Call { span, grpc, connect: parts.method == Method::CONNECT, link };
        Recorded { inner: self.inner.call(Request::from_parts(parts, body)), call: Some(call) }
    }
}

pin_project! {
    /// The answer's head on its way back.
    pub(super) struct Recorded<F> {
        #[pin]
        inner: F,
        call: Option<Call>,
    }
}

impl<F> Future for Recorded<F>
where
    F: Future<Output = Result<Response<Incoming>, StackError>>,
{
    type Output = Result<Response<ObservedBody>, StackError>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.inner.poll(cx));
        let call = this.call.take();
        Poll::Ready(match answer {
            Ok(answer) => {
                let (parts, body) = answer.into_parts();
                let body = match call {
                    Some(mut call) => {
                        call.answered(parts.status, &parts.headers);
                        ObservedBody::from_upstream(body, Box::new(call))
                    }
                    None => ObservedBody::from_client(body),
                };
                Ok(Response::from_parts(parts, body))
            }
            Err(error) => {
                if let Some(mut call) = call {
                    call.failed(&error);
                }
                Err(error)
            }
        })
    }
}

/// A call under way, from its request's head to its answer's last byte. Dropped before that, it was cancelled.
struct Call {
    span: ActiveSpan,
    grpc: Option<Grpc>,
    /// Asks for a tunnel.
    connect: bool,
    link: Option<Link>,
}

#[derive(Default)]
struct Grpc {
    http_status: StatusCode,
    status: Option<&'static str>,
}

impl Call {
    fn answered(&mut self, status: StatusCode, headers: &HeaderMap) {
        if let Some(grpc) = &mut self.grpc {
            grpc.http_status = status;
            grpc.status = grpc_status(headers);
            return;
        }
        self.span.update(|span| {
            span.push(semconv::HTTP_RESPONSE_STATUS_CODE, i64::from(status.as_u16()));
            if status == StatusCode::SWITCHING_PROTOCOLS || (self.connect && status.is_success()) {
                span.push(semconv::SIDETRACE_PASSTHROUGH_REASON, UPGRADED);
            }
            if status.as_u16() >= 400 {
                span.fail(status.as_str().to_owned());
            }
        });
    }

    fn complete(&mut self) {
        let status = self
            .grpc
            .as_ref()
            .map_or("OK", |grpc| grpc.status.unwrap_or_else(|| grpc_status_of_http(grpc.http_status)));
        self.span.conclude_with(End::Complete, grpc_over(self.grpc.is_some(), status));
    }

    fn failed(&mut self, error: &StackError) {
        let client_has_gone =
            error.fault() == Fault::Client || self.link.as_ref().is_some_and(|link| link.client_finished());
        if client_has_gone {
            // No error of the call: upstream closes on a client that has.
            return self.cancelled();
        }
        let grpc = grpc_over(self.grpc.is_some(), error.reset().map_or("UNAVAILABLE", grpc_status_of_reset));
        self.span.conclude_with(End::Broken, |span| {
            grpc(span);
            span.fail(error.error_type());
        });
    }

    fn cancelled(&mut self) {
        let grpc = grpc_over(self.grpc.is_some(), "CANCELLED");
        self.span.conclude_with(End::Cancelled, grpc);
    }
}

impl Observer for Call {
    fn trailers(&mut self, trailers: &HeaderMap) {
        if let Some(grpc) = &mut self.grpc {
            grpc.status = grpc_status(trailers).or(grpc.status);
        }
    }

    fn end(mut self: Box<Self>, end: BodyEnd<'_>) {
        match end {
            BodyEnd::Complete => self.complete(),
            BodyEnd::Broken(error) => self.failed(error),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // Nothing to do after an end; without one, the client has gone.
        self.cancelled();
        if let Some(link) = &self.link {
            link.exchange_over();
        }
    }
}

/// What the end of a gRPC call adds to its span; nothing for other calls.
fn grpc_over(is_grpc: bool, status: &'static str) -> impl FnOnce(&mut Span) {
    move |span| {
        if is_grpc {
            span.push(semconv::RPC_STATUS_CODE, status);
            if status != "OK" {
                span.fail(status);
            }
        }
    }
}

/// The request's body: its end makes a FIN of the client a half-close.
struct RequestBody {
    span: ActiveSpan,
    is_grpc: bool,
    link: Option<Link>,
}

impl Observer for RequestBody {
    fn pending(&mut self) {
        if let Some(link) = &self.link {
            link.body_waits(true);
        }
    }

    fn data(&mut self, _: &Bytes) {
        if let Some(link) = &self.link {
            link.body_waits(false);
        }
    }

    fn end(self: Box<Self>, end: BodyEnd<'_>) {
        match (end, &self.link) {
            (BodyEnd::Complete, Some(link)) => link.request_complete(),
            (BodyEnd::Complete, None) => {}
            (BodyEnd::Broken(_), _) => {
                self.span.conclude_with(End::Cancelled, grpc_over(self.is_grpc, "CANCELLED"));
            }
        }
    }
}

fn http_span(parts: &Parts, target: &Target, placement: Placement) -> Span {
    let method = known_method(&parts.method);
    let mut span = Span::new(placement, method.unwrap_or("HTTP"));
    span.push(semconv::HTTP_REQUEST_METHOD, method.unwrap_or("_OTHER"));
    if method.is_none() {
        span.push(semconv::HTTP_REQUEST_METHOD_ORIGINAL, text(parts.method.as_str()));
    }
    let scheme = parts.uri.scheme_str().unwrap_or("http");
    let authority = server_attributes(parts, scheme, target, &mut span);
    if parts.method != Method::CONNECT {
        let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
        span.push(semconv::URL_FULL, url::redacted(scheme, &authority, path));
        span.push(semconv::URL_SCHEME, text(scheme));
    }
    if let Some(agent) = parts.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()) {
        span.push(semconv::USER_AGENT_ORIGINAL, text(agent));
    }
    let version = match parts.version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    };
    span.push(semconv::NETWORK_PROTOCOL_VERSION, version);
    network_attributes(target, &mut span);
    span
}

fn grpc_span(parts: &Parts, target: &Target, placement: Placement) -> Span {
    let method = text(parts.uri.path().trim_start_matches('/'));
    let mut span = Span::new(placement, method.clone());
    span.push(semconv::RPC_SYSTEM_NAME, "grpc");
    span.push(semconv::RPC_METHOD, method);
    server_attributes(parts, "http", target, &mut span);
    network_attributes(target, &mut span);
    span
}

/// `server.*` from the request's own words, else where it was sent. Returns the authority for the URL.
fn server_attributes(parts: &Parts, scheme: &str, target: &Target, span: &mut Span) -> String {
    let host = || parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()).filter(|host| !host.is_empty());
    let authority = parts.uri.authority().map(|authority| authority.as_str()).or_else(host);
    let Some(authority) = authority else {
        span.push(semconv::SERVER_ADDRESS, target.address.clone());
        span.push(semconv::SERVER_PORT, i64::from(target.original.port()));
        return target.original.to_string();
    };
    let host_port = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let port = host_port.rsplit_once(':').filter(|(_, port)| !port.contains(']'));
    let (address, port) = match port.and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?))) {
        Some((host, port)) => (host, port),
        None => (host_port, if scheme == "https" { 443 } else { 80 }),
    };
    span.push(semconv::SERVER_ADDRESS, text(address.trim_start_matches('[').trim_end_matches(']')));
    span.push(semconv::SERVER_PORT, i64::from(port));
    authority.to_owned()
}

/// The socket that is used.
pub fn network_attributes(target: &Target, span: &mut Span) {
    span.push(semconv::NETWORK_PEER_ADDRESS, target.address.clone());
    span.push(semconv::NETWORK_PEER_PORT, i64::from(target.original.port()));
}

/// The span of a connection that could not be made.
pub fn refused(target: &Target, sampler: &Sampler, error: &std::io::Error) -> Span {
    let mut span = Span::new(sampler.start(&mut rand::rng()), format!("connect {}", target.original));
    span.push(semconv::SERVER_ADDRESS, target.address.clone());
    span.push(semconv::SERVER_PORT, i64::from(target.original.port()));
    network_attributes(target, &mut span);
    span.push(semconv::NETWORK_TRANSPORT, "tcp");
    span.fail(super::io_error_type(error));
    span
}

fn is_grpc(parts: &Parts) -> bool {
    let Some(kind) = parts.headers.get(header::CONTENT_TYPE) else { return false };
    let rest = kind.as_bytes().strip_prefix(b"application/grpc");
    parts.version == Version::HTTP_2 && rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

fn known_method(method: &Method) -> Option<&'static str> {
    METHODS.into_iter().find(|known| *known == method.as_str())
}

/// `grpc-status` among headers or trailers. A value that is no known code is UNKNOWN.
fn grpc_status(headers: &HeaderMap) -> Option<&'static str> {
    let value = headers.get("grpc-status")?.to_str().ok();
    let code = value.and_then(|value| value.parse::<usize>().ok());
    Some(code.and_then(|code| GRPC_STATUS.get(code).copied()).unwrap_or("UNKNOWN"))
}

/// gRPC, `doc/http-grpc-status-mapping.md`: an answer without `grpc-status`.
fn grpc_status_of_http(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "INTERNAL",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "UNIMPLEMENTED",
        429 | 502 | 503 | 504 => "UNAVAILABLE",
        _ => "UNKNOWN",
    }
}

/// gRPC, `doc/PROTOCOL-HTTP2.md`, "Errors".
fn grpc_status_of_reset(reason: h2::Reason) -> &'static str {
    match reason {
        h2::Reason::REFUSED_STREAM => "UNAVAILABLE",
        h2::Reason::CANCEL => "CANCELLED",
        h2::Reason::ENHANCE_YOUR_CALM => "RESOURCE_EXHAUSTED",
        h2::Reason::INADEQUATE_SECURITY => "PERMISSION_DENIED",
        _ => "INTERNAL",
    }
}

/// A copy that cannot grow a span without bound.
fn text(value: &str) -> String {
    let end = (0..=value.len().min(MAX_TEXT)).rev().find(|end| value.is_char_boundary(*end));
    value.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
}

/// What follows the answer is no HTTP, and is passed through unread.
const UPGRADED: &str = "upgraded";
const MAX_TEXT: usize = 512;
const METHODS: [&str; 10] = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY"];
const GRPC_STATUS: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
