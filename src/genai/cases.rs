//! The cases of `tests/fixtures/genai/<format>/<case>`: an exchange as the wire had it, and everything its span must say.
//!
//! `<case>.request` and `<case>.answer` are heads and bodies of HTTP/1.1, the bodies without the coding of the transfer;
//! `<case>.json` is the span's name and attributes, all of them, its description and the evidence. A case whose answer was broken off has `"end":
//! "broken"` or `"cancelled"` there. With `BLESS=1` the last are written anew: to be read before they are committed. `CASES=part-of-a-path` runs some.

#![allow(clippy::indexing_slicing, clippy::string_slice, reason = "no part of the program")]

mod several;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::Compression;
use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{Array, Value};
use serde_json::{Value as Json, json};

use super::*;
use crate::config::rules::Rules;
use crate::net::Direction;
use crate::trace::{channel, propagation};

/// One message: its first line, its header fields, its body.
struct Message {
    line: Vec<String>,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Message {
    fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let end = bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut lines = head.split("\r\n");
        let line = lines.next().unwrap().split(' ').map(str::to_owned).collect();
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(':').unwrap();
            let name = HeaderName::try_from(name).unwrap();
            headers.append(name, HeaderValue::from_str(value.trim()).unwrap());
        }
        Self { line, headers, body: bytes[end + 4..].to_vec() }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The same, its body encoded.
    fn encoded(&self, coding: &'static str) -> Self {
        let body = match coding {
            "gzip" => read_all(flate2::read::GzEncoder::new(&*self.body, Compression::default())),
            "deflate" => read_all(flate2::read::ZlibEncoder::new(&*self.body, Compression::default())),
            "zstd" => zstd::stream::encode_all(&*self.body, 1).unwrap(),
            _ => self.body.clone(),
        };
        let mut headers = self.headers.clone();
        headers.insert("content-encoding", HeaderValue::from_static(coding));
        Self { line: self.line.clone(), headers, body }
    }
}

fn read_all(mut from: impl std::io::Read) -> Vec<u8> {
    let mut all = Vec::new();
    from.read_to_end(&mut all).unwrap();
    all
}

fn settings(capture: bool) -> Arc<Settings> {
    let capture = if capture { crate::config::Capture::SpanOnly } else { crate::config::Capture::NoContent };
    let metrics = Arc::new(Metrics::default());
    let genai = GenAi { capture, ..GenAi::default() };
    Arc::new(Settings::new(genai, Budget::unlimited(), metrics.clone(), channel(64, 64, metrics).0))
}

/// What the span says of an exchange, its bodies in pieces of so many bytes.
fn seen(
    request: &Message,
    answer: &Message,
    end: End,
    piece: usize,
    settings: &Arc<Settings>,
) -> (Json, Option<Evidence>) {
    let target = &request.line[1];
    let host = request.header("host");
    let port = host.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(443);
    let subject = Subject {
        direction: Direction::Outbound,
        address: "192.0.2.1".parse().unwrap(),
        port,
        host: Some(host).filter(|host| !host.is_empty()),
        method: &request.line[0],
        path: target.split('?').next().unwrap(),
        content_type: request.headers.get("content-type").map(HeaderValue::as_bytes),
        user_agent: request.headers.get("user-agent").map(HeaderValue::as_bytes),
    };
    let head = Request { subject, path: target, headers: &request.headers };
    let span = Span::new(propagation::start(&mut rand::rng()), request.line[0].clone());
    let Some(mut inspection) = recognise(settings, &Arc::new(Policy::new(Rules::default())), &head) else {
        return (json!({ "name": request.line[0], "attributes": {} }), None);
    };
    for piece in request.body.chunks(piece) {
        inspection.request(piece);
    }
    inspection.request_ended();
    let (sink, mut source) = channel(64, 64, Arc::new(Metrics::default()));
    let span = ActiveSpan::new(span, sink);
    let mut now = Instant::now();
    inspection.placed(&span);
    let status: u16 = answer.line[1].parse().unwrap();
    inspection.answered(status, &answer.headers);
    for piece in answer.body.chunks(piece) {
        now += Duration::from_millis(1);
        inspection.answer(piece, now);
    }
    let evidence = inspection.evidence().cloned();
    let ended = inspection.end(end);
    span.conclude_with(ended, |span| inspection.conclude(end, span));
    drop((inspection, span));
    let span = source.drain().pop().unwrap();
    let mut attributes: BTreeMap<_, _> =
        span.attributes.iter().map(|attribute| (attribute.key.to_string(), shown(&attribute.value))).collect();
    attributes.remove(semconv::SIDETRACE_END);
    let sent = span.attributes.len() - usize::from(span.outcome != End::Complete);
    assert_eq!(attributes.len(), sent, "an attribute was written twice: {:?}", span.attributes);
    if let Some(took) = attributes.get_mut(semconv::GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK) {
        *took = json!("some time");
    }
    let mut seen = json!({ "name": span.name, "attributes": attributes });
    if let Some(evidence) = evidence.as_ref().filter(|evidence| **evidence != Evidence::default()) {
        seen["evidence"] = told(evidence);
    }
    if let Some(description) = &span.description {
        seen["description"] = json!(description);
    }
    match end {
        End::Broken => seen["end"] = json!("broken"),
        End::Cancelled => seen["end"] = json!("cancelled"),
        _ => {}
    }
    if ended != end {
        seen["ended"] = json!(ended.as_str());
    }
    (seen, evidence)
}

