//! Bedrock agents: one turn of an agent that runs at AWS. The session is in the path; the answer is a stream of text, of traces
//! if they are asked for, and of calls that are handed back to the client.
//!
//! Source: `semconv.md` 2.2, 3.0; the `bedrock-agent-runtime` model of botocore.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::bedrock::{self, Failing};
use crate::genai::facts::Facts;
use crate::genai::item::{Message, Part, Role, Text};
use crate::genai::json::{ANY, CONTENT, Node, SCALAR, Shape, WHOLE};
use crate::genai::providers::Route;
use crate::genai::{Format, Headers};
use crate::trace::semconv;

/// One call.
#[derive(Debug, Default)]
pub(crate) struct BedrockAgent {
    agent: Option<String>,
    session: Option<String>,
    /// Something is said to the agent, or handed back.
    input: bool,
    read: bool,
    failing: Failing,
}

impl BedrockAgent {
    pub(crate) fn new(route: &Route<'_>) -> Self {
        Self { agent: route.stars.first().cloned(), session: route.stars.get(2).cloned(), ..Self::default() }
    }
}

impl Format for BedrockAgent {
    fn request_head(&mut self, _: &Headers<'_>, facts: &mut Facts) {
        facts.reply.without_reasons();
        facts.set_text(semconv::GEN_AI_AGENT_ID, self.agent.as_deref());
        facts.conversation(self.session.as_deref());
    }

    fn request_shape(&self) -> &'static Shape {
        static REQUEST: Shape = Shape::object(&[
            ("inputText", &CONTENT),
            ("endSession", &SCALAR),
            ("sessionState", &Shape::object(&[("invocationId", &SCALAR), ("knowledgeBaseConfigurations", &BASES)])),
        ]);
        static BASES: Shape = Shape::array(&Shape::object(&[("knowledgeBaseId", &SCALAR)]));
        &REQUEST
    }

    fn request(&mut self, mut body: Node, facts: &mut Facts) {
        self.read = true;
        let state = body.take("sessionState").unwrap_or(Node::Null);
        if let Some(base) = state.get("knowledgeBaseConfigurations").and_then(|bases| match bases.items() {
            [base] => base.some_str("knowledgeBaseId"),
            _ => None,
        }) {
            facts.set_text(semconv::AWS_BEDROCK_KNOWLEDGE_BASE_ID, Some(base));
            facts.set_text(semconv::GEN_AI_DATA_SOURCE_ID, Some(base));
        }
        if let Some(id) = state.some_str("invocationId") {
            self.input = true;
            let part = Part::ToolResult { id: Some(id.into()), name: None, result: facts.quoted(None) };
            facts.input(Message { parts: vec![part], ..Message::new(Role::Tool) });
        }
        if let Some(text) = facts.text(body.take("inputText")) {
            self.input = true;
            facts.input(Message { parts: vec![Part::Text(text)], ..Message::new(Role::User) });
        }
        self.input |= body.is_true("endSession");
    }

    fn answer_head(&mut self, status: u16, headers: &Headers<'_>, _: &mut Facts) {
        self.failing.answer_head(status, headers);
    }

    fn answer_shape(&self) -> &'static Shape {
        static ANSWER: Shape = Shape::object(&[
            ("bytes", &WHOLE),
            ("agentVersion", &SCALAR),
            ("trace", &TRACE),
            ("invocationId", &SCALAR),
            ("invocationInputs", &Shape::array(&CALL)),
            ("message", &SCALAR),
        ]);
        static TRACE: Shape = Shape { rest: Some(&STEP), ..Shape::number() };
        static STEP: Shape = Shape::object(&[("modelInvocationOutput", &Shape::object(&[("metadata", &METADATA)]))]);
        static METADATA: Shape = Shape::object(&[("usage", &USAGE)]);
        static USAGE: Shape = Shape::object(&[("inputTokens", &SCALAR), ("outputTokens", &SCALAR)]);
        static CALL: Shape = Shape::object(&[("functionInvocationInput", &CALLED), ("apiInvocationInput", &CALLED)]);
        static CALLED: Shape = Shape::object(&[("function", &SCALAR), ("apiPath", &SCALAR), ("parameters", &ANY)]);
        &ANSWER
    }

    fn answer(&mut self, _: Node, _: &mut Facts) {}

    fn event(&mut self, name: &str, exception: bool, mut body: Node, facts: &mut Facts) {
        if exception {
            bedrock::exception(name, &body, facts);
            return;
        }
        facts.chunk |= name != "trace";
        match name {
            "chunk" => {
                let Some(Node::Text(bytes)) = body.get("bytes") else { return };
                let text = BASE64_STANDARD.decode(bytes.kept()).unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                let mut text = Text::of(&text, text.len(), &facts.key);
                if bytes.is_truncated() {
                    text.lost();
                }
                facts.reply.add(0, 0, &text);
            }
            "trace" => read_trace(&body, facts),
            "returnControl" => {
                let id = body.some_str("invocationId").map(str::to_owned);
                let Some(Node::Array(calls)) = body.take("invocationInputs") else { return };
                for (place, call) in (1..).zip(calls) {
                    facts.reply.put(0, place, tool_call(id.as_deref(), call, facts));
                }
                facts.reply.issued(&mut facts.evidence);
            }
            _ => {}
        }
    }

    fn failed(&mut self, body: Node, facts: &mut Facts) {
        self.failing.failed(&body, facts);
    }

    fn finish(&mut self, _: bool, facts: &mut Facts) {
        self.failing.finish(facts);
    }

    fn is_relevant(&self) -> bool {
        self.input || !self.read
    }
}

/// Each call of a model that the agent made counts for itself.
fn read_trace(body: &Node, facts: &mut Facts) {
    facts.set_text(semconv::GEN_AI_AGENT_VERSION, body.str("agentVersion"));
    for (_, step) in body.get("trace").map(Node::fields).unwrap_or_default() {
        let Some(usage) = step.at(&["modelInvocationOutput", "metadata", "usage"]) else { continue };
        let add = |sum: &mut Option<u64>, name| {
            *sum = usage.count(name).map(|count| count.saturating_add(sum.unwrap_or(0))).or(*sum);
        };
        add(&mut facts.usage.input, "inputTokens");
        add(&mut facts.usage.output, "outputTokens");
    }
}

fn tool_call(id: Option<&str>, call: Node, facts: &Facts) -> Part {
    let mut call = call;
    let called = call.take("functionInvocationInput").or_else(|| call.take("apiInvocationInput"));
    let mut called = called.unwrap_or(Node::Null);
    let name = called.some_str("function").or_else(|| called.some_str("apiPath")).unwrap_or_default().into();
    Part::ToolCall { id: id.map(Into::into), name, arguments: facts.arguments(called.take("parameters")) }
}
