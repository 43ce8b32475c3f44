//! A day compressed into minutes: large bodies, and more connections than a day has, of every kind there is. Memory is the same
//! at the end as after the warm-up. Slow, so `make test-all` runs it: `cargo test --release --test it soak -- --ignored`.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::support::{Netns, Pod, WORLD_V4, until};

#[test]
#[ignore = "takes minutes: make test-all runs it"]
fn memory_is_flat_after_two_gibibytes_each_way_and_many_connections() {
    let mut pod = Pod::without_sidecar(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{WORLD_V4}:{}", PORTS[0])),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("SIDETRACE_LOG", "warn,sidetrace::app=info"),
    ]);
    // What a day takes, in minutes: addresses and the kernel's own tables are used again at once.
    pod.agent.sh_ok("sysctl -qw net.ipv4.ip_local_port_range='2048 65000' net.ipv4.tcp_tw_reuse=1");
    pod.redirect(&[]);
    let _ = pod.agent.sh("for name in time_wait close close_wait fin_wait last_ack; do \
                          sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_$name=1; done");
    origin(&pod.world);
    pod.start_sidecar();
    let mut table = Vec::new();
    let mut measure = |pod: &Pod, what: &str| {
        until("all connections are closed", || pod.metric("sidetrace_connections_open") == 0);
        until("all spans are delivered", || pod.metric("sidetrace_spans_queued") == 0);
        let now = rss(pod);
        println!("{what:40} {:>8} KiB", now / 1024);
        table.push((what.to_owned(), now));
        now
    };
    measure(&pod, "at the start");
    churn(&pod, CONNECTIONS / 10);
    for (version, bytes) in [(1, 64 * MIB), (2, 64 * MIB)] {
        down(&pod, version, bytes);
        up(&pod, version, bytes);
    }
    let warm = measure(&pod, "warm");
    for (version, name) in [(1, "HTTP/1.1"), (2, "HTTP/2")] {
        down(&pod, version, LARGE);
        measure(&pod, &format!("{} MiB down, {name}", LARGE / MIB));
        up(&pod, version, LARGE);
        measure(&pod, &format!("{} MiB up, {name}", LARGE / MIB));
    }
    for tenth in 1..=10 {
        churn(&pod, CONNECTIONS / 10);
        measure(&pod, &format!("{} connections", CONNECTIONS / 10 * tenth));
    }
    let calls = pod.metric("sidetrace_connections_total");
    let end = table.last().unwrap().1;
    println!("{calls} connections; {} KiB after the warm-up, {} KiB at the end", warm / 1024, end / 1024);
    assert!(end <= warm + MIB, "{table:#?}");
}

