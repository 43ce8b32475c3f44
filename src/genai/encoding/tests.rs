#![allow(clippy::indexing_slicing, reason = "a test that fails here says where")]

use std::io::Write;

use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use flate2::{Compression, GzBuilder};
use proptest::prelude::*;

use super::*;
use crate::genai::splits::{self, decode};

macro_rules! fixture {
    ($name:expr) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/genai/streams/", $name)).as_slice()
    };
}

/// The streams, and how Google's encoder packs them, with a flush after every 97 bytes.
const STREAMS: [(&[u8], &[u8]); 9] = [
    (fixture!("chat.bin"), fixture!("br/chat.br")),
    (fixture!("responses.bin"), fixture!("br/responses.br")),
    (fixture!("anthropic.bin"), fixture!("br/anthropic.br")),
    (fixture!("gemini.bin"), fixture!("br/gemini.br")),
    (fixture!("converse.bin"), fixture!("br/converse.br")),
    (fixture!("invoke.bin"), fixture!("br/invoke.br")),
    (fixture!("cohere.bin"), fixture!("br/cohere.br")),
    (fixture!("mistral.bin"), fixture!("br/mistral.br")),
    (fixture!("ollama.bin"), fixture!("br/ollama.br")),
];

/// With a flush after every 97 bytes.
fn flushed(mut encoder: impl Write, plain: &[u8]) {
    for piece in plain.chunks(97) {
        encoder.write_all(piece).unwrap();
        encoder.flush().unwrap();
    }
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    flushed(GzEncoder::new(&mut packed, Compression::default()), plain);
    packed
}

fn zlib(plain: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    flushed(ZlibEncoder::new(&mut packed, Compression::default()), plain);
    packed
}

fn raw_deflate(plain: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    flushed(DeflateEncoder::new(&mut packed, Compression::default()), plain);
    packed
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    flushed(::zstd::Encoder::new(&mut packed, 3).unwrap().auto_finish(), plain);
    packed
}

const ENOUGH: u64 = 1 << 20;

#[test]
fn every_coding_is_taken_off_however_it_is_cut() {
    for (plain, br) in STREAMS {
        let packed = [
            ("gzip", gzip(plain)),
            ("x-gzip", gzip(plain)),
            ("deflate", zlib(plain)),
            ("deflate", raw_deflate(plain)),
            ("zstd", zstd(plain)),
            ("br", br.to_vec()),
            ("identity", plain.to_vec()),
            ("gzip, zstd", zstd(&gzip(plain))),
            ("br, deflate, GZIP", gzip(&zlib(br))),
        ];
        for (names, packed) in packed {
            let whole = (plain.to_vec(), Ok(()));
            assert_eq!(decode(names, [&packed[..]], ENOUGH), whole, "{names}");
            for cut in 0..=packed.len() {
                assert_eq!(decode(names, [&packed[..cut], &packed[cut..]], ENOUGH), whole, "{names} cut at {cut}");
            }
            for size in 1..=9 {
                assert_eq!(decode(names, packed.chunks(size), ENOUGH), whole, "{names} in pieces of {size}");
            }
        }
    }
}

#[test]
fn what_was_flushed_comes_out_at_once() {
    let plain = &fixture!("anthropic.bin")[..700];
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    let mut deflate = DeflateEncoder::new(Vec::new(), Compression::default());
    let mut zstd = ::zstd::Encoder::new(Vec::new(), 3).unwrap();
    for encoder in [&mut gzip as &mut dyn Write, &mut zlib, &mut deflate, &mut zstd] {
        encoder.write_all(plain).unwrap();
        encoder.flush().unwrap();
    }
    let packed = [
        ("gzip", gzip.get_ref().as_slice()),
        ("deflate", zlib.get_ref()),
        ("deflate", deflate.get_ref()),
        ("zstd", zstd.get_ref()),
        ("br", fixture!("br/anthropic-700-flushed.br")),
    ];
    for (names, packed) in packed {
        assert_eq!(decode(names, [packed], ENOUGH), (plain.to_vec(), Ok(())), "{names}");
        assert_eq!(decode(names, packed.chunks(1), ENOUGH), (plain.to_vec(), Ok(())), "{names}");
    }
}

