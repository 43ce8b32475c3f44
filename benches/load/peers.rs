//! Who is measured, and how each is set up: one worker on core 0, behind the redirect, as the one user it exempts.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use super::cost::on_core;
use super::it::support::{Process, full_uid_map, until};
use super::origins::SINK;
use super::world::{ADDRESS, Agent};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// No proxy and no rules. Client and server share one core: its throughput is no ceiling.
    Direct,
    /// A relay that only copies: the floor.
    Relay,
    /// The floor for what parses HTTP; no tracing.
    HaproxyHttp,
    /// Writes headers, exports nothing.
    SidecarOff,
    /// Every span exported.
    SidecarOn,
    EnvoyOff,
    /// Every span exported, in batches of 512: its best case.
    EnvoyOn,
}

/// What a load speaks; haproxy must be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// The sidecar's last log line.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) created: u64,
    pub(crate) exported: u64,
    pub(crate) lost: u64,
    pub(crate) line: String,
}

impl Peer {
    pub(crate) const ALL: [Self; 7] = [
        Self::Direct,
        Self::Relay,
        Self::HaproxyHttp,
        Self::SidecarOff,
        Self::SidecarOn,
        Self::EnvoyOff,
        Self::EnvoyOn,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Relay => "relay",
            Self::HaproxyHttp => "haproxy-http",
            Self::SidecarOff => "sidecar-off",
            Self::SidecarOn => "sidecar-on",
            Self::EnvoyOff => "envoy-off",
            Self::EnvoyOn => "envoy-on",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Direct => "direct, no proxy",
            Self::Relay => "haproxy mode tcp",
            Self::HaproxyHttp => "haproxy mode http",
            Self::SidecarOff => "sidetrace, tracing off",
            Self::SidecarOn => "sidetrace, tracing on",
            Self::EnvoyOff => "Envoy, tracing off",
            Self::EnvoyOn => "Envoy, tracing on",
        }
    }

    pub(crate) fn is_traced(self) -> bool {
        matches!(self, Self::SidecarOn | Self::EnvoyOn)
    }
}

/// A peer that listens, and the redirect that leads to it.
#[derive(Debug)]
pub(crate) struct Running {
    peer: Peer,
    process: Option<Process>,
}

impl Running {
    /// The proxy's process, if there is one.
    pub(crate) fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Envoy drops what it holds when it ends: its spans are waited for, a little longer than it keeps them.
    pub(crate) fn wait_for_spans(&self, arrived: impl Fn() -> u64, expected: u64) {
        if self.peer == Peer::EnvoyOn {
            let mut asked = 0;
            until("Envoy's last spans have left", || {
                asked += 1;
                arrived() >= expected || asked > 250
            });
        }
    }

    pub(crate) fn stop(&mut self) -> Option<Ledger> {
        let (status, said) = self.process.as_mut()?.terminate();
        if self.peer != Peer::SidecarOn {
            return None;
        }
        assert!(status.success(), "{status}\n{said}");
        let line =
            said.lines().rev().find(|line| line.contains("created=")).unwrap_or_else(|| panic!("no ledger: {said}"));
        let line = &line[line.find("created=").unwrap()..];
        let number = |name: &str| -> u64 {
            let rest =
                line.split_whitespace().find_map(|word| word.strip_prefix(name)).unwrap_or_else(|| panic!("{line}"));
            rest.parse().unwrap()
        };
        let (created, exported, lost) = (number("created="), number("exported="), number("lost="));
        Some(Ledger { created, exported, lost, line: line.to_owned() })
    }
}

