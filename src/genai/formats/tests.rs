//! What holds for all formats: an answer is known again in the history of the next request, and no body is too strange.
#![allow(clippy::indexing_slicing, clippy::string_slice, reason = "no part of the program")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use crate::budget::{Budget, Loan};
use crate::call::{Digest, Evidence};
use crate::config::GenAi;
use crate::config::rules::Rules;
use crate::genai::{Inspection, Request, Settings, recognise};
use crate::net::Direction;
use crate::policy::{Policy, Subject};
use crate::telemetry::Metrics;

fn settings() -> Arc<Settings> {
    let metrics = Arc::new(Metrics::default());
    let (sink, _) = crate::trace::channel(1, 1, metrics.clone());
    Arc::new(Settings::new(GenAi::default(), Budget::unlimited(), metrics, sink))
}

fn inspected(settings: &Arc<Settings>, path: &str, host: &str, body: &[u8]) -> Option<Box<Inspection>> {
    let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    let subject = Subject {
        direction: Direction::Outbound,
        address: "192.0.2.1".parse().unwrap(),
        port: 443,
        host: Some(host),
        method: "POST",
        path: path.split('?').next().unwrap(),
        content_type: Some(b"application/json"),
        user_agent: None,
    };
    let request = Request { subject, path, headers: &headers };
    let mut inspection = recognise(settings, &Arc::new(Policy::new(Rules::default())), &request)?;
    inspection.request(body);
    inspection.request_ended();
    Some(inspection)
}

/// What the answer would be in a history, and what else was found.
fn answered(mut inspection: Box<Inspection>, kind: &'static str, body: &[u8]) -> (Option<Digest>, Evidence) {
    let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static(kind))]);
    inspection.answered(200, &headers);
    inspection.answer(body, Instant::now());
    let Inspection { facts, answer, mut format, .. } = *inspection;
    let mut facts = facts.unwrap();
    if let Some(mut answer) = answer {
        let _ = answer.finish(&mut *format, &mut facts);
    }
    format.finish(true, &mut facts);
    let (key, evidence) = (facts.key, facts.evidence.clone());
    (facts.reply.take_messages().first().and_then(|message| message.digest(&key)), evidence)
}

struct Echo {
    path: &'static str,
    kind: &'static str,
    answer: String,
    /// The request that continues.
    next: Value,
    /// How many items it has, the echo being the second one.
    items: usize,
}

