//! The section `genai`: providers by host, what is asked for on the agent's behalf, redaction, prices.

use super::patterns::{boolean, host, model, provider, tokens_price};
use super::reader::{Fields, Findings, Item};
use super::{call, matched, required};
use crate::config::rules::{GenAiRules, Matcher, Price, ProviderRule, Redact, Switch};
use crate::redaction::{Path, Pattern, Redaction};

pub(super) fn read(section: Item<'_>, findings: &mut Findings, rules: &mut GenAiRules) {
    let Some(mut fields) = section.fields(findings) else { return };
    if let Some(section) = fields.take("providers") {
        let found = matched(&section, findings, named, |fields, findings| {
            required(fields, findings, "provider", provider, "a value of gen_ai.provider.name")
        });
        let rule = |(matcher, provider): (Matcher, String)| Some(ProviderRule { host: matcher.host?, provider });
        rules.providers = found.into_iter().filter_map(rule).collect();
    }
    rules.ask_usage = switches(fields.take("ask_usage"), findings, "ask");
    rules.mcp_meta = switches(fields.take("mcp_meta"), findings, "write");
    if let Some(section) = fields.take("redact") {
        rules.redact = redact(&section, findings);
    }
    if let Some(section) = fields.take("prices") {
        rules.prices = prices(&section, findings);
    }
    fields.close(findings);
}

/// A rule that is there means yes, if it says nothing.
fn switches(section: Option<Item<'_>>, findings: &mut Findings, key: &'static str) -> Vec<Switch> {
    let Some(section) = section else { return Vec::new() };
    let found = matched(&section, findings, call, |fields, findings| match fields.take(key) {
        Some(item) => item.value(findings, boolean),
        None => Some(true),
    });
    found.into_iter().map(|(matcher, on)| Switch { matcher, on }).collect()
}

fn named(fields: &mut Fields<'_>, findings: &mut Findings) -> Matcher {
    let host = required(fields, findings, "host", host, "a host name, or \"*.name\" for the names below it");
    Matcher { host, ..Matcher::default() }
}

fn redact(section: &Item<'_>, findings: &mut Findings) -> Vec<Redact> {
    let items = section.list(findings);
    if items.len() > Redaction::MAX_RULES {
        findings.add(section, format_args!("{} entries; accepted: up to {}", items.len(), Redaction::MAX_RULES));
        return Vec::new();
    }
    let mut rules = Vec::new();
    for item in items {
        let Some(mut fields) = item.fields(findings) else { continue };
        let (pattern, replace, path) = (fields.take("pattern"), fields.take("replace"), fields.take("path"));
        match (pattern, path) {
            (Some(pattern), None) => {
                let pattern = pattern.value(findings, |text| Pattern::new(text).map_err(refused));
                let replace = match replace {
                    Some(item) => item.value(findings, replacement),
                    None => Some("[REDACTED:custom]".to_owned()),
                };
                rules.extend(pattern.zip(replace).map(|(pattern, replace)| Redact::Pattern { pattern, replace }));
            }
            (None, Some(path)) => {
                if let Some(item) = &replace {
                    findings.add(item, "is for patterns: the value at a path is replaced by \"[REDACTED]\"");
                }
                rules.extend(path.value(findings, Path::new).map(Redact::Path));
            }
            (Some(_), Some(_)) => findings.add(&fields.item, "has a pattern and a path; accepted: one of them"),
            (None, None) => findings.add(&fields.item, "has neither pattern nor path; accepted: one of them"),
        }
        fields.close(findings);
    }
    rules
}

fn refused(why: String) -> String {
    format!("is not a regular expression that is accepted: {why}")
}

fn replacement(text: &str) -> Result<String, &'static str> {
    if text.len() <= 64 && !text.contains(char::is_control) {
        Ok(text.to_owned())
    } else {
        Err("is not a text of up to 64 bytes on one line")
    }
}

/// The first that matches counts: one behind a wider one does nothing.
fn prices(section: &Item<'_>, findings: &mut Findings) -> Vec<Price> {
    let mut sound: Vec<(usize, Price)> = Vec::new();
    for (index, item) in section.list(findings).into_iter().enumerate() {
        let before = findings.count();
        let Some(mut fields) = item.fields(findings) else { continue };
        let per_million = "what a million tokens cost, such as 2.5";
        let provider = fields.take("provider").and_then(|item| item.value(findings, provider));
        let model =
            required(&mut fields, findings, "model", model, "a model's name, or what names begin with and a star");
        let input = required(&mut fields, findings, "input", tokens_price, per_million);
        let output = required(&mut fields, findings, "output", tokens_price, per_million);
        let cache_read = fields.take("cache_read").and_then(|item| item.value(findings, tokens_price));
        let cache_write = fields.take("cache_write").and_then(|item| item.value(findings, tokens_price));
        let item = fields.close(findings);
        let whole = model.zip(input.zip(output)).filter(|_| findings.count() == before);
        let Some((model, (input, output))) = whole else { continue };
        let price = Price { provider, model, input, output, cache_read, cache_write };
        match sound.iter().find(|(_, earlier)| earlier.covers(&price)) {
            Some((earlier, _)) => findings.add(
                &item,
                format_args!("is never reached: [{earlier}] matches all of it; put the narrower price first"),
            ),
            None => sound.push((index, price)),
        }
    }
    sound.into_iter().map(|(_, price)| price).collect()
}

/// As [`super::show`] does.
pub(super) fn show(rules: &GenAiRules, mut line: impl FnMut(&str, String, bool)) {
    for (index, rule) in rules.providers.iter().enumerate() {
        line(&format!("genai.providers[{index}]"), format!("host={} -> {}", rule.host, rule.provider), true);
    }
    line("genai.providers", "everything else -> by host and format".to_owned(), false);
    for (name, key, switches) in [("ask_usage", "ask", &rules.ask_usage), ("mcp_meta", "write", &rules.mcp_meta)] {
        for (index, rule) in switches.iter().enumerate() {
            line(&format!("genai.{name}[{index}]"), format!("{} -> {key}={}", rule.matcher, rule.on), true);
        }
        line(&format!("genai.{name}"), format!("everything else -> {key}=false"), false);
    }
    for (index, rule) in rules.redact.iter().enumerate() {
        let value = match rule {
            Redact::Pattern { pattern, replace } => format!("{:?} -> {replace}", pattern.as_str()),
            Redact::Path(path) => format!("{} -> [REDACTED]", path.as_str()),
        };
        line(&format!("genai.redact[{index}]"), value, true);
    }
    line("genai.redact", "built in: credentials, e-mail, cards, telephones, private keys".to_owned(), false);
    for (index, price) in rules.prices.iter().enumerate() {
        let provider = price.provider.as_ref().map(|provider| format!("provider={provider} ")).unwrap_or_default();
        let cached = |name: &str, price: Option<f64>| price.map(|price| format!(" {name}={price}")).unwrap_or_default();
        let value = format!(
            "{provider}model={} -> input={} output={}{}{}",
            price.model,
            price.input,
            price.output,
            cached("cache_read", price.cache_read),
            cached("cache_write", price.cache_write)
        );
        line(&format!("genai.prices[{index}]"), value, true);
    }
    line("genai.prices", "everything else -> unknown".to_owned(), false);
}
