//! Ollama's own API: chat, generate, embed. It streams unless it is told not to, as lines of JSON.
//!
//! Its paths are those of many a program: what answers without saying whether it is `done` is none of Ollama.
//!
//! Source: `semconv.md` 3.9; ollama, `docs/api.md`.

use super::openai::{self, ARGUMENTS, REQUEST_TOOLS};
use crate::genai::Format;
use crate::genai::facts::{Facts, Usage, bounded};
use crate::genai::item::{Media, Message, Part, Role};
use crate::genai::json::{CONTENT, Keep, Node, SCALAR, Shape, WHOLE};
use crate::trace::semconv;

/// One call of chat or generate.
#[derive(Debug)]
pub(crate) struct Ollama {
    generate: bool,
    /// The request says something to a model.
    said: bool,
    read: bool,
    /// The answer is another program's.
    foreign: bool,
    /// Calls that the answer asked for so far.
    calls: u64,
}

impl Ollama {
    /// `/api/chat`
    pub(crate) fn chat() -> Self {
        Self { generate: false, said: false, read: false, foreign: false, calls: 0 }
    }

    /// `/api/generate`
    pub(crate) fn generate() -> Self {
        Self { generate: true, ..Self::chat() }
    }
}

impl Format for Ollama {
    fn request_shape(&self) -> &'static Shape {
        static REQUEST: Shape = Shape::object(&[
            ("model", &SCALAR),
            ("messages", &Shape::each("messages", &MESSAGE)),
            ("prompt", &CONTENT),
            ("system", &CONTENT),
            ("images", &Shape::array(&CONTENT)),
            ("tools", &REQUEST_TOOLS),
            ("stream", &SCALAR),
            ("format", &FORMAT),
            ("think", &SCALAR),
            ("options", &OPTIONS),
        ]);
        &REQUEST
    }

    fn request_item(&mut self, list: &'static str, item: Node, facts: &mut Facts) {
        if list == "messages" {
            self.said |= item.str("role").is_some();
            let message = message(item, facts);
            facts.input(message);
        } else {
            openai::tool(&item, facts);
        }
    }

    fn request(&mut self, mut body: Node, facts: &mut Facts) {
        self.read = true;
        if let Some(prompt) = facts.text(body.take("prompt")).filter(|_| self.generate) {
            self.said = true;
            let mut message = Message::new(Role::User);
            message.parts.push(Part::Text(prompt));
            images(body.take("images"), &mut message, facts);
            facts.input(message);
        }
        self.said &= body.some_str("model").is_some();
        if let Some(system) = facts.text(body.take("system")).filter(|system| !system.is_empty()) {
            facts.system(system);
        }
        facts.asked_model(body.str("model"));
        facts.stream = !matches!(body.get("stream"), Some(Node::Bool(false)));
        facts.set_text(semconv::GEN_AI_REQUEST_REASONING_LEVEL, body.str("think"));
        if asks_json(&body) {
            facts.set(semconv::GEN_AI_OUTPUT_TYPE, "json");
        }
        let Some(options) = body.get("options") else { return };
        for (name, attribute) in [
            ("temperature", semconv::GEN_AI_REQUEST_TEMPERATURE),
            ("top_p", semconv::GEN_AI_REQUEST_TOP_P),
            ("presence_penalty", semconv::GEN_AI_REQUEST_PRESENCE_PENALTY),
            ("frequency_penalty", semconv::GEN_AI_REQUEST_FREQUENCY_PENALTY),
        ] {
            facts.set_float(attribute, options.float(name));
        }
        facts.set_int(semconv::GEN_AI_REQUEST_TOP_K, options.int("top_k"));
        facts.set_int(semconv::GEN_AI_REQUEST_SEED, options.int("seed"));
        // Less than nothing is no limit.
        let most = options.int("num_predict").filter(|most| *most >= 0);
        facts.set_int(semconv::GEN_AI_REQUEST_MAX_TOKENS, most);
        facts.set_texts(semconv::GEN_AI_REQUEST_STOP_SEQUENCES, options.get("stop"));
    }

    fn answer_shape(&self) -> &'static Shape {
        static ANSWER: Shape = Shape::object(&[
            ("model", &SCALAR),
            ("message", &SAID),
            ("response", &WHOLE),
            ("thinking", &WHOLE),
            ("done", &SCALAR),
            ("done_reason", &SCALAR),
            ("prompt_eval_count", &SCALAR),
            ("eval_count", &SCALAR),
            ("error", &SCALAR),
        ]);
        &ANSWER
    }

    /// The whole answer, or a line of it.
    fn answer(&mut self, mut body: Node, facts: &mut Facts) {
        if let Some(error) = body.some_str("error") {
            return facts.fail("_OTHER", Some(error));
        }
        let Some(Node::Bool(done)) = body.get("done") else {
            self.foreign = facts.reply.is_empty();
            return;
        };
        let done = *done;
        facts.answered_by(None, body.str("model"));
        facts.reply.begin(0);
        let mut said = body.take("message").unwrap_or(Node::Null);
        for found in [said.take("thinking"), body.take("thinking")] {
            if let Some(text) = facts.text(found).filter(|text| text.length() > 0) {
                facts.reply.add_reasoning(0, REASONING, &text);
            }
        }
        for found in [said.take("content"), body.take("response")] {
            if let Some(text) = facts.text(found).filter(|text| text.length() > 0) {
                facts.reply.add(0, TEXT, &text);
            }
        }
        if let Some(Node::Array(calls)) = said.take("tool_calls") {
            for mut call in calls {
                let id = call.some_str("id").map(str::to_owned);
                let part = openai::tool_call(None, &mut call.take("function").unwrap_or(Node::Null), facts);
                facts.reply.put_named(0, CALLS + self.calls, id.as_deref(), part);
                self.calls += 1;
            }
        }
        Usage::update(&mut facts.usage.input, body.count("prompt_eval_count"));
        Usage::update(&mut facts.usage.output, body.count("eval_count"));
        if done {
            facts.ended = true;
            facts.reply.finish(0, finish_reason(body.some_str("done_reason"), facts.reply.has_calls(0)));
        }
    }

    fn is_relevant(&self) -> bool {
        !self.foreign && (self.said || !self.read)
    }
}

