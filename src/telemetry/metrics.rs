//! Everything that is counted, by name.

use std::time::SystemTime;

use super::exposition::Exposition;
use super::instruments::{Counter, Counters, Gauge, Histogram, Sharded};
use super::process;

/// Where and why a span was lost; the labels of `sidetrace_spans_dropped_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Loss {
    /// Memory was nearly used up when the call began: it was served, but not recorded.
    Shed,
    /// The hand-over queue was full: the pipeline thread did not get to run in time.
    SinkFull,
    /// The hand-over queue may not hold more bytes.
    SinkBudget,
    /// The call carried a context whose sampled flag is off.
    Unsampled,
    /// No backend is configured.
    NoBackend,
    /// The backend was not reachable for longer than the queue could hold.
    QueueFull,
    /// The same, and the queue may not hold more bytes.
    QueueBudget,
    /// The backend refused the batch for good.
    Rejected,
    /// The backend took the batch but refused some of its spans.
    PartiallyRejected,
    /// The deadline of the shutdown passed before the backend took it.
    Shutdown,
}

impl Loss {
    /// Every kind, in the order of the path.
    pub const ALL: [Loss; 10] = [
        Loss::Shed,
        Loss::SinkFull,
        Loss::SinkBudget,
        Loss::Unsampled,
        Loss::NoBackend,
        Loss::QueueFull,
        Loss::QueueBudget,
        Loss::Rejected,
        Loss::PartiallyRejected,
        Loss::Shutdown,
    ];

    /// `(stage, reason)`.
    pub fn labels(self) -> (&'static str, &'static str) {
        match self {
            Loss::Shed => ("shed", "memory"),
            Loss::SinkFull => ("sink", "full"),
            Loss::SinkBudget => ("sink", "budget"),
            Loss::Unsampled => ("sampling", "unsampled"),
            Loss::NoBackend => ("route", "no_backend"),
            Loss::QueueFull => ("buffer", "full"),
            Loss::QueueBudget => ("buffer", "budget"),
            Loss::Rejected => ("deliver", "rejected"),
            Loss::PartiallyRejected => ("deliver", "partially_rejected"),
            Loss::Shutdown => ("deliver", "shutdown"),
        }
    }
}

/// What a recorded call spoke; a label of `sidetrace_call_duration_seconds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallProtocol {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// gRPC over HTTP/2.
    Grpc,
    /// A connection that was not read, or could not be made.
    Tcp,
}

impl CallProtocol {
    const ALL: [CallProtocol; 4] = [CallProtocol::Http1, CallProtocol::Http2, CallProtocol::Grpc, CallProtocol::Tcp];

    fn as_str(self) -> &'static str {
        match self {
            CallProtocol::Http1 => "http1",
            CallProtocol::Http2 => "http2",
            CallProtocol::Grpc => "grpc",
            CallProtocol::Tcp => "tcp",
        }
    }
}

/// The durations of calls by direction and protocol.
#[derive(Debug, Default)]
pub struct CallDurations([[Histogram; CallProtocol::ALL.len()]; 2]);

impl CallDurations {
    /// Where calls of this kind are counted.
    pub fn of(&self, inbound: bool, protocol: CallProtocol) -> &Histogram {
        let [outbound_calls, inbound_calls] = &self.0;
        let [http1, http2, grpc, tcp] = if inbound { inbound_calls } else { outbound_calls };
        match protocol {
            CallProtocol::Http1 => http1,
            CallProtocol::Http2 => http2,
            CallProtocol::Grpc => grpc,
            CallProtocol::Tcp => tcp,
        }
    }

    fn all(&self) -> impl Iterator<Item = ([(&'static str, &'static str); 2], &Histogram)> {
        [(false, "outbound"), (true, "inbound")].into_iter().flat_map(move |(inbound, direction)| {
            CallProtocol::ALL.into_iter().map(move |protocol| {
                ([("direction", direction), ("protocol", protocol.as_str())], self.of(inbound, protocol))
            })
        })
    }
}

