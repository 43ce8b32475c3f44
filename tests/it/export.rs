//! The way to the backend: compressed, in TLS, with a token, through a proxy; and what changes while we run.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use base64::Engine;
use nix::sys::signal::Signal;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use serde_json::Value;

use super::support::{Netns, Pod, Process, WORLD_V4, binary, python, root, until};

#[test]
fn compressed_spans_are_taken_by_a_collector_over_grpc_and_http() {
    for (protocol, port, coding) in [("grpc", 4317, "gzip"), ("http/protobuf", 4318, "gzip")] {
        let mut pod = Pod::start_with(&[
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{WORLD_V4}:{port}")),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", coding),
        ]);
        let _origin = pod.origin("http", &["8080"]);
        calls(&pod, 20);
        assert_eq!(pod.finish().len(), 20, "{protocol} {coding}");
    }
}

#[test]
fn a_backend_that_refuses_the_coding_is_said_in_the_log_and_the_spans_are_counted() {
    // Neither grpc-core nor rotel's tonic takes zstd; they say so in different ways.
    for (protocol, port) in [("http", 4444), ("grpc", 4444), ("grpc", 4317)] {
        let mut pod = Pod::without_sidecar(&[]);
        let _backend = backend(&pod.world, protocol, WORLD_V4, &["--status", "415"]);
        to_backend(&mut pod, protocol, &format!("http://{WORLD_V4}:{port}"));
        pod.set("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd");
        start(&mut pod);
        let _origin = pod.origin("http", &["8080"]);
        calls(&pod, 3);
        let said = pod.stop_sidecar();
        assert!(said.contains("the backend does not take zstd; set OTEL_EXPORTER_OTLP_COMPRESSION"), "{said}");
        assert!(said.contains("created=3 exported=0 lost=3"), "{said}");
    }
}

#[test]
fn a_backend_that_asks_who_we_are_gets_our_certificate_over_http_and_grpc() {
    let keys = Keys::new("client");
    keys.authority("ours");
    keys.certificate("ours", "server", &format!("IP:{WORLD_V4},DNS:localhost"));
    keys.certificate("ours", "sidecar", "DNS:sidecar");
    let tls = ["--certificate", &keys.path("server.pem"), "--key", &keys.path("server.key")];
    let authority = keys.path("ours.pem");
    let asking = [&tls[..], &["--client-ca", &authority]].concat();
    // By address, and by a name that is verified; gRPC without a scheme is secure.
    for (protocol, to) in [("http", format!("https://{WORLD_V4}:4444")), ("grpc", "localhost:4444".to_owned())] {
        let mut pod = Pod::without_sidecar(&[]);
        let near = protocol == "grpc";
        let netns = if near { pod.agent.clone() } else { pod.world.clone() };
        let backend = backend(&netns, protocol, if near { "localhost" } else { WORLD_V4 }, &asking);
        to_backend(&mut pod, protocol, &to);
        pod.set("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip");
        pod.set("OTEL_EXPORTER_OTLP_CERTIFICATE", &keys.path("ours.pem"));
        pod.set("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/nowhere");
        pod.set("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", &keys.path("sidecar.pem"));
        pod.set("OTEL_EXPORTER_OTLP_CLIENT_KEY", &keys.path("sidecar.key"));
        start(&mut pod);
        let _origin = pod.origin("http", &["8080"]);
        calls(&pod, 1);
        let call = &lines(&backend, 1)[0];
        assert_eq!((call["client"].as_str(), spans(call)), (Some("sidecar"), 1));
        if protocol == "http" {
            assert_eq!(
                (call["alpn"].as_str(), call["headers"]["content-encoding"].as_str()),
                (Some("http/1.1"), Some("gzip"))
            );
        }
        let said = pod.stop_sidecar();
        assert!(said.contains("created=1 exported=1 lost=0"), "{said}");
    }
}

