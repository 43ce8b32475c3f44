//! What agents say: recognises LLM, MCP and JSON-RPC calls and reads their bodies as they go by, without holding them up.
//!
//! `stack` asks [`recognise`] about every request's head and hands the bodies' bytes to the [`Inspection`]; what was found
//! becomes [`Evidence`] for `stitch` and attributes of the call's span. Pure: bytes and times in, values out.
//!
//! A body is decoded (`encoding`), cut into documents (`frames`), read as JSON of which only what a `Format` names is kept (`json`),
//! and told to the `Facts`. A new format is a file and a line in `providers`.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::string_slice))]

#[cfg(test)]
mod cases;
mod content;
mod encoding;
mod facts;
mod formats;
mod frames;
mod item;
mod json;
mod parked;
mod providers;
mod reading;
mod reply;
mod splice;
#[cfg(any(test, fuzzing))]
pub mod splits;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use opentelemetry::Value;

use self::content::Writer;
use self::facts::Facts;
use self::formats::Answer;
use self::item::Key;
use self::json::{Node, Shape};
use self::parked::{Parked, Ticket};
use self::reading::{Reading, What};
use self::splice::UsageFilter;
use crate::budget::{Budget, Loan, Use};
use crate::call::Evidence;
use crate::config::GenAi;
use crate::net::Direction;
use crate::policy::{Policy, Subject};
use crate::redaction::Redaction;
use crate::telemetry::Metrics;
use crate::trace::propagation::Carrier;
use crate::trace::{ActiveSpan, ChunkTimes, End, Placement, Span, SpanSink, semconv};

/// What all inspections share.
#[derive(Debug)]
pub struct Settings {
    /// What is written.
    pub genai: GenAi,
    /// Lends what an inspection remembers.
    pub budget: Arc<Budget>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Where the spans go that an exchange leaves behind beside its own.
    pub sink: SpanSink,
    key: Key,
    parked: Parked,
}

impl Settings {
    /// What the configuration says.
    pub fn new(genai: GenAi, budget: Arc<Budget>, metrics: Arc<Metrics>, sink: SpanSink) -> Self {
        Self { genai, budget, metrics, sink, key: Key::random(), parked: Parked::default() }
    }

    /// Nothing found yet.
    fn facts(&self, redaction: &Arc<Redaction>) -> Box<Facts> {
        let capture = self.genai.captures().then_some(self.genai.max_content);
        let mut facts = Box::new(Facts::new(self.key, capture));
        facts.redaction = redaction.clone();
        facts
    }
}

/// A request's head, as far as it tells what is in the body.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a, H> {
    /// What rules look at.
    pub subject: Subject<'a>,
    /// Path and query.
    pub path: &'a str,
    /// Its header fields.
    pub headers: &'a H,
}

