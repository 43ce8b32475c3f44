//! What a call's bytes say of the run it belongs to. Filled by `genai` as the bytes go by, read by `stitch`.

use std::fmt;

/// A keyed hash of something canonical: a message, the arguments of a tool. The key is the process's own: outside of it a
/// digest says nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub u128);

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// What was found. Every list is bounded; `incomplete` says that something is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The W3C fields in an MCP request's `_meta`: the caller's context, before that of the headers.
    pub meta: Option<Meta>,
    /// The request's messages in order, system text and reasoning left out.
    pub items: Vec<Digest>,
    /// Ids of the tool results behind the last turn of the assistant.
    pub answered: Vec<Box<str>>,
    /// Tool calls that the answer asks for.
    pub issued: Vec<ToolCall>,
    /// The answer as it would stand among a next request's messages: one, or one for each of its items.
    pub reply: Vec<Digest>,
    /// The answer's own id.
    pub response_id: Option<Box<str>>,
    /// The answer that this request continues.
    pub previous_response_id: Option<Box<str>>,
    /// Ids of sessions, conversations and threads, and what kind of id each is.
    pub sessions: Vec<(SessionKind, Box<str>)>,
    /// The tool that an MCP request calls.
    pub tool: Option<ToolCall>,
    /// Something did not fit, or could not be read.
    pub incomplete: bool,
}

/// `traceparent`, `tracestate` and `baggage` as they stand in `_meta`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// As it came.
    pub traceparent: Box<str>,
    /// As it came; empty for none.
    pub tracestate: Box<str>,
    /// As it came; empty for none.
    pub baggage: Box<str>,
}

/// A tool, asked for or called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// The id that its result will carry; some providers have none.
    pub id: Option<Box<str>>,
    /// Its name.
    pub name: Box<str>,
    /// Its arguments, canonical; `None` if they could not be read whole.
    pub arguments: Option<Digest>,
}

/// What an id names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionKind {
    /// A conversation that the provider keeps: OpenAI `conversation`, Bedrock's `sessionId`.
    Conversation,
    /// A thread of the provider's.
    Thread,
    /// A session of the agent program's: a header or field of its own.
    Agent,
    /// A turn inside such a session.
    Turn,
    /// A sub-agent inside such a session.
    SubAgent,
    /// `Mcp-Session-Id`.
    Mcp,
    /// A key that groups calls: OpenAI `prompt_cache_key`.
    Group,
}
