//! What a model says, put together from the pieces of a stream or taken from a whole answer: by choice, and in each by place.

use std::borrow::Cow;

use super::facts::MAX_CALLS;
use super::item::{Key, Message, Part, Role, Text};
use super::json;
use crate::call::{Digest, Evidence, ToolCall};

/// The answer under way.
#[derive(Debug)]
pub(crate) struct Reply {
    key: Key,
    limit: usize,
    choices: Vec<Choice>,
    /// Places that belong to one item of an answer; `None`: all of them.
    item: Option<u64>,
    /// Tools have been asked for, or a choice has ended, since the last time that somebody looked.
    changed: bool,
    /// The format has no word for why an answer ends.
    unreasoned: bool,
}

#[derive(Debug)]
struct Choice {
    index: u64,
    /// Parts by their place.
    parts: Vec<(u64, Building)>,
    finish: Option<Cow<'static, str>>,
}

/// A part that may still grow.
#[derive(Clone, Debug)]
enum Building {
    Text(Text),
    Reasoning(Text),
    /// `server`: the provider runs the tool, which is of this kind.
    Call {
        id: Option<Box<str>>,
        name: Box<str>,
        arguments: Text,
        server: Option<Box<str>>,
    },
    Whole(Part),
    /// A whole one with an id that is no part of the message: clients leave it out when they repeat it.
    Named {
        id: Box<str>,
        part: Part,
    },
}

impl Reply {
    pub(crate) fn new(key: Key, limit: usize) -> Self {
        Self { key, limit, choices: Vec::new(), item: None, changed: false, unreasoned: false }
    }

    /// The answer is a list of items, each a message of its own in a next request; so many places belong to one.
    pub(crate) fn of_items(&mut self, places: u64) {
        self.item = Some(places);
    }

    /// A piece of text as it was read. Of a long one something is missing, unless it is the first: then all of it was hashed.
    pub(crate) fn add(&mut self, choice: u64, place: u64, piece: &Text) {
        let fresh = Text::new(self.limit, &self.key);
        if let Some(Building::Text(text)) = self.part(choice, place, || Building::Text(fresh)) {
            text.append(piece);
        }
    }

    /// The same of what the model thinks.
    pub(crate) fn add_reasoning(&mut self, choice: u64, place: u64, piece: &Text) {
        let fresh = Text::new(self.limit, &self.key);
        if let Some(Building::Reasoning(text)) = self.part(choice, place, || Building::Reasoning(fresh)) {
            text.append(piece);
        }
    }

    /// A tool is asked for. What is said first counts; an empty text says nothing.
    pub(crate) fn call(&mut self, choice: u64, place: u64, id: Option<&str>, name: Option<&str>) {
        let fresh = Text::new(MAX_ARGUMENTS, &self.key);
        let new = || Building::Call { id: None, name: Box::default(), arguments: fresh, server: None };
        let (id, name) = (id.filter(|id| !id.is_empty()), name.filter(|name| !name.is_empty()));
        if let Some(Building::Call { id: known, name: called, .. }) = self.part(choice, place, new) {
            let named = (known.is_none() && id.is_some()) || (called.is_empty() && name.is_some());
            if known.is_none() {
                *known = id.map(|id| super::facts::bounded(id).into());
            }
            if called.is_empty() {
                *called = super::facts::bounded(name.unwrap_or_default()).into();
            }
            self.changed |= named;
        }
    }

    /// The provider runs a tool of its own.
    pub(crate) fn server_call(&mut self, (choice, place): (u64, u64), id: Option<&str>, name: &str, kind: &str) {
        self.call(choice, place, id, Some(name));
        if let Some(Building::Call { server, .. }) = self.part(choice, place, unreachable_part) {
            *server = Some(super::facts::bounded(kind).into());
        }
    }

    /// A piece of its arguments as it was read.
    pub(crate) fn add_arguments(&mut self, choice: u64, place: u64, piece: &Text) {
        self.call(choice, place, None, None);
        if let Some(Building::Call { arguments, .. }) = self.part(choice, place, unreachable_part) {
            arguments.append(piece);
        }
    }

