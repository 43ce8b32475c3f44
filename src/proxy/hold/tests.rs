//! Requests that wait for their bodies, on whole connections, in a time that stands still until nobody has anything to do.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::{Instant, advance, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::budget::Budget;
use crate::net::{Abort, Connector, LoopGuard};
use crate::proxy::http1::{self, tests::recorded};
use crate::proxy::{Proxy, http2};
use crate::stack::Context;
use crate::trace::{End, Span, SpanSource};

impl Abort for DuplexStream {
    fn abort(&self) {}
}

/// A connection, and who speaks over it.
struct Wire {
    client: DuplexStream,
    upstream: DuplexStream,
    context: Context,
    spans: SpanSource,
    drain: CancellationToken,
    served: JoinHandle<()>,
}

impl Wire {
    fn http1(budget: Arc<Budget>) -> Self {
        Self::serve(budget, |proxy, context, mut client, mut upstream| async move {
            let sides = ((&mut client, Bytes::new()), (&mut upstream, Bytes::new()));
            http1::serve(&context, sides.0, sides.1, &proxy.drain).await;
        })
    }

    fn http2() -> Self {
        Self::serve(Budget::unlimited(), |proxy, context, client, upstream| async move {
            let sides = ((client, Bytes::new()), (upstream, Bytes::new()));
            Box::pin(http2::serve(&proxy, &context, None, sides.0, sides.1)).await;
        })
    }

    fn serve<F: Future<Output = ()> + Send + 'static>(
        budget: Arc<Budget>,
        serve: impl FnOnce(Proxy, Context, DuplexStream, DuplexStream) -> F,
    ) -> Self {
        let (context, spans) = recorded(budget);
        let proxy = Proxy {
            connector: Connector::default(),
            guard: Arc::new(LoopGuard::new(Vec::new())),
            settings: context.settings.clone(),
            interceptor: None,
            metrics: context.settings.metrics.clone(),
            tasks: TaskTracker::new(),
            drain: CancellationToken::new(),
        };
        let ((client, ours), (to_upstream, upstream)) = (duplex(ROOM), duplex(ROOM));
        let drain = proxy.drain.clone();
        let served = tokio::spawn(serve(proxy, context.clone(), ours, to_upstream));
        Self { client, upstream, context, spans, drain, served }
    }

    async fn say(&mut self, bytes: &[u8]) {
        guarded(self.client.write_all(bytes)).await.unwrap();
        settle().await;
    }

    /// What upstream hears, up to something, or to the end if that is empty; without our own line.
    async fn heard(&mut self, to: &str) -> String {
        let mut heard = Vec::new();
        while to.is_empty() || !heard.ends_with(to.as_bytes()) {
            let mut piece = vec![0; 1 << 16];
            let length = guarded(self.upstream.read(&mut piece)).await.unwrap();
            heard.extend_from_slice(&piece[..length]);
            if length == 0 {
                assert!(to.is_empty(), "{}", String::from_utf8_lossy(&heard));
                break;
            }
        }
        let heard = String::from_utf8(heard).unwrap();
        heard.split_inclusive('\n').filter(|line| !line.starts_with("traceparent: ")).collect()
    }

    /// Whether upstream has heard nothing.
    async fn silent(&mut self) -> bool {
        settle().await;
        self.upstream.read_u8().now_or_never().is_none()
    }

    fn released(&self) -> Vec<(&'static str, u64)> {
        self.context.settings.metrics.held.values().filter(|(_, count)| *count > 0).collect()
    }

    /// The only call, once it is over.
    async fn span(mut self) -> Span {
        drop((self.client, self.upstream));
        guarded(self.served).await.unwrap();
        let mut spans = self.spans.drain();
        assert_eq!(spans.len(), 1);
        spans.remove(0)
    }
}

async fn guarded<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), future).await.unwrap()
}

/// Lets everybody else do what they can.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

fn attribute(span: &Span, key: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == key);
    found.map(|attribute| attribute.value.as_str().into_owned()).unwrap_or_default()
}

fn post(length: usize, more: &str) -> String {
    let line = "POST /v1/chat/completions HTTP/1.1\r\nHost: api.openai.com\r\n";
    format!("{line}Content-Type: application/json\r\n{more}Content-Length: {length}\r\n\r\n")
}

