//! Records a call: its place in a trace is fixed when its head is read, its span learns from the answer's head and trailers,
//! and ends with the answer's last byte. The same for every version of HTTP, whoever moves the bytes.
//!
//! Source: semantic conventions, `docs/http/http-spans.md`, `docs/rpc/grpc.md`.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderName, StatusCode, Version};
use opentelemetry::trace::SpanKind;
use opentelemetry::{Array, Key, KeyValue, StringValue, Value};

use super::error::{h2_error_type, reset_error_type};
use super::{Context, forwarded};
use crate::config::rules::ExternalContext;
use crate::genai::{self, Inspection};
use crate::net::{Direction, Target};
use crate::policy::{self, Policy, Subject, Verdict};
use crate::stitch;
use crate::trace::propagation::{Carrier, ContextPolicy, Edits, Handling};
use crate::trace::{ActiveSpan, End, Placement, Span, semconv, url};

/// What a request's head says.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a, H> {
    /// As it came.
    pub method: &'a str,
    /// `http`, or what the request's target names.
    pub scheme: &'a str,
    /// From the target, else from the Host header.
    pub authority: Option<&'a str>,
    /// Path and query; empty for CONNECT.
    pub path: &'a str,
    /// Its target is in absolute form, as a proxy is told where a request is to go.
    pub absolute: bool,
    /// Its version.
    pub version: Version,
    /// Its header fields.
    pub headers: &'a H,
}

/// A call under way. Dropped before it was concluded, it was cancelled.
#[derive(Debug)]
pub struct Call {
    span: ActiveSpan,
    grpc: Option<Grpc>,
    server: bool,
    /// The answer's headers that were asked for.
    captured: Arc<[HeaderName]>,
    /// Reads the bodies, until the end.
    inspection: Option<Box<Inspection>>,
    /// A status that is an error, unless the inspection finds a better name for it.
    failed: Option<u16>,
    /// The record is ended by whoever has the answer.
    parked: bool,
}

#[derive(Debug, Default)]
struct Grpc {
    http_status: u16,
    status: Option<&'static str>,
}

impl Context {
    /// What is to be read of the bodies of a request that has come, if it is to be recorded. Counts nothing.
    pub fn recognise<H: Carrier>(&self, policy: &Arc<Policy>, head: &RequestHead<'_, H>) -> Option<Box<Inspection>> {
        let settings = &*self.settings;
        if !settings.enabled || !settings.sink.would_admit() {
            return None;
        }
        let subject = self.subject(head);
        let request = genai::Request { subject, path: head.path, headers: head.headers };
        let inspection = genai::recognise(&settings.genai, policy, &request)?;
        (policy.verdict(&subject) == Verdict::Record).then_some(inspection)
    }

    /// A request's place is due: how its header lines change, and its record, if it is to have one. `inspection` is what
    /// [`Context::recognise`] found, and has read what was held.
    pub fn begin<H: Carrier>(
        &self,
        policy: &Policy,
        head: &RequestHead<'_, H>,
        mut inspection: Option<Box<Inspection>>,
    ) -> (Edits, Option<Call>) {
        let (settings, target) = (&*self.settings, &*self.target);
        let subject = self.subject(head);
        if !settings.enabled || !self.is_recorded(policy.verdict(&subject)) {
            return (Edits::default(), None);
        }
        let handling = handling(policy, &subject, target, head.absolute);
        let incoming = settings.propagators.extract(head.headers);
        let evidence = inspection.as_ref().and_then(|inspection| inspection.evidence());
        let (propagators, sampler) = (settings.propagators, &settings.sampler);
        let placement = stitch::place(&incoming, evidence, handling, propagators, sampler, &mut rand::rng());
        let edits = settings.propagators.inject(&placement, handling, head.headers);
        if !settings.sink.admits() {
            return (edits, None);
        }
        let server = target.direction == Direction::Inbound;
        let grpc = is_grpc(head).then(Grpc::default);
        let mut span = match (&grpc, server) {
            (Some(_), _) => grpc_span(head, target, placement),
            (None, false) => client_span(head, target, placement, policy),
            (None, true) => server_span(head, target, placement, policy),
        };
        if let Some(inspection) = &inspection {
            // The head may have waited for the body: for the client the call began before that.
            span.start = inspection.begun();
        }
        if server {
            let first = policy.inside(None, target.peer.ip()).then(|| forwarded::client(head.headers)).flatten();
            let client =
                first.map_or_else(|| target.peer_address.clone().into(), |first| Value::from(first.to_string()));
            span.push(semconv::CLIENT_ADDRESS, client);
        }
        capture(policy.captured_request_headers(), head.headers, &mut span, |name| {
            if grpc.is_some() { semconv::rpc_request_metadata(name) } else { semconv::http_request_header(name) }
        });
        span.workload = self.workload.clone();
        let span = ActiveSpan::new(span, settings.sink.clone());
        inspection = inspection.filter(|inspection| !inspection.is_over());
        let captured = policy.captured_response_headers().into();
        if let Some(inspection) = &mut inspection {
            inspection.placed(&span);
        }
        (edits, Some(Call { span, grpc, server, captured, inspection, failed: None, parked: false }))
    }

