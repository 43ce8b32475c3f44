//! Trace context in and out: reads what a caller sent, in every format that is configured, and says which header lines
//! must change before a call goes on. Decides nothing: [`crate::stitch`] and [`super::sampler`] do.
//!
//! Nothing here knows how the headers are held: they are read through [`Carrier`] and changed through [`Edits`].

pub mod b3;
#[cfg(test)]
mod conformance;
pub mod jaeger;
pub mod ot;
pub mod w3c;
pub mod xray;

use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{SpanId, TraceFlags, TraceId};
use rand::Rng;

use super::Placement;

/// A head's fields, as either version of HTTP holds them.
pub trait Carrier {
    /// The values of every line of this name, in their order. The name is lower case; lines match whatever their case.
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a;
}

impl Carrier for HeaderMap {
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.get_all(name).into_iter().map(HeaderValue::as_bytes)
    }
}

/// Header lines that must change; most often one. A name appears once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    // Kept beside the others so that the usual case allocates nothing.
    first: Option<Edit>,
    others: Vec<Edit>,
}

type Edit = (HeaderName, Option<HeaderValue>);

impl Edits {
    /// Exactly one line with this value: in the place of the first of that name, at the end if there is none.
    pub fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.push((name, Some(value)));
    }

    /// No line of that name.
    pub fn remove(&mut self, name: HeaderName) {
        self.push((name, None));
    }

    /// Name and value; no value removes.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, Option<&HeaderValue>)> {
        self.first.iter().chain(&self.others).map(|(name, value)| (name, value.as_ref()))
    }

    /// Whether everything stays as it is.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Makes the changes; the other lines keep their order.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in self.iter() {
            match value {
                Some(value) => _ = headers.insert(name, value.clone()),
                None => remove_in_order(headers, name),
            }
        }
    }

    fn push(&mut self, edit: Edit) {
        if self.first.is_none() {
            self.first = Some(edit);
        } else {
            self.others.push(edit);
        }
    }
}

/// What came with a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// Nothing that could be understood.
    Nothing,
    /// Whether to sample, but no ids (`b3: 0`).
    Decision(bool),
    /// The caller's span.
    Context(RemoteContext),
}

impl Incoming {
    /// The caller's span, if it sent one.
    pub fn context(&self) -> Option<&RemoteContext> {
        match self {
            Incoming::Context(context) => Some(context),
            Incoming::Nothing | Incoming::Decision(_) => None,
        }
    }
}

/// A context that a caller sent along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteContext {
    /// The caller's trace.
    pub trace_id: TraceId,
    /// The caller's span.
    pub span_id: SpanId,
    /// Sampled and random; all other bits zero.
    pub flags: TraceFlags,
    /// The caller leaves the sampling decision to us (B3 without a state, X-Ray's `?`). W3C has no such thing.
    pub deferred: bool,
    /// The `tracestate` beside it as one line, in the form in which it may go on; empty for none.
    pub tracestate: Arc<str>,
}

impl RemoteContext {
    /// A context of a format that knows neither the random flag nor `tracestate`. Ids of zero are no ids.
    fn new(trace_id: u128, span_id: u64, sampled: Option<bool>) -> Option<Self> {
        (trace_id != 0 && span_id != 0).then(|| Self {
            trace_id: TraceId::from(trace_id),
            span_id: SpanId::from(span_id),
            flags: TraceFlags::NOT_SAMPLED.with_sampled(sampled == Some(true)),
            deferred: sampled.is_none(),
            tracestate: Arc::default(),
        })
    }
}

/// How the calls to a destination, or from a caller, are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handling {
    /// What becomes of a context that came along.
    pub context: ContextPolicy,
    /// Whether the destination is inside the trust boundary: `baggage` and a foreign `tracestate` go nowhere else.
    pub trusted: bool,
    /// Whether our context is written at all.
    pub inject: bool,
}

impl Default for Handling {
    fn default() -> Self {
        Self { context: ContextPolicy::Continue, trusted: true, inject: true }
    }
}

/// What becomes of a context that came along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContextPolicy {
    /// The call is the caller's child.
    #[default]
    Continue,
    /// The call starts a trace, and its span points at the caller's.
    Link,
    /// As if none had come.
    Ignore,
}

