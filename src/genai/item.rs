//! What a call says, whatever its format: messages and their parts. The formats fill it; [`Message::digest`] becomes evidence,
//! and content is written from it.

use std::fmt;
use std::hash::Hasher;

use rand::Rng;
use siphasher::sip128::{Hasher128, SipHasher13};

use crate::call::Digest;

/// One message, as a client sends it or a model answers it.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) role: Role,
    /// The participant's name, if it has one.
    pub(crate) name: Option<Box<str>>,
    /// In the order in which they came.
    pub(crate) parts: Vec<Part>,
    /// Why the model ended it, by the conventions' names; of answers only.
    pub(crate) finish_reason: Option<Box<str>>,
}

/// Who speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The providers' `system` and `developer`.
    System,
    User,
    /// The model: `assistant`, `model`.
    Assistant,
    Tool,
    Other(Box<str>),
}

/// A piece of a message.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    /// Refusals too.
    Text(Text),
    Reasoning(Text),
    /// The model asks for a tool of the client's.
    ToolCall {
        id: Option<Box<str>>,
        name: Box<str>,
        arguments: Arguments,
    },
    /// What the tool said.
    ToolResult {
        id: Option<Box<str>>,
        name: Option<Box<str>>,
        result: Arguments,
    },
    /// The provider runs a tool of its own.
    ServerToolCall {
        id: Option<Box<str>>,
        name: Box<str>,
        kind: Box<str>,
        arguments: Arguments,
    },
    ServerToolResult {
        id: Option<Box<str>>,
        kind: Box<str>,
        result: Arguments,
    },
    /// `modality`: image, video, audio or document.
    Media {
        modality: &'static str,
        mime: Option<Box<str>>,
        what: Media,
    },
    /// What is left of messages that the provider has summed up.
    Compaction {
        id: Option<Box<str>>,
        content: Option<Text>,
    },
    /// Something else: its type.
    Other(Box<str>),
}

/// Where something that is no text is.
#[derive(Clone, Debug)]
pub(crate) enum Media {
    Uri(Box<str>),
    /// An id of the provider's.
    File(Box<str>),
    /// Base64, as it came.
    Blob(Text),
}

/// A tool that the model may ask for. Descriptions and schemas are large and not to be captured by default: they are not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tool {
    /// `function`, or a provider's type.
    pub(crate) kind: Box<str>,
    pub(crate) name: Box<str>,
}

/// The arguments of a tool, or what it said.
#[derive(Clone, Debug)]
pub(crate) struct Arguments {
    /// As it came: JSON text, or plain text.
    pub(crate) json: Text,
    /// Of its canonical form. Set by whoever read it as JSON.
    pub(crate) digest: Option<Digest>,
}

impl Arguments {
    /// Of the canonical form if there is one, else of the text. The same value never has both: whoever reads a format reads it
    /// always in the same way.
    pub(crate) fn digest(&self) -> Option<Digest> {
        self.digest.or_else(|| self.json.digest())
    }
}

impl Arguments {
    /// What a tool said in parts. One that is all there is, is the same as without the list around it.
    pub(crate) fn of_parts(mut parts: Vec<Part>, limit: usize, key: &Key) -> Self {
        if let [Part::Text(_) | Part::ToolResult { .. }] = &*parts {
            match parts.pop() {
                Some(Part::Text(json)) => return Self { json, digest: None },
                Some(Part::ToolResult { result, .. }) => return result,
                _ => {}
            }
        }
        let (mut json, mut sum) = (Text::new(limit, key), Sum::new(key));
        let mut seen = Some(());
        for part in &parts {
            seen = seen.and_then(|()| part.add_to(&mut sum));
            match part {
                Part::Text(text) => json.append(text),
                Part::ToolResult { result, .. } => json.append(&result.json),
                // It is no text: what is kept ends here.
                _ => json.lost(),
            }
        }
        // An empty list says as much as an empty text.
        let digest = seen.filter(|()| !parts.is_empty()).map(|()| sum.finish());
        Self { json, digest }
    }
}

