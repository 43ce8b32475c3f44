//! The rules file: YAML text -> [`Rules`], pure. A new section is a line in [`read`], one in [`show`], and its function.

mod genai;
mod patterns;
mod reader;
mod tls;
mod tree;
mod workloads;

use std::fmt::Display;

use self::patterns::{action, boolean, cidr, context, direction, header, host, method, parameter, path, port};
use self::reader::{Fields, Findings, Item};
use crate::config::rules::{Matcher, PropagationRule, RecordRule, Rules};

/// The rules that a text sets, or every problem with it.
pub(super) fn parse(text: &str) -> Result<Rules, Vec<String>> {
    let Some(root) = tree::read(text).map_err(|problem| vec![problem])? else { return Ok(Rules::default()) };
    let mut findings = Findings::default();
    let rules = read(Item::root(&root), &mut findings);
    let problems = findings.into_problems();
    if problems.is_empty() { Ok(rules) } else { Err(problems) }
}

fn read(root: Item<'_>, findings: &mut Findings) -> Rules {
    let mut rules = Rules::default();
    let Some(mut sections) = root.fields(findings) else { return rules };
    if let Some(section) = sections.take("record") {
        let found = matched(&section, findings, call, |fields, findings| {
            required(fields, findings, "action", action, "record, count or ignore")
        });
        rules.record = found.into_iter().map(|(matcher, action)| RecordRule { matcher, action }).collect();
    }
    if let Some(mut fields) = sections.take("headers").and_then(|section| section.fields(findings)) {
        rules.request_headers = fields.values("request", findings, header);
        rules.response_headers = fields.values("response", findings, header);
        fields.close(findings);
    }
    rules.query = sections.values("query", findings, parameter);
    if let Some(section) = sections.take("propagation") {
        let found = matched(&section, findings, call, |fields, findings| match fields.take("inject") {
            Some(item) => item.value(findings, boolean),
            None => Some(true),
        });
        rules.propagation = found.into_iter().map(|(matcher, inject)| PropagationRule { matcher, inject }).collect();
    }
    if let Some(mut fields) = sections.take("trust").and_then(|section| section.fields(findings)) {
        rules.trusted_hosts = fields.values("hosts", findings, host);
        rules.trusted_addresses = fields.values("addresses", findings, cidr);
        fields.close(findings);
    }
    if let Some(section) = sections.take("tls") {
        tls::read(section, findings, &mut rules);
    }
    if let Some(section) = sections.take("context") {
        rules.context = section.value(findings, context).unwrap_or_default();
    }
    if let Some(mut fields) = sections.take("probes").and_then(|section| section.fields(findings)) {
        rules.probe_paths = fields.values("paths", findings, path);
        fields.close(findings);
    }
    if let Some(section) = sections.take("genai") {
        genai::read(section, findings, &mut rules.genai);
    }
    if let Some(section) = sections.take("workloads") {
        rules.workloads = workloads::read(&section, findings);
    }
    sections.close(findings);
    rules
}

/// A list of rules of which the first that matches decides. One behind a wider one contradicts it, or does nothing: refused.
fn matched<T>(
    section: &Item<'_>,
    findings: &mut Findings,
    conditions: impl Fn(&mut Fields<'_>, &mut Findings) -> Matcher,
    rest: impl Fn(&mut Fields<'_>, &mut Findings) -> Option<T>,
) -> Vec<(Matcher, T)> {
    let mut sound: Vec<(usize, (Matcher, T))> = Vec::new();
    for (index, item) in section.list(findings).into_iter().enumerate() {
        let before = findings.count();
        let Some(mut fields) = item.fields(findings) else { continue };
        let matcher = conditions(&mut fields, findings);
        let rest = rest(&mut fields, findings);
        let item = fields.close(findings);
        let Some(rest) = rest.filter(|_| findings.count() == before) else { continue };
        match sound.iter().find(|(_, (earlier, _))| earlier.covers(&matcher)) {
            Some((earlier, _)) => findings.add(
                &item,
                format_args!("is never reached: [{earlier}] matches all of it; put the narrower rule first"),
            ),
            None => sound.push((index, (matcher, rest))),
        }
    }
    sound.into_iter().map(|(_, rule)| rule).collect()
}

/// The value of a key that has to be there.
fn required<T, E: Display>(
    fields: &mut Fields<'_>,
    findings: &mut Findings,
    name: &'static str,
    parse: impl FnOnce(&str) -> Result<T, E>,
    accepted: &str,
) -> Option<T> {
    let item = fields.take(name);
    if item.is_none() {
        findings.add(&fields.item, format_args!("the key {name} is missing; accepted: {accepted}"));
    }
    item?.value(findings, parse)
}

/// All that is known of a call.
fn call(fields: &mut Fields<'_>, findings: &mut Findings) -> Matcher {
    Matcher {
        host: fields.take("host").and_then(|item| item.value(findings, host)),
        address: fields.take("address").and_then(|item| item.value(findings, cidr)),
        port: fields.take("port").and_then(|item| item.value(findings, port)),
        path: fields.take("path").and_then(|item| item.value(findings, path)),
        method: fields.take("method").and_then(|item| item.value(findings, method)),
        direction: fields.take("direction").and_then(|item| item.value(findings, direction)),
    }
}

/// What is in force, as `sidetrace config` prints it: name, value, and whether it is the file's.
pub(super) fn show(rules: &Rules) -> Vec<(String, String, bool)> {
    fn list<T: ToString>(values: &[T]) -> String {
        values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
    let mut lines = Vec::new();
    let mut line = |name: &str, value: String, set: bool| lines.push((name.to_owned(), value, set));
    for (index, rule) in rules.record.iter().enumerate() {
        line(&format!("record[{index}]"), format!("{} -> {}", rule.matcher, rule.action), true);
    }
    line("record", "everything else -> record".to_owned(), false);
    line("headers.request", list(&rules.request_headers), !rules.request_headers.is_empty());
    line("headers.response", list(&rules.response_headers), !rules.response_headers.is_empty());
    line("query", list(&rules.query), !rules.query.is_empty());
    for (index, rule) in rules.propagation.iter().enumerate() {
        line(&format!("propagation[{index}]"), format!("{} -> inject={}", rule.matcher, rule.inject), true);
    }
    line("propagation", "everything else -> inject=true".to_owned(), false);
    line("trust.hosts", list(&rules.trusted_hosts), !rules.trusted_hosts.is_empty());
    line("trust.addresses", list(&rules.trusted_addresses), !rules.trusted_addresses.is_empty());
    tls::show(rules, &mut line);
    line("context", rules.context.to_string(), rules.context != Default::default());
    line("probes.paths", list(&rules.probe_paths), !rules.probe_paths.is_empty());
    genai::show(&rules.genai, &mut line);
    workloads::show(&rules.workloads, &mut line);
    lines
}

#[cfg(test)]
mod tests;
