//! HTTP/1 as it goes by: finds the requests and answers in the bytes of a connection, writes the placed headers into the
//! requests' heads, and records each call. Every other byte goes on as it came (see [`crate::http1`] for why).
//!
//! Requests and answers are told apart each for itself: an answer may be over before its request is, and pipelined requests
//! go on without waiting. What cannot be read any more is passed on unread, and the rest of the connection with it.

mod filter;
mod hold;
#[cfg(test)]
pub(super) mod tests;

use std::collections::VecDeque;
use std::time::SystemTime;

use bytes::Bytes;
use http::Version;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use self::filter::{Filtering, chunked_head, filtered};
use self::hold::Holding;
use super::held::Held;
use super::hold::{Released, may_filter, may_rewrite, rewrite};
use super::relay::{Ended, Gather, Verdict, Watch, relay};
use crate::budget::Use;
use crate::genai::Inspection;
use crate::http1::{Body, Fault, Field, Head, RequestLine, head};
use crate::net::Abort;
use crate::policy::Reader;
use crate::stack::{self, Call, Context, RequestHead};
use crate::trace::propagation::Edits;
use crate::trace::{ActiveSpan, End};

/// Relays an HTTP/1 connection to its end, or to the begin of a tunnel.
pub(super) async fn serve<C, U>(
    context: &Context,
    client: (&mut C, Bytes),
    upstream: (&mut U, Bytes),
    drain: &CancellationToken,
) -> Option<Tunnel>
where
    C: AsyncRead + AsyncWrite + Abort + Unpin,
    U: AsyncRead + AsyncWrite + Abort + Unpin,
{
    let mut http = Http1::new(context);
    let ended = relay(client, upstream, &mut http, &context.settings.metrics, drain).await;
    http.conclude(ended)
}

/// Both directions of one connection.
pub(super) struct Http1<'a> {
    context: &'a Context,
    policy: Reader,
    up: Up,
    down: Down,
    /// Requests whose answers have not ended, oldest first.
    calls: VecDeque<Exchange>,
    /// The client has said FIN.
    client_finished: bool,
    /// So has upstream.
    upstream_finished: bool,
    /// Nothing begins to wait any more.
    draining: bool,
    /// Records the rest that is passed through unread.
    rest: Option<ActiveSpan>,
    /// Why the connection was refused.
    refused: Option<&'static str>,
    tunnel: Option<Tunnel>,
    /// Another protocol was accepted.
    upgraded: bool,
    /// The client's connection is for other servers too: nothing passes that might be taken for an answer of theirs.
    shared: bool,
    /// Upstream has said something that nobody had asked for. It was dropped.
    spent: bool,
    // Reused from head to head, given back when nothing is under way.
    fields: Vec<Field>,
}

/// A CONNECT that was accepted: what follows is a conversation of its own.
#[derive(Debug)]
pub(super) struct Tunnel {
    /// Where the client asked to be connected to.
    pub(super) authority: String,
    /// What has been said to it already.
    pub(super) from_upstream: Bytes,
}

struct Exchange {
    call: Option<Call>,
    is_head: bool,
    /// CONNECT, with its target.
    connect: Option<String>,
    upgrade: bool,
    /// Its body was another one; something may be taken out of the answer.
    rewritten: bool,
}

#[derive(Debug)]
struct Up {
    state: UpState,
    /// The begin of a head.
    held: Held,
    /// What was released while nothing could be written.
    ready: Vec<u8>,
    /// What is held is to go on as it is, or what is ready.
    resume: bool,
    /// What is held waits for answers: too many requests are under way.
    crowded: bool,
    /// The last head's end is not everybody's: nothing may come behind its request.
    loose: bool,
    /// Bytes have gone up behind a request that may change the protocol, before its answer was known.
    early: bool,
    /// The request under way asks for another protocol, or for a tunnel.
    decides: bool,
}

#[derive(Debug)]
enum UpState {
    Head,
    /// A head waits for its body.
    Holding(Box<Holding>),
    Body(Body),
    /// Upstream's answer decides what the next bytes are.
    Undecided,
    Unread,
}