#[test]
fn large_bodies_come_out_whole() {
    let plain: Vec<u8> = (0..200_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
    for (names, packed) in
        [("gzip", gzip(&plain)), ("deflate", zlib(&plain)), ("zstd", zstd(&plain)), ("gzip, gzip", gzip(&gzip(&plain)))]
    {
        for size in [1000, 65_536, usize::MAX] {
            let (found, fed) = decode(names, packed.chunks(size), ENOUGH);
            assert!(found == plain && fed.is_ok(), "{names} in pieces of {size}: {} bytes, {fed:?}", found.len());
        }
    }
}

#[test]
fn gzip_may_have_members_and_headers_of_every_kind_and_padding() {
    let mut odd = GzBuilder::new()
        .extra(vec![7; 300])
        .filename("a name")
        .comment(vec![b'c'; 100_000])
        .write(Vec::new(), Compression::best());
    odd.write_all(b"first, ").unwrap();
    let odd = odd.finish().unwrap();
    // The same with a checksum of the header (FHCRC), and with an extra field that is empty.
    let plain = gzip(b"third");
    let checked = [b"\x1f\x8b\x08\x06\0\0\0\0\0\xff\0\0ab", &plain[10..]].concat();
    let stream = [&odd[..], &gzip(b"second, "), &gzip(b""), &checked].concat();
    for tail in [&b""[..], b"\0\0\0\0", b"garbage"] {
        let stream = [&stream[..], tail].concat();
        for size in [1, 7, 1000, stream.len()] {
            assert_eq!(decode("gzip", stream.chunks(size), ENOUGH), (b"first, second, third".to_vec(), Ok(())));
        }
    }
}

#[test]
fn what_is_not_in_the_coding_is_a_fault() {
    let plain = STREAMS[0].0;
    for names in ["gzip", "br", "zstd"] {
        assert_eq!(decode(names, [plain], ENOUGH).1, Err(Fault::BadCoding), "{names}");
    }
    assert_eq!(decode("deflate", [&b"\xff\xff\xff\xff"[..]], ENOUGH).1, Err(Fault::BadCoding));
    let mut packed = gzip(plain);
    let end = packed.len();
    packed[end - 6] ^= 1;
    assert_eq!(decode("gzip", [&packed[..]], ENOUGH), (plain.to_vec(), Err(Fault::BadChecksum)));
    let mut reserved = gzip(plain);
    reserved[3] = 0x80;
    assert_eq!(decode("gzip", [&reserved[..]], ENOUGH).1, Err(Fault::BadCoding));
}

#[test]
fn codings_are_known_by_their_names() {
    let stages = |lines: &[&str]| {
        Decoder::new(lines.iter().map(|line| line.as_bytes()), ENOUGH).map(|decoder| decoder.stages.len())
    };
    let table: &[(&[&str], Option<usize>)] = &[
        (&[], Some(0)),
        (&[""], Some(0)),
        (&["identity"], Some(0)),
        (&["Identity, ,IDENTITY"], Some(0)),
        (&["gzip"], Some(1)),
        (&[" X-GZip ,\tbr"], Some(2)),
        (&["gzip", "zstd, deflate"], Some(3)),
        (&["gzip", "zstd", "br", "gzip"], None),
        (&["compress"], None),
        (&["gzip, aes128gcm"], None),
        (&["gzip;q=1"], None),
        (&["dcb"], None),
    ];
    for (lines, expected) in table {
        assert_eq!(stages(lines), *expected, "{lines:?}");
    }
}

#[test]
fn identity_hands_the_slice_on() {
    let mut decoder = Decoder::new([b"identity".as_slice()].into_iter(), 0).unwrap();
    assert!(decoder.is_identity() && decoder.memory() == 0);
    let body = b"a body";
    let mut seen = Vec::new();
    decoder.feed(body, |piece| seen.push((piece.as_ptr(), piece.len()))).unwrap();
    assert_eq!(seen, [(body.as_ptr(), body.len())]);
}

#[test]
fn a_bomb_stops_at_the_limit() {
    const LIMIT: u64 = 4 << 20;
    let zeros = vec![0; 48 << 20];
    let pack = |mut encoder: GzEncoder<Vec<u8>>, plain: &[u8]| {
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    };
    let once = pack(GzEncoder::new(Vec::new(), Compression::fast()), &zeros);
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    zlib.write_all(&zeros).unwrap();
    let bombs = [
        ("deflate", zlib.finish().unwrap()),
        ("zstd", ::zstd::bulk::compress(&zeros, 3).unwrap()),
        ("br", fixture!("br/bomb-320-mib.br").to_vec()),
        ("gzip, gzip", pack(GzEncoder::new(Vec::new(), Compression::fast()), &once)),
        ("gzip", once),
        // Nothing comes of the zeros behind the member: the limit holds for every layer.
        ("gzip, zstd", ::zstd::bulk::compress(&[&gzip(b"little")[..], &zeros].concat(), 3).unwrap()),
    ];
    for (names, packed) in bombs {
        for size in [64, packed.len()] {
            let (plain, fed) = decode(names, packed.chunks(size), LIMIT);
            assert!(plain.len() as u64 <= LIMIT, "{names}: {}", plain.len());
            assert_eq!(fed, Err(Fault::TooLarge), "{names}");
        }
    }
}

#[test]
fn memory_is_told_and_bounded() {
    fn moves_between_threads<T: Send>() {}
    moves_between_threads::<Decoder>();
    let held = |names: &str, packed: &[u8]| {
        let mut decoder = Decoder::new([names.as_bytes()].into_iter(), u64::MAX).unwrap();
        let mut most = 0;
        for piece in packed.chunks(16) {
            decoder.feed(piece, |_| {}).unwrap();
            most = most.max(decoder.memory());
        }
        most
    };
    let mebi = 1 << 20;
    assert!((40_000..60_000).contains(&held("gzip", &gzip(STREAMS[0].0))));
    let brotli = held("br", fixture!("br/bomb-320-mib.br"));
    assert!((16 * mebi..17 * mebi).contains(&brotli), "{brotli}");
    let small = held("br", STREAMS[0].1);
    assert!((1000..mebi).contains(&small), "{small}");

    let packed = |log: u32| {
        let mut encoder = ::zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(log).unwrap();
        encoder.write_all(&vec![0; 9 * mebi]).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = held("zstd", &packed(23));
    assert!((8 * mebi..9 * mebi).contains(&zstd), "{zstd}");
    assert_eq!(decode("zstd", [&packed(24)[..]], u64::MAX).1, Err(Fault::BadCoding), "a window of 16 MiB");
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_alike_however_they_are_cut(data in proptest::collection::vec(any::<u8>(), 0..300)) {
        splits::decoder(&data);
    }

    #[test]
    fn a_damaged_body_is_decoded_alike_however_it_is_cut(
        which in 0..9_usize, coding in 0..4_u8, size in any::<u8>(),
        damage in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..4)) {
        let (plain, br) = STREAMS[which];
        let packed = match coding { 0 => gzip(plain), 1 => zlib(plain), 2 => br.to_vec(), _ => zstd(plain) };
        let mut data = [&[coding, size], &packed[..]].concat();
        for (at, byte) in damage {
            let at = 2 + at % packed.len();
            data[at] = byte;
        }
        splits::decoder(&data);
    }
}
