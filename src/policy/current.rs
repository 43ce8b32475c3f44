//! The policy in force, for many readers that must not wait for each other, and for one writer that comes by rarely.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Policy;

/// A handle on the policy in force.
#[derive(Clone, Debug, Default)]
pub struct Policies(Arc<Current>);

#[derive(Debug, Default)]
struct Current {
    /// Grows with every replacement, after the policy is in its place.
    generation: AtomicU64,
    policy: Mutex<Arc<Policy>>,
}

impl Policies {
    /// Begins with this policy.
    pub fn new(policy: Policy) -> Self {
        Self(Arc::new(Current { generation: AtomicU64::new(0), policy: Mutex::new(Arc::new(policy)) }))
    }

    /// The policy in force. Takes a lock: for what is asked once a connection.
    pub fn load(&self) -> Arc<Policy> {
        self.0.policy.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// For what is asked with every request.
    pub fn reader(&self) -> Reader {
        // The generation first: a policy that is newer than it is loaded once more, never one that is older kept.
        let generation = self.0.generation.load(Ordering::Acquire);
        Reader { policies: self.clone(), generation, policy: self.load() }
    }

    /// From now on this one.
    pub fn replace(&self, policy: Policy) {
        *self.0.policy.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
        self.0.generation.fetch_add(1, Ordering::Release);
    }
}

/// One connection's copy: as long as nothing is replaced a look costs one atomic load of a line that nobody writes.
#[derive(Clone, Debug)]
pub struct Reader {
    policies: Policies,
    generation: u64,
    policy: Arc<Policy>,
}

impl Reader {
    /// The policy in force.
    pub fn current(&mut self) -> &Arc<Policy> {
        let generation = self.policies.0.generation.load(Ordering::Acquire);
        if generation != self.generation {
            self.generation = generation;
            self.policy = self.policies.load();
        }
        &self.policy
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::rules::Rules;

    fn policy(number: usize) -> Policy {
        Policy::new(Rules { query: vec![number.to_string()], ..Rules::default() })
    }

    #[test]
    fn a_reader_sees_a_replacement_at_its_next_look_and_never_goes_back() {
        let policies = Policies::new(policy(0));
        let mut reader = policies.reader();
        assert_eq!(**reader.current(), policy(0));
        policies.replace(policy(1));
        assert_eq!((&**reader.current(), &*policies.load()), (&policy(1), &policy(1)));

        let last = 1000;
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let mut reader = policies.reader();
                std::thread::spawn(move || {
                    let mut seen = 0;
                    while seen < last {
                        let rules = reader.current().rules.query[0].parse().unwrap();
                        assert!(rules >= seen, "{rules} after {seen}");
                        seen = rules;
                    }
                })
            })
            .collect();
        (2..=last).for_each(|number| policies.replace(policy(number)));
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    }
}
