//! The observed workload: `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, and what the downward API says.
//!
//! Source: semantic conventions, `docs/non-normative/k8s-attributes.md`. Well-known labels are not used without being asked.

use std::collections::BTreeMap;

use opentelemetry::KeyValue;
use percent_encoding::percent_decode_str;

use super::{Reader, Shown};
use crate::trace::semconv;

impl Reader {
    /// The observed workload: what the user says, then what Kubernetes says, then what is left.
    pub(super) fn resource(&mut self, read_file: impl Fn(&str) -> Option<String>) -> Vec<KeyValue> {
        let mut attributes = BTreeMap::new();
        for (variable, attribute) in DOWNWARD {
            let value = self.own(variable, Shown(None), "text", |text| Some(Shown(Some(text.to_owned()))));
            if let Some(value) = value.0 {
                attributes.insert(attribute.to_owned(), value);
            }
        }
        let folder = self.own("SIDETRACE_PODINFO", "/etc/podinfo".to_owned(), "a folder", |text| Some(text.to_owned()));
        let annotations = read_file(&format!("{folder}/annotations")).unwrap_or_default();
        for (name, value) in downward_lines(&annotations) {
            if let Some(attribute) = name.strip_prefix("resource.opentelemetry.io/") {
                attributes.insert(attribute.to_owned(), value);
            }
        }
        let pod: Option<Vec<_>> = [semconv::K8S_NAMESPACE_NAME, semconv::K8S_POD_NAME, semconv::K8S_CONTAINER_NAME]
            .into_iter()
            .map(|name| attributes.get(name).cloned())
            .collect();
        if let Some(parts) = pod {
            attributes.entry(semconv::SERVICE_INSTANCE_ID.to_owned()).or_insert(parts.join("."));
        }
        if let Some(namespace) = attributes.get(semconv::K8S_NAMESPACE_NAME).cloned() {
            attributes.entry(semconv::SERVICE_NAMESPACE.to_owned()).or_insert(namespace);
        }
        let mut given = BTreeMap::new();
        let text = self.value("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default().to_owned();
        for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
            match pair.split_once('=').and_then(|(key, value)| {
                let key = key.trim();
                (!key.is_empty()).then_some(())?;
                Some((key.to_owned(), percent_decode_str(value.trim()).decode_utf8().ok()?.into_owned()))
            }) {
                Some((key, value)) => _ = given.insert(key, value),
                None => {
                    // "In case of any error … the entire environment variable value SHOULD be discarded".
                    self.warnings
                        .push(format!("OTEL_RESOURCE_ATTRIBUTES: {pair:?} is not key=value; all are left out"));
                    given.clear();
                    break;
                }
            }
        }
        self.setting("OTEL_RESOURCE_ATTRIBUTES", &text, !text.is_empty());
        attributes.extend(given);
        let fallback = attributes
            .get(semconv::SERVICE_NAME)
            .or_else(|| attributes.get(semconv::K8S_POD_NAME))
            .or_else(|| attributes.get(semconv::K8S_CONTAINER_NAME));
        let fallback = fallback.cloned().unwrap_or_else(|| "unknown_service".to_owned());
        let name = self.otel(&["OTEL_SERVICE_NAME"], fallback, "text", |text| Some(text.to_owned()));
        attributes.insert(semconv::SERVICE_NAME.to_owned(), name);
        attributes.into_iter().map(|(key, value)| KeyValue::new(key, value)).collect()
    }
}

/// `key="escaped value"` lines, as the kubelet writes labels and annotations into a volume.
fn downward_lines(text: &str) -> impl Iterator<Item = (&str, String)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once('=')?;
        let value = value.trim().strip_prefix('"')?.strip_suffix('"')?;
        Some((key, unescape(value)))
    })
}

/// Go's `%q`, as far as it is needed.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\\' => match characters.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some(other) => other,
                None => '\\',
            },
            other => other,
        });
    }
    plain
}

const DOWNWARD: [(&str, &str); 5] = [
    ("SIDETRACE_POD_NAME", semconv::K8S_POD_NAME),
    ("SIDETRACE_POD_UID", semconv::K8S_POD_UID),
    ("SIDETRACE_POD_NAMESPACE", semconv::K8S_NAMESPACE_NAME),
    ("SIDETRACE_NODE_NAME", semconv::K8S_NODE_NAME),
    ("SIDETRACE_CONTAINER_NAME", semconv::K8S_CONTAINER_NAME),
];