/// Every counter of this process.
#[derive(Debug)]
pub struct Metrics {
    /// Redirected connections accepted.
    pub connections: Counter,
    /// Connections accepted on the forward proxy's port.
    pub forward_connections: Counter,
    /// Requests that the forward proxy has refused, by why.
    pub forward_refused: Counters<7>,
    /// Connections open now.
    pub connections_open: Gauge,
    /// Connections whose original destination is unknown: not redirected, for example a port probe.
    pub not_redirected: Counter,
    /// Connections refused because they would have come back to us.
    pub loops: Counter,
    /// Sockets of the user that the redirect exempts which are not ours, at the last look.
    pub unseen_sockets: Gauge,
    /// Connections opened in our network namespace that we know of: our own, and those that came to us from inside it.
    pub known_opens: Counter,
    /// Those that we do not know of, at the last look.
    pub unseen_connections: Gauge,
    /// Requests refused because two readers could see their end in different places.
    pub ambiguous: Counter,
    /// Bytes from clients to upstream, as read by us.
    pub bytes_sent: Sharded,
    /// Bytes from upstream to clients.
    pub bytes_received: Sharded,
    /// Spans handed to the queue, or lost at its door, or shed as they began.
    pub spans_created: Counter,
    /// Spans that a backend has taken.
    pub spans_exported: Counter,
    /// Spans that wait for delivery now.
    pub spans_queued: Gauge,
    /// The most spans that may wait for delivery.
    pub spans_queue_capacity: Gauge,
    /// Batches of spans on their way to a backend.
    pub export: Deliveries,
    /// The agent's metrics on their way to a backend.
    pub metrics_export: Deliveries,
    /// Content of kept spans that became an event.
    pub events_created: Counter,
    /// Events that a backend has taken.
    pub events_exported: Counter,
    /// Events that will not arrive, by why.
    pub events_dropped: Counters<6>,
    /// Events on their way to a backend.
    pub logs_export: Deliveries,
    /// Measurements that found no series of their own among the agent's metrics.
    pub metrics_overflow: Counter,
    /// Connections of which the client's user was asked for, by what came of it.
    pub owner_lookups: Counters<3>,
    /// What connections turned out to be.
    pub detected: Counters<5>,
    /// Calls without a span, by why.
    pub unrecorded: Counters<14>,
    /// Requests whose headers waited for their body, by what ended that.
    pub held: Counters<6>,
    /// Reloads of the rules, by what came of them.
    pub config_reloads: Counters<3>,
    /// What became of TLS connections that were to be intercepted.
    pub tls: Counters<5>,
    /// Certificates asked for to be shown to clients, by what came of it.
    pub leaves: Counters<4>,
    /// Changes of a mounted certificate authority, by what came of them.
    pub authority_reloads: Counters<3>,
    /// Calls whose bodies were not read, or not to their end, by why.
    pub uninspected: Counters<12>,
    /// How recorded calls ended.
    pub calls: Counters<4>,
    /// How long recorded calls took.
    pub call_duration: CallDurations,
    started: SystemTime,
    lost: [Counter; Loss::ALL.len()],
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            connections: Counter::default(),
            forward_connections: Counter::default(),
            forward_refused: Counters::new([
                "malformed",
                "no_credential",
                "wrong_credential",
                "forbidden",
                "no_such_name",
                "unreachable",
                "timeout",
            ]),
            connections_open: Gauge::default(),
            not_redirected: Counter::default(),
            loops: Counter::default(),
            unseen_sockets: Gauge::default(),
            known_opens: Counter::default(),
            unseen_connections: Gauge::default(),
            ambiguous: Counter::default(),
            bytes_sent: Sharded::default(),
            bytes_received: Sharded::default(),
            spans_created: Counter::default(),
            spans_exported: Counter::default(),
            spans_queued: Gauge::default(),
            spans_queue_capacity: Gauge::default(),
            export: Deliveries::default(),
            metrics_export: Deliveries::default(),
            events_created: Counter::default(),
            events_exported: Counter::default(),
            events_dropped: Counters::new([
                "no_backend",
                "full",
                "budget",
                "rejected",
                "partially_rejected",
                "shutdown",
            ]),
            logs_export: Deliveries::default(),
            metrics_overflow: Counter::default(),
            owner_lookups: Counters::new(["found", "gone", "failed"]),
            detected: Counters::new(["http1", "http2", "tls", "opaque", "refused"]),
            unrecorded: Counters::new([
                "count",
                "ignore",
                "probe",
                "otlp",
                "zipkin",
                "openai_agents",
                "statsig",
                "sentry",
                "posthog",
                "datadog",
                "segment",
                "honeycomb",
                "langsmith",
                "langfuse",
            ]),
            held: Counters::new(["complete", "size", "stalled", "budget", "unread", "ended"]),
            config_reloads: Counters::new(["applied", "refused", "unchanged"]),
            tls: Counters::new(["intercepted", "left_alone", "doubted", "refused", "closed"]),
            leaves: Counters::new(["made", "cached", "rate_limited", "failed"]),
            authority_reloads: Counters::new(["published", "signing", "refused"]),
            uninspected: Counters::new([
                "budget",
                "unknown_encoding",
                "bad_coding",
                "bad_length",
                "bad_checksum",
                "bad_header",
                "malformed_json",
                "not_json",
                "truncated",
                "too_large",
                "batch_too_large",
                "parked_lost",
            ]),
            calls: Counters::new(["complete", "broken", "cancelled", "refused"]),
            call_duration: CallDurations::default(),
            started: SystemTime::now(),
            lost: Default::default(),
        }
    }
}

