//! What was once recognised stays that, whatever follows. (What is opaque may have become HTTP in one piece.)
#![no_main]

use libfuzzer_sys::fuzz_target;
use sidetrace::detect::{self, Protocol};

// The last byte says where the first read ended; the rest is what a client would send.
fuzz_target!(|data: &[u8]| {
    let Some((cut, bytes)) = data.split_last() else { return };
    let prefix = &bytes[..bytes.len() * usize::from(*cut) / 255];
    match detect::client(prefix) {
        None | Some(Protocol::Opaque(_)) => _ = detect::client(bytes),
        recognised => assert_eq!(detect::client(bytes), recognised, "after {} bytes", prefix.len()),
    }
    if let Some(verdict) = detect::upstream_is_settings(prefix) {
        assert_eq!(detect::upstream_is_settings(bytes), Some(verdict));
    }
});
