//! `OTEL_EXPORTER_OTLP_*` -> the backend `default`. Each signal has variables of its own before those for all: a line each.

mod proxy;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use percent_encoding::percent_decode_str;

use super::genai::CAPTURE;
use super::{Reader, Shown, parse, parse_bool};
use crate::config::{Capture, Compression, Export, ExportProtocol, TlsFiles};

/// One kind of telemetry: how the variables of its export are called, and where it goes at a backend.
pub(super) struct Signal {
    exporter: &'static str,
    endpoint: Names,
    protocol: Names,
    insecure: Names,
    headers: Names,
    timeout: Names,
    compression: Names,
    certificate: Names,
    client_certificate: Names,
    client_key: Names,
    /// As messages name it.
    what: &'static str,
    /// Behind a base address.
    path: &'static str,
    grpc_path: &'static str,
}

/// The signal's own variable, then the one for all.
type Names = [&'static str; 2];

macro_rules! signal {
    ($name:literal, $service:literal, $what:literal, $path:literal) => {
        Signal {
            exporter: concat!("OTEL_", $name, "_EXPORTER"),
            endpoint: names!($name, "ENDPOINT"),
            protocol: names!($name, "PROTOCOL"),
            insecure: names!($name, "INSECURE"),
            headers: names!($name, "HEADERS"),
            timeout: names!($name, "TIMEOUT"),
            compression: names!($name, "COMPRESSION"),
            certificate: names!($name, "CERTIFICATE"),
            client_certificate: names!($name, "CLIENT_CERTIFICATE"),
            client_key: names!($name, "CLIENT_KEY"),
            what: $what,
            path: $path,
            grpc_path: concat!("/opentelemetry.proto.collector.", $service, "/Export"),
        }
    };
}

macro_rules! names {
    ($signal:literal, $name:literal) => {
        [concat!("OTEL_EXPORTER_OTLP_", $signal, "_", $name), concat!("OTEL_EXPORTER_OTLP_", $name)]
    };
}

const TRACES: Signal = signal!("TRACES", "trace.v1.TraceService", "spans", "/v1/traces");
pub(super) const METRICS: Signal = signal!("METRICS", "metrics.v1.MetricsService", "metrics", "/v1/metrics");
const LOGS: Signal = signal!("LOGS", "logs.v1.LogsService", "events", "/v1/logs");

impl Reader {
    /// Where spans go. One try may take as long as the exporter's timeout and the processor's both allow. There is no bound
    /// on all tries together: a batch is tried until it is taken, and the queue bounds the memory.
    pub(super) fn traces_export(&mut self, own_ports: &[u16]) -> Option<Export> {
        let export = self.export(&TRACES, own_ports);
        let longest = self.limit(&["OTEL_BSP_EXPORT_TIMEOUT"], 30_000);
        export.map(|export| Export { timeout: export.timeout.min(longest), ..export })
    }

    /// Where events go, where there are any: without them nobody needs a backend for logs.
    pub(super) fn logs_export(&mut self, capture: Capture, own_ports: &[u16]) -> Option<Export> {
        if !capture.has_events() {
            return None;
        }
        let export = self.export(&LOGS, own_ports);
        if export.is_none() {
            self.warnings.push(format!("{CAPTURE}: {capture}, but there is no backend for events: they are dropped"));
        }
        export
    }

    /// Where one signal goes in the backend `default`: only if an endpoint is named. `own_ports` are where it cannot be.
    pub(super) fn export(&mut self, signal: &Signal, own_ports: &[u16]) -> Option<Export> {
        let otlp = self.exporter(signal.exporter);
        let protocol =
            self.otel(&signal.protocol, ExportProtocol::HttpProtobuf, "grpc or http/protobuf", |text| match text {
                "grpc" => Some(ExportProtocol::Grpc),
                "http/protobuf" => Some(ExportProtocol::HttpProtobuf),
                _ => None,
            });
        let timeout = self.limit(&signal.timeout, 10_000);
        let compression = self.otel(&signal.compression, Coding(None), "none, gzip or zstd", |text| match text {
            "none" => Some(Coding(None)),
            "gzip" => Some(Coding(Some(Compression::Gzip))),
            "zstd" => Some(Coding(Some(Compression::Zstd))),
            _ => None,
        });
        let headers = self.headers(&signal.headers);
        let token_file = self.token_file(&headers);
        let tls = self.tls_files(signal);
        let endpoint = self.endpoint(signal, protocol)?;
        let proxy = self.export_proxy(&endpoint);
        if !otlp {
            return None;
        }
        self.refuse_ourselves(&endpoint, own_ports, "telemetry would be exported to");
        if let Some(proxy) = &proxy {
            self.refuse_ourselves(&proxy.uri(), own_ports, "telemetry would be exported through");
        }
        let compression = compression.0;
        Some(Export { endpoint, protocol, headers, timeout, compression, tls, token_file, proxy })
    }

    /// A list by the specification ("Exporter Selection"). Of what it may name we have `otlp`.
    fn exporter(&mut self, name: &'static str) -> bool {
        let text = self.value(name).unwrap_or_default().to_owned();
        let members: Vec<_> = text.split(',').map(str::trim).filter(|member| !member.is_empty()).collect();
        let otlp = members.contains(&"otlp");
        for member in &members {
            match *member {
                "otlp" => {}
                "none" if !otlp => {}
                "none" => self.warnings.push(format!("{name}: none beside otlp: none is left out")),
                "console" | "logging" | "zipkin" | "jaeger" | "prometheus" => {
                    self.warnings.push(format!("{name}: {member} is not supported; it is left out"));
                }
                other => {
                    self.warnings.push(format!("{name}: {other:?} is not otlp or none; the default holds: otlp"));
                    self.setting(name, "otlp", false);
                    return true;
                }
            }
        }
        let on = otlp || members.is_empty();
        self.setting(name, if on { "otlp" } else { "none" }, !members.is_empty());
        on
    }

    /// A time in milliseconds, of which 0 is no limit (OpenTelemetry configuration data model, "timeout").
    pub(super) fn limit(&mut self, names: &[&'static str], default: u64) -> Duration {
        let accepted = "a number of milliseconds (0: no limit)";
        self.otel(names, Limit(default), accepted, |text| parse::<u64>(text).map(Limit)).into()
    }

    /// A signal's own endpoint is used as it is; the general one is a base for HTTP (OTLP exporter specification,
    /// "Endpoint URLs for OTLP/HTTP").
    fn endpoint(&mut self, signal: &Signal, protocol: ExportProtocol) -> Option<Uri> {
        let names = signal.endpoint;
        let insecure = self.otel(&signal.insecure, false, "true or false", parse_bool);
        let found = names.into_iter().find_map(|name| Some((name, self.value(name)?.to_owned())));
        let Some((name, text)) = found else {
            self.setting(names[1], format!("(none: {} are not exported)", signal.what), false);
            return None;
        };
        // A scheme always wins. Without one gRPC is secure unless told otherwise; HTTP should have one.
        let assumed = if protocol == ExportProtocol::Grpc && !insecure { "https" } else { "http" };
        let base = if text.contains("://") { text.clone() } else { format!("{assumed}://{text}") };
        let path = match (protocol, name == names[0]) {
            (ExportProtocol::Grpc, _) => Some(signal.grpc_path),
            (ExportProtocol::HttpProtobuf, false) => Some(signal.path),
            (ExportProtocol::HttpProtobuf, true) => None,
        };
        if text.contains('@') {
            self.problems
                .push(format!("{name}: credentials in the URL are not accepted; use OTEL_EXPORTER_OTLP_HEADERS"));
            return None;
        }
        let uri = Uri::from_str(&base).ok().filter(|uri| uri.host().is_some_and(|host| !host.is_empty()));
        let Some(uri) = uri else {
            self.problems.push(format!("{name}: {text:?} is not a URL such as http://collector:4318"));
            return None;
        };
        let scheme = uri.scheme_str().unwrap_or_default();
        if !matches!(scheme, "http" | "https") {
            self.problems.push(format!("{name}: the scheme {scheme:?} is not known; accepted: http, https"));
            return None;
        }
        let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        let own = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = match (protocol, path) {
            (ExportProtocol::Grpc, Some(path)) => path.to_owned(),
            (_, Some(path)) => format!("{}{path}", own.trim_end_matches('/')),
            (_, None) => own.to_owned(),
        };
        let full = Uri::from_str(&format!("{scheme}://{authority}{path}")).ok();
        if let Some(full) = &full {
            self.setting(name, full, true);
        }
        full
    }

    fn headers(&mut self, names: &Names) -> HeaderMap {
        let found = names.iter().find_map(|name| Some((*name, self.value(name)?.to_owned())));
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

    fn token_file(&mut self, headers: &HeaderMap) -> Option<PathBuf> {
        let name = "SIDETRACE_EXPORT_TOKEN_FILE";
        let path = self.own(name, Shown(None), "a path", |text| Some(Shown(Some(text.to_owned()))));
        if path.0.is_some() && headers.contains_key(header::AUTHORIZATION) {
            self.problems
                .push(format!("{name}: OTEL_EXPORTER_OTLP_HEADERS has an authorization already; keep one of them"));
        }
        path.0.map(PathBuf::from)
    }

    /// What is in the files is looked at when a connection is made: they may not be there yet, and they change.
    fn tls_files(&mut self, signal: &Signal) -> TlsFiles {
        let mut file = |names: &Names| {
            let path = self.otel(names, Shown(None), "a path", |text| Some(Shown(Some(text.to_owned()))));
            path.0.map(PathBuf::from)
        };
        let authorities = file(&signal.certificate);
        let (certificate, key) = (&signal.client_certificate, &signal.client_key);
        let client = match (file(certificate), file(key)) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => {
                self.problems.push(format!("{}: is needed with {}", key[1], certificate[1]));
                None
            }
            (None, Some(_)) => {
                self.problems.push(format!("{}: is needed with {}", certificate[1], key[1]));
                None
            }
        };
        TlsFiles { authorities, client }
    }

    /// Our own listeners take no telemetry: such an export would be a loop.
    fn refuse_ourselves(&mut self, to: &Uri, own_ports: &[u16], what: &str) {
        let port = to.port_u16().unwrap_or(if to.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 });
        if to.host().is_some_and(is_loopback) && own_ports.contains(&port) {
            self.problems
                .push(format!("OTEL_EXPORTER_OTLP_ENDPOINT: {what} port {port} of this host, which is our own"));
        }
    }
}

/// This host by a name or address that every host has.
fn is_loopback(host: &str) -> bool {
    let host = bare(host);
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    host.parse::<IpAddr>().map_or(name == "localhost" || name.ends_with(".localhost"), |address| {
        let address = address.to_canonical();
        address.is_loopback() || address.is_unspecified()
    })
}

/// Without the brackets of an IPv6 address.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

impl fmt::Display for ExportProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ExportProtocol::Grpc => "grpc",
            ExportProtocol::HttpProtobuf => "http/protobuf",
        })
    }
}