impl Metrics {
    /// Counts spans that will not arrive.
    pub fn lost(&self, loss: Loss, count: usize) {
        for (counter, kind) in self.lost.iter().zip(Loss::ALL) {
            if kind == loss {
                counter.add(count as u64);
            }
        }
    }

    /// How many spans were lost in this way.
    pub fn losses(&self, loss: Loss) -> u64 {
        self.lost.iter().zip(Loss::ALL).filter(|(_, kind)| *kind == loss).map(|(counter, _)| counter.value()).sum()
    }

    /// How many spans were lost in any way.
    pub fn all_losses(&self) -> u64 {
        self.lost.iter().map(Counter::value).sum()
    }

    /// Everything above, and the process.
    pub fn expose(&self, text: &mut Exposition) {
        let name = "sidetrace_build_info";
        let labels = [("version", env!("CARGO_PKG_VERSION")), ("commit", COMMIT)];
        text.family(name, "gauge", "Always 1; what was built is in the labels.").sample(name, &labels, 1);
        self.expose_connections(text);
        let help = "Recorded calls by how they ended.";
        text.counters("sidetrace_calls_total", help, "end", self.calls.values());
        let help = "Calls without a span: left out by a rule, health probes, the agent's own telemetry.";
        text.counters("sidetrace_calls_unrecorded_total", help, "reason", self.unrecorded.values());
        let help = "Recognised calls whose bodies were not read, or not to their end.";
        text.counters("sidetrace_inspections_incomplete_total", help, "reason", self.uninspected.values());
        let help = "Requests whose headers waited for their body, by what ended that: it was complete; it is too long; nothing \
                    came for a while; there is no memory for it; the client, upstream or the drain did not let it wait.";
        text.counters("sidetrace_held_requests_total", help, "released", self.held.values());
        let help = "Reloads of the rules by what came of them.";
        text.counters("sidetrace_config_reloads_total", help, "outcome", self.config_reloads.values());
        let help = "How long recorded calls took, to the last byte of their answer.";
        text.histograms("sidetrace_call_duration_seconds", help, self.call_duration.all());
        self.expose_tls(text);
        self.expose_spans(text);
        self.export.expose("sidetrace_export", "Batches of spans", text);
        self.metrics_export.expose("sidetrace_metrics_export", "Requests of the agent's metrics", text);
        self.expose_events(text);
        let help = "Measurements of the agent's metrics that found no room for a series of their own.";
        text.counter("sidetrace_metrics_overflow_total", help, self.metrics_overflow.value());
        process::expose(self.started, text);
    }

    fn expose_connections(&self, text: &mut Exposition) {
        let count = |counter: &Counter| counter.value();
        text.counter("sidetrace_connections_total", "Redirected connections accepted.", count(&self.connections));
        let help = "Connections accepted on the forward proxy's port.";
        text.counter("sidetrace_forward_connections_total", help, count(&self.forward_connections));
        let help = "Requests refused by the forward proxy. no_credential is also the first try of clients that wait to be asked.";
        text.counters("sidetrace_forward_refused_total", help, "reason", self.forward_refused.values());
        text.gauge("sidetrace_connections_open", "Connections open now.", self.connections_open.value());
        let help = "Connections without an original destination, closed.";
        text.counter("sidetrace_connections_not_redirected_total", help, count(&self.not_redirected));
        let help = "Connections that would have come back to us, refused.";
        text.counter("sidetrace_loops_total", help, count(&self.loops));
        let help =
            "Sockets of programs that run as the sidecar's own user, at the last look: their traffic is not seen.";
        text.gauge("sidetrace_unseen_sockets", help, self.unseen_sockets.value());
        let help = "Connections that programs of the pod have opened since our start and that did not come to us, at the last look: \
                    of exempt users, to excluded destinations, of a mesh's proxy.";
        text.gauge("sidetrace_unseen_connections", help, self.unseen_connections.value());
        let help = "Connections whose client's user was looked up, where workloads are told apart by it: found; gone, which counts \
                    for the pod; failed, because the kernel does not tell.";
        text.counters("sidetrace_owner_lookups_total", help, "outcome", self.owner_lookups.values());
        let help = "Connections by detected protocol.";
        text.counters("sidetrace_detected_total", help, "protocol", self.detected.values());
        let help = "Requests refused because two readers could see their end in different places.";
        text.counter("sidetrace_requests_ambiguous_total", help, count(&self.ambiguous));
        let bytes = [("sent", self.bytes_sent.value()), ("received", self.bytes_received.value())];
        let help = "Bytes passed on: sent to upstream, received from it.";
        text.counters("sidetrace_bytes_total", help, "direction", bytes.into_iter());
    }