#[test]
fn the_systems_roots_hold_where_no_authority_is_named_and_others_are_not_trusted() {
    let keys = Keys::new("roots");
    keys.authority("system");
    keys.authority("other");
    keys.certificate("system", "server", &format!("IP:{WORLD_V4}"));
    keys.certificate("system", "elsewhere", "IP:10.9.9.9");
    let run = |certificate: &str, roots: &str, expected: &str| {
        let mut pod = Pod::without_sidecar(&[]);
        let (pem, key) = (keys.path(&format!("{certificate}.pem")), keys.path(&format!("{certificate}.key")));
        let backend = backend(&pod.world, "http", WORLD_V4, &["--certificate", &pem, "--key", &key]);
        to_backend(&mut pod, "http", &format!("https://{WORLD_V4}:4444"));
        pod.set("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd");
        pod.set("SIDETRACE_FLUSH_TIMEOUT", "1");
        pod.set("SSL_CERT_FILE", &keys.path(roots));
        start(&mut pod);
        let _origin = pod.origin("http", &["8080"]);
        calls(&pod, 1);
        let said = pod.stop_sidecar();
        assert!(said.contains(expected), "{said}");
        (backend.said().matches("call").count(), said)
    };
    let (taken, said) = run("server", "system.pem", "exported=1 lost=0");
    assert_eq!(taken, 1, "{said}");
    assert_eq!(run("server", "other.pem", &format!("TLS with {WORLD_V4}: invalid peer certificate")).0, 0);
    assert_eq!(run("elsewhere", "system.pem", "invalid peer certificate").0, 0);
}

#[test]
fn certificates_that_are_replaced_while_we_run_are_used_for_the_next_connection() {
    let keys = Keys::new("rotated");
    keys.authority("first");
    keys.certificate("first", "server", &format!("IP:{WORLD_V4}"));
    keys.certificate("first", "sidecar", "DNS:sidecar");
    let (pem, key, authority) = (keys.path("server.pem"), keys.path("server.key"), keys.path("first.pem"));
    let mut pod = Pod::without_sidecar(&[]);
    let backend =
        backend(&pod.world, "http", WORLD_V4, &["--certificate", &pem, "--key", &key, "--client-ca", &authority]);
    to_backend(&mut pod, "http", &format!("https://{WORLD_V4}:4444"));
    pod.set("OTEL_EXPORTER_OTLP_CERTIFICATE", &keys.path("trusted.pem"));
    pod.set("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", &keys.path("sidecar.pem"));
    pod.set("OTEL_EXPORTER_OTLP_CLIENT_KEY", &keys.path("sidecar.key"));
    start(&mut pod);
    let _origin = pod.origin("http", &["8080"]);
    // A file may come after us.
    let retries = || pod.metric("sidetrace_export_retries_total");
    calls(&pod, 1);
    until("there is nobody to trust", || retries() > 0);
    keys.copy("first.pem", "trusted.pem");
    assert_eq!(lines(&backend, 1)[0]["client"], "sidecar");
    // Ours: first only half of the pair, which does not fit together and leaves the last one in force.
    keys.certificate("first", "next", "DNS:next");
    keys.copy("next.pem", "sidecar.pem");
    calls(&pod, 1);
    assert_eq!(lines(&backend, 2)[1]["client"], "sidecar");
    keys.copy("next.key", "sidecar.key");
    calls(&pod, 1);
    assert_eq!(lines(&backend, 3)[2]["client"], "next");
    // The backend's, by another authority: not trusted until our file says so, and nothing is lost meanwhile.
    keys.authority("second");
    keys.certificate("second", "server", &format!("IP:{WORLD_V4}"));
    backend.signal(Signal::SIGHUP);
    backend.wait_for("certificate read again", 1);
    let before = retries();
    calls(&pod, 1);
    until("the backend is not trusted", || retries() > before);
    keys.copy("second.pem", "trusted.pem");
    assert_eq!(spans(&lines(&backend, 4)[3]), 1);
    let said = pod.stop_sidecar();
    assert!(said.contains("created=4 exported=4 lost=0") && said.contains("the last ones hold"), "{said}");
}