#[derive(Debug)]
struct Down {
    state: DownState,
    /// The begin of a head, which has gone on already, unless it is withheld.
    held: Held,
    withheld: bool,
    /// Something is taken out of the body under way.
    filtering: Option<Filtering>,
}

#[derive(Debug)]
enum DownState {
    Head,
    Body(Body),
    Unread,
}

impl<'a> Http1<'a> {
    pub(super) fn new(context: &'a Context) -> Self {
        Self {
            context,
            policy: context.settings.policies.reader(),
            up: Up {
                state: UpState::Head,
                held: Held::default(),
                ready: Vec::new(),
                resume: false,
                crowded: false,
                loose: false,
                early: false,
                decides: false,
            },
            down: Down { state: DownState::Head, held: Held::default(), withheld: false, filtering: None },
            calls: VecDeque::new(),
            client_finished: false,
            upstream_finished: false,
            draining: false,
            rest: None,
            refused: None,
            tunnel: None,
            upgraded: false,
            shared: false,
            spent: false,
            fields: Vec::new(),
        }
    }

    /// For a client's connection that is for other servers too: nothing of upstream's passes but answers to what it was asked.
    pub(super) fn shared(context: &'a Context) -> Self {
        let mut http = Self::new(context);
        http.shared = true;
        http
    }

    /// What is left to record behind the relay's end, and the tunnel that it was left for.
    pub(super) fn conclude(&mut self, ended: Ended) -> Option<Tunnel> {
        match ended {
            Ended::Left { from_upstream, .. } => {
                if let Some(tunnel) = self.tunnel.take() {
                    return Some(Tunnel { from_upstream, ..tunnel });
                }
                // It was left, not the client.
                self.upstream_failed(CLOSED);
            }
            Ended::Upstream(error) => self.upstream_failed(stack::io_error_type(&error)),
            Ended::Refused => {
                if let Some(why) = self.refused {
                    self.context.refuse(why);
                }
            }
            // What is under way is cancelled by its drop.
            Ended::Client | Ended::Complete | Ended::Drained => {}
        }
        if let Some(rest) = self.rest.take() {
            rest.conclude(End::Complete);
        }
        None
    }

    /// Whether upstream is still to say what follows a request that may change the protocol.
    pub(super) fn is_undecided(&self) -> bool {
        // Nor has it heard of one that waits behind many others.
        matches!(self.up.state, UpState::Undecided) || self.up.crowded || self.up.resume
    }

    /// Whether the client's bytes are passed through unread.
    pub(super) fn is_unread(&self) -> bool {
        matches!(self.up.state, UpState::Unread)
    }

    /// Whether that is because upstream has accepted another protocol.
    pub(super) fn is_upgraded(&self) -> bool {
        self.upgraded
    }

