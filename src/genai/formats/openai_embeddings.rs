//! OpenAI's embeddings. The vectors themselves are skipped.
//!
//! Source: `semconv.md` 2.2, 3.1; OpenAI API reference, "Embeddings".

use super::openai::{self, USAGE};
use crate::genai::Format;
use crate::genai::facts::Facts;
use crate::genai::json::{Node, SCALAR, Shape};
use crate::trace::semconv;

/// One call.
#[derive(Debug, Default)]
pub(crate) struct OpenAiEmbeddings {
    model: bool,
    read: bool,
}

impl Format for OpenAiEmbeddings {
    fn request_shape(&self) -> &'static Shape {
        static REQUEST: Shape =
            Shape::object(&[("model", &SCALAR), ("dimensions", &SCALAR), ("encoding_format", &SCALAR)]);
        &REQUEST
    }

    fn request(&mut self, body: Node, facts: &mut Facts) {
        self.read = true;
        facts.asked_model(body.str("model"));
        self.model = facts.model.is_some();
        facts.set_int(semconv::GEN_AI_EMBEDDINGS_DIMENSION_COUNT, body.int("dimensions"));
        facts.set_texts(semconv::GEN_AI_REQUEST_ENCODING_FORMATS, body.get("encoding_format"));
    }

    fn answer_shape(&self) -> &'static Shape {
        static ANSWER: Shape = Shape::object(&[("model", &SCALAR), ("usage", &USAGE), ("error", &openai::ERROR)]);
        &ANSWER
    }

    fn answer(&mut self, body: Node, facts: &mut Facts) {
        facts.answered_by(None, body.str("model"));
        openai::failed(&body, facts);
        if let Some(usage) = body.get("usage").filter(|usage| !usage.is_null()) {
            openai::usage(usage, facts);
            facts.usage.output = None;
        }
    }

    fn is_relevant(&self) -> bool {
        self.model || !self.read
    }
}
