//! Head sampling: `OTEL_TRACES_SAMPLER`. Pure; what is not sampled is recorded all the same, for the metrics of calls, and
//! dropped by the pipeline.
//!
//! Source: OpenTelemetry specification v1.60, `trace/sdk.md`, "Built-in samplers" and "Sampling requirements";
//! `trace/tracestate-probability-sampling.md`.

use std::sync::Arc;

use opentelemetry::TraceId;
use rand::Rng;

use super::Placement;
use super::propagation::{self, Incoming, RemoteContext, ot};

/// Who decides, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    /// Whether a caller's decision holds.
    parent_based: bool,
    root: Root,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Root {
    On,
    Off,
    /// What is below this 56-bit number is dropped.
    Threshold(u64),
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The sampled flag.
    pub sampled: bool,
    /// `th` in the `ot` member of `tracestate`.
    pub threshold: Threshold,
}

/// What becomes of `th`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threshold {
    /// The line is not touched.
    Keep,
    /// It says that this much was dropped.
    Set(u64),
    /// It says nothing: there is no probability to tell of.
    Erase,
}

impl Default for Sampler {
    fn default() -> Self {
        Self { parent_based: true, root: Root::On }
    }
}

impl Sampler {
    /// The names that `OTEL_TRACES_SAMPLER` may have, the default first.
    pub const NAMES: [&'static str; 6] = [
        "parentbased_always_on",
        "always_on",
        "always_off",
        "traceidratio",
        "parentbased_always_off",
        "parentbased_traceidratio",
    ];

    /// One of [`Sampler::NAMES`]. The ratio counts for the two that are named after it.
    pub fn named(name: &str, ratio: f64) -> Option<Self> {
        let root_name = name.strip_prefix("parentbased_").unwrap_or(name);
        let root = match root_name {
            "always_on" => Root::On,
            "always_off" => Root::Off,
            "traceidratio" => threshold(ratio).map_or(Root::Off, Root::Threshold),
            _ => return None,
        };
        Some(Self { parent_based: root_name.len() < name.len(), root })
    }

    /// Decides for a call of this trace. With a context, the trace is the caller's.
    pub fn decide(&self, incoming: &Incoming, trace_id: TraceId) -> Decision {
        if self.parent_based {
            match incoming {
                Incoming::Context(parent) if !parent.deferred => {
                    return Decision { sampled: parent.flags.is_sampled(), threshold: Threshold::Keep };
                }
                Incoming::Decision(sampled) => {
                    return Decision { sampled: *sampled, threshold: Threshold::Keep };
                }
                Incoming::Context(_) | Incoming::Nothing => {}
            }
        }
        let parent = incoming.context();
        match self.root {
            // A trace of ours needs no `th:0`, but somebody else's probability is not ours.
            Root::On => {
                let says_otherwise = parent.is_some_and(|parent| ot::has_threshold(&parent.tracestate));
                let threshold = if says_otherwise { Threshold::Set(0) } else { Threshold::Keep };
                Decision { sampled: true, threshold }
            }
            Root::Threshold(threshold) if randomness(parent, trace_id) >= threshold => {
                Decision { sampled: true, threshold: Threshold::Set(threshold) }
            }
            Root::Threshold(_) | Root::Off => Decision { sampled: false, threshold: Threshold::Erase },
        }
    }

    /// A new trace for what brings no context along.
    pub fn start(&self, rng: &mut impl Rng) -> Placement {
        let mut placement = propagation::start(rng);
        self.decide(&Incoming::Nothing, placement.trace_id).apply(&mut placement);
        placement
    }
}

impl Decision {
    /// Writes it into the placement.
    pub fn apply(self, placement: &mut Placement) {
        placement.flags = placement.flags.with_sampled(self.sampled);
        let threshold = match self.threshold {
            Threshold::Keep => return,
            Threshold::Set(threshold) => Some(threshold),
            Threshold::Erase => None,
        };
        placement.tracestate = ot::with_threshold(&Arc::clone(&placement.tracestate), threshold);
    }
}

