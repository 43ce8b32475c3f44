//! One connection, first byte to last: original destination -> connect upstream -> detect -> HTTP, or pass through.
//! [`forward`] is the other way in, for connections that no redirect brings.

pub mod forward;
mod held;
mod hold;
mod http1;
mod http2;
mod intercept;
mod opaque;
mod relay;

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::SystemTime;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, warn};

use self::intercept::Inside;
use crate::check;
use crate::detect::client_hello::ClientHello;
use crate::detect::{self, Protocol, Reason};
use crate::net::{self, Abort, Connector, Direction, Loop, LoopGuard, OwnConnection, Target};
use crate::stack::{Context, Settings};
use crate::telemetry::Metrics;
use crate::tls::Interceptor;

/// What every connection needs.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Opens connections that are not redirected.
    pub connector: Connector,
    /// Refuses what would come back to us.
    pub guard: Arc<LoopGuard>,
    /// What all calls share.
    pub settings: Arc<Settings>,
    /// Intercepts TLS.
    pub interceptor: Option<Arc<Interceptor>>,
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
    if direction == Direction::Outbound {
        proxy.metrics.known_opens.inc();
    }
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
    let policy = proxy.settings.policies.load();
    let target = match direction {
        Direction::Outbound => {
            let uid = policy.names_uids().then(|| client_uid(proxy, peer, original)).flatten();
            Target { uid, ..Target::outbound(original) }
        }
        // Redirected from another address than ours, it was never meant for this pod.
        Direction::Inbound if !net::is_local(original.ip()) => {
            proxy.metrics.not_redirected.inc();
            return client.abort();
        }
        Direction::Inbound => Target::inbound(original, peer),
    };
    let workload = policy.workload(direction, target.uid, original.port()).cloned();
    drop(policy);
    let context = Context { target: Arc::new(target), workload, settings: proxy.settings.clone() };
    if let Err(error) = redirected(proxy, client, context).await {
        debug!(%original, %error, "connection ended");
    }
}

async fn redirected(proxy: &Proxy, client: TcpStream, context: Context) -> io::Result<()> {
    let original = context.target.original;
    client.set_nodelay(true)?;
    net::keep_alive(&socket2::SockRef::from(&client))?;
    let begun = SystemTime::now();
    let mut own = None;
    let connecting = proxy.connector.connect(original, |local| own = Some(proxy.guard.remember(local, original)));
    let connected = tokio::select! {
        connected = connecting => connected,
        // A reset, no mere FIN: the client has given up.
        gone = client.ready(Interest::ERROR) => {
            context.given_up(None, begun);
            return gone.map(|_| ());
        }
    };
    let upstream = match connected {
        Ok(upstream) => upstream,
        Err(error) => {
            proxy.metrics.detected.inc("refused");
            context.refused(None, &error, begun);
            client.abort();
            return Err(error);
        }
    };
    talk(proxy, context, begun, (client, upstream, own), Read::default()).await
}

/// A client and its upstream, from the first bytes that they have for each other; `read` are those that have come already.
async fn talk(
    proxy: &Proxy,
    mut context: Context,
    begun: SystemTime,
    (client, upstream, own): (TcpStream, TcpStream, Option<OwnConnection>),
    read: Read,
) -> io::Result<()> {
    let outcome = converse(proxy, &mut context, begun, (client, upstream), read, None).await?;
    if let Outcome::Tls(found) = outcome {
        proxy.metrics.detected.inc("tls");
        return Box::pin(intercept::serve(proxy, &context, begun, own, *found)).await;
    }
    drop(own);
    Ok(())
}

/// Who opened a connection, as the kernel knows it. A client that has gone is not known any more.
fn client_uid(proxy: &Proxy, client: SocketAddr, original: SocketAddr) -> Option<u32> {
    let found = net::owner::uid(client, original);
    proxy.metrics.owner_lookups.inc(match &found {
        Ok(Some(_)) => "found",
        Ok(None) => "gone",
        Err(_) => "failed",
    });
    found.unwrap_or_else(|error| {
        debug!(%original, %error, "cannot look up whose a connection is");
        None
    })
}

