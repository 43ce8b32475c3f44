//! Anthropic messages: at Anthropic's own address, and as the body of Vertex `rawPredict` and of Bedrock `InvokeModel`.
//!
//! Source: `semconv.md` 3.4; Anthropic API reference, "Messages" and "Streaming Messages".

use super::openai;
use crate::call::SessionKind;
use crate::genai::facts::{Facts, SplitInput, Usage, bounded};
use crate::genai::item::{Arguments, Media, Message, Part, Role, Text};
use crate::genai::json::{self, ANY, CONTENT, Keep, Node, SCALAR, SCALARS, Shape, WHOLE};
use crate::genai::{Format, Headers, reading};
use crate::trace::semconv;

/// One call.
#[derive(Debug, Default)]
pub(crate) struct Anthropic {
    /// The path is open to the models of others, too: only the body tells.
    shared_path: bool,
    versioned: bool,
    /// The request has messages.
    messages: bool,
    read: bool,
    input: SplitInput,
}

impl Anthropic {
    /// Behind a path that says nothing of the format.
    pub(crate) fn raw() -> Self {
        Self { shared_path: true, ..Self::default() }
    }
}

impl Format for Anthropic {
    fn request_head(&mut self, headers: &Headers<'_>, facts: &mut Facts) {
        self.versioned = headers.get("anthropic-version").is_some();
        if let Some(id) = headers.get("x-claude-code-session-id") {
            agent_session(&id, facts);
        }
        if let Some(id) = headers.get("x-claude-code-agent-id") {
            facts.session(SessionKind::SubAgent, &id);
        }
    }

    fn request_shape(&self) -> &'static Shape {
        static REQUEST: Shape = Shape::object(&[
            ("anthropic_version", &SCALAR),
            ("model", &SCALAR),
            ("messages", &Shape::each("messages", &MESSAGE)),
            ("system", &SYSTEM),
            ("max_tokens", &SCALAR),
            ("stop_sequences", &SCALARS),
            ("temperature", &SCALAR),
            ("top_p", &SCALAR),
            ("top_k", &SCALAR),
            ("stream", &SCALAR),
            ("output_config", &OUTPUT_CONFIG),
            ("output_format", &TYPED),
            ("tools", &Shape::each("tools", &TOOL)),
            ("metadata", &METADATA),
            ("container", &NAMED),
            ("thread", &THREAD),
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
        self.versioned |= body.some_str("anthropic_version").is_some();
        facts.asked_model(body.str("model"));
        facts.stream |= body.is_true("stream");
        facts.set_int(semconv::GEN_AI_REQUEST_MAX_TOKENS, body.int("max_tokens"));
        facts.set_texts(semconv::GEN_AI_REQUEST_STOP_SEQUENCES, body.get("stop_sequences"));
        facts.set_float(semconv::GEN_AI_REQUEST_TEMPERATURE, body.float("temperature"));
        facts.set_float(semconv::GEN_AI_REQUEST_TOP_P, body.float("top_p"));
        facts.set_int(semconv::GEN_AI_REQUEST_TOP_K, body.int("top_k"));
        let effort = body.at(&["output_config", "effort"]).and_then(Node::as_str);
        facts.set_text(semconv::GEN_AI_REQUEST_REASONING_LEVEL, effort);
        let format = body.at(&["output_config", "format"]).or_else(|| body.get("output_format"));
        if format.is_some_and(|format| !format.is_null()) {
            facts.set(semconv::GEN_AI_OUTPUT_TYPE, "json");
        }
        if let Some(user) = body.at(&["metadata", "user_id"]).and_then(Node::as_str) {
            read_user(user, facts);
        }
        if let Some(container) = named(body.get("container")) {
            facts.session(SessionKind::Group, container);
        }
        if let Some(previous) = body.at(&["thread", "previous_message_id"]).and_then(Node::as_str) {
            facts.set_text(semconv::GEN_AI_REQUEST_PREVIOUS_RESPONSE_ID, Some(previous));
            facts.evidence.previous_response_id = Some(bounded(previous).into());
        }
        read_system(body.take("system"), facts);
    }

    fn answer_shape(&self) -> &'static Shape {
        static ANSWER: Shape = Shape::object(&[
            // Of an event.
            ("type", &SCALAR),
            ("index", &SCALAR),
            ("message", &ANSWERED),
            ("content_block", &STARTED),
            ("delta", &DELTA),
            ("error", &ERROR),
            // Of a message.
            ("id", &SCALAR),
            ("model", &SCALAR),
            ("content", &BLOCKS),
            ("stop_reason", &SCALAR),
            ("container", &NAMED),
            ("usage", &USAGE),
        ]);
        &ANSWER
    }

