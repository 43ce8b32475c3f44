//! The agent's metrics: at a collector, on the health port, and where there is no backend for them.

use std::process::Command;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::HistogramDataPoint;

use super::support::{Pod, Process, WORLD_V4, attribute, integer, python, root, until};

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

#[test]
fn a_streamed_chat_counts_its_tokens_and_its_first_chunk_under_both_generations_of_names() {
    let mut pod = Pod::start_with(&[("SIDETRACE_GENAI_METRICS", "both")]);
    let mut command = Command::new(python());
    command.args(["-c", CHAT]).arg(root().join("tests/fixtures/genai/streams/chat.bin")).arg(WORLD_V4);
    let provider = Process::start("provider", &pod.world, command);
    provider.wait_for("listening", 1);
    let asked = r#"{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"Hello"}]}"#;
    let mut command = Command::new("curl");
    command.args(["-sSf", "-o", "/dev/null", "-H", "content-type: application/json", "-d", asked]);
    command.arg(format!("http://{WORLD_V4}:8085/v1/chat/completions"));
    pod.run(command);
    let spans = pod.finish();
    let tokens = |direction: &str| integer(&spans[0], &format!("gen_ai.usage.{direction}_tokens")).unwrap() as f64;
    assert!(tokens("input") > 0.0 && tokens("output") > 0.0);
    let only = |name: &str| {
        let mut found = pod.collector.histogram(name);
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        found.remove(0).1
    };
    for usage in pod.collector.histogram("gen_ai.client.token.usage") {
        let kind = attribute(&usage.1.attributes, "gen_ai.token.type").cloned();
        let input = kind == Some(Value::StringValue("input".into()));
        assert_eq!((usage.1.count, usage.1.sum), (1, Some(tokens(if input { "input" } else { "output" }))));
    }
    assert_eq!(pod.collector.histogram("gen_ai.client.token.usage").len(), 2);
    for duration in ["gen_ai.client.operation.duration", "gen_ai.client.inference.duration", DURATION] {
        assert_eq!(only(duration).count, 1);
    }
    for generation in ["operation", "inference"] {
        // How many reads bring the chunks is the kernel's business: a read that brings several is one time.
        assert_eq!(only(&format!("gen_ai.client.{generation}.time_to_first_chunk")).count, 1);
    }
    let point = only("gen_ai.client.inference.operation.input_tokens");
    let text = |key: &str| attribute(&point.attributes, key).cloned();
    assert_eq!(text("gen_ai.operation.name"), Some(Value::StringValue("chat".into())));
    assert_eq!(text("gen_ai.provider.name"), Some(Value::StringValue("openai".into())));
    assert_eq!(text("gen_ai.request.model"), Some(Value::StringValue("gpt-4o".into())));
    assert_eq!(text("server.port"), Some(Value::IntValue(8085)));
}

fn calls(pod: &Pod, count: usize) {
    let mut command = Command::new("curl");
    command.args(["-sSf", "-o", "/dev/null", &format!("http://{WORLD_V4}:8080/plain?[1-{count}]")]);
    pod.run(command);
}

const DURATION: &str = "http.client.request.duration";

/// A provider that answers each POST with the stream in a file, event by event.
const CHAT: &str = r#"
import http.server, sys
class Provider(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for event in open(sys.argv[1], "rb").read().split(b"\n\n"):
            if event:
                self.wfile.write(event + b"\n\n")
server = http.server.HTTPServer((sys.argv[2], 8085), Provider)
print("listening", flush=True)
server.serve_forever()
"#;
