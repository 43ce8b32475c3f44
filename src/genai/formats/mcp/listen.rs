//! A GET whose answer is a stream of what an MCP server has to say by itself, and a DELETE that ends a session: calls of HTTP, but
//! the stream may bring the answers to POSTs, and what the server asks for.
//!
//! In the transport of 2024-11-05 its first event says where to post, and every answer comes by it. A stream that is neither
//! that nor MCP's by its header fields is somebody else's, and is not read on.

use std::sync::Arc;

use super::place::{Asked, Place, tell_head};
use super::{MESSAGES, WHOLE_MESSAGES, is_stream};
use crate::genai::facts::Facts;
use crate::genai::formats::jsonrpc::Message;
use crate::genai::json::{Node, SCALAR, Shape};
use crate::genai::parked::Listening;
use crate::genai::{Format, Headers, Request, Settings};
use crate::redaction::Redaction;
use crate::trace::ActiveSpan;
use crate::trace::propagation::Carrier;

/// One GET, or one DELETE.
#[derive(Debug)]
pub(crate) struct McpListen {
    place: Place,
    /// The header fields are MCP's.
    named: bool,
    /// It ends the session.
    deletes: bool,
    succeeded: bool,
    /// The first event has come, or will not.
    begun: bool,
    /// It brings the answers to POSTs.
    listening: Option<Listening>,
    asked: Asked,
}

impl McpListen {
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
            deletes: request.subject.method == "DELETE",
            succeeded: false,
            begun: false,
            listening: None,
            asked: Asked::default(),
        }
    }

    fn hear(&mut self, node: Node, facts: &mut Facts) {
        match Message::of(node, facts) {
            Some(Message::Response { id: Some(id), answer }) => self.place.answer_to_called(&id, answer),
            Some(Message::Request { id: Some(id), method, .. }) if self.named || self.listening.is_some() => {
                self.asked.open(&mut self.place, id, method, facts);
            }
            _ => {}
        }
    }
}

impl Format for McpListen {
    fn request_head(&mut self, headers: &Headers<'_>, facts: &mut Facts) {
        tell_head(&mut self.place, headers, facts);
    }

    fn placed(&mut self, span: &ActiveSpan) {
        self.place.found(span);
    }

    fn request_shape(&self) -> &'static Shape {
        &SCALAR
    }

    fn reads_on(&mut self, _: Option<&Node>, _: u64) -> bool {
        // A GET has no body that says anything.
        false
    }

    fn request(&mut self, _: Node, _: &mut Facts) {}

    fn answer_head(&mut self, status: u16, headers: &Headers<'_>, _: &mut Facts) {
        self.succeeded = status < 400;
        self.begun |= !headers.get("content-type").is_some_and(|kind| is_stream(&kind));
    }

    fn answer_shape(&self) -> &'static Shape {
        if self.place.captures() { &WHOLE_MESSAGES } else { &MESSAGES }
    }

    fn answer_item(&mut self, _: &'static str, item: Node, facts: &mut Facts) {
        self.hear(item, facts);
    }

    fn answer(&mut self, _: Node, _: &mut Facts) {}

    fn wants_text(&self) -> bool {
        !self.begun
    }

    fn text_event(&mut self, name: &str, text: &[u8], _: &mut Facts) -> bool {
        self.begun = true;
        if name != "endpoint" {
            return false;
        }
        self.listening = std::str::from_utf8(text).ok().and_then(|said| self.place.endpoint(said));
        true
    }

    fn event(&mut self, _: &str, _: bool, body: Node, facts: &mut Facts) {
        self.hear(body, facts);
    }

    fn failed(&mut self, _: Node, _: &mut Facts) {}

    fn finish(&mut self, _: bool, facts: &mut Facts) {
        self.begun = true;
        self.asked.end(facts);
        self.listening = None;
        if self.deletes && self.succeeded {
            self.place.close();
        }
    }

    fn is_relevant(&self) -> bool {
        self.named || self.listening.is_some() || !self.begun
    }
}
