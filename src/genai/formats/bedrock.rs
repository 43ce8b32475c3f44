//! What the formats of AWS Bedrock have in common: how it says that something failed, and what its header fields tell.

use crate::genai::Headers;
use crate::genai::facts::{Facts, bounded};
use crate::genai::json::Node;
use crate::trace::semconv;

/// Why a call failed: a code in a header field, words in the body.
#[derive(Debug, Default)]
pub(super) struct Failing {
    code: Option<Box<str>>,
}

impl Failing {
    pub(super) fn answer_head(&mut self, status: u16, headers: &Headers<'_>) {
        if status >= 400 {
            self.code = headers.get("x-amzn-errortype").and_then(|said| code(&said));
        }
    }

    /// The body of an answer that says so by its status.
    pub(super) fn failed(&self, body: &Node, facts: &mut Facts) {
        let said = body.some_str("__type").or_else(|| body.some_str("code")).and_then(code);
        let message = body.some_str("message").or_else(|| body.some_str("Message"));
        match self.code.clone().or(said) {
            Some(code) => facts.fail(&code, message),
            None => facts.error_message(message),
        }
    }

    /// The code counts without a body, too.
    pub(super) fn finish(&self, facts: &mut Facts) {
        if let Some(code) = &self.code {
            facts.fail(code, None);
        }
    }
}

/// `ThrottlingException:http://…` or `com.amazon.coral.service#ThrottlingException`.
fn code(said: &str) -> Option<Box<str>> {
    let said = said.split(':').next().unwrap_or_default();
    let said = said.rsplit('#').next().unwrap_or_default().trim();
    (!said.is_empty()).then(|| bounded(said).into())
}

/// An exception in a stream: its name is the error.
pub(super) fn exception(name: &str, body: &Node, facts: &mut Facts) {
    let message = body.some_str("message").or_else(|| body.some_str("Message"));
    facts.fail(if name.is_empty() { "_OTHER" } else { name }, message);
}

/// Whether a model is one of OpenAI's, whatever stands before its name: a region, or an ARN.
pub(super) fn is_openai(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or_default();
    name.split('.').rev().skip(1).take(2).any(|vendor| vendor == "openai")
}

/// `gen_ai.prompt.name` of a prompt that Bedrock keeps: its ARN stands in the place of the model.
pub(super) fn stored_prompt(facts: &mut Facts) -> bool {
    let model = facts.model.as_deref().filter(|model| model.starts_with("arn:"));
    let Some((_, prompt)) = model.and_then(|model| model.split_once(":prompt/")) else { return false };
    let (name, version) = prompt.split_once(':').unwrap_or((prompt, ""));
    let (name, version) = (name.to_owned(), version.to_owned());
    facts.set_text(semconv::GEN_AI_PROMPT_NAME, Some(&name));
    facts.set_text(semconv::GEN_AI_PROMPT_VERSION, Some(&version));
    true
}
