//! One file for each format. What a format knows of its provider's JSON is in its shapes and in how it reads them.

mod anthropic;
mod bedrock;
mod bedrock_converse;
mod cohere;
mod gemini;
mod gemini_embed;
mod jsonrpc;
mod mcp;
mod ollama;
mod openai;
mod openai_chat;
mod openai_completions;
mod openai_embeddings;
mod openai_responses;

pub(crate) use anthropic::Anthropic;
pub(crate) use bedrock_converse::BedrockConverse;
pub(crate) use cohere::{Cohere, CohereEmbed};
pub(crate) use gemini::Gemini;
pub(crate) use gemini_embed::GeminiEmbed;
pub(crate) use jsonrpc::{Answer, Called};
pub(crate) use mcp::{Mcp, McpListen};
pub(crate) use ollama::{Ollama, OllamaEmbed};
pub(crate) use openai_chat::OpenAiChat;
pub(crate) use openai_completions::OpenAiCompletions;
pub(crate) use openai_embeddings::OpenAiEmbeddings;
pub(crate) use openai_responses::{Fetch, OpenAiResponses};

#[cfg(test)]
mod tests;