/// Every kind in turn, some at a time.
fn churn(pod: &Pod, count: usize) {
    inside(&pod.agent, async move {
        let next = std::sync::Arc::new(AtomicUsize::new(0));
        let workers: Vec<_> = (0..AT_A_TIME)
            .map(|_| {
                let next = next.clone();
                tokio::spawn(async move {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= count {
                            return;
                        }
                        one(index).await.unwrap_or_else(|error| panic!("connection {index}: {error}"));
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.await.unwrap();
        }
    });
}

async fn one(index: usize) -> io::Result<()> {
    let port = PORTS[index / 8 % PORTS.len()];
    if index % 8 == 6 {
        // Reset before or after it was seen.
        if let Ok(mut refused) = TcpStream::connect((WORLD_V4, 9)).await {
            let _ = refused.read(&mut [0; 1]).await;
        }
        return Ok(());
    }
    let mut talk = TcpStream::connect((WORLD_V4, port)).await?;
    match index % 8 {
        4 => {
            let (mut send, connection) = h2::client::handshake(talk).await.map_err(io::Error::other)?;
            let connection = tokio::spawn(connection);
            let (answer, _) = send.send_request(request("/ok", 2), true).map_err(io::Error::other)?;
            let mut body = answer.await.map_err(io::Error::other)?.into_body();
            while body.data().await.is_some() {}
            drop((send, body));
            let _ = connection.await;
        }
        5 => {
            talk.write_all(b"\0opaque").await?;
            talk.shutdown().await?;
            talk.read_to_end(&mut Vec::new()).await?;
        }
        7 => {
            talk.write_all(if index % 16 == 7 { b"GET /reset HTTP/1.1\r\nHost: a\r\n\r\n" } else { REQUEST }).await?;
            if index % 16 == 7 {
                let _ = talk.read(&mut [0; 1]).await;
            } else {
                talk.set_zero_linger()?;
            }
        }
        _ => {
            talk.write_all(REQUEST).await?;
            let mut heard = [0; ANSWER.len()];
            talk.read_exact(&mut heard).await?;
            assert_eq!(&heard, ANSWER);
        }
    }
    Ok(())
}

fn request(path: &str, version: u8) -> Request<()> {
    let version = if version == 2 { http::Version::HTTP_2 } else { http::Version::HTTP_11 };
    Request::builder().uri(format!("http://{WORLD_V4}{path}")).version(version).body(()).unwrap()
}

fn down(pod: &Pod, version: u8, bytes: u64) {
    inside(&pod.agent, async move {
        let mut talk = TcpStream::connect((WORLD_V4, PORTS[0])).await.unwrap();
        let path = format!("/down/{bytes}");
        let mut heard = 0;
        if version == 1 {
            talk.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n").len() as u64;
            let mut buffer = vec![0; PIECE];
            while heard < head + bytes {
                let read = talk.read(&mut buffer).await.unwrap();
                assert!(read > 0);
                heard += read as u64;
            }
        } else {
            let (mut send, connection) = h2::client::handshake(talk).await.unwrap();
            tokio::spawn(connection);
            let (answer, _) = send.send_request(request(&path, 2), true).unwrap();
            let mut body = answer.await.unwrap().into_body();
            while let Some(piece) = body.data().await {
                let length = piece.unwrap().len();
                heard += length as u64;
                body.flow_control().release_capacity(length).unwrap();
            }
            assert_eq!(heard, bytes);
        }
    });
}

fn up(pod: &Pod, version: u8, bytes: u64) {
    inside(&pod.agent, async move {
        let mut talk = TcpStream::connect((WORLD_V4, PORTS[0])).await.unwrap();
        let piece = Bytes::from(vec![7; PIECE]);
        if version == 1 {
            let head = format!("POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: {bytes}\r\n\r\n");
            talk.write_all(head.as_bytes()).await.unwrap();
            for _ in 0..bytes / PIECE as u64 {
                talk.write_all(&piece).await.unwrap();
            }
            let mut heard = [0; ANSWER.len()];
            talk.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, ANSWER);
        } else {
            let (mut send, connection) = h2::client::handshake(talk).await.unwrap();
            tokio::spawn(connection);
            let (answer, mut stream) = send.send_request(request("/up", 2), false).unwrap();
            for _ in 0..bytes / PIECE as u64 {
                send_all(&mut stream, piece.clone()).await;
            }
            stream.send_data(Bytes::new(), true).unwrap();
            assert_eq!(answer.await.unwrap().headers()["x-heard"], bytes.to_string());
        }
    });
}

async fn send_all(stream: &mut h2::SendStream<Bytes>, mut piece: Bytes) {
    while !piece.is_empty() {
        stream.reserve_capacity(piece.len());
        let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap();
        stream.send_data(piece.split_to(room.min(piece.len())), false).unwrap();
    }
}

/// Runs to its end in a namespace, on a thread of its own.
fn inside(netns: &Netns, work: impl Future<Output = ()> + Send + 'static) {
    netns.enter(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(TOO_LONG, work).await.expect("it hangs") });
    });
}

