//! Bytes lent to whoever holds telemetry, or a message in order to read it, out of one sum that the memory limit sets.
//! Refused means less telemetry, never less traffic.
//!
//! Beside the sum there is the watch: where the memory really in use comes near its limit, whatever uses it, no new spans
//! are begun until there is room again, so that the kernel does not end the process and the agent's connections with it.

pub mod memory;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tracing::{info, warn};

use crate::telemetry::exposition::Exposition;
use crate::telemetry::{Counter, Gauge};
use memory::Memory;

/// What may be lent, and what is.
#[derive(Debug)]
pub struct Budget {
    size: u64,
    limit: u64,
    shedding: AtomicBool,
    used: Gauge,
    uses: [Account; Use::ALL.len()],
}

/// What bytes are lent for; a label of `sidetrace_budget_lent_bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Spans between a worker and the pipeline.
    Sink,
    /// Spans that wait for delivery, a batch under way included.
    Queue,
    /// Events that wait for delivery, a batch under way included.
    Events,
    /// Heads of messages beyond what every connection may hold.
    Heads,
    /// Bodies of requests that are held until it is known where they belong, beyond the same.
    Bodies,
    /// Certificates that are shown to clients.
    Leaves,
    /// What is remembered of bodies that are read.
    Inspections,
    /// Series of the agent's metrics.
    Series,
}

impl Use {
    const ALL: [Use; 8] =
        [Use::Sink, Use::Queue, Use::Events, Use::Heads, Use::Bodies, Use::Leaves, Use::Inspections, Use::Series];

    fn as_str(self) -> &'static str {
        match self {
            Use::Sink => "sink",
            Use::Queue => "queue",
            Use::Events => "events",
            Use::Heads => "heads",
            Use::Bodies => "bodies",
            Use::Leaves => "leaves",
            Use::Inspections => "inspections",
            Use::Series => "series",
        }
    }

    /// The most of a budget that this use may have. A queue that a dead backend leaves full must not starve the stages
    /// before it, where calls are counted; heads and bodies that never end, or names without end, must not starve either.
    fn most(self, size: u64) -> u64 {
        match self {
            Use::Sink => size,
            Use::Queue => size / 4 * 3,
            Use::Heads | Use::Bodies | Use::Inspections => size / 4,
            Use::Events | Use::Leaves | Use::Series => size / 8,
        }
    }
}

// A cache line of its own: workers write to it, and all of them read what stands beside it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Account {
    lent: AtomicU64,
    refused: Counter,
}

impl Budget {
    /// A budget for a process that may use `limit` bytes: half of them, so that connections, which nobody refuses, and
    /// the program itself have the other half.
    pub fn of(limit: u64) -> Arc<Self> {
        Arc::new(Self {
            size: limit / 2,
            limit,
            shedding: AtomicBool::new(false),
            used: Gauge::default(),
            uses: Default::default(),
        })
    }

    /// A budget that lends whatever it is asked for.
    pub fn unlimited() -> Arc<Self> {
        Self::of(u64::MAX)
    }

    /// Lends bytes until the loan drops, or refuses and counts.
    pub fn lend(self: &Arc<Self>, bytes: usize, purpose: Use) -> Option<Loan> {
        let mut loan = Loan { budget: self.clone(), purpose, bytes: 0 };
        loan.grow(bytes).then_some(loan)
    }

    /// Whether no new spans are to be begun. One relaxed load.
    pub fn shedding(&self) -> bool {
        self.shedding.load(Ordering::Relaxed)
    }

    /// Says how much memory is in use. Returns whether to shed, if that has changed.
    pub fn observe(&self, used: u64) -> Option<bool> {
        self.used.set(usize::try_from(used).unwrap_or(usize::MAX));
        let (used, limit) = (u128::from(used) * 100, u128::from(self.limit));
        let shed = if self.shedding() { used >= RESUME * limit } else { used > SHED * limit };
        (self.shedding.swap(shed, Ordering::Relaxed) != shed).then_some(shed)
    }

    /// The families `sidetrace_budget_*` and `sidetrace_memory_*`.
    pub fn expose(&self, text: &mut Exposition) {
        text.gauge("sidetrace_budget_bytes", "The most bytes that may be lent.", self.size);
        let name = "sidetrace_budget_lent_bytes";
        text.family(name, "gauge", "Bytes that are lent, by use.");
        for (purpose, account) in Use::ALL.into_iter().zip(&self.uses) {
            text.sample(name, &[("use", purpose.as_str())], account.lent.load(Ordering::Relaxed));
        }
        let refused = Use::ALL.into_iter().zip(&self.uses);
        let refused = refused.map(|(purpose, account)| (purpose.as_str(), account.refused.value()));
        text.counters("sidetrace_budget_refused_total", "Requests for bytes that were refused.", "use", refused);
        text.gauge("sidetrace_memory_limit_bytes", "The memory limit in force.", self.limit);
        text.gauge("sidetrace_memory_used_bytes", "Memory in use against that limit.", self.used.value());
        let help = "1 while memory is nearly used up and no new spans are begun.";
        text.gauge("sidetrace_memory_shedding", help, u8::from(self.shedding()));
    }

