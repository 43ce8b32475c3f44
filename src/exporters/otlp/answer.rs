//! What a backend's answer means: taken, to be tried again, or refused.
//!
//! Sources: OTLP specification 1.11, "OTLP/HTTP Response", "OTLP/gRPC Response", "Failures"; gRPC,
//! `doc/PROTOCOL-HTTP2.md`, `doc/compression.md`.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;

use crate::config::Compression;
use crate::exporters::{Answer, Delivered};

/// `sent` is how the request was compressed.
pub(super) fn http_answer(
    status: StatusCode,
    headers: &HeaderMap,
    body: &Bytes,
    sent: Option<Compression>,
    now: SystemTime,
) -> Answer {
    match (status.as_u16(), sent) {
        (200..300, _) => Answer::Delivered(taken(body)),
        (429 | 502 | 503 | 504, _) => Answer::Retry(retry_after(headers, now), status.to_string()),
        (415, Some(sent)) => Answer::Delivered(Delivered::Refused(not_taken(sent, &status.to_string()))),
        _ => Answer::Delivered(Delivered::Refused(status.to_string())),
    }
}

/// `trailers` are the headers if the answer has nothing else; `sent` is how the request was compressed.
pub(super) fn grpc_answer(
    status: StatusCode,
    trailers: &HeaderMap,
    body: &Bytes,
    sent: Option<Compression>,
    now: SystemTime,
) -> Answer {
    let text = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok());
    let Some(code) = text("grpc-status").and_then(|code| code.parse::<u32>().ok()) else {
        return http_answer(status, trailers, &Bytes::new(), sent, now).without_success(status);
    };
    let message = percent_encoding::percent_decode_str(text("grpc-message").unwrap_or_default()).decode_utf8_lossy();
    let reason = format!("grpc status {code} {message}");
    let delay = text("grpc-status-details-bin").and_then(retry_delay);
    match code {
        // We do not say that we would take a compressed message: its flag is 0.
        0 => Answer::Delivered(taken(&body.slice(body.len().min(5)..))),
        // CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS
        1 | 4 | 10 | 11 | 14 | 15 => Answer::Retry(delay, reason),
        // RESOURCE_EXHAUSTED, only where the backend says that it will recover
        8 if delay.is_some() => Answer::Retry(delay, reason),
        // UNIMPLEMENTED, which is for a missing service too, or INTERNAL, grpc-core's for a name that it does not know: who
        // refuses an encoding says so.
        12 | 13 if names_encoding(&message) => {
            Answer::Delivered(Delivered::Refused(sent.map_or(reason.clone(), |sent| not_taken(sent, &reason))))
        }
        _ => Answer::Delivered(Delivered::Refused(reason)),
    }
}

fn names_encoding(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["encoding", "compress"].iter().any(|word| message.contains(word))
}

