//! JSON-RPC 2.0: its messages, and what the methods of one are to whom. MCP and A2A are dialects of it: a dialect is a file that
//! implements [`Dialect`], a line in [`DIALECTS`], and what it reads in [`PARAMS`] and [`RESULT`].
//!
//! Source: JSON-RPC 2.0 specification; `semconv.md` 2.6; semantic conventions, `docs/rpc/json-rpc.md`.

use std::fmt::{self, Debug};

use super::mcp::McpDialect;
use crate::genai::facts::{Facts, bounded};
use crate::genai::item::Text;
use crate::genai::json::{ANY, Keep, Node, SCALAR, Shape};
use crate::trace::semconv;

/// What a method belongs to, and what its messages say.
pub(crate) trait Dialect: Debug + Send + Sync {
    /// Whether it is one of this dialect's. `mcp`: the request's header fields are MCP's.
    fn claims(&self, method: &str, mcp: bool) -> bool;

    /// A request, or a notification.
    fn called(&self, method: &str, id: Option<&Id>, params: Node, facts: &mut Facts);

    /// Its result; false if more of it follows. `text`: all of it as JSON, where content is captured.
    fn answered(&self, _method: &str, _result: Node, _text: Option<Text>, _: &mut Facts) -> bool {
        true
    }

    /// Codes that are the caller's fault: no errors of who answers.
    fn forgives(&self, code: i64) -> bool {
        FAULTS.contains(&code)
    }
}

/// The first that claims a method has it.
static DIALECTS: [&dyn Dialect; 2] = [&McpDialect, &Plain];

/// Methods that nobody else knows.
#[derive(Debug)]
struct Plain;

/// Names a request among those of its session.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Id {
    Number(i64),
    Text(Box<str>),
}

/// One message.
#[derive(Debug)]
pub(crate) enum Message {
    /// A notification has no id.
    Request { id: Option<Id>, method: Box<str>, params: Node },
    /// An error that belongs to no request has no id.
    Response { id: Option<Id>, answer: Answer },
}

/// What a response says.
#[derive(Debug)]
pub(crate) struct Answer {
    outcome: Result<Node, Fault>,
    /// The result as JSON, where content is captured.
    text: Option<Text>,
}

#[derive(Debug)]
struct Fault {
    code: Option<i64>,
    message: Option<Box<str>>,
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct Called {
    dialect: &'static dyn Dialect,
    pub(crate) method: Box<str>,
    pub(crate) id: Option<Id>,
    pub(crate) answered: bool,
}

impl Message {
    /// Reads one; `None` if it is none.
    pub(crate) fn of(mut node: Node, facts: &Facts) -> Option<Self> {
        node.get("jsonrpc")?;
        let id = node.get("id").and_then(Id::of);
        if let Some(method) = node.some_str("method") {
            let method = bounded(method).into();
            return Some(Message::Request { id, method, params: node.take("params").unwrap_or(Node::Null) });
        }
        let answer = Answer::of(node, facts)?;
        Some(Message::Response { id, answer })
    }
}

impl Id {
    fn of(node: &Node) -> Option<Self> {
        match node {
            Node::Int(number) => Some(Id::Number(*number)),
            Node::Float(number) => Some(Id::Text(number.to_string().into())),
            text => text.as_str().map(|text| Id::Text(text.into())),
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Id::Number(number) => fmt::Display::fmt(number, f),
            Id::Text(text) => f.write_str(text),
        }
    }
}

/// Clients choose ids as they like: how long one is says enough.
impl Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Id::Number(number) => write!(f, "{number}"),
            Id::Text(text) => write!(f, "{} bytes", text.len()),
        }
    }
}

impl Answer {
    fn of(mut node: Node, facts: &Facts) -> Option<Self> {
        if let Some(error) = node.get("error").filter(|error| !error.is_null()) {
            let message = error.some_str("message").map(Into::into);
            return Some(Self { outcome: Err(Fault { code: error.int("code"), message }), text: None });
        }
        let mut result = node.take("result")?;
        // What says how to treat a result is no part of it.
        let meta = result.take("_meta");
        let text = facts.content.is_some().then(|| {
            let mut text = Text::new(facts.limit, &facts.key);
            result.write(&mut text);
            text
        });
        drop(meta);
        Some(Self { outcome: Ok(result), text })
    }

    /// Without what no dialect needs of an answer that comes by another exchange.
    pub(crate) fn slim(mut self) -> Self {
        match &mut self.outcome {
            Ok(Node::Object(fields)) => {
                fields.retain(|(_, value)| !matches!(value, Node::Array(_) | Node::Object(_) | Node::Text(_)));
                fields.truncate(MAX_FIELDS);
            }
            Ok(other) => *other = Node::Null,
            Err(_) => {}
        }
        self
    }

