//! Our own log: lines on stderr, with a filter that can be changed while the process runs.

use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// The handle on the log's filter.
#[derive(Clone, Debug)]
pub struct LogFilter(reload::Handle<EnvFilter, Registry>);

impl LogFilter {
    /// The directives in force.
    pub fn directives(&self) -> String {
        // Fails only where no log was started.
        self.0.with_current(ToString::to_string).unwrap_or_default()
    }

    /// Other directives from now on.
    pub fn set(&self, directives: &str) -> Result<(), ParseError> {
        let filter = EnvFilter::builder().parse(directives)?;
        let _ = self.0.reload(filter);
        Ok(())
    }
}

/// Starts the process's log on stderr: text, or JSON lines. `filter` is in the syntax of `tracing_subscriber`'s `EnvFilter`.
pub fn start_log(filter: &str, json: bool) -> LogFilter {
    let (filter, handle) = reload::Layer::new(EnvFilter::builder().parse_lossy(filter));
    let lines = fmt::layer().with_writer(std::io::stderr);
    let log = tracing_subscriber::registry().with(filter);
    // A second start in one process keeps the first log.
    let _ = if json {
        log.with(lines.json().flatten_event(true)).try_init()
    } else {
        log.with(lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))).try_init()
    };
    LogFilter(handle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_directive_is_refused_and_changes_nothing() {
        let (_filter, handle) = reload::Layer::new(EnvFilter::builder().parse_lossy("info"));
        let filter = LogFilter(handle);
        assert_eq!(filter.directives(), "info");
        filter.set("warn,sidetrace::proxy=debug").unwrap();
        assert_eq!(filter.directives(), "sidetrace::proxy=debug,warn");
        assert!(filter.set("sidetrace=loud").is_err());
        assert_eq!(filter.directives(), "sidetrace::proxy=debug,warn");
    }
}
