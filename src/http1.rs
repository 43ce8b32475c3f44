//! HTTP/1 messages on the wire (RFC 9112): where a head ends and what it says, where a body ends. Pure: bytes in,
//! positions out. Nothing is copied and nothing is rewritten, so that what goes on is what came in.
//!
//! An HTTP library gives its users the meaning of a message and writes it anew: chunks, trailers, interim answers, the order
//! and the spelling of header lines, a status line get lost on the way. A proxy that must break nothing needs the bytes. What
//! it has to know beside them is little: the header lines, and the message's length.
//!
//! The bias: a request whose length two readers could see differently is [`Fault::Ambiguous`] and must not be passed on;
//! what is no HTTP at all is [`Fault::Unreadable`] and may be passed on unread.

#[cfg(test)]
mod agreement;
pub mod body;
pub mod head;

pub use body::{Body, Fed};
pub use head::{Field, Head, RequestLine, StatusLine};

/// Why a message cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not HTTP/1, or with lines that say nothing about its length but are no header lines.
    Unreadable,
    /// Its length, or where its head ends, depends on who reads it: the text says what is wrong.
    Ambiguous(&'static str),
}