/// What the library says that was recorded.
fn said(path: &Path) -> Option<Json> {
    let said = std::fs::read(path.with_extension("said")).ok()?;
    Some(serde_json::from_slice(&said).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

/// What a library says of a call and the span does not. What is not read from bodies is said elsewhere.
fn unlike(span: &Json, said: &Json) -> Vec<String> {
    let mut wrong = Vec::new();
    if span["name"] != said["span"] {
        wrong.push(format!("the name {}, not {}", said["span"], span["name"]));
    }
    for (name, value) in said["attributes"].as_object().unwrap() {
        let elsewhere =
            ["server.", "http.", "network.", "url.", "sidetrace.end"].iter().any(|prefix| name.starts_with(prefix));
        let by_status = name == "error.type" && value.as_str().is_some_and(|code| code.parse::<u16>().is_ok());
        if !elsewhere && !by_status && span["attributes"][name] != *value {
            wrong.push(format!("{name}={value}, not {}", span["attributes"][name]));
        }
    }
    let present =
        said["present"].as_array().unwrap().iter().filter(|name| span["attributes"][name.as_str().unwrap()].is_null());
    wrong.extend(present.map(|name| format!("{name} is there")));
    for tool in said["tools"].as_array().into_iter().flatten() {
        let issued = span["evidence"]["issued"].as_array().into_iter().flatten();
        if !issued
            .clone()
            .any(|call| call["name"] == tool["name"] && (tool["id"].is_null() || call["id"] == tool["id"]))
        {
            wrong.push(format!("a call of {tool}, not {:?}", issued.collect::<Vec<_>>()));
        }
    }
    wrong
}

/// Evidence without its digests, whose key is another one each time.
fn told(evidence: &Evidence) -> Json {
    let call = |call: &crate::call::ToolCall| json!({ "id": call.id, "name": call.name, "arguments": call.arguments.is_some() });
    json!({
        "items": evidence.items.len(),
        "answered": evidence.answered,
        "issued": evidence.issued.iter().map(call).collect::<Vec<_>>(),
        "response_id": evidence.response_id,
        "previous_response_id": evidence.previous_response_id,
        "sessions": evidence.sessions.iter().map(|(kind, id)| format!("{kind:?} {id}")).collect::<Vec<_>>(),
        "tool": evidence.tool.as_ref().map(call),
        "meta": evidence.meta.as_ref().map(|meta| &meta.traceparent),
        "incomplete": evidence.incomplete,
    })
}

fn shown(value: &Value) -> Json {
    match value {
        Value::Bool(value) => json!(value),
        Value::I64(value) => json!(value),
        Value::F64(value) => json!(value),
        Value::Array(Array::String(values)) => values.iter().map(|value| json!(value.as_str())).collect(),
        other => json!(other.as_str()),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "which cases a developer wants to see is no configuration of the program's"
)]
fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/genai");
    let only = std::env::var("CASES").unwrap_or_default();
    let mut found = Vec::new();
    for folder in std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        found.extend(files.filter(|path| path.extension().is_some_and(|kind| kind == "request")));
    }
    found.retain(|path| path.to_string_lossy().contains(&only));
    found.sort();
    found
}

/// Every case, whole and in pieces of every size up to seven bytes and some more, as it was and in every coding.
#[test]
fn every_recorded_exchange_says_what_it_must_however_it_is_cut_and_encoded() {
    let (settings, mut wrong, mut count) = (settings(false), Vec::new(), 0);
    for path in cases() {
        let (request, answer) = (Message::read(&path), Message::read(&path.with_extension("answer")));
        let file = path.with_extension("json");
        let read =
            |bytes: Vec<u8>| serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let expected: Json = std::fs::read(&file).map_or(Json::Null, read);
        let case = path.file_stem().unwrap().to_string_lossy().into_owned();
        let end = match expected["end"].as_str() {
            Some("broken") => End::Broken,
            Some("cancelled") => End::Cancelled,
            None if case.contains("stream-cut") => End::Broken,
            None if case.contains("stream-hold") => End::Cancelled,
            _ => End::Complete,
        };
        let (whole, evidence) = seen(&request, &answer, end, usize::MAX, &settings);
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&file, format!("{:#}\n", whole)).unwrap();
            continue;
        }
        count += 1;
        let name = path.display();
        if let Some(said) = said(&path).filter(|_| !case.starts_with(several::RECORDED)) {
            wrong.extend(unlike(&whole, &said).into_iter().map(|what| format!("{name}: the library says {what}")));
        }
        if whole != expected {
            wrong.push(format!("{name}: {whole:#}\nis not {expected:#}"));
            continue;
        }
        for piece in [1, 2, 3, 5, 7, 64, 1000] {
            let cut = seen(&request, &answer, end, piece, &settings);
            if cut != (whole.clone(), evidence.clone()) {
                wrong.push(format!("{name} in pieces of {piece}: {:#}\nis not {whole:#}", cut.0));
            }
        }
        let encoded = [&request, &answer].iter().any(|message| !message.header("content-encoding").is_empty());
        if encoded || end != End::Complete {
            continue;
        }
        for coding in ["gzip", "deflate", "zstd"] {
            let encoded = seen(&request.encoded(coding), &answer.encoded(coding), end, 11, &settings);
            if encoded != (whole.clone(), evidence.clone()) {
                wrong.push(format!("{name} with {coding}: {:#}\nis not {whole:#}", encoded.0));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count} cases:\n{}", wrong.len(), wrong.join("\n"));
}
