//! `OTEL_PROPAGATORS` and `OTEL_TRACES_SAMPLER`.

use super::{Reader, parse};
use crate::trace::propagation::Propagators;
use crate::trace::sampler::Sampler;

impl Reader {
    /// An unknown name is left out; the others hold.
    pub(super) fn propagators(&mut self) -> Propagators {
        let Some(text) = self.value(PROPAGATORS).map(str::to_ascii_lowercase) else {
            self.setting(PROPAGATORS, "tracecontext,baggage", false);
            return Propagators::default();
        };
        let mut propagators = Propagators::NONE;
        let mut known = Vec::new();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if propagators.add(name) {
                known.push(name);
            } else {
                let accepted = "tracecontext, baggage, b3, b3multi, jaeger, xray or none";
                self.warnings.push(format!("{PROPAGATORS}: {name:?} is not {accepted}; it is left out"));
            }
        }
        self.setting(PROPAGATORS, known.join(","), true);
        propagators
    }

    /// The argument counts only for a sampler that takes one: others' arguments are none of ours.
    pub(super) fn sampler(&mut self) -> Sampler {
        let name = self.otel(&["OTEL_TRACES_SAMPLER"], Sampler::NAMES[0], &Sampler::NAMES.join(", "), |text| {
            Sampler::NAMES.into_iter().find(|name| name.eq_ignore_ascii_case(text))
        });
        let ratio = if name.ends_with("traceidratio") {
            self.otel(&["OTEL_TRACES_SAMPLER_ARG"], 1.0, "a ratio from 0 to 1", |text| {
                parse::<f64>(text).filter(|ratio| (0.0..=1.0).contains(ratio))
            })
        } else {
            1.0
        };
        Sampler::named(name, ratio).unwrap_or_default()
    }
}

const PROPAGATORS: &str = "OTEL_PROPAGATORS";

#[cfg(test)]
mod tests {
    use crate::config::assembly::{Assembled, assemble};
    use crate::trace::propagation::Propagators;
    use crate::trace::sampler::Sampler;

    fn with(pairs: &[(&str, &str)]) -> Assembled {
        let variables = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assemble(variables, |_| Err(std::io::ErrorKind::NotFound.into())).unwrap()
    }

    #[test]
    fn propagators_are_those_that_are_named_and_known() {
        let all = Propagators { tracecontext: true, b3: true, b3multi: true, jaeger: true, xray: true };
        for (text, expected, warnings) in [
            ("", Propagators::default(), 0),
            ("tracecontext,baggage", Propagators::default(), 0),
            ("none", Propagators::NONE, 0),
            ("baggage", Propagators::NONE, 0),
            ("tracecontext, b3 ,b3multi,jaeger,XRAY,baggage,", all, 0),
            ("b3,ottrace,b4", Propagators { b3: true, ..Propagators::NONE }, 2),
        ] {
            let assembled = with(&[("OTEL_PROPAGATORS", text)]);
            assert_eq!(assembled.config.propagators, expected, "{text}");
            assert_eq!(assembled.warnings.len(), warnings, "{text}");
        }
    }

    #[test]
    fn a_sampler_is_taken_by_name_and_ratio_and_anything_else_warns() {
        let default = Sampler::default();
        let half = Sampler::named("traceidratio", 0.5).unwrap();
        let whole = Sampler::named("traceidratio", 1.0).unwrap();
        for (name, argument, expected, warnings) in [
            ("", "", default, 0),
            ("", "0.5", default, 0),
            ("always_off", "", Sampler::named("always_off", 1.0).unwrap(), 0),
            ("TraceIdRatio", "0.5", half, 0),
            ("traceidratio", "", whole, 0),
            ("traceidratio", "1.5", whole, 1),
            ("traceidratio", "-0.1", whole, 1),
            ("traceidratio", "NaN", whole, 1),
            ("traceidratio", "half", whole, 1),
            ("parentbased_traceidratio", "0.5", Sampler::named("parentbased_traceidratio", 0.5).unwrap(), 0),
            ("jaeger_remote", "endpoint=http://localhost:14250", default, 1),
            ("xray", "", default, 1),
        ] {
            let assembled = with(&[("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", argument)]);
            assert_eq!(assembled.config.sampler, expected, "{name} {argument}");
            assert_eq!(assembled.warnings.len(), warnings, "{name} {argument}: {:?}", assembled.warnings);
        }
    }
}
