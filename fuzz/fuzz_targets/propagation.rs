//! Any header lines at all, read and written in every format: nothing panics, all formats say the same afterwards, one
//! line each, and `tracestate` stays within its grammar.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use sidetrace::stitch;
use sidetrace::trace::propagation::{ContextPolicy, Handling, Incoming, Propagators};
use sidetrace::trace::sampler::Sampler;

// Two bytes of settings, then lines: a byte for the name, and the value.
fuzz_target!(|data: &[u8]| {
    let [formats, handling, lines @ ..] = data else { return };
    let (formats, handling, ratio) = (*formats, *handling, f64::from(*handling >> 4) / 15.0);
    let bit = |bits: u8, at: u8| bits >> at & 1 == 1;
    let propagators = Propagators {
        tracecontext: bit(formats, 0),
        b3: bit(formats, 1),
        b3multi: bit(formats, 2),
        jaeger: bit(formats, 3),
        xray: bit(formats, 4),
    };
    let context = [ContextPolicy::Continue, ContextPolicy::Continue, ContextPolicy::Link, ContextPolicy::Ignore];
    let handling =
        Handling { context: context[usize::from(handling & 3)], trusted: bit(handling, 2), inject: bit(handling, 3) };
    let sampler = Sampler::NAMES[usize::from(formats >> 5) % Sampler::NAMES.len()];
    let sampler = Sampler::named(sampler, ratio).unwrap_or_default();

    let mut map = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n') {
        let Some((name, value)) = line.split_first() else { continue };
        if let Ok(value) = HeaderValue::from_bytes(value) {
            map.append(HeaderName::from_static(NAMES[usize::from(*name) % NAMES.len()]), value);
        }
    }
    let incoming = propagators.extract(&map);
    let placement = stitch::place(&incoming, handling, &sampler, &mut SmallRng::seed_from_u64(1));
    let edits = propagators.inject(&placement, handling, &map);
    edits.apply(&mut map);
    for (name, value) in edits.iter() {
        assert_eq!(map.get_all(name).iter().count(), usize::from(value.is_some()), "{name}");
    }
    assert!(handling.trusted || !map.contains_key("baggage"));
    if !handling.inject {
        return;
    }
    let all = [
        ("tracecontext", propagators.tracecontext),
        ("b3", propagators.b3 || propagators.b3multi),
        ("jaeger", propagators.jaeger),
        ("xray", propagators.xray),
    ];
    for (name, _) in all.into_iter().filter(|(_, configured)| *configured) {
        let mut one = Propagators::NONE;
        one.add(name);
        let Incoming::Context(context) = one.extract(&map) else { panic!("{name} is not read back: {map:?}") };
        assert_eq!((context.trace_id, context.span_id), (placement.trace_id, placement.span_id));
        assert_eq!(context.flags.is_sampled(), placement.flags.is_sampled());
        if name == "tracecontext" {
            assert_eq!(context.tracestate, placement.tracestate);
        }
    }
});

const NAMES: [&str; 13] = [
    "traceparent",
    "tracestate",
    "tracestate",
    "baggage",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-sampled",
    "x-b3-flags",
    "x-b3-parentspanid",
    "uber-trace-id",
    "x-amzn-trace-id",
    "x-other",
];
