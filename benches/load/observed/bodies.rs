//! What agents and providers send each other, made up, the same bytes in every run.

use std::sync::OnceLock;

use serde_json::{Value, json};

/// Events of a stream, its end among them.
pub(crate) const EVENTS: usize = 500;

/// A chat completion of OpenAI's, streamed: each event as one HTTP/1.1 chunk. About 300 bytes each, as the SDKs get them.
pub(crate) fn openai_stream() -> &'static [Vec<u8>] {
    static STREAM: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    STREAM.get_or_init(|| {
        let event = |delta: &Value, reason: &Value, usage: &Value, padding: &str| {
            // Not through a map: the order of the fields is the provider's.
            format!(
                "data: {{\"id\":\"chatcmpl-BqGwX3kT0pJmVvYt5sEw8Zr1LhNcD\",\"object\":\"chat.completion.chunk\",\
                 \"created\":1751887541,\"model\":\"gpt-4o-mini-2024-07-18\",\"service_tier\":\"default\",\
                 \"system_fingerprint\":\"fp_34a54ae93c\",\"choices\":[{{\"index\":0,\"delta\":{delta},\
                 \"logprobs\":null,\"finish_reason\":{reason}}}],\"usage\":{usage},\"obfuscation\":\"{padding}\"}}\n\n"
            )
        };
        let mut words = Words(1);
        let mut events = vec![event(&json!({"role": "assistant", "content": "", "refusal": null}), &NULL, &NULL, "k3")];
        let texts = EVENTS - 4;
        events.extend((0..texts).map(|at| {
            let text = if at % 29 == 28 { ".\n\n".to_owned() } else { format!(" {}", words.next()) };
            event(&json!({"content": text}), &NULL, &NULL, "aQ7xWm2")
        }));
        events.push(event(&json!({}), &json!("stop"), &NULL, "Zp0"));
        let usage = json!({"prompt_tokens": 61, "completion_tokens": texts, "total_tokens": 61 + texts,
            "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0}});
        events.push(event(&json!({}), &NULL, &usage, "").replace(&choice(), "[]"));
        events.push("data: [DONE]\n\n".to_owned());
        chunks(events)
    })
}

/// The choice of an event that has none of its own.
fn choice() -> String {
    "[{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":null}]".to_owned()
}

/// A message of Anthropic's, streamed. About 120 bytes an event.
pub(crate) fn anthropic_stream() -> &'static [Vec<u8>] {
    static STREAM: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    STREAM.get_or_init(|| {
        let event = |name: &str, rest: &str| format!("event: {name}\ndata: {{\"type\":\"{name}\"{rest}}}\n\n");
        let mut words = Words(2);
        let mut events = vec![
            event(
                "message_start",
                ",\"message\":{\"id\":\"msg_01Nq8RkH4dVbT2sWcYxZ5pLm\",\"type\":\"message\",\"role\":\"assistant\",\
                 \"model\":\"claude-sonnet-4-20250514\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\
                 \"usage\":{\"input_tokens\":61,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0,\
                 \"output_tokens\":1,\"service_tier\":\"standard\"}}",
            ),
            event("content_block_start", ",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}"),
            event("ping", ""),
        ];
        let texts = EVENTS - 6;
        events.extend((0..texts).map(|at| {
            let text = if at % 29 == 28 { ".\\n\\n".to_owned() } else { format!(" {} {}", words.next(), words.next()) };
            event(
                "content_block_delta",
                &format!(",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"{text}\"}}"),
            )
        }));
        events.push(event("content_block_stop", ",\"index\":0"));
        let usage = format!(",\"usage\":{{\"output_tokens\":{}}}", 2 * texts);
        events.push(event(
            "message_delta",
            &format!(",\"delta\":{{\"stop_reason\":\"end_turn\",\"stop_sequence\":null}}{usage}"),
        ));
        events.push(event("message_stop", ""));
        chunks(events)
    })
}

fn chunks(events: Vec<String>) -> Vec<Vec<u8>> {
    assert_eq!(events.len(), EVENTS);
    events.into_iter().map(|event| format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()).collect()
}

/// A chat completion in one piece.
pub(crate) fn answer() -> &'static [u8] {
    br#"{"id":"chatcmpl-BqGwX3kT0pJmVvYt5sEw8Zr1LhNcD","object":"chat.completion","created":1751887541,"model":"gpt-4o-mini-2024-07-18","choices":[{"index":0,"message":{"role":"assistant","content":"Done: all tests pass.","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":204812,"completion_tokens":7,"total_tokens":204819,"prompt_tokens_details":{"cached_tokens":203904,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0}},"service_tier":"default","system_fingerprint":"fp_34a54ae93c"}"#
}

/// A short question whose answer is wanted as a stream. OpenAI's and Anthropic's SDKs write the same but for the model.
pub(crate) fn question() -> Vec<u8> {
    let mut words = Words(3);
    let body = json!({
        "model": "gpt-4o-mini", "stream": true, "max_tokens": 1024, "temperature": 0.2,
        "messages": [{"role": "user", "content": words.text(300)}],
    });
    body.to_string().into_bytes()
}

