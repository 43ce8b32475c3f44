//! What agents say: recognises LLM, MCP and JSON-RPC calls and reads their bodies as they go by, without holding them up.
//!
//! `stack` asks [`recognise`] about every request's head and hands the bodies' bytes to the [`Inspection`]; what was found
//! becomes [`Evidence`] for `stitch` and attributes of the call's span. Pure: bytes and times in, values out.

#[allow(dead_code, reason = "its users come with the formats")]
mod encoding;
#[allow(dead_code, reason = "its users come with the formats")]
mod frames;
#[cfg(any(test, fuzzing))]
pub mod splits;

use std::sync::Arc;
use std::time::Instant;

use crate::budget::Budget;
use crate::call::Evidence;
use crate::config::GenAi;
use crate::policy::{Policy, Subject};
use crate::trace::propagation::Carrier;
use crate::trace::{End, Placement, Span};

/// What all inspections share.
#[derive(Debug)]
pub struct Settings {
    /// What is written.
    pub genai: GenAi,
    /// Lends what an inspection remembers.
    pub budget: Arc<Budget>,
}

/// A request's head, as far as it tells what is in the body.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a, H> {
    /// What rules look at.
    pub subject: Subject<'a>,
    /// Path and query.
    pub path: &'a str,
    /// Its header fields.
    pub headers: &'a H,
}

/// What is to be read of a call's bodies, if anything.
pub fn recognise<H: Carrier>(_: &Arc<Settings>, _: &Policy, _: &Request<'_, H>) -> Option<Box<Inspection>> {
    None
}

/// The bodies of one call.
#[derive(Debug)]
pub struct Inspection {
    evidence: Evidence,
}

impl Inspection {
    /// Whether the request's headers wait for its body: what places the call is there.
    pub fn holds(&self) -> bool {
        false
    }

    /// The next bytes of the request's body, without the framing of the transfer.
    pub fn request(&mut self, _: &[u8]) {}

    /// The request's body has ended.
    pub fn request_ended(&mut self) {}

    /// What has been found so far.
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// The body to send in place of the one that was held, decoded of its transfer coding: where a rule asks for it.
    pub fn rewritten(&mut self, _: &[u8], _: &Placement) -> Option<Vec<u8>> {
        None
    }

    /// Whether something is to be taken out of the answer's body. Asked when its head is known, after [`Self::answered`].
    pub fn filters(&self) -> bool {
        false
    }

    /// What goes on of the next bytes of the answer's body; what is held back comes later. `ended`: nothing follows.
    pub fn filter(&mut self, bytes: &[u8], _ended: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(bytes);
    }

    /// The head of the answer. `now`: when it came.
    pub fn answered<H: Carrier>(&mut self, _status: u16, _headers: &H) {}

    /// The next bytes of the answer's body as upstream sent them, and when they came.
    pub fn answer(&mut self, _: &[u8], _now: Instant) {}

    /// The call has ended: its span learns what was found.
    pub fn conclude(&mut self, _: End, _: &mut Span) {}
}
