//! The cases of `tests/fixtures/genai/exchanges/<case>`: exchanges that belong together, and spans inside an exchange.
//!
//! `<name>.request` and `<name>.answer` are as those of single cases; `play.json` says in which order what happens:
//! `<name> request`, `head`, `event` (the next event of a stream), `rest`, then `end`, `cancel` or `break`; `all` is the whole of
//! it. `spans.json` is every span in the order in which they ended, and what was counted as lost. `BLESS=1` writes it.

use super::*;
use crate::trace::SpanSource;

/// One exchange under way, as `stack` drives it.
struct Exchange {
    request: Message,
    answer: Message,
    inspection: Option<Box<Inspection>>,
    span: Option<ActiveSpan>,
    /// What of the answer's body was said.
    said: usize,
}

struct Stage {
    settings: Arc<Settings>,
    source: SpanSource,
    direction: Direction,
    piece: usize,
    /// Names of spans by their ids.
    names: BTreeMap<String, String>,
}

impl Stage {
    fn new(direction: Direction, piece: usize) -> Self {
        let metrics = Arc::new(Metrics::default());
        let (sink, source) = channel(10_000, 10_000, metrics.clone());
        let settings = Arc::new(Settings::new(GenAi::default(), Budget::unlimited(), metrics, sink));
        Self { settings, source, direction, piece, names: BTreeMap::new() }
    }

    fn request(&mut self, name: &str, exchange: &mut Exchange) {
        let (request, target) = (&exchange.request, &*exchange.request.line[1]);
        let subject = Subject {
            direction: self.direction,
            address: "192.0.2.1".parse().unwrap(),
            port: 443,
            host: Some(request.header("host")),
            method: &request.line[0],
            path: target.split('?').next().unwrap(),
            content_type: request.headers.get("content-type").map(HeaderValue::as_bytes),
            user_agent: None,
        };
        let head = Request { subject, path: target, headers: &request.headers };
        let mut span = Span::new(propagation::start(&mut rand::rng()), request.line[0].clone());
        if self.direction == Direction::Inbound {
            span.kind = opentelemetry::trace::SpanKind::Server;
            span.push(semconv::CLIENT_ADDRESS, "198.51.100.7");
        }
        span.push(semconv::SERVER_ADDRESS, request.header("host").to_owned());
        span.push(semconv::SERVER_PORT, 443);
        self.names.insert(span.placement.span_id.to_string(), name.to_owned());
        exchange.inspection = recognise(&self.settings, &Arc::new(Policy::new(Rules::default())), &head);
        let span = ActiveSpan::new(span, self.settings.sink.clone());
        if let Some(inspection) = &mut exchange.inspection {
            let held = inspection.holds();
            if !held {
                inspection.placed(&span);
            }
            request.body.chunks(self.piece).for_each(|piece| inspection.request(piece));
            inspection.request_ended();
            if held {
                inspection.placed(&span);
            }
        }
        exchange.inspection.take_if(|inspection| inspection.is_over());
        exchange.span = Some(span);
    }

    fn step(&mut self, name: &str, exchange: &mut Exchange, what: &str) {
        match what {
            "request" => self.request(name, exchange),
            "head" => {
                if let Some(inspection) = &mut exchange.inspection {
                    inspection.answered(exchange.answer.line[1].parse().unwrap(), &exchange.answer.headers);
                }
            }
            "event" | "rest" => {
                let rest = &exchange.answer.body[exchange.said..];
                let end = rest.windows(4).position(|bytes| bytes == b"\r\n\r\n").map(|end| end + 4);
                let said = if what == "rest" { rest.len() } else { end.expect("another event") };
                if let Some(inspection) = &mut exchange.inspection {
                    rest[..said].chunks(self.piece).for_each(|piece| inspection.answer(piece, Instant::now()));
                }
                exchange.said += said;
            }
            "end" => self.end(exchange, End::Complete),
            "cancel" => self.end(exchange, End::Cancelled),
            "break" => self.end(exchange, End::Broken),
            "all" => ["request", "head", "rest", "end"].iter().for_each(|what| self.step(name, exchange, what)),
            other => panic!("{other}"),
        }
    }

