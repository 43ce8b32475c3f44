//! What the peers are put under. A load returns what it did and the figures that only it knows.

use std::time::{Duration, Instant};

use super::clients::Connection;
use super::cost::{self, Cpu};
use super::origins::CROWD;
use super::peers::{Peer, Protocol};
use super::report::{Column, Figures};
use super::world::{ADDRESS, Agent, HTTP1, HTTP2};
use super::{clients, observed, open_loop, origins, sse, tls};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    KeepAlive,
    NewConnections,
    H2c,
    GrpcUnary,
    GrpcStream,
    OpenLoop,
    Download,
    Upload,
    Sse,
    Idle,
    IdleInTurn,
    TlsKeepAlive,
    TlsNewConnections,
    TlsResumed,
    TlsHttp2,
    TlsDownload,
    TlsIdle,
    TlsNames,
    RoundTrips,
    ChatStream,
    MessagesStream,
    JsonLong,
    JsonSniff,
    Held,
}

/// What a run did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) figures: Figures,
    /// Calls that ended well, those of the warm-up too: as many spans, at least.
    pub(crate) calls: u64,
    /// Calls that may have been cut off by the clock, at most.
    pub(crate) cut: u64,
}

/// What was measured in a window.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) units: u64,
    pub(crate) calls: u64,
    pub(crate) cut: u64,
}

