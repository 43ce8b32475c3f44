//! Real clients and real servers of HTTP/1: curl, http.client, requests, httpx, aiohttp, fetch and node:http against nginx,
//! aiohttp, http.server and Node.

use serde_json::Value;

use super::super::support::WORLD_V4;
use super::playing::{Program, Stage, program, run, script};
use super::row::{Row, curl, drip, head, named, rest, send, server, until};

pub(super) fn programs(stage: &Stage) -> (Vec<Program>, Vec<Program>) {
    let bases = SERVERS.map(|(name, port)| format!("{name}=http://{WORLD_V4}:{port}"));
    let bases: Vec<&str> = bases.iter().map(String::as_str).collect();
    let servers = vec![
        nginx(stage),
        run("web.py", &["aiohttp", "8093"]),
        run("web.py", &["stdlib", "8094"]),
        run("web.mjs", &["8095"]),
    ];
    (servers, vec![run("web_clients.py", &bases), run("web_clients.mjs", &bases)])
}

/// nginx with its files: HTTP/1 on port 8091, HTTP/2 on 8092.
pub(super) fn nginx(stage: &Stage) -> Program {
    let folder = stage.folder.to_str().unwrap();
    stage.write("text", "words and words and words\n".repeat(40).as_bytes());
    stage.write("large.bin", &(0..4u32 << 20).map(|index| u8::try_from(index % 251).unwrap()).collect::<Vec<u8>>());
    let configuration = std::fs::read_to_string(script("nginx.conf")).unwrap().replace("FOLDER", folder);
    let configuration = stage.write("nginx.conf", configuration.as_bytes());
    program(&["nginx", "-p", folder, "-e", "stderr", "-c", &configuration])
}

pub(super) fn rows() -> Vec<Row> {
    let libraries = ["http.client", "requests", "httpx", "aiohttp", "fetch", "node:http"];
    let pairs = libraries.iter().flat_map(|client| {
        SERVERS.map(|(server, _)| {
            let row = named(&format!("{client} and {server}"));
            // nginx writes its log when a call is over, and fetch does not wait for that on another connection.
            if server == "nginx" { row.at_once() } else { row }
        })
    });
    let given_up = SERVERS[1..].iter().map(|(server, _)| named(&format!("aiohttp gives up on {server}")));
    let curls = SERVERS.map(|(server, port)| {
        calls(
            &format!("curl and {server}"),
            port,
            &[
                "-i",
                "URL/plain?ROW",
                "--next",
                "-sS",
                "-i",
                "--data",
                "{\"a\": 1}",
                "URL/echo?ROW",
                "--next",
                "-sS",
                "-i",
                "-X",
                "PUT",
                "-H",
                "Transfer-Encoding: chunked",
                "--data",
                "pieces",
                "URL/echo?ROW",
                "--next",
                "-sS",
                "-i",
                "URL/stream?ROW",
                "--next",
                "-sS",
                "-I",
                "URL/plain?ROW",
                "--next",
                "-sS",
                "-i",
                "URL/empty?ROW",
                "URL/missing?ROW",
                "URL/large?ROW",
                "-w",
                "%{num_connects} %{http_version}\n",
            ],
        )
    });
    pairs
        .chain(given_up)
        .chain(curls)
        .chain(nginx_rows())
        .chain(happy_eyeballs())
        .chain([named("Node: forty requests at once over four connections").at_once()])
        .chain(NODE.iter().map(|name| named(&format!("Node: {name}")).at_once()))
        // The server says nothing of this request but its answer.
        .chain([named("Node: 413 in place of 100").traced(1)])
        .collect()
}

/// Names with several addresses: whichever answers is taken, as without us.
fn happy_eyeballs() -> Vec<Row> {
    let row = |name: &str, first: &str| {
        let addresses = format!("eyes.test:8091:{first},{WORLD_V4}");
        calls(
            &format!("two addresses: {name}"),
            8091,
            &["-i", "--resolve", &addresses, "http://eyes.test:8091/plain?ROW"],
        )
    };
    // Whether a refusal is there before curl looks at its connection is chance: no row.
    vec![
        row("there is no route to the first", "[2001:db8::1]"),
        row("the first is silent", "[fd00:231::99]").differs("the redirect accepts before upstream does"),
    ]
}

