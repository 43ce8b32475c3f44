//! Calls whose answer comes by another exchange than their request went: by the stream of a GET (MCP 2024-11-05, and later
//! versions where a stream is resumed), or by the client's next POST (what an MCP server asks of its client).
//!
//! One table for all connections, as answer and request have none in common. It holds at most [`MAX_PARKED`] calls: the oldest
//! is given up for a new one, and counted. Nothing is concluded while the table is locked.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::formats::{Answer, Called};
use super::{Facts, Inspection, Settings, write};
use crate::budget::{Loan, Use};
use crate::call::Digest;
use crate::trace::{ActiveSpan, End, semconv};

/// The table.
#[derive(Default)]
pub(super) struct Parked(Mutex<Table>);

#[derive(Default)]
struct Table {
    calls: HashMap<Digest, Entry>,
    /// The same, the oldest first.
    ages: BTreeMap<u64, Digest>,
    next: u64,
    /// Where answers to POSTs come by a stream of their own.
    streams: HashMap<Digest, Stream>,
}

#[derive(Default)]
struct Stream {
    /// How many bring answers to the same place.
    open: usize,
    /// The version of the protocol that was agreed on.
    version: Option<Box<str>>,
}

struct Entry {
    /// Of the session or stream that the answer comes by.
    scope: Digest,
    age: u64,
    since: Instant,
    call: Call,
}

enum Call {
    /// Its own exchange is still under way.
    Expected,
    /// The same, but the answer was faster.
    Answered(Box<Answered>),
    /// Its exchange has ended, like this.
    Parked(Box<Inspection>, ActiveSpan, End),
    /// It is part of an exchange.
    Open(Box<Open>),
}

struct Answered {
    answer: Answer,
    /// Held with it.
    _loan: Loan,
}

/// A call inside an exchange, which has a span of its own: one of a batch, or one that the other side asks for.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) called: Called,
    pub(crate) facts: Box<Facts>,
    pub(crate) span: ActiveSpan,
    /// How it is written.
    pub(crate) settings: Arc<Settings>,
    /// Held until it ends.
    pub(crate) loan: Loan,
}

/// Says that an answer is waited for. Dropped, it no longer is: what is open ends as cancelled.
#[derive(Debug)]
pub(crate) struct Ticket {
    settings: Arc<Settings>,
    key: Digest,
    age: u64,
}

/// Says that a stream carries the answers to POSTs. Dropped, all that wait for one end with it.
#[derive(Debug)]
pub(crate) struct Listening {
    settings: Arc<Settings>,
    scope: Digest,
}

impl Settings {
    /// A call's answer may come by another exchange. `None` if the same id is waited for already.
    pub(super) fn expect(self: &Arc<Self>, scope: Digest, key: Digest) -> Option<Ticket> {
        self.enter(scope, key, Call::Expected).ok()
    }

    /// A call inside an exchange has begun. What cannot be waited for ends at once.
    pub(super) fn open(self: &Arc<Self>, scope: Digest, key: Digest, open: Open) -> Option<Ticket> {
        match self.enter(scope, key, Call::Open(Box::new(open))) {
            Ok(ticket) => Some(ticket),
            Err(call) => {
                self.lose(call);
                None
            }
        }
    }

    /// Answers to POSTs come by this stream, until the guard is dropped. `None` if there are too many.
    pub(super) fn listen(self: &Arc<Self>, scope: Digest) -> Option<Listening> {
        let mut table = self.parked.lock();
        if table.streams.len() >= MAX_PARKED && !table.streams.contains_key(&scope) {
            drop(table);
            self.metrics.uninspected.inc(LOST);
            return None;
        }
        table.streams.entry(scope).or_default().open += 1;
        drop(table);
        Some(Listening { settings: self.clone(), scope })
    }

    /// Whether answers to POSTs come by a stream, and which version of the protocol was agreed on there.
    pub(super) fn listened(&self, scope: Digest) -> Option<Option<Box<str>>> {
        self.parked.lock().streams.get(&scope).map(|stream| stream.version.clone())
    }