    fn subject<'a, H: Carrier>(&self, head: &RequestHead<'a, H>) -> Subject<'a> {
        Subject {
            direction: self.target.direction,
            address: self.target.original.ip(),
            port: self.target.original.port(),
            host: head.authority,
            method: head.method,
            path: head.path.split('?').next().unwrap_or_default(),
            content_type: head.headers.values("content-type").next(),
            user_agent: head.headers.values("user-agent").next(),
        }
    }
}

impl<H: Carrier> RequestHead<'_, H> {
    /// Whether this request can wait for its body: nobody waits for an answer to its head alone.
    pub fn may_wait(&self) -> bool {
        self.method != "CONNECT" && self.headers.values("expect").next().is_none() && !is_grpc(self)
    }
}

/// What goes to the far side, and what its context is worth: the agent's own is its own; a caller's depends on where it is.
fn handling(policy: &Policy, subject: &Subject<'_>, target: &Target, absolute: bool) -> Handling {
    let inside = if target.direction == Direction::Outbound && (absolute || target.tunnel) {
        // The socket is a proxy's. Behind it is whoever the request names, who counts only by an address.
        let host = subject.host.map(policy::bare_host).or(Some(&*target.address)).and_then(|host| host.parse().ok());
        host.is_some_and(|host| policy.inside(None, host))
    } else {
        policy.inside(target.verified_name(), target.peer.ip())
    };
    let context = match policy.external_context() {
        _ if inside || target.direction == Direction::Outbound => ContextPolicy::Continue,
        ExternalContext::Continue => ContextPolicy::Continue,
        ExternalContext::Link => ContextPolicy::Link,
        ExternalContext::Ignore => ContextPolicy::Ignore,
    };
    let trusted = inside || target.direction == Direction::Inbound;
    Handling { context, trusted, inject: policy.injects(subject) }
}

/// Headers that were asked for, as lists of their values.
fn capture<H: Carrier>(names: &[HeaderName], headers: &H, span: &mut Span, key: impl Fn(&str) -> Key) {
    for name in names {
        let values: Vec<StringValue> = headers
            .values(name.as_str())
            .take(MAX_VALUES)
            .map(|value| StringValue::from(text(&String::from_utf8_lossy(value))))
            .collect();
        if !values.is_empty() {
            span.attributes.push(KeyValue::new(key(name.as_str()), Value::Array(Array::String(values))));
        }
    }
}

impl Call {
    /// The body to send in place of this whole one, where a rule asks for it.
    pub fn rewritten(&mut self, body: &[u8]) -> Option<Vec<u8>> {
        let (inspection, mut found) = (self.inspection.as_mut()?, None);
        self.span.update(|span| found = inspection.rewritten(body, &span.placement));
        found
    }