fn not_taken(sent: Compression, reason: &str) -> String {
    let name = sent.name();
    format!("{reason}: the backend does not take {name}; set OTEL_EXPORTER_OTLP_COMPRESSION to what it takes, or none")
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

/// RFC 9110, section 10.2.3: seconds, or a date. A date is read against the backend's own clock if it shows one; one that
/// is past means now.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).map(str::trim);
    let after = text(header::RETRY_AFTER)?;
    if let Ok(seconds) = after.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = httpdate::parse_http_date(after).ok()?;
    let theirs = text(header::DATE).and_then(|date| httpdate::parse_http_date(date).ok());
    Some(then.duration_since(theirs.unwrap_or(now)).unwrap_or_default())
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

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn framed(message: &[u8]) -> Bytes {
        [&[0, 0, 0, 0, u8::try_from(message.len()).unwrap()], message].concat().into()
    }

    type Lines<'a> = &'a [(&'static str, &'a str)];

    fn headers(lines: Lines<'_>) -> HeaderMap {
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
        let answer = |status, lines: &[_], body| {
            http_answer(StatusCode::from_u16(status).unwrap(), &headers(lines), &body, None, UNIX_EPOCH)
        };
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
            grpc_answer(StatusCode::OK, &headers(lines), &body, None, UNIX_EPOCH)
        }
        assert_eq!(answer(&[("grpc-status", "0")], framed(&Bytes::new())), Answer::Delivered(Delivered::All));
        let some = Delivered::Partly { rejected: 2, message: "no".into() };
        assert_eq!(answer(&[("grpc-status", "0")], framed(&partial(2, "no"))), Answer::Delivered(some));
        for code in 1..=16 {
            let text = code.to_string();
            let retried = matches!(answer(&[("grpc-status", &text)], Bytes::new()), Answer::Retry(None, _));
            assert_eq!(retried, [1, 4, 10, 11, 14, 15].contains(&code), "{code}");
        }
        assert!(matches!(answer(&[], Bytes::new()), Answer::Delivered(Delivered::Refused(_))));
        let unavailable = grpc_answer(StatusCode::SERVICE_UNAVAILABLE, &headers(&[]), &Bytes::new(), None, UNIX_EPOCH);
        assert!(matches!(unavailable, Answer::Retry(None, _)));
    }

    #[test]
    fn an_exhausted_backend_is_asked_again_only_if_it_says_when() {
        let delay = ProtoDuration { seconds: 2, nanos: 500_000_000 };
        let info = RetryInfo { retry_delay: Some(delay) }.encode_to_vec();
        let detail = Any { type_url: "type.googleapis.com/google.rpc.RetryInfo".into(), value: info };
        let details = BASE64.encode(RpcStatus { details: vec![detail] }.encode_to_vec());
        let lines = [("grpc-status", "8"), ("grpc-status-details-bin", &*details)];
        let answer = grpc_answer(StatusCode::OK, &headers(&lines), &Bytes::new(), None, UNIX_EPOCH);
        assert!(matches!(answer, Answer::Retry(Some(after), _) if after == Duration::from_millis(2500)));
        assert_eq!(retry_delay("%%%"), None);
    }

    #[test]
    fn a_retry_after_date_is_read_against_the_backends_clock_then_ours() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT
        let table: [(Lines<'_>, Option<u64>); 9] = [
            (&[("retry-after", " 120 ")], Some(120)),
            (&[("retry-after", "Sun, 06 Nov 1994 08:49:47 GMT")], Some(10)),
            (&[("retry-after", "Sunday, 06-Nov-94 08:49:47 GMT")], Some(10)),
            (&[("retry-after", "Sun, 06 Nov 1994 08:49:30 GMT")], Some(0)),
            (&[("retry-after", "Sun, 06 Nov 1994 08:49:47 GMT"), ("date", "Sun, 06 Nov 1994 08:49:44 GMT")], Some(3)),
            (&[("retry-after", "Sun, 06 Nov 1994 08:49:47 GMT"), ("date", "yesterday")], Some(10)),
            (&[("retry-after", "soon")], None),
            (&[("retry-after", "-1")], None),
            (&[], None),
        ];
        for (lines, expected) in table {
            assert_eq!(retry_after(&headers(lines), now), expected.map(Duration::from_secs), "{lines:?}");
        }
    }

    #[test]
    fn a_refusal_of_the_encoding_says_what_to_set() {
        let http =
            |sent| http_answer(StatusCode::UNSUPPORTED_MEDIA_TYPE, &headers(&[]), &Bytes::new(), sent, UNIX_EPOCH);
        let grpc = |code, message, sent| {
            let lines = headers(&[("grpc-status", code), ("grpc-message", message)]);
            grpc_answer(StatusCode::OK, &lines, &Bytes::new(), sent, UNIX_EPOCH)
        };
        let told = |answer| match answer {
            Answer::Delivered(Delivered::Refused(reason)) => reason.contains("OTEL_EXPORTER_OTLP_COMPRESSION"),
            other => panic!("{other:?}"),
        };
        let (gzip, zstd) = (Some(Compression::Gzip), Some(Compression::Zstd));
        assert!(told(http(gzip)) && !told(http(None)));
        // In the words of grpc-go, tonic and grpc-core.
        assert!(told(grpc("12", "grpc: Decompressor is not installed for grpc-encoding %22zstd%22", zstd)));
        assert!(told(grpc("12", "Content is compressed with `zstd` which isn't supported", zstd)));
        assert!(told(grpc("13", "Error parsing 'grpc-encoding' metadata", zstd)));
        assert!(!told(grpc("12", "unknown service opentelemetry", zstd)));
        assert!(!told(grpc("12", "Content is compressed", None)));
    }
}
