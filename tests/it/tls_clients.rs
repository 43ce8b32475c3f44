//! Unmodified clients whose TLS is intercepted: with nothing but environment variables set they get byte for byte the answers
//! that they get without us, their servers see the same requests, and every call leaves a complete span. The servers stand
//! behind the real host names, with an authority of their own.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::Value;

use super::conformance::row::{Row, named};
use super::conformance::seen::{self, Seen};
use super::support::{Internet, Netns, Pod, Process, hex, integer, python, root, text};

#[test]
fn python_clients_see_the_same_through_interception_and_every_call_is_traced() {
    let kinds = ["openai", "anthropic", "requests", "urllib3", "httpx", "aiohttp", "boto3", "grpcio", "raw"];
    let clients = kinds.map(|kind| vec![path(&python()), script("calls.py"), kind.into()]);
    let rows =
        ["openai", "anthropic", "requests", "urllib3", "httpx h1", "httpx h2", "aiohttp", "boto3", "grpcio", "raw"];
    play("python", &clients, &rows.map(named));
}

#[test]
fn node_clients_see_the_same_through_interception_and_every_call_is_traced() {
    let libraries = root().join("target/tools/node-tests");
    assert!(libraries.join("node_modules").exists(), "{libraries:?} is missing: `make tools` installs it");
    let clients = [vec!["node".into(), script("calls.mjs"), path(&libraries)]];
    play("node", &clients, &["node fetch", "node openai", "node grpc"].map(named));
}

#[test]
fn java_clients_see_the_same_through_interception_and_every_call_is_traced() {
    let clients = [vec!["java".into(), script("Calls.java")]];
    play("java", &clients, &["java h1", "java h2"].map(named));
}

#[test]
fn curl_and_git_see_the_same_through_interception_and_every_call_is_traced() {
    let clients = [vec!["sh".into(), script("calls.sh"), "HOME".into()]];
    play("shell", &clients, &["curl h1", "curl h2", "git"].map(named));
}

/// The same where nothing is redirected: clients are told by these variables.
pub(super) fn play_told(
    name: &str,
    kinds: &[&str],
    rows: &[&'static str],
    settings: &[(&str, &str)],
    variables: &[(&str, String)],
) {
    let clients: Vec<_> = kinds
        .iter()
        .map(|kind| match *kind {
            "shell" => vec!["sh".to_owned(), script("calls.sh"), "HOME".into()],
            kind => vec![path(&python()), script("calls.py"), kind.to_owned()],
        })
        .collect();
    let rows: Vec<_> = rows.iter().copied().map(named).collect();
    let told = |internet: &Internet, words: &[String]| {
        let mut command = internet.ours(words);
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        command
    };
    play_with(name, &clients, &rows, settings, Pod::start_sidecar_among, told);
}

/// Plays all clients at once, without us and then with us, compares the rows, and holds each call against its span.
fn play(name: &str, clients: &[Vec<String>], rows: &[Row]) {
    let start = |pod: &mut Pod, _: &Internet| {
        pod.redirect(&[]);
        pod.start_sidecar();
    };
    play_with(name, clients, rows, &[], start, Internet::ours);
}

fn play_with(
    name: &str,
    clients: &[Vec<String>],
    rows: &[Row],
    settings: &[(&str, &str)],
    start: impl Fn(&mut Pod, &Internet),
    ours: impl Fn(&Internet, &[String]) -> Command,
) {
    let mut pod = Pod::without_sidecar(settings);
    let mut internet = Internet::new(name);
    internet.settle(&pod.world, &NAMES);
    internet.sh(REPOSITORY);
    for (setting, value) in internet.settings() {
        pod.set(setting, &value);
    }
    // Of what it hears on the way to its server curl would show nothing without a proxy.
    internet.write("home/.curlrc", "suppress-connect-headers\n");
    let (bare, _) = play_in(&pod.world, &pod.bare, &internet, clients, Internet::bare);
    start(&mut pod, &internet);
    let (ours, calls) = play_in(&pod.world, &pod.agent, &internet, clients, ours);
    let mut failures = seen::compare(rows, &bare, &ours);
    let spans = pod.finish();
    failures.extend(calls.iter().filter_map(|call| judge(call, &spans).err()));
    if failures.is_empty() && spans.len() != calls.len() {
        failures.push(format!("{} calls left {} spans: {spans:#?}", calls.len(), spans.len()));
    }
    assert!(failures.is_empty(), "{} failures\n\n{}", failures.len(), failures.join("\n"));
}

/// What both ends saw, and what the servers say of each call.
fn play_in(
    world: &Netns,
    netns: &Netns,
    internet: &Internet,
    clients: &[Vec<String>],
    command: impl Fn(&Internet, &[String]) -> Command,
) -> (Seen, Vec<Value>) {
    let mut servers = start_servers(world, internet);
    let mut seen = Seen::default();
    let outputs: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = clients
            .iter()
            .map(|words| {
                let words: Vec<_> = words.iter().map(|word| word.replace("HOME", &internet.path("home"))).collect();
                let command = command(internet, &words);
                scope.spawn(move || (words, netns.output(command)))
            })
            .collect();
        running.into_iter().map(|client| client.join().unwrap()).collect()
    });
    for (words, output) in outputs {
        let (said, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{words:?}: {}\n{said}\n{complaints}", output.status);
        seen::gather(&mut seen, &said);
    }
    let mut calls = vec![];
    for server in &mut servers {
        let (status, said) = server.terminate();
        assert!(status.success() || status.signal() == Some(15), "a server has failed: {status}\n{said}");
        seen::gather(&mut seen, &said);
        let reports = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        calls.extend(reports.filter(|report| report["call"].is_object()));
    }
    (seen, calls)
}

