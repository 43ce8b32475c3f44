//! TLS: with upstream first, then with the client, then the conversation inside. Where there is a doubt about upstream, the
//! client's untouched ClientHello goes there on a second connection, and the client judges for itself.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::rustls::sign::CertifiedKey;
use tracing::debug;

use super::{Outcome, Proxy, Read, Tls, converse, opaque, read_some};
use crate::detect::Reason;
use crate::detect::client_hello::{self, ClientHello};
use crate::net::{Abort, Direction, OwnConnection};
use crate::stack::Context;
use crate::tls::{self, Accepting, Attempt, Doubt, Interceptor, Refusal, Verification};

/// Serves a connection whose client begins a handshake.
pub(super) async fn serve(
    proxy: &Proxy,
    context: &Context,
    begun: SystemTime,
    own: Option<OwnConnection>,
    found: Tls<TcpStream, TcpStream>,
) -> io::Result<()> {
    let Tls { hello, client, upstream, read } = found;
    let address = client.peer_addr()?.ip();
    let (interceptor, attempt, accepting) = match plan(proxy, context, address, (&hello, &read.client)) {
        Ok(planned) => planned,
        Err(reason) => {
            if reason != Reason::Tls.as_str() {
                proxy.metrics.tls.inc("left_alone");
            }
            let (client, upstream) = ((client, read.client.freeze()), (upstream, read.upstream.freeze()));
            Box::pin(pass(context, reason, &hello, begun, client, upstream)).await;
            return Ok(());
        }
    };
    let mut intercepted = Intercepted { proxy, context, begun, hello, interceptor, attempt, client, said: read.client };
    match intercepted.connect(upstream).await? {
        // Each of these lasts as long as the connection: boxed, it does not hold what the others would need.
        Some(Ok((upstream, leaf))) => Box::pin(intercepted.accept((accepting, leaf), upstream)).await,
        Some(Err(doubt)) => {
            // Its port may soon be somebody else's.
            drop(own);
            Box::pin(intercepted.pass(doubt)).await
        }
        None => Ok(()),
    }
}

/// Whether to intercept, and if not, why.
fn plan<'a>(
    proxy: &'a Proxy,
    context: &Context,
    client: IpAddr,
    (hello, said): (&ClientHello, &[u8]),
) -> Result<(&'a Arc<Interceptor>, Attempt, Accepting), &'static str> {
    let target = &context.target;
    let name = hello.server_name.as_deref();
    let address = target.original.ip();
    let Some(interceptor) = &proxy.interceptor else { return Err(Reason::Tls.as_str()) };
    if target.direction == Direction::Inbound || !context.settings.enabled {
        return Err(Reason::Tls.as_str());
    }
    if target.tunnel {
        return Err(IN_TUNNEL);
    }
    let policy = context.settings.policies.load();
    match policy.intercepts(name, address, target.original.port()) {
        Some(true) => {}
        Some(false) => return Err("tls_rule"),
        None if !interceptor.by_default() => return Err(Reason::Tls.as_str()),
        None => {}
    }
    let roots = policy.roots_for(name, address).filter_map(|index| policy.roots().get(index));
    let ours = policy.client_certificate_for(name, address).and_then(|index| policy.client_certificates().get(index));
    let verification = Verification {
        roots: roots.map(|rule| rule.file.clone()).collect(),
        client: ours.map(|rule| (rule.certificate.clone(), rule.key.clone())),
    };
    let attempt = interceptor.attempt(target.original, client, (hello, said), verification.into());
    attempt.map(|(attempt, accepting)| (interceptor, attempt, accepting)).map_err(Doubt::as_str)
}

/// What those inside an intercepted connection know of it.
pub(super) struct Inside {
    interceptor: Arc<Interceptor>,
    attempt: Attempt,
    alpn: Option<String>,
    since: Instant,
}

impl Inside {
    /// The client has left before it said anything, which is how some say that they do not trust us. Those do so at once; who
    /// leaves later had only no use for the connection: the refusal is returned where it counts as one.
    pub(super) fn left_without_a_word(&self, proxy: &Proxy, error: Option<&io::Error>) -> Option<Refusal> {
        proxy.metrics.tls.inc("closed");
        let refusal = error.map_or(Refusal::Silent, Refusal::of);
        let refused = refusal != Refusal::Silent || self.since.elapsed() < AT_ONCE;
        refused.then(|| self.interceptor.refused(&self.attempt, refusal)).map(|()| refusal)
    }

    /// The same upstream once more, for the same protocol.
    pub(super) async fn connect(&self, stream: TcpStream) -> Result<tls::Stream, Doubt> {
        let stream = self.interceptor.connect(&self.attempt, stream).await?;
        let same = stream.alpn() == self.alpn.as_deref().map(str::as_bytes);
        if same { Ok(stream) } else { Err(Doubt::Incompatible) }
    }
}

/// A verified upstream, and what the client is to be shown.
type Connected = Result<(tls::Stream, Arc<CertifiedKey>), Doubt>;

/// A connection under way.
struct Intercepted<'a> {
    proxy: &'a Proxy,
    context: &'a Context,
    begun: SystemTime,
    hello: ClientHello,
    interceptor: &'a Arc<Interceptor>,
    attempt: Attempt,
    client: TcpStream,
    /// All that the client has said so far.
    said: BytesMut,
}

