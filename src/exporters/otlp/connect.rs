//! The way to a backend: direct or through an HTTP proxy, plain or in TLS.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Uri;
use http::uri::Scheme;
use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::tls::{self, Tls};
use crate::config::{Export, ExportProtocol, HttpProxy};
use crate::net::Connector;

/// How connections to the backend are made.
#[derive(Debug)]
pub(super) struct Route {
    connector: Connector,
    proxy: Option<HttpProxy>,
    tls: Option<Tls>,
    /// Plain HTTP/1.1 goes through a proxy request by request, anything else through a tunnel.
    forwarded: bool,
}

impl Route {
    pub(super) fn new(export: &Export, connector: Connector) -> Self {
        let (grpc, https) = (export.protocol == ExportProtocol::Grpc, export.endpoint.scheme() == Some(&Scheme::HTTPS));
        let alpn = if grpc { tls::H2 } else { tls::HTTP_1_1 };
        Self {
            connector,
            forwarded: export.proxy.is_some() && !grpc && !https,
            proxy: export.proxy.clone(),
            tls: https.then(|| Tls::new(export.tls.clone(), alpn)),
        }
    }

    /// The proxy that requests themselves go to, in absolute form.
    pub(super) fn forwarding(&self) -> Option<&HttpProxy> {
        self.proxy.as_ref().filter(|_| self.forwarded)
    }

    /// A connection over which the backend of `uri` can be spoken to.
    pub(super) async fn open(&self, uri: &Uri) -> Result<Stream> {
        let host = uri.host().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().unwrap_or(if self.tls.is_some() { 443 } else { 80 });
        let stream = match &self.proxy {
            None => self.dial(bare, port).await?,
            Some(proxy) => {
                let named = |error: Error| Error::new(error.kind(), format!("the proxy for export: {error}"));
                let mut stream = self.dial(&proxy.host, proxy.port).await.map_err(named)?;
                if !self.forwarded {
                    tunnel(&mut stream, &format!("{host}:{port}"), proxy).await.map_err(named)?;
                }
                stream
            }
        };
        match &self.tls {
            Some(tls) => Ok(Stream::Tls(Box::new(tls.handshake(bare, stream).await?))),
            None => Ok(Stream::Plain { stream, forwarded: self.forwarded }),
        }
    }

    async fn dial(&self, host: &str, port: u16) -> Result<TcpStream> {
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
        let mut last = Error::new(ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            match self.connector.connect(address, |_| {}).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// RFC 9110, section 9.3.6. The answer is read byte by byte: behind its end the backend may have spoken already, as gRPC
/// servers do, and that belongs to whoever reads next.
async fn tunnel<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, authority: &str, proxy: &HttpProxy) -> Result<()> {
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n").into_bytes();
    if let Some(authorization) = &proxy.authorization {
        request.extend([b"Proxy-Authorization: ", authorization.as_bytes(), b"\r\n"].concat());
    }
    request.extend(b"\r\n");
    stream.write_all(&request).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == LONGEST_HEAD {
            return Err(Error::new(ErrorKind::InvalidData, "its answer to CONNECT is too long"));
        }
        head.push(stream.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&head);
    let status = text.strip_prefix("HTTP/1.").and_then(|rest| rest.split_ascii_whitespace().nth(1));
    match status.and_then(|status| http::StatusCode::from_bytes(status.as_bytes()).ok()) {
        Some(status) if status.is_success() => Ok(()),
        Some(status) => Err(Error::new(ErrorKind::ConnectionRefused, format!("it answered CONNECT with {status}"))),
        None => Err(Error::new(ErrorKind::InvalidData, "its answer to CONNECT is not HTTP/1")),
    }
}

/// What hyper's client reads and writes.
#[derive(Debug)]
pub(super) enum Stream {
    Plain { stream: TcpStream, forwarded: bool },
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new().proxy(matches!(self, Stream::Plain { forwarded: true, .. }))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        match self.get_mut() {
            Stream::Plain { stream, .. } => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        match self.get_mut() {
            Stream::Plain { stream, .. } => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<Result<usize>> {
        match self.get_mut() {
            Stream::Plain { stream, .. } => Pin::new(stream).poll_write_vectored(cx, parts),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Plain { stream, .. } => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match self.get_mut() {
            Stream::Plain { stream, .. } => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match self.get_mut() {
            Stream::Plain { stream, .. } => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

const LONGEST_HEAD: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    async fn answered(answer: &[u8]) -> (Result<()>, String, Vec<u8>) {
        let (mut ours, mut theirs) = tokio::io::duplex(64 * 1024);
        let proxy = HttpProxy {
            host: "proxy".into(),
            port: 3128,
            authorization: Some(http::HeaderValue::from_static("Basic dTpw")),
        };
        theirs.write_all(answer).await.unwrap();
        let outcome = tunnel(&mut ours, "[fd00::1]:4317", &proxy).await;
        let mut asked = vec![0; 1024];
        let length = theirs.read(&mut asked).await.unwrap();
        drop(theirs);
        let mut rest = Vec::new();
        ours.read_to_end(&mut rest).await.unwrap();
        (outcome, String::from_utf8_lossy(&asked[..length]).into_owned(), rest)
    }

    #[tokio::test]
    async fn a_tunnel_is_asked_for_and_what_the_backend_says_at_once_is_not_lost() {
        let (outcome, asked, rest) = answered(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\nSETTINGS").await;
        outcome.unwrap();
        assert_eq!(
            asked,
            "CONNECT [fd00::1]:4317 HTTP/1.1\r\nHost: [fd00::1]:4317\r\nProxy-Authorization: Basic dTpw\r\n\r\n"
        );
        assert_eq!(rest, b"SETTINGS");
        answered(b"HTTP/1.0 200 OK\r\n\r\n").await.0.unwrap();
    }

    #[tokio::test]
    async fn a_proxy_that_refuses_is_named_with_its_status() {
        let long = [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &[b'a'; 9000]].concat();
        let table: [(&[u8], &str); 4] = [
            (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "CONNECT with 407"),
            (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "CONNECT with 502"),
            (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP/1"),
            (&long, "too long"),
        ];
        for (answer, expected) in table {
            let error = answered(answer).await.0.unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("dTpw"), "{error}");
        }
    }
}