    /// The same of JSON that was written anew.
    pub(crate) fn arguments(&mut self, choice: u64, place: u64, piece: &str) {
        self.call(choice, place, None, None);
        if let Some(Building::Call { arguments, .. }) = self.part(choice, place, unreachable_part) {
            arguments.push(piece);
        }
    }

    /// A part that is whole. It replaces what was there.
    pub(crate) fn put(&mut self, choice: u64, place: u64, part: Part) {
        if let Some(found) = self.part(choice, place, unreachable_part) {
            *found = Building::Whole(part);
            self.changed = true;
        }
    }

    /// A tool is asked for, whole. Its id is evidence, but no part of the message.
    pub(crate) fn put_named(&mut self, choice: u64, place: u64, id: Option<&str>, part: Part) {
        self.put(choice, place, part);
        if let (Some(id), Some(found)) = (id, self.part(choice, place, unreachable_part))
            && let Building::Whole(part) = std::mem::replace(found, unreachable_part())
        {
            *found = Building::Named { id: super::facts::bounded(id).into(), part };
        }
    }

    /// All parts of a choice.
    pub(crate) fn whole(&mut self, choice: u64, mut message: Message) {
        let limit = self.limit;
        if let Some(choice) = self.choice(choice) {
            for part in &mut message.parts {
                if let Part::Text(text) | Part::Reasoning(text) = part {
                    text.shorten(limit);
                }
            }
            let parts = message.parts.into_iter().take(MAX_PARTS).zip(0..);
            choice.parts = parts.map(|(part, place)| (place, Building::Whole(part))).collect();
            self.changed = true;
        }
    }

    /// Why a choice ended, by the conventions' names.
    pub(crate) fn finish(&mut self, choice: u64, reason: impl Into<Cow<'static, str>>) {
        if let Some(choice) = self.choice(choice) {
            choice.finish = Some(reason.into());
            self.changed = true;
        }
    }

    /// The format never says why an answer ends.
    pub(crate) fn without_reasons(&mut self) {
        self.unreasoned = true;
    }

    /// The choice exists, whatever it says.
    pub(crate) fn begin(&mut self, choice: u64) {
        self.choice(choice);
    }

    /// Whether it asks for a tool.
    pub(crate) fn has_calls(&self, choice: u64) -> bool {
        let choice = self.choices.iter().find(|found| found.index == choice);
        choice.is_some_and(|choice| choice.parts.iter().any(|(_, part)| part.is_call()))
    }

    /// Whether nothing was said.
    pub(crate) fn is_empty(&self) -> bool {
        self.choices.is_empty()
    }

