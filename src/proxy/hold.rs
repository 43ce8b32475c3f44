//! How long a request's head waits for its body, whichever version of HTTP: what places the call stands at the body's end.

#[cfg(test)]
mod tests;

use std::time::Duration;

use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH};
use http::{HeaderMap, HeaderValue};

use crate::genai::Inspection;
use crate::http1::Head;
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

/// The names of a head's lines, in whatever case.
pub(super) trait Names {
    fn names(&self) -> impl Iterator<Item = &[u8]>;
}

impl Names for HeaderMap {
    fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.keys().map(|name| name.as_str().as_bytes())
    }
}

impl Names for Head<'_> {
    fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.fields().iter().map(|field| self.name(field))
    }
}

/// Whether another body may be sent in the place of one that is held whole: nobody must have signed it, and it is to be legible.
/// Of the ways to say who one is only those are known to sign nothing that are no more than a secret.
pub(super) fn may_rewrite(inspection: &Inspection, headers: &(impl Carrier + Names)) -> bool {
    let is_secret = |value: &[u8]| {
        let scheme = value.trim_ascii().split(u8::is_ascii_whitespace).next().unwrap_or_default();
        SECRETS.iter().any(|secret| scheme.eq_ignore_ascii_case(secret))
    };
    inspection.rewrites()
        && !headers.names().any(signs)
        && headers.values("authorization").all(is_secret)
        && headers.values("content-encoding").all(|value| value.eq_ignore_ascii_case(b"identity"))
}

/// Whether something may be taken out of an answer's body: nobody must have signed it.
pub(super) fn may_filter(headers: &impl Carrier) -> bool {
    !ANSWER_SIGNATURES.iter().any(|name| headers.values(name).next().is_some())
}

/// Whether a request's line of this name may cover the body, or announces one behind it that may.
fn signs(name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    let contains = |word: &&[u8]| name.windows(word.len()).any(|part| part == *word);
    name == b"trailer" || name.ends_with(b"-sha256") || SIGNATURES.iter().any(contains)
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

/// What is in the name of a line that covers a body: another one would be refused, or believed to be the client's.
const SIGNATURES: [&[u8]; 5] = [b"digest", b"checksum", b"signature", b"x-goog-hash", b"content-md5"];
/// What covers an answer's body.
const ANSWER_SIGNATURES: [&str; 5] = ["content-digest", "digest", "repr-digest", "content-md5", "signature"];
/// Schemes of `authorization` that cover no body.
const SECRETS: [&[u8]; 2] = [b"bearer", b"basic"];
/// The most of a body that is waited for.
pub(super) const MAX_BODY: usize = 4 * 1024 * 1024;
/// How long a body may make no progress.
pub(super) const PATIENCE: Duration = Duration::from_millis(100);
/// How long a body is waited for, whatever progress it makes.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(2);
