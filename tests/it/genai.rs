//! The libraries of LLM providers and of MCP, unmodified, through the real redirect and TLS: what their own objects say of
//! each call is what its span says, and no span says more. `genai/record.sh` plays the same without us.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use serde_json::{Value, json};

use super::support::{Internet, Pod, Process, attribute, python, root};

#[test]
fn what_openais_libraries_say_of_their_calls_is_what_the_spans_say() {
    play("openai", &[python_of("venv", "openai_calls.py"), python_of("venv-old", "openai_calls.py"), node("openai")]);
}

#[test]
fn what_the_libraries_of_anthropic_google_and_ollama_say_is_what_the_spans_say() {
    let [anthropic, gemini, ollama] = ["anthropic", "gemini", "ollama"].map(|kind| format!("{kind}_calls.py"));
    let old = python_of("venv-old", &anthropic);
    play(
        "providers",
        &[
            python_of("venv", &anthropic),
            old,
            python_of("venv", &gemini),
            python_of("venv", &ollama),
            node("anthropic"),
        ],
    );
}

#[test]
fn what_boto3_says_of_bedrock_is_what_the_spans_say_and_json_rpc_leaves_a_span_for_each_request() {
    play("bedrock", &[python_of("venv", "bedrock_calls.py"), python_of("venv", "jsonrpc_calls.py")]);
}

#[test]
fn what_mcps_libraries_say_of_their_calls_is_what_the_spans_say() {
    play("mcp", &[python_of("venv", "mcp_calls.py"), python_of("venv-old", "mcp_calls.py"), node("mcp")]);
}

/// Plays all clients at once and holds what they say against the spans.
fn play(name: &str, clients: &[Vec<String>]) {
    let mut pod = Pod::without_sidecar(&[]);
    let mut internet = Internet::new(&format!("genai-{name}"));
    let hosts: Vec<_> = NAMES.lines().enumerate().map(|(number, line)| Host::new(line, number + 1)).collect();
    for host in &hosts {
        if host.port == "443" {
            internet.settle(&pod.world, &[(host.name, &host.address)]);
        } else {
            internet.address(&pod.world, &host.address);
            internet.name(host.name, &host.address);
        }
    }
    for (setting, value) in internet.settings() {
        pod.set(setting, &value);
    }
    pod.redirect(&[]);
    pod.start_sidecar();
    let servers = [providers(&pod, &internet, &hosts), mcp(&pod, "venv", "8080"), mcp(&pod, "venv-old", "8081")];
    servers.iter().for_each(|server| drop(server.wait_for("listening", 1)));
    let said = std::thread::scope(|scope| {
        let running: Vec<_> = clients
            .iter()
            .map(|words| {
                let (command, netns) = (internet.ours(words), pod.agent.clone());
                scope.spawn(move || (words, netns.output(command)))
            })
            .collect();
        let outputs = running.into_iter().map(|client| client.join().unwrap());
        outputs.flat_map(|(words, output)| lines(words, &output)).collect::<Vec<_>>()
    });
    drop(servers);
    let spans = pod.finish();
    let failures = judge(&said, &spans);
    assert!(failures.is_empty(), "{} failures in {} calls\n\n{}", failures.len(), said.len(), failures.join("\n"));
}

fn providers(pod: &Pod, internet: &Internet, hosts: &[Host]) -> Process {
    let mut command = Command::new(python());
    command.arg(script("providers.py")).arg(internet.folder());
    let ours = hosts.iter().filter(|host| !host.port.is_empty());
    command.args(ours.map(|host| format!("{}={}={}", host.name, host.address, host.port)));
    Process::start("providers.py", &pod.world, command)
}

fn mcp(pod: &Pod, environment: &str, port: &str) -> Process {
    let words = python_of(environment, "mcp_servers.py");
    let mut command = Command::new(&words[0]);
    command.arg(&words[1]).arg(port);
    Process::start("mcp_servers.py", &pod.world, command)
}

/// Where a name of the internet is; without a port it is an MCP server's.
struct Host {
    name: &'static str,
    port: &'static str,
    address: String,
}

impl Host {
    fn new(line: &'static str, number: usize) -> Self {
        let (name, port) = line.split_once('=').unwrap();
        Self { name, port, address: format!("10.231.3.{number}") }
    }
}

/// What a client said of its calls.
fn lines(words: &[String], output: &std::process::Output) -> Vec<Value> {
    let (said, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{words:?}: {}\n{said}\n{complaints}", output.status);
    let lines: Vec<_> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!lines.is_empty(), "{words:?} has said nothing");
    lines
}

