//! TLS, which is passed through: curl, Python's, Node's and Java's clients, by ALPN and without; and Java's client on plain
//! HTTP, with the `Upgrade: h2c` that it asks for by default.

use super::super::support::WORLD_V4;
use super::playing::{Program, Stage, program, run};
use super::row::{Row, close, curl, head, named, row, send, tls, until};
use super::servers::calls;

pub(super) fn programs(stage: &Stage) -> (Vec<Program>, Vec<Program>) {
    let folder = stage.folder.to_str().unwrap();
    let certificate = format!("{folder}/cert.pem");
    let url = format!("https://{WORLD_V4}:8443");
    let mut node = program(&["env", &format!("NODE_EXTRA_CA_CERTS={certificate}")]);
    node.extend(run("tls_clients.mjs", &[&url, &certificate]));
    (
        vec![run("tls_origin.mjs", &["8443", folder])],
        vec![run("tls_clients.py", &[WORLD_V4, "8443", &certificate]), node],
    )
}

pub(super) fn rows() -> Vec<Row> {
    let streams = named("TLS: node:http2 with ten streams").at_once();
    let rows = NAMES.iter().map(|name| named(&format!("TLS: {name}"))).chain(with_curl()).chain([streams]);
    // Passed through: the origin sees no traceparent.
    rows.map(|row| row.traced(0)).collect()
}

fn with_curl() -> Vec<Row> {
    let row_of = |name: &str, arguments: &[&str]| {
        let known = [
            "-k",
            "--resolve",
            "tls.test:8443:10.231.0.254",
            "-w",
            "%{http_version} %{num_connects} %{ssl_verify_result}\n",
        ];
        calls(&format!("TLS: curl {name}"), 8443, &[&known, arguments].concat())
    };
    let starttls = row(
        "TLS: curl says STARTTLS to an SMTP server",
        [curl(&[
            "-k",
            "--ssl-reqd",
            "--mail-from",
            "a@b",
            "--mail-rcpt",
            "c@d",
            "-T",
            "/dev/null",
            "smtp://ADDRESS/me",
        ])],
        [
            send("220 x\r\n"),
            until("EHLO me\r\n"),
            send("250-x\r\n250 STARTTLS\r\n"),
            until("STARTTLS\r\n"),
            send("220 go\r\n"),
            tls(),
            until("EHLO me\r\n"),
            send("250 x\r\n"),
            until("MAIL FROM:<a@b>\r\n"),
            send("550 no\r\n"),
            until("QUIT\r\n"),
            send("221 bye\r\n"),
            close(),
        ],
    );
    let cut = row(
        "TLS: curl is cut without close_notify",
        [curl(&["-k", "-i", "--http1.1", "https://ADDRESS/"])],
        [tls(), head(), send("HTTP/1.1 200 OK\r\n\r\nuntil the end"), close()],
    );
    vec![
        row_of(
            "with HTTP/1.1",
            &["-i", "--http1.1", "https://tls.test:8443/plain?ROW", "https://tls.test:8443/large?ROW"],
        ),
        row_of("with HTTP/2", &["-i", "--http2", "https://tls.test:8443/plain?ROW", "https://tls.test:8443/large?ROW"]),
        row_of("without ALPN", &["-i", "--no-alpn", "https://tls.test:8443/plain?ROW"]),
        row_of("with TLS 1.2", &["-i", "--tls-max", "1.2", "https://tls.test:8443/plain?ROW"]),
        row_of("sends a body", &["-i", "--data", "body", "https://tls.test:8443/echo?ROW"]),
        row_of("hears an answer that is cut", &["-i", "--http2", "https://tls.test:8443/cut?ROW"]),
        row_of("speaks HTTP to a server of TLS", &["-i", "URL/plain?ROW"]).traced(0),
        starttls,
        cut,
    ]
}

pub(super) fn java_programs(stage: &Stage) -> (Vec<Program>, Vec<Program>) {
    let folder = stage.folder.to_str().unwrap();
    let urls =
        [("http", 8095), ("http", 8096), ("https", 8443)].map(|(scheme, port)| format!("{scheme}://{WORLD_V4}:{port}"));
    let certificate = format!("{folder}/cert.pem");
    let servers = vec![
        run("web.mjs", &["8095", "h2c-is-ignored"]),
        run("h2c.py", &["8096"]),
        run("tls_origin.mjs", &["8443", folder]),
    ];
    (servers, vec![run("Client.java", &[&urls[0], &urls[1], &urls[2], &certificate])])
}

pub(super) fn java_rows() -> Vec<Row> {
    let plain = JAVA.iter().map(|name| named(&format!("Java: {name}")));
    let passed = ["Java: TLS with HTTP_1_1", "Java: TLS with HTTP_2"].map(|name| named(name).traced(0));
    // What follows an accepted upgrade is passed through unread.
    plain
        .chain(passed)
        .chain([named("Java: Upgrade: h2c, which is accepted").traced(1), named("Java: fifty calls at once").at_once()])
        .collect()
}

const NAMES: [&str; 14] = [
    "http.client without ALPN",
    "http.client sends 1 MiB",
    "http.client hears 4 MiB",
    "an answer that is cut",
    "version 1.2",
    "version 1.3 with h2",
    "a client that trusts nobody",
    "a name that the certificate does not have",
    "no protocol in common",
    "requests on one connection",
    "httpx with HTTP 1",
    "httpx with HTTP 2",
    "node:https",
    "fetch",
];

const JAVA: [&str; 7] = [
    "HTTP/1.1",
    "Upgrade: h2c, which Node ignores",
    "expects 100-continue",
    "an answer that is cut",
    "an answer that is reset",
    "a connection that the server closes",
    "a timeout",
];
