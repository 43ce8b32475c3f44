//! HTTP/1.0 and 1.1, byte for byte: framing, order, and heads as they were written.

use super::row::{
    Row, bytes, close, digest, drip, exchange, exchange_closed, fill, fin, head, hold, rest, row, send, tell, until,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

pub(super) fn rows() -> Vec<Row> {
    [versions(), pipelines(), bodies(), answers_without_bodies(), heads(), sizes()].concat()
}

fn versions() -> Vec<Row> {
    let kept = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let answer = "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok";
    vec![
        exchange_closed("HTTP/1.0 is answered and closed", "GET / HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\nbody"),
        row(
            "HTTP/1.0 keep-alive carries two requests",
            [send(kept), until("ok"), send(kept), until("ok"), fin()],
            [head(), send(answer), head(), send(answer)],
        ),
        exchange_closed(
            "HTTP/1.0 is answered with HTTP/1.1",
            "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody",
        ),
        exchange_closed("HTTP/1.1 is answered with HTTP/1.0", GET, "HTTP/1.0 200 OK\r\nServer: old\r\n\r\nbody"),
        row(
            "HTTP/1.1 is answered with HTTP/1.0 keep-alive twice",
            [send(GET), until("ok"), send(GET), until("ok"), fin()],
            [head(), send(answer), head(), send(answer)],
        ),
        exchange("HTTP/1.1 without Host", "GET / HTTP/1.1\r\nX: 1\r\n\r\n", OK),
        row(
            "Connection: close from the client",
            [send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"), rest()],
            [head(), send(OK), close()],
        ),
        row(
            "Connection: close from the client, which the server does not heed",
            [send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"), until("ok"), close()],
            [head(), send(OK), rest()],
        ),
        row(
            "Connection: close from the server",
            [send(GET), rest()],
            [head(), send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"), close()],
        ),
        row(
            "a hundred requests in turn on one connection",
            std::array::from_fn::<_, 201, _>(|step| match step {
                200 => fin(),
                even if even % 2 == 0 => send(format!("GET /{even} HTTP/1.1\r\nHost: a\r\n\r\n")),
                _ => until("ok"),
            }),
            std::array::from_fn::<_, 200, _>(|step| if step % 2 == 0 { head() } else { send(OK) }),
        ),
    ]
}

fn pipelines() -> Vec<Row> {
    let numbered = |count: usize| -> String {
        (0..count).map(|number| format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n")).collect()
    };
    let answers = |count: usize| -> String {
        (0..count).map(|number| format!("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{number:03}")).collect()
    };
    fn deep<const N: usize>(name: &str, requests: &str, answers: &str) -> Row {
        let origin: [_; N] = std::array::from_fn(|step| if step == N - 1 { send(answers) } else { head() });
        row(name, [send(requests), bytes(answers.len()), fin()], origin)
    }
    let post = "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let chunked = "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nworld\r\n0\r\n\r\n";
    vec![
        deep::<3>("two pipelined requests reach the origin before it answers", &numbered(2), &answers(2)),
        deep::<11>("ten pipelined requests reach the origin before it answers", &numbered(10), &answers(10)),
        deep::<101>("a hundred pipelined requests reach the origin before it answers", &numbered(100), &answers(100)),
        row(
            "pipelined requests with bodies of both kinds",
            [send([post, chunked, GET, post].concat()), bytes(4 * OK.len()), fin()],
            [until("hello"), until("0\r\n\r\n"), head(), until("hello"), send(OK.repeat(4))],
        ),
        row(
            "an answer while the next request is half said",
            [send(GET), send("GET /2 HT"), until("ok"), send("TP/1.1\r\nHost: a\r\n\r\n"), until("ok"), fin()],
            [head(), send(OK), head(), send(OK)],
        ),
        row(
            "pipelined requests and FIN behind them",
            [send(numbered(3)), fin(), rest()],
            [head(), head(), head(), rest(), send(answers(3)), close()],
        ),
        row(
            "pipelined requests of which the first answer closes",
            [send(numbered(3)), rest()],
            [
                head(),
                head(),
                head(),
                send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"),
                fin(),
                rest(),
            ],
        ),
        row(
            "a pipelined HEAD between two GETs",
            [
                send(
                    "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nHEAD /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n",
                ),
                until("end"),
                fin(),
            ],
            [
                head(),
                head(),
                head(),
                send(OK),
                send("HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"),
                send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nend"),
            ],
        ),
    ]
}

fn bodies() -> Vec<Row> {
    let odd =
        "5\r\nhello\r\n0006;a=b;c=\"d;\\\"e\"\r\n world\r\nA ; x\r\n0123456789\r\n0a\r\n0123456789\r\n000;last\r\n\r\n";
    let trailers = "5\r\nhello\r\n0\r\nX-Sum: 1\r\nx-other:2\r\nX-Sum: 3\r\n\r\n";
    let post = |more: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{more}\r\n{body}");
    let answer = |more: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{more}\r\n{body}");
    let chunked = "Transfer-Encoding: chunked\r\n";
    vec![
        exchange("a body with a length", &post("Content-Length: 5\r\n", "hello"), OK),
        exchange("a body with length 0", &post("Content-Length: 0\r\n", ""), OK),
        exchange("GET and DELETE may have bodies", "DELETE / HTTP/1.1\r\nContent-Length: 3\r\nHost: a\r\n\r\nabc", OK),
        exchange("a request's chunks with extensions and odd sizes", &post(chunked, odd), OK),
        exchange("an answer's chunks with extensions and odd sizes", GET, &answer(chunked, odd)),
        exchange("trailers of a request without TE and Trailer", &post(chunked, trailers), OK),
        exchange(
            "trailers of a request with TE and Trailer",
            &post("TE: trailers\r\nTrailer: X-Sum, x-other\r\nTransfer-Encoding: chunked\r\n", trailers),
            OK,
        ),
        exchange("trailers of an answer without TE and Trailer", GET, &answer(chunked, trailers)),
        exchange(
            "trailers of an answer with TE and Trailer",
            "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n",
            &answer("Trailer: X-Sum, x-other\r\nTransfer-Encoding: chunked\r\n", trailers),
        ),
        exchange(
            "Transfer-Encoding in other letters",
            &post("transfer-encoding:  Chunked\r\n", "1\r\na\r\n0\r\n\r\n"),
            OK,
        ),
        exchange(
            "an answer with a coding and a length",
            GET,
            &answer("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ),
        row(
            "chunks of both sides in turn, each heard before the next is said",
            [
                send(post(chunked, "")),
                send("1\r\na\r\n"),
                until("1\r\nA\r\n"),
                send("2\r\nbc\r\n"),
                until("2\r\nBC\r\n"),
                send("0\r\n\r\n"),
                until("0\r\n\r\n"),
                fin(),
            ],
            [
                head(),
                until("1\r\na\r\n"),
                send(answer(chunked, "")),
                send("1\r\nA\r\n"),
                until("2\r\nbc\r\n"),
                send("2\r\nBC\r\n"),
                until("0\r\n\r\n"),
                send("0\r\n\r\n"),
            ],
        ),
        row(
            "server-sent events, each heard before the next is sent",
            [
                send(GET),
                until("data: 1\n\n\r\n"),
                tell("one"),
                until("data: 2\n\n\r\n"),
                tell("two"),
                until("0\r\n\r\n"),
                fin(),
            ],
            [
                head(),
                send(answer(
                    "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n",
                    "9\r\ndata: 1\n\n\r\n",
                )),
                hold("one"),
                send("9\r\ndata: 2\n\n\r\n"),
                hold("two"),
                send("9\r\ndata: 3\n\n\r\n0\r\n\r\n"),
            ],
        ),
        row(
            "server-sent events without framing, cut inside of lines",
            [send(GET), until("dat"), tell("one"), until("a: 1\n"), tell("two"), rest()],
            [
                head(),
                send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndat"),
                hold("one"),
                send("a: 1\n"),
                hold("two"),
                send("\ndata: 2\n\n"),
                close(),
            ],
        ),
        row(
            "a body of 4 MiB up",
            [send(post("Content-Length: 4194304\r\n", "")), fill(4_194_304), until("ok"), fin()],
            [head(), digest(4_194_304), send(OK)],
        ),
        row(
            "a body of 4 MiB down",
            [send(GET), head(), digest(4_194_304), fin()],
            [head(), send(answer("Content-Length: 4194304\r\n", "")), fill(4_194_304)],
        ),
        row(
            "a request of 1 MiB that is answered before it is said",
            [
                send(post("Content-Length: 1048576\r\n", "")),
                until("ok"),
                fill(1_048_576),
                send(GET),
                until("ok"),
                fin(),
            ],
            [head(), send(OK), digest(1_048_576), head(), send(OK)],
        ),
        row(
            "an early 413 that closes while the body is under way",
            [send(post("Content-Length: 1048576\r\n", "")), fill(1000), until("\r\n\r\n"), fill(1_047_576), rest()],
            [
                head(),
                bytes(1000),
                send("HTTP/1.1 413 Payload Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
                fin(),
                digest(1_047_576),
            ],
        ),
    ]
}

fn answers_without_bodies() -> Vec<Row> {
    let then_ok = |name: &str, request: &str, answer: &str| {
        row(
            name,
            [send(request), bytes(answer.len()), send(GET), until("ok"), fin()],
            [head(), send(answer), head(), send(OK)],
        )
    };
    let head_request = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
    vec![
        then_ok("HEAD with a length", head_request, "HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n"),
        then_ok("HEAD with chunked", head_request, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        then_ok("HEAD with neither", head_request, "HTTP/1.1 200 OK\r\nX: y\r\n\r\n"),
        then_ok("204 without a length", GET, "HTTP/1.1 204 No Content\r\n\r\n"),
        then_ok("204 with a length", GET, "HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n"),
        then_ok(
            "304 with a length and an ETag",
            GET,
            "HTTP/1.1 304 Not Modified\r\nETag: W/\"x\"\r\nContent-Length: 9\r\n\r\n",
        ),
        then_ok("304 with chunked", GET, "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
        then_ok("205 with length 0", GET, "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n"),
    ]
}

fn heads() -> Vec<Row> {
    let order = "GET / HTTP/1.1\r\nhOsT: a\r\nX-B: 2\r\nx-a: 1\r\nX-b: 3\r\nX-A: 4\r\nx-B: 5\r\n\r\n";
    let answer_order = "HTTP/1.1 200 OK\r\nX-B: 2\r\nx-a: 1\r\nX-b: 3\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nx-A: 4\r\ncontent-length: 0\r\n\r\n";
    let plain = |line: &str| format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n");
    let with = |lines: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let empty = |line: &str| format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n");
    let coded = |coding: &str, body: &str| {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {}\r\n\r\n{body}",
            body.chars().count()
        )
    };
    vec![
        exchange("absolute form", "GET http://other.example/p?q=1 HTTP/1.1\r\nHost: other.example\r\n\r\n", OK),
        exchange("OPTIONS *", &plain("OPTIONS *"), OK),
        exchange("odd characters in the target", &plain("GET /a%2Fb/{c}|d;e=f?g=[h]&i=%3A'"), OK),
        exchange("a target with what no URI may have", &plain("GET /a<b>\\^`?\"#f"), OK).traced(1),
        exchange("PROPFIND, a method of WebDAV", &plain("PROPFIND /"), OK),
        exchange("M-SEARCH, a method with a hyphen", &plain("M-SEARCH *"), OK),
        exchange("get, a method in small letters", &plain("get /"), OK),
        row(
            "a method of its own on a second request",
            [send(GET), until("ok"), send("BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n"), until("ok"), fin()],
            [head(), send(OK), head(), send(OK)],
        ),
        exchange("a request's header names, order and repetitions", order, OK),
        exchange("an answer's header names, order and repetitions", GET, answer_order),
        exchange("empty values and blanks around values", &with("A:\r\nB: \r\nC:  x  \r\nD:x\r\nE:\ty\t\r\n"), OK),
        exchange(
            "empty values and blanks around values in an answer",
            GET,
            "HTTP/1.1 200 OK\r\nA:\r\nB: \r\nC:  x  \r\nD:x\r\nContent-Length:0\r\n\r\n",
        ),
        exchange("values beyond ASCII", &with("X-Name: gr\u{fc}\u{df}e \u{80}\u{ff}\r\n"), OK),
        exchange(
            "values beyond ASCII in an answer",
            GET,
            "HTTP/1.1 200 OK\r\nX: \u{e9}\u{80}\u{ff}\r\nContent-Length: 0\r\n\r\n",
        ),
        exchange("a folded header line", &with("X-Folded: one\r\n  two\r\nY: 1\r\n"), OK),
        exchange(
            "a folded header line in an answer",
            GET,
            "HTTP/1.1 200 OK\r\nX: one\r\n\ttwo\r\nContent-Length: 0\r\n\r\n",
        ),
        exchange("names with all the characters that tokens may have", &with("!#$%&'*+-.^_`|~09az: 1\r\n"), OK),
        exchange(
            "headers of proxies and of connections",
            &with(
                "Via: 1.1 b\r\nX-Forwarded-For: 1.2.3.4\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers, gzip;q=0.5\r\nForwarded: for=x\r\n",
            ),
            OK,
        ),
        exchange(
            "headers of proxies and of connections in an answer",
            GET,
            "HTTP/1.1 200 OK\r\nVia: 1.1 b\r\nKeep-Alive: timeout=5\r\nConnection: keep-alive, X\r\nX: 1\r\nContent-Length: 0\r\n\r\n",
        ),
        exchange(
            "cookies and credentials",
            &with("Cookie: a=1; b=2\r\nCookie: c=3\r\nAuthorization: Basic dTpw\r\nProxy-Authorization: Bearer x\r\n"),
            OK,
        ),
        exchange(
            "a traceparent of the client's own, in its place",
            &with("traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nX-After: 1\r\n"),
            OK,
        ),
        row(
            "LF alone ends lines",
            [send("POST / HTTP/1.1\nHost: a\nContent-Length: 3\n\nxyz"), until("ok"), fin()],
            [until("xyz"), send("HTTP/1.1 200 OK\nContent-Length: 2\n\nok")],
        ),
        row(
            "an empty line before each request",
            [send(["\r\n", GET, "\r\n", GET].concat()), bytes(2 * OK.len()), fin()],
            [until("GET "), head(), until("GET "), head(), send(OK.repeat(2))],
        )
        .traced(2),
        exchange("a reason in small letters", GET, &empty("200 ok then")),
        exchange("an empty reason", GET, &empty("200 ")),
        exchange("no reason and no blank", GET, &empty("200")),
        exchange("a reason beyond ASCII", GET, &empty("200 gr\u{fc}n")),
        exchange("status 299", GET, &empty("299 Odd")),
        exchange("status 599", GET, &empty("599 Odder")),
        exchange("status 999", GET, &empty("999 Oddest")),
        exchange(
            "gzip passes untouched",
            GET,
            &coded("gzip", "\u{1f}\u{8b}\u{8}\0\0\0\0\0\0\u{3}KL\u{4}\0C\u{be}\u{b7}\u{e8}\u{1}\0\0\0"),
        ),
        exchange("br passes untouched", GET, &coded("br", "\u{b}\u{1}\u{80}abcd\u{3}")),
        exchange(
            "zstd passes untouched",
            GET,
            &coded("zstd", "\u{28}\u{b5}\u{2f}\u{fd}\u{24}\u{4}\u{21}\0\0abcd\0\0\0\0"),
        ),
        exchange(
            "a coded request body passes untouched",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip, x\r\nContent-Length: 4\r\n\r\n\u{1f}\u{8b}\0\u{ff}",
            OK,
        ),
        exchange(
            "several ranges",
            &with("Range: bytes=0-0,-1\r\nIf-Range: \"x\"\r\n"),
            "HTTP/1.1 206 Partial Content\r\nContent-Type: multipart/byteranges; boundary=B\r\nContent-Length: 83\r\n\r\n\
             --B\r\nContent-Range: bytes 0-0/9\r\n\r\na\r\n--B\r\nContent-Range: bytes 8-8/9\r\n\r\ni\r\n--B--\r\n",
        ),
    ]
}

fn sizes() -> Vec<Row> {
    let line = |size: usize| format!("X-Large: {}\r\n", "x".repeat(size));
    let many: String = (0..1000).map(|number| format!("X-{number}: {number}\r\n")).collect();
    let mib: String = (0..128).map(|number| format!("X-{number}: {}\r\n", "y".repeat(8181))).collect();
    let with = |lines: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let answer = |lines: &str| format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 2\r\n\r\nok");
    vec![
        exchange("a header of 64 KiB", &with(&line(65536)), OK),
        exchange("an answer's header of 64 KiB", GET, &answer(&line(65536))),
        exchange("a thousand headers", &with(&many), OK),
        exchange("an answer's thousand headers", GET, &answer(&many)),
        exchange("a head of 1 MiB", &with(&mib), OK),
        exchange("an answer's head of 1 MiB", GET, &answer(&mib)),
        exchange(
            "a target of 64,000 characters",
            &format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "z".repeat(64000)),
            OK,
        ),
        row(
            "a target of 64,000 characters on a second request",
            [
                send(GET),
                until("ok"),
                send(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "z".repeat(64000))),
                until("ok"),
                fin(),
            ],
            [head(), send(OK), head(), send(OK)],
        ),
        row(
            "a head byte by byte",
            [drip("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nxyz"), until("ok"), fin()],
            // No digits of a `traceparent`.
            [until("xyz"), send(OK)],
        ),
        row("an answer byte by byte", [send(GET), until("ok"), fin()], [head(), drip(OK)]),
        row(
            "chunks byte by byte both ways",
            [
                drip("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nT: 1\r\n\r\n"),
                until("T: 2\r\n\r\n"),
                fin(),
            ],
            [
                until("T: 1\r\n\r\n"),
                drip("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;y\r\nABC\r\n0\r\nT: 2\r\n\r\n"),
            ],
        ),
    ]
}