/// An explicit value wins. Trace ids are presumed random: a caller of level 1 cannot say so.
fn randomness(parent: Option<&RemoteContext>, trace_id: TraceId) -> u64 {
    parent.and_then(|parent| ot::randomness(&parent.tracestate)).unwrap_or_else(|| {
        let [.., a, b, c, d, e, f, g] = trace_id.to_bytes();
        u64::from_be_bytes([0, a, b, c, d, e, f, g])
    })
}

/// 2^56 (1 - ratio), with four significant digits beyond its leading `f`s, so that `th` stays short and equal ratios give
/// equal thresholds in every SDK. `None` if nothing at all is to be sampled.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the ratio is between 0 and 1")]
fn threshold(ratio: f64) -> Option<u64> {
    if ratio.is_nan() || ratio < 1.0 / WHOLE as f64 {
        return None;
    }
    let exact = WHOLE - (ratio.min(1.0) * WHOLE as f64).round() as u64;
    // As many bits as the ratio begins with zeros, in whole digits.
    let leading = (WHOLE - exact).leading_zeros().saturating_sub(WHOLE.leading_zeros() + 1) / 4;
    let dropped = 4 * (DIGITS - (PRECISION + leading).min(DIGITS - 2));
    let rounded = (exact + (1 << (dropped - 1))) >> dropped << dropped;
    // Rounding up must not reject everything.
    Some(rounded.min(WHOLE - (1 << dropped)))
}

