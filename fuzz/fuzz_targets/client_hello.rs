//! A verdict on some bytes stands when more follow.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sidetrace::detect::client_hello::{Read, read};

// The last byte says where the first read ended; the rest is what a client would send.
fuzz_target!(|data: &[u8]| {
    let Some((cut, bytes)) = data.split_last() else { return };
    let prefix = &bytes[..bytes.len() * usize::from(*cut) / 255];
    let (early, late) = (read(prefix), read(bytes));
    match (&early, &late) {
        (Read::More, _) => {}
        (Read::Not, Read::Not) => {}
        (Read::Complete(first), Read::Complete(second)) => assert_eq!(first, second),
        _ => panic!("{early:?} became {late:?}"),
    }
    if let Read::Complete(hello) = late {
        let name = hello.server_name.unwrap_or_default();
        assert!(name.len() <= 255 && !name.bytes().any(|byte| byte.is_ascii_uppercase() || byte.is_ascii_control()));
    }
});
