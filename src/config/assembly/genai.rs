//! `SIDETRACE_GENAI_*`.

use std::fmt;

use super::Reader;
use crate::config::{GenAi, MetricNames};

impl Reader {
    /// What is written of LLM and MCP calls.
    pub(super) fn genai(&mut self) -> GenAi {
        let metrics = self.own("SIDETRACE_GENAI_METRICS", MetricNames::Old, "old, new or both", |text| {
            [MetricNames::Old, MetricNames::New, MetricNames::Both].into_iter().find(|names| names.to_string() == text)
        });
        GenAi { metrics, ..GenAi::default() }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::assembly::assemble;

    #[test]
    fn a_generation_of_metric_names_is_chosen_by_its_name() {
        let chosen = |text: &str| {
            let variables = [("SIDETRACE_GENAI_METRICS".to_owned(), text.to_owned())].into();
            assemble(variables, |_| Err(std::io::ErrorKind::NotFound.into())).map(|found| found.config.genai.metrics)
        };
        assert_eq!(chosen(""), Ok(MetricNames::Old));
        assert_eq!((chosen("new"), chosen("both")), (Ok(MetricNames::New), Ok(MetricNames::Both)));
        assert!(chosen("newest").unwrap_err().to_string().contains("old, new or both"));
    }
}
