//! One connection, first byte to last: original destination -> connect upstream -> detect -> HTTP, or pass through.

mod http1;
mod http2;
mod opaque;
mod relay;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::BytesMut;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, warn};

use crate::check;
use crate::detect::{self, Protocol, Reason};
use crate::net::{self, Abort, Connector, Direction, Loop, LoopGuard, Target};
use crate::stack::{Context, Settings};
use crate::telemetry::Metrics;

/// What every connection needs.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Opens connections that are not redirected.
    pub connector: Connector,
    /// Refuses what would come back to us.
    pub guard: Arc<LoopGuard>,
    /// What all calls share.
    pub settings: Arc<Settings>,
    /// Counts connections.
    pub metrics: Arc<Metrics>,
    /// Runs what a connection leaves behind: HTTP/2 streams.
    pub tasks: TaskTracker,
    /// Finish the calls under way and close.
    pub drain: CancellationToken,
}

/// Serves one accepted connection to its end.
pub async fn serve(proxy: &Proxy, direction: Direction, client: TcpStream, peer: SocketAddr) {
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
    let target = match direction {
        Direction::Outbound => Target::outbound(original),
        // Redirected from another address than ours, it was never meant for this pod.
        Direction::Inbound if !net::is_local(original.ip()) => {
            proxy.metrics.not_redirected.inc();
            return client.abort();
        }
        Direction::Inbound => Target::inbound(original, peer),
    };
    if let Err(error) = forward(proxy, client, target).await {
        debug!(%original, %error, "connection ended");
    }
}

async fn forward(proxy: &Proxy, mut client: TcpStream, target: Target) -> io::Result<()> {
    let original = target.original;
    client.set_nodelay(true)?;
    net::keep_alive(&socket2::SockRef::from(&client))?;
    let begun = SystemTime::now();
    let mut context = Context { target: Arc::new(target), settings: proxy.settings.clone() };
    let mut own = None;
    let connecting = proxy.connector.connect(original, |local| own = Some(proxy.guard.remember(local, original)));
    let connected = tokio::select! {
        connected = connecting => connected,
        // A reset, no mere FIN: the client has given up.
        gone = client.ready(Interest::ERROR) => {
            context.given_up(begun);
            return gone.map(|_| ());
        }
    };
    let mut upstream = match connected {
        Ok(upstream) => upstream,
        Err(error) => {
            proxy.metrics.detected.inc("refused");
            context.refused(&error, begun);
            client.abort();
            return Err(error);
        }
    };
    let mut read = Read::default();
    for _ in 0..MAX_TUNNELS {
        let Some(protocol) = detect(proxy, &context, begun, (&client, &upstream), &mut read).await? else {
            return Ok(());
        };
        debug!(%original, ?protocol, "detected");
        let Read { client: from_client, upstream: from_upstream } = std::mem::take(&mut read);
        let (from_client, from_upstream) = (from_client.freeze(), from_upstream.freeze());
        match protocol {
            Protocol::Http1 => {
                proxy.metrics.detected.inc("http1");
                let (client, upstream) = ((&mut client, from_client), (&mut upstream, from_upstream));
                match http1::serve(&context, client, upstream, &proxy.drain).await {
                    // What is inside a tunnel is a conversation of its own.
                    Some(tunnel) => {
                        context.target = Arc::new(context.target.through(&tunnel.authority));
                        read.upstream = tunnel.from_upstream.into();
                        continue;
                    }
                    None => break,
                }
            }
            Protocol::Http2 => {
                proxy.metrics.detected.inc("http2");
                Box::pin(http2::serve(proxy, &context, (client, from_client), (upstream, from_upstream))).await;
            }
            Protocol::Tls(hello) => {
                proxy.metrics.detected.inc("tls");
                let (client, upstream) = ((&mut client, from_client), (&mut upstream, from_upstream));
                opaque::pass(&context, Reason::Tls, Some(&hello), begun, client, upstream).await;
            }
            Protocol::Opaque(reason) => {
                proxy.metrics.detected.inc("opaque");
                let (client, upstream) = ((&mut client, from_client), (&mut upstream, from_upstream));
                opaque::pass(&context, reason, None, begun, client, upstream).await;
            }
        }
        break;
    }
    drop(own);
    Ok(())
}

/// What was read of a connection before its protocol was known.
#[derive(Default)]
struct Read {
    client: BytesMut,
    upstream: BytesMut,
}

/// Waits for who speaks first and what they say. `None` if we are to stop before anyone has.
async fn detect(
    proxy: &Proxy,
    context: &Context,
    begun: SystemTime,
    (client, upstream): (&TcpStream, &TcpStream),
    read: &mut Read,
) -> io::Result<Option<Protocol>> {
    let (from_client, from_upstream) = (&mut read.client, &mut read.upstream);
    // Inside a tunnel both may have spoken already.
    if let Some(protocol) = detect::client(from_client) {
        return Ok(Some(protocol));
    }
    let mut upstream_decides = match detect::upstream_is_settings(from_upstream) {
        Some(false) => return Ok(Some(Protocol::Opaque(Reason::ServerFirst))),
        settings => settings.is_none(),
    };
    Ok(Some(loop {
        tokio::select! {
            biased;
            // A reset before anything was understood: both sides are closed by their drop, the other one by reset.
            read = read_some(client, from_client) => match read {
                Ok(0) => break Protocol::Opaque(Reason::ClosedEarly),
                Ok(_) => if let Some(protocol) = detect::client(from_client) { break protocol },
                Err(error) => { upstream.abort(); return Err(error) }
            },
            read = read_some(upstream, from_upstream), if upstream_decides => match read {
                Ok(0) => break Protocol::Opaque(Reason::ClosedEarly),
                Ok(_) => match detect::upstream_is_settings(from_upstream) {
                    Some(true) => upstream_decides = false,
                    Some(false) => break Protocol::Opaque(Reason::ServerFirst),
                    None => {}
                },
                Err(error) => {
                    proxy.metrics.detected.inc("refused");
                    context.refused(&error, begun);
                    client.abort();
                    return Err(error);
                }
            },
            () = proxy.drain.cancelled(), if from_client.is_empty() && from_upstream.is_empty() => return Ok(None),
        }
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
/// A tunnel inside a tunnel inside a tunnel: nobody goes deeper.
const MAX_TUNNELS: usize = 4;