    /// About how many bytes a slim one holds.
    pub(crate) fn held(&self) -> usize {
        let fields = match &self.outcome {
            Ok(result) => {
                result.fields().iter().map(|(name, value)| 64 + name.len() + value.as_str().map_or(0, str::len))
            }
            Err(_) => return size_of::<Self>() + 1024,
        };
        size_of::<Self>() + fields.sum::<usize>() + self.text.as_ref().map_or(0, Text::held)
    }
}

impl Called {
    /// A request, or a notification, that is told to the facts.
    pub(crate) fn new(id: Option<Id>, method: Box<str>, params: Node, mcp: bool, facts: &mut Facts) -> Self {
        let dialect = DIALECTS.into_iter().find(|dialect| dialect.claims(&method, mcp)).unwrap_or(&Plain);
        dialect.called(&method, id.as_ref(), params, facts);
        if let Some(id) = &id {
            facts.set_text(semconv::JSONRPC_REQUEST_ID, Some(&id.to_string()));
        }
        Self { dialect, method, id, answered: false }
    }

    /// Its answer, or a part of it.
    pub(crate) fn answered(&mut self, answer: Answer, facts: &mut Facts) {
        if self.answered {
            return;
        }
        match answer.outcome {
            Ok(result) => self.answered = self.dialect.answered(&self.method, result, answer.text, facts),
            Err(fault) => {
                self.answered = true;
                let code = fault.code.map_or("_OTHER".into(), |code| code.to_string());
                if let Some(code) = fault.code {
                    facts.set(semconv::RPC_STATUS_CODE, code.to_string());
                }
                if !(facts.server && fault.code.is_some_and(|code| self.dialect.forgives(code))) {
                    facts.fail(&code, fault.message.as_deref());
                }
            }
        }
    }
}

impl Dialect for Plain {
    fn claims(&self, _: &str, _: bool) -> bool {
        true
    }

    fn called(&self, method: &str, _: Option<&Id>, _: Node, facts: &mut Facts) {
        facts.title = Some(method.to_owned().into());
        facts.set(semconv::RPC_SYSTEM_NAME, "jsonrpc");
        facts.set_text(semconv::RPC_METHOD, Some(method));
        facts.set(semconv::JSONRPC_PROTOCOL_VERSION, "2.0");
    }
}

/// A message, or a batch of them, of which content is not captured.
pub(crate) static MESSAGES: Shape = Shape { items: Some(&MESSAGE), each: Some(BATCH), ..MESSAGE };
/// The same with all of each result.
pub(crate) static WHOLE_MESSAGES: Shape = Shape { items: Some(&WHOLE_MESSAGE), each: Some(BATCH), ..WHOLE_MESSAGE };
/// What the elements of a batch are handed out as.
pub(crate) const BATCH: &str = "batch";
static MESSAGE: Shape = Shape::object(&[
    ("jsonrpc", &SCALAR),
    ("id", &SCALAR),
    ("method", &SCALAR),
    ("params", &PARAMS),
    ("result", &RESULT),
    ("error", &ERROR),
]);
static WHOLE_MESSAGE: Shape = Shape::object(&[
    ("jsonrpc", &SCALAR),
    ("id", &SCALAR),
    ("method", &SCALAR),
    ("params", &PARAMS),
    ("result", &ANY),
    ("error", &ERROR),
]);
static PARAMS: Shape = Shape::object(&[
    ("name", &SCALAR),
    ("uri", &SCALAR),
    ("arguments", &ANY),
    (
        "_meta",
        &Shape::object(&[
            ("traceparent", &SCALAR),
            ("tracestate", &SCALAR),
            ("baggage", &SCALAR),
            ("io.modelcontextprotocol/protocolVersion", &SCALAR),
        ]),
    ),
]);
/// A result may be any value: of a list or a text, that it is there.
static RESULT: Shape = Shape {
    text: Keep::Short,
    items: Some(&NOTHING),
    ..Shape::object(&[("isError", &SCALAR), ("resultType", &SCALAR), ("protocolVersion", &SCALAR)])
};
static NOTHING: Shape = Shape::number();
static ERROR: Shape = Shape::object(&[("code", &SCALAR), ("message", &SCALAR)]);
/// Parse error, invalid request, method not found, invalid params (JSON-RPC 2.0, 5.1).
const FAULTS: [i64; 4] = [-32700, -32600, -32601, -32602];
/// Fields of a result that waits.
const MAX_FIELDS: usize = 16;
