//! The test authority, and whom the client trusts.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, DEFAULT_VERSIONS, RootCertStore, ServerConfig, SupportedProtocolVersion};

/// The origin's name; those below it are its names too.
pub(crate) const NAME: &str = "bench.test";

/// Signs the origin's certificate, which is Envoy's static one too: ECDSA P-256, one link to the root.
#[derive(Clone, Debug)]
pub(crate) struct Authority {
    folder: PathBuf,
}

impl Authority {
    /// Written into `folder`, for the proxies to read.
    pub(crate) fn new(folder: &Path) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "bench root");
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut params = CertificateParams::new([NAME.to_owned(), format!("*.{NAME}")]).unwrap();
        params.distinguished_name.push(DnType::CommonName, NAME);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &root).unwrap();
        let authority = Self { folder: folder.to_owned() };
        fs::write(authority.root(), root.pem()).unwrap();
        fs::write(authority.leaf(), leaf.pem()).unwrap();
        fs::write(authority.key(), key.serialize_pem()).unwrap();
        authority
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.join("root.pem")
    }

    pub(crate) fn leaf(&self) -> PathBuf {
        self.folder.join("leaf.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.folder.join("leaf.key")
    }

    /// The origin's end: sessions are resumed by tickets, as servers with more than one process do it.
    pub(super) fn server_config(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.key()).unwrap();
        let mut config = builder.with_no_client_auth().with_single_cert(certificates(&self.leaf()), key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = aws_lc_rs::Ticketer::new().unwrap();
        Arc::new(config)
    }
}

/// A client of HTTP/1.1 that trusts these roots and no other.
pub(super) fn client_config(roots: &Path, resumption: Resumption) -> Arc<ClientConfig> {
    let mut store = RootCertStore::empty();
    certificates(roots).into_iter().for_each(|root| store.add(root).unwrap());
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(DEFAULT_VERSIONS).unwrap();
    let mut config = builder.with_root_certificates(store).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = resumption;
    Arc::new(config)
}

fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups =
        vec![aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1, aws_lc_rs::kx_group::SECP384R1];
    Arc::new(provider)
}

fn certificates(file: &Path) -> Vec<CertificateDer<'static>> {
    let read = CertificateDer::pem_file_iter(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    read.map(Result::unwrap).collect()
}
