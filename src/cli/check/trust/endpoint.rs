//! The server that runtimes are sent to: TLS on loopback, with a certificate of an authority made for this run.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, ServerConfig, ServerConnection};

use crate::budget::Budget;
use crate::config::AuthoritySource;
use crate::telemetry::Metrics;
use crate::tls::authority::Authority;

/// Answers whoever accepts its certificate, for as long as this process lives.
pub(super) struct Endpoint {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Endpoint {
    /// The server, and its authority.
    pub(super) fn start() -> io::Result<(Self, CertificateDer<'static>)> {
        let (config, authority) = config().map_err(io::Error::other)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let endpoint = Self { port: listener.local_addr()?.port(), connections: Arc::default() };
        let (connections, config) = (endpoint.connections.clone(), Arc::new(config));
        std::thread::spawn(move || {
            for stream in listener.incoming().filter_map(Result::ok) {
                // Counted before it is answered: whoever has an answer is in the count.
                connections.fetch_add(1, Ordering::SeqCst);
                let config = config.clone();
                std::thread::spawn(move || serve(stream, config));
            }
        });
        Ok((endpoint, authority))
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn url(&self) -> String {
        format!("https://127.0.0.1:{}/", self.port)
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// An empty page for HTTP/1; the preface of HTTP/2, which makes a gRPC channel ready.
fn serve(mut stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut stream)?;
    }
    let is_h2 = tls.alpn_protocol() == Some(b"h2");
    let mut stream = rustls::Stream::new(&mut tls, &mut stream);
    if is_h2 {
        stream.write_all(EMPTY_SETTINGS)?;
        return io::copy(&mut stream, &mut io::sink()).map(|_| ());
    }
    let mut head = Vec::new();
    let mut part = [0; 1024];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut part)? {
            0 => return Ok(()),
            _ if head.len() > MOST_READ => return Ok(()),
            read => head.extend_from_slice(part.get(..read).unwrap_or_default()),
        }
    }
    stream.write_all(EMPTY_PAGE)?;
    stream.conn.send_close_notify();
    stream.flush()
}

/// Certificates of an authority like the sidecar's own.
fn config() -> Result<(ServerConfig, CertificateDer<'static>), Box<dyn std::error::Error + Send + Sync>> {
    let (budget, metrics) = (Budget::unlimited(), Arc::new(Metrics::default()));
    let authority = Authority::open(&AuthoritySource::Memory, budget, metrics, SystemTime::now)?;
    let root = authority.roots().into_iter().next().ok_or("the authority has no root")?;
    let mut config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Leaves(authority)));
    // HTTP/1 wherever a client leaves the choice to us.
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
    Ok((config, root))
}

/// For the name that is asked for, else for our address.
#[derive(Debug)]
struct Leaves(Authority);

impl ResolvesServerCert for Leaves {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = match hello.server_name() {
            Some(name) => ServerName::try_from(name.to_owned()).ok()?,
            None => ServerName::from(IpAddr::from(Ipv4Addr::LOCALHOST)),
        };
        self.0.leaf(&name).ok()
    }
}

const PATIENCE: Duration = Duration::from_secs(30);
const MOST_READ: usize = 64 * 1024;
const EMPTY_PAGE: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
/// RFC 9113, section 6.5.
const EMPTY_SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
