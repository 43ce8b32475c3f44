//! A TLS connection that tells a clean end from a cut one, and can end either way itself.
//!
//! RFC 8446, section 6.1: without a `close_notify` the far side cannot know that all has been said. Some never send it; so
//! what ends without one ends without one on the other side too.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::rustls::{CipherSuite, HandshakeKind, ProtocolVersion};
use tokio_rustls::{TlsStream, client, server};

use crate::detect::client_hello::ClientHello;
use crate::net::{Abort, Session};

/// Either side of an intercepted connection.
#[derive(Debug)]
pub struct Stream {
    // Boxed: it is moved through several futures, each of which would be as large.
    inner: Box<TlsStream<TcpStream>>,
    /// The far side has gone without a `close_notify`.
    was_cut: bool,
    /// We go without one.
    cut: bool,
}

impl Stream {
    pub(super) fn server(inner: server::TlsStream<TcpStream>) -> Self {
        Self { inner: Box::new(inner.into()), was_cut: false, cut: false }
    }

    pub(super) fn client(inner: client::TlsStream<TcpStream>) -> Self {
        Self { inner: Box::new(inner.into()), was_cut: false, cut: false }
    }

    /// The protocol that was agreed on.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.inner.get_ref().1.alpn_protocol()
    }

    /// What was agreed with upstream, which has proved to have the name that the client asks for.
    pub fn session(&self, hello: &ClientHello) -> Session {
        let (_, connection) = self.inner.get_ref();
        let suite = connection.negotiated_cipher_suite().map(|suite| suite.suite());
        Session {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "1.2",
                _ => "1.3",
            },
            cipher: suite.map_or("", cipher_name),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            alpn: self.alpn().map(|protocol| String::from_utf8_lossy(protocol).into_owned()),
            server_name: hello.server_name.as_deref().map(Into::into),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.was_cut {
            return Poll::Ready(Ok(()));
        }
        match ready!(Pin::new(&mut *self.inner).poll_read(cx, buffer)) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.was_cut = true,
            Err(error) => return Poll::Ready(Err(error)),
            Ok(()) => {}
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.inner).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.cut {
            return Pin::new(&mut *self.inner).poll_shutdown(cx);
        }
        ready!(Pin::new(&mut *self.inner).poll_flush(cx))?;
        let tcp = match &mut *self.inner {
            TlsStream::Client(stream) => stream.get_mut().0,
            TlsStream::Server(stream) => stream.get_mut().0,
        };
        Pin::new(tcp).poll_shutdown(cx)
    }
}

impl Abort for Stream {
    fn abort(&self) {
        self.inner.get_ref().0.abort();
    }

    fn was_cut(&self) -> bool {
        self.was_cut
    }

    fn cut(&mut self) {
        self.cut = true;
    }
}

/// The name in IANA's registry.
fn cipher_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        known => known.as_str().unwrap_or(""),
    }
}
