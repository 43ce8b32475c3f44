//! A row of the table, and the steps of those that are conversations; `talk.py` says what each step does.

use serde_json::{Value, json};

/// One row: a name that tells what it is about, what its ends do, and what is expected of us.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// The client's steps; none when a program of its own plays the row.
    pub(crate) client: Vec<Value>,
    /// The origin's steps; none when another server plays it.
    pub(crate) origin: Option<Vec<Value>>,
    /// The port of that other server.
    pub(crate) port: Option<u16>,
    pub(crate) expected: Expected,
    /// How many requests get a `traceparent`; `None` is one for each request line that the origin sees.
    pub(crate) traced: Option<usize>,
    /// Whether the origin sees several calls at once, in an order that nobody promises.
    pub(crate) at_once: bool,
}

/// What both ends see with us, compared to without us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Same,
    /// A known limit. The row fails as soon as it is none.
    Differs(&'static str),
    /// Both sides are reset, and of the requests no more than `traced` have reached the origin: none unless said.
    Refused,
}

impl Row {
    pub(crate) fn differs(mut self, why: &'static str) -> Self {
        self.expected = Expected::Differs(why);
        self
    }

    pub(crate) fn refused(mut self) -> Self {
        self.expected = Expected::Refused;
        self
    }

    pub(crate) fn at_once(mut self) -> Self {
        self.at_once = true;
        self
    }

    pub(crate) fn traced(mut self, requests: usize) -> Self {
        self.traced = Some(requests);
        self
    }
}

/// A row with both ends' steps.
pub(super) fn row<const C: usize, const O: usize>(name: &str, client: [Value; C], origin: [Value; O]) -> Row {
    Row { client: client.into(), origin: Some(origin.into()), ..named(name) }
}

/// A row that programs of its own play.
pub(crate) fn named(name: &str) -> Row {
    Row {
        name: name.into(),
        client: vec![],
        origin: None,
        port: None,
        expected: Expected::Same,
        traced: None,
        at_once: false,
    }
}

/// A row with steps for the client, and a server of its own on `port`.
pub(super) fn server<const C: usize>(name: &str, port: u16, client: [Value; C]) -> Row {
    Row { client: client.into(), port: Some(port), ..named(name) }
}

/// One request, read whole, then one answer, read whole; then the client closes.
pub(super) fn exchange(name: &str, request: &str, answer: &str) -> Row {
    let body = request.split_once("\r\n\r\n").map_or(0, |(_, body)| body.chars().count());
    let size = answer.chars().count();
    row(name, [send(request), bytes(size), fin()], [head(), bytes(body), send(answer)])
}

/// The same with an answer that ends with the connection.
pub(super) fn exchange_closed(name: &str, request: &str, answer: &str) -> Row {
    let body = request.split_once("\r\n\r\n").map_or(0, |(_, body)| body.chars().count());
    row(name, [send(request)], [head(), bytes(body), send(answer), close()])
}

/// Characters up to U+00FF are bytes.
pub(super) fn send(text: impl AsRef<str>) -> Value {
    json!(["send", text.as_ref()])
}

pub(super) fn drip(text: &str) -> Value {
    json!(["drip", text])
}

pub(super) fn fill(size: usize) -> Value {
    json!(["fill", size])
}

pub(super) fn until(text: &str) -> Value {
    json!(["until", text])
}

/// A head of HTTP/1.
pub(super) fn head() -> Value {
    until("\r\n\r\n")
}

pub(super) fn bytes(size: usize) -> Value {
    json!(["bytes", size])
}

pub(super) fn digest(size: usize) -> Value {
    json!(["digest", size])
}

pub(super) fn rest() -> Value {
    json!(["rest"])
}

pub(super) fn fin() -> Value {
    json!(["fin"])
}

pub(super) fn reset() -> Value {
    json!(["reset"])
}

pub(super) fn close() -> Value {
    json!(["close"])
}

pub(super) fn gone() -> Value {
    json!(["gone"])
}

pub(super) fn flood() -> Value {
    json!(["flood"])
}

pub(super) fn tell(name: &str) -> Value {
    json!(["tell", name])
}

pub(super) fn hold(name: &str) -> Value {
    json!(["hold", name])
}

pub(super) fn next() -> Value {
    json!(["next"])
}

pub(super) fn tls() -> Value {
    json!(["tls"])
}

/// curl in place of the client's steps; `URL` is the origin's, `ADDRESS` the same without its scheme.
pub(super) fn curl(arguments: &[&str]) -> Value {
    Value::from_iter(["curl"].iter().chain(arguments).copied())
}