#[test]
fn a_token_that_is_rotated_is_sent_from_the_next_batch_on_and_never_shown() {
    let keys = Keys::new("token");
    let mut pod = Pod::without_sidecar(&[]);
    let backend = backend(&pod.world, "http", WORLD_V4, &[]);
    to_backend(&mut pod, "http", &format!("http://{WORLD_V4}:4444"));
    pod.set("SIDETRACE_EXPORT_TOKEN_FILE", &keys.path("token"));
    pod.set("SIDETRACE_LOG", "trace");
    keys.write("token", "t0psecret-1\n");
    start(&mut pod);
    let _origin = pod.origin("http", &["8080"]);
    let mut seen = Vec::new();
    for (count, content) in [Some("t0psecret-1"), Some("t0psecret-2"), Some(""), None].into_iter().enumerate() {
        match content {
            Some(content) => keys.write("token", content),
            None => fs::remove_file(keys.path("token")).unwrap(),
        }
        calls(&pod, 1);
        seen.push(lines(&backend, count + 1)[count]["headers"]["authorization"].as_str().map(str::to_owned));
    }
    assert_eq!(seen, [Some("Bearer t0psecret-1".into()), Some("Bearer t0psecret-2".into()), None, None]);
    let said = pod.stop_sidecar();
    assert!(!said.contains("t0psecret"), "{said}");
    assert_eq!(said.matches("no export token").count(), 2, "{said}");
}

#[test]
fn a_proxy_carries_requests_in_absolute_form_and_everything_else_in_a_tunnel() {
    let keys = Keys::new("proxy");
    keys.authority("ours");
    keys.certificate("ours", "server", &format!("IP:{WORLD_V4}"));
    let tls = ["--certificate", &keys.path("server.pem"), "--key", &keys.path("server.key")];
    let tunnel = format!("CONNECT {WORLD_V4}:4444");
    for (protocol, scheme, variable, expected) in [
        ("http", "http", "HTTP_PROXY", format!("POST http://{WORLD_V4}:4444/v1/traces")),
        ("http", "https", "HTTPS_PROXY", tunnel.clone()),
        ("grpc", "http", "http_proxy", tunnel.clone()),
        ("grpc", "https", "ALL_PROXY", tunnel.clone()),
    ] {
        let mut pod = Pod::without_sidecar(&[]);
        let backend = backend(&pod.world, protocol, WORLD_V4, if scheme == "https" { &tls } else { &[] });
        let proxy = forward_proxy(&pod.world);
        to_backend(&mut pod, protocol, &format!("{scheme}://{WORLD_V4}:4444"));
        pod.set(variable, &format!("http://agent:p%40ssw0rd@{WORLD_V4}:3128"));
        pod.set("OTEL_EXPORTER_OTLP_CERTIFICATE", &keys.path("ours.pem"));
        pod.set("SIDETRACE_LOG", "trace");
        start(&mut pod);
        let _origin = pod.origin("http", &["8080"]);
        calls(&pod, 1);
        let call = &lines(&backend, 1)[0];
        assert_eq!(spans(call), 1);
        assert!(call["headers"].get("proxy-authorization").is_none());
        assert_eq!(lines(&proxy, 1)[0]["request"], *expected);
        let said = pod.stop_sidecar();
        assert!(said.contains("created=1 exported=1 lost=0"), "{said}");
        assert!(!said.contains("p@ssw0rd") && !said.contains("p%40ssw0rd") && !said.contains("cEBzc3cwcmQ"), "{said}");
    }
}

#[test]
fn a_proxy_that_wants_other_credentials_is_named_and_none_are_printed() {
    let mut pod = Pod::without_sidecar(&[("SIDETRACE_FLUSH_TIMEOUT", "0.2")]);
    let _proxy = forward_proxy(&pod.world);
    to_backend(&mut pod, "grpc", &format!("http://{WORLD_V4}:4444"));
    pod.set("http_proxy", &format!("http://agent:wr0ng@{WORLD_V4}:3128"));
    start(&mut pod);
    let _origin = pod.origin("http", &["8080"]);
    calls(&pod, 1);
    let said = pod.stop_sidecar();
    assert!(said.contains("the proxy for export: it answered CONNECT with 407"), "{said}");
    assert!(said.contains("created=1 exported=0 lost=1") && !said.contains("wr0ng"), "{said}");
    let mut config = Command::new(binary());
    config.arg("config").env_clear().env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
    let output = config.env("http_proxy", "http://agent:wr0ng@proxy:3128").output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(
        printed.contains("http://proxy:3128/") && !printed.contains("wr0ng") && !printed.contains("agent"),
        "{printed}"
    );
}

