//! `OTEL_EXPORTER_OTLP_*` -> the backend `default`.

use std::fmt;
use std::str::FromStr;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use percent_encoding::percent_decode_str;

use super::{Millis, Reader, parse, parse_bool};
use crate::config::{Export, ExportProtocol};

impl Reader {
    /// The backend `default`: only if an endpoint is named.
    pub(super) fn export(&mut self) -> Option<Export> {
        let disabled = self.otel(&["OTEL_SDK_DISABLED"], false, "true or false", parse_bool);
        let kind = self.otel(&["OTEL_TRACES_EXPORTER"], "otlp", "otlp or none", |text| {
            ["otlp", "none"].into_iter().find(|known| *known == text)
        });
        let protocol = self.otel(
            &["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"],
            ExportProtocol::HttpProtobuf,
            "grpc or http/protobuf",
            |text| match text {
                "grpc" => Some(ExportProtocol::Grpc),
                "http/protobuf" => Some(ExportProtocol::HttpProtobuf),
                _ => None,
            },
        );
        let millis = |text: &str| parse::<u64>(text).map(Millis);
        let names = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
        let timeout = self.otel(&names, Millis(10_000), "a number of milliseconds", millis);
        let headers = self.headers();
        let endpoint = self.endpoint(protocol)?;
        let on = !disabled && kind == "otlp";
        on.then(|| Export { endpoint, protocol, headers, timeout: timeout.into() })
    }

    /// A signal's own endpoint is used as it is; the general one is a base for HTTP (OTLP exporter specification,
    /// "Endpoint URLs for OTLP/HTTP").
    fn endpoint(&mut self, protocol: ExportProtocol) -> Option<Uri> {
        let names = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
        let found = names.into_iter().find_map(|name| Some((name, self.value(name)?.to_owned())));
        let Some((name, text)) = found else {
            self.setting(names[1], "(none: spans are not exported)", false);
            return None;
        };
        let base = if text.contains("://") { text.clone() } else { format!("http://{text}") };
        let path = match (protocol, name == names[0]) {
            (ExportProtocol::Grpc, _) => Some(GRPC_PATH),
            (ExportProtocol::HttpProtobuf, false) => Some("/v1/traces"),
            (ExportProtocol::HttpProtobuf, true) => None,
        };
        let uri = Uri::from_str(&base).ok().filter(|uri| uri.host().is_some_and(|host| !host.is_empty()));
        let Some(uri) = uri else {
            self.problems.push(format!("{name}: {text:?} is not a URL such as http://collector:4318"));
            return None;
        };
        if uri.scheme_str() != Some("http") {
            let scheme = uri.scheme_str().unwrap_or_default();
            self.problems
                .push(format!("{name}: the scheme {scheme:?} is not supported by this version; accepted: http"));
            return None;
        }
        let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        if authority.contains('@') {
            self.problems
                .push(format!("{name}: credentials in the URL are not accepted; use OTEL_EXPORTER_OTLP_HEADERS"));
            return None;
        }
        let own = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = match (protocol, path) {
            (ExportProtocol::Grpc, Some(path)) => path.to_owned(),
            (_, Some(path)) => format!("{}{path}", own.trim_end_matches('/')),
            (_, None) => own.to_owned(),
        };
        let full = Uri::from_str(&format!("http://{authority}{path}")).ok();
        if let Some(full) = &full {
            self.setting(name, full, true);
        }
        full
    }

    fn headers(&mut self) -> HeaderMap {
        let names = ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"];
        let found = names.into_iter().find_map(|name| Some((name, self.value(name)?.to_owned())));
        let Some((name, text)) = found else {
            self.setting(names[1], "", false);
            return HeaderMap::new();
        };
        let mut headers = HeaderMap::new();
        for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
            let parsed = pair.split_once('=').and_then(|(key, value)| {
                let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
                let mut value = HeaderValue::from_str(&value).ok()?;
                value.set_sensitive(true);
                Some((HeaderName::from_bytes(key.trim().as_bytes()).ok()?, value))
            });
            match parsed {
                Some((key, value)) => _ = headers.append(key, value),
                // The value may be a credential: it is not repeated.
                None => self.warnings.push(format!("{name}: a member is not key=value; it is left out")),
            }
        }
        let shown: Vec<_> = headers.keys().map(|key| format!("{key}=(hidden)")).collect();
        self.setting(name, shown.join(","), true);
        headers
    }
}

impl fmt::Display for ExportProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ExportProtocol::Grpc => "grpc",
            ExportProtocol::HttpProtobuf => "http/protobuf",
        })
    }
}

const GRPC_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