/// The formats of `OTEL_PROPAGATORS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Propagators {
    /// W3C Trace Context.
    pub tracecontext: bool,
    /// B3 in one header.
    pub b3: bool,
    /// B3 in several headers.
    pub b3multi: bool,
    /// Jaeger's own.
    pub jaeger: bool,
    /// AWS X-Ray's own.
    pub xray: bool,
}

impl Default for Propagators {
    fn default() -> Self {
        Self { tracecontext: true, ..Self::NONE }
    }
}

impl Propagators {
    /// Nothing is read and nothing written.
    pub const NONE: Self = Self { tracecontext: false, b3: false, b3multi: false, jaeger: false, xray: false };

    /// Adds one by its name in `OTEL_PROPAGATORS`; false if it is unknown.
    pub fn add(&mut self, name: &str) -> bool {
        match name {
            "tracecontext" => self.tracecontext = true,
            "b3" => self.b3 = true,
            "b3multi" => self.b3multi = true,
            "jaeger" => self.jaeger = true,
            "xray" => self.xray = true,
            // Baggage passes as it came inside the trust boundary and not at all outside, asked for or not.
            "baggage" | "none" => {}
            _ => return false,
        }
        true
    }

    /// The first context that one of the formats gives, else the first decision.
    pub fn extract(self, carrier: &impl Carrier) -> Incoming {
        if self.tracecontext
            && let Some(context) = w3c::read(carrier)
        {
            return Incoming::Context(context);
        }
        let mut found = Incoming::Nothing;
        if self.b3 || self.b3multi {
            found = b3::read(carrier);
        }
        for (configured, read) in [(self.jaeger, jaeger::read as fn(_) -> _), (self.xray, xray::read)] {
            if configured && found.context().is_none() {
                match read(carrier) {
                    Incoming::Nothing => {}
                    Incoming::Decision(_) if found != Incoming::Nothing => {}
                    other => found = other,
                }
            }
        }
        found
    }

    /// What must change before a call goes on. All formats say the same; a header of a format that is not configured
    /// stays as it came.
    pub fn inject(self, placement: &Placement, handling: Handling, carrier: &impl Carrier) -> Edits {
        let mut edits = Edits::default();
        if handling.inject {
            if self.tracecontext {
                w3c::write(placement, carrier, &mut edits);
            }
            if self.b3 || self.b3multi {
                b3::write(placement, (self.b3, self.b3multi), carrier, &mut edits);
            }
            if self.jaeger {
                jaeger::write(placement, &mut edits);
            }
            if self.xray {
                xray::write(placement, carrier, &mut edits);
            }
        }
        if !handling.trusted && is_there(carrier, &BAGGAGE) {
            edits.remove(BAGGAGE);
        }
        edits
    }
}

/// A new trace: random ids, sampled.
pub fn start(rng: &mut impl Rng) -> Placement {
    Placement {
        trace_id: TraceId::from(nonzero(|| rng.random::<u128>())),
        span_id: new_span_id(rng),
        parent: None,
        flags: TraceFlags::new(SAMPLED | RANDOM),
        tracestate: Arc::default(),
        links: Vec::new(),
    }
}

/// The next span of the caller's trace.
pub fn proceed(context: &RemoteContext, rng: &mut impl Rng) -> Placement {
    Placement {
        trace_id: context.trace_id,
        span_id: new_span_id(rng),
        parent: Some(context.span_id),
        flags: context.flags,
        tracestate: context.tracestate.clone(),
        links: Vec::new(),
    }
}

/// Removes a header. [`HeaderMap::remove`] moves the last header into the gap; the origin would see another order than
/// the client sent.
pub fn remove_in_order(headers: &mut HeaderMap, name: &HeaderName) {
    if !headers.contains_key(name) {
        return;
    }
    let mut kept = HeaderMap::with_capacity(headers.len());
    for (key, value) in headers.iter().filter(|(key, _)| *key != name) {
        kept.append(key.clone(), value.clone());
    }
    *headers = kept;
}

fn new_span_id(rng: &mut impl Rng) -> SpanId {
    SpanId::from(nonzero(|| rng.random::<u64>()))
}

