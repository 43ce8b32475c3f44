//! What a format finds in the bodies of a call, whatever the provider: it becomes the attributes of the call's span, evidence
//! for `stitch`, and content if that is captured.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use opentelemetry::{Array, Key as Name, KeyValue, StringValue, Value};

use super::item::{Arguments, Key, Message, Part, Role, Text, Tool, beginning};
use super::json::{self, Node};
use super::reply::Reply;
use crate::call::{Evidence, SessionKind};
use crate::config::rules::Price;
use crate::redaction::Redaction;
use crate::trace::{Span, semconv};

/// What was found so far.
#[derive(Debug)]
pub(crate) struct Facts {
    /// `gen_ai.operation.name`; empty for what is no GenAI operation.
    pub(crate) operation: &'static str,
    /// `gen_ai.provider.name`
    pub(crate) provider: Option<Cow<'static, str>>,
    /// The span's name, where it is not operation and model.
    pub(crate) title: Option<Cow<'static, str>>,
    /// The model that was asked for.
    pub(crate) model: Option<Box<str>>,
    /// The client asks for a stream.
    pub(crate) stream: bool,
    /// The model that answered, and the answer's id.
    pub(crate) response_model: Option<Box<str>>,
    pub(crate) response_id: Option<Box<str>>,
    /// Any other attribute. Of one that is set twice the last value stays.
    attributes: Vec<KeyValue>,
    pub(crate) usage: Usage,
    /// What the model says.
    pub(crate) reply: Reply,
    /// The call failed, by the provider's own words.
    pub(crate) error: Option<Failure>,
    /// Words for a failure that only the status tells.
    pub(crate) message: Option<Box<str>>,
    /// A chunk of output has come.
    pub(crate) chunk: bool,
    /// A stream has said that nothing follows.
    pub(crate) ended: bool,
    pub(crate) evidence: Evidence,
    /// What was said, if it is captured.
    pub(crate) content: Option<Content>,
    /// How digests are made.
    pub(crate) key: Key,
    /// What others say is shown without its secrets.
    pub(crate) redaction: Arc<Redaction>,
    /// How much of a text is kept.
    pub(crate) limit: usize,
    /// The agent answers the call.
    pub(crate) server: bool,
    /// Something of the call was left out: why, and how often.
    pub(crate) missing: Option<(&'static str, u64)>,
    /// Requests before this one for the same answer.
    pub(crate) resends: u32,
    /// Bytes of captured messages.
    kept: usize,
}

/// Content, as the conventions shape it.
#[derive(Debug, Default)]
pub(crate) struct Content {
    pub(crate) input: VecDeque<Message>,
    pub(crate) system: Vec<Text>,
    pub(crate) tools: Vec<Tool>,
    /// Of an MCP tool.
    pub(crate) arguments: Option<Text>,
    pub(crate) result: Option<Text>,
}

/// What the provider said of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Its code: `error.type`.
    pub(crate) code: Box<str>,
    /// Its words.
    pub(crate) message: Option<Box<str>>,
}

/// Tokens. Each is unknown until somebody says it; what is said last counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// All of the input, cached or not.
    pub(crate) input: Option<u64>,
    /// All of the output, reasoning included.
    pub(crate) output: Option<u64>,
    pub(crate) cache_read: Option<u64>,
    pub(crate) cache_write: Option<u64>,
    pub(crate) reasoning: Option<u64>,
    pub(crate) text: Modality,
    pub(crate) image: Modality,
    pub(crate) audio: Modality,
}

/// Tokens of one kind of content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Modality {
    pub(crate) input: Option<u64>,
    pub(crate) output: Option<u64>,
    pub(crate) cache_read: Option<u64>,
}

/// Input tokens of providers that count what is cached apart from the rest.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SplitInput {
    /// Neither read from the cache nor written to it.
    pub(crate) fresh: Option<u64>,
    pub(crate) cache_read: Option<u64>,
    pub(crate) cache_write: Option<u64>,
}

impl SplitInput {
    /// What is known now. The input is the sum of all; unknown as long as the part is that nobody leaves out.
    pub(crate) fn write(&self, usage: &mut Usage) {
        usage.cache_read = self.cache_read;
        usage.cache_write = self.cache_write;
        usage.input = self.fresh.map(|fresh| fresh.saturating_add(self.cached()));
    }

    /// Tokens that the cache has to do with.
    pub(crate) fn cached(&self) -> u64 {
        self.cache_read.unwrap_or(0).saturating_add(self.cache_write.unwrap_or(0))
    }
}

