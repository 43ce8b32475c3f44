//! Looks for what the redirect exempts by mistake: programs that run as the sidecar's own user, and pods of which nothing comes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tracing::{info, warn};

use crate::net::owner;
use crate::telemetry::Metrics;

/// Runs until it is dropped, on the telemetry plane's thread. A look takes about 1 ms, of which the kernel needs nearly all to walk
/// through its table (of all namespaces), and twice that while calls are under way; with thousands of them a few milliseconds.
pub(super) async fn watch(uid: u32, own_ports: Vec<u16>, metrics: Arc<Metrics>) {
    let mut look = tokio::time::interval_at(Instant::now() + FIRST, PERIOD);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut opens = Opens::new(metrics.clone());
    let (mut sockets, mut said) = (true, false);
    loop {
        look.tick().await;
        opens.look(uid);
        if !sockets {
            continue;
        }
        let found = match owner::foreign(uid, &own_ports) {
            Ok(found) => found,
            Err(error) => {
                // A kernel or a sandbox without it will not learn it.
                info!(%error, "cannot look for programs that run as the sidecar's own user");
                sockets = false;
                continue;
            }
        };
        metrics.unseen_sockets.set(found);
        if found > 0 && !said {
            said = true;
            warn!(
                uid,
                sockets = found,
                "a program in this pod runs as the sidecar's own user: its traffic is exempt from the redirect, and not seen. \
                 Run it as another user (securityContext.runAsUser). Said once; see sidetrace_unseen_sockets"
            );
        }
    }
}

/// The kernel's count of connections that were opened, beside ours. It misses none, but does not say whose they were: what is
/// unknown may be right, unless nothing ever came to us.
struct Opens {
    metrics: Arc<Metrics>,
    /// The kernel's count when ours was zero.
    before: Option<u64>,
    said: bool,
}

impl Opens {
    fn new(metrics: Arc<Metrics>) -> Self {
        let before = owner::opened().ok().map(|opened| opened.saturating_sub(metrics.known_opens.value()));
        Self { metrics, before, said: false }
    }

    fn look(&mut self, uid: u32) {
        let (Some(before), Ok(opened)) = (self.before, owner::opened()) else { return };
        let unknown = opened.saturating_sub(before).saturating_sub(self.metrics.known_opens.value());
        let unknown = usize::try_from(unknown).unwrap_or(usize::MAX);
        self.metrics.unseen_connections.set(unknown);
        let nothing_came = self.metrics.connections.value() == 0 && self.metrics.forward_connections.value() == 0;
        if nothing_came && unknown >= MANY && !self.said {
            self.said = true;
            warn!(
                opened = unknown,
                "programs in this pod open connections, but none has come to the sidecar. An agent that runs as the sidecar's own \
                 user ({uid}) is exempt from the redirect (securityContext.runAsUser), so is what the redirect was told to leave \
                 out. Said once; see sidetrace_unseen_connections"
            );
        }
    }
}

const FIRST: Duration = Duration::from_secs(1);
const PERIOD: Duration = Duration::from_secs(10);
/// A mesh's proxy opens some before the agent opens its first.
const MANY: usize = 10;
