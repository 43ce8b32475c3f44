//! Retrieval: the knowledge bases of Bedrock, and OpenAI's vector stores. What is searched stands in the path.
//!
//! Source: `semconv.md` 2.2, 3.0; Bedrock "Retrieve"; OpenAI API reference, "Search vector store".

use super::bedrock::Failing;
use super::openai;
use crate::genai::facts::{Facts, bounded};
use crate::genai::json::{Keep, Node, SCALAR, Shape};
use crate::genai::providers::Route;
use crate::genai::{Format, Headers, reading};
use crate::trace::semconv;

/// One call.
#[derive(Debug, Default)]
pub(crate) struct Retrieval {
    source: Option<String>,
    bedrock: bool,
    /// Something is asked.
    query: bool,
    read: bool,
    failing: Failing,
}

impl Retrieval {
    /// A knowledge base.
    pub(crate) fn bedrock(route: &Route<'_>) -> Self {
        Self { bedrock: true, ..Self::openai(route) }
    }

    /// A vector store.
    pub(crate) fn openai(route: &Route<'_>) -> Self {
        Self { source: route.stars.first().cloned(), ..Self::default() }
    }
}

impl Format for Retrieval {
    fn request_head(&mut self, _: &Headers<'_>, facts: &mut Facts) {
        let Some(source) = self.source.as_deref().map(bounded) else { return };
        facts.title = Some(format!("retrieval {source}").into());
        facts.set_text(semconv::GEN_AI_DATA_SOURCE_ID, Some(&source));
        if self.bedrock {
            facts.set_text(semconv::AWS_BEDROCK_KNOWLEDGE_BASE_ID, Some(&source));
        }
    }

    fn request_shape(&self) -> &'static Shape {
        static REQUEST: Shape = Shape::object(&[
            ("query", &Shape::text_or(Keep::Content, &Shape::number())),
            ("max_num_results", &SCALAR),
            ("retrievalQuery", &Shape::object(&[("type", &SCALAR)])),
            ("retrievalConfiguration", &CONFIGURATION),
            ("guardrailConfiguration", &Shape::object(&[("guardrailId", &SCALAR)])),
        ]);
        static CONFIGURATION: Shape =
            Shape::object(&[("vectorSearchConfiguration", &SEARCH), ("managedSearchConfiguration", &SEARCH)]);
        static SEARCH: Shape = Shape::object(&[("numberOfResults", &SCALAR)]);
        &REQUEST
    }

    fn request(&mut self, body: Node, facts: &mut Facts) {
        self.read = true;
        let query = if self.bedrock { "retrievalQuery" } else { "query" };
        self.query = body.get(query).is_some_and(|query| !query.is_null());
        let search = body.get("retrievalConfiguration");
        let search = search
            .and_then(|all| all.get("vectorSearchConfiguration").or_else(|| all.get("managedSearchConfiguration")));
        let most = search.and_then(|search| search.int("numberOfResults"));
        facts.set_int(semconv::GEN_AI_RETRIEVAL_TOP_K, most.or_else(|| body.int("max_num_results")));
        let guardrail = body.at(&["guardrailConfiguration", "guardrailId"]).and_then(Node::as_str);
        facts.set_text(semconv::AWS_BEDROCK_GUARDRAIL_ID, guardrail);
    }

    fn answer_head(&mut self, status: u16, headers: &Headers<'_>, _: &mut Facts) {
        self.failing.answer_head(status, headers);
    }

    /// What was found is content.
    fn answer_shape(&self) -> &'static Shape {
        static ANSWER: Shape = Shape::object(&[("error", &openai::ERROR)]);
        &ANSWER
    }

    fn answer(&mut self, body: Node, facts: &mut Facts) {
        openai::failed(&body, facts);
    }

    fn failed(&mut self, body: Node, facts: &mut Facts) {
        if self.bedrock {
            self.failing.failed(&body, facts);
        } else {
            reading::failed(&body, facts);
        }
    }

    fn finish(&mut self, _: bool, facts: &mut Facts) {
        self.failing.finish(facts);
    }

    fn is_relevant(&self) -> bool {
        self.query || !self.read
    }
}