impl Role {
    /// By the names that providers use.
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "system" | "developer" => Role::System,
            "user" => Role::User,
            "assistant" | "model" => Role::Assistant,
            "tool" | "function" => Role::Tool,
            other => Role::Other(other.into()),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
            Role::Other(name) => name,
        }
    }
}

impl Message {
    pub(crate) fn new(role: Role) -> Self {
        Self { role, name: None, parts: Vec::new(), finish_reason: None }
    }

    /// Whether nothing is in it that a digest is made of: it does not count among the items of a conversation.
    pub(crate) fn is_silent(&self) -> bool {
        self.parts.iter().all(Part::is_silent)
    }

    /// About how many bytes are held.
    pub(crate) fn held(&self) -> usize {
        size_of::<Self>() + self.parts.iter().map(Part::held).sum::<usize>()
    }

    /// Of the role and the parts in order, so that the same message has the same digest in a request and in an answer, cut and
    /// whole: without reasoning and compaction, which clients keep or strip as they like, and without empty texts (semconv.md
    /// 5.1). `None` if something was not seen.
    pub(crate) fn digest(&self, key: &Key) -> Option<Digest> {
        let mut sum = Sum::new(key);
        sum.text(self.role.as_str());
        for part in self.parts.iter().filter(|part| !part.is_silent()) {
            part.add_to(&mut sum)?;
        }
        Some(sum.finish())
    }
}

impl Part {
    /// About how many bytes are held.
    pub(crate) fn held(&self) -> usize {
        let more = match self {
            Part::Text(text) | Part::Reasoning(text) => text.held(),
            Part::ToolCall { arguments, .. } | Part::ServerToolCall { arguments, .. } => arguments.json.held(),
            Part::ToolResult { result, .. } | Part::ServerToolResult { result, .. } => result.json.held(),
            Part::Media { what: Media::Blob(content), .. } => content.held(),
            Part::Compaction { content, .. } => content.as_ref().map_or(0, Text::held),
            Part::Media { .. } | Part::Other(_) => 0,
        };
        size_of::<Self>() + more
    }

    fn is_silent(&self) -> bool {
        match self {
            Part::Text(text) => text.is_empty(),
            Part::Reasoning(_) | Part::Compaction { .. } => true,
            _ => false,
        }
    }

    /// The tag keeps kinds apart, [`Sum`] the values.
    fn add_to(&self, sum: &mut Sum) -> Option<()> {
        match self {
            Part::Text(text) => {
                sum.text("text");
                sum.digest(text.digest()?);
            }
            Part::ToolCall { id, name, arguments } => {
                sum.text("tool_call");
                sum.maybe(id.as_deref());
                sum.text(name);
                sum.digest(arguments.digest()?);
            }
            // The name only stands in for an id: some providers repeat it with the result, some do not.
            Part::ToolResult { id, name, result } => {
                sum.text("tool_result");
                sum.maybe(id.as_deref());
                sum.maybe(name.as_deref().filter(|_| id.is_none()));
                sum.digest(result.digest()?);
            }
            Part::ServerToolCall { id, name, kind, arguments } => {
                sum.text("server_tool_call");
                sum.maybe(id.as_deref());
                sum.text(name);
                sum.text(kind);
                sum.digest(arguments.digest()?);
            }
            Part::ServerToolResult { id, kind, result } => {
                sum.text("server_tool_result");
                sum.maybe(id.as_deref());
                sum.text(kind);
                sum.digest(result.digest()?);
            }
            Part::Media { modality, what, .. } => {
                sum.text(modality);
                match what {
                    Media::Uri(uri) => sum.pair("uri", uri),
                    Media::File(id) => sum.pair("file", id),
                    Media::Blob(content) => {
                        sum.text("blob");
                        sum.digest(content.digest()?);
                    }
                }
            }
            Part::Other(kind) => sum.pair("other", kind),
            Part::Reasoning(_) | Part::Compaction { .. } => {}
        }
        Some(())
    }
}

/// The key of the digests. Random, so that outside of the process nobody can tell a text from its digest by trying.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(u64, u64);

