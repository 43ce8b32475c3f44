//! Where an exchange takes place: which session or stream it belongs to, and which span stands for it.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;

use crate::budget::Use;
use crate::call::{Digest, SessionKind};
use crate::genai::facts::Facts;
use crate::genai::formats::jsonrpc::{Answer, Called, Id};
use crate::genai::item::Sum;
use crate::genai::json::Node;
use crate::genai::parked::{Listening, Open, Ticket};
use crate::genai::{Headers, Request, Settings};
use crate::net::Direction;
use crate::redaction::Redaction;
use crate::trace::propagation::{self, Carrier, RemoteContext};
use crate::trace::{ActiveSpan, Placement, Span, Workload, semconv};

/// The place of one exchange.
#[derive(Debug)]
pub(super) struct Place {
    settings: Arc<Settings>,
    redaction: Arc<Redaction>,
    server: bool,
    /// Of the host, as this side names it, and of the path there.
    host: Digest,
    path: Digest,
    folder: Box<str>,
    session: Option<Digest>,
    /// The protocol's version.
    version: Option<Box<str>>,
    /// The session's id, if it has one that may be shown.
    session_id: Option<Box<str>>,
    span: Option<ActiveSpan>,
    origin: Option<Box<Origin>>,
    listened: bool,
}

/// The exchange's span, as those inside it continue it.
#[derive(Debug)]
struct Origin {
    placement: Placement,
    kind: SpanKind,
    workload: Option<Arc<Workload>>,
    attributes: Vec<KeyValue>,
}

impl Place {
    pub(super) fn new<H: Carrier>(
        settings: &Arc<Settings>,
        redaction: &Arc<Redaction>,
        request: &Request<'_, H>,
    ) -> Self {
        let subject = &request.subject;
        let server = subject.direction == Direction::Inbound;
        let named = subject.host.map(str::to_ascii_lowercase);
        let named = named.unwrap_or_else(|| format!("{}:{}", subject.address, subject.port));
        let folder = subject.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut place = Self {
            settings: settings.clone(),
            redaction: redaction.clone(),
            server,
            host: Digest(0),
            path: Digest(0),
            folder: folder.into(),
            session: None,
            version: None,
            session_id: None,
            span: None,
            origin: None,
            listened: false,
        };
        place.host = place.host_of(&named);
        place.path = place.path_of(place.host, request.path);
        if let Some(version) = settings.listened(place.path) {
            (place.listened, place.version) = (true, version);
        }
        place
    }

    /// A GET's stream says where to post: an address, or a path on the same host.
    pub(super) fn endpoint(&mut self, said: &str) -> Option<Listening> {
        let said = said.trim();
        let (host, path) = match said.split_once("://") {
            Some((_, rest)) => {
                let at = rest.find(['/', '?']).unwrap_or(rest.len());
                let (host, path) = rest.split_at_checked(at)?;
                (self.host_of(&host.to_ascii_lowercase()), path.to_owned())
            }
            None if said.starts_with('/') => (self.host, said.to_owned()),
            None if said.is_empty() => return None,
            None => (self.host, format!("{}/{said}", self.folder)),
        };
        self.path = self.path_of(host, &path);
        self.settings.listen(self.path)
    }

    /// Whether a stream answers for this path.
    pub(super) fn is_listened_to(&self) -> bool {
        self.listened
    }

    /// The version by header fields, or as it was agreed on where header fields do not tell.
    pub(super) fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// A version was agreed on, for all that go where this one went.
    pub(super) fn agreed(&self, facts: &Facts) {
        if let Some(version) = facts.text_of(semconv::MCP_PROTOCOL_VERSION) {
            self.settings.agreed(self.path, version);
        }
    }

    pub(super) fn captures(&self) -> bool {
        self.settings.genai.captures()
    }

    /// The call has its span.
    pub(super) fn found(&mut self, span: &ActiveSpan) {
        self.span = Some(span.clone());
    }

    /// The session's id, from a header field of either side.
    pub(super) fn joined(&mut self, id: &str, facts: &mut Facts) {
        if self.session.is_some() || id.is_empty() || self.is_stateless(None) {
            return;
        }
        self.session = Some(self.sum("session", self.host, id));
        self.session_id = Some(id.into());
        facts.set_text(semconv::MCP_SESSION_ID, Some(id));
        facts.session(SessionKind::Mcp, id);
    }