struct Coding(Option<Compression>);

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.map_or("none", Compression::name))
    }
}

struct Limit(u64);

impl From<Limit> for Duration {
    fn from(limit: Limit) -> Self {
        if limit.0 == 0 { Duration::MAX } else { Duration::from_millis(limit.0) }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Assembled, Problems, assemble};
    use super::*;

    type Variables<'a> = &'a [(&'a str, &'a str)];

    fn with(pairs: &[(&str, &str)]) -> Result<Assembled, Problems> {
        let variables = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assemble(variables, |_| Err(std::io::ErrorKind::NotFound.into()))
    }

    /// A backend, with these variables beside its endpoint.
    fn export(pairs: &[(&str, &str)]) -> (Option<Export>, Vec<String>) {
        let all = [&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318")], pairs].concat();
        let assembled = with(&all).unwrap();
        (assembled.config.export, assembled.warnings)
    }

    #[test]
    fn events_go_where_spans_go_unless_told_otherwise_and_only_where_content_is_captured_for_them() {
        let general = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/base");
        let (events, spans) = ((CAPTURE, "EVENT_ONLY"), (CAPTURE, "SPAN_ONLY"));
        let table: [(Variables<'_>, Option<&str>, usize); 9] = [
            (&[general, events], Some("http://c:4318/base/v1/logs"), 0),
            (&[general, (CAPTURE, "SPAN_AND_EVENT")], Some("http://c:4318/base/v1/logs"), 0),
            (&[general, events, ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://l:1/as/is")], Some("http://l:1/as/is"), 0),
            (
                &[general, events, ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "grpc")],
                Some("http://c:4318/opentelemetry.proto.collector.logs.v1.LogsService/Export"),
                0,
            ),
            (&[general], None, 0),
            (&[general, spans, ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "pigeon")], None, 0),
            (&[events], None, 1),
            (&[general, events, ("OTEL_LOGS_EXPORTER", "none")], None, 1),
            (&[general, events, ("OTEL_SDK_DISABLED", "true")], None, 0),
        ];
        for (variables, expected, warnings) in table {
            let found = with(variables).unwrap();
            let endpoint = found.config.logs_export.map(|export| export.endpoint.to_string());
            assert_eq!((endpoint.as_deref(), found.warnings.len()), (expected, warnings), "{variables:?}");
        }
    }

    #[test]
    fn endpoints_are_put_together_as_the_specification_says() {
        let table: [(Variables<'_>, &str); 12] = [
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318")], "http://c:4318/v1/traces"),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/base/")], "http://c:4318/base/v1/traces"),
            (&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:4318/as/is")], "http://c:4318/as/is"),
            (&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:4318")], "http://c:4318/"),
            (
                &[
                    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:1"),
                    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://b:2/x"),
                ],
                "http://b:2/x",
            ),
            (
                &[
                    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[fd00::1]:4317/ignored"),
                    ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
                ],
                "http://[fd00::1]:4317/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            ),
            (
                &[("OTEL_EXPORTER_OTLP_ENDPOINT", "c:4317"), ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")],
                "https://c:4317/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            ),
            (
                &[
                    ("OTEL_EXPORTER_OTLP_ENDPOINT", "c:4317"),
                    ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
                    ("OTEL_EXPORTER_OTLP_INSECURE", "true"),
                ],
                "http://c:4317/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            ),
            (
                &[
                    ("OTEL_EXPORTER_OTLP_ENDPOINT", "c:4317"),
                    ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
                    ("OTEL_EXPORTER_OTLP_INSECURE", "true"),
                    ("OTEL_EXPORTER_OTLP_TRACES_INSECURE", "false"),
                ],
                "https://c:4317/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            ),
            (
                // A scheme wins.
                &[
                    ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c"),
                    ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
                    ("OTEL_EXPORTER_OTLP_INSECURE", "true"),
                ],
                "https://c/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            ),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c")], "https://c/v1/traces"),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "c:4318")], "http://c:4318/v1/traces"),
        ];
        for (variables, expected) in table {
            assert_eq!(with(variables).unwrap().config.export.unwrap().endpoint, expected);
        }
        for bad in ["http://", "ftp://c", "not a url", "http://user:secret@c", "user:secret@c d"] {
            let problems = with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", bad)]).unwrap_err();
            assert!(!problems.to_string().contains("secret"), "{problems}");
        }
        for off in [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")] {
            assert_eq!(with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"), off]).unwrap().config.export, None);
        }
    }

    #[test]
    fn export_headers_are_decoded_and_never_shown() {
        let assembled = with(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20s3cret, x-tenant = a , broken"),
        ])
        .unwrap();
        let export = assembled.config.export.as_ref().unwrap();
        assert_eq!(export.headers["authorization"], "Bearer s3cret");
        assert_eq!(export.headers["x-tenant"], "a");
        assert_eq!(assembled.warnings.len(), 1);
        assert!(!format!("{assembled:?}").contains("s3cret"));
    }

    #[test]
    fn the_list_of_exporters_needs_otlp_in_it() {
        let table = [("otlp", true, 0), (" otlp , none", true, 1), ("none", false, 0), ("console", false, 1)];
        let more =
            [("otlp,console", true, 1), ("oltp", true, 1), ("none,oltp", true, 1), (",", true, 0), ("", true, 0)];
        for (value, on, warned) in table.into_iter().chain(more) {
            let (export, warnings) = export(&[("OTEL_TRACES_EXPORTER", value)]);
            assert_eq!((export.is_some(), warnings.len()), (on, warned), "{value:?} {warnings:?}");
        }
    }

    #[test]
    fn a_try_may_take_the_smaller_of_both_timeouts_and_zero_is_none() {
        let table = [
            ("", "", 10_000),
            ("40000", "", 30_000),
            ("2000", "1000", 1_000),
            ("0", "", 30_000),
            ("0", "5", 5),
            ("x", "-1", 10_000),
        ];
        for (exporter, processor, expected) in table {
            let (export, warnings) =
                export(&[("OTEL_EXPORTER_OTLP_TIMEOUT", exporter), ("OTEL_BSP_EXPORT_TIMEOUT", processor)]);
            assert_eq!(export.unwrap().timeout, Duration::from_millis(expected), "{exporter:?} {processor:?}");
            assert_eq!(warnings.len(), if exporter == "x" { 2 } else { 0 });
        }
        let none = [("OTEL_EXPORTER_OTLP_TIMEOUT", "0"), ("OTEL_BSP_EXPORT_TIMEOUT", "0")];
        assert_eq!(export(&none).0.unwrap().timeout, Duration::MAX);
    }

    #[test]
    fn a_signals_own_variables_win() {
        let (export, warnings) = export(&[
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "zstd"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/a"),
            ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "/b"),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/c"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/d"),
            ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "/e"),
        ]);
        let export = export.unwrap();
        assert_eq!(export.compression, Some(Compression::Zstd));
        assert_eq!(export.tls.authorities, Some("/b".into()));
        assert_eq!(export.tls.client, Some(("/c".into(), "/e".into())));
        assert_eq!(warnings, [""; 0]);
        let (export, warnings) = self::export(&[("OTEL_EXPORTER_OTLP_COMPRESSION", "deflate")]);
        assert_eq!((export.unwrap().compression, warnings.len()), (None, 1));
    }

    #[test]
    fn what_cannot_go_together_stops_the_start() {
        let table: [(Variables<'_>, &str); 8] = [
            (&[("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/c")], "OTEL_EXPORTER_OTLP_CLIENT_KEY"),
            (&[("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "/k")], "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"),
            (
                &[("SIDETRACE_EXPORT_TOKEN_FILE", "/t"), ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=secret")],
                "SIDETRACE_EXPORT_TOKEN_FILE",
            ),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:15101")], "our own"),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.8.8.8:15120")], "our own"),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[::1]:9"), ("SIDETRACE_INBOUND_PORT", "9")], "our own"),
            (
                &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"), ("HTTP_PROXY", "http://me:secret@localhost:15107")],
                "through port 15107",
            ),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c"), ("HTTPS_PROXY", "socks5://me:secret@p")], "HTTPS_PROXY"),
        ];
        for (variables, expected) in table {
            let problems = with(variables).unwrap_err().to_string();
            assert!(problems.contains("1 problem") && problems.contains(expected), "{expected}: {problems}");
            assert!(!problems.contains("secret"), "{problems}");
        }
        let elsewhere = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://10.0.0.1:15101")];
        assert!(with(&elsewhere).unwrap().config.export.is_some());
    }

    #[test]
    fn a_proxy_is_chosen_by_scheme_and_exception() {
        let table: [(&str, Variables<'_>, Option<u16>); 11] = [
            ("http://c", &[("HTTP_PROXY", "p:1")], Some(1)),
            ("http://c", &[("HTTP_PROXY", "p:1"), ("http_proxy", "p:2")], Some(2)),
            ("http://c", &[("HTTP_PROXY", "p:1"), ("REQUEST_METHOD", "GET")], None),
            ("http://c", &[("http_proxy", "p:1"), ("REQUEST_METHOD", "GET")], Some(1)),
            ("http://c", &[("HTTPS_PROXY", "p:1")], None),
            ("https://c", &[("HTTPS_PROXY", "p:1"), ("HTTP_PROXY", "p:2")], Some(1)),
            ("https://c", &[("https_proxy", "p:1"), ("REQUEST_METHOD", "GET")], Some(1)),
            ("https://c", &[("ALL_PROXY", "p:1")], Some(1)),
            ("https://c.d", &[("ALL_PROXY", "p:1"), ("NO_PROXY", "d")], None),
            ("https://[fd00::1]", &[("ALL_PROXY", "p:1"), ("no_proxy", "fd00::/8")], None),
            ("http://localhost:4318", &[("ALL_PROXY", "p:1")], None),
        ];
        for (endpoint, variables, expected) in table {
            let all = [&[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)], variables].concat();
            let export = with(&all).unwrap().config.export.unwrap();
            assert_eq!(export.proxy.map(|proxy| proxy.port), expected, "{endpoint} {variables:?}");
        }
        let secret = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"), ("ALL_PROXY", "http://me:secret@p:1")];
        let assembled = with(&secret).unwrap();
        assert!(!format!("{assembled:?}").contains("secret"));
        assert!(assembled.settings.iter().any(|setting| setting.value == "http://p:1/"), "{:?}", assembled.settings);
    }
}