    /// Whether the answer must not be compressed. Asked behind [`Call::rewritten`].
    pub fn wants_identity(&self) -> bool {
        self.inspection.as_ref().is_some_and(|inspection| inspection.wants_identity())
    }

    /// Whether something is taken out of the answer's body. Asked behind [`Call::answered`].
    pub fn filters(&self) -> bool {
        self.inspection.as_ref().is_some_and(|inspection| inspection.filters())
    }

    /// What goes on of the next bytes of the answer's body, which [`Call::answer_data`] has seen. `ended`: nothing follows.
    pub fn filter(&mut self, bytes: &[u8], ended: bool, out: &mut Vec<u8>) {
        match &mut self.inspection {
            Some(inspection) => inspection.filter(bytes, ended, out),
            None => out.extend_from_slice(bytes),
        }
    }

    /// The head of the final answer.
    pub fn answered(&mut self, status: u16, headers: &impl Carrier) {
        if !self.captured.is_empty() {
            let grpc = self.grpc.is_some();
            self.span.update(|span| {
                capture(&self.captured, headers, span, |name| {
                    if grpc { semconv::rpc_response_metadata(name) } else { semconv::http_response_header(name) }
                });
            });
        }
        if let Some(inspection) = &mut self.inspection {
            inspection.answered(status, headers);
        }
        if let Some(grpc) = &mut self.grpc {
            grpc.http_status = status;
            grpc.status = grpc_status(headers);
            return;
        }
        let failed = status >= if self.server { 500 } else { 400 };
        let waits = self.inspection.is_some();
        self.failed = Some(status).filter(|_| failed && waits);
        self.span.update(|span| {
            span.push(semconv::HTTP_RESPONSE_STATUS_CODE, i64::from(status));
            if failed && !waits {
                span.fail(status.to_string());
            }
        });
    }

    /// Whether somebody reads the bodies.
    pub fn observes(&self) -> bool {
        self.inspection.is_some()
    }

    /// The next bytes of the request's body, without the framing of the transfer, before they go on.
    pub fn request_data(&mut self, bytes: &[u8]) {
        if let Some(inspection) = &mut self.inspection {
            inspection.request(bytes);
            self.forget();
        }
    }

    /// The request's body has ended.
    pub fn request_ended(&mut self) {
        if let Some(inspection) = &mut self.inspection {
            inspection.request_ended();
            self.forget();
        }
    }

    /// Bodies that turn out to be nobody's cost nothing from here on.
    fn forget(&mut self) {
        self.inspection.take_if(|inspection| inspection.is_over());
    }

    /// The next bytes of the answer's body, without the framing of the transfer, before they go on.
    pub fn answer_data(&mut self, bytes: &[u8]) {
        if let Some(inspection) = &mut self.inspection {
            inspection.answer(bytes, Instant::now());
            self.forget();
        }
    }

    /// From here on the connection speaks something else, which is passed through unread.
    pub fn upgraded(&mut self) {
        self.passed_through(UPGRADED);
    }

    /// What follows could not be read.
    pub fn passed_through(&mut self, reason: &'static str) {
        self.span.update(|span| span.push(semconv::SIDETRACE_PASSTHROUGH_REASON, reason));
    }

    /// The trailers of the answer.
    pub fn trailers(&mut self, trailers: &impl Carrier) {
        if let Some(grpc) = &mut self.grpc {
            grpc.status = grpc_status(trailers).or(grpc.status);
        }
    }

    /// The answer's last byte.
    pub fn complete(&mut self) {
        let of_http = |grpc: &Grpc| grpc_status_of_http(grpc.http_status);
        let status = self.grpc.as_ref().map_or("OK", |grpc| grpc.status.unwrap_or_else(|| of_http(grpc)));
        self.conclude(End::Complete, status, None);
    }

    /// Upstream has reset the stream, or it went with its connection.
    pub fn failed(&mut self, error: &h2::Error) {
        let status = error.reason().map_or("UNAVAILABLE", grpc_status_of_reset);
        self.conclude(End::Broken, status, Some(h2_error_type(error)));
    }

