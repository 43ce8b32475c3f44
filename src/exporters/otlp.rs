//! OTLP over HTTP/protobuf and over gRPC, through one hyper client.
//!
//! Sources: OTLP specification 1.11, "OTLP/HTTP Response", "OTLP/gRPC Response", "Failures"; gRPC,
//! `doc/PROTOCOL-HTTP2.md`.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use tokio::net::TcpStream;
use tower::util::BoxCloneSyncService;

use super::{Answer, Delivered, Exporter};
use crate::config::{Export, ExportProtocol};
use crate::net::Connector;

/// A collector that speaks OTLP.
#[derive(Debug)]
pub struct Otlp {
    client: Client<Connect, Full<Bytes>>,
    protocol: ExportProtocol,
    uri: Uri,
    headers: HeaderMap,
}

type Connect = BoxCloneSyncService<Uri, TokioIo<TcpStream>, std::io::Error>;

impl Otlp {
    /// The backend that the configuration names.
    pub fn new(export: &Export, connector: Connector) -> Self {
        let connect = tower::service_fn(move |uri: Uri| connect(connector.clone(), uri));
        let mut client = Client::builder(TokioExecutor::new());
        client.http2_only(export.protocol == ExportProtocol::Grpc).pool_idle_timeout(IDLE);
        Self {
            client: client.build(BoxCloneSyncService::new(connect)),
            protocol: export.protocol,
            uri: export.endpoint.clone(),
            headers: export.headers.clone(),
        }
    }

