//! Unmodified clients through the real redirect: what they and their origins see is the same with and without us, and
//! every call leaves exactly one right span whose id the origin has seen.

use std::process::Command;

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::support::{Pod, WORLD_V4, WORLD_V6, hex, integer, python, root, text};

/// Method, path, status and whether that is an error, of the calls that every HTTP client here makes.
const HTTP_CALLS: [(&str, &str, i64); 8] = [
    ("GET", "/plain?x=REDACTED&key=REDACTED", 200),
    ("POST", "/echo", 200),
    ("POST", "/echo", 200),
    ("GET", "/stream", 200),
    ("GET", "/status/404", 404),
    ("HEAD", "/plain", 200),
    ("GET", "/empty", 204),
    ("GET", "/large", 200),
];

#[test]
fn curl_sees_the_same_bytes_and_every_call_is_traced() {
    http_client(|base| script("sh", "calls.sh", &[base]));
}

#[test]
fn requests_sees_the_same_and_every_call_is_traced() {
    http_client(|base| python_client("calls.py", &["requests", base]));
}

#[test]
fn httpx_sees_the_same_and_every_call_is_traced() {
    http_client(|base| python_client("calls.py", &["httpx", base]));
}

#[test]
fn urllib3_sees_the_same_and_every_call_is_traced() {
    http_client(|base| python_client("calls.py", &["urllib3", base]));
}

#[test]
fn node_fetch_sees_the_same_and_every_call_is_traced() {
    http_client(|base| script("node", "calls.mjs", &[base]));
}

#[test]
fn grpcio_unary_and_bidi_are_the_same_and_every_call_is_traced() {
    let mut pod = Pod::start();
    let origin = pod.origin("grpc", &["8081"]);
    for host in [WORLD_V4.to_owned(), format!("[{WORLD_V6}]")] {
        let client = || python_client("grpc_calls.py", &[&format!("{host}:8081")]);
        let bare = pod.run_bare(client());
        assert_eq!(String::from_utf8_lossy(&bare.stdout), String::from_utf8_lossy(&pod.run(client()).stdout));
    }
    let spans = pod.finish();
    let calls = origin.into_calls();
    let expected = [("test.Echo/Unary", "OK"), ("test.Echo/Unary", "FAILED_PRECONDITION"), ("test.Echo/Bidi", "OK")];
    assert_eq!(spans.len(), 2 * expected.len(), "{spans:#?}");
    for (host, spans) in [WORLD_V4, WORLD_V6].into_iter().zip(spans.chunks(expected.len())) {
        for (span, (method, status)) in spans.iter().zip(expected) {
            assert_eq!(span.name, method);
            assert_eq!(span.kind, SpanKind::Client as i32);
            assert_eq!(text(span, "rpc.system.name"), "grpc");
            assert_eq!(text(span, "rpc.method"), method);
            assert_eq!(text(span, "rpc.status_code"), status);
            assert_eq!(text(span, "error.type"), if status == "OK" { "" } else { status });
            assert_eq!(span.status.as_ref().is_some_and(|status| status.code == 2), status != "OK");
            goes_to(span, host, 8081);
            complete(span);
        }
    }
    seen_by_origin(&spans, &calls);
}

#[test]
fn redis_cli_is_passed_through_and_leaves_one_span_for_its_connection() {
    let mut pod = Pod::start();
    let mut command = Command::new("redis-server");
    command.args(["--port", "6379", "--bind", WORLD_V4, WORLD_V6, "--save", "", "--protected-mode", "no"]);
    let _redis = super::support::Process::start("redis", &pod.world, command);
    for host in [WORLD_V4, WORLD_V6] {
        super::support::until("redis answers", || {
            pod.bare.sh(&format!("redis-cli -h {host} ping")).stdout.starts_with(b"PONG")
        });
        let client = || {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("(echo SET k v; echo GET k; echo DEL k nothing; echo ECHO $(head -c 9999 /dev/zero | tr '\\0' x)) | redis-cli -h {host}")]);
            command
        };
        assert_eq!(pod.run_bare(client()).stdout, pod.run(client()).stdout);
    }
    let spans = pod.finish();
    assert_eq!(spans.len(), 2, "{spans:#?}");
    for (span, (host, name)) in
        spans.iter().zip([(WORLD_V4, "connect 10.231.0.254:6379"), (WORLD_V6, "connect [fd00:231::fe]:6379")])
    {
        assert_eq!(span.name, name);
        assert_eq!(text(span, "sidetrace.passthrough.reason"), "not_http");
        assert_eq!(text(span, "network.transport"), "tcp");
        assert!(integer(span, "sidetrace.bytes.sent").unwrap() > 9999);
        assert!(integer(span, "sidetrace.bytes.received").unwrap() > 9999);
        goes_to(span, host, 6379);
        complete(span);
    }
}