impl Load {
    pub(crate) const ALL: [Self; 24] = [
        Self::KeepAlive,
        Self::NewConnections,
        Self::H2c,
        Self::GrpcUnary,
        Self::GrpcStream,
        Self::OpenLoop,
        Self::Download,
        Self::Upload,
        Self::Sse,
        Self::Idle,
        Self::IdleInTurn,
        Self::TlsKeepAlive,
        Self::TlsNewConnections,
        Self::TlsResumed,
        Self::TlsHttp2,
        Self::TlsDownload,
        Self::TlsIdle,
        Self::TlsNames,
        Self::RoundTrips,
        Self::ChatStream,
        Self::MessagesStream,
        Self::JsonLong,
        Self::JsonSniff,
        Self::Held,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::KeepAlive => "h1",
            Self::NewConnections => "conn",
            Self::H2c => "h2c",
            Self::GrpcUnary => "grpc",
            Self::GrpcStream => "stream",
            Self::OpenLoop => "open",
            Self::Download => "down",
            Self::Upload => "up",
            Self::Sse => "sse",
            Self::Idle => "idle",
            Self::IdleInTurn => "idle-in-turn",
            Self::TlsKeepAlive => "tls",
            Self::TlsNewConnections => "tls-conn",
            Self::TlsResumed => "tls-resume",
            Self::TlsHttp2 => "tls-h2",
            Self::TlsDownload => "tls-down",
            Self::TlsIdle => "tls-idle",
            Self::TlsNames => "tls-names",
            Self::RoundTrips => "round-trips",
            Self::ChatStream => "chat-stream",
            Self::MessagesStream => "messages-stream",
            Self::JsonLong => "json-1m",
            Self::JsonSniff => "json-sniff",
            Self::Held => "held",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::KeepAlive => "HTTP/1.1 keep-alive, 50 connections, 1 KiB answers (wrk, nginx)",
            Self::NewConnections => "HTTP/1.1, new connection per request, 50 at a time (wrk, nginx)",
            Self::H2c => "HTTP/2 by prior knowledge, 4 connections x 32 streams, 1 KiB answers (h2load, nginx)",
            Self::GrpcUnary => "gRPC unary, 4 connections x 32 streams, 64-byte messages (h2load, own h2 origin)",
            Self::GrpcStream => {
                "gRPC streaming, 4 connections x 8 streams, 64-byte messages to and fro, one under way a stream (own h2 client and origin)"
            }
            Self::OpenLoop => {
                "HTTP/1.1, 1,000 requests/s over 50 connections, latency from the intended start (own client, nginx)"
            }
            Self::Download => "1 GiB down, HTTP/1.1 (curl, nginx)",
            Self::Upload => "1 GiB up, HTTP/1.1 (curl, own origin)",
            Self::Sse => "SSE, chunks 5 ms apart, time from write to read (own client and origin)",
            Self::Idle => {
                "1,000 idle connections, each has made one request, all at the same time (own client and origin)"
            }
            Self::IdleInTurn => {
                "1,000 idle connections, each has made one request, one after the other: who pools has one upstream (own client, nginx)"
            }
            Self::TlsKeepAlive => "TLS, HTTP/1.1 keep-alive, 50 connections, 1 KiB answers (own client and origin)",
            Self::TlsNewConnections => {
                "TLS, new connection per request, the client resumes nothing, 50 at a time (own client and origin)"
            }
            Self::TlsResumed => {
                "TLS, new connection per request, the client resumes its sessions, 50 at a time (own client and origin)"
            }
            Self::TlsHttp2 => "TLS, HTTP/2, 4 connections x 32 streams, 1 KiB answers (h2load, own origin)",
            Self::TlsDownload => "TLS, 1 GiB down, HTTP/1.1 (curl, own origin)",
            Self::TlsIdle => {
                "TLS, 1,000 idle connections, each has made one request, all at the same time (own client and origin)"
            }
            Self::TlsNames => "TLS, 400 names, a connection to each, closed again (own client and origin)",
            Self::RoundTrips => {
                "TLS, time from connect to answer in round trips of 20 ms between proxy and server (own client and origin)"
            }
            Self::ChatStream => {
                "OpenAI chat completions streamed in 500 events, 5 at a time, an event each ms: recognised and not"
            }
            Self::MessagesStream => {
                "Anthropic messages streamed in 500 events, 5 at a time, an event each ms: recognised and not"
            }
            Self::JsonLong => "Chat completions with a history of 1 MiB, one after the other: recognised and not",
            Self::JsonSniff => "Other JSON, 1 KiB and 100 KiB: looked at for JSON-RPC and not",
            Self::Held => {
                "Chat completions of 100 KiB, in 10 pieces 5 ms apart: last byte sent to all at the server, held and not"
            }
        }
    }

    /// What is counted.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::GrpcStream => "message",
            Self::Download | Self::Upload | Self::TlsDownload => "GiB",
            Self::Sse => "chunk",
            Self::Idle | Self::IdleInTurn | Self::TlsIdle | Self::RoundTrips => "connection",
            Self::TlsNames => "name",
            Self::ChatStream | Self::MessagesStream => "stream",
            _ => "request",
        }
    }

    /// The figure that is compared with other peers', and how it is headed.
    pub(crate) fn key(self) -> Column {
        match self {
            Self::Download | Self::Upload | Self::TlsDownload => Column("ms_per_gib", "proxy CPU ms/GiB", 0),
            Self::Idle | Self::IdleInTurn | Self::TlsIdle => Column("kib_per_connection", "KiB/connection", 1),
            Self::TlsNames => Column("kib_per_name", "KiB/name", 1),
            Self::RoundTrips => Column("tls13_cold_rtt", "TLS 1.3, first to a name", 2),
            Self::Sse => Column("cpu_us", "proxy CPU us/chunk", 1),
            Self::GrpcStream => Column("cpu_us", "proxy CPU us/message", 1),
            Self::ChatStream | Self::MessagesStream => Column("x_plain", "x CPU unobserved", 2),
            Self::JsonLong => Column("extra_ms", "extra CPU ms/request", 2),
            Self::JsonSniff => Column("extra_us", "extra CPU us/1 KiB", 1),
            Self::Held => Column("extra_p50_us", "extra p50 us", 0),
            _ => Column("cpu_us", "proxy CPU us/request", 1),
        }
    }

    /// What else its table shows.
    pub(crate) fn columns(self) -> &'static [Column] {
        match self {
            Self::OpenLoop => &[
                Column("p50_us", "p50 us", 0),
                Column("p90_us", "p90 us", 0),
                Column("p99_us", "p99 us", 0),
                Column("p999_us", "p99.9 us", 0),
            ],
            Self::Download | Self::Upload | Self::TlsDownload => &[Column("rate", "GiB/s", 2)],
            Self::Sse => &[
                Column("p50_us", "p50 us", 0),
                Column("p99_us", "p99 us", 0),
                Column("writes", "writes", 0),
                Column("reads", "reads", 0),
            ],
            Self::Idle | Self::IdleInTurn | Self::TlsIdle => &[
                Column("rss_before_kib", "RSS KiB", 0),
                Column("rss_after_kib", "with 1,000", 0),
                Column("pss_kib_per_connection", "PSS KiB/conn.", 1),
            ],
            Self::TlsNames => &[
                Column("rss_before_kib", "RSS KiB", 0),
                Column("rss_after_kib", "after 400", 0),
                Column("pss_kib_per_name", "PSS KiB/name", 1),
            ],
            Self::TlsNewConnections | Self::TlsResumed => &[
                Column("user_us", "of it user", 1),
                Column("rate", "/s", 0),
                Column("resumed_percent", "resumed %", 0),
                Column("upstream_handshakes", "upstream/req.", 2),
                Column("upstream_resumed_percent", "of it res. %", 0),
            ],
            Self::RoundTrips => &[
                Column("tls13_warm_rtt", "1.3 resumed", 2),
                Column("tls12_cold_rtt", "TLS 1.2", 2),
                Column("tls12_warm_rtt", "1.2 resumed", 2),
                Column("resumed_percent", "resumed %", 0),
                Column("upstream_resumed_percent", "upstr. res. %", 0),
            ],
            Self::ChatStream | Self::MessagesStream => &[
                Column("cpu_us", "CPU us/stream", 0),
                Column("plain_us", "unobserved", 0),
                Column("reads", "reads/stream", 0),
            ],
            Self::JsonLong => &[Column("cpu_us", "CPU us/request", 0), Column("plain_us", "unobserved", 0)],
            Self::JsonSniff => &[
                Column("cpu_us", "CPU us/1 KiB", 1),
                Column("plain_us", "unobserved", 1),
                Column("large_extra_us", "extra/100 KiB", 1),
                Column("large_cpu_us", "CPU/100 KiB", 1),
                Column("large_plain_us", "unobserved", 1),
            ],
            Self::Held => &[
                Column("p50_us", "held p50 us", 0),
                Column("p90_us", "p90", 0),
                Column("p99_us", "p99", 0),
                Column("plain_p50_us", "not p50 us", 0),
                Column("plain_p90_us", "p90", 0),
                Column("plain_p99_us", "p99", 0),
                Column("head_p50_us", "held head p50", 0),
                Column("plain_head_p50_us", "not head p50", 0),
            ],
            _ => &[Column("user_us", "of it user", 1), Column("rate", "/s", 0)],
        }
    }

    pub(crate) fn protocol(self) -> Protocol {
        match self {
            Self::H2c | Self::GrpcUnary | Self::GrpcStream => Protocol::Http2,
            Self::TlsKeepAlive
            | Self::TlsNewConnections
            | Self::TlsResumed
            | Self::TlsHttp2
            | Self::TlsDownload
            | Self::TlsIdle
            | Self::TlsNames
            | Self::RoundTrips => Protocol::Tls,
            _ => Protocol::Http1,
        }
    }

    /// What a peer does not do, or what says nothing about it, is left out. mitmproxy costs so much that one round is
    /// enough.
    pub(crate) fn measures(self, peer: Peer, round: usize) -> bool {
        let tls = self.protocol() == Protocol::Tls;
        match peer {
            // Who reads nothing shows what the measurement itself makes of two paths.
            _ if self.compares_paths() => matches!(peer, Peer::Relay | Peer::SidecarOff | Peer::SidecarOn),
            Peer::HaproxyHttp => !tls,
            Peer::Mitmproxy => matches!(self, Self::TlsKeepAlive | Self::TlsNewConnections) && round == 1,
            Peer::SidecarOff | Peer::SidecarOn => true,
            Peer::Direct | Peer::Relay => self != Self::TlsNames,
            // Its certificate is the same for every name, and it has an upstream connection before it is asked again.
            Peer::EnvoyOff | Peer::EnvoyOn => !matches!(self, Self::TlsNames | Self::RoundTrips),
        }
    }

    /// Whether its figures compare two paths through one peer, not peers with each other.
    pub(crate) fn compares_paths(self) -> bool {
        matches!(self, Self::ChatStream | Self::MessagesStream | Self::JsonLong | Self::JsonSniff | Self::Held)
    }

    pub(crate) fn run(self, agent: &Agent<'_>, proxy: Option<u32>, seconds: u32) -> Done {
        match self {
            Self::Download => once(agent, proxy, download),
            Self::Upload => once(agent, proxy, upload),
            Self::Sse => sse_run(agent, proxy, seconds),
            Self::OpenLoop => open_loop_run(agent, proxy, 2 * seconds),
            Self::Idle => idle_run(agent, proxy, clients::idle_after_a_crowd),
            Self::IdleInTurn => idle_run(agent, proxy, || clients::idle(CROWD)),
            Self::KeepAlive => warmed(proxy, seconds, |seconds| wrk(agent, seconds, &[])),
            Self::NewConnections => warmed(proxy, seconds, |seconds| wrk(agent, seconds, &["-H", "Connection: close"])),
            Self::H2c => warmed(proxy, seconds, |seconds| h2load(agent, seconds, &url(HTTP2, "/"), &[])),
            Self::GrpcUnary => warmed(proxy, seconds, |seconds| {
                let message = agent.file("message");
                let call =
                    ["-d", message.to_str().unwrap(), "-H", "content-type: application/grpc", "-H", "te: trailers"];
                h2load(agent, seconds, &url(origins::GRPC, "/bench.Bench/Unary"), &call)
            }),
            Self::GrpcStream => warmed(proxy, seconds, |seconds| {
                let (messages, calls) = agent.netns.enter(move || clients::ping_pong(4, 8, seconds));
                Measured { units: messages, calls, cut: 0 }
            }),
            other if other.compares_paths() => observed::run(other, agent, proxy, seconds),
            other => tls::run(other, agent, proxy, seconds),
        }
    }
}

