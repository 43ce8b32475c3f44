//! The agent's metrics: at a collector, on the health port, and where there is no backend for them.

use std::process::Command;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::HistogramDataPoint;

use super::support::{Pod, Process, WORLD_V4, attribute, python, root, until};

#[test]
fn a_plain_call_counts_at_the_collector_and_on_the_health_port() {
    for (protocol, port) in [("grpc", 4317), ("http/protobuf", 4318)] {
        let pod = Pod::start_with(&[
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{WORLD_V4}:{port}")),
            ("OTEL_METRIC_EXPORT_INTERVAL", "200"),
        ]);
        let _origin = pod.origin("http", &["8080"]);
        calls(&pod, 3);
        let name = format!(
            "{}_count{{http_request_method=\"GET\",http_response_status_code=\"200\",network_protocol_version=\"1.1\",\
             server_address=\"{WORLD_V4}\",server_port=\"8080\"}}",
            "http_client_request_duration_seconds"
        );
        pod.collector.wait_for_spans(3);
        assert_eq!(pod.metric(&name), 3);
        let last = || pod.collector.histogram(DURATION).pop().filter(|(_, point)| point.count == 3);
        until("the collector has counted them", || last().is_some());
        let (resource, point) = last().unwrap();
        let service = attribute(&resource.attributes, "service.name");
        assert_eq!(service, Some(&Value::StringValue("agent-under-test".into())));
        assert_point(&point);
        let traces: Vec<_> = pod.collector.spans().into_iter().map(|span| span.trace_id).collect();
        assert!(!point.exemplars.is_empty());
        assert!(point.exemplars.iter().all(|exemplar| traces.contains(&exemplar.trace_id)), "{point:?}");
        assert!(pod.metric("sidetrace_metrics_export_batches_total{outcome=\"delivered\"}") > 0);
    }
}

fn assert_point(point: &HistogramDataPoint) {
    let text = |key: &str| attribute(&point.attributes, key).cloned();
    assert_eq!(text("http.request.method"), Some(Value::StringValue("GET".into())));
    assert_eq!(text("http.response.status_code"), Some(Value::IntValue(200)));
    assert_eq!(text("network.protocol.version"), Some(Value::StringValue("1.1".into())));
    assert_eq!(text("server.address"), Some(Value::StringValue(WORLD_V4.into())));
    assert_eq!(text("server.port"), Some(Value::IntValue(8080)));
    assert_eq!(point.attributes.len(), 5, "{point:?}");
    assert_eq!((point.bucket_counts.iter().sum::<u64>(), point.bucket_counts.len()), (3, 15));
    assert_eq!((point.explicit_bounds.len(), point.explicit_bounds[0]), (14, 0.005));
    assert!(point.sum.unwrap() > 0.0 && point.start_time_unix_nano < point.time_unix_nano);
}

#[test]
fn what_was_counted_last_is_exported_at_the_end_as_totals_or_as_deltas() {
    for temporality in ["cumulative", "delta"] {
        let mut pod = Pod::start_with(&[("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", temporality)]);
        let _origin = pod.origin("http", &["8080"]);
        calls(&pod, 2);
        assert_eq!(pod.finish().len(), 2);
        let points = pod.collector.histogram(DURATION);
        assert_eq!(points.iter().map(|(_, point)| point.count).collect::<Vec<_>>(), [2], "{temporality}");
    }
}

#[test]
fn a_backend_that_takes_no_metrics_loses_no_spans_and_is_named_once() {
    let mut pod = Pod::without_sidecar(&[("OTEL_METRIC_EXPORT_INTERVAL", "50"), ("SIDETRACE_FLUSH_TIMEOUT", "1")]);
    let mut command = Command::new(python());
    command.arg(root().join("tests/it/backend.py")).args(["http", WORLD_V4, "4444", "--status", "404"]);
    let backend = Process::start("backend", &pod.world, command);
    backend.wait_for("listening", 1);
    pod.set("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &format!("http://{WORLD_V4}:4444/v1/metrics"));
    pod.set("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/protobuf");
    pod.redirect(&[]);
    pod.start_sidecar();
    let _origin = pod.origin("http", &["8080"]);
    calls(&pod, 4);
    pod.collector.wait_for_spans(4);
    until("it has refused often", || pod.metric("sidetrace_metrics_export_batches_total{outcome=\"refused\"}") > 2);
    assert!(backend.said().contains("/v1/metrics"));
    let said = pod.stop_sidecar();
    assert!(said.contains("created=4 exported=4 lost=0"), "{said}");
    assert_eq!(said.matches("metrics were not exported").count(), 1, "{said}");
    assert!(said.contains("OTEL_METRICS_EXPORTER=none"), "{said}");
}

#[test]
fn a_backend_that_never_comes_holds_up_neither_spans_nor_the_end() {
    let mut pod = Pod::start_with(&[
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &format!("http://{WORLD_V4}:4399")),
        ("OTEL_METRIC_EXPORT_INTERVAL", "50"),
        ("OTEL_METRIC_EXPORT_TIMEOUT", "100"),
        ("SIDETRACE_FLUSH_TIMEOUT", "0.2"),
    ]);
    let _origin = pod.origin("http", &["8080"]);
    calls(&pod, 4);
    pod.collector.wait_for_spans(4);
    until("it was given up", || pod.metric("sidetrace_metrics_export_batches_total{outcome=\"given_up\"}") > 1);
    let said = pod.stop_sidecar();
    assert!(said.contains("created=4 exported=4 lost=0"), "{said}");
}

fn calls(pod: &Pod, count: usize) {
    let mut command = Command::new("curl");
    command.args(["-sSf", "-o", "/dev/null", &format!("http://{WORLD_V4}:8080/plain?[1-{count}]")]);
    pod.run(command);
}

const DURATION: &str = "http.client.request.duration";
