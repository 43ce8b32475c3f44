//! The environment as the agent would have it, for `sidetrace check --trust`, which starts runtimes in it and says what is missing.

/// All variables of this process whose names and values are text.
#[allow(clippy::disallowed_methods, reason = "this is the place")]
pub fn inherited() -> Vec<(String, String)> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}
