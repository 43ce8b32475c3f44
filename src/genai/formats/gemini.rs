//! Google's generateContent and streamGenerateContent, of the Gemini API and of Vertex AI. A stream is SSE, or one JSON array
//! that grows.
//!
//! Fields have their names in camelCase here; the API takes snake_case, too, and so does `json`.
//!
//! Source: `semconv.md` 3.5; Gemini API reference, "GenerateContentRequest", "GenerateContentResponse".

mod partial;
mod parts;

use self::partial::Partial;
use self::parts::CONTENT_SHAPE;
use crate::genai::facts::{Facts, Modality, Usage, bounded};
use crate::genai::item::{Message, Part, Role};
use crate::genai::json::{Node, SCALAR, SCALARS, Shape};
use crate::genai::{Format, reading};
use crate::trace::semconv;

/// One call.
#[derive(Debug, Default)]
pub(crate) struct Gemini {
    /// The request has contents.
    contents: bool,
    read: bool,
    /// What the model said in the request, as long as it may go on: SDKs keep the chunks of a stream as they came.
    said: Option<Message>,
    counted: Counted,
    candidates: Vec<Candidate>,
}

/// Token counts as they come: they are added up for the conventions.
#[derive(Debug, Default)]
struct Counted {
    prompt: Option<u64>,
    tools: Option<u64>,
    candidates: Option<u64>,
    thoughts: Option<u64>,
}

/// Which number of a modality is meant.
type Pick = fn(&mut Modality) -> &mut Option<u64>;

/// Where the next part of a candidate goes. Text behind text goes on with it, as chunks cut it anywhere.
#[derive(Debug)]
struct Candidate {
    index: u64,
    next: u64,
    text: Option<u64>,
    reasoning: Option<u64>,
    /// A call whose arguments are still coming.
    call: Option<Partial>,
}

impl Format for Gemini {
    fn request_shape(&self) -> &'static Shape {
        static REQUEST: Shape = Shape::object(&[
            ("contents", &Shape { each: Some("contents"), items: Some(&CONTENT_SHAPE), ..CONTENT_SHAPE }),
            ("systemInstruction", &CONTENT_SHAPE),
            ("tools", &Shape::each("tools", &TOOL)),
            ("generationConfig", &CONFIG),
        ]);
        &REQUEST
    }

    fn request_item(&mut self, list: &'static str, item: Node, facts: &mut Facts) {
        if list == "contents" {
            self.contents = true;
            return self.hear(parts::message(item, facts), facts);
        }
        for (name, value) in item.fields() {
            if &**name != "functionDeclarations" {
                facts.tool(name, name);
            }
            for function in value.items() {
                facts.tool("function", function.str("name").unwrap_or_default());
            }
        }
    }

    fn request(&mut self, mut body: Node, facts: &mut Facts) {
        self.read = true;
        // One content may stand without its array.
        if let Some(content @ Node::Object(_)) = body.take("contents") {
            self.contents = true;
            self.hear(parts::message(content, facts), facts);
        }
        self.heard(facts);
        if let Some(system) = body.take("systemInstruction") {
            for part in parts::message(system, facts).parts {
                if let Part::Text(mut text) = part {
                    text.shorten(facts.limit);
                    facts.system(text);
                }
            }
        }
        if let Some(config) = body.get("generationConfig") {
            configured(config, facts);
        }
    }

    fn answer_shape(&self) -> &'static Shape {
        static ANSWER: Shape = Shape { items: Some(&CHUNK), each: Some("chunks"), ..CHUNK };
        &ANSWER
    }

    fn answer_item(&mut self, _: &'static str, item: Node, facts: &mut Facts) {
        facts.chunk = true;
        self.chunk(item, facts);
    }

    fn answer(&mut self, body: Node, facts: &mut Facts) {
        self.chunk(body, facts);
    }

    fn finish(&mut self, _: bool, facts: &mut Facts) {
        for candidate in &mut self.candidates {
            if let Some(call) = candidate.call.take() {
                facts.reply.put(candidate.index, call.place, call.broken(facts));
            }
        }
    }

    fn is_relevant(&self) -> bool {
        self.contents || !self.read
    }
}

