//! TLS with a backend: whom we trust and who we are, from files that are read again when they have changed.

use std::io::{Error, ErrorKind, Result};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tracing::{info, warn};

use crate::config::TlsFiles;
use crate::files::{self, Stamp};

/// Makes TLS connections to one backend.
#[derive(Debug)]
pub(super) struct Tls {
    files: TlsFiles,
    alpn: &'static str,
    loaded: Mutex<Option<Loaded>>,
}

/// What the files said, and what they looked like just before they were read.
#[derive(Debug)]
struct Loaded {
    stamps: Vec<Stamp>,
    config: Arc<ClientConfig>,
}

impl Tls {
    /// Nothing is read yet.
    pub(super) fn new(files: TlsFiles, alpn: &'static str) -> Self {
        Self { files, alpn, loaded: Mutex::default() }
    }

    /// The handshake. gRPC is HTTP/2 only, and a backend that does not choose it by ALPN would be sent what it cannot read.
    pub(super) async fn handshake(&self, host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            Error::new(ErrorKind::InvalidInput, format!("{host:?} is no name that a certificate can have"))
        })?;
        let connecting = TlsConnector::from(self.config()?).connect(name, stream);
        let stream = connecting.await.map_err(|error| Error::new(error.kind(), format!("TLS with {host}: {error}")))?;
        let chosen = stream.get_ref().1.alpn_protocol();
        if self.alpn == H2 && chosen != Some(H2.as_bytes()) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("TLS with {host}: it does not choose h2, which is gRPC's"),
            ));
        }
        Ok(stream)
    }

    /// The configuration in force. Files that cannot be used, half written for example, leave the last one in force.
    fn config(&self) -> Result<Arc<ClientConfig>> {
        // Never held across an await; only the pipeline's thread comes here.
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps: Vec<_> = self.paths().map(Stamp::of).collect();
        match loaded.as_mut() {
            Some(loaded) if loaded.stamps == stamps => return Ok(loaded.config.clone()),
            Some(loaded) => match self.load() {
                Ok(config) => {
                    info!("the certificates for export were read again");
                    *loaded = Loaded { stamps, config };
                }
                // The stamps stay old: the next connection tries again.
                Err(error) => warn!(%error, "the certificates for export cannot be used; the last ones hold"),
            },
            None => *loaded = Some(Loaded { stamps, config: self.load()? }),
        }
        loaded.as_ref().map(|loaded| loaded.config.clone()).ok_or_else(|| Error::other("no TLS configuration"))
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        let client = self.files.client.iter().flat_map(|(certificate, key)| [certificate, key]);
        self.files.authorities.iter().chain(client).map(AsRef::as_ref)
    }

    fn load(&self) -> Result<Arc<ClientConfig>> {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(Error::other)?
            .with_root_certificates(roots(self.files.authorities.as_deref())?);
        let mut config = match &self.files.client {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let (chain, secret) = (files::certificates(certificate)?, files::private_key(key)?);
                builder
                    .with_client_auth_cert(chain, secret)
                    .map_err(|error| Error::new(ErrorKind::InvalidData, format!("{}: {error}", key.display())))?
            }
        };
        config.alpn_protocols = vec![self.alpn.into()];
        // Connections are few: each proves again who the backend is, and who we are by now.
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

/// The authorities of one file, or the system's.
fn roots(file: Option<&Path>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match file {
        Some(path) => {
            for certificate in files::certificates(path)? {
                roots
                    .add(certificate)
                    .map_err(|error| Error::new(ErrorKind::InvalidData, format!("{}: {error}", path.display())))?;
            }
        }
        None => _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
    }
    if roots.is_empty() {
        let text = "no root certificates on this system; name a file with OTEL_EXPORTER_OTLP_CERTIFICATE";
        return Err(Error::new(ErrorKind::NotFound, text));
    }
    Ok(roots)
}

/// ALPN, RFC 7301.
pub(super) const H2: &str = "h2";
/// ALPN, RFC 7301.
pub(super) const HTTP_1_1: &str = "http/1.1";
