//! Gemini's contents and their parts, which are the same in a request and in an answer.

use crate::genai::facts::Facts;
use crate::genai::item::{Media, Message, Part, Role, Text};
use crate::genai::json::{ANY, CONTENT, Node, SCALAR, Shape, WHOLE};

/// A content: a role and parts.
pub(super) static CONTENT_SHAPE: Shape =
    Shape { text: WHOLE.text, ..Shape::object(&[("role", &SCALAR), ("parts", &PARTS)]) };
/// One part may stand without its array.
static PARTS: Shape = Shape { items: Some(&PART), ..PART };
/// A part. Texts are whole, as chunks of a stream are put together, in the history of the next request, too.
static PART: Shape = Shape::object(&[
    ("text", &WHOLE),
    ("thought", &SCALAR),
    ("functionCall", &CALL),
    ("functionResponse", &Shape::object(&[("id", &SCALAR), ("name", &SCALAR), ("response", &ANY)])),
    ("inlineData", &Shape::object(&[("mimeType", &SCALAR), ("data", &CONTENT)])),
    ("fileData", &Shape::object(&[("mimeType", &SCALAR), ("fileUri", &SCALAR)])),
    ("executableCode", &Shape::object(&[("id", &SCALAR), ("language", &SCALAR), ("code", &CONTENT)])),
    ("codeExecutionResult", &Shape::object(&[("id", &SCALAR), ("outcome", &SCALAR), ("output", &CONTENT)])),
]);
static CALL: Shape = Shape::object(&[
    ("id", &SCALAR),
    ("name", &SCALAR),
    ("args", &ANY),
    ("willContinue", &SCALAR),
    ("partialArgs", &Shape::array(&PARTIAL)),
]);
static PARTIAL: Shape = Shape::object(&[
    ("jsonPath", &SCALAR),
    ("stringValue", &WHOLE),
    ("numberValue", &SCALAR),
    ("boolValue", &SCALAR),
    ("nullValue", &SCALAR),
]);

/// A content of the request.
pub(super) fn message(mut item: Node, facts: &Facts) -> Message {
    let role = match item.str("role") {
        Some("user") | None => Role::User,
        Some("model") => Role::Assistant,
        Some("system") => Role::System,
        Some("function" | "tool") => Role::Tool,
        Some(other) => Role::Other(other.into()),
    };
    let mut message = Message::new(role);
    let parts = match item.take("parts") {
        Some(Node::Array(parts)) => parts,
        Some(part @ Node::Object(_)) => vec![part],
        // A system instruction may be a string.
        _ => {
            message.parts.extend(facts.text(Some(item)).map(Part::Text));
            return message;
        }
    };
    for item in parts {
        let part = part(item, facts);
        if message.role == Role::Assistant { join(&mut message.parts, part) } else { message.parts.push(part) }
    }
    let results = message.parts.iter().all(|part| matches!(part, Part::ToolResult { .. }));
    if message.role == Role::User && results && !message.parts.is_empty() {
        message.role = Role::Tool;
    }
    message
}

/// A part behind others of the model's: text goes on with the text before it, thoughts between them or not.
pub(super) fn join(parts: &mut Vec<Part>, part: Part) {
    let before = parts.iter_mut().rfind(|part| !matches!(part, Part::Reasoning(_)));
    match (before, part) {
        (Some(Part::Text(before)), Part::Text(text)) => before.append(&text),
        (_, part) => parts.push(part),
    }
}

/// One part.
pub(super) fn part(mut item: Node, facts: &Facts) -> Part {
    if let Some(text) = facts.text(item.take("text")) {
        return if item.is_true("thought") { Part::Reasoning(text) } else { Part::Text(text) };
    }
    let Some(kind) = item.fields().first().map(|(name, _)| name.clone()) else {
        // A signature alone, or something that is not known.
        return Part::Text(Text::new(0, &facts.key));
    };
    let mut what = item.take(&kind).unwrap_or(Node::Null);
    let id = what.some_str("id").map(Into::into);
    let name = what.some_str("name").map(Into::into);
    let mime: Option<Box<str>> = what.some_str("mimeType").map(Into::into);
    match &*kind {
        "functionCall" => {
            let arguments = what.take("args").filter(|args| !args.is_null()).unwrap_or(Node::Object(Vec::new()));
            Part::ToolCall { id, name: name.unwrap_or_default(), arguments: facts.arguments(Some(arguments)) }
        }
        "functionResponse" => Part::ToolResult { id, name, result: facts.arguments(what.take("response")) },
        "inlineData" => {
            let data = facts.text(what.take("data")).unwrap_or_else(|| Text::new(0, &facts.key));
            Part::Media { modality: modality(mime.as_deref()), mime, what: Media::Blob(data) }
        }
        "fileData" => {
            let uri = what.str("fileUri").unwrap_or_default().into();
            Part::Media { modality: modality(mime.as_deref()), mime, what: Media::Uri(uri) }
        }
        "executableCode" => {
            let _ = what.take("id");
            let arguments = facts.arguments(Some(what));
            Part::ServerToolCall { id, name: CODE.into(), kind: CODE.into(), arguments }
        }
        "codeExecutionResult" => {
            let _ = what.take("id");
            Part::ServerToolResult { id, kind: CODE.into(), result: facts.arguments(Some(what)) }
        }
        _ => Part::Other(kind.as_ref().into()),
    }
}

fn modality(mime: Option<&str>) -> &'static str {
    match mime.and_then(|mime| mime.split('/').next()) {
        Some("image") => "image",
        Some("video") => "video",
        Some("audio") => "audio",
        _ => "document",
    }
}

const CODE: &str = "code_execution";