impl Facts {
    /// Nothing found yet. `capture`: content is kept, so much of each text.
    pub(crate) fn new(key: Key, capture: Option<usize>) -> Self {
        Self {
            operation: "",
            provider: None,
            title: None,
            model: None,
            stream: false,
            response_model: None,
            response_id: None,
            attributes: Vec::new(),
            usage: Usage::default(),
            reply: Reply::new(key, capture.unwrap_or(0)),
            error: None,
            message: None,
            chunk: false,
            ended: false,
            evidence: Evidence::default(),
            content: capture.map(|_| Content::default()),
            key,
            redaction: Arc::default(),
            limit: capture.unwrap_or(0),
            server: false,
            missing: None,
            resends: 0,
            kept: 0,
        }
    }

    /// Sets an attribute.
    pub(crate) fn set(&mut self, name: impl Into<Name>, value: impl Into<Value>) {
        let (name, value) = (name.into(), value.into());
        let room = self.attributes.len() < MAX_ATTRIBUTES;
        match self.attributes.iter_mut().find(|attribute| attribute.key == name) {
            Some(attribute) => attribute.value = value,
            None if room => self.attributes.push(KeyValue::new(name, value)),
            None => {}
        }
    }

    /// Whether an attribute is set.
    pub(crate) fn has(&self, name: &'static str) -> bool {
        self.attributes.iter().any(|attribute| attribute.key.as_str() == name)
    }