    fn answer(&mut self, body: Node, facts: &mut Facts) {
        match body.str("type") {
            Some("error") => failed(&body, facts),
            _ => self.read_message(body, facts),
        }
    }

    fn event(&mut self, _: &str, _: bool, mut body: Node, facts: &mut Facts) {
        let kind = body.str("type").unwrap_or_default().to_owned();
        facts.chunk |= !matches!(&*kind, "ping" | "error");
        let place = body.count("index").unwrap_or(0);
        match &*kind {
            "message_start" => {
                if let Some(message) = body.take("message") {
                    self.read_message(message, facts);
                }
            }
            "content_block_start" => {
                if let Some(block) = body.take("content_block") {
                    begin_block(place, block, facts);
                }
            }
            "content_block_delta" => {
                if let Some(delta) = body.take("delta") {
                    grow_block(place, delta, facts);
                }
            }
            "message_delta" => {
                // Counts are those of the whole answer so far.
                self.read_usage(body.get("usage"), facts);
                if let Some(delta) = body.get("delta") {
                    read_end(delta, facts);
                }
            }
            "message_stop" => facts.ended = true,
            "error" => failed(&body, facts),
            _ => {}
        }
    }

    fn is_relevant(&self) -> bool {
        !self.read || (self.messages && (self.versioned || !self.shared_path))
    }
}

impl Anthropic {
    /// A message: the answer, or what a stream begins with.
    fn read_message(&mut self, mut body: Node, facts: &mut Facts) {
        facts.answered_by(body.str("id"), body.str("model"));
        self.read_usage(body.get("usage"), facts);
        let content = body.take("content");
        if matches!(content, Some(Node::Array(_))) {
            let said = Message { parts: blocks(content, facts), ..Message::new(Role::Assistant) };
            if said.parts.iter().any(|part| matches!(part, Part::Compaction { .. })) {
                facts.set(semconv::GEN_AI_CONVERSATION_COMPACTED, true);
            }
            facts.reply.begin(0);
            facts.reply.whole(0, said);
        }
        read_end(&body, facts);
    }

    fn read_usage(&mut self, usage: Option<&Node>, facts: &mut Facts) {
        let Some(usage) = usage.filter(|usage| !usage.is_null()) else { return };
        Usage::update(&mut self.input.fresh, usage.count("input_tokens"));
        Usage::update(&mut self.input.cache_read, usage.count("cache_read_input_tokens"));
        Usage::update(&mut self.input.cache_write, usage.count("cache_creation_input_tokens"));
        self.input.write(&mut facts.usage);
        Usage::update(&mut facts.usage.output, usage.count("output_tokens"));
        let thinking = usage.get("output_tokens_details").and_then(|details| details.count("thinking_tokens"));
        Usage::update(&mut facts.usage.reasoning, thinking);
    }
}

/// Why a message ended, and where its code ran.
fn read_end(body: &Node, facts: &mut Facts) {
    if let Some(reason) = body.some_str("stop_reason") {
        facts.reply.finish(0, finish_reason(reason));
    }
    if let Some(container) = named(body.get("container")) {
        facts.session(SessionKind::Group, container);
    }
}

