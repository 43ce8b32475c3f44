//! MCP over HTTP, in every transport that there was, and whatever else is JSON-RPC in the body of a POST.
//!
//! What a request is, its body tells: until a `"jsonrpc"` is seen nothing is known, and without one the call stays a call of
//! HTTP. Most often the answer to a POST is in its own answer, as JSON or in a stream of events; with the transport of 2024-11-05
//! and where a stream is resumed it comes by a GET ([`McpListen`]). A batch leaves a span for each of its requests.
//!
//! Source: `semconv.md` 2.3, 4.1, 4.2; MCP specification, "Transports", of 2024-11-05 to 2026-07-28.

mod batch;
mod dialect;
mod listen;
mod place;

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use self::batch::Batch;
pub(super) use self::dialect::McpDialect;
pub(crate) use self::listen::McpListen;
use self::place::{Asked, Place, tell_head};
use super::jsonrpc::{Answer, BATCH, Called, MESSAGES, Message, WHOLE_MESSAGES};
use crate::genai::facts::Facts;
use crate::genai::json::{Node, Shape};
use crate::genai::parked::Ticket;
use crate::genai::{Format, Headers, Request, Settings, Wish};
use crate::redaction::Redaction;
use crate::trace::propagation::Carrier;
use crate::trace::{ActiveSpan, End, semconv};

/// One POST.
#[derive(Debug)]
pub(crate) struct Mcp {
    place: Place,
    /// The header fields are MCP's.
    named: bool,
    /// The body has shown what it is.
    proven: bool,
    says: Says,
    /// The answer to it, if it comes by another exchange.
    awaited: Option<Ticket>,
    /// What the other side asks for meanwhile.
    asked: Asked,
    streamed: bool,
    failed: bool,
}

/// What the request is.
#[derive(Debug)]
enum Says {
    /// Not known, or nothing to us: the answer to something that the other side asked for.
    Nothing,
    Call(Called),
    Batch(Box<Batch>),
}

impl Mcp {
    /// `named`: the header fields are MCP's.
    pub(crate) fn new<H: Carrier>(
        settings: &Arc<Settings>,
        redaction: &Arc<Redaction>,
        request: &Request<'_, H>,
        named: bool,
    ) -> Self {
        Self {
            place: Place::new(settings, redaction, request),
            named,
            proven: false,
            says: Says::Nothing,
            awaited: None,
            asked: Asked::default(),
            streamed: false,
            failed: false,
        }
    }

    /// Whether it goes where a stream of events told its client to post.
    pub(crate) fn is_awaited(&self) -> bool {
        self.place.is_listened_to()
    }

    fn is_mcp(&self, facts: &Facts) -> bool {
        self.named || self.is_awaited() || facts.has(semconv::MCP_METHOD_NAME)
    }

    /// One message of the request, which is no batch.
    fn say(&mut self, node: Node, facts: &mut Facts) {
        match Message::of(node, facts) {
            Some(Message::Request { id, method, params }) => {
                let version = self.place.version().filter(|_| self.is_awaited() && &*method != "initialize");
                facts.set_text(semconv::MCP_PROTOCOL_VERSION, version);
                let called = Called::new(id, method, params, self.named || self.is_awaited(), facts);
                self.place.hide_session(facts);
                if let Some(id) = called.id.as_ref().filter(|_| self.is_awaited()) {
                    self.awaited = self.place.expect(id);
                }
                self.says = Says::Call(called);
            }
            Some(Message::Response { id, answer }) => {
                self.says = Says::Nothing;
                facts.title = None;
                if let Some(id) = id {
                    self.place.answer_to_asked(&id, answer);
                }
            }
            None => {}
        }
    }

    /// One message of the answer.
    fn hear(&mut self, node: Node, facts: &mut Facts) {
        let asks = self.streamed && self.is_mcp(facts);
        match (Message::of(node, facts), &mut self.says) {
            // What is no stream can answer nothing else; nor can an error that has no id.
            (Some(Message::Response { id, answer }), Says::Call(called))
                if !self.streamed || id.is_none() || called.id.is_none() || id == called.id =>
            {
                called.answered(answer, facts);
            }
            (Some(Message::Response { id: Some(id), answer }), Says::Batch(batch)) => batch.answered(&id, answer),
            (Some(Message::Request { id: Some(id), method, .. }), _) if asks => {
                self.asked.open(&mut self.place, id, method, facts);
            }
            _ => {}
        }
    }
}

impl Format for Mcp {
    fn request_head(&mut self, headers: &Headers<'_>, facts: &mut Facts) {
        if !self.named {
            return;
        }
        tell_head(&mut self.place, headers, facts);
        // The name of the method, and what it is about, without a look at the body.
        let Some(method) = headers.get("mcp-method").filter(|method| !method.is_empty()) else { return };
        let mut params = Vec::new();
        if let Some(name) = headers.get("mcp-name").map(decoded) {
            let field = if method.starts_with("resources/") { "uri" } else { "name" };
            params.push((field.into(), Node::Short(name.into())));
        }
        let method = crate::genai::facts::bounded(&method).into();
        let called = Called::new(None, method, Node::Object(params), true, facts);
        // Its arguments are not known.
        if let Some(tool) = &mut facts.evidence.tool {
            tool.arguments = None;
        }
        self.says = Says::Call(called);
    }

