//! The origin behind TLS: 1 KiB of JSON, a gibibyte of zeros, or an answer to a crowd.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::Barrier;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::version::TLS12;
use tokio_rustls::rustls::{DEFAULT_VERSIONS, HandshakeKind, ServerConfig};

use super::Authority;
use crate::it::support::Netns;
use crate::origins::{CROWD, accepting};
use crate::world::ADDRESS;

/// TLS 1.2 and 1.3; HTTP/1.1 and HTTP/2 by ALPN.
pub(crate) const TLS: u16 = 443;
/// TLS 1.2 only.
pub(super) const TLS_1_2: u16 = 8442;

#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    handshakes: Arc<[AtomicU64; 2]>,
}

impl Origin {
    /// A thread of its own, on the core of this process.
    pub(crate) fn start(netns: &Netns, authority: &Authority) -> Self {
        let origin = Self::default();
        let bind = |port: u16| netns.enter(move || TcpListener::bind((ADDRESS, port)).unwrap());
        let (tls, old) = (bind(TLS), bind(TLS_1_2));
        let (config, old_config) = (authority.server_config(DEFAULT_VERSIONS), authority.server_config(&[&TLS12]));
        let counted = origin.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let crowd = Arc::new(Barrier::new(CROWD));
            runtime.block_on(async {
                tokio::join!(counted.serve(tls, config, crowd.clone()), counted.serve(old, old_config, crowd.clone()))
            });
        });
        origin
    }

    /// Handshakes until now, and of them those that resumed a session.
    pub(crate) fn handshakes(&self) -> (u64, u64) {
        (self.handshakes[0].load(Ordering::SeqCst), self.handshakes[1].load(Ordering::SeqCst))
    }

    async fn serve(&self, listener: TcpListener, config: Arc<ServerConfig>, crowd: Arc<Barrier>) {
        let (listener, acceptor) = (accepting(listener), TlsAcceptor::from(config));
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (acceptor, origin, crowd) = (acceptor.clone(), self.clone(), crowd.clone());
            tokio::spawn(async move {
                // A proxy may look and go.
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let session = stream.get_ref().1;
                origin.handshakes[0].fetch_add(1, Ordering::SeqCst);
                let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
                origin.handshakes[1].fetch_add(resumed.into(), Ordering::SeqCst);
                let http2 = session.alpn_protocol() == Some(b"h2");
                let service = service_fn(move |request| answer(request, crowd.clone()));
                let stream = TokioIo::new(stream);
                if http2 {
                    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(stream, service).await;
                } else {
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await;
                }
            });
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    crowd: Arc<Barrier>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    if request.uri().path() == "/gib" {
        let frames = (0..GIB / ZEROS.len()).map(|_| Ok(Frame::data(Bytes::from_static(&ZEROS))));
        return Ok(Response::new(StreamBody::new(stream::iter(frames)).boxed()));
    }
    if request.uri().path() == "/crowd" {
        crowd.wait().await;
    }
    let answer = Response::builder().header("content-type", "application/json");
    Ok(answer.body(Full::new(Bytes::from_static(&JSON)).boxed()).unwrap())
}

const GIB: usize = 1 << 30;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
/// A string: JSON enough for who only counts bytes.
static JSON: [u8; 1 << 10] = {
    let mut text = [b'x'; 1 << 10];
    (text[0], text[(1 << 10) - 1]) = (b'"', b'"');
    text
};
