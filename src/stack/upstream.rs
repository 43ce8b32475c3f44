//! The leaf of the stack: the one upstream connection that belongs to the client's.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tower::Service;

use super::{ObservedBody, StackError};
use crate::net::linked::Link;
use crate::net::{Connector, LoopGuard, Target};

/// HTTP/1: one request after another.
#[derive(Debug)]
pub struct Http1Upstream {
    sender: Arc<Mutex<Option<http1::SendRequest<ObservedBody>>>>,
    reconnect: Arc<Reconnect>,
}

impl Http1Upstream {
    /// Sends through this connection, and through a new one what the first hands back unsent.
    pub fn new(sender: http1::SendRequest<ObservedBody>, reconnect: Reconnect) -> Self {
        Self { sender: Arc::new(Mutex::new(Some(sender))), reconnect: Arc::new(reconnect) }
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
        let (slot, reconnect) = (self.sender.clone(), self.reconnect.clone());
        async move {
            let sender = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
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
            match send(sender, unsent, &slot).await {
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

async fn send(
    mut sender: http1::SendRequest<ObservedBody>,
    request: Request<ObservedBody>,
    slot: &Mutex<Option<http1::SendRequest<ObservedBody>>>,
) -> Result<Response<Incoming>, Unsent> {
    if sender.ready().await.is_err() {
        return Err(Unsent::Yes(Box::new(request)));
    }
    let answer = sender.try_send_request(request);
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
    answer.await.map_err(|mut error| match error.take_message() {
        Some(request) => Unsent::Yes(Box::new(request)),
        None => Unsent::No(StackError::upstream(error.into_error())),
    })
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
}

impl Reconnect {
    async fn http1(&self) -> io::Result<http1::SendRequest<ObservedBody>> {
        let mut own = None;
        let stream =
            self.connector.connect(self.target.original, |local| own = Some(self.guard.remember(local))).await?;
        let (sender, connection) = http1_handshake(self.link.upstream(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(async move {
            let _own = own;
            // What goes wrong here is told to the request that is under way.
            let _ = connection.with_upgrades().await;
        });
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
        .handshake(TokioIo::new(stream))
        .await
}

/// HTTP/2: any number of requests at once.
#[derive(Clone, Debug)]
pub struct Http2Upstream(http2::SendRequest<ObservedBody>);

impl Http2Upstream {
    /// Sends through this connection.
    pub fn new(sender: http2::SendRequest<ObservedBody>) -> Self {
        Self(sender)
    }
}

impl Service<Request<ObservedBody>> for Http2Upstream {
    type Response = Response<Incoming>;
    type Error = StackError;
    type Future = BoxFuture<'static, Result<Response<Incoming>, StackError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StackError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ObservedBody>) -> Self::Future {
        let mut sender = self.0.clone();
        async move {
            if sender.ready().await.is_err() {
                return Err(StackError::unsent());
            }
            sender.try_send_request(request).await.map_err(|mut error| match error.take_message() {
                Some(_) => StackError::unsent(),
                None => StackError::upstream(error.into_error()),
            })
        }
        .boxed()
    }
}

/// More header lines than this are refused by hyper; its own default is 100.
pub const MAX_HEADERS: usize = 512;
/// The largest head, in bytes.
pub const MAX_HEAD: usize = 1024 * 1024 + 64 * 1024;
