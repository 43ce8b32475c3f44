//! The two edits of a request that a rule may ask for: usage for a stream, our context in MCP's `_meta`. Every other byte stays
//! as it was. And the one of an answer: the chunk that came only because usage was asked for is taken out again.

use std::ops::Range;

use memchr::memmem;

use super::item::Key;
use super::json::{ANY, Node, Reader, SCALAR, Shape};
use crate::trace::Placement;

/// The body with usage asked for (OpenAI, `stream_options`). `None`: it is no object, or asks already.
pub(crate) fn asking_for_usage(body: &[u8]) -> Option<Vec<u8>> {
    let root = object(body)?;
    let Some(options) = field(body, &root, "stream_options") else {
        return Some(inserted(body, &root, br#""stream_options":{"include_usage":true}"#));
    };
    let Some(inside) = object_at(body, &options) else {
        // `null`, which asks for nothing.
        return Some(replaced(body, &options, br#"{"include_usage":true}"#));
    };
    match field(body, &inside, "include_usage") {
        Some(asked) if body.get(asked.clone()) == Some(b"true") => None,
        Some(asked) => Some(replaced(body, &asked, b"true")),
        None => Some(inserted(body, &inside, br#""include_usage":true"#)),
    }
}

/// The body with our context in `params._meta` (MCP 2026-07-28, basic, "_meta"). `None`: it is no object with a method.
pub(crate) fn with_meta(body: &[u8], placement: &Placement) -> Option<Vec<u8>> {
    let root = object(body)?;
    field(body, &root, "method")?;
    let flags = placement.flags.to_u8();
    let traceparent = format!("\"00-{}-{}-{flags:02x}\"", placement.trace_id, placement.span_id);
    let mut body = set(body, &["params", "_meta", "traceparent"], traceparent.as_bytes())?;
    if !placement.tracestate.is_empty() {
        // Printable ASCII without quotes (W3C Trace Context, `tracestate`), or it would not have been taken in.
        let state = format!("\"{}\"", placement.tracestate.replace(['"', '\\'], ""));
        body = set(&body, &["params", "_meta", "tracestate"], state.as_bytes())?;
    }
    Some(body)
}

/// The body with this value at the end of a path of objects. One that is missing, or null, is made.
fn set(body: &[u8], path: &[&str], value: &[u8]) -> Option<Vec<u8>> {
    let mut inside = object(body)?;
    let mut rest = path;
    while let Some((name, behind)) = rest.split_first() {
        let made = || {
            let begin: String = behind.iter().map(|name| format!("{{\"{name}\":")).collect();
            [begin.as_bytes(), value, &b"}".repeat(behind.len())].concat()
        };
        match field(body, &inside, name) {
            None => return Some(inserted(body, &inside, &[format!("\"{name}\":").as_bytes(), &made()].concat())),
            Some(found) if behind.is_empty() => return Some(replaced(body, &found, value)),
            Some(found) => match object_at(body, &found) {
                Some(found) => inside = found,
                None if body.get(found.clone()) == Some(b"null") => return Some(replaced(body, &found, &made())),
                None => return None,
            },
        }
        rest = behind;
    }
    None
}

/// Takes the chunk out of a stream that came only because we asked for usage.
#[derive(Debug)]
pub(crate) struct UsageFilter {
    key: Key,
    /// The event under way.
    held: Vec<u8>,
    /// How far its end has been looked for in vain.
    scanned: usize,
    /// The event is too long to be the one.
    passing: bool,
}

impl UsageFilter {
    pub(crate) fn new(key: Key) -> Self {
        Self { key, held: Vec::new(), scanned: 0, passing: false }
    }

    /// What goes on of these bytes: whole events, all but the one.
    pub(crate) fn feed(&mut self, bytes: &[u8], ended: bool, out: &mut Vec<u8>) {
        self.held.extend_from_slice(bytes);
        while let Some(end) = event_end(&self.held, self.scanned) {
            let rest = self.held.split_off(end);
            let event = std::mem::replace(&mut self.held, rest);
            self.scanned = 0;
            if std::mem::take(&mut self.passing) || !is_usage(&event, self.key) {
                out.extend_from_slice(&event);
            }
        }
        self.scanned = self.held.len().saturating_sub(3);
        self.passing |= self.held.len() > MAX_EVENT;
        let last = ended && (self.passing || !is_usage(&self.held, self.key));
        if self.passing || last {
            // All but what may be the begin of the end.
            let kept = if ended { 0 } else { self.held.len().min(3) };
            let rest = self.held.split_off(self.held.len() - kept);
            out.extend_from_slice(&std::mem::replace(&mut self.held, rest));
            self.scanned = 0;
        }
    }
}

/// Behind the first empty line.
fn event_end(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    let ends = [&b"\n\n"[..], b"\n\r\n", b"\r\r"];
    ends.iter().filter_map(|end| memmem::find(rest, end).map(|at| from + at + end.len())).min()
}

/// A chunk with usage and without a choice.
fn is_usage(event: &[u8], key: Key) -> bool {
    static CHUNK: Shape = Shape::object(&[("choices", &Shape::array(&ANY)), ("usage", &USAGE)]);
    static USAGE: Shape = Shape::object(&[("total_tokens", &SCALAR)]);
    if event.len() > MAX_EVENT || memmem::find(event, b"\"usage\"").is_none() {
        return false;
    }
    let data = event.split(|byte| matches!(byte, b'\r' | b'\n')).filter_map(|line| line.strip_prefix(b"data:"));
    let mut reader = Reader::new(&CHUNK, 0, key);
    let read = data.into_iter().try_for_each(|line| reader.feed(line, &mut |_, _| {}));
    let chunk = read.and_then(|()| reader.end(&mut |_, _| {}));
    let Ok(chunk) = chunk else { return false };
    matches!(chunk.get("usage"), Some(Node::Object(_)))
        && matches!(chunk.get("choices"), Some(Node::Array(all)) if all.is_empty())
}

/// The inside of the object that a body is.
fn object(body: &[u8]) -> Option<Range<usize>> {
    let begin = body.iter().position(|byte| !byte.is_ascii_whitespace())?;
    let end = value_end(body, begin)?;
    let blank = body.get(end..)?.iter().all(u8::is_ascii_whitespace);
    object_at(body, &(begin..end)).filter(|_| blank)
}

/// The inside of an object.
fn object_at(body: &[u8], value: &Range<usize>) -> Option<Range<usize>> {
    let text = body.get(value.clone())?;
    (text.first() == Some(&b'{') && text.last() == Some(&b'}') && text.len() > 1)
        .then(|| value.start + 1..value.end - 1)
}

/// The value of a field. Of several of the same name the last, which is the one that counts.
fn field(body: &[u8], inside: &Range<usize>, name: &str) -> Option<Range<usize>> {
    let mut found = None;
    let mut at = inside.start;
    loop {
        at = skip(body, at, |byte| byte.is_ascii_whitespace() || byte == b',');
        if at >= inside.end {
            return found;
        }
        let name_end = value_end(body, at)?;
        let is_it = body.get(at + 1..name_end - 1) == Some(name.as_bytes());
        at = skip(body, name_end, |byte| byte.is_ascii_whitespace() || byte == b':');
        let end = value_end(body, at)?;
        if is_it {
            found = Some(at..end);
        }
        at = end;
    }
}

fn skip(body: &[u8], from: usize, blank: impl Fn(u8) -> bool) -> usize {
    from + body.get(from..).unwrap_or_default().iter().take_while(|byte| blank(**byte)).count()
}

/// Behind the value that begins here. It has been read as JSON before: only its end is looked for.
fn value_end(body: &[u8], begin: usize) -> Option<usize> {
    let (mut depth, mut text, mut escaped) = (0_u32, false, false);
    for (at, &byte) in body.iter().enumerate().skip(begin) {
        if text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => text = false,
                _ => {}
            }
            if text || depth > 0 {
                continue;
            }
            return Some(at + 1);
        }
        match byte {
            b'"' => text = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return Some(at),
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            b',' | b' ' | b'\t' | b'\r' | b'\n' if depth == 0 => return Some(at),
            _ => {}
        }
    }
    None
}

fn replaced(body: &[u8], range: &Range<usize>, with: &[u8]) -> Vec<u8> {
    let (before, after) = (body.get(..range.start).unwrap_or_default(), body.get(range.end..).unwrap_or_default());
    [before, with, after].concat()
}

/// A field more, behind the others.
fn inserted(body: &[u8], inside: &Range<usize>, field: &[u8]) -> Vec<u8> {
    let fields = body.get(inside.clone()).unwrap_or_default();
    let solid = fields.trim_ascii_end().len();
    let comma: &[u8] = if fields.trim_ascii().is_empty() { b"" } else { b"," };
    let at = inside.start + solid;
    replaced(body, &(at..at), &[comma, field].concat())
}

/// An event that is longer is no chunk of usage.
const MAX_EVENT: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::propagation;

    fn asked(body: &str) -> Option<String> {
        asking_for_usage(body.as_bytes()).map(|body| String::from_utf8(body).unwrap())
    }

    #[test]
    fn usage_is_asked_for_where_it_was_not_and_nothing_else_changes() {
        let cases = [
            (
                r#"{"a":"}\"{","stream":true}"#,
                Some(r#"{"a":"}\"{","stream":true,"stream_options":{"include_usage":true}}"#),
            ),
            (" { } \n", Some(" {\"stream_options\":{\"include_usage\":true} } \n")),
            (r#"{"stream_options":null,"b":[{}]}"#, Some(r#"{"stream_options":{"include_usage":true},"b":[{}]}"#)),
            (
                r#"{"stream_options":{"x": 1 }, "b":2}"#,
                Some(r#"{"stream_options":{"x": 1,"include_usage":true }, "b":2}"#),
            ),
            (r#"{"stream_options":{"include_usage" : false}}"#, Some(r#"{"stream_options":{"include_usage" : true}}"#)),
            (r#"{"stream_options":{"include_usage":true}}"#, None),
            ("[]", None),
            ("{", None),
            (r#"{"a":1} {"#, None),
        ];
        for (body, expected) in cases {
            assert_eq!(asked(body).as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn our_context_stands_in_meta_whatever_was_there() {
        let mut placement = propagation::start(&mut rand::rng());
        let ours = format!("00-{}-{}-03", placement.trace_id, placement.span_id);
        let cases = [
            (r#"{"method":"a"}"#, r#"{"method":"a","params":{"_meta":{"traceparent":"OURS"}}}"#),
            (r#"{"method":"a","params":{"x":1}}"#, r#"{"method":"a","params":{"x":1,"_meta":{"traceparent":"OURS"}}}"#),
            (
                r#"{"params":{"_meta":{"progressToken":7},"x":1},"method":"a"}"#,
                r#"{"params":{"_meta":{"progressToken":7,"traceparent":"OURS"},"x":1},"method":"a"}"#,
            ),
            (
                r#"{"method":"a","params":{"_meta":{"traceparent":"00-1","y":{}}}}"#,
                r#"{"method":"a","params":{"_meta":{"traceparent":"OURS","y":{}}}}"#,
            ),
        ];
        for (body, expected) in cases {
            let written = String::from_utf8(with_meta(body.as_bytes(), &placement).unwrap()).unwrap();
            assert_eq!(written.replace(&ours, "OURS"), expected);
        }
        for body in ["{}", "[]", r#"{"method":"a","params":[1]}"#] {
            assert_eq!(with_meta(body.as_bytes(), &placement), None, "{body}");
        }
        placement.tracestate = "ot=th:c".into();
        let written = String::from_utf8(with_meta(br#"{"method":"a"}"#, &placement).unwrap()).unwrap();
        assert!(written.ends_with(r#","tracestate":"ot=th:c"}}}"#), "{written}");
    }

    const CHUNK: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}],\"usage\":null}\n\n";
    const FILTERED: &str = "data: {\"choices\":[],\"prompt_filter_results\":[]}\r\n\r\n";
    const USAGE: &str = "data: {\"id\":\"x\",\"choices\":[],\"usage\":{\"total_tokens\":3}}\n\n";

    const LAST: &str =
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"last words\"}}],\"usage\":{\"total_tokens\":3}}\n\n";

    #[test]
    fn only_the_chunk_of_usage_is_taken_out_however_the_stream_is_cut() {
        let long = format!("data: {{\"choices\":[],\"usage\":{{\"x\":\"{}\"}}}}\n\n", "y".repeat(MAX_EVENT));
        for (stream, expected) in [
            ([FILTERED, CHUNK, USAGE, "data: [DONE]\n\n"].concat(), [FILTERED, CHUNK, "data: [DONE]\n\n"].concat()),
            ([CHUNK, LAST, USAGE].concat(), [CHUNK, LAST].concat()),
            ([CHUNK, USAGE.trim_end()].concat(), CHUNK.to_owned()),
            ([CHUNK, "data: {\"choi"].concat(), [CHUNK, "data: {\"choi"].concat()),
            (
                [": comment\n\n", "event: x\rdata: 1\r\r", USAGE].concat(),
                ": comment\n\nevent: x\rdata: 1\r\r".to_owned(),
            ),
            ([CHUNK, &long, USAGE].concat(), [CHUNK, &long].concat()),
        ] {
            let step = if stream.len() > 1000 { 977 } else { 1 };
            for cut in (0..=stream.len()).step_by(step) {
                let (mut filter, mut out) = (UsageFilter::new(Key::random()), Vec::new());
                filter.feed(&stream.as_bytes()[..cut], false, &mut out);
                filter.feed(&stream.as_bytes()[cut..], true, &mut out);
                assert!(out == expected.as_bytes(), "cut at {cut}: {}", String::from_utf8_lossy(&out));
            }
        }
    }
}