#[test]
fn curl_over_tls_is_spliced_with_name_and_alpn_noted() {
    let mut pod = Pod::start();
    let folder = tempfolder("tls");
    let certificate = folder.join("both.pem");
    pod.world.sh_ok(&format!(
        "cd {} && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=tls.test \
         -addext subjectAltName=DNS:tls.test -days 2 -keyout key.pem -out cert.pem 2>&1 && cat key.pem cert.pem > both.pem",
        folder.display()
    ));
    let _origin = pod.origin("tls", &["8443", certificate.to_str().unwrap()]);
    for host in [WORLD_V4.to_owned(), format!("[{WORLD_V6}]")] {
        let client = || {
            let mut command = Command::new("curl");
            command.args(["-sS", "-i", "--cacert"]).arg(folder.join("cert.pem"));
            command.args([
                "--resolve",
                &format!("tls.test:8443:{host}"),
                "https://tls.test:8443/plain",
                "https://tls.test:8443/large",
            ]);
            command
        };
        let (bare, ours) = (pod.run_bare(client()), pod.run(client()));
        assert!(bare.stdout.len() > 4_000_000);
        assert!(bare.stdout == ours.stdout, "the answers differ");
    }
    let spans = pod.finish();
    assert_eq!(spans.len(), 2, "{spans:#?}");
    for (span, host) in spans.iter().zip([WORLD_V4, WORLD_V6]) {
        assert_eq!(span.name, "connect tls.test:8443");
        assert_eq!(text(span, "server.address"), "tls.test");
        assert_eq!(integer(span, "server.port"), Some(8443));
        assert_eq!(text(span, "network.peer.address"), host);
        assert_eq!(text(span, "sidetrace.passthrough.reason"), "tls");
        assert_eq!(text(span, "sidetrace.tls.server_name"), "tls.test");
        let alpn = format!("{:?}", super::support::attribute(&span.attributes, "sidetrace.tls.alpn_offered"));
        assert!(alpn.contains("h2") && alpn.contains("http/1.1"), "{alpn}");
        assert!(integer(span, "sidetrace.bytes.received").unwrap() > 4_000_000);
        complete(span);
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_callers_context_is_continued_and_a_broken_one_is_not() {
    let mut pod = Pod::start();
    let origin = pod.origin("http", &["8080"]);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let url = format!("http://{WORLD_V4}:8080/plain");
    let curl = |headers: &[String]| {
        let mut command = Command::new("curl");
        command.args(["-sS", &url]).args(headers.iter().flat_map(|header| ["-H", header]));
        pod.run(command);
    };
    curl(&[format!("Traceparent: 00-{trace}-00f067aa0ba902b7-03"), "tracestate: a=1, b=2".into()]);
    curl(&[format!("traceparent: 00-{trace}-00f067aa0ba902b7-00")]);
    curl(&[format!("traceparent: 00-{trace}-00f067aa0ba902b7-01-x"), "tracestate: a=1".into()]);
    let spans = pod.finish();
    let calls = origin.into_calls();
    let sent = |index: usize, name: &str| calls[index]["call"][name].clone();
    let [first, second, third] = [0, 1, 2].map(|index| sent(index, "traceparent")[0].as_str().unwrap().to_owned());
    assert!(first.starts_with(&format!("00-{trace}-")) && first.ends_with("-03"), "{first}");
    assert_eq!(sent(0, "tracestate"), serde_json::json!(["a=1, b=2"]));
    assert!(second.starts_with(&format!("00-{trace}-")) && second.ends_with("-00"), "{second}");
    assert!(!third.contains(trace) && third.ends_with("-03"), "{third}");
    assert_eq!(sent(2, "tracestate"), serde_json::json!([]));
    // What the caller has not sampled is not exported.
    assert_eq!(spans.len(), 2, "{spans:#?}");
    assert_eq!(hex(&spans[0].parent_span_id), "00f067aa0ba902b7");
    assert_eq!((spans[0].trace_state.as_str(), spans[0].flags), ("a=1, b=2", 0x303));
    assert!(spans[1].parent_span_id.is_empty());
    seen_by_origin(&spans[..1], &calls[..1]);
    seen_by_origin(&spans[1..], &calls[2..]);
}

/// Runs a client that makes [`HTTP_CALLS`], over IPv4 and IPv6, and compares all there is to compare.
fn http_client(client: impl Fn(&str) -> Command) {
    let mut pod = Pod::start();
    let origin = pod.origin("http", &["8080"]);
    for host in [WORLD_V4.to_owned(), format!("[{WORLD_V6}]")] {
        let base = format!("http://{host}:8080");
        let (bare, ours) = (pod.run_bare(client(&base)).stdout, pod.run(client(&base)).stdout);
        if bare != ours {
            let readable = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(6000)]).into_owned();
            assert_eq!(readable(&bare), readable(&ours));
            panic!("the answers differ behind the first 6,000 bytes");
        }
    }
    let spans = pod.finish();
    let calls = origin.into_calls();
    assert_eq!(spans.len(), 2 * HTTP_CALLS.len(), "{spans:#?}");
    for (host, spans) in [WORLD_V4, WORLD_V6].into_iter().zip(spans.chunks(HTTP_CALLS.len())) {
        for (span, (method, path, status)) in spans.iter().zip(HTTP_CALLS) {
            assert_eq!(span.name, method);
            assert_eq!(span.kind, SpanKind::Client as i32);
            assert_eq!(text(span, "http.request.method"), method);
            assert_eq!(integer(span, "http.response.status_code"), Some(status));
            let authority = if host.contains(':') { format!("[{host}]:8080") } else { format!("{host}:8080") };
            assert_eq!(text(span, "url.full"), format!("http://{authority}{path}"));
            assert_eq!(text(span, "network.protocol.version"), "1.1");
            assert_eq!(text(span, "error.type"), if status == 404 { "404" } else { "" });
            assert_eq!(span.status.as_ref().is_some_and(|status| status.code == 2), status == 404);
            goes_to(span, host, 8080);
            complete(span);
        }
    }
    seen_by_origin(&spans, &calls);
    let resource = &pod.collector.resources()[0];
    let service = super::support::attribute(&resource.attributes, "service.name");
    assert!(format!("{service:?}").contains("agent-under-test"));
}