    /// Why each choice ended. `ended`: whoever did not say so by now will not.
    pub(crate) fn finish_reasons(&self, ended: bool) -> Vec<Cow<'static, str>> {
        let mut choices: Vec<_> = self.choices.iter().collect();
        choices.sort_by_key(|choice| choice.index);
        if (!ended || self.unreasoned) && choices.iter().all(|choice| choice.finish.is_none()) {
            return Vec::new();
        }
        choices.iter().map(|choice| choice.finish.clone().unwrap_or(Cow::Borrowed("error"))).collect()
    }

    /// The tools that are asked for, as far as is known now.
    pub(crate) fn issued(&mut self, evidence: &mut Evidence) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        evidence.issued.clear();
        let parts = self.choices.iter().flat_map(|choice| choice.parts.iter().map(|(_, part)| (&choice.finish, part)));
        for (finish, part) in parts {
            let issued = match part {
                Building::Call { id, name, arguments, server: None } => {
                    // Half of them would be another tool's.
                    let digest = if finish.is_some() { json::digest_of(arguments, &self.key) } else { None };
                    ToolCall { id: id.clone(), name: name.clone(), arguments: digest }
                }
                Building::Whole(Part::ToolCall { id, name, arguments }) => {
                    ToolCall { id: id.clone(), name: name.clone(), arguments: arguments.digest }
                }
                Building::Named { id, part: Part::ToolCall { name, arguments, .. } } => {
                    ToolCall { id: Some(id.clone()), name: name.clone(), arguments: arguments.digest }
                }
                _ => continue,
            };
            if evidence.issued.len() == MAX_CALLS {
                evidence.incomplete = true;
                return;
            }
            evidence.issued.push(issued);
        }
    }

    /// The first choice as it would stand in a next request, item by item. `None` for one of which something is missing.
    pub(crate) fn digests(&self) -> Vec<Option<Digest>> {
        let Some(choice) = self.choices.iter().min_by_key(|choice| choice.index) else { return Vec::new() };
        let mut parts: Vec<_> = choice.parts.iter().collect();
        parts.sort_by_key(|(place, _)| *place);
        let item = |place: u64| self.item.map(|places| place / places.max(1));
        let items = parts.chunk_by(|(one, _), (other, _)| item(*one) == item(*other));
        let messages = items.map(|parts| {
            let parts = parts.iter().map(|(_, part)| part.clone().into_part(&self.key)).collect();
            Message { parts, ..Message::new(Role::Assistant) }
        });
        messages.filter(|message| !message.is_silent()).map(|message| message.digest(&self.key)).collect()
    }

    /// Everything that was said, one message for each choice.
    pub(crate) fn take_messages(&mut self) -> Vec<Message> {
        let key = self.key;
        let mut choices = std::mem::take(&mut self.choices);
        choices.sort_by_key(|choice| choice.index);
        let message = |mut choice: Choice| {
            choice.parts.sort_by_key(|(place, _)| *place);
            let parts = choice.parts.into_iter().map(|(_, part)| part.into_part(&key)).collect();
            let finish_reason = choice.finish.map(|reason| reason.into_owned().into());
            Message { parts, finish_reason, ..Message::new(Role::Assistant) }
        };
        choices.into_iter().map(message).collect()
    }

    /// About how many bytes are held.
    pub(crate) fn held(&self) -> usize {
        let parts = self.choices.iter().flat_map(|choice| &choice.parts);
        self.choices.len() * size_of::<Choice>()
            + parts.map(|(_, part)| size_of::<Building>() + part.held()).sum::<usize>()
    }

    fn choice(&mut self, index: u64) -> Option<&mut Choice> {
        let known = self.choices.iter().position(|choice| choice.index == index);
        let at = match known {
            Some(at) => at,
            None if self.choices.len() < MAX_CHOICES => {
                self.choices.push(Choice { index, parts: Vec::new(), finish: None });
                self.choices.len() - 1
            }
            None => return None,
        };
        self.choices.get_mut(at)
    }

    fn part(&mut self, choice: u64, place: u64, new: impl FnOnce() -> Building) -> Option<&mut Building> {
        let choice = self.choice(choice)?;
        // The part that grows is the last one, nearly always.
        let known = choice.parts.iter().rposition(|(found, _)| *found == place);
        let at = match known {
            Some(at) => at,
            None if choice.parts.len() < MAX_PARTS => {
                choice.parts.push((place, new()));
                choice.parts.len() - 1
            }
            None => return None,
        };
        choice.parts.get_mut(at).map(|(_, part)| part)
    }
}

impl Building {
    fn is_call(&self) -> bool {
        matches!(
            self,
            Building::Call { server: None, .. }
                | Building::Whole(Part::ToolCall { .. })
                | Building::Named { part: Part::ToolCall { .. }, .. }
        )
    }

    fn into_part(self, key: &Key) -> Part {
        match self {
            Building::Text(text) => Part::Text(text),
            Building::Reasoning(text) => Part::Reasoning(text),
            Building::Call { id, name, arguments, server } => {
                let arguments = json::quoted_arguments(arguments, key);
                match server {
                    None => Part::ToolCall { id, name, arguments },
                    Some(kind) => Part::ServerToolCall { id, name, kind, arguments },
                }
            }
            Building::Whole(part) | Building::Named { part, .. } => part,
        }
    }

    fn held(&self) -> usize {
        match self {
            Building::Text(text) | Building::Reasoning(text) => text.held(),
            Building::Call { arguments, .. } => arguments.held(),
            Building::Whole(part) | Building::Named { part, .. } => part.held(),
        }
    }
}

/// For a part that is replaced at once.
fn unreachable_part() -> Building {
    Building::Whole(Part::Other(Box::default()))
}

/// Choices of one answer.
const MAX_CHOICES: usize = 64;
/// Parts of one choice.
const MAX_PARTS: usize = 512;
/// Of the arguments of one tool call; they are read again.
const MAX_ARGUMENTS: usize = 64 * 1024;
