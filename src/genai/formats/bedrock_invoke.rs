//! Bedrock `InvokeModel`: the model's own format inside of AWS's envelope. Which one it is, the bodies tell by their fields: a
//! model's name may be an ARN that says nothing.
//!
//! Anthropic, Nova and OpenAI are read by their own files; here are the smaller ones: Titan, Llama, Cohere, Mistral.
//!
//! Source: `semconv.md` 3.6; Bedrock user guide, "Inference request parameters and response fields for foundation models".

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::bedrock::{self, Failing};
use super::bedrock_converse::{self as converse, BedrockConverse};
use super::{Anthropic, OpenAiChat, anthropic, openai, openai_chat};
use crate::genai::facts::{Facts, SplitInput, Usage, bounded};
use crate::genai::item::{Arguments, Message, Part, Role};
use crate::genai::json::{self, ANY, CONTENT, Keep, Node, SCALAR, SCALARS, Shape, WHOLE};
use crate::genai::{Format, Headers};
use crate::trace::semconv;

/// One call.
#[derive(Debug, Default)]
pub(crate) struct BedrockInvoke {
    anthropic: Anthropic,
    converse: BedrockConverse,
    openai: OpenAiChat,
    /// The request has messages; some are of Nova's kind.
    messages: bool,
    nova: bool,
    /// Texts to embed.
    texts: bool,
    read: bool,
    relevant: bool,
    /// A text that may be there to be embedded or to be gone on with.
    ambiguous: bool,
    failing: Failing,
    /// What counts if the model's own body has no counts: AWS's in the stream, and those of the header.
    metrics: (SplitInput, Option<u64>),
    counted: (Option<u64>, Option<u64>),
}

impl Format for BedrockInvoke {
    fn request_head(&mut self, headers: &Headers<'_>, facts: &mut Facts) {
        self.anthropic.request_head(headers, facts);
        let guardrail = headers.get("x-amzn-bedrock-guardrailidentifier");
        facts.set_text(semconv::AWS_BEDROCK_GUARDRAIL_ID, guardrail.as_deref());
    }

    fn request_shape(&self) -> &'static Shape {
        &REQUEST
    }

    fn request_item(&mut self, list: &'static str, item: Node, facts: &mut Facts) {
        match list {
            "messages" => {
                self.messages = true;
                let message = self.message(item, facts);
                facts.input(message);
            }
            "chat_history" => {
                let message = cohere_message(item, facts);
                facts.input(message);
            }
            "texts" => self.texts = true,
            _ if item.get("function").is_some() => openai::tool(&item, facts),
            _ if item.get("toolSpec").is_some() => converse::tool(&item, facts),
            _ => anthropic::tool(&item, facts),
        }
    }

    fn request(&mut self, body: Node, facts: &mut Facts) {
        self.read = true;
        self.relevant = true;
        // Model and stream are in the path, whatever the body says.
        let (model, stream) = (facts.model.clone(), facts.stream);
        let has = |name| body.get(name).is_some_and(|value| !value.is_null());
        if has("anthropic_version") {
            self.anthropic.request(body, facts);
        } else if self.messages && (self.nova || has("inferenceConfig")) {
            self.converse.request(body, facts);
        } else if self.messages {
            self.openai.request(body, facts);
        } else if self.is_embedding(&body, facts) {
            read_embedding(&body, facts);
        } else if has("message") {
            read_text(body, facts);
        } else if has("prompt") || has("inputText") {
            facts.operation = "text_completion";
            self.ambiguous = has("inputText") && !has("textGenerationConfig");
            read_text(body, facts);
        } else {
            self.relevant = false;
        }
        (facts.model, facts.stream) = (model, stream);
    }

    fn answer_head(&mut self, status: u16, headers: &Headers<'_>, _: &mut Facts) {
        self.failing.answer_head(status, headers);
        let count = |name| headers.get(name).and_then(|count| count.trim().parse().ok());
        self.counted = (count("x-amzn-bedrock-input-token-count"), count("x-amzn-bedrock-output-token-count"));
    }

    fn answer_shape(&self) -> &'static Shape {
        &ANSWER
    }

    fn answer(&mut self, body: Node, facts: &mut Facts) {
        self.native(body, false, facts);
    }

    fn event(&mut self, name: &str, exception: bool, mut body: Node, facts: &mut Facts) {
        if exception {
            bedrock::exception(name, &body, facts);
            return;
        }
        let Some(Node::Text(bytes)) = body.take("bytes") else { return };
        let native = Some(bytes.kept()).filter(|_| !bytes.is_truncated());
        let native = native.and_then(|bytes| BASE64_STANDARD.decode(bytes).ok());
        match native.and_then(|native| json::read(&native, &ANSWER, facts.limit, facts.key)) {
            Some(native) => self.native(native, true, facts),
            None => facts.evidence.incomplete = true,
        }
    }

    fn failed(&mut self, body: Node, facts: &mut Facts) {
        self.failing.failed(&body, facts);
    }

    fn finish(&mut self, _: bool, facts: &mut Facts) {
        self.failing.finish(facts);
        let (input, output) = &self.metrics;
        if facts.usage.input.is_none() && input.fresh.is_some() {
            input.write(&mut facts.usage);
        }
        facts.usage.input = facts.usage.input.or(self.counted.0);
        facts.usage.output = facts.usage.output.or(*output).or(self.counted.1);
        if facts.operation == "embeddings" {
            // Nothing is put out.
            facts.usage.output = None;
        }
    }

    fn is_relevant(&self) -> bool {
        self.relevant || !self.read
    }
}