/// What a format is asked: one value of it reads one call.
pub(crate) trait Format: Debug + Send {
    /// The request's header fields.
    fn request_head(&mut self, _: &Headers<'_>, _: &mut Facts) {}

    /// The call has its place: its span is open.
    fn placed(&mut self, _: &ActiveSpan) {}

    /// What of the request's body is read.
    fn request_shape(&self) -> &'static Shape;

    /// An element of an array of the request's that is handed out.
    fn request_item(&mut self, _list: &'static str, _item: Node, _: &mut Facts) {}

    /// Whether the request is to be read on, by what was read of its document and how many bytes came.
    fn reads_on(&mut self, _read: Option<&Node>, _came: u64) -> bool {
        true
    }

    /// The rest of the request's body. Not told if the body could not be read to its end.
    fn request(&mut self, body: Node, facts: &mut Facts);

    /// The head of the answer.
    fn answer_head(&mut self, _status: u16, _: &Headers<'_>, _: &mut Facts) {}

    /// What of an answer is read: of a document, or of each event of a stream.
    fn answer_shape(&self) -> &'static Shape;

    /// An element of an array of the answer's, or of an event's, that is handed out.
    fn answer_item(&mut self, _list: &'static str, _item: Node, _: &mut Facts) {}

    /// The rest of an answer that is one document.
    fn answer(&mut self, body: Node, facts: &mut Facts);

    /// The rest of one event of a stream: its name, and whether the stream calls it an exception.
    fn event(&mut self, _name: &str, _exception: bool, body: Node, facts: &mut Facts) {
        facts.chunk = true;
        self.answer(body, facts);
    }

    /// Whether the next event of a stream is wanted as it comes, whatever it is.
    fn wants_text(&self) -> bool {
        false
    }

    /// Its beginning. True if it is not to be read as JSON.
    fn text_event(&mut self, _name: &str, _text: &[u8], _: &mut Facts) -> bool {
        false
    }

    /// The body of an answer whose status says that the call failed, read as [`reading::ERROR`] says.
    fn failed(&mut self, body: Node, facts: &mut Facts) {
        reading::failed(&body, facts);
    }

    /// Whether what was asked for has come, whatever else the stream may say: who leaves now has not given up.
    fn is_answered(&self) -> bool {
        false
    }

    /// The exchange has ended: whether its answer is to come by another one, and where it is waited for then. `resumable`: the
    /// rest of the stream may be asked for.
    fn parks(&mut self, _: End, _resumable: bool) -> Option<Ticket> {
        None
    }

    /// The answer that came by another exchange.
    fn resolve(&mut self, _: Answer, _: &mut Facts) {}

    /// The call has ended; `complete`: in order.
    fn finish(&mut self, _complete: bool, _: &mut Facts) {}

    /// What a rule may add to the request, if the request would have it.
    fn wish(&self, _: &Facts) -> Option<Wish> {
        None
    }

    /// About how many bytes it holds beside what it told.
    fn held(&self) -> usize {
        0
    }

    /// Whether the call is what it was taken for, as far as is known.
    fn is_relevant(&self) -> bool {
        true
    }
}

/// What may be added to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Usage, for a stream that comes without.
    Usage,
    /// Our context, in `_meta`.
    Meta,
}

/// Header fields by name, in lower case.
pub(crate) struct Headers<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Headers<'_> {
    /// The first value of this name that is text.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        (self.0)(name)
    }
}

/// What is to be read of a call's bodies, if anything.
pub fn recognise<H: Carrier>(
    settings: &Arc<Settings>,
    policy: &Arc<Policy>,
    request: &Request<'_, H>,
) -> Option<Box<Inspection>> {
    let found = providers::recognise(settings, policy, request)?;
    let mut facts = settings.facts(policy.redaction());
    facts.server = request.subject.direction == Direction::Inbound;
    facts.provider = found.provider;
    facts.operation = found.operation;
    facts.asked_model(found.model.as_deref());
    facts.stream = found.stream;
    let mut format = found.format;
    let subject = request.subject;
    let lookup = lookup(request.headers);
    let headers = Headers(&lookup);
    facts.resends = providers::resends(&headers);
    format.request_head(&headers, &mut facts);
    let encodings = request.headers.values("content-encoding");
    let request = Reading::new(encodings, What::Request, None, format.request_shape(), facts.limit, settings.key);
    Some(Box::new(Inspection {
        settings: settings.clone(),
        policy: policy.clone(),
        sealed: None,
        holds: found.holds,
        format,
        facts: Some(facts),
        request: Some(request),
        answer: None,
        streamed: false,
        status: 0,
        begun: SystemTime::now(),
        times: Times { started: Instant::now(), first: None, last: None, chunks: None },
        incomplete: None,
        loan: None,
        asks_usage: policy.asks_usage(&subject),
        writes_meta: policy.writes_meta(&subject),
        filter: None,
    }))
}

fn lookup<H: Carrier>(headers: &H) -> impl Fn(&str) -> Option<String> {
    |name| headers.values(name).next().and_then(|value| std::str::from_utf8(value).ok()).map(str::to_owned)
}

/// The bodies of one call.
#[derive(Debug)]
pub struct Inspection {
    settings: Arc<Settings>,
    policy: Arc<Policy>,
    /// What had been found when the call ended.
    sealed: Option<Evidence>,
    holds: bool,
    format: Box<dyn Format>,
    /// Taken by the conclusion.
    facts: Option<Box<Facts>>,
    request: Option<Reading>,
    answer: Option<Reading>,
    streamed: bool,
    status: u16,
    begun: SystemTime,
    times: Times,
    /// What is missing.
    incomplete: Option<&'static str>,
    /// What is remembered beyond [`FREE`].
    loan: Option<Loan>,
    /// A rule asks for usage where the client does not.
    asks_usage: bool,
    /// A rule has our context written into `_meta`.
    writes_meta: bool,
    filter: Option<UsageFilter>,
}

#[derive(Debug)]
struct Times {
    started: Instant,
    first: Option<Instant>,
    last: Option<Instant>,
    chunks: Option<Box<ChunkTimes>>,
}

impl Inspection {
    /// When the request's head had come.
    pub fn begun(&self) -> SystemTime {
        self.begun
    }