fn nonzero<T: Default + PartialEq>(mut draw: impl FnMut() -> T) -> T {
    loop {
        let drawn = draw();
        if drawn != T::default() {
            return drawn;
        }
    }
}

fn is_there(carrier: &impl Carrier, name: &HeaderName) -> bool {
    carrier.values(name.as_str()).next().is_some()
}

/// The value of a header that came once. Of two that differ nobody can say which is meant, so two are none.
fn only<'a>(carrier: &'a impl Carrier, name: &'a HeaderName) -> Option<&'a [u8]> {
    let mut values = carrier.values(name.as_str());
    let value = values.next()?;
    values.next().is_none().then(|| trim_ows(value))
}

/// A header value of digits and marks, which are always allowed.
fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Lower-case digits only; at most 32 of them.
fn hex(digits: &[u8]) -> Option<u128> {
    (!digits.iter().any(u8::is_ascii_uppercase)).then(|| loose_hex(digits, 0..=32))?
}

/// Digits of either case, as many as the range allows.
fn loose_hex(digits: &[u8], count: std::ops::RangeInclusive<usize>) -> Option<u128> {
    if !count.contains(&digits.len()) {
        return None;
    }
    digits.iter().try_fold(0_u128, |number, digit| Some(number << 4 | u128::from(char::from(*digit).to_digit(16)?)))
}

/// The same for what has 16 digits at most.
fn loose_hex_64(digits: &[u8], count: std::ops::RangeInclusive<usize>) -> Option<u64> {
    u64::try_from(loose_hex(digits, count)?).ok()
}