pub(crate) fn start(peer: Peer, protocol: Protocol, agent: &Agent<'_>) -> Running {
    assert!(full_uid_map(), "the proxies are exempt by their uid: the bench needs root");
    let process = match peer {
        Peer::Direct => return Running { peer, process: None },
        Peer::Relay => haproxy(agent, "mode tcp", ""),
        Peer::HaproxyHttp => {
            let proto = if protocol == Protocol::Http2 { "proto h2" } else { "" };
            // Without http-no-delay it holds back what a stream writes, for tens of milliseconds.
            haproxy(agent, "mode http\n  option http-no-delay", proto)
        }
        Peer::SidecarOff => sidecar(agent, ("OTEL_SDK_DISABLED", "true".to_owned())),
        Peer::SidecarOn => sidecar(agent, ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{ADDRESS}:{SINK}"))),
        Peer::EnvoyOff => envoy(agent, false),
        Peer::EnvoyOn => envoy(agent, true),
    };
    // Not by connecting: a relay that is asked for itself asks itself.
    until("the proxy listens", || agent.netns.sh("ss -ltn | grep -q 127.0.0.1:15101").status.success());
    agent.redirect();
    Running { peer, process: Some(process) }
}

/// `server original 0.0.0.0:0`: it takes the original destination by itself.
fn haproxy(agent: &Agent<'_>, mode: &str, proto: &str) -> Process {
    let config = agent.file("haproxy.cfg");
    let text = format!(
        "global\n  nbthread 1\n  maxconn 8192\n\
         defaults\n  {mode}\n  timeout connect 5s\n  timeout client 1m\n  timeout server 1m\n\
         listen relay\n  bind 127.0.0.1:15101 backlog 4096\n  server original 0.0.0.0:0 {proto}\n"
    );
    std::fs::write(&config, text).unwrap();
    start_as_proxy(agent, "haproxy", "haproxy".into(), &["-db".into(), "-f".into(), config], &[])
}

fn sidecar(agent: &Agent<'_>, export: (&str, String)) -> Process {
    let settings = [
        ("SIDETRACE_WORKERS", "1".to_owned()),
        ("SIDETRACE_LOG", "warn,sidetrace=info".to_owned()),
        ("SIDETRACE_DRAIN_TIMEOUT", "1".to_owned()),
        ("OTEL_SERVICE_NAME", "agent".to_owned()),
        ("OTEL_BSP_SCHEDULE_DELAY", "1000".to_owned()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf".to_owned()),
        export,
    ];
    let process = start_as_proxy(agent, "sidetrace", agent.sidetrace().to_owned(), &["proxy".into()], &settings);
    process.wait_for("ready", 1);
    process
}

fn envoy(agent: &Agent<'_>, traced: bool) -> Process {
    let config = agent.file("envoy.yaml");
    let tracing = if traced { ENVOY_TRACING.replace("SINK", &format!("{ADDRESS}:{SINK}")) } else { String::new() };
    let text = ENVOY.replace("TRACING", &tracing).replace("ADDRESS", ADDRESS).replace("PORT", &SINK.to_string());
    std::fs::write(&config, text).unwrap();
    let arguments = ["-c".into(), config]
        .into_iter()
        .chain(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"].map(PathBuf::from));
    start_as_proxy(agent, "envoy", agent.envoy().to_owned(), &arguments.collect::<Vec<_>>(), &[])
}

fn start_as_proxy(
    agent: &Agent<'_>,
    name: &str,
    program: PathBuf,
    arguments: &[PathBuf],
    settings: &[(&str, String)],
) -> Process {
    let mut command = on_core(0, &program);
    command.args(arguments).uid(PROXY_ID).gid(PROXY_ID);
    if name == "sidetrace" {
        command.env_clear().env("PATH", "/usr/bin:/bin").envs(settings.iter().map(|(name, value)| (*name, value)));
    }
    Process::start(name, &agent.netns, command)
}

/// Exempt from the redirect.
const PROXY_ID: u32 = 15100;

const ENVOY: &str = r#"
layered_runtime:
  layers:
  - name: static
    static_layer:
      tracing.opentelemetry.min_flush_spans: 512
      tracing.opentelemetry.flush_interval_ms: 1000
      overload.global_downstream_max_connections: 50000
static_resources:
  listeners:
  - name: outbound
    address: { socket_address: { address: 127.0.0.1, port_value: 15101 } }
    tcp_backlog_size: 4096
    listener_filters:
    - name: envoy.filters.listener.original_dst
      typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst }
    - name: envoy.filters.listener.tls_inspector
      typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector }
    - name: envoy.filters.listener.http_inspector
      typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector }
    filter_chains:
    - filter_chain_match: { application_protocols: ["http/1.0", "http/1.1", "h2c"] }
      filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: outbound
          codec_type: AUTO
          stream_idle_timeout: 0s
TRACING
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: { prefix: "/" }
                route: { cluster: original, timeout: 0s }
          http_filters:
          - name: envoy.filters.http.router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
    default_filter_chain:
      filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: opaque
          cluster: original
  clusters:
  - name: original
    type: ORIGINAL_DST
    lb_policy: CLUSTER_PROVIDED
    connect_timeout: 5s
    circuit_breakers:
      thresholds: [{ max_connections: 50000, max_pending_requests: 50000, max_requests: 50000 }]
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        use_downstream_protocol_config: { http_protocol_options: {}, http2_protocol_options: {} }
  - name: sink
    type: STATIC
    connect_timeout: 5s
    load_assignment:
      cluster_name: sink
      endpoints:
      - lb_endpoints:
        - endpoint: { address: { socket_address: { address: ADDRESS, port_value: PORT } } }
"#;

const ENVOY_TRACING: &str = r#"
          tracing:
            random_sampling: { value: 100 }
            provider:
              name: envoy.tracers.opentelemetry
              typed_config:
                "@type": type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig
                service_name: agent
                http_service:
                  http_uri: { uri: "http://SINK/v1/traces", cluster: sink, timeout: 5s }
"#;
