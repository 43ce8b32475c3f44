//! Bedrock `Converse` and `ConverseStream`: one format for all models. Nova's own is nearly the same.
//!
//! Source: `semconv.md` 3.6; the `bedrock-runtime` model of botocore.

use super::bedrock::{self, Failing};
use super::openai;
use crate::genai::facts::{Facts, SplitInput, Usage, bounded};
use crate::genai::item::{Arguments, Media, Message, Part, Role, Text};
use crate::genai::json::{ANY, CONTENT, Node, SCALAR, SCALARS, Shape, WHOLE};
use crate::genai::{Format, Headers};
use crate::trace::semconv;

/// One call.
#[derive(Debug, Default)]
pub(crate) struct BedrockConverse {
    /// The request has messages, or names a prompt that has.
    messages: bool,
    read: bool,
    input: SplitInput,
    failing: Failing,
}

impl Format for BedrockConverse {
    fn request_shape(&self) -> &'static Shape {
        static REQUEST: Shape = Shape::object(&[
            ("messages", &Shape::each("messages", &MESSAGE)),
            ("system", &Shape::array(&Shape::object(&[("text", &CONTENT), ("guardContent", &GUARDED)]))),
            ("inferenceConfig", &INFERENCE),
            ("additionalModelRequestFields", &ADDITIONAL),
            (
                "outputConfig",
                &Shape::object(&[("textFormat", &Shape::object(&[("type", &SCALAR)])), ("effort", &SCALAR)]),
            ),
            ("toolConfig", &TOOLS),
            ("guardrailConfig", &Shape::object(&[("guardrailIdentifier", &SCALAR)])),
        ]);
        &REQUEST
    }

    fn request_item(&mut self, list: &'static str, item: Node, facts: &mut Facts) {
        match list {
            "messages" => {
                self.messages = true;
                let message = message(item, facts);
                facts.input(message);
            }
            _ => tool(&item, facts),
        }
    }

    fn request(&mut self, mut body: Node, facts: &mut Facts) {
        self.read = true;
        self.messages |= bedrock::stored_prompt(facts);
        read_inference(&body, facts);
        if let Some(more) = body.get("additionalModelRequestFields") {
            facts.set_int(semconv::GEN_AI_REQUEST_TOP_K, more.int("top_k").or_else(|| more.int("topK")));
            if let Some(inference) = more.get("inferenceConfig") {
                facts.set_int(semconv::GEN_AI_REQUEST_TOP_K, inference.int("topK"));
            }
        }
        let effort = [
            &["outputConfig", "effort"][..],
            &["additionalModelRequestFields", "output_config", "effort"],
            &["additionalModelRequestFields", "reasoning_effort"],
        ];
        let effort = effort.into_iter().find_map(|path| body.at(path).and_then(Node::as_str));
        facts.set_text(semconv::GEN_AI_REQUEST_REASONING_LEVEL, effort);
        if body.at(&["outputConfig", "textFormat", "type"]).is_some_and(|kind| kind.as_str().is_some()) {
            facts.set(semconv::GEN_AI_OUTPUT_TYPE, "json");
        }
        let guardrail = body.at(&["guardrailConfig", "guardrailIdentifier"]).and_then(Node::as_str);
        facts.set_text(semconv::AWS_BEDROCK_GUARDRAIL_ID, guardrail);
        read_system(body.take("system"), facts);
    }

    fn answer_head(&mut self, status: u16, headers: &Headers<'_>, _: &mut Facts) {
        self.failing.answer_head(status, headers);
    }

    fn answer_shape(&self) -> &'static Shape {
        static ANSWER: Shape = Shape::object(&[
            // Of an answer.
            ("output", &OUTPUT),
            ("stopReason", &SCALAR),
            // Of the last event, too.
            ("usage", &USAGE),
            ("trace", &TRACE),
            // Of events.
            ("role", &SCALAR),
            ("contentBlockIndex", &SCALAR),
            ("start", &START),
            ("delta", &DELTA),
            // Of an exception.
            ("message", &SCALAR),
            ("Message", &SCALAR),
        ]);
        &ANSWER
    }

    fn answer(&mut self, mut body: Node, facts: &mut Facts) {
        self.read_usage(body.get("usage"), facts);
        read_router(&body, facts);
        if let Some(said) = body.take("output").and_then(|mut output| output.take("message")) {
            facts.reply.begin(0);
            let said = Message { role: Role::Assistant, ..message(said, facts) };
            facts.reply.whole(0, said);
        }
        if let Some(reason) = body.some_str("stopReason") {
            facts.reply.finish(0, finish_reason(reason));
        }
        facts.reply.issued(&mut facts.evidence);
    }

    fn event(&mut self, name: &str, exception: bool, body: Node, facts: &mut Facts) {
        if exception {
            bedrock::exception(name, &body, facts);
            return;
        }
        facts.chunk = true;
        self.read_event(name, body, facts);
    }

    fn failed(&mut self, body: Node, facts: &mut Facts) {
        self.failing.failed(&body, facts);
    }

    fn finish(&mut self, _: bool, facts: &mut Facts) {
        self.failing.finish(facts);
    }

    fn is_relevant(&self) -> bool {
        self.messages || !self.read
    }
}

