//! The methods of MCP, and what their messages say.
//!
//! Source: `semconv.md` 2.3, 4.1, 4.2; MCP specification, "Schema"; GenAI conventions, `docs/mcp/`.

use crate::call::{Meta, ToolCall};
use crate::genai::facts::{Facts, bounded, is_cut};
use crate::genai::formats::jsonrpc::{Dialect, Id};
use crate::genai::item::Text;
use crate::genai::json::Node;
use crate::trace::{semconv, url};

/// MCP as a dialect of JSON-RPC.
#[derive(Debug)]
pub(crate) struct McpDialect;

impl Dialect for McpDialect {
    fn claims(&self, method: &str, mcp: bool) -> bool {
        // Methods come and go with the versions of MCP: who says that it speaks MCP is believed.
        mcp || METHODS.contains(&method)
    }

    fn called(&self, method: &str, _: Option<&Id>, mut params: Node, facts: &mut Facts) {
        // The header fields may have said something else: the body counts.
        for name in [semconv::GEN_AI_TOOL_NAME, semconv::GEN_AI_PROMPT_NAME, semconv::MCP_RESOURCE_URI] {
            facts.unset(name);
        }
        facts.operation = "";
        facts.evidence.tool = None;
        facts.set_text(semconv::MCP_METHOD_NAME, Some(method));
        facts.set(semconv::NETWORK_TRANSPORT, "tcp");
        facts.set(semconv::NETWORK_PROTOCOL_NAME, "http");
        let name = params.some_str("name").map(bounded);
        let target = match method {
            "tools/call" => {
                facts.operation = "execute_tool";
                facts.set_text(semconv::GEN_AI_TOOL_NAME, name.as_deref());
                name
            }
            "prompts/get" => {
                facts.set_text(semconv::GEN_AI_PROMPT_NAME, name.as_deref());
                name
            }
            _ => None,
        };
        facts.title = Some(match &target {
            Some(target) => format!("{method} {target}").into(),
            None => method.to_owned().into(),
        });
        if RESOURCES.contains(&method) {
            let uri = params.some_str("uri").map(|uri| facts.clean(&without_secrets(uri), is_cut(uri)).into_owned());
            facts.set_text(semconv::MCP_RESOURCE_URI, uri.as_deref());
        }
        if let Some(meta) = params.take("_meta") {
            read_meta(&meta, facts);
        }
        if method == "tools/call"
            && let Some(name) = target
        {
            let arguments = facts.arguments(params.take("arguments").or(Some(Node::Object(Vec::new()))));
            facts.evidence.tool = Some(ToolCall { id: None, name: name.into(), arguments: arguments.digest });
            if let Some(content) = &mut facts.content {
                content.arguments = Some(arguments.json);
            }
        }
    }

    fn answered(&self, method: &str, result: Node, text: Option<Text>, facts: &mut Facts) -> bool {
        match method {
            "initialize" => facts.set_text(semconv::MCP_PROTOCOL_VERSION, result.some_str("protocolVersion")),
            "tools/call" => {
                if result.is_true("isError") {
                    facts.fail("tool_error", None);
                }
                if let Some(content) = &mut facts.content {
                    content.result = text;
                }
            }
            _ => {}
        }
        if result.str("resultType") == Some("input_required") {
            facts.set(semconv::SIDETRACE_MCP_INPUT_REQUIRED, true);
        }
        true
    }

    fn forgives(&self, code: i64) -> bool {
        CALLERS.contains(&code)
    }
}

/// The caller's context, and the version that each request names since 2026-07-28.
fn read_meta(meta: &Node, facts: &mut Facts) {
    if let Some(traceparent) = meta.some_str("traceparent") {
        let text = |name| meta.some_str(name).unwrap_or_default().into();
        facts.evidence.meta =
            Some(Meta { traceparent: traceparent.into(), tracestate: text("tracestate"), baggage: text("baggage") });
    }
    facts.set_text(semconv::MCP_PROTOCOL_VERSION, meta.some_str("io.modelcontextprotocol/protocolVersion"));
}

