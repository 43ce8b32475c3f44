//! The client: verifies the certificate that it is shown, speaks HTTP/1.1. All its connections share a thread, as wrk's do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, HandshakeKind};

use super::{NAME, TLS};
use crate::clients::length;
use crate::it::support::GUARD;
use crate::world::ADDRESS;

/// Clients that keep their connections.
#[derive(Debug)]
pub(super) struct Crew {
    runtime: Runtime,
    connections: Vec<Connection>,
}

impl Crew {
    /// Some at a time: no peer's backlog is meant to be the limit.
    pub(super) fn open(config: &Arc<ClientConfig>, count: usize) -> Self {
        let runtime = runtime();
        let mut connections = Vec::with_capacity(count);
        while connections.len() < count {
            let batch = BATCH.min(count - connections.len());
            let each = (0..batch).map(|_| {
                let config = config.clone();
                async move { Connection::open(&config, NAME, TLS).await }
            });
            let opened = async { each.collect::<JoinSet<_>>().join_all().await };
            connections.extend(runtime.block_on(guarded(0, opened)));
        }
        Self { runtime, connections }
    }

    /// One request after the other on each connection, for some seconds, but one at least. Returns how many.
    pub(super) fn request(&mut self, seconds: u32) -> u64 {
        let until = Instant::now() + Duration::from_secs(seconds.into());
        let each = self.connections.drain(..).map(|mut connection| async move {
            let mut count = 0;
            while count == 0 || Instant::now() < until {
                connection.ask("/", "keep-alive").await;
                connection.hear().await;
                count += 1;
            }
            (connection, count)
        });
        let asked = async { each.collect::<JoinSet<_>>().join_all().await };
        let (connections, counts): (Vec<_>, Vec<u64>) =
            self.runtime.block_on(guarded(seconds, asked)).into_iter().unzip();
        self.connections = connections;
        counts.into_iter().sum()
    }

    /// One request on each, all under way before the first is answered: the origin sees to that.
    pub(super) fn ask_all_then_hear(&mut self) {
        let connections = &mut self.connections;
        self.runtime.block_on(guarded(0, async {
            for connection in connections.iter_mut() {
                connection.ask("/crowd", "keep-alive").await;
            }
            for connection in connections {
                connection.hear().await;
            }
        }));
    }

    /// Closes in order.
    pub(super) fn end(self) {
        self.runtime.block_on(guarded(0, async {
            for mut connection in self.connections {
                connection.end().await;
            }
        }));
    }
}

/// Each client opens a connection, asks once, waits until the other end closes, and begins again, for some seconds. Returns
/// the connections, and how many of them resumed a session.
pub(super) fn reconnect(clients: &[Arc<ClientConfig>], seconds: u32) -> (u64, u64) {
    let until = Instant::now() + Duration::from_secs(seconds.into());
    let each = clients.iter().cloned().map(|config| async move {
        let (mut count, mut resumed) = (0, 0);
        while Instant::now() < until {
            resumed += u64::from(once(&config, NAME, TLS).await);
            count += 1;
        }
        (count, resumed)
    });
    let done = runtime().block_on(guarded(seconds, async { each.collect::<JoinSet<_>>().join_all().await }));
    done.into_iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

/// One connection to each name, one after the other.
pub(super) fn ask_names(config: &Arc<ClientConfig>, names: impl Iterator<Item = String>) {
    runtime().block_on(guarded(0, async {
        for name in names {
            once(config, &name, TLS).await;
        }
    }));
}

/// From the connect to the last byte of the answer, which comes in one packet; and whether a session was resumed.
pub(super) fn time(config: &Arc<ClientConfig>, name: &str, port: u16) -> (Duration, bool) {
    runtime().block_on(guarded(0, async {
        let start = Instant::now();
        let mut connection = Connection::open(config, name, port).await;
        connection.ask("/", "close").await;
        connection.hear().await;
        let took = start.elapsed();
        connection.end().await;
        (took, connection.resumed())
    }))
}

/// Opens, asks, and closes when the other end has. Whether a session was resumed.
async fn once(config: &Arc<ClientConfig>, name: &str, port: u16) -> bool {
    let mut connection = Connection::open(config, name, port).await;
    connection.ask("/", "close").await;
    connection.hear().await;
    connection.end().await;
    connection.resumed()
}

#[derive(Debug)]
struct Connection {
    stream: TlsStream<TcpStream>,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(config: &Arc<ClientConfig>, name: &str, port: u16) -> Self {
        let stream = TcpStream::connect((ADDRESS, port)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let server = ServerName::try_from(name.to_owned()).unwrap();
        let connected = TlsConnector::from(config.clone()).connect(server, stream).await;
        let stream = connected.unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { stream, buffer: vec![0; 4 << 10] }
    }

    fn resumed(&self) -> bool {
        self.stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    async fn ask(&mut self, path: &str, connection: &str) {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {NAME}\r\nUser-Agent: bench\r\nAccept: */*\r\nConnection: {connection}\r\n\r\n"
        );
        self.stream.write_all(request.as_bytes()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    async fn hear(&mut self) {
        let (mut filled, mut whole) = (0, usize::MAX);
        while filled < whole {
            let read = self.stream.read(&mut self.buffer[filled..]).await.unwrap();
            assert!(read > 0, "the connection ended within an answer");
            filled += read;
            if whole == usize::MAX {
                whole = length(&self.buffer[..filled]).unwrap_or(usize::MAX);
            }
        }
        assert!(filled == whole && self.buffer.starts_with(b"HTTP/1.1 200"), "not the answer");
    }

    /// Says that it ends and waits for the other end's word. Some peers close without one.
    async fn end(&mut self) {
        let _ = self.stream.shutdown().await;
        let _ = self.stream.read(&mut self.buffer).await;
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Ends the bench when nothing ends this.
async fn guarded<T>(seconds: u32, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(2 * GUARD + Duration::from_secs(seconds.into()), work).await.expect("a peer hangs")
}

/// Handshakes at a time.
const BATCH: usize = 50;
