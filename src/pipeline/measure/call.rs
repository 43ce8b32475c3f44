//! One finished span -> what it adds to which metrics.

use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;

use super::families::Families;
use super::family::{Family, Room};
use super::labels::{Labels, Part};
use crate::config::MetricNames;
use crate::otlp::metrics::Exemplar;
use crate::trace::{End, Span, semconv};

/// Counts a span. One span may stand for an HTTP request and for the GenAI or MCP call in it, and counts as both.
pub(super) fn fold(span: &Span, names: MetricNames, families: &mut Families, room: &mut Room) {
    let attributes = Attributes::of(&span.attributes);
    // A clock that was set back: no time, rather than no call.
    let seconds = span.end.duration_since(span.start).unwrap_or_default().as_secs_f64();
    let exemplar =
        Exemplar { trace_id: span.placement.trace_id, span_id: span.placement.span_id, time: span.end, value: seconds };
    let exemplar = span.placement.flags.is_sampled().then_some(exemplar);
    let mut call = Call { span, attributes, seconds, exemplar, room };
    call.http(families);
    call.rpc(families);
    if call.attributes.mcp_method.is_some() {
        call.mcp(families);
    } else if span.kind == SpanKind::Client {
        call.genai(names, families);
    }
}

macro_rules! attributes {
    ($($field:ident = $key:ident;)*) => {
        /// The attributes that metrics are made of, found in one pass.
        #[derive(Clone, Copy, Debug, Default)]
        struct Attributes<'a> { $($field: Option<Part<'a>>,)* }

        impl<'a> Attributes<'a> {
            fn of(attributes: &'a [KeyValue]) -> Self {
                let mut found = Self::default();
                for attribute in attributes {
                    match attribute.key.as_str() {
                        $(semconv::$key => found.$field = Part::of(&attribute.value),)*
                        _ => {}
                    }
                }
                found
            }
        }
    };
}

attributes! {
    error_type = ERROR_TYPE;
    http_method = HTTP_REQUEST_METHOD;
    http_status = HTTP_RESPONSE_STATUS_CODE;
    protocol_name = NETWORK_PROTOCOL_NAME;
    protocol_version = NETWORK_PROTOCOL_VERSION;
    transport = NETWORK_TRANSPORT;
    scheme = URL_SCHEME;
    server_address = SERVER_ADDRESS;
    server_port = SERVER_PORT;
    rpc_system = RPC_SYSTEM_NAME;
    rpc_method = RPC_METHOD;
    rpc_status = RPC_STATUS_CODE;
    mcp_method = MCP_METHOD_NAME;
    mcp_version = MCP_PROTOCOL_VERSION;
    tool = GEN_AI_TOOL_NAME;
    prompt = GEN_AI_PROMPT_NAME;
    operation = GEN_AI_OPERATION_NAME;
    provider = GEN_AI_PROVIDER_NAME;
    request_model = GEN_AI_REQUEST_MODEL;
    response_model = GEN_AI_RESPONSE_MODEL;
    service_tier = OPENAI_RESPONSE_SERVICE_TIER;
    fingerprint = OPENAI_RESPONSE_SYSTEM_FINGERPRINT;
    first_chunk = GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK;
    input = GEN_AI_USAGE_INPUT_TOKENS;
    input_text = GEN_AI_USAGE_TEXT_INPUT_TOKENS;
    input_image = GEN_AI_USAGE_IMAGE_INPUT_TOKENS;
    input_audio = GEN_AI_USAGE_AUDIO_INPUT_TOKENS;
    output = GEN_AI_USAGE_OUTPUT_TOKENS;
    output_text = GEN_AI_USAGE_TEXT_OUTPUT_TOKENS;
    output_image = GEN_AI_USAGE_IMAGE_OUTPUT_TOKENS;
    output_audio = GEN_AI_USAGE_AUDIO_OUTPUT_TOKENS;
    cache_read = GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS;
    cache_read_text = GEN_AI_USAGE_TEXT_CACHE_READ_INPUT_TOKENS;
    cache_read_image = GEN_AI_USAGE_IMAGE_CACHE_READ_INPUT_TOKENS;
    cache_read_audio = GEN_AI_USAGE_AUDIO_CACHE_READ_INPUT_TOKENS;
    cache_write = GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS;
    reasoning = GEN_AI_USAGE_REASONING_OUTPUT_TOKENS;
    cost = SIDETRACE_COST;
}

struct Call<'a, 'r> {
    span: &'a Span,
    attributes: Attributes<'a>,
    seconds: f64,
    exemplar: Option<Exemplar>,
    room: &'r mut Room,
}