/// How a conversation ended.
enum Outcome<C, U> {
    /// To its last byte.
    Ended,
    /// What follows is TLS.
    Tls(Box<Tls<C, U>>),
}

/// A connection whose client begins a TLS handshake.
struct Tls<C, U> {
    hello: ClientHello,
    client: C,
    upstream: U,
    read: Read,
}

/// Both sides of a connection, or of what is `inside` its TLS, from their first bytes on.
async fn converse<C: Side, U: Side>(
    proxy: &Proxy,
    context: &mut Context,
    begun: SystemTime,
    (mut client, mut upstream): (C, U),
    mut read: Read,
    inside: Option<&Arc<Inside>>,
) -> io::Result<Outcome<C, U>> {
    for _ in 0..MAX_TUNNELS {
        // Who has come to a tunnel has spoken.
        let inside = inside.filter(|_| !context.target.tunnel);
        let found = detect(proxy, context, begun, (&mut client, &mut upstream), &mut read, inside).await?;
        let Some(protocol) = found else { break };
        debug!(original = %context.target.original, ?protocol, "detected");
        let protocol = match protocol {
            Protocol::Tls(hello) => return Ok(Outcome::Tls(Box::new(Tls { hello, client, upstream, read }))),
            other => other,
        };
        let Read { client: from_client, upstream: from_upstream } = std::mem::take(&mut read);
        let (from_client, from_upstream) = (from_client.freeze(), from_upstream.freeze());
        match protocol {
            Protocol::Http1 => {
                proxy.metrics.detected.inc("http1");
                let (client, upstream) = ((&mut client, from_client), (&mut upstream, from_upstream));
                match http1::serve(context, client, upstream, &proxy.drain).await {
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
                Box::pin(http2::serve(proxy, context, inside, (client, from_client), (upstream, from_upstream))).await;
                break;
            }
            Protocol::Opaque(reason) => {
                proxy.metrics.detected.inc("opaque");
                let name = context.target.verified_name().map(str::to_owned);
                let (client, upstream) = ((&mut client, from_client), (&mut upstream, from_upstream));
                opaque::pass(context, reason.as_str(), name.as_deref(), None, begun, client, upstream).await;
                break;
            }
            Protocol::Tls(_) => break,
        }
    }
    Ok(Outcome::Ended)
}

/// One side of a connection.
trait Side: AsyncRead + AsyncWrite + Abort + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Abort + Unpin + Send + 'static> Side for S {}

/// What was read of a connection before its protocol was known.
#[derive(Default)]
struct Read {
    client: BytesMut,
    upstream: BytesMut,
}

/// Waits for who speaks first and what they say. `None` if there is nothing more to do.
async fn detect<C: Side, U: Side>(
    proxy: &Proxy,
    context: &Context,
    begun: SystemTime,
    (client, upstream): (&mut C, &mut U),
    read: &mut Read,
    inside: Option<&Arc<Inside>>,
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
                Ok(0) => {
                    if from_client.is_empty() {
                        inside.and_then(|inside| inside.left_without_a_word(proxy, None));
                    }
                    break Protocol::Opaque(Reason::ClosedEarly)
                }
                Ok(_) => if let Some(protocol) = detect::client(from_client) { break protocol },
                Err(error) => {
                    if let Some(inside) = inside.filter(|_| from_client.is_empty()) {
                        let name = context.target.verified_name();
                        match inside.left_without_a_word(proxy, Some(&error)) {
                            Some(refusal) => context.distrusted(name, refusal.as_str(), begun),
                            None => context.given_up(name, begun),
                        }
                    }
                    upstream.abort();
                    return Err(error)
                }
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
                    context.refused(context.target.verified_name(), &error, begun);
                    client.abort();
                    return Err(error);
                }
            },
            () = proxy.drain.cancelled(), if from_client.is_empty() && from_upstream.is_empty() => return Ok(None),
        }
    }))
}

/// Takes memory only when there is something to read. Nothing is lost when this is dropped while it waits.
async fn read_some<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut BytesMut) -> io::Result<usize> {
    poll_fn(|cx| {
        let mut space = [MaybeUninit::uninit(); FIRST_READ];
        let mut read = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut read))?;
        buffer.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    })
    .await
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
