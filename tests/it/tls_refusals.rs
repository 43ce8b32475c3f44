//! Clients that do not trust us, and clients that cannot meet us halfway: they work, at the cost of one attempt at most, and
//! nobody else is left unseen for their sake.

use std::process::Command;

use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::{Value, json};

use super::support::{Internet, LEAF, Netns, Pod, Process, python, root, text};

#[test]
fn a_client_that_does_not_trust_us_fails_once_at_most_and_blinds_us_to_nobody_else() {
    let (mut pod, internet) = stage("refusals", &KINDS);
    let server = serve(&pod.world, &internet);
    pod.start_sidecar();
    let (own, store) = (internet.path("root.pem"), internet.path("store.p12"));
    let url = |kind: &str| format!("https://{kind}.refusals.test/");
    let outcomes = std::thread::scope(|scope| {
        let running = KINDS.map(|kind| {
            let (interpreter, name) = match kind {
                "requests" => (path(&python()), "attempts.py"),
                "curl" => ("sh".into(), "attempts.sh"),
                "node" => ("node".into(), "attempts.mjs"),
                _ => ("java".into(), "Attempts.java"),
            };
            let words = [interpreter, script(name), url(kind), own.clone()];
            let mut command = internet.ignorant(&words, "hosts");
            command.env("NODE_EXTRA_CA_CERTS", &own);
            command.env(
                "JAVA_TOOL_OPTIONS",
                format!("-Djavax.net.ssl.trustStore={store} -Djavax.net.ssl.trustStorePassword=changeit"),
            );
            let agent = &pod.agent;
            scope.spawn(move || (kind, agent.output(command)))
        });
        running.map(|client| client.join().unwrap())
    });
    for (kind, output) in outcomes {
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let attempts: Vec<_> = said.lines().collect();
        assert!(["refused", "200"].contains(&attempts[0]), "{kind}: {said}{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(attempts[1..], ["200", "200"], "{kind}: {said}{}", String::from_utf8_lossy(&output.stderr));
    }
    // Another client, which trusts us, at the very same names.
    for kind in KINDS {
        let words = match kind {
            "curl" => vec![
                path(&python()),
                "-c".into(),
                format!(
                    "import requests; requests.get('{}', headers={{'x-row': 'trusting {kind}'}}, timeout=20)",
                    url(kind)
                ),
            ],
            _ => ["curl", "-sSf", "-m", "20", "-H", &format!("x-row: trusting {kind}"), &url(kind)]
                .map(str::to_owned)
                .to_vec(),
        };
        pod.run(internet.ours(&words));
    }
    let outcome = |name: &str| pod.metric(&format!("sidetrace_tls_connections_total{{outcome=\"{name}\"}}"));
    assert_eq!(outcome("refused") + outcome("closed"), KINDS.len() as u64, "each has refused us once");
    assert_eq!(outcome("left_alone"), 2 * KINDS.len() as u64);
    let log = pod.sidecar().said();
    for kind in KINDS {
        let told =
            log.lines().filter(|line| line.contains("WARN") && line.contains(&format!("{kind}.refusals.test"))).count();
        assert_eq!(told, 1, "of {kind} the log says\n{log}");
    }
    let spans = pod.finish();
    let seen = reports(server);
    for kind in KINDS {
        let of_it = |span: &&Span| text(span, "server.address") == format!("{kind}.refusals.test");
        let passed = |span: &&Span| text(span, "sidetrace.passthrough.reason") == "tls_client_refuses";
        assert_eq!(spans.iter().filter(of_it).filter(passed).count(), 2, "{kind}: {spans:#?}");
        let complete =
            |span: &&Span| text(span, "url.full") == url(kind) && text(span, "sidetrace.passthrough.reason").is_empty();
        assert_eq!(spans.iter().filter(complete).count(), 1, "{kind}: {spans:#?}");
        assert_eq!(traced(&seen, &format!("trusting {kind}")), Some(true), "{kind}");
        for attempt in [2, 3] {
            assert_eq!(traced(&seen, &format!("{kind} {attempt}")), Some(false), "{kind}");
        }
    }
}

#[test]
fn a_client_of_few_means_works_at_once_and_blinds_us_to_nobody_else() {
    let names: Vec<String> = (0..MODEST.len()).map(|index| format!("modest{index}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (mut pod, internet) = stage("modest", &names);
    let server = serve(&pod.world, &internet);
    pod.start_sidecar();
    let play = |netns: &Netns, command: &dyn Fn(&[String]) -> Command| -> Vec<String> {
        let rows = MODEST.iter().zip(&names);
        rows.map(|(words, name)| {
            let filled = words.replace("NAME", &format!("{name}.refusals.test"));
            let output = netns.output(command(&["sh".to_owned(), "-c".to_owned(), filled]));
            format!("{:?} {}", output.status.code(), String::from_utf8_lossy(&output.stdout))
        })
        .collect()
    };
    let bare = play(&pod.bare, &|words| internet.bare(words));
    let ours = play(&pod.agent, &|words| internet.ours(words));
    let mut failures = vec![];
    for (words, (bare, ours)) in MODEST.iter().zip(bare.iter().zip(&ours)) {
        if !bare.contains("ok") || bare != ours {
            failures.push(format!("- {words}\n    without us {bare:?}\n    with us    {ours:?}"));
        }
    }
    for name in &names {
        let words = [
            "curl",
            "-sSf",
            "-m",
            "20",
            "-H",
            &format!("x-row: after {name}"),
            &format!("https://{name}.refusals.test/"),
        ];
        pod.run(internet.ours(&words.map(str::to_owned)));
    }
    let _ = pod.finish();
    let seen = reports(server);
    for (words, name) in MODEST.iter().zip(&names) {
        if traced(&seen, &format!("after {name}")) != Some(true) {
            failures.push(format!("- {words}\n    an ordinary client is not intercepted after it"));
        }
    }
    assert!(failures.is_empty(), "{} failures\n\n{}", failures.len(), failures.join("\n"));
}

fn stage(name: &str, hosts: &[&str]) -> (Pod, Internet) {
    let mut pod = Pod::without_sidecar(&[]);
    let mut internet = Internet::new(name);
    internet.address(&pod.world, ADDRESS);
    for host in hosts {
        internet.name(&format!("{host}.refusals.test"), ADDRESS);
    }
    internet.sh(&format!(
        "{LEAF}; openssl genrsa -out rsa.key 2048; for name in ec rsa; do leaf $name root 'subjectAltName=DNS:*.refusals.test,IP:{ADDRESS}'
         cat $name.key $name.crt > $name.pem; done"
    ));
    let server = json!({"certificate": "ec", "also": ["rsa"], "versions": ["1.0", "1.3"]});
    internet.write("cases.json", &json!([["any", "any", 443, server, []]]).to_string());
    for (setting, value) in internet.settings() {
        pod.set(setting, &value);
    }
    pod.redirect(&[]);
    (pod, internet)
}

fn serve(world: &Netns, internet: &Internet) -> Process {
    let mut command = Command::new(python());
    command.arg(root().join("tests/it/tls_verdicts/servers.py")).arg(internet.folder());
    let server = Process::start("servers.py", world, command);
    server.wait_for("listening", 1);
    server
}

fn reports(mut server: Process) -> Vec<Value> {
    let (_, said) = server.terminate();
    said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Whether the server saw our header in this row, if it saw the row.
fn traced(seen: &[Value], row: &str) -> Option<bool> {
    let report = seen.iter().find(|report| report["row"] == row)?;
    Some(report["saw"][0].as_str().unwrap().to_lowercase().contains("traceparent: "))
}

fn script(name: &str) -> String {
    path(&root().join("tests/it/tls_refusals").join(name))
}

fn path(path: &std::path::Path) -> String {
    path.to_str().unwrap().to_owned()
}

const ADDRESS: &str = "10.231.3.1";
const KINDS: [&str; 4] = ["requests", "curl", "node", "java"];

/// Clients that offer less than most do, or something strange; each at a name of its own.
const MODEST: [&str; 20] = [
    "curl -sS --tls-max 1.2 https://NAME/",
    "curl -sS --tlsv1.0 --tls-max 1.1 --ciphers DEFAULT@SECLEVEL=0 https://NAME/",
    "curl -sS --tls-max 1.2 --ciphers AES128-SHA https://NAME/",
    "curl -sS --tls-max 1.2 --ciphers AES128-GCM-SHA256 https://NAME/",
    "curl -sS --tls-max 1.2 --ciphers ECDHE-RSA-AES128-GCM-SHA256 https://NAME/",
    "curl -sS --tls-max 1.2 --ciphers ECDHE-ECDSA-AES128-GCM-SHA256 https://NAME/",
    "curl -sS --tls-max 1.2 --ciphers ECDHE-ECDSA-AES256-SHA384 https://NAME/",
    "curl -sS --tlsv1.3 --tls13-ciphers TLS_CHACHA20_POLY1305_SHA256 https://NAME/",
    "curl -sS --curves secp521r1 https://NAME/",
    "curl -sS --curves secp384r1 https://NAME/",
    "curl -sS --curves X25519 https://NAME/",
    "curl -sS --curves X448 https://NAME/",
    "curl -sS --no-alpn https://NAME/",
    "curl -sS --http1.0 https://NAME/",
    "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | openssl s_client -connect NAME:443 -servername NAME -verify_return_error -quiet -ign_eof -sigalgs RSA-PSS+SHA256:RSA+SHA256",
    "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | openssl s_client -connect NAME:443 -servername NAME -verify_return_error -quiet -ign_eof -tls1_2 -sigalgs ECDSA+SHA384:RSA+SHA384 -groups P-384",
    "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | openssl s_client -connect NAME:443 -servername NAME -verify_return_error -quiet -ign_eof -alpn http/1.1,strange",
    "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | openssl s_client -connect NAME:443 -noservername -verify_return_error -quiet -ign_eof",
    "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | openssl s_client -connect NAME:443 -servername NAME -verify_return_error -quiet -ign_eof -maxfraglen 512",
    "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | openssl s_client -connect NAME:443 -servername NAME -verify_return_error -quiet -ign_eof -tls1_2 -no_ticket -legacy_renegotiation -status",
];
