#![allow(clippy::indexing_slicing, reason = "a test that fails here says where")]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::genai::item::{Arguments, Key, Role};

fn text(said: &str) -> Text {
    Text::of(said, 1 << 20, &Key::random())
}

fn arguments(json: &str) -> Arguments {
    Arguments { json: text(json), digest: None }
}

fn message(role: Role, parts: Vec<Part>) -> Message {
    Message { parts, ..Message::new(role) }
}

fn read(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

#[test]
fn every_part_has_the_shape_of_the_conventions() {
    let redaction = Redaction::default();
    let writer = Writer::new(&redaction, 16 * 1024);
    let media = |what| Part::Media { modality: "image", mime: Some("image/png".into()), what };
    let parts = vec![
        Part::Text(text("hi \"you\"\n")),
        Part::Reasoning(text("hm")),
        Part::ToolCall { id: Some("c1".into()), name: "f".into(), arguments: arguments("{\"a\": 1}") },
        Part::ToolCall { id: None, name: "f".into(), arguments: arguments("not json") },
        Part::ToolResult { id: Some("c1".into()), name: None, result: arguments("sunny") },
        Part::ToolResult { id: Some("c2".into()), name: None, result: arguments("[1,2]") },
        Part::ServerToolCall { id: None, name: "web".into(), kind: "web_search".into(), arguments: arguments("{}") },
        Part::ServerToolResult { id: Some("s".into()), kind: "web_search".into(), result: arguments("[]") },
        media(Media::Uri("https://u:p@h.example/x.png".into())),
        media(Media::File("file-1".into())),
        media(Media::Blob(text("AAEC"))),
        Part::Compaction { id: Some("k".into()), content: Some(text("sum")) },
        Part::Compaction { id: None, content: None },
        Part::Other("strange".into()),
    ];
    let mut one = message(Role::User, parts);
    one.name = Some("bob".into());
    assert_eq!(
        read(&writer.input(&[one])),
        json!([{ "role": "user", "name": "bob", "parts": [
            { "type": "text", "content": "hi \"you\"\n" },
            { "type": "reasoning", "content": "hm" },
            { "type": "tool_call", "id": "c1", "name": "f", "arguments": { "a": 1 } },
            { "type": "tool_call", "name": "f", "arguments": "not json" },
            { "type": "tool_call_response", "id": "c1", "response": "sunny" },
            { "type": "tool_call_response", "id": "c2", "response": [1, 2] },
            { "type": "server_tool_call", "name": "web", "server_tool_call": { "type": "web_search", "arguments": {} } },
            { "type": "server_tool_call_response", "id": "s",
              "server_tool_call_response": { "type": "web_search", "result": [] } },
            { "type": "uri", "modality": "image", "mime_type": "image/png",
              "uri": "https://[REDACTED:credentials]@h.example/x.png" },
            { "type": "file", "modality": "image", "mime_type": "image/png", "file_id": "file-1" },
            { "type": "blob", "modality": "image", "mime_type": "image/png", "content": "AAEC" },
            { "type": "compaction", "id": "k", "content": "sum" },
            { "type": "compaction" },
            { "type": "strange" },
        ] }])
    );
    let said = |reason: Option<&str>| Message {
        finish_reason: reason.map(Into::into),
        ..message(Role::Assistant, vec![Part::Text(text("a"))])
    };
    let output = read(&writer.output(&[said(Some("tool_call")), said(None)]));
    assert_eq!((&output[0]["finish_reason"], &output[1]["finish_reason"]), (&json!("tool_call"), &json!("error")));
    assert_eq!(read(&writer.system(&[text("be kind")])), json!([{ "type": "text", "content": "be kind" }]));
    let tool = Tool { kind: "function".into(), name: "f".into() };
    assert_eq!(read(&writer.tools(&[tool])), json!([{ "type": "function", "name": "f" }]));
    assert_eq!((read(&writer.input(&[])), read(&writer.tools(&[]))), (json!([]), json!([])));
    assert_eq!(read(&writer.value(&text("{\"password\":\"x1\"}"))), json!({ "password": "[REDACTED:secret]" }));
    assert_eq!(read(&writer.value(&text("plain a@b.co"))), json!("plain [REDACTED:email]"));
}

#[test]
fn what_is_to_be_bytes_and_is_text_is_redacted() {
    let redaction = Redaction::default();
    let writer = Writer::new(&redaction, 64 * 1024);
    let key = concat!("sk-", "proj-AbCd1234EfGh5678IjKl9012MnOp");
    let long = "ABC4111111111111111-_x".repeat(100);
    for (content, expected) in [
        ("", ""),
        ("AAEC", "AAEC"),
        ("AA==", "AA=="),
        ("a-_b", "a-_b"),
        (&*long, &*long),
        ("data:image/png;base64,AAEC", "data:image/png;base64,AAEC"),
        ("DATA:image/png;BASE64,AAEC", "DATA:image/png;BASE64,AAEC"),
        (key, "[REDACTED:api_key]"),
        ("4111111111111111", "[REDACTED:card]"),
        ("HTTPS://joe:hunter22@h/i.png", "HTTPS://[REDACTED:credentials]@h/i.png"),
        ("data:text/plain,joe@example.com", "data:text/plain,[REDACTED:email]"),
        ("data:text/plain;base64,joe@example.com", "data:text/plain;base64,[REDACTED:email]"),
        ("data:joe@example.com;base64,AAEC", "data:[REDACTED:email];base64,AAEC"),
        ("{\"password\": {\"v\": \"abc\"}}", "{\"password\": {\"v\": \"[REDACTED:secret]\"}}"),
        ("call joe@example.com", "call [REDACTED:email]"),
    ] {
        let blob = Part::Media { modality: "document", mime: None, what: Media::Blob(text(content)) };
        let written = read(&writer.input(&[message(Role::User, vec![blob])]));
        assert_eq!(written[0]["parts"][0]["content"], expected, "{content}");
    }
}

#[test]
fn names_and_types_are_redacted_too() {
    let redaction = Redaction::default();
    let writer = Writer::new(&redaction, 16 * 1024);
    let mut one = message(Role::Other("joe@example.com".into()), vec![Part::Other("ann@example.com".into())]);
    one.name = Some("bob@example.com".into());
    assert_eq!(
        read(&writer.input(&[one])),
        json!([{ "role": "[REDACTED:email]", "name": "[REDACTED:email]", "parts": [{ "type": "[REDACTED:email]" }] }])
    );
}

#[test]
fn the_longest_texts_are_shortened_first_and_say_so() {
    let redaction = Redaction::default();
    let texts = [text("short"), text(&"l".repeat(5000)), text(&"m".repeat(900))];
    let json = Writer::new(&redaction, 2048).system(&texts);
    assert!(json.len() <= 2048 && json.len() > 1900, "{}", json.len());
    let read = read(&json);
    assert_eq!((&read[0]["content"], &read[2]["content"]), (&json!("short"), &json!("m".repeat(900))));
    let long = read[1]["content"].as_str().unwrap();
    let shown = long.chars().take_while(|c| *c == 'l').count();
    assert_eq!(long, format!("{}…[truncated {} bytes]", "l".repeat(shown), 5000 - shown));
}

#[test]
fn what_was_not_kept_is_named_and_a_secret_at_the_cut_is_hidden() {
    let redaction = Redaction::default();
    let writer = Writer::new(&redaction, 4096);
    let cut = |said: &str, limit| Text::of(said, limit, &Key::random());
    assert_eq!(read(&writer.value(&cut("hello world", 5))), json!("hello…[truncated 6 bytes]"));
    let secret = format!("key sk-{}", "a1B2c3D4e5F6g7H8i9J0");
    let shown = read(&writer.system(&[cut(&secret, 10)]));
    assert_eq!(shown[0]["content"], "key [REDACTED:api_key]…[truncated 17 bytes]");
    let blob = Part::Media { modality: "image", mime: None, what: Media::Blob(cut("AAECAwQF", 4)) };
    let shown = read(&writer.input(&[message(Role::User, vec![blob])]));
    assert_eq!(shown[0]["parts"][0]["content"], "…[truncated 8 bytes]");
    let shown = read(&writer.value(&cut("{\"password\":\"hunter2\"}", 16)));
    assert_eq!(shown, "{\"password\":\"[REDACTED:secret]…[truncated 6 bytes]");
}

#[test]
fn the_oldest_messages_in_the_middle_make_room() {
    let redaction = Redaction::default();
    let messages: Vec<_> = (0..200)
        .map(|n| message(Role::User, vec![Part::Text(text(&format!("number {n} {}", "x".repeat(80))))]))
        .collect();
    let json = Writer::new(&redaction, 2048).input(&messages);
    assert!(json.len() <= 2048, "{}", json.len());
    let read = read(&json);
    let shown = read.as_array().unwrap();
    let said = |index: usize| shown[index]["parts"][0]["content"].as_str().unwrap().to_owned();
    assert!(said(0).starts_with("number 0 ") && said(shown.len() - 1).starts_with("number 199 "), "{json}");
    assert_eq!(shown[1]["parts"], json!([{ "type": "truncated" }]));
    assert!(said(2).starts_with(&format!("number {} ", 200 - (shown.len() - 2))));
    let parts = (0..500).map(|_| Part::Other("strange".into())).collect();
    let nothing = Writer::new(&redaction, 256).input(&[message(Role::User, parts)]);
    assert_eq!(nothing, format!("[{LEFT_OUT}]"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn it_is_json_within_its_bound_and_without_the_secret(
        said in proptest::collection::vec((".{0,300}", 0_usize..400, any::<bool>()), 0..12), most in 256_usize..3000,
    ) {
        let redaction = Redaction::default();
        let secret = format!("ghp_{}", "a1B2c3D4e5F6g7H8i9J0");
        let part = |(said, limit, call): (String, usize, bool)| {
            let said = format!("{said}{secret}{said}");
            if call {
                let json = Value::String(said).to_string();
                let json = Text::of(&json, limit, &Key::random());
                Part::ToolCall { id: None, name: "f".into(), arguments: Arguments { json, digest: None } }
            } else {
                Part::Text(Text::of(&said, limit, &Key::random()))
            }
        };
        let messages: Vec<_> = said.into_iter().map(|said| message(Role::User, vec![part(said)])).collect();
        let writer = Writer::new(&redaction, most);
        for json in [writer.input(&messages), writer.output(&messages)] {
            prop_assert!(json.len() <= most);
            prop_assert!(serde_json::from_str::<Value>(&json).is_ok(), "{}", json);
            prop_assert!(!json.contains("a1B2"), "{}", json);
        }
        for part in messages.iter().flat_map(|message| &message.parts) {
            if let Part::Text(text) | Part::ToolCall { arguments: Arguments { json: text, .. }, .. } = part {
                let json = writer.value(text);
                prop_assert!(json.len() <= most && serde_json::from_str::<Value>(&json).is_ok(), "{}", json);
            }
        }
    }
}
