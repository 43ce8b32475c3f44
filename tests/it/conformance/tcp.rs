//! What is no HTTP: passed through as it is, whoever speaks first, however it ends.

use super::super::support::{WORLD_V4, WORLD_V6};
use super::row::{Row, bytes, close, curl, digest, drip, fill, fin, flood, hold, reset, rest, row, send, tell, until};

pub(super) fn rows() -> Vec<Row> {
    [greetings(), conversations(), endings(), vec![addresses()]].concat()
}

fn greetings() -> Vec<Row> {
    let mysql = "\u{4a}\0\0\0\u{a}8.0.36\0\u{8}\0\0\0abcdefgh\0\u{ff}\u{ff}\u{ff}\u{2}\0\u{ff}\u{df}\u{15}\0\0\0\0\0\0\0\0\0\0ijklmnopqrst\0";
    vec![
        row(
            "SMTP: the server greets, and lines go to and fro",
            [
                until("220 mail\r\n"),
                send("EHLO a\r\n"),
                until("250 SIZE\r\n"),
                send("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n"),
                until("354 go\r\n"),
                send("Subject: x\r\n\r\nGET / HTTP/1.1\r\n.\r\n"),
                until("250 ok\r\n"),
                send("QUIT\r\n"),
                rest(),
            ],
            [
                send("220 mail\r\n"),
                until("EHLO a\r\n"),
                send("250-b\r\n250 SIZE\r\n"),
                until("DATA\r\n"),
                send("250 1\r\n250 2\r\n354 go\r\n"),
                until("\r\n.\r\n"),
                send("250 ok\r\n"),
                until("QUIT\r\n"),
                send("221 bye\r\n"),
                close(),
            ],
        )
        .traced(0),
        row(
            "MySQL: a binary greeting",
            [
                bytes(mysql.chars().count()),
                send("\u{20}\0\0\u{1}\u{85}\u{a6}\u{3f}\0\0\0\0\u{1}"),
                until("\u{7}\0\0\u{2}\0\0\0\u{2}\0\0\0"),
                fin(),
            ],
            [send(mysql), bytes(12), send("\u{7}\0\0\u{2}\0\0\0\u{2}\0\0\0")],
        ),
        row(
            "FTP: a greeting in two parts, the second after the client has heard the first",
            [
                until("220-Welcome\r\n"),
                tell("one"),
                until("220 ready\r\n"),
                send("USER anonymous\r\n"),
                until("331 x\r\n"),
                fin(),
            ],
            [
                send("220-Welcome\r\n"),
                hold("one"),
                send("220 ready\r\n"),
                until("USER anonymous\r\n"),
                send("331 x\r\n"),
            ],
        ),
        row(
            "SSH: both greet",
            [send("SSH-2.0-client\r\n"), until("SSH-2.0-server\r\n"), send("\0\u{1}"), until("\u{2}"), fin()],
            [send("SSH-2.0-server\r\n"), until("client\r\n"), bytes(2), send("\u{2}")],
        ),
        row(
            "the server greets with what looks like HTTP",
            [until("HTTP/1.1 200 OK\r\n\r\n"), send("GET / HTTP/1.1\r\n\r\n"), rest()],
            [send("HTTP/1.1 200 OK\r\n\r\n"), until("\r\n\r\n"), close()],
        )
        .traced(0),
        row(
            "curl speaks FTP",
            [curl(&["--user", "u:p", "ftp://ADDRESS/", "-Q", "NOOP"])],
            [
                send("220 x\r\n"),
                until("USER u\r\n"),
                send("331 x\r\n"),
                until("PASS p\r\n"),
                send("530 no\r\n"),
                rest(),
            ],
        ),
        row(
            "curl speaks SMTP",
            [curl(&["--mail-from", "a@b", "--mail-rcpt", "c@d", "-T", "/dev/null", "smtp://ADDRESS/me"])],
            [
                send("220 x\r\n"),
                until("EHLO me\r\n"),
                send("250 x\r\n"),
                until("MAIL FROM:<a@b>\r\n"),
                send("550 no\r\n"),
                until("QUIT\r\n"),
                send("221 bye\r\n"),
                close(),
            ],
        ),
    ]
}