    /// As `stack::Call` ends.
    fn end(&self, exchange: &mut Exchange, end: End) {
        let span = exchange.span.take().unwrap();
        let status: u16 = exchange.answer.line[1].parse().unwrap();
        let failed = status >= if self.direction == Direction::Inbound { 500 } else { 400 };
        let kept = match exchange.inspection.take() {
            Some(inspection) => match inspection.park(end, &span) {
                Some(kept) => Some(kept),
                None => return,
            },
            None => None,
        };
        let ended = kept.as_ref().map_or(end, |kept| kept.end(end));
        span.conclude_with(ended, |span| {
            if let Some(mut kept) = kept {
                kept.conclude(end, span);
            }
            if failed {
                span.fail(status.to_string());
            }
        });
    }

    /// Every span that has ended.
    fn spans(&mut self) -> Vec<Json> {
        let spans = self.source.drain();
        spans.iter().map(|span| self.shown(span)).collect()
    }

    fn shown(&self, span: &Span) -> Json {
        let name = |id: &opentelemetry::SpanId| self.names.get(&id.to_string()).cloned();
        let attributes: BTreeMap<_, _> =
            span.attributes.iter().map(|attribute| (attribute.key.to_string(), shown(&attribute.value))).collect();
        assert_eq!(attributes.len(), span.attributes.len(), "an attribute was written twice: {:?}", span.attributes);
        let mut seen = json!({ "name": span.name, "kind": format!("{:?}", span.kind), "attributes": attributes });
        match (name(&span.placement.span_id), span.placement.parent.as_ref().and_then(name)) {
            (Some(exchange), _) => seen["exchange"] = json!(exchange),
            (None, inside) => seen["inside"] = json!(inside),
        }
        if let Some(description) = &span.description {
            seen["description"] = json!(description);
        }
        seen
    }

    fn lost(&self) -> Json {
        self.settings.metrics.uninspected.values().filter(|(_, count)| *count > 0).collect()
    }
}

fn played(folder: &Path, piece: usize) -> Json {
    let play: Json = serde_json::from_slice(&std::fs::read(folder.join("play.json")).unwrap()).unwrap();
    let inbound = play["direction"] == "inbound";
    let mut stage = Stage::new(if inbound { Direction::Inbound } else { Direction::Outbound }, piece);
    let mut exchanges = BTreeMap::new();
    for step in play["play"].as_array().unwrap() {
        let (name, what) = step.as_str().unwrap().split_once(' ').unwrap();
        let exchange = exchanges.entry(name.to_owned()).or_insert_with(|| {
            let read = |kind| Message::read(&folder.join(format!("{name}.{kind}")));
            Exchange { request: read("request"), answer: read("answer"), inspection: None, span: None, said: 0 }
        });
        stage.step(name, exchange, what);
    }
    drop(exchanges);
    let ended = stage.spans();
    stage.settings.drain();
    let mut seen = json!({ "spans": ended, "lost": stage.lost() });
    let left = stage.spans();
    if !left.is_empty() {
        seen["left"] = json!(left);
    }
    seen
}

