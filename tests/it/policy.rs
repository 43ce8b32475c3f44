//! What the rules file, the propagators and the sampler do to calls, through the real redirect: at the origin, in the spans,
//! in the counters.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::any_value::Value as Attribute;
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::{Value, json};

use super::support::{AGENT_V4, Netns, Pod, RulesFile, WORLD_V4, attribute, hex, python, root, text, until};

/// A server on an address that is public, and so outside.
const PUBLIC: &str = "203.0.113.9";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

#[test]
fn what_a_rule_leaves_out_has_no_span_and_no_header_and_is_counted() {
    let rules = RulesFile::new(
        "record",
        "record:\n\
         - {host: \"*.quiet.example\", action: ignore}\n\
         - {path: /health*, method: GET, action: count}\n\
         - {port: 8090, path: /kept, action: record}\n\
         - {port: 8090, action: ignore}\n",
    );
    let mut pod = Pod::start_with(&[("SIDETRACE_CONFIG", rules.name())]);
    let origins = ["8080", "8090"].map(|port| pod.origin("http", &[port]));
    let get = |port: u16, path: &str, more: &str| {
        pod.agent.sh_ok(&format!("curl -sS -o /dev/null {more} http://{WORLD_V4}:{port}{path}"));
    };
    get(8080, "/1", "-H 'Host: a.quiet.example'");
    get(8080, "/2", "-H 'Host: quiet.example'");
    get(8080, "/healthz?deep=1", "");
    get(8080, "/healthz", "-d x");
    get(8090, "/kept", "");
    get(8090, "/other", "");
    let counted = |reason: &str| pod.metric(&format!("sidetrace_calls_unrecorded_total{{reason=\"{reason}\"}}"));
    assert_eq!((counted("ignore"), counted("count")), (2, 1));
    let spans = pod.finish();
    let recorded: Vec<_> = spans.iter().map(|span| text(span, "url.full")).collect();
    let url = |rest: &str| format!("http://{WORLD_V4}:{rest}");
    assert_eq!(recorded, ["http://quiet.example/2".to_owned(), url("8080/healthz"), url("8090/kept")]);
    let seen: Vec<_> = origins.into_iter().flat_map(|origin| origin.into_calls()).collect();
    let traced: Vec<_> = seen.iter().map(|call| call["call"]["traceparent"] != json!([])).collect();
    assert_eq!(traced, [false, true, false, true, true, false]);
}

#[test]
fn connections_that_are_not_read_or_not_made_obey_the_rules_too() {
    let rules = RulesFile::new(
        "connections",
        "record:\n\
         - {port: 8025, action: ignore}\n\
         - {address: 10.231.0.254/32, port: 9-10, action: count}\n\
         - {host: tls.quiet.example, action: ignore}\n\
         - {port: 8070, action: ignore}\n",
    );
    let mut pod = Pod::start_with(&[("SIDETRACE_CONFIG", rules.name())]);
    let _origins = [("greet", "8025"), ("greet", "8026"), ("sum", "8443"), ("http", "8070"), ("http", "8080")]
        .map(|(mode, port)| pod.origin(mode, &[port]));
    for port in [8025, 8026] {
        talk(&pod.agent, port, &["hear:21", "fin", "rest"]);
    }
    for port in [9, 11] {
        pod.agent.sh(&format!("curl -sS http://{WORLD_V4}:{port}/"));
    }
    for name in ["tls.quiet.example", "tls.example"] {
        let resolve = format!("--resolve {name}:8443:{WORLD_V4} https://{name}:8443/");
        pod.agent.sh(&format!("curl -sS --max-time 0.5 {resolve}"));
    }
    // A request that two readers could understand differently.
    for port in [8070, 8080] {
        let both = "send:POST /echo HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 3\\r\\nContent-Length: 4\\r\\n\\r\\nabc";
        talk(&pod.agent, port, &[both, "rest"]);
    }
    let counted = |reason: &str| pod.metric(&format!("sidetrace_calls_unrecorded_total{{reason=\"{reason}\"}}"));
    assert_eq!((counted("ignore"), counted("count")), (3, 1));
    let spans = pod.finish();
    let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    let connects = [8026, 11].map(|port| format!("connect {WORLD_V4}:{port}"));
    assert_eq!(names, [&connects[0], &connects[1], "connect tls.example:8443", "HTTP"]);
}

