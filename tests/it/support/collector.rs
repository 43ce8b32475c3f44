//! A collector that we did not write (rotel), and behind it the test's own OTLP endpoint, which keeps what arrives.

use std::convert::Infallible;
use std::io::Read;
use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::{HistogramDataPoint, Metric, metric::Data};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use super::{GUARD, Netns, Process, python, until};

#[derive(Debug)]
pub(crate) struct Collector {
    world: Netns,
    address: String,
    sink: String,
    rotel: Option<Process>,
    kept: Arc<(Mutex<Kept>, Condvar)>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Debug, Default)]
struct Kept {
    spans: Vec<(Resource, Span)>,
    resources: Vec<Resource>,
    metrics: Vec<(Resource, Metric)>,
    logs: Vec<(Resource, LogRecord)>,
    authorization: Vec<String>,
}

impl Collector {
    /// Listens on 4317 (gRPC) and 4318 (HTTP) of `address`.
    pub(crate) fn start(world: &Netns, address: &str) -> Self {
        let mut collector = Self::behind(world, address);
        collector.start_rotel();
        collector
    }

    /// The test's own endpoint alone, for a rotel that runs elsewhere.
    pub(crate) fn behind(world: &Netns, address: &str) -> Self {
        let listener = {
            let any = format!("{address}:0");
            world.enter(move || TcpListener::bind(any).unwrap())
        };
        let sink = listener.local_addr().unwrap().to_string();
        let kept = Arc::<(Mutex<Kept>, Condvar)>::default();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(endpoint(listener, kept.clone()));
        Self { world: world.clone(), address: address.to_owned(), sink, rotel: None, kept, _runtime: runtime }
    }

    pub(crate) fn start_rotel(&mut self) {
        let mut find = Command::new(python());
        find.args(["-c", "import importlib.util as u, pathlib as p; print(p.Path(u.find_spec('rotel').origin).with_name('rotel-agent'))"]);
        let found = find.output().unwrap();
        assert!(found.status.success(), "rotel is missing: `make tools` installs it");
        let mut command = Command::new(String::from_utf8(found.stdout).unwrap().trim());
        command.args(["start", "--exporter", "otlp", "--otlp-exporter-protocol", "http"]);
        command.args(["--batch-timeout", "100ms"]);
        command.arg("--otlp-exporter-endpoint").arg(format!("http://{}", self.sink));
        command.arg("--otlp-grpc-endpoint").arg(format!("{}:4317", self.address));
        command.arg("--otlp-http-endpoint").arg(format!("{}:4318", self.address));
        let rotel = Process::start("rotel", &self.world, command);
        for port in [4317, 4318] {
            let address = format!("{}:{port}", self.address);
            until("the collector listens", || {
                let address = address.clone();
                self.world.enter(move || std::net::TcpStream::connect(address).is_ok())
            });
        }
        self.rotel = Some(rotel);
    }

    /// Ends rotel; what it holds is forwarded first.
    pub(crate) fn stop_rotel(&mut self) {
        if let Some(mut rotel) = self.rotel.take() {
            rotel.terminate();
        }
    }

    /// Kills rotel.
    pub(crate) fn kill_rotel(&mut self) {
        self.rotel = None;
    }

