//! The observed workload, as every request names it.
//!
//! Source: semantic conventions, `docs/resource/README.md` (service), `docs/non-normative/k8s-attributes.md`.

use std::borrow::Cow;
use std::sync::Arc;

use opentelemetry::{KeyValue, Value};

use super::field;
use super::wire::put_attribute;
use crate::trace::{Workload, semconv};

/// The pod's resource, encoded once, and what the workloads of the pod have in common.
#[derive(Clone, Debug)]
pub struct Resource {
    attributes: Vec<KeyValue>,
    encoded: Vec<u8>,
}

impl Resource {
    /// A `Resource` with these attributes.
    pub fn new(attributes: &[KeyValue]) -> Self {
        Self { attributes: attributes.to_vec(), encoded: encode(attributes) }
    }

    /// The message, of the pod or of one of its workloads.
    pub(super) fn of(&self, workload: Option<&Arc<Workload>>) -> Cow<'_, [u8]> {
        match workload {
            None => Cow::Borrowed(&self.encoded),
            Some(workload) => Cow::Owned(encode(&self.with(workload))),
        }
    }

    /// What the pod's resource says, with what the workload says in its place. Of the pod's container nothing stays, which may
    /// be another one; and the instance is one of its own, as every container of a pod is.
    fn with(&self, workload: &Workload) -> Vec<KeyValue> {
        let mut own = vec![KeyValue::new(semconv::SERVICE_NAME, workload.name.to_string())];
        own.extend(
            workload.container.as_ref().map(|name| KeyValue::new(semconv::K8S_CONTAINER_NAME, name.to_string())),
        );
        own.extend(workload.attributes.iter().cloned());
        let says = |attributes: &[KeyValue], key: &str| -> Option<Value> {
            attributes.iter().find(|attribute| attribute.key.as_str() == key).map(|attribute| attribute.value.clone())
        };
        let all = |key| says(&own, key).or_else(|| says(&self.attributes, key));
        if says(&own, semconv::SERVICE_INSTANCE_ID).is_none() {
            let container = workload.container.as_deref().map(|name| Value::from(name.to_owned()));
            let parts = [all(semconv::K8S_NAMESPACE_NAME), all(semconv::K8S_POD_NAME), container];
            let parts: Option<Vec<String>> = parts.into_iter().map(|part| Some(part?.to_string())).collect();
            let pods = says(&self.attributes, semconv::SERVICE_INSTANCE_ID);
            let id = parts.map(|parts| parts.join(".")).or_else(|| Some(format!("{}.{}", pods?, workload.name)));
            own.extend(id.map(|id| KeyValue::new(semconv::SERVICE_INSTANCE_ID, id)));
        }
        let replaced = |attribute: &&KeyValue| {
            let key = attribute.key.as_str();
            key == semconv::K8S_CONTAINER_NAME || says(&own, key).is_some()
        };
        let kept: Vec<_> = self.attributes.iter().filter(|attribute| !replaced(attribute)).cloned().collect();
        own.extend(kept);
        own
    }
}

fn encode(attributes: &[KeyValue]) -> Vec<u8> {
    let mut message = Vec::new();
    attributes.iter().for_each(|attribute| put_attribute(&mut message, field::RESOURCE_ATTRIBUTES, attribute));
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sorted `key=value`.
    fn merged(
        pod: &[(&'static str, &'static str)],
        container: Option<&str>,
        own: &[(&'static str, &'static str)],
    ) -> String {
        let attributes = |list: &[(&'static str, &'static str)]| -> Vec<KeyValue> {
            list.iter().map(|(key, value)| KeyValue::new(*key, *value)).collect()
        };
        let workload =
            Workload { name: "planner".into(), container: container.map(Into::into), attributes: attributes(own) };
        let found = Resource::new(&attributes(pod)).with(&workload);
        let mut shown: Vec<_> = found.iter().map(|found| format!("{}={}", found.key, found.value)).collect();
        shown.sort();
        shown.join(" ")
    }

    #[test]
    fn a_workloads_resource_is_the_pods_with_a_name_and_an_instance_of_its_own() {
        let pod = [
            ("k8s.container.name", "agent"),
            ("k8s.namespace.name", "prod"),
            ("k8s.pod.name", "pod-1"),
            ("service.instance.id", "prod.pod-1.agent"),
            ("service.name", "pod"),
            ("service.namespace", "prod"),
        ];
        assert_eq!(
            merged(&pod, Some("worker"), &[("service.version", "2")]),
            "k8s.container.name=worker k8s.namespace.name=prod k8s.pod.name=pod-1 \
             service.instance.id=prod.pod-1.worker service.name=planner service.namespace=prod service.version=2"
        );
        assert_eq!(
            merged(&pod, None, &[("service.namespace", "other")]),
            "k8s.namespace.name=prod k8s.pod.name=pod-1 service.instance.id=prod.pod-1.agent.planner \
             service.name=planner service.namespace=other"
        );
        assert_eq!(merged(&[("service.name", "pod")], Some("c"), &[]), "k8s.container.name=c service.name=planner");
        assert_eq!(
            merged(&pod[3..4], None, &[("service.instance.id", "i")]),
            "service.instance.id=i service.name=planner"
        );
    }
}