/// Speaks HTTP/1 and HTTP/2, repeats anything else, and takes spans.
fn origin(world: &Netns) {
    let listeners = world.enter(|| {
        PORTS.map(|port| {
            let listener = StdListener::bind(SocketAddr::from(([0, 0, 0, 0], port))).unwrap();
            listener.set_nonblocking(true).unwrap();
            listener
        })
    });
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for listener in listeners {
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::spawn(async move {
                    loop {
                        let (talk, _) = listener.accept().await.unwrap();
                        // A client may reset it at any time.
                        tokio::spawn(async move { _ = answer(talk).await });
                    }
                });
            }
            std::future::pending::<()>().await;
        });
    });
}

async fn answer(mut talk: TcpStream) -> io::Result<()> {
    let mut first = [0; 3];
    while talk.peek(&mut first).await? < 3 {}
    match &first {
        b"PRI" => answer_h2(talk).await.map_err(io::Error::other),
        b"GET" | b"POS" => answer_h1(talk).await,
        _ => {
            let (mut from, mut to) = talk.split();
            tokio::io::copy(&mut from, &mut to).await?;
            to.shutdown().await
        }
    }
}

async fn answer_h1(mut talk: TcpStream) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(PIECE);
    loop {
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if talk.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&buffer.split_to(end)).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<u64>().ok());
        let mut left = length.unwrap_or(0);
        while left > 0 {
            if buffer.is_empty() && talk.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            let taken = left.min(buffer.len() as u64);
            _ = buffer.split_to(usize::try_from(taken).unwrap());
            left -= taken;
            buffer.reserve(PIECE);
        }
        if head.starts_with("get /reset") {
            return talk.set_zero_linger();
        }
        if head.contains(" /v1/traces ") {
            talk.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await?;
        } else if let Some(rest) = head.strip_prefix("get /down/") {
            let bytes: u64 = rest.split(' ').next().unwrap().parse().unwrap();
            talk.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n").as_bytes()).await?;
            let piece = vec![7; PIECE];
            for _ in 0..bytes / PIECE as u64 {
                talk.write_all(&piece).await?;
            }
        } else {
            talk.write_all(ANSWER).await?;
        }
    }
}

async fn answer_h2(talk: TcpStream) -> Result<(), h2::Error> {
    let mut connection = h2::server::handshake(talk).await?;
    while let Some(accepted) = connection.accept().await {
        let (request, mut respond) = accepted?;
        tokio::spawn(async move {
            let path = request.uri().path().to_owned();
            let (mut body, mut heard) = (request.into_body(), 0);
            while let Some(Ok(piece)) = body.data().await {
                heard += piece.len();
                let _ = body.flow_control().release_capacity(piece.len());
            }
            let answer = Response::builder().header("x-heard", heard).body(()).unwrap();
            let Ok(mut stream) = respond.send_response(answer, false) else { return };
            if let Some(bytes) = path.strip_prefix("/down/") {
                let piece = Bytes::from(vec![7; PIECE]);
                for _ in 0..bytes.parse::<u64>().unwrap() / PIECE as u64 {
                    send_all(&mut stream, piece.clone()).await;
                }
            }
            let _ = stream.send_data(Bytes::new(), true);
        });
    }
    Ok(())
}

fn rss(pod: &Pod) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pod.sidecar_id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

const REQUEST: &[u8] = b"GET /ok HTTP/1.1\r\nHost: a\r\n\r\n";
const ANSWER: &[u8; 40] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const PORTS: [u16; 8] = [8180, 8181, 8182, 8183, 8184, 8185, 8186, 8187];
const AT_A_TIME: usize = 64;
const MIB: u64 = 1024 * 1024;
const PIECE: usize = 1024 * 1024;
/// Of a debug build, a tenth: to try the test, not the program.
const LARGE: u64 = if cfg!(debug_assertions) { 200 * MIB } else { 2048 * MIB };
const CONNECTIONS: usize = if cfg!(debug_assertions) { 20_000 } else { 200_000 };
const TOO_LONG: Duration = Duration::from_secs(600);
