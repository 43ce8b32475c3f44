//! The configuration as the modules take it: every field has a value, none is read from the environment here.
//! [`assembly`] makes it.

pub mod assembly;
pub mod rules;

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Uri};
use opentelemetry::KeyValue;

use self::rules::Rules;
use crate::trace::propagation::Propagators;
use crate::trace::sampler::Sampler;

/// Everything that `sidetrace proxy` is set to.
#[derive(Clone, Debug)]
pub struct Config {
    /// The port that outbound traffic is redirected to, on loopback.
    pub outbound_port: u16,
    /// The port that inbound traffic is redirected to.
    pub inbound_port: u16,
    /// Health and Prometheus, on every address of the pod.
    pub health_port: u16,
    /// Where the admin socket is, if there is one.
    pub admin_socket: Option<PathBuf>,
    /// Whether the pod may end us through the health port.
    pub quit_endpoint: bool,
    /// The memory that we may use, where it is not to be the control group's.
    pub memory_limit: Option<u64>,
    /// Ports of ours that are refused as a destination on local addresses.
    pub own_ports: Vec<u16>,
    /// The uid that iptables exempts.
    pub uid: u32,
    /// `SO_MARK` of our own connections, where iptables exempts by mark.
    pub mark: Option<u32>,
    /// Worker threads of the data plane.
    pub workers: usize,
    /// How long we go on as before after SIGTERM.
    pub termination_delay: Duration,
    /// How long calls under way may take after that.
    pub drain_timeout: Duration,
    /// How long the last spans may take to be delivered then.
    pub flush_timeout: Duration,
    /// Our own log.
    pub log: Log,
    /// Whether and how TLS is intercepted.
    pub tls: Tls,
    /// `OTEL_SDK_DISABLED` is not set: calls are recorded and carry our context.
    pub enabled: bool,
    /// Where spans go in the backend `default`.
    pub export: Option<Export>,
    /// Where metrics of calls go there.
    pub metrics_export: Option<MetricsExport>,
    /// Where events with what was said in calls go there.
    pub logs_export: Option<Export>,
    /// How spans are gathered.
    pub batch: Batch,
    /// LLM and MCP calls.
    pub genai: GenAi,
    /// `OTEL_PROPAGATORS`.
    pub propagators: Propagators,
    /// `OTEL_TRACES_SAMPLER`.
    pub sampler: Sampler,
    /// The observed workload.
    pub resource: Vec<KeyValue>,
    /// The file that the rules came from; it is watched.
    pub rules_file: Option<PathBuf>,
    /// What is recorded, captured, propagated and trusted, at the start.
    pub rules: Rules,
}

/// Our own log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Directives of `tracing_subscriber`'s `EnvFilter`.
    pub filter: String,
    /// JSON lines instead of text.
    pub json: bool,
}

/// Whether and how TLS is intercepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Whether it is, where no rule says otherwise.
    pub intercept: bool,
    /// Where the files are written that make the agent trust us.
    pub trust_dir: Option<PathBuf>,
    /// Who signs our certificates.
    pub authority: AuthoritySource,
    /// Authorities that are trusted beside the system's, for any name.
    pub extra_roots: Option<PathBuf>,
}

/// Who signs our certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AuthoritySource {
    /// An authority of our own, which dies with the process.
    #[default]
    Memory,
    /// The same, kept in this file on a memory volume, so that a restart keeps the agent's trust.
    State(PathBuf),
    /// An authority of somebody else's, read again when its files change.
    Mounted {
        /// Its certificate and those above it, PEM.
        certificate: PathBuf,
        /// Its key, PEM.
        key: PathBuf,
        /// How long a new one is published before it signs.
        overlap: Duration,
    },
}

/// LLM and MCP calls: what is written of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GenAi {
    /// Whether messages are captured, and where they go.
    pub capture: Capture,
    /// The most bytes of one attribute of content.
    pub max_content: usize,
    /// Which generation of metric names is used.
    pub metrics: MetricNames,
}