fn events(events: &[Value]) -> String {
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

fn lines(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[track_caller]
fn is_known_again(echo: &Echo) {
    let settings = settings();
    let first = inspected(&settings, echo.path, "example.com", echo.next.to_string().as_bytes()).unwrap();
    let (reply, _) = answered(first, echo.kind, echo.answer.as_bytes());
    let next = inspected(&settings, echo.path, "example.com", echo.next.to_string().as_bytes()).unwrap();
    let evidence = next.evidence().unwrap();
    assert_eq!(evidence.items.len(), echo.items);
    assert!(reply.is_some() && !evidence.incomplete);
    assert_eq!(reply, evidence.items.get(1).copied());
}

fn gemini(answers: &[Value], history: &[Value]) -> Echo {
    let user = json!({ "role": "user", "parts": [{ "text": "hi" }] });
    let contents: Vec<_> = [std::slice::from_ref(&user), history, std::slice::from_ref(&user)].concat();
    Echo {
        path: "/v1/models/m:streamGenerateContent",
        kind: "text/event-stream",
        answer: events(answers),
        next: json!({ "contents": contents }),
        items: 3,
    }
}

fn model(parts: &Value) -> Value {
    json!({ "role": "model", "parts": parts })
}

fn chunk(parts: &Value) -> Value {
    json!({ "candidates": [{ "content": model(parts) }] })
}

#[test]
fn what_gemini_streams_is_known_again_whether_the_client_joins_the_chunks_or_not() {
    let parts = [
        json!([{ "text": "I think", "thought": true }]),
        json!([{ "text": "Let " }]),
        json!([{ "text": "me see. ", "thoughtSignature": "AA" }]),
        json!([{ "functionCall": { "name": "w", "args": { "b": 1.0, "a": "x" } } }, { "text": "" }]),
    ];
    let chunks: Vec<_> = parts.iter().map(chunk).collect();
    is_known_again(&gemini(&chunks, &parts.iter().map(model).collect::<Vec<_>>()));
    let joined = json!([{ "text": "Let me see. " }, { "functionCall": { "name": "w", "args": { "a": "x", "b": 1 } } }]);
    is_known_again(&gemini(&chunks, &[model(&joined)]));
}

#[test]
fn a_long_answer_of_gemini_is_known_again() {
    let long = json!([{ "text": "x".repeat(100_000) }]);
    is_known_again(&gemini(&[chunk(&long)], &[model(&long)]));
}

#[test]
fn arguments_in_pieces_are_known_again() {
    let piece = |call: Value| chunk(&json!([{ "functionCall": call }]));
    let value = |value: Value| json!({ "partialArgs": [value], "willContinue": true });
    let chunks = [
        piece(json!({ "name": "w", "willContinue": true })),
        piece(value(json!({ "jsonPath": "$.to.city", "stringValue": "New ", "willContinue": true }))),
        piece(value(json!({ "jsonPath": "$.to.city", "stringValue": "Delhi" }))),
        piece(value(json!({ "jsonPath": "$['days'][0]", "numberValue": 1 }))),
        piece(value(json!({ "jsonPath": "$.days[1]", "numberValue": 2.5 }))),
        piece(value(json!({ "jsonPath": "$.now", "boolValue": false }))),
        piece(value(json!({ "jsonPath": "$.no", "nullValue": null }))),
        piece(json!({})),
    ];
    let args = json!({ "to": { "city": "New Delhi" }, "days": [1, 2.5], "now": false, "no": null });
    is_known_again(&gemini(&chunks, &[model(&json!([{ "functionCall": { "name": "w", "args": args } }]))]));
}

#[test]
fn arguments_at_places_that_are_none_have_no_digest() {
    for path in ["", "$", "$.a[7]", "$.a[x]", "$.a[", "$['a", "a.b", "$.s.t"] {
        let call = json!({ "name": "w", "partialArgs": [
            { "jsonPath": "$.s", "stringValue": "s" },
            { "jsonPath": path, "stringValue": "x" },
        ] });
        let contents = json!({ "contents": [model(&json!([{ "text": "hi" }]))] });
        let first = inspected(&settings(), "/m:generateContent", "example.com", contents.to_string().as_bytes());
        let body = chunk(&json!([{ "functionCall": call }])).to_string();
        let (reply, evidence) = answered(first.unwrap(), "application/json", body.as_bytes());
        assert_eq!((reply, evidence.issued[0].arguments), (None, None), "{path}");
    }
}

#[test]
fn what_ollama_streams_is_known_again_without_the_ids_that_clients_drop() {
    let line = |message: Value, done: bool| json!({ "model": "l", "message": message, "done": done });
    let call = |city: &str| json!({ "function": { "name": "w", "arguments": { "city": city } } });
    let mut named = call("P");
    named["id"] = json!("call_1");
    let history =
        json!({ "role": "assistant", "content": "Two.", "thinking": "hm", "tool_calls": [call("P"), call("Q")] });
    is_known_again(&Echo {
        path: "/api/chat",
        kind: "application/x-ndjson",
        answer: lines(&[
            line(json!({ "role": "assistant", "content": "", "thinking": "hm" }), false),
            line(json!({ "role": "assistant", "content": "Two" }), false),
            line(json!({ "role": "assistant", "content": ".", "tool_calls": [named] }), false),
            line(json!({ "role": "assistant", "content": "", "tool_calls": [call("Q")] }), false),
            line(json!({ "role": "assistant", "content": "" }), true),
        ]),
        next: json!({ "model": "l", "messages": [
            { "role": "user", "content": "hi" },
            history,
            { "role": "tool", "tool_name": "w", "content": "wet" },
        ] }),
        items: 3,
    });
}

#[test]
fn what_cohere_streams_is_known_again() {
    let said = |kind: &str, index: u64, message: Value| json!({ "type": kind, "index": index, "delta": { "message": message } });
    let call = |arguments: &str| json!({ "tool_calls": { "function": { "arguments": arguments } } });
    is_known_again(&Echo {
        path: "/v2/chat",
        kind: "text/event-stream",
        answer: events(&[
            json!({ "type": "message-start", "id": "1", "delta": { "message": { "content": [], "tool_calls": [] } } }),
            said("tool-plan-delta", 0, json!({ "tool_plan": "I will" })),
            said("content-start", 0, json!({ "content": { "type": "text", "text": "" } })),
            said("content-delta", 0, json!({ "content": { "text": "On " } })),
            said("content-delta", 0, json!({ "content": { "text": "it." } })),
            said(
                "tool-call-start",
                0,
                json!({ "tool_calls": { "id": "w_1", "function": { "name": "w", "arguments": "" } } }),
            ),
            said("tool-call-delta", 0, call("{\"a\"")),
            said("tool-call-delta", 0, call(": 1}")),
            json!({ "type": "message-end", "delta": { "finish_reason": "TOOL_CALL" } }),
        ]),
        next: json!({ "model": "m", "messages": [
            { "role": "user", "content": "hi" },
            { "role": "assistant", "tool_plan": "I will do it", "content": [{ "type": "text", "text": "On it." }], "tool_calls": [
                { "id": "w_1", "type": "function", "function": { "name": "w", "arguments": "{\"a\":1}" } }
            ] },
            { "role": "tool", "tool_call_id": "w_1", "content": [{ "type": "document", "document": { "data": "wet" } }] },
        ] }),
        items: 3,
    });
}

#[test]
fn what_mistral_streams_is_known_again_be_arguments_text_or_objects() {
    let said = |delta: Value| json!({ "id": "1", "choices": [{ "index": 0, "delta": delta }] });
    let thought = json!([{ "type": "thinking", "thinking": [{ "type": "text", "text": "hm" }] }]);
    is_known_again(&Echo {
        path: "/v1/chat/completions",
        kind: "text/event-stream",
        answer: events(&[
            said(json!({ "role": "assistant", "content": thought })),
            said(json!({ "content": [{ "type": "text", "text": "Two" }] })),
            said(json!({ "content": "." })),
            said(json!({ "tool_calls": [
                { "id": "a", "index": 0, "function": { "name": "w", "arguments": { "c": "P" } } },
                { "id": "b", "index": 1, "function": { "name": "w", "arguments": "{\"c\":\"Q\"}" } },
            ] })),
        ]),
        next: json!({ "model": "m", "messages": [
            { "role": "user", "content": "hi" },
            { "role": "assistant", "content": [thought[0], { "type": "text", "text": "Two." }], "tool_calls": [
                { "id": "a", "function": { "name": "w", "arguments": "{\"c\": \"P\"}" } },
                { "id": "b", "function": { "name": "w", "arguments": "{\"c\": \"Q\"}" } },
            ] },
            { "role": "tool", "tool_call_id": "a", "content": "wet" },
        ] }),
        items: 3,
    });
}

fn reply_of(path: &str, request: &Value, kind: &'static str, body: &str) -> (Option<Digest>, Evidence) {
    let inspection = inspected(&settings(), path, "example.com", request.to_string().as_bytes()).unwrap();
    answered(inspection, kind, body.as_bytes())
}

#[test]
fn ids_of_ollamas_calls_are_known_though_clients_drop_them() {
    let call = |id: usize| json!({ "id": format!("call_{id}"), "function": { "name": "w", "arguments": { "n": id } } });
    let line = |from: usize, to: usize| {
        let calls: Vec<_> = (from..to).map(call).collect();
        json!({ "model": "l", "message": { "role": "assistant", "content": "", "tool_calls": calls }, "done": to == 200 })
    };
    let request = json!({ "model": "l", "messages": [{ "role": "user", "content": "hi" }] });
    let (_, evidence) =
        reply_of("/api/chat", &request, "application/x-ndjson", &lines(&[line(0, 2), line(2, 140), line(140, 200)]));
    let ids: Vec<_> = evidence.issued.iter().map(|call| call.id.as_deref().unwrap().to_owned()).collect();
    let expected: Vec<_> = (0..128).map(|id| format!("call_{id}")).collect();
    assert_eq!(ids, expected);
    assert!(evidence.incomplete);
}

/// More than is kept of one piece that is to be put together with others.
fn long() -> String {
    "x".repeat(100_000)
}

#[test]
fn a_long_piece_of_a_stream_is_hashed_if_it_is_the_first_and_noted_as_lost_if_it_is_not() {
    let request = json!({ "anthropic_version": "v", "model": "m", "messages": [{ "role": "user", "content": "hi" }] });
    let chat = |text: &str| json!({ "id": "1", "choices": [{ "index": 0, "delta": { "content": text } }] });
    let block = |text: &str| json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": text } });
    let completion = |text: &str| json!({ "id": "1", "choices": [{ "index": 0, "text": text }] });
    for path in ["/v1/chat/completions", "/models/m:streamRawPredict", "/v1/completions"] {
        let piece = |text: &str| match path {
            "/v1/chat/completions" => chat(text),
            "/v1/completions" => completion(text),
            _ => block(text),
        };
        let reply = |pieces: &[Value]| reply_of(path, &request, "text/event-stream", &events(pieces)).0;
        assert!(reply(&[piece(&long())]).is_some(), "{path}");
        assert!(reply(&[piece(&long()), piece("."), piece(".")]).is_some(), "{path}");
        assert!(reply(&[piece("."), piece(&long())]).is_none(), "{path}");
    }
}

#[test]
fn arguments_of_which_a_piece_was_cut_have_no_digest() {
    let request = json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }] });
    let said = |arguments: &str| {
        let call = json!({ "index": 0, "id": "a", "function": { "name": "w", "arguments": arguments } });
        json!({ "id": "1", "choices": [{ "index": 0, "delta": { "tool_calls": [call] }, "finish_reason": "tool_calls" }] })
    };
    // What is cut away is blank: JSON it stays.
    let pieces = [said("{\"a\":"), said(&format!("1}}{}2", " ".repeat(100_000)))];
    let (_, evidence) = reply_of("/v1/chat/completions", &request, "text/event-stream", &events(&pieces));
    assert_eq!((&*evidence.issued[0].name, evidence.issued[0].arguments), ("w", None));
}