fn start_servers(world: &Netns, internet: &Internet) -> Vec<Process> {
    let of = |names: &[&str]| {
        let pairs = NAMES.iter().filter(|(name, _)| names.contains(name));
        pairs.map(|(name, address)| format!("{name}={address}")).collect::<Vec<_>>()
    };
    let programs = [
        (path(&python()), "internet.py", of(&HTTP1)),
        ("node".into(), "h2.mjs", of(&["h2.example", "git.example"])),
        (path(&python()), "grpc_origin.py", of(&["grpc.example"])),
    ];
    let servers = programs.map(|(interpreter, name, pairs)| {
        let mut command = Command::new(interpreter);
        command.arg(script(name)).arg(internet.folder()).args(pairs);
        Process::start(name, world, command)
    });
    for server in &servers {
        server.wait_for("listening", 1);
    }
    servers.into()
}

/// Exactly one span, which says what the server says.
fn judge(call: &Value, spans: &[Span]) -> Result<(), String> {
    let row = call["row"].as_str().unwrap_or_default();
    let call = &call["call"];
    let given = call["traceparent"].as_array().unwrap();
    let fail = |what: String| Err(format!("- {row}: {what}: {call}"));
    let [parent] = given.as_slice() else { return fail(format!("{} traceparents", given.len())) };
    let id = parent.as_str().unwrap().split('-').nth(2).unwrap_or_default();
    let mut found = spans.iter().filter(|span| hex(&span.span_id) == id);
    let Some(span) = found.next() else { return fail("no span".into()) };
    let mut expected = BTreeMap::from([
        ("server.address", call["host"].as_str().unwrap().to_owned()),
        ("tls.protocol.name", "tls".to_owned()),
        ("tls.protocol.version", call["version"].as_str().unwrap().to_owned()),
        ("tls.next_protocol", call["alpn"].as_str().unwrap_or_default().to_owned()),
        ("sidetrace.passthrough.reason", String::new()),
    ]);
    if let Some(method) = call["method"].as_str() {
        expected.insert("rpc.method", method.to_owned());
        expected.insert("rpc.status_code", call["code"].as_str().unwrap().to_owned());
    } else {
        let target = call["target"].as_str().unwrap();
        let shown = target.split_once('?').map_or(target.to_owned(), |(path, query)| {
            let names = query
                .split('&')
                .map(|pair| pair.split_once('=').map_or(pair.to_owned(), |(name, _)| format!("{name}=REDACTED")));
            format!("{path}?{}", names.collect::<Vec<_>>().join("&"))
        });
        expected.insert("url.full", format!("https://{}{shown}", call["host"].as_str().unwrap()));
        if integer(span, "http.response.status_code") != call["status"].as_i64() {
            return fail(format!("status is {:?}", integer(span, "http.response.status_code")));
        }
    }
    let wrong = expected.iter().find(|(name, value)| text(span, name) != value.as_str());
    match wrong {
        Some((name, value)) => fail(format!("{name} is {:?}, not {value:?}", text(span, name))),
        None if text(span, "tls.cipher").is_empty() => fail("no tls.cipher".into()),
        None if span.kind != SpanKind::Client as i32 => fail("not a CLIENT".into()),
        None if integer(span, "server.port") != Some(443) => fail("not port 443".into()),
        None if found.next().is_some() => fail("two spans".into()),
        None => Ok(()),
    }
}

fn script(name: &str) -> String {
    path(&root().join("tests/it/tls_clients").join(name))
}

fn path(path: &std::path::Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// The names that clients call, and where they are.
const NAMES: [(&str, &str); 8] = [
    ("api.openai.com", "10.231.1.1"),
    ("api.anthropic.com", "fd00:231:1::2"),
    ("bedrock-runtime.us-east-1.amazonaws.com", "10.231.1.3"),
    ("tests.s3.us-east-1.amazonaws.com", "10.231.1.4"),
    ("http1.example", "10.231.1.5"),
    ("h2.example", "10.231.1.6"),
    ("git.example", "10.231.1.7"),
    ("grpc.example", "10.231.1.8"),
];

/// Those that speak no HTTP/2.
const HTTP1: [&str; 5] = [
    "api.openai.com",
    "api.anthropic.com",
    "bedrock-runtime.us-east-1.amazonaws.com",
    "tests.s3.us-east-1.amazonaws.com",
    "http1.example",
];

/// The same commits each time.
const REPOSITORY: &str = "
export GIT_CONFIG_NOSYSTEM=1 HOME=$PWD/home GIT_AUTHOR_DATE=2026-01-01T00:00:00Z GIT_COMMITTER_DATE=2026-01-01T00:00:00Z
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=core.fsync GIT_CONFIG_VALUE_0=none
mkdir -p repositories && git init -q -b main work && cd work
head -c 3000000 /dev/zero | openssl enc -aes-128-ctr -K 00 -iv 00 > large 2>/dev/null
git add large && git -c user.name=x -c user.email=x@x commit -q -m first
git clone -q --bare . ../repositories/a.git
";
