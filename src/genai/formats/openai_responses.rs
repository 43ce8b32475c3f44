//! OpenAI Responses: a request of items, an answer of items, a stream of events of which the last repeats everything.
//!
//! Source: `semconv.md` 3.2; OpenAI API reference, "Responses".

use super::openai::{self, REQUEST_CONTENT, REQUEST_TOOLS, USAGE};
use crate::genai::facts::{Facts, Usage, bounded};
use crate::genai::item::{Media, Message, Part, Role};
use crate::genai::json::{ANY, CONTENT, Keep, Node, SCALAR, Shape, WHOLE};
use crate::genai::providers::Route;
use crate::genai::{Format, Headers};
use crate::trace::semconv;

/// One call.
#[derive(Debug, Default)]
pub(crate) struct OpenAiResponses {
    /// The request has an input, or continues something that has.
    input: bool,
    read: bool,
    /// An item of the answer has been seen whole: the stream's last event repeats it.
    items: Vec<u64>,
}

impl Format for OpenAiResponses {
    fn request_head(&mut self, headers: &Headers<'_>, facts: &mut Facts) {
        openai::request_head(headers, "responses", facts);
        facts.reply.of_items(PARTS);
    }

    fn request_shape(&self) -> &'static Shape {
        static REQUEST: Shape = Shape::object(&[
            ("model", &SCALAR),
            ("input", &Shape { text: Keep::Content, ..Shape::each("input", &ITEM) }),
            ("instructions", &CONTENT),
            ("temperature", &SCALAR),
            ("top_p", &SCALAR),
            ("max_output_tokens", &SCALAR),
            ("text", &Shape::object(&[("format", &Shape::object(&[("type", &SCALAR)]))])),
            ("reasoning", &Shape::object(&[("effort", &SCALAR)])),
            ("previous_response_id", &SCALAR),
            ("conversation", &Shape { text: Keep::Short, ..Shape::object(&[("id", &SCALAR)]) }),
            ("prompt", &Shape::object(&[("id", &SCALAR), ("version", &SCALAR)])),
            ("tools", &REQUEST_TOOLS),
            ("service_tier", &SCALAR),
            ("stream", &SCALAR),
            ("prompt_cache_key", &SCALAR),
        ]);
        &REQUEST
    }

    fn request_item(&mut self, list: &'static str, item: Node, facts: &mut Facts) {
        match list {
            "input" => {
                self.input = true;
                let message = request_item(item, facts);
                facts.input_part_of_turn(message);
            }
            _ => openai::tool(&item, facts),
        }
    }

    fn request(&mut self, mut body: Node, facts: &mut Facts) {
        self.read = true;
        openai::sampling(&body, facts);
        facts.set_int(semconv::GEN_AI_REQUEST_MAX_TOKENS, body.int("max_output_tokens"));
        facts.set_text(
            semconv::GEN_AI_REQUEST_REASONING_LEVEL,
            body.at(&["reasoning", "effort"]).and_then(Node::as_str),
        );
        openai::output_type(body.at(&["text", "format", "type"]).and_then(Node::as_str), facts);
        if let Some(previous) = body.some_str("previous_response_id") {
            facts.set_text(semconv::GEN_AI_REQUEST_PREVIOUS_RESPONSE_ID, Some(previous));
            facts.evidence.previous_response_id = Some(bounded(previous).into());
            self.input = true;
        }
        let conversation = body.get("conversation");
        facts.conversation(conversation.and_then(|found| found.as_str().or_else(|| found.str("id"))));
        facts.set_text(semconv::GEN_AI_PROMPT_NAME, body.at(&["prompt", "id"]).and_then(Node::as_str));
        facts.set_text(semconv::GEN_AI_PROMPT_VERSION, body.at(&["prompt", "version"]).and_then(Node::as_str));
        self.input |= body.get("prompt").is_some_and(|prompt| !prompt.is_null()) || conversation.is_some();
        if let Some(text) = facts.text(body.take("instructions")) {
            facts.system(text);
        }
        if let Some(text) = facts.text(body.take("input")) {
            self.input = true;
            facts.input(Message { parts: vec![Part::Text(text)], ..Message::new(Role::User) });
        }
    }

    fn answer_shape(&self) -> &'static Shape {
        static ANSWER: Shape = Shape::object(&[
            // Of an event.
            ("type", &SCALAR),
            ("response", &RESPONSE),
            ("item", &ITEM),
            ("output_index", &SCALAR),
            ("code", &SCALAR),
            ("message", &SCALAR),
            // Of a response.
            ("id", &SCALAR),
            ("model", &SCALAR),
            ("status", &SCALAR),
            ("service_tier", &SCALAR),
            ("incomplete_details", &REASON),
            ("error", &openai::ERROR),
            ("conversation", &NAMED),
            ("previous_response_id", &SCALAR),
            ("usage", &USAGE),
            ("output", &Shape::array(&ITEM)),
        ]);
        static RESPONSE: Shape = Shape::object(&[
            ("id", &SCALAR),
            ("model", &SCALAR),
            ("status", &SCALAR),
            ("service_tier", &SCALAR),
            ("incomplete_details", &REASON),
            ("error", &openai::ERROR),
            ("conversation", &NAMED),
            ("usage", &USAGE),
            ("output", &Shape::array(&ITEM)),
        ]);
        static REASON: Shape = Shape::object(&[("reason", &SCALAR)]);
        static NAMED: Shape = Shape { text: Keep::Short, ..Shape::object(&[("id", &SCALAR)]) };
        &ANSWER
    }

    fn answer(&mut self, body: Node, facts: &mut Facts) {
        still_running(&body, facts);
        self.response(body, facts);
    }

    fn event(&mut self, _: &str, _: bool, mut body: Node, facts: &mut Facts) {
        facts.chunk = true;
        let kind = body.str("type").unwrap_or_default().to_owned();
        match &*kind {
            "response.output_item.added" | "response.output_item.done" => {
                let place = body.count("output_index").unwrap_or(0);
                let Some(item) = body.take("item") else { return };
                let done = kind.ends_with("done");
                self.output_item(place, item, done, facts);
            }
            "error" => {
                // What says it stands in the event itself, or in its `error`.
                openai::failed(&body, facts);
                facts.fail(body.some_str("code").unwrap_or("_OTHER"), body.str("message"));
            }
            _ => {
                facts.ended |= matches!(&*kind, "response.completed" | "response.failed" | "response.incomplete");
                if let Some(response) = body.take("response") {
                    self.response(response, facts);
                }
            }
        }
    }

    fn is_relevant(&self) -> bool {
        self.input || !self.read
    }
}