    /// Waits for this many spans.
    pub(crate) fn wait_for_spans(&self, count: usize) {
        let deadline = Instant::now() + GUARD;
        let (lock, changed) = &*self.kept;
        let mut kept = lock.lock().unwrap();
        while kept.spans.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} of {count} spans arrived: {:#?}", kept.spans.len(), kept.spans);
            kept = changed.wait_timeout(kept, left).unwrap().0;
        }
    }

    /// What has arrived, in the order of the calls' starts.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.resourced_spans().into_iter().map(|(_, span)| span).collect()
    }

    /// The same, each with its resource.
    pub(crate) fn resourced_spans(&self) -> Vec<(Resource, Span)> {
        let mut spans = self.kept.0.lock().unwrap().spans.clone();
        spans.sort_by_key(|(_, span)| span.start_time_unix_nano);
        spans
    }

    /// The test's own endpoint, for a sidecar that exports to it without rotel.
    pub(crate) fn own_endpoint(&self) -> String {
        format!("http://{}", self.sink)
    }

    /// The points of a histogram, from all exports that have arrived, each with its resource.
    pub(crate) fn histogram(&self, name: &str) -> Vec<(Resource, HistogramDataPoint)> {
        let kept = self.kept.0.lock().unwrap();
        let found = kept.metrics.iter().filter(|(_, metric)| metric.name == name);
        found
            .flat_map(|(resource, metric)| match metric.data.clone().unwrap() {
                Data::Histogram(histogram) => histogram.data_points.into_iter().map(|point| (resource.clone(), point)),
                other => panic!("{name} is {other:?}"),
            })
            .collect()
    }

    /// Log records, each with its resource.
    pub(crate) fn logs(&self) -> Vec<(Resource, LogRecord)> {
        self.kept.0.lock().unwrap().logs.clone()
    }

    /// Everything that has arrived, to be searched.
    pub(crate) fn everything(&self) -> String {
        format!("{:?}", self.kept.0.lock().unwrap())
    }

    /// The credentials that came with spans to the test's own endpoint.
    pub(crate) fn authorization(&self) -> Vec<String> {
        self.kept.0.lock().unwrap().authorization.clone()
    }

    pub(crate) fn resources(&self) -> Vec<Resource> {
        self.kept.0.lock().unwrap().resources.clone()
    }
}

/// An attribute's value.
pub(crate) fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    let mut found = attributes.iter().filter(|attribute| attribute.key == key);
    let value = found.next()?.value.as_ref()?.value.as_ref();
    assert!(found.next().is_none(), "{key} twice");
    value
}

/// A string attribute, empty if there is none.
pub(crate) fn text<'a>(span: &'a Span, key: &str) -> &'a str {
    match attribute(&span.attributes, key) {
        Some(Value::StringValue(text)) => text,
        None => "",
        Some(other) => panic!("{key} is {other:?}"),
    }
}

/// An integer attribute.
pub(crate) fn integer(span: &Span, key: &str) -> Option<i64> {
    match attribute(&span.attributes, key) {
        Some(Value::IntValue(number)) => Some(*number),
        None => None,
        Some(other) => panic!("{key} is {other:?}"),
    }
}

fn gunzip(body: &[u8]) -> Bytes {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(body).read_to_end(&mut plain).unwrap();
    plain.into()
}

async fn endpoint(listener: TcpListener, kept: Arc<(Mutex<Kept>, Condvar)>) {
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let kept = kept.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let kept = kept.clone();
            async move {
                let gzip = request.headers().get("content-encoding").is_some_and(|encoding| encoding == "gzip");
                let authorization = request.headers().get("authorization").cloned();
                let metrics = request.uri().path().ends_with("/metrics");
                let logs = request.uri().path().ends_with("/logs");
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let body = if gzip { gunzip(&body) } else { body };
                let (lock, changed) = &*kept;
                let mut kept = lock.lock().unwrap();
                if metrics {
                    for group in ExportMetricsServiceRequest::decode(body).unwrap().resource_metrics {
                        let resource = group.resource.unwrap_or_default();
                        let found = group.scope_metrics.into_iter().flat_map(|scope| scope.metrics);
                        kept.metrics.extend(found.map(|metric| (resource.clone(), metric)));
                    }
                    return Ok(Response::new(Full::new(Bytes::new())));
                }
                if logs {
                    for group in ExportLogsServiceRequest::decode(body).unwrap().resource_logs {
                        let resource = group.resource.unwrap_or_default();
                        let found = group.scope_logs.into_iter().flat_map(|scope| scope.log_records);
                        kept.logs.extend(found.map(|record| (resource.clone(), record)));
                    }
                    return Ok(Response::new(Full::new(Bytes::new())));
                }
                let batch = ExportTraceServiceRequest::decode(body).unwrap();
                kept.authorization.extend(authorization.map(|value| value.to_str().unwrap().to_owned()));
                for group in batch.resource_spans {
                    let resource = group.resource.clone().unwrap_or_default();
                    kept.resources.extend(group.resource);
                    let spans = group.scope_spans.into_iter().flat_map(|scope| scope.spans);
                    kept.spans.extend(spans.map(|span| (resource.clone(), span)));
                }
                changed.notify_all();
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
            }
        });
        tokio::spawn(async move {
            // rotel may close when it likes.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
