//! The bench's own clients, where none on the shelf does the work.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::RecvStream;
use http::Request;

use super::origins::{self, CROWD, GRPC, message};
use super::world::{ADDRESS, HTTP1};

/// Opens connections, makes one request on each, one after the other, and leaves them open.
pub(crate) fn idle(count: usize) -> Vec<Connection> {
    let mut connections: Vec<_> = (0..count).map(|_| Connection::open(HTTP1)).collect();
    connections.iter_mut().for_each(Connection::get);
    connections
}

/// The same, but all requests are under way before the first is answered: the origin sees to that.
pub(crate) fn idle_after_a_crowd() -> Vec<Connection> {
    let mut connections: Vec<_> = (0..CROWD).map(|_| Connection::open(origins::CROWDED)).collect();
    connections.iter_mut().for_each(Connection::ask);
    connections.iter_mut().for_each(Connection::hear);
    connections
}

/// A keep-alive connection to an origin.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(port: u16) -> Self {
        let stream = TcpStream::connect((ADDRESS, port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { stream, buffer: vec![0; 8 << 10] }
    }

    /// One request, and its answer to the last byte.
    pub(crate) fn get(&mut self) {
        self.ask();
        self.hear();
    }

    fn ask(&mut self) {
        self.stream.write_all(REQUEST).unwrap();
    }

    fn hear(&mut self) {
        let (mut filled, mut whole) = (0, usize::MAX);
        while filled < whole {
            let read = self.stream.read(&mut self.buffer[filled..]).unwrap();
            assert!(read > 0, "the connection ended within an answer");
            filled += read;
            if whole == usize::MAX {
                whole = length(&self.buffer[..filled]).unwrap_or(usize::MAX);
            }
        }
        assert!(filled == whole && self.buffer.starts_with(b"HTTP/1.1 200"), "not the answer");
    }
}

/// Of head and body, once the head is there.
pub(crate) fn length(answer: &[u8]) -> Option<usize> {
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&answer[..head]).unwrap();
    let body = text.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().unwrap())
    });
    Some(head + body.expect("an origin says how long it is"))
}

/// gRPC streams on which one message at a time goes to the origin and comes back, for some seconds; then all end in order.
/// Returns the messages that came back and the calls.
pub(crate) fn ping_pong(connections: usize, streams: usize, seconds: u32) -> (u64, u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let until = Instant::now() + Duration::from_secs(seconds.into());
        let mut calls = Vec::new();
        for _ in 0..connections {
            let stream = tokio::net::TcpStream::connect((ADDRESS, GRPC)).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (client, connection) = h2::client::handshake(stream).await.unwrap();
            tokio::spawn(async move { connection.await.unwrap() });
            calls.extend((0..streams).map(|_| tokio::spawn(call(client.clone(), until))));
        }
        let (mut messages, count) = (0, calls.len() as u64);
        for call in calls {
            messages += call.await.unwrap();
        }
        (messages, count)
    })
}

async fn call(client: h2::client::SendRequest<Bytes>, until: Instant) -> u64 {
    let request = Request::post(format!("http://{ADDRESS}:{GRPC}/bench.Bench/Echo"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let (response, mut send) = client.ready().await.unwrap().send_request(request, false).unwrap();
    let message = message();
    send.send_data(message.clone(), false).unwrap();
    let mut body = response.await.unwrap().into_body();
    let mut count = 0;
    loop {
        read(&mut body, message.len()).await;
        count += 1;
        if Instant::now() >= until {
            break;
        }
        send.send_data(message.clone(), false).unwrap();
    }
    send.send_data(Bytes::new(), true).unwrap();
    assert!(body.data().await.is_none(), "more than was sent came back");
    assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    count
}

async fn read(body: &mut RecvStream, mut length: usize) {
    while length > 0 {
        let data = body.data().await.expect("the stream ended").unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        length = length.checked_sub(data.len()).expect("one message");
    }
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: 10.231.0.254\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n";
