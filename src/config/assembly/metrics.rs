//! `OTEL_METRIC_EXPORT_*`, `OTEL_EXPORTER_OTLP_METRICS_*`: how the metrics of calls are exported.

use std::fmt;

use super::export::METRICS;
use super::{Millis, Reader, parse};
use crate::config::{MetricsExport, Temporality};

impl Reader {
    /// Where metrics go, and how often.
    pub(super) fn metrics_export(&mut self, own_ports: &[u16]) -> Option<MetricsExport> {
        let export = self.export(&METRICS, own_ports);
        let accepted = "a number of milliseconds from 1 on";
        let interval = self.otel(&["OTEL_METRIC_EXPORT_INTERVAL"], Millis(60_000), accepted, |text| {
            parse::<u64>(text).filter(|millis| *millis > 0).map(Millis)
        });
        let timeout = self.limit(&["OTEL_METRIC_EXPORT_TIMEOUT"], 30_000);
        let names = ["OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"];
        let all = [Temporality::Cumulative, Temporality::Delta, Temporality::LowMemory];
        let temporality = self.otel(&names, Temporality::Cumulative, "cumulative, delta or lowmemory", |text| {
            all.into_iter().find(|temporality| temporality.to_string().eq_ignore_ascii_case(text))
        });
        Some(MetricsExport { export: export?, interval: interval.into(), timeout, temporality })
    }
}

impl fmt::Display for Temporality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Temporality::Cumulative => "cumulative",
            Temporality::Delta => "delta",
            Temporality::LowMemory => "lowmemory",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::config::assembly::{Assembled, assemble};
    use crate::config::{ExportProtocol, Temporality};

    fn with(pairs: &[(&str, &str)]) -> Assembled {
        let variables = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assemble(variables, |_| Err(std::io::ErrorKind::NotFound.into())).unwrap()
    }

    #[test]
    fn metrics_go_where_spans_go_unless_told_otherwise() {
        let general = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/base");
        let assembled = with(&[general]);
        let metrics = assembled.config.metrics_export.unwrap();
        assert_eq!(metrics.export.endpoint, "http://c:4318/base/v1/metrics");
        assert_eq!(assembled.config.export.unwrap().endpoint, "http://c:4318/base/v1/traces");
        assert_eq!((metrics.interval, metrics.timeout), (Duration::from_secs(60), Duration::from_secs(30)));
        assert_eq!((metrics.export.timeout, metrics.temporality), (Duration::from_secs(10), Temporality::Cumulative));
        let own = with(&[
            general,
            ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://m:4317"),
            ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "500"),
            ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "Delta"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "1000"),
            ("OTEL_METRIC_EXPORT_TIMEOUT", "0"),
        ]);
        let metrics = own.config.metrics_export.unwrap();
        let path = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
        assert_eq!(metrics.export.endpoint, *format!("http://m:4317{path}"));
        assert_eq!((metrics.export.protocol, metrics.temporality), (ExportProtocol::Grpc, Temporality::Delta));
        assert_eq!((metrics.interval, metrics.timeout), (Duration::from_secs(1), Duration::MAX));
        assert_eq!(metrics.export.timeout, Duration::from_millis(500));
        assert_eq!(own.config.export.unwrap().endpoint, "http://c:4318/base/v1/traces");
        let only = with(&[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://m:4318/as/is")]);
        assert_eq!(only.config.export, None);
        assert_eq!(only.config.metrics_export.unwrap().export.endpoint, "http://m:4318/as/is");
    }

    #[test]
    fn either_signal_is_switched_off_alone_and_both_with_the_sdk() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
        for (variable, value, spans, metrics, warnings) in [
            ("OTEL_METRICS_EXPORTER", "none", true, false, 0),
            ("OTEL_TRACES_EXPORTER", "none", false, true, 0),
            ("OTEL_METRICS_EXPORTER", "prometheus", true, false, 1),
            ("OTEL_METRICS_EXPORTER", "oltp", true, true, 1),
            ("OTEL_METRICS_EXPORTER", "otlp", true, true, 0),
            ("OTEL_SDK_DISABLED", "true", false, false, 0),
            ("OTEL_METRIC_EXPORT_INTERVAL", "0", true, true, 1),
            ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "both", true, true, 1),
        ] {
            let found = with(&[endpoint, (variable, value)]);
            let on = (found.config.export.is_some(), found.config.metrics_export.is_some());
            assert_eq!((on, found.warnings.len()), ((spans, metrics), warnings), "{variable}={value}");
        }
    }

    #[test]
    fn what_holds_for_both_signals_is_said_once() {
        let found = with(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "deflate"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "20000"),
        ]);
        assert_eq!(found.warnings.len(), 1);
        let count = |name: &str| found.settings.iter().filter(|setting| setting.name == name).count();
        assert_eq!((count("OTEL_EXPORTER_OTLP_TIMEOUT"), count("OTEL_EXPORTER_OTLP_ENDPOINT")), (1, 2));
    }
}
