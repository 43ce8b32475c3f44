//! A connection that is passed through unread: bytes both ways, half-close and reset as they come, one span.

use std::time::SystemTime;

use bytes::Bytes;
use opentelemetry::{Array, StringValue, Value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::relay::{Ended, Gather, Verdict, Watch, relay};
use crate::detect::Reason;
use crate::detect::client_hello::ClientHello;
use crate::net::{Abort, Direction};
use crate::stack::{self, Context};
use crate::trace::{ActiveSpan, End, Span, semconv};

/// Copies until both sides have closed, or one was reset.
pub(super) async fn pass<C, U>(
    context: &Context,
    reason: &'static str,
    name: Option<&str>,
    hello: Option<&ClientHello>,
    begun: SystemTime,
    client: (&mut C, Bytes),
    upstream: (&mut U, Bytes),
) where
    C: AsyncRead + AsyncWrite + Abort + Unpin,
    U: AsyncRead + AsyncWrite + Abort + Unpin,
{
    let target = &context.target;
    // A bare TCP probe of the kubelet's, which says nothing and leaves.
    let probe = target.direction == Direction::Inbound && reason == Reason::ClosedEarly.as_str() && client.1.is_empty();
    let span = if probe {
        context.probed();
        None
    } else {
        context.passed_through(reason, name, begun)
    };
    if let (Some(span), Some(hello)) = (&span, hello) {
        span.update(|span| tls_attributes(hello, span));
    }
    let mut counted = Counted { sent: 0, received: 0, client_finished: false, upstream_finished: false, span };
    // The drain does not concern it: nobody knows where it could be interrupted.
    let ended = relay(client, upstream, &mut counted, &context.settings.metrics, &CancellationToken::new()).await;
    let Some(span) = &counted.span else { return };
    match ended {
        // It had said all it had to say before it was gone: many programs close without reading the last bytes.
        Ended::Client if counted.client_finished => span.conclude(End::Complete),
        Ended::Upstream(_) if counted.upstream_finished => span.conclude(End::Complete),
        Ended::Client => span.conclude(End::Cancelled),
        Ended::Upstream(error) => {
            span.conclude_with(End::Broken, |span| span.fail(stack::io_error_type(&error)));
        }
        Ended::Complete | Ended::Refused | Ended::Left { .. } | Ended::Drained => span.conclude(End::Complete),
    }
}

fn tls_attributes(hello: &ClientHello, span: &mut Span) {
    if let Some(name) = hello.server_name.clone() {
        span.push(semconv::SIDETRACE_TLS_SERVER_NAME, name);
    }
    if !hello.alpn.is_empty() {
        let alpn = hello.alpn.iter().cloned().map(StringValue::from).collect();
        span.push(semconv::SIDETRACE_TLS_ALPN, Value::Array(Array::String(alpn)));
    }
}

/// Counts what passes, and writes the counts into the span however the relay ends.
struct Counted {
    sent: u64,
    received: u64,
    client_finished: bool,
    upstream_finished: bool,
    span: Option<ActiveSpan>,
}

impl Watch for Counted {
    fn up(&mut self, bytes: &[u8], out: &mut Gather) -> Verdict {
        self.sent += bytes.len() as u64;
        out.pass(bytes, 0..bytes.len());
        Verdict::Go
    }

    fn down(&mut self, bytes: &[u8], out: &mut Gather) -> (usize, Verdict) {
        self.received += bytes.len() as u64;
        out.pass(bytes, 0..bytes.len());
        (bytes.len(), Verdict::Go)
    }

    fn client_finished(&mut self, _: &mut Gather) {
        self.client_finished = true;
    }

    fn upstream_finished(&mut self, _: &mut Gather) -> Verdict {
        self.upstream_finished = true;
        Verdict::Go
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let (sent, received) = (count(self.sent), count(self.received));
        if let Some(span) = &self.span {
            span.update(|span| {
                span.push(semconv::SIDETRACE_BYTES_SENT, sent);
                span.push(semconv::SIDETRACE_BYTES_RECEIVED, received);
            });
        }
    }
}
