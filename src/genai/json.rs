//! JSON as it comes, in pieces of any size: what a [`Shape`] names is kept, the rest is skipped without being held.
//!
//! A document of any length costs the memory of what is kept, which is bounded. The reader is lenient where that harms nobody
//! (what is skipped is only counted bracket by bracket), and gives up where it cannot know what follows.
//!
//! Source: RFC 8259. Of duplicate names the last counts (section 4 leaves it open; so do the SDKs).

use memchr::memchr2;

use super::item::{Arguments, Key, Sum, Text};
use crate::call::Digest;

/// What is kept of a value, by what it turns out to be.
#[derive(Debug)]
pub(crate) struct Shape {
    /// Strings; numbers, booleans and null are kept wherever the value is not skipped.
    pub(crate) text: Keep,
    /// The elements of an array; `None`: arrays are skipped.
    pub(crate) items: Option<&'static Shape>,
    /// Elements are handed out one by one under this name, and not kept.
    pub(crate) each: Option<&'static str>,
    /// The fields of an object.
    pub(crate) fields: &'static [(&'static str, &'static Shape)],
    /// All other fields; `None`: they are skipped.
    pub(crate) rest: Option<&'static Shape>,
}

/// How much of a string is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Nothing.
    Skip,
    /// A name, an id: as much as an attribute may be long.
    Short,
    /// What a person, a model or a tool said: hashed whole, kept as far as content is captured.
    Content,
    /// The same, kept as far as it is to be read again.
    Whole,
}

impl Shape {
    /// Keeps numbers, booleans and null only.
    pub(crate) const fn number() -> Self {
        Self { text: Keep::Skip, items: None, each: None, fields: &[], rest: None }
    }

    /// Strings.
    pub(crate) const fn text(text: Keep) -> Self {
        Self { text, ..Self::number() }
    }

    /// An object with these fields.
    pub(crate) const fn object(fields: &'static [(&'static str, &'static Shape)]) -> Self {
        Self { fields, ..Self::number() }
    }

    /// An array.
    pub(crate) const fn array(items: &'static Shape) -> Self {
        Self { items: Some(items), ..Self::number() }
    }

    /// An array whose elements are handed out one by one.
    pub(crate) const fn each(name: &'static str, items: &'static Shape) -> Self {
        Self { items: Some(items), each: Some(name), ..Self::number() }
    }

    /// A string, or an array of the same elements.
    pub(crate) const fn text_or(text: Keep, items: &'static Shape) -> Self {
        Self { text, ..Self::array(items) }
    }
}

/// A name, an id, a number, a flag.
pub(crate) static SCALAR: Shape = Shape::text(Keep::Short);
/// Content.
pub(crate) static CONTENT: Shape = Shape::text(Keep::Content);
/// JSON inside a string, to be read again.
pub(crate) static WHOLE: Shape = Shape::text(Keep::Whole);
/// A list of names.
pub(crate) static SCALARS: Shape = Shape::array(&SCALAR);
/// Anything, whole: the arguments of a tool.
pub(crate) static ANY: Shape =
    Shape { text: Keep::Content, items: Some(&ANY), each: None, fields: &[], rest: Some(&ANY) };

/// What was kept of a value.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A number that fits.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A short string.
    Short(Box<str>),
    /// A string that was hashed.
    Text(Box<Text>),
    /// An array.
    Array(Vec<Node>),
    /// An object; each name appears once.
    Object(Vec<(Box<str>, Node)>),
}