/// One second that does not count, then the window.
pub(crate) fn warmed(proxy: Option<u32>, seconds: u32, mut load: impl FnMut(u32) -> Measured) -> Done {
    let warm = load(1);
    let (measured, mut done) = window(proxy, || load(seconds));
    done.calls += warm.calls;
    done.cut += warm.cut;
    done.figures.insert("rate", measured.units as f64 / f64::from(seconds));
    done
}

/// Runs `load` and charges its units with what the proxy spent meanwhile.
fn window(proxy: Option<u32>, load: impl FnOnce() -> Measured) -> (Measured, Done) {
    let before = proxy.map(Cpu::of);
    let measured = load();
    let mut figures = Figures::new();
    if let (Some(proxy), Some(before)) = (proxy, before) {
        let (cpu, user) = Cpu::of(proxy).since(before);
        figures.insert("cpu_us", cpu / measured.units as f64);
        figures.insert("user_us", user / measured.units as f64);
    }
    let done = Done { figures, calls: measured.calls, cut: measured.cut };
    (measured, done)
}

fn url(port: u16, path: &str) -> String {
    format!("http://{ADDRESS}:{port}{path}")
}

fn wrk(agent: &Agent<'_>, seconds: u32, more: &[&str]) -> Measured {
    let (url, duration) = (url(HTTP1, "/"), format!("{seconds}s"));
    let mut command = vec!["wrk", "-t1", "-c", "50", "-d", &duration];
    command.extend(more);
    command.push(&url);
    let said = agent.client(&command);
    assert!(!said.contains("Non-2xx") && !said.contains("Socket errors"), "{said}");
    let line = said.lines().find(|line| line.contains(" requests in ")).unwrap();
    let requests = line.split_whitespace().next().unwrap().parse().unwrap();
    assert!(requests > 0, "nothing was answered: {said}");
    // One for the connection that it opens and closes before it begins.
    Measured { units: requests, calls: requests, cut: 50 + 1 }
}

