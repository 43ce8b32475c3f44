//! Content as the conventions shape it (semconv.md 2.7): messages -> the JSON text of an attribute. What must not leave is taken
//! out first; then it is made to fit.

use std::borrow::Cow;

use super::item::{Media, Message, Part, Text, Tool, beginning};
use crate::redaction::{Redaction, quote};

/// Writes attributes of content, each of at most so many bytes, each valid JSON.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Writer<'a> {
    redaction: &'a Redaction,
    most: usize,
}

impl<'a> Writer<'a> {
    /// `most`: bytes of one attribute, at least 256.
    pub(crate) fn new(redaction: &'a Redaction, most: usize) -> Self {
        Self { redaction, most: most.max(LEAST) }
    }

    /// `gen_ai.input.messages`
    pub(crate) fn input(&self, messages: &[Message]) -> String {
        self.fit(messages.iter().map(|message| self.message(message, false)).collect(), LEFT_OUT)
    }

    /// `gen_ai.output.messages`, one for each choice. Whoever did not say why it ended has failed.
    pub(crate) fn output(&self, messages: &[Message]) -> String {
        self.fit(messages.iter().map(|message| self.message(message, true)).collect(), LEFT_OUT)
    }

    /// `gen_ai.system_instructions`
    pub(crate) fn system(&self, texts: &[Text]) -> String {
        let part = |text: &Text| {
            let mut draft = Draft::default();
            draft.raw("{\"type\":\"text\",\"content\":");
            self.text(text, &mut draft);
            draft.raw("}");
            draft
        };
        self.fit(texts.iter().map(part).collect(), "{\"type\":\"truncated\"}")
    }

    /// `gen_ai.tool.definitions`
    pub(crate) fn tools(&self, tools: &[Tool]) -> String {
        let definition = |tool: &Tool| {
            let mut draft = Draft::default();
            draft.raw("{\"type\":");
            self.word(&tool.kind, &mut draft);
            draft.raw(",\"name\":");
            self.word(&tool.name, &mut draft);
            draft.raw("}");
            draft
        };
        self.fit(tools.iter().map(definition).collect(), "{\"type\":\"truncated\",\"name\":\"\"}")
    }

    /// `gen_ai.tool.call.arguments`, `gen_ai.tool.call.result`: as it is if it is JSON, else a string.
    pub(crate) fn value(&self, text: &Text) -> String {
        let mut draft = Draft::default();
        self.json(text, &mut draft);
        let level = level(std::slice::from_ref(&draft), self.most);
        let mut out = String::new();
        draft.write(level.unwrap_or(0), &mut out);
        out
    }

    fn message(&self, message: &Message, output: bool) -> Draft {
        let mut draft = Draft::default();
        draft.raw("{\"role\":");
        self.word(message.role.as_str(), &mut draft);
        draft.raw(",\"parts\":[");
        for (index, part) in message.parts.iter().enumerate() {
            draft.raw(if index > 0 { "," } else { "" });
            self.part(part, &mut draft);
        }
        draft.raw("]");
        self.field("name", message.name.as_deref(), &mut draft);
        if output {
            self.field("finish_reason", Some(message.finish_reason.as_deref().unwrap_or("error")), &mut draft);
        }
        draft.raw("}");
        draft
    }

    fn part(&self, part: &Part, draft: &mut Draft) {
        let kind = match part {
            Part::Text(_) => "text",
            Part::Reasoning(_) => "reasoning",
            Part::ToolCall { .. } => "tool_call",
            Part::ToolResult { .. } => "tool_call_response",
            Part::ServerToolCall { .. } => "server_tool_call",
            Part::ServerToolResult { .. } => "server_tool_call_response",
            Part::Media { what: Media::Uri(_), .. } => "uri",
            Part::Media { what: Media::File(_), .. } => "file",
            Part::Media { what: Media::Blob(_), .. } => "blob",
            Part::Compaction { .. } => "compaction",
            Part::Other(kind) => kind,
        };
        draft.raw("{\"type\":");
        self.word(kind, draft);
        match part {
            Part::Text(text) | Part::Reasoning(text) => {
                draft.raw(",\"content\":");
                self.text(text, draft);
            }
            Part::ToolCall { id, name, arguments } => {
                self.field("id", id.as_deref(), draft);
                self.field("name", Some(name), draft);
                draft.raw(",\"arguments\":");
                self.json(&arguments.json, draft);
            }
            Part::ToolResult { id, result, .. } => {
                self.field("id", id.as_deref(), draft);
                draft.raw(",\"response\":");
                self.json(&result.json, draft);
            }
            Part::ServerToolCall { id, name, kind, arguments } => {
                self.field("id", id.as_deref(), draft);
                self.field("name", Some(name), draft);
                draft.raw(",\"server_tool_call\":{\"type\":");
                self.word(kind, draft);
                draft.raw(",\"arguments\":");
                self.json(&arguments.json, draft);
                draft.raw("}");
            }
            Part::ServerToolResult { id, kind, result } => {
                self.field("id", id.as_deref(), draft);
                draft.raw(",\"server_tool_call_response\":{\"type\":");
                self.word(kind, draft);
                draft.raw(",\"result\":");
                self.json(&result.json, draft);
                draft.raw("}");
            }
            Part::Media { modality, mime, what } => {
                self.field("modality", Some(modality), draft);
                self.field("mime_type", mime.as_deref(), draft);
                self.media(what, draft);
            }
            Part::Compaction { id, content } => {
                self.field("id", id.as_deref(), draft);
                if let Some(content) = content {
                    draft.raw(",\"content\":");
                    self.text(content, draft);
                }
            }
            Part::Other(_) => {}
        }
        draft.raw("}");
    }

