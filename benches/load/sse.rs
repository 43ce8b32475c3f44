//! Server-sent events at an even pace: each chunk carries the time of its write, the client notes the time of its read.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::open_loop::{histogram, sleep_until};
use super::world::ADDRESS;

pub(crate) const PORT: u16 = 8083;

/// What the client saw.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Reads that brought chunks.
    pub(crate) reads: u64,
    /// Nanoseconds from write to read, of each chunk.
    pub(crate) times: Histogram<u64>,
}

/// The client: one stream of this many chunks.
pub(crate) fn read(chunks: u32) -> Seen {
    let mut stream = TcpStream::connect((ADDRESS, PORT)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "GET /{chunks} HTTP/1.1\r\nHost: {ADDRESS}:{PORT}\r\nAccept: text/event-stream\r\n\r\n").unwrap();
    let mut seen = Seen { reads: 0, times: histogram() };
    let (mut text, mut buffer) = (String::new(), [0; 4 << 10]);
    while !text.ends_with("0\r\n\r\n") {
        let count = stream.read(&mut buffer).unwrap();
        let now = nanos();
        assert!(count > 0, "the stream ended early: {text}");
        text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        // A line is whole when its end is there.
        let mut brought = false;
        while let Some((line, rest)) = text.split_once("\n\n") {
            let at = line.find("data: ").expect("an event") + "data: ".len();
            seen.times.record(now - line[at..].parse::<u64>().unwrap()).unwrap();
            text = rest.to_owned();
            brought = true;
        }
        seen.reads += u64::from(brought);
    }
    assert_eq!(seen.times.len(), u64::from(chunks), "events are missing");
    seen
}

/// The origin: one thread a connection.
pub(crate) fn serve(listener: TcpListener) {
    loop {
        let (stream, _) = listener.accept().unwrap();
        std::thread::spawn(move || {
            // A probe may close before it asks.
            let _ = answer(stream);
        });
    }
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut head, mut buffer) = (String::new(), [0; 4 << 10]);
    while !head.ends_with("\r\n\r\n") {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        head.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    let chunks: u32 = head.split([' ', '/']).find_map(|word| word.parse().ok()).expect("how many");
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    let start = Instant::now();
    for turn in 1..=chunks {
        sleep_until(start + PACE * turn);
        let event = format!("data: {:020}\n\n", nanos());
        stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes())?;
    }
    sleep_until(start + PACE * (chunks + 1));
    stream.write_all(b"0\r\n\r\n")?;
    // Until the client closes.
    stream.read(&mut buffer).map(|_| ())
}

/// One clock for both ends: they are threads of one process.
pub(crate) fn nanos() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).unwrap()
}

const PACE: Duration = Duration::from_millis(5);
