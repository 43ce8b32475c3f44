//! Any head at all: nothing panics, every position lies inside the bytes, and what is accepted says the same about its body
//! once a header line has been put in as the driver does.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sidetrace::http1::head::{self, Head};

fuzz_target!(|data: &[u8]| {
    let Some(length) = head::end(data, 0) else { return };
    // Wherever a first look had ended.
    let cut = usize::from(data[0]).min(length - 1);
    if head::end(&data[..cut], 0).is_none() {
        assert_eq!(head::end(data, cut), Some(length));
    }
    let bytes = &data[..length];
    let (mut fields, mut again) = (Vec::new(), Vec::new());
    if let Ok((line, found)) = head::request(bytes, &mut fields) {
        check(&found);
        assert!(!line.method.is_empty() && !line.target.is_empty());
        let written = with_line(&found);
        assert_eq!(head::end(&written, 0), Some(written.len()));
        let (second_line, second) = head::request(&written, &mut again).expect("the same head with a line more");
        assert_eq!((line.method, line.target, line.version), (second_line.method, second_line.target, second_line.version));
        assert_eq!(found.request_body(), second.request_body());
        assert_eq!(second.values("traceparent").last(), Some(b"1".as_slice()));
        assert_eq!(found.fields().len() + 1, second.fields().len());
        // The line may have made an end that was loose a firm one, never the reverse.
        assert!(found.ends_loosely() || !second.ends_loosely());
    }
    if let Ok((line, found)) = head::answer(bytes, &mut fields) {
        check(&found);
        assert!((100..1000).contains(&line.status));
        for to_head in [true, false] {
            _ = found.answer_body(to_head, line.status);
        }
    }
});

fn check(head: &Head<'_>) {
    let mut last = 0;
    for field in head.fields() {
        let line = head.line(field);
        assert!(last <= line.start && line.start < line.end && line.end <= head.insertion());
        assert!(head.bytes()[line.clone()].starts_with(head.name(field)) && head.bytes()[line.clone()].ends_with(b"\n"));
        let name = String::from_utf8_lossy(head.name(field)).into_owned();
        if name.as_bytes() == head.name(field) {
            assert!(head.value(&name).is_some());
        }
        last = line.end;
    }
}

fn with_line(head: &Head<'_>) -> Vec<u8> {
    let (before, behind) = head.bytes().split_at(head.insertion());
    [before, b"traceparent: 1", head.line_end(), behind].concat()
}