    /// A version was agreed on.
    pub(super) fn agreed(&self, scope: Digest, version: &str) {
        if let Some(stream) = self.parked.lock().streams.get_mut(&scope) {
            stream.version = Some(version.into());
        }
    }

    /// An answer has come. One that nobody waits for is none of ours.
    pub(super) fn answer(&self, key: Digest, answer: Answer) {
        let mut table = self.parked.lock();
        let Some(entry) = table.calls.get_mut(&key) else { return };
        match entry.call {
            Call::Expected => {
                let answer = answer.slim();
                // Nothing that lends waits: the lock is held no longer for it.
                if let Some(loan) = self.budget.lend(answer.held(), Use::Inspections) {
                    entry.call = Call::Answered(Box::new(Answered { answer, _loan: loan }));
                }
                return;
            }
            // The same id twice: the first counts.
            Call::Answered(..) => return,
            Call::Parked(..) | Call::Open(..) => {}
        }
        let Some(entry) = table.remove(&key) else { return };
        drop(table);
        match entry.call {
            Call::Parked(mut inspection, span, _) => {
                inspection.resolve(answer);
                span.conclude_with(End::Complete, |span| inspection.conclude(End::Complete, span));
            }
            Call::Open(open) => open.answered(answer),
            Call::Expected | Call::Answered(..) => {}
        }
    }

    /// A session is over: whatever waits for its answers waits no longer.
    pub(super) fn close(&self, scope: Digest) {
        let mut table = self.parked.lock();
        let ours = |key: &&Digest| table.calls.get(key).is_some_and(|entry| entry.scope == scope);
        let keys: Vec<_> = table.ages.values().filter(ours).copied().collect();
        let gone: Vec<_> = keys.iter().filter_map(|key| table.take_waiting(key)).collect();
        drop(table);
        gone.into_iter().for_each(|call| call.break_off());
    }

    /// Nothing more will come: all that waits is given up.
    pub fn drain(&self) {
        self.parked.take_all().into_iter().for_each(|call| self.lose(call));
    }

    /// The call is kept, or given back with its entry's fate.
    fn enter(self: &Arc<Self>, scope: Digest, key: Digest, call: Call) -> Result<Ticket, Call> {
        let now = Instant::now();
        let mut table = self.parked.lock();
        if table.calls.contains_key(&key) {
            return Err(call);
        }
        let mut gone = Vec::new();
        while let Some((_, oldest)) = table.ages.first_key_value() {
            let oldest = *oldest;
            let old = table.calls.get(&oldest).is_none_or(|entry| now.duration_since(entry.since) > MAX_AGE);
            if !old && table.calls.len() < MAX_PARKED {
                break;
            }
            gone.extend(table.remove(&oldest).map(|entry| entry.call));
        }
        let age = table.next;
        table.next += 1;
        table.ages.insert(age, key);
        table.calls.insert(key, Entry { scope, age, since: now, call });
        drop(table);
        gone.into_iter().for_each(|call| self.lose(call));
        Ok(Ticket { settings: self.clone(), key, age })
    }

    /// Nobody waits for the answer any more, though it may come.
    fn lose(&self, call: Call) {
        match call {
            // Whoever expects it will find that out, and count it.
            Call::Expected | Call::Answered(..) => {}
            Call::Parked(mut inspection, span, end) => {
                inspection.missing(LOST);
                span.conclude_with(end, |span| inspection.conclude(end, span));
            }
            Call::Open(mut open) => {
                self.metrics.uninspected.inc(LOST);
                open.facts.set(semconv::SIDETRACE_INSPECTION_INCOMPLETE, LOST);
                open.end(End::Complete);
            }
        }
    }
}

