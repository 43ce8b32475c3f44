//! What tells one series from another, borrowed from the span that is counted: nothing is allocated to look a series up.

use std::hash::{Hash, Hasher};

use opentelemetry::{KeyValue, Value};

/// An attribute's value as far as metrics need it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Part<'a> {
    Text(&'a str),
    Int(i64),
    Float(f64),
}

impl<'a> Part<'a> {
    /// Arrays and the like tell nothing.
    pub(super) fn of(value: &'a Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Part::Text(text.as_str())),
            Value::I64(number) => Some(Part::Int(*number)),
            Value::F64(number) => Some(Part::Float(*number)),
            _ => None,
        }
    }

    pub(super) fn text(self) -> Option<&'a str> {
        if let Part::Text(text) = self { Some(text) } else { None }
    }

    /// A whole number that is not negative.
    pub(super) fn count(self) -> Option<u64> {
        if let Part::Int(number) = self { u64::try_from(number).ok() } else { None }
    }

    /// A number that a sum can take.
    pub(super) fn amount(self) -> Option<f64> {
        match self {
            Part::Float(number) => Some(number).filter(|number| number.is_finite() && *number >= 0.0),
            Part::Int(_) => self.count().map(|count| count as f64),
            Part::Text(_) => None,
        }
    }

    /// Others choose these texts, an attacker maybe: what is longer than any name is cut.
    fn bounded(self) -> Self {
        match self {
            Part::Text(text) if text.len() > MOST_BYTES => {
                let end = (0..=MOST_BYTES).rev().find(|end| text.is_char_boundary(*end));
                Part::Text(end.and_then(|end| text.get(..end)).unwrap_or_default())
            }
            other => other,
        }
    }

    fn is(self, value: &Value) -> bool {
        match (self, value) {
            (Part::Text(text), Value::String(other)) => text == other.as_str(),
            (Part::Int(number), Value::I64(other)) => number == *other,
            _ => false,
        }
    }

    fn size(self) -> usize {
        if let Part::Text(text) = self { text.len() } else { 0 }
    }
}

impl Hash for Part<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Part::Text(text) => text.hash(state),
            Part::Int(number) => number.hash(state),
            Part::Float(number) => number.to_bits().hash(state),
        }
    }
}

/// A series' attributes, in the order in which they were added.
#[derive(Clone, Copy, Debug)]
pub(super) struct Labels<'a> {
    parts: [(&'static str, Part<'a>); MOST],
    length: usize,
}

impl<'a> Labels<'a> {
    pub(super) fn of<const N: usize>(parts: [(&'static str, Option<Part<'a>>); N]) -> Self {
        let mut labels = Self { parts: [("", Part::Int(0)); MOST], length: 0 };
        parts.into_iter().for_each(|(key, part)| labels.add(key, part));
        labels
    }

    /// The same with one more.
    pub(super) fn with(mut self, key: &'static str, part: Option<Part<'a>>) -> Self {
        self.add(key, part);
        self
    }

    fn add(&mut self, key: &'static str, part: Option<Part<'a>>) {
        debug_assert!(self.length < MOST, "room for {key}");
        if let (Some(part), Some(place)) = (part, self.parts.get_mut(self.length)) {
            *place = (key, part.bounded());
            self.length += 1;
        }
    }

    /// Whether these are the attributes of a series.
    pub(super) fn are(&self, attributes: &[KeyValue]) -> bool {
        self.length == attributes.len()
            && self
                .parts()
                .iter()
                .zip(attributes)
                .all(|((key, part), attribute)| *key == attribute.key.as_str() && part.is(&attribute.value))
    }

    /// What a new series keeps.
    pub(super) fn to_attributes(self) -> Box<[KeyValue]> {
        let owned = |(key, part): &(&'static str, Part<'_>)| match part {
            Part::Text(text) => KeyValue::new(*key, (*text).to_owned()),
            Part::Int(number) => KeyValue::new(*key, *number),
            Part::Float(number) => KeyValue::new(*key, *number),
        };
        self.parts().iter().map(owned).collect()
    }

    /// The bytes of that.
    pub(super) fn size(&self) -> usize {
        self.parts().iter().map(|(_, part)| size_of::<KeyValue>() + part.size()).sum()
    }

    fn parts(&self) -> &[(&'static str, Part<'a>)] {
        self.parts.get(..self.length).unwrap_or_default()
    }
}

impl Hash for Labels<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

/// The most attributes of one series.
const MOST: usize = 12;
/// The longest text.
const MOST_BYTES: usize = 128;