#[test]
fn rules_change_without_a_restart_on_an_open_connection_too() {
    let rules = RulesFile::new("reload", "query: [a]\n");
    let mut pod = Pod::start_with(&[("SIDETRACE_CONFIG", rules.name())]);
    let origin = pod.origin("http", &["8080"]);
    let mut open = pod.agent.enter(|| TcpStream::connect((WORLD_V4, 8080)).unwrap());
    let mut get = |path: &str| ask(&mut open, path);
    get("/1?a=1&b=2");
    pod.reload(&rules, "record: [{path: /2, action: ignore}]\n");
    get("/2");
    get("/3?a=1&b=2");
    pod.reload(&rules, "query: [b]\npropagation: [{inject: false}]\n");
    get("/2?a=1&b=2");
    let spans = pod.finish();
    let urls: Vec<_> = spans.iter().map(|span| text(span, "url.full").split_once("8080").unwrap().1).collect();
    assert_eq!(urls, ["/1?a=1&b=REDACTED", "/3?a=REDACTED&b=REDACTED", "/2?a=REDACTED&b=2"]);
    let seen = origin.into_calls();
    let traced: Vec<_> = seen.iter().map(|call| call["call"]["traceparent"] != json!([])).collect();
    assert_eq!(traced, [true, false, true, false]);
}

#[test]
fn headers_that_were_asked_for_are_arrays_on_the_span() {
    let rules = RulesFile::new(
        "headers",
        "headers: {request: [X-Tenant, X-Absent], response: [X-Mixed-Case, x-lower, x-initial]}\n",
    );
    let mut pod = Pod::start_with(&[("SIDETRACE_CONFIG", rules.name())]);
    let _origins = [("http", "8080"), ("grpc", "8081")].map(|(mode, port)| pod.origin(mode, &[port]));
    pod.agent.sh_ok(&format!(
        "curl -sSf -o /dev/null -H 'x-tenant: a' -H 'X-TENANT: b, c' -H 'Authorization: secret' http://{WORLD_V4}:8080/plain"
    ));
    pod.run(client("grpc_codes.py", &[&format!("{WORLD_V4}:8081")]));
    let spans = pod.finish();
    assert_eq!(spans.len(), 17);
    let list = |span: &Span, key: &str| match attribute(&span.attributes, key) {
        Some(Attribute::ArrayValue(list)) => {
            let texts = list.values.iter().map(|value| match &value.value {
                Some(Attribute::StringValue(text)) => text.clone(),
                other => panic!("{key}: {other:?}"),
            });
            Some(texts.collect::<Vec<_>>())
        }
        None => None,
        other => panic!("{key}: {other:?}"),
    };
    let of = |values: &[&str]| Some(values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>());
    assert_eq!(list(&spans[0], "http.request.header.x-tenant"), of(&["a", "b, c"]));
    assert_eq!(list(&spans[0], "http.response.header.x-mixed-case"), of(&["Kept"]));
    assert_eq!(list(&spans[0], "http.response.header.x-lower"), of(&["kept"]));
    assert_eq!(list(&spans[0], "http.request.header.x-absent"), None);
    assert!(!format!("{spans:?}").contains("secret"));
    for span in &spans[1..] {
        assert_eq!(list(span, "rpc.request.metadata.x-tenant"), of(&["a", "b"]));
        assert_eq!(list(span, "rpc.response.metadata.x-initial"), of(&["yes"]));
        assert_eq!(list(span, "http.request.header.x-tenant"), None);
    }
}

#[test]
fn without_injection_the_agents_own_context_passes_and_the_span_is_its_child() {
    let rules = RulesFile::new("inject", "propagation: [{host: plain.example, inject: false}]\n");
    let mut pod = Pod::start_with(&[("SIDETRACE_CONFIG", rules.name())]);
    let origin = pod.origin("http", &["8080"]);
    let curl = |more: &str| {
        let url = format!("http://{WORLD_V4}:8080/plain");
        pod.agent.sh_ok(&format!("curl -sSf {more} -H 'Host: plain.example' {url}"));
    };
    curl("");
    curl(&format!("-H 'TraceParent: 00-{TRACE}-{PARENT}-01' -H 'tracestate: a=1'"));
    let spans = pod.finish();
    let seen = origin.into_calls();
    assert_eq!((header(&seen[0], "traceparent"), spans[0].parent_span_id.len()), (vec![], 0));
    assert_eq!(header(&seen[1], "traceparent"), [format!("00-{TRACE}-{PARENT}-01")]);
    assert_eq!(header(&seen[1], "tracestate"), ["a=1"]);
    assert_eq!((hex(&spans[1].trace_id).as_str(), hex(&spans[1].parent_span_id).as_str()), (TRACE, PARENT));
}