impl Intercepted<'_> {
    /// The handshake with upstream. `None` if the client has left meanwhile.
    async fn connect(&mut self, upstream: TcpStream) -> io::Result<Option<Connected>> {
        let mut connecting = Box::pin(self.interceptor.connect(&self.attempt, upstream));
        loop {
            let read = tokio::select! {
                biased;
                connected = &mut connecting => {
                    let shown = |stream| self.interceptor.leaf(&self.attempt).map(|leaf| (stream, leaf));
                    return Ok(Some(connected.and_then(shown)));
                }
                read = read_some(&mut self.client, &mut self.said), if self.said.len() < MAX_SAID => read,
            };
            if read.as_ref().is_ok_and(|length| *length > 0) {
                continue;
            }
            self.context.given_up(self.hello.server_name.as_deref(), self.begun);
            return read.map(|_| None);
        }
    }

    /// The handshake with the client, and what they say to each other.
    async fn accept(self, accepting: (Accepting, Arc<CertifiedKey>), mut upstream: tls::Stream) -> io::Result<()> {
        let session = upstream.session(&self.hello);
        let Self { proxy, context, begun, hello, interceptor, attempt, client, said } = self;
        debug!(original = %context.target.original, ?session, "upstream is verified");
        let accepted = Box::pin(interceptor.accept(&attempt, accepting, &said, client, session.alpn.as_deref())).await;
        drop(said);
        let mut context = Context { target: Arc::new(context.target.secured(session)), ..context.clone() };
        let client = match accepted {
            Ok(client) => client,
            Err(refusal) => {
                proxy.metrics.tls.inc("refused");
                context.distrusted(hello.server_name.as_deref(), refusal.as_str(), begun);
                // Upstream hears an orderly end, if it listens.
                let _ = tokio::time::timeout(FAREWELL, upstream.shutdown()).await;
                return Ok(());
            }
        };
        proxy.metrics.tls.inc("intercepted");
        let alpn = context.target.tls.as_ref().and_then(|session| session.alpn.clone());
        let inside = Arc::new(Inside { interceptor: interceptor.clone(), attempt, alpn, since: Instant::now() });
        let outcome = converse(proxy, &mut context, begun, (client, upstream), Read::default(), Some(&inside)).await?;
        if let Outcome::Tls(found) = outcome {
            // A tunnel through a proxy that is spoken to with TLS.
            let Tls { hello, mut client, mut upstream, read } = *found;
            let name = hello.server_name.as_deref();
            let (client, upstream) = ((&mut client, read.client.freeze()), (&mut upstream, read.upstream.freeze()));
            opaque::pass(&context, IN_TUNNEL, name, Some(&hello), begun, client, upstream).await;
        }
        Ok(())
    }

    /// Leaves it to the client to judge upstream.
    async fn pass(self, doubt: Doubt) -> io::Result<()> {
        let Self { proxy, context, begun, hello, client, said, .. } = self;
        proxy.metrics.tls.inc("doubted");
        let (original, mut own) = (context.target.original, None);
        debug!(%original, reason = doubt.as_str(), "passed through");
        let connecting = proxy.connector.connect(original, |local| own = Some(proxy.guard.remember(local, original)));
        let connected = tokio::select! {
            connected = connecting => connected,
            gone = client.ready(tokio::io::Interest::ERROR) => {
                context.given_up(hello.server_name.as_deref(), begun);
                return gone.map(|_| ());
            }
        };
        match connected {
            Ok(upstream) => {
                pass(context, doubt.as_str(), &hello, begun, (client, said.freeze()), (upstream, Bytes::new())).await;
                drop(own);
                Ok(())
            }
            Err(error) => {
                context.refused(hello.server_name.as_deref(), &error, begun);
                client.abort();
                Err(error)
            }
        }
    }
}

async fn pass(
    context: &Context,
    reason: &'static str,
    hello: &ClientHello,
    begun: SystemTime,
    (mut client, from_client): (TcpStream, Bytes),
    (mut upstream, from_upstream): (TcpStream, Bytes),
) {
    let name = hello.server_name.as_deref();
    let (client, upstream) = ((&mut client, from_client), (&mut upstream, from_upstream));
    opaque::pass(context, reason, name, Some(hello), begun, client, upstream).await;
}

/// TLS inside a tunnel, where a second try would need a second tunnel.
const IN_TUNNEL: &str = "tls_in_tunnel";
/// What a client may say before upstream has answered: its ClientHello, and refused early data.
const MAX_SAID: usize = 2 * client_hello::MAX;
/// How soon a client leaves that does not trust us: with its next step, on however busy a machine.
const AT_ONCE: Duration = Duration::from_secs(5);
const FAREWELL: Duration = Duration::from_secs(1);