impl Call<'_, '_> {
    /// `http.*.request.duration`. The server's side names neither host nor port, which any caller can choose.
    fn http(&mut self, families: &mut Families) {
        let a = self.attributes;
        if a.http_method.is_none() {
            return;
        }
        let digits = a.http_status.and_then(digits);
        let error = http_error(self.span, &a, digits.as_ref());
        let protocol = a.protocol_name.filter(|name| name.text() != Some("http"));
        let common = [
            (semconv::HTTP_REQUEST_METHOD, a.http_method),
            (semconv::HTTP_RESPONSE_STATUS_CODE, a.http_status),
            (semconv::ERROR_TYPE, error),
            (semconv::NETWORK_PROTOCOL_NAME, protocol),
            (semconv::NETWORK_PROTOCOL_VERSION, a.protocol_version),
        ];
        let (family, labels) = match self.span.kind {
            SpanKind::Client => {
                let labels = Labels::of(common).with(semconv::SERVER_ADDRESS, a.server_address);
                (&mut families.http_client, labels.with(semconv::SERVER_PORT, a.server_port))
            }
            SpanKind::Server => (&mut families.http_server, Labels::of(common).with(semconv::URL_SCHEME, a.scheme)),
            _ => return,
        };
        family.observe(self.room, &labels, self.seconds, self.exemplar);
    }

    /// `rpc.*.call.duration`
    fn rpc(&mut self, families: &mut Families) {
        let a = self.attributes;
        if a.rpc_system.is_none() {
            return;
        }
        let common = [
            (semconv::RPC_SYSTEM_NAME, a.rpc_system),
            (semconv::RPC_METHOD, a.rpc_method),
            (semconv::RPC_STATUS_CODE, a.rpc_status),
            (semconv::ERROR_TYPE, a.error_type),
        ];
        let (family, labels) = match self.span.kind {
            SpanKind::Client => {
                let labels = Labels::of(common).with(semconv::SERVER_ADDRESS, a.server_address);
                (&mut families.rpc_client, labels.with(semconv::SERVER_PORT, a.server_port))
            }
            SpanKind::Server => (&mut families.rpc_server, Labels::of(common)),
            _ => return,
        };
        family.observe(self.room, &labels, self.seconds, self.exemplar);
    }

    /// `mcp.*.operation.duration`
    fn mcp(&mut self, families: &mut Families) {
        let a = self.attributes;
        let common = [
            (semconv::MCP_METHOD_NAME, a.mcp_method),
            (semconv::ERROR_TYPE, a.error_type),
            (semconv::GEN_AI_TOOL_NAME, a.tool),
            (semconv::GEN_AI_PROMPT_NAME, a.prompt),
            (semconv::RPC_STATUS_CODE, a.rpc_status),
            (semconv::GEN_AI_OPERATION_NAME, a.operation),
            (semconv::MCP_PROTOCOL_VERSION, a.mcp_version),
            (semconv::NETWORK_TRANSPORT, a.transport),
            (semconv::NETWORK_PROTOCOL_NAME, a.protocol_name),
            (semconv::NETWORK_PROTOCOL_VERSION, a.protocol_version),
        ];
        let (family, labels) = match self.span.kind {
            SpanKind::Client => {
                let labels = Labels::of(common).with(semconv::SERVER_ADDRESS, a.server_address);
                (&mut families.mcp_client, labels.with(semconv::SERVER_PORT, a.server_port))
            }
            SpanKind::Server => (&mut families.mcp_server, Labels::of(common)),
            _ => return,
        };
        family.observe(self.room, &labels, self.seconds, self.exemplar);
    }

    /// `gen_ai.client.*`, in one generation of names or in both.
    fn genai(&mut self, names: MetricNames, families: &mut Families) {
        let a = self.attributes;
        let (Some(operation), Some(_)) = (a.operation.and_then(Part::text), a.provider) else { return };
        let labels = Labels::of([
            (semconv::GEN_AI_OPERATION_NAME, a.operation),
            (semconv::GEN_AI_PROVIDER_NAME, a.provider),
            (semconv::GEN_AI_REQUEST_MODEL, a.request_model),
            (semconv::GEN_AI_RESPONSE_MODEL, a.response_model),
            (semconv::SERVER_ADDRESS, a.server_address),
            (semconv::SERVER_PORT, a.server_port.filter(|_| a.server_address.is_some())),
            (semconv::OPENAI_RESPONSE_SERVICE_TIER, a.service_tier),
            (semconv::OPENAI_RESPONSE_SYSTEM_FINGERPRINT, a.fingerprint),
        ]);
        let failing = labels.with(semconv::ERROR_TYPE, a.error_type);
        let (old, new) = (names != MetricNames::New, names != MetricNames::Old);
        let (embeddings, inference) = (operation == EMBEDDINGS, INFERENCE.contains(&operation));
        if old || !(embeddings || inference) {
            families.operation.observe(self.room, &failing, self.seconds, self.exemplar);
        }
        if old {
            self.old_names(operation, labels, families);
        }
        if new && inference {
            families.inference.observe(self.room, &failing, self.seconds, self.exemplar);
            self.inference(labels, families);
        }
        if new && embeddings {
            families.embeddings.observe(self.room, &failing, self.seconds, self.exemplar);
            self.tokens(&mut families.embeddings_input, &labels, a.input);
        }
        if let Some(cost) = a.cost.and_then(Part::amount) {
            let labels = Labels::of([
                (semconv::GEN_AI_PROVIDER_NAME, a.provider),
                (semconv::GEN_AI_REQUEST_MODEL, a.request_model),
                (semconv::GEN_AI_RESPONSE_MODEL, a.response_model),
            ]);
            families.cost.amount(self.room, &labels, cost);
        }
    }

