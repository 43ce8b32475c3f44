//! Raw HTTP/1 exchanges, byte for byte the same with and without us: what the client hears, and what the origin says it
//! received.

use std::process::Command;

use super::support::{Netns, Pod, WORLD_V4, python, root, text};

/// What the client does, as `talk.py` takes it. Every row is one call.
const ROWS: &[(&str, &[&str])] = &[
    ("no Host", &["send:GET /plain HTTP/1.1\\r\\nX: 1\\r\\n\\r\\n", "fin", "rest"]),
    ("HEAD", &["send:HEAD /plain HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n", "fin", "rest"]),
    ("204", &["send:GET /empty HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n", "fin", "rest"]),
    ("304", &["send:HEAD /status/304 HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n", "fin", "rest"]),
    ("500", &["send:GET /status/500 HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n", "fin", "rest"]),
    ("OPTIONS", &["send:OPTIONS * HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n", "fin", "rest"]),
    (
        "absolute form",
        &["send:GET http://other.example/plain?x=1 HTTP/1.1\\r\\nHost: other.example\\r\\n\\r\\n", "fin", "rest"],
    ),
    (
        "odd characters in the target",
        &["send:GET /a%2Fb/{c}|d;e=f?g=[h]&i=%3A HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n", "fin", "rest"],
    ),
    ("Connection: close", &["send:GET /plain HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n", "rest"]),
    (
        "body behind its head, in pieces",
        &[
            "send:POST /echo HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 200000\\r\\n\\r\\n",
            "zeros:100000",
            "zeros:100000",
            "fin",
            "rest",
        ],
    ),
    (
        "chunked",
        &[
            "send:POST /echo HTTP/1.1\\r\\nHost: a\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n3\\r\\nabc\\r\\n",
            "send:2\\r\\nde\\r\\n0\\r\\n\\r\\n",
            "fin",
            "rest",
        ],
    ),
    (
        "Expect: 100-continue",
        &[
            "send:POST /echo HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 5\\r\\nExpect: 100-continue\\r\\n\\r\\n",
            "hear:25",
            "send:hello",
            "fin",
            "rest",
        ],
    ),
    ("a large answer", &["send:GET /large HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n", "fin", "rest"]),
    ("LF instead of CRLF", &["send:GET /plain HTTP/1.1\\nHost: a\\n\\n", "fin", "rest"]),
    (
        "first line in pieces",
        &["send:GE", "send:T /pl", "send:ain HTTP/1.1\\r", "send:\\nHost: a\\r\\n\\r\\n", "fin", "rest"],
    ),
    ("chunks of the origin's own sizes", &["send:GET /stream HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n", "fin", "rest"]),
    ("HTTP/1.0 answered with HTTP/1.1", &["send:GET /plain HTTP/1.0\\r\\n\\r\\n", "rest"]),
    (
        "case, order and repeated names",
        &[
            "send:GET /plain HTTP/1.1\\r\\nhOsT: a\\r\\nX-B: 2\\r\\nx-a: 1\\r\\nX-b: 3\\r\\nEmpty:\\r\\n\\r\\n",
            "fin",
            "rest",
        ],
    ),
    ("an answer with coding and length", &["send:GET /both HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n", "fin", "rest"]),
    (
        "Connection: close that the origin ignores",
        &["send:GET /stays HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n", "hear:300"],
    ),
];

#[test]
fn an_exchange_is_the_same_with_and_without_us() {
    let mut pod = Pod::start();
    let _origin = pod.origin("http", &["8080"]);
    let mut different = Vec::new();
    for (name, steps) in ROWS {
        let (bare, ours) = (talk(&pod.bare, steps), talk(&pod.agent, steps));
        if bare != ours {
            different.push(format!("{name}\nwithout us {bare}\nwith us    {ours}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
    let spans = pod.finish();
    assert_eq!(spans.len(), ROWS.len());
    for (span, (name, _)) in spans.iter().zip(ROWS) {
        assert_eq!(text(span, "sidetrace.end"), "", "{name}");
        assert_eq!(span.name, text(span, "http.request.method"), "{name}");
    }
}

fn talk(netns: &Netns, steps: &[&str]) -> String {
    let mut command = Command::new(python());
    command.arg(root().join("tests/it/clients/talk.py")).args([WORLD_V4, "8080"]).args(steps);
    let output = netns.output(command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
