//! What was learned of servers and clients, each thing for its time. Bounded: what is about to be forgotten goes first.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// A table of things that are true for a time.
#[derive(Debug)]
pub(super) struct Learned<K, V> {
    // Held for a look-up or an insert, once a connection, never across an await.
    table: Mutex<HashMap<K, (V, Instant)>>,
}

impl<K, V> Default for Learned<K, V> {
    fn default() -> Self {
        Self { table: Mutex::default() }
    }
}

impl<K: Eq + Hash + Clone, V: Copy> Learned<K, V> {
    /// What holds now.
    pub(super) fn find(&self, key: &K, now: Instant) -> Option<V> {
        self.lock().get(key).filter(|(_, until)| now < *until).map(|(value, _)| *value)
    }

    /// Holds until then, if not longer already. Whether it is news.
    pub(super) fn learn(&self, key: K, value: V, until: Instant) -> bool {
        let mut table = self.lock();
        if table.len() >= MOST && !table.contains_key(&key) {
            let soonest = table.iter().min_by_key(|(_, (_, until))| *until).map(|(key, _)| key.clone());
            soonest.map(|key| table.remove(&key));
        }
        match table.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert((value, until));
                true
            }
            Entry::Occupied(mut entry) => {
                if entry.get().1 < until {
                    entry.insert((value, until));
                }
                false
            }
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<K, (V, Instant)>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Each takes some 200 bytes.
const MOST: usize = 4096;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_learned_holds_for_its_time_and_no_more_than_so_much_is_kept() {
        let learned = Learned::default();
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        assert!(learned.learn("a", 1, at(60)));
        assert_eq!(
            (learned.find(&"a", at(59)), learned.find(&"a", at(60)), learned.find(&"b", now)),
            (Some(1), None, None)
        );
        assert!(!learned.learn("a", 2, at(90)), "no news");
        assert_eq!(learned.find(&"a", at(60)), Some(2), "what holds longer counts");
        learned.learn("a", 3, at(80));
        assert_eq!((learned.find(&"a", at(85)), learned.find(&"a", at(90))), (Some(2), None));
        learned.clear();
        assert_eq!(learned.find(&"a", now), None);

        let learned = Learned::default();
        (0..=MOST).for_each(|n| assert!(learned.learn(n, n, at(60 + n as u64))));
        assert_eq!(
            (learned.find(&0, now), learned.find(&1, now), learned.find(&MOST, now)),
            (None, Some(1), Some(MOST))
        );
        assert_eq!(learned.lock().len(), MOST);
    }
}
