//! What Sidetrace says about itself: counters for `/metrics`, and its own log. Not the agent's telemetry.

use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The sum so far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Adds one until the guard drops.
    pub fn guard(&self) -> GaugeGuard<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        GaugeGuard(self)
    }

    /// Sets the value.
    pub fn set(&self, value: usize) {
        self.0.store(i64::try_from(value).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// The value now.
    pub fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Takes its one back when it drops.
#[derive(Debug)]
pub struct GaugeGuard<'a>(&'a Gauge);

impl Drop for GaugeGuard<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counters that differ in the value of one label. The values are fixed: cardinality is bounded by construction.
#[derive(Debug)]
pub struct Counters<const N: usize>([(&'static str, Counter); N]);

impl<const N: usize> Counters<N> {
    fn new(values: [&'static str; N]) -> Self {
        Self(values.map(|value| (value, Counter::default())))
    }

    /// Adds one to the counter of this label value. A value that was not declared counts nowhere.
    pub fn inc(&self, value: &str) {
        let found = self.0.iter().find(|(label, _)| *label == value);
        debug_assert!(found.is_some(), "undeclared label value {value}");
        if let Some((_, counter)) = found {
            counter.inc();
        }
    }

    fn samples(&self, label: &str) -> Vec<(String, i128)> {
        self.0
            .iter()
            .map(|(value, counter)| (format!("{{{label}=\"{value}\"}}"), i128::from(counter.value())))
            .collect()
    }
}

/// Where and why a span was lost; the labels of `sidetrace_spans_dropped_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Loss {
    /// The hand-over queue was full: the pipeline thread did not get to run in time.
    SinkFull,
    /// The call carried a context whose sampled flag is off.
    Unsampled,
    /// No backend is configured.
    NoBackend,
    /// The backend was not reachable for longer than the queue could hold.
    QueueFull,
    /// The backend refused the batch for good.
    Rejected,
    /// The backend took the batch but refused some of its spans.
    PartiallyRejected,
    /// The deadline of the shutdown passed before the backend took it.
    Shutdown,
}

impl Loss {
    /// Every kind, in the order of the path.
    pub const ALL: [Loss; 7] = [
        Loss::SinkFull,
        Loss::Unsampled,
        Loss::NoBackend,
        Loss::QueueFull,
        Loss::Rejected,
        Loss::PartiallyRejected,
        Loss::Shutdown,
    ];

    /// `(stage, reason)`.
    pub fn labels(self) -> (&'static str, &'static str) {
        match self {
            Loss::SinkFull => ("sink", "full"),
            Loss::Unsampled => ("sampling", "unsampled"),
            Loss::NoBackend => ("route", "no_backend"),
            Loss::QueueFull => ("buffer", "full"),
            Loss::Rejected => ("deliver", "rejected"),
            Loss::PartiallyRejected => ("deliver", "partially_rejected"),
            Loss::Shutdown => ("deliver", "shutdown"),
        }
    }
}

/// Every counter of this process.
#[derive(Debug)]
pub struct Metrics {
    /// Connections accepted on the outbound port.
    pub connections: Counter,
    /// Connections open now.
    pub connections_open: Gauge,
    /// Connections whose original destination is unknown: not redirected, for example a port probe.
    pub not_redirected: Counter,
    /// Connections refused because they would have come back to us.
    pub loops: Counter,
    /// Requests refused because two readers could see their end in different places.
    pub ambiguous: Counter,
    /// Spans handed to the queue, or lost at its door.
    pub spans_created: Counter,
    /// Spans that a backend has taken.
    pub spans_exported: Counter,
    /// Spans that wait for delivery now.
    pub spans_queued: Gauge,
    /// Requests to a backend that will be tried again.
    pub export_retries: Counter,
    /// What connections turned out to be.
    pub detected: Counters<5>,
    /// Calls without a span, by why.
    pub unrecorded: Counters<14>,
    /// How recorded calls ended.
    pub calls: Counters<4>,
    /// What came of reading the rules file again.
    pub config_reloads: Counters<3>,
    lost: [Counter; Loss::ALL.len()],
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            connections: Counter::default(),
            connections_open: Gauge::default(),
            not_redirected: Counter::default(),
            loops: Counter::default(),
            ambiguous: Counter::default(),
            spans_created: Counter::default(),
            spans_exported: Counter::default(),
            spans_queued: Gauge::default(),
            export_retries: Counter::default(),
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
            calls: Counters::new(["complete", "broken", "cancelled", "refused"]),
            config_reloads: Counters::new(["applied", "refused", "unchanged"]),
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

    /// The Prometheus text format, version 0.0.4.
    pub fn prometheus(&self) -> String {
        let mut text = String::with_capacity(4096);
        let mut family = |name: &str, kind: &str, help: &str, samples: &[(String, i128)]| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in samples {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        };
        let count = |counter: &Counter| [(String::new(), i128::from(counter.value()))];
        let gauge = |gauge: &Gauge| [(String::new(), i128::from(gauge.value()))];
        family(
            "sidetrace_build_info",
            "gauge",
            "Always 1; the version is the label.",
            &[(format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1)],
        );
        family("sidetrace_connections_total", "counter", "Redirected connections accepted.", &count(&self.connections));
        family("sidetrace_connections_open", "gauge", "Connections open now.", &gauge(&self.connections_open));
        family(
            "sidetrace_connections_not_redirected_total",
            "counter",
            "Connections without an original destination, closed.",
            &count(&self.not_redirected),
        );
        family(
            "sidetrace_requests_ambiguous_total",
            "counter",
            "Requests refused because two readers could see their end in different places.",
            &count(&self.ambiguous),
        );
        family(
            "sidetrace_loops_total",
            "counter",
            "Connections that would have come back to us, refused.",
            &count(&self.loops),
        );
        family(
            "sidetrace_detected_total",
            "counter",
            "Connections by detected protocol.",
            &self.detected.samples("protocol"),
        );
        family(
            "sidetrace_calls_unrecorded_total",
            "counter",
            "Calls without a span: left out by a rule, health probes, the agent's own telemetry.",
            &self.unrecorded.samples("reason"),
        );
        family("sidetrace_calls_total", "counter", "Recorded calls by how they ended.", &self.calls.samples("end"));
        family(
            "sidetrace_config_reloads_total",
            "counter",
            "Readings of the rules file after the start, by outcome.",
            &self.config_reloads.samples("outcome"),
        );
        family("sidetrace_spans_created_total", "counter", "Spans finished by the proxy.", &count(&self.spans_created));
        family(
            "sidetrace_spans_exported_total",
            "counter",
            "Spans that a backend has taken.",
            &count(&self.spans_exported),
        );
        let samples: Vec<_> = self
            .lost
            .iter()
            .zip(Loss::ALL)
            .map(|(counter, loss)| {
                let (stage, reason) = loss.labels();
                (format!("{{stage=\"{stage}\",reason=\"{reason}\"}}"), i128::from(counter.value()))
            })
            .collect();
        family("sidetrace_spans_dropped_total", "counter", "Spans lost, by stage and reason.", &samples);
        family("sidetrace_spans_queued", "gauge", "Spans that wait for delivery.", &gauge(&self.spans_queued));
        family(
            "sidetrace_export_retries_total",
            "counter",
            "Export requests that failed and are tried again.",
            &count(&self.export_retries),
        );
        text
    }
}

/// Starts the process's log on stderr: text, or JSON lines. `filter` is in the syntax of `tracing_subscriber`'s `EnvFilter`.
pub fn start_log(filter: &str, json: bool) {
    let filter = tracing_subscriber::EnvFilter::builder().parse_lossy(filter);
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start in one process keeps the first log.
    let _ = if json {
        lines.json().flatten_event(true).try_init()
    } else {
        lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init()
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_loss_has_a_line_of_its_own() {
        let metrics = Metrics::default();
        metrics.lost(Loss::QueueFull, 7);
        let text = metrics.prometheus();
        assert!(text.contains("sidetrace_spans_dropped_total{stage=\"buffer\",reason=\"full\"} 7\n"), "{text}");
        for loss in Loss::ALL {
            let (stage, reason) = loss.labels();
            let line = format!("sidetrace_spans_dropped_total{{stage=\"{stage}\",reason=\"{reason}\"}} ");
            assert_eq!(text.matches(&line).count(), 1, "{line}");
        }
    }
}