impl Key {
    pub(crate) fn random() -> Self {
        Self(rand::rng().random(), rand::rng().random())
    }

    fn hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, self.1)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// A text of which at most so much is kept; all of it was hashed. What is kept is its beginning, without a gap.
#[derive(Clone)]
pub(crate) struct Text {
    kept: String,
    limit: usize,
    length: u64,
    /// Up to here, and up to the last character that is no white space: at the end that does not count.
    whole: SipHasher13,
    solid: SipHasher13,
    empty: bool,
    complete: bool,
}

impl Text {
    /// An empty one, of which at most `limit` bytes will be kept.
    pub(crate) fn new(limit: usize, key: &Key) -> Self {
        let hasher = key.hasher();
        Self { kept: String::new(), limit, length: 0, whole: hasher, solid: hasher, empty: true, complete: true }
    }

    /// A whole one.
    pub(crate) fn of(text: &str, limit: usize, key: &Key) -> Self {
        let mut whole = Self::new(limit, key);
        whole.push(text);
        whole
    }

    /// It goes on.
    pub(crate) fn push(&mut self, piece: &str) {
        if !self.is_truncated() {
            self.kept.push_str(beginning(piece, self.limit.saturating_sub(self.kept.len())));
        }
        self.length += piece.len() as u64;
        let solid = piece.trim_end();
        self.whole.write(solid.as_bytes());
        if !solid.is_empty() {
            self.solid = self.whole;
            self.empty = false;
        }
        self.whole.write(piece.as_bytes().get(solid.len()..).unwrap_or_default());
    }

    /// Another text behind it.
    pub(crate) fn append(&mut self, other: &Self) {
        self.push(other.kept());
        if other.is_truncated() {
            self.lost();
        }
    }

    /// A piece of it could not be seen: there is no digest, and what follows is not kept.
    pub(crate) fn lost(&mut self) {
        self.complete = false;
    }

    /// Its beginning, as much as is kept.
    pub(crate) fn kept(&self) -> &str {
        &self.kept
    }

    /// Of all that was pushed, in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Whether something is missing from what is kept.
    pub(crate) fn is_truncated(&self) -> bool {
        !self.complete || (self.kept.len() as u64) < self.length
    }

    /// Whether nothing was said: nothing but white space, and nothing lost.
    pub(crate) fn is_empty(&self) -> bool {
        self.empty && self.complete
    }

    /// The bytes of memory that it holds.
    pub(crate) fn held(&self) -> usize {
        self.kept.capacity()
    }

    /// Of the whole text without the white space at its end, however it was cut into pieces. `None` if something was lost.
    pub(crate) fn digest(&self) -> Option<Digest> {
        self.complete.then(|| Digest(self.solid.finish128().into()))
    }
}

/// How much there is, never what it says.
impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Text")
            .field("kept", &self.kept.len())
            .field("length", &self.length)
            .field("complete", &self.complete)
            .finish_non_exhaustive()
    }
}

/// A digest of several values: each with its length before it, so that no two lists of values are one stream of bytes.
#[derive(Clone)]
pub(crate) struct Sum(SipHasher13);

impl Sum {
    pub(crate) fn new(key: &Key) -> Self {
        Self(key.hasher())
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.0.write(&(text.len() as u64).to_le_bytes());
        self.0.write(text.as_bytes());
    }

    /// An absent one is not an empty one.
    pub(crate) fn maybe(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.text(text),
            None => self.0.write(&u64::MAX.to_le_bytes()),
        }
    }

    pub(crate) fn digest(&mut self, digest: Digest) {
        self.0.write(&16_u64.to_le_bytes());
        self.0.write(&digest.0.to_le_bytes());
    }

    pub(crate) fn finish(&self) -> Digest {
        Digest(self.0.finish128().into())
    }

    fn pair(&mut self, tag: &str, value: &str) {
        self.text(tag);
        self.text(value);
    }
}

/// As much of a text as fits into so many bytes.
pub(crate) fn beginning(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