impl OpenAiResponses {
    /// A response: the answer, or what some events carry.
    fn response(&mut self, mut body: Node, facts: &mut Facts) {
        facts.answered_by(body.str("id"), body.str("model"));
        facts.set_text(semconv::OPENAI_RESPONSE_SERVICE_TIER, body.str("service_tier").filter(|tier| *tier != "auto"));
        let conversation = body.get("conversation");
        facts.conversation(conversation.and_then(|found| found.as_str().or_else(|| found.str("id"))));
        openai::failed(&body, facts);
        if let Some(usage) = body.get("usage").filter(|usage| !usage.is_null()) {
            openai::usage(usage, facts);
        }
        if let Some(Node::Array(items)) = body.take("output") {
            for (place, item) in (0..).zip(items) {
                self.output_item(place, item, true, facts);
            }
        }
        if let Some(status) = body.str("status") {
            let reason = body.at(&["incomplete_details", "reason"]).and_then(Node::as_str);
            if let Some(reason) = finish_reason(status, reason, facts) {
                facts.reply.finish(0, reason);
            }
        }
    }

    fn output_item(&mut self, place: u64, item: Node, whole: bool, facts: &mut Facts) {
        if place >= MAX_ITEMS || self.items.contains(&place) {
            return;
        }
        if whole {
            self.items.push(place);
        }
        let compacted = item.str("type") == Some("compaction");
        if compacted {
            facts.set(semconv::GEN_AI_CONVERSATION_COMPACTED, true);
        }
        for (index, part) in (0..PARTS).zip(request_item(item, facts).parts) {
            facts.reply.put(0, place * PARTS + index, part);
        }
    }
}

/// A response that is made in the background has not ended with the answer that tells of it.
fn still_running(body: &Node, facts: &mut Facts) {
    if matches!(body.str("status"), Some("queued" | "in_progress")) {
        facts.reply.without_reasons();
    }
}

/// Why a response ended; nothing if it has not.
fn finish_reason(status: &str, reason: Option<&str>, facts: &Facts) -> Option<String> {
    Some(match (status, reason) {
        ("completed", _) if facts.reply.has_calls(0) => "tool_call".to_owned(),
        ("completed", _) => "stop".to_owned(),
        ("incomplete", Some("max_output_tokens")) => "length".to_owned(),
        ("incomplete", Some(reason)) => bounded(&reason.to_lowercase()),
        ("incomplete", None) => "length".to_owned(),
        ("failed" | "cancelled", _) => "error".to_owned(),
        _ => return None,
    })
}