    fn request(&self, body: Bytes) -> Request<Full<Bytes>> {
        let (content_type, body) = match self.protocol {
            ExportProtocol::HttpProtobuf => ("application/x-protobuf", body),
            ExportProtocol::Grpc => ("application/grpc", grpc_frame(&body)),
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        if self.protocol == ExportProtocol::Grpc {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        headers.extend(self.headers.clone());
        request
    }

    async fn send(&self, body: Bytes) -> Answer {
        let answer = match self.client.request(self.request(body)).await {
            Ok(answer) => answer,
            Err(error) => return Answer::Retry(None, root_cause(&error)),
        };
        let (parts, body) = answer.into_parts();
        let body = match Limited::new(body, MAX_ANSWER).collect().await {
            Ok(body) => body,
            Err(error) => return Answer::Retry(None, root_cause(&*error)),
        };
        let trailers = body.trailers().cloned();
        let body = body.to_bytes();
        match self.protocol {
            ExportProtocol::HttpProtobuf => http_answer(parts.status, &parts.headers, &body),
            ExportProtocol::Grpc => grpc_answer(parts.status, trailers.as_ref().unwrap_or(&parts.headers), &body),
        }
    }
}

impl Exporter for Otlp {
    fn export(&self, body: Bytes) -> BoxFuture<'_, Answer> {
        self.send(body).boxed()
    }
}

async fn connect(connector: Connector, uri: Uri) -> std::io::Result<TokioIo<TcpStream>> {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(80);
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
    let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match connector.connect(address, |_| {}).await {
            Ok(stream) => return Ok(TokioIo::new(stream)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn http_answer(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> Answer {
    match status.as_u16() {
        200..300 => Answer::Delivered(taken(body)),
        429 | 502 | 503 | 504 => Answer::Retry(retry_after(headers), status.to_string()),
        _ => Answer::Delivered(Delivered::Refused(status.to_string())),
    }
}

fn grpc_answer(status: StatusCode, trailers: &HeaderMap, body: &Bytes) -> Answer {
    let text = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok());
    let Some(code) = text("grpc-status").and_then(|code| code.parse::<u32>().ok()) else {
        return http_answer(status, trailers, &Bytes::new()).without_success(status);
    };
    let message = percent_encoding::percent_decode_str(text("grpc-message").unwrap_or_default()).decode_utf8_lossy();
    let reason = format!("grpc status {code} {message}");
    let delay = text("grpc-status-details-bin").and_then(retry_delay);
    match code {
        0 => Answer::Delivered(taken(&body.slice(body.len().min(5)..))),
        // CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS
        1 | 4 | 10 | 11 | 14 | 15 => Answer::Retry(delay, reason),
        // RESOURCE_EXHAUSTED, only where the backend says that it will recover
        8 if delay.is_some() => Answer::Retry(delay, reason),
        _ => Answer::Delivered(Delivered::Refused(reason)),
    }
}

impl Answer {
    /// A gRPC answer without a status is no success, whatever HTTP says.
    fn without_success(self, status: StatusCode) -> Self {
        match self {
            Answer::Delivered(Delivered::All | Delivered::Partly { .. }) => {
                Answer::Delivered(Delivered::Refused(format!("no grpc-status, HTTP {status}")))
            }
            other => other,
        }
    }
}

/// The success of an answer may be partial. A body that is none is taken for a whole one.
fn taken(body: &[u8]) -> Delivered {
    let partial = ExportTraceServiceResponse::decode(body).ok().and_then(|answer| answer.partial_success);
    match partial {
        Some(partial) if partial.rejected_spans > 0 || !partial.error_message.is_empty() => Delivered::Partly {
            rejected: usize::try_from(partial.rejected_spans).unwrap_or(0),
            message: partial.error_message,
        },
        _ => Delivered::All,
    }
}

/// RFC 9110, section 10.2.3, in seconds. The form with a date falls back to our own wait.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// `google.rpc.RetryInfo` among the details of a `google.rpc.Status`.
fn retry_delay(details: &str) -> Option<Duration> {
    let status = RpcStatus::decode(&*BASE64.decode(details).ok()?).ok()?;
    let info = status.details.iter().find(|detail| detail.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(&*info.value).ok()?.retry_delay?;
    Some(Duration::new(u64::try_from(delay.seconds).ok()?, u32::try_from(delay.nanos).ok()?))
}

#[derive(prost::Message)]
struct RpcStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(prost::Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<ProtoDuration>,
}

#[derive(prost::Message)]
struct ProtoDuration {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// One uncompressed message: flag, length, bytes.
fn grpc_frame(body: &Bytes) -> Bytes {
    let mut frame = BytesMut::with_capacity(body.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
    frame.put_slice(body);
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

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const USER_AGENT: &str = concat!("sidetrace/", env!("CARGO_PKG_VERSION"));
const MAX_ANSWER: usize = 4 * 1024 * 1024;
const IDLE: Duration = Duration::from_secs(90);

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn partial(rejected: i64, message: &str) -> Bytes {
        let mut answer = ExportTraceServiceResponse::default();
        let partial = answer.partial_success.get_or_insert_default();
        partial.rejected_spans = rejected;
        partial.error_message = message.into();
        answer.encode_to_vec().into()
    }

    #[test]
    fn http_answers_are_taken_retried_or_refused_as_the_specification_says() {
        let answer =
            |status, lines: &[_], body| http_answer(StatusCode::from_u16(status).unwrap(), &headers(lines), &body);
        assert_eq!(answer(200, &[], Bytes::new()), Answer::Delivered(Delivered::All));
        assert_eq!(answer(202, &[], Bytes::from_static(b"{}")), Answer::Delivered(Delivered::All));
        let some = Delivered::Partly { rejected: 3, message: "too old".into() };
        assert_eq!(answer(200, &[], partial(3, "too old")), Answer::Delivered(some));
        for status in [429, 502, 503, 504] {
            let wait = Some(Duration::from_secs(9));
            assert!(
                matches!(answer(status, &[("retry-after", "9")], Bytes::new()), Answer::Retry(after, _) if after == wait)
            );
            assert!(matches!(answer(status, &[], Bytes::new()), Answer::Retry(None, _)));
        }
        for status in [400, 401, 404, 413, 500, 501] {
            assert!(matches!(answer(status, &[], Bytes::new()), Answer::Delivered(Delivered::Refused(_))), "{status}");
        }
    }

    #[test]
    fn grpc_answers_are_taken_retried_or_refused_as_the_specification_says() {
        fn answer(lines: &[(&'static str, &str)], body: Bytes) -> Answer {
            grpc_answer(StatusCode::OK, &headers(lines), &body)
        }
        assert_eq!(answer(&[("grpc-status", "0")], grpc_frame(&Bytes::new())), Answer::Delivered(Delivered::All));
        let some = Delivered::Partly { rejected: 2, message: "no".into() };
        assert_eq!(answer(&[("grpc-status", "0")], grpc_frame(&partial(2, "no"))), Answer::Delivered(some));
        for code in 1..=16 {
            let text = code.to_string();
            let retried = matches!(answer(&[("grpc-status", &text)], Bytes::new()), Answer::Retry(None, _));
            assert_eq!(retried, [1, 4, 10, 11, 14, 15].contains(&code), "{code}");
        }
        assert!(matches!(answer(&[], Bytes::new()), Answer::Delivered(Delivered::Refused(_))));
        let unavailable = grpc_answer(StatusCode::SERVICE_UNAVAILABLE, &headers(&[]), &Bytes::new());
        assert!(matches!(unavailable, Answer::Retry(None, _)));
    }

    #[test]
    fn an_exhausted_backend_is_asked_again_only_if_it_says_when() {
        let delay = ProtoDuration { seconds: 2, nanos: 500_000_000 };
        let info = RetryInfo { retry_delay: Some(delay) }.encode_to_vec();
        let detail = Any { type_url: "type.googleapis.com/google.rpc.RetryInfo".into(), value: info };
        let details = BASE64.encode(RpcStatus { details: vec![detail] }.encode_to_vec());
        let lines = [("grpc-status", "8"), ("grpc-status-details-bin", &*details)];
        let answer = grpc_answer(StatusCode::OK, &headers(&lines), &Bytes::new());
        assert!(matches!(answer, Answer::Retry(Some(after), _) if after == Duration::from_millis(2500)));
        assert_eq!(retry_delay("%%%"), None);
    }
}
