//! One stream: a request up, its answers down, trailers, resets with their codes in both directions.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::request::Parts;
use http::{HeaderMap, Request, Version, header};
use tokio_util::sync::CancellationToken;

use super::hold::Waiting;
use super::pump::{Failed, Pump, Seen};
use super::upstream::{Sent, Upstream};
use crate::budget::{Loan, Use};
use crate::policy::Policy;
use crate::proxy::hold::{may_filter, may_rewrite, rewrite};
use crate::stack::{Call, Context, RequestHead};
use crate::telemetry::Metrics;
use crate::trace::propagation::remove_in_order;

/// What the end of a stream means for its connection.
pub(super) enum Ended {
    /// Nothing.
    InItself,
    /// Upstream's connection has gone, and the stream with it.
    ConnectionLost,
    /// Upstream has reset the stream behind its answer's head.
    Reset(Reason),
}

/// A stream that is at its end but for what the client has not heard yet: a reset, and the stream's drop, would take that back.
pub(super) struct Left<'a> {
    exchange: Box<Exchange<'a>>,
    /// To be said behind it.
    reason: Option<Reason>,
}

impl Left<'_> {
    /// Whether upstream's connection has gone with it.
    pub(super) fn is_lost(&self) -> bool {
        self.reason.is_none()
    }

    /// The client's connection lives on, and is to hear of it all the same.
    pub(super) fn break_off(mut self) {
        self.exchange.down.reset(Reason::INTERNAL_ERROR);
    }

    /// The client has heard the rest.
    pub(super) fn end(mut self) {
        if let Some(reason) = self.reason {
            self.exchange.down.reset(reason);
        }
    }
}

/// Carries a stream to its end. One that upstream broke off is returned, to be held until the client has heard what came
/// before.
pub(super) async fn exchange<'a>(
    context: &'a Context,
    policy: Arc<Policy>,
    upstream: &Upstream,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    drain: &CancellationToken,
) -> Option<Left<'a>> {
    let (mut parts, mut body) = request.into_parts();
    let end = body.is_end_stream();
    let head = request_head(context, &parts);
    let mut inspection = context.recognise(&policy, &head);
    let mut kept = None;
    // Header lists that wait, or that upstream does not take in, would pile up: a few bytes of HPACK can stand for many.
    let large = header_list(&parts.headers).checked_sub(FREE).filter(|beyond| *beyond > 0);
    let loan = large.map(|beyond| context.settings.budget.lend(beyond, Use::Heads));
    let refused = matches!(loan, Some(None));
    let leaving = drain.is_cancelled() || upstream.gone.is_cancelled();
    let may_wait = !refused && !end && head.may_wait() && !leaving;
    if let Some(held) = inspection.take_if(|inspection| may_wait && inspection.holds()) {
        // Boxed: a stream that does not wait pays nothing for it.
        let waiting = Waiting::new(context, &policy, &parts, held);
        let (held, pieces) = Box::pin(waiting.wait(&mut body, &mut respond, &upstream.gone)).await?;
        (inspection, kept) = (Some(held), Some(pieces));
    }
    let whole = kept
        .as_ref()
        .zip(inspection.as_ref())
        .filter(|(kept, inspection)| kept.ended && may_rewrite(inspection, head.headers));
    let whole = whole.map(|(kept, _)| kept.whole());
    let (mut edits, mut call) = context.begin(&policy, &head, inspection);
    if let (Some(whole), Some(kept)) = (whole, &mut kept)
        && let Some(new) = rewrite(call.as_mut(), &whole, head.headers, &mut edits)
    {
        kept.pieces = [Bytes::from(new)].into();
    }
    edits.apply(&mut parts.headers);
    if parts.uri.authority().is_none() {
        // It came with `host` in place of `:authority` (RFC 9113, section 8.3.1). h2 asks for an authority in a request of its
        // own version; in one of the version before it is content with the header.
        parts.version = Version::HTTP_11;
    }
    if refused {
        respond.send_reset(Reason::REFUSED_STREAM);
        call.iter_mut().for_each(|call| call.reset(Reason::REFUSED_STREAM));
        return None;
    }
    if end {
        call.iter_mut().for_each(|call| call.request_ended());
    }
    let mut sending = std::pin::pin!(upstream.send(Request::from_parts(parts, ()), end));
    let sent = poll_fn(|cx| match respond.poll_reset(cx) {
        Poll::Ready(_) => Poll::Ready(None),
        Poll::Pending => sending.as_mut().poll(cx).map(Some),
    });
    let Sent { answer, body: to_upstream, first } = match sent.await {
        Some(Ok(sent)) => sent,
        Some(Err(_)) => {
            // It never reached upstream: the client may send it again without a doubt (RFC 9113, section 8.7).
            respond.send_reset(Reason::REFUSED_STREAM);
            if let Some(call) = &mut call {
                call.reset(Reason::REFUSED_STREAM);
            }
            return None;
        }
        None => return None,
    };
    let mut exchange = Exchange {
        metrics: &context.settings.metrics,
        call,
        up: Pump::new(body, to_upstream, end, kept),
        down: Down::Head(answer, respond),
        stopped: false,
        filters: false,
        loan: loan.flatten(),
    };
    match (&mut exchange).await {
        Ended::InItself => None,
        Ended::ConnectionLost if first => Some(Left { exchange: Box::new(exchange), reason: None }),
        Ended::Reset(reason) => Some(Left { exchange: Box::new(exchange), reason: Some(reason) }),
        // The client's connection is joined to another one, which lives.
        Ended::ConnectionLost => {
            exchange.down.reset(Reason::INTERNAL_ERROR);
            None
        }
    }
}