#[tokio::test(start_paused = true)]
async fn a_head_waits_as_long_as_its_body_makes_progress() {
    let mut wire = Wire::http1(Budget::unlimited());
    let head = post(BODY.len(), "");
    wire.say(head.as_bytes()).await;
    for piece in BODY.as_bytes().chunks(8) {
        assert!(wire.silent().await);
        advance(PATIENCE * 2 / 3).await;
        wire.say(piece).await;
    }
    assert_eq!(wire.heard(BODY).await, head + BODY);
    assert_eq!(wire.released(), [("complete", 1)]);
    let answer =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{\"model\":\"gpt-9-b\"} ";
    wire.upstream.write_all(answer.as_bytes()).await.unwrap();
    let mut said = vec![0; answer.len()];
    guarded(wire.client.read_exact(&mut said)).await.unwrap();
    assert_eq!(said, answer.as_bytes());
    let span = wire.span().await;
    assert_eq!(attribute(&span, "gen_ai.request.model"), "gpt-9");
    assert_eq!(attribute(&span, "gen_ai.response.model"), "gpt-9-b");
    assert_eq!(span.outcome, End::Complete);
}

#[tokio::test(start_paused = true)]
async fn a_head_does_not_wait_for_ever_however_steadily_its_body_comes() {
    let sent = format!("{{\"x\":\"{}", "y".repeat(200));
    let step = PATIENCE * 9 / 10;
    let mut wire = Wire::http1(Budget::unlimited());
    let (head, begun) = (post(10_000, ""), Instant::now());
    wire.say(head.as_bytes()).await;
    for piece in sent.as_bytes().chunks(1) {
        if begun.elapsed() + step >= MAX_WAIT {
            break;
        }
        assert!(wire.silent().await);
        advance(step).await;
        wire.say(piece).await;
    }
    wire.heard("y").await;
    assert_eq!((wire.released(), begun.elapsed().as_millis()), (vec![("stalled", 1)], MAX_WAIT.as_millis()));

    let mut wire = Wire::http2();
    let (mut sender, mut upstream) = joined(&mut wire).await;
    let (_answer, mut body) = sender.send_request(request("POST"), false).unwrap();
    let begun = Instant::now();
    tokio::spawn(async move {
        for piece in sent.into_bytes() {
            body.send_data(Bytes::from(vec![piece]), false).unwrap();
            tokio::time::sleep(step).await;
        }
    });
    guarded(upstream.accept()).await.unwrap().unwrap();
    assert_eq!(wire.released(), [("stalled", 1)]);
    assert!(begun.elapsed() >= MAX_WAIT && begun.elapsed() < MAX_WAIT + PATIENCE);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_comes_while_we_drain_does_not_wait() {
    let mut wire = Wire::http1(Budget::unlimited());
    // Not idle: the connection lives on.
    let first = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    wire.say(first.as_bytes()).await;
    assert_eq!(wire.heard("\r\n\r\n").await, first);
    wire.drain.cancel();
    settle().await;
    let head = post(BODY.len(), "");
    wire.say(head.as_bytes()).await;
    assert_eq!(wire.heard("\r\n\r\n").await, head);
    assert_eq!(wire.released(), []);
}

#[tokio::test(start_paused = true)]
async fn a_head_waits_no_longer_when_nothing_comes() {
    let mut wire = Wire::http1(Budget::unlimited());
    let (head, begun) = (post(BODY.len(), ""), Instant::now());
    let (first, rest) = BODY.split_at(10);
    wire.say((head.clone() + first).as_bytes()).await;
    assert!(wire.silent().await);
    assert_eq!(wire.heard(first).await, head + first);
    assert!(begun.elapsed() >= PATIENCE);
    assert_eq!(wire.released(), [("stalled", 1)]);
    wire.say(rest.as_bytes()).await;
    assert_eq!(wire.heard(rest).await, rest);
    assert_eq!(attribute(&wire.span().await, "gen_ai.request.model"), "gpt-9", "it is read all the same");
}

#[tokio::test(start_paused = true)]
async fn a_head_does_not_wait_for_a_body_that_waits_for_an_answer() {
    let mut wire = Wire::http1(Budget::unlimited());
    let (head, begun) = (post(BODY.len(), "Expect: 100-continue\r\n"), Instant::now());
    wire.say(head.as_bytes()).await;
    assert_eq!(wire.heard("\r\n\r\n").await, head);
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(wire.released(), []);
}

#[tokio::test(start_paused = true)]
async fn an_answer_before_the_end_of_the_request_sets_it_free() {
    let mut wire = Wire::http1(Budget::unlimited());
    let head = post(BODY.len(), "");
    wire.say(head.as_bytes()).await;
    let answer = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n";
    wire.upstream.write_all(answer.as_bytes()).await.unwrap();
    let mut said = vec![0; answer.len()];
    guarded(wire.client.read_exact(&mut said)).await.unwrap();
    assert_eq!(said, answer.as_bytes());
    assert_eq!(wire.heard("\r\n\r\n").await, head);
    assert_eq!(wire.released(), [("ended", 1)]);
    wire.say(BODY.as_bytes()).await;
    assert_eq!(wire.heard(BODY).await, BODY);
    assert_eq!(attribute(&wire.span().await, "error.type"), "413");
}

#[tokio::test(start_paused = true)]
async fn a_half_close_and_the_drain_set_a_request_free() {
    for drains in [false, true] {
        let mut wire = Wire::http1(Budget::unlimited());
        let (head, begun) = (post(BODY.len(), ""), Instant::now());
        wire.say((head.clone() + "{").as_bytes()).await;
        if drains {
            wire.drain.cancel();
            assert_eq!(wire.heard("{").await, head + "{");
        } else {
            wire.client.shutdown().await.unwrap();
            assert_eq!(wire.heard("").await, head + "{");
        }
        assert_eq!((wire.released(), begun.elapsed()), (vec![("ended", 1)], Duration::ZERO));
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_body_does_not_wait_for_its_end_nor_one_without_budget() {
    for (budget, why) in [(Budget::unlimited(), "size"), (Budget::of(8 << 20), "budget")] {
        let mut wire = Wire::http1(budget);
        let (head, begun) = (post(MAX_BODY + 2_000_000, ""), Instant::now());
        let body = format!("{{\"x\":\"{}", "x".repeat(MAX_BODY + 2_000_000 - 6));
        let all = head.clone() + &body;
        let mut client = std::mem::replace(&mut wire.client, duplex(1).0);
        let writes = tokio::spawn(async move {
            client.write_all(all.as_bytes()).await.unwrap();
            client.shutdown().await.unwrap();
            client
        });
        let heard = wire.heard("").await;
        assert!(heard == head + &body);
        assert_eq!((wire.released(), begun.elapsed()), (vec![(why, 1)], Duration::ZERO));
        drop(guarded(writes).await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_does_not_wait_for_what_will_not_be_read() {
    let cases = [("", "no JSON"), ("Content-Encoding: x-unknown\r\n", "{\"model\"")];
    for (more, begun) in cases {
        let mut wire = Wire::http1(Budget::unlimited());
        let (head, at) = (post(BODY.len(), more), Instant::now());
        wire.say(head.as_bytes()).await;
        wire.say(begun.as_bytes()).await;
        assert_eq!(wire.heard(begun).await, head + begun);
        assert_eq!((wire.released(), at.elapsed()), (vec![("unread", 1)], Duration::ZERO));
    }
    let mut wire = Wire::http2();
    let (mut sender, mut upstream) = joined(&mut wire).await;
    let (_answer, mut body) = sender.send_request(request("POST"), false).unwrap();
    body.send_data(Bytes::from_static(b"no JSON"), false).unwrap();
    let at = Instant::now();
    guarded(upstream.accept()).await.unwrap().unwrap();
    assert_eq!((wire.released(), at.elapsed()), (vec![("unread", 1)], Duration::ZERO));
}

/// The two ends of an HTTP/2 connection through us.
async fn joined(wire: &mut Wire) -> (h2::client::SendRequest<Bytes>, h2::server::Connection<DuplexStream, Bytes>) {
    let ends = (std::mem::replace(&mut wire.client, duplex(1).0), std::mem::replace(&mut wire.upstream, duplex(1).0));
    let client = tokio::spawn(async move {
        let (sender, connection) = h2::client::handshake(ends.0).await.unwrap();
        tokio::spawn(connection);
        sender
    });
    let upstream = guarded(h2::server::handshake(ends.1)).await.unwrap();
    (guarded(client).await.unwrap(), upstream)
}

fn request(method: &str) -> Request<()> {
    let request = Request::builder().method(method).uri("http://api.openai.com/v1/chat/completions");
    request.header("content-type", "application/json").body(()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_larger_than_the_window_is_waited_for_over_http2() {
    let mut wire = Wire::http2();
    let (mut sender, mut upstream) = joined(&mut wire).await;
    let (_answer, mut body) = sender.send_request(request("POST"), false).unwrap();
    let sent = format!("{{\"model\":\"gpt-9\",\"messages\":[],\"x\":\"{}\"}}", "y".repeat(1_500_000));
    body.send_data(Bytes::from(sent.clone()), false).unwrap();
    let mut trailers = http::HeaderMap::new();
    trailers.insert("t", "1".parse().unwrap());
    body.send_trailers(trailers.clone()).unwrap();
    let upstream = tokio::spawn(async move {
        let (request, mut respond) = upstream.accept().await.unwrap().unwrap();
        let answering = async {
            let (parts, mut body) = request.into_parts();
            let mut heard = Vec::new();
            while let Some(piece) = body.data().await {
                let piece = piece.unwrap();
                body.flow_control().release_capacity(piece.len()).unwrap();
                heard.extend_from_slice(&piece);
            }
            let trailers = body.trailers().await.unwrap();
            respond.send_response(http::Response::new(()), true).unwrap();
            (parts, heard, trailers)
        };
        tokio::select! {
            heard = answering => heard,
            _ = std::future::poll_fn(|cx| upstream.poll_closed(cx)) => panic!("closed"),
        }
    });
    let (parts, heard, also_trailers) = guarded(upstream).await.unwrap();
    assert!(parts.headers.contains_key("traceparent") && heard == sent.as_bytes());
    assert_eq!(also_trailers, Some(trailers));
    assert_eq!(wire.released(), [("complete", 1)]);
}

#[tokio::test(start_paused = true)]
async fn upstream_does_not_hear_of_a_stream_that_is_reset_while_it_waits() {
    let mut wire = Wire::http2();
    let (mut sender, mut upstream) = joined(&mut wire).await;
    let (_answer, mut body) = sender.send_request(request("POST"), false).unwrap();
    body.send_data(Bytes::from_static(b"{"), false).unwrap();
    settle().await;
    body.send_reset(h2::Reason::CANCEL);
    settle().await;
    let (_second, _) = sender.send_request(request("GET"), true).unwrap();
    let (heard, _) = guarded(upstream.accept()).await.unwrap().unwrap();
    assert_eq!(heard.method(), "GET");
    assert_eq!(wire.released(), [("ended", 1)]);
    let spans = wire.spans.drain();
    assert_eq!(spans.iter().map(|span| span.outcome).collect::<Vec<_>>(), [End::Cancelled]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_waits_no_longer_when_nothing_comes() {
    let mut wire = Wire::http2();
    let (mut sender, mut upstream) = joined(&mut wire).await;
    let (_answer, mut body) = sender.send_request(request("POST"), false).unwrap();
    body.send_data(Bytes::from_static(b"{"), false).unwrap();
    let begun = Instant::now();
    let (mut heard, _) = guarded(upstream.accept()).await.unwrap().unwrap();
    assert!(begun.elapsed() >= PATIENCE);
    assert_eq!(wire.released(), [("stalled", 1)]);
    let driven = tokio::spawn(async move { upstream.accept().await.is_none() });
    body.send_data(Bytes::from_static(b"}"), true).unwrap();
    for expected in ["{", "}"] {
        assert_eq!(guarded(heard.body_mut().data()).await.unwrap().unwrap(), expected);
    }
    assert!(heard.body().is_end_stream());
    driven.abort();
}

#[tokio::test(start_paused = true)]
async fn what_came_while_nobody_looked_is_no_stall() {
    let mut wire = Wire::http2();
    let (mut sender, mut upstream) = joined(&mut wire).await;
    let (_answer, mut body) = sender.send_request(request("POST"), false).unwrap();
    body.send_data(Bytes::from_static(b"{"), false).unwrap();
    settle().await;
    // The client's task runs before ours learns of the time.
    body.send_data(Bytes::from_static(b"}"), true).unwrap();
    advance(PATIENCE * 2).await;
    guarded(upstream.accept()).await.unwrap().unwrap();
    assert_eq!(wire.released(), [("complete", 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_waits_does_not_hold_up_the_end_of_one_that_upstream_left() {
    let mut wire = Wire::http2();
    let (mut sender, mut upstream) = joined(&mut wire).await;
    let (lost, _) = sender.send_request(request("GET"), true).unwrap();
    let _lost = guarded(upstream.accept()).await.unwrap().unwrap();
    let (held, mut body) = sender.send_request(request("POST"), false).unwrap();
    body.send_data(Bytes::from_static(b"{"), false).unwrap();
    settle().await;
    let begun = Instant::now();
    drop(upstream);
    assert_eq!(guarded(held).await.unwrap_err().reason(), Some(h2::Reason::REFUSED_STREAM));
    assert_eq!(guarded(lost).await.unwrap_err().reason(), None, "the connection ended with it");
    assert_eq!((wire.released(), begun.elapsed()), (vec![("ended", 1)], Duration::ZERO));
    guarded(wire.served).await.unwrap();
    assert!(wire.spans.drain().iter().all(|span| span.outcome != End::Complete));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_has_come_does_not_hold_up_the_end_of_a_stream_that_upstream_left() {
    let mut wire = Wire::http2();
    let (mut sender, mut upstream) = joined(&mut wire).await;
    let (lost, _) = sender.send_request(request("GET"), true).unwrap();
    let _lost = guarded(upstream.accept()).await.unwrap().unwrap();
    let (answer, _) = sender.send_request(request("GET"), true).unwrap();
    let (_, mut respond) = guarded(upstream.accept()).await.unwrap().unwrap();
    // More than the client's window has room for.
    let length = 100_000;
    let mut to_us = respond.send_response(http::Response::new(()), false).unwrap();
    to_us.send_data(Bytes::from(vec![b'x'; length]), true).unwrap();
    let driven = tokio::spawn(async move { upstream.accept().await.is_none() });
    let mut body = guarded(answer).await.unwrap().into_body();
    settle().await;
    driven.abort();
    assert_eq!(guarded(lost).await.unwrap_err().reason(), Some(h2::Reason::INTERNAL_ERROR));
    let mut heard = 0;
    while let Some(piece) = guarded(body.data()).await {
        let piece = piece.unwrap();
        heard += piece.len();
        body.flow_control().release_capacity(piece.len()).unwrap();
    }
    assert_eq!(heard, length);
}

#[tokio::test(start_paused = true)]
async fn a_header_list_is_lent_before_it_waits() {
    let mut wire = Wire::serve(Budget::of(1 << 20), |proxy, context, client, upstream| async move {
        let sides = ((client, Bytes::new()), (upstream, Bytes::new()));
        Box::pin(http2::serve(&proxy, &context, None, sides.0, sides.1)).await;
    });
    let (mut sender, _upstream) = joined(&mut wire).await;
    let mut request = request("POST");
    for index in 0..16 {
        let name = http::HeaderName::try_from(format!("x-{index}")).unwrap();
        request.headers_mut().insert(name, "v".repeat(14_000).parse().unwrap());
    }
    let begun = Instant::now();
    let (answer, _body) = sender.send_request(request, false).unwrap();
    assert_eq!(guarded(answer).await.unwrap_err().reason(), Some(h2::Reason::REFUSED_STREAM));
    assert_eq!((wire.released(), begun.elapsed()), (vec![], Duration::ZERO));
}

const ROOM: usize = 1 << 16;
const BODY: &str = r#"{"model":"gpt-9","messages":[{"role":"user","content":"hello"}]}"#;
