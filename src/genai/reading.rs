//! One body as it is read: decoded, cut into documents, read as JSON, told to the format.

use super::Format;
use super::encoding::Decoder;
use super::facts::Facts;
use super::frames::{Frames, Kind, Sink};
use super::item::Key;
use super::json::{Keep, Node, Reader, SCALAR, Shape};

/// A body under way.
#[derive(Debug)]
pub(crate) struct Reading {
    decoder: Option<Decoder>,
    frames: Option<Frames>,
    documents: Documents,
    /// Bytes that came.
    came: u64,
}

/// Whose body it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Request,
    Answer,
    /// An answer whose status says that the call failed.
    Failure,
}

#[derive(Debug)]
struct Documents {
    what: What,
    stream: bool,
    reader: Reader,
    /// The document under way is no JSON; how it begins.
    malformed: bool,
    begin: ([u8; 8], usize),
    /// The document under way as it came, while the format wants it so.
    text: Vec<u8>,
    /// How many could not be read.
    unread: u32,
}

/// The document under way, and who is told.
struct Told<'a> {
    documents: &'a mut Documents,
    format: &'a mut dyn Format,
    facts: &'a mut Facts,
}

impl Reading {
    /// `kind`: the `Content-Type`.
    pub(crate) fn new<'v>(
        encodings: impl Iterator<Item = &'v [u8]>,
        what: What,
        kind: Option<&str>,
        shape: &'static Shape,
        content: usize,
        key: Key,
    ) -> Self {
        let frames = match what {
            What::Request => Some(Frames::Whole),
            What::Answer => frames(kind),
            // In one piece, whatever was asked for.
            What::Failure => frames(kind).filter(|frames| matches!(frames, Frames::Whole)),
        };
        let stream = !matches!(frames, None | Some(Frames::Whole));
        let reader = Reader::new(shape, content, key);
        let documents =
            Documents { what, stream, reader, malformed: false, begin: ([0; 8], 0), text: Vec::new(), unread: 0 };
        Self { decoder: Decoder::new(encodings, MAX_DECODED), frames, documents, came: 0 }
    }

    /// Reads a piece, or says why the rest cannot be read.
    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        format: &mut dyn Format,
        facts: &mut Facts,
    ) -> Result<(), &'static str> {
        let Some(decoder) = &mut self.decoder else { return Err("unknown_encoding") };
        let Some(frames) = &mut self.frames else { return Ok(()) };
        let mut told = Told { documents: &mut self.documents, format, facts };
        let mut framed = Ok(());
        let decoded = decoder.feed(bytes, |plain| {
            if framed.is_ok() {
                framed = frames.feed(plain, &mut told);
            }
        });
        decoded.map_err(|fault| fault.as_str())?;
        framed.map_err(|fault| fault.as_str())?;
        if matches!(frames, Frames::Whole) && self.documents.reader.is_done() {
            // Nothing follows but blanks: told at once, before the last bytes go on.
            Told { documents: &mut self.documents, format, facts }.end("", Kind::Event);
        }
        self.came += bytes.len() as u64;
        if self.documents.what == What::Request && !format.reads_on(self.documents.reader.root(), self.came) {
            return Err(OTHER);
        }
        // A request or an answer that is no JSON is none from its first byte on.
        if self.documents.malformed && !self.documents.stream { Err(MALFORMED) } else { Ok(()) }
    }

    /// The body has ended in order.
    pub(crate) fn finish(&mut self, format: &mut dyn Format, facts: &mut Facts) -> Result<(), &'static str> {
        let Some(frames) = &mut self.frames else { return Ok(()) };
        let mut told = Told { documents: &mut self.documents, format, facts };
        frames.finish(&mut told).map_err(|fault| fault.as_str())?;
        if self.documents.unread > 0 { Err(MALFORMED) } else { Ok(()) }
    }

    /// The body was broken off: what is not whole is not told.
    pub(crate) fn drop_rest(&mut self) {
        self.documents.reader.reset();
    }

    /// Whether anything of it has come.
    pub(crate) fn has_begun(&self) -> bool {
        self.documents.reader.has_begun()
    }

    /// Whether the answer comes in pieces that mean something.
    pub(crate) fn is_stream(&self) -> bool {
        self.documents.stream
    }

    /// Whether it is a stream of events that is not compressed.
    pub(crate) fn is_plain_sse(&self) -> bool {
        matches!(self.frames, Some(Frames::Sse(_))) && self.decoder.as_ref().is_some_and(Decoder::is_identity)
    }

    /// Whether who loses the stream may ask for the rest of it.
    pub(crate) fn is_resumable(&self) -> bool {
        matches!(&self.frames, Some(Frames::Sse(sse)) if sse.has_ids())
    }

    /// Whether something did not fit.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.documents.reader.is_incomplete()
    }

    /// About how many bytes are held.
    pub(crate) fn held(&self) -> usize {
        self.documents.reader.held() + self.decoder.as_ref().map_or(0, Decoder::memory)
    }
}

