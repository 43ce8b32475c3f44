//! A verdict on some bytes stands when more follow, is the same however the message is cut into records, and comes in time.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sidetrace::detect::client_hello::{MAX, Read, read};

// What a client would send: so the tests' fixtures are seeds as they are. Its last byte says where the first read ended, too,
// and the records' size.
fuzz_target!(|bytes: &[u8]| {
    let Some(cut) = bytes.last() else { return };
    let prefix = &bytes[..bytes.len() * usize::from(*cut) / 255];
    let (early, late) = (read(prefix), read(bytes));
    match (&early, &late) {
        (Read::More, _) => {}
        (Read::Not, Read::Not) => {}
        (Read::Complete(first), Read::Complete(second)) => assert_eq!(first, second),
        _ => panic!("{early:?} became {late:?}"),
    }
    assert!(late != Read::More || bytes.len() < MAX);
    let Read::Complete(hello) = late else { return };
    let name = hello.server_name.clone().unwrap_or_default();
    assert!(name.len() <= 255 && !name.bytes().any(|byte| byte.is_ascii_uppercase() || byte.is_ascii_control()));
    let Some(message) = message(bytes) else { panic!("complete, but not to be found: {hello:?}") };
    let other = records(message, usize::from(*cut) + 1);
    if other.len() <= MAX {
        assert_eq!(read(&other), Read::Complete(hello.clone()));
        // What follows changes nothing.
        assert_eq!(read(&[&other[..], bytes].concat()), Read::Complete(hello));
    }
});

/// The ClientHello that the records hold.
fn message(mut records: &[u8]) -> Option<Vec<u8>> {
    let mut message = Vec::new();
    loop {
        if let [_, high, mid, low, ..] = message[..] {
            let needed = 4 + u32::from_be_bytes([0, high, mid, low]) as usize;
            if message.len() >= needed {
                message.truncate(needed);
                return Some(message);
            }
        }
        let (header, rest) = records.split_first_chunk::<5>()?;
        let (content, rest) = rest.split_at_checked(u16::from_be_bytes([header[3], header[4]]).into())?;
        message.extend(content);
        records = rest;
    }
}

fn records(message: Vec<u8>, size: usize) -> Vec<u8> {
    let record = |part: &[u8]| [&[22, 3, 1][..], &(part.len() as u16).to_be_bytes(), part].concat();
    message.chunks(size).flat_map(record).collect()
}
