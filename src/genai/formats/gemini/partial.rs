//! A function call whose arguments come value by value, each with its place as a JSON path (Vertex AI).

use crate::genai::facts::{Facts, bounded};
use crate::genai::item::{Arguments, Part, Text};
use crate::genai::json::Node;

/// The call as far as it has come.
#[derive(Debug)]
pub(super) struct Partial {
    /// Its place among the parts.
    pub(super) place: u64,
    id: Option<Box<str>>,
    name: Box<str>,
    args: Node,
    /// About how many bytes they are.
    size: usize,
    /// A value had no place that could be understood, or there were too many.
    lost: bool,
}

impl Partial {
    /// A call begins.
    pub(super) fn new(place: u64, piece: &Node) -> Self {
        Self {
            place,
            id: piece.some_str("id").map(|id| bounded(id).into()),
            name: bounded(piece.str("name").unwrap_or_default()).into(),
            args: Node::Object(Vec::new()),
            size: 0,
            lost: false,
        }
    }

    /// The values that a piece brings.
    pub(super) fn add(&mut self, piece: &mut Node) {
        if let Some(args @ Node::Object(_)) = piece.take("args") {
            self.args = args;
        }
        let Some(Node::Array(values)) = piece.take("partialArgs") else { return };
        for mut value in values {
            let path = value.take("jsonPath");
            let found = value.take("stringValue").or_else(|| value.take("numberValue"));
            let found = found.or_else(|| value.take("boolValue")).unwrap_or(Node::Null);
            let path = path.as_ref().and_then(Node::as_str).unwrap_or_default();
            self.size += path.len() + size_of::<Node>() + found.as_str().map_or(0, str::len);
            self.lost |= self.size > MAX_SIZE || !set(&mut self.args, path, found);
            if self.lost {
                return;
            }
        }
    }

    /// The part while it grows.
    pub(super) fn begun(&self, facts: &Facts) -> Part {
        let mut json = Text::new(0, &facts.key);
        json.lost();
        Part::ToolCall { id: self.id.clone(), name: self.name.clone(), arguments: Arguments { json, digest: None } }
    }

    /// The part, all of its arguments told.
    pub(super) fn whole(self, facts: &Facts) -> Part {
        if self.lost {
            return self.broken(facts);
        }
        Part::ToolCall { id: self.id, name: self.name, arguments: facts.arguments(Some(self.args)) }
    }

    /// The part, its arguments cut off.
    pub(super) fn broken(self, facts: &Facts) -> Part {
        let mut arguments = facts.arguments(Some(self.args));
        arguments.json.lost();
        Part::ToolCall { id: self.id, name: self.name, arguments: Arguments { digest: None, ..arguments } }
    }
}

/// Puts a value where the path says; a string goes on with the one that is there. False if there is no such place.
fn set(root: &mut Node, path: &str, value: Node) -> bool {
    let Some(steps) = steps(path) else { return false };
    let Some(place) = steps.iter().try_fold(root, |node, step| descend(node, step)) else { return false };
    match (place, value) {
        (Node::Text(text), Node::Text(more)) => text.append(&more),
        (place, value) => *place = value,
    }
    true
}

enum Step {
    Name(String),
    Index(usize),
}

/// `$.names[0].first`, `$['names'][0]['first']`
fn steps(path: &str) -> Option<Vec<Step>> {
    let mut rest = path.strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() && steps.len() < MAX_DEPTH {
        if let Some(behind) = rest.strip_prefix('.') {
            let end = behind.find(['.', '[']).unwrap_or(behind.len());
            let (name, behind) = behind.split_at_checked(end)?;
            steps.push(Step::Name(name.to_owned()));
            rest = behind;
            continue;
        }
        let inside = rest.strip_prefix('[')?;
        let quote = inside.chars().next().filter(|first| matches!(first, '\'' | '"'));
        let (step, behind) = match quote {
            Some(quote) => {
                let (name, behind) = inside.strip_prefix(quote)?.split_once(quote)?;
                (Step::Name(name.to_owned()), behind.strip_prefix(']')?)
            }
            None => {
                let (index, behind) = inside.split_once(']')?;
                (Step::Index(index.parse().ok()?), behind)
            }
        };
        steps.push(step);
        rest = behind;
    }
    (rest.is_empty() && !steps.is_empty()).then_some(steps)
}

/// The place is made if it is the next one.
fn descend<'n>(node: &'n mut Node, step: &Step) -> Option<&'n mut Node> {
    match step {
        Step::Name(name) => {
            if node.is_null() {
                *node = Node::Object(Vec::new());
            }
            let Node::Object(fields) = node else { return None };
            let known = fields.iter().position(|(found, _)| **found == **name);
            let at = known.unwrap_or(fields.len());
            if known.is_none() && at < MAX_PLACES {
                fields.push((name.clone().into(), Node::Null));
            }
            fields.get_mut(at).map(|(_, value)| value)
        }
        Step::Index(at) => {
            if node.is_null() {
                *node = Node::Array(Vec::new());
            }
            let Node::Array(items) = node else { return None };
            if *at == items.len() && *at < MAX_PLACES {
                items.push(Node::Null);
            }
            items.get_mut(*at)
        }
    }
}

/// Bytes of one call's arguments.
const MAX_SIZE: usize = 64 * 1024;
/// Fields of one object, elements of one array.
const MAX_PLACES: usize = 1024;
const MAX_DEPTH: usize = 64;