    /// Whether the request's headers wait for its body: what places the call is there.
    pub fn holds(&self) -> bool {
        self.holds
    }

    /// Whether more of the request's body may still tell something.
    pub fn reads_request(&self) -> bool {
        self.request.is_some() && !self.is_over()
    }

    /// The next bytes of the request's body, without the framing of the transfer.
    pub fn request(&mut self, bytes: &[u8]) {
        let (Some(reading), Some(facts)) = (&mut self.request, &mut self.facts) else { return };
        let fed = reading.feed(bytes, &mut *self.format, facts);
        if let Err(why) = fed {
            self.give_up_request(why);
        }
        self.account();
    }

    /// The request's body has ended.
    pub fn request_ended(&mut self) {
        let (Some(mut reading), Some(facts)) = (self.request.take(), &mut self.facts) else { return };
        let finished = reading.finish(&mut *self.format, facts);
        let incomplete = reading.is_incomplete().then_some("too_large");
        facts.evidence.incomplete |= incomplete.is_some();
        match finished {
            Err(why) => self.give_up_request(why),
            Ok(()) => incomplete.into_iter().for_each(|why| self.missing(why)),
        }
    }

    /// What has been found so far.
    pub fn evidence(&self) -> Option<&Evidence> {
        self.facts.as_ref().filter(|_| self.format.is_relevant()).map(|facts| &facts.evidence)
    }

    /// The call has its place; its headers go out.
    pub fn placed(&mut self, span: &ActiveSpan) {
        self.format.placed(span);
    }

    /// Whether [`Inspection::rewritten`] is to be asked, once the request has ended.
    pub fn rewrites(&self) -> bool {
        let wish = self.facts.as_ref().and_then(|facts| self.format.wish(facts));
        match wish {
            Some(Wish::Usage) => self.asks_usage,
            Some(Wish::Meta) => self.writes_meta,
            None => false,
        }
    }

    /// The body to send in place of the one that was held, decoded of its transfer coding: where a rule asks for it.
    pub fn rewritten(&mut self, body: &[u8], placement: &Placement) -> Option<Vec<u8>> {
        let facts = self.facts.as_mut()?;
        let wish = self.format.wish(facts)?;
        match wish {
            Wish::Usage if self.asks_usage => {
                let body = splice::asking_for_usage(body)?;
                facts.set(semconv::SIDETRACE_USAGE_ASKED, true);
                self.filter = Some(UsageFilter::new(self.settings.key));
                Some(body)
            }
            Wish::Meta if self.writes_meta => {
                let body = splice::with_meta(body, placement)?;
                facts.set(semconv::SIDETRACE_MCP_META_WRITTEN, true);
                Some(body)
            }
            _ => None,
        }
    }

    /// Whether the answer must not be compressed for [`Inspection::filter`] to read it. Asked behind [`Inspection::rewritten`].
    pub fn wants_identity(&self) -> bool {
        self.filter.is_some()
    }

    /// Whether something is to be taken out of the answer's body. Asked when its head is known, after [`Self::answered`].
    pub fn filters(&self) -> bool {
        self.filter.is_some() && self.answer.as_ref().is_some_and(Reading::is_plain_sse)
    }

    /// What goes on of the next bytes of the answer's body; what is held back comes later. `ended`: nothing follows.
    pub fn filter(&mut self, bytes: &[u8], ended: bool, out: &mut Vec<u8>) {
        match &mut self.filter {
            Some(filter) => filter.feed(bytes, ended, out),
            None => out.extend_from_slice(bytes),
        }
    }

    /// The head of the answer.
    pub fn answered<H: Carrier>(&mut self, status: u16, headers: &H) {
        let Some(facts) = &mut self.facts else { return };
        self.status = status;
        if !self.format.is_relevant() {
            return;
        }
        let lookup = lookup(headers);
        let view = Headers(&lookup);
        self.format.answer_head(status, &view, facts);
        if let Some(id) = REQUEST_IDS.iter().find_map(|name| view.get(name)) {
            facts.set_text(semconv::SIDETRACE_RESPONSE_REQUEST_ID, Some(&id));
        }
        let what = if status >= 400 { What::Failure } else { What::Answer };
        let shape = if status >= 400 { &reading::ERROR } else { self.format.answer_shape() };
        let kind = view.get("content-type");
        let encodings = headers.values("content-encoding");
        // 202 and 204: what their bodies say, if anything, is no answer.
        if !matches!(status, 202 | 204) && self.format.is_relevant() {
            let reading = Reading::new(encodings, what, kind.as_deref(), shape, facts.limit, self.settings.key);
            self.streamed = reading.is_stream();
            self.answer = Some(reading);
        }
    }

