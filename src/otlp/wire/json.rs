//! JSON text -> a structured `AnyValue`. The text is ours, so that its form is known; what is not JSON all the same is shown
//! as the string that it is.

use std::borrow::Cow;

use super::{field, put_bytes, put_fixed64, put_varint};

/// A `KeyValue` whose value is what the JSON text says.
pub(in crate::otlp) fn put_structured(out: &mut Vec<u8>, number: u32, key: &str, text: &str) {
    let mut value = Vec::with_capacity(text.len());
    let mut reader = Reader { text, at: 0 };
    if reader.value(&mut value, 0).is_none() || !reader.is_over() {
        value.clear();
        put_bytes(&mut value, field::STRING, text.as_bytes());
    }
    put_pair(out, number, key, &value);
}

fn put_pair(out: &mut Vec<u8>, number: u32, key: &str, value: &[u8]) {
    let mut pair = Vec::with_capacity(key.len() + value.len() + 16);
    put_bytes(&mut pair, field::KEY, key.as_bytes());
    put_bytes(&mut pair, field::VALUE, value);
    put_bytes(out, number, &pair);
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    /// The fields of an `AnyValue` inside so many messages; `None` if this is no JSON. Null is a value without a field.
    fn value(&mut self, out: &mut Vec<u8>, inside: usize) -> Option<()> {
        self.space();
        match self.peek()? {
            b'{' | b'[' if inside > MOST_INSIDE => {
                let from = self.at;
                self.skip()?;
                put_bytes(out, field::STRING, self.text.get(from..self.at)?.as_bytes());
            }
            b'{' => {
                let mut list = Vec::new();
                self.members(b'}', |reader| {
                    reader.space();
                    let key = reader.string()?;
                    reader.space();
                    let mut value = Vec::new();
                    reader.take(b':').then(|| reader.value(&mut value, inside + 3))??;
                    put_pair(&mut list, field::LIST_VALUES, &key, &value);
                    Some(())
                })?;
                put_bytes(out, field::LIST, &list);
            }
            b'[' => {
                let mut array = Vec::new();
                self.members(b']', |reader| {
                    let mut value = Vec::new();
                    reader.value(&mut value, inside + 2)?;
                    put_bytes(&mut array, field::ARRAY_VALUES, &value);
                    Some(())
                })?;
                put_bytes(out, field::ARRAY, &array);
            }
            b'"' => put_bytes(out, field::STRING, self.string()?.as_bytes()),
            _ => put_scalar(out, self.word())?,
        }
        Some(())
    }

    /// What stands between brackets, comma after comma.
    fn members(&mut self, close: u8, mut member: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.at += 1;
        self.space();
        if self.take(close) {
            return Some(());
        }
        loop {
            member(self)?;
            self.space();
            if self.take(close) {
                return Some(());
            }
            self.take(b',').then_some(())?;
        }
    }

    fn string(&mut self) -> Option<Cow<'a, str>> {
        self.take(b'"').then_some(())?;
        let mut found = Cow::Borrowed("");
        loop {
            let rest = self.text.get(self.at..)?;
            let length = rest.bytes().position(|byte| matches!(byte, b'"' | b'\\'))?;
            match (found.is_empty(), rest.get(..length)?) {
                (true, plain) => found = Cow::Borrowed(plain),
                (false, plain) => found.to_mut().push_str(plain),
            }
            self.at += length;
            if self.take(b'"') {
                return Some(found);
            }
            self.at += 1;
            found.to_mut().push(self.escaped()?);
        }
    }

    /// What stands behind a backslash. Half of a surrogate pair is no character.
    fn escaped(&mut self) -> Option<char> {
        let kind = self.peek()?;
        self.at += 1;
        Some(match kind {
            b'"' | b'\\' | b'/' => char::from(kind),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.unit()?;
                let after = self.at;
                let mut units = vec![first];
                if matches!(first, 0xd800..0xdc00) && self.take(b'\\') && self.take(b'u') {
                    units.push(self.unit()?);
                }
                let mut decoded = char::decode_utf16(units);
                decoded.next()?.unwrap_or_else(|_| {
                    self.at = after;
                    char::REPLACEMENT_CHARACTER
                })
            }
            _ => return None,
        })
    }

    fn unit(&mut self) -> Option<u16> {
        let digits = self.text.get(self.at..self.at + 4)?;
        self.at += 4;
        digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
    }

    /// A number, `true`, `false`, `null`.
    fn word(&mut self) -> &'a str {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
        let length = rest.bytes().position(|byte| !part(byte)).unwrap_or(rest.len());
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }

    /// An object or an array as a whole.
    fn skip(&mut self) -> Option<()> {
        let mut open = 0_usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => open += 1,
                b'}' | b']' => open -= 1,
                _ => {}
            }
            self.at += 1;
            if open == 0 {
                return Some(());
            }
        }
    }

    fn is_over(&mut self) -> bool {
        self.space();
        self.at == self.text.len()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, expected: u8) -> bool {
        let found = self.peek() == Some(expected);
        self.at += usize::from(found);
        found
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
}