/// What the stack is told of a request.
pub(super) fn request_head<'a>(context: &Context, parts: &'a Parts) -> RequestHead<'a, HeaderMap> {
    let host = || parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    RequestHead {
        method: parts.method.as_str(),
        scheme: parts.uri.scheme_str().unwrap_or(context.target.scheme()),
        authority: parts.uri.authority().map(|authority| authority.as_str()).or_else(host),
        path: parts.uri.path_and_query().map_or("", |path| path.as_str()),
        absolute: false,
        version: Version::HTTP_2,
        headers: &parts.headers,
    }
}

/// A stream on both connections.
pub(super) struct Exchange<'a> {
    metrics: &'a Metrics,
    call: Option<Call>,
    up: Pump,
    down: Down,
    /// Upstream wants no more of the request.
    stopped: bool,
    /// Something is taken out of the answer's body.
    filters: bool,
    /// For a large header list, until upstream has answered it.
    loan: Option<Loan>,
}

enum Down {
    Head(ResponseFuture, SendResponse<Bytes>),
    Body(Pump),
}

impl Future for Exchange<'_> {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Ended> {
        let this = &mut *self;
        if let Poll::Ready(Err(Failed::From(error))) = this.poll_up(cx) {
            return this.client_has_gone(error.reason());
        }
        if let Poll::Ready(reset) = this.down.poll_client_reset(cx) {
            return this.client_has_gone(reset.ok());
        }
        if matches!(this.down, Down::Head(..))
            && let Err(error) = ready!(this.poll_head(cx))
        {
            return Poll::Ready(this.upstream_failed(&error));
        }
        let done = match &mut this.down {
            Down::Head(..) => return Poll::Pending,
            Down::Body(pump) if pump.is_done() => Ok(()),
            Down::Body(pump) => {
                match ready!(pump.poll(cx, &this.metrics.bytes_received, |seen| match (&mut this.call, seen) {
                    (Some(call), Seen::Data(data, last)) => {
                        call.answer_data(data);
                        if this.filters {
                            let mut left = Vec::with_capacity(data.len());
                            call.filter(data, last, &mut left);
                            *data = left.into();
                        }
                    }
                    (Some(call), Seen::End(rest)) if this.filters => {
                        let mut left = Vec::new();
                        call.filter(&[], true, &mut left);
                        *rest = left.into();
                    }
                    (Some(call), Seen::Trailers(trailers)) => call.trailers(trailers),
                    (None, _) | (_, Seen::End(_)) => {}
                })) {
                    Ok(()) => {
                        this.call.iter_mut().for_each(|call| call.complete());
                        Ok(())
                    }
                    Err(Failed::From(error)) => Err(error),
                    Err(Failed::To(error)) => return this.client_has_gone(error.reason()),
                }
            }
        };
        if let Err(error) = done {
            return Poll::Ready(this.upstream_failed(&error));
        }
        // The answer is over; the request goes on until it is, too, or upstream wants no more of it.
        if this.up.is_done() {
            return Poll::Ready(Ended::InItself);
        }
        if this.stopped {
            // h2 sends RST_STREAM with NO_ERROR behind the answer's end as this drops (RFC 9113, section 8.1).
            return Poll::Ready(Ended::InItself);
        }
        Poll::Pending
    }
}

