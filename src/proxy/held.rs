//! Bytes kept back until more of them are known: half a head, a head that waits for its body, or what came behind a request
//! that may change the protocol.
//!
//! Little is nobody's business. What is more is lent by the budget, so that a crowd of connections that never finish their
//! heads cannot fill the memory of all others.

use std::sync::Arc;

use crate::budget::{Budget, Loan, Use};

/// Bytes kept back, on loan beyond the first [`FREE`].
#[derive(Debug, Default)]
pub(super) struct Held {
    bytes: Vec<u8>,
    /// How far the end of a head has been looked for in vain.
    pub(super) scanned: usize,
    /// Outlives the bytes until what became of them was written.
    loan: Option<Loan>,
}

impl Held {
    /// Keeps more. False, and nothing has changed, if the budget has no room.
    #[must_use]
    pub(super) fn keep(&mut self, more: &[u8], budget: &Arc<Budget>, purpose: Use) -> bool {
        let length = self.bytes.len() + more.len();
        if length > self.bytes.capacity() {
            // By halves, not by doubling: what is lent is what is taken.
            let capacity = length.max(self.bytes.capacity() / 2 * 3);
            if !self.borrow(capacity, budget, purpose) {
                return false;
            }
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(more);
        true
    }

    fn borrow(&mut self, capacity: usize, budget: &Arc<Budget>, purpose: Use) -> bool {
        let lent = self.loan.as_ref().map_or(0, Loan::bytes);
        let missing = capacity.saturating_sub(FREE).saturating_sub(usize::try_from(lent).unwrap_or(usize::MAX));
        match &mut self.loan {
            _ if missing == 0 => true,
            Some(loan) => loan.grow(missing),
            none => {
                *none = budget.lend(missing, purpose);
                none.is_some()
            }
        }
    }

    /// What is kept.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Gives the bytes out. The loan stays until [`Held::written`].
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.scanned = 0;
        std::mem::take(&mut self.bytes)
    }

    /// What was given out has been written, or was dropped.
    pub(super) fn written(&mut self) {
        if self.bytes.is_empty() {
            self.loan = None;
        }
    }
}

/// What a connection may keep without asking.
const FREE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_free_part_is_lent_until_it_was_written() {
        let budget = Budget::of(8 * 2 * 100_000);
        let mut held = Held::default();
        assert!(held.keep(&[1; 60_000], &budget, Use::Heads) && held.loan.is_none());
        assert!(held.keep(&[2; 100_000], &budget, Use::Heads));
        assert_eq!(held.loan.as_ref().map(Loan::bytes), Some(160_000 - FREE as u64));
        assert!(!held.keep(&[3; 1_000_000], &budget, Use::Heads), "more than heads may have");
        assert_eq!(held.take(), [vec![1; 60_000], vec![2; 100_000]].concat());
        assert!(held.loan.is_some());
        held.written();
        assert!(held.loan.is_none());
    }

    #[test]
    fn many_small_pieces_are_never_more_than_was_lent() {
        let budget = Budget::unlimited();
        let mut held = Held::default();
        for _ in 0..2000 {
            assert!(held.keep(&[0; 500], &budget, Use::Heads));
            let lent = held.loan.as_ref().map_or(0, Loan::bytes);
            assert!(held.bytes.capacity() as u64 <= FREE as u64 + lent);
        }
    }
}