impl BedrockInvoke {
    /// A message, by the looks of it.
    fn message(&mut self, item: Node, facts: &Facts) -> Message {
        let role = item.str("role").unwrap_or_default();
        let blocks = item.get("content").map(Node::items).unwrap_or_default();
        let openai = matches!(role, "tool" | "developer")
            || item.get("tool_calls").is_some()
            || blocks.iter().any(|block| block.str("type") == Some("image_url"));
        if openai {
            return openai_chat::message(item, facts);
        }
        if !blocks.is_empty() && blocks.iter().all(|block| block.get("type").is_none()) {
            self.nova = true;
            return converse::message(item, facts);
        }
        anthropic::message(item, facts)
    }

    fn is_embedding(&self, body: &Node, facts: &Facts) -> bool {
        let has = |name| body.get(name).is_some_and(|value| !value.is_null());
        let named = facts.model.as_deref().is_some_and(|model| model.contains("embed"));
        self.texts
            || body.str("taskType") == Some("SINGLE_EMBEDDING")
            || (has("inputText") && !has("textGenerationConfig") && named)
            || ["dimensions", "normalize", "embeddingTypes", "embeddingConfig", "input_type"].into_iter().any(has)
    }

    /// An answer in the model's own format, or an event of it.
    fn native(&mut self, mut body: Node, streamed: bool, facts: &mut Facts) {
        if let Some(metrics) = body.get("amazon-bedrock-invocationMetrics") {
            let (input, output) = &mut self.metrics;
            Usage::update(&mut input.fresh, metrics.count("inputTokenCount"));
            Usage::update(&mut input.cache_read, metrics.count("cacheReadInputTokenCount"));
            Usage::update(&mut input.cache_write, metrics.count("cacheWriteInputTokenCount"));
            Usage::update(output, metrics.count("outputTokenCount"));
        }
        let event = NOVA_EVENTS.into_iter().find_map(|name| Some((name, body.take(name)?)));
        if body.get("choices").is_some() {
            facts.chunk |= streamed;
            adapt_choices(&mut body, facts);
            self.openai.answer(body, facts);
        } else if body.str("type").is_some_and(|kind| kind != "completion") {
            if streamed {
                self.anthropic.event("", false, body, facts);
            } else {
                self.anthropic.answer(body, facts);
            }
        } else if let Some((name, event)) = event {
            facts.chunk |= streamed;
            self.converse.read_event(name, event, facts);
        } else if body.get("output").is_some() || body.get("stopReason").is_some() {
            facts.chunk |= streamed;
            self.converse.answer(body, facts);
        } else {
            facts.chunk |= streamed;
            if self.ambiguous && body.get("results").is_none() && body.get("outputText").is_none() {
                facts.operation = "embeddings";
            }
            read_plain(body, facts);
        }
    }
}