#[test]
fn the_agents_own_telemetry_passes_without_span_and_header() {
    let mut pod = Pod::start();
    let origin = pod.origin("http", &["8080"]);
    let own = format!("-H 'traceparent: 00-{TRACE}-{PARENT}-01'");
    for (path, content, more) in [
        ("v1/traces", "application/x-protobuf", ""),
        ("v1/logs", "application/json", own.as_str()),
        ("api/42/envelope/", "application/x-sentry-envelope", "-H 'Host: o1.ingest.sentry.io'"),
    ] {
        let url = format!("http://{WORLD_V4}:8080/{path}");
        pod.agent.sh_ok(&format!("curl -sSf -o /dev/null -d body -H 'Content-Type: {content}' {more} {url}"));
    }
    let counted = |kind: &str| pod.metric(&format!("sidetrace_calls_unrecorded_total{{reason=\"{kind}\"}}"));
    assert_eq!((counted("otlp"), counted("sentry")), (2, 1));
    assert!(pod.finish().is_empty());
    let seen = origin.into_calls();
    let sent: Vec<_> = seen.iter().map(|call| header(call, "traceparent")).collect();
    assert_eq!(sent, [vec![], vec![format!("00-{TRACE}-{PARENT}-01")], vec![]]);
}

#[test]
fn baggage_and_foreign_state_go_to_those_inside_only() {
    let rules = RulesFile::new("trust", "context: continue\n");
    let mut pod = Pod::start_with(&[("SIDETRACE_CONFIG", rules.name())]);
    pod.world.sh_ok(&format!("ip addr add {PUBLIC}/24 dev bridge"));
    let origins = [("http", "8080"), ("grpc", "8081")].map(|(mode, port)| pod.origin(mode, &[port]));
    let context =
        format!("-H 'traceparent: 00-{TRACE}-{PARENT}-01' -H 'tracestate: a=1,ot=th:0,b=2' -H 'Baggage: k=v'");
    let call = |pod: &Pod, host: &str, more: &str| {
        pod.agent.sh_ok(&format!("curl -sSf -o /dev/null {context} {more} http://{host}:8080/plain"));
        let grpc = "--http2-prior-knowledge -H 'content-type: application/grpc' -H 'te: trailers' --data-binary @-";
        pod.agent.sh_ok(&format!(
            "printf '\\0\\0\\0\\0\\0' | curl -sSf -o /dev/null {grpc} {context} {more} http://{host}:8081/test.Echo/Unary"
        ));
    };
    call(&pod, WORLD_V4, "");
    // What the Host header claims counts for nothing.
    call(&pod, PUBLIC, "-H 'Host: api.svc.cluster.local'");
    pod.reload(&rules, "trust: {hosts: [api.example]}\n");
    call(&pod, PUBLIC, "-H 'Host: api.example'");
    pod.reload(&rules, "trust: {addresses: [203.0.113.0/24]}\n");
    call(&pod, PUBLIC, "");
    let spans = pod.finish();
    assert_eq!(spans.len(), 8, "{spans:#?}");
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE && hex(&span.parent_span_id) == PARENT));
    let kept = (vec!["a=1,ot=th:0,b=2".to_owned()], vec!["k=v".to_owned()]);
    let stripped = (vec!["ot=th:0".to_owned()], vec![]);
    for origin in origins {
        let seen = origin.into_calls();
        let sent: Vec<_> = seen.iter().map(|call| (header(call, "tracestate"), header(call, "baggage"))).collect();
        assert_eq!(sent, [&kept, &stripped, &stripped, &kept].map(Clone::clone));
    }
    let states: Vec<_> = spans.iter().map(|span| span.trace_state.as_str()).collect();
    let (whole, own) = ("a=1,ot=th:0,b=2", "ot=th:0");
    assert_eq!(states, [whole, whole, own, own, own, own, whole, whole]);
}

