//! However the bytes of a conversation are cut, the same goes on, but for the line that is ours.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::budget::Budget;
use crate::genai;
use crate::net::Target;
use crate::policy::{Policies, Policy};
use crate::stack::Settings;
use crate::telemetry::Metrics;
use crate::trace::propagation::Propagators;
use crate::trace::sampler::Sampler;
use crate::trace::{self, SpanSource};

pub(in crate::proxy) fn context(budget: Arc<Budget>) -> Context {
    recorded(budget).0
}

pub(in crate::proxy) fn recorded(budget: Arc<Budget>) -> (Context, SpanSource) {
    let metrics = Arc::new(Metrics::default());
    let (sink, source) = trace::channel(16, 16, metrics.clone());
    let context = Context {
        target: Arc::new(Target::outbound("192.0.2.1:80".parse().unwrap())),
        workload: None,
        settings: Arc::new(Settings {
            enabled: true,
            sink: sink.clone(),
            budget: budget.clone(),
            metrics: metrics.clone(),
            propagators: Propagators::default(),
            sampler: Sampler::default(),
            policies: Policies::new(Policy::new(Default::default())),
            genai: Arc::new(genai::Settings::new(Default::default(), budget, metrics, sink)),
        }),
    };
    (context, source)
}

/// What goes on of the client's bytes, cut into pieces, and whether it was refused.
fn said(context: &Context, bytes: &[u8], cuts: &[usize]) -> (Vec<u8>, bool, usize) {
    let (mut http, mut gone) = (Http1::new(context), Vec::new());
    let mut ends: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).chain([bytes.len()]).collect();
    ends.sort_unstable();
    let mut at = 0;
    for end in ends {
        let piece = &bytes[at..end];
        at = end;
        for piece in [&[], piece] {
            let mut out = Gather::default();
            let verdict = if piece.is_empty() { http.resume(&mut out) } else { http.up(piece, &mut out) };
            if verdict == Verdict::Refuse {
                return (without_ours(&gone), true, http.calls.len());
            }
            gone.extend(out.into_bytes(piece));
        }
    }
    let mut out = Gather::default();
    http.client_finished(&mut out);
    gone.extend(out.into_bytes(&[]));
    (without_ours(&gone), false, http.calls.len())
}

fn without_ours(bytes: &[u8]) -> Vec<u8> {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    lines.filter(|line| !line.starts_with(b"traceparent: ")).flatten().copied().collect()
}

fn message() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        Just("\r\nHEAD /b HTTP/1.0\r\n\r\n"),
        Just("GET / HTTP/1.1\nHost: a\n\n"),
        Just("GET / HTTP/1.1\r\nHost: a\r\n\n"),
        Just("POST / HTTP/1.1\r\nContent-Length: 12\r\n\r\nGET / HTTP/1"),
        Just("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: 1\r\n\r\n"),
        Just("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n"),
        Just("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        Just("GET / HTTP/1.1\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        Just("no HTTP at all\r\n\r\n"),
        Just(concat!(
            "POST /v1/chat/completions HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 28\r\n\r\n",
            "{\"model\":\"a\",\"messages\":[]}"
        )),
        Just(concat!(
            "POST /v1/chat/completions HTTP/1.1\nContent-Type: application/json\nTransfer-Encoding: chunked\n\n",
            "B;x\r\n{\"model\":\"a\r\nF\r\n\",\"messages\":[]}\r\n0\r\nT: 1\r\n\r\n"
        )),
        Just(concat!(
            "POST /v1/chat/completions HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
            "2\r\n{}X\r\n"
        )),
        Just("POST /v1/embeddings HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 90\r\n\r\n{"),
        Just("GET / HTT"),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn however_it_is_cut_the_same_goes_on(
        messages in proptest::collection::vec(message(), 1..5),
        cuts in proptest::collection::vec(any::<usize>(), 0..8),
    ) {
        let context = context(Budget::unlimited());
        let bytes = messages.concat().into_bytes();
        let (whole, refused, calls) = said(&context, &bytes, &[]);
        let (cut, also_refused, also_calls) = said(&context, &bytes, &cuts);
        prop_assert_eq!(refused, also_refused);
        prop_assert_eq!(calls, also_calls);
        if refused {
            // What stood before the fault may have gone already; never more than stood there.
            prop_assert!(bytes.starts_with(&cut) && bytes.starts_with(&whole));
        } else {
            prop_assert_eq!(&whole, &bytes);
            prop_assert_eq!(&cut, &bytes);
        }
    }
}

