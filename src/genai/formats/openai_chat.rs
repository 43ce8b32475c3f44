//! OpenAI chat completions, and whoever speaks as OpenAI does (Azure, vLLM, Groq, Mistral, Ollama and many more).
//!
//! Source: `semconv.md` 3.1, 3.3, 3.7, 3.10; OpenAI API reference, "Chat".

use super::openai::{self, REQUEST_CONTENT, REQUEST_TOOLS, USAGE};
use crate::genai::facts::Facts;
use crate::genai::item::{Message, Part, Role};
use crate::genai::json::{CONTENT, Keep, Node, SCALAR, SCALARS, Shape, WHOLE};
use crate::genai::{Format, Headers, Wish};
use crate::trace::semconv;

/// One call.
#[derive(Debug, Default)]
pub(crate) struct OpenAiChat {
    /// The request has messages.
    messages: bool,
    read: bool,
    /// It wants a stream, and has not asked for usage.
    without_usage: bool,
}

impl Format for OpenAiChat {
    fn request_head(&mut self, headers: &Headers<'_>, facts: &mut Facts) {
        openai::request_head(headers, "chat_completions", facts);
    }

    fn request_shape(&self) -> &'static Shape {
        static REQUEST: Shape = Shape::object(&[
            ("model", &SCALAR),
            ("messages", &Shape::each("messages", &MESSAGE)),
            ("temperature", &SCALAR),
            ("top_p", &SCALAR),
            ("top_k", &SCALAR),
            ("presence_penalty", &SCALAR),
            ("frequency_penalty", &SCALAR),
            ("seed", &SCALAR),
            ("random_seed", &SCALAR),
            ("max_completion_tokens", &SCALAR),
            ("max_tokens", &SCALAR),
            ("stop", &Shape::text_or(Keep::Short, &SCALAR)),
            ("n", &SCALAR),
            ("response_format", &Shape::object(&[("type", &SCALAR)])),
            ("modalities", &SCALARS),
            ("service_tier", &SCALAR),
            ("reasoning_effort", &SCALAR),
            ("stream", &SCALAR),
            ("stream_options", &Shape::object(&[("include_usage", &SCALAR)])),
            ("tools", &REQUEST_TOOLS),
            ("prompt_cache_key", &SCALAR),
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
            _ => openai::tool(&item, facts),
        }
    }

    fn request(&mut self, body: Node, facts: &mut Facts) {
        self.read = true;
        openai::sampling(&body, facts);
        facts.set_int(semconv::GEN_AI_REQUEST_SEED, body.int("seed").or_else(|| body.int("random_seed")));
        let most = body.int("max_completion_tokens").or_else(|| body.int("max_tokens"));
        facts.set_int(semconv::GEN_AI_REQUEST_MAX_TOKENS, most);
        facts.set_texts(semconv::GEN_AI_REQUEST_STOP_SEQUENCES, body.get("stop"));
        facts.set_int(semconv::GEN_AI_REQUEST_CHOICE_COUNT, body.int("n").filter(|count| *count != 1));
        facts.set_text(semconv::GEN_AI_REQUEST_REASONING_LEVEL, body.str("reasoning_effort"));
        let format = body.at(&["response_format", "type"]).and_then(Node::as_str);
        let asked = body.get("stream_options").is_some_and(|options| options.is_true("include_usage"));
        self.without_usage = facts.stream && !asked;
        let audio =
            body.get("modalities").is_some_and(|all| all.items().iter().any(|one| one.as_str() == Some("audio")));
        openai::output_type(format, facts);
        if audio && format.is_none() {
            facts.set(semconv::GEN_AI_OUTPUT_TYPE, "speech");
        }
    }

    fn answer_shape(&self) -> &'static Shape {
        static ANSWER: Shape = Shape::object(&[
            ("id", &SCALAR),
            ("model", &SCALAR),
            ("service_tier", &SCALAR),
            ("system_fingerprint", &SCALAR),
            ("choices", &Shape::array(&CHOICE)),
            ("usage", &USAGE),
            ("x_groq", &Shape::object(&[("usage", &USAGE)])),
            ("error", &openai::ERROR),
        ]);
        &ANSWER
    }

    fn answer(&mut self, mut body: Node, facts: &mut Facts) {
        facts.answered_by(body.str("id"), body.str("model"));
        facts.set_text(semconv::OPENAI_RESPONSE_SERVICE_TIER, body.str("service_tier"));
        facts.set_text(semconv::OPENAI_RESPONSE_SYSTEM_FINGERPRINT, body.str("system_fingerprint"));
        openai::failed(&body, facts);
        let usage = body.get("usage").filter(|usage| !usage.is_null()).or_else(|| body.at(&["x_groq", "usage"]));
        if let Some(usage) = usage {
            openai::usage(usage, facts);
        }
        let Some(Node::Array(choices)) = body.take("choices") else { return };
        for (position, choice) in choices.into_iter().enumerate() {
            read_choice(choice, position as u64, facts);
        }
    }

    fn wish(&self, _: &Facts) -> Option<Wish> {
        self.without_usage.then_some(Wish::Usage)
    }

    fn is_relevant(&self) -> bool {
        self.messages || !self.read
    }
}