#[test]
fn every_format_that_is_asked_for_is_written_and_read() {
    let settings = [("OTEL_PROPAGATORS", "b3,b3multi,jaeger,xray")];
    let mut pod = Pod::without_sidecar(&settings);
    let origin = pod.origin("http", &["8080"]);
    let app = pod.app("http", &["8088"]);
    pod.redirect(&["-b", "8088"]);
    pod.start_sidecar();
    let get = |more: &str| {
        pod.agent.sh_ok(&format!("curl -sSf -o /dev/null {more} http://{WORLD_V4}:8080/plain"));
    };
    let incoming = [
        format!("-H 'b3: {TRACE}-{PARENT}-1'"),
        format!("-H 'X-B3-TraceId: {TRACE}' -H 'X-B3-SpanId: {PARENT}' -H 'X-B3-Sampled: 1'"),
        format!("-H 'uber-trace-id: {TRACE}:{PARENT}:0:1'"),
        format!("-H 'X-Amzn-Trace-Id: Root=1-{}-{};Parent={PARENT};Sampled=1;Self=x'", &TRACE[..8], &TRACE[8..]),
    ];
    get("");
    incoming.iter().for_each(|more| get(more));
    // Not asked for: it passes as it came.
    get(&format!("-H 'traceparent: 00-{TRACE}-{PARENT}-01'"));
    pod.bare.sh_ok(&format!("curl -sSf -o /dev/null {} http://{AGENT_V4}:8088/plain", incoming[2]));
    let spans = pod.finish();
    let mut seen = origin.into_calls();
    seen.extend(app.into_calls());
    assert_eq!((spans.len(), seen.len()), (7, 7));
    for (index, (span, call)) in spans.iter().zip(&seen).enumerate() {
        let continued = (1..=4).contains(&index) || index == 6;
        let (trace, own) = (hex(&span.trace_id), hex(&span.span_id));
        assert_eq!(hex(&span.parent_span_id), if continued { PARENT } else { "" }, "{index}");
        assert_eq!(trace == TRACE, continued);
        // B3 names the parent where there is one.
        let parent = if continued { format!("-{PARENT}") } else { String::new() };
        let b3 = header(call, "b3");
        assert!(b3 == [format!("{trace}-{own}-1{parent}")] || b3 == [format!("{trace}-{own}-1")], "{b3:?}");
        assert_eq!(header(call, "x-b3-traceid"), [trace.as_str()]);
        assert_eq!(header(call, "x-b3-spanid"), [own.as_str()]);
        assert_eq!(header(call, "x-b3-sampled"), ["1"]);
        let jaeger = header(call, "uber-trace-id");
        assert!(jaeger.len() == 1 && jaeger[0].starts_with(&format!("{trace}:{own}:")), "{jaeger:?}");
        let rest = if index == 4 { ";Self=x" } else { "" };
        let xray = format!("Root=1-{}-{};Parent={own};Sampled=1{rest}", &trace[..8], &trace[8..]);
        assert_eq!(header(call, "x-amzn-trace-id"), [xray]);
        let w3c = if index == 5 { vec![format!("00-{TRACE}-{PARENT}-01")] } else { vec![] };
        assert_eq!(header(call, "traceparent"), w3c);
    }
}

#[test]
fn a_ratio_samples_by_the_trace_id_says_so_on_the_wire_and_counts_the_rest() {
    let settings = [("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0.5")];
    let mut pod = Pod::start_with(&settings);
    let origin = pod.origin("http", &["8080"]);
    let mut open = pod.agent.enter(|| TcpStream::connect((WORLD_V4, 8080)).unwrap());
    let calls = 64;
    (0..calls).for_each(|_| ask(&mut open, "/plain"));
    let dropped = || pod.metric("sidetrace_spans_dropped_total{stage=\"sampling\",reason=\"unsampled\"}");
    let exported = || pod.metric("sidetrace_spans_exported_total");
    until("every span is exported or dropped", || dropped() + exported() == calls);
    let (dropped, exported) = (dropped(), exported());
    let spans = pod.finish();
    let seen = origin.into_calls();
    assert_eq!(seen.len() as u64, calls);
    let mut sampled = Vec::new();
    for call in &seen {
        let [parent] = header(call, "traceparent").try_into().unwrap();
        let (trace, id) = (&parent[3..35], &parent[36..52]);
        let chosen = u64::from_str_radix(&trace[18..], 16).unwrap() >= 1 << 55;
        assert_eq!(&parent[52..], if chosen { "-03" } else { "-02" });
        assert_eq!(header(call, "tracestate"), if chosen { vec!["ot=th:8"] } else { vec![] });
        if chosen {
            sampled.push(id.to_owned());
        }
    }
    let mut ids: Vec<_> = spans.iter().map(|span| hex(&span.span_id)).collect();
    sampled.sort();
    ids.sort();
    assert_eq!(ids, sampled);
    assert!(spans.iter().all(|span| span.trace_state == "ot=th:8"));
    assert_eq!((exported, dropped), (sampled.len() as u64, calls - sampled.len() as u64));
    assert!(exported > 0 && dropped > 0, "2^-63 against it");
}

