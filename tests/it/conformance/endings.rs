//! Every way in which an exchange of HTTP/1 ends, from either side; and the requests that are refused.

use super::row::{
    Row, close, curl, exchange_closed, fin, flood, gone, head, hold, next, reset, rest, row, send, tell, until,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

pub(super) fn rows() -> Vec<Row> {
    [endings(), aborts(), refusals()].concat()
}

fn endings() -> Vec<Row> {
    let part = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly the beginning";
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    vec![
        exchange_closed(
            "an answer ended by FIN",
            GET,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end",
        ),
        exchange_closed("an answer cut by FIN before its length", GET, part),
        exchange_closed("chunks cut by FIN between two", GET, chunks),
        exchange_closed("chunks cut by FIN inside of one", GET, &[chunks, "9\r\nhal"].concat()),
        exchange_closed("a head cut by FIN", GET, "HTTP/1.1 200 OK\r\nContent-Le"),
        exchange_closed("FIN instead of an answer", GET, ""),
        row("RST instead of an answer", [send(GET), rest()], [head(), reset()]),
        row(
            "an answer cut by RST",
            [send(GET), until("beginning"), tell("heard"), rest()],
            [head(), send(part), hold("heard"), reset()],
        ),
        row(
            "an answer that would end with FIN, cut by RST",
            [send(GET), until("until"), tell("heard"), rest()],
            [head(), send("HTTP/1.1 200 OK\r\n\r\nuntil"), hold("heard"), reset()],
        ),
        row(
            "chunks cut by RST",
            [send(GET), until("hello\r\n"), tell("heard"), rest()],
            [head(), send(chunks), hold("heard"), reset()],
        ),
        row("an idle connection that the server closes", [send(GET), until("ok"), rest()], [head(), send(OK), close()]),
        row(
            "an idle connection that the server resets",
            [send(GET), until("ok"), tell("heard"), rest()],
            [head(), send(OK), hold("heard"), reset()],
        ),
        row(
            "408 that nobody asked for, and FIN, on an idle connection",
            [send(GET), until("ok"), tell("heard"), rest()],
            [
                head(),
                send(OK),
                hold("heard"),
                send("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
                close(),
            ],
        ),
        row(
            "a request on a connection that the server has closed",
            [send(GET), until("ok"), rest(), send(GET), gone(), next(), send(GET), until("ok"), fin()],
            [head(), send(OK), close(), next(), head(), send(OK)],
        ),
        row(
            "what follows an answer that closes",
            [send(GET), rest()],
            [head(), send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nokand more"), close()],
        ),
        row("curl reports a short body", [curl(&["-i", "URL/"])], [head(), send(part), close()]),
        row(
            "curl sends again on a new connection when the kept one is closed",
            [curl(&["-i", "URL/1", "URL/2"])],
            [head(), send(OK), close(), next(), head(), send(OK)],
        ),
    ]
}

fn aborts() -> Vec<Row> {
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nonly the beginning";
    let endless = "HTTP/1.1 200 OK\r\n\r\n";
    vec![
        row("a request, half a close, and its answer", [send(GET), fin(), rest()], [head(), rest(), send(OK), close()]),
        row("a head cut by FIN from the client", [send("GET / HTTP/1.1\r\nHos"), fin(), rest()], [rest(), close()])
            .traced(0),
        row("a body cut by FIN from the client", [send(post), fin(), rest()], [until("beginning"), rest(), close()]),
        row(
            "a body cut by FIN from the client is answered",
            [send(post), fin(), rest()],
            [until("beginning"), rest(), send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), close()],
        ),
        row(
            "a head cut by RST from the client",
            [send("GET / HTTP/1.1\r\nHos"), hold("here"), reset()],
            [tell("here"), until("Hos"), rest()],
        )
        .differs("a head goes on when it is whole"),
        row(
            "a body cut by RST from the client",
            [send(post), hold("heard"), reset()],
            [until("beginning"), tell("heard"), rest()],
        ),
        row(
            "RST from the client that waits for the answer",
            [send(GET), hold("heard"), reset()],
            [head(), tell("heard"), rest()],
        ),
        row(
            "RST from the client in the middle of the answer",
            [send(GET), until("hello"), reset()],
            [head(), send(endless), send("hello"), rest()],
        ),
        row(
            "a client that leaves in the middle of the answer",
            [send(GET), until("!\"#$"), close()],
            [head(), send(endless), flood()],
        ),
        row("RST from the client on an idle connection", [send(GET), until("ok"), reset()], [head(), send(OK), rest()]),
        row("a connection without a word", [fin()], [rest(), close()]),
        row("a connection without a word that is reset", [hold("here"), reset()], [tell("here"), rest()]),
        row("a client that gives up: curl's timeout", [curl(&["-i", "--max-time", "0.5", "URL/"])], [head(), rest()]),
    ]
}

/// What two readers could read in two ways is not passed on (RFC 9112, section 11.2).
fn refusals() -> Vec<Row> {
    let with = |lines: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n{body}");
    let refused =
        |name: &str, request: String| row(name, [send(request), rest()], [until("not to be heard"), close()]).refused();
    let chunked = "Transfer-Encoding: chunked\r\n";
    vec![
        refused(
            "a coding and a length are refused",
            with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\nnot to be heard"),
        ),
        refused("two lengths are refused", with("Content-Length: 5\r\nContent-Length: 6\r\n", "hellonot to be heard")),
        refused("a list of two lengths is refused", with("Content-Length: 5, 6\r\n", "hellonot to be heard")),
        refused("a length with a sign is refused", with("Content-Length: +5\r\n", "hellonot to be heard")),
        refused(
            "a coding that is not chunked at its end is refused",
            with("Transfer-Encoding: chunked, gzip\r\n", "not to be heard"),
        ),
        refused("a blank before the colon of a length is refused", with("Content-Length : 5\r\n", "not to be heard")),
        refused("a folded coding is refused", with("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\nnot to be heard")),
        refused("NUL in a head is refused", with("X: a\0b\r\nContent-Length: 0\r\n", "not to be heard")),
        refused(
            "CR alone in a head is refused",
            with("X: a\rTransfer-Encoding: chunked\r\nContent-Length: 0\r\n", "not to be heard"),
        ),
        refused(
            "a chunk's size that is no number is refused",
            with(chunked, "0x5\r\nhello\r\n0\r\n\r\nnot to be heard"),
        )
        .traced(1),
    ]
}