    /// The next bytes of the answer's body as upstream sent them, and when they came.
    pub fn answer(&mut self, bytes: &[u8], now: Instant) {
        let (Some(reading), Some(facts)) = (&mut self.answer, &mut self.facts) else { return };
        let fed = reading.feed(bytes, &mut *self.format, facts);
        // Before the bytes go on: whoever acts on a tool call finds it known.
        facts.reply.issued(&mut facts.evidence);
        if std::mem::take(&mut facts.chunk) {
            self.times.chunk(now);
        }
        if let Err(why) = fed {
            self.answer = None;
            if self.status < 400 {
                self.missing(why);
            }
        }
        if !self.format.is_relevant() {
            self.answer = None;
        }
        self.account();
    }

    /// The exchange has ended. If its answer comes by another one, the call waits for it, and its span is kept open until then;
    /// else the inspection is returned, to conclude with.
    pub fn park(mut self: Box<Self>, end: End, span: &ActiveSpan) -> Option<Box<Self>> {
        let resumable = self.answer.as_ref().is_some_and(Reading::is_resumable);
        self.read_rest(end);
        let Some(ticket) = self.format.parks(end, resumable) else { return Some(self) };
        let settings = self.settings.clone();
        settings.parked.park(ticket, self, span, end)
    }

    /// How the call ended, if its exchange ended like this: a client may leave once it has its answer.
    pub fn end(&self, end: End) -> End {
        let answered = || self.format.is_answered() || self.facts.as_ref().is_some_and(|facts| facts.ended);
        if end == End::Cancelled && answered() { End::Complete } else { end }
    }

    /// The call has ended: its span learns what was found. `end`: of the exchange.
    pub fn conclude(&mut self, end: End, span: &mut Span) {
        self.read_rest(end);
        let end = self.end(end);
        let Some(mut facts) = self.facts.take() else { return };
        // A document may come in chunks, too: Gemini's array.
        let streamed = self.streamed || self.times.first.is_some();
        self.format.finish(end == End::Complete, &mut facts);
        if let Some((why, times)) = facts.missing.take() {
            self.missing(why);
            (1..times).for_each(|_| self.settings.metrics.uninspected.inc(why));
        }
        if !self.format.is_relevant() {
            return;
        }
        let complete = end == End::Complete && (200..400).contains(&self.status) && facts.error.is_none();
        let reasons = facts.reply.finish_reasons(complete);
        if !reasons.is_empty() {
            let reasons = reasons.into_iter().map(opentelemetry::StringValue::from).collect();
            facts.set(semconv::GEN_AI_RESPONSE_FINISH_REASONS, Value::Array(opentelemetry::Array::String(reasons)));
        }
        if streamed {
            self.times.write(&mut facts, span);
        }
        if let Some(why) = self.incomplete {
            facts.set(semconv::SIDETRACE_INSPECTION_INCOMPLETE, why);
        }
        facts.seal();
        let model = facts.response_model.as_ref().or(facts.model.as_ref());
        let price = model.and_then(|model| self.policy.price(facts.provider.as_deref(), model));
        if let Some(cost) = price.and_then(|price| facts.cost(price)) {
            facts.set(semconv::SIDETRACE_COST, cost);
        }
        self.sealed = Some(std::mem::take(&mut facts.evidence));
        write(facts, streamed, &self.settings.genai, span);
    }

    /// The answer came by another exchange.
    fn resolve(&mut self, answer: Answer) {
        if let Some(facts) = &mut self.facts {
            self.format.resolve(answer, facts);
        }
    }

    /// What is left of the bodies when the exchange has ended.
    fn read_rest(&mut self, end: End) {
        if let Some(reading) = self.request.take().filter(Reading::has_begun) {
            // Answered, or broken off, before it was whole.
            drop(reading);
            self.give_up_request("truncated");
        }
        let (Some(mut reading), Some(facts)) = (self.answer.take(), &mut self.facts) else { return };
        let mut fault = None;
        match end {
            End::Complete => fault = reading.finish(&mut *self.format, facts).err(),
            _ => reading.drop_rest(),
        }
        let incomplete = reading.is_incomplete().then_some("too_large");
        // An error page need not be JSON.
        if let Some(why) = fault.or(incomplete).filter(|_| self.status < 400) {
            self.missing(why);
        }
    }