impl Gemini {
    /// A content of the request.
    fn hear(&mut self, message: Message, facts: &mut Facts) {
        match &mut self.said {
            Some(said) if message.role == Role::Assistant && said.parts.len() < MAX_PARTS => {
                message.parts.into_iter().for_each(|part| parts::join(&mut said.parts, part));
            }
            _ => {
                self.heard(facts);
                self.said = Some(message);
                if self.said.as_ref().is_some_and(|said| said.role != Role::Assistant) {
                    self.heard(facts);
                }
            }
        }
    }

    /// Nothing more belongs to it.
    fn heard(&mut self, facts: &mut Facts) {
        let Some(mut message) = self.said.take() else { return };
        for part in &mut message.parts {
            if let Part::Text(text) | Part::Reasoning(text) = part {
                text.shorten(facts.limit);
            }
        }
        facts.input(message);
    }

    /// An answer, or what a chunk of it adds.
    fn chunk(&mut self, mut body: Node, facts: &mut Facts) {
        facts.answered_by(body.str("responseId"), body.str("modelVersion"));
        if body.get("error").is_some_and(|error| !error.is_null()) {
            reading::failed(&body, facts);
            let code = body.at(&["error", "code"]).and_then(Node::as_int);
            let message = body.at(&["error", "message"]).and_then(Node::as_str);
            facts.fail(&code.map_or("_OTHER".to_owned(), |code| code.to_string()), message);
        }
        if let Some(usage) = body.get("usageMetadata") {
            self.counted.update(usage, facts);
        }
        let blocked = body.at(&["promptFeedback", "blockReason"]).and_then(Node::as_str).is_some();
        let Some(Node::Array(candidates)) = body.take("candidates").filter(|all| !all.items().is_empty()) else {
            if blocked && facts.reply.is_empty() {
                facts.reply.finish(0, "content_filter");
            }
            return;
        };
        for (position, mut candidate) in candidates.into_iter().enumerate() {
            let index = candidate.count("index").unwrap_or(position as u64);
            facts.reply.begin(index);
            let mut content = candidate.take("content").unwrap_or(Node::Null);
            if let (Some(candidate), Some(Node::Array(parts))) = (self.candidate(index), content.take("parts")) {
                parts.into_iter().for_each(|part| candidate.say(part, facts));
            }
            if let Some(reason) = candidate.some_str("finishReason") {
                facts.reply.finish(index, finish_reason(reason, facts.reply.has_calls(index)));
            }
        }
    }

    fn candidate(&mut self, index: u64) -> Option<&mut Candidate> {
        let known = self.candidates.iter().position(|candidate| candidate.index == index);
        let at = known.unwrap_or(self.candidates.len());
        if known.is_none() && at < MAX_CANDIDATES {
            self.candidates.push(Candidate { index, next: 0, text: None, reasoning: None, call: None });
        }
        self.candidates.get_mut(at)
    }
}

impl Candidate {
    fn say(&mut self, mut item: Node, facts: &mut Facts) {
        let goes_on = |call: &Node| call.is_true("willContinue") || call.get("partialArgs").is_some();
        let begins = item.get("functionCall").is_some_and(goes_on);
        if begins || (self.call.is_some() && item.get("functionCall").is_some()) {
            return self.call(item.take("functionCall").unwrap_or(Node::Null), facts);
        }
        match parts::part(item, facts) {
            Part::Text(text) if text.length() == 0 => {}
            Part::Text(text) => {
                let place = self.text.unwrap_or(self.next);
                self.next += u64::from(self.text.replace(place).is_none());
                facts.reply.add(self.index, place, &text);
            }
            Part::Reasoning(text) => {
                let place = self.reasoning.unwrap_or(self.next);
                self.next += u64::from(self.reasoning.replace(place).is_none());
                facts.reply.add_reasoning(self.index, place, &text);
            }
            part => {
                let place = self.take_place();
                facts.reply.put(self.index, place, part);
            }
        }
    }