    /// An attribute that is a text.
    pub(crate) fn text_of(&self, name: &'static str) -> Option<&str> {
        let found = self.attributes.iter().find(|attribute| attribute.key.as_str() == name);
        match &found?.value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        }
    }

    /// Takes an attribute back.
    pub(crate) fn unset(&mut self, name: &'static str) {
        self.attributes.retain(|attribute| attribute.key.as_str() != name);
    }

    /// Sets a text, if there is one.
    pub(crate) fn set_text(&mut self, name: impl Into<Name>, value: Option<&str>) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.set(name, bounded(value));
        }
    }

    /// Sets a whole number, if there is one.
    pub(crate) fn set_int(&mut self, name: &'static str, value: Option<i64>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    /// Sets a number, if there is one.
    pub(crate) fn set_float(&mut self, name: &'static str, value: Option<f64>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    /// Sets a list of texts: a string is a list of one.
    pub(crate) fn set_texts(&mut self, name: &'static str, value: Option<&Node>) {
        let texts: Vec<StringValue> = match value {
            Some(Node::Array(items)) => {
                items.iter().filter_map(Node::as_str).take(MAX_TEXTS).map(|text| bounded(text).into()).collect()
            }
            Some(value) => value.as_str().map(|text| bounded(text).into()).into_iter().collect(),
            None => return,
        };
        if !texts.is_empty() {
            self.set(name, Value::Array(Array::String(texts)));
        }
    }

    /// The model that was asked for.
    pub(crate) fn asked_model(&mut self, model: Option<&str>) {
        if let Some(model) = model.filter(|model| !model.is_empty()) {
            self.model = Some(bounded(model).into());
        }
    }

    /// The answer's id and model: the first that say something.
    pub(crate) fn answered_by(&mut self, id: Option<&str>, model: Option<&str>) {
        let first = |known: &mut Option<Box<str>>, found: Option<&str>| {
            if let Some(found) = found.filter(|found| known.is_none() && !found.is_empty()) {
                *known = Some(bounded(found).into());
            }
        };
        first(&mut self.response_id, id);
        first(&mut self.response_model, model);
        if self.evidence.response_id.is_none() {
            self.evidence.response_id = self.response_id.clone();
        }
    }

    /// A conversation of the provider's.
    pub(crate) fn conversation(&mut self, id: Option<&str>) {
        if let Some(id) = id.filter(|id| !id.is_empty()) {
            self.set(semconv::GEN_AI_CONVERSATION_ID, bounded(id));
            self.session(SessionKind::Conversation, id);
        }
    }

    /// An id that groups calls.
    pub(crate) fn session(&mut self, kind: SessionKind, id: &str) {
        let id: Box<str> = bounded(id).into();
        let known = self.evidence.sessions.iter().any(|(known, found)| (*known, found) == (kind, &id));
        if !id.is_empty() && !known && self.evidence.sessions.len() < MAX_SESSIONS {
            self.evidence.sessions.push((kind, id));
        }
    }

    /// A message of the request.
    pub(crate) fn input(&mut self, message: Message) {
        if message.role == Role::Assistant {
            self.evidence.answered.clear();
        }
        for part in &message.parts {
            if let Part::ToolResult { id: Some(id), .. } = part {
                if self.evidence.answered.len() < MAX_CALLS {
                    self.evidence.answered.push(id.clone());
                } else {
                    self.evidence.incomplete = true;
                }
            }
        }
        if message.role != Role::System && !message.is_silent() {
            match message.digest(&self.key).filter(|_| self.evidence.items.len() < MAX_MESSAGES) {
                Some(digest) => self.evidence.items.push(digest),
                None => self.evidence.incomplete = true,
            }
        }
        let size = message.held();
        if let Some(content) = &mut self.content {
            // The first and the newest are worth most: those between make room.
            self.kept += size;
            content.input.push_back(message);
            while self.kept > self.limit.saturating_mul(4) && content.input.len() > 2 {
                content.input.swap(0, 1);
                self.kept -= content.input.pop_front().map_or(0, |oldest| oldest.held());
            }
        }
    }

    /// An item of the request: what the assistant says may be several of them, and so may the results of tools.
    pub(crate) fn input_part_of_turn(&mut self, message: Message) {
        self.input(message);
    }

    /// Text for the model that is no message.
    pub(crate) fn system(&mut self, text: Text) {
        if let Some(content) = self.content.as_mut().filter(|content| content.system.len() < MAX_CALLS) {
            content.system.push(text);
        }
    }

    /// A tool that the model may ask for.
    pub(crate) fn tool(&mut self, kind: &str, name: &str) {
        if let Some(content) = self.content.as_mut().filter(|content| content.tools.len() < MAX_CALLS) {
            content.tools.push(Tool { kind: bounded(kind).into(), name: bounded(name).into() });
        }
    }

    /// The call failed, by these words of the provider's. What is no code does not become one.
    pub(crate) fn fail(&mut self, code: &str, message: Option<&str>) {
        if self.error.is_none() && !code.is_empty() {
            let message = message.filter(|message| *message != code).and_then(|message| self.words(message));
            let code = if self.is_code(code) { code } else { "_OTHER" };
            self.error = Some(Failure { code: code.into(), message });
        }
    }

    /// Whether it names an error: a word without anything secret in it.
    pub(crate) fn is_code(&self, code: &str) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:/-".contains(&byte);
        let short = (1..=MAX_CODE).contains(&code.len()) && code.bytes().all(plain);
        short && matches!(self.redaction.text(code), Cow::Borrowed(_))
    }

    /// A text as it was read, without its secrets: before it is bounded, or half of one would stay.
    pub(crate) fn clean<'a>(&self, text: &'a str, cut: bool) -> Cow<'a, str> {
        match cut {
            // Of a character that was cut the mark is no part of what was said.
            true => self.redaction.beginning(text.trim_end_matches(char::REPLACEMENT_CHARACTER)),
            false => self.redaction.text(text),
        }
    }

    fn words(&self, text: &str) -> Option<Box<str>> {
        (!text.is_empty()).then(|| bounded(&self.clean(text, is_cut(text))).into())
    }

    /// What was found of the answer becomes evidence.
    pub(crate) fn seal(&mut self) {
        self.reply.issued(&mut self.evidence);
        let reply = self.reply.digests();
        self.evidence.incomplete |= reply.contains(&None);
        self.evidence.reply = reply.into_iter().flatten().collect();
    }

    /// What the tokens cost, by this price of a million.
    pub(crate) fn cost(&self, price: &Price) -> Option<f64> {
        let (input, output) = (self.usage.input?, self.usage.output.unwrap_or(0));
        let (read, written) = (self.usage.cache_read.unwrap_or(0), self.usage.cache_write.unwrap_or(0));
        let plain = input.saturating_sub(read).saturating_sub(written);
        let parts = [
            (plain, price.input),
            (read, price.cache_read.unwrap_or(price.input)),
            (written, price.cache_write.unwrap_or(price.input)),
            (output, price.output),
        ];
        Some(parts.into_iter().map(|(tokens, price)| tokens as f64 * price / 1e6).sum())
    }

    /// A text of the request's, from what was read.
    pub(crate) fn text(&self, node: Option<Node>) -> Option<Text> {
        match node? {
            Node::Text(text) => Some(*text),
            Node::Short(text) => Some(Text::of(&text, self.limit, &self.key)),
            _ => None,
        }
    }

    /// Arguments that came as JSON inside a string.
    pub(crate) fn quoted(&self, node: Option<Node>) -> Arguments {
        let json = self.text(node).unwrap_or_else(|| Text::new(self.limit, &self.key));
        json::quoted_arguments(json, &self.key)
    }

    /// Arguments that came as JSON.
    pub(crate) fn arguments(&self, node: Option<Node>) -> Arguments {
        json::arguments(node.as_ref().unwrap_or(&Node::Null), self.limit, &self.key)
    }

    /// The same as JSON text, to be put together with other pieces.
    pub(crate) fn arguments_text(&self, node: &Node) -> String {
        let mut json = Text::new(MAX_ARGUMENTS, &self.key);
        node.write(&mut json);
        json.kept().to_owned()
    }

    /// What the provider says of a failure for which it has no code.
    pub(crate) fn error_message(&mut self, message: Option<&str>) {
        self.message = message.and_then(|message| self.words(message));
    }

    /// Writes what was found.
    pub(crate) fn write(mut self: Box<Self>, streamed: bool, span: &mut Span) {
        let title = self.title.take().or_else(|| {
            let operation = Some(self.operation).filter(|operation| !operation.is_empty())?;
            Some(match &self.model {
                Some(model) => format!("{operation} {model}").into(),
                None => operation.into(),
            })
        });
        if let Some(title) = title {
            span.name = title;
        }
        if !self.operation.is_empty() {
            span.push(semconv::GEN_AI_OPERATION_NAME, self.operation);
        }
        let put = |span: &mut Span, name, value: Option<Box<str>>| {
            if let Some(value) = value {
                span.push(name, String::from(value));
            }
        };
        if let Some(provider) = self.provider.clone() {
            span.push(semconv::GEN_AI_PROVIDER_NAME, provider);
        }
        put(span, semconv::GEN_AI_REQUEST_MODEL, self.model.take());
        // Others than models answer in streams, too.
        if self.provider.is_some() && (self.stream || streamed) {
            span.push(semconv::GEN_AI_REQUEST_STREAM, true);
        }
        put(span, semconv::GEN_AI_RESPONSE_ID, self.response_id.take());
        put(span, semconv::GEN_AI_RESPONSE_MODEL, self.response_model.take());
        span.attributes.append(&mut self.attributes);
        if self.resends > 0 {
            span.push(semconv::HTTP_REQUEST_RESEND_COUNT, i64::from(self.resends));
        }
        self.usage.write(span);
    }

    /// About how many bytes are held.
    pub(crate) fn held(&self) -> usize {
        size_of::<Self>()
            + self.attributes.len() * size_of::<KeyValue>()
            + self.evidence.items.len() * 16
            + (self.evidence.answered.len() + self.evidence.issued.len()) * 64
            + self.kept
            + self.reply.held()
    }
}

