//! Several containers in one pod, each with a service name of its own.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::deployed::Deployed;
use super::manifest::Manifest;
use super::world::{Family, World};
use crate::it::support::{attribute, text, until};

#[test]
fn each_container_has_a_resource_of_its_own() {
    let world = World::new(Family::V4);
    let mut pod = Deployed::start(&world, &Manifest::of("several-containers"));
    pod.wait_for_line("agent", "serving");
    pod.wait_for_line("tools", "serving");
    // The tools' server.
    assert_eq!(pod.ask("/fetch"), "200 did fetch /forecast");
    pod.delete();

    for container in ["agent", "tools"] {
        let said = pod.said(container);
        let mut expected: Vec<_> =
            said.iter().filter_map(|line| line.strip_prefix("did chat ")?.split(' ').next()).collect();
        assert_eq!(expected.len(), 2, "{said:?}");
        expected.sort_unstable();
        until(&format!("the calls of {container} are there"), || {
            let spans = of(&world, container);
            let mut ids: Vec<_> =
                spans.iter().map(|span| text(span, "gen_ai.response.id")).filter(|id| !id.is_empty()).collect();
            ids.sort_unstable();
            ids == expected
        });
    }
    let (agent, tools) = (of(&world, "agent"), of(&world, "tools"));
    assert!(!agent.iter().any(|span| span.name == "GET"), "{agent:#?}");
    let mut kinds: Vec<_> = tools.iter().filter(|span| span.name == "GET").map(|span| span.kind()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, [SpanKind::Server, SpanKind::Client], "who answers is known by port, who calls by uid");
}

/// The spans of a service, which is called as its container is.
fn of(world: &World, container: &str) -> Vec<opentelemetry_proto::tonic::trace::v1::Span> {
    let spans = world.collector.resourced_spans().into_iter();
    let of_it = spans.filter(|(resource, _)| {
        ["service.name", "k8s.container.name"]
            .map(|name| attribute(&resource.attributes, name) == Some(&Value::StringValue(container.to_owned())))
            == [true, true]
    });
    of_it.map(|(_, span)| span).collect()
}