#[test]
fn no_place_is_too_far() {
    let chat = json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }] });
    let responses = json!({ "model": "m", "input": "hi" });
    for far in [i64::MAX, i64::MAX - 15, i64::from(u32::MAX), -1] {
        let item = json!({ "type": "function_call", "call_id": "a", "name": "w", "arguments": "{}" });
        let item = json!({ "type": "response.output_item.done", "output_index": far, "item": item });
        let call = json!({ "index": far, "id": "a", "function": { "name": "w", "arguments": "{}" } });
        let delta = json!({ "choices": [{ "index": far, "delta": { "content": "x", "tool_calls": [call] } }] });
        let message = json!({ "content": { "text": "x" }, "tool_calls": { "id": "a", "function": { "name": "w" } } });
        let cohere = json!({ "type": "content-delta", "index": far, "delta": { "message": message } });
        let sums: Vec<_> = (0..4).map(|_| json!({ "outputText": "x", "tokenCount": far })).collect();
        for (path, request, event) in [
            ("/v1/responses", &responses, item),
            ("/v1/chat/completions", &chat, delta),
            ("/v2/chat", &chat, cohere),
            ("/m:streamGenerateContent", &json!({ "contents": [] }), json!({ "candidates": [{ "index": far }] })),
        ] {
            reply_of(path, request, "text/event-stream", &events(&[event]));
        }
        let titan = json!({ "inputText": "hi" });
        let results = json!({ "results": sums }).to_string();
        reply_of("/model/amazon.titan-text/invoke", &titan, "application/json", &results);
    }
}

