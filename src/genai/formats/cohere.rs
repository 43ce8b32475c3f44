//! Cohere's second API: chat and embed.
//!
//! Source: `semconv.md` 3.8; Cohere API reference, "Chat API (v2)", "Embed API (v2)".

use super::openai::{self, ARGUMENTS, REQUEST_TOOLS};
use crate::genai::Format;
use crate::genai::facts::{Facts, Usage, bounded};
use crate::genai::item::{Arguments, Media, Message, Part, Role};
use crate::genai::json::{ANY, CONTENT, Keep, Node, SCALAR, SCALARS, Shape, WHOLE};
use crate::trace::semconv;

/// One chat.
#[derive(Debug, Default)]
pub(crate) struct Cohere {
    /// The request has messages.
    messages: bool,
    read: bool,
}

impl Format for Cohere {
    fn request_shape(&self) -> &'static Shape {
        static REQUEST: Shape = Shape::object(&[
            ("model", &SCALAR),
            ("messages", &Shape::each("messages", &MESSAGE)),
            ("tools", &REQUEST_TOOLS),
            ("temperature", &SCALAR),
            ("p", &SCALAR),
            ("k", &SCALAR),
            ("max_tokens", &SCALAR),
            ("stop_sequences", &SCALARS),
            ("seed", &SCALAR),
            ("frequency_penalty", &SCALAR),
            ("presence_penalty", &SCALAR),
            ("response_format", &Shape::object(&[("type", &SCALAR)])),
            ("stream", &SCALAR),
        ]);
        &REQUEST
    }

    fn request_item(&mut self, list: &'static str, item: Node, facts: &mut Facts) {
        if list == "messages" {
            self.messages = true;
            let message = message(item, facts);
            facts.input(message);
        } else {
            openai::tool(&item, facts);
        }
    }

    fn request(&mut self, body: Node, facts: &mut Facts) {
        self.read = true;
        facts.asked_model(body.str("model"));
        facts.stream = body.is_true("stream");
        for (name, attribute) in [
            ("temperature", semconv::GEN_AI_REQUEST_TEMPERATURE),
            ("p", semconv::GEN_AI_REQUEST_TOP_P),
            ("presence_penalty", semconv::GEN_AI_REQUEST_PRESENCE_PENALTY),
            ("frequency_penalty", semconv::GEN_AI_REQUEST_FREQUENCY_PENALTY),
        ] {
            facts.set_float(attribute, body.float(name));
        }
        facts.set_int(semconv::GEN_AI_REQUEST_TOP_K, body.int("k"));
        facts.set_int(semconv::GEN_AI_REQUEST_SEED, body.int("seed"));
        facts.set_int(semconv::GEN_AI_REQUEST_MAX_TOKENS, body.int("max_tokens"));
        facts.set_texts(semconv::GEN_AI_REQUEST_STOP_SEQUENCES, body.get("stop_sequences"));
        openai::output_type(body.at(&["response_format", "type"]).and_then(Node::as_str), facts);
    }

    fn answer_shape(&self) -> &'static Shape {
        static ANSWER: Shape = Shape::object(&[
            ("type", &SCALAR),
            ("id", &SCALAR),
            ("index", &SCALAR),
            ("finish_reason", &SCALAR),
            ("message", &SAID),
            ("usage", &USAGE),
            (
                "delta",
                &Shape::object(&[
                    ("message", &SAID),
                    ("finish_reason", &SCALAR),
                    ("usage", &USAGE),
                    ("error", &SCALAR),
                ]),
            ),
        ]);
        &ANSWER
    }

    fn answer(&mut self, mut body: Node, facts: &mut Facts) {
        facts.answered_by(body.str("id"), None);
        facts.reply.begin(0);
        if let Some(whole) = body.take("message") {
            facts.reply.whole(0, message(whole, facts));
        }
        ended(&body, facts);
    }

    fn event(&mut self, _: &str, _: bool, mut body: Node, facts: &mut Facts) {
        facts.chunk = true;
        facts.answered_by(body.str("id"), None);
        facts.reply.begin(0);
        let index = body.count("index").unwrap_or_default();
        let Some(mut delta) = body.take("delta") else { return };
        if let Some(mut said) = delta.take("message") {
            say(&mut said, index, facts);
        }
        if body.str("type") == Some("message-end") {
            facts.ended = true;
            ended(&delta, facts);
            if let Some(error) = delta.some_str("error") {
                facts.fail("_OTHER", Some(error));
            }
        }
    }

    fn is_relevant(&self) -> bool {
        self.messages || !self.read
    }
}