    /// Whether nobody knows where upstream's answer ends.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self.down.state, DownState::Unread) && !self.upgraded
    }

    /// Whether upstream has said something unasked: it is to be asked no more.
    pub(super) fn is_spent(&self) -> bool {
        self.spent
    }

    fn upgrades(&self, line: &RequestLine<'_>, head: &Head<'_>) -> bool {
        if self.shared { asks_for_upgrade(line, head) } else { may_upgrade(line, head) }
    }

    /// Upstream's side has failed: every call under way with it, unless the client had given up before.
    fn upstream_failed(&mut self, error_type: &'static str) {
        self.release_later();
        let gone = self.client_finished;
        for exchange in &mut self.calls {
            let Some(call) = &mut exchange.call else { continue };
            if gone { call.cancelled() } else { call.broken(error_type) }
        }
        self.calls.clear();
        self.resume_crowded();
    }

    /// Goes on with requests that waited for others, once about half of those are answered: each time costs a copy.
    fn resume_crowded(&mut self) {
        if self.up.crowded && self.calls.len() <= MAX_PIPELINED / 2 {
            (self.up.crowded, self.up.resume) = (false, true);
        }
    }

    /// Reads what may be several requests, from `at` on. `bytes` are those that were read, or (`owned`) bytes that were held:
    /// those are copied into `out`.
    fn requests(&mut self, bytes: &[u8], mut at: usize, owned: bool, out: &mut Gather) -> Verdict {
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match &mut self.up.state {
                UpState::Unread => {
                    pass(out, bytes, at..bytes.len(), owned);
                    break;
                }
                UpState::Undecided => {
                    // Whatever they are: upstream may wait for them before it answers.
                    self.up.early = true;
                    pass(out, bytes, at..bytes.len(), owned);
                    break;
                }
                UpState::Body(body) => {
                    // The last one: it has not ended. Gone, if it was answered before its end.
                    let mut call = observed(self.calls.back_mut());
                    let observe = |data: &[u8]| call.iter_mut().for_each(|call| call.request_data(data));
                    match body.feed(rest, observe) {
                        Ok(fed) => {
                            pass(out, bytes, at..at + fed.consumed, owned);
                            at += fed.consumed;
                            if fed.done {
                                call.iter_mut().for_each(|call| call.request_ended());
                                self.request_ended();
                            }
                        }
                        Err((fault, _)) => return self.refuse(fault),
                    }
                }
                // It has taken all that there was.
                UpState::Holding(_) => break,
                UpState::Head if self.calls.len() >= MAX_PIPELINED => {
                    if matches!(self.down.state, DownState::Unread) {
                        // Nobody will answer them.
                        self.up.state = UpState::Unread;
                    } else if self.keep(rest, if owned { &[] } else { bytes }, out) {
                        self.up.crowded = true;
                        break;
                    }
                }
                UpState::Head if matches!(rest, [b'\r' | b'\n', ..]) => {
                    // Empty lines before a request (RFC 9112, section 2.2) belong to nothing and are waited for by nobody.
                    let empty = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
                    pass(out, bytes, at..at + empty, owned);
                    at += empty;
                }
                UpState::Head => match head::end(rest, 0) {
                    Some(length) => {
                        let mut fields = std::mem::take(&mut self.fields);
                        let read = Read { bytes, at, owned };
                        let taken = self.request(read, length, &mut fields, out);
                        self.fields = fields;
                        match taken {
                            Ok(taken) => at += taken,
                            Err(Fault::Unreadable) => self.up_unread(UNREADABLE_REQUEST),
                            Err(fault) => return self.refuse(fault),
                        }
                    }
                    None if rest.len() > MAX_HEAD => self.up_unread(TOO_LONG),
                    None => {
                        if self.keep(rest, if owned { &[] } else { bytes }, out) {
                            self.up.held.scanned = rest.len();
                            break;
                        }
                    }
                },
            }
        }
        self.give_back();
        Verdict::Go
    }

    /// Keeps the client's bytes back. False if there is no memory to do so: what was kept goes on, and the rest unread. `read`
    /// is what `out` has pieces of.
    fn keep(&mut self, more: &[u8], read: &[u8], out: &mut Gather) -> bool {
        let kept = self.up.held.keep(more, &self.context.settings.budget, Use::Heads);
        if !kept {
            out.write(read, &self.up.held.take());
            self.up_unread(NO_BUDGET);
        }
        kept
    }

    /// One whole request head of this length. How many bytes it took.
    fn request(
        &mut self,
        read: Read<'_>,
        length: usize,
        fields: &mut Vec<Field>,
        out: &mut Gather,
    ) -> Result<usize, Fault> {
        let (line, head) = head::request(read.next(length), fields)?;
        if std::mem::replace(&mut self.up.loose, head.ends_loosely()) {
            return Err(Fault::Ambiguous("a request behind a head that ends with a bare line feed"));
        }
        let target = String::from_utf8_lossy(line.target);
        let request = request_head(&line, &head, &target, self.context.target.scheme());
        let inspection = self.context.recognise(self.policy.current(), &request);
        let body = head.request_body();
        let may_wait = request.may_wait() && !self.upstream_finished && !self.draining;
        let holds = !body.is_done() && !self.upgrades(&line, &head) && may_wait;
        match inspection {
            Some(inspection) if holds && inspection.holds() => self.hold(read, &line, &request, inspection, out),
            inspection => {
                self.begin(read, &line, &request, inspection, None, out);
                self.body_follows(body);
                Ok(length)
            }
        }
    }

    /// Places a request and writes its head. `whole` is its body, where that has come and is held; if another one takes its place,
    /// that is written too, and it returns true.
    fn begin(
        &mut self,
        read: Read<'_>,
        line: &RequestLine<'_>,
        request: &RequestHead<'_, Head<'_>>,
        inspection: Option<Box<Inspection>>,
        whole: Option<&[u8]>,
        out: &mut Gather,
    ) -> bool {
        // An HTTP/1.0 client understands no chunks, in which an answer that was filtered goes on.
        let may =
            |inspection: &Inspection| line.version == Version::HTTP_11 && may_rewrite(inspection, request.headers);
        let whole = whole.filter(|_| inspection.as_deref().is_some_and(may));
        let (mut edits, mut call) = self.context.begin(self.policy.current(), request, inspection);
        let new = whole.and_then(|raw| {
            let data = hold::decoded(raw, request.headers.request_body());
            rewrite(call.as_mut(), &data, request.headers, &mut edits)
        });
        write_head(request.headers, &edits, read, out);
        if let (Some(new), Some(raw)) = (&new, whole) {
            let read = if read.owned { &[] } else { read.bytes };
            out.write(read, &hold::framed(new, raw, request.headers.request_body()));
        }
        let connect = line.method == "CONNECT";
        let upgrade = self.upgrades(line, request.headers);
        self.up.decides = connect || upgrade;
        self.calls.push_back(Exchange {
            call,
            is_head: line.method == "HEAD",
            connect: connect.then(|| String::from_utf8_lossy(line.target).into_owned()),
            upgrade,
            rewritten: new.is_some(),
        });
        new.is_some()
    }

    /// What is left of the body of the request that was placed last.
    fn body_follows(&mut self, body: Body) {
        let done = body.is_done();
        self.up.state = UpState::Body(body);
        if done {
            observed(self.calls.back_mut()).into_iter().for_each(|call| call.request_ended());
            self.request_ended();
        }
    }

    fn request_ended(&mut self) {
        self.up.state = if std::mem::take(&mut self.up.decides) { UpState::Undecided } else { UpState::Head };
    }

    /// Nothing more may pass.
    pub(super) fn refuse(&mut self, fault: Fault) -> Verdict {
        self.refused = Some(match fault {
            Fault::Ambiguous(why) => why,
            Fault::Unreadable => UNREADABLE_REQUEST,
        });
        Verdict::Refuse
    }

    /// From here on the client's bytes are passed through unread; so are upstream's behind the answers that are due.
    fn up_unread(&mut self, why: &'static str) {
        self.release_later();
        self.up.state = UpState::Unread;
        self.up.resume |= !self.up.held.is_empty();
        if self.calls.is_empty() {
            self.down.state = DownState::Unread;
        }
        if why != UPGRADED {
            self.rest = self.context.passed_through(why, None, SystemTime::now());
        }
    }

    /// From here on nothing is read any more.
    fn all_unread(&mut self, why: &'static str) {
        self.down.state = DownState::Unread;
        if !matches!(self.up.state, UpState::Unread) {
            self.up_unread(why);
        }
    }

    /// Reads what may be several answers. How many of the bytes belong to this conversation.
    fn answers(&mut self, bytes: &[u8], out: &mut Gather) -> (usize, Verdict) {
        // What stands before `from` has gone on, or something in its place.
        let (mut at, mut from) = (0, 0);
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match &mut self.down.state {
                DownState::Unread => break,
                DownState::Body(body) if self.down.filtering.is_some() => {
                    let call = filtered(self.calls.front_mut());
                    let (Some(filtering), Some(call)) = (&mut self.down.filtering, call) else { break };
                    let mut framed = Vec::new();
                    let fed = filtering.feed(body, rest, call, &mut framed);
                    out.pass(bytes, from..at);
                    out.write(bytes, &framed);
                    at += fed.as_ref().map_or_else(|before| *before, |fed| fed.consumed);
                    from = at;
                    match fed {
                        Ok(fed) if fed.done => self.answer_ended(),
                        Ok(_) => {}
                        Err(_) => {
                            call.broken(PROTOCOL_ERROR);
                            self.calls.pop_front();
                            self.all_unread(UNREADABLE_ANSWER);
                        }
                    }
                }
                DownState::Body(body) => {
                    let mut call = observed(self.calls.front_mut());
                    match body.feed(rest, |data| call.iter_mut().for_each(|call| call.answer_data(data))) {
                        Ok(fed) => {
                            at += fed.consumed;
                            if fed.done {
                                self.answer_ended();
                            }
                        }
                        Err(_) => {
                            if let Some(mut call) = self.calls.pop_front().and_then(|exchange| exchange.call) {
                                call.broken(PROTOCOL_ERROR);
                            }
                            self.all_unread(UNREADABLE_ANSWER);
                        }
                    }
                }
                // A line end too many behind an answer.
                DownState::Head if self.calls.is_empty() && matches!(rest, [b'\r' | b'\n', ..]) => {
                    if self.shared {
                        out.pass(bytes, from..at);
                        from = at + 1;
                    }
                    at += 1;
                }
                // Upstream does not wait for what it has not heard yet.
                DownState::Head if self.calls.is_empty() && matches!(self.up.state, UpState::Holding(_)) => {
                    self.release_later();
                }
                DownState::Head if self.calls.is_empty() && self.shared => {
                    self.spent = true;
                    debug!(peer = %self.context.target.peer, bytes = rest.len(), "dropped: upstream says what nobody has asked for");
                    out.pass(bytes, from..at);
                    from = bytes.len();
                    break;
                }
                DownState::Head if self.calls.is_empty() => self.all_unread(UNASKED_ANSWER),
                DownState::Head if !self.down.held.is_empty() => {
                    let held = &mut self.down.held;
                    let kept = held.keep(rest, &self.context.settings.budget, Use::Heads);
                    let Some(length) = head::end(held.bytes(), held.scanned).filter(|_| kept) else {
                        held.scanned = held.bytes().len();
                        let unreadable = !kept || held.scanned > MAX_HEAD;
                        if self.down.withheld {
                            if unreadable {
                                out.write(bytes, held.bytes());
                            }
                            // Else it waits with the rest; what was not kept goes on behind it.
                            from = if kept { bytes.len() } else { from };
                        }
                        if unreadable {
                            *held = Held::default();
                            self.down.withheld = false;
                            self.all_unread(if kept { TOO_LONG } else { NO_BUDGET });
                        }
                        break;
                    };
                    let held = held.take();
                    self.down.held.written();
                    at += length - (held.len() - rest.len());
                    let head = held.get(..length).unwrap_or_default();
                    let (tunnel, replaced) = self.answer(head);
                    if std::mem::take(&mut self.down.withheld) {
                        out.write(bytes, replaced.as_deref().unwrap_or(head));
                        from = at;
                    }
                    if tunnel {
                        out.pass(bytes, from..at);
                        return (at, Verdict::Leave);
                    }
                }
                DownState::Head => match head::end(rest, 0) {
                    Some(length) => {
                        let (tunnel, replaced) = self.answer(rest.get(..length).unwrap_or_default());
                        if let Some(head) = replaced {
                            out.pass(bytes, from..at);
                            out.write(bytes, &head);
                            from = at + length;
                        }
                        at += length;
                        if tunnel {
                            out.pass(bytes, from..at);
                            return (at, Verdict::Leave);
                        }
                    }
                    None => {
                        if self.down.held.keep(rest, &self.context.settings.budget, Use::Heads) {
                            self.down.held.scanned = rest.len();
                            self.down.withheld = self.withholds();
                            if self.down.withheld {
                                out.pass(bytes, from..at);
                                from = bytes.len();
                            }
                        } else {
                            self.all_unread(NO_BUDGET);
                        }
                        break;
                    }
                },
            }
        }
        self.give_back();
        out.pass(bytes, from..bytes.len());
        (bytes.len(), Verdict::Go)
    }

    /// One whole head of an answer: whether a tunnel begins behind it, and the head that goes on in its place.
    fn answer(&mut self, bytes: &[u8]) -> (bool, Option<Vec<u8>>) {
        let Some(exchange) = self.calls.front_mut() else { return (false, None) };
        let read = head::answer(bytes, &mut self.fields);
        let unasked = |status| status == 101 && self.shared && !exchange.upgrade;
        let Some((line, head)) = read.ok().filter(|(line, _)| !unasked(line.status)) else {
            if let Some(call) = &mut exchange.call {
                call.broken(PROTOCOL_ERROR);
            }
            self.calls.pop_front();
            self.all_unread(UNREADABLE_ANSWER);
            return (false, None);
        };
        if line.status < 200 && line.status != 101 {
            // More answers to the same request follow.
            return (false, None);
        }
        if let Some(call) = &mut exchange.call {
            call.answered(line.status, &head);
        }
        let tunnel = exchange.connect.is_some() && (200..300).contains(&line.status);
        if tunnel || line.status == 101 {
            if let Some(call) = &mut exchange.call {
                call.upgraded();
            }
            let authority = exchange.connect.take().filter(|_| tunnel);
            self.answer_ended_with(true);
            if let Some(authority) = authority.filter(|_| !self.up.early) {
                self.tunnel = Some(Tunnel { authority, from_upstream: Bytes::new() });
                return (true, None);
            }
            self.upgraded = true;
            self.all_unread(UPGRADED);
            return (false, None);
        }
        let mut replaced = None;
        match head.answer_body(exchange.is_head, line.status) {
            Ok(body) if body.is_done() => self.answer_ended(),
            Ok(body) => {
                let filters =
                    exchange.rewritten && may_filter(&head) && exchange.call.as_ref().is_some_and(Call::filters);
                let has_length = !body.is_chunked() && !body.ends_with_connection();
                // Chunks are unknown to HTTP/1.0.
                if filters && !(has_length && line.version == Version::HTTP_10) {
                    self.down.filtering = Some(Filtering::of(&body));
                    replaced = has_length.then(|| chunked_head(&head));
                }
                self.down.state = DownState::Body(body);
            }
            Err(_) => {
                // The client judges it; where it ends we cannot know.
                if let Some(call) = &mut exchange.call {
                    call.passed_through(UNREADABLE_ANSWER);
                    call.complete();
                }
                self.calls.pop_front();
                self.all_unread(UNREADABLE_ANSWER);
            }
        }
        (false, replaced)
    }

    fn answer_ended(&mut self) {
        self.answer_ended_with(false);
    }

    fn answer_ended_with(&mut self, upgraded: bool) {
        self.down.filtering = None;
        self.down.state = DownState::Head;
        let Some(mut exchange) = self.calls.pop_front() else { return };
        if let Some(call) = &mut exchange.call {
            call.complete();
        }
        let decided = (exchange.upgrade || exchange.connect.is_some()) && !upgraded;
        if decided && std::mem::take(&mut self.up.early) {
            // They were another request, perhaps: it has gone up as it was.
            self.up_unread(UNREADABLE_REQUEST);
        } else if decided && matches!(self.up.state, UpState::Undecided) {
            self.up.state = UpState::Head;
        } else if decided {
            // The answer was there before the request's end.
            self.up.decides = false;
        }
        if self.calls.is_empty() && matches!(self.up.state, UpState::Unread) {
            self.down.state = DownState::Unread;
        }
        self.resume_crowded();
    }

    /// Where the lines of a large head were is of no use behind it.
    fn give_back(&mut self) {
        if self.fields.capacity() > FEW_FIELDS {
            self.fields = Vec::new();
        }
    }
}