fn nginx_rows() -> Vec<Row> {
    let nginx = |name: &str, arguments: &[&str]| calls(&format!("nginx: {name}"), 8091, arguments);
    let long = format!("URL/{}?ROW", "l".repeat(9000));
    let header = format!("X: {}", "h".repeat(9000));
    vec![
        nginx("a range", &["-i", "-r", "5-9", "URL/large?ROW"]),
        nginx("several ranges", &["-i", "-r", "0-0,5-9,-1", "URL/large?ROW"]),
        nginx("a range that is none", &["-i", "-r", "99999999-", "URL/large?ROW"]),
        nginx("gzip as it was made", &["-i", "-H", "Accept-Encoding: gzip", "URL/stream?ROW"]),
        nginx("gzip as curl undoes it", &["-i", "--compressed", "URL/stream?ROW"]),
        nginx("304 by the entity's tag", &["-i", "-H", "If-None-Match: *", "URL/large?ROW"]),
        nginx("a redirect that is followed", &["-i", "-L", "URL/moved?ROW", "URL/plain?ROW"]),
        nginx("a connection dropped without an answer", &["-i", "URL/dropped?ROW"]),
        nginx(
            "a body that is too large",
            &["-i", "-H", "Expect:", "--data", &"x".repeat(2000), "URL/limited?ROW", "URL/plain?ROW"],
        ),
        nginx(
            "a body that is too large, and Expect",
            &["-i", "-H", "Expect: 100-continue", "--data", &"x".repeat(2000), "URL/limited?ROW"],
        ),
        nginx("HTTP/1.0", &["-i", "--http1.0", "URL/plain?ROW", "URL/large?ROW"]),
        nginx(
            "connections are closed after twenty requests",
            &["-i", "-w", "%{num_connects}\n", "URL/plain?ROW&n=[1-45]"],
        ),
        nginx("a target that is too long", &["-i", &long]),
        nginx("a header that is too long", &["-i", "-H", &header, "URL/plain?ROW"]).traced(0),
        nginx("TRACE is not allowed", &["-i", "-X", "TRACE", "URL/plain?ROW"]),
        nginx("Upgrade: h2c is ignored", &["-i", "--http2", "URL/plain?ROW", "URL/plain?ROW"]),
        raw(
            "nginx: ten pipelined requests",
            [
                send(get("nginx: ten pipelined requests", "")[..].repeat(9)),
                send(get("nginx: ten pipelined requests", "Connection: close\r\n")),
                rest(),
            ],
        ),
        raw("nginx: byte by byte", [drip(&get("nginx: byte by byte", "Connection: close\r\n")), rest()]),
        raw(
            "nginx: LF alone ends lines",
            [send(get("nginx: LF alone ends lines", "Connection: close\r\n").replace("\r\n", "\n")), rest()],
        ),
        raw("nginx: a request line that is none", [send("GET  HTTP/1.1\r\nHost: a\r\n\r\n"), rest()]).traced(0),
        raw(
            "nginx: a second request that is none",
            [send(get("nginx: a second request that is none", "")), until("plain\n"), send("nonsense\r\n\r\n"), rest()],
        )
        .traced(1),
        raw(
            "nginx: a request without Host",
            [send("GET /plain?row=nginx:%20a%20request%20without%20Host HTTP/1.1\r\n\r\n"), head(), rest()],
        ),
    ]
}

/// curl against a real server; `ROW` is the query that names the row.
pub(super) fn calls(name: &str, port: u16, arguments: &[&str]) -> Row {
    let query = format!("row={}", name.replace(' ', "%20"));
    let arguments: Vec<String> = arguments.iter().map(|argument| argument.replace("ROW", &query)).collect();
    server(name, port, [curl(&arguments.iter().map(String::as_str).collect::<Vec<_>>())])
}

/// Steps against nginx.
fn raw<const C: usize>(name: &str, steps: [Value; C]) -> Row {
    server(name, 8091, steps)
}

fn get(name: &str, more: &str) -> String {
    format!("GET /plain?row={} HTTP/1.1\r\nHost: a\r\n{more}\r\n", name.replace(' ', "%20"))
}

const SERVERS: [(&str, u16); 4] = [("nginx", 8091), ("aiohttp", 8093), ("stdlib", 8094), ("Node", 8095)];

/// What only Node's client shows, or its server does.
const NODE: [&str; 12] = [
    "trailers both ways",
    "102 and 103 before the answer",
    "100 and then the body",
    "an upgrade and half a close",
    "an answer that is cut",
    "an answer that is reset",
    "the server closes after its answer",
    "an early answer while the body is under way",
    "a request that is given up in its body",
    "an answer that is given up in its body",
    "a request that is given up before its answer",
    "the agent keeps its connection",
];
