//! Envoy as a transparent outbound proxy: HTTP in the clear, TLS behind a static certificate, all else as it is.

use std::path::PathBuf;

use super::it::support::Process;
use super::origins::SINK;
use super::peers::start_as_proxy;
use super::tls::NAME;
use super::world::{ADDRESS, Agent};

pub(crate) fn start(agent: &Agent<'_>, traced: bool) -> Process {
    let config = agent.file("envoy.yaml");
    let tracing = if traced { TRACING.replace("SINK", &format!("{ADDRESS}:{SINK}")) } else { String::new() };
    let http = |cluster: &str| HTTP.trim_matches('\n').replace("CLUSTER", cluster).replace("TRACING", &tracing);
    let authority = agent.world.authority();
    let path = |path: PathBuf| path.display().to_string();
    let text = CONFIG
        .replace("HTTP_TO_original", &http("original"))
        .replace("HTTP_TO_tls", &http("tls"))
        .replace("LEAF", &path(authority.leaf()))
        .replace("KEY", &path(authority.key()))
        .replace("ROOT", &path(authority.root()))
        .replace("NAME", NAME)
        .replace("ADDRESS", ADDRESS)
        .replace("PORT", &SINK.to_string());
    std::fs::write(&config, text).unwrap();
    let arguments = ["-c".into(), config]
        .into_iter()
        .chain(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"].map(PathBuf::from));
    start_as_proxy(agent, "envoy", agent.envoy().to_owned(), &arguments.collect::<Vec<_>>(), &[])
}

const CONFIG: &str = r#"
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
HTTP_TO_original
    - filter_chain_match: { transport_protocol: tls }
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            tls_certificates:
            - { certificate_chain: { filename: "LEAF" }, private_key: { filename: "KEY" } }
HTTP_TO_tls
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
  - name: tls
    type: ORIGINAL_DST
    lb_policy: CLUSTER_PROVIDED
    connect_timeout: 5s
    circuit_breakers:
      thresholds: [{ max_connections: 50000, max_pending_requests: 50000, max_requests: 50000 }]
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        use_downstream_protocol_config: { http_protocol_options: {}, http2_protocol_options: {} }
    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        sni: NAME
        common_tls_context:
          validation_context:
            trusted_ca: { filename: "ROOT" }
            match_typed_subject_alt_names: [{ san_type: DNS, matcher: { exact: NAME } }]
  - name: sink
    type: STATIC
    connect_timeout: 5s
    load_assignment:
      cluster_name: sink
      endpoints:
      - lb_endpoints:
        - endpoint: { address: { socket_address: { address: ADDRESS, port_value: PORT } } }
"#;

/// What an HTTP filter chain does.
const HTTP: &str = r#"
      filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: CLUSTER
          codec_type: AUTO
          stream_idle_timeout: 0s
TRACING
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: { prefix: "/" }
                route: { cluster: CLUSTER, timeout: 0s }
          http_filters:
          - name: envoy.filters.http.router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
"#;

const TRACING: &str = r#"
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
