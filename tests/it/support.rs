//! The parts that tests are made of: a [`Pod`] with its namespaces, redirect, sidecar and collector; origins beside it;
//! unmodified clients inside it.

mod collector;
mod internet;
mod netns;
mod pod;
mod process;
mod rules_file;

use std::path::PathBuf;
use std::time::{Duration, Instant};

pub(crate) use collector::{Collector, attribute, integer, text};
pub(crate) use internet::{Internet, LEAF};
pub(crate) use netns::{Netns, full_uid_map};
pub(crate) use pod::{AGENT_V4, AGENT_V6, BARE_V4, BARE_V6, Origin, Pod, WORLD_V4, WORLD_V6, binary};
pub(crate) use process::Process;
pub(crate) use rules_file::RulesFile;

/// The project's root.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The Python with the clients' libraries, which `make test` installs.
pub(crate) fn python() -> PathBuf {
    let python = root().join("target/tools/venv/bin/python");
    assert!(python.exists(), "{} is missing: `make tools` installs it", python.display());
    python
}

/// Asks until the answer is yes, for what gives no event to wait for.
pub(crate) fn until(what: &str, mut yes: impl FnMut() -> bool) {
    let deadline = Instant::now() + GUARD;
    while !yes() {
        assert!(Instant::now() < deadline, "waited {GUARD:?} in vain until {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// Longer than anything takes that does not hang.
pub(crate) const GUARD: Duration = Duration::from_secs(30);

/// Lower-case digits, as headers carry ids.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
