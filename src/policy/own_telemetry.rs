//! The agent's own telemetry: recognised, so that it is passed without span, header or run. One line of the table each.
//!
//! By host where a host takes nothing else, by path where the path is a protocol's own. An agent can hide a call by
//! naming such a host: this is observability, not enforcement, and every such call is counted.

use super::{Subject, bare_host};
use crate::config::rules::ends_with_ignoring_case;

/// The kind of telemetry that a call carries, for a counter's label.
pub fn telemetry(call: &Subject<'_>) -> Option<&'static str> {
    let host = call.host.map_or("", bare_host);
    TABLE.iter().find(|line| line.takes(call, host)).map(|line| line.kind)
}

struct Line {
    kind: &'static str,
    host: Host,
    path: Path,
    content: Content,
}

enum Host {
    Any,
    /// This name and those below it.
    At(&'static str),
    /// Names that begin so.
    Begins(&'static str),
    /// Names that end so.
    Ends(&'static str),
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
    fn takes(&self, call: &Subject<'_>, host: &str) -> bool {
        let host = match self.host {
            Host::Any => true,
            Host::At(name) => {
                ends_with_ignoring_case(host, name)
                    && (host.len() == name.len() || host.as_bytes()[host.len() - name.len() - 1] == b'.')
            }
            Host::Begins(start) => {
                host.as_bytes().get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start.as_bytes()))
            }
            Host::Ends(end) => ends_with_ignoring_case(host, end),
        };
        host && self.takes_path(call) && self.takes_content(call)
    }

    fn takes_path(&self, call: &Subject<'_>) -> bool {
        let (path, post) = (call.path, matches!(call.method, "POST" | "PUT"));
        match self.path {
            Path::Any => true,
            Path::Begins(starts) => post && starts.iter().any(|start| path.starts_with(start)),
            Path::Ends(ends) => post && ends.iter().any(|end| path.ends_with(end)),
            Path::Around(before, behind) => {
                let segment = path.strip_prefix(before).and_then(|rest| rest.strip_suffix(behind));
                post && segment.is_some_and(|segment| !segment.is_empty() && !segment.contains('/'))
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

const fn line(kind: &'static str, host: Host, path: Path) -> Line {
    Line { kind, host, path, content: Content::Any }
}

/// What is asked most often, and by its path alone, comes first.
const TABLE: [Line; 31] = [
    Line {
        kind: "otlp",
        host: Host::Any,
        path: Path::Ends(&["/v1/traces", "/v1/metrics", "/v1/logs"]),
        content: Content::Otlp,
    },
    line("otlp", Host::Any, Path::Around("/opentelemetry.proto.collector.", "/Export")),
    line("zipkin", Host::Any, Path::Ends(&["/api/v2/spans"])),
    line("openai_agents", Host::At("api.openai.com"), Path::Begins(&["/v1/traces/ingest"])),
    line("statsig", Host::At("statsigapi.net"), Path::Any),
    line("statsig", Host::At("statsig.com"), Path::Any),
    line("statsig", Host::At("statsigcdn.com"), Path::Any),
    line("statsig", Host::At("featureassets.org"), Path::Any),
    line("statsig", Host::At("prodregistryv2.org"), Path::Any),
    line("sentry", Host::Ends(".ingest.sentry.io"), Path::Any),
    line("sentry", Host::Ends(".ingest.us.sentry.io"), Path::Any),
    line("sentry", Host::Ends(".ingest.de.sentry.io"), Path::Any),
    line("sentry", Host::At("sentry.io"), Path::Around("/api/", "/store/")),
    // A Sentry of one's own.
    line("sentry", Host::Any, Path::Around("/api/", "/envelope/")),
    line("posthog", Host::At("i.posthog.com"), Path::Any),
    line(
        "posthog",
        Host::At("posthog.com"),
        Path::Begins(&["/batch", "/capture", "/e/", "/i/v0/", "/decide", "/flags"]),
    ),
    line("datadog", Host::Begins("http-intake.logs."), Path::Any),
    line("datadog", Host::Begins("trace.agent.datadoghq."), Path::Any),
    line("datadog", Host::Begins("llmobs-intake."), Path::Any),
    line("datadog", Host::Begins("instrumentation-telemetry-intake."), Path::Any),
    line("datadog", Host::Begins("browser-intake-"), Path::Any),
    // Its local agent.
    line("datadog", Host::Any, Path::Begins(&["/telemetry/proxy/api/v2/", "/evp_proxy/v"])),
    line("datadog", Host::Any, Path::Around("/v0.", "/traces")),
    line("segment", Host::At("api.segment.io"), Path::Any),
    line("segment", Host::At("events.eu1.segmentapis.com"), Path::Any),
    line("honeycomb", Host::At("api.honeycomb.io"), Path::Begins(&["/1/events/", "/1/batch/"])),
    line("honeycomb", Host::At("api.eu1.honeycomb.io"), Path::Begins(&["/1/events/", "/1/batch/"])),
    line("langsmith", Host::At("smith.langchain.com"), Path::Ends(&["/runs/multipart", "/runs/batch"])),
    // A LangSmith of one's own. `/runs/batch` alone is a LangGraph server's: a call.
    line("langsmith", Host::Any, Path::Ends(&["/runs/multipart", "/api/v1/runs/batch"])),
    line("langfuse", Host::Any, Path::Ends(&["/api/public/ingestion"])),
    line("langfuse", Host::Any, Path::Begins(&["/api/public/otel"])),
];
