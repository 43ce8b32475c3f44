//! What keeps our memory, in which keys are, from others.

use std::io::Result;

use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, setrlimit};

/// No core dumps; and `/proc/PID/{mem,environ,maps,…}` belong to root, so that not even another process of our own user
/// reads them or traces us. To be called before there is any key.
pub(super) fn harden() -> Result<()> {
    // Each alone would do for core dumps: a limit of 0 holds for files, a pipe to a handler is stopped by the other.
    set_dumpable(false)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    Ok(())
}