    fn expose_tls(&self, text: &mut Exposition) {
        let help = "TLS connections by what became of them: intercepted; left alone by a rule or by what was learned; \
                    doubted, and passed through in the same attempt; refused by the client; closed by it before it said anything.";
        text.counters("sidetrace_tls_connections_total", help, "outcome", self.tls.values());
        let help = "Certificates asked for, to be shown to clients, by what came of it.";
        text.counters("sidetrace_tls_leaves_total", help, "outcome", self.leaves.values());
        let help = "Changes of a mounted certificate authority: published, signing, or refused.";
        text.counters("sidetrace_ca_reloads_total", help, "outcome", self.authority_reloads.values());
    }

    fn expose_spans(&self, text: &mut Exposition) {
        let help = "Spans finished by the proxy, or shed as they began.";
        text.counter("sidetrace_spans_created_total", help, self.spans_created.value());
        text.counter("sidetrace_spans_exported_total", "Spans that a backend has taken.", self.spans_exported.value());
        let name = "sidetrace_spans_dropped_total";
        text.family(name, "counter", "Spans lost, by stage and reason.");
        for (counter, loss) in self.lost.iter().zip(Loss::ALL) {
            let (stage, reason) = loss.labels();
            text.sample(name, &[("stage", stage), ("reason", reason)], counter.value());
        }
        text.gauge("sidetrace_spans_queued", "Spans that wait for delivery.", self.spans_queued.value());
        let help = "The most spans that may wait for delivery.";
        text.gauge("sidetrace_spans_queue_capacity", help, self.spans_queue_capacity.value());
    }

    fn expose_events(&self, text: &mut Exposition) {
        let help = "Events with what was said in a call, made of spans that are kept.";
        text.counter("sidetrace_events_created_total", help, self.events_created.value());
        text.counter(
            "sidetrace_events_exported_total",
            "Events that a backend has taken.",
            self.events_exported.value(),
        );
        text.counters(
            "sidetrace_events_dropped_total",
            "Events lost, by reason.",
            "reason",
            self.events_dropped.values(),
        );
        self.logs_export.expose("sidetrace_logs_export", "Batches of events", text);
    }
}

/// How requests of one signal went.
#[derive(Debug)]
pub struct Deliveries {
    /// How they ended.
    pub outcomes: Counters<4>,
    /// Bytes that a backend has taken, before compression.
    pub bytes: Counter,
    /// Tries that failed and were followed by another.
    pub retries: Counter,
    /// How long each try took.
    pub duration: Histogram,
}

impl Default for Deliveries {
    fn default() -> Self {
        Self {
            outcomes: Counters::new(["delivered", "partial", "refused", "given_up"]),
            bytes: Counter::default(),
            retries: Counter::default(),
            duration: Histogram::default(),
        }
    }
}

impl Deliveries {
    /// Counts one that has ended.
    pub fn ended(&self, outcome: &'static str, bytes: usize) {
        self.outcomes.inc(outcome);
        if matches!(outcome, "delivered" | "partial") {
            self.bytes.add(bytes as u64);
        }
    }

    /// Families whose names begin with `name`; `each` is what a request holds.
    fn expose(&self, name: &str, each: &str, text: &mut Exposition) {
        let help = format!("{each} by how their delivery ended.");
        text.counters(&format!("{name}_batches_total"), &help, "outcome", self.outcomes.values());
        let help = format!("Bytes of what a backend has taken, before compression: {each}.");
        text.counter(&format!("{name}_bytes_total"), &help, self.bytes.value());
        let help = "Export requests that failed and are tried again.";
        text.counter(&format!("{name}_retries_total"), help, self.retries.value());
        let help = "How long export requests took, each try on its own.";
        text.histograms(&format!("{name}_duration_seconds"), help, [([], &self.duration)].into_iter());
    }
}

/// Set by whoever builds an image.
const COMMIT: &str = match option_env!("SIDETRACE_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_loss_has_a_line_of_its_own() {
        let metrics = Metrics::default();
        metrics.lost(Loss::QueueFull, 7);
        let mut text = Exposition::default();
        metrics.expose(&mut text);
        let text = text.into_text();
        assert!(text.contains("sidetrace_spans_dropped_total{stage=\"buffer\",reason=\"full\"} 7\n"), "{text}");
        for loss in Loss::ALL {
            let (stage, reason) = loss.labels();
            let line = format!("sidetrace_spans_dropped_total{{stage=\"{stage}\",reason=\"{reason}\"}} ");
            assert_eq!(text.matches(&line).count(), 1, "{line}");
        }
    }
}