/// One call of embed, or of embeddings, which came before it.
#[derive(Debug, Default)]
pub(crate) struct OllamaEmbed {
    input: bool,
    read: bool,
}

impl Format for OllamaEmbed {
    fn request_shape(&self) -> &'static Shape {
        static REQUEST: Shape =
            Shape::object(&[("model", &SCALAR), ("input", &PRESENT), ("prompt", &PRESENT), ("dimensions", &SCALAR)]);
        &REQUEST
    }

    fn request(&mut self, body: Node, facts: &mut Facts) {
        self.read = true;
        let is_there = |name| body.get(name).is_some();
        self.input = body.some_str("model").is_some() && (is_there("input") || is_there("prompt"));
        facts.asked_model(body.str("model"));
        let dimensions = body.int("dimensions").filter(|dimensions| *dimensions > 0);
        facts.set_int(semconv::GEN_AI_EMBEDDINGS_DIMENSION_COUNT, dimensions);
    }

    fn answer_shape(&self) -> &'static Shape {
        static ANSWER: Shape = Shape::object(&[("model", &SCALAR), ("prompt_eval_count", &SCALAR)]);
        &ANSWER
    }

    fn answer(&mut self, body: Node, facts: &mut Facts) {
        facts.answered_by(None, body.str("model"));
        Usage::update(&mut facts.usage.input, body.count("prompt_eval_count"));
    }

    fn is_relevant(&self) -> bool {
        self.input || !self.read
    }
}

/// `"json"`, or a schema.
fn asks_json(body: &Node) -> bool {
    body.get("format").is_some_and(|format| format.as_str() == Some("json") || matches!(format, Node::Object(_)))
}

/// A message of the request.
fn message(mut item: Node, facts: &Facts) -> Message {
    let role = match item.str("role").unwrap_or_default() {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        other => Role::Other(other.into()),
    };
    let mut message = Message::new(role.clone());
    if role == Role::Tool {
        let id = item.some_str("tool_call_id").map(Into::into);
        let name = item.some_str("tool_name").or_else(|| item.some_str("name")).map(Into::into);
        let result = openai::result(item.take("content"), facts);
        message.parts.push(Part::ToolResult { id, name, result });
        return message;
    }
    message.parts.extend(facts.text(item.take("thinking")).map(Part::Reasoning));
    message.parts.extend(facts.text(item.take("content")).map(Part::Text));
    images(item.take("images"), &mut message, facts);
    if let Some(Node::Array(calls)) = item.take("tool_calls") {
        let called = |mut call: Node| openai::tool_call(None, &mut call.take("function").unwrap_or(Node::Null), facts);
        message.parts.extend(calls.into_iter().map(called));
    }
    message
}

fn images(found: Option<Node>, message: &mut Message, facts: &Facts) {
    let Some(Node::Array(images)) = found else { return };
    let blobs = images.into_iter().filter_map(|image| facts.text(Some(image)));
    message.parts.extend(blobs.map(|data| Part::Media { modality: "image", mime: None, what: Media::Blob(data) }));
}

/// The conventions' name of a reason. Who says that it is done and not why has come to its end; so did versions before the reasons.
fn finish_reason(reason: Option<&str>, calls: bool) -> String {
    match reason {
        None | Some("stop") => if calls { "tool_call" } else { "stop" }.to_owned(),
        Some("other") => "error".to_owned(),
        Some(other) => bounded(&other.to_lowercase()),
    }
}

static MESSAGE: Shape = Shape::object(&[
    ("role", &SCALAR),
    ("content", &CONTENT),
    ("thinking", &CONTENT),
    ("images", &Shape::array(&CONTENT)),
    ("tool_calls", &Shape::array(&CALL)),
    ("tool_call_id", &SCALAR),
    ("tool_name", &SCALAR),
    ("name", &SCALAR),
]);
static SAID: Shape = Shape::object(&[("content", &WHOLE), ("thinking", &WHOLE), ("tool_calls", &Shape::array(&CALL))]);
static CALL: Shape = Shape::object(&[("id", &SCALAR), ("function", &CALLED)]);
static CALLED: Shape = Shape::object(&[("name", &SCALAR), ("arguments", &ARGUMENTS)]);
static OPTIONS: Shape = Shape::object(&[
    ("temperature", &SCALAR),
    ("top_p", &SCALAR),
    ("top_k", &SCALAR),
    ("num_predict", &SCALAR),
    ("seed", &SCALAR),
    ("stop", &Shape::text_or(Keep::Short, &SCALAR)),
    ("presence_penalty", &SCALAR),
    ("frequency_penalty", &SCALAR),
]);
/// A name, or of a schema that there is one.
static FORMAT: Shape = Shape { text: Keep::Short, rest: Some(&NUMBER), ..Shape::number() };
/// Of something large: that it is there.
static PRESENT: Shape = Shape::array(&NUMBER);
static NUMBER: Shape = Shape::number();
/// Places of the parts of a message.
const REASONING: u64 = 0;
const TEXT: u64 = 1;
const CALLS: u64 = 16;
