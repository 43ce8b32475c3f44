//! Protocol Buffers as far as OTLP needs them ("Encoding"), and what all its signals share: `AnyValue`, `KeyValue`, times.

mod json;

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry::{Array, KeyValue, Value};
use prost::encoding::{encode_varint, encoded_len_varint};

pub(super) use self::json::put_structured;

/// A `KeyValue`, its length known before it is written.
pub(super) fn put_attribute(out: &mut Vec<u8>, number: u32, attribute: &KeyValue) {
    let key = attribute.key.as_str();
    let value_length = any_value_length(&attribute.value);
    put_head(out, number, bytes_length(key.len()) + bytes_length(value_length));
    put_bytes(out, field::KEY, key.as_bytes());
    put_head(out, field::VALUE, value_length);
    put_any_value(out, &attribute.value);
}

/// An `AnyValue`.
fn put_any_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Bool(value) => put_varint(out, field::BOOL, u64::from(*value)),
        Value::I64(value) => put_varint(out, field::INT, value.cast_unsigned()),
        Value::F64(value) => put_fixed64(out, field::DOUBLE, value.to_bits()),
        Value::String(value) => put_bytes(out, field::STRING, value.as_str().as_bytes()),
        Value::Array(values) => put_bytes(out, field::ARRAY, &array(values)),
        // The enum may grow; what is new is shown as text rather than lost.
        other => put_bytes(out, field::STRING, other.to_string().as_bytes()),
    }
}

fn any_value_length(value: &Value) -> usize {
    match value {
        Value::Bool(_) => 2,
        Value::I64(value) => 1 + encoded_len_varint(value.cast_unsigned()),
        Value::F64(_) => 9,
        Value::String(value) => bytes_length(value.as_str().len()),
        Value::Array(values) => bytes_length(array(values).len()),
        other => bytes_length(other.to_string().len()),
    }
}

/// An `ArrayValue`. Arrays are rare: this one is made twice, for its length and for itself.
fn array(values: &Array) -> Vec<u8> {
    let values: Vec<Value> = match values {
        Array::Bool(values) => values.iter().copied().map(Value::Bool).collect(),
        Array::I64(values) => values.iter().copied().map(Value::I64).collect(),
        Array::F64(values) => values.iter().copied().map(Value::F64).collect(),
        Array::String(values) => values.iter().cloned().map(Value::String).collect(),
        other => vec![Value::from(format!("{other}"))],
    };
    let mut message = Vec::new();
    for value in &values {
        put_head(&mut message, field::ARRAY_VALUES, any_value_length(value));
        put_any_value(&mut message, value);
    }
    message
}

pub(super) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_head(out, number, bytes.len());
    out.extend_from_slice(bytes);
}

/// Tag and length of a field that is delimited by its length.
pub(super) fn put_head(out: &mut Vec<u8>, number: u32, length: usize) {
    encode_varint(u64::from(number << 3 | 2), out);
    encode_varint(length as u64, out);
}

pub(super) fn put_varint(out: &mut Vec<u8>, number: u32, value: u64) {
    encode_varint(u64::from(number << 3), out);
    encode_varint(value, out);
}

pub(super) fn put_fixed64(out: &mut Vec<u8>, number: u32, value: u64) {
    encode_varint(u64::from(number << 3 | 1), out);
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn put_fixed32(out: &mut Vec<u8>, number: u32, value: u32) {
    encode_varint(u64::from(number << 3 | 5), out);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Of a delimited field with a tag of one byte, which all fields inside a `KeyValue` have.
fn bytes_length(length: usize) -> usize {
    1 + encoded_len_varint(length as u64) + length
}

pub(super) fn nanos(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Field numbers.
mod field {
    pub(super) const KEY: u32 = 1;
    pub(super) const VALUE: u32 = 2;
    pub(super) const STRING: u32 = 1;
    pub(super) const BOOL: u32 = 2;
    pub(super) const INT: u32 = 3;
    pub(super) const DOUBLE: u32 = 4;
    pub(super) const ARRAY: u32 = 5;
    pub(super) const LIST: u32 = 6;
    pub(super) const ARRAY_VALUES: u32 = 1;
    pub(super) const LIST_VALUES: u32 = 1;
}