    fn media(&self, what: &Media, draft: &mut Draft) {
        match what {
            Media::Uri(uri) => {
                draft.raw(",\"uri\":");
                draft.text(self.redaction.text(uri).into_owned(), 0, Form::Text);
            }
            Media::File(id) => self.field("file_id", Some(id), draft),
            // Bytes are shown whole or not at all. What is to be bytes and is text is redacted as text, JSON as JSON.
            Media::Blob(content) => {
                draft.raw(",\"content\":");
                let said = content.kept();
                let (shown, form) = match content.is_truncated() {
                    true => (said.to_owned(), Form::Nothing),
                    false if self.is_bytes(said) => (said.to_owned(), Form::Whole),
                    false if said.trim_start().starts_with(['{', '[']) => {
                        (self.redaction.json(said, false).text.into_owned(), Form::Text)
                    }
                    false => (self.redaction.text(said).into_owned(), Form::Text),
                };
                draft.text(shown, missing(content), form);
            }
        }
    }

    /// A short text, if there is one, behind other fields.
    fn field(&self, name: &str, value: Option<&str>, draft: &mut Draft) {
        if let Some(value) = value {
            draft.raw(",\"");
            draft.raw(name);
            draft.raw("\":");
            self.word(value, draft);
        }
    }

    /// A name, an id, a type: short, and whatever somebody wrote there.
    fn word(&self, word: &str, draft: &mut Draft) {
        draft.quoted(beginning(&self.redaction.text(word), MAX_NAME));
    }

    /// Whether it is base64, alone or in a `data:` URL. So is many a key: what is short has to look like none.
    fn is_bytes(&self, content: &str) -> bool {
        let clean = |text: &str| matches!(self.redaction.text(text), Cow::Borrowed(_));
        let payload = match content.split_once(',') {
            Some((head, payload)) => {
                let head = head.to_ascii_lowercase();
                (head.starts_with("data:") && head.ends_with(";base64") && clean(&head)).then_some(payload)
            }
            None => Some(content),
        };
        payload.is_some_and(|payload| is_base64(payload) && (payload.len() >= MIN_BYTES || clean(payload)))
    }

    fn text(&self, text: &Text, draft: &mut Draft) {
        let clean =
            if text.is_truncated() { self.redaction.beginning(text.kept()) } else { self.redaction.text(text.kept()) };
        draft.text(clean.into_owned(), missing(text), Form::Text);
    }

    fn json(&self, text: &Text, draft: &mut Draft) {
        let json = self.redaction.json(text.kept(), text.is_truncated());
        let form = if json.valid && !text.is_truncated() { Form::Json } else { Form::Text };
        draft.text(Cow::into_owned(json.text), missing(text), form);
    }

    /// An array of what fits: texts are shortened from the longest on; where that is not enough, the oldest behind the first
    /// are left out.
    fn fit(&self, mut drafts: Vec<Draft>, left_out: &str) -> String {
        // What stands for those that are left out needs room too.
        let room = self.most - 2 - left_out.len() - 1;
        let mut gone = false;
        let mut level = level(&drafts, room);
        if level.is_none_or(|level| level < SHORT) {
            let shortest = |draft: &Draft| draft.size(SHORT) + 1;
            let mut size: usize = drafts.iter().map(shortest).sum();
            let mut first_kept = 1;
            while size > room && first_kept + 1 < drafts.len() {
                size -= drafts.get(first_kept).map_or(0, shortest);
                first_kept += 1;
            }
            gone = first_kept > 1;
            drafts.drain(1.min(drafts.len())..first_kept.min(drafts.len()));
            level = self::level(&drafts, room);
        }
        let mut out = String::from("[");
        match level {
            Some(level) => {
                for (index, draft) in drafts.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    draft.write(level, &mut out);
                    if gone && index == 0 {
                        out.push(',');
                        out.push_str(left_out);
                    }
                }
            }
            // Hundreds of parts without texts: nothing of it can be shown.
            None => out.push_str(left_out),
        }
        out.push(']');
        out
    }
}

