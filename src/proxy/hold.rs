//! How long a request's head waits for its body, whichever version of HTTP: what places the call stands at the body's end.

#[cfg(test)]
mod tests;

use std::time::Duration;

use http::HeaderValue;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH};

use crate::genai::Inspection;
use crate::stack::Call;
use crate::telemetry::Metrics;
use crate::trace::propagation::{Carrier, Edits};

/// Why a head no longer waits; a label of `sidetrace_held_requests_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Released {
    /// The body is whole.
    Complete,
    /// It is too long.
    Size,
    /// Nothing has come for a while, or too little for too long.
    Stalled,
    /// There is no memory for more of it.
    Budget,
    /// What is still to come would not be read.
    Unread,
    /// The client has gone, upstream has answered or gone, or the drain has begun.
    Ended,
}

impl Released {
    pub(super) fn count(self, metrics: &Metrics) {
        metrics.held.inc(match self {
            Released::Complete => "complete",
            Released::Size => "size",
            Released::Stalled => "stalled",
            Released::Budget => "budget",
            Released::Unread => "unread",
            Released::Ended => "ended",
        });
    }
}

/// Whether another body may be sent in the place of one that is held whole: nobody must have signed it, and it is to be legible.
pub(super) fn may_rewrite(inspection: &Inspection, headers: &impl Carrier) -> bool {
    inspection.rewrites()
        && !SIGNATURES.iter().any(|name| headers.values(name).next().is_some())
        && !headers.values("authorization").any(|value| value.starts_with(b"AWS4-"))
        && headers.values("content-encoding").all(|value| value.eq_ignore_ascii_case(b"identity"))
}

/// The body that is sent in the place of a whole one, if a rule asks for it, and the header lines that change with it.
pub(super) fn rewrite(
    call: Option<&mut Call>,
    body: &[u8],
    headers: &impl Carrier,
    edits: &mut Edits,
) -> Option<Vec<u8>> {
    let call = call?;
    let new = call.rewritten(body)?;
    if headers.values("content-length").next().is_some() {
        edits.set(CONTENT_LENGTH, HeaderValue::from(new.len()));
    }
    if call.wants_identity() && headers.values("accept-encoding").next().is_some() {
        edits.set(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    Some(new)
}

/// What covers a body: another one would be refused, or believed to be the client's.
const SIGNATURES: [&str; 5] = ["signature", "content-digest", "digest", "content-md5", "x-amz-content-sha256"];
/// The most of a body that is waited for.
pub(super) const MAX_BODY: usize = 4 * 1024 * 1024;
/// How long a body may make no progress.
pub(super) const PATIENCE: Duration = Duration::from_millis(100);
/// How long a body is waited for, whatever progress it makes.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(2);