#[test]
fn a_head_that_the_budget_has_no_room_for_goes_on_unread_and_whole() {
    let context = context(Budget::of(8 * 100_000));
    let mut bytes = b"GET / HTTP/1.1\r\nX: ".to_vec();
    bytes.resize(400_000, b'x');
    bytes.extend_from_slice(b"\r\n\r\nGET /behind HTTP/1.1\r\n\r\n");
    let cuts: Vec<_> = (1..30).map(|piece| piece * 20_000).collect();
    assert_eq!(said(&context, &bytes, &cuts), (bytes, false, 0));
}

#[test]
fn only_some_pipelined_requests_are_under_way_at_a_time() {
    let context = context(Budget::unlimited());
    let mut http = Http1::new(&context);
    let request = b"GET / HTTP/1.1\r\n\r\n";
    let (bytes, mut out) = (request.repeat(1000), Gather::default());
    assert_eq!(http.up(&bytes, &mut out), Verdict::Go);
    let mut gone = out.into_bytes(&bytes);
    let mut answered = 0;
    while answered < 1000 {
        assert!(http.calls.len() <= MAX_PIPELINED && !http.calls.is_empty());
        assert!(http.wants_client() == (!http.up.crowded && http.calls.len() < MAX_PIPELINED));
        http.down(b"HTTP/1.1 204 No Content\r\n\r\n", &mut Gather::default());
        answered += 1;
        let mut out = Gather::default();
        assert_eq!(http.resume(&mut out), Verdict::Go);
        gone.extend(out.into_bytes(&[]));
    }
    assert_eq!(without_ours(&gone), bytes);
    assert!(http.is_idle());
}

#[test]
fn requests_that_waited_go_on_when_upstream_has_gone() {
    let context = context(Budget::unlimited());
    let mut http = Http1::new(&context);
    let (bytes, mut out) = (b"GET / HTTP/1.1\r\n\r\n".repeat(1000), Gather::default());
    assert_eq!(http.up(&bytes, &mut out), Verdict::Go);
    let mut gone = out.into_bytes(&bytes);
    http.upstream_finished(&mut Gather::default());
    assert!(http.is_due() && http.wants_client());
    let mut out = Gather::default();
    http.resume(&mut out);
    gone.extend(out.into_bytes(&[]));
    assert_eq!(without_ours(&gone), bytes);
    assert!(http.calls.len() <= MAX_PIPELINED && http.wants_client());
}

#[test]
fn a_request_that_upstream_never_heard_of_was_a_call_all_the_same() {
    let (context, mut spans) = recorded(Budget::unlimited());
    let mut http = Http1::new(&context);
    let head = b"POST /v1/chat/completions HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 90\r\n\r\n";
    let mut out = Gather::default();
    assert_eq!(http.up(head, &mut out), Verdict::Go);
    assert!(out.into_bytes(head).is_empty() && !http.is_idle() && http.deadline().is_some());
    drop(http);
    let spans = spans.drain();
    assert_eq!(spans.iter().map(|span| span.outcome).collect::<Vec<_>>(), [End::Cancelled]);
    assert_eq!(context.settings.metrics.held.values().find(|(why, _)| *why == "ended"), Some(("ended", 1)));
}

#[test]
fn what_upstream_says_before_it_has_heard_a_request_that_waits_is_its_answer() {
    let (context, mut spans) = recorded(Budget::unlimited());
    let mut http = Http1::new(&context);
    let head = b"POST /v1/chat/completions HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{";
    assert_eq!(http.up(head, &mut Gather::default()), Verdict::Go);
    let answer = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(http.down(answer, &mut Gather::default()), (answer.len(), Verdict::Go));
    assert!(http.is_due() && http.deadline().is_none());
    let mut out = Gather::default();
    assert_eq!(http.resume(&mut out), Verdict::Go);
    assert_eq!(without_ours(&out.into_bytes(&[])), head);
    let span = spans.drain().remove(0);
    assert!(span.error && span.outcome == End::Complete);
}

