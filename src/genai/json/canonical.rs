//! Values as they stand for themselves: the same digest for the same value however it was written, and JSON text again.

use super::{ANY, Node, Reader, Shape};
use crate::call::Digest;
use crate::genai::item::{Arguments, Key, Sum, Text};

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