    /// Since 2026-07-28 there are no sessions, whatever is sent.
    pub(super) fn hide_session(&mut self, facts: &mut Facts) {
        let version = facts.text_of(semconv::MCP_PROTOCOL_VERSION).map(str::to_owned);
        if self.session.is_some() && self.is_stateless(version.as_deref()) {
            (self.session, self.session_id) = (None, None);
            facts.unset(semconv::MCP_SESSION_ID);
            facts.evidence.sessions.retain(|(kind, _)| *kind != SessionKind::Mcp);
        }
    }

    /// The answer to this id may come by the stream that answers for this path.
    pub(super) fn expect(&self, id: &Id) -> Option<Ticket> {
        self.settings.expect(self.path, self.key(self.path, CALLED, id))
    }

    /// The same, by another stream of the session.
    pub(super) fn expect_in_session(&self, id: &Id) -> Option<Ticket> {
        let session = self.session?;
        self.settings.expect(session, self.key(session, CALLED, id))
    }

    /// A stream brought an answer that belongs to a POST.
    pub(super) fn answer_to_called(&self, id: &Id, answer: Answer) {
        self.settings.answer(self.key(self.scope(), CALLED, id), answer);
    }

    /// A POST brought the answer to what the other side asked for.
    pub(super) fn answer_to_asked(&self, id: &Id, answer: Answer) {
        self.settings.answer(self.key(self.scope(), ASKED, id), answer);
    }

    /// The session is over.
    pub(super) fn close(&self) {
        if let Some(session) = self.session {
            self.settings.close(session);
        }
    }

    /// A call inside this one begins. `reversed`: the other side calls. `None` if it has no room.
    pub(super) fn open(
        &mut self,
        (id, method, params): (Option<Id>, Box<str>, Node),
        mcp: bool,
        reversed: bool,
    ) -> Option<Open> {
        let Some(loan) = self.settings.budget.lend(OPEN, Use::Inspections) else {
            self.settings.metrics.uninspected.inc("budget");
            return None;
        };
        let mut facts = self.settings.facts(&self.redaction);
        facts.server = self.server != reversed;
        if let Some(version) = &self.version {
            facts.set_text(semconv::MCP_PROTOCOL_VERSION, Some(version));
        }
        let called = Called::new(id, method, params, mcp, &mut facts);
        if facts.has(semconv::MCP_METHOD_NAME) {
            facts.set_text(semconv::MCP_SESSION_ID, self.session_id.as_deref());
        } else {
            facts.unset(semconv::MCP_PROTOCOL_VERSION);
        }
        let span = self.origin()?.span(called.method.to_string(), reversed);
        let span = ActiveSpan::new(span, self.settings.sink.clone());
        Some(Open { called, facts, span, settings: self.settings.clone(), loan })
    }

    /// A call of a batch whose answer comes by the stream that answers for this path: it ends there.
    pub(super) fn leave(&self, open: Open) {
        let Some(id) = open.called.id.clone() else { return };
        if let Some(ticket) = self.settings.open(self.path, self.key(self.path, CALLED, &id), open) {
            ticket.forget();
        }
    }

    /// Whether the exchange's span is known.
    pub(super) fn is_found(&self) -> bool {
        self.span.is_some()
    }

    fn origin(&mut self) -> Option<&Origin> {
        if self.origin.is_none() {
            let mut origin = None;
            self.span.as_ref()?.update(|span| {
                let attributes = span.attributes.iter().filter(|found| COPIED.contains(&found.key.as_str()));
                origin = Some(Box::new(Origin {
                    placement: span.placement.clone(),
                    kind: span.kind.clone(),
                    workload: span.workload.clone(),
                    attributes: attributes.cloned().collect(),
                }));
            });
            self.origin = origin;
        }
        self.origin.as_deref()
    }

    fn is_stateless(&self, version: Option<&str>) -> bool {
        let version = version.or(self.version.as_deref()).unwrap_or_default();
        version.starts_with("20") && version >= STATELESS
    }

    /// What ids are unique in.
    fn scope(&self) -> Digest {
        self.session.unwrap_or(self.path)
    }

    fn key(&self, scope: Digest, what: &str, id: &Id) -> Digest {
        let mut sum = Sum::new(&self.settings.key);
        sum.text(what);
        sum.digest(scope);
        match id {
            Id::Number(number) => sum.text(&format!("n{number}")),
            Id::Text(text) => sum.text(&format!("s{text}")),
        }
        sum.finish()
    }

