//! One connection, first byte to last: original destination -> connect upstream -> detect -> HTTP, or pass through.

mod goaway;
mod http;
mod opaque;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, warn};

use crate::check;
use crate::detect::{self, Protocol, Reason};
use crate::net::linked::Abort;
use crate::net::{self, Connector, Loop, LoopGuard, Target};
use crate::stack;
use crate::telemetry::Metrics;
use crate::trace::propagation::Propagators;
use crate::trace::sampler::Sampler;
use crate::trace::{ActiveSpan, End, SpanSink};

/// What every connection needs.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Opens connections that are not redirected.
    pub connector: Connector,
    /// Refuses what would come back to us.
    pub guard: Arc<LoopGuard>,
    /// Where finished spans go.
    pub sink: SpanSink,
    /// The formats that calls carry their context in.
    pub propagators: Propagators,
    /// Which traces are exported.
    pub sampler: Sampler,
    /// Counts connections.
    pub metrics: Arc<Metrics>,
    /// Runs what a connection leaves behind: HTTP/2 streams.
    pub tasks: TaskTracker,
    /// Finish the calls under way and close.
    pub drain: CancellationToken,
}

/// A connection whose protocol is known, with what was read to know it.
struct Detected {
    protocol: Protocol,
    client: (TcpStream, Bytes),
    upstream: (TcpStream, Bytes),
}

/// Serves one accepted connection to its end.
pub async fn serve(proxy: &Proxy, client: TcpStream, peer: SocketAddr) {
    let _open = proxy.metrics.connections_open.guard();
    proxy.metrics.connections.inc();
    let original = match net::original_destination(&client) {
        Ok(Some(original)) => original,
        Ok(None) => {
            proxy.metrics.not_redirected.inc();
            debug!(%peer, "closed: not a redirected connection");
            return;
        }
        Err(error) => {
            warn!(%peer, %error, "closed: no original destination");
            return client.abort();
        }
    };
    if check::is_probe(original) {
        return check::answer(client).await;
    }
    if let Err(why) = proxy.guard.check(peer, original) {
        proxy.metrics.loops.inc();
        report_loop(why, original);
        return client.abort();
    }
    if let Err(error) = forward(proxy, client, original).await {
        debug!(%original, %error, "connection ended");
    }
}

async fn forward(proxy: &Proxy, client: TcpStream, original: SocketAddr) -> io::Result<()> {
    let target = Arc::new(Target::outbound(original));
    client.set_nodelay(true)?;
    net::keep_alive(&socket2::SockRef::from(&client))?;
    let begun = std::time::SystemTime::now();
    let mut own = None;
    let connected = proxy.connector.connect(original, |local| own = Some(proxy.guard.remember(local, original))).await;
    let upstream = match connected {
        Ok(upstream) => upstream,
        Err(error) => {
            proxy.metrics.detected.inc("refused");
            let mut span = stack::refused(&target, &proxy.sampler, &error);
            span.start = begun;
            ActiveSpan::new(span, proxy.sink.clone()).conclude(End::Refused);
            client.abort();
            return Err(error);
        }
    };
    let Some(Detected { protocol, client, upstream }) = detect(proxy, client, upstream).await? else {
        return Ok(());
    };
    debug!(%original, ?protocol, "detected");
    match protocol {
        Protocol::Http1 => {
            proxy.metrics.detected.inc("http1");
            Box::pin(http::http1(proxy, target, client, upstream)).await;
        }
        Protocol::Http2 => {
            proxy.metrics.detected.inc("http2");
            Box::pin(http::http2(proxy, target, client, upstream)).await;
        }
        Protocol::Tls(hello) => {
            proxy.metrics.detected.inc("tls");
            Box::pin(opaque::pass(proxy, &target, Reason::Tls, Some(&hello), begun, client, upstream)).await;
        }
        Protocol::Opaque(reason) => {
            proxy.metrics.detected.inc("opaque");
            Box::pin(opaque::pass(proxy, &target, reason, None, begun, client, upstream)).await;
        }
    }
    drop(own);
    Ok(())
}

/// Waits for who speaks first and what they say. `None` if we are to stop before anyone has.
async fn detect(proxy: &Proxy, client: TcpStream, upstream: TcpStream) -> io::Result<Option<Detected>> {
    let (mut from_client, mut from_upstream) = (BytesMut::new(), BytesMut::new());
    let mut upstream_decides = true;
    let protocol = loop {
        tokio::select! {
            biased;
            // A reset before anything was understood: both sides are closed by their drop, the other one by reset.
            read = read_some(&client, &mut from_client) => match read {
                Ok(0) => break Protocol::Opaque(Reason::ClosedEarly),
                Ok(_) => if let Some(protocol) = detect::client(&from_client) { break protocol },
                Err(error) => { upstream.abort(); return Err(error) }
            },
            read = read_some(&upstream, &mut from_upstream), if upstream_decides => match read {
                Ok(0) => break Protocol::Opaque(Reason::ClosedEarly),
                Ok(_) => match detect::upstream_is_settings(&from_upstream) {
                    Some(true) => upstream_decides = false,
                    Some(false) => break Protocol::Opaque(Reason::ServerFirst),
                    None => {}
                },
                Err(error) => { client.abort(); return Err(error) }
            },
            () = proxy.drain.cancelled(), if from_client.is_empty() && from_upstream.is_empty() => return Ok(None),
        }
    };
    Ok(Some(Detected {
        protocol,
        client: (client, from_client.freeze()),
        upstream: (upstream, from_upstream.freeze()),
    }))
}

/// Takes memory only when there is something to read. Nothing is lost when this is dropped while it waits.
async fn read_some(stream: &TcpStream, buffer: &mut BytesMut) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        buffer.reserve(FIRST_READ);
        match stream.try_read_buf(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}

fn report_loop(why: Loop, original: SocketAddr) {
    static SAID: std::sync::Once = std::sync::Once::new();
    match why {
        Loop::OwnPort => warn!(%original, "refused: the destination is a port of Sidetrace's own"),
        Loop::OwnConnection => SAID.call_once(|| {
            error!(
                %original,
                "refused: the redirect sends Sidetrace's own connections back to it. Exempt its uid (iptables/init.sh \
                 --proxy-uid, SIDETRACE_UID) or its mark (--proxy-mark, SIDETRACE_MARK). Said once; see \
                 sidetrace_loops_total"
            );
        }),
    }
}

const FIRST_READ: usize = 4096;