fn trim_ows(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

const BAGGAGE: HeaderName = HeaderName::from_static("baggage");
const SAMPLED: u8 = 0x01;
const RANDOM: u8 = 0x02;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: Propagators = Propagators { tracecontext: true, b3: true, b3multi: true, jaeger: true, xray: true };
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    pub(super) fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    pub(super) fn decision_or_flags(incoming: &Incoming) -> String {
        match incoming {
            Incoming::Nothing => "nothing".into(),
            Incoming::Decision(sampled) => format!("decision {sampled}"),
            Incoming::Context(context) if context.deferred => "context ?".into(),
            Incoming::Context(context) => format!("context {:x}", context.flags.to_u8()),
        }
    }

    fn lines(map: &HeaderMap) -> Vec<(&str, &str)> {
        map.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect()
    }

    #[test]
    fn the_first_format_that_gives_a_context_wins_and_only_configured_ones_are_read() {
        let formats = [
            ("traceparent", "00-00000000000000000000000000000001-0000000000000001-01", "tracecontext"),
            ("b3", "00000000000000000000000000000002-0000000000000002-1", "b3"),
            ("uber-trace-id", "3:3:0:1", "jaeger"),
            ("x-amzn-trace-id", "Root=1-00000000-000000000000000000000004;Parent=0000000000000004;Sampled=1", "xray"),
        ];
        for first in 0..formats.len() {
            let map = headers(&formats.map(|(name, value, _)| (name, value))[first..]);
            let found = ALL.extract(&map);
            assert_eq!(found.context().unwrap().trace_id, TraceId::from(first as u128 + 1));
            for (at, (_, _, name)) in formats.iter().enumerate() {
                let mut one = Propagators::NONE;
                assert!(one.add(name));
                assert_eq!(one.extract(&map).context().is_some(), at >= first, "{name}");
            }
        }
        assert_eq!(Propagators::NONE.extract(&headers(&[("traceparent", PARENT)])), Incoming::Nothing);
    }

    #[test]
    fn a_context_wins_over_a_decision_and_the_first_decision_over_the_second() {
        let map = headers(&[("b3", "0"), ("uber-trace-id", "3:3:0:1")]);
        assert_eq!(decision_or_flags(&ALL.extract(&map)), "context 1");
        let map = headers(&[("b3", "0"), ("x-amzn-trace-id", "Sampled=1")]);
        assert_eq!(ALL.extract(&map), Incoming::Decision(false));
        let map = headers(&[("traceparent", PARENT), ("b3", "0")]);
        assert_eq!(decision_or_flags(&ALL.extract(&map)), "context 1");
    }

    #[test]
    fn a_format_that_is_not_configured_stays_as_it_came_but_b3_has_one_voice() {
        let came = [
            ("traceparent", PARENT),
            ("b3", "64fe8b2a57d3eff7-e457b5a2e4d86bd1-d"),
            ("x-b3-traceid", "64fe8b2a57d3eff7"),
            ("x-b3-flags", "1"),
            ("x-b3-parentspanid", "05e3ac9a4f6e3b90"),
            ("uber-trace-id", "3:3:0:1"),
            ("uberctx-user", "alice"),
            ("x-amzn-trace-id", "Sampled=1"),
        ];
        let placement = start(&mut rand::rng());
        let map = headers(&came);
        let names = |propagators: Propagators| -> Vec<String> {
            let edits = propagators.inject(&placement, Handling::default(), &map);
            edits.iter().map(|(name, value)| format!("{name}{}", if value.is_some() { "" } else { " -" })).collect()
        };
        assert_eq!(names(Propagators::NONE), [""; 0]);
        assert_eq!(names(Propagators::default()), ["traceparent"]);
        let both = ["b3", "x-b3-traceid", "x-b3-spanid", "x-b3-sampled", "x-b3-flags -", "x-b3-parentspanid -"];
        assert_eq!(names(Propagators { b3: true, ..Propagators::NONE }), both);
        assert_eq!(names(Propagators { b3multi: true, ..Propagators::NONE }), both);
        assert_eq!(names(Propagators { jaeger: true, ..Propagators::NONE }), ["uber-trace-id"]);
        assert_eq!(names(Propagators { xray: true, ..Propagators::NONE }), ["x-amzn-trace-id"]);
    }

    #[test]
    fn an_empty_head_gets_the_configured_formats_and_nothing_else() {
        let mut map = HeaderMap::new();
        let placement = Placement { flags: TraceFlags::new(RANDOM), ..start(&mut rand::rng()) };
        Propagators { b3: true, ..Propagators::NONE }.inject(&placement, Handling::default(), &map).apply(&mut map);
        assert_eq!(lines(&map), [("b3", format!("{}-{}-0", placement.trace_id, placement.span_id).as_str())]);
        let edits = ALL.inject(&placement, Handling { inject: false, ..Handling::default() }, &map);
        assert!(edits.is_empty());
    }

    #[test]
    fn a_line_is_changed_in_its_place_and_the_usual_case_is_one_edit() {
        let mut map =
            headers(&[("a", "1"), ("traceparent", PARENT), ("b", "2"), ("tracestate", " a=1, b=2 "), ("a", "3")]);
        let placement = proceed(Propagators::default().extract(&map).context().unwrap(), &mut rand::rng());
        let edits = Propagators::default().inject(&placement, Handling::default(), &map);
        assert_eq!(edits.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["traceparent"]);
        edits.apply(&mut map);
        let own = w3c::traceparent(&placement);
        let expected =
            [("a", "1"), ("a", "3"), ("traceparent", own.to_str().unwrap()), ("b", "2"), ("tracestate", " a=1, b=2 ")];
        assert_eq!(lines(&map), expected);
    }

    #[test]
    fn baggage_passes_untouched_inside_and_not_at_all_outside() {
        let many = (0..65).map(|n| format!("k{n}={}", "v".repeat(200))).collect::<Vec<_>>().join(",");
        let came = [("x", "1"), ("baggage", many.as_str()), ("y", "2"), ("baggage", "\tbroken;;"), ("z", "3")];
        for propagators in [Propagators::NONE, Propagators::default()] {
            for inject in [false, true] {
                let map = headers(&came);
                let placement = start(&mut rand::rng());
                let of = |trusted| {
                    let handling = Handling { trusted, inject, ..Handling::default() };
                    let mut map = map.clone();
                    propagators.inject(&placement, handling, &map).apply(&mut map);
                    map.remove("traceparent");
                    map
                };
                assert_eq!(of(true), map);
                assert_eq!(lines(&of(false)), [("x", "1"), ("y", "2"), ("z", "3")]);
            }
        }
    }

    fn any_placement() -> impl Strategy<Value = Placement> {
        let state = prop_oneof![Just(""), Just("a=1"), Just("ot=th:8,b@c=2 3")];
        (1..=u128::MAX, 1..=u64::MAX, proptest::option::of(1..=u64::MAX), 0..4_u8, state).prop_map(
            |(trace_id, span_id, parent, flags, state)| Placement {
                trace_id: trace_id.into(),
                span_id: span_id.into(),
                parent: parent.map(SpanId::from),
                flags: TraceFlags::new(flags),
                tracestate: state.into(),
                links: Vec::new(),
            },
        )
    }

    /// Lines of every name that propagation knows, and of others, with values from near the grammars.
    fn any_lines() -> impl Strategy<Value = Vec<(&'static str, String)>> {
        let names = proptest::sample::select(OURS.iter().chain(&["a", "b", "uberctx-x"]).copied().collect::<Vec<_>>());
        let value = prop_oneof![
            "[ -~\t]{0,40}",
            "[0-9a-f]{16}",
            "[0-9a-f]{32}-[0-9a-f]{16}(-[01d])?",
            "00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-3]",
            "[0-9a-f]{1,32}:[0-9a-f]{1,16}:0:[0-3]",
            "Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=[01?]",
            "[01]",
            "([a-z]{1,3}=[ -+.-<>-~]{1,5},? ?){0,5}",
        ];
        proptest::collection::vec((names, value), 0..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_written_in_any_format_is_read_back(placement in any_placement()) {
            for name in ["tracecontext", "b3", "b3multi", "jaeger", "xray"] {
                let mut one = Propagators::NONE;
                one.add(name);
                let mut map = HeaderMap::new();
                one.inject(&placement, Handling::default(), &map).apply(&mut map);
                let incoming = one.extract(&map);
                let context = incoming.context().unwrap();
                prop_assert_eq!((context.trace_id, context.span_id), (placement.trace_id, placement.span_id));
                prop_assert_eq!(context.flags.is_sampled(), placement.flags.is_sampled());
                prop_assert!(!context.deferred);
                if name == "tracecontext" {
                    prop_assert_eq!(context.flags, placement.flags);
                    prop_assert_eq!(&context.tracestate, &placement.tracestate);
                }
            }
        }

        #[test]
        fn whatever_came_one_line_of_each_goes_on_all_agree_and_the_others_keep_their_order(
            came in any_lines(), formats in 0..32_u8, trusted: bool,
        ) {
            let [tracecontext, b3, b3multi, jaeger, xray] = [0, 1, 2, 3, 4].map(|bit| formats >> bit & 1 == 1);
            let propagators = Propagators { tracecontext, b3, b3multi, jaeger, xray };
            let mut map = HeaderMap::new();
            for (name, value) in &came {
                map.append(*name, HeaderValue::from_str(value).unwrap());
            }
            let before = map.clone();
            let placement = match propagators.extract(&map).context() {
                Some(context) => proceed(context, &mut rand::rng()),
                None => start(&mut rand::rng()),
            };
            let handling = Handling { trusted, ..Handling::default() };
            let edits = propagators.inject(&placement, handling, &map);
            edits.apply(&mut map);
            let edited: Vec<&HeaderName> = edits.iter().map(|(name, _)| name).collect();
            for (at, name) in edited.iter().enumerate() {
                prop_assert!(!edited[..at].contains(name), "two edits of {name}");
                prop_assert!(map.get_all(*name).iter().count() <= 1);
            }
            let rest = |map: &HeaderMap| -> Vec<(HeaderName, HeaderValue)> {
                let others = map.iter().filter(|(name, _)| !edited.contains(name));
                others.map(|(name, value)| (name.clone(), value.clone())).collect()
            };
            prop_assert_eq!(rest(&before), rest(&map));
            let all = [("tracecontext", tracecontext), ("b3", b3 || b3multi), ("jaeger", jaeger), ("xray", xray)];
            for (name, _) in all.iter().filter(|(_, configured)| *configured) {
                let mut one = Propagators::NONE;
                one.add(name);
                let incoming = one.extract(&map);
                let context = incoming.context().unwrap();
                prop_assert_eq!((context.trace_id, context.span_id), (placement.trace_id, placement.span_id));
                prop_assert_eq!(context.flags.is_sampled(), placement.flags.is_sampled());
            }
        }
    }

    const OURS: [&str; 11] = [
        "traceparent",
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
    ];
}
