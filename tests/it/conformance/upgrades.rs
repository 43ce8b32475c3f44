//! Connections that change their protocol: WebSocket, `Upgrade: h2c`, CONNECT through a proxy.

use serde_json::Value;

use super::super::support::WORLD_V4;
use super::playing::{Program, run};
use super::row::{Row, bytes, close, curl, digest, fin, head, hold, named, reset, rest, row, send, tell, tls, until};

const ASKING: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
                      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
                      Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";
const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nConnection: upgrade\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

pub(super) fn rows() -> Vec<Row> {
    [websocket(), other_protocols(), tunnels()].concat()
}

fn websocket() -> Vec<Row> {
    vec![
        echoed(
            "WebSocket: a text and a binary message",
            &[(true, TEXT, b"gr\xc3\xbc\xc3\x9fe"), (true, BINARY, &[0, 1, 255])],
        ),
        echoed(
            "WebSocket: ping and pong with and without payload",
            &[(true, PING, b""), (true, PING, &[7; 125]), (true, PONG, b"x")],
        ),
        echoed(
            "WebSocket: a message in fragments with a ping between",
            &[(false, TEXT, b"one"), (true, PING, b"p"), (false, MORE, b""), (true, MORE, b"two")],
        ),
        echoed(
            "WebSocket: payloads at the limits of the length's forms",
            &[
                (true, BINARY, &[1; 125]),
                (true, BINARY, &[2; 126]),
                (true, BINARY, &[3; 65535]),
                (true, BINARY, &[4; 65536]),
            ],
        ),
        echoed("WebSocket: one frame of 1 MiB", &[(true, BINARY, &[5; 1 << 20])]),
        echoed(
            "WebSocket: reserved bits and unknown codes are none of a proxy's business",
            &[(true, 0x7b, b"x"), (true, 0x43, b"y")],
        ),
        closed("WebSocket: closed by the client with 1000", b"\x03\xe8bye", true),
        closed("WebSocket: closed by the client with 4999 and without reason", b"\x13\x87", true),
        closed("WebSocket: closed by the server with 1011", b"\x03\xf3broken", false),
        closed("WebSocket: closed by the server without a code", b"", false),
        upgraded("WebSocket: half a close", [send("a"), fin(), rest()], [until("a"), rest(), send("bc"), close()]),
        upgraded(
            "WebSocket: cut by RST from the client",
            [send("a"), hold("heard"), reset()],
            [until("a"), tell("heard"), rest()],
        ),
        upgraded(
            "WebSocket: cut by RST from the server",
            [until("a"), tell("heard"), rest()],
            [send("a"), hold("heard"), reset()],
        ),
        upgraded(
            "WebSocket: cut by FIN from the server inside of a frame",
            [rest(), close()],
            [send("\u{82}\u{7e}\u{ff}"), fin(), rest()],
        ),
        row(
            "WebSocket: the first frames right behind 101",
            [send(ASKING), head(), until("first"), fin()],
            [head(), send([ACCEPTED, "\u{81}\u{5}first"].concat())],
        ),
        row(
            "WebSocket: bytes of the client before it has heard 101",
            [send([ASKING, "early"].concat()), head(), until("late"), fin()],
            [head(), until("early"), send([ACCEPTED, "late"].concat())],
        ),
        row(
            "WebSocket refused with 403, and another request on the connection",
            [send(ASKING), until("no"), send(GET), until("ok"), fin()],
            [head(), send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"), head(), send(OK)],
        ),
        row(
            "WebSocket refused with 426 and a close",
            [send(ASKING), rest()],
            [
                head(),
                send(
                    "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\nContent-Length: 0\r\n\r\n",
                ),
                close(),
            ],
        ),
        row(
            "WebSocket after an ordinary request on the connection",
            [send(GET), until("ok"), send(ASKING), head(), send("ping"), until("pong"), fin()],
            [head(), send(OK), head(), send(ACCEPTED), until("ping"), send("pong")],
        ),
        row(
            "WebSocket after early hints",
            [send(ASKING), head(), head(), send("ping"), until("pong"), fin()],
            [
                head(),
                send("HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"),
                send(ACCEPTED),
                until("ping"),
                send("pong"),
            ],
        ),
    ]
}

fn other_protocols() -> Vec<Row> {
    let h2c = "GET / HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nHost: a\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n\
               Upgrade: h2c\r\nUser-Agent: Java-http-client/17.0.15\r\n\r\n";
    let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    let settings = "\0\0\0\u{4}\0\0\0\0\0";
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    vec![
        row(
            "h2c asked for and ignored",
            [send(h2c), until("ok"), send(GET), until("ok"), fin()],
            [head(), send(OK), head(), send(OK)],
        ),
        row(
            "h2c asked for and accepted",
            [send(h2c), head(), bytes(9), send([preface, settings].concat()), until("done"), fin()],
            [head(), send([switched, settings].concat()), bytes(preface.len() + 9), send("done")],
        )
        // The preface looks like a request line.
        .traced(1),
        row(
            "an upgrade to a protocol that nobody knows",
            [
                send(
                    "POST /x HTTP/1.1\r\nHost: a\r\nUpgrade: foo/2, bar\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\nhi",
                ),
                head(),
                send("\0\u{1}"),
                until("\u{2}"),
                fin(),
            ],
            [
                until("hi"),
                send("HTTP/1.1 101 Now Foo\r\nUpgrade: foo/2\r\nConnection: upgrade\r\n\r\n"),
                bytes(2),
                send("\u{2}"),
            ],
        ),
    ]
}

fn tunnels() -> Vec<Row> {
    let connect =
        "CONNECT other.example:443 HTTP/1.1\r\nHost: other.example:443\r\nProxy-Connection: keep-alive\r\n\r\n";
    let open = "HTTP/1.1 200 Connection established\r\n\r\n";
    let proxy_auth = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 4\r\n\r\nauth";
    let through = ["-s", "-i", "-p", "-x", "URL", "--cacert", "/dev/null"];
    let insecure = ["-i", "-k", "--http1.1", "-x", "URL", "https://tls.test/inside"];
    vec![
        row(
            "CONNECT, and bytes of no known protocol inside",
            [send(connect), head(), send("\0\u{1}"), until("\u{2}"), fin()],
            [head(), send(open), bytes(2), send("\u{2}")],
        )
        .traced(1),
        row(
            "CONNECT, and the server speaks first inside",
            [send(connect), head(), until("220 hi\r\n"), send("QUIT\r\n"), rest()],
            [head(), send(open), send("220 hi\r\n"), until("QUIT\r\n"), close()],
        )
        .traced(1),
        row(
            "CONNECT, and the first bytes inside right behind the answer",
            [send(connect), head(), until("hello"), fin()],
            [head(), send([open, "hello"].concat())],
        )
        .traced(1),
        row(
            "CONNECT of HTTP/1.0",
            [send("CONNECT a:1 HTTP/1.0\r\n\r\n"), head(), send("x"), until("y"), fin()],
            [head(), send("HTTP/1.0 200 OK\r\n\r\n"), bytes(1), send("y")],
        )
        .traced(1),
        row(
            "CONNECT, and half a close inside",
            [send(connect), head(), send("a"), fin(), rest()],
            [head(), send(open), until("a"), rest(), send("late"), close()],
        )
        .traced(1),
        row(
            "CONNECT, and RST inside",
            [send(connect), head(), send("a"), rest()],
            [head(), send(open), until("a"), reset()],
        )
        .traced(1),
        row(
            "CONNECT refused with 407, and again with credentials",
            [
                send(connect),
                until("auth"),
                send(connect.replace("Proxy-C", "Proxy-Authorization: Basic x\r\nProxy-C")),
                head(),
                send("x"),
                until("y"),
                fin(),
            ],
            [head(), send(proxy_auth), head(), send(open), bytes(1), send("y")],
        )
        .traced(2),
        row(
            "CONNECT refused with 502 and a close",
            [send(connect), rest()],
            [head(), send("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nno\n"), close()],
        ),
        row(
            "CONNECT, and 4 MiB up and down inside",
            [send(connect), head(), super::row::fill(1 << 22), digest(1 << 22), fin()],
            [head(), send(open), digest(1 << 22), super::row::fill(1 << 22)],
        )
        .traced(1),
        row(
            "curl through a tunnel: HTTP inside",
            [curl(&[&through[..], &["http://other.example/inside"]].concat())],
            [head(), send(open), head(), send(OK)],
        ),
        row(
            "curl through a tunnel: TLS inside",
            [curl(&insecure)],
            [head(), send(open), tls(), head(), send(OK), close()],
        )
        .traced(1),
        row(
            "curl through a proxy that wants credentials",
            [curl(
                &[&through[..], &["--proxy-user", "u:p", "--proxy-anyauth", "http://other.example/inside"]].concat(),
            )],
            [head(), send(proxy_auth), head(), send(open), head(), send(OK)],
        ),
        row(
            "curl through a proxy without a tunnel: absolute form",
            [curl(&["-i", "-x", "URL", "http://other.example/a?b", "http://other.example/c"])],
            [head(), send(OK), head(), send(OK)],
        ),
    ]
}

/// The cases that the Autobahn suite has and a proxy can influence, with real clients and servers of WebSocket.
pub(super) fn websocket_programs() -> (Vec<Program>, Vec<Program>) {
    let [websockets, aiohttp] =
        ["websockets=ws://{}:8099", "aiohttp=ws://{}:8093"].map(|base| base.replace("{}", WORLD_V4));
    let servers = vec![run("websocket.py", &["origin", "8099"]), run("web.py", &["aiohttp", "8093"])];
    (servers, vec![run("websocket.py", &["client", &websockets, &aiohttp])])
}

pub(super) fn websocket_rows() -> Vec<Row> {
    let closings = [1000, 1001, 1002, 1008, 1011, 3000, 4999].map(|code| format!("the server closes with {code}"));
    let by_client = [1000, 1003, 1009, 4000].map(|code| format!("the client closes with {code}"));
    let cases: Vec<String> = CASES.map(str::to_owned).into_iter().chain(closings).chain(by_client).collect();
    let kinds = ["websockets", "websockets, compressed", "aiohttp", "aiohttp, compressed"];
    kinds
        .iter()
        .flat_map(|kind| cases.iter().map(move |case| named(&format!("WebSocket with {kind}: {case}"))))
        .collect()
}

const CASES: [&str; 7] = [
    "text of all sizes",
    "binary of all sizes",
    "UTF-8 of one to four bytes",
    "fragments",
    "pings with payloads",
    "a message of 4 MiB",
    "a thousand messages before any is read",
];

/// After the handshake both ends go on with steps of their own.
fn upgraded<const C: usize, const O: usize>(name: &str, client: [Value; C], origin: [Value; O]) -> Row {
    let mut row = row(name, [send(ASKING), head()], [head(), send(ACCEPTED)]);
    row.client.extend(client);
    row.origin.as_mut().unwrap().extend(origin);
    row
}

/// Masked frames of the client's, which come back unmasked.
fn echoed(name: &str, frames: &[(bool, u8, &[u8])]) -> Row {
    let (mut client, mut origin) = (vec![], vec![]);
    for &(last, code, payload) in frames {
        let [asked, answered] = [true, false].map(|masked| frame(last, code, payload, masked));
        origin.extend([bytes(asked.chars().count()), send(&answered)]);
        client.extend([send(&asked), bytes(answered.chars().count())]);
    }
    let mut row = upgraded(name, [], []);
    row.client.extend(client.into_iter().chain([fin()]));
    row.origin.as_mut().unwrap().extend(origin);
    row
}

/// The closing handshake; the server ends the connection, as RFC 6455, section 7.1.1 wants it.
fn closed(name: &str, payload: &[u8], by_client: bool) -> Row {
    let [masked, plain] = [true, false].map(|masked| frame(true, CLOSE, payload, masked));
    let (masked_size, plain_size) = (masked.chars().count(), plain.chars().count());
    if by_client {
        upgraded(name, [send(masked), bytes(plain_size), rest()], [bytes(masked_size), send(plain), close()])
    } else {
        upgraded(name, [bytes(plain_size), send(masked), rest()], [send(plain), bytes(masked_size), close()])
    }
}

/// A frame of RFC 6455, section 5.2; `code` may have the reserved bits.
fn frame(last: bool, code: u8, payload: &[u8], masked: bool) -> String {
    let mut frame = vec![u8::from(last) << 7 | code];
    let mask_bit = u8::from(masked) << 7;
    match payload.len() {
        short @ 0..126 => frame.push(mask_bit | u8::try_from(short).unwrap()),
        mid @ 126..=0xffff => {
            frame.push(mask_bit | 126);
            frame.extend(u16::try_from(mid).unwrap().to_be_bytes());
        }
        long => {
            frame.push(mask_bit | 127);
            frame.extend(u64::try_from(long).unwrap().to_be_bytes());
        }
    }
    let mask = if masked { [0x37, 0xfa, 0x21, 0x3d] } else { [0; 4] };
    frame.extend(mask.iter().take(if masked { 4 } else { 0 }));
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame.into_iter().map(char::from).collect()
}

const MORE: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
