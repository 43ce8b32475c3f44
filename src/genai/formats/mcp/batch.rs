//! A batch of JSON-RPC messages (MCP 2025-03-26 has them, and no other version): a span for each request in it, inside the
//! exchange's own, which stays one of HTTP.

use super::place::Place;
use crate::genai::facts::Facts;
use crate::genai::formats::jsonrpc::{Answer, Id, Message};
use crate::genai::item::Text;
use crate::genai::json::Node;
use crate::genai::parked::Open;
use crate::trace::End;

/// The messages of one request.
#[derive(Debug, Default)]
pub(super) struct Batch {
    size: i64,
    /// Requests, until the exchange has its span.
    waiting: Vec<(Option<Id>, Box<str>, Node)>,
    /// Bytes of what waits.
    held: usize,
    open: Vec<Open>,
    /// Requests so far that have a span, or are to have one.
    begun: usize,
    lost: u64,
    mcp: bool,
    tools: bool,
    /// Answers come by a stream of their own.
    elsewhere: bool,
}

impl Batch {
    /// The next message. `mcp`: header fields or path are MCP's.
    pub(super) fn push(&mut self, message: Message, mcp: bool, place: &mut Place) {
        self.size = self.size.saturating_add(1);
        self.mcp = mcp;
        match message {
            Message::Request { id, method, params } if self.begun < MAX_OPEN => {
                self.tools |= &*method == "tools/call";
                // Notifications are said, not asked: the exchange tells how many there were.
                if id.is_none() {
                    return;
                }
                self.begun += 1;
                self.held = self.held.saturating_add(size_of::<(Option<Id>, Box<str>, Node)>() + held(&params));
                self.waiting.push((id, method, params));
                if place.is_found() {
                    self.begin(place);
                }
            }
            Message::Request { id, .. } => self.lost += u64::from(id.is_some()),
            Message::Response { id: Some(id), answer } => place.answer_to_asked(&id, answer),
            Message::Response { .. } => {}
        }
    }

    /// The exchange has its span.
    pub(super) fn begin(&mut self, place: &mut Place) {
        self.elsewhere = place.is_listened_to();
        self.held = 0;
        for message in std::mem::take(&mut self.waiting) {
            let Some(open) = place.open(message, self.mcp, false) else { continue };
            if self.elsewhere {
                place.leave(open);
            } else {
                self.open.push(open);
            }
        }
    }

    /// An answer to one of them. Of two with the same id the first is answered first.
    pub(super) fn answered(&mut self, id: &Id, answer: Answer) {
        if let Some(at) = self.open.iter().position(|open| open.called.id.as_ref() == Some(id)) {
            self.open.remove(at).answered(answer);
        }
    }

    /// About how many bytes wait.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    pub(super) fn size(&self) -> i64 {
        self.size
    }

    pub(super) fn calls_tools(&self) -> bool {
        self.tools
    }

    pub(super) fn is_answered(&self) -> bool {
        self.begun > 0 && self.waiting.is_empty() && self.open.is_empty() && !self.elsewhere
    }

    /// The exchange has ended, and with it what was not answered.
    pub(super) fn end(&mut self, complete: bool, facts: &mut Facts) {
        let end = if complete { End::Complete } else { End::Cancelled };
        self.open.drain(..).for_each(|open| open.end(end));
        if self.lost > 0 {
            facts.missing = Some(("batch_too_large", std::mem::take(&mut self.lost)));
        }
    }
}

/// About how many bytes a value holds.
fn held(node: &Node) -> usize {
    size_of::<Node>()
        + match node {
            Node::Text(text) => size_of::<Text>() + text.held(),
            Node::Short(text) => text.len(),
            Node::Array(items) => items.iter().map(held).sum(),
            Node::Object(fields) => {
                fields.iter().map(|(name, value)| size_of::<Box<str>>() + name.len() + held(value)).sum()
            }
            Node::Null | Node::Bool(_) | Node::Int(_) | Node::Float(_) => 0,
        }
}

/// Requests of one batch that have a span.
const MAX_OPEN: usize = 64;
