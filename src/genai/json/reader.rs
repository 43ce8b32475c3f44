//! Reads documents piece by piece: where in the document it is, and what of it is kept. What is in strings is the business of
//! [`super::strings`].

use std::borrow::Cow;

use super::strings::{Escape, Purpose, special};
use super::{Keep, Node, Shape};
use crate::genai::item::{Key, Text};

/// Why a document was not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is no JSON.
    Malformed,
}

/// Reads one document after the other.
#[derive(Debug)]
pub(crate) struct Reader {
    root: &'static Shape,
    key: Key,
    /// How much of content is kept.
    content: usize,
    pub(super) state: State,
    pub(super) stack: Vec<Frame>,
    /// The string, key or number under way.
    pub(super) text: Vec<u8>,
    pub(super) long: Option<Box<Text>>,
    /// Bytes of a character that is not whole, and how many.
    pub(super) carry: ([u8; 4], usize),
    done: Option<Node>,
    /// About how many bytes are kept.
    pub(super) held: usize,
    /// Something did not fit.
    pub(super) incomplete: bool,
    failed: bool,
}

#[derive(Debug)]
pub(super) struct Frame {
    pub(super) shape: &'static Shape,
    /// The name of the field under way, if it is wanted.
    pub(super) name: Cow<'static, str>,
    /// What is kept of it, or of each element; `None`: it is skipped.
    pub(super) wanted: Option<&'static Shape>,
    /// What was held when the value began.
    held: usize,
    value: Node,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum State {
    /// Before a value. In an array that has just begun it may be its end.
    Value {
        first: bool,
    },
    /// Before a field's name. In an object that has just begun it may be its end.
    Name {
        first: bool,
    },
    Colon,
    /// Behind a value.
    Behind,
    /// In a string.
    Text(Purpose, Escape),
    Number,
    Literal(&'static [u8], usize),
    /// In something that is skipped: how deep, and whether in a string of it.
    Skip {
        depth: u32,
        text: bool,
        escaped: bool,
    },
    /// The document has ended.
    End,
}

impl Reader {
    /// Reads documents of this shape. `content`: how much of a content string is kept.
    pub(crate) fn new(root: &'static Shape, content: usize, key: Key) -> Self {
        Self {
            root,
            key,
            content,
            state: State::Value { first: false },
            stack: Vec::new(),
            text: Vec::new(),
            long: None,
            carry: ([0; 4], 0),
            done: None,
            held: 0,
            incomplete: false,
            failed: false,
        }
    }

    /// Reads a piece. `each` takes the elements of arrays that are handed out.
    pub(crate) fn feed(&mut self, bytes: &[u8], each: &mut dyn FnMut(&'static str, Node)) -> Result<(), Fault> {
        if self.failed {
            return Err(Fault::Malformed);
        }
        let mut rest = bytes;
        while let Some((&byte, behind)) = rest.split_first() {
            let step = match self.state {
                State::Text(purpose, escape) => Some(self.in_text(rest, purpose, escape, each)),
                State::Skip { depth, text, escaped } => Some(self.in_skip(rest, (depth, text, escaped))),
                State::Number => {
                    if matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E') {
                        if self.text.len() < MAX_NUMBER {
                            self.text.push(byte);
                        }
                        Some(behind)
                    } else {
                        let number = number(&self.text);
                        self.value(number, each);
                        Some(rest)
                    }
                }
                State::Literal(word, at) if word.get(at) == Some(&byte) => {
                    if at + 1 == word.len() {
                        self.value(literal(word), each);
                    } else {
                        self.state = State::Literal(word, at + 1);
                    }
                    Some(behind)
                }
                State::Literal(..) => None,
                _ if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') => Some(behind),
                State::Value { first } => self.begin(byte, first, each).then_some(behind),
                State::Name { first } => match byte {
                    b'"' => {
                        self.text.clear();
                        self.state = State::Text(Purpose::Name, Escape::No);
                        Some(behind)
                    }
                    b'}' if first => {
                        self.close(each);
                        Some(behind)
                    }
                    _ => None,
                },
                State::Colon => {
                    self.state = State::Value { first: false };
                    (byte == b':').then_some(behind)
                }
                State::Behind => self.behind(byte, each).then_some(behind),
                State::End => None,
            };
            let Some(next) = step else {
                self.fail();
                return Err(Fault::Malformed);
            };
            rest = next;
        }
        Ok(())
    }

    /// The document has ended: what was kept of it. The next one may begin.
    pub(crate) fn end(&mut self, each: &mut dyn FnMut(&'static str, Node)) -> Result<Node, Fault> {
        if self.state == State::Number && self.stack.is_empty() {
            let number = number(&self.text);
            self.value(number, each);
        }
        let done = self.done.take().filter(|_| self.state == State::End);
        self.reset();
        done.ok_or(Fault::Malformed)
    }

    /// Whether the document has ended.
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::End
    }

    /// Whether anything has come that is not blank.
    pub(crate) fn has_begun(&self) -> bool {
        self.failed || self.state != State::Value { first: false } || !self.stack.is_empty()
    }

    /// The document as far as it was read: its outermost array or object, or the value that it is.
    pub(crate) fn root(&self) -> Option<&Node> {
        self.stack.first().map(|frame| &frame.value).or(self.done.as_ref())
    }

    /// About how many bytes are held.
    pub(crate) fn held(&self) -> usize {
        self.held + self.text.capacity() + self.long.as_ref().map_or(0, |text| text.held())
    }

    /// Whether something of the documents so far did not fit.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.incomplete
    }

    /// The next document begins.
    pub(crate) fn reset(&mut self) {
        self.state = State::Value { first: false };
        self.stack.clear();
        self.text.clear();
        (self.long, self.done, self.held, self.failed) = (None, None, 0, false);
        self.carry.1 = 0;
    }

    fn fail(&mut self) {
        self.reset();
        self.failed = true;
    }

    /// The shape of the value that begins; `None`: it is skipped.
    pub(super) fn shape(&self) -> Option<&'static Shape> {
        self.stack.last().map_or(Some(self.root), |frame| frame.wanted)
    }

