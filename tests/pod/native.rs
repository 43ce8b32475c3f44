//! Native sidecars: the agent as it was, and all that it calls in the collector.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::deployed::Deployed;
use super::images;
use super::manifest::Manifest;
use super::world::{Family, World};
use crate::it::support::{attribute, hex, integer, text};

#[test]
fn an_unmodified_python_agent_is_traced() {
    images::python();
    every_call_is_traced(Family::V4, &Manifest::of("python"));
}

#[test]
fn an_unmodified_node_agent_is_traced() {
    images::node();
    every_call_is_traced(Family::V4, &Manifest::of("node"));
}

#[test]
fn an_unmodified_python_agent_is_traced_over_ipv6() {
    every_call_is_traced(Family::Both, &Manifest::of("python"));
}

#[test]
fn an_unmodified_node_agent_is_traced_over_ipv6() {
    images::node();
    every_call_is_traced(Family::Both, &Manifest::of("node"));
}

#[test]
fn the_sidecar_needs_no_system_call_that_its_profile_forbids() {
    every_call_is_traced(Family::V4, &Manifest::of("localhost-seccomp"));
}

/// The agent makes each of its calls; every one succeeds, is a span, and carries its context on.
fn every_call_is_traced(family: Family, manifest: &Manifest) {
    let world = World::new(family);
    let mut pod = Deployed::start(&world, manifest);
    pod.wait_for_line("agent", "serving");
    for call in ["chat", "stream", "fetch", "plain", "tool"] {
        let said = pod.ask(&format!("/{call}"));
        assert!(said.starts_with(&format!("200 did {call} ")), "{said}");
    }
    pod.delete();
    // The redirect was proved, then the sidecar ready and its files of trust complete, before the agent began; and the
    // sidecar was told to end when the agent had.
    pod.assert_order(&[
        "started sidetrace-init",
        "exited sidetrace-init",
        "started sidetrace",
        "startup sidetrace",
        "started agent",
        "exited agent",
        "stopping sidetrace",
        "exited sidetrace",
    ]);
    let responses = pod.responses();
    assert_eq!(responses.len(), 4, "{:?}: one call before it served, one when it was told to end", pod.said("agent"));
    world.wait_for_responses(&responses);

    for line in pod.said("agent").iter().filter(|line| line.contains("chatcmpl")) {
        let words: Vec<_> = line.split(' ').collect();
        let model = if words[1] == "stream" { "gpt-4o-mini" } else { "gpt-4o" };
        let spans = world.spans();
        let span = spans.iter().find(|span| text(span, "gen_ai.response.id") == words[2]).unwrap();
        assert_eq!(span.name, format!("chat {model}"));
        assert_eq!(text(span, "server.address"), "api.openai.com");
        assert_eq!(text(span, "network.peer.address").contains(':'), family == Family::Both, "{span:#?}");
        assert_eq!(integer(span, "gen_ai.usage.input_tokens"), words[3].parse().ok());
        assert_eq!(integer(span, "gen_ai.usage.output_tokens"), words[4].parse().ok());
    }
    let tool = world.wait_for_span("tools/call add");
    assert_eq!(text(&tool, "server.address"), "tools.example");
    for path in ["/forecast", "/status"] {
        let spans = world.spans();
        let span = spans.iter().find(|span| text(span, "url.full").ends_with(path)).unwrap();
        assert_eq!((span.name.as_str(), span.kind()), ("GET", SpanKind::Client));
        let arrived = world.weather.wait_for(&format!(r#""path":"{path}""#), 1);
        assert!(arrived[0].contains(&format!("00-{}-{}-", hex(&span.trace_id), hex(&span.span_id))), "{arrived:?}");
    }
    // Node opens a connection to the tools' server on which it never says a word.
    let spans = world.spans();
    let unread: Vec<_> = spans.iter().filter(|span| span.name.starts_with("connect")).collect();
    assert!(unread.iter().all(|span| integer(span, "server.port") == Some(8000)), "{unread:#?}");
    belongs_to_the_pod(&world);
}

/// What the downward API says stands on everything that arrived.
fn belongs_to_the_pod(world: &World) {
    let said = |resource: &[_], name| match attribute(resource, name) {
        Some(Value::StringValue(text)) => text.clone(),
        other => panic!("{name} is {other:?}"),
    };
    for resource in world.collector.resources() {
        let attributes = &resource.attributes;
        assert_eq!(said(attributes, "service.name"), "agent");
        assert_eq!(said(attributes, "service.version"), "1.0.0");
        assert_eq!(said(attributes, "k8s.container.name"), "agent");
        assert_eq!(said(attributes, "k8s.namespace.name"), "default");
        assert!(said(attributes, "k8s.pod.name").starts_with("agent-"));
        assert_eq!(said(attributes, "k8s.pod.uid").len(), 36);
        assert!(!said(attributes, "k8s.node.name").is_empty());
    }
}
