//! The leaf of the stack: the one upstream connection that belongs to the client's.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, Response, Version, header};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OnceCell;
use tokio_util::task::TaskTracker;
use tower::Service;

use super::{Handover, ObservedBody, StackError};
use crate::net::linked::Link;
use crate::net::{Connector, LoopGuard, Target};
use crate::trace::propagation::remove_in_order;

/// HTTP/1: one request after another.
#[derive(Debug)]
pub struct Http1Upstream {
    slot: Slot,
    reconnect: Arc<Reconnect>,
}

/// The way to the connection, when no call is just taking it.
type Slot = Arc<Mutex<Option<Sender>>>;

#[derive(Debug)]
struct Sender {
    sender: http1::SendRequest<ObservedBody>,
    /// hyper speaks down to an upstream that has answered with HTTP/1.0: it would send no chunked body any more.
    speaks_1_0: bool,
}

impl Http1Upstream {
    /// Sends through this connection, and through a new one what the first hands back unsent.
    pub fn new(sender: http1::SendRequest<ObservedBody>, reconnect: Reconnect) -> Self {
        let sender = Sender { sender, speaks_1_0: false };
        Self { slot: Arc::new(Mutex::new(Some(sender))), reconnect: Arc::new(reconnect) }
    }
}

impl Service<Request<ObservedBody>> for Http1Upstream {
    type Response = Response<Incoming>;
    type Error = StackError;
    type Future = BoxFuture<'static, Result<Response<Incoming>, StackError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StackError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ObservedBody>) -> Self::Future {
        let (slot, reconnect) = (self.slot.clone(), self.reconnect.clone());
        async move {
            let chunked = request.body().size_hint().exact().is_none();
            let sender = lock(&slot).take().filter(|sender| !(chunked && sender.speaks_1_0));
            let unsent = match sender {
                Some(sender) => match send(sender, request, &slot).await {
                    Ok(answer) => return Ok(answer),
                    Err(Unsent::No(error)) => return Err(error),
                    Err(Unsent::Yes(request)) => *request,
                },
                None => request,
            };
            // Upstream closed while the request was on its way to it: nothing of it was written.
            let sender = reconnect.http1().await.map_err(StackError::connect)?;
            match send(Sender { sender, speaks_1_0: false }, unsent, &slot).await {
                Ok(answer) => Ok(answer),
                Err(Unsent::No(error)) => Err(error),
                Err(Unsent::Yes(_)) => Err(StackError::connect(io::ErrorKind::ConnectionReset.into())),
            }
        }
        .boxed()
    }
}

enum Unsent {
    Yes(Box<Request<ObservedBody>>),
    No(StackError),
}

async fn send(mut way: Sender, request: Request<ObservedBody>, slot: &Slot) -> Result<Response<Incoming>, Unsent> {
    if way.sender.ready().await.is_err() {
        return Err(Unsent::Yes(Box::new(request)));
    }
    let answer = way.sender.try_send_request(request);
    *lock(slot) = Some(way);
    let mut answer = answer.await.map_err(|mut error| match error.take_message() {
        Some(request) => Unsent::Yes(Box::new(request)),
        None => Unsent::No(StackError::upstream(error.into_error())),
    })?;
    if answer.version() == Version::HTTP_10
        && let Some(way) = &mut *lock(slot)
    {
        way.speaks_1_0 = true;
    }
    // RFC 9112, section 6.3: the coding overrides the length; hyper's other side would send neither.
    let headers = answer.headers_mut();
    if headers.contains_key(header::TRANSFER_ENCODING) && headers.contains_key(header::CONTENT_LENGTH) {
        remove_in_order(headers, &header::CONTENT_LENGTH);
    }
    Ok(answer)
}

fn lock(slot: &Slot) -> MutexGuard<'_, Option<Sender>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How to reach the same destination once more.
#[derive(Debug)]
pub struct Reconnect {
    /// Opens the connection.
    pub connector: Connector,
    /// Where to.
    pub target: Arc<Target>,
    /// Must know of every connection of ours.
    pub guard: Arc<LoopGuard>,
    /// The client's side of it.
    pub link: Link,
    /// Whose task drives the new connection.
    pub handover: Handover,
}

impl Reconnect {
    async fn http1(&self) -> io::Result<http1::SendRequest<ObservedBody>> {
        let (to, mut own) = (self.target.original, None);
        let stream = self.connector.connect(to, |local| own = Some(self.guard.remember(local, to))).await?;
        let (sender, connection) = http1_handshake(self.link.upstream(stream)).await.map_err(io::Error::other)?;
        self.handover.connection(Box::pin(async move {
            let _own = own;
            connection.with_upgrades().await
        }));
        Ok(sender)
    }
}

/// An HTTP/1 connection to upstream, which writes what it is given as it is.
pub async fn http1_handshake<S>(
    stream: S,
) -> hyper::Result<(http1::SendRequest<ObservedBody>, http1::Connection<TokioIo<S>, ObservedBody>)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    http1::Builder::new()
        .preserve_header_case(true)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD)
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_spaces_after_header_name_in_responses(true)
        .ignore_invalid_headers_in_responses(true)
        .handshake(TokioIo::new(stream))
        .await
}

/// HTTP/2: any number of requests at once.
#[derive(Clone, Debug)]
pub struct Http2Upstream {
    sender: http2::SendRequest<ObservedBody>,
    // For what comes after upstream's GOAWAY, until the client has heard of it.
    second: Arc<OnceCell<http2::SendRequest<ObservedBody>>>,
    reconnect: Arc<Http2Reconnect>,
}

impl Http2Upstream {
    /// Sends through this connection, and through one new one what the first hands back unsent.
    pub fn new(sender: http2::SendRequest<ObservedBody>, reconnect: Http2Reconnect) -> Self {
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
pub struct Http2Reconnect {
    /// Opens the connection.
    pub connector: Connector,
    /// Where to.
    pub target: Arc<Target>,
    /// Must know of every connection of ours.
    pub guard: Arc<LoopGuard>,
    /// Runs the connection.
    pub tasks: TaskTracker,
}

impl Http2Reconnect {
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
/// More header lines than this are refused by hyper; its own default is 100.
pub const MAX_HEADERS: usize = 512;
/// The largest head, in bytes; hyper reads and writes bodies through buffers that may grow as large.
pub const MAX_HEAD: usize = 256 * 1024;
