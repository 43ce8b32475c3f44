//! What a model said, in a stream or whole, and the same as it stands in the next request: one digest.
#![allow(clippy::indexing_slicing, reason = "no part of the program")]

use serde_json::{Value, json};

use super::{Anthropic, BedrockConverse};
use crate::call::Digest;
use crate::genai::Format;
use crate::genai::facts::Facts;
use crate::genai::item::Key;
use crate::genai::json::{Node, Reader, Shape};

fn node(shape: &'static Shape, json: &Value, key: Key, each: &mut dyn FnMut(&'static str, Node)) -> Node {
    let mut reader = Reader::new(shape, 0, key);
    reader.feed(json.to_string().as_bytes(), each).unwrap();
    reader.end(each).unwrap()
}

/// The digest of the answer that these events make, or this document.
fn said(mut format: impl Format, events: &[(&str, Value)], key: Key) -> Option<Digest> {
    let mut facts = Facts::new(key, None);
    for (name, event) in events {
        let event = node(format.answer_shape(), event, key, &mut |_, _| {});
        if name.is_empty() { format.answer(event, &mut facts) } else { format.event(name, false, event, &mut facts) }
    }
    let [message] = &facts.reply.take_messages()[..] else { panic!("one choice") };
    message.digest(&key)
}

/// The digest of the only message of a request.
fn echoed(mut format: impl Format, content: &Value, key: Key) -> Option<Digest> {
    let mut facts = Facts::new(key, None);
    let request = json!({ "messages": [{ "role": "assistant", "content": content }] });
    node(format.request_shape(), &request, key, &mut |list, item| format.request_item(list, item, &mut facts));
    assert!(!facts.evidence.incomplete);
    facts.evidence.items.first().copied()
}

#[test]
fn an_answer_of_anthropic_is_its_echo_however_it_came() {
    let key = Key::random();
    let content = json!([
        { "type": "thinking", "thinking": "hm", "signature": "s" },
        { "type": "text", "text": "Grüße\n" },
        { "type": "server_tool_use", "id": "s1", "name": "web_search", "input": { "query": "x" } },
        { "type": "web_search_tool_result", "tool_use_id": "s1", "content": [{ "type": "web_search_result", "url": "u" }] },
        { "type": "tool_use", "id": "t1", "name": "w", "input": { "b": [1, 2.5, null], "a": "ü\"" } },
        { "type": "tool_use", "id": "t2", "name": "v", "input": {} },
    ]);
    let event = |event: Value| ("event", event);
    let start = |index: usize, block: Value| {
        event(json!({ "type": "content_block_start", "index": index, "content_block": block }))
    };
    let delta =
        |index: usize, delta: Value| event(json!({ "type": "content_block_delta", "index": index, "delta": delta }));
    let piece = |index, json: &str| delta(index, json!({ "type": "input_json_delta", "partial_json": json }));
    let events = [
        event(json!({ "type": "message_start", "message": { "id": "m", "content": [] } })),
        start(0, json!({ "type": "thinking", "thinking": "" })),
        delta(0, json!({ "type": "thinking_delta", "thinking": "hm" })),
        start(1, json!({ "type": "text", "text": "" })),
        delta(1, json!({ "type": "text_delta", "text": "Gr" })),
        delta(1, json!({ "type": "text_delta", "text": "üße" })),
        start(2, json!({ "type": "server_tool_use", "id": "s1", "name": "web_search", "input": {} })),
        piece(2, "{\"query\":"),
        piece(2, "\"x\"}"),
        start(3, content[3].clone()),
        start(4, json!({ "type": "tool_use", "id": "t1", "name": "w", "input": {} })),
        piece(4, "{\"a\": \"\\u00fc\\\"\", "),
        piece(4, "\"b\": [1.0, 2.5, null]}"),
        start(5, json!({ "type": "tool_use", "id": "t2", "name": "v", "input": {} })),
    ];
    let streamed = said(Anthropic::default(), &events, key);
    assert!(streamed.is_some());
    assert_eq!(streamed, said(Anthropic::default(), &[("", json!({ "content": content }))], key));
    assert_eq!(streamed, echoed(Anthropic::default(), &content, key));
    // Without what clients strip, and with the marks that they move.
    let mut other = content.clone();
    other.as_array_mut().unwrap().remove(0);
    other[0]["cache_control"] = json!({ "type": "ephemeral" });
    assert_eq!(streamed, echoed(Anthropic::default(), &other, key));
    other[3]["input"]["a"] = json!("other");
    assert_ne!(streamed, echoed(Anthropic::default(), &other, key));
}

#[test]
fn an_answer_of_converse_is_its_echo_however_it_came() {
    let key = Key::random();
    let content = json!([
        { "reasoningContent": { "reasoningText": { "text": "hm", "signature": "s" } } },
        { "text": "Grüße" },
        { "toolUse": { "toolUseId": "t1", "name": "w", "input": { "b": [1, null], "a": "x" } } },
        { "toolUse": { "toolUseId": "t2", "name": "v", "input": {} } },
        { "cachePoint": { "type": "default" } },
    ]);
    let start = |index: usize, id: &str, name: &str| {
        let start = json!({ "toolUse": { "toolUseId": id, "name": name } });
        ("contentBlockStart", json!({ "contentBlockIndex": index, "start": start }))
    };
    let delta =
        |index: usize, delta: Value| ("contentBlockDelta", json!({ "contentBlockIndex": index, "delta": delta }));
    let events = [
        ("messageStart", json!({ "role": "assistant" })),
        delta(0, json!({ "reasoningContent": { "text": "hm" } })),
        delta(1, json!({ "text": "Gr" })),
        delta(1, json!({ "text": "üße" })),
        start(2, "t1", "w"),
        delta(2, json!({ "toolUse": { "input": "{\"a\":\"x\"," } })),
        delta(2, json!({ "toolUse": { "input": "\"b\":[1,null]}" } })),
        start(3, "t2", "v"),
        ("messageStop", json!({ "stopReason": "tool_use" })),
    ];
    let streamed = said(BedrockConverse::default(), &events, key);
    assert!(streamed.is_some());
    let whole = json!({ "output": { "message": { "role": "assistant", "content": content } } });
    assert_eq!(streamed, said(BedrockConverse::default(), &[("", whole)], key));
    assert_eq!(streamed, echoed(BedrockConverse::default(), &content, key));
}