/// The origin saw, for every span, exactly one `traceparent`, and that names the span. Calls made without us had none.
fn seen_by_origin(spans: &[Span], calls: &[serde_json::Value]) {
    let traced: Vec<_> = calls
        .iter()
        .map(|call| call["call"]["traceparent"].as_array().unwrap())
        .filter(|values| !values.is_empty())
        .map(|values| {
            assert_eq!(values.len(), 1, "{values:?}");
            values[0].as_str().unwrap().to_owned()
        })
        .collect();
    let mut expected: Vec<_> = spans
        .iter()
        .map(|span| format!("00-{}-{}-{:02x}", hex(&span.trace_id), hex(&span.span_id), span.flags & 0xff))
        .collect();
    let mut seen = traced;
    expected.sort();
    seen.sort();
    assert_eq!(seen, expected);
}

fn goes_to(span: &Span, host: &str, port: i64) {
    assert_eq!(text(span, "server.address"), host);
    assert_eq!(integer(span, "server.port"), Some(port));
    assert_eq!(text(span, "network.peer.address"), host);
    assert_eq!(integer(span, "network.peer.port"), Some(port));
}

fn complete(span: &Span) {
    assert_eq!(text(span, "sidetrace.end"), "", "{span:#?}");
    assert!(span.end_time_unix_nano > span.start_time_unix_nano);
}

fn python_client(name: &str, arguments: &[&str]) -> Command {
    script(python().to_str().unwrap(), name, arguments)
}

fn script(interpreter: &str, name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(interpreter);
    command.arg(root().join("tests/it/clients").join(name)).args(arguments);
    command
}

fn tempfolder(name: &str) -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("sidetrace-test-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
