//! Attribute names and their fixed values: one constant each, spelled here and nowhere else.
//!
//! Sources: OpenTelemetry semantic conventions, `docs/http/http-spans.md`, `docs/rpc/grpc.md`, `docs/resource/k8s.md`; the GenAI
//! and MCP conventions' newest names (`semantic-conventions-genai`, `docs/gen-ai/`, `docs/mcp/`);
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

/// `gen_ai.prompt.variable.<name>`
pub fn gen_ai_prompt_variable(name: &str) -> Key {
    format!("gen_ai.prompt.variable.{name}").into()
}

macro_rules! names {
    ($($name:ident = $value:literal;)*) => { $(#[doc = concat!("`", $value, "`")] pub const $name: &str = $value;)* };
}

names! {
    ERROR_TYPE = "error.type";
    OTEL_METRIC_OVERFLOW = "otel.metric.overflow";
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
    CLIENT_PORT = "client.port";
    TLS_CIPHER = "tls.cipher";
    TLS_NEXT_PROTOCOL = "tls.next_protocol";
    TLS_PROTOCOL_NAME = "tls.protocol.name";
    TLS_PROTOCOL_VERSION = "tls.protocol.version";
    TLS_RESUMED = "tls.resumed";
    HTTP_REQUEST_RESEND_COUNT = "http.request.resend_count";
    NETWORK_PROTOCOL_NAME = "network.protocol.name";
    URL_FULL = "url.full";
    URL_PATH = "url.path";
    URL_QUERY = "url.query";
    URL_SCHEME = "url.scheme";
    USER_AGENT_ORIGINAL = "user_agent.original";

    GEN_AI_AGENT_ID = "gen_ai.agent.id";
    GEN_AI_AGENT_VERSION = "gen_ai.agent.version";
    GEN_AI_CONVERSATION_COMPACTED = "gen_ai.conversation.compacted";
    GEN_AI_CONVERSATION_ID = "gen_ai.conversation.id";
    GEN_AI_DATA_SOURCE_ID = "gen_ai.data_source.id";
    GEN_AI_EMBEDDINGS_DIMENSION_COUNT = "gen_ai.embeddings.dimension.count";
    GEN_AI_INPUT_MESSAGES = "gen_ai.input.messages";
    GEN_AI_OPERATION_NAME = "gen_ai.operation.name";
    GEN_AI_OUTPUT_MESSAGES = "gen_ai.output.messages";
    GEN_AI_OUTPUT_TYPE = "gen_ai.output.type";
    GEN_AI_PROMPT_NAME = "gen_ai.prompt.name";
    GEN_AI_PROMPT_VERSION = "gen_ai.prompt.version";
    GEN_AI_PROVIDER_NAME = "gen_ai.provider.name";
    GEN_AI_REQUEST_CHOICE_COUNT = "gen_ai.request.choice.count";
    GEN_AI_REQUEST_ENCODING_FORMATS = "gen_ai.request.encoding_formats";
    GEN_AI_REQUEST_FREQUENCY_PENALTY = "gen_ai.request.frequency_penalty";
    GEN_AI_REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens";
    GEN_AI_REQUEST_MODEL = "gen_ai.request.model";
    GEN_AI_REQUEST_PRESENCE_PENALTY = "gen_ai.request.presence_penalty";
    GEN_AI_REQUEST_PREVIOUS_RESPONSE_ID = "gen_ai.request.previous_response.id";
    GEN_AI_REQUEST_REASONING_LEVEL = "gen_ai.request.reasoning.level";
    GEN_AI_REQUEST_SEED = "gen_ai.request.seed";
    GEN_AI_REQUEST_STOP_SEQUENCES = "gen_ai.request.stop_sequences";
    GEN_AI_REQUEST_STREAM = "gen_ai.request.stream";
    GEN_AI_REQUEST_STREAM_CURSOR = "gen_ai.request.stream_cursor";
    GEN_AI_REQUEST_TEMPERATURE = "gen_ai.request.temperature";
    GEN_AI_REQUEST_TOP_K = "gen_ai.request.top_k";
    GEN_AI_REQUEST_TOP_P = "gen_ai.request.top_p";
    GEN_AI_RESPONSE_FINISH_REASONS = "gen_ai.response.finish_reasons";
    GEN_AI_RESPONSE_ID = "gen_ai.response.id";
    GEN_AI_RESPONSE_MODEL = "gen_ai.response.model";
    GEN_AI_RESPONSE_STATUS = "gen_ai.response.status";
    GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk";
    GEN_AI_RETRIEVAL_TOP_K = "gen_ai.retrieval.top_k";
    GEN_AI_SYSTEM_INSTRUCTIONS = "gen_ai.system_instructions";
    GEN_AI_TOKEN_MODALITY = "gen_ai.token.modality";
    GEN_AI_TOKEN_TYPE = "gen_ai.token.type";
    GEN_AI_TOOL_CALL_ARGUMENTS = "gen_ai.tool.call.arguments";
    GEN_AI_TOOL_CALL_RESULT = "gen_ai.tool.call.result";
    GEN_AI_TOOL_DEFINITIONS = "gen_ai.tool.definitions";
    GEN_AI_TOOL_NAME = "gen_ai.tool.name";
    GEN_AI_USAGE_AUDIO_CACHE_READ_INPUT_TOKENS = "gen_ai.usage.audio.cache_read.input_tokens";
    GEN_AI_USAGE_AUDIO_INPUT_TOKENS = "gen_ai.usage.audio.input_tokens";
    GEN_AI_USAGE_AUDIO_OUTPUT_TOKENS = "gen_ai.usage.audio.output_tokens";
    GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS = "gen_ai.usage.cache_read.input_tokens";
    GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS = "gen_ai.usage.cache_write.input_tokens";
    GEN_AI_USAGE_IMAGE_CACHE_READ_INPUT_TOKENS = "gen_ai.usage.image.cache_read.input_tokens";
    GEN_AI_USAGE_IMAGE_INPUT_TOKENS = "gen_ai.usage.image.input_tokens";
    GEN_AI_USAGE_IMAGE_OUTPUT_TOKENS = "gen_ai.usage.image.output_tokens";
    GEN_AI_USAGE_INPUT_TOKENS = "gen_ai.usage.input_tokens";
    GEN_AI_USAGE_OUTPUT_TOKENS = "gen_ai.usage.output_tokens";
    GEN_AI_USAGE_REASONING_OUTPUT_TOKENS = "gen_ai.usage.reasoning.output_tokens";
    GEN_AI_USAGE_TEXT_CACHE_READ_INPUT_TOKENS = "gen_ai.usage.text.cache_read.input_tokens";
    GEN_AI_USAGE_TEXT_INPUT_TOKENS = "gen_ai.usage.text.input_tokens";
    GEN_AI_USAGE_TEXT_OUTPUT_TOKENS = "gen_ai.usage.text.output_tokens";

    AWS_BEDROCK_GUARDRAIL_ID = "aws.bedrock.guardrail.id";
    AWS_BEDROCK_KNOWLEDGE_BASE_ID = "aws.bedrock.knowledge_base.id";
    AZURE_RESOURCE_PROVIDER_NAMESPACE = "azure.resource_provider.namespace";
    OPENAI_API_TYPE = "openai.api.type";
    OPENAI_REQUEST_SERVICE_TIER = "openai.request.service_tier";
    OPENAI_RESPONSE_SERVICE_TIER = "openai.response.service_tier";
    OPENAI_RESPONSE_SYSTEM_FINGERPRINT = "openai.response.system_fingerprint";

    JSONRPC_PROTOCOL_VERSION = "jsonrpc.protocol.version";
    JSONRPC_REQUEST_ID = "jsonrpc.request.id";
    MCP_METHOD_NAME = "mcp.method.name";
    MCP_PROTOCOL_VERSION = "mcp.protocol.version";
    MCP_RESOURCE_URI = "mcp.resource.uri";
    MCP_SESSION_ID = "mcp.session.id";

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
    SIDETRACE_COST = "sidetrace.cost";
    SIDETRACE_INSPECTION_INCOMPLETE = "sidetrace.inspection.incomplete";
    SIDETRACE_JSONRPC_BATCH_SIZE = "sidetrace.jsonrpc.batch_size";
    SIDETRACE_MCP_INPUT_REQUIRED = "sidetrace.mcp.input_required";
    SIDETRACE_MCP_META_WRITTEN = "sidetrace.mcp.meta_written";
    SIDETRACE_PASSTHROUGH_REASON = "sidetrace.passthrough.reason";
    SIDETRACE_REFUSED_REASON = "sidetrace.refused.reason";
    SIDETRACE_RESPONSE_REQUEST_ID = "sidetrace.response.request_id";
    SIDETRACE_TLS_ALPN = "sidetrace.tls.alpn_offered";
    SIDETRACE_TLS_SERVER_NAME = "sidetrace.tls.server_name";
    SIDETRACE_USAGE_ASKED = "sidetrace.usage.asked";
    SIDETRACE_USAGE_FETCHED_INPUT_TOKENS = "sidetrace.usage.fetched.input_tokens";
    SIDETRACE_USAGE_FETCHED_OUTPUT_TOKENS = "sidetrace.usage.fetched.output_tokens";
}

/// Names of events.
pub mod event {
    names! {
        GEN_AI_CLIENT_INFERENCE_OPERATION_DETAILS = "gen_ai.client.inference.operation.details";
    }
}

/// Names of metrics. Where the GenAI conventions have changed theirs, both are here.
pub mod metric {
    names! {
        HTTP_CLIENT_REQUEST_DURATION = "http.client.request.duration";
        HTTP_SERVER_REQUEST_DURATION = "http.server.request.duration";
        RPC_CLIENT_CALL_DURATION = "rpc.client.call.duration";
        RPC_SERVER_CALL_DURATION = "rpc.server.call.duration";
        MCP_CLIENT_OPERATION_DURATION = "mcp.client.operation.duration";
        MCP_SERVER_OPERATION_DURATION = "mcp.server.operation.duration";

        GEN_AI_CLIENT_OPERATION_DURATION = "gen_ai.client.operation.duration";
        GEN_AI_CLIENT_OPERATION_TIME_PER_OUTPUT_CHUNK = "gen_ai.client.operation.time_per_output_chunk";
        GEN_AI_CLIENT_OPERATION_TIME_TO_FIRST_CHUNK = "gen_ai.client.operation.time_to_first_chunk";
        GEN_AI_CLIENT_TOKEN_USAGE = "gen_ai.client.token.usage";

        GEN_AI_CLIENT_INFERENCE_DURATION = "gen_ai.client.inference.duration";
        GEN_AI_CLIENT_INFERENCE_OPERATION_INPUT_TOKENS = "gen_ai.client.inference.operation.input_tokens";
        GEN_AI_CLIENT_INFERENCE_OPERATION_OUTPUT_TOKENS = "gen_ai.client.inference.operation.output_tokens";
        GEN_AI_CLIENT_INFERENCE_TIME_PER_OUTPUT_CHUNK = "gen_ai.client.inference.time_per_output_chunk";
        GEN_AI_CLIENT_INFERENCE_TIME_TO_FIRST_CHUNK = "gen_ai.client.inference.time_to_first_chunk";
        GEN_AI_CLIENT_INFERENCE_USAGE_CACHE_READ_INPUT_TOKENS = "gen_ai.client.inference.usage.cache_read.input_tokens";
        GEN_AI_CLIENT_INFERENCE_USAGE_CACHE_WRITE_INPUT_TOKENS = "gen_ai.client.inference.usage.cache_write.input_tokens";
        GEN_AI_CLIENT_INFERENCE_USAGE_INPUT_TOKENS = "gen_ai.client.inference.usage.input_tokens";
        GEN_AI_CLIENT_INFERENCE_USAGE_OUTPUT_TOKENS = "gen_ai.client.inference.usage.output_tokens";
        GEN_AI_CLIENT_INFERENCE_USAGE_REASONING_OUTPUT_TOKENS = "gen_ai.client.inference.usage.reasoning.output_tokens";
        GEN_AI_CLIENT_EMBEDDINGS_DURATION = "gen_ai.client.embeddings.duration";
        GEN_AI_CLIENT_EMBEDDINGS_OPERATION_INPUT_TOKENS = "gen_ai.client.embeddings.operation.input_tokens";

        SIDETRACE_GENAI_COST = "sidetrace.genai.cost";
    }
}
