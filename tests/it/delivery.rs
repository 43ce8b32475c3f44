//! What happens to spans on their way: both OTLP transports, a collector that dies, one that never comes, the ledger.

use std::process::Command;

use super::support::{Pod, WORLD_V4, attribute};

#[test]
fn spans_arrive_over_http_protobuf_too() {
    let mut pod = Pod::start_with(&[
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{WORLD_V4}:4318")),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
        ("SIDETRACE_POD_NAME", "agent-0"),
        ("SIDETRACE_POD_NAMESPACE", "tests"),
    ]);
    let _origin = pod.origin("http", &["8080"]);
    calls(&pod, 3);
    assert_eq!(pod.finish().len(), 3);
    let resource = &pod.collector.resources()[0];
    for (name, value) in [
        ("service.name", "agent-under-test"),
        ("deployment.environment.name", "test"),
        ("k8s.pod.name", "agent-0"),
        ("k8s.namespace.name", "tests"),
    ] {
        let found = format!("{:?}", attribute(&resource.attributes, name));
        assert!(found.contains(value), "{name}: {found}");
    }
}

#[test]
fn export_headers_reach_the_backend_and_nothing_else() {
    let mut pod = Pod::without_sidecar(&[]);
    let endpoint = pod.collector.own_endpoint();
    pod.set("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
    pod.set("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint);
    pod.set("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20t0psecret");
    pod.set("SIDETRACE_LOG", "trace");
    pod.redirect(&[]);
    pod.start_sidecar();
    let _origin = pod.origin("http", &["8080"]);
    calls(&pod, 1);
    pod.collector.wait_for_spans(1);
    let said = pod.stop_sidecar();
    assert_eq!(pod.collector.authorization(), ["Bearer t0psecret"]);
    assert!(!said.contains("t0psecret"), "{said}");
}

#[test]
fn a_dead_collector_costs_no_call_and_what_the_queue_held_arrives_when_it_is_back() {
    let mut pod = Pod::start_with(&[("OTEL_BSP_MAX_QUEUE_SIZE", "50")]);
    let origin = pod.origin("http", &["8080"]);
    pod.collector.kill_rotel();
    calls(&pod, 80);
    super::support::until("the pipeline has seen every span", || {
        pod.metric("sidetrace_calls_total{end=\"complete\"}") == 80
    });
    assert_eq!(pod.metric("sidetrace_spans_dropped_total{stage=\"buffer\",reason=\"full\"}"), 30);
    assert_eq!(pod.metric("sidetrace_spans_queued"), 50);
    pod.collector.start_rotel();
    pod.collector.wait_for_spans(50);
    assert!(pod.metric("sidetrace_export_retries_total") > 0);
    calls(&pod, 5);
    let spans = pod.finish();
    assert_eq!(spans.len(), 55);
    assert_eq!(origin.into_calls().len(), 85);
}

#[test]
fn a_collector_that_never_comes_is_given_up_at_the_end_and_counted() {
    let mut pod = Pod::start_with(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{WORLD_V4}:4399")),
        ("SIDETRACE_FLUSH_TIMEOUT", "0.2"),
    ]);
    let _origin = pod.origin("http", &["8080"]);
    calls(&pod, 7);
    let said = pod.stop_sidecar();
    assert!(said.contains("pipeline stopped created=7 exported=0 lost=7"), "{said}");
}

#[test]
fn without_an_endpoint_calls_are_served_and_spans_counted_as_dropped() {
    let mut pod = Pod::start_with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]);
    let _origin = pod.origin("http", &["8080"]);
    calls(&pod, 4);
    let dropped = "sidetrace_spans_dropped_total{stage=\"route\",reason=\"no_backend\"}";
    super::support::until("the spans are counted", || pod.metric(dropped) == 4);
    let said = pod.stop_sidecar();
    assert!(said.contains("created=4 exported=0 lost=4"), "{said}");
}

fn calls(pod: &Pod, count: usize) {
    let mut command = Command::new("curl");
    command.args(["-sSf", "-o", "/dev/null", &format!("http://{WORLD_V4}:8080/plain?[1-{count}]")]);
    pod.run(command);
}
