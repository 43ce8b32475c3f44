//! The client's side: a handshake that says what upstream has said.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::StartHandshake;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::server::{Accepted, Acceptor, ClientHello, NoServerSessionStorage, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{CipherSuite, ServerConfig, ServerConnection};
use tracing::warn;

use super::doubt::Refusal;
use super::stream::Stream;

/// Accepts clients.
#[derive(Debug)]
pub(super) struct Clients {
    /// Without certificate and protocols; those are each connection's own.
    template: ServerConfig,
}

impl Clients {
    pub(super) fn new() -> Self {
        let mut provider = aws_lc_rs::default_provider();
        // These bytes do not leave the pod: the cheapest protection that the client offers will do. Processors help with SHA-256,
        // not with SHA-384.
        provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
        provider.kx_groups = aws_lc_rs::ALL_KX_GROUPS.to_vec();
        let builder = ServerConfig::builder_with_provider(Arc::new(provider));
        let builder = builder.with_safe_default_protocol_versions().expect("the provider has suites for all versions");
        let mut template = builder.with_no_client_auth().with_cert_resolver(Arc::new(Nobody));
        // Tickets hold the session, encrypted with a key that changes: nothing is kept here for a client that may come again.
        template.session_storage = Arc::new(NoServerSessionStorage {});
        match aws_lc_rs::Ticketer::new() {
            Ok(ticketer) => template.ticketer = ticketer,
            Err(error) => warn!(%error, "clients cannot resume sessions"),
        }
        // One for the next connection; each of those brings another.
        template.send_tls13_tickets = 1;
        template.ignore_client_order = true;
        template.max_early_data_size = 0;
        Self { template }
    }

    /// A ClientHello as rustls reads it, and how much of `said` that took; `None` if it does not understand it.
    pub(super) fn read(said: &[u8]) -> Option<(Accepted, usize)> {
        let (mut acceptor, mut left) = (Acceptor::default(), said);
        loop {
            if left.is_empty() || acceptor.read_tls(&mut left).ok()? == 0 {
                return None;
            }
            if let Some(accepted) = acceptor.accept().ok()? {
                return Some((accepted, said.len() - left.len()));
            }
        }
    }

    /// The handshake. `said` is what the client has said behind what was taken for its ClientHello: early data for example,
    /// which is refused.
    pub(super) async fn accept(
        &self,
        accepted: Accepted,
        leaf: Arc<CertifiedKey>,
        alpn: Option<&str>,
        mut said: &[u8],
        stream: TcpStream,
    ) -> Result<Stream, Refusal> {
        let mut config = self.template.clone();
        config.cert_resolver = Arc::new(One(leaf));
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        // Nothing would be taken for the end.
        let feed = |connection: &mut ServerConnection| {
            while !said.is_empty() && connection.read_tls(&mut said).is_ok_and(|fed| fed > 0) {}
        };
        let accepting = StartHandshake::from_parts(accepted, stream).into_stream_with(Arc::new(config), feed);
        accepting.await.map(Stream::server).map_err(|error| Refusal::of(&error))
    }
}

/// Always the same certificate.
#[derive(Debug)]
struct One(Arc<CertifiedKey>);

impl ResolvesServerCert for One {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// Stands for the certificate in the template.
#[derive(Debug)]
struct Nobody;

impl ResolvesServerCert for Nobody {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}