/// An item of the input or of the output as a message of its own.
fn request_item(mut item: Node, facts: &Facts) -> Message {
    let kind = item.str("type").unwrap_or("message").to_owned();
    let id = item.some_str("call_id").map(Into::into);
    let of = |role, part| Message { parts: vec![part], ..Message::new(role) };
    match &*kind {
        "message" => {
            let role = match item.str("role").unwrap_or("assistant") {
                "system" | "developer" => Role::System,
                "user" => Role::User,
                "assistant" => Role::Assistant,
                other => Role::Other(other.into()),
            };
            Message { parts: openai::content(item.take("content"), facts), ..Message::new(role) }
        }
        "function_call" | "custom_tool_call" => of(Role::Assistant, openai::tool_call(id, &mut item, facts)),
        "function_call_output"
        | "custom_tool_call_output"
        | "local_shell_call_output"
        | "shell_call_output"
        | "computer_call_output"
        | "apply_patch_call_output" => {
            let result = openai::result(item.take("output"), facts);
            of(Role::Tool, Part::ToolResult { id, name: None, result })
        }
        "reasoning" => {
            let texts =
                ["summary", "content"].into_iter().filter_map(|name| item.take(name)).flat_map(|list| match list {
                    Node::Array(items) => items,
                    _ => Vec::new(),
                });
            let texts: Vec<_> = texts.filter_map(|mut text| facts.text(text.take("text"))).collect();
            Message { parts: texts.into_iter().map(Part::Reasoning).collect(), ..Message::new(Role::Assistant) }
        }
        "compaction" => {
            of(Role::Assistant, Part::Compaction { id: item.some_str("id").map(Into::into), content: None })
        }
        "image_generation_call" => {
            let image = facts.text(item.take("result")).map(Media::Blob);
            let part = image.map(|what| Part::Media { modality: "image", mime: None, what });
            of(Role::Assistant, part.unwrap_or_else(|| Part::Other(kind.into())))
        }
        "item_reference" => {
            of(Role::Other(kind.clone().into()), Part::Other(item.str("id").unwrap_or_default().into()))
        }
        hosted if hosted.ends_with("_call") || hosted == "mcp_list_tools" => {
            let name = item.some_str("name").unwrap_or(hosted.strip_suffix("_call").unwrap_or(hosted)).into();
            let arguments = facts.quoted(item.take("arguments"));
            let id = item.some_str("id").map(Into::into);
            of(Role::Assistant, Part::ServerToolCall { id, name, kind: kind.into(), arguments })
        }
        _ => of(Role::Assistant, Part::Other(kind.into())),
    }
}

/// A response that is fetched by its id. The conventions know no usage here: it would count twice, and stands in attributes of
/// our own for responses that were made in the background.
#[derive(Debug)]
pub(crate) struct Fetch {
    id: Option<String>,
}

impl Fetch {
    pub(crate) fn new(route: &Route<'_>) -> Self {
        Self { id: route.stars.first().cloned() }
    }
}

impl Format for Fetch {
    fn request_head(&mut self, _: &Headers<'_>, facts: &mut Facts) {
        facts.answered_by(self.id.as_deref(), None);
    }

    fn request_shape(&self) -> &'static Shape {
        &SCALAR
    }

    fn request(&mut self, _: Node, _: &mut Facts) {}

    fn answer_shape(&self) -> &'static Shape {
        OpenAiResponses::default().answer_shape()
    }

    fn answer(&mut self, body: Node, facts: &mut Facts) {
        facts.set_text(semconv::GEN_AI_RESPONSE_STATUS, body.str("status"));
        still_running(&body, facts);
        OpenAiResponses::default().response(body, facts);
        facts.response_model = None;
    }

    fn event(&mut self, _: &str, _: bool, mut body: Node, facts: &mut Facts) {
        if let Some(response) = body.take("response") {
            self.answer(response, facts);
        }
    }

    fn finish(&mut self, _: bool, facts: &mut Facts) {
        let usage = std::mem::take(&mut facts.usage);
        let counts = [
            (semconv::SIDETRACE_USAGE_FETCHED_INPUT_TOKENS, usage.input),
            (semconv::SIDETRACE_USAGE_FETCHED_OUTPUT_TOKENS, usage.output),
        ];
        for (name, count) in counts {
            facts.set_int(name, count.and_then(|count| i64::try_from(count).ok()));
        }
        facts.usage = Usage::default();
    }
}

static ITEM: Shape = Shape::object(&[
    ("type", &SCALAR),
    ("id", &SCALAR),
    ("role", &SCALAR),
    ("content", &REQUEST_CONTENT),
    ("call_id", &SCALAR),
    ("name", &SCALAR),
    ("arguments", &WHOLE),
    ("input", &WHOLE),
    ("output", &REQUEST_CONTENT),
    ("summary", &Shape::array(&Shape::object(&[("text", &CONTENT)]))),
    ("result", &CONTENT),
    ("action", &ANY),
]);
/// Places for the parts of one item; those that find none are not kept.
const PARTS: u64 = 64;
/// Items of one answer: more have no place.
const MAX_ITEMS: u64 = 512;
