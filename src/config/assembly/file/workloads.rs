//! The section `workloads`: which calls of a pod are whose, and what their resource says.

use std::sync::Arc;

use opentelemetry::KeyValue;

use super::patterns::{attribute_name, attribute_value, port, uid};
use super::reader::{Fields, Findings, Item};
use super::required;
use crate::config::rules::WorkloadRule;
use crate::trace::{Workload, semconv};

/// The first that matches counts, of uids and of ports on their own: what an earlier one has does nothing.
pub(super) fn read(section: &Item<'_>, findings: &mut Findings) -> Vec<WorkloadRule> {
    let mut sound: Vec<(usize, WorkloadRule)> = Vec::new();
    for (index, item) in section.list(findings).into_iter().enumerate() {
        let before = findings.count();
        let Some(mut fields) = item.fields(findings) else { continue };
        let uid = fields.take("uid").and_then(|item| item.value(findings, uid));
        let port = fields.take("port").and_then(|item| item.value(findings, port));
        let accepted = "the service.name of its calls";
        let name = required(&mut fields, findings, "name", attribute_value, accepted);
        let container = fields.take("container").and_then(|item| item.value(findings, attribute_value));
        let attributes = resource(&mut fields, findings);
        let item = fields.close(findings);
        if findings.count() == before && uid.is_none() && port.is_none() {
            findings.add(&item, "says of no call that it is its own; accepted: uid, port or both");
        }
        let earlier = |taken: &dyn Fn(&WorkloadRule) -> bool| {
            sound.iter().find(|(_, rule)| taken(rule)).map(|(earlier, _)| *earlier)
        };
        if let (Some(uid), Some(earlier)) = (uid, earlier(&|rule| rule.uid == uid)) {
            findings.add(&item, format_args!("uid {uid} is workloads[{earlier}] already"));
        }
        let covered = |rule: &WorkloadRule| {
            port.zip(rule.port).is_some_and(|(port, other)| other.contains(port.first) && other.contains(port.last))
        };
        if let (Some(port), Some(earlier)) = (port, earlier(&covered)) {
            findings.add(&item, format_args!("port {port} is workloads[{earlier}] already"));
        }
        let Some(name) = name.filter(|_| findings.count() == before) else { continue };
        let workload = Workload { name: name.into(), container: container.map(String::into_boxed_str), attributes };
        sound.push((index, WorkloadRule { uid, port, workload: Arc::new(workload) }));
    }
    sound.into_iter().map(|(_, rule)| rule).collect()
}

fn resource(fields: &mut Fields<'_>, findings: &mut Findings) -> Vec<KeyValue> {
    let Some(section) = fields.take("resource") else { return Vec::new() };
    let mut attributes = Vec::new();
    for (key, item) in section.entries(findings) {
        let instead = [(semconv::SERVICE_NAME, "name"), (semconv::K8S_CONTAINER_NAME, "container")];
        if let Some((_, own)) = instead.iter().find(|(name, _)| *name == key) {
            findings.add(&item, format_args!("is what the key {own} of the workload says"));
        } else if let Err(why) = attribute_name(key) {
            findings.add(&item, format_args!("the key {why}"));
        } else if let Some(value) = item.value(findings, attribute_value) {
            attributes.push(KeyValue::new(key.to_owned(), value));
        }
    }
    attributes
}

/// As [`super::show`] does.
pub(super) fn show(rules: &[WorkloadRule], mut line: impl FnMut(&str, String, bool)) {
    for (index, rule) in rules.iter().enumerate() {
        line(&format!("workloads[{index}]"), rule.to_string(), true);
    }
    line("workloads", "everything else -> the pod".to_owned(), false);
}