/// A block of a streamed answer begins.
fn begin_block(place: u64, mut block: Node, facts: &mut Facts) {
    let kind = block.str("type").unwrap_or_default().to_owned();
    let id = block.some_str("id").map(str::to_owned);
    let name = block.str("name").unwrap_or_default().to_owned();
    match &*kind {
        "text" => {
            if let Some(Node::Text(text)) = block.get("text") {
                facts.reply.add(0, place, text);
            }
        }
        "thinking" => {
            if let Some(Node::Text(thought)) = block.get("thinking") {
                facts.reply.add_reasoning(0, place, thought);
            }
        }
        "tool_use" => facts.reply.call(0, place, id.as_deref(), Some(&name)),
        "server_tool_use" => facts.reply.server_call((0, place), id.as_deref(), &name, &name),
        "mcp_tool_use" => facts.reply.server_call((0, place), id.as_deref(), &name, MCP),
        _ => {
            if kind == "compaction" {
                facts.set(semconv::GEN_AI_CONVERSATION_COMPACTED, true);
            }
            let part = part(block, facts);
            facts.reply.put(0, place, part);
            return;
        }
    }
    // Usually empty, and pieces follow; some servers have all of it here.
    if let Some(input) = block.take("input").filter(|input| !input.fields().is_empty()) {
        let json = facts.arguments_text(&input);
        facts.reply.arguments(0, place, &json);
    }
}

/// It goes on.
fn grow_block(place: u64, mut delta: Node, facts: &mut Facts) {
    match delta.str("type").unwrap_or_default() {
        "text_delta" => {
            if let Some(text) = openai::piece(&delta, "text") {
                facts.reply.add(0, place, text);
            }
        }
        "thinking_delta" => {
            if let Some(thought) = openai::piece(&delta, "thinking") {
                facts.reply.add_reasoning(0, place, thought);
            }
        }
        "input_json_delta" => {
            if let Some(json) = openai::piece(&delta, "partial_json") {
                facts.reply.add_arguments(0, place, json);
            }
        }
        "compaction_delta" => {
            let content = facts.text(delta.take("content"));
            facts.reply.put(0, place, Part::Compaction { id: None, content });
        }
        // Signatures and citations are no part of what is said.
        _ => {}
    }
}

/// A message of the request.
pub(super) fn message(mut item: Node, facts: &Facts) -> Message {
    let role = Role::named(item.str("role").unwrap_or_default());
    Message { parts: blocks(item.take("content"), facts), ..Message::new(role) }
}

/// Content: a text, or blocks.
fn blocks(content: Option<Node>, facts: &Facts) -> Vec<Part> {
    match content {
        Some(Node::Array(items)) => items.into_iter().map(|item| part(item, facts)).collect(),
        text => facts.text(text).map(Part::Text).into_iter().collect(),
    }
}

fn part(mut item: Node, facts: &Facts) -> Part {
    let kind = item.str("type").unwrap_or("text").to_owned();
    let id = |name| item.some_str(name).map(Box::from);
    match &*kind {
        "text" => facts.text(item.take("text")).map(Part::Text),
        "thinking" => facts.text(item.take("thinking")).map(Part::Reasoning),
        "redacted_thinking" => Some(Part::Reasoning(Text::new(0, &facts.key))),
        "tool_use" | "server_tool_use" | "mcp_tool_use" => {
            let (id, name) = (id("id"), Box::from(item.str("name").unwrap_or_default()));
            let arguments = input(item.take("input"), facts);
            Some(match &*kind {
                "tool_use" => Part::ToolCall { id, name, arguments },
                "mcp_tool_use" => Part::ServerToolCall { id, name, kind: MCP.into(), arguments },
                _ => Part::ServerToolCall { id, kind: name.clone(), name, arguments },
            })
        }
        "tool_result" => {
            let id = id("tool_use_id");
            let result = Arguments::of_parts(blocks(item.take("content"), facts), facts.limit, &facts.key);
            Some(Part::ToolResult { id, name: None, result })
        }
        "image" | "document" => {
            let modality = if kind == "image" { "image" } else { "document" };
            item.take("source").and_then(|source| media(modality, source, facts))
        }
        "container_upload" => {
            id("file_id").map(|file| Part::Media { modality: "document", mime: None, what: Media::File(file) })
        }
        "compaction" => Some(Part::Compaction { id: id("id"), content: facts.text(item.take("content")) }),
        other => other.strip_suffix("_tool_result").map(|kind| {
            let result = facts.arguments(item.take("content"));
            Part::ServerToolResult { id: item.some_str("tool_use_id").map(Box::from), kind: kind.into(), result }
        }),
    }
    .unwrap_or_else(|| Part::Other(kind.into()))
}