    fn host_of(&self, host: &str) -> Digest {
        let usual = [":80", ":443"].iter().find_map(|port| host.strip_suffix(port));
        self.sum(if self.server { "served" } else { "called" }, Digest(0), usual.unwrap_or(host))
    }

    fn path_of(&self, host: Digest, path: &str) -> Digest {
        self.sum("path", host, path)
    }

    fn sum(&self, what: &str, inside: Digest, text: &str) -> Digest {
        let mut sum = Sum::new(&self.settings.key);
        sum.text(what);
        sum.digest(inside);
        sum.text(text);
        sum.finish()
    }
}

impl Origin {
    /// A span inside. `reversed`: the other side is its client.
    fn span(&self, name: String, reversed: bool) -> Span {
        let above = &self.placement;
        let context = RemoteContext {
            trace_id: above.trace_id,
            span_id: above.span_id,
            flags: above.flags,
            deferred: false,
            tracestate: above.tracestate.clone(),
        };
        let mut span = Span::new(propagation::proceed(&context, &mut rand::rng()), name);
        span.workload = self.workload.clone();
        span.kind = match (&self.kind, reversed) {
            (kind, false) => kind.clone(),
            (SpanKind::Server, true) => SpanKind::Client,
            (_, true) => SpanKind::Server,
        };
        let sides = [(semconv::SERVER_ADDRESS, semconv::CLIENT_ADDRESS), (semconv::SERVER_PORT, semconv::CLIENT_PORT)];
        span.attributes.extend(self.attributes.iter().cloned().map(|mut attribute| {
            for (server, client) in sides.iter().filter(|_| reversed) {
                if attribute.key.as_str() == *server {
                    attribute.key = (*client).into();
                } else if attribute.key.as_str() == *client {
                    attribute.key = (*server).into();
                }
            }
            attribute
        }));
        if span.kind == SpanKind::Client {
            // Who calls is known: it is the agent.
            let own = [semconv::CLIENT_ADDRESS, semconv::CLIENT_PORT];
            span.attributes.retain(|attribute| !own.contains(&attribute.key.as_str()));
        }
        span
    }
}

/// What the other side asks for in an answer, while that goes on.
#[derive(Debug, Default)]
pub(super) struct Asked {
    open: Vec<Ticket>,
    opened: usize,
    lost: u64,
}

impl Asked {
    /// It asks. Its answer comes by a POST.
    pub(super) fn open(&mut self, place: &mut Place, id: Id, method: Box<str>, facts: &Facts) {
        if place.is_stateless(facts.text_of(semconv::MCP_PROTOCOL_VERSION)) {
            return;
        }
        self.opened += 1;
        if self.opened > MAX_ASKED {
            self.lost += 1;
            return;
        }
        let scope = place.scope();
        let key = place.key(scope, ASKED, &id);
        let Some(open) = place.open((Some(id), method, Node::Null), true, true) else { return };
        self.open.extend(place.settings.open(scope, key, open));
    }

    /// The answer has ended: nobody waits for what was asked for in it.
    pub(super) fn end(&mut self, facts: &mut Facts) {
        self.open.clear();
        if self.lost > 0 {
            facts.missing = Some(("batch_too_large", std::mem::take(&mut self.lost)));
        }
    }
}

/// What the header fields of an MCP request tell.
pub(super) fn tell_head(place: &mut Place, headers: &Headers<'_>, facts: &mut Facts) {
    let version = headers.get("mcp-protocol-version");
    facts.set_text(semconv::MCP_PROTOCOL_VERSION, version.as_deref());
    place.version = version.map(Into::into);
    if let Some(id) = headers.get("mcp-session-id") {
        place.joined(&id, facts);
    }
}

/// What a span inside an exchange has in common with the exchange's.
const COPIED: [&str; 7] = [
    semconv::SERVER_ADDRESS,
    semconv::SERVER_PORT,
    semconv::CLIENT_ADDRESS,
    semconv::CLIENT_PORT,
    semconv::NETWORK_PEER_ADDRESS,
    semconv::NETWORK_PEER_PORT,
    semconv::NETWORK_PROTOCOL_VERSION,
];
const CALLED: &str = "called";
const ASKED: &str = "asked";
/// The first version without sessions.
const STATELESS: &str = "2026-07-28";
/// What the other side may ask for in one answer.
const MAX_ASKED: usize = 64;
/// About how many bytes a call inside an exchange holds.
const OPEN: usize = 4 * 1024;