#[test]
fn an_item_of_many_parts_does_not_reach_into_the_next_one() {
    let request = json!({ "model": "m", "input": "hi" });
    let parts: Vec<_> = (0..70).map(|_| json!({ "type": "output_text", "text": "x" })).collect();
    let call = json!({ "type": "function_call", "call_id": "a", "name": "w", "arguments": "{}" });
    let message = json!({ "type": "message", "role": "assistant", "content": parts });
    let answer = json!({ "id": "r", "status": "completed", "output": [call, message, call] }).to_string();
    let (_, evidence) = reply_of("/v1/responses", &request, "application/json", &answer);
    assert_eq!(evidence.issued.len(), 2);
}

#[test]
fn params_of_a_batch_that_waits_for_its_span_are_accounted_for() {
    let numbers: Vec<_> = (0..500).collect();
    let call = |id: u64| json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": "w", "arguments": { "n": numbers } } });
    let batch = Value::Array((0..60).map(call).collect()).to_string();
    let inspection = inspected(&settings(), "/mcp", "example.com", batch.as_bytes()).unwrap();
    let least = 60 * 500 * size_of::<crate::genai::json::Node>();
    assert!(
        inspection.loan.as_ref().map_or(0, Loan::bytes) >= least as u64,
        "{} < {least}",
        inspection.loan.as_ref().map_or(0, Loan::bytes)
    );
}

