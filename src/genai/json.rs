//! JSON as it comes, in pieces of any size: what a [`Shape`] names is kept, the rest is skipped without being held.
//!
//! A document of any length costs the memory of what is kept, which is bounded. The reader is lenient where that harms nobody
//! (what is skipped is only counted bracket by bracket), and gives up where it cannot know what follows.
//!
//! Source: RFC 8259. Of duplicate names the last counts (section 4 leaves it open; so do the SDKs).

mod canonical;
mod reader;
mod strings;

pub(crate) use canonical::{arguments, digest_of, quoted_arguments, read};
pub(crate) use reader::Reader;

use std::borrow::Cow;

use super::item::Text;

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
    Object(Vec<(Cow<'static, str>, Node)>),
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
    pub(crate) fn fields(&self) -> &[(Cow<'static, str>, Node)] {
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

#[cfg(test)]
mod tests;