    /// A piece of a call that comes in pieces: a name begins the next one.
    fn call(&mut self, mut piece: Node, facts: &mut Facts) {
        if piece.some_str("name").is_some() {
            self.end_call(facts);
        }
        let mut call = self.call.take().unwrap_or_else(|| Partial::new(self.take_place(), &piece));
        call.add(&mut piece);
        facts.reply.put(self.index, call.place, call.begun(facts));
        self.call = Some(call);
        if !piece.is_true("willContinue") {
            self.end_call(facts);
        }
    }

    fn end_call(&mut self, facts: &mut Facts) {
        if let Some(call) = self.call.take() {
            facts.reply.put(self.index, call.place, call.whole(facts));
        }
    }

    fn take_place(&mut self) -> u64 {
        (self.text, self.reasoning) = (None, None);
        self.next += 1;
        self.next - 1
    }
}

impl Counted {
    /// What comes later counts all over again.
    fn update(&mut self, found: &Node, facts: &mut Facts) {
        let sum = |one: Option<u64>, other: Option<u64>| {
            one.or(other).map(|_| one.unwrap_or_default().saturating_add(other.unwrap_or_default()))
        };
        Usage::update(&mut self.prompt, found.count("promptTokenCount"));
        Usage::update(&mut self.tools, found.count("toolUsePromptTokenCount"));
        Usage::update(&mut self.candidates, found.count("candidatesTokenCount"));
        Usage::update(&mut self.thoughts, found.count("thoughtsTokenCount"));
        let usage = &mut facts.usage;
        usage.input = sum(self.prompt, self.tools);
        usage.output = sum(self.candidates, self.thoughts);
        Usage::update(&mut usage.reasoning, found.count("thoughtsTokenCount"));
        Usage::update(&mut usage.cache_read, found.count("cachedContentTokenCount"));
        let lists: [(_, Pick); 3] = [
            ("promptTokensDetails", |modality| &mut modality.input),
            ("candidatesTokensDetails", |modality| &mut modality.output),
            ("cacheTokensDetails", |modality| &mut modality.cache_read),
        ];
        for (list, pick) in lists {
            let details = found.get(list).map(Node::items).unwrap_or_default();
            let of = |wanted| {
                let found = details.iter().filter(|detail| detail.str("modality") == Some(wanted));
                found.filter_map(|detail| detail.count("tokenCount")).reduce(u64::saturating_add)
            };
            Usage::update(pick(&mut usage.text), of("TEXT"));
            Usage::update(pick(&mut usage.image), of("IMAGE"));
            Usage::update(pick(&mut usage.audio), of("AUDIO"));
        }
    }
}

/// What is asked of the model.
fn configured(config: &Node, facts: &mut Facts) {
    for (name, attribute) in [
        ("temperature", semconv::GEN_AI_REQUEST_TEMPERATURE),
        ("topP", semconv::GEN_AI_REQUEST_TOP_P),
        ("presencePenalty", semconv::GEN_AI_REQUEST_PRESENCE_PENALTY),
        ("frequencyPenalty", semconv::GEN_AI_REQUEST_FREQUENCY_PENALTY),
    ] {
        facts.set_float(attribute, config.float(name));
    }
    facts.set_int(semconv::GEN_AI_REQUEST_TOP_K, config.int("topK"));
    facts.set_int(semconv::GEN_AI_REQUEST_SEED, config.int("seed"));
    facts.set_int(semconv::GEN_AI_REQUEST_MAX_TOKENS, config.int("maxOutputTokens"));
    facts.set_int(semconv::GEN_AI_REQUEST_CHOICE_COUNT, config.int("candidateCount").filter(|count| *count != 1));
    facts.set_texts(semconv::GEN_AI_REQUEST_STOP_SEQUENCES, config.get("stopSequences"));
    let level = config.at(&["thinkingConfig", "thinkingLevel"]).and_then(Node::as_str);
    facts.set_text(semconv::GEN_AI_REQUEST_REASONING_LEVEL, level);
    let modalities = config.get("responseModalities").map(Node::items).unwrap_or_default();
    let is_asked =
        |wanted: &str| modalities.iter().filter_map(Node::as_str).any(|modality| modality.eq_ignore_ascii_case(wanted));
    let kind = match config.str("responseMimeType") {
        _ if is_asked("image") => Some("image"),
        _ if is_asked("audio") => Some("speech"),
        Some("application/json") => Some("json"),
        Some("text/plain") => Some("text"),
        _ if is_asked("text") => Some("text"),
        _ => None,
    };
    facts.set_text(semconv::GEN_AI_OUTPUT_TYPE, kind);
}

