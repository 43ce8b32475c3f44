//! What reading a call costs: the same bytes to a path that is recognised and to one that is not, through the same proxy in
//! the same seconds. Turns of both kinds alternate, and the processor time of each kind is summed up.

pub(crate) mod bodies;
pub(crate) mod origin;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::clients::length;
use super::cost::Cpu;
use super::loads::{Done, Load};
use super::open_loop::{histogram, sleep_until};
use super::report::Figures;
use super::sse::nanos;
use super::world::{ADDRESS, Agent};
use origin::{PORT, Wanted};

pub(crate) fn run(load: Load, agent: &Agent<'_>, proxy: Option<u32>, seconds: u32) -> Done {
    let proxy = proxy.expect("measured is what a proxy costs");
    let seconds = Duration::from_secs(seconds.into());
    agent.netns.enter(move || match load {
        Load::ChatStream => streams(proxy, seconds, CHAT, Wanted::OpenAi),
        Load::MessagesStream => streams(proxy, seconds, MESSAGES, Wanted::Anthropic),
        Load::JsonLong => long_json(proxy, seconds),
        Load::JsonSniff => sniffed_json(proxy, seconds),
        Load::Held => held(seconds),
        other => unreachable!("{} is not about reading", other.name()),
    })
}

/// Many streams at a time, each of events at a pace which lets each go through the proxy on its own.
fn streams(proxy: u32, seconds: Duration, path: &'static str, wanted: Wanted) -> Done {
    let question = bodies::question();
    let requests = [request(OTHER, BYTES, wanted, &question), request(path, JSON, wanted, &question)];
    let mut clients: Vec<_> = (0..STREAMS).map(|_| Client::open()).collect();
    let mut reads = 0;
    let both = alternate(proxy, seconds, |observed| {
        reads += std::thread::scope(|scope| {
            let request = &requests[usize::from(observed)];
            let streams: Vec<_> = clients.iter_mut().map(|client| scope.spawn(|| client.stream(request))).collect();
            streams.into_iter().map(|stream| stream.join().unwrap()).sum::<u64>()
        });
        STREAMS
    });
    let mut figures = both.figures();
    figures.insert("reads", reads as f64 / both.calls() as f64);
    Done { figures, calls: both.calls(), cut: 0 }
}

/// One request after the other, of a long history.
fn long_json(proxy: u32, seconds: Duration) -> Done {
    let both = requests(proxy, seconds, &bodies::history(1 << 20), CHAT, 8);
    let mut figures = both.figures();
    figures.insert("extra_ms", both.extra_us() / 1e3);
    Done { figures, calls: both.calls(), cut: 0 }
}

/// One request after the other, of JSON that is no business of ours.
fn sniffed_json(proxy: u32, seconds: Duration) -> Done {
    let small = requests(proxy, seconds / 2, &bodies::orders(1 << 10), OTHER, 500);
    let large = requests(proxy, seconds / 2, &bodies::orders(100 << 10), OTHER, 100);
    let mut figures = small.figures();
    figures.insert("extra_us", small.extra_us());
    figures.insert("large_extra_us", large.extra_us());
    let large_figures = large.figures();
    figures.insert("large_cpu_us", large_figures["cpu_us"]);
    figures.insert("large_plain_us", large_figures["plain_us"]);
    Done { figures, calls: small.calls() + large.calls(), cut: 0 }
}

/// JSON to this path, and the same bytes under a type that nobody reads to one that nobody knows.
fn requests(proxy: u32, seconds: Duration, body: &[u8], path: &str, each: u64) -> Both {
    let requests = [request(OTHER, BYTES, Wanted::Answer, body), request(path, JSON, Wanted::Answer, body)];
    let mut client = Client::open();
    alternate(proxy, seconds, |observed| {
        (0..each).for_each(|_| _ = client.exchange(&requests[usize::from(observed)]));
        each
    })
}