    /// Whether nothing more is to be seen.
    pub fn is_over(&self) -> bool {
        (self.request.is_none() || self.status != 0) && !self.format.is_relevant()
    }

    fn give_up_request(&mut self, why: &'static str) {
        self.request = None;
        if why == reading::OTHER {
            // Nothing is missing.
            return;
        }
        if let Some(facts) = &mut self.facts {
            facts.evidence.incomplete = true;
        }
        if self.format.is_relevant() {
            self.missing(why);
        }
    }

    /// The first reason stays.
    fn missing(&mut self, why: &'static str) {
        if self.incomplete.is_none() {
            self.incomplete = Some(why);
            self.settings.metrics.uninspected.inc(why);
        }
    }

    /// What is remembered is lent; if it is not, nothing more is read.
    fn account(&mut self) {
        let held = self.facts.as_ref().map_or(0, |facts| facts.held())
            + self.format.held()
            + [&self.request, &self.answer].into_iter().flatten().map(Reading::held).sum::<usize>();
        let lent = self.loan.as_ref().map_or(0, |loan| usize::try_from(loan.bytes()).unwrap_or(usize::MAX));
        let missing = held.saturating_sub(FREE).saturating_sub(lent);
        let granted = match &mut self.loan {
            _ if missing == 0 => true,
            Some(loan) => loan.grow(missing.max(BASE)),
            none => {
                *none = self.settings.budget.lend(missing.max(BASE), Use::Inspections);
                none.is_some()
            }
        };
        if !granted {
            (self.request, self.answer) = (None, None);
            self.missing("budget");
        }
    }
}

impl Times {
    fn chunk(&mut self, now: Instant) {
        if let Some(last) = self.last {
            self.chunks.get_or_insert_default().observe(now.saturating_duration_since(last));
        }
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    fn write(&mut self, facts: &mut Facts, span: &mut Span) {
        if let Some(first) = self.first {
            let took = first.saturating_duration_since(self.started).as_secs_f64();
            facts.set(semconv::GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK, took);
        }
        span.chunks = self.chunks.take();
    }
}

/// What was found becomes a span.
fn write(mut facts: Box<Facts>, streamed: bool, genai: &GenAi, span: &mut Span) {
    span.description = facts.message.take();
    if let Some(failure) = facts.error.take() {
        span.fail(String::from(failure.code));
        span.description = failure.message;
    }
    write_content(&mut facts, genai, span);
    facts.write(streamed, span);
}

/// What was said, where it is captured: redacted, before anything else sees it.
fn write_content(facts: &mut Facts, genai: &GenAi, span: &mut Span) {
    let Some(mut content) = facts.content.take() else { return };
    let output = facts.reply.take_messages();
    let writer = Writer::new(&facts.redaction, genai.max_content);
    let written = [
        (semconv::GEN_AI_SYSTEM_INSTRUCTIONS, (!content.system.is_empty()).then(|| writer.system(&content.system))),
        (
            semconv::GEN_AI_INPUT_MESSAGES,
            (!content.input.is_empty()).then(|| writer.input(content.input.make_contiguous())),
        ),
        (semconv::GEN_AI_OUTPUT_MESSAGES, (!output.is_empty()).then(|| writer.output(&output))),
        (semconv::GEN_AI_TOOL_DEFINITIONS, (!content.tools.is_empty()).then(|| writer.tools(&content.tools))),
        (semconv::GEN_AI_TOOL_CALL_ARGUMENTS, content.arguments.as_ref().map(|text| writer.value(text))),
        (semconv::GEN_AI_TOOL_CALL_RESULT, content.result.as_ref().map(|text| writer.value(text))),
    ];
    for (name, text) in written {
        let Some(text) = text else { continue };
        if genai.capture.has_events() {
            span.content.get_or_insert_default().push((name, text.as_str().into()));
        }
        if genai.capture.has_spans() {
            span.push(name, text);
        }
    }
}

/// What an inspection may hold without asking at all: most are of short calls, or of calls that turn out to be nothing to read.
const FREE: usize = 4 * 1024;
/// What it asks for at least.
const BASE: usize = 16 * 1024;
/// What providers call the id that their support asks for.
const REQUEST_IDS: [&str; 4] = ["x-amzn-requestid", "x-request-id", "request-id", "apim-request-id"];