pub(crate) fn h2load(agent: &Agent<'_>, seconds: u32, url: &str, more: &[&str]) -> Measured {
    let duration = seconds.to_string();
    let mut command = vec!["h2load", "-t1", "-c4", "-m32", "-D", &duration];
    command.extend(more);
    command.push(url);
    let said = agent.client(&command);
    assert!(said.contains("Application protocol: h2"), "{said}");
    // requests: 9 total, 9 started, 9 done, 9 succeeded, 0 failed, 0 errored, 0 timeout
    let line = said.lines().find(|line| line.starts_with("requests:")).unwrap();
    let number = |what: &str| -> u64 {
        let at = line.find(what).unwrap_or_else(|| panic!("{said}"));
        line[..at].split_whitespace().last().unwrap().parse().unwrap()
    };
    let requests = number(" succeeded");
    assert!(requests > 0 && number(" failed") + number(" errored") + number(" timeout") == 0, "{said}");
    Measured { units: requests, calls: requests, cut: 4 * 32 }
}

pub(crate) fn once(agent: &Agent<'_>, proxy: Option<u32>, transfer: fn(&Agent<'_>)) -> Done {
    let started = Instant::now();
    let (_, mut done) = window(proxy, || {
        transfer(agent);
        Measured { units: 1, calls: 1, cut: 0 }
    });
    done.figures.insert("rate", 1.0 / started.elapsed().as_secs_f64());
    if let Some(cpu) = done.figures.remove("cpu_us") {
        done.figures.insert("ms_per_gib", cpu / 1e3);
    }
    done.figures.remove("user_us");
    done
}