/// A request whose body is rewritten, cut at `cut`, and what goes on of it.
fn asked(http: &mut Http1<'_>, request: &str, cut: usize) -> String {
    let mut gone = Vec::new();
    for piece in [&request.as_bytes()[..cut], &request.as_bytes()[cut..]] {
        let mut out = Gather::default();
        assert_eq!(http.resume(&mut out), Verdict::Go);
        gone.extend(out.into_bytes(&[]));
        let mut out = Gather::default();
        if !piece.is_empty() {
            assert_eq!(http.up(piece, &mut out), Verdict::Go);
        }
        gone.extend(out.into_bytes(piece));
    }
    String::from_utf8(without_ours(&gone)).unwrap()
}

fn asking() -> Context {
    let context = context(Budget::unlimited());
    let policy = Policy::asking_for_usage();
    context.settings.policies.replace(policy);
    context
}

const ASKED: &str = r#"{"model":"m","prompt":"hi","stream":true}"#;
const ASKS: &str = r#"{"model":"m","prompt":"hi","stream":true,"stream_options":{"include_usage":true}}"#;

#[test]
fn a_rewritten_request_is_framed_as_the_one_that_came_however_that_was_cut() {
    let context = asking();
    let head = |lines: &str| format!("POST /v1/completions HTTP/1.1\r\nContent-Type: application/json\r\n{lines}\r\n");
    let (length, new) = (ASKED.len(), ASKS.len());
    let (first, second) = ASKED.split_at(20);
    let chunks = format!("14;x\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\nT: 1\r\n\r\n", second.len());
    let chunked = "Transfer-Encoding: chunked\r\n";
    let signed = format!("content-length: {length}\r\nDigest: x\r\n");
    let cases = [
        (
            head(&format!("content-length: {length}\r\nAccept-Encoding: gzip\r\nX: 1\r\n")) + ASKED,
            head(&format!("content-length: {new}\r\nAccept-Encoding: identity\r\nX: 1\r\n")) + ASKS,
        ),
        (head(chunked) + &chunks, head(chunked) + &format!("{new:x}\r\n{ASKS}\r\n0\r\nT: 1\r\n\r\n")),
        (head(&signed) + ASKED, head(&signed) + ASKED),
    ];
    for (came, expected) in cases {
        let behind = "GET / HTTP/1.1\r\n\r\n";
        for cut in 0..came.len() {
            let mut http = Http1::new(&context);
            assert_eq!(asked(&mut http, &(came.clone() + behind), cut), expected.clone() + behind, "cut at {cut}");
        }
    }
}

#[test]
fn nothing_is_rewritten_that_somebody_may_have_signed() {
    let context = asking();
    let rewritten = ["Authorization: BEARER x", "authorization: basic eA==", "X-Api-Key: x", "api-key: sha256"];
    let left = [
        "Authorization: AWS4-HMAC-SHA256 Credential=x",
        "Authorization: Signature x",
        "authorization: x",
        "Authorization:",
        "X-Amz-Content-SHA256: x",
        "Repr-Digest: sha-256=:x:",
        "X-Amz-Checksum-Crc32: x",
        "X-Hub-Signature-256: x",
        "Signature-Input: x",
        "x-goog-hash: x",
        "Content-MD5: x",
        "Trailer: T",
    ];
    for (lines, expected) in [(&rewritten[..], ASKS), (&left[..], ASKED)] {
        for line in lines {
            let head = "POST /v1/completions HTTP/1.1\r\nContent-Type: application/json\r\n";
            let came = format!("{head}{line}\r\nContent-Length: {}\r\n\r\n{ASKED}", ASKED.len());
            assert!(asked(&mut Http1::new(&context), &came, came.len()).ends_with(expected), "{line}");
        }
    }
}

#[test]
fn a_signed_answer_stays_as_it_is() {
    let context = asking();
    let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nRepr-Digest: x\r\n\r\n";
    let answer = format!("{answer}data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":1}}}}\n\n");
    let mut http = Http1::new(&context);
    asked(&mut http, &completion(), 1);
    let mut out = Gather::default();
    http.down(answer.as_bytes(), &mut out);
    assert_eq!(String::from_utf8(out.into_bytes(answer.as_bytes())).unwrap(), answer);
}

fn completion() -> String {
    let head = "POST /v1/completions HTTP/1.1\r\nContent-Type: application/json\r\n";
    format!("{head}Content-Length: {}\r\n\r\n{ASKED}", ASKED.len())
}

