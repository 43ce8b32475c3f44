//! One file for each format. What a format knows of its provider's JSON is in its shapes and in how it reads them.

mod jsonrpc;
mod mcp;
mod openai;
mod openai_chat;

pub(crate) use jsonrpc::{Answer, Called};
pub(crate) use mcp::{Mcp, McpListen};
pub(crate) use openai_chat::OpenAiChat;