/// An address without its user, its fragment and the values of its query.
fn without_secrets(uri: &str) -> String {
    let uri = uri.split_once('#').map_or(uri, |(uri, _)| uri);
    let Some((scheme, rest)) = uri.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) else {
        // Without an authority nothing tells where a user ends.
        let Some((user, rest)) = uri.rsplit_once('@') else { return path_and_query(uri) };
        return if user.contains('?') { "REDACTED".to_owned() } else { format!("REDACTED@{}", path_and_query(rest)) };
    };
    let authority = |from| rest.get(from..).and_then(|rest| rest.find(['/', '?'])).map_or(rest.len(), |end| from + end);
    let mut end = authority(0);
    let host = rest.get(..end).unwrap_or_default();
    let port = host.split_once(':').map_or("", |(_, port)| port);
    if let Some(at) = rest.rfind('@').filter(|at| *at > end)
        && !host.starts_with('[')
        && !port.bytes().all(|byte| byte.is_ascii_digit())
    {
        // No port: the password has a slash or a question mark in it.
        end = authority(at);
    }
    let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    url::redacted(scheme, authority, path, |_| false)
}

fn path_and_query(uri: &str) -> String {
    let (mut path, query) = url::redacted_path_and_query(uri, |_| false);
    if let Some(query) = query {
        path.extend(["?", &query]);
    }
    path
}

/// RFC 3986, section 3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

const METHODS: [&str; 30] = [
    "initialize",
    "ping",
    "server/discover",
    "tools/list",
    "tools/call",
    "resources/list",
    "resources/templates/list",
    "resources/read",
    "resources/subscribe",
    "resources/unsubscribe",
    "prompts/list",
    "prompts/get",
    "completion/complete",
    "logging/setLevel",
    "roots/list",
    "sampling/createMessage",
    "elicitation/create",
    "subscriptions/listen",
    "notifications/initialized",
    "notifications/cancelled",
    "notifications/progress",
    "notifications/message",
    "notifications/roots/list_changed",
    "notifications/tools/list_changed",
    "notifications/prompts/list_changed",
    "notifications/resources/list_changed",
    "notifications/resources/updated",
    "notifications/elicitation/complete",
    "notifications/tasks/status",
    "notifications/subscriptions/acknowledged",
];
const RESOURCES: [&str; 4] =
    ["resources/read", "resources/subscribe", "resources/unsubscribe", "notifications/resources/updated"];
/// JSON-RPC's own, and what was "resource not found" before 2026-07-28.
const CALLERS: [i64; 5] = [-32700, -32600, -32601, -32602, -32002];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::genai::item::Key;

    #[test]
    fn the_address_of_a_resource_has_no_credentials_in_it() {
        let key = concat!("sk-", "proj-AbCd1234EfGh5678IjKl9012");
        for (uri, expected) in [
            ("file:///a/b.txt".to_owned(), "file:///a/b.txt"),
            ("note:1".to_owned(), "note:1"),
            (format!("s3://bucket#tok={key}"), "s3://bucket"),
            (format!("s3://bucket/{key}/x"), "s3://bucket/REDACTED/x"),
            ("postgres:joe:hunter22@db/x".to_owned(), "REDACTED@db/x"),
            ("postgres:joe:hunter22@db/x?u=a://b".to_owned(), "REDACTED@db/x?u=REDACTED"),
            ("x:joe:hun?ter22@db".to_owned(), "REDACTED"),
            ("postgres://joe:hunter22@db/x".to_owned(), "postgres://REDACTED:REDACTED@db/x"),
            ("postgres://joe:hun/ter?22@db/x".to_owned(), "postgres://REDACTED:REDACTED@db/x"),
            ("http://db:5432/@joe".to_owned(), "http://db:5432/@joe"),
            (format!("a/key={key}"), "a/REDACTED"),
            ("card:4111111111111111".to_owned(), "card:[REDACTED:card]"),
            ("contact:/joe@example.com".to_owned(), "REDACTED@example.com"),
        ] {
            let mut facts = Facts::new(Key::random(), None);
            let params = Node::Object(vec![("uri".into(), Node::Short(uri.as_str().into()))]);
            McpDialect.called("resources/read", None, params, &mut facts);
            assert_eq!(facts.text_of(semconv::MCP_RESOURCE_URI), Some(expected), "{uri}");
        }
    }
}