    fn account(&self, purpose: Use) -> &Account {
        let [sink, queue, events, heads, bodies, leaves, inspections, series] = &self.uses;
        match purpose {
            Use::Sink => sink,
            Use::Queue => queue,
            Use::Events => events,
            Use::Heads => heads,
            Use::Bodies => bodies,
            Use::Leaves => leaves,
            Use::Inspections => inspections,
            Use::Series => series,
        }
    }

    fn lent(&self) -> u64 {
        self.uses.iter().map(|account| account.lent.load(Ordering::Relaxed)).fold(0, u64::saturating_add)
    }
}

/// Bytes that were lent. They go back when this drops.
#[derive(Debug)]
pub struct Loan {
    budget: Arc<Budget>,
    purpose: Use,
    bytes: u64,
}

impl Loan {
    /// Asks for more. Refused, it stays as it is, and the refusal is counted.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let (bytes, account) = (bytes as u64, self.budget.account(self.purpose));
        // Added first: of two that ask for the last bytes at once both may be refused, but never both served.
        let own = account.lent.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let size = self.budget.size;
        let granted = own <= self.purpose.most(size) && self.budget.lent() <= size;
        if granted {
            self.bytes += bytes;
        } else {
            account.lent.fetch_sub(bytes, Ordering::Relaxed);
            account.refused.inc();
        }
        granted
    }

    /// Gives bytes back.
    pub fn shrink(&mut self, bytes: usize) {
        let bytes = (bytes as u64).min(self.bytes);
        self.bytes -= bytes;
        self.budget.account(self.purpose).lent.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// How many were lent.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.budget.account(self.purpose).lent.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Looks at the memory in use once. Says so when shedding begins or ends.
pub fn look(budget: &Budget, memory: &Memory) {
    let Some(used) = memory.used() else { return };
    match budget.observe(used) {
        Some(true) => warn!(used, limit = memory.limit, "memory is nearly used up: calls are served, but not recorded"),
        Some(false) => info!(used, limit = memory.limit, "there is memory again: calls are recorded"),
        None => {}
    }
}

/// Looks at the memory in use for as long as it is polled.
pub async fn watch(budget: Arc<Budget>, memory: Memory) {
    loop {
        tokio::time::sleep(PERIOD).await;
        look(&budget, &memory);
    }
}

const PERIOD: Duration = Duration::from_secs(1);
/// Percent of the limit above which spans are shed, and below which they no longer are.
const SHED: u128 = 85;
const RESUME: u128 = 75;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_limit_is_lent_and_no_more_whatever_for() {
        let budget = Budget::of(2000);
        let first = budget.lend(600, Use::Queue).unwrap();
        assert!(budget.lend(401, Use::Sink).is_none());
        let mut second = budget.lend(300, Use::Sink).unwrap();
        assert!(second.grow(100) && !second.grow(1));
        assert_eq!((first.bytes(), second.bytes(), budget.lent()), (600, 400, 1000));
        second.shrink(150);
        assert_eq!(budget.lent(), 850);
        drop(first);
        assert_eq!(budget.lent(), 250);
        drop(second);
        assert_eq!(budget.lent(), 0);
        let mut text = Exposition::default();
        budget.expose(&mut text);
        let text = text.into_text();
        assert!(text.contains("sidetrace_budget_refused_total{use=\"sink\"} 2\n"), "{text}");
    }

    #[test]
    fn a_full_queue_leaves_room_for_what_comes_before_it() {
        let budget = Budget::of(2000);
        let queue = budget.lend(750, Use::Queue);
        assert!(queue.is_some() && budget.lend(1, Use::Queue).is_none());
        assert!(budget.lend(250, Use::Sink).is_some());
    }

    #[test]
    fn many_threads_never_hold_more_than_the_budget() {
        let budget = Budget::of(2000);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let loan = budget.lend(400, Use::Queue);
                        assert!(loan.is_none() || budget.lent() >= 400);
                    }
                });
            }
        });
        assert_eq!(budget.lent(), 0);
    }

    #[test]
    fn shedding_begins_above_85_percent_ends_below_75_and_is_told_once() {
        let budget = Budget::of(1000);
        let changes = [
            (850, None, false),
            (851, Some(true), true),
            (2000, None, true),
            (750, None, true),
            (749, Some(false), false),
            (850, None, false),
            (900, Some(true), true),
        ];
        for (used, change, shedding) in changes {
            assert_eq!((budget.observe(used), budget.shedding()), (change, shedding), "{used}");
        }
    }
}
