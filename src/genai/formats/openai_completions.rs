//! OpenAI's completions of the first kind: a prompt, text behind it. vLLM and others still have them.
//!
//! Source: `semconv.md` 3.1; OpenAI API reference, "Completions (legacy)".

use super::openai::{self, USAGE};
use crate::genai::facts::Facts;
use crate::genai::item::{Message, Part, Role};
use crate::genai::json::{CONTENT, Keep, Node, SCALAR, Shape, WHOLE};
use crate::genai::{Format, Headers, Wish};
use crate::trace::semconv;

/// One call.
#[derive(Debug, Default)]
pub(crate) struct OpenAiCompletions {
    prompt: bool,
    read: bool,
    /// It wants a stream, and has not asked for usage.
    without_usage: bool,
}

impl Format for OpenAiCompletions {
    fn request_head(&mut self, headers: &Headers<'_>, facts: &mut Facts) {
        openai::request_head(headers, "", facts);
    }

    fn request_shape(&self) -> &'static Shape {
        static REQUEST: Shape = Shape::object(&[
            ("model", &SCALAR),
            // Tokens as numbers say nothing.
            ("prompt", &Shape { text: Keep::Content, ..Shape::each("prompt", &CONTENT) }),
            ("temperature", &SCALAR),
            ("top_p", &SCALAR),
            ("top_k", &SCALAR),
            ("presence_penalty", &SCALAR),
            ("frequency_penalty", &SCALAR),
            ("seed", &SCALAR),
            ("max_tokens", &SCALAR),
            ("stop", &Shape::text_or(Keep::Short, &SCALAR)),
            ("n", &SCALAR),
            ("stream", &SCALAR),
            ("stream_options", &Shape::object(&[("include_usage", &SCALAR)])),
        ]);
        &REQUEST
    }

    fn request_item(&mut self, _: &'static str, item: Node, facts: &mut Facts) {
        self.prompt = true;
        if let Some(text) = facts.text(Some(item)) {
            facts.input(Message { parts: vec![Part::Text(text)], ..Message::new(Role::User) });
        }
    }

    fn request(&mut self, mut body: Node, facts: &mut Facts) {
        self.read = true;
        openai::sampling(&body, facts);
        facts.set_int(semconv::GEN_AI_REQUEST_SEED, body.int("seed"));
        facts.set_int(semconv::GEN_AI_REQUEST_MAX_TOKENS, body.int("max_tokens"));
        facts.set_texts(semconv::GEN_AI_REQUEST_STOP_SEQUENCES, body.get("stop"));
        facts.set_int(semconv::GEN_AI_REQUEST_CHOICE_COUNT, body.int("n").filter(|count| *count != 1));
        if let Some(prompt @ Node::Text(_)) = body.take("prompt") {
            self.request_item("prompt", prompt, facts);
        }
        let asked = body.get("stream_options").is_some_and(|options| options.is_true("include_usage"));
        self.without_usage = facts.stream && !asked;
        // Whoever has a model has a prompt of his own.
        self.prompt |= body.some_str("model").is_some();
    }

    fn answer_shape(&self) -> &'static Shape {
        static ANSWER: Shape = Shape::object(&[
            ("id", &SCALAR),
            ("model", &SCALAR),
            ("system_fingerprint", &SCALAR),
            ("choices", &Shape::array(&CHOICE)),
            ("usage", &USAGE),
            ("error", &openai::ERROR),
        ]);
        static CHOICE: Shape = Shape::object(&[("index", &SCALAR), ("finish_reason", &SCALAR), ("text", &WHOLE)]);
        &ANSWER
    }

    fn answer(&mut self, body: Node, facts: &mut Facts) {
        facts.answered_by(body.str("id"), body.str("model"));
        facts.set_text(semconv::OPENAI_RESPONSE_SYSTEM_FINGERPRINT, body.str("system_fingerprint"));
        openai::failed(&body, facts);
        if let Some(usage) = body.get("usage").filter(|usage| !usage.is_null()) {
            openai::usage(usage, facts);
        }
        for (position, choice) in (0..).zip(body.get("choices").map(Node::items).unwrap_or_default()) {
            let index = choice.count("index").unwrap_or(position);
            facts.reply.begin(index);
            if let Some(text) = openai::piece(choice, "text") {
                facts.reply.add(index, 0, text);
            }
            if let Some(reason) = choice.some_str("finish_reason") {
                facts.reply.finish(index, openai::finish_reason(reason));
            }
        }
    }

    fn wish(&self, _: &Facts) -> Option<Wish> {
        self.without_usage.then_some(Wish::Usage)
    }

    fn is_relevant(&self) -> bool {
        self.prompt || !self.read
    }
}