impl Exchange<'_> {
    fn poll_up(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Failed>> {
        if self.stopped || self.up.is_done() {
            return Poll::Ready(Ok(()));
        }
        let polled = self.up.poll(cx, &self.metrics.bytes_sent, |seen| match (&mut self.call, seen) {
            (Some(call), Seen::Data(data, last)) => {
                call.request_data(data);
                if last {
                    call.request_ended();
                }
            }
            (Some(call), Seen::End(_)) => call.request_ended(),
            (None, _) | (_, Seen::Trailers(_)) => {}
        });
        match polled {
            // Why upstream takes no more is for the answer to say.
            Poll::Ready(Err(Failed::To(_))) => self.stopped = true,
            Poll::Pending => self.stopped = self.up.poll_reset(cx).is_ready(),
            _ => {}
        }
        polled
    }

    /// Interim answers, then the final one, behind which its body comes.
    fn poll_head(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), h2::Error>> {
        let Down::Head(answer, respond) = &mut self.down else { return Poll::Pending };
        while let Poll::Ready(Some(Ok(interim))) = answer.poll_informational(cx) {
            respond.send_informational(interim)?;
        }
        let (mut parts, body) = ready!(Pin::new(answer).poll(cx))?.into_parts();
        self.loan = None;
        self.call.iter_mut().for_each(|call| call.answered(parts.status.as_u16(), &parts.headers));
        let end = body.is_end_stream();
        self.filters = !end && may_filter(&parts.headers) && self.call.as_ref().is_some_and(Call::filters);
        if self.filters {
            remove_in_order(&mut parts.headers, &header::CONTENT_LENGTH);
        }
        let to_client = respond.send_response(http::Response::from_parts(parts, ()), end)?;
        self.down = Down::Body(Pump::new(body, to_client, end, None));
        if end {
            self.call.iter_mut().for_each(|call| call.complete());
        }
        Poll::Ready(Ok(()))
    }

    /// Upstream hears the client's own code.
    fn client_has_gone(&mut self, reason: Option<Reason>) -> Poll<Ended> {
        self.up.reset(reason.unwrap_or(Reason::CANCEL));
        self.call.iter_mut().for_each(|call| call.cancelled());
        Poll::Ready(Ended::InItself)
    }

    /// The client hears upstream's own code.
    fn upstream_failed(&mut self, error: &h2::Error) -> Ended {
        if error.is_go_away() && error.is_remote() {
            // Above the last stream that upstream's GOAWAY names: it was not processed (RFC 9113, section 6.8).
            self.call.iter_mut().for_each(|call| call.reset(Reason::REFUSED_STREAM));
            self.down.reset(Reason::REFUSED_STREAM);
            return Ended::InItself;
        }
        self.call.iter_mut().for_each(|call| call.failed(error));
        match error.reason() {
            Some(reason) if matches!(self.down, Down::Body(_)) => Ended::Reset(reason),
            Some(reason) => {
                self.down.reset(reason);
                Ended::InItself
            }
            None => Ended::ConnectionLost,
        }
    }
}

/// What a header list takes, about (RFC 9113, section 6.5.2).
fn header_list(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + OVERHEAD).sum()
}

impl Down {
    fn poll_client_reset(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<Reason, h2::Error>> {
        match self {
            Self::Head(_, respond) => respond.poll_reset(cx),
            Self::Body(pump) => pump.poll_reset(cx),
        }
    }

    fn reset(&mut self, reason: Reason) {
        match self {
            Self::Head(_, respond) => respond.send_reset(reason),
            Self::Body(pump) => pump.reset(reason),
        }
    }
}

/// Of a line in a header list (RFC 9113, section 6.5.2).
const OVERHEAD: usize = 32;
/// What a stream's header list may take without asking.
const FREE: usize = 64 * 1024;