/// The conventions' name of a finish reason.
fn finish_reason(reason: &str, calls: bool) -> String {
    let name = match reason {
        "STOP" if calls => "tool_call",
        "STOP" => "stop",
        "MAX_TOKENS" => "length",
        "SAFETY"
        | "RECITATION"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "LANGUAGE"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION"
        | "MODEL_ARMOR" => "content_filter",
        "MALFORMED_FUNCTION_CALL"
        | "UNEXPECTED_TOOL_CALL"
        | "TOO_MANY_TOOL_CALLS"
        | "MISSING_THOUGHT_SIGNATURE"
        | "MALFORMED_RESPONSE"
        | "OTHER" => "error",
        other => return bounded(&other.to_lowercase()),
    };
    name.to_owned()
}

static CONFIG: Shape = Shape::object(&[
    ("temperature", &SCALAR),
    ("topP", &SCALAR),
    ("topK", &SCALAR),
    ("maxOutputTokens", &SCALAR),
    ("candidateCount", &SCALAR),
    ("stopSequences", &SCALARS),
    ("seed", &SCALAR),
    ("presencePenalty", &SCALAR),
    ("frequencyPenalty", &SCALAR),
    ("responseMimeType", &SCALAR),
    ("responseModalities", &SCALARS),
    ("thinkingConfig", &Shape::object(&[("thinkingLevel", &SCALAR)])),
]);
/// Functions, or a tool of Google's under its name.
static TOOL: Shape = Shape { rest: Some(&NAMED), ..Shape::object(&[("functionDeclarations", &Shape::array(&NAMED))]) };
static NAMED: Shape = Shape::object(&[("name", &SCALAR)]);
static CHUNK: Shape = Shape::object(&[
    ("responseId", &SCALAR),
    ("modelVersion", &SCALAR),
    ("candidates", &Shape::array(&CANDIDATE)),
    ("promptFeedback", &Shape::object(&[("blockReason", &SCALAR)])),
    ("usageMetadata", &USAGE),
    ("error", &Shape::object(&[("code", &SCALAR), ("status", &SCALAR), ("message", &SCALAR)])),
]);
static CANDIDATE: Shape = Shape::object(&[("index", &SCALAR), ("finishReason", &SCALAR), ("content", &CONTENT_SHAPE)]);
static USAGE: Shape = Shape::object(&[
    ("promptTokenCount", &SCALAR),
    ("toolUsePromptTokenCount", &SCALAR),
    ("candidatesTokenCount", &SCALAR),
    ("thoughtsTokenCount", &SCALAR),
    ("cachedContentTokenCount", &SCALAR),
    ("promptTokensDetails", &DETAILS),
    ("candidatesTokensDetails", &DETAILS),
    ("cacheTokensDetails", &DETAILS),
]);
static DETAILS: Shape = Shape::array(&Shape::object(&[("modality", &SCALAR), ("tokenCount", &SCALAR)]));
/// Candidates of one answer.
const MAX_CANDIDATES: usize = 64;
/// Parts that contents may bring together.
const MAX_PARTS: usize = 512;
