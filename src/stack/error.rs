//! The one error of the stack: whose fault it was, and what the span calls it.

use std::error::Error;
use std::{fmt, io};

/// Who failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The agent's side: it went away, or sent what is no HTTP.
    Client,
    /// The far side.
    Upstream,
}

/// Why an exchange ended without a complete answer.
#[derive(Debug)]
pub struct StackError {
    fault: Fault,
    error_type: &'static str,
    reset: Option<h2::Reason>,
    // hyper looks through the sources for an `h2::Error`, and resets the other side's stream with the same code.
    source: Box<dyn Error + Send + Sync>,
}

impl StackError {
    /// An error of the connection to upstream.
    pub fn upstream(source: hyper::Error) -> Self {
        Self::new(Fault::Upstream, source)
    }

    /// An error while the client's request was read.
    pub fn client(source: hyper::Error) -> Self {
        Self::new(Fault::Client, source)
    }

    /// Upstream could not be reached again.
    pub fn connect(source: io::Error) -> Self {
        Self { fault: Fault::Upstream, error_type: io_error_type(&source), reset: None, source: Box::new(source) }
    }

    /// A request of HTTP/2 that never reached upstream: the client may send it again without a doubt (RFC 9113,
    /// section 8.7).
    pub fn unsent() -> Self {
        let reason = h2::Reason::REFUSED_STREAM;
        Self {
            fault: Fault::Upstream,
            error_type: reset_error_type(reason),
            reset: Some(reason),
            source: Box::new(h2::Error::from(reason)),
        }
    }

    /// Whether upstream's GOAWAY left the request out: streams above its last one were not processed (RFC 9113,
    /// section 6.8).
    pub fn left_out(source: &hyper::Error) -> bool {
        let mut cause: Option<&(dyn Error + 'static)> = Some(source);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<h2::Error>() {
                return error.is_go_away() && error.is_remote();
            }
            cause = error.source();
        }
        false
    }

    fn new(fault: Fault, source: hyper::Error) -> Self {
        let mut cause: Option<&(dyn Error + 'static)> = Some(&source);
        let (mut reset, mut io) = (None, None);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<h2::Error>() {
                reset = reset.or(error.reason());
                io = io.or(error.get_io().map(io_error_type));
            } else if let Some(error) = error.downcast_ref::<io::Error>() {
                io = io.or(Some(io_error_type(error)));
            }
            cause = error.source();
        }
        let error_type = match (reset, io) {
            (Some(reason), _) => reset_error_type(reason),
            (None, Some(io)) => io,
            (None, None) if source.is_parse() => "protocol_error",
            (None, None) if source.is_canceled() => "cancelled",
            (None, None) => "connection_closed",
        };
        Self { fault, error_type, reset, source: Box::new(source) }
    }

    /// Who failed.
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// The value of `error.type`.
    pub fn error_type(&self) -> &'static str {
        self.error_type
    }

    /// The code of the RST_STREAM or GOAWAY that ended the exchange.
    pub fn reset(&self) -> Option<h2::Reason> {
        self.reset
    }
}

impl fmt::Display for StackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.fault {
            Fault::Client => "client",
            Fault::Upstream => "upstream",
        };
        write!(f, "{side}: {}", self.error_type)
    }
}

impl Error for StackError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}

/// The value of `error.type` for a failed socket.
pub fn io_error_type(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection_refused",
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "connection_reset",
        io::ErrorKind::TimedOut => "timeout",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "unreachable",
        io::ErrorKind::UnexpectedEof => "connection_closed",
        _ => "io_error",
    }
}

/// RFC 9113, section 7.
fn reset_error_type(reason: h2::Reason) -> &'static str {
    match reason {
        h2::Reason::NO_ERROR => "NO_ERROR",
        h2::Reason::PROTOCOL_ERROR => "PROTOCOL_ERROR",
        h2::Reason::INTERNAL_ERROR => "INTERNAL_ERROR",
        h2::Reason::FLOW_CONTROL_ERROR => "FLOW_CONTROL_ERROR",
        h2::Reason::SETTINGS_TIMEOUT => "SETTINGS_TIMEOUT",
        h2::Reason::STREAM_CLOSED => "STREAM_CLOSED",
        h2::Reason::FRAME_SIZE_ERROR => "FRAME_SIZE_ERROR",
        h2::Reason::REFUSED_STREAM => "REFUSED_STREAM",
        h2::Reason::CANCEL => "CANCEL",
        h2::Reason::COMPRESSION_ERROR => "COMPRESSION_ERROR",
        h2::Reason::CONNECT_ERROR => "CONNECT_ERROR",
        h2::Reason::ENHANCE_YOUR_CALM => "ENHANCE_YOUR_CALM",
        h2::Reason::INADEQUATE_SECURITY => "INADEQUATE_SECURITY",
        h2::Reason::HTTP_1_1_REQUIRED => "HTTP_1_1_REQUIRED",
        _ => "h2_reset",
    }
}