#[test]
fn results_of_tools_in_several_parts_are_told_apart() {
    let text = |text: &str| json!({ "type": "text", "text": text });
    let settings = settings();
    let of = |content: Value| {
        let chat = json!({ "model": "m", "messages": [{ "role": "tool", "tool_call_id": "a", "content": content }] });
        let inspection = inspected(&settings, "/v1/chat/completions", "example.com", chat.to_string().as_bytes());
        let evidence = inspection.unwrap().evidence().unwrap().clone();
        assert!(!evidence.incomplete && evidence.items.len() == 1);
        evidence
    };
    assert_eq!(of(json!([text("one"), text("two")])), of(json!([text("one"), text("two")])));
    assert_ne!(of(json!([text("one"), text("two")])).items, of(json!([text("one"), text("three")])).items);
    assert_eq!(of(json!([text("one")])).items, of(json!("one")).items);
    let image = |url: &str| json!({ "type": "image_url", "image_url": { "url": url } });
    assert_ne!(of(json!([text("one"), image("data:a")])).items, of(json!([text("one"), image("data:b")])).items);
}

/// Every value of every body, in its place something else.
#[test]
fn no_value_of_another_type_harms_anybody() {
    let settings = settings();
    let mut count = 0;
    for path in written() {
        let read = |kind: &str| std::fs::read(path.with_extension(kind)).unwrap();
        let ((target, host, request), (_, _, answer)) = (split(&read("request")), split(&read("answer")));
        let kind = match answer.first() {
            Some(b'd' | b'e') => "text/event-stream",
            _ if path.to_string_lossy().contains("ollama") => "application/x-ndjson",
            _ => "application/json",
        };
        for strange in mutants(&request) {
            let Some(inspection) = inspected(&settings, &target, &host, &strange) else { continue };
            answered(inspection, kind, &answer);
            count += 1;
        }
        for strange in mutants(&answer) {
            let Some(inspection) = inspected(&settings, &target, &host, &request) else { continue };
            answered(inspection, kind, &strange);
            count += 1;
        }
    }
    assert!(count > 5000, "{count}");
}

/// The cases that were written by hand: those that were recorded differ little.
fn written() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/genai");
    let folders = ["cohere", "gemini", "gemini_embed", "ollama"].map(|folder| root.join(folder));
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let paths = files.map(|entry| entry.unwrap().path());
    let is_written = |path: &PathBuf| !path.file_stem().unwrap().to_string_lossy().contains('-');
    paths.filter(|path| path.extension().is_some_and(|kind| kind == "request")).filter(is_written).collect()
}

/// Target, host and body.
fn split(message: &[u8]) -> (String, String, Vec<u8>) {
    let end = message.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&message[..end]).into_owned();
    let target = head.split(' ').nth(1).unwrap().to_owned();
    let host = head.lines().find_map(|line| line.strip_prefix("Host: ")).unwrap_or_default().to_owned();
    (target, host, message[end + 4..].to_vec())
}

/// A body of one document, or of one in each line.
fn mutants(body: &[u8]) -> Vec<Vec<u8>> {
    let body = String::from_utf8_lossy(body).into_owned();
    let pieces: Vec<&str> = match serde_json::from_str::<Value>(&body) {
        Ok(_) => vec![&body],
        Err(_) => body.split_inclusive('\n').collect(),
    };
    let mut all = Vec::new();
    for (at, piece) in pieces.iter().enumerate() {
        let json = piece.strip_prefix("data: ").unwrap_or(piece);
        let Ok(value) = serde_json::from_str::<Value>(json) else { continue };
        let (before, behind) = (&piece[..piece.len() - json.len()], "\n");
        for mutant in changed(&value) {
            let line = format!("{before}{mutant}{behind}");
            let mut lines = pieces.clone();
            lines[at] = &line;
            all.push(lines.concat().into_bytes());
        }
    }
    all
}

fn changed(value: &Value) -> Vec<Value> {
    let mut all = vec![json!(null), json!(true), json!(-1), json!(1e300), json!(""), json!([]), json!([{}]), json!({})];
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields {
                for inner in changed(inner) {
                    let mut whole = fields.clone();
                    whole.insert(name.clone(), inner);
                    all.push(whole.into());
                }
            }
        }
        Value::Array(items) => {
            for (at, inner) in items.iter().enumerate() {
                for inner in changed(inner) {
                    let mut whole = items.clone();
                    whole[at] = inner;
                    all.push(whole.into());
                }
            }
        }
        _ => {}
    }
    all
}