impl BedrockConverse {
    /// An event of the stream, by its name.
    pub(super) fn read_event(&mut self, name: &str, mut body: Node, facts: &mut Facts) {
        let place = body.count("contentBlockIndex").unwrap_or(0);
        match name {
            "messageStart" => facts.reply.begin(0),
            "contentBlockStart" => {
                if let Some(start) = body.take("start") {
                    begin_block(place, &start, facts);
                }
            }
            "contentBlockDelta" => {
                if let Some(delta) = body.get("delta") {
                    grow_block(place, delta, facts);
                }
            }
            "contentBlockStop" => facts.reply.issued(&mut facts.evidence),
            "messageStop" => {
                if let Some(reason) = body.some_str("stopReason") {
                    facts.reply.finish(0, finish_reason(reason));
                }
            }
            "metadata" => {
                self.read_usage(body.get("usage"), facts);
                self.correct_openai(facts);
                read_router(&body, facts);
            }
            _ => {}
        }
    }

    fn read_usage(&mut self, usage: Option<&Node>, facts: &mut Facts) {
        let Some(usage) = usage.filter(|usage| !usage.is_null()) else { return };
        // The second names are Nova's own.
        let either = |one, other| usage.count(one).or_else(|| usage.count(other));
        Usage::update(&mut self.input.fresh, usage.count("inputTokens"));
        Usage::update(&mut self.input.cache_read, either("cacheReadInputTokens", "cacheReadInputTokenCount"));
        Usage::update(&mut self.input.cache_write, either("cacheWriteInputTokens", "cacheWriteInputTokenCount"));
        self.input.write(&mut facts.usage);
        Usage::update(&mut facts.usage.output, usage.count("outputTokens"));
    }

    /// In streams of OpenAI's models the input has the cached tokens in it already.
    fn correct_openai(&self, facts: &mut Facts) {
        let (fresh, cached) = (self.input.fresh.unwrap_or(0), self.input.cached());
        if cached > 0 && fresh >= cached && facts.model.as_deref().is_some_and(bedrock::is_openai) {
            facts.usage.input = self.input.fresh;
        }
    }
}

/// Sampling, by the names of Converse.
pub(super) fn read_inference(body: &Node, facts: &mut Facts) {
    let Some(inference) = body.get("inferenceConfig") else { return };
    // The second names are those of Nova's own format.
    let either = |one, other| inference.get(one).and(Some(one)).unwrap_or(other);
    facts.set_int(semconv::GEN_AI_REQUEST_MAX_TOKENS, inference.int(either("maxTokens", "max_new_tokens")));
    facts.set_float(semconv::GEN_AI_REQUEST_TEMPERATURE, inference.float("temperature"));
    facts.set_float(semconv::GEN_AI_REQUEST_TOP_P, inference.float(either("topP", "top_p")));
    facts.set_int(semconv::GEN_AI_REQUEST_TOP_K, inference.int(either("topK", "top_k")));
    facts.set_texts(semconv::GEN_AI_REQUEST_STOP_SEQUENCES, inference.get("stopSequences"));
}

/// `system`: blocks of text.
pub(super) fn read_system(system: Option<Node>, facts: &mut Facts) {
    let Some(Node::Array(blocks)) = system else { return };
    for block in blocks {
        if let Some(Part::Text(text)) = part(block, facts) {
            facts.system(text);
        }
    }
}

/// The model that a router chose.
fn read_router(body: &Node, facts: &mut Facts) {
    let model = body.at(&["trace", "promptRouter", "invokedModelId"]).and_then(Node::as_str);
    facts.answered_by(None, model);
}

/// A tool, or a mark that the cache begins behind it.
pub(super) fn tool(tool: &Node, facts: &mut Facts) {
    if let Some(spec) = tool.get("toolSpec") {
        facts.tool("function", spec.str("name").unwrap_or_default());
    } else if let Some(name) = tool.at(&["systemTool", "name"]).and_then(Node::as_str) {
        facts.tool("system", name);
    }
}