/// No arguments at all are an empty object.
pub(super) fn input(input: Option<Node>, facts: &Facts) -> Arguments {
    facts.arguments(Some(input.filter(|input| !input.is_null()).unwrap_or(Node::Object(Vec::new()))))
}

fn media(modality: &'static str, mut source: Node, facts: &Facts) -> Option<Part> {
    let mime = source.some_str("media_type").map(Box::from);
    let what = if let Some(url) = source.some_str("url") {
        Media::Uri(bounded(url).into())
    } else if let Some(file) = source.some_str("file_id") {
        Media::File(file.into())
    } else {
        let data = facts.text(source.take("data"))?;
        // A document may be plain text.
        if source.str("type") == Some("text") {
            return Some(Part::Text(data));
        }
        Media::Blob(data)
    };
    Some(Part::Media { modality, mime, what })
}

/// A tool that is offered: the client's own, or one of Anthropic's by its type.
pub(super) fn tool(tool: &Node, facts: &mut Facts) {
    let kind = tool.some_str("type").filter(|kind| *kind != "custom").unwrap_or("function");
    facts.tool(kind, tool.str("name").unwrap_or(kind));
}

/// `system`: a text, or blocks of text.
pub(super) fn read_system(system: Option<Node>, facts: &mut Facts) {
    for part in blocks(system, facts) {
        if let Part::Text(text) = part {
            facts.system(text);
        }
    }
}

/// `metadata.user_id`: Claude Code writes its session into it, as JSON or in a name; of others it is just the user.
fn read_user(user: &str, facts: &mut Facts) {
    static SESSION: Shape = Shape::object(&[("session_id", &SCALAR)]);
    if let Some(said) = json::read(user.as_bytes(), &SESSION, 0, facts.key).filter(|said| !said.fields().is_empty()) {
        agent_session(said.str("session_id").unwrap_or_default(), facts);
        return;
    }
    let session = user.strip_prefix("user_").and_then(|rest| rest.rsplit_once("_session_"));
    match session.map(|(_, session)| session).filter(|session| !session.is_empty()) {
        Some(session) => agent_session(session, facts),
        None => facts.session(SessionKind::Group, user),
    }
}

/// A session of an agent program is the conversation that the conventions mean: an id that it made itself.
fn agent_session(id: &str, facts: &mut Facts) {
    facts.set_text(semconv::GEN_AI_CONVERSATION_ID, Some(id));
    facts.session(SessionKind::Agent, id);
}

/// An id, or an object that has one.
fn named(node: Option<&Node>) -> Option<&str> {
    let node = node?;
    node.as_str().or_else(|| node.str("id")).filter(|id| !id.is_empty())
}

/// An error whose status said nothing of it.
fn failed(body: &Node, facts: &mut Facts) {
    if body.get("error").is_some_and(|error| !error.is_null()) {
        reading::failed(body, facts);
    }
    facts.fail("_OTHER", None);
}

/// The conventions' name of a stop reason.
fn finish_reason(reason: &str) -> String {
    match reason {
        "end_turn" | "stop_sequence" => "stop".to_owned(),
        "max_tokens" | "model_context_window_exceeded" => "length".to_owned(),
        "tool_use" => "tool_call".to_owned(),
        "refusal" => "content_filter".to_owned(),
        other => bounded(&other.to_lowercase()),
    }
}

pub(super) static MESSAGE: Shape = Shape::object(&[("role", &SCALAR), ("content", &BLOCKS)]);
pub(super) static SYSTEM: Shape =
    Shape::text_or(Keep::Content, &Shape::object(&[("type", &SCALAR), ("text", &CONTENT)]));