fn download(agent: &Agent<'_>) {
    let said = agent.client(&["curl", "-sf", "-o", "/dev/null", "-w", "%{size_download}", &url(HTTP1, "/gib")]);
    assert_eq!(said, (1u64 << 30).to_string());
}

fn upload(agent: &Agent<'_>) {
    let file = agent.file("gib");
    let said =
        agent.client(&["curl", "-sf", "-H", "Expect:", "-T", file.to_str().unwrap(), &url(origins::UPLOAD, "/")]);
    assert_eq!(said, (1u64 << 30).to_string(), "the origin counted");
}

fn sse_run(agent: &Agent<'_>, proxy: Option<u32>, seconds: u32) -> Done {
    let chunks = seconds * 200;
    let mut read = None;
    let (_, mut done) = window(proxy, || {
        read = Some(agent.netns.enter(move || sse::read(chunks)));
        Measured { units: u64::from(chunks), calls: 1, cut: 0 }
    });
    let read = read.unwrap();
    done.figures.insert("writes", f64::from(chunks));
    done.figures.insert("reads", read.reads as f64);
    done.figures.insert("p50_us", read.times.value_at_quantile(0.5) as f64 / 1e3);
    done.figures.insert("p99_us", read.times.value_at_quantile(0.99) as f64 / 1e3);
    done
}

fn open_loop_run(agent: &Agent<'_>, proxy: Option<u32>, seconds: u32) -> Done {
    let warm = agent.netns.enter(|| open_loop::run(1_000, 50, Duration::from_millis(500)));
    let mut latencies = None;
    let (_, mut done) = window(proxy, || {
        let run = agent.netns.enter(move || open_loop::run(1_000, 50, Duration::from_secs(seconds.into())));
        let requests = run.len();
        latencies = Some(run);
        Measured { units: requests, calls: requests, cut: 0 }
    });
    let latencies = latencies.unwrap();
    done.calls += warm.len();
    for (name, quantile) in [("p50_us", 0.5), ("p90_us", 0.9), ("p99_us", 0.99), ("p999_us", 0.999)] {
        done.figures.insert(name, latencies.value_at_quantile(quantile) as f64 / 1e3);
    }
    done
}

fn idle_run(agent: &Agent<'_>, proxy: Option<u32>, open: fn() -> Vec<Connection>) -> Done {
    // What the first request alone makes a proxy load and allocate is no cost of a connection.
    let first = agent.netns.enter(|| clients::idle(1));
    let before = proxy.map(cost::memory);
    let held = agent.netns.enter(open);
    let mut figures = Figures::new();
    if let (Some(proxy), Some(before)) = (proxy, before) {
        let names = ["kib_per_connection", "pss_kib_per_connection"];
        cost::growth(&mut figures, names, before, cost::memory(proxy), CROWD);
    }
    drop((first, held));
    Done { figures, calls: CROWD as u64 + 1, cut: 0 }
}
