//! The section `tls`: which connections are intercepted, whom we trust for some servers, and who we are to them.

use std::path::Path;

use super::patterns::{boolean, cidr, file, host, port};
use super::reader::{Fields, Findings, Item};
use super::{matched, required};
use crate::config::assembly::ABSOLUTE;
use crate::config::rules::{ClientCertificateRule, InterceptRule, Matcher, RootsRule, Rules};

pub(super) fn read(section: Item<'_>, findings: &mut Findings, rules: &mut Rules) {
    let Some(mut fields) = section.fields(findings) else { return };
    if let Some(section) = fields.take("intercept") {
        let found = matched(&section, findings, connection, |fields, findings| {
            required(fields, findings, "intercept", boolean, "true or false")
        });
        rules.intercept = found.into_iter().map(|(matcher, intercept)| InterceptRule { matcher, intercept }).collect();
    }
    if let Some(section) = fields.take("roots") {
        rules.roots = roots(&section, findings);
    }
    if let Some(section) = fields.take("client_certificates") {
        let found = matched(&section, findings, server, |fields, findings| {
            let certificate = required(fields, findings, "certificate", file, ABSOLUTE);
            let key = required(fields, findings, "key", file, ABSOLUTE);
            certificate.zip(key)
        });
        let rule = |(matcher, (certificate, key))| ClientCertificateRule { matcher, certificate, key };
        rules.client_certificates = found.into_iter().map(rule).collect();
    }
    fields.close(findings);
}

/// All that match count: the order does not matter, and only the same file for the same servers does nothing.
fn roots(section: &Item<'_>, findings: &mut Findings) -> Vec<RootsRule> {
    let mut sound: Vec<(usize, RootsRule)> = Vec::new();
    for (index, item) in section.list(findings).into_iter().enumerate() {
        let before = findings.count();
        let Some(mut fields) = item.fields(findings) else { continue };
        let file = required(&mut fields, findings, "file", file, ABSOLUTE);
        let matcher = server(&mut fields, findings);
        let item = fields.close(findings);
        let Some(file) = file.filter(|_| findings.count() == before) else { continue };
        let same =
            |rule: &RootsRule| rule.file == file && (rule.matcher.covers(&matcher) || matcher.covers(&rule.matcher));
        match sound.iter().find(|(_, earlier)| same(earlier)) {
            Some((earlier, _)) => findings.add(
                &item,
                format_args!("has the file of [{earlier}], and one matches all of the other; keep the wider"),
            ),
            None => sound.push((index, RootsRule { matcher, file })),
        }
    }
    sound.into_iter().map(|(_, rule)| rule).collect()
}

/// What is known of a connection before it is read.
fn connection(fields: &mut Fields<'_>, findings: &mut Findings) -> Matcher {
    let matcher = name_and_address(fields, findings);
    Matcher { port: fields.take("port").and_then(|item| item.value(findings, port)), ..matcher }
}

/// Whom we trust, and to whom we show who we are, is never said of every server by leaving something out.
fn server(fields: &mut Fields<'_>, findings: &mut Findings) -> Matcher {
    let before = findings.count();
    let matcher = name_and_address(fields, findings);
    if findings.count() == before && matcher == Matcher::default() {
        findings.add(&fields.item, "names no server; accepted: host, address or both");
    }
    matcher
}

fn name_and_address(fields: &mut Fields<'_>, findings: &mut Findings) -> Matcher {
    Matcher {
        host: fields.take("host").and_then(|item| item.value(findings, host)),
        address: fields.take("address").and_then(|item| item.value(findings, cidr)),
        ..Matcher::default()
    }
}

/// As [`super::show`] does.
pub(super) fn show(rules: &Rules, mut line: impl FnMut(&str, String, bool)) {
    let shown = |path: &Path| path.display().to_string();
    for (index, rule) in rules.intercept.iter().enumerate() {
        line(&format!("tls.intercept[{index}]"), format!("{} -> intercept={}", rule.matcher, rule.intercept), true);
    }
    line("tls.intercept", "everything else -> SIDETRACE_INTERCEPT".to_owned(), false);
    for (index, rule) in rules.roots.iter().enumerate() {
        line(&format!("tls.roots[{index}]"), format!("{} -> {}", rule.matcher, shown(&rule.file)), true);
    }
    line("tls.roots", "every server -> the system's and SIDETRACE_EXTRA_ROOTS".to_owned(), false);
    for (index, rule) in rules.client_certificates.iter().enumerate() {
        let (certificate, key) = (shown(&rule.certificate), shown(&rule.key));
        let value = format!("{} -> certificate={certificate} key={key}", rule.matcher);
        line(&format!("tls.client_certificates[{index}]"), value, true);
    }
    line("tls.client_certificates", "everything else -> none".to_owned(), false);
}
