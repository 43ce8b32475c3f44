//! What was said in calls as events: at a collector, and where nobody takes them.

use std::process::Command;

use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use serde_json::{Value, json};

use super::support::{Pod, Process, RulesFile, WORLD_V4, attribute, python, root, until};

#[test]
fn what_was_said_in_a_chat_leaves_as_a_structured_event_without_secrets_and_not_on_the_span() {
    for (protocol, port) in [("grpc", 4317), ("http/protobuf", 4318)] {
        let mut pod = Pod::start_with(&[
            (CAPTURE, "EVENT_ONLY"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{WORLD_V4}:{port}")),
        ]);
        let _provider = chat(&pod, 1);
        let spans = pod.finish();
        let mut events = pod.collector.logs();
        assert_eq!((spans.len(), events.len()), (1, 1), "{events:#?}");
        let (resource, event) = events.remove(0);
        let service = attribute(&resource.attributes, "service.name");
        assert_eq!(service, Some(&Any::StringValue("agent-under-test".into())));
        assert_eq!(event.event_name, "gen_ai.client.inference.operation.details");
        assert_eq!((&event.trace_id, &event.span_id), (&spans[0].trace_id, &spans[0].span_id));
        assert_eq!((event.time_unix_nano, event.flags), (spans[0].end_time_unix_nano, spans[0].flags & 0xff));
        let text = |content: &str| json!({"type": "text", "content": content});
        let asked = text("My key is [REDACTED:api_key], keep it");
        assert_eq!(shown(&event, "gen_ai.input.messages"), json!([{"role": "user", "parts": [asked]}]));
        let said = json!([{"role": "assistant", "parts": [text("Kept.")], "finish_reason": "stop"}]);
        assert_eq!(shown(&event, "gen_ai.output.messages"), said);
        assert_eq!(shown(&event, "gen_ai.usage.output_tokens"), json!(2));
        for attribute in &spans[0].attributes {
            assert!(event.attributes.contains(attribute), "{attribute:?}");
            assert!(!attribute.key.ends_with(".messages"), "{attribute:?}");
        }
        let everything = pod.collector.everything();
        assert!(everything.contains("[REDACTED:api_key]") && !everything.contains(SECRET), "{everything}");
    }
}

#[test]
fn an_event_belongs_to_the_workload_of_its_call() {
    // Root, as the client runs.
    let rules = RulesFile::new("events", "workloads: [{uid: 0, name: planner, container: planner}]\n");
    let mut pod = Pod::start_with(&[(CAPTURE, "EVENT_ONLY"), ("SIDETRACE_CONFIG", rules.name())]);
    let _provider = chat(&pod, 2);
    let spans = pod.finish();
    let events = pod.collector.logs();
    assert_eq!((spans.len(), events.len()), (2, 2));
    let resources: Vec<_> = pod.collector.resources().into_iter().chain(events.into_iter().map(|(of, _)| of)).collect();
    for resource in resources {
        for key in ["service.name", "k8s.container.name"] {
            assert_eq!(attribute(&resource.attributes, key), Some(&Any::StringValue("planner".into())));
        }
    }
}

#[test]
fn a_backend_that_takes_no_events_loses_no_spans_and_is_named_once() {
    let mut pod = Pod::without_sidecar(&[(CAPTURE, "SPAN_AND_EVENT"), ("SIDETRACE_FLUSH_TIMEOUT", "1")]);
    let mut command = Command::new(python());
    command.arg(root().join("tests/it/backend.py")).args(["http", WORLD_V4, "4444", "--status", "404"]);
    let backend = Process::start("backend", &pod.world, command);
    backend.wait_for("listening", 1);
    pod.set("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", &format!("http://{WORLD_V4}:4444/v1/logs"));
    pod.set("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "http/protobuf");
    pod.redirect(&[]);
    pod.start_sidecar();
    let _provider = chat(&pod, 1);
    pod.collector.wait_for_spans(1);
    until("it was refused", || pod.metric("sidetrace_events_dropped_total{reason=\"rejected\"}") == 1);
    ask(&pod);
    until("it was refused again", || pod.metric("sidetrace_logs_export_batches_total{outcome=\"refused\"}") == 2);
    assert!(backend.said().contains("/v1/logs"));
    let said = pod.stop_sidecar();
    assert!(said.contains("created=2 exported=2 lost=0"), "{said}");
    assert_eq!(said.matches("content events were refused").count(), 1, "{said}");
    assert!(said.contains("OTEL_LOGS_EXPORTER=none"), "{said}");
    for span in pod.collector.spans() {
        let Some(Any::StringValue(said)) = attribute(&span.attributes, "gen_ai.output.messages") else {
            panic!("{span:?}")
        };
        assert!(said.contains("Kept."), "{said}");
    }
}

#[test]
fn without_a_backend_events_are_counted_and_the_start_says_so() {
    let mut pod = Pod::start_with(&[(CAPTURE, "EVENT_ONLY"), ("OTEL_LOGS_EXPORTER", "none")]);
    let _provider = chat(&pod, 2);
    pod.collector.wait_for_spans(2);
    until("they are counted", || pod.metric("sidetrace_events_dropped_total{reason=\"no_backend\"}") == 2);
    let said = pod.stop_sidecar();
    assert!(said.contains("there is no backend for events"), "{said}");
    assert!(said.contains("created=2 exported=2 lost=0"), "{said}");
    assert_eq!(pod.collector.logs(), []);
}

/// Calls a provider so many times.
fn chat(pod: &Pod, calls: usize) -> Process {
    let mut command = Command::new(python());
    command.args(["-c", CHAT, WORLD_V4]);
    let provider = Process::start("provider", &pod.world, command);
    provider.wait_for("listening", 1);
    (0..calls).for_each(|_| ask(pod));
    provider
}

fn ask(pod: &Pod) {
    let content = format!("My key is {SECRET}, keep it");
    let body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": content}]}).to_string();
    let mut command = Command::new("curl");
    command.args(["-sSf", "-o", "/dev/null", "-H", "content-type: application/json", "-d", &body]);
    command.arg(format!("http://{WORLD_V4}:8085/v1/chat/completions"));
    pod.run(command);
}

/// An attribute as JSON.
fn shown(event: &LogRecord, key: &str) -> Value {
    fn plain(value: &AnyValue) -> Value {
        match value.value.as_ref().unwrap() {
            Any::StringValue(text) => json!(text),
            Any::IntValue(number) => json!(number),
            Any::ArrayValue(array) => array.values.iter().map(plain).collect(),
            Any::KvlistValue(list) => {
                let pair = |(key, value): (&String, &Option<AnyValue>)| (key.clone(), plain(value.as_ref().unwrap()));
                Value::Object(list.values.iter().map(|member| pair((&member.key, &member.value))).collect())
            }
            other => panic!("{other:?}"),
        }
    }
    plain(&AnyValue { value: attribute(&event.attributes, key).cloned() })
}

const CAPTURE: &str = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT";
const SECRET: &str = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGH";

/// A provider that says the same each time.
const CHAT: &str = r#"
import http.server, json, sys
class Provider(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-2024-08-06",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "Kept."}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
server = http.server.HTTPServer((sys.argv[1], 8085), Provider)
print("listening", flush=True)
server.serve_forever()
"#;
