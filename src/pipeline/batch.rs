//! Spans into batches: as many as one request may hold, oldest first.

use super::buffer::Buffer;
use crate::trace::Span;

/// The next batch.
pub(super) fn next(buffer: &mut Buffer, size: usize) -> Option<Vec<Span>> {
    let spans = buffer.take(size);
    (!spans.is_empty()).then_some(spans)
}
