//! Embeddings of Google's: embedContent and batchEmbedContents, and Vertex AI's predict where the model embeds.
//!
//! Source: `semconv.md` 3.5; Gemini API reference, "Embeddings"; Vertex AI, "Text embeddings API".

use crate::genai::facts::{Facts, Usage};
use crate::genai::json::{Node, SCALAR, Shape};
use crate::genai::{Format, Headers};
use crate::trace::semconv;

/// One call.
#[derive(Debug, Default)]
pub(crate) struct GeminiEmbed {
    /// Any model may be behind the path.
    predict: bool,
    /// The model does something else.
    other: bool,
    /// There is something to embed.
    input: bool,
    read: bool,
    /// Tokens of the predictions so far.
    tokens: Option<u64>,
}

impl GeminiEmbed {
    /// Of Vertex AI's `:predict`.
    pub(crate) fn predict() -> Self {
        Self { predict: true, ..Self::default() }
    }
}

impl Format for GeminiEmbed {
    fn request_head(&mut self, _: &Headers<'_>, facts: &mut Facts) {
        self.other = self.predict && !facts.model.as_ref().is_some_and(|model| model.contains("embed"));
    }

    fn request_shape(&self) -> &'static Shape {
        static REQUEST: Shape = Shape::object(&[
            ("content", &PRESENT),
            ("outputDimensionality", &SCALAR),
            ("embedContentConfig", &SIZE),
            ("requests", &Shape::each("requests", &SIZE)),
            ("instances", &Shape::each("instances", &PRESENT)),
            ("parameters", &SIZE),
        ]);
        &REQUEST
    }

    fn request_item(&mut self, _: &'static str, item: Node, facts: &mut Facts) {
        self.input = true;
        facts.set_int(semconv::GEN_AI_EMBEDDINGS_DIMENSION_COUNT, item.int("outputDimensionality"));
    }

    fn request(&mut self, body: Node, facts: &mut Facts) {
        self.read = true;
        self.input |= body.get("content").is_some_and(|content| matches!(content, Node::Object(_)));
        for size in [Some(&body), body.get("embedContentConfig"), body.get("parameters")].into_iter().flatten() {
            facts.set_int(semconv::GEN_AI_EMBEDDINGS_DIMENSION_COUNT, size.int("outputDimensionality"));
        }
    }

    fn answer_shape(&self) -> &'static Shape {
        static ANSWER: Shape = Shape::object(&[
            ("usageMetadata", &Shape::object(&[("promptTokenCount", &SCALAR)])),
            ("predictions", &Shape::each("predictions", &PREDICTION)),
        ]);
        &ANSWER
    }

    fn answer_item(&mut self, _: &'static str, item: Node, facts: &mut Facts) {
        let tokens = item.at(&["embeddings", "statistics"]).and_then(|statistics| statistics.count("tokenCount"));
        if let Some(tokens) = tokens {
            let all = self.tokens.unwrap_or_default().saturating_add(tokens);
            self.tokens = Some(all);
            facts.usage.input = Some(all);
        }
    }

    fn answer(&mut self, body: Node, facts: &mut Facts) {
        let tokens = body.get("usageMetadata").and_then(|usage| usage.count("promptTokenCount"));
        Usage::update(&mut facts.usage.input, tokens);
    }

    fn is_relevant(&self) -> bool {
        !self.other && (self.input || !self.read)
    }
}

static SIZE: Shape = Shape::object(&[("outputDimensionality", &SCALAR)]);
/// Of something that is there: that it is there.
static PRESENT: Shape = Shape { rest: Some(&NUMBER), ..Shape::number() };
static NUMBER: Shape = Shape::number();
/// `token_count` at Vertex AI.
static PREDICTION: Shape =
    Shape::object(&[("embeddings", &Shape::object(&[("statistics", &Shape::object(&[("tokenCount", &SCALAR)]))]))]);
