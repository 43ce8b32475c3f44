//! One HTTP/1 or HTTP/2 connection through the stack.
//!
//! Both sides of an HTTP/1 connection are driven by one task, the client's side first: what the client said, its FIN too,
//! is known when upstream's side is polled.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tower::Service;
use tracing::debug;

use super::Proxy;
use super::goaway::GoAwayWatch;
use crate::net::Target;
use crate::net::linked;
use crate::stack::{
    self, Context, Handover, Http1Upstream, Http2Reconnect, Http2Upstream, HttpService, ObservedBody, Reconnect,
    StackError, Tracked, UpstreamConnection,
};

/// Serves an HTTP/1 connection until either side is done with it.
pub(super) async fn http1(
    proxy: &Proxy,
    target: Arc<Target>,
    client: (TcpStream, Bytes),
    upstream: (TcpStream, Bytes),
) {
    let (client, upstream, link) = linked::join(client, upstream);
    let (sender, connection) = match stack::http1_handshake(upstream).await {
        Ok(connected) => connected,
        Err(error) => return debug!(%error, "no HTTP/1 connection to upstream"),
    };
    let handover = Handover::default();
    let reconnect = Reconnect {
        connector: proxy.connector.clone(),
        target: target.clone(),
        guard: proxy.guard.clone(),
        link: link.clone(),
        handover: handover.clone(),
    };
    let mut upstream: Option<UpstreamConnection> = Some(Box::pin(connection.with_upgrades()));
    let context = Context {
        target,
        sink: proxy.sink.clone(),
        propagators: proxy.propagators,
        sampler: proxy.sampler,
        link: Some(link.clone()),
        handover: Some(handover.clone()),
    };
    let service = Serve::new(stack::build(&context, Http1Upstream::new(sender, reconnect)));
    let mut server = pin!(
        http1::Builder::new()
            .preserve_header_case(true)
            .auto_date_header(false)
            .max_headers(stack::MAX_HEADERS)
            .max_buf_size(stack::MAX_HEAD)
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(client), service)
            .with_upgrades()
    );
    let mut drained = pin!(proxy.drain.cancelled());
    let (mut draining, mut closing) = (false, false);
    let ended = poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = server.as_mut().poll(cx) {
                return Poll::Ready(ended);
            }
            if let Some(another) = handover.take_connection() {
                upstream = Some(another);
            }
            if let Some(connection) = &mut upstream
                && let Poll::Ready(ended) = connection.as_mut().poll(cx)
            {
                if let Err(error) = ended {
                    debug!(%error, "upstream connection ended");
                }
                // Its drop hands back a request that it has not sent.
                upstream = None;
                continue;
            }
            if link.upstream_polled() {
                continue;
            }
            draining = draining || drained.as_mut().poll(cx).is_ready();
            // An idle pair closes together. A request under way learns of upstream's end by itself.
            if closing || !(draining || (upstream.is_none() && !link.in_exchange())) {
                return Poll::Pending;
            }
            closing = true;
            server.as_mut().graceful_shutdown();
        }
    })
    .await;
    match (ended, handover.take_upgrade()) {
        (Err(error), _) => {
            if error.is_parse() {
                proxy.metrics.unreadable.inc();
            }
            debug!(%error, "client connection ended");
        }
        (Ok(()), None) => {}
        (Ok(()), Some((client, beyond))) => {
            // Upstream's half is set free by its connection, which may not have come to its end yet.
            let rest = async {
                if let Some(connection) = upstream {
                    // Its failure is the upgrade's, which the join below hears of.
                    let _ = connection.await;
                }
            };
            let (Ok(client), Ok(upstream), ()) = tokio::join!(client, beyond, rest) else { return };
            let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
            // Either side's end has been passed on; there is nobody left to tell of a failure.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
        }
    }
}

/// Serves an HTTP/2 connection until either side is done with it.
pub(super) async fn http2(
    proxy: &Proxy,
    target: Arc<Target>,
    client: (TcpStream, Bytes),
    upstream: (TcpStream, Bytes),
) {
    let (client, upstream, _link) = linked::join(client, upstream);
    let going_away = Arc::new(Notify::new());
    let upstream = GoAwayWatch::new(upstream, going_away.clone());
    let executor = Tracked(proxy.tasks.clone());
    let connected = stack::http2_handshake(upstream, executor.clone()).await;
    let (sender, upstream) = match connected {
        Ok(connected) => connected,
        Err(error) => return debug!(%error, "no HTTP/2 connection to upstream"),
    };
    let reconnect = Http2Reconnect {
        connector: proxy.connector.clone(),
        target: target.clone(),
        guard: proxy.guard.clone(),
        tasks: proxy.tasks.clone(),
    };
    let context = Context {
        target,
        sink: proxy.sink.clone(),
        propagators: proxy.propagators,
        sampler: proxy.sampler,
        link: None,
        handover: None,
    };
    let service = Serve::new(stack::build(&context, Http2Upstream::new(sender, reconnect)));
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