/// Mistral and others have another name for why a choice ended, or just a text.
fn adapt_choices(body: &mut Node, facts: &mut Facts) {
    let Some(Node::Array(mut choices)) = body.take("choices") else { return };
    for (place, choice) in (0..).zip(&mut choices) {
        let index = choice.count("index").unwrap_or(place);
        if let Some(text) = openai::piece(choice, "text") {
            facts.reply.add(index, 0, text);
        }
        let reason = choice.take("stop_reason").filter(|_| choice.some_str("finish_reason").is_none());
        if let (Some(reason), Node::Object(fields)) = (reason, choice) {
            fields.retain(|(name, _)| &**name != "finish_reason");
            fields.push(("finish_reason".into(), reason));
        }
    }
    if let Node::Object(fields) = body {
        fields.push(("choices".into(), Node::Array(choices)));
    }
}

/// Titan, Llama, Cohere, Mistral: texts, each with a reason, and counts, all by names of their own.
fn read_plain(mut body: Node, facts: &mut Facts) {
    if facts.operation != "embeddings" {
        facts.answered_by(body.some_str("generation_id").or_else(|| body.some_str("id")), None);
    }
    let mut put_out = None;
    for list in ["results", "generations", "outputs"] {
        let Some(Node::Array(items)) = body.take(list) else { continue };
        for (index, item) in (0..).zip(&items) {
            read_choice(index, item, facts);
            put_out = item.count("tokenCount").map(|count| count.saturating_add(put_out.unwrap_or(0))).or(put_out);
        }
    }
    read_choice(0, &body, facts);
    if let Some(Node::Array(calls)) = body.take("tool_calls") {
        for (place, mut call) in (CALLS..).zip(calls) {
            let arguments = anthropic::input(call.take("parameters"), facts);
            let name = call.str("name").unwrap_or_default().into();
            facts.reply.put(0, place, Part::ToolCall { id: None, name, arguments });
        }
        facts.reply.issued(&mut facts.evidence);
    }
    let either = |one, other| body.count(one).or_else(|| body.count(other));
    let billed = body.at(&["meta", "billed_units"]);
    let usage = &mut facts.usage;
    let input = either("prompt_token_count", "inputTextTokenCount");
    Usage::update(&mut usage.input, input.or_else(|| billed?.count("input_tokens")));
    let output = either("generation_token_count", "totalOutputTextTokenCount").or(put_out);
    Usage::update(&mut usage.output, output.or_else(|| billed?.count("output_tokens")));
}

fn read_choice(index: u64, item: &Node, facts: &mut Facts) {
    let first = |names: &[&str]| names.iter().find_map(|name| item.some_str(name));
    let said = ["generation", "outputText", "text", "completion"].iter().find_map(|name| openai::piece(item, name));
    if let Some(text) = said {
        facts.reply.add(index, 0, text);
    }
    if let Some(reason) = first(&["completionReason", "finish_reason", "stop_reason"]) {
        facts.reply.finish(index, finish_reason(reason));
    }
}

/// The conventions' name of a reason, by whichever model.
fn finish_reason(reason: &str) -> String {
    match &*reason.to_lowercase() {
        "finish" | "finished" | "complete" | "stop" | "end_turn" | "stop_sequence" | "stop_criteria_met" => {
            "stop".to_owned()
        }
        "length" | "max_tokens" => "length".to_owned(),
        "tool_call" | "tool_calls" | "tool_use" => "tool_call".to_owned(),
        "content_filtered" | "error_toxic" => "content_filter".to_owned(),
        "error" | "error_limit" | "timeout" => "error".to_owned(),
        other => bounded(other),
    }
}