impl Watch for Http1<'_> {
    fn up(&mut self, bytes: &[u8], out: &mut Gather) -> Verdict {
        if self.upstream_finished && self.calls.is_empty() && matches!(self.up.state, UpState::Head) {
            // A request that nobody will answer. A server that closed would reset it; one that only half-closed cannot say more.
            return Verdict::Refuse;
        }
        if self.holds() {
            return self.hold_more(bytes, out);
        }
        if self.up.held.is_empty() {
            return self.requests(bytes, 0, false, out);
        }
        if !self.keep(bytes, bytes, out) {
            out.pass(bytes, 0..bytes.len());
            return Verdict::Go;
        }
        let held = &mut self.up.held;
        if head::end(held.bytes(), held.scanned).is_none() {
            held.scanned = held.bytes().len();
            if held.scanned > MAX_HEAD {
                self.up_unread(TOO_LONG);
            }
            return Verdict::Go;
        }
        let held = held.take();
        self.requests(&held, 0, true, out)
    }

    fn down(&mut self, bytes: &[u8], out: &mut Gather) -> (usize, Verdict) {
        if matches!(self.down.state, DownState::Unread) {
            out.pass(bytes, 0..bytes.len());
            return (bytes.len(), Verdict::Go);
        }
        self.answers(bytes, out)
    }

    fn wants_client(&self) -> bool {
        match self.up.state {
            UpState::Head if matches!(self.down.state, DownState::Unread) => true,
            UpState::Head => !self.up.crowded && self.calls.len() < MAX_PIPELINED,
            UpState::Undecided | UpState::Holding(_) | UpState::Body(_) | UpState::Unread => true,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match &self.up.state {
            UpState::Holding(holding) => Some(holding.deadline()),
            _ => None,
        }
    }

    fn expired(&mut self) {
        self.stalled();
    }

    fn draining(&mut self) {
        self.draining = true;
        self.release_later();
    }

    fn resume(&mut self, out: &mut Gather) -> Verdict {
        if self.up.ready.is_empty() {
            // What was given out before has been written by now.
            self.up.held.written();
        } else {
            out.give(&[], std::mem::take(&mut self.up.ready));
        }
        if !std::mem::take(&mut self.up.resume) {
            return Verdict::Go;
        }
        let held = self.up.held.take();
        self.requests(&held, 0, true, out)
    }

    fn client_finished(&mut self, out: &mut Gather) {
        self.client_finished = true;
        self.release(Released::Ended, out);
        // Half a head: upstream sees what it would have seen.
        out.write(&[], &self.up.held.take());
    }

    fn upstream_finished(&mut self, out: &mut Gather) -> Verdict {
        self.upstream_finished = true;
        out.give(&[], self.kept_back());
        let ends_properly = matches!(&self.down.state, DownState::Body(body) if body.ends_with_connection());
        if ends_properly {
            self.answer_ended();
        }
        self.upstream_failed(CLOSED);
        self.down.state = DownState::Unread;
        Verdict::Go
    }

    fn upstream_broke(&mut self, out: &mut Gather) -> Verdict {
        out.give(&[], self.kept_back());
        Verdict::Go
    }

    fn is_due(&self) -> bool {
        self.up.resume
    }

    fn is_idle(&self) -> bool {
        let nothing_kept = self.up.held.is_empty() && self.up.ready.is_empty();
        self.calls.is_empty() && nothing_kept && matches!(self.up.state, UpState::Head)
    }
}

