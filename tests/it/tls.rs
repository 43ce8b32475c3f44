//! What is remembered of TLS: sessions, and of whom a doubt is.

use std::process::Command;

use opentelemetry_proto::tonic::trace::v1::Span;

use super::support::{Internet, Pod, Process, python, text};

#[test]
fn sessions_are_resumed_on_both_sides_in_either_version() {
    let (mut pod, internet) = stage("resumption");
    let _server = serve(&pod, &internet, &["-www"]);
    pod.start_sidecar();
    let output = pod.run(internet.ours(&[path(&python()), "-c".into(), RESUME.into()]));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(said.lines().collect::<Vec<_>>(), ["TLSv1.2 False", "TLSv1.2 True", "TLSv1.3 False", "TLSv1.3 True"]);
    let mut spans: Vec<_> = calls(pod.finish());
    spans.sort_by_key(|span| span.start_time_unix_nano);
    let agreed: Vec<_> = spans.iter().map(|span| (text(span, "tls.protocol.version"), resumed(span))).collect();
    assert_eq!(agreed, [("1.2", false), ("1.2", true), ("1.3", false), ("1.3", true)]);
}

#[test]
fn a_doubt_about_what_one_client_offers_is_none_about_another() {
    let (mut pod, internet) = stage("offers");
    let _server = serve(&pod, &internet, &["-www", "-alpn", "http/1.1"]);
    pod.start_sidecar();
    let other = "import socket, ssl
context = ssl.create_default_context()
context.set_alpn_protocols(['h2'])
try:
    context.wrap_socket(socket.create_connection(('tls.test', 443), 20), server_hostname='tls.test')
except ssl.SSLError:
    print('refused')";
    let output = pod.run(internet.ours(&[path(&python()), "-c".into(), other.into()]));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "refused", "by upstream itself");
    pod.run(internet.ours(&["curl", "-sSf", "-m", "20", "https://tls.test/"].map(str::to_owned)));
    let spans = pod.finish();
    let reasons: Vec<_> = spans.iter().map(|span| text(span, "sidetrace.passthrough.reason")).collect();
    assert_eq!(reasons, ["tls_upstream_incompatible", ""], "{spans:#?}");
    assert_eq!(calls(spans).len(), 1);
}

fn stage(name: &str) -> (Pod, Internet) {
    let mut pod = Pod::without_sidecar(&[]);
    let mut internet = Internet::new(name);
    internet.settle(&pod.world, &[("tls.test", "10.231.4.1")]);
    for (setting, value) in internet.settings() {
        pod.set(setting, &value);
    }
    pod.redirect(&[]);
    (pod, internet)
}

fn serve(pod: &Pod, internet: &Internet, options: &[&str]) -> Process {
    let mut command = Command::new("openssl");
    command.args(["s_server", "-accept", "10.231.4.1:443", "-cert", &internet.path("tls.test.pem")]).args(options);
    let server = Process::start("s_server", &pod.world, command);
    server.wait_for("ACCEPT", 1);
    server
}

fn calls(spans: Vec<Span>) -> Vec<Span> {
    spans.into_iter().filter(|span| text(span, "url.full") == "https://tls.test/").collect()
}

fn resumed(span: &Span) -> bool {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    let found = span.attributes.iter().find(|attribute| attribute.key == "tls.resumed");
    let value = found.and_then(|attribute| attribute.value.as_ref()?.value.as_ref());
    matches!(value, Some(Value::BoolValue(true)))
}

fn path(path: &std::path::Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Two connections for each version, the second with the first's session; what each was.
const RESUME: &str = "
import socket, ssl
for version in ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3:
    context, session = ssl.create_default_context(), None
    context.minimum_version = context.maximum_version = version
    for _ in range(2):
        raw = socket.create_connection(('tls.test', 443), 20)
        connection = context.wrap_socket(raw, server_hostname='tls.test', session=session)
        connection.sendall(b'GET / HTTP/1.1\\r\\nHost: tls.test\\r\\n\\r\\n')
        while connection.recv(65536):
            pass
        session = connection.session
        print(connection.version(), connection.session_reused)
        connection.close()
";
