//! SIGTERM and SIGINT, and when they mean that the drain begins.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Both signals, from when this is made on: for PID 1 too, which has no default action.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The next one of either.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Returns when the drain is to begin, and how many signals more mean impatience.
    ///
    /// At a signal the agent may still be at work, told at the same time as we: we go on as before for `delay`, or until we are
    /// told again. A quit says that the agent has ended.
    pub(super) async fn drain_begins(&mut self, quit: &CancellationToken, delay: Duration) -> usize {
        tokio::select! {
            // One that follows an orderly quit is what ends a pod.
            () = quit.cancelled() => return 2,
            () = self.next() => {}
        }
        if !delay.is_zero() {
            info!(?delay, "told to end: going on as before for so long");
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = quit.cancelled() => {}
                () = self.next() => {}
            }
        }
        1
    }
}