impl Parked {
    /// The exchange of a call that is waited for has ended. Given back if it is no longer: then it ends, too.
    pub(super) fn park(
        &self,
        ticket: Ticket,
        mut inspection: Box<Inspection>,
        span: &ActiveSpan,
        end: End,
    ) -> Option<Box<Inspection>> {
        // What it has read is told: little is left to hold.
        let held = PARKED.max(inspection.facts.as_ref().map_or(0, |facts| facts.held()));
        if let Some(loan) = ticket.settings.budget.lend(held, Use::Inspections) {
            inspection.loan = Some(loan);
        }
        let mut table = self.lock();
        let known = table.calls.get_mut(&ticket.key).filter(|entry| entry.age == ticket.age);
        let Some(entry) = known else {
            drop(table);
            inspection.missing(LOST);
            return Some(inspection);
        };
        if matches!(entry.call, Call::Answered(..)) {
            let answered = table.remove(&ticket.key);
            drop(table);
            if let Some(Entry { call: Call::Answered(answered), .. }) = answered {
                inspection.resolve(answered.answer);
            }
            return Some(inspection);
        }
        entry.call = Call::Parked(inspection, span.clone(), end);
        drop(table);
        ticket.forget();
        None
    }

    /// All that waits.
    fn take_all(&self) -> Vec<Call> {
        let mut table = self.lock();
        let keys: Vec<_> = table.ages.values().copied().collect();
        keys.iter().filter_map(|key| table.take_waiting(key)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn remove(&mut self, key: &Digest) -> Option<Entry> {
        let entry = self.calls.remove(key)?;
        self.ages.remove(&entry.age);
        Some(entry)
    }

    /// A call whose own exchange is over; one whose exchange is not ends with that.
    fn take_waiting(&mut self, key: &Digest) -> Option<Call> {
        let waits = matches!(self.calls.get(key)?.call, Call::Parked(..) | Call::Open(..));
        waits.then(|| self.remove(key)).flatten().map(|entry| entry.call)
    }
}

impl Call {
    /// The answer will not come.
    fn break_off(self) {
        match self {
            Call::Parked(mut inspection, span, _) => span.conclude_with(End::Broken, |span| {
                inspection.conclude(End::Broken, span);
                span.fail(ENDED);
            }),
            Call::Open(open) => open.end(End::Broken),
            Call::Expected | Call::Answered(..) => {}
        }
    }
}

impl Open {
    /// Its answer has come.
    pub(crate) fn answered(mut self, answer: Answer) {
        self.called.answered(answer, &mut self.facts);
        self.end(End::Complete);
    }

    /// It has ended.
    pub(crate) fn end(self, end: End) {
        let Self { facts, span, settings, loan, .. } = self;
        span.conclude_with(end, |span| {
            write(facts, false, &settings.genai, span);
            if end == End::Broken {
                span.fail(ENDED);
            }
        });
        drop(loan);
    }
}

impl Ticket {
    /// Waits on without the ticket.
    pub(crate) fn forget(mut self) {
        self.age = u64::MAX;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut table = self.settings.parked.lock();
        let mine = table.calls.get(&self.key).is_some_and(|entry| entry.age == self.age);
        let gone = mine.then(|| table.remove(&self.key)).flatten();
        drop(table);
        if let Some(Entry { call: Call::Open(open), .. }) = gone {
            open.end(End::Cancelled);
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut table = self.settings.parked.lock();
        let left = table.streams.get_mut(&self.scope).map_or(0, |stream| {
            stream.open -= 1;
            stream.open
        });
        if left == 0 {
            table.streams.remove(&self.scope);
            drop(table);
            self.settings.close(self.scope);
        }
    }
}

/// What is in it is not shown: it may be what somebody said.
impl fmt::Debug for Parked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Parked(..)")
    }
}

/// About how many bytes a call holds that waits.
const PARKED: usize = 4 * 1024;
const LOST: &str = "parked_lost";
/// The stream that was to bring the answer ended without it.
const ENDED: &str = "stream_ended";
/// Calls that wait for their answer at a time, and streams that bring answers.
const MAX_PARKED: usize = 1024;
/// Who waits longer is given up for whoever comes next.
const MAX_AGE: Duration = Duration::from_secs(60 * 60);
