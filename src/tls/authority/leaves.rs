//! Leaves that were made and are shown again: bounded, and made no faster than a bucket of tokens allows.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::sign::CertifiedKey;

use super::certificate::Validity;
use crate::budget::{Budget, Loan, Use};

/// A certificate as it is shown, and for how long.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub(super) key: Arc<CertifiedKey>,
    /// While it is shown without a thought.
    pub(super) fresh: Validity,
    /// While it is shown if there can be no other.
    pub(super) valid: Validity,
}

impl Leaf {
    /// Bytes of memory: the certificates, two names, and what stands around them.
    fn size(&self, name: &ServerName<'_>) -> usize {
        let certificates: usize = self.key.cert.iter().map(|certificate| certificate.len() + ALLOCATION).sum();
        certificates + name.to_str().len() + LEAF
    }
}

/// By name; the least recently used goes first.
#[derive(Debug)]
pub(super) struct Leaves {
    leaves: HashMap<ServerName<'static>, Held>,
    uses: u64,
    budget: Arc<Budget>,
}

#[derive(Debug)]
struct Held {
    leaf: Leaf,
    used: u64,
    _loan: Loan,
}

impl Leaves {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self { leaves: HashMap::new(), uses: 0, budget }
    }

    /// What there is for a name, fresh or not.
    pub(super) fn find(&mut self, name: &ServerName<'static>) -> Option<&Leaf> {
        self.uses += 1;
        let held = self.leaves.get_mut(name)?;
        held.used = self.uses;
        Some(&held.leaf)
    }

    /// Keeps a leaf. Where the budget refuses, in the place of the one that was used least recently; else not at all:
    /// it is shown this once.
    pub(super) fn keep(&mut self, name: ServerName<'static>, leaf: Leaf) {
        self.leaves.remove(&name);
        if self.leaves.len() >= MOST {
            self.forget_one();
        }
        let size = leaf.size(&name);
        let loan = self.budget.lend(size, Use::Leaves).or_else(|| {
            self.forget_one();
            self.budget.lend(size, Use::Leaves)
        });
        if let Some(loan) = loan {
            self.leaves.insert(name, Held { leaf, used: self.uses, _loan: loan });
        }
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.leaves.clear();
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.leaves.len()
    }

    // Looks at all of them, which takes a tenth of the time that it takes to make one.
    fn forget_one(&mut self) {
        let oldest = self.leaves.iter().min_by_key(|(_, held)| held.used).map(|(name, _)| name.clone());
        if let Some(name) = oldest {
            self.leaves.remove(&name);
        }
    }
}

/// Tokens that come back with time.
#[derive(Debug)]
pub(super) struct Rate {
    tokens: f64,
    at: SystemTime,
}

impl Rate {
    /// Full.
    pub(super) fn new(now: SystemTime) -> Self {
        Self { tokens: BURST, at: now }
    }

    /// Takes a token, if there is one. A clock that was set back gives none, and counts on from there.
    pub(super) fn take(&mut self, now: SystemTime) -> bool {
        let passed = now.duration_since(self.at).unwrap_or(Duration::ZERO);
        self.tokens = (self.tokens + passed.as_secs_f64() * PER_SECOND).min(BURST);
        self.at = now;
        let taken = self.tokens >= 1.0;
        if taken {
            self.tokens -= 1.0;
        }
        taken
    }
}

/// The most leaves that are kept.
pub(super) const MOST: usize = 2048;
/// An agent that calls 500 new hosts at once, or 50 in each second, is no agent but a scan.
pub(super) const BURST: f64 = 500.0;
const PER_SECOND: f64 = 50.0;
/// What stands around a certificate's bytes: the vector that holds them, and the allocator's own.
const ALLOCATION: usize = 40;
/// What stands around a leaf: its place in the table, with room to spare as tables have it, and the shared parts.
const LEAF: usize = 480;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_with_time_and_no_more_than_the_burst() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let mut rate = Rate::new(start);
        let taken = |rate: &mut Rate, now| (0..2000).filter(|_| rate.take(now)).count();
        assert_eq!(taken(&mut rate, start), 500);
        assert_eq!(taken(&mut rate, start + Duration::from_millis(100)), 5);
        assert_eq!(taken(&mut rate, start + Duration::from_secs(2)), 95);
        assert_eq!(taken(&mut rate, start + Duration::from_secs(3600)), 500);
        assert_eq!(taken(&mut rate, start), 0, "set back");
        assert_eq!(taken(&mut rate, start + Duration::from_secs(1)), 50);
    }
}
