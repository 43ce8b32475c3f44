//! One HTTP/2 connection: the client's and upstream's, each with its own frames, and the streams between them.
//!
//! One task drives both connections and all their streams, so that a stream costs no task of its own and what several streams
//! have to say leaves in one write. Windows are ours, but nothing is taken from a sender that its reader has no room for.

mod exchange;
mod frames;
mod hold;
mod pump;
mod upstream;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::AsyncReadExt;
use tracing::debug;

use self::exchange::{Left, exchange};
use self::frames::{FrameWatch, Seen};
use self::upstream::{Reconnect, Upstream};
use super::intercept::Inside;
use super::{Proxy, Side};
use crate::net::linked;
use crate::stack::Context;

/// Serves a connection until either side is done with it.
pub(super) async fn serve<C: Side, U: Side>(
    proxy: &Proxy,
    context: &Context,
    inside: Option<&Arc<Inside>>,
    client: (C, Bytes),
    upstream: (U, Bytes),
) {
    let (client, from_client) = client;
    let (mut client, upstream) = linked::join((client, Bytes::new()), upstream);
    let seen = Arc::new(Seen::default());
    let connected = upstream::handshake(FrameWatch::new(upstream, seen.clone())).await;
    let (sender, mut upstream) = match connected {
        Ok(connected) => connected,
        Err(error) => return debug!(%error, "no HTTP/2 connection to upstream"),
    };
    // A client that has not begun a request may be waiting for upstream's settings, which say what it may do.
    let (mut said, mut begun) = (BytesMut::from(from_client), frames::Client::default());
    let mut upstream_ended = None;
    while !seen.settings() && !begun.has_headers(&said) && said.len() < MAX_SAID {
        let settings = poll_fn(|cx| {
            if let Poll::Ready(ended) = Pin::new(&mut upstream).poll(cx) {
                upstream_ended = Some(ended);
                return Poll::Ready(());
            }
            if seen.settings() { Poll::Ready(()) } else { Poll::Pending }
        });
        tokio::select! {
            biased;
            () = settings => break,
            read = client.read_buf(&mut said) => if !read.is_ok_and(|length| length > 0) { break },
            () = proxy.drain.cancelled() => break,
        }
    }
    let mut server = server();
    match u32::try_from(upstream.max_concurrent_send_streams()) {
        // None at all for now: h2 could not tell the client of more later, and lets requests wait.
        Ok(streams @ 1..MAX_STREAMS) if seen.settings() => _ = server.max_concurrent_streams(streams),
        _ => {}
    }
    let mut connects = sender.is_extended_connect_protocol_enabled();
    if connects {
        server.enable_connect_protocol();
    }
    client.give_back(said.freeze());
    let mut client = match server.handshake::<_, Bytes>(client).await {
        Ok(client) => client,
        Err(error) => return debug!(%error, "client connection ended"),
    };
    let reconnect = Reconnect {
        connector: proxy.connector.clone(),
        target: context.target.clone(),
        inside: inside.cloned(),
        guard: proxy.guard.clone(),
        tasks: proxy.tasks.clone(),
    };
    let way = Upstream::new(sender, reconnect);
    let mut policy = context.settings.policies.reader();
    let mut upstream = upstream_ended.is_none().then_some(upstream);
    let mut streams = FuturesUnordered::new();
    let mut going_away = pin!(seen.goaway.notified());
    let mut drained = pin!(proxy.drain.cancelled());
    let (mut told, mut draining, mut left) = (false, false, Vec::<Left<'_>>::new());
    let (mut goaway, mut closing) = (None, false);
    let client_failed = poll_fn(|cx| {
        loop {
            let mut again = false;
            if let Some(connection) = &mut upstream
                && let Poll::Ready(ended) = Pin::new(connection).poll(cx)
            {
                upstream = None;
                upstream_ended = Some(ended);
            }
            match upstream_ended.take() {
                Some(Err(error)) if error.is_go_away() && error.is_remote() => goaway = error.reason(),
                Some(ended) => {
                    debug!(?ended, "upstream connection ended");
                    closing = true;
                }
                None => {}
            }
            if !told && going_away.as_mut().poll(cx).is_ready() {
                told = true;
                // One with an error ends the connection, and is passed on with its code.
                if goaway.is_none() {
                    client.graceful_shutdown();
                }
            }
            while let Poll::Ready(Some(ended)) = streams.poll_next_unpin(cx) {
                left.extend(ended);
                again = true;
            }
            // With it goes what it has not heard yet, too; but for what may come behind a GOAWAY.
            if upstream.is_none() && !way.gone.is_cancelled() && (!told || left.iter().any(Left::is_lost)) {
                way.gone.cancel();
                again = true;
            }
            // Upstream has left without a GOAWAY: where streams went with it, so do we.
            if std::mem::take(&mut closing) && !left.iter().any(Left::is_lost) {
                client.graceful_shutdown();
            }
            if !draining && drained.as_mut().poll(cx).is_ready() {
                draining = true;
                client.graceful_shutdown();
            }
            loop {
                match client.poll_accept(cx) {
                    Poll::Ready(Some(Ok((request, respond)))) => {
                        let policy = policy.current().clone();
                        streams.push(exchange(context, policy, &way, request, respond, &proxy.drain));
                        again = true;
                    }
                    Poll::Ready(Some(Err(error))) => {
                        debug!(%error, "client connection ended");
                        return Poll::Ready(true);
                    }
                    Poll::Ready(None) => return Poll::Ready(false),
                    Poll::Pending => break,
                }
            }
            if !connects && way.connects() {
                // Said late by upstream, now said by us (RFC 8441, section 3): once the client has acknowledged our settings.
                connects = client.enable_connect_protocol().is_ok();
                again |= connects;
            }
            // The client's connection has been driven meanwhile: what it was to hear before is on its way.
            for reset in left.extract_if(.., |left| !left.is_lost()) {
                reset.end();
                again = true;
            }
            if again {
                continue;
            }
            if !streams.is_empty() {
                if left.is_empty() || upstream.is_some() {
                    return Poll::Pending;
                }
                // Others live on, on the second connection or with an answer that has come: these do not wait for them.
                left.drain(..).for_each(Left::break_off);
                client.graceful_shutdown();
                continue;
            }
            if !left.is_empty() && upstream.is_none() {
                // The client has heard everything, and sees its connection end with streams open, as it would without us.
                return Poll::Ready(false);
            }
            // Behind everything that upstream said before it.
            match goaway.take() {
                Some(reason) => client.abrupt_shutdown(reason),
                None => return Poll::Pending,
            }
        }
    })
    .await;
    drop(streams);
    drop(way);
    drop(client);
    if let Some(upstream) = upstream.filter(|_| !client_failed) {
        // What is left to say: the streams that were cancelled, and a GOAWAY.
        let _ = tokio::time::timeout(FAREWELL, upstream).await;
    }
}

fn server() -> h2::server::Builder {
    let mut server = h2::server::Builder::new();
    server
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADER_LIST)
        .data_frame_budget(FRAME_BUDGET)
        .max_concurrent_streams(MAX_STREAMS);
    server
}

/// What one stream may send ahead of its reader.
const STREAM_WINDOW: u32 = 256 * 1024;
/// No tighter than any peer's: streams that nobody reads must not hold up the others. Their own windows bound memory.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// The largest header list, in bytes as RFC 9113, section 6.5.2 counts them.
const MAX_HEADER_LIST: u32 = 1024 * 1024;
const MAX_STREAMS: u32 = 1000;
/// What a client may say before upstream's settings are waited for no longer.
const MAX_SAID: usize = 64 * 1024;
/// Points for small frames that wait to be read, 256 less its length each: some ten MiB of memory. h2's own sum would follow the
/// connection's window.
const FRAME_BUDGET: usize = 16 * 1024 * 1024;
const FAREWELL: Duration = Duration::from_secs(1);