#[test]
fn all_that_came_before_a_fault_goes_on_whatever_the_filter_keeps_back() {
    let context = asking();
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n";
    let (first, half) = ("data: {\"choices\":[{\"index\":0,\"text\":\"hi\"}]}\n\n", "data: {\"cho");
    let chunk = |data: &str| format!("{:x}\r\n{data}\r\n", data.len());
    let came = format!("{head}{}{}", chunk(first), chunk(half));
    // A size that is none, a line feed that is missing behind trailers, and a reset.
    for (fault, ends) in [("xyz\r\n", ""), ("0\r\nT: 1\r\n\rxyz", "0\r\nT: 1\r\n"), ("", "")] {
        let answer = came.clone() + fault;
        for cut in 0..answer.len() {
            let mut http = Http1::new(&context);
            asked(&mut http, &completion(), 1);
            let mut said = Vec::new();
            for piece in [&answer.as_bytes()[..cut], &answer.as_bytes()[cut..]] {
                let mut out = Gather::default();
                assert_eq!(http.down(piece, &mut out), (piece.len(), Verdict::Go));
                said.extend(out.into_bytes(piece));
            }
            let mut out = Gather::default();
            http.upstream_broke(&mut out);
            said.extend(out.into_bytes(&[]));
            let (mut framing, mut data) = (Body::chunked(true), Vec::new());
            let fed = framing.feed(said.strip_prefix(head.as_bytes()).unwrap(), |piece| data.extend_from_slice(piece));
            assert_eq!(String::from_utf8(data).unwrap(), format!("{first}{half}"), "{fault}, cut at {cut}");
            assert!(!fed.is_ok_and(|fed| fed.done), "{fault}, cut at {cut}");
            let said = String::from_utf8(said).unwrap();
            assert!(said.contains(ends) && said.ends_with(fault.trim_start_matches(ends)), "cut at {cut}: {said}");
        }
    }
}

#[test]
fn what_was_asked_for_is_taken_out_of_the_answer_however_that_is_framed_and_cut() {
    let context = asking();
    let request = completion();
    let first = "data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"text\":\"hi\"}]}\n\n";
    let usage = "data: {\"id\":\"1\",\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n";
    let last = "data: [DONE]\n\n";
    let head = |line: &str| format!("HTTP/1.1 200 OK\r\n{line}Content-Type: text/event-stream\r\n\r\n");
    let chunk = |data: &str| format!("{:x}\r\n{data}\r\n", data.len());
    let length = format!("content-length: {}\r\n", first.len() + usage.len() + last.len());
    let chunked = "Transfer-Encoding: chunked\r\n";
    let answers = [
        (head(&length) + first + usage + last, Some("")),
        (head(chunked) + &chunk(first) + &chunk(usage) + &chunk(last) + "0\r\nT: 1\r\n\r\n", Some("T: 1\r\n")),
        (head("") + first + usage + last, None),
    ];
    for (answer, trailers) in answers {
        for cut in 0..answer.len() {
            let mut http = Http1::new(&context);
            asked(&mut http, &request, request.len());
            let mut said = Vec::new();
            for piece in [&answer.as_bytes()[..cut], &answer.as_bytes()[cut..]] {
                let mut out = Gather::default();
                assert_eq!(http.down(piece, &mut out), (piece.len(), Verdict::Go));
                said.extend(out.into_bytes(piece));
            }
            let mut out = Gather::default();
            http.upstream_finished(&mut out);
            said.extend(out.into_bytes(&[]));
            let expected = head(if trailers.is_some() { chunked } else { "" });
            let body = said.strip_prefix(expected.as_bytes()).unwrap_or_else(|| panic!("cut at {cut}"));
            let left = match trailers {
                Some(trailers) => {
                    let (mut framing, mut data) = (Body::chunked(true), Vec::new());
                    let fed = framing.feed(body, |piece| data.extend_from_slice(piece)).unwrap();
                    assert!(fed.done && fed.consumed == body.len(), "cut at {cut}");
                    assert!(body.ends_with(format!("0\r\n{trailers}\r\n").as_bytes()), "cut at {cut}");
                    data
                }
                None => body.to_vec(),
            };
            assert_eq!(String::from_utf8(left).unwrap(), format!("{first}{last}"), "cut at {cut}");
            assert!(http.calls.is_empty());
        }
    }
}
