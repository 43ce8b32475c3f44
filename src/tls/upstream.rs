//! Upstream's side: verified against the system's roots and those that rules name for it, offered what the client offers.
//!
//! A configuration belongs to an offer and to what the server is verified by; each has a store of sessions of its own, so that
//! no session is resumed under another policy than the one that it began under.

use std::cell::Cell;
use std::collections::HashMap;
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::{ResolvesClientCert, Resumption, Tls12Resumption, WebPkiServerVerifier};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, TrustAnchor};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SignatureScheme};
use tracing::{info, warn};

use super::doubt::Doubt;
use super::offer::Offer;
use super::sessions::Sessions;
use super::stream::Stream;
use crate::files::{self, Stamp};

/// What a server is verified by, and who we are to it, beside the system's roots. Files, PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Verification {
    /// Authorities.
    pub roots: Vec<PathBuf>,
    /// A certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Connects to servers.
#[derive(Debug)]
pub(super) struct Upstreams {
    roots: Vec<TrustAnchor<'static>>,
    /// Authorities beside those, for all servers.
    everywhere: Option<PathBuf>,
    // Held while a configuration is looked up or made, once a connection, never across an await.
    made: Mutex<Made>,
    /// How many sessions are kept.
    tickets: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct Made {
    policies: HashMap<Arc<Verification>, Policy>,
    configs: HashMap<(Arc<Verification>, Offer), Arc<ClientConfig>>,
}

impl Made {
    fn keep(&mut self, verification: Arc<Verification>, policy: Policy) {
        if self.policies.len() >= MOST {
            self.policies.clear();
        }
        self.policies.insert(verification, policy);
    }
}

/// A [`Verification`] whose files have been read.
#[derive(Clone, Debug)]
struct Policy {
    stamps: Vec<Stamp>,
    verifier: Arc<WebPkiServerVerifier>,
    credentials: Arc<Credentials>,
}

impl Upstreams {
    pub(super) fn new(roots: Vec<CertificateDer<'static>>, everywhere: Option<PathBuf>) -> Self {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots);
        Self { roots: store.roots, everywhere, made: Mutex::default(), tickets: Arc::default() }
    }

    /// The handshake; where it leaves a doubt the connection is lost.
    pub(super) async fn connect(
        &self,
        name: &ServerName<'static>,
        offer: &Offer,
        alpn: &[Vec<u8>],
        verification: &Arc<Verification>,
        stream: TcpStream,
    ) -> std::result::Result<Stream, Doubt> {
        let config = self.config(verification, offer).map_err(|error| {
            warn!(%error, "TLS is passed through");
            Doubt::Files
        })?;
        let mut connecting =
            std::pin::pin!(TlsConnector::from(config).with_alpn(alpn.to_vec()).connect(name.clone(), stream));
        let mut asked = false;
        let connected = std::future::poll_fn(|cx| {
            ASKED.set(false);
            let polled = connecting.as_mut().poll(cx);
            asked |= ASKED.get();
            polled
        })
        .await;
        if asked {
            // A session of a client without a certificate must not be resumed for one that may have one.
            self.lock().configs.remove(&(verification.clone(), offer.clone()));
            return Err(Doubt::ClientCertificate);
        }
        connected.map(Stream::client).map_err(|error| Doubt::of(&error))
    }

    /// Reads its files, so that no connection has to; whether they can be used.
    pub(super) fn prepare(&self, verification: Verification) -> Result<()> {
        let policy = self.policy(&verification)?;
        self.lock().keep(Arc::new(verification), policy);
        Ok(())
    }

