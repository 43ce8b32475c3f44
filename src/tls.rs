//! TLS between the two sides of an intercepted connection: with upstream first, as the client asked for it, then with the
//! client, as upstream answered. Whoever is in doubt leaves the connection alone.
//!
//! What upstream is offered is what the client offered, as far as we know how (`offer`); who it is, is verified as strictly
//! as a client would (`upstream`); the client is shown a certificate for exactly the name it asked for ([`authority`],
//! `client`). What could not be intercepted is remembered for a time (`learned`).

pub mod authority;
mod client;
mod doubt;
mod learned;
mod offer;
mod sessions;
mod stream;
mod upstream;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, DnsName, ServerName};
use tokio_rustls::rustls::server::Accepted;
use tokio_rustls::rustls::sign::CertifiedKey;
use tracing::warn;

pub use doubt::{Doubt, Refusal};
pub use stream::Stream;
pub use upstream::Verification;

use self::authority::{Authority, NoLeaf};
use self::client::Clients;
use self::doubt::About;
use self::learned::Learned;
use self::offer::Offer;
use self::upstream::Upstreams;
use crate::detect::client_hello::ClientHello;

/// Intercepts connections.
#[derive(Debug)]
pub struct Interceptor {
    by_default: bool,
    authority: Arc<Authority>,
    upstreams: Upstreams,
    clients: Clients,
    /// Of servers, by whom they were verified.
    servers: Learned<(Server, Arc<Verification>), Doubt>,
    /// Of what single clients offer to one of them.
    pairs: Learned<(Client, Arc<Verification>), Doubt>,
    /// Clients that do not trust us.
    refusals: Learned<Client, Doubt>,
}

/// One connection that is to be intercepted.
#[derive(Debug)]
pub struct Attempt {
    server: (Server, Arc<Verification>),
    client: (Client, Arc<Verification>),
    name: ServerName<'static>,
    offer: Offer,
    alpn: Vec<Vec<u8>>,
}

/// A client that waits for our answer.
pub struct Accepting {
    accepted: Box<Accepted>,
    /// How much of what it has said is in there.
    taken: usize,
}

/// What a doubt about upstream is remembered for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Server {
    address: SocketAddr,
    name: Option<String>,
}

/// What a client's refusal is remembered for: never for a server alone, one client that pins its certificate must not blind us
/// to the others. In a pod all clients have one address, and each run of a program is a process of its own; what a ClientHello
/// offers tells the programs apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Client {
    server: Server,
    address: IpAddr,
    fingerprint: u64,
}

impl Interceptor {
    /// Intercepts with certificates of this authority, `by_default` where no rule says otherwise. Upstream is verified against
    /// `roots`, and those of a file if there is one.
    pub fn new(
        by_default: bool,
        authority: Arc<Authority>,
        roots: Vec<CertificateDer<'static>>,
        file: Option<PathBuf>,
    ) -> Self {
        Self {
            by_default,
            authority,
            upstreams: Upstreams::new(roots, file),
            clients: Clients::new(),
            servers: Learned::default(),
            pairs: Learned::default(),
            refusals: Learned::default(),
        }
    }

    /// Whether a connection is intercepted that no rule is about.
    pub fn by_default(&self) -> bool {
        self.by_default
    }

    /// Whether a connection can be intercepted, as far as that is known before anything is tried: `hello` is what we read of
    /// what the client has `said`.
    pub fn attempt(
        &self,
        original: SocketAddr,
        client: IpAddr,
        (hello, said): (&ClientHello, &[u8]),
        verification: Arc<Verification>,
    ) -> Result<(Attempt, Accepting), Doubt> {
        let now = Instant::now();
        // Clients differ in whether a server's wildcard stands for a label with an underscore; ours would be its exact name.
        if hello.strange_name || hello.server_name.as_deref().is_some_and(|name| name.contains('_')) {
            return Err(Doubt::Name);
        }
        let name = match &hello.server_name {
            Some(name) => ServerName::DnsName(DnsName::try_from(name.clone()).map_err(|_| Doubt::Name)?),
            None => ServerName::IpAddress(original.ip().to_canonical().into()),
        };
        let server = Server { address: original, name: hello.server_name.clone() };
        let client = Client { server: server.clone(), address: client, fingerprint: hello.fingerprint };
        let (server, client) = ((server, verification.clone()), (client, verification));
        let known = self.servers.find(&server, now).or_else(|| self.pairs.find(&client, now));
        if let Some(doubt) = known.or_else(|| self.refusals.find(&client.0, now)) {
            return Err(doubt);
        }
        let offer = Offer::of(hello).ok_or(Doubt::Offer)?;
        let accepting = Clients::read(said).map(|(accepted, taken)| Accepting { accepted: Box::new(accepted), taken });
        let accepting = accepting.ok_or(Doubt::NotUnderstood)?;
        let alpn = hello.alpn.iter().map(|protocol| protocol.clone().into_bytes()).collect();
        Ok((Attempt { server, client, name, offer, alpn }, accepting))
    }

