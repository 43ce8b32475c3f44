//! The metrics of calls as Prometheus reads them (OpenTelemetry, "Prometheus and OpenMetrics Compatibility").

use super::family::{Family, Series};
use crate::otlp::metrics::{Kind, Value};
use crate::telemetry::exposition::Exposition;

/// Writes a metric's series from the one at `first` on, until the page is full. The place of the next.
pub(super) fn expose(family: &Family, first: usize, text: &mut Exposition) -> usize {
    let instrument = &family.instrument;
    if family.all().is_empty() {
        return 0;
    }
    // Units in braces say what is counted, not in what.
    let unit = if instrument.unit == "s" { "_seconds" } else { "" };
    let (kind, end) = if let Kind::Histogram(_) = instrument.kind { ("histogram", "") } else { ("counter", "_total") };
    let name = format!("{}{unit}{end}", underscored(instrument.name));
    if first == 0 {
        text.family(&name, kind, instrument.description);
    }
    let mut at = first;
    for series in family.all().iter().skip(first) {
        if text.size() >= PAGE {
            break;
        }
        expose_series(&name, instrument.kind, series, text);
        at += 1;
    }
    at
}

fn expose_series(name: &str, kind: Kind, series: &Series, text: &mut Exposition) {
    let labels: Vec<_> = series
        .attributes
        .iter()
        .map(|attribute| (underscored(attribute.key.as_str()), attribute.value.as_str()))
        .collect();
    let labels: Vec<_> = labels.iter().map(|(label, value)| (&**label, &**value)).collect();
    match series.numbers.value() {
        Value::Count(count) => _ = text.sample(name, &labels, count),
        Value::Amount(amount) => _ = text.sample(name, &labels, amount),
        Value::Histogram { counts, sum } => {
            let Kind::Histogram(bounds) = kind else { return };
            let bucket = format!("{name}_bucket");
            let bounds = bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
            let mut count = 0;
            for (bound, more) in bounds.zip(counts) {
                count += more;
                let with_bound = [&labels[..], &[("le", &*bound)]].concat();
                text.sample(&bucket, &with_bound, count);
            }
            text.sample(&format!("{name}_sum"), &labels, sum).sample(&format!("{name}_count"), &labels, count);
        }
    }
}

/// A page ends with the series that passes this many bytes.
pub(super) const PAGE: usize = 64 * 1024;

fn underscored(name: &str) -> String {
    name.replace('.', "_")
}
