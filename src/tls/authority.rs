//! The pod's certificate authority: a root that clients trust, an intermediate that signs, leaves that are shown.
//!
//! The root is made at the start and dies with the process, or is kept in a file on a memory volume, or is somebody
//! else's. The intermediate is replaced each day. No key is ever printed, and none leaves the process but in that file.

mod certificate;
mod leaves;
mod mounted;
mod signer;
mod state;

use std::fmt;
use std::io::{Error, Result};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::sign::CertifiedKey;
use tracing::info;

use crate::budget::Budget;
use crate::config::AuthoritySource;
use crate::telemetry::Metrics;
use leaves::{Leaves, Rate};
use mounted::{Look, Mounted};
use signer::{Ca, Signer};

/// Signs what we show to clients.
pub struct Authority {
    // Held while a leaf is made, which takes less than a tenth of a millisecond: so whoever asks for the same name at the
    // same time waits for that one, and finds it. Only new connections come here.
    state: Mutex<State>,
    // A lock of their own: a mount that hangs must not stall connections. Taken before the other one.
    mounted: Option<Mutex<Mounted>>,
    metrics: Arc<Metrics>,
    clock: Box<dyn Fn() -> SystemTime + Send + Sync>,
}

/// Why there is no certificate for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoLeaf {
    /// Too many new names in too short a time.
    RateLimited,
    /// It could not be made.
    Failed,
}

#[derive(Debug)]
struct State {
    ca: Ca,
    signer: Option<Signer>,
    /// Published, and when.
    next: Option<(Ca, SystemTime)>,
    /// How long the next one is published before it signs.
    overlap: Duration,
    leaves: Leaves,
    rate: Rate,
    /// What [`Authority::reload`] has told last.
    told: Vec<CertificateDer<'static>>,
}

impl Authority {
    /// Makes or reads the authority. `clock` is the time of day. An error names the variable, its value and what is
    /// accepted.
    pub fn open(
        source: &AuthoritySource,
        budget: Arc<Budget>,
        metrics: Arc<Metrics>,
        clock: impl Fn() -> SystemTime + Send + Sync + 'static,
    ) -> Result<Self> {
        let now = clock();
        let (ca, mounted) = match source {
            AuthoritySource::Memory => {
                let (ca, _) = Ca::new(now).ok_or_else(|| Error::other("a certificate authority could not be made"))?;
                (ca, None)
            }
            AuthoritySource::State(path) => (state::open(path, now)?, None),
            AuthoritySource::Mounted { certificate, key, overlap } => {
                let (mounted, ca) = Mounted::open(certificate, key, *overlap, now)?;
                (ca, Some(mounted))
            }
        };
        let overlap = mounted.as_ref().map(|mounted| mounted.overlap).unwrap_or_default();
        let (leaves, rate) = (Leaves::new(budget), Rate::new(now));
        let mut state = State { ca, signer: None, next: None, overlap, leaves, rate, told: Vec::new() };
        state.told = state.roots();
        Ok(Self { state: Mutex::new(state), mounted: mounted.map(Mutex::new), metrics, clock: Box::new(clock) })
    }

    /// The certificate for exactly this name or address. Made once however many ask at the same time.
    pub fn leaf(&self, name: &ServerName<'static>) -> std::result::Result<Arc<CertifiedKey>, NoLeaf> {
        let now = (self.clock)();
        let mut state = self.state();
        state.advance(now, &self.metrics);
        let (leaf, outcome) = match state.leaf(name, now) {
            Ok((key, made)) => (Ok(key), if made { "made" } else { "cached" }),
            Err(reason @ NoLeaf::RateLimited) => (Err(reason), "rate_limited"),
            Err(reason @ NoLeaf::Failed) => (Err(reason), "failed"),
        };
        self.metrics.leaves.inc(outcome);
        leaf
    }

    /// What clients have to trust: one root, or two while one follows the other.
    pub fn roots(&self) -> Vec<CertificateDer<'static>> {
        self.state().roots()
    }

    /// Looks after mounted files that have changed. To be called every few seconds; returns whether the roots are others
    /// than when it was called last, and have to be written for clients again.
    pub fn reload(&self) -> bool {
        let mut mounted = self.mounted.as_ref().map(|mounted| mounted.lock().unwrap_or_else(PoisonError::into_inner));
        let look = mounted.as_mut().map_or(Look::Same, |mounted| mounted.look((self.clock)()));
        // Not the time before the look, which may have taken long: the overlap begins when the new root is known.
        let now = (self.clock)();
        let mut state = self.state();
        state.apply(look, now, &self.metrics);
        state.advance(now, &self.metrics);
        let roots = state.roots();
        let changed = roots != state.told;
        state.told = roots;
        changed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl State {
    fn roots(&self) -> Vec<CertificateDer<'static>> {
        let next = self.next.iter().map(|(ca, _)| ca);
        std::iter::once(&self.ca).chain(next).filter_map(Ca::root).cloned().collect()
    }

    /// And whether it is new.
    fn leaf(
        &mut self,
        name: &ServerName<'static>,
        now: SystemTime,
    ) -> std::result::Result<(Arc<CertifiedKey>, bool), NoLeaf> {
        let found = self.leaves.find(name).cloned();
        if let Some(leaf) = found.as_ref().filter(|leaf| leaf.fresh.holds(now)) {
            return Ok((leaf.key.clone(), false));
        }
        let made = if self.rate.take(now) {
            self.signer.as_ref().and_then(|signer| signer.leaf(name, now)).ok_or(NoLeaf::Failed)
        } else {
            Err(NoLeaf::RateLimited)
        };
        match (made, found) {
            (Ok(leaf), _) => {
                let key = leaf.key.clone();
                self.leaves.keep(name.clone(), leaf);
                Ok((key, true))
            }
            // Half of its life is left to try again.
            (Err(_), Some(old)) if old.valid.holds(now) => Ok((old.key, false)),
            (Err(reason), _) => Err(reason),
        }
    }

    /// What time alone brings: the next authority begins to sign, and the signer is replaced.
    fn advance(&mut self, now: SystemTime, metrics: &Metrics) {
        let due = |(_, published): &mut (Ca, SystemTime)| {
            now.duration_since(*published).is_ok_and(|passed| passed >= self.overlap) || now > self.ca.validity().until
        };
        if let Some((ca, _)) = self.next.take_if(due) {
            self.sign_with(ca, metrics);
        }
        if !self.signer.as_ref().is_some_and(|signer| signer.fresh.holds(now)) {
            // One that cannot be replaced goes on for as long as it is valid.
            if let Some(signer) = Signer::new(&self.ca, now) {
                self.signer = Some(signer);
            }
        }
    }

    fn apply(&mut self, look: Look, now: SystemTime, metrics: &Metrics) {
        match look {
            Look::Same => {}
            Look::Refused => metrics.authority_reloads.inc("refused"),
            Look::New(ca) if ca.shares_root(&self.ca) => {
                self.next = None;
                self.sign_with(ca, metrics);
            }
            Look::New(ca) => {
                info!("a new certificate authority is published; it signs after the overlap");
                metrics.authority_reloads.inc("published");
                self.next = Some((ca, now));
            }
        }
    }

    fn sign_with(&mut self, ca: Ca, metrics: &Metrics) {
        if !ca.shares_root(&self.ca) {
            self.leaves.clear();
        }
        info!("a new certificate authority signs");
        metrics.authority_reloads.inc("signing");
        (self.ca, self.signer) = (ca, None);
    }
}

#[cfg(test)]
mod tests;
