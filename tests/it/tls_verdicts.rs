//! What a client says of a server is what it says without us: of every badssl-like case, and on the first attempt. Where the
//! server is in doubt the client's own handshake goes through, and the span says why; where it is not, we are in between.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::{Value, json};

use super::conformance::row::{Row, named};
use super::conformance::seen::{self, Seen};
use super::support::{Internet, LEAF, Netns, Pod, Process, integer, python, root, text};

/// A server, and what we do with connections to it.
struct Case {
    name: &'static str,
    host: String,
    server: Value,
    expected: Expected,
}

impl Case {
    /// A client with a certificate, and one that takes what is old, has a word to say only where that matters.
    fn is_for(&self, kind: &str) -> bool {
        let has = |keys: &[&str]| keys.iter().any(|key| self.server.get(key).is_some());
        let old =
            ["SHA-1", "RSA with 1024 bits", "nothing wrong"].contains(&self.name) || has(&["versions", "ciphers"]);
        match kind.rsplit_once('-') {
            Some((_, "certificate")) => has(&["client"]) || self.name == "nothing wrong",
            Some((_, "old")) => old,
            _ => true,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    Intercepted,
    /// Passed through, with one of the reasons that begin so.
    Passed(&'static str),
    /// As rustls likes.
    Either,
}

use Expected::{Either, Intercepted, Passed};

/// Every kind of client has an address of its own, so that none profits from what was learned of another.
const KINDS: [(&str, &str); 9] = [
    ("curl", "10.231.2.1"),
    ("curl-k", "10.231.2.2"),
    ("curl-old", "10.231.2.3"),
    ("curl-certificate", "10.231.2.4"),
    ("python", "10.231.2.5"),
    ("python-old", "10.231.2.6"),
    ("python-certificate", "10.231.2.7"),
    ("node", "10.231.2.8"),
    ("node-k", "10.231.2.9"),
];

#[test]
fn the_verdict_on_every_kind_of_server_is_the_clients_own_on_the_first_attempt() {
    let cases = cases();
    let mut pod = Pod::without_sidecar(&[]);
    let internet = internet(&pod.world, &cases);
    for (setting, value) in internet.settings() {
        pod.set(setting, &value);
    }
    pod.redirect(&[]);
    let bare = play(&pod.world, &pod.bare, &internet, Internet::bare);
    pod.start_sidecar();
    // A system whose own authorities Node has to trust says so to Node; ours comes beside them.
    internet.sh("cat trust/ca.pem root.pem > node.pem");
    let ours = play(&pod.world, &pod.agent, &internet, |internet, words| {
        let [bundle, node, java] =
            ["trust/bundle.pem", "node.pem", "trust/truststore.p12"].map(|name| internet.path(name));
        internet.client(words, &bundle, &node, &java)
    });
    let spans = pod.finish();
    let rows: Vec<Row> = all(&cases).map(|(kind, _, case, _)| row(kind, case, &ours)).collect();
    let mut failures = seen::compare(&rows, &bare, &ours);
    failures.extend(all(&cases).filter_map(|(kind, address, case, port)| judge(kind, address, case, port, &spans)));
    assert!(failures.is_empty(), "{} failures among {} rows\n\n{}", failures.len(), rows.len(), failures.join("\n"));
}

fn all(cases: &[Case]) -> impl Iterator<Item = (&'static str, &'static str, &Case, u16)> {
    KINDS.iter().flat_map(move |(kind, address)| {
        let of_it = cases.iter().zip(FIRST_PORT..).filter(|(case, _)| case.is_for(kind));
        of_it.map(|(case, port)| (*kind, *address, case, port))
    })
}

/// Where we are in between, the server sees our header.
fn row(kind: &str, case: &Case, ours: &Seen) -> Row {
    let row = named(&format!("{kind}: {}", case.name));
    match case.expected {
        Intercepted => row,
        Passed(_) => row.traced(0),
        Either => {
            let saw = ours.get(&(row.name.clone(), "origin".into())).cloned().unwrap_or_default();
            row.traced(saw.iter().filter(|saw| saw.to_lowercase().contains("traceparent: ")).count())
        }
    }
}

/// The span of what was passed through says so, and that of what was not does not.
fn judge(kind: &str, address: &str, case: &Case, port: u16, spans: &[Span]) -> Option<String> {
    let of_it = |span: &&Span| {
        text(span, "network.peer.address") == address && integer(span, "server.port") == Some(i64::from(port))
    };
    let reasons: Vec<_> = spans.iter().filter(of_it).map(|span| text(span, "sidetrace.passthrough.reason")).collect();
    let right = match case.expected {
        // A server without a protocol in common with the client is never spoken to.
        Intercepted => reasons.iter().all(|reason| reason.is_empty()),
        Passed(expected) => reasons.iter().any(|reason| !reason.is_empty() && reason.starts_with(expected)),
        Either => !reasons.is_empty(),
    };
    (!right).then(|| format!("- {kind}: {}: the spans' reasons are {reasons:?}\n", case.name))
}

fn internet(world: &Netns, cases: &[Case]) -> Internet {
    let internet = Internet::new("verdicts");
    let addresses: Vec<_> = KINDS.iter().map(|(_, address)| format!("IP:{address}")).collect();
    let script = root().join("tests/it/tls_verdicts/certificates.sh");
    internet.sh(&format!("{LEAF}\nADDRESSES={}\n. {}", addresses.join(","), script.display()));
    let shown: Value = cases
        .iter()
        .zip(FIRST_PORT..)
        .map(|(case, port)| {
            let kinds: Vec<_> = KINDS.iter().map(|(kind, _)| *kind).filter(|kind| case.is_for(kind)).collect();
            json!([case.name, case.host, port, case.server, kinds])
        })
        .collect();
    internet.write("cases.json", &shown.to_string());
    for (kind, address) in KINDS {
        internet.address(world, address);
        let lines = cases.iter().map(|case| format!("{address} {}\n", case.host));
        internet.write(&format!("hosts-{kind}"), &lines.collect::<String>());
    }
    internet
}

fn play(world: &Netns, netns: &Netns, internet: &Internet, command: impl Fn(&Internet, &[String]) -> Command) -> Seen {
    let mut servers = [(path(&python()), "servers.py"), ("node".into(), "servers.mjs")].map(|(interpreter, name)| {
        let mut command = Command::new(interpreter);
        command.arg(script(name)).arg(internet.folder());
        Process::start(name, world, command)
    });
    for server in &servers {
        server.wait_for("listening", 1);
    }
    let mut seen = Seen::default();
    let outputs: Vec<_> = std::thread::scope(|scope| {
        let running = KINDS.map(|(kind, address)| {
            let mut words = match kind.starts_with("node") {
                true => vec!["node".to_owned(), script("verdicts.mjs")],
                false => vec![path(&python()), script("verdicts.py")],
            };
            words.extend([kind, internet.folder().to_str().unwrap(), address].map(str::to_owned));
            // Each has a hosts file of its own.
            let mut command = command(internet, &words);
            if kind == "node-k" {
                command.env("NODE_TLS_REJECT_UNAUTHORIZED", "0");
            }
            command.env("HOSTS", internet.path(&format!("hosts-{kind}")));
            scope.spawn(move || (kind, netns.output(command)))
        });
        running.map(|client| client.join().unwrap()).into()
    });
    for (kind, output) in outputs {
        let (said, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{kind}: {}\n{said}\n{complaints}", output.status);
        seen::gather(&mut seen, &said);
    }
    for server in &mut servers {
        let (status, said) = server.terminate();
        assert!(status.success() || status.signal() == Some(15), "a server has failed: {status}\n{said}");
        seen::gather(&mut seen, &said);
    }
    seen
}

fn cases() -> Vec<Case> {
    let tls = |certificate: &str, more: Value| {
        let mut server = json!({"certificate": certificate});
        server.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server
    };
    let of = |name: &'static str, certificate: &str, expected| named_case(name, tls(certificate, json!({})), expected);
    let with =
        |name: &'static str, certificate: &str, more, expected| named_case(name, tls(certificate, more), expected);
    let raw = |name: &'static str, how: &str, expected| named_case(name, json!({"raw": how}), expected);
    let at = |host: &str, case: Case| Case { host: host.to_owned(), ..case };
    vec![
        of("nothing wrong", "good", Intercepted),
        of("nothing wrong with RSA", "goodrsa", Intercepted),
        of("expired", "expired", Passed("tls_upstream_expired")),
        of("not yet valid", "early", Passed("tls_upstream_not_valid_yet")),
        of("wrong host", "otherhost", Passed("tls_upstream_wrong_name")),
        of("wildcard in the middle of a label", "partial", Passed("tls_upstream")),
        of("self-signed", "self", Passed("tls_upstream")),
        of("self-signed and trusted", "own", Either),
        of("untrusted root", "strange", Passed("tls_upstream_unknown_issuer")),
        of("incomplete chain", "incomplete", Passed("tls_upstream_unknown_issuer")),
        of("complete chain", "whole", Intercepted),
        of("chain out of order with strangers in it", "disordered", Intercepted),
        of("intermediate expired", "underlapsed", Passed("tls_upstream")),
        of("intermediate for other names", "outside", Passed("tls_upstream")),
        of("no extended key usage", "noeku", Intercepted),
        of("wrong extended key usage", "clienteku", Passed("tls_upstream")),
        at(
            "onlyname.verdicts.test",
            of("common name and no alternative name", "onlyname.verdicts.test", Passed("tls_upstream")),
        ),
        of("no name at all", "nameless", Passed("tls_upstream")),
        of("SHA-1", "sha1", Passed("tls_upstream")),
        of("RSA with 1024 bits", "short", Passed("tls_upstream")),
        of("RSA with 4096 bits above", "under4096", Intercepted),
        of("P-384", "p384", Intercepted),
        of("P-521", "p521", Either),
        of("Ed25519", "ed25519", Either),
        of("RSA-PSS key", "pss", Either),
        with("TLS 1.0", "goodrsa", json!({"versions": ["1.0", "1.0"]}), Passed("tls_upstream")),
        with("TLS 1.1", "goodrsa", json!({"versions": ["1.1", "1.1"]}), Passed("tls_upstream")),
        with("TLS 1.2 only", "good", json!({"versions": ["1.2", "1.2"]}), Intercepted),
        with("TLS 1.3 only", "good", json!({"versions": ["1.3", "1.3"]}), Intercepted),
        with(
            "CBC only",
            "goodrsa",
            json!({"versions": ["1.2", "1.2"], "ciphers": "ECDHE-RSA-AES128-SHA256"}),
            Passed("tls_upstream"),
        ),
        with(
            "RSA key exchange only",
            "goodrsa",
            json!({"versions": ["1.2", "1.2"], "ciphers": "AES128-GCM-SHA256"}),
            Passed("tls_upstream"),
        ),
        with(
            "weak DH only",
            "goodrsa",
            json!({"versions": ["1.2", "1.2"], "ciphers": "DHE-RSA-AES128-GCM-SHA256", "dh": "dh1024"}),
            Passed("tls_upstream"),
        ),
        with(
            "DH only",
            "goodrsa",
            json!({"versions": ["1.2", "1.2"], "ciphers": "DHE-RSA-AES128-GCM-SHA256", "dh": "dh2048"}),
            Passed("tls_upstream"),
        ),
        with("a group that we do not have", "good", json!({"curve": "secp521r1"}), Either),
        with("client certificate wanted", "good", json!({"client": "required"}), Passed("tls_client_certificate")),
        with(
            "client certificate wanted by TLS 1.2",
            "good",
            json!({"client": "required", "versions": ["1.2", "1.2"]}),
            Passed("tls_client_certificate"),
        ),
        with("client certificate optional", "good", json!({"client": "optional"}), Passed("tls_client_certificate")),
        with(
            "client certificate optional by TLS 1.2",
            "good",
            json!({"client": "optional", "versions": ["1.2", "1.2"]}),
            Passed("tls_client_certificate"),
        ),
        with("SNI demanded", "good", json!({"named": true}), Intercepted),
        at("ADDRESS", with("SNI demanded and missing", "namely", json!({"named": true}), Passed("tls_upstream"))),
        at("ADDRESS", of("an address that the certificate has", "namely", Intercepted)),
        at("ADDRESS", of("an address that the certificate has not", "good", Passed("tls_upstream_wrong_name"))),
        at("under_score.verdicts.test", of("underscore in the name", "good", Passed("tls_server_name"))),
        at("dotted.verdicts.test.", of("dot behind the name", "good", Either)),
        raw("reset in the handshake", "reset", Passed("tls_upstream")),
        raw("close in the handshake", "close", Passed("tls_upstream")),
        raw("plain HTTP", "http", Passed("tls_upstream")),
        raw("garbage", "garbage", Passed("tls_upstream")),
        raw("server speaks first", "greet", Passed("")),
        raw("alert: handshake failure", "0228", Passed("tls_upstream")),
        raw("alert: internal error", "0250", Passed("tls_upstream")),
        raw("alert: unrecognized name", "0270", Passed("tls_upstream")),
        named_case("another protocol only", json!({"node": "foo", "certificate": "good"}), Either),
        named_case("HTTP/2 only", json!({"node": "h2", "certificate": "good"}), Either),
    ]
}

fn named_case(name: &'static str, server: Value, expected: Expected) -> Case {
    let label = name.to_lowercase().replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
    Case { name, host: format!("{}.verdicts.test", label.trim_matches('-')), server, expected }
}

fn script(name: &str) -> String {
    path(&root().join("tests/it/tls_verdicts").join(name))
}

fn path(path: &std::path::Path) -> String {
    path.to_str().unwrap().to_owned()
}

const FIRST_PORT: u16 = 9000;
