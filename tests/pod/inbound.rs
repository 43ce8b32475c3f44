//! Calls into the pod, and probes that tell the truth.

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::deployed::{Deployed, ask};
use super::manifest::Manifest;
use super::world::{Family, World};
use crate::it::support::{hex, integer, text};

#[test]
fn a_call_into_the_pod_continues_its_callers_trace_and_probes_leave_no_span() {
    let world = World::new(Family::Both);
    let mut pod = Deployed::start(&world, &Manifest::of("inbound"));
    // The readiness probe went through the sidecar to the agent.
    pod.wait_for("ready", "agent");
    let traces = ["4bf92f3577b34da6a3ce929d0e0e4736", "0af7651916cd43dd8448eb211c80319c"];
    for (address, trace) in pod.addresses().into_iter().zip(traces) {
        let said = ask((address, 8080), "/fetch", &format!("traceparent: 00-{trace}-00f067aa0ba902b7-01\r\n"));
        assert_eq!(said, "200 did fetch /forecast");
    }
    pod.delete();

    let servers = world.wait_for_spans("GET", 4);
    let servers: Vec<_> = servers.iter().filter(|span| span.kind() == SpanKind::Server).collect();
    assert_eq!(servers.len(), traces.len(), "the calls, and nothing of the probes: {servers:#?}");
    for (span, trace) in servers.iter().zip(traces) {
        assert_eq!((hex(&span.trace_id).as_str(), hex(&span.parent_span_id).as_str()), (trace, "00f067aa0ba902b7"));
        assert_eq!(text(span, "url.path"), "/fetch");
        assert_eq!(integer(span, "http.response.status_code"), Some(200));
    }
    let responses = pod.responses();
    assert_eq!(responses.len(), 2);
    world.wait_for_responses(&responses);
    let clients =
        world.spans().into_iter().filter(|span| span.kind() == SpanKind::Client && span.name == "GET").count();
    assert_eq!(clients, traces.len(), "what the agent called for them");
    let outside: Vec<_> =
        world.spans().into_iter().map(|span| span.name).filter(|name| name.starts_with("connect")).collect();
    assert_eq!(outside, [""; 0], "nothing of the tcpSocket probes");
}

#[test]
fn a_probe_of_an_excluded_port_says_that_nobody_listens() {
    let world = World::new(Family::V4);
    let quick = "containers: [{name: agent, livenessProbe: {periodSeconds: 1, failureThreshold: 2}}]\nterminationGracePeriodSeconds: 5";
    let pod = Deployed::start(&world, &Manifest::of("inbound").with(quick));
    pod.wait_for("ready", "agent");
    // The agent goes on, but that port is closed now.
    assert_eq!(pod.ask("/close"), "200 ok");
    let failed = pod.wait_for("stopping", "agent");
    assert_eq!(failed["reason"], "liveness");
    pod.wait_for("restarted", "agent");
}
