//! The section `genai` of the rules: what is asked of providers on the agent's behalf, what is kept out of content, what
//! tokens cost.

use super::{HostPattern, Matcher};
pub use crate::redaction::Redact;

/// What the section says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenAiRules {
    /// Who answers at a host, where its name does not tell.
    pub providers: Vec<ProviderRule>,
    /// Where usage is asked for when the client did not: the first that matches decides.
    pub ask_usage: Vec<Switch>,
    /// Where our context is written into MCP `_meta`: the first that matches decides.
    pub mcp_meta: Vec<Switch>,
    /// What is kept out of captured content, beside what is built in.
    pub redact: Vec<Redact>,
    /// What tokens cost: the first that matches.
    pub prices: Vec<Price>,
}

/// Who answers at a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderRule {
    /// Of the Host header or `:authority`.
    pub host: HostPattern,
    /// A value of `gen_ai.provider.name`.
    pub provider: String,
}

/// Something that is off unless it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// Which calls it is about.
    pub matcher: Matcher,
    /// Whether it is on.
    pub on: bool,
}

/// What a million tokens cost, in one currency for all.
#[derive(Clone, Debug, PartialEq)]
pub struct Price {
    /// Which provider; any if absent.
    pub provider: Option<String>,
    /// Which model of the answer, else of the request: a name, or what names begin with and `*`.
    pub model: String,
    /// Input that was neither read from nor written to a cache.
    pub input: f64,
    /// Output.
    pub output: f64,
    /// Input that was read from a cache; as other input if absent.
    pub cache_read: Option<f64>,
    /// Input that was written to a cache; as other input if absent.
    pub cache_write: Option<f64>,
}

impl Price {
    /// Whether it is the price of this provider's model.
    pub fn matches(&self, provider: Option<&str>, model: &str) -> bool {
        let known = self.provider.is_none() || self.provider.as_deref() == provider;
        known && self.model.strip_suffix('*').map_or(self.model == model, |prefix| model.starts_with(prefix))
    }

    /// Whether every model that `other` matches is matched by this one.
    pub fn covers(&self, other: &Self) -> bool {
        let provider = self.provider.is_none() || self.provider == other.provider;
        let model = match (self.model.strip_suffix('*'), other.model.strip_suffix('*')) {
            (Some(prefix), Some(narrower)) => narrower.starts_with(prefix),
            (Some(prefix), None) => other.model.starts_with(prefix),
            (None, Some(_)) => false,
            (None, None) => self.model == other.model,
        };
        provider && model
    }
}