/// What an event adds. Contents and calls are counted each for themselves.
fn say(said: &mut Node, index: u64, facts: &mut Facts) {
    let content_place = CONTENTS.saturating_add(index);
    if let Some(plan) = facts.text(said.take("tool_plan")) {
        facts.reply.add_reasoning(0, PLAN, &plan);
    }
    if let Some(mut content) = said.take("content") {
        if let Some(thought) = facts.text(content.take("thinking")) {
            facts.reply.add_reasoning(0, content_place, &thought);
        }
        if let Some(text) = facts.text(content.take("text")).filter(|text| text.length() > 0) {
            facts.reply.add(0, content_place, &text);
        }
    }
    if let Some(call @ Node::Object(_)) = said.get("tool_calls") {
        let place = CALLS.saturating_add(index);
        facts.reply.call(0, place, call.str("id"), call.at(&["function", "name"]).and_then(Node::as_str));
        if let Some(Node::Text(piece)) = call.at(&["function", "arguments"]) {
            facts.reply.add_arguments(0, place, piece);
        }
    }
}

/// What is said at the end: why, and how many tokens were used. What is billed is preferred (semconv.md 2.1).
fn ended(body: &Node, facts: &mut Facts) {
    if let Some(reason) = body.some_str("finish_reason") {
        facts.reply.finish(0, finish_reason(reason));
    }
    let Some(usage) = body.get("usage") else { return };
    let count = |name| {
        let of = |unit| usage.get(unit).and_then(|counted: &Node| counted.count(name));
        of("billed_units").or_else(|| of("tokens"))
    };
    Usage::update(&mut facts.usage.input, count("input_tokens"));
    Usage::update(&mut facts.usage.output, count("output_tokens"));
    Usage::update(&mut facts.usage.cache_read, usage.count("cached_tokens"));
}

/// A message of the request, or the answer.
fn message(mut item: Node, facts: &Facts) -> Message {
    let role = match item.str("role").unwrap_or_default() {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        other => Role::Other(other.into()),
    };
    let mut message = Message::new(role.clone());
    let content = item.take("content");
    if role == Role::Tool {
        let id = item.some_str("tool_call_id").map(Into::into);
        message.parts.push(Part::ToolResult { id, name: None, result: result(content, facts) });
        return message;
    }
    message.parts.extend(facts.text(item.take("tool_plan")).map(Part::Reasoning));
    match content {
        Some(Node::Array(items)) => message.parts.extend(items.into_iter().map(|item| part(item, facts))),
        text => message.parts.extend(facts.text(text).map(Part::Text)),
    }
    if let Some(Node::Array(calls)) = item.take("tool_calls") {
        for mut call in calls {
            let id = call.some_str("id").map(Into::into);
            let mut called = call.take("function").unwrap_or(Node::Null);
            message.parts.push(openai::tool_call(id, &mut called, facts));
        }
    }
    message
}

fn part(mut item: Node, facts: &Facts) -> Part {
    let kind = item.str("type").unwrap_or("text").to_owned();
    match &*kind {
        "text" => facts.text(item.take("text")).map(Part::Text),
        "thinking" => facts.text(item.take("thinking")).map(Part::Reasoning),
        "image_url" => {
            let url = item.take("image_url").and_then(|mut image| image.take("url").or(Some(image)));
            facts.text(url).map(|url| Part::Media { modality: "image", mime: None, what: openai::uri(url) })
        }
        "document" => {
            let data = facts.arguments(item.take("document")).json;
            Some(Part::Media { modality: "document", mime: None, what: Media::Blob(data) })
        }
        _ => None,
    }
    .unwrap_or_else(|| Part::Other(kind.into()))
}

