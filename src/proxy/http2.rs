//! One HTTP/2 connection through the stack, each side its own.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tower::Service;
use tracing::debug;

use super::Proxy;
use super::goaway::GoAwayWatch;
use crate::net::{Abort, linked};
use crate::stack::{self, Context, Http2Upstream, HttpService, ObservedBody, Reconnect, StackError, Tracked};

/// Serves an HTTP/2 connection until either side is done with it.
pub(super) async fn serve<C, U>(proxy: &Proxy, context: &Context, client: (C, Bytes), upstream: (U, Bytes))
where
    C: AsyncRead + AsyncWrite + Abort + Unpin + Send + 'static,
    U: AsyncRead + AsyncWrite + Abort + Unpin + Send + 'static,
{
    let (client, upstream) = linked::join(client, upstream);
    let going_away = Arc::new(Notify::new());
    let upstream = GoAwayWatch::new(upstream, going_away.clone());
    let executor = Tracked(proxy.tasks.clone());
    let connected = stack::http2_handshake(upstream, executor.clone()).await;
    let (sender, upstream) = match connected {
        Ok(connected) => connected,
        Err(error) => return debug!(%error, "no HTTP/2 connection to upstream"),
    };
    let reconnect = Reconnect {
        connector: proxy.connector.clone(),
        target: context.target.clone(),
        guard: proxy.guard.clone(),
        tasks: proxy.tasks.clone(),
    };
    let service = Serve::new(stack::build(context, Http2Upstream::new(sender, reconnect)));
    let mut upstream = Some(Box::pin(upstream));
    let mut server = pin!(
        http2::Builder::new(executor)
            .auto_date_header(false)
            .initial_stream_window_size(stack::STREAM_WINDOW)
            .initial_connection_window_size(stack::CONNECTION_WINDOW)
            .max_header_list_size(stack::MAX_HEADER_LIST)
            .max_concurrent_streams(MAX_STREAMS)
            .serve_connection(TokioIo::new(client), service)
    );
    let mut draining = false;
    let ended = loop {
        tokio::select! {
            ended = &mut server => break ended,
            Some(ended) = async { Some(upstream.as_mut()?.await) } => {
                if let Err(error) = ended {
                    debug!(%error, "upstream connection ended");
                }
                // Its drop hands back the requests that it has not sent.
                upstream = None;
                server.as_mut().graceful_shutdown();
            }
            () = going_away.notified() => server.as_mut().graceful_shutdown(),
            () = proxy.drain.cancelled(), if !draining => {
                draining = true;
                server.as_mut().graceful_shutdown();
            }
        }
    };
    if let Err(error) = ended {
        debug!(%error, "client connection ended");
    }
}

/// The stack as hyper calls it. The stack is always ready.
struct Serve(Mutex<HttpService>);

impl Serve {
    fn new(service: HttpService) -> Self {
        Self(Mutex::new(service))
    }
}

impl hyper::service::Service<Request<Incoming>> for Serve {
    type Response = Response<ObservedBody>;
    type Error = StackError;
    type Future = <HttpService as Service<Request<ObservedBody>>>::Future;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        // Called by the connection's own task only: never contended.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).call(request.map(ObservedBody::from_client))
    }
}

const MAX_STREAMS: u32 = 1000;