#[test]
fn exchanges_that_belong_together_are_told_as_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/genai/exchanges");
    let mut folders: Vec<_> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    let mut wrong = Vec::new();
    for folder in &folders {
        let file = folder.join("spans.json");
        let whole = played(folder, usize::MAX);
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&file, format!("{whole:#}\n")).unwrap();
            continue;
        }
        let expected: Json = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        for piece in [usize::MAX, 1, 3, 100] {
            let seen = played(folder, piece);
            if seen != expected {
                wrong.push(format!("{} in pieces of {piece}: {seen:#}\nis not {expected:#}", folder.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), folders.len(), wrong.join("\n"));
}

/// A session of the transport of 2024-11-05, as `tests/it/genai/record.sh` recorded it: every POST is answered by the GET.
#[test]
fn what_is_recorded_of_a_session_whose_answers_come_by_a_stream_is_what_the_library_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/genai/mcp");
    let read = |case: &str| {
        let read = |kind| Message::read(&folder.join(format!("{RECORDED}{case}.{kind}")));
        Exchange { request: read("request"), answer: read("answer"), inspection: None, span: None, said: 0 }
    };
    let mut posts = Vec::new();
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    for file in files {
        let file = file.to_string_lossy();
        let case = file.strip_prefix(RECORDED).and_then(|case| case.strip_suffix(".request"));
        if let Some(case) = case.filter(|case| *case != "get") {
            let post = read(case);
            let body: Json = serde_json::from_slice(&post.request.body).unwrap();
            posts.push((case.to_owned(), body, post));
        }
    }
    let mut stage = Stage::new(Direction::Outbound, 100);
    let mut get = read("get");
    ["request", "head", "event"].iter().for_each(|what| stage.step("get", &mut get, what));
    let events = String::from_utf8(get.answer.body.clone()).unwrap();
    let events = events.split("\r\n\r\n").filter_map(|event| event.split_once("data: ")).skip(1);
    for (_, said) in events {
        let said: Json = serde_json::from_str(said).unwrap();
        let answers = |body: &Json| body["id"] == said["id"] && body["method"].is_null() != said["method"].is_null();
        let at = posts.iter().position(|(_, body, _)| !said["id"].is_null() && answers(body));
        let mut post = at.map(|at| posts.remove(at));
        let asked = !said["method"].is_null();
        if asked {
            stage.step("get", &mut get, "event");
        }
        if let Some((case, _, post)) = &mut post {
            stage.step(case, post, "all");
        }
        if !asked {
            stage.step("get", &mut get, "event");
        }
    }
    stage.step("get", &mut get, "cancel");
    let (spans, mut wrong, mut told) = (stage.spans(), Vec::new(), 0);
    for span in &spans {
        let case = span["exchange"].as_str().unwrap_or("inside");
        if let Some(said) = said(&folder.join(format!("{RECORDED}{case}.request"))) {
            told += 1;
            wrong.extend(unlike(span, &said).into_iter().map(|what| format!("{case}: the library says {what}")));
        }
    }
    let inside: Vec<_> = spans.iter().filter(|span| span["inside"] == "get").map(|span| &span["name"]).collect();
    assert_eq!(inside, ["sampling/createMessage", "elicitation/create"]);
    assert!(wrong.is_empty() && told > 12, "{told}: {}", wrong.join("\n"));
    assert_eq!(stage.lost(), json!({}));
}

/// How the cases of that session are named.
pub(super) const RECORDED: &str = "sse1-mcp1-";

fn exchange(request: &str, answer: &str) -> Exchange {
    let message = |text: &str| {
        let (head, body) = text.split_once("\n\n").unwrap();
        let mut lines = head.lines();
        let line = lines.next().unwrap().split(' ').map(str::to_owned).collect();
        let fields = lines.map(|line| line.split_once(": ").unwrap());
        let headers = fields.map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap()));
        Message { line, headers: headers.collect(), body: body.as_bytes().to_vec() }
    };
    Exchange { request: message(request), answer: message(answer), inspection: None, span: None, said: 0 }
}

fn stream(events: &str) -> Exchange {
    let request = "GET /sse HTTP/1.1\nhost: a\naccept: text/event-stream\n\n";
    exchange(request, &format!("HTTP/1.1 200 OK\ncontent-type: text/event-stream\n\n{events}"))
}

fn post(path: &str, body: &str) -> Exchange {
    let request = format!("POST {path} HTTP/1.1\nhost: a\ncontent-type: application/json\n\n{body}");
    exchange(&request, "HTTP/1.1 202 Accepted\n\n")
}

const ENDPOINT: &str = "event: endpoint\r\ndata: /m\r\n\r\n";