/// JSON text with the places of its texts.
#[derive(Debug, Default)]
struct Draft {
    fragments: Vec<Fragment>,
}

#[derive(Debug)]
enum Fragment {
    Raw(String),
    /// `missing`: bytes of it that were not kept.
    Text {
        clean: String,
        missing: u64,
        form: Form,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A string that may be shortened.
    Text,
    /// JSON; a string if it is shortened.
    Json,
    /// A string, or only its mark.
    Whole,
    /// Only its mark.
    Nothing,
}

impl Draft {
    fn raw(&mut self, text: &str) {
        match self.fragments.last_mut() {
            Some(Fragment::Raw(raw)) => raw.push_str(text),
            _ => self.fragments.push(Fragment::Raw(text.to_owned())),
        }
    }

    fn quoted(&mut self, text: &str) {
        let mut quoted = String::new();
        quote(text, &mut quoted);
        self.raw(&quoted);
    }

    fn text(&mut self, clean: String, missing: u64, form: Form) {
        self.fragments.push(Fragment::Text { clean, missing, form });
    }

    /// Its bytes with no text longer than `level`.
    fn size(&self, level: usize) -> usize {
        let size = |fragment: &Fragment| match fragment {
            Fragment::Raw(raw) => raw.len(),
            Fragment::Text { .. } => {
                let mut out = String::new();
                fragment.write(level, &mut out);
                out.len()
            }
        };
        self.fragments.iter().map(size).sum()
    }

    fn write(&self, level: usize, out: &mut String) {
        self.fragments.iter().for_each(|fragment| fragment.write(level, out));
    }

    fn longest(&self) -> usize {
        let length = |fragment: &Fragment| match fragment {
            Fragment::Raw(_) => 0,
            Fragment::Text { clean, .. } => clean.len(),
        };
        self.fragments.iter().map(length).max().unwrap_or(0)
    }
}

impl Fragment {
    fn write(&self, level: usize, out: &mut String) {
        let Fragment::Text { clean, missing, form } = self else {
            if let Fragment::Raw(raw) = self {
                out.push_str(raw);
            }
            return;
        };
        let shown = match form {
            Form::Whole if clean.len() > level => "",
            Form::Nothing => "",
            _ => beginning(clean, level),
        };
        let missing = missing + (clean.len() - shown.len()) as u64;
        match (form, missing) {
            (Form::Json, 0) => out.push_str(clean),
            (_, 0) => quote(clean, out),
            _ => quote(&format!("{shown}…[truncated {missing} bytes]"), out),
        }
    }
}

/// The longest that a text may be so that all of it fits; `None` if it does not fit without any text.
fn level(drafts: &[Draft], room: usize) -> Option<usize> {
    let fits = |level: usize| drafts.iter().map(|draft| draft.size(level) + 1).sum::<usize>() <= room + 1;
    let longest = drafts.iter().map(Draft::longest).max().unwrap_or(0);
    if fits(longest) {
        return Some(longest);
    }
    let (mut low, mut high) = (0, longest.min(room));
    if !fits(low) {
        return None;
    }
    while low + 1 < high {
        let middle = low.midpoint(high);
        if fits(middle) { low = middle } else { high = middle }
    }
    Some(low)
}

/// In either alphabet (RFC 4648, sections 4 and 5), without blanks; of the second the padding is often left out.
fn is_base64(text: &str) -> bool {
    let bare = text.trim_end_matches('=');
    let padding = text.len() - bare.len();
    let (mut plain, mut safe) = (true, true);
    for byte in bare.bytes() {
        let common = byte.is_ascii_alphanumeric();
        plain &= common || b"+/".contains(&byte);
        safe &= common || b"-_".contains(&byte);
    }
    let length = if padding > 0 { text.len().is_multiple_of(4) } else { text.len() % 4 != 1 };
    (plain || safe) && padding <= 2 && length
}

fn missing(text: &Text) -> u64 {
    text.length() - text.kept().len() as u64
}

/// Stands for messages that are left out.
const LEFT_OUT: &str = "{\"role\":\"system\",\"parts\":[{\"type\":\"truncated\"}]}";
/// Before texts are shorter than this, messages are left out.
const SHORT: usize = 64;
/// Of an id or a name.
const MAX_NAME: usize = 256;
const LEAST: usize = 256;
/// No key that is base64 is so long.
const MIN_BYTES: usize = 1024;

#[cfg(test)]
mod tests;