fn put_scalar(out: &mut Vec<u8>, word: &str) -> Option<()> {
    match word {
        "null" => {}
        "true" | "false" => put_varint(out, field::BOOL, u64::from(word == "true")),
        number if !number.starts_with(|first: char| first == '-' || first.is_ascii_digit()) => return None,
        number => match (number.parse::<i64>(), number.parse::<f64>().ok()?) {
            (Ok(integer), _) => put_varint(out, field::INT, integer.cast_unsigned()),
            (_, double) if double.is_finite() => put_fixed64(out, field::DOUBLE, double.to_bits()),
            // More than a number can be: the digits say it all the same.
            _ => put_bytes(out, field::STRING, number.as_bytes()),
        },
    }
    Some(())
}

/// Readers of Protocol Buffers refuse a request with more than 100 messages inside each other. An object is three of them, an
/// array two, and the request has five around the first; what would be deeper is shown as its text.
const MOST_INSIDE: usize = 85;

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValueList};
    use prost::Message;
    use serde_json::{Value, json};

    use super::*;

    /// Through the wire and back.
    fn read(text: &str) -> AnyValue {
        let mut out = Vec::new();
        put_structured(&mut out, 1, "key", text);
        let pair = KeyValueList::decode(&*out).unwrap().values.remove(0);
        assert_eq!(pair.key, "key");
        pair.value.unwrap()
    }

    fn plain(value: &AnyValue) -> Value {
        match value.value.as_ref() {
            None => Value::Null,
            Some(Any::StringValue(text)) => json!(text),
            Some(Any::BoolValue(yes)) => json!(yes),
            Some(Any::IntValue(number)) => json!(number),
            Some(Any::DoubleValue(number)) => json!(number),
            Some(Any::ArrayValue(array)) => array.values.iter().map(plain).collect(),
            Some(Any::KvlistValue(list)) => {
                let value = |value: &Option<AnyValue>| plain(value.as_ref().unwrap());
                Value::Object(list.values.iter().map(|pair| (pair.key.clone(), value(&pair.value))).collect())
            }
            Some(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn json_becomes_what_another_reader_says_it_is() {
        for text in [
            r#"[{"role":"user","parts":[{"type":"text","content":"Hello"}]}]"#,
            r#" { "a" : [ ] , "b" : { } , "" : [ null , true , false ] } "#,
            r"[0,-1,9223372036854775807,-9223372036854775808,1.5,-2e3,1E-2,1e19]",
            r#"["\"\\\/\b\f\n\r\t","\u00e9\ud83d\ude00x","plain é 😀","","a\nb\nc"]"#,
            "\"text\"",
            "17",
            "null",
        ] {
            let expected: Value = serde_json::from_str(text).unwrap();
            assert_eq!(plain(&read(text)), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_json_is_a_string_and_a_number_beyond_numbers_its_digits() {
        for text in [
            "",
            "{",
            "[1",
            "[1,]",
            "{\"a\"}",
            "{\"a\":}",
            "\"a",
            "[1] 2",
            "nul",
            "[inf]",
            "[NaN]",
            "\"\\x\"",
            "\"\\u00g0\"",
        ] {
            assert_eq!(read(text).value, Some(Any::StringValue(text.to_owned())), "{text}");
        }
        assert_eq!(plain(&read("[1e999]")), json!(["1e999"]));
        assert_eq!(
            plain(&read(r#"["\ud83d","\ud83dx","\ud83d\u0041","\ude00"]"#)),
            json!(["\u{fffd}", "\u{fffd}x", "\u{fffd}A", "\u{fffd}"])
        );
    }

    #[test]
    fn json_however_deep_is_taken_by_a_reader_that_counts_messages() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let text = open.repeat(10_000) + r#"{"]":"}"}"# + &close.repeat(10_000);
            let mut value = read(&text);
            let mut levels = 0;
            let innermost = loop {
                value = match value.value.unwrap() {
                    Any::ArrayValue(mut array) => array.values.remove(0),
                    Any::KvlistValue(mut list) => list.values.remove(0).value.unwrap(),
                    Any::StringValue(text) => break text,
                    other => panic!("{other:?}"),
                };
                levels += 1;
            };
            assert!(levels > 25, "{levels}");
            assert_eq!(open.repeat(levels) + &innermost + &close.repeat(levels), text);
        }
    }
}
