//! Attribute names and their fixed values: one constant each, spelled here and nowhere else.
//!
//! Sources: OpenTelemetry semantic conventions, `docs/http/http-spans.md`, `docs/rpc/grpc.md`, `docs/resource/k8s.md`;
//! `sidetrace.*` names are our own, for what no convention covers.

use opentelemetry::Key;

/// The conventions' version that the names below follow.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.45.0";

/// `http.request.header.<name>`
pub fn http_request_header(name: &str) -> Key {
    format!("http.request.header.{name}").into()
}

/// `http.response.header.<name>`
pub fn http_response_header(name: &str) -> Key {
    format!("http.response.header.{name}").into()
}

/// `rpc.request.metadata.<name>`
pub fn rpc_request_metadata(name: &str) -> Key {
    format!("rpc.request.metadata.{name}").into()
}

/// `rpc.response.metadata.<name>`
pub fn rpc_response_metadata(name: &str) -> Key {
    format!("rpc.response.metadata.{name}").into()
}

macro_rules! names {
    ($($name:ident = $value:literal;)*) => { $(#[doc = concat!("`", $value, "`")] pub const $name: &str = $value;)* };
}

names! {
    ERROR_TYPE = "error.type";
    HTTP_REQUEST_METHOD = "http.request.method";
    HTTP_REQUEST_METHOD_ORIGINAL = "http.request.method_original";
    HTTP_RESPONSE_STATUS_CODE = "http.response.status_code";
    NETWORK_PEER_ADDRESS = "network.peer.address";
    NETWORK_PEER_PORT = "network.peer.port";
    NETWORK_PROTOCOL_VERSION = "network.protocol.version";
    NETWORK_TRANSPORT = "network.transport";
    RPC_METHOD = "rpc.method";
    RPC_STATUS_CODE = "rpc.status_code";
    RPC_SYSTEM_NAME = "rpc.system.name";
    SERVER_ADDRESS = "server.address";
    SERVER_PORT = "server.port";
    CLIENT_ADDRESS = "client.address";
    TLS_CIPHER = "tls.cipher";
    TLS_NEXT_PROTOCOL = "tls.next_protocol";
    TLS_PROTOCOL_NAME = "tls.protocol.name";
    TLS_PROTOCOL_VERSION = "tls.protocol.version";
    TLS_RESUMED = "tls.resumed";
    URL_FULL = "url.full";
    URL_PATH = "url.path";
    URL_QUERY = "url.query";
    URL_SCHEME = "url.scheme";
    USER_AGENT_ORIGINAL = "user_agent.original";

    SERVICE_INSTANCE_ID = "service.instance.id";
    SERVICE_NAME = "service.name";
    SERVICE_NAMESPACE = "service.namespace";
    K8S_CONTAINER_NAME = "k8s.container.name";
    K8S_NAMESPACE_NAME = "k8s.namespace.name";
    K8S_NODE_NAME = "k8s.node.name";
    K8S_POD_NAME = "k8s.pod.name";
    K8S_POD_UID = "k8s.pod.uid";

    SIDETRACE_BYTES_RECEIVED = "sidetrace.bytes.received";
    SIDETRACE_BYTES_SENT = "sidetrace.bytes.sent";
    SIDETRACE_END = "sidetrace.end";
    SIDETRACE_PASSTHROUGH_REASON = "sidetrace.passthrough.reason";
    SIDETRACE_REFUSED_REASON = "sidetrace.refused.reason";
    SIDETRACE_TLS_ALPN = "sidetrace.tls.alpn_offered";
    SIDETRACE_TLS_SERVER_NAME = "sidetrace.tls.server_name";
}
