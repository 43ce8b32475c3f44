//! Looks for what the redirect exempts by mistake: programs that run as the sidecar's own user.

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
    let mut said = false;
    loop {
        look.tick().await;
        let found = match owner::foreign(uid, &own_ports) {
            Ok(found) => found,
            Err(error) => {
                // A kernel or a sandbox without it will not learn it.
                info!(%error, "cannot look for programs that run as the sidecar's own user");
                return;
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

const FIRST: Duration = Duration::from_secs(1);
const PERIOD: Duration = Duration::from_secs(10);
