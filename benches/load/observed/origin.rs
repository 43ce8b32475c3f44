//! An origin that sends what a header field asks for, whatever the path: so the same bytes come back from a path that is
//! recognised and from one that is not. A thread a connection, as long as the client likes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::super::open_loop::sleep_until;
use super::super::sse::nanos;
use super::bodies;

pub(crate) const PORT: u16 = 8086;
/// Between two events of a stream.
pub(crate) const PACE: Duration = Duration::from_millis(1);

/// What may be asked for, under `x-bench`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Events at their pace.
    OpenAi,
    Anthropic,
    /// One JSON document.
    Answer,
    /// When the head was there and when the whole request.
    Times,
}

impl Wanted {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Answer => "answer",
            Self::Times => "times",
        }
    }
}

pub(crate) fn serve(listener: TcpListener) {
    loop {
        let (stream, _) = listener.accept().unwrap();
        // A proxy may close when it likes.
        std::thread::spawn(move || while matches!(answer(&stream), Ok(true)) {});
    }
}

/// One request and its answer. Whether another may follow.
fn answer(mut stream: &TcpStream) -> std::io::Result<bool> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 64 << 10];
    let (mut head, mut body) = (Vec::new(), 0);
    let end = loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(false);
        }
        head.extend_from_slice(&buffer[..count]);
        if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            body += head.len() - end - 4;
            break end;
        }
    };
    let head_came = nanos();
    let head = String::from_utf8_lossy(&head[..end]).to_ascii_lowercase();
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let length: usize = field("content-length").expect("a client says how long it is").parse().unwrap();
    while body < length {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(false);
        }
        body += count;
    }
    assert_eq!(body, length, "no client sends ahead");
    let came = nanos();
    match field("x-bench").expect("what is wanted") {
        "openai" => send_events(stream, bodies::openai_stream())?,
        "anthropic" => send_events(stream, bodies::anthropic_stream())?,
        "times" => send_document(stream, format!("{{\"head\":{head_came},\"whole\":{came}}}").as_bytes())?,
        _ => send_document(stream, bodies::answer())?,
    }
    Ok(true)
}

/// One write for each event.
fn send_events(mut stream: &TcpStream, events: &[Vec<u8>]) -> std::io::Result<()> {
    stream.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n",
    )?;
    let start = Instant::now();
    for (turn, event) in (1..).zip(events) {
        sleep_until(start + PACE * turn);
        stream.write_all(event)?;
    }
    stream.write_all(b"0\r\n\r\n")
}

fn send_document(mut stream: &TcpStream, document: &[u8]) -> std::io::Result<()> {
    let length = document.len();
    let mut answer =
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n").into_bytes();
    answer.extend_from_slice(document);
    stream.write_all(&answer)
}
