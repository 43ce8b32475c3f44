//! The agent's own telemetry: recognised, so that it is passed without span, header or run. One line of the table each.
//!
//! By host where a host takes nothing else, by path where the path is a protocol's own. An agent can hide a call by
//! naming such a host: this is observability, not enforcement, and every such call is counted.

use super::{Subject, bare_host};
use crate::config::rules::ends_with_ignoring_case;

/// The kind of telemetry that a call carries, for a counter's label.
pub fn telemetry(call: &Subject<'_>) -> Option<&'static str> {
    let host = call.host.map_or("", bare_host);
    let ends = (first(host.as_bytes()), last(host.as_bytes()));
    let writes = matches!(call.method, "POST" | "PUT");
    TABLE.iter().find(|line| line.takes_host(host, ends, writes) && line.takes_call(call, writes)).map(|line| line.kind)
}

struct Line {
    kind: &'static str,
    host: Host,
    path: Path,
    content: Content,
}

/// Names have eight letters or more.
enum Host {
    /// Any host: the path says it all.
    Any,
    /// This name and those below it.
    At(&'static str, u64),
    /// Names that begin so.
    Begins(&'static str, u64),
    /// Names that end so.
    Ends(&'static str, u64),
}

/// But for `Any`, only of a POST or PUT: what is read from such an API is a call like others.
enum Path {
    Any,
    Begins(&'static [&'static str]),
    Ends(&'static [&'static str]),
    /// What stands before and behind one segment.
    Around(&'static str, &'static str),
}

enum Content {
    Any,
    Otlp,
}

impl Line {
    /// Eight letters as a number rule nearly every line out before texts are compared: this is asked for every call.
    fn takes_host(&self, host: &str, (first, last): (u64, u64), writes: bool) -> bool {
        match self.host {
            Host::Any => writes,
            Host::At(name, letters) => {
                last == letters
                    && ends_with_ignoring_case(host, name)
                    && (host.len() == name.len() || host.as_bytes()[host.len() - name.len() - 1] == b'.')
            }
            Host::Begins(start, letters) => {
                first == letters
                    && host
                        .as_bytes()
                        .get(..start.len())
                        .is_some_and(|begin| begin.eq_ignore_ascii_case(start.as_bytes()))
            }
            Host::Ends(end, letters) => last == letters && ends_with_ignoring_case(host, end),
        }
    }

    fn takes_call(&self, call: &Subject<'_>, writes: bool) -> bool {
        self.takes_path(call.path, writes) && self.takes_content(call)
    }

    fn takes_path(&self, path: &str, writes: bool) -> bool {
        match self.path {
            Path::Any => true,
            Path::Begins(starts) => writes && starts.iter().any(|start| path.starts_with(start)),
            Path::Ends(ends) => writes && ends.iter().any(|end| path.ends_with(end)),
            Path::Around(before, behind) => {
                let segment = path.strip_prefix(before).and_then(|rest| rest.strip_suffix(behind));
                writes && segment.is_some_and(|segment| !segment.is_empty() && !segment.contains('/'))
            }
        }
    }

    fn takes_content(&self, call: &Subject<'_>) -> bool {
        match self.content {
            Content::Any => true,
            Content::Otlp => {
                let content = call.content_type.unwrap_or_default();
                let content = content.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
                content.eq_ignore_ascii_case(b"application/x-protobuf")
                    || content.eq_ignore_ascii_case(b"application/json")
            }
        }
    }
}

/// The first eight bytes in lower case, as far as that goes with one bit; none if there are fewer.
const fn first(text: &[u8]) -> u64 {
    match text.first_chunk() {
        Some(letters) => u64::from_ne_bytes(*letters) | LOWER,
        None => 0,
    }
}

/// The same of the last eight.
const fn last(text: &[u8]) -> u64 {
    match text.last_chunk() {
        Some(letters) => u64::from_ne_bytes(*letters) | LOWER,
        None => 0,
    }
}

const fn at(name: &'static str) -> Host {
    Host::At(name, last(name.as_bytes()))
}

const fn begins(start: &'static str) -> Host {
    Host::Begins(start, first(start.as_bytes()))
}

const fn ends(end: &'static str) -> Host {
    Host::Ends(end, last(end.as_bytes()))
}

const fn line(kind: &'static str, host: Host, path: Path) -> Line {
    Line { kind, host, path, content: Content::Any }
}

/// What is asked most often, and by its path alone, comes first.
static TABLE: [Line; 31] = [
    Line {
        kind: "otlp",
        host: Host::Any,
        path: Path::Ends(&["/v1/traces", "/v1/metrics", "/v1/logs"]),
        content: Content::Otlp,
    },
    line("otlp", Host::Any, Path::Around("/opentelemetry.proto.collector.", "/Export")),
    line("zipkin", Host::Any, Path::Ends(&["/api/v2/spans"])),
    line("openai_agents", at("api.openai.com"), Path::Begins(&["/v1/traces/ingest"])),
    line("statsig", at("statsigapi.net"), Path::Any),
    line("statsig", at("statsig.com"), Path::Any),
    line("statsig", at("statsigcdn.com"), Path::Any),
    line("statsig", at("featureassets.org"), Path::Any),
    line("statsig", at("prodregistryv2.org"), Path::Any),
    line("sentry", ends(".ingest.sentry.io"), Path::Any),
    line("sentry", ends(".ingest.us.sentry.io"), Path::Any),
    line("sentry", ends(".ingest.de.sentry.io"), Path::Any),
    line("sentry", at("sentry.io"), Path::Around("/api/", "/store/")),
    // A Sentry of one's own.
    line("sentry", Host::Any, Path::Around("/api/", "/envelope/")),
    line("posthog", at("i.posthog.com"), Path::Any),
    line("posthog", at("posthog.com"), Path::Begins(&["/batch", "/capture", "/e/", "/i/v0/", "/decide", "/flags"])),
    line("datadog", begins("http-intake.logs."), Path::Any),
    line("datadog", begins("trace.agent.datadoghq."), Path::Any),
    line("datadog", begins("llmobs-intake."), Path::Any),
    line("datadog", begins("instrumentation-telemetry-intake."), Path::Any),
    line("datadog", begins("browser-intake-"), Path::Any),
    // Its local agent.
    line("datadog", Host::Any, Path::Begins(&["/telemetry/proxy/api/v2/", "/evp_proxy/v"])),
    line("datadog", Host::Any, Path::Around("/v0.", "/traces")),
    line("segment", at("api.segment.io"), Path::Any),
    line("segment", at("events.eu1.segmentapis.com"), Path::Any),
    line("honeycomb", at("api.honeycomb.io"), Path::Begins(&["/1/events/", "/1/batch/"])),
    line("honeycomb", at("api.eu1.honeycomb.io"), Path::Begins(&["/1/events/", "/1/batch/"])),
    line("langsmith", at("smith.langchain.com"), Path::Ends(&["/runs/multipart", "/runs/batch"])),
    // A LangSmith of one's own. `/runs/batch` alone is a LangGraph server's: a call.
    line("langsmith", Host::Any, Path::Ends(&["/runs/multipart", "/api/v1/runs/batch"])),
    line("langfuse", Host::Any, Path::Ends(&["/api/public/ingestion"])),
    line("langfuse", Host::Any, Path::Begins(&["/api/public/otel"])),
];

const LOWER: u64 = 0x2020_2020_2020_2020;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_the_table_is_too_short_for_its_letters() {
        for line in &TABLE {
            if let Host::At(_, letters) | Host::Begins(_, letters) | Host::Ends(_, letters) = line.host {
                assert_ne!(letters, 0, "{}", line.kind);
            }
        }
    }
}