    /// The first byte of a value.
    fn begin(&mut self, byte: u8, first: bool, each: &mut dyn FnMut(&'static str, Node)) -> bool {
        if byte == b']' && first {
            self.close(each);
            return true;
        }
        // What would not fit is skipped.
        let shape = self.shape().filter(|_| {
            let fits = self.held < MAX_HELD;
            self.incomplete |= !fits;
            fits
        });
        self.state = match (byte, shape) {
            (b'"', None) => State::Text(Purpose::Skip, Escape::No),
            (b'"', Some(shape)) => self.begin_text(shape.text),
            (b'{' | b'[', None) => State::Skip { depth: 1, text: false, escaped: false },
            (b'{', Some(shape)) => self.open(shape, !shape.fields.is_empty() || shape.rest.is_some(), false),
            (b'[', Some(shape)) => self.open(shape, shape.items.is_some(), true),
            (b't', _) => State::Literal(b"true", 1),
            (b'f', _) => State::Literal(b"false", 1),
            (b'n', _) => State::Literal(b"null", 1),
            (b'-' | b'0'..=b'9', _) => {
                self.text.clear();
                self.text.push(byte);
                State::Number
            }
            _ => return false,
        };
        true
    }

    fn begin_text(&mut self, keep: Keep) -> State {
        let purpose = match keep {
            Keep::Skip => Purpose::Skip,
            Keep::Short => Purpose::Short,
            Keep::Content | Keep::Whole => {
                let limit = if keep == Keep::Whole { MAX_WHOLE } else { self.content };
                self.long = Some(Box::new(Text::new(limit, &self.key)));
                Purpose::Long
            }
        };
        self.text.clear();
        self.carry.1 = 0;
        State::Text(purpose, Escape::No)
    }

    fn open(&mut self, shape: &'static Shape, wanted: bool, array: bool) -> State {
        if !wanted || self.stack.len() >= MAX_DEPTH {
            self.incomplete |= wanted;
            return State::Skip { depth: 1, text: false, escaped: false };
        }
        let value = if array { Node::Array(Vec::new()) } else { Node::Object(Vec::new()) };
        let wanted = shape.items.filter(|_| array);
        self.stack.push(Frame { shape, name: Cow::default(), wanted, held: self.held, value });
        self.held += size_of::<Frame>();
        if array { State::Value { first: true } } else { State::Name { first: true } }
    }

    /// A byte between values.
    fn behind(&mut self, byte: u8, each: &mut dyn FnMut(&'static str, Node)) -> bool {
        let array = matches!(self.stack.last(), Some(Frame { value: Node::Array(_), .. }));
        match byte {
            b',' if array => self.state = State::Value { first: false },
            b',' => self.state = State::Name { first: false },
            b']' if array => self.close(each),
            b'}' if !array => self.close(each),
            _ => return false,
        }
        true
    }

    /// The innermost array or object has ended.
    fn close(&mut self, each: &mut dyn FnMut(&'static str, Node)) {
        if let Some(frame) = self.stack.pop() {
            self.value(frame.value, each);
        }
    }

    /// A value has ended.
    pub(super) fn value(&mut self, value: Node, each: &mut dyn FnMut(&'static str, Node)) {
        let skipped = self.shape().is_none();
        let Some(frame) = self.stack.last_mut() else {
            self.done = Some(value);
            self.state = State::End;
            return;
        };
        self.state = State::Behind;
        if skipped {
            return;
        }
        match &mut frame.value {
            Node::Array(_) if frame.shape.each.is_some() => {
                // Handed out: nothing of it is held any more.
                self.held = frame.held + size_of::<Frame>();
                each(frame.shape.each.unwrap_or_default(), value);
            }
            Node::Array(items) if items.len() < MAX_ITEMS => {
                self.held += size_of::<Node>();
                items.push(value);
            }
            Node::Object(fields) => {
                let name = std::mem::take(&mut frame.name);
                let room = fields.len() < MAX_FIELDS;
                match fields.iter_mut().find(|(found, _)| *found == name) {
                    Some((_, earlier)) => *earlier = value,
                    None if room => {
                        self.held += size_of::<(Cow<'static, str>, Node)>() + name.len();
                        fields.push((name, value));
                    }
                    None => self.incomplete = true,
                }
            }
            _ => self.incomplete = true,
        }
    }

    /// Something that is skipped.
    fn in_skip<'b>(&mut self, bytes: &'b [u8], (mut depth, mut text, mut escaped): (u32, bool, bool)) -> &'b [u8] {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if escaped {
                (escaped, at) = (false, at + 1);
            } else if text {
                let Some(found) = special(rest) else { break };
                if rest.get(found) == Some(&b'\\') {
                    escaped = true
                } else {
                    text = false
                }
                at += found + 1;
            } else {
                let Some(found) = rest.iter().position(|byte| matches!(byte, b'"' | b'{' | b'}' | b'[' | b']')) else {
                    break;
                };
                at += found + 1;
                match rest.get(found) {
                    Some(b'"') => text = true,
                    Some(b'{' | b'[') => depth = depth.saturating_add(1),
                    _ => depth -= 1,
                }
                if depth == 0 {
                    // Nothing is kept: as if it had never been there.
                    self.state = if self.stack.is_empty() { State::End } else { State::Behind };
                    if self.stack.is_empty() {
                        self.done = Some(Node::Null);
                    }
                    return bytes.get(at..).unwrap_or_default();
                }
            }
        }
        self.state = State::Skip { depth, text, escaped };
        &[]
    }
}

/// A field's name, and what is kept of its value. Protocol buffers take `max_tokens` for `maxTokens`: it is one name, where
/// that one is wanted.
pub(super) fn field(shape: &Shape, found: &[u8]) -> (Cow<'static, str>, Option<&'static Shape>) {
    let known = |found: &[u8]| {
        let field = shape.fields.iter().find(|(name, _)| name.as_bytes() == found);
        field.map(|(name, shape)| (Cow::Borrowed(*name), Some(*shape)))
    };
    let may_be_camel = || !shape.fields.is_empty() && found.contains(&b'_');
    let field = known(found).or_else(|| known(&may_be_camel().then(|| camel(found))?));
    field.unwrap_or_else(|| match shape.rest {
        Some(rest) => (String::from_utf8_lossy(found).into_owned().into(), Some(rest)),
        None => Default::default(),
    })
}

fn camel(found: &[u8]) -> Vec<u8> {
    let mut words = found.split(|byte| *byte == b'_');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        camel.extend(word.first().map(u8::to_ascii_uppercase));
        camel.extend_from_slice(word.get(1..).unwrap_or_default());
    }
    camel
}

fn number(text: &[u8]) -> Node {
    let text = std::str::from_utf8(text).unwrap_or_default();
    if let Ok(number) = text.parse::<i64>() {
        return Node::Int(number);
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && text.len() < MAX_NUMBER => Node::Float(number),
        _ => Node::Null,
    }
}

fn literal(word: &[u8]) -> Node {
    match word {
        b"true" => Node::Bool(true),
        b"false" => Node::Bool(false),
        _ => Node::Null,
    }
}

/// Arrays and objects inside each other; what is deeper is skipped.
const MAX_DEPTH: usize = 64;
/// Bytes kept of one document; what comes then is skipped.
pub(super) const MAX_HELD: usize = 512 * 1024;
/// Elements kept of one array.
const MAX_ITEMS: usize = 4096;
/// Fields kept of one object.
pub(super) const MAX_FIELDS: usize = 256;
/// Bytes of a string that is to be read again.
const MAX_WHOLE: usize = 64 * 1024;
const MAX_NUMBER: usize = 64;