    /// The handshake with upstream. A doubt is remembered.
    pub async fn connect(&self, attempt: &Attempt, stream: TcpStream) -> Result<Stream, Doubt> {
        let Attempt { name, offer, alpn, server: (_, verification), .. } = attempt;
        let connecting = self.upstreams.connect(name, offer, alpn, verification, stream);
        match tokio::time::timeout(HANDSHAKE, connecting).await.unwrap_or(Err(Doubt::Timeout)) {
            Ok(stream) => Ok(stream),
            Err(doubt) => {
                self.doubt(attempt, doubt);
                Err(doubt)
            }
        }
    }

    /// What the client is to be shown, once upstream has proved to be who the client asks for.
    pub fn leaf(&self, attempt: &Attempt) -> Result<Arc<CertifiedKey>, Doubt> {
        self.authority.leaf(&attempt.name).map_err(|no| {
            let doubt = match no {
                NoLeaf::RateLimited => Doubt::RateLimited,
                NoLeaf::Failed => Doubt::Unissued,
            };
            self.doubt(attempt, doubt);
            doubt
        })
    }

    fn doubt(&self, attempt: &Attempt, doubt: Doubt) {
        let until = Instant::now() + doubt.lasts();
        _ = match doubt.about() {
            About::Server => self.servers.learn(attempt.server.clone(), doubt, until),
            About::Client => self.pairs.learn(attempt.client.clone(), doubt, until),
            About::Nobody => false,
        };
    }

    /// The handshake with the client. `said` is all that was read of it. A refusal is remembered.
    pub async fn accept(
        &self,
        attempt: &Attempt,
        (accepting, leaf): (Accepting, Arc<CertifiedKey>),
        said: &[u8],
        stream: TcpStream,
        alpn: Option<&str>,
    ) -> Result<Stream, Refusal> {
        let Accepting { accepted, taken } = accepting;
        let behind = said.get(taken..).unwrap_or_default();
        let accepting = self.clients.accept(*accepted, leaf, alpn, behind, stream);
        match tokio::time::timeout(PATIENCE, accepting).await.unwrap_or(Err(Refusal::Silent)) {
            Ok(stream) => Ok(stream),
            Err(refusal) => {
                self.refused(attempt, refusal);
                Err(refusal)
            }
        }
    }

    /// The client does not trust us. It is said once in the log.
    pub fn refused(&self, attempt: &Attempt, refusal: Refusal) {
        let Client { server, address, .. } = &attempt.client.0;
        let until = Instant::now() + refusal.lasts();
        if self.refusals.learn(attempt.client.0.clone(), Doubt::ClientRefuses, until) {
            let (name, to, why) = (server.name.as_deref().unwrap_or("-"), server.address, refusal.as_str());
            warn!(
                client = %address, %to, name, why, seconds = refusal.lasts().as_secs(),
                "a client does not trust our certificate: what it sends there is passed through unread for a time. \
                 `sidetrace check --trust` says what to set for it"
            );
        }
    }

    /// Reads the files of a rule, so that one that cannot be used is known at once.
    pub fn prepare(&self, verification: Verification) -> io::Result<()> {
        self.upstreams.prepare(verification)
    }

    /// Files that verification depends on may have changed.
    pub fn refresh(&self) {
        if self.upstreams.refresh() {
            self.servers.clear();
            self.pairs.clear();
        }
    }
}

/// Upstream's answer is not waited for longer: the client's own handshake is tried.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Nor the client's.
const PATIENCE: Duration = Duration::from_secs(60);
