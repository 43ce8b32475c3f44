//! OTLP over HTTP/protobuf and over gRPC, through one hyper client.
//!
//! Sources: OTLP specification 1.11; OTLP exporter specification; gRPC, `doc/PROTOCOL-HTTP2.md`.

mod answer;
mod compress;
mod connect;
mod tls;
mod token;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tower::util::BoxCloneSyncService;

use self::answer::{grpc_answer, http_answer};
use self::connect::{Route, Stream};
use self::token::TokenFile;
use super::{Answer, Exporter};
use crate::config::{Compression, Export, ExportProtocol};
use crate::net::Connector;

/// A collector that speaks OTLP.
#[derive(Debug)]
pub struct Otlp {
    client: Client<Connect, Full<Bytes>>,
    protocol: ExportProtocol,
    uri: Uri,
    /// What is the same on every request.
    headers: HeaderMap,
    compression: Option<Compression>,
    token: Option<Mutex<TokenFile>>,
}

type Connect = BoxCloneSyncService<Uri, TokioIo<Stream>, std::io::Error>;

impl Otlp {
    /// The backend that the configuration names.
    pub fn new(export: &Export, connector: Connector) -> Self {
        let route = Arc::new(Route::new(export, connector));
        let headers = headers(export, &route);
        let connect = tower::service_fn(move |uri: Uri| {
            let route = route.clone();
            async move { route.open(&uri).await.map(TokioIo::new) }.boxed()
        });
        let mut client = Client::builder(TokioExecutor::new());
        client.http2_only(export.protocol == ExportProtocol::Grpc).pool_idle_timeout(IDLE);
        Self {
            client: client.build(BoxCloneSyncService::new(connect)),
            protocol: export.protocol,
            uri: export.endpoint.clone(),
            headers,
            compression: export.compression,
            token: export.token_file.clone().map(|path| Mutex::new(TokenFile::new(path))),
        }
    }

    fn request(&self, body: Bytes) -> std::io::Result<Request<Full<Bytes>>> {
        let body = match self.compression {
            Some(how) => compress::compress(&body, how)?,
            None => body,
        };
        let body = match self.protocol {
            ExportProtocol::HttpProtobuf => body,
            ExportProtocol::Grpc => grpc_frame(&body, self.compression.is_some()),
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        // Never held across an await; only the pipeline's thread comes here.
        let token = self.token.as_ref().and_then(|token| token.lock().unwrap_or_else(PoisonError::into_inner).header());
        request.headers_mut().extend(token.map(|token| (header::AUTHORIZATION, token)));
        Ok(request)
    }

    async fn send(&self, body: Bytes) -> Answer {
        let request = match self.request(body) {
            Ok(request) => request,
            Err(error) => return Answer::Retry(None, error.to_string()),
        };
        let answer = match self.client.request(request).await {
            Ok(answer) => answer,
            Err(error) => return Answer::Retry(None, root_cause(&error)),
        };
        let (parts, body) = answer.into_parts();
        let body = match Limited::new(body, MAX_ANSWER).collect().await {
            Ok(body) => body,
            Err(error) => return Answer::Retry(None, root_cause(&*error)),
        };
        let trailers = body.trailers().cloned();
        let (body, now) = (body.to_bytes(), SystemTime::now());
        match self.protocol {
            ExportProtocol::HttpProtobuf => http_answer(parts.status, &parts.headers, &body, self.compression, now),
            ExportProtocol::Grpc => {
                let trailers = trailers.as_ref().unwrap_or(&parts.headers);
                grpc_answer(parts.status, trailers, &body, self.compression, now)
            }
        }
    }
}

impl Exporter for Otlp {
    fn export(&self, body: Bytes) -> BoxFuture<'_, Answer> {
        self.send(body).boxed()
    }
}

/// The headers of every request: ours, then the user's.
fn headers(export: &Export, route: &Route) -> HeaderMap {
    let fixed = HeaderValue::from_static;
    let mut headers = HeaderMap::new();
    headers.insert(header::USER_AGENT, fixed(USER_AGENT));
    let encoding = export.compression.map(|how| fixed(how.name()));
    match export.protocol {
        ExportProtocol::HttpProtobuf => {
            headers.insert(header::CONTENT_TYPE, fixed("application/x-protobuf"));
            headers.extend(encoding.map(|encoding| (header::CONTENT_ENCODING, encoding)));
        }
        ExportProtocol::Grpc => {
            headers.insert(header::CONTENT_TYPE, fixed("application/grpc"));
            headers.insert(header::TE, fixed("trailers"));
            headers.extend(encoding.map(|encoding| (GRPC_ENCODING, encoding)));
        }
    }
    let proxy = route.forwarding().and_then(|proxy| proxy.authorization.clone());
    headers.extend(proxy.map(|authorization| (header::PROXY_AUTHORIZATION, authorization)));
    headers.extend(export.headers.clone());
    headers
}

/// One message: whether it is compressed, length, bytes.
fn grpc_frame(message: &Bytes, compressed: bool) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(compressed.into());
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

/// The innermost error: the outer ones only repeat that a request failed.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

const GRPC_ENCODING: header::HeaderName = header::HeaderName::from_static("grpc-encoding");
const USER_AGENT: &str = concat!("sidetrace/", env!("CARGO_PKG_VERSION"));
const MAX_ANSWER: usize = 4 * 1024 * 1024;
const IDLE: Duration = Duration::from_secs(90);

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::config::TlsFiles;

    #[tokio::test]
    async fn a_request_says_how_its_body_is_encoded() {
        for (protocol, compression, expected) in [
            (ExportProtocol::HttpProtobuf, None, (None, None, 5)),
            (ExportProtocol::HttpProtobuf, Some(Compression::Gzip), (Some("gzip"), None, 0x1f)),
            (ExportProtocol::HttpProtobuf, Some(Compression::Zstd), (Some("zstd"), None, 0x28)),
            (ExportProtocol::Grpc, None, (None, None, 0)),
            (ExportProtocol::Grpc, Some(Compression::Gzip), (None, Some("gzip"), 1)),
            (ExportProtocol::Grpc, Some(Compression::Zstd), (None, Some("zstd"), 1)),
        ] {
            let export = Export {
                endpoint: Uri::from_static("http://c/v1/traces"),
                protocol,
                headers: HeaderMap::new(),
                timeout: Duration::MAX,
                compression,
                tls: TlsFiles::default(),
                token_file: None,
                proxy: None,
            };
            let otlp = Otlp::new(&export, Connector::default());
            let request = otlp.request(Bytes::from_static(&[5; 1000])).unwrap();
            let header =
                |name| request.headers().get(name).map(|value: &HeaderValue| value.to_str().unwrap().to_owned());
            let (http, grpc) = (header("content-encoding"), header("grpc-encoding"));
            let mut body = request.into_body().collect().await.unwrap().to_bytes();
            assert_eq!((http.as_deref(), grpc.as_deref(), body[0]), expected, "{protocol:?} {compression:?}");
            if protocol == ExportProtocol::Grpc {
                assert_eq!(u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize, body.len() - 5);
                body = body.slice(5..);
            }
            let mut plain = Vec::new();
            match compression {
                None => plain.extend(&body),
                Some(Compression::Gzip) => _ = flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut plain).unwrap(),
                Some(Compression::Zstd) => zstd::stream::copy_decode(&body[..], &mut plain).unwrap(),
            }
            assert_eq!(plain, [5; 1000]);
        }
    }
}