const WHOLE: u64 = 1 << 56;
const DIGITS: u32 = 14;
const PRECISION: u32 = 4;

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::trace::propagation::Propagators;

    fn incoming(flags: &str, state: &str) -> Incoming {
        let mut map = HeaderMap::new();
        let parent = format!("00-4bf92f3577b34da6a380000000000000-00f067aa0ba902b7-{flags}");
        map.insert("traceparent", parent.parse().unwrap());
        map.insert("tracestate", state.parse().unwrap());
        Propagators::default().extract(&map)
    }

    fn decided(sampler: &str, ratio: f64, incoming: &Incoming) -> (bool, String) {
        let mut placement = match incoming.context() {
            Some(context) => propagation::proceed(context, &mut rand::rng()),
            None => propagation::start(&mut rand::rng()),
        };
        let sampler = Sampler::named(sampler, ratio).unwrap();
        sampler.decide(incoming, placement.trace_id).apply(&mut placement);
        (placement.flags.is_sampled(), placement.tracestate.to_string())
    }

    #[test]
    fn thresholds_are_those_of_the_specification() {
        for (one_in, expected) in [
            (1.0, "0"),
            (2.0, "8"),
            (3.0, "aaab"),
            (4.0, "c"),
            (5.0, "cccd"),
            (8.0, "e"),
            (10.0, "e666"),
            (16.0, "f"),
            (100.0, "fd70a"),
            (1000.0, "ffbe77"),
            (10_000.0, "fff9724"),
            (100_000.0, "ffff583a"),
            (1_000_000.0, "ffffef39"),
        ] {
            let threshold = threshold(1.0 / one_in).unwrap();
            assert_eq!(
                &*ot::with_threshold(&Arc::default(), Some(threshold)),
                &format!("ot=th:{expected}"),
                "{one_in}"
            );
        }
        for never in [0.0, -1.0, f64::NAN, f64::MIN_POSITIVE, 1e-17] {
            assert_eq!(threshold(never), None, "{never}");
        }
        assert_eq!(threshold(7.0), Some(0));
        assert!(threshold(1.0 / WHOLE as f64).unwrap() < WHOLE);
        assert_eq!(threshold(1.0 - f64::EPSILON), Some(0));
    }

    #[test]
    fn a_callers_decision_holds_when_it_is_asked_for() {
        for name in ["parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"] {
            for (flags, sampled) in [("00", false), ("01", true), ("03", true)] {
                let state = "a=1, ot=th:c;rv:00000000000000";
                assert_eq!(decided(name, 0.5, &incoming(flags, state)), (sampled, state.to_owned()), "{name}");
            }
            assert!(decided(name, 0.0, &Incoming::Decision(true)).0);
            assert!(!decided(name, 1.0, &Incoming::Decision(false)).0);
        }
    }

    #[test]
    fn without_a_caller_or_with_one_that_defers_the_root_decides() {
        let Incoming::Context(mut deferring) = incoming("00", "a=1") else { panic!() };
        deferring.deferred = true;
        for prefix in ["", "parentbased_"] {
            let name = |root: &str| format!("{prefix}{root}");
            for incoming in [Incoming::Nothing, Incoming::Context(deferring.clone())] {
                let state = incoming.context().map_or_else(String::new, |context| context.tracestate.to_string());
                assert_eq!(decided(&name("always_on"), 1.0, &incoming), (true, state.clone()));
                assert_eq!(decided(&name("always_off"), 1.0, &incoming), (false, state.clone()));
                assert_eq!(decided(&name("traceidratio"), 0.0, &incoming), (false, state.clone()));
                let (sampled, with) = decided(&name("traceidratio"), 1.0, &incoming);
                assert!(sampled && with.starts_with("ot=th:0"), "{with}");
            }
        }
    }

    #[test]
    fn a_sampler_that_asks_nobody_corrects_what_was_said() {
        // The low 56 bits of the trace id are half of all.
        let half = incoming("00", "a=1,ot=th:f");
        assert_eq!(decided("traceidratio", 0.5, &half), (true, "ot=th:8,a=1".into()));
        assert_eq!(decided("traceidratio", 0.49, &incoming("01", "a=1,ot=th:0")), (false, "a=1".into()));
        assert_eq!(decided("always_on", 1.0, &half), (true, "ot=th:0,a=1".into()));
        assert_eq!(decided("always_off", 1.0, &half), (false, "a=1".into()));
        assert_eq!(decided("always_off", 1.0, &Incoming::Decision(true)), (false, String::new()));
    }

    #[test]
    fn explicit_randomness_wins_over_the_trace_id_and_stays() {
        let low = incoming("03", "ot=rv:7fffffffffffff");
        assert_eq!(decided("traceidratio", 0.5, &low), (false, "ot=rv:7fffffffffffff".into()));
        let high = incoming("03", "ot=rv:ffffffffffffff");
        assert_eq!(decided("traceidratio", 0.01, &high), (true, "ot=rv:ffffffffffffff;th:fd70a".into()));
    }

    #[test]
    fn what_a_small_ratio_keeps_a_greater_one_keeps_too() {
        let ratios = [0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 1.0];
        for _ in 0..1000 {
            let trace_id = propagation::start(&mut rand::rng()).trace_id;
            let kept = ratios.map(|ratio| {
                Sampler::named("traceidratio", ratio).unwrap().decide(&Incoming::Nothing, trace_id).sampled
            });
            assert!(kept.is_sorted(), "{kept:?}");
        }
    }

    #[test]
    fn a_new_trace_keeps_the_random_flag_whatever_is_decided() {
        let on = Sampler::default().start(&mut rand::rng());
        assert_eq!((on.flags.to_u8(), &*on.tracestate), (3, ""));
        let off = Sampler::named("always_off", 1.0).unwrap().start(&mut rand::rng());
        assert_eq!(off.flags.to_u8(), 2);
    }

    #[test]
    fn every_name_has_its_sampler_and_no_other_has_one() {
        assert_eq!(Sampler::named(Sampler::NAMES[0], 1.0), Some(Sampler::default()));
        assert!(Sampler::NAMES.iter().all(|name| Sampler::named(name, 0.5).is_some()));
        for unknown in ["", "jaeger_remote", "xray", "parentbased_jaeger_remote", "ratio"] {
            assert_eq!(Sampler::named(unknown, 1.0), None, "{unknown}");
        }
    }
}
