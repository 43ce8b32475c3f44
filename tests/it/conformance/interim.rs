//! `Expect: 100-continue` and interim answers: whatever upstream says, in its order, and nothing of ours.

use super::row::{Row, bytes, close, curl, exchange, fin, head, hold, rest, row, send, tell, until};

const EXPECTING: &str = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

pub(super) fn rows() -> Vec<Row> {
    [expectations(), interims()].concat()
}

fn expectations() -> Vec<Row> {
    let continued = |name: &str, interim: &str| {
        row(
            name,
            [send(EXPECTING), head(), send("hello"), until("ok"), fin()],
            [head(), send(interim), until("hello"), send(OK)],
        )
    };
    let closing = |status: &str| format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    let curl_post =
        |more: &[&str]| curl(&[&["-i", "-H", "Expect: 100-continue", "--data", "hello"], more, &["URL/"]].concat());
    vec![
        continued("upstream's own 100 Continue", CONTINUE),
        continued("100 with a reason and a header of its own", "HTTP/1.1 100 Go On\r\nX-Interim: 1\r\n\r\n"),
        row(
            "100 Continue for a chunked body",
            [
                send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"),
                head(),
                send("5\r\nhello\r\n0\r\n\r\n"),
                until("ok"),
                fin(),
            ],
            [head(), send(CONTINUE), until("0\r\n\r\n"), send(OK)],
        ),
        row("417 and no body", [send(EXPECTING), rest()], [head(), send(closing("417 Expectation Failed")), close()]),
        row(
            "a final answer before the body, which the client does not send then",
            [send(EXPECTING), until("ok"), fin()],
            [head(), send(OK), rest()],
        ),
        row(
            "a final answer before the body, which the client sends all the same",
            [send(EXPECTING), until("ok"), send("hello"), send(GET), until("ok"), fin()],
            [head(), send(OK), until("hello"), head(), send(OK)],
        ),
        row(
            "100 and then 401 before the body",
            [send(EXPECTING), head(), until("\r\n\r\n"), send("hello"), rest()],
            [head(), send(CONTINUE), send("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"), until("hello"), close()],
        ),
        row(
            "an impatient client that does not wait for 100",
            [send([EXPECTING, "hello"].concat()), until("ok"), fin()],
            [head(), bytes(5), send(CONTINUE), send(OK)],
        ),
        row(
            "an expectation that nobody answers with 100",
            [send(EXPECTING), send("hello"), until("ok"), fin()],
            [head(), bytes(5), send(OK)],
        ),
        row(
            "an expectation of another kind",
            [send("POST / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nContent-Length: 1\r\n\r\nx"), until("ok"), fin()],
            [head(), bytes(1), send(OK)],
        ),
        row(
            "an expectation of HTTP/1.0",
            [send("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello"), rest()],
            [head(), bytes(5), send("HTTP/1.0 200 OK\r\n\r\n"), close()],
        ),
        row("curl hears 100 and sends its body", [curl_post(&[])], [head(), send(CONTINUE), bytes(5), send(OK)]),
        row("curl hears no 100 and sends its body after a second", [curl_post(&[])], [head(), bytes(5), send(OK)]),
        row(
            "curl hears 417 and tries again without the expectation",
            [curl_post(&[])],
            [head(), send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n"), until("hello"), send(OK)],
        )
        // What stands where the body was announced is passed on as a body, whatever it looks like.
        .traced(1),
        row("curl hears 401 before its body", [curl_post(&[])], [head(), send(closing("401 Unauthorized")), close()]),
    ]
}

fn interims() -> Vec<Row> {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nlink: </b.js>\r\n\r\n";
    let processing = "HTTP/1.1 102 Processing\r\n\r\n";
    let after = |name: &str, interims: &str| exchange(name, GET, &[interims, OK].concat());
    vec![
        after("102 Processing", processing),
        after("103 Early Hints with its links", hints),
        after("several interim answers in their order", &[processing, hints, CONTINUE, hints].concat()),
        after("100 that nobody asked for", CONTINUE),
        after("an interim status that nobody knows", "HTTP/1.1 199 Odd\r\nX: 1\r\n\r\n"),
        row(
            "an interim answer is heard before the final one is sent",
            [send(GET), head(), tell("heard"), until("ok"), fin()],
            [head(), send(hints), hold("heard"), send(OK)],
        ),
        row(
            "interim answers to pipelined requests",
            [send(GET.repeat(2)), bytes(2 * (hints.len() + OK.len())), fin()],
            [head(), head(), send([hints, OK, hints, OK].concat())],
        ),
        exchange(
            "an interim answer to HEAD",
            "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
            &[hints, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"].concat(),
        ),
        row("curl shows early hints", [curl(&["-i", "URL/"])], [head(), send(hints), send(OK)]),
        row("an interim answer and FIN", [send(GET), rest()], [head(), send(hints), close()]),
    ]
}