/// What a tool said: text, texts, or documents.
fn result(content: Option<Node>, facts: &Facts) -> Arguments {
    match content {
        Some(Node::Array(items)) if items.iter().any(|item| item.get("document").is_some()) => {
            facts.arguments(Some(Node::Array(items)))
        }
        content => openai::result(content, facts),
    }
}

/// The conventions' name of a finish reason.
fn finish_reason(reason: &str) -> String {
    let name = match reason {
        "COMPLETE" | "STOP_SEQUENCE" => "stop",
        "MAX_TOKENS" => "length",
        "TOOL_CALL" => "tool_call",
        "ERROR" | "TIMEOUT" => "error",
        other => return bounded(&other.to_lowercase()),
    };
    name.to_owned()
}

/// One call of embed, of either version.
#[derive(Debug, Default)]
pub(crate) struct CohereEmbed {
    input: bool,
    read: bool,
}

impl Format for CohereEmbed {
    fn request_shape(&self) -> &'static Shape {
        static REQUEST: Shape = Shape::object(&[
            ("model", &SCALAR),
            ("texts", &PRESENT),
            ("images", &PRESENT),
            ("inputs", &PRESENT),
            ("embedding_types", &SCALARS),
            ("output_dimension", &SCALAR),
        ]);
        &REQUEST
    }

    fn request(&mut self, body: Node, facts: &mut Facts) {
        self.read = true;
        self.input = ["texts", "images", "inputs"].iter().any(|name| matches!(body.get(name), Some(Node::Array(_))));
        facts.asked_model(body.str("model"));
        facts.set_texts(semconv::GEN_AI_REQUEST_ENCODING_FORMATS, body.get("embedding_types"));
        facts.set_int(semconv::GEN_AI_EMBEDDINGS_DIMENSION_COUNT, body.int("output_dimension"));
    }

    fn answer_shape(&self) -> &'static Shape {
        static ANSWER: Shape = Shape::object(&[("meta", &USAGE)]);
        &ANSWER
    }

    fn answer(&mut self, body: Node, facts: &mut Facts) {
        let of = |unit| body.at(&["meta", unit]).and_then(|counted| counted.count("input_tokens"));
        Usage::update(&mut facts.usage.input, of("billed_units").or_else(|| of("tokens")));
    }

    fn is_relevant(&self) -> bool {
        self.input || !self.read
    }
}

static MESSAGE: Shape = Shape::object(&[
    ("role", &SCALAR),
    ("content", &Shape::text_or(Keep::Content, &PART)),
    ("tool_plan", &CONTENT),
    ("tool_calls", &CALLS_SHAPE),
    ("tool_call_id", &SCALAR),
]);
static PART: Shape = Shape::object(&[
    ("type", &SCALAR),
    ("text", &CONTENT),
    ("thinking", &CONTENT),
    ("image_url", &Shape { text: Keep::Content, ..Shape::object(&[("url", &CONTENT)]) }),
    ("document", &ANY),
]);
/// A message, whole, or what an event adds to it: then a content and a call stand without their arrays.
static SAID: Shape = Shape::object(&[
    ("role", &SCALAR),
    ("content", &Shape { items: Some(&PIECE), ..PIECE }),
    ("tool_plan", &WHOLE),
    ("tool_calls", &CALLS_SHAPE),
]);
static PIECE: Shape = Shape::object(&[("type", &SCALAR), ("text", &WHOLE), ("thinking", &WHOLE)]);
static CALLS_SHAPE: Shape = Shape { items: Some(&CALL), ..CALL };
static CALL: Shape =
    Shape::object(&[("id", &SCALAR), ("function", &Shape::object(&[("name", &SCALAR), ("arguments", &ARGUMENTS)]))]);
static USAGE: Shape = Shape::object(&[("billed_units", &COUNTED), ("tokens", &COUNTED), ("cached_tokens", &SCALAR)]);
static COUNTED: Shape = Shape::object(&[("input_tokens", &SCALAR), ("output_tokens", &SCALAR)]);
/// Of something large: that it is there.
static PRESENT: Shape = Shape::array(&NUMBER);
static NUMBER: Shape = Shape::number();
/// Places of the parts of a message.
const PLAN: u64 = 0;
const CONTENTS: u64 = 1;
const CALLS: u64 = 1 << 32;