pub(super) static BLOCKS: Shape = Shape::text_or(Keep::Content, &BLOCK);
static BLOCK: Shape = Shape::object(&[
    ("type", &SCALAR),
    ("id", &SCALAR),
    ("name", &SCALAR),
    ("text", &CONTENT),
    ("thinking", &CONTENT),
    ("input", &ANY),
    ("tool_use_id", &SCALAR),
    ("content", &RESULT),
    ("source", &SOURCE),
    ("file_id", &SCALAR),
]);
/// What a tool said: text, blocks, or an object of Anthropic's own tools.
pub(super) static RESULT: Shape = Shape { items: Some(&RESULT_BLOCK), ..RESULT_BLOCK };
static RESULT_BLOCK: Shape = Shape {
    text: Keep::Content,
    rest: Some(&ANY),
    ..Shape::object(&[("type", &SCALAR), ("text", &CONTENT), ("source", &SOURCE), ("cache_control", &SKIPPED)])
};
static SKIPPED: Shape = Shape::number();
/// The source of a search result is a text.
pub(super) static SOURCE: Shape = Shape {
    text: Keep::Content,
    ..Shape::object(&[
        ("type", &SCALAR),
        ("media_type", &SCALAR),
        ("data", &CONTENT),
        ("url", &WHOLE),
        ("file_id", &SCALAR),
    ])
};
static TOOL: Shape = Shape::object(&[("type", &SCALAR), ("name", &SCALAR)]);
pub(super) static TYPED: Shape = Shape::object(&[("type", &SCALAR)]);
pub(super) static OUTPUT_CONFIG: Shape = Shape::object(&[("effort", &SCALAR), ("format", &TYPED)]);
pub(super) static METADATA: Shape = Shape::object(&[("user_id", &SCALAR)]);
pub(super) static NAMED: Shape = Shape { text: Keep::Short, ..Shape::object(&[("id", &SCALAR)]) };
pub(super) static THREAD: Shape = Shape::object(&[("type", &SCALAR), ("previous_message_id", &SCALAR)]);

pub(super) static ANSWERED: Shape = Shape::object(&[
    ("id", &SCALAR),
    ("model", &SCALAR),
    ("content", &BLOCKS),
    ("stop_reason", &SCALAR),
    ("container", &NAMED),
    ("usage", &USAGE),
]);
/// A block as it begins in a stream: what grows there is kept as a whole.
pub(super) static STARTED: Shape = Shape::object(&[
    ("type", &SCALAR),
    ("id", &SCALAR),
    ("name", &SCALAR),
    ("text", &WHOLE),
    ("thinking", &WHOLE),
    ("input", &ANY_WHOLE),
    ("tool_use_id", &SCALAR),
    ("content", &RESULT),
    ("file_id", &SCALAR),
]);
static ANY_WHOLE: Shape =
    Shape { text: Keep::Whole, items: Some(&ANY_WHOLE), rest: Some(&ANY_WHOLE), ..Shape::number() };
pub(super) static DELTA: Shape = Shape::object(&[
    ("type", &SCALAR),
    ("text", &WHOLE),
    ("thinking", &WHOLE),
    ("partial_json", &WHOLE),
    ("content", &CONTENT),
    ("stop_reason", &SCALAR),
    ("container", &NAMED),
]);
pub(super) static ERROR: Shape =
    Shape { text: Keep::Short, ..Shape::object(&[("type", &SCALAR), ("message", &SCALAR), ("code", &SCALAR)]) };
static USAGE: Shape = Shape::object(&[
    ("input_tokens", &SCALAR),
    ("cache_read_input_tokens", &SCALAR),
    ("cache_creation_input_tokens", &SCALAR),
    ("output_tokens", &SCALAR),
    ("output_tokens_details", &Shape::object(&[("thinking_tokens", &SCALAR)])),
]);
const MCP: &str = "mcp";