    /// The stream ends with this code, which upstream has not said for it alone.
    pub fn reset(&mut self, reason: h2::Reason) {
        self.conclude(End::Broken, grpc_status_of_reset(reason), Some(reset_error_type(reason)));
    }

    /// Upstream's side broke the answer off.
    pub fn broken(&mut self, error_type: &'static str) {
        self.conclude(End::Broken, "UNAVAILABLE", Some(error_type));
    }

    /// The client has gone: no error of the call.
    pub fn cancelled(&mut self) {
        self.conclude(End::Cancelled, "CANCELLED", None);
    }

    fn conclude(&mut self, end: End, grpc_status: &'static str, error_type: Option<&'static str>) {
        let mut inspection = None;
        if let Some(read) = self.inspection.take() {
            let Some(kept) = read.park(end, &self.span) else {
                // Its answer comes by another exchange, and ends it.
                self.parked = true;
                return;
            };
            inspection = Some(kept);
        }
        if self.parked {
            return;
        }
        let failed = self.failed.take();
        let told = inspection.as_ref().map_or(end, |inspection| inspection.end(end));
        self.span.conclude_with(told, |span| {
            // First: the first name of an error stays, and the provider's says more than a status.
            if let Some(inspection) = &mut inspection {
                inspection.conclude(end, span);
            }
            if let Some(status) = failed {
                span.fail(status.to_string());
            }
            if self.grpc.is_some() {
                span.push(semconv::RPC_STATUS_CODE, grpc_status);
                if grpc_status != "OK" && (!self.server || SERVER_ERRORS.contains(&grpc_status)) {
                    span.fail(grpc_status);
                }
            }
            if let Some(error_type) = error_type {
                span.fail(error_type);
            }
        });
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // Nothing happens behind a conclusion.
        self.cancelled();
    }
}

fn client_span<H: Carrier>(head: &RequestHead<'_, H>, target: &Target, placement: Placement, policy: &Policy) -> Span {
    let mut span = http_span(head, target, placement);
    if head.method != "CONNECT" {
        let own = || target.authority();
        let authority = head.authority.map_or_else(|| Cow::Owned(own()), Cow::Borrowed);
        let url = url::redacted(head.scheme, &authority, head.path, |name| policy.keeps_query_value(name));
        span.push(semconv::URL_FULL, url);
        span.push(semconv::URL_SCHEME, scheme(head.scheme));
    }
    span
}

fn server_span<H: Carrier>(head: &RequestHead<'_, H>, target: &Target, placement: Placement, policy: &Policy) -> Span {
    let mut span = http_span(head, target, placement);
    span.kind = SpanKind::Server;
    let (path, query) = url::redacted_path_and_query(head.path, |name| policy.keeps_query_value(name));
    span.push(semconv::URL_PATH, path);
    if let Some(query) = query {
        span.push(semconv::URL_QUERY, query);
    }
    span.push(semconv::URL_SCHEME, scheme(head.scheme));
    span
}

/// What both sides of HTTP say.
fn http_span<H: Carrier>(head: &RequestHead<'_, H>, target: &Target, placement: Placement) -> Span {
    let method = METHODS.into_iter().find(|known| *known == head.method);
    let mut span = Span::new(placement, method.unwrap_or("HTTP"));
    span.push(semconv::HTTP_REQUEST_METHOD, method.unwrap_or("_OTHER"));
    if method.is_none() {
        span.push(semconv::HTTP_REQUEST_METHOD_ORIGINAL, text(head.method));
    }
    server_attributes(head.authority, head.scheme, target, &mut span);
    if let Some(agent) = head.headers.values("user-agent").next().and_then(|agent| std::str::from_utf8(agent).ok()) {
        span.push(semconv::USER_AGENT_ORIGINAL, text(agent));
    }
    let version = match head.version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    };
    span.push(semconv::NETWORK_PROTOCOL_VERSION, version);
    network_attributes(target, &mut span);
    span
}