/// A choice of an answer, or of a chunk: a whole message, or what is added to it.
fn read_choice(mut choice: Node, position: u64, facts: &mut Facts) {
    let index = choice.count("index").unwrap_or(position);
    facts.reply.begin(index);
    if let Some(whole) = choice.take("message").filter(|whole| !whole.is_null()) {
        let message = message(whole, facts);
        facts.reply.whole(index, message);
    }
    if let Some(mut said) = choice.take("delta") {
        for name in ["reasoning_content", "reasoning"] {
            if let Some(text) = openai::piece(&said, name) {
                facts.reply.add_reasoning(index, REASONING, text);
            }
        }
        if let Some(text) = openai::piece(&said, "content") {
            facts.reply.add(index, TEXT, text);
        }
        for part in said.get("content").map(Node::items).unwrap_or_default() {
            if let Some(text) = openai::piece(part, "text") {
                facts.reply.add(index, TEXT, text);
            }
            for thought in part.get("thinking").into_iter().flat_map(Node::items) {
                if let Some(thought) = openai::piece(thought, "text") {
                    facts.reply.add_reasoning(index, REASONING, thought);
                }
            }
            if let Some(thought) = openai::piece(part, "thinking") {
                facts.reply.add_reasoning(index, REASONING, thought);
            }
        }
        if let Some(text) = openai::piece(&said, "refusal") {
            facts.reply.add(index, REFUSAL, text);
        }
        if let Some(Node::Array(calls)) = said.take("tool_calls") {
            for (position, mut call) in calls.into_iter().enumerate() {
                let place = CALLS.saturating_add(call.count("index").unwrap_or(position as u64));
                let id = call.str("id").map(str::to_owned);
                let called = call.take("function").or_else(|| call.take("custom")).unwrap_or(Node::Null);
                facts.reply.call(index, place, id.as_deref(), called.str("name"));
                read_arguments(called, id.as_deref(), (index, place), facts);
            }
        }
        if let Some(called) = said.take("function_call").filter(|called| !called.is_null()) {
            facts.reply.call(index, CALLS, None, called.str("name"));
            read_arguments(called, None, (index, CALLS), facts);
        }
    }
    if let Some(reason) = choice.some_str("finish_reason") {
        facts.reply.finish(index, openai::finish_reason(reason));
    }
}

/// Text, in pieces; or an object, whole (Mistral).
fn read_arguments(mut called: Node, id: Option<&str>, (choice, place): (u64, u64), facts: &mut Facts) {
    match called.take("arguments").or_else(|| called.take("input")) {
        Some(Node::Text(text)) => facts.reply.add_arguments(choice, place, &text),
        Some(object @ Node::Object(_)) => {
            let name = called.str("name").unwrap_or_default().into();
            let arguments = facts.arguments(Some(object));
            facts.reply.put(choice, place, Part::ToolCall { id: id.map(Into::into), name, arguments });
        }
        _ => {}
    }
}

/// A message of the request.
pub(super) fn message(mut item: Node, facts: &Facts) -> Message {
    let role = match item.str("role").unwrap_or_default() {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" | "function" => Role::Tool,
        other => Role::Other(other.into()),
    };
    let mut message = Message::new(role.clone());
    message.name = item.some_str("name").map(Into::into);
    if role == Role::Tool {
        let (id, name) = (item.some_str("tool_call_id").map(Into::into), item.some_str("name").map(Into::into));
        let result = openai::result(item.take("content"), facts);
        message.parts.push(Part::ToolResult { id, name, result });
        return message;
    }
    for name in ["reasoning_content", "reasoning"] {
        message.parts.extend(facts.text(item.take(name)).map(Part::Reasoning));
    }
    message.parts.extend(openai::content(item.take("content"), facts));
    message.parts.extend(facts.text(item.take("refusal")).map(Part::Text));
    let calls = item.take("tool_calls");
    let Some(Node::Array(calls)) = calls else {
        if let Some(mut called) = item.take("function_call").filter(|called| !called.is_null()) {
            message.parts.push(openai::tool_call(None, &mut called, facts));
        }
        return message;
    };
    for mut call in calls {
        let id = call.some_str("id").map(Into::into);
        let mut called = call.take("function").or_else(|| call.take("custom")).unwrap_or(Node::Null);
        message.parts.push(openai::tool_call(id, &mut called, facts));
    }
    message
}

pub(super) static MESSAGE: Shape = Shape::object(&[
    ("role", &SCALAR),
    ("name", &SCALAR),
    ("content", &REQUEST_CONTENT),
    ("refusal", &CONTENT),
    ("reasoning_content", &CONTENT),
    ("reasoning", &CONTENT),
    ("tool_call_id", &SCALAR),
    ("tool_calls", &Shape::array(&CALL)),
    ("function_call", &CALLED),
]);
/// A call of a tool; `arguments` is an object at Mistral's.
pub(super) static CALL: Shape = Shape::object(&[
    ("id", &SCALAR),
    ("index", &SCALAR),
    ("type", &SCALAR),
    ("function", &CALLED),
    ("custom", &CALLED),
]);
static CALLED: Shape = Shape::object(&[("name", &SCALAR), ("arguments", &openai::ARGUMENTS), ("input", &WHOLE)]);
static CHOICE: Shape =
    Shape::object(&[("index", &SCALAR), ("finish_reason", &SCALAR), ("delta", &DELTA), ("message", &MESSAGE)]);
pub(super) static DELTA: Shape = Shape::object(&[
    ("content", &Shape::text_or(Keep::Whole, &Shape::object(&[("text", &WHOLE), ("thinking", &openai::THINKING)]))),
    ("refusal", &WHOLE),
    ("reasoning_content", &WHOLE),
    ("reasoning", &WHOLE),
    ("tool_calls", &Shape::array(&CALL)),
    ("function_call", &CALLED),
]);
/// Places of the parts of a message.
const REASONING: u64 = 0;
const TEXT: u64 = 1;
const REFUSAL: u64 = 2;
const CALLS: u64 = 16;
