//! A batch of JSON-RPC messages (MCP 2025-03-26 has them, and no other version): a span for each request in it, inside the
//! exchange's own, which stays one of HTTP.

use super::place::Place;
use crate::genai::facts::Facts;
use crate::genai::formats::jsonrpc::{Answer, Id, Message};
use crate::genai::json::Node;
use crate::genai::parked::Open;
use crate::trace::End;

/// The messages of one request.
#[derive(Debug, Default)]
pub(super) struct Batch {
    size: i64,
    /// Requests, until the exchange has its span.
    waiting: Vec<(Option<Id>, Box<str>, Node)>,
    open: Vec<Box<Open>>,
    /// Requests so far that have a span, or are to have one.
    begun: usize,
    lost: u64,
    mcp: bool,
    tools: bool,
    /// Answers come by a stream of their own.
    elsewhere: bool,
}

impl Batch {
    /// The next message. `mcp`: the header fields are MCP's.
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

/// Requests of one batch that have a span.
const MAX_OPEN: usize = 64;
