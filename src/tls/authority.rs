//! The pod's certificate authority: a root that clients trust, an intermediate that signs, leaves that are shown.

use std::sync::Arc;

use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::sign::CertifiedKey;

/// Signs what we show to clients.
#[derive(Debug)]
pub struct Authority {}

/// Why there is no certificate for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoLeaf {
    /// Too many new names in too short a time.
    RateLimited,
    /// It could not be made.
    Failed,
}

impl Authority {
    /// The certificate for exactly this name or address. Made once however many ask at the same time.
    pub fn leaf(&self, _: &ServerName<'static>) -> Result<Arc<CertifiedKey>, NoLeaf> {
        Err(NoLeaf::Failed)
    }

    /// What clients have to trust: one root, or two while one follows the other.
    pub fn roots(&self) -> Vec<CertificateDer<'static>> {
        Vec::new()
    }
}
