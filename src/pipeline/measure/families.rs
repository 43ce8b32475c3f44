//! Every metric of the agent's calls: name, unit, buckets. A line each.

use super::family::Family;
use crate::otlp::metrics::{Instrument, Kind};
use crate::trace::{ChunkTimes, semconv::metric};

macro_rules! families {
    ($($field:ident = $name:ident, $unit:literal, $kind:expr, $description:literal;)*) => {
        /// All of them, by what they are.
        #[derive(Debug)]
        pub(super) struct Families { $(pub(super) $field: Family,)* }

        impl Default for Families {
            fn default() -> Self {
                Self { $($field: Family::new(Instrument {
                    name: metric::$name, unit: $unit, description: $description, kind: $kind,
                }),)* }
            }
        }

        impl Families {
            /// In the order of the table.
            pub(super) fn all(&self) -> impl Iterator<Item = &Family> {
                [$(&self.$field),*].into_iter()
            }

            /// In the order of the table.
            pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Family> {
                [$(&mut self.$field),*].into_iter()
            }
        }
    };
}

families! {
    http_client = HTTP_CLIENT_REQUEST_DURATION, "s", REQUEST, "How long HTTP requests of the agent took.";
    http_server = HTTP_SERVER_REQUEST_DURATION, "s", REQUEST, "How long HTTP requests to the agent took.";
    rpc_client = RPC_CLIENT_CALL_DURATION, "s", REQUEST, "How long RPC calls of the agent took.";
    rpc_server = RPC_SERVER_CALL_DURATION, "s", REQUEST, "How long RPC calls to the agent took.";
    mcp_client = MCP_CLIENT_OPERATION_DURATION, "s", MCP, "How long MCP requests of the agent took.";
    mcp_server = MCP_SERVER_OPERATION_DURATION, "s", MCP, "How long MCP requests to the agent took.";
    operation = GEN_AI_CLIENT_OPERATION_DURATION, "s", OPERATION, "How long GenAI operations took.";
    token_usage = GEN_AI_CLIENT_TOKEN_USAGE, "{token}", TOKENS, "Input and output tokens of GenAI operations.";
    operation_first_chunk = GEN_AI_CLIENT_OPERATION_TIME_TO_FIRST_CHUNK, "s", OPERATION,
        "How long the first chunk of a streamed answer took.";
    operation_chunks = GEN_AI_CLIENT_OPERATION_TIME_PER_OUTPUT_CHUNK, "s", OPERATION,
        "How long each chunk of a streamed answer came after the one before.";
    inference = GEN_AI_CLIENT_INFERENCE_DURATION, "s", OPERATION, "How long inference operations took.";
    inference_first_chunk = GEN_AI_CLIENT_INFERENCE_TIME_TO_FIRST_CHUNK, "s", OPERATION,
        "How long the first chunk of a streamed inference took.";
    inference_chunks = GEN_AI_CLIENT_INFERENCE_TIME_PER_OUTPUT_CHUNK, "s", OPERATION,
        "How long each chunk of a streamed inference came after the one before.";
    inference_input = GEN_AI_CLIENT_INFERENCE_OPERATION_INPUT_TOKENS, "{token}", TOKENS,
        "Input tokens of inference operations.";
    inference_output = GEN_AI_CLIENT_INFERENCE_OPERATION_OUTPUT_TOKENS, "{token}", TOKENS,
        "Output tokens of inference operations.";
    used_input = GEN_AI_CLIENT_INFERENCE_USAGE_INPUT_TOKENS, "{token}", Kind::Count, "Input tokens used.";
    used_output = GEN_AI_CLIENT_INFERENCE_USAGE_OUTPUT_TOKENS, "{token}", Kind::Count, "Output tokens used.";
    used_cache_read = GEN_AI_CLIENT_INFERENCE_USAGE_CACHE_READ_INPUT_TOKENS, "{token}", Kind::Count,
        "Input tokens read from a cache.";
    used_cache_write = GEN_AI_CLIENT_INFERENCE_USAGE_CACHE_WRITE_INPUT_TOKENS, "{token}", Kind::Count,
        "Input tokens written to a cache.";
    used_reasoning = GEN_AI_CLIENT_INFERENCE_USAGE_REASONING_OUTPUT_TOKENS, "{token}", Kind::Count,
        "Output tokens of reasoning.";
    embeddings = GEN_AI_CLIENT_EMBEDDINGS_DURATION, "s", OPERATION, "How long embeddings operations took.";
    embeddings_input = GEN_AI_CLIENT_EMBEDDINGS_OPERATION_INPUT_TOKENS, "{token}", TOKENS,
        "Input tokens of embeddings operations.";
    cost = SIDETRACE_GENAI_COST, "{currency}", Kind::Amount, "What GenAI operations cost by the price table.";
}

// Buckets as the conventions advise.
const REQUEST: Kind =
    Kind::Histogram(&[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0]);
const MCP: Kind = Kind::Histogram(&[0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0]);
const OPERATION: Kind = Kind::Histogram(&ChunkTimes::BOUNDS);
const TOKENS: Kind = Kind::Histogram(&[
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
]);