/// A request that is a text and how to go on with it.
fn read_text(mut body: Node, facts: &mut Facts) {
    if let Some(config) = body.take("textGenerationConfig") {
        read_sampling(&config, facts);
    }
    read_sampling(&body, facts);
    if let Some(text) = facts.text(body.take("preamble")) {
        facts.system(text);
    }
    let mut parts: Vec<_> = facts.text(body.take("message")).map(Part::Text).into_iter().collect();
    for name in ["prompt", "inputText"] {
        parts.extend(facts.text(body.take(name)).map(Part::Text));
    }
    if !parts.is_empty() {
        facts.input(Message { parts, ..Message::new(Role::User) });
    }
    // Cohere: the calls with what came out, without ids.
    if let Some(Node::Array(results)) = body.take("tool_results") {
        let result = |mut said: Node| {
            let name = said.at(&["call", "name"]).and_then(Node::as_str).map(Into::into);
            let result: Arguments = facts.arguments(said.take("outputs"));
            Part::ToolResult { id: None, name, result }
        };
        let parts = results.into_iter().map(result).collect();
        facts.input(Message { parts, ..Message::new(Role::Tool) });
    }
}

fn read_sampling(body: &Node, facts: &mut Facts) {
    let name = |names: &[&'static str]| names.iter().find(|name| body.get(name).is_some()).copied().unwrap_or_default();
    let most = name(&["maxTokenCount", "max_gen_len", "max_tokens_to_sample", "max_tokens", "maxTokens"]);
    facts.set_int(semconv::GEN_AI_REQUEST_MAX_TOKENS, body.int(most));
    facts.set_float(semconv::GEN_AI_REQUEST_TEMPERATURE, body.float("temperature"));
    facts.set_float(semconv::GEN_AI_REQUEST_TOP_P, body.float(name(&["topP", "top_p", "p"])));
    facts.set_int(semconv::GEN_AI_REQUEST_TOP_K, body.int(name(&["top_k", "k"])));
    facts.set_int(semconv::GEN_AI_REQUEST_SEED, body.int("seed"));
    facts.set_float(semconv::GEN_AI_REQUEST_PRESENCE_PENALTY, body.float("presence_penalty"));
    facts.set_float(semconv::GEN_AI_REQUEST_FREQUENCY_PENALTY, body.float("frequency_penalty"));
    let stop = body.get(name(&["stopSequences", "stop_sequences", "stop"]));
    facts.set_texts(semconv::GEN_AI_REQUEST_STOP_SEQUENCES, stop);
    facts.set_int(semconv::GEN_AI_REQUEST_CHOICE_COUNT, body.int("num_generations").filter(|count| *count != 1));
}

fn read_embedding(body: &Node, facts: &mut Facts) {
    facts.operation = "embeddings";
    let nested = [&["embeddingConfig", "outputEmbeddingLength"], &["singleEmbeddingParams", "embeddingDimension"]];
    let nested = || nested.into_iter().find_map(|path| body.at(path)?.as_int());
    let dimensions = body.int("dimensions").or_else(|| body.int("output_dimension")).or_else(nested);
    facts.set_int(semconv::GEN_AI_EMBEDDINGS_DIMENSION_COUNT, dimensions);
    let formats = body.get("embeddingTypes").or_else(|| body.get("embedding_types"));
    facts.set_texts(semconv::GEN_AI_REQUEST_ENCODING_FORMATS, formats);
}

/// Of Cohere's history: `USER` and `CHATBOT` speak.
fn cohere_message(mut item: Node, facts: &Facts) -> Message {
    let role = match item.str("role").unwrap_or_default() {
        "CHATBOT" => Role::Assistant,
        other => Role::named(&other.to_lowercase()),
    };
    Message { parts: facts.text(item.take("message")).map(Part::Text).into_iter().collect(), ..Message::new(role) }
}

static REQUEST: Shape = Shape::object(&[
    // Anthropic, Nova, OpenAI.
    ("anthropic_version", &SCALAR),
    ("messages", &Shape::each("messages", &MESSAGE)),
    ("system", &SYSTEM),
    ("tools", &Shape::each("tools", &TOOL)),
    ("output_config", &anthropic::OUTPUT_CONFIG),
    ("output_format", &anthropic::TYPED),
    ("metadata", &anthropic::METADATA),
    ("container", &anthropic::NAMED),
    ("inferenceConfig", &converse::INFERENCE),
    ("toolConfig", &converse::TOOLS),
    ("seed", &SCALAR),
    ("max_completion_tokens", &SCALAR),
    ("presence_penalty", &SCALAR),
    ("frequency_penalty", &SCALAR),
    ("n", &SCALAR),
    ("response_format", &anthropic::TYPED),
    ("reasoning_effort", &SCALAR),
    // Sampling, by everybody's names.
    ("max_tokens", &SCALAR),
    ("max_tokens_to_sample", &SCALAR),
    ("max_gen_len", &SCALAR),
    ("maxTokens", &SCALAR),
    ("temperature", &SCALAR),
    ("top_p", &SCALAR),
    ("topP", &SCALAR),
    ("p", &SCALAR),
    ("top_k", &SCALAR),
    ("k", &SCALAR),
    ("stop", &STOP),
    ("stop_sequences", &STOP),
    ("stopSequences", &STOP),
    ("num_generations", &SCALAR),
    ("textGenerationConfig", &TITAN),
    // Texts.
    ("prompt", &CONTENT),
    ("inputText", &CONTENT),
    ("message", &CONTENT),
    ("preamble", &CONTENT),
    ("chat_history", &Shape::each("chat_history", &Shape::object(&[("role", &SCALAR), ("message", &CONTENT)]))),
    ("tool_results", &Shape::array(&TOOL_SAID)),
    // Embeddings.
    ("texts", &Shape::each("texts", &Shape::number())),
    ("input_type", &SCALAR),
    ("embedding_types", &SCALARS),
    ("embeddingTypes", &SCALARS),
    ("dimensions", &SCALAR),
    ("output_dimension", &SCALAR),
    ("normalize", &SCALAR),
    ("embeddingConfig", &Shape::object(&[("outputEmbeddingLength", &SCALAR)])),
    ("taskType", &SCALAR),
    ("singleEmbeddingParams", &Shape::object(&[("embeddingDimension", &SCALAR)])),
]);
static TITAN: Shape =
    Shape::object(&[("maxTokenCount", &SCALAR), ("temperature", &SCALAR), ("topP", &SCALAR), ("stopSequences", &STOP)]);
static STOP: Shape = Shape::text_or(Keep::Short, &SCALAR);
static SYSTEM: Shape = Shape::text_or(
    Keep::Content,
    &Shape::object(&[("type", &SCALAR), ("text", &CONTENT), ("guardContent", &converse::GUARDED)]),
);
static TOOL: Shape =
    Shape::object(&[("type", &SCALAR), ("name", &SCALAR), ("function", &Shape::object(&[("name", &SCALAR)]))]);
static TOOL_SAID: Shape = Shape::object(&[("call", &Shape::object(&[("name", &SCALAR)])), ("outputs", &ANY)]);
static MESSAGE: Shape = Shape::object(&[
    ("role", &SCALAR),
    ("content", &Shape::text_or(Keep::Content, &BLOCK)),
    ("tool_call_id", &SCALAR),
    ("tool_calls", &Shape::array(&openai_chat::CALL)),
    ("reasoning_content", &CONTENT),
]);
/// A block of Anthropic's, of Nova's or of OpenAI's.
static BLOCK: Shape = Shape::object(&[
    ("type", &SCALAR),
    ("text", &CONTENT),
    ("id", &SCALAR),
    ("name", &SCALAR),
    ("thinking", &CONTENT),
    ("input", &ANY),
    ("tool_use_id", &SCALAR),
    ("content", &anthropic::RESULT),
    ("source", &anthropic::SOURCE),
    ("file_id", &SCALAR),
    ("toolUse", &converse::TOOL_USE),
    ("toolResult", &converse::TOOL_RESULT),
    ("reasoningContent", &converse::REASONING),
    ("guardContent", &converse::GUARDED),
    ("image", &converse::MEDIA),
    ("document", &converse::MEDIA),
    ("video", &converse::MEDIA),
    ("image_url", &Shape::object(&[("url", &CONTENT)])),
]);

/// A whole answer, the envelope of an event, or what is in it.
static ANSWER: Shape = Shape::object(&[
    ("bytes", &WHOLE),
    ("amazon-bedrock-invocationMetrics", &METRICS),
    // Anthropic.
    ("type", &SCALAR),
    ("index", &SCALAR),
    ("message", &Shape { text: Keep::Short, ..anthropic::ANSWERED }),
    ("content_block", &anthropic::STARTED),
    ("delta", &anthropic::DELTA),
    ("error", &anthropic::ERROR),
    ("id", &SCALAR),
    ("model", &SCALAR),
    ("content", &anthropic::BLOCKS),
    ("stop_reason", &SCALAR),
    ("container", &anthropic::NAMED),
    ("usage", &USAGE),
    // Nova.
    ("output", &converse::OUTPUT),
    ("stopReason", &SCALAR),
    ("messageStart", &converse::EMPTY),
    ("contentBlockStart", &Shape::object(&[("contentBlockIndex", &SCALAR), ("start", &converse::START)])),
    ("contentBlockDelta", &Shape::object(&[("contentBlockIndex", &SCALAR), ("delta", &converse::DELTA)])),
    ("contentBlockStop", &converse::EMPTY),
    ("messageStop", &Shape::object(&[("stopReason", &SCALAR)])),
    ("metadata", &Shape::object(&[("usage", &USAGE)])),
    // OpenAI, Mistral.
    ("choices", &Shape::array(&CHOICE)),
    ("service_tier", &SCALAR),
    ("system_fingerprint", &SCALAR),
    ("outputs", &Shape::array(&GENERATED)),
    // Titan, Llama.
    ("inputTextTokenCount", &SCALAR),
    ("totalOutputTextTokenCount", &SCALAR),
    ("results", &Shape::array(&GENERATED)),
    ("outputText", &WHOLE),
    ("completionReason", &SCALAR),
    ("generation", &WHOLE),
    ("prompt_token_count", &SCALAR),
    ("generation_token_count", &SCALAR),
    // Cohere, and Anthropic's older format.
    ("generations", &Shape::array(&GENERATED)),
    ("generation_id", &SCALAR),
    ("text", &WHOLE),
    ("completion", &WHOLE),
    ("finish_reason", &SCALAR),
    ("tool_calls", &Shape::array(&Shape::object(&[("name", &SCALAR), ("parameters", &ANY)]))),
    ("meta", &Shape::object(&[("billed_units", &USAGE)])),
]);
static GENERATED: Shape = Shape::object(&[
    ("text", &WHOLE),
    ("outputText", &WHOLE),
    ("completionReason", &SCALAR),
    ("finish_reason", &SCALAR),
    ("stop_reason", &SCALAR),
    ("tokenCount", &SCALAR),
]);
static CHOICE: Shape = Shape::object(&[
    ("index", &SCALAR),
    ("finish_reason", &SCALAR),
    ("stop_reason", &SCALAR),
    ("text", &WHOLE),
    ("delta", &openai_chat::DELTA),
    ("message", &openai_chat::MESSAGE),
]);
/// Numbers of numbers: by the names of all.
static USAGE: Shape = Shape { rest: Some(&Shape { rest: Some(&SCALAR), ..Shape::number() }), ..Shape::number() };
static METRICS: Shape = Shape { rest: Some(&SCALAR), ..Shape::number() };
const NOVA_EVENTS: [&str; 6] =
    ["messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"];
/// Places of the tool calls of one answer.
const CALLS: u64 = 16;
