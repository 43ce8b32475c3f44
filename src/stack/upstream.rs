//! The leaf of the stack: the one HTTP/2 connection to upstream that belongs to the client's.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OnceCell;
use tokio_util::task::TaskTracker;
use tower::Service;

use super::{ObservedBody, StackError};
use crate::net::{Connector, LoopGuard, Target};

/// HTTP/2: any number of requests at once.
#[derive(Clone, Debug)]
pub struct Http2Upstream {
    sender: http2::SendRequest<ObservedBody>,
    // For what comes after upstream's GOAWAY, until the client has heard of it.
    second: Arc<OnceCell<http2::SendRequest<ObservedBody>>>,
    reconnect: Arc<Reconnect>,
}

impl Http2Upstream {
    /// Sends through this connection, and through one new one what the first hands back unsent.
    pub fn new(sender: http2::SendRequest<ObservedBody>, reconnect: Reconnect) -> Self {
        Self { sender, second: Arc::default(), reconnect: Arc::new(reconnect) }
    }
}

impl Service<Request<ObservedBody>> for Http2Upstream {
    type Response = Response<Incoming>;
    type Error = StackError;
    type Future = BoxFuture<'static, Result<Response<Incoming>, StackError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StackError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<ObservedBody>) -> Self::Future {
        let this = self.clone();
        if request.uri().authority().is_none() {
            // It came with `host` in place of `:authority` (RFC 9113, section 8.3.1). h2 asks for an authority in a
            // request of its own version; in one of the version before it is content with the header.
            *request.version_mut() = Version::HTTP_11;
        }
        async move {
            let unsent = match send_http2(this.sender, request).await {
                Ok(answer) => return Ok(answer),
                Err(Unsent::No(error)) => return Err(error),
                Err(Unsent::Yes(request)) => *request,
            };
            let second = this.second.get_or_try_init(|| this.reconnect.http2()).await;
            let second = second.map_err(|_| StackError::unsent())?;
            send_http2(second.clone(), unsent).await.map_err(|unsent| match unsent {
                Unsent::No(error) => error,
                Unsent::Yes(_) => StackError::unsent(),
            })
        }
        .boxed()
    }
}

enum Unsent {
    Yes(Box<Request<ObservedBody>>),
    No(StackError),
}

async fn send_http2(
    mut sender: http2::SendRequest<ObservedBody>,
    request: Request<ObservedBody>,
) -> Result<Response<Incoming>, Unsent> {
    if sender.ready().await.is_err() {
        return Err(Unsent::Yes(Box::new(request)));
    }
    sender.try_send_request(request).await.map_err(|mut error| match error.take_message() {
        Some(request) => Unsent::Yes(Box::new(request)),
        None => match error.into_error() {
            error if StackError::left_out(&error) => Unsent::No(StackError::unsent()),
            error => Unsent::No(StackError::upstream(error)),
        },
    })
}

/// How to reach the same destination once more, over HTTP/2.
#[derive(Debug)]
pub struct Reconnect {
    /// Opens the connection.
    pub connector: Connector,
    /// Where to.
    pub target: Arc<Target>,
    /// Must know of every connection of ours.
    pub guard: Arc<LoopGuard>,
    /// Runs the connection.
    pub tasks: TaskTracker,
}

impl Reconnect {
    async fn http2(&self) -> io::Result<http2::SendRequest<ObservedBody>> {
        let (to, mut own) = (self.target.original, None);
        let stream = self.connector.connect(to, |local| own = Some(self.guard.remember(local, to))).await?;
        let (sender, connection) =
            http2_handshake(stream, Tracked(self.tasks.clone())).await.map_err(io::Error::other)?;
        self.tasks.spawn(async move {
            let _own = own;
            // What goes wrong here is told to the requests that are under way.
            let _ = connection.await;
        });
        Ok(sender)
    }
}

/// An HTTP/2 connection to upstream.
pub async fn http2_handshake<S>(
    stream: S,
    executor: Tracked,
) -> hyper::Result<(http2::SendRequest<ObservedBody>, http2::Connection<TokioIo<S>, ObservedBody, Tracked>)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    http2::Builder::new(executor)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADER_LIST)
        .handshake(TokioIo::new(stream))
        .await
}

/// Runs the streams of a connection where the drain can wait for them.
#[derive(Clone, Debug)]
pub struct Tracked(pub TaskTracker);

impl<F> hyper::rt::Executor<F> for Tracked
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

/// What one stream of HTTP/2 may send ahead of its reader.
pub const STREAM_WINDOW: u32 = 256 * 1024;
/// No tighter than any peer's: streams that nobody reads must not hold up the others. Their own windows bound memory.
pub const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// The largest header list of HTTP/2, in bytes as RFC 9113, section 6.5.2 counts them.
pub const MAX_HEADER_LIST: u32 = 1024 * 1024;