impl Usage {
    /// What is said later counts, each number for itself.
    pub(crate) fn update(known: &mut Option<u64>, found: Option<u64>) {
        if found.is_some() {
            *known = found;
        }
    }

    fn write(&self, span: &mut Span) {
        let all = [
            (semconv::GEN_AI_USAGE_INPUT_TOKENS, self.input),
            (semconv::GEN_AI_USAGE_OUTPUT_TOKENS, self.output),
            (semconv::GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS, self.cache_read),
            (semconv::GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS, self.cache_write),
            (semconv::GEN_AI_USAGE_REASONING_OUTPUT_TOKENS, self.reasoning),
            (semconv::GEN_AI_USAGE_TEXT_INPUT_TOKENS, self.text.input),
            (semconv::GEN_AI_USAGE_TEXT_OUTPUT_TOKENS, self.text.output),
            (semconv::GEN_AI_USAGE_TEXT_CACHE_READ_INPUT_TOKENS, self.text.cache_read),
            (semconv::GEN_AI_USAGE_IMAGE_INPUT_TOKENS, self.image.input),
            (semconv::GEN_AI_USAGE_IMAGE_OUTPUT_TOKENS, self.image.output),
            (semconv::GEN_AI_USAGE_IMAGE_CACHE_READ_INPUT_TOKENS, self.image.cache_read),
            (semconv::GEN_AI_USAGE_AUDIO_INPUT_TOKENS, self.audio.input),
            (semconv::GEN_AI_USAGE_AUDIO_OUTPUT_TOKENS, self.audio.output),
            (semconv::GEN_AI_USAGE_AUDIO_CACHE_READ_INPUT_TOKENS, self.audio.cache_read),
        ];
        for (name, count) in all {
            if let Some(count) = count.and_then(|count| i64::try_from(count).ok()) {
                span.push(name, count);
            }
        }
    }
}

/// A copy that cannot grow a span without bound.
pub(crate) fn bounded(text: &str) -> String {
    beginning(text, MAX_TEXT).to_owned()
}

/// Whether a short text is so long that the reader may have cut it.
pub(crate) fn is_cut(text: &str) -> bool {
    text.len() >= MAX_READ
}

/// Bytes of one attribute that is a name or an id.
const MAX_TEXT: usize = 512;
/// What the reader keeps of a short text.
const MAX_READ: usize = 1024;
/// Of an error's code.
const MAX_CODE: usize = 64;
const MAX_TEXTS: usize = 16;
const MAX_ATTRIBUTES: usize = 64;
const MAX_SESSIONS: usize = 8;
/// Tool calls asked for by one answer, or answered by one request.
pub(crate) const MAX_CALLS: usize = 128;
const MAX_MESSAGES: usize = 4096;
const MAX_ARGUMENTS: usize = 64 * 1024;
