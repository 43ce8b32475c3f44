//! What a call leaves to the task of its connection: a new way upstream, or a connection that is no longer HTTP. That task
//! drives both, so that the drain waits for them and an abort ends them.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::upgrade::OnUpgrade;

/// Drives a connection to upstream; the connection ends when this is dropped.
pub type UpstreamConnection = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// One per connection, shared by its calls and its task.
#[derive(Clone, Default)]
pub struct Handover(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    connection: Option<UpstreamConnection>,
    upgrade: Option<(OnUpgrade, OnUpgrade)>,
}

impl Handover {
    /// A connection that takes the place of the first.
    pub fn connection(&self, connection: UpstreamConnection) {
        self.lock().connection = Some(connection);
    }

    /// The two sides of a connection that changes its protocol: client, upstream.
    pub fn upgrade(&self, client: OnUpgrade, upstream: OnUpgrade) {
        self.lock().upgrade = Some((client, upstream));
    }

    /// The new connection, if a call has made one.
    pub fn take_connection(&self) -> Option<UpstreamConnection> {
        self.lock().connection.take()
    }

    /// The two sides, if a call has changed the protocol.
    pub fn take_upgrade(&self) -> Option<(OnUpgrade, OnUpgrade)> {
        self.lock().upgrade.take()
    }

    // Used by one task, a few times a connection: never contended.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Handover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handover").finish_non_exhaustive()
    }
}