/// A block of a streamed answer begins; one of text just goes on.
fn begin_block(place: u64, start: &Node, facts: &mut Facts) {
    if let Some(called) = start.get("toolUse") {
        let (id, name) = (called.some_str("toolUseId"), called.str("name").unwrap_or_default());
        match called.some_str("type") {
            Some(_) => facts.reply.server_call((0, place), id, name, name),
            None => facts.reply.call(0, place, id, Some(name)),
        }
    } else if let Some(result) = start.get("toolResult") {
        // What it says comes in pieces that are not put together.
        let mut json = Text::new(0, &facts.key);
        json.lost();
        let result = Part::ServerToolResult {
            id: result.some_str("toolUseId").map(Into::into),
            kind: result.str("type").unwrap_or_default().into(),
            result: Arguments { json, digest: None },
        };
        facts.reply.put(0, place, result);
    } else if start.get("image").is_some() {
        facts.reply.put(0, place, Part::Other("image".into()));
    }
}

/// It goes on.
fn grow_block(place: u64, delta: &Node, facts: &mut Facts) {
    let inside = |name, field| openai::piece(delta.get(name)?, field);
    if let Some(text) = openai::piece(delta, "text") {
        facts.reply.add(0, place, text);
    } else if let Some(json) = inside("toolUse", "input") {
        facts.reply.add_arguments(0, place, json);
    } else if let Some(thought) = inside("reasoningContent", "text") {
        facts.reply.add_reasoning(0, place, thought);
    }
}

/// A message.
pub(super) fn message(mut item: Node, facts: &Facts) -> Message {
    let role = Role::named(item.str("role").unwrap_or_default());
    Message { parts: parts(item.take("content"), facts), ..Message::new(role) }
}

fn parts(content: Option<Node>, facts: &Facts) -> Vec<Part> {
    match content {
        Some(Node::Array(items)) => items.into_iter().flat_map(|item| block(item, facts)).collect(),
        _ => Vec::new(),
    }
}

/// A block of content. One that cites has texts of its own.
fn block(mut item: Node, facts: &Facts) -> Vec<Part> {
    match item.take("citationsContent") {
        Some(mut cited) => parts(cited.take("content"), facts),
        None => part(item, facts).into_iter().collect(),
    }
}

/// An object with one field. Marks for the cache say nothing.
fn part(mut item: Node, facts: &Facts) -> Option<Part> {
    let of = |part: &Node, name| part.some_str(name).map(Box::<str>::from);
    if let Some(text) = facts.text(item.take("text")) {
        return Some(Part::Text(text));
    }
    if let Some(mut called) = item.take("toolUse") {
        let (id, name) = (of(&called, "toolUseId"), Box::<str>::from(called.str("name").unwrap_or_default()));
        let arguments = super::anthropic::input(called.take("input"), facts);
        return Some(match called.some_str("type") {
            Some(_) => Part::ServerToolCall { id, kind: name.clone(), name, arguments },
            None => Part::ToolCall { id, name, arguments },
        });
    }
    if let Some(mut said) = item.take("toolResult") {
        let id = of(&said, "toolUseId");
        let result = Arguments::of_parts(parts(said.take("content"), facts), facts.limit, &facts.key);
        return Some(match of(&said, "type") {
            Some(kind) => Part::ServerToolResult { id, kind, result },
            None => Part::ToolResult { id, name: None, result },
        });
    }
    // Of the result of a tool: JSON, in the place of a text.
    if let Some(json) = item.take("json") {
        return Some(Part::ToolResult { id: None, name: None, result: facts.arguments(Some(json)) });
    }
    if let Some(mut thought) = item.take("reasoningContent") {
        let text = thought.take("reasoningText").and_then(|mut text| facts.text(text.take("text")));
        return Some(Part::Reasoning(text.unwrap_or_else(|| Text::new(0, &facts.key))));
    }
    if let Some(mut guarded) = item.take("guardContent") {
        let text = guarded.take("text").and_then(|mut text| facts.text(text.take("text")));
        return Some(text.map_or_else(|| Part::Other("guardContent".into()), Part::Text));
    }
    for modality in ["image", "document", "video", "audio"] {
        if let Some(media) = item.take(modality) {
            return Some(read_media(modality, media, facts));
        }
    }
    let kind = item.fields().first().map(|(name, _)| name.clone())?;
    Some(Part::Other(kind.as_ref().into()))
}

fn read_media(modality: &'static str, mut media: Node, facts: &Facts) -> Part {
    let mime = media.some_str("format").filter(|_| modality != "document");
    let mime = mime.map(|format| format!("{modality}/{format}").into());
    let mut source = media.take("source").unwrap_or(Node::Null);
    if let Some(text) = facts.text(source.take("text")) {
        return Part::Text(text);
    }
    let place = source.at(&["s3Location", "uri"]).and_then(Node::as_str).map(|uri| Media::Uri(bounded(uri).into()));
    match place.or_else(|| facts.text(source.take("bytes")).map(Media::Blob)) {
        Some(what) => Part::Media { modality, mime, what },
        None => Part::Other(modality.into()),
    }
}