fn conversations() -> Vec<Row> {
    vec![
        row(
            "the client begins with bytes that nobody knows",
            [send("\0\u{ff}\u{1}"), until("\u{2}"), send("\u{3}"), until("\u{4}"), fin()],
            [bytes(3), send("\u{2}"), bytes(1), send("\u{4}")],
        ),
        row(
            "Redis: lines and binary values",
            [send("*1\r\n$4\r\nPING\r\n"), until("+PONG\r\n"), fin()],
            [until("PING\r\n"), send("+PONG\r\n")],
        ),
        row(
            "PostgreSQL: a request for TLS that is refused",
            [
                send("\0\0\0\u{8}\u{4}\u{d2}\u{16}\u{2f}"),
                until("N"),
                send("\0\0\0\u{9}\0\u{3}\0\0\0"),
                until("R"),
                fin(),
            ],
            [bytes(8), send("N"), bytes(9), send("R")],
        ),
        row("bytes one by one", [drip("not http at all"), until("neither"), fin()], [bytes(15), drip("neither")]),
        row(
            "TLS that is no ClientHello",
            [send("\u{16}\u{3}\u{1}\0\u{5}hello"), until("\u{15}\u{3}\u{1}\0\u{2}\u{2}\u{32}"), rest()],
            [bytes(10), send("\u{15}\u{3}\u{1}\0\u{2}\u{2}\u{32}"), close()],
        ),
        row(
            "4 MiB up and down at once",
            [send("\0"), until("\u{1}"), fill(1 << 22), digest(1 << 22), fin()],
            [bytes(1), send("\u{1}"), digest(1 << 22), fill(1 << 22)],
        ),
        row(
            "lines that begin like HTTP",
            [send("GET the milk\r\n"), until("which?\r\n"), send("POST it HTTP/1.1 maybe\r\n"), until("no\r\n"), fin()],
            [until("\r\n"), send("which?\r\n"), until("\r\n"), send("no\r\n")],
        )
        .traced(0),
    ]
}

fn addresses() -> Row {
    let both = format!("eyes.test:PORT:[{WORLD_V6}],{WORLD_V4}");
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    row(
        "curl takes the first of two addresses that answer",
        [curl(&["-i", "-w", "%{remote_ip}", "--resolve", &both, "http://eyes.test:PORT/"])],
        [until("\r\n\r\n"), send(answer)],
    )
}

fn endings() -> Vec<Row> {
    vec![
        row(
            "half a close of the client's, and an answer after it",
            [send("\0abc"), fin(), rest()],
            [rest(), send("late"), close()],
        ),
        row(
            "half a close of the server's, and more from the client after it",
            [send("\0"), rest(), send("late"), fin()],
            [bytes(1), send("x"), fin(), until("late"), rest()],
        ),
        row("RST from the client", [send("\0"), hold("heard"), reset()], [bytes(1), tell("heard"), rest()]),
        row(
            "RST from the server",
            [send("\0"), until("x"), tell("heard"), rest()],
            [bytes(1), send("x"), hold("heard"), reset()],
        ),
        row(
            "RST from a server that has greeted",
            [until("hi\r\n"), tell("heard"), rest()],
            [send("hi\r\n"), hold("heard"), reset()],
        ),
        row("a server that closes at once", [rest()], [close()]),
        // Not before the client's `connect` has returned: a reset that overtakes it fails the `connect` now and then.
        row("a server that resets before a byte", [tell("there"), rest()], [hold("there"), reset()]),
        row("a client that leaves while it is sent to", [send("\0"), until("!"), close()], [bytes(1), flood()]),
        row("a server that leaves while it is sent to", [send("\0"), flood()], [bytes(1), close()]),
    ]
}