/// Everything that the spans say otherwise, and spans of calls that nobody made.
fn judge(said: &[Value], spans: &[Span]) -> Vec<String> {
    let (mut failures, mut taken) = (vec![], BTreeSet::new());
    // What is matched alike, as a list of models asked for twice, leaves as many spans.
    let mut groups = BTreeMap::<String, Vec<&Value>>::new();
    for call in said {
        groups.entry(call["match"].to_string()).or_default().push(call);
    }
    for (wanted, calls) in groups {
        let fits = |span: &&Span| {
            calls[0]["match"].as_object().unwrap().iter().all(|(name, value)| same(&shown(span, name), value))
        };
        let found: Vec<_> = spans.iter().enumerate().filter(|(_, span)| fits(span)).collect();
        if found.len() != calls.len() {
            failures.push(format!("- {}: {} spans, not {}, with {wanted}", calls[0]["span"], found.len(), calls.len()));
        }
        for (call, (place, span)) in calls.iter().zip(found) {
            taken.insert(place);
            failures.extend(differences(call, span));
        }
    }
    for (_, span) in spans.iter().enumerate().filter(|(place, _)| !taken.contains(place)) {
        if CLAIMS.iter().any(|name| attribute(&span.attributes, name).is_some()) {
            failures.push(format!("- a span of a call that nobody made: {}", told(span)));
        }
    }
    failures
}

fn differences(call: &Value, span: &Span) -> Option<String> {
    let mut wrong = vec![];
    if call["span"] != span.name.as_str() {
        wrong.push(format!("the span is named {:?}", span.name));
    }
    let kind = if call["kind"] == "server" { SpanKind::Server } else { SpanKind::Client };
    if span.kind != kind as i32 {
        wrong.push(format!("it is not a {kind:?} but {:?}", span.kind()));
    }
    let failed = span.status.as_ref().is_some_and(|status| status.code == StatusCode::Error as i32);
    if call["failed"] != failed {
        wrong.push(format!("the span is {}an error", if failed { "" } else { "not " }));
    }
    for (name, value) in call["attributes"].as_object().unwrap() {
        let ours = shown(span, name);
        if !same(&ours, value) {
            wrong.push(format!("{name}: the library says {value}, the span {ours}"));
        }
    }
    for name in call["present"].as_array().unwrap() {
        if shown(span, name.as_str().unwrap()).is_null() {
            wrong.push(format!("{name} is missing"));
        }
    }
    (!wrong.is_empty()).then(|| format!("- {}\n    {}", call["span"].as_str().unwrap(), wrong.join("\n    ")))
}

/// An attribute as JSON; null if there is none.
fn shown(span: &Span, name: &str) -> Value {
    attribute(&span.attributes, name).map_or(Value::Null, plain)
}

fn plain(value: &Any) -> Value {
    match value {
        Any::StringValue(text) => json!(text),
        Any::BoolValue(yes) => json!(yes),
        Any::IntValue(number) => json!(number),
        Any::DoubleValue(number) => json!(number),
        Any::ArrayValue(list) => {
            list.values.iter().map(|item| item.value.as_ref().map_or(Value::Null, plain)).collect()
        }
        other => json!(format!("{other:?}")),
    }
}

/// Numbers are equal by their value.
fn same(ours: &Value, said: &Value) -> bool {
    ours == said || ours.as_f64().is_some_and(|number| Some(number) == said.as_f64())
}

fn told(span: &Span) -> String {
    let attributes = span.attributes.iter().map(|pair| format!("{}={}", pair.key, shown(span, &pair.key)));
    format!("{} {}", span.name, attributes.collect::<Vec<_>>().join(" "))
}

fn python_of(environment: &str, name: &str) -> Vec<String> {
    let python = root().join("target/tools").join(environment).join("bin/python");
    assert!(python.exists(), "{} is missing: `make tools` installs it", python.display());
    vec![path(&python), path(&script(name))]
}

fn node(kind: &str) -> Vec<String> {
    let libraries = root().join("target/tools/node-tests");
    assert!(libraries.join("node_modules").exists(), "{libraries:?} is missing: `make tools` installs it");
    vec!["node".into(), path(&script("calls.mjs")), path(&libraries), kind.into()]
}

fn script(name: &str) -> PathBuf {
    root().join("tests/it/genai").join(name)
}

fn path(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Names and ports; 443 speaks TLS.
const NAMES: &str = include_str!("genai/names");

/// What makes a span more than one of HTTP.
const CLAIMS: [&str; 4] = ["gen_ai.operation.name", "mcp.method.name", "rpc.system.name", "jsonrpc.request.id"];