/// The backend of `tests/it/backend.py`, on port 4444.
fn backend(netns: &Netns, protocol: &str, address: &str, more: &[&str]) -> Process {
    let mut command = Command::new(python());
    command.arg(root().join("tests/it/backend.py")).args([protocol, address, "4444"]).args(more);
    let process = Process::start("backend", netns, command);
    process.wait_for("listening", 1);
    process
}

fn forward_proxy(netns: &Netns) -> Process {
    let mut command = Command::new(python());
    command.arg(root().join("tests/it/forward_proxy.py")).args([WORLD_V4, "3128", "agent:p@ssw0rd"]);
    let process = Process::start("proxy", netns, command);
    process.wait_for("listening", 1);
    process
}

fn to_backend(pod: &mut Pod, protocol: &str, endpoint: &str) {
    pod.set("OTEL_EXPORTER_OTLP_PROTOCOL", if protocol == "http" { "http/protobuf" } else { protocol });
    pod.set("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    // The backend counts requests, and takes spans only.
    pod.set("OTEL_METRICS_EXPORTER", "none");
}

fn start(pod: &mut Pod) {
    pod.redirect(&[]);
    pod.start_sidecar();
}

fn calls(pod: &Pod, count: usize) {
    let mut command = Command::new("curl");
    command.args(["-sSf", "-o", "/dev/null", &format!("http://{WORLD_V4}:8080/plain?[1-{count}]")]);
    pod.run(command);
}

/// The first `count` requests that a process has said.
fn lines(process: &Process, count: usize) -> Vec<Value> {
    let found = process.wait_for("{\"call\":", count);
    found.iter().map(|line| serde_json::from_str::<Value>(line).unwrap()["call"].take()).collect()
}

/// The spans in a request, decoded as its headers say.
fn spans(call: &Value) -> usize {
    let body = base64::prelude::BASE64_STANDARD.decode(call["body"].as_str().unwrap()).unwrap();
    let body = match call["headers"]["content-encoding"].as_str() {
        Some("gzip") => {
            let mut plain = Vec::new();
            std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&body[..]), &mut plain).unwrap();
            plain
        }
        Some("zstd") => zstd::stream::decode_all(&body[..]).unwrap(),
        _ => body,
    };
    let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
    request.resource_spans.iter().flat_map(|group| &group.scope_spans).map(|scope| scope.spans.len()).sum()
}

/// A folder of certificates that the sidecar's user can read; they are as real as it gets and good for two days.
struct Keys(PathBuf);

impl Keys {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("sidetrace-keys-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        Self(folder)
    }

    fn path(&self, file: &str) -> String {
        self.0.join(file).to_str().unwrap().to_owned()
    }

    fn authority(&self, name: &str) {
        self.openssl(name, &["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign"], &[]);
    }

    fn certificate(&self, authority: &str, name: &str, names: &str) {
        let names = format!("subjectAltName={names}");
        let (ca, key) = (self.path(&format!("{authority}.pem")), self.path(&format!("{authority}.key")));
        self.openssl(name, &["basicConstraints=critical,CA:FALSE", &names], &["-CA", &ca, "-CAkey", &key]);
    }

    fn openssl(&self, name: &str, extensions: &[&str], more: &[&str]) {
        let (pem, key) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")));
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]);
        command.args(["-subj", &format!("/CN={name}"), "-keyout", &key, "-out", &pem]).args(more);
        extensions.iter().for_each(|extension| _ = command.args(["-addext", extension]));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::set_permissions(key, fs::Permissions::from_mode(0o644)).unwrap();
    }

    /// As rotation is done: a whole file takes the place of another.
    fn write(&self, file: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path("new"), content).unwrap();
        fs::rename(self.path("new"), self.path(file)).unwrap();
    }

    fn copy(&self, from: &str, to: &str) {
        self.write(to, fs::read(self.path(from)).unwrap());
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
