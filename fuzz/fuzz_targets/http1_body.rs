//! A body fed in pieces of any size is the body fed whole, and never takes more than there is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sidetrace::http1::{Body, Fault};

type Read = Result<(Vec<u8>, usize, bool), (Fault, usize)>;

// Two bytes: which body, and how large the pieces are.
fuzz_target!(|data: &[u8]| {
    let [kind, size, bytes @ ..] = data else { return };
    let body = match kind % 4 {
        0 => Body::chunked(true),
        1 => Body::chunked(false),
        2 => Body::length(u64::from(*kind) * 8),
        _ => Body::until_close(),
    };
    let whole = read(&body, [bytes].into_iter());
    let size = usize::from(*size).max(1);
    assert_eq!(read(&body, bytes.chunks(size)), whole);
    assert_eq!(read(&body, [&bytes[..size.min(bytes.len())], &bytes[size.min(bytes.len())..]].into_iter()), whole);
    if let (0, Ok(strict)) = (kind % 4, &whole) {
        // What everybody would read so, those who read more do, too.
        assert_eq!(read(&Body::chunked(false), [bytes].into_iter()).as_ref(), Ok(strict));
    }
});

fn read<'a>(body: &Body, pieces: impl Iterator<Item = &'a [u8]>) -> Read {
    let (mut body, mut data, mut taken) = (body.clone(), Vec::new(), 0);
    for piece in pieces {
        let mut seen = 0;
        let fed = body.feed(piece, |part| {
            seen += part.len();
            data.extend_from_slice(part);
        });
        let fed = fed.map_err(|(fault, before)| (fault, taken + before))?;
        assert!(fed.consumed <= piece.len() && seen <= fed.consumed && fed.done == body.is_done());
        assert!(fed.done || fed.consumed == piece.len());
        taken += fed.consumed;
    }
    Ok((data, taken, body.is_done()))
}