    fn placed(&mut self, span: &ActiveSpan) {
        self.place.found(span);
        if let Says::Batch(batch) = &mut self.says {
            batch.begin(&mut self.place);
        }
    }

    fn request_shape(&self) -> &'static Shape {
        &MESSAGES
    }

    fn reads_on(&mut self, read: Option<&Node>, came: u64) -> bool {
        if self.named || self.proven || self.is_awaited() {
            return true;
        }
        match read {
            Some(Node::Object(_)) | None => {
                self.proven = read.is_some_and(|read| read.get("jsonrpc").is_some());
                // A method is no proof, but reason enough to see what stands behind its params.
                let called = || read.is_some_and(|read| read.some_str("method").is_some());
                self.proven || came <= SNIFFED || called()
            }
            // Its elements tell.
            Some(Node::Array(_)) => came <= SNIFFED,
            Some(_) => false,
        }
    }

    fn request_item(&mut self, _: &'static str, item: Node, facts: &mut Facts) {
        let Some(message) = Message::of(item, facts) else { return };
        self.proven = true;
        let mcp = self.named || self.is_awaited();
        if !matches!(self.says, Says::Batch(_)) {
            self.says = Says::Batch(Box::default());
        }
        if let Says::Batch(batch) = &mut self.says {
            batch.push(message, mcp, &mut self.place);
        }
    }

    fn request(&mut self, body: Node, facts: &mut Facts) {
        match body {
            Node::Array(_) => {
                if let Says::Batch(batch) = &self.says {
                    facts.set(semconv::SIDETRACE_JSONRPC_BATCH_SIZE, batch.size());
                }
            }
            body => {
                self.proven |= body.get("jsonrpc").is_some();
                self.say(body, facts);
            }
        }
    }

    fn answer_head(&mut self, status: u16, headers: &Headers<'_>, facts: &mut Facts) {
        self.failed = status >= 400;
        self.streamed = headers.get("content-type").is_some_and(|kind| is_stream(&kind));
        if let Some(id) = headers.get("mcp-session-id") {
            // The server's answer to `initialize` names the session.
            self.place.joined(&id, facts);
        }
    }

    fn answer_shape(&self) -> &'static Shape {
        let whole = match &self.says {
            Says::Call(called) => &*called.method == "tools/call",
            Says::Batch(batch) => batch.calls_tools(),
            Says::Nothing => false,
        };
        if whole && self.place.captures() { &WHOLE_MESSAGES } else { &MESSAGES }
    }

    fn answer_item(&mut self, list: &'static str, item: Node, facts: &mut Facts) {
        if list == BATCH {
            self.hear(item, facts);
        }
    }

    fn answer(&mut self, body: Node, facts: &mut Facts) {
        self.hear(body, facts);
    }

    fn event(&mut self, _: &str, _: bool, body: Node, facts: &mut Facts) {
        self.hear(body, facts);
    }

    fn failed(&mut self, body: Node, facts: &mut Facts) {
        self.hear(body, facts);
    }

    fn wish(&self, facts: &Facts) -> Option<Wish> {
        (matches!(self.says, Says::Call(_)) && facts.has(semconv::MCP_METHOD_NAME)).then_some(Wish::Meta)
    }

    fn is_answered(&self) -> bool {
        match &self.says {
            Says::Call(called) => called.answered,
            Says::Batch(batch) => batch.is_answered(),
            Says::Nothing => false,
        }
    }

    fn parks(&mut self, end: End, resumable: bool) -> Option<Ticket> {
        if self.failed || self.is_answered() || !matches!(end, End::Complete | End::Broken) {
            return None;
        }
        let Says::Call(Called { id: Some(id), .. }) = &self.says else { return None };
        match self.awaited.take() {
            Some(ticket) => (end == End::Complete).then_some(ticket),
            None if self.streamed && resumable => self.place.expect_in_session(id),
            None => None,
        }
    }

    fn resolve(&mut self, answer: Answer, facts: &mut Facts) {
        if let Says::Call(called) = &mut self.says {
            called.answered(answer, facts);
            if &*called.method == "initialize" {
                self.place.agreed(facts);
            }
        }
    }

    fn finish(&mut self, complete: bool, facts: &mut Facts) {
        self.awaited = None;
        self.asked.end(facts);
        if let Says::Batch(batch) = &mut self.says {
            batch.end(complete, facts);
        }
    }

    fn held(&self) -> usize {
        match &self.says {
            Says::Batch(batch) => batch.held(),
            _ => 0,
        }
    }

    fn is_relevant(&self) -> bool {
        self.named || self.proven || self.is_awaited()
    }
}

/// A name in a header field may be what no header field can be (MCP 2026-07-28, "Transports").
fn decoded(value: String) -> String {
    let encoded = value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?="));
    let bytes = encoded.and_then(|encoded| STANDARD.decode(encoded).ok());
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or(value)
}

fn is_stream(kind: &str) -> bool {
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
}

/// A body that has shown neither `"jsonrpc"` nor a method after so many bytes is none of ours.
const SNIFFED: u64 = 16 * 1024;