impl Drop for Http1<'_> {
    fn drop(&mut self) {
        // Upstream has not heard of it, but it was a call.
        self.release_later();
    }
}

/// The call of an exchange, if somebody reads its bodies.
fn observed(exchange: Option<&mut Exchange>) -> Option<&mut Call> {
    exchange.and_then(|exchange| exchange.call.as_mut()).filter(|call| call.observes())
}

/// Bytes of the client's, and where among them the next request begins.
#[derive(Clone, Copy)]
struct Read<'b> {
    bytes: &'b [u8],
    at: usize,
    /// They were held, and do not outlive the call.
    owned: bool,
}

impl<'b> Read<'b> {
    /// The next so many bytes.
    fn next(&self, length: usize) -> &'b [u8] {
        self.bytes.get(self.at..self.at + length).unwrap_or_default()
    }
}

/// Passes a part of the bytes that were read; bytes that were held do not outlive the call.
fn pass(out: &mut Gather, bytes: &[u8], range: std::ops::Range<usize>, owned: bool) {
    if owned {
        out.write(&[], bytes.get(range).unwrap_or_default());
    } else {
        out.pass(bytes, range);
    }
}

/// The head with its changed lines; all others as they came.
fn write_head(head: &Head<'_>, edits: &Edits, read: Read<'_>, out: &mut Gather) {
    let Read { bytes, at, owned } = read;
    let read = if owned { &[] } else { bytes };
    let put = |name: &[u8], value: &http::HeaderValue, out: &mut Gather| {
        for part in [name, b": ", value.as_bytes(), head.line_end()] {
            out.write(read, part);
        }
    };
    let (mut done, mut found) = (0, 0_u64);
    for field in head.fields() {
        let name = head.name(field);
        let edit =
            edits.iter().enumerate().find(|(_, (edited, _))| name.eq_ignore_ascii_case(edited.as_str().as_bytes()));
        let Some((index, (_, value))) = edit else { continue };
        let line = head.line(field);
        pass(out, bytes, at + done..at + line.start, owned);
        done = line.end;
        // In the place of the first line of its name, and spelled as that.
        if let Some(value) = value.filter(|_| found & (1 << index) == 0) {
            put(name, value, out);
        }
        found |= 1 << index;
    }
    pass(out, bytes, at + done..at + head.insertion(), owned);
    for (index, (name, value)) in edits.iter().enumerate() {
        if let Some(value) = value.filter(|_| found & (1 << index) == 0) {
            put(name.as_str().as_bytes(), value, out);
        }
    }
    pass(out, bytes, at + head.insertion()..at + head.bytes().len(), owned);
}