/// Bodies that arrive in pieces: how long the server waits for the whole once its last byte was sent. A connection's
/// requests are held and not held in turn.
fn held(seconds: Duration) -> Done {
    let body = bodies::history(100 << 10);
    let start = Instant::now();
    let seen: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..TRICKLES)
            .map(|index| {
                let requests = [request(OTHER, BYTES, Wanted::Times, &body), request(CHAT, JSON, Wanted::Times, &body)];
                // Not all at once: nobody else's last piece is to come at the time of ours.
                let phase = PIECE_PACE * index / TRICKLES;
                scope.spawn(move || trickle(&requests, start + phase, seconds))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut figures = Figures::new();
    let names = [
        ["plain_p50_us", "plain_p90_us", "plain_p99_us", "plain_head_p50_us"],
        ["p50_us", "p90_us", "p99_us", "head_p50_us"],
    ];
    let mut calls = 0;
    for (kind, names) in names.into_iter().enumerate() {
        let (mut whole, mut head) = (histogram(), histogram());
        for times in seen.iter().flat_map(|kinds| &kinds[kind]) {
            whole.record(times.whole).unwrap();
            head.record(times.head).unwrap();
        }
        calls += whole.len();
        for (name, quantile) in names.into_iter().zip([0.5, 0.9, 0.99]) {
            figures.insert(name, whole.value_at_quantile(quantile) as f64 / 1e3);
        }
        figures.insert(names[3], head.value_at_quantile(0.5) as f64 / 1e3);
    }
    figures.insert("extra_p50_us", figures["p50_us"] - figures["plain_p50_us"]);
    Done { figures, calls, cut: 0 }
}

/// Nanoseconds: from the request's first byte to the server's having its head, from its last byte to its having the whole.
#[derive(Debug)]
struct Times {
    head: u64,
    whole: u64,
}

/// Of the requests to the path that is not recognised and of those to the other.
fn trickle(requests: &[Vec<u8>; 2], start: Instant, seconds: Duration) -> [Vec<Times>; 2] {
    let mut client = Client::open();
    let mut seen = [Vec::new(), Vec::new()];
    let mut due = start + Duration::from_millis(20);
    for turn in 0.. {
        let request = &requests[turn % 2];
        let size = request.len().div_ceil(PIECES);
        let (mut first, mut last) = (None, 0);
        for piece in request.chunks(size) {
            due += PIECE_PACE;
            sleep_until(due);
            last = nanos();
            first.get_or_insert(last);
            client.stream.write_all(piece).unwrap();
        }
        let answer: serde_json::Value = serde_json::from_slice(client.hear()).unwrap();
        let at = |name: &str| answer[name].as_u64().unwrap();
        seen[turn % 2].push(Times { head: at("head") - first.unwrap(), whole: at("whole").saturating_sub(last) });
        if start.elapsed() > seconds && turn % 2 == 1 {
            break;
        }
        due = due.max(Instant::now());
    }
    seen
}

/// What turns of both kinds cost.
#[derive(Debug, Default)]
struct Both {
    /// Units in the window: of what is not observed, and of what is.
    units: [u64; 2],
    micros: [f64; 2],
    /// Units before the window.
    warm: u64,
}

impl Both {
    /// Microseconds a unit.
    fn each(&self) -> [f64; 2] {
        [0, 1].map(|kind| self.micros[kind] / self.units[kind] as f64)
    }

    fn extra_us(&self) -> f64 {
        let [plain, observed] = self.each();
        observed - plain
    }

    fn calls(&self) -> u64 {
        self.units[0] + self.units[1] + self.warm
    }

    fn figures(&self) -> Figures {
        let [plain, observed] = self.each();
        Figures::from([("cpu_us", observed), ("plain_us", plain), ("x_plain", observed / plain)])
    }
}

/// Turns of both kinds for so long, after one of each that does not count: as many, and in an order that gives neither kind
/// what the other one left over.
fn alternate(proxy: u32, seconds: Duration, mut turn: impl FnMut(bool) -> u64) -> Both {
    let mut both = Both { warm: turn(false) + turn(true), ..Both::default() };
    let start = Instant::now();
    while start.elapsed() < seconds {
        for observed in [false, true, true, false] {
            let before = Cpu::of(proxy);
            let units = turn(observed);
            both.micros[usize::from(observed)] += Cpu::of(proxy).since(before).0;
            both.units[usize::from(observed)] += units;
        }
    }
    both
}

fn request(path: &str, kind: &str, wanted: Wanted, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {ADDRESS}:{PORT}\r\nUser-Agent: bench\r\nAccept: application/json\r\n\
         Authorization: Bearer none\r\nanthropic-version: 2023-06-01\r\nContent-Type: {kind}\r\nx-bench: {}\r\n\
         Content-Length: {}\r\n\r\n",
        wanted.name(),
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A connection to the origin.
#[derive(Debug)]
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    fn open() -> Self {
        let stream = TcpStream::connect((ADDRESS, PORT)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { stream, buffer: vec![0; 64 << 10] }
    }

    fn exchange(&mut self, request: &[u8]) -> &[u8] {
        self.stream.write_all(request).unwrap();
        self.hear()
    }

    /// The body of an answer that says how long it is.
    fn hear(&mut self) -> &[u8] {
        let (mut filled, mut whole) = (0, usize::MAX);
        while filled < whole {
            filled += self.read(filled);
            whole = whole.min(length(&self.buffer[..filled]).unwrap_or(usize::MAX));
        }
        assert!(filled == whole && self.buffer.starts_with(b"HTTP/1.1 200"), "not the answer");
        let answer = &self.buffer[..filled];
        let head = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        &answer[head + 4..]
    }

    /// An answer in chunks, to its end. Returns how many reads it took.
    fn stream(&mut self, request: &[u8]) -> u64 {
        self.stream.write_all(request).unwrap();
        let mut reads = 0;
        let mut filled = 0;
        loop {
            filled += self.read(filled);
            reads += 1;
            if self.buffer[..filled].ends_with(b"\r\n0\r\n\r\n") {
                return reads;
            }
            // The end may have come by halves.
            let kept = filled.min(8);
            self.buffer.copy_within(filled - kept..filled, 0);
            filled = kept;
        }
    }

    fn read(&mut self, filled: usize) -> usize {
        let count = self.stream.read(&mut self.buffer[filled..]).unwrap();
        assert!(count > 0, "the connection ended within an answer");
        count
    }
}

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const OTHER: &str = "/v1/other";
const JSON: &str = "application/json";
/// Not even read for JSON-RPC.
const BYTES: &str = "application/octet-stream";
/// Streams at a time.
const STREAMS: u64 = 5;
/// Pieces of a body, and the time between them.
const PIECES: usize = 10;
const PIECE_PACE: Duration = Duration::from_millis(5);
/// Bodies that arrive at a time.
const TRICKLES: u32 = 10;