fn grpc_span<H: Carrier>(head: &RequestHead<'_, H>, target: &Target, placement: Placement) -> Span {
    let method = text(head.path.trim_start_matches('/'));
    let mut span = Span::new(placement, method.clone());
    if target.direction == Direction::Inbound {
        span.kind = SpanKind::Server;
    }
    span.push(semconv::RPC_SYSTEM_NAME, "grpc");
    span.push(semconv::RPC_METHOD, method);
    server_attributes(head.authority, target.scheme(), target, &mut span);
    network_attributes(target, &mut span);
    span
}

/// `server.*` from the request's own words, else where it was sent.
fn server_attributes(authority: Option<&str>, scheme: &str, target: &Target, span: &mut Span) {
    let Some(authority) = authority else {
        span.push(semconv::SERVER_ADDRESS, target.address.clone());
        span.push(semconv::SERVER_PORT, i64::from(target.port));
        return;
    };
    let host_port = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let port = host_port.rsplit_once(':').filter(|(_, port)| !port.contains(']'));
    let (address, port) = match port.and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?))) {
        Some((host, port)) => (host, port),
        None => (host_port, if scheme == "https" { 443 } else { 80 }),
    };
    span.push(semconv::SERVER_ADDRESS, text(address.trim_start_matches('[').trim_end_matches(']')));
    span.push(semconv::SERVER_PORT, i64::from(port));
}

/// The socket that is used: the far side's, which is the client's of an inbound connection.
pub(super) fn network_attributes(target: &Target, span: &mut Span) {
    span.push(semconv::NETWORK_PEER_ADDRESS, target.peer_address.clone());
    span.push(semconv::NETWORK_PEER_PORT, i64::from(target.peer.port()));
    if let Some(session) = &target.tls {
        span.push(semconv::TLS_PROTOCOL_NAME, "tls");
        span.push(semconv::TLS_PROTOCOL_VERSION, session.version);
        span.push(semconv::TLS_CIPHER, session.cipher);
        span.push(semconv::TLS_RESUMED, session.resumed);
        if let Some(alpn) = &session.alpn {
            span.push(semconv::TLS_NEXT_PROTOCOL, alpn.clone());
        }
    }
}

fn is_grpc<H: Carrier>(head: &RequestHead<'_, H>) -> bool {
    if head.version != Version::HTTP_2 {
        return false;
    }
    let kind = head.headers.values("content-type").next().unwrap_or_default();
    let rest = kind.strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// `grpc-status` among headers or trailers. A value that is no known code is UNKNOWN.
fn grpc_status(headers: &impl Carrier) -> Option<&'static str> {
    let value = std::str::from_utf8(headers.values("grpc-status").next()?).ok();
    let code = value.and_then(|value| value.parse::<usize>().ok());
    Some(code.and_then(|code| GRPC_STATUS.get(code).copied()).unwrap_or("UNKNOWN"))
}

/// gRPC, `doc/http-grpc-status-mapping.md`: an answer without `grpc-status`.
fn grpc_status_of_http(status: u16) -> &'static str {
    match StatusCode::from_u16(status).unwrap_or_default().as_u16() {
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

/// A scheme as an attribute: one of two, without a copy.
fn scheme(scheme: &str) -> &'static str {
    if scheme.eq_ignore_ascii_case("https") { "https" } else { "http" }
}

/// A copy that cannot grow a span without bound.
fn text(value: &str) -> String {
    let end = (0..=value.len().min(MAX_TEXT)).rev().find(|end| value.is_char_boundary(*end));
    value.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
}

/// What follows the answer is no HTTP, and is passed through unread.
const UPGRADED: &str = "upgraded";
const MAX_TEXT: usize = 512;
/// Lines of one captured header.
const MAX_VALUES: usize = 16;
const METHODS: [&str; 10] = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY"];
/// The codes that are an error of the server's span (semantic conventions, `docs/rpc/grpc.md`).
const SERVER_ERRORS: [&str; 6] =
    ["UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"];
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
