//! What the formats of OpenAI have in common.

use crate::call::SessionKind;
use crate::genai::facts::{Facts, Usage};
use crate::genai::item::{Arguments, Media, Part, Text};
use crate::genai::json::{ANY, CONTENT, Keep, Node, SCALAR, Shape, WHOLE};
use crate::genai::{Headers, reading};
use crate::trace::semconv;

/// Content of a message: text, or parts.
pub(super) static REQUEST_CONTENT: Shape = Shape::text_or(Keep::Content, &PART);
static PART: Shape = Shape::object(&[
    ("type", &SCALAR),
    ("text", &CONTENT),
    ("thinking", &THINKING),
    ("refusal", &CONTENT),
    ("image_url", &Shape { text: Keep::Content, ..Shape::object(&[("url", &CONTENT)]) }),
    ("file_id", &SCALAR),
    ("input_audio", &Shape::object(&[("data", &CONTENT), ("format", &SCALAR)])),
    ("file", &Shape::object(&[("file_id", &SCALAR), ("file_data", &CONTENT), ("filename", &SCALAR)])),
    ("file_url", &SCALAR),
    ("file_data", &CONTENT),
]);
/// What Mistral's models think: text, or texts.
pub(super) static THINKING: Shape = Shape::text_or(Keep::Whole, &Shape::object(&[("text", &WHOLE)]));
/// Tools that are offered; handed out.
pub(super) static REQUEST_TOOLS: Shape = Shape::each("tools", &TOOL);
static TOOL: Shape = Shape::object(&[("type", &SCALAR), ("name", &SCALAR), ("function", &NAMED), ("custom", &NAMED)]);
static NAMED: Shape = Shape::object(&[("name", &SCALAR)]);
/// Arguments of a call: JSON in a string, or as it is.
pub(super) static ARGUMENTS: Shape = Shape { text: Keep::Whole, ..Shape { rest: Some(&ANY), ..Shape::number() } };
/// `usage`, of chat and of responses.
pub(super) static USAGE: Shape = Shape::object(&[
    ("prompt_tokens", &SCALAR),
    ("completion_tokens", &SCALAR),
    ("input_tokens", &SCALAR),
    ("output_tokens", &SCALAR),
    ("prompt_tokens_details", &DETAILS),
    ("completion_tokens_details", &DETAILS),
    ("input_tokens_details", &DETAILS),
    ("output_tokens_details", &DETAILS),
]);
static DETAILS: Shape = Shape::object(&[
    ("cached_tokens", &SCALAR),
    ("cache_write_tokens", &SCALAR),
    ("reasoning_tokens", &SCALAR),
    ("text_tokens", &SCALAR),
    ("image_tokens", &SCALAR),
    ("audio_tokens", &SCALAR),
]);
/// `error`, in an answer or in a stream.
pub(super) static ERROR: Shape = Shape {
    text: Keep::Short,
    ..Shape::object(&[("message", &SCALAR), ("type", &SCALAR), ("code", &SCALAR), ("param", &SCALAR)])
};

/// What the header fields of a request tell.
pub(super) fn request_head(headers: &Headers<'_>, api: &'static str, facts: &mut Facts) {
    if !api.is_empty() {
        facts.set(semconv::OPENAI_API_TYPE, api);
    }
    let kinds = [
        ("session-id", SessionKind::Agent),
        ("session_id", SessionKind::Agent),
        ("thread-id", SessionKind::Thread),
        ("x-codex-parent-thread-id", SessionKind::SubAgent),
    ];
    for (name, kind) in kinds {
        if let Some(id) = headers.get(name) {
            facts.session(kind, &id);
        }
    }
}

/// Fields that the formats share.
pub(super) fn sampling(body: &Node, facts: &mut Facts) {
    facts.asked_model(body.str("model"));
    facts.stream |= body.is_true("stream");
    for (name, attribute) in [
        ("temperature", semconv::GEN_AI_REQUEST_TEMPERATURE),
        ("top_p", semconv::GEN_AI_REQUEST_TOP_P),
        ("presence_penalty", semconv::GEN_AI_REQUEST_PRESENCE_PENALTY),
        ("frequency_penalty", semconv::GEN_AI_REQUEST_FREQUENCY_PENALTY),
    ] {
        facts.set_float(attribute, body.float(name));
    }
    facts.set_int(semconv::GEN_AI_REQUEST_TOP_K, body.int("top_k"));
    facts.set_text(semconv::OPENAI_REQUEST_SERVICE_TIER, body.str("service_tier").filter(|tier| *tier != "auto"));
    if let Some(key) = body.some_str("prompt_cache_key") {
        facts.session(SessionKind::Group, key);
    }
}

/// `gen_ai.output.type` of a response format.
pub(super) fn output_type(format: Option<&str>, facts: &mut Facts) {
    match format {
        Some("text") => facts.set(semconv::GEN_AI_OUTPUT_TYPE, "text"),
        Some("json_object" | "json_schema") => facts.set(semconv::GEN_AI_OUTPUT_TYPE, "json"),
        _ => {}
    }
}

/// A tool that is offered.
pub(super) fn tool(tool: &Node, facts: &mut Facts) {
    let kind = tool.str("type").unwrap_or("function");
    let named = tool.get("function").or_else(|| tool.get("custom")).unwrap_or(tool);
    facts.tool(kind, named.str("name").unwrap_or(kind));
}

/// Parts of a message's content.
pub(super) fn content(content: Option<Node>, facts: &Facts) -> Vec<Part> {
    match content {
        Some(Node::Array(items)) => items.into_iter().map(|item| part(item, facts)).collect(),
        text => facts.text(text).map(Part::Text).into_iter().collect(),
    }
}

