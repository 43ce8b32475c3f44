//! YAML text -> a tree of values that know their line. Bounded; anchors, aliases, tags and second documents are refused, so
//! that a small file stays small.

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

/// One value and where it begins.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// What it means is the reader's choice: a port may be quoted or not.
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Debug)]
pub(super) struct Key {
    pub(super) line: usize,
    pub(super) name: String,
}

/// Reads the one document; `None` if there is none. The first thing that is not YAML, or not of ours, is the problem.
pub(super) fn read(text: &str) -> Result<Option<Node>, String> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let (line, column) = (error.marker().line(), error.marker().col() + 1);
            format!("line {line}, column {column}: not YAML: {}{}", error.info(), hint(text, line))
        })?;
        builder
            .take(event, span)
            .map_err(|problem| format!("line {}, column {}: {problem}", span.start.line(), span.start.col() + 1))?;
    }
    Ok(builder.root)
}

/// A pattern such as `*.example.com` without quotes is an alias to YAML: the most likely mistake in such a file.
fn hint(text: &str, line: usize) -> &'static str {
    let starred = |line: &str| [": *", "- *", "[*", ", *"].iter().any(|start| line.contains(start));
    // The error may be noticed on the line behind.
    let near = text.lines().skip(line.saturating_sub(2)).take(2);
    if near.into_iter().any(starred) { "; quote what begins with a star, as in \"*.example.com\"" } else { "" }
}

#[derive(Default)]
struct Builder {
    root: Option<Node>,
    documents: usize,
    values: usize,
    open: Vec<Open>,
}

/// A list or a mapping whose end has not come.
enum Open {
    List { line: usize, items: Vec<Node> },
    Map { line: usize, entries: Vec<(Key, Node)>, key: Option<Key> },
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), String> {
        let line = span.start.line();
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err("a second document is not accepted".into());
                }
            }
            Event::Alias(_) => return Err(NO_ANCHORS.into()),
            Event::Scalar(_, _, anchor, _) | Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _)
                if anchor != 0 =>
            {
                return Err(NO_ANCHORS.into());
            }
            Event::Scalar(_, _, _, Some(tag))
            | Event::SequenceStart(_, Some(tag))
            | Event::MappingStart(_, Some(tag)) => {
                return Err(format!("the tag {:?} is not accepted", tag.to_string()));
            }
            Event::Scalar(text, style, _, None) => {
                let null = style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if null { Value::Null } else { Value::Text(text.into_owned()) };
                self.complete(Node { line, value })?;
            }
            Event::SequenceStart(..) => self.begin(Open::List { line, items: Vec::new() })?,
            Event::MappingStart(..) => self.begin(Open::Map { line, entries: Vec::new(), key: None })?,
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List { line, items }) => self.complete(Node { line, value: Value::List(items) })?,
                Some(Open::Map { line, entries, .. }) => self.complete(Node { line, value: Value::Map(entries) })?,
                None => {}
            },
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn begin(&mut self, open: Open) -> Result<(), String> {
        if let Some(Open::Map { key: None, .. }) = self.open.last() {
            return Err("a key must be a word".into());
        }
        if self.open.len() == MAX_DEPTH {
            return Err(format!("deeper than {MAX_DEPTH} levels"));
        }
        self.open.push(open);
        Ok(())
    }

    /// A value belongs to what is open; in a mapping every other one is a key.
    fn complete(&mut self, node: Node) -> Result<(), String> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(format!("more than {MAX_VALUES} values"));
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, key, .. }) => match (key.take(), node.value) {
                (Some(key), value) => entries.push((key, Node { line: node.line, value })),
                (None, Value::Text(name)) => {
                    if let Some((first, _)) = entries.iter().find(|(key, _)| key.name == name) {
                        return Err(format!("the key {name:?} is there already, in line {}", first.line));
                    }
                    if entries.len() == MAX_KEYS {
                        return Err(format!("more than {MAX_KEYS} keys in one mapping"));
                    }
                    *key = Some(Key { line: node.line, name });
                }
                (None, _) => return Err("a key must be a word".into()),
            },
        }
        Ok(())
    }
}

const NO_ANCHORS: &str = "anchors and aliases are not accepted; quote what begins with a star or an ampersand";
const MAX_DEPTH: usize = 16;
const MAX_VALUES: usize = 100_000;
const MAX_KEYS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_plain_yaml_is_refused_with_its_place() {
        let table = [
            ("a: *b", "line 1, column 4"),
            ("x: 1\nhost: *.example.com", "quote what begins with a star"),
            ("x:\n  - host: *\n    y: 1", "quote what begins with a star"),
            ("a: &b 1", "line 1, column 4: anchors and aliases"),
            ("a: &b [1]", "anchors and aliases"),
            ("a: !!binary eA==", "the tag \"tag:yaml.org,2002:!binary\""),
            ("a: 1\n---\nb: 2", "a second document"),
            ("a: 1\nb: 2\na: 3", "line 3, column 1: the key \"a\" is there already, in line 1"),
            ("[a]: 1", "a key must be a word"),
            ("? {a: 1}\n: 1", "a key must be a word"),
            ("~: 1", "a key must be a word"),
            ("a: [1", "not YAML"),
            ("a:\n\t- 1", "line 2"),
            ("a: \"b", "not YAML"),
            (&"[".repeat(17), "deeper than 16 levels"),
        ];
        for (text, part) in table {
            let problem = read(text).unwrap_err();
            assert!(problem.starts_with("line ") && problem.contains(part), "{text:?}: {problem}");
        }
    }

    #[test]
    fn nothing_is_nothing() {
        for text in ["", "\n", "# only a comment\n", "\u{feff}"] {
            assert!(read(text).unwrap().is_none_or(|node| matches!(node.value, Value::Null)), "{text:?}");
        }
    }

    #[test]
    fn hostile_files_end_soon_whatever_they_hold() {
        let long = 1 << 20;
        let repeated = |part: &str| part.repeat(long / part.len());
        let keys: String = (0..20_000).map(|key| format!("k{key}: 1\n")).collect();
        for text in [
            repeated("["),
            repeated("{a: "),
            repeated("- "),
            repeated("? "),
            repeated("a: "),
            repeated("!"),
            repeated("&a "),
            repeated("- a\n"),
            repeated("%a\n"),
            repeated("#"),
            format!("[{}]", repeated("a,")),
            format!("a: \"{}\"", repeated("\\u00e9")),
            keys,
        ] {
            let shown: String = text.chars().take(8).collect();
            assert!(read(&text).is_err() || text.starts_with(['#', 'a']), "{shown}");
        }
        let deep: String = (0..1000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
        assert!(read(&deep).unwrap_err().contains("16 levels"));
    }

    #[test]
    fn every_beginning_of_a_good_file_is_a_tree_or_a_problem() {
        let text = "a:\n  - {b: \"c\\n\", d: [1, 'é']}\n  - |\n    text\n# x\ne: >-\n  f\n";
        for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            let _ = read(&text[..end]);
        }
        assert!(matches!(read(text), Ok(Some(Node { value: Value::Map(entries), .. })) if entries.len() == 2));
    }
}