/// The history of an agent that has worked on code for long, of so many bytes: instructions, tools, then in turn what the
/// user wants, what the model says and which tool it calls, and what the tool says. Raw UTF-8 as the SDKs send it, with the
/// escapes of quotes and line ends that code is full of.
pub(crate) fn history(bytes: usize) -> Vec<u8> {
    let mut words = Words(4);
    let tools: Vec<_> = (0..20).map(|index| tool(index, &mut words)).collect();
    let mut messages = vec![json!({"role": "system", "content": words.text(6_000)})];
    let body = |messages: &[Value]| json!({"model": "gpt-4o", "messages": messages, "tools": tools, "parallel_tool_calls": true, "temperature": 0.1});
    // The length of a whole is that of its parts and their commas.
    let mut length = body(&messages).to_string().len();
    let last = |text: String| json!({"role": "user", "content": text});
    let room = last(String::new()).to_string().len() + 1;
    for turn in 0.. {
        let id = format!("call_{:024}", turn);
        let arguments = json!({"path": format!("src/{}/{}.rs", words.next(), words.next()), "start": turn * 7,
            "pattern": format!("fn {}(\"{}\")", words.next(), words.next())});
        let call = json!({"id": id, "type": "function",
            "function": {"name": format!("tool_{}", turn % 20), "arguments": arguments.to_string()}});
        let turn = [
            json!({"role": "user", "content": words.text(900)}),
            json!({"role": "assistant", "content": words.text(1_500), "tool_calls": [call]}),
            json!({"role": "tool", "tool_call_id": id, "content": words.code(4_500)}),
            json!({"role": "assistant", "content": words.text(2_200)}),
        ];
        let more: usize = turn.iter().map(|message| message.to_string().len() + 1).sum();
        if length + more + room > bytes {
            break;
        }
        length += more;
        messages.extend(turn);
    }
    messages.push(last(".".repeat(bytes - length - room)));
    let body = body(&messages).to_string().into_bytes();
    assert_eq!(body.len(), bytes);
    body
}

fn tool(index: usize, words: &mut Words) -> Value {
    let text = json!({"type": "string", "description": words.text(120)});
    json!({"type": "function", "function": {"name": format!("tool_{index}"), "description": words.text(500), "strict": true,
        "parameters": {"type": "object", "properties": {"path": text, "start": {"type": "integer"}, "pattern": text},
            "required": ["path", "start", "pattern"], "additionalProperties": false}}})
}

/// What a shop's API is sent, of so many bytes.
pub(crate) fn orders(bytes: usize) -> Vec<u8> {
    let mut words = Words(5);
    let mut text = "{\"orders\":[".to_owned();
    for id in 1.. {
        let order = json!({"id": 100_000 + id, "sku": format!("{}-{id:05}", words.next()), "quantity": id % 9 + 1, "price": 12.5,
            "paid": true, "coupon": null, "tags": [words.next(), words.next()], "note": words.text(60)});
        let order = order.to_string();
        if text.len() + order.len() + 1 + END.len() > bytes {
            break;
        }
        text += &order;
        text.push(',');
    }
    // The rest is the last field.
    text.truncate(text.len() - 1);
    text += "],\"pad\":\"";
    text += &".".repeat(bytes - text.len() - 2);
    text += "\"}";
    text.into_bytes()
}

const END: &str = "],\"pad\":\"\"}";
const NULL: Value = Value::Null;

/// Words by a linear congruence.
struct Words(u64);

impl Words {
    fn draw(&mut self) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap()
    }

    fn next(&mut self) -> &'static str {
        WORDS[self.draw() % WORDS.len()]
    }

    /// Prose of about so many bytes, in paragraphs, with quotes.
    fn text(&mut self, bytes: usize) -> String {
        let mut text = String::new();
        while text.len() < bytes {
            match self.draw() % 24 {
                0 => text += ".\n\n",
                1 => text = text + " \"" + self.next() + "\"",
                2 => text += ",",
                3 => text = text + " `" + self.next() + "`",
                _ => text = text + " " + self.next(),
            }
        }
        text
    }

    /// Lines of code of about so many bytes.
    fn code(&mut self, bytes: usize) -> String {
        let mut text = String::new();
        while text.len() < bytes {
            let (one, other, third) = (self.next(), self.next(), self.next());
            text += &match self.draw() % 5 {
                0 => format!("pub fn {one}_{other}(&self, {third}: &str) -> Result<(), Error> {{\n"),
                1 => format!("    let {one} = self.{other}.get(\"{third}\").ok_or(\"no {third}\")?;\n"),
                2 => format!("\tif {one} != \"{other}\" {{ return Err(format!(\"{third}: {{{one}:?}}\")); }}\n"),
                3 => format!("    // {one} {other}: {third}, see above.\n"),
                _ => "    }\n}\n\n".to_owned(),
            };
        }
        text
    }
}

#[rustfmt::skip]
const WORDS: &[&str] = &[
    "the", "of", "request", "a", "stream", "and", "handler", "which", "returns", "value", "in", "to", "is", "when", "buffer",
    "connection", "für", "naïve", "déjà", "東京", "ошибка", "→", "not", "with", "test", "fails", "because", "index", "parser",
    "token", "that", "header", "should", "cache", "we", "can", "remove", "length", "instead", "module", "configuration",
    "server", "client", "message", "before", "after", "it", "on", "be", "as", "this", "from", "by", "timeout", "retry",
];