#[test]
fn of_too_many_calls_that_wait_the_oldest_are_given_up_and_counted() {
    let mut stage = Stage::new(Direction::Outbound, usize::MAX);
    let mut get =
        stream(&format!("{ENDPOINT}data: {{\"jsonrpc\":\"2.0\",\"id\":1500,\"result\":{{\"isError\":true}}}}\r\n\r\n"));
    ["request", "head", "event"].iter().for_each(|what| stage.step("get", &mut get, what));
    for id in 0..1524 {
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": "a" } });
        stage.step("post", &mut post("/m", &body.to_string()), "all");
    }
    let given_up = stage.spans();
    assert_eq!(given_up.len(), 500);
    assert_eq!(given_up[0]["attributes"]["jsonrpc.request.id"], "0");
    assert_eq!(given_up[0]["attributes"]["sidetrace.inspection.incomplete"], "parked_lost");
    assert_eq!(stage.lost(), json!({ "parked_lost": 500 }));
    stage.step("get", &mut get, "event");
    assert_eq!(stage.spans()[0]["attributes"]["error.type"], "tool_error");
    stage.step("get", &mut get, "break");
    let broken = stage.spans();
    assert_eq!(broken.len(), 1024, "all that waited, and the stream itself");
    assert_eq!(broken[0]["attributes"]["sidetrace.end"], "broken");
    // Whoever posts now is not waited for.
    stage.step("post", &mut post("/m", r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#), "all");
    assert_eq!(stage.spans().len(), 1);
}

#[test]
fn a_batch_of_any_size_costs_so_many_spans_and_no_more() {
    let mut stage = Stage::new(Direction::Outbound, 1000);
    let requests: Vec<_> = (0..10_000).map(|id| json!({ "jsonrpc": "2.0", "id": id % 70, "method": "ping" })).collect();
    stage.step("post", &mut post("/mcp", &json!(requests).to_string()), "all");
    let spans = stage.spans();
    assert_eq!(spans.len(), 65);
    assert_eq!(spans[64]["attributes"]["sidetrace.jsonrpc.batch_size"], 10_000);
    assert_eq!(spans[64]["attributes"]["sidetrace.inspection.incomplete"], "batch_too_large");
    assert_eq!(stage.lost(), json!({ "batch_too_large": 9_936 }));
}

#[test]
fn a_server_that_asks_without_end_is_given_so_many_spans() {
    let mut stage = Stage::new(Direction::Outbound, usize::MAX);
    let asks = |id| format!("data: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"ping\"}}\r\n\r\n");
    let events: String = (0..100).map(asks).collect();
    let mut get = stream(&format!("{ENDPOINT}{events}"));
    stage.step("get", &mut get, "all");
    assert_eq!(stage.spans().len(), 65);
    assert_eq!(stage.lost(), json!({ "batch_too_large": 36 }));
}

#[test]
fn a_request_that_shows_no_jsonrpc_is_given_up_early() {
    let mut stage = Stage::new(Direction::Outbound, 4096);
    let mut large = post("/api", &json!({ "a": "x".repeat(100_000), "jsonrpc": "2.0", "method": "ping" }).to_string());
    stage.request("post", &mut large);
    assert!(large.inspection.is_none(), "nothing is read any more");
    for body in ["17", "\"jsonrpc\"", "[1,2]", "[]", "[[{\"jsonrpc\":\"2.0\"}]]", "", "{", "nonsense", "{\"jsonrpc"] {
        let mut other = post("/api", body);
        stage.request("post", &mut other);
        assert!(other.inspection.is_none(), "{body}");
    }
    assert_eq!(stage.lost(), json!({}));
}

#[test]
fn what_a_tool_is_asked_and_says_is_kept_where_content_is_captured() {
    let settings = settings(true);
    for (streamed, kind) in [(false, "application/json"), (true, "text/event-stream")] {
        let body =
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","arguments":{"b":2,"a":"x"}}}"#;
        let said = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"3"}],"_meta":{"s":1}}}"#;
        let said = if streamed { format!("data: {said}\n\n") } else { said.to_owned() };
        let answer = format!("HTTP/1.1 200 OK\ncontent-type: {kind}\n\n{said}");
        let request = format!("POST /m HTTP/1.1\nhost: a\ncontent-type: application/json\n\n{body}");
        let (mut exchange, mut stage) = (exchange(&request, &answer), Stage::new(Direction::Outbound, usize::MAX));
        stage.settings = settings.clone();
        ["request", "head", "rest"].iter().for_each(|what| stage.step("post", &mut exchange, what));
        let inspection = exchange.inspection.as_mut().unwrap();
        inspection.read_rest(End::Complete);
        let content = inspection.facts.as_ref().unwrap().content.as_ref().unwrap();
        assert_eq!(content.arguments.as_ref().unwrap().kept(), r#"{"b":2,"a":"x"}"#);
        assert_eq!(content.result.as_ref().unwrap().kept(), r#"{"content":[{"type":"text","text":"3"}]}"#);
    }
}

const KEY: &str = concat!("sk-", "proj-AbCd1234EfGh5678IjKl9012");

