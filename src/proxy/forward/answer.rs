//! The answers that are the forward proxy's own: why a request was refused, in one line of text.

use std::io;

/// Why a request was refused.
#[derive(Debug)]
pub(super) enum Refusal {
    /// No request to a proxy: what is wrong with it.
    Malformed(&'static str),
    /// Another scheme than `http` in absolute form.
    Scheme,
    /// It says nobody.
    NoCredential,
    /// It says somebody else.
    WrongCredential,
    /// The destination: why it is refused.
    Forbidden(&'static str),
    /// It cannot be looked up.
    NoSuchName,
    /// Upstream refuses connections, or there is no way to it.
    Unreachable(io::Error),
    /// The look-up or upstream did not answer in time.
    Timeout,
}

/// How the client wants to hear it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Manner {
    /// Its method is HEAD: an answer has no body.
    pub(super) to_head: bool,
    /// The connection can be used again.
    pub(super) keeps: bool,
    /// It is CONNECT: what stands behind it was said to somebody else.
    pub(super) tunnels: bool,
}

impl Refusal {
    /// The label of `sidetrace_forward_refused_total`.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Refusal::Malformed(_) | Refusal::Scheme => "malformed",
            Refusal::NoCredential => "no_credential",
            Refusal::WrongCredential => "wrong_credential",
            Refusal::Forbidden(_) => "forbidden",
            Refusal::NoSuchName => "no_such_name",
            Refusal::Unreachable(_) => "unreachable",
            Refusal::Timeout => "timeout",
        }
    }

    /// The whole answer.
    pub(super) fn answer(&self, manner: Manner) -> String {
        let (status, why) = match self {
            Refusal::Malformed(why) => ("400 Bad Request", (*why).to_owned()),
            Refusal::Scheme => {
                ("501 Not Implemented", "only http:// is asked for like this; https takes CONNECT".into())
            }
            Refusal::NoCredential => {
                (AUTHENTICATE, "user sidetrace and SIDETRACE_FORWARD_CREDENTIAL are needed".into())
            }
            Refusal::WrongCredential => (AUTHENTICATE, "this is not the credential of this pod".into()),
            Refusal::Forbidden(why) => ("403 Forbidden", (*why).to_owned()),
            Refusal::NoSuchName => ("502 Bad Gateway", "the name of the destination cannot be looked up".into()),
            Refusal::Unreachable(error) => ("502 Bad Gateway", format!("the destination cannot be reached: {error}")),
            Refusal::Timeout => ("504 Gateway Timeout", "the destination did not answer in time".into()),
        };
        let challenge = if status == AUTHENTICATE { "proxy-authenticate: Basic realm=\"sidetrace\"\r\n" } else { "" };
        let close = if manner.keeps { "" } else { "connection: close\r\n" };
        let text = format!("Sidetrace: {why}\n");
        let length = text.len();
        let body = if manner.to_head { "" } else { &text };
        format!(
            "HTTP/1.1 {status}\r\n{challenge}content-type: text/plain\r\ncontent-length: {length}\r\n{close}\r\n{body}"
        )
    }
}

/// An accepted CONNECT (RFC 9110, section 9.3.6).
pub(super) const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
const AUTHENTICATE: &str = "407 Proxy Authentication Required";