    /// Reads files that have changed. Whether any of them counts now.
    pub(super) fn refresh(&self) -> bool {
        let mut changed = false;
        let known: Vec<_> =
            self.lock().policies.iter().map(|(key, policy)| (key.clone(), policy.stamps.clone())).collect();
        for (verification, _) in known.into_iter().filter(|(verification, old)| self.stamps(verification) != *old) {
            match self.policy(&verification) {
                Ok(policy) => {
                    info!("certificates for upstream were read again");
                    let mut made = self.lock();
                    made.configs.retain(|(other, _), _| *other != verification);
                    made.keep(verification, policy);
                    changed = true;
                }
                // The stamps stay old: the next time it is tried again.
                Err(error) => warn!(%error, "certificates for upstream cannot be used; the last ones hold"),
            }
        }
        changed
    }

    fn config(&self, verification: &Arc<Verification>, offer: &Offer) -> Result<Arc<ClientConfig>> {
        let key = (verification.clone(), offer.clone());
        let policy = {
            let made = self.lock();
            if let Some(config) = made.configs.get(&key) {
                return Ok(config.clone());
            }
            made.policies.get(verification).cloned()
        };
        // Not read before only where several rules meet, or new ones: a few small files.
        let (policy, news) = match policy {
            Some(policy) => (policy, false),
            None => (self.policy(verification)?, true),
        };
        let mut config = ClientConfig::builder_with_provider(Arc::new(offer.provider()))
            .with_protocol_versions(&offer.versions())
            .map_err(Error::other)?
            .with_webpki_verifier(policy.verifier.clone())
            .with_client_cert_resolver(policy.credentials.clone());
        config.resumption = Resumption::store(Arc::new(Sessions::new(self.tickets.clone())))
            .tls12_resumption(Tls12Resumption::SessionIdOrTickets);
        config.enable_early_data = false;
        let config = Arc::new(config);
        let mut made = self.lock();
        match made.policies.get(verification) {
            Some(newest) if !Arc::ptr_eq(&newest.verifier, &policy.verifier) => return Ok(config),
            None if news => made.keep(verification.clone(), policy),
            _ => {}
        }
        if made.configs.len() >= MOST {
            made.configs.clear();
        }
        made.configs.insert(key, config.clone());
        Ok(config)
    }

    fn policy(&self, verification: &Verification) -> Result<Policy> {
        let stamps = self.stamps(verification);
        let mut store = RootCertStore { roots: self.roots.clone() };
        for path in self.everywhere.iter().chain(&verification.roots) {
            for certificate in files::certificates(path)? {
                store.add(certificate).map_err(|error| unusable(path, &error))?;
            }
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let key = match &verification.client {
            Some((certificate, key)) => {
                let secret: PrivateKeyDer<'static> = files::private_key(key)?;
                let pair = CertifiedKey::from_der(files::certificates(certificate)?, secret, &provider);
                Some(Arc::new(pair.map_err(|error| unusable(key, &error))?))
            }
            None => None,
        };
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider).build();
        Ok(Policy { stamps, verifier: verifier.map_err(Error::other)?, credentials: Arc::new(Credentials(key)) })
    }

    fn stamps(&self, verification: &Verification) -> Vec<Stamp> {
        let client = verification.client.iter().flat_map(|(certificate, key)| [certificate, key]);
        self.everywhere.iter().chain(&verification.roots).chain(client).map(|path| Stamp::of(path)).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unusable(path: &Path, error: &tokio_rustls::rustls::Error) -> Error {
    Error::new(ErrorKind::InvalidData, format!("{}: {error}", path.display()))
}

/// Who we are, where a server asks.
#[derive(Debug)]
struct Credentials(Option<Arc<CertifiedKey>>);

thread_local! {
    /// A server has asked for a certificate that we do not have. rustls asks in the middle of a poll and tells nobody.
    static ASKED: Cell<bool> = const { Cell::new(false) };
}

impl ResolvesClientCert for Credentials {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let found = self.0.as_ref().filter(|key| key.key.choose_scheme(schemes).is_some());
        ASKED.set(found.is_none());
        found.cloned()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

/// Configurations: there are few kinds of clients in a pod.
const MOST: usize = 64;