#[test]
fn calls_inside_an_exchange_are_written_and_redacted_as_all_others() {
    let metrics = Arc::new(Metrics::default());
    let (sink, source) = channel(100, 100, metrics.clone());
    let genai = GenAi { capture: crate::config::Capture::SpanOnly, ..GenAi::default() };
    let settings = Arc::new(Settings::new(genai, Budget::unlimited(), metrics, sink));
    let mut stage = Stage { settings, source, direction: Direction::Outbound, piece: 100, names: BTreeMap::new() };
    let error = json!({ "code": -32000, "message": format!("bad key {KEY} for joe@example.com") });
    let clean = "bad key [REDACTED:api_key] for [REDACTED:email]";
    let asks = json!([
        { "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "a", "arguments": { "pwd": "xyz" } } },
        { "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": { "name": "b" } },
    ]);
    let says = json!([
        { "jsonrpc": "2.0", "id": 1, "error": error },
        { "jsonrpc": "2.0", "id": 2, "result": { "content": [{ "type": "text", "text": "ann@example.com" }] } },
    ]);
    let request = format!("POST /mcp HTTP/1.1\nhost: a\ncontent-type: application/json\n\n{asks}");
    let answer = format!("HTTP/1.1 200 OK\ncontent-type: application/json\n\n{says}");
    stage.step("post", &mut exchange(&request, &answer), "all");
    let spans = stage.spans();
    assert_eq!(spans[0]["description"], clean);
    assert_eq!(spans[0]["attributes"]["gen_ai.tool.call.arguments"], r#"{"pwd":"[REDACTED:secret]"}"#);
    let result = spans[1]["attributes"]["gen_ai.tool.call.result"].as_str().unwrap();
    assert!(result.contains(r#""text":"[REDACTED:email]""#), "{result}");

    // What the server asks for.
    let ask = json!({ "jsonrpc": "2.0", "id": 7, "method": "roots/list" });
    let mut get = stream(&format!("{ENDPOINT}data: {ask}\r\n\r\n"));
    ["request", "head", "event", "event"].iter().for_each(|what| stage.step("get", &mut get, what));
    let answer = json!({ "jsonrpc": "2.0", "id": 7, "error": error });
    stage.step("post", &mut post("/m", &answer.to_string()), "all");
    assert_eq!(stage.spans()[0]["description"], clean);
    stage.step("get", &mut get, "end");
}

/// What a span says of an answer that is an error of OpenAI's: its description and its code.
fn failure(error: Json) -> (String, String) {
    let (mut stage, body) = (Stage::new(Direction::Outbound, 100), json!({ "error": error }));
    let asks = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
    let request = format!("POST /v1/chat/completions HTTP/1.1\nhost: a\ncontent-type: application/json\n\n{asks}");
    let answer = format!("HTTP/1.1 400 Bad Request\ncontent-type: application/json\n\n{body}");
    stage.step("post", &mut exchange(&request, &answer), "all");
    let span = stage.spans().remove(0);
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    (text(&span["description"]), text(&span["attributes"]["error.type"]))
}

#[test]
fn the_words_of_a_failure_are_redacted_before_they_are_cut() {
    for size in 480..520 {
        for secret in ["4111 1111 1111 1111", KEY, "joe@example.com"] {
            let (words, _) = failure(json!({ "code": "c", "message": format!("{} {secret} ends", "x".repeat(size)) }));
            let shown = words.trim_start_matches('x').trim_start();
            assert!(
                words.len() <= 512 && "[REDACTED:".starts_with(shown.get(..10).unwrap_or(shown)),
                "{size}: {words}"
            );
        }
    }
    // The reader keeps the first 1024 bytes: the key's first eleven, and a part of a character.
    for (size, rest) in [(1006, KEY), (1006, "sk-proj-AbÄ"), (1008, "sk-proj-é")] {
        let (words, _) = failure(json!({ "code": "c", "message": format!("token={} {rest} ends", "h".repeat(size)) }));
        assert_eq!(words, "token=[REDACTED:secret] [REDACTED:api_key]", "{rest}");
    }
}

#[test]
fn what_is_no_code_does_not_become_one() {
    for (error, code) in [
        (json!({ "code": "rate_limit.a:b/c-1", "type": "t", "message": "m" }), "rate_limit.a:b/c-1"),
        (json!({ "code": KEY, "type": "invalid_request_error", "message": "m" }), "invalid_request_error"),
        (json!({ "code": "joe@example.com", "type": "two words", "status": "NOT_FOUND", "message": "m" }), "NOT_FOUND"),
        (json!({ "code": "c".repeat(65), "message": "m" }), "400"),
        (json!({ "code": "c".repeat(64), "message": "m" }), &*"c".repeat(64)),
    ] {
        assert_eq!(failure(error), ("m".to_owned(), code.to_owned()));
    }
    let mut facts = Facts::new(Key::random(), None);
    facts.fail("two words", Some("m"));
    assert_eq!(facts.error.map(|failure| failure.code), Some("_OTHER".into()));
}
