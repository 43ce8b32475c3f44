//! Which trace a call belongs to. Pure.
//!
//! Today's ladder has one rung and its alternative: a context that came with the call is continued, else a new trace
//! starts. Runs, turns and tools will be found here; callers see only [`Placement`].

use rand::Rng;

use crate::trace::Placement;
use crate::trace::propagation::{self, RemoteContext};

/// Fixes the ids of a call before its headers are written.
pub fn place(context: Option<&RemoteContext>, rng: &mut impl Rng) -> Placement {
    match context {
        Some(context) => propagation::proceed(context, rng),
        None => propagation::start(rng),
    }
}