    fn old_names(&mut self, operation: &str, labels: Labels<'_>, families: &mut Families) {
        let a = self.attributes;
        // The tokens of a response that is fetched again were counted when it was made.
        if operation != FETCH_RESPONSE {
            let kind = |kind| labels.with(semconv::GEN_AI_TOKEN_TYPE, Some(Part::Text(kind)));
            self.tokens(&mut families.token_usage, &kind("input"), a.input);
            self.tokens(&mut families.token_usage, &kind("output"), a.output);
        }
        self.chunks(&mut families.operation_first_chunk, &mut families.operation_chunks, &labels);
    }

    fn inference(&mut self, labels: Labels<'_>, families: &mut Families) {
        let a = self.attributes;
        self.tokens(&mut families.inference_input, &labels, a.input);
        self.tokens(&mut families.inference_output, &labels, a.output);
        self.chunks(&mut families.inference_first_chunk, &mut families.inference_chunks, &labels);
        let table = [
            (&mut families.used_input, a.input, [a.input_text, a.input_image, a.input_audio]),
            (&mut families.used_output, a.output, [a.output_text, a.output_image, a.output_audio]),
            (&mut families.used_cache_read, a.cache_read, [a.cache_read_text, a.cache_read_image, a.cache_read_audio]),
            (&mut families.used_cache_write, a.cache_write, [None; 3]),
            (&mut families.used_reasoning, a.reasoning, [None; 3]),
        ];
        for (family, total, parts) in table {
            self.used(family, labels, total, parts);
        }
    }

    /// Each modality that the provider names, and the rest of the total as unknown. A total of which nothing is named counts
    /// even if it is 0.
    fn used(&mut self, family: &mut Family, labels: Labels<'_>, total: Option<Part<'_>>, parts: [Option<Part<'_>>; 3]) {
        let mut named = 0_u64;
        for (modality, part) in ["text", "image", "audio"].into_iter().zip(parts) {
            if let Some(count) = part.and_then(Part::count) {
                named = named.saturating_add(count);
                let labels = labels.with(semconv::GEN_AI_TOKEN_MODALITY, Some(Part::Text(modality)));
                family.count(self.room, &labels, count);
            }
        }
        let none_named = parts.iter().all(Option::is_none);
        let rest = total.and_then(Part::count).map(|total| total.saturating_sub(named));
        if let Some(rest) = rest.filter(|rest| *rest > 0 || none_named) {
            let labels = labels.with(semconv::GEN_AI_TOKEN_MODALITY, Some(Part::Text("unknown")));
            family.count(self.room, &labels, rest);
        }
    }

    /// Only what is known: no answer is not no tokens.
    fn tokens(&mut self, family: &mut Family, labels: &Labels<'_>, tokens: Option<Part<'_>>) {
        if let Some(tokens) = tokens.and_then(Part::count) {
            family.observe(self.room, labels, tokens as f64, self.exemplar);
        }
    }

    fn chunks(&mut self, first: &mut Family, each: &mut Family, labels: &Labels<'_>) {
        if let Some(seconds) = self.attributes.first_chunk.and_then(Part::amount) {
            first.observe(self.room, labels, seconds, self.exemplar);
        }
        if let Some(times) = &self.span.chunks {
            each.merge(self.room, labels, times);
        }
    }
}

/// `error.type` of an HTTP request: the span's own, unless that is of the call inside it.
fn http_error<'a>(span: &Span, a: &Attributes<'a>, status: Option<&'a [u8; 3]>) -> Option<Part<'a>> {
    if a.mcp_method.is_none() && a.operation.is_none() && a.rpc_system.is_none() {
        return a.error_type;
    }
    let failed = if span.kind == SpanKind::Server { 500 } else { 400 };
    if a.http_status.and_then(Part::count).is_some_and(|status| status >= failed) {
        return status.and_then(|digits| std::str::from_utf8(digits).ok()).map(Part::Text);
    }
    a.error_type.filter(|_| span.outcome != End::Complete)
}

/// Three of them.
fn digits(status: Part<'_>) -> Option<[u8; 3]> {
    let status = status.count().filter(|status| (100..1000).contains(status))?;
    let digit = |unit| b'0' + u8::try_from(status / unit % 10).unwrap_or(0);
    Some([digit(100), digit(10), digit(1)])
}

/// Values of `gen_ai.operation.name`: those of the span type `gen_ai.client.inference`.
const INFERENCE: [&str; 3] = ["chat", "text_completion", "generate_content"];
const EMBEDDINGS: &str = "embeddings";
const FETCH_RESPONSE: &str = "fetch_response";