impl Node {
    /// The value of a field.
    pub(crate) fn get(&self, name: &str) -> Option<&Node> {
        match self {
            Node::Object(fields) => fields.iter().find(|(found, _)| &**found == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The same at the end of a path.
    pub(crate) fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, name| node.get(name))
    }

    /// A field, taken out.
    pub(crate) fn take(&mut self, name: &str) -> Option<Node> {
        match self {
            Node::Object(fields) => {
                let at = fields.iter().position(|(found, _)| &**found == name)?;
                Some(fields.swap_remove(at).1)
            }
            _ => None,
        }
    }

    /// A field that is a string.
    pub(crate) fn str(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    /// The same, if it says something.
    pub(crate) fn some_str(&self, name: &str) -> Option<&str> {
        self.str(name).filter(|text| !text.is_empty())
    }

    /// A field that is a number without a fraction that matters.
    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        self.get(name)?.as_int()
    }

    /// A field that counts something.
    pub(crate) fn count(&self, name: &str) -> Option<u64> {
        self.int(name).and_then(|count| u64::try_from(count).ok())
    }

    /// A field that is a number.
    pub(crate) fn float(&self, name: &str) -> Option<f64> {
        match self.get(name)? {
            Node::Int(number) => Some(*number as f64),
            Node::Float(number) => Some(*number),
            _ => None,
        }
    }

    /// A field that is true.
    pub(crate) fn is_true(&self, name: &str) -> bool {
        matches!(self.get(name), Some(Node::Bool(true)))
    }

    /// A string's text, as far as it was kept.
    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Node::Short(text) => Some(text),
            Node::Text(text) => Some(text.kept()),
            _ => None,
        }
    }

    /// A number without a fraction that matters.
    pub(crate) fn as_int(&self) -> Option<i64> {
        match self {
            Node::Int(number) => Some(*number),
            Node::Float(number) if number.abs() < 9e15 => Some(number.round() as i64),
            _ => None,
        }
    }

    /// The elements of an array.
    pub(crate) fn items(&self) -> &[Node] {
        match self {
            Node::Array(items) => items,
            _ => &[],
        }
    }

    /// The fields of an object.
    pub(crate) fn fields(&self) -> &[(Box<str>, Node)] {
        match self {
            Node::Object(fields) => fields,
            _ => &[],
        }
    }

    /// Whether it is `null`.
    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Node::Null)
    }
}

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
    state: State,
    stack: Vec<Frame>,
    /// The string, key or number under way.
    text: Vec<u8>,
    long: Option<Box<Text>>,
    /// Bytes of a character that is not whole, and how many.
    carry: ([u8; 4], usize),
    done: Option<Node>,
    /// About how many bytes are kept.
    held: usize,
    /// Something did not fit.
    incomplete: bool,
    failed: bool,
}