/// What the stack is told of a request. `own` is the connection's scheme.
fn request_head<'a>(
    line: &RequestLine<'a>,
    head: &'a Head<'a>,
    target: &'a str,
    own: &'static str,
) -> RequestHead<'a, Head<'a>> {
    let host = head.value("host").and_then(|host| std::str::from_utf8(host).ok()).filter(|host| !host.is_empty());
    let connect = line.method == "CONNECT";
    let (scheme, authority, path) = split_target(target, connect, host, own);
    let absolute = !connect && !path.is_empty() && !target.starts_with(['/', '*']);
    RequestHead { method: line.method, scheme, authority, path, absolute, version: line.version, headers: head }
}

/// Scheme, authority and path of a request target (RFC 9112, section 3.2), on a connection of this scheme.
fn split_target<'t>(
    target: &'t str,
    connect: bool,
    host: Option<&'t str>,
    own: &'static str,
) -> (&'t str, Option<&'t str>, &'t str) {
    if connect {
        return (own, Some(target), "");
    }
    if target.starts_with('/') || target == "*" {
        return (own, host, target);
    }
    match target.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
            (scheme, Some(authority), path)
        }
        None => (own, host, target),
    }
}

/// Upgrade counts only beside `Connection: upgrade` (RFC 9110, section 7.8), and not in HTTP/1.0.
pub(super) fn asks_for_upgrade(line: &RequestLine<'_>, head: &Head<'_>) -> bool {
    may_upgrade(line, head) && head.has_token("connection", "upgrade")
}

/// Whether some server might take it for such a request.
fn may_upgrade(line: &RequestLine<'_>, head: &Head<'_>) -> bool {
    line.version == Version::HTTP_11 && head.value("upgrade").is_some()
}

const PROTOCOL_ERROR: &str = "protocol_error";
const CLOSED: &str = "connection_closed";
const UPGRADED: &str = "upgraded";
const UNREADABLE_REQUEST: &str = "unreadable_request";
const UNREADABLE_ANSWER: &str = "unreadable_answer";
const UNASKED_ANSWER: &str = "unasked_answer";
const TOO_LONG: &str = "too_long";
/// There is no memory to hold a head until it is whole.
const NO_BUDGET: &str = "no_budget";
/// A head that is longer is passed through unread.
pub(super) const MAX_HEAD: usize = 2 * 1024 * 1024;
/// Requests that wait for their answers; the client is not read beyond.
const MAX_PIPELINED: usize = 256;
const FEW_FIELDS: usize = 64;