/// The conventions' name of a stop reason.
fn finish_reason(reason: &str) -> String {
    match reason {
        "end_turn" | "stop_sequence" => "stop".to_owned(),
        "max_tokens" | "model_context_window_exceeded" => "length".to_owned(),
        "tool_use" => "tool_call".to_owned(),
        "content_filtered" | "guardrail_intervened" => "content_filter".to_owned(),
        "malformed_model_output" | "malformed_tool_use" => "error".to_owned(),
        other => bounded(&other.to_lowercase()),
    }
}

static MESSAGE: Shape = Shape::object(&[("role", &SCALAR), ("content", &Shape::array(&BLOCK))]);
static BLOCK: Shape = Shape::object(&[
    ("text", &CONTENT),
    ("toolUse", &TOOL_USE),
    ("toolResult", &TOOL_RESULT),
    ("reasoningContent", &REASONING),
    ("guardContent", &GUARDED),
    ("citationsContent", &CITED),
    ("image", &MEDIA),
    ("document", &MEDIA),
    ("video", &MEDIA),
    ("audio", &MEDIA),
    ("searchResult", &EMPTY),
]);
pub(super) static TOOL_USE: Shape =
    Shape::object(&[("toolUseId", &SCALAR), ("name", &SCALAR), ("input", &ANY), ("type", &SCALAR)]);
pub(super) static TOOL_RESULT: Shape =
    Shape::object(&[("toolUseId", &SCALAR), ("type", &SCALAR), ("content", &Shape::array(&SAID))]);
static SAID: Shape = Shape::object(&[
    ("text", &CONTENT),
    ("json", &ANY),
    ("image", &MEDIA),
    ("document", &MEDIA),
    ("video", &MEDIA),
    ("searchResult", &EMPTY),
]);
pub(super) static REASONING: Shape = Shape::object(&[("reasoningText", &Shape::object(&[("text", &CONTENT)]))]);
pub(super) static GUARDED: Shape = Shape::object(&[("text", &Shape::object(&[("text", &CONTENT)]))]);
static CITED: Shape = Shape::object(&[("content", &Shape::array(&Shape::object(&[("text", &CONTENT)])))]);
pub(super) static MEDIA: Shape = Shape::object(&[("format", &SCALAR), ("source", &SOURCE)]);
static SOURCE: Shape =
    Shape::object(&[("bytes", &CONTENT), ("text", &CONTENT), ("s3Location", &Shape::object(&[("uri", &WHOLE)]))]);
/// Only that it is there.
pub(super) static EMPTY: Shape = Shape::object(&[("", &SCALAR)]);
pub(super) static INFERENCE: Shape = Shape::object(&[
    ("maxTokens", &SCALAR),
    ("max_new_tokens", &SCALAR),
    ("temperature", &SCALAR),
    ("topP", &SCALAR),
    ("top_p", &SCALAR),
    ("topK", &SCALAR),
    ("top_k", &SCALAR),
    ("stopSequences", &SCALARS),
]);
static ADDITIONAL: Shape = Shape::object(&[
    ("top_k", &SCALAR),
    ("topK", &SCALAR),
    ("inferenceConfig", &INFERENCE),
    ("reasoning_effort", &SCALAR),
    ("output_config", &Shape::object(&[("effort", &SCALAR)])),
]);
pub(super) static TOOLS: Shape = Shape::object(&[("tools", &Shape::each("tools", &OFFERED))]);
static OFFERED: Shape = Shape::object(&[("toolSpec", &NAMED), ("systemTool", &NAMED)]);
static NAMED: Shape = Shape::object(&[("name", &SCALAR)]);

pub(super) static OUTPUT: Shape = Shape::object(&[("message", &MESSAGE)]);
pub(super) static USAGE: Shape = Shape::object(&[
    ("inputTokens", &SCALAR),
    ("outputTokens", &SCALAR),
    ("cacheReadInputTokens", &SCALAR),
    ("cacheWriteInputTokens", &SCALAR),
]);
static TRACE: Shape = Shape::object(&[("promptRouter", &Shape::object(&[("invokedModelId", &SCALAR)]))]);
pub(super) static START: Shape = Shape::object(&[
    ("toolUse", &Shape::object(&[("toolUseId", &SCALAR), ("name", &SCALAR), ("type", &SCALAR)])),
    ("toolResult", &Shape::object(&[("toolUseId", &SCALAR), ("type", &SCALAR)])),
    ("image", &EMPTY),
]);
pub(super) static DELTA: Shape = Shape::object(&[
    ("text", &WHOLE),
    ("toolUse", &Shape::object(&[("input", &WHOLE)])),
    ("reasoningContent", &Shape::object(&[("text", &WHOLE)])),
]);