/// How a body of this `Content-Type` is cut into documents; `None`: it is nothing that we read. One that says nothing may be JSON.
fn frames(kind: Option<&str>) -> Option<Frames> {
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or("application/json").trim().to_ascii_lowercase();
    Some(match &*kind {
        "text/event-stream" => Frames::Sse(Default::default()),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Frames::Lines(Default::default()),
        "application/vnd.amazon.eventstream" => Frames::EventStream(Default::default()),
        "application/json" | "text/json" | "text/plain" => Frames::Whole,
        other if other.ends_with("+json") => Frames::Whole,
        _ => return None,
    })
}

impl Sink for Told<'_> {
    fn data(&mut self, piece: &[u8]) {
        let Self { documents, format, facts } = self;
        let (begin, length) = &mut documents.begin;
        for (place, byte) in begin.iter_mut().skip(*length).zip(piece) {
            *place = *byte;
            *length += 1;
        }
        if format.wants_text() {
            let room = MAX_RAW.saturating_sub(documents.text.len()).min(piece.len());
            documents.text.extend_from_slice(piece.get(..room).unwrap_or_default());
        }
        if documents.malformed {
            return;
        }
        let what = documents.what;
        let read = documents.reader.feed(piece, &mut |list, item| match what {
            What::Request => format.request_item(list, item, facts),
            What::Answer => format.answer_item(list, item, facts),
            What::Failure => {}
        });
        documents.malformed = read.is_err();
    }

    fn end(&mut self, name: &str, kind: Kind) {
        let Self { documents, format, facts } = self;
        let (begin, length) = std::mem::take(&mut documents.begin);
        if !documents.reader.has_begun() && !documents.malformed {
            // An event without data, an empty body. An exception says something by its name alone.
            if kind == Kind::Exception && documents.what == What::Answer {
                format.event(name, true, Node::Null, facts);
            }
            return;
        }
        if documents.stream && begin.get(..length).is_some_and(|begin| begin.trim_ascii() == DONE) {
            facts.ended = true;
            documents.malformed = false;
            documents.text.clear();
            documents.reader.reset();
            return;
        }
        let text = std::mem::take(&mut documents.text);
        if documents.stream && format.wants_text() && format.text_event(name, &text, facts) {
            documents.reader.reset();
            documents.malformed = false;
            return;
        }
        let what = documents.what;
        let node = documents.reader.end(&mut |list, item| match what {
            What::Request => format.request_item(list, item, facts),
            What::Answer => format.answer_item(list, item, facts),
            What::Failure => {}
        });
        let malformed = std::mem::take(&mut documents.malformed);
        match node {
            Ok(node) if !malformed => match documents.what {
                What::Request => format.request(node, facts),
                What::Answer if documents.stream => format.event(name, kind == Kind::Exception, node, facts),
                What::Answer => format.answer(node, facts),
                What::Failure => format.failed(node, facts),
            },
            _ => documents.unread += 1,
        }
    }
}

/// What providers say of an error; in a stream it may stand in an array.
pub(crate) static ERROR: Shape = Shape { items: Some(&FLAT_ERROR), ..Shape::object(ERROR_FIELDS) };
static FLAT_ERROR: Shape = Shape::object(ERROR_FIELDS);
const ERROR_FIELDS: &[(&str, &Shape)] = &[
    ("error", &INNER_ERROR),
    ("type", &SCALAR),
    ("code", &SCALAR),
    ("status", &SCALAR),
    ("message", &SCALAR),
    ("Message", &SCALAR),
    ("detail", &SCALAR),
    ("__type", &SCALAR),
    ("jsonrpc", &SCALAR),
    ("id", &SCALAR),
];
static INNER_ERROR: Shape = Shape {
    text: Keep::Short,
    ..Shape::object(&[("type", &SCALAR), ("code", &SCALAR), ("status", &SCALAR), ("message", &SCALAR)])
};

/// The code and the words of an error as most providers write it: a code that is a word, else its type, else its status.
pub(crate) fn failed(body: &Node, facts: &mut Facts) {
    let body = body.items().first().unwrap_or(body);
    let error = body.get("error").unwrap_or(body);
    let is_word = |word: &&str| !word.bytes().all(|byte| byte.is_ascii_digit()) && facts.is_code(word);
    let word = |name| error.some_str(name).filter(is_word);
    let message = error.some_str("message").or_else(|| body.some_str("message")).or_else(|| error.as_str());
    match word("code").or_else(|| word("type")).or_else(|| word("status")) {
        Some(code) => facts.fail(code, message),
        None => facts.error_message(message),
    }
}

/// The request is none of the format's.
pub(crate) const OTHER: &str = "not_json";
/// Bytes of an event that is read as it is.
const MAX_RAW: usize = 2048;
const MALFORMED: &str = "malformed_json";
/// How OpenAI and others end a stream.
const DONE: &[u8] = b"[DONE]";
/// Bytes of one body once it is decoded; what comes behind is not read.
const MAX_DECODED: u64 = 32 * 1024 * 1024;
