//! Walks the tree by the schema. Problems are gathered, each with its place (`record[2].host`), line, value and what is
//! accepted; reading goes on.

use super::tree::{Node, Value};

/// What is wrong with the file, up to a bound.
#[derive(Debug, Default)]
pub(super) struct Findings {
    problems: Vec<String>,
    more: usize,
}

impl Findings {
    pub(super) fn add(&mut self, item: &Item<'_>, problem: impl std::fmt::Display) {
        let place = if item.place.is_empty() { "the file" } else { &item.place };
        self.push(format!("{place} (line {}): {problem}", item.node.line));
    }

    fn push(&mut self, problem: String) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        } else {
            self.more += 1;
        }
    }

    pub(super) fn count(&self) -> usize {
        self.problems.len() + self.more
    }

    /// All of them, or none.
    pub(super) fn into_problems(mut self) -> Vec<String> {
        if self.more > 0 {
            self.problems.push(format!("and {} more", self.more));
        }
        self.problems
    }
}

/// A value and its place in the file.
#[derive(Debug)]
pub(super) struct Item<'a> {
    place: String,
    node: &'a Node,
}

impl<'a> Item<'a> {
    pub(super) fn root(node: &'a Node) -> Self {
        Self { place: String::new(), node }
    }

    /// A mapping with known keys; nothing is one without any. [`Fields::close`] refuses the others.
    pub(super) fn fields(self, findings: &mut Findings) -> Option<Fields<'a>> {
        let entries = match &self.node.value {
            Value::Map(entries) => &entries[..],
            Value::Null => &[],
            _ => {
                findings.add(&self, format_args!("{} is not a mapping of keys to values", shown(self.node)));
                return None;
            }
        };
        Some(Fields { item: self, entries, known: Vec::new() })
    }

    /// A list's items; nothing is an empty list.
    pub(super) fn list(&self, findings: &mut Findings) -> Vec<Item<'a>> {
        let nodes = match &self.node.value {
            Value::List(nodes) if nodes.len() <= MAX_ITEMS => &nodes[..],
            Value::List(nodes) => {
                findings.add(self, format_args!("{} entries; accepted: up to {MAX_ITEMS}", nodes.len()));
                &[]
            }
            Value::Null => &[],
            _ => {
                findings.add(self, format_args!("{} is not a list", shown(self.node)));
                &[]
            }
        };
        let place = |index| format!("{}[{index}]", self.place);
        nodes.iter().enumerate().map(|(index, node)| Item { place: place(index), node }).collect()
    }

    /// A mapping whose keys are the user's.
    pub(super) fn entries(&self, findings: &mut Findings) -> Vec<(&'a str, Item<'a>)> {
        let entries = match &self.node.value {
            Value::Map(entries) if entries.len() <= MAX_ENTRIES => &entries[..],
            Value::Map(entries) => {
                findings.add(self, format_args!("{} keys; accepted: up to {MAX_ENTRIES}", entries.len()));
                &[]
            }
            Value::Null => &[],
            _ => {
                findings.add(self, format_args!("{} is not a mapping of keys to values", shown(self.node)));
                &[]
            }
        };
        let item = |key: &str, node| Item { place: format!("{}.{}", self.place, cut(key)), node };
        entries.iter().map(|(key, node)| (key.name.as_str(), item(&key.name, node))).collect()
    }

    /// A word, number or text that `parse` takes; its error completes the sentence that begins with the value.
    pub(super) fn value<T, E: std::fmt::Display>(
        &self,
        findings: &mut Findings,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let parsed = match &self.node.value {
            Value::Text(text) => parse(text).map_err(|error| error.to_string()),
            // The parser says what it accepts.
            Value::Null => parse("").map_err(|error| error.to_string()),
            Value::List(_) | Value::Map(_) => Err("is not one value".to_owned()),
        };
        parsed.map_err(|error| findings.add(self, format_args!("{} {error}", shown(self.node)))).ok()
    }
}

/// A mapping that is read key by key.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    pub(super) item: Item<'a>,
    entries: &'a [(super::tree::Key, Node)],
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// The value of a key, which is known from now on.
    pub(super) fn take(&mut self, name: &'static str) -> Option<Item<'a>> {
        self.known.push(name);
        let (_, node) = self.entries.iter().find(|(key, _)| key.name == name)?;
        Some(Item { place: self.place(name), node })
    }

    /// The list of a key, every item by the same `parse`.
    pub(super) fn values<T, E: std::fmt::Display>(
        &mut self,
        name: &'static str,
        findings: &mut Findings,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Vec<T> {
        let items = self.take(name).map(|list| list.list(findings)).unwrap_or_default();
        items.iter().filter_map(|item| item.value(findings, &parse)).collect()
    }

    /// Refuses the keys that nobody has asked for.
    pub(super) fn close(self, findings: &mut Findings) -> Item<'a> {
        for (key, _) in self.entries.iter().filter(|(key, _)| !self.known.contains(&key.name.as_str())) {
            let name = cut(&key.name);
            let (distance, nearest) = self
                .known
                .iter()
                .map(|known| (strsim::osa_distance(&name.to_lowercase(), known), *known))
                .min()
                .unwrap_or_default();
            let meant =
                if distance <= 1 + nearest.len() / 3 { format!("; did you mean {nearest}?") } else { ";".into() };
            let (place, line, known) = (self.place(&name), key.line, self.known.join(", "));
            findings.push(format!("{place} (line {line}): unknown key{meant} accepted: {known}"));
        }
        self.item
    }

    fn place(&self, name: &str) -> String {
        if self.item.place.is_empty() { name.to_owned() } else { format!("{}.{name}", self.item.place) }
    }
}

fn shown(node: &Node) -> String {
    match &node.value {
        Value::Null => "nothing".into(),
        Value::Text(text) => format!("{:?}", cut(text)),
        Value::List(_) => "a list".into(),
        Value::Map(_) => "a mapping".into(),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

const MAX_PROBLEMS: usize = 50;
const MAX_ITEMS: usize = 1000;
const MAX_ENTRIES: usize = 64;
const MAX_SHOWN: usize = 64;