#[test]
fn a_parents_decision_holds_unless_the_sampler_is_told_otherwise() {
    for (sampler, expected) in [("parentbased_always_off", ["-00", "-01", "-02"]), ("always_on", ["-01", "-01", "-03"])]
    {
        let mut pod = Pod::start_with(&[("OTEL_TRACES_SAMPLER", sampler)]);
        let origin = pod.origin("http", &["8080"]);
        for more in [
            format!("-H 'traceparent: 00-{TRACE}-{PARENT}-00'"),
            format!("-H 'traceparent: 00-{TRACE}-{PARENT}-01'"),
            String::new(),
        ] {
            pod.agent.sh_ok(&format!("curl -sSf -o /dev/null {more} http://{WORLD_V4}:8080/plain"));
        }
        let exported = expected.iter().filter(|flags| flags.ends_with(['1', '3'])).count();
        assert_eq!(pod.finish().len(), exported, "{sampler}");
        let seen = origin.into_calls();
        let flags: Vec<_> = seen.iter().map(|call| header(call, "traceparent")[0][52..].to_owned()).collect();
        assert_eq!(flags, expected, "{sampler}");
    }
}

#[test]
fn disabled_nothing_is_recorded_and_not_a_byte_changes() {
    let mut pod = Pod::without_sidecar(&[("OTEL_SDK_DISABLED", "true")]);
    let origin = pod.origin("http", &["8080"]);
    let greet = pod.origin("greet", &["8025"]);
    let app = pod.app("http", &["8088"]);
    pod.redirect(&["-b", "8088"]);
    pod.start_sidecar();
    let context = format!("-H 'TraceParent: 00-{TRACE}-{PARENT}-01' -H 'tracestate: a=1' -H 'baggage: k=v' -H 'b3: 0'");
    let url = format!("http://{WORLD_V4}:8080");
    let mut answers = Vec::new();
    for netns in [&pod.bare, &pod.agent] {
        let plain = netns.sh_ok(&format!("curl -sS -i {url}/plain {url}/stream"));
        let traced = netns.sh_ok(&format!("curl -sS -i {context} -d body {url}/echo"));
        answers.push((plain, traced, talk(netns, 8025, &["hear:21", "send:a", "fin", "rest"])));
    }
    assert_eq!(answers[0], answers[1]);
    pod.bare.sh_ok(&format!("curl -sSf {context} http://{AGENT_V4}:8088/plain"));
    pod.agent.sh(&format!("curl -sS http://{WORLD_V4}:9/"));
    assert_eq!(pod.metric("sidetrace_spans_created_total"), 0);
    assert!(pod.finish().is_empty());
    let seen = origin.into_calls();
    let (bare, ours) = seen.split_at(3);
    let headers = |calls: &[Value]| calls.iter().map(|call| call["call"]["headers"].clone()).collect::<Vec<_>>();
    assert_eq!(headers(bare), headers(ours));
    let inbound = &app.into_calls()[0];
    assert_eq!(header(inbound, "traceparent"), [format!("00-{TRACE}-{PARENT}-01")]);
    assert_eq!(header(inbound, "baggage"), ["k=v"]);
    drop(greet);
}

/// One request on an open connection, and its whole answer.
fn ask(open: &mut TcpStream, path: &str) {
    open.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {WORLD_V4}:8080\r\n\r\n");
    open.write_all(request.as_bytes()).unwrap();
    let mut heard = Vec::new();
    let length = loop {
        let mut buffer = [0; 4096];
        let count = open.read(&mut buffer).unwrap();
        assert!(count > 0, "closed behind {}", String::from_utf8_lossy(&heard));
        heard.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&heard).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
            if body.len() >= length.parse().unwrap() {
                break body.len();
            }
        }
    };
    assert!(length > 0);
}

/// Every value of a header that reached the origin.
fn header(call: &Value, name: &str) -> Vec<String> {
    let headers = call["call"]["headers"].as_array().unwrap().iter();
    let named = headers.filter(|pair| pair[0].as_str().unwrap().eq_ignore_ascii_case(name));
    named.map(|pair| pair[1].as_str().unwrap().to_owned()).collect()
}

fn client(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(python());
    command.arg(root().join("tests/it/clients").join(name)).args(arguments);
    command
}

fn talk(netns: &Netns, port: u16, steps: &[&str]) -> String {
    let port = port.to_string();
    let output = netns.output(client("talk.py", &[&[WORLD_V4, port.as_str()], steps].concat()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
