//! `SIDETRACE_GENAI_*`, and whether messages are captured.

use std::fmt;

use super::{Reader, parse};
use crate::config::{Capture, GenAi, MetricNames};

impl Reader {
    /// What is written of LLM and MCP calls.
    pub(super) fn genai(&mut self) -> GenAi {
        let metrics = self.own("SIDETRACE_GENAI_METRICS", MetricNames::Old, "old, new or both", |text| {
            [MetricNames::Old, MetricNames::New, MetricNames::Both].into_iter().find(|names| names.to_string() == text)
        });
        let accepted = "NO_CONTENT, SPAN_ONLY, EVENT_ONLY or SPAN_AND_EVENT";
        let capture = self.otel(&[CAPTURE], Capture::NoContent, accepted, capture);
        let default = GenAi::default().max_content;
        let accepted = "a number of bytes from 256 to 1048576";
        let max_content = self.own("SIDETRACE_CONTENT_MAX_BYTES", default, accepted, |text| {
            parse(text).filter(|bytes| (256..=1 << 20).contains(bytes))
        });
        GenAi { capture, max_content, metrics }
    }
}

/// `true` and `false` are what older instrumentations take (semconv.md 1.4): they say whether, not where, so that `true` is
/// everywhere.
fn capture(text: &str) -> Option<Capture> {
    match text.to_ascii_uppercase().as_str() {
        "NO_CONTENT" | "FALSE" => Some(Capture::NoContent),
        "SPAN_ONLY" => Some(Capture::SpanOnly),
        "EVENT_ONLY" => Some(Capture::EventOnly),
        "SPAN_AND_EVENT" | "TRUE" => Some(Capture::SpanAndEvent),
        _ => None,
    }
}

impl fmt::Display for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Capture::NoContent => "NO_CONTENT",
            Capture::SpanOnly => "SPAN_ONLY",
            Capture::EventOnly => "EVENT_ONLY",
            Capture::SpanAndEvent => "SPAN_AND_EVENT",
        })
    }
}

impl fmt::Display for MetricNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MetricNames::Old => "old",
            MetricNames::New => "new",
            MetricNames::Both => "both",
        })
    }
}

pub(super) const CAPTURE: &str = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::assembly::{Assembled, Problems, assemble};

    fn with(name: &str, value: &str) -> Result<Assembled, Problems> {
        assemble([(name.to_owned(), value.to_owned())].into(), |_| Err(std::io::ErrorKind::NotFound.into()))
    }

    #[test]
    fn a_generation_of_metric_names_is_chosen_by_its_name() {
        let chosen = |text| with("SIDETRACE_GENAI_METRICS", text).map(|found| found.config.genai.metrics);
        assert_eq!(chosen(""), Ok(MetricNames::Old));
        assert_eq!((chosen("new"), chosen("both")), (Ok(MetricNames::New), Ok(MetricNames::Both)));
        assert!(chosen("newest").unwrap_err().to_string().contains("old, new or both"));
    }

    #[test]
    fn messages_are_captured_only_where_that_is_asked_for_by_name() {
        for (text, expected, warnings) in [
            ("", Capture::NoContent, 0),
            ("NO_CONTENT", Capture::NoContent, 0),
            ("SPAN_ONLY", Capture::SpanOnly, 0),
            ("event_only", Capture::EventOnly, 1),
            ("Span_And_Event", Capture::SpanAndEvent, 1),
            ("true", Capture::SpanAndEvent, 1),
            ("True", Capture::SpanAndEvent, 1),
            ("false", Capture::NoContent, 0),
            ("1", Capture::NoContent, 1),
            ("SPAN", Capture::NoContent, 1),
        ] {
            let assembled = with(CAPTURE, text).unwrap();
            assert_eq!(assembled.config.genai.capture, expected, "{text}");
            assert_eq!(assembled.warnings.len(), warnings, "{text}");
        }
    }

    #[test]
    fn content_has_a_bound_that_may_be_set_within_bounds() {
        let bound = |text| with("SIDETRACE_CONTENT_MAX_BYTES", text).map(|found| found.config.genai.max_content);
        assert_eq!((bound(""), bound("256"), bound("1048576")), (Ok(16384), Ok(256), Ok(1 << 20)));
        for text in ["255", "1048577", "16Ki", "-1", "all"] {
            assert!(bound(text).unwrap_err().to_string().contains("from 256 to 1048576"), "{text}");
        }
    }
}
