//! Which backend a batch goes to. There is one: the backend `default`.

use crate::exporters::Exporter;

/// The backend for a batch, if any is configured.
pub(super) fn backend(default: Option<&dyn Exporter>) -> Option<&dyn Exporter> {
    default
}