fn part(mut item: Node, facts: &Facts) -> Part {
    let kind = item.str("type").unwrap_or("text").to_owned();
    let media = |modality, mime, what| Part::Media { modality, mime, what };
    match &*kind {
        "text" | "input_text" | "output_text" => facts.text(item.take("text")).map(Part::Text),
        "refusal" => facts.text(item.take("refusal")).map(Part::Text),
        "thinking" => item.take("thinking").map(|thought| Part::Reasoning(result(Some(thought), facts).json)),
        "image_url" | "input_image" => {
            let image = item.take("image_url").map(|mut image| image.take("url").unwrap_or(image));
            let file = item.some_str("file_id").map(|id| Media::File(id.into()));
            facts.text(image).map(uri).or(file).map(|what| media("image", None, what))
        }
        "input_audio" => {
            let mut audio = item.take("input_audio").unwrap_or(Node::Null);
            let mime = audio.some_str("format").map(|format| format!("audio/{format}").into());
            facts.text(audio.take("data")).map(|data| media("audio", mime, Media::Blob(data)))
        }
        "file" | "input_file" => {
            let mut file = item.take("file").unwrap_or(item);
            let named = file.some_str("file_id").map(|id| Media::File(id.into()));
            let named = named.or_else(|| file.some_str("file_url").map(|url| Media::Uri(url.into())));
            let what = named.or_else(|| facts.text(file.take("file_data")).map(Media::Blob));
            what.map(|what| media("document", None, what))
        }
        _ => None,
    }
    .unwrap_or_else(|| Part::Other(kind.into()))
}

/// A piece of something that is put together: a field as it was read, if it says something.
pub(super) fn piece<'n>(node: &'n Node, name: &str) -> Option<&'n Text> {
    match node.get(name) {
        Some(Node::Text(text)) if text.length() > 0 => Some(text),
        _ => None,
    }
}

/// An address, or data in one.
pub(super) fn uri(text: Text) -> Media {
    let scheme = text.kept().split_once("://").map(|(scheme, _)| scheme);
    let named = |scheme: &str| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    if scheme.is_some_and(named) && !text.is_truncated() { Media::Uri(text.kept().into()) } else { Media::Blob(text) }
}

/// What a tool said: text, or parts of text.
pub(super) fn result(content: Option<Node>, facts: &Facts) -> Arguments {
    match content {
        Some(Node::Array(items)) => {
            let parts = items.into_iter().map(|item| part(item, facts)).collect();
            Arguments::of_parts(parts, facts.limit, &facts.key)
        }
        text => Arguments { json: facts.text(text).unwrap_or_else(|| Text::new(0, &facts.key)), digest: None },
    }
}

/// A tool that was asked for, in a request's history.
pub(super) fn tool_call(id: Option<Box<str>>, called: &mut Node, facts: &Facts) -> Part {
    let arguments = match called.take("arguments").or_else(|| called.take("input")) {
        Some(object @ Node::Object(_)) => facts.arguments(Some(object)),
        text => facts.quoted(text),
    };
    Part::ToolCall { id, name: called.str("name").unwrap_or_default().into(), arguments }
}

/// Token counts; the names of chat and of responses.
pub(super) fn usage(found: &Node, facts: &mut Facts) {
    let usage = &mut facts.usage;
    let either = |one, other| found.count(one).or_else(|| found.count(other));
    Usage::update(&mut usage.input, either("prompt_tokens", "input_tokens"));
    Usage::update(&mut usage.output, either("completion_tokens", "output_tokens"));
    if let Some(input) = found.get("prompt_tokens_details").or_else(|| found.get("input_tokens_details")) {
        Usage::update(&mut usage.cache_read, input.count("cached_tokens"));
        Usage::update(&mut usage.cache_write, input.count("cache_write_tokens"));
        Usage::update(&mut usage.text.input, input.count("text_tokens"));
        Usage::update(&mut usage.image.input, input.count("image_tokens"));
        Usage::update(&mut usage.audio.input, input.count("audio_tokens"));
    }
    if let Some(output) = found.get("completion_tokens_details").or_else(|| found.get("output_tokens_details")) {
        Usage::update(&mut usage.reasoning, output.count("reasoning_tokens"));
        Usage::update(&mut usage.text.output, output.count("text_tokens"));
        Usage::update(&mut usage.image.output, output.count("image_tokens"));
        Usage::update(&mut usage.audio.output, output.count("audio_tokens"));
    }
}

/// An error inside an answer whose status says nothing of it.
pub(super) fn failed(body: &Node, facts: &mut Facts) {
    if body.get("error").is_some_and(says_something) {
        reading::failed(body, facts);
        if facts.error.is_none() {
            facts.fail("_OTHER", None);
        }
    }
}

/// Some servers send `"error"` with every answer: empty or false, it is none.
fn says_something(error: &Node) -> bool {
    let is_said = |value: &Node| match value {
        Node::Int(code) => *code != 0,
        value => value.as_str().is_some_and(|text| !text.is_empty()),
    };
    is_said(error) && error.as_int().is_none() || error.fields().iter().any(|(_, value)| is_said(value))
}

/// The conventions' name of a finish reason.
pub(super) fn finish_reason(reason: &str) -> String {
    match reason {
        "tool_calls" | "function_call" => "tool_call".to_owned(),
        "model_length" => "length".to_owned(),
        other => crate::genai::facts::bounded(&other.to_lowercase()),
    }
}
