//! The way upstream of a client's HTTP/2 connection: one connection of its own, and a second one for what comes after
//! upstream's GOAWAY, until the client has heard of it.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use h2::SendStream;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{CONNECTION_WINDOW, FRAME_BUDGET, MAX_HEADER_LIST, STREAM_WINDOW};
use crate::net::{Connector, LoopGuard, OwnConnection, Target};
use crate::proxy::Side;
use crate::proxy::intercept::Inside;

/// Sends requests.
pub(super) struct Upstream {
    sender: SendRequest<Bytes>,
    second: OnceCell<SendRequest<Bytes>>,
    /// The first connection has gone, and what was not sent yet with it.
    pub(super) gone: CancellationToken,
    reconnect: Reconnect,
}

/// A request under way.
pub(super) struct Sent {
    pub(super) answer: ResponseFuture,
    pub(super) body: SendStream<Bytes>,
    /// On the first connection, whose end the client's shares.
    pub(super) first: bool,
}

/// How to reach the same destination once more.
pub(super) struct Reconnect {
    pub(super) connector: Connector,
    pub(super) target: Arc<Target>,
    /// How, where TLS is intercepted.
    pub(super) inside: Option<Arc<Inside>>,
    /// Must know of every connection of ours.
    pub(super) guard: Arc<LoopGuard>,
    /// Runs the connection.
    pub(super) tasks: TaskTracker,
}

impl Upstream {
    pub(super) fn new(sender: SendRequest<Bytes>, reconnect: Reconnect) -> Self {
        Self { sender, second: OnceCell::new(), gone: CancellationToken::new(), reconnect }
    }

    /// Whether upstream takes extended CONNECT (RFC 8441).
    pub(super) fn connects(&self) -> bool {
        self.sender.is_extended_connect_protocol_enabled()
    }

    /// Sends a request's head as soon as upstream has room for another stream. An error means that it was not sent.
    pub(super) async fn send(&self, request: Request<()>, end: bool) -> Result<Sent, h2::Error> {
        let mut sender = self.sender.clone();
        let mut first = true;
        if poll_fn(|cx| sender.poll_ready(cx)).await.is_err() {
            let second = self.second.get_or_try_init(|| self.reconnect.connect()).await;
            sender = second.map_err(|_| h2::Reason::REFUSED_STREAM)?.clone();
            poll_fn(|cx| sender.poll_ready(cx)).await?;
            first = false;
        }
        let (answer, body) = sender.send_request(request, end)?;
        Ok(Sent { answer, body, first })
    }
}

impl Reconnect {
    async fn connect(&self) -> io::Result<SendRequest<Bytes>> {
        let (to, mut own) = (self.target.original, None);
        let stream = self.connector.connect(to, |local| own = Some(self.guard.remember(local, to))).await?;
        match &self.inside {
            None => self.begin(stream, own).await,
            Some(inside) => {
                let secured = Box::pin(inside.connect(stream)).await;
                self.begin(secured.map_err(|doubt| io::Error::other(doubt.as_str()))?, own).await
            }
        }
    }

    async fn begin<S: Side>(&self, stream: S, own: Option<OwnConnection>) -> io::Result<SendRequest<Bytes>> {
        let (sender, connection) = handshake(stream).await.map_err(io::Error::other)?;
        self.tasks.spawn(async move {
            let _own = own;
            // What goes wrong here is told to the requests that are under way.
            let _ = connection.await;
        });
        Ok(sender)
    }
}

/// An HTTP/2 connection to upstream.
pub(super) async fn handshake<S>(stream: S) -> Result<(SendRequest<Bytes>, Connection<S, Bytes>), h2::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    Builder::new()
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADER_LIST)
        .data_frame_budget(FRAME_BUDGET)
        .handshake(stream)
        .await
}