#[derive(Debug)]
struct Frame {
    shape: &'static Shape,
    /// The name of the field under way.
    name: Box<str>,
    /// What was held when the value began.
    held: usize,
    value: Node,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
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

#[derive(Clone, Copy, Debug, PartialEq)]
enum Purpose {
    Name,
    Short,
    Long,
    Skip,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Escape {
    No,
    /// Behind a backslash.
    Begun,
    /// In the digits of `\u`: the number so far, how many digits, and the half of a pair that came before.
    Unicode(u16, u8, Option<u16>),
    /// The half of a pair wants its other half: nothing, or a backslash, has come.
    Half(u16, bool),
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
    fn shape(&self) -> Option<&'static Shape> {
        let Some(frame) = self.stack.last() else { return Some(self.root) };
        match &frame.value {
            Node::Array(_) => frame.shape.items,
            _ => {
                let named = frame.shape.fields.iter().find(|(name, _)| **name == *frame.name).map(|(_, shape)| *shape);
                named.or(frame.shape.rest)
            }
        }
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
        self.stack.push(Frame { shape, name: Box::default(), held: self.held, value });
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
    fn value(&mut self, value: Node, each: &mut dyn FnMut(&'static str, Node)) {
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
                        self.held += size_of::<(Box<str>, Node)>() + name.len();
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

    /// A string.
    fn in_text<'b>(
        &mut self,
        bytes: &'b [u8],
        purpose: Purpose,
        escape: Escape,
        each: &mut dyn FnMut(&'static str, Node),
    ) -> &'b [u8] {
        match escape {
            Escape::No => {
                let mut bytes = bytes;
                loop {
                    let Some(found) = special(bytes) else {
                        self.keep(bytes, purpose);
                        return &[];
                    };
                    let (piece, rest) = bytes.split_at_checked(found).unwrap_or((bytes, &[]));
                    self.keep(piece, purpose);
                    match rest {
                        // The common case, quickly: an escape of one letter is there as a whole.
                        [b'\\', letter, rest @ ..] if *letter != b'u' => {
                            self.keep(unescaped(*letter), purpose);
                            bytes = rest;
                        }
                        [b'\\', b'u', a, b, c, d, rest @ ..] if character([*a, *b, *c, *d]).is_some() => {
                            self.keep_char(character([*a, *b, *c, *d]), purpose);
                            bytes = rest;
                        }
                        [b'\\', rest @ ..] => {
                            self.state = State::Text(purpose, Escape::Begun);
                            return rest;
                        }
                        _ => {
                            self.end_text(purpose, each);
                            return rest.get(1..).unwrap_or_default();
                        }
                    }
                }
            }
            _ => {
                let Some((&byte, rest)) = bytes.split_first() else { return &[] };
                let next = self.escaped(byte, purpose, escape);
                self.state = State::Text(purpose, next.unwrap_or(Escape::No));
                // The half of a pair that stayed alone: this byte belongs to what follows.
                if next.is_none() { bytes } else { rest }
            }
        }
    }

    /// One byte of an escape sequence. `None`: the byte does not belong to it.
    fn escaped(&mut self, byte: u8, purpose: Purpose, escape: Escape) -> Option<Escape> {
        Some(match escape {
            Escape::No => Escape::No,
            Escape::Begun if byte == b'u' => Escape::Unicode(0, 0, None),
            Escape::Begun => {
                self.keep(unescaped(byte), purpose);
                Escape::No
            }
            Escape::Unicode(number, digits, half) => {
                let Some(digit) = char::from(byte).to_digit(16) else {
                    self.keep(REPLACEMENT, purpose);
                    return None;
                };
                let number = number << 4 | u16::try_from(digit).unwrap_or_default();
                if digits < 3 {
                    return Some(Escape::Unicode(number, digits + 1, half));
                }
                match (half, number) {
                    (None, 0xd800..=0xdbff) => return Some(Escape::Half(number, false)),
                    (Some(high), 0xdc00..=0xdfff) => {
                        let code = 0x10000 + (u32::from(high - 0xd800) << 10) + u32::from(number - 0xdc00);
                        self.keep_char(char::from_u32(code), purpose);
                    }
                    (Some(_), 0xd800..=0xdbff) => {
                        self.keep(REPLACEMENT, purpose);
                        return Some(Escape::Half(number, false));
                    }
                    (half, _) => {
                        if half.is_some() {
                            self.keep(REPLACEMENT, purpose);
                        }
                        self.keep_char(char::from_u32(number.into()), purpose);
                    }
                }
                Escape::No
            }
            Escape::Half(high, false) if byte == b'\\' => Escape::Half(high, true),
            Escape::Half(high, true) if byte == b'u' => Escape::Unicode(0, 0, Some(high)),
            Escape::Half(_, backslash) => {
                self.keep(REPLACEMENT, purpose);
                if backslash {
                    return self.escaped(byte, purpose, Escape::Begun);
                }
                return None;
            }
        })
    }

    fn keep_char(&mut self, found: Option<char>, purpose: Purpose) {
        let mut buffer = [0; 4];
        match found {
            Some(found) => self.keep(found.encode_utf8(&mut buffer).as_bytes(), purpose),
            None => self.keep(REPLACEMENT, purpose),
        }
    }

    fn keep(&mut self, piece: &[u8], purpose: Purpose) {
        match purpose {
            Purpose::Skip => {}
            Purpose::Name | Purpose::Short => {
                let room = MAX_SHORT.saturating_sub(self.text.len()).min(piece.len());
                self.incomplete |= room < piece.len() && purpose == Purpose::Short;
                self.text.extend_from_slice(piece.get(..room).unwrap_or_default());
            }
            Purpose::Long => {
                // Escapes cut a text into small pieces, and to hash or to check each costs more than to copy it.
                if self.text.len() + piece.len() > GATHERED {
                    self.push_gathered();
                }
                if piece.len() > GATHERED {
                    self.push(piece);
                } else {
                    self.text.extend_from_slice(piece);
                }
            }
        }
    }

    fn push_gathered(&mut self) {
        let mut gathered = std::mem::take(&mut self.text);
        self.push(&gathered);
        gathered.clear();
        self.text = gathered;
    }

    fn push(&mut self, piece: &[u8]) {
        if let Some(text) = &mut self.long {
            push_lossy(text, piece, &mut self.carry);
        }
    }

    fn end_text(&mut self, purpose: Purpose, each: &mut dyn FnMut(&'static str, Node)) {
        match purpose {
            Purpose::Name => {
                if let Some(frame) = self.stack.last_mut() {
                    frame.name = name(frame.shape, &self.text);
                }
                self.state = State::Colon;
            }
            Purpose::Short => {
                self.held += self.text.len();
                let text = String::from_utf8_lossy(&self.text).into();
                self.value(Node::Short(text), each);
            }
            Purpose::Long => {
                self.push_gathered();
                let mut text = self.long.take();
                if let Some(text) = text.as_mut().filter(|_| self.carry.1 > 0) {
                    text.push("\u{fffd}");
                }
                self.carry.1 = 0;
                if let Some(text) = text {
                    self.held += size_of::<Text>() + text.kept().len();
                    self.value(Node::Text(text), each);
                }
            }
            Purpose::Skip => {
                if self.shape().is_some() {
                    self.value(Node::Null, each);
                } else {
                    self.state = State::Behind;
                }
            }
        }
    }
}

/// Where the first quote or backslash is. Most are near, where a search that is made for long texts is slow to begin.
fn special(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & (ONES << 7);
    let (words, _) = bytes.as_chunks::<8>();
    let near = words.get(..words.len().min(NEAR)).unwrap_or_default();
    for (index, word) in near.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // Each byte that is one of them has its highest bit set; above the first one others may have, too.
        let found = zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\')));
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let behind = near.len() * 8;
    memchr2(b'"', b'\\', bytes.get(behind..).unwrap_or_default()).map(|found| behind + found)
}

/// What four digits behind `\u` stand for; `None` for half of a pair, and for what is no number.
fn character(digits: [u8; 4]) -> Option<char> {
    let digits = digits.into_iter().map(|digit| char::from(digit).to_digit(16));
    char::from_u32(digits.into_iter().try_fold(0, |number, digit| Some(number << 4 | digit?))?)
}

/// What a letter behind a backslash stands for.
fn unescaped(letter: u8) -> &'static [u8] {
    match letter {
        b'n' => b"\n",
        b't' => b"\t",
        b'r' => b"\r",
        b'b' => b"\x08",
        b'f' => b"\x0c",
        b'"' => b"\"",
        b'/' => b"/",
        b'\\' => b"\\",
        _ => REPLACEMENT,
    }
}

/// Adds bytes as text; a character may be cut between two pieces.
fn push_lossy(text: &mut Text, mut piece: &[u8], carry: &mut ([u8; 4], usize)) {
    while carry.1 > 0 {
        let Some((&byte, rest)) = piece.split_first() else { return };
        let (buffer, length) = carry;
        if let Some(place) = buffer.get_mut(*length) {
            *place = byte;
        }
        let whole = buffer.get(..*length + 1).unwrap_or_default();
        match std::str::from_utf8(whole) {
            Ok(character) => {
                text.push(character);
                carry.1 = 0;
                piece = rest;
            }
            Err(error) if error.error_len().is_none() && *length < 3 => {
                *length += 1;
                piece = rest;
            }
            Err(_) => {
                // What came before was no character; this byte may begin one.
                text.push("\u{fffd}");
                carry.1 = 0;
            }
        }
    }
    // The common case, quickly.
    if let Ok(whole) = std::str::from_utf8(piece) {
        return text.push(whole);
    }
    let mut chunks = piece.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        text.push(chunk.valid());
        let invalid = chunk.invalid();
        if invalid.is_empty() {
            continue;
        }
        let cut = chunks.peek().is_none() && std::str::from_utf8(invalid).is_err_and(|e| e.error_len().is_none());
        match carry.0.get_mut(..invalid.len()).filter(|_| cut) {
            Some(buffer) => {
                buffer.copy_from_slice(invalid);
                carry.1 = invalid.len();
            }
            None => text.push("\u{fffd}"),
        }
    }
}

/// A field's name. Protocol buffers take `max_tokens` for `maxTokens`: it is one name, where that one is wanted.
fn name(shape: &Shape, found: &[u8]) -> Box<str> {
    let found = String::from_utf8_lossy(found);
    let is_known = |name: &str| shape.fields.iter().any(|(known, _)| *known == name);
    if shape.fields.is_empty() || !found.contains('_') || is_known(&found) {
        return found.into();
    }
    let mut words = found.split('_');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        camel.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    if is_known(&camel) { camel.into() } else { found.into() }
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

const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();
/// Arrays and objects inside each other; what is deeper is skipped.
const MAX_DEPTH: usize = 64;
/// Bytes kept of one document; what comes then is skipped.
const MAX_HELD: usize = 512 * 1024;
/// Elements kept of one array.
const MAX_ITEMS: usize = 4096;
/// Fields kept of one object.
const MAX_FIELDS: usize = 256;
/// Bytes of a name or an id.
const MAX_SHORT: usize = 1024;
/// Bytes of a string that is to be read again.
const MAX_WHOLE: usize = 64 * 1024;
const MAX_NUMBER: usize = 64;
/// Bytes of a long string that are gathered before they are looked at.
const GATHERED: usize = 4096;
/// Words of eight bytes.
const NEAR: usize = 8;

/// A document that is there as a whole: JSON inside of JSON. `None` if it is none.
pub(crate) fn read(bytes: &[u8], shape: &'static Shape, content: usize, key: Key) -> Option<Node> {
    let mut reader = Reader::new(shape, content, key);
    reader.feed(bytes, &mut |_, _| {}).ok()?;
    reader.end(&mut |_, _| {}).ok()
}

/// The arguments of a tool, from a string that is JSON.
pub(crate) fn quoted_arguments(json: Text, key: &Key) -> Arguments {
    let digest = digest_of(&json, key);
    Arguments { json, digest }
}

/// The canonical digest of a text that is JSON.
pub(crate) fn digest_of(json: &Text, key: &Key) -> Option<Digest> {
    if json.is_truncated() {
        return None;
    }
    // No arguments at all are an empty object.
    let text = if json.is_empty() { "{}" } else { json.kept() };
    let mut reader = Reader::new(&ANY, 0, *key);
    reader.feed(text.as_bytes(), &mut |_, _| {}).ok()?;
    let node = reader.end(&mut |_, _| {}).ok()?;
    (!reader.is_incomplete()).then(|| node.digest(key)).flatten()
}

/// The arguments of a tool, from JSON.
pub(crate) fn arguments(node: &Node, limit: usize, key: &Key) -> Arguments {
    let mut json = Text::new(limit, key);
    node.write(&mut json);
    Arguments { json, digest: node.digest(key) }
}

impl Node {
    /// The same for the same value, however it was written: names in order, numbers by value.
    pub(crate) fn digest(&self, key: &Key) -> Option<Digest> {
        let mut sum = Sum::new(key);
        self.add_to(&mut sum, key)?;
        Some(sum.finish())
    }

    fn add_to(&self, sum: &mut Sum, key: &Key) -> Option<()> {
        match self {
            Node::Null => sum.text("null"),
            Node::Bool(value) => sum.text(if *value { "true" } else { "false" }),
            Node::Int(number) => sum.text(&format!("n{number}")),
            Node::Float(number) if number.fract() == 0.0 && number.abs() < 9e15 => {
                sum.text(&format!("n{}", *number as i64))
            }
            Node::Float(number) => sum.text(&format!("n{number}")),
            Node::Short(text) => {
                sum.text("s");
                sum.digest(Text::of(text, 0, key).digest()?);
            }
            Node::Text(text) => {
                sum.text("s");
                sum.digest(text.digest()?);
            }
            Node::Array(items) => {
                sum.text(&format!("[{}", items.len()));
                items.iter().try_for_each(|item| item.add_to(sum, key))?;
            }
            Node::Object(fields) => {
                let mut fields: Vec<_> = fields.iter().collect();
                fields.sort_by(|(one, _), (other, _)| one.cmp(other));
                sum.text(&format!("{{{}", fields.len()));
                for (name, value) in fields {
                    sum.text(name);
                    value.add_to(sum, key)?;
                }
            }
        }
        Some(())
    }

    /// As JSON again, as far as it was kept.
    pub(crate) fn write(&self, out: &mut Text) {
        match self {
            Node::Null => out.push("null"),
            Node::Bool(value) => out.push(if *value { "true" } else { "false" }),
            Node::Int(number) => out.push(&number.to_string()),
            Node::Float(number) => out.push(&number.to_string()),
            Node::Short(text) => write_string(text, out),
            Node::Text(text) => {
                write_string(text.kept(), out);
                if text.is_truncated() {
                    out.lost();
                }
            }
            Node::Array(items) => {
                out.push("[");
                for (index, item) in items.iter().enumerate() {
                    out.push(if index == 0 { "" } else { "," });
                    item.write(out);
                }
                out.push("]");
            }
            Node::Object(fields) => {
                out.push("{");
                for (index, (name, value)) in fields.iter().enumerate() {
                    out.push(if index == 0 { "" } else { "," });
                    write_string(name, out);
                    out.push(":");
                    value.write(out);
                }
                out.push("}");
            }
        }
    }
}

/// A JSON string.
fn write_string(text: &str, out: &mut Text) {
    out.push("\"");
    for piece in text.split_inclusive(|c: char| matches!(c, '"' | '\\') || c < ' ') {
        let last = piece.chars().next_back().filter(|c| matches!(c, '"' | '\\') || *c < ' ');
        let Some(last) = last else {
            out.push(piece);
            continue;
        };
        out.push(piece.strip_suffix(last).unwrap_or_default());
        match last {
            '"' => out.push("\\\""),
            '\\' => out.push("\\\\"),
            '\n' => out.push("\\n"),
            '\r' => out.push("\\r"),
            '\t' => out.push("\\t"),
            other => out.push(&format!("\\u{:04x}", u32::from(other))),
        }
    }
    out.push("\"");
}

#[cfg(test)]
mod tests;
