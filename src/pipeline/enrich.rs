//! What a span learns after its end: attribute rules, run and session ids. No rule exists yet; the resource, which all
//! spans share, is put on by the batch.

use crate::trace::Span;

/// Changes spans in place.
pub(super) fn enrich(_spans: &mut [Span]) {}