impl Default for GenAi {
    fn default() -> Self {
        Self { capture: Capture::default(), max_content: 16 * 1024, metrics: MetricNames::default() }
    }
}

impl GenAi {
    /// Whether messages are captured.
    pub fn captures(&self) -> bool {
        self.capture != Capture::NoContent
    }
}

/// Where captured messages go; `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Capture {
    /// Nowhere: they are not captured.
    #[default]
    NoContent,
    /// Into span attributes.
    SpanOnly,
    /// Into events.
    EventOnly,
    /// Both.
    SpanAndEvent,
}

impl Capture {
    /// Whether content goes into span attributes.
    pub fn has_spans(self) -> bool {
        matches!(self, Capture::SpanOnly | Capture::SpanAndEvent)
    }

    /// Whether content goes into events.
    pub fn has_events(self) -> bool {
        matches!(self, Capture::EventOnly | Capture::SpanAndEvent)
    }
}

/// Generations of GenAI metric names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetricNames {
    /// `gen_ai.client.operation.duration`, `gen_ai.client.token.usage`: what dashboards and SDKs use.
    #[default]
    Old,
    /// `gen_ai.client.inference.*`
    New,
    /// Both.
    Both,
}

/// A backend that speaks OTLP.
#[derive(Clone, PartialEq, Eq)]
pub struct Export {
    /// The full address, path included.
    pub endpoint: Uri,
    /// How it is spoken to.
    pub protocol: ExportProtocol,
    /// Sent with every request; may hold credentials.
    pub headers: HeaderMap,
    /// The longest that one try may take.
    pub timeout: Duration,
    /// How bodies are compressed, if at all.
    pub compression: Option<Compression>,
    /// Whom an `https` backend has to prove to be, and who we are.
    pub tls: TlsFiles,
    /// Its content is the bearer token of every request.
    pub token_file: Option<PathBuf>,
    /// The way to the backend, if not direct.
    pub proxy: Option<HttpProxy>,
}

impl std::fmt::Debug for Export {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.headers.keys().collect();
        f.debug_struct("Export")
            .field("endpoint", &self.endpoint)
            .field("protocol", &self.protocol)
            .field("header_names", &names)
            .field("proxy", &self.proxy)
            .finish_non_exhaustive()
    }
}

/// How the metrics of calls are exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsExport {
    /// Where to.
    pub export: Export,
    /// How often.
    pub interval: Duration,
    /// The longest that one export may take, all its tries together.
    pub timeout: Duration,
    /// What the numbers count.
    pub temporality: Temporality,
}

/// What exported numbers count; `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temporality {
    /// Everything since the start.
    Cumulative,
    /// What came since the export before.
    Delta,
    /// The same for all that we have, which are counters and histograms.
    LowMemory,
}

/// `OTEL_EXPORTER_OTLP_PROTOCOL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportProtocol {
    /// `grpc`
    Grpc,
    /// `http/protobuf`
    HttpProtobuf,
}

/// `OTEL_EXPORTER_OTLP_COMPRESSION`, as it is named on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// `gzip`
    Gzip,
    /// `zstd`
    Zstd,
}

impl Compression {
    /// The name of the content coding, in HTTP and in gRPC.
    pub fn name(self) -> &'static str {
        match self {
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        }
    }
}

/// PEM files for TLS with a backend. They may be replaced while they are in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the authorities that the backend may be certified by, instead of the system's.
    pub authorities: Option<PathBuf>,
    /// Our own certificate chain, and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// An HTTP proxy between us and a backend.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpProxy {
    /// Name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// `proxy-authorization`.
    pub authorization: Option<HeaderValue>,
}

impl std::fmt::Debug for HttpProxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpProxy").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

/// `OTEL_BSP_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// How long spans gather before a batch leaves.
    pub schedule_delay: Duration,
    /// The most spans that wait for delivery, those under way included.
    pub max_queue_size: usize,
    /// The most spans in one request.
    pub max_export_batch_size: usize,
}
