//! The Prometheus text format, version 0.0.4: families of samples, one after the other.

use std::fmt::{Display, Write};

use super::instruments::{BOUNDS, Histogram};

/// The text under construction.
#[derive(Debug, Default)]
pub struct Exposition(String);

/// A label and its value, whatever is in it.
pub type Label<'a> = (&'a str, &'a str);

impl Exposition {
    /// A counter without labels.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help).sample(name, &[], value);
    }

    /// Counters that differ in the value of one label.
    pub fn counters(&mut self, name: &str, help: &str, label: &str, values: impl Iterator<Item = (&'static str, u64)>) {
        self.family(name, "counter", help);
        for (value, count) in values {
            self.sample(name, &[(label, value)], count);
        }
    }

    /// A gauge without labels.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help).sample(name, &[], value);
    }

    /// Histograms that differ in their labels.
    pub fn histograms<'h, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        each: impl Iterator<Item = ([Label<'static>; N], &'h Histogram)>,
    ) {
        self.family(name, "histogram", help);
        let (bucket, sum, count) = (format!("{name}_bucket"), format!("{name}_sum"), format!("{name}_count"));
        for (labels, histogram) in each {
            let durations = histogram.durations();
            for (bound, value) in BOUNDS.iter().zip(durations.cumulative) {
                let bound = bound.to_string();
                self.sample(&bucket, &[&labels[..], &[("le", &*bound)]].concat(), value);
            }
            self.sample(&bucket, &[&labels[..], &[("le", "+Inf")]].concat(), durations.count);
            self.sample(&sum, &labels, durations.sum).sample(&count, &labels, durations.count);
        }
    }

    /// Opens a family: its samples follow.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) -> &mut Self {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        self
    }

    /// One sample of the family opened last.
    pub fn sample(&mut self, name: &str, labels: &[Label<'_>], value: impl Display) -> &mut Self {
        self.0.push_str(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"", if index == 0 { '{' } else { ',' });
            for c in value.chars() {
                match c {
                    '\\' => self.0.push_str(r"\\"),
                    '"' => self.0.push_str(r#"\""#),
                    '\n' => self.0.push_str(r"\n"),
                    c => self.0.push(c),
                }
            }
            self.0.push('"');
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
        self
    }

    /// How many bytes there are.
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// The text.
    pub fn into_text(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn families_and_samples_are_written_as_the_format_says() {
        let mut text = Exposition::default();
        text.counter("a_total", "How many.", 3);
        text.counters("b_total", "By kind.", "kind", [("x", 1), ("y", 2)].into_iter());
        text.gauge("c", "Now.", 1.5);
        let expected = "# HELP a_total How many.\n# TYPE a_total counter\na_total 3\n\
                        # HELP b_total By kind.\n# TYPE b_total counter\nb_total{kind=\"x\"} 1\nb_total{kind=\"y\"} 2\n\
                        # HELP c Now.\n# TYPE c gauge\nc 1.5\n";
        assert_eq!(text.into_text(), expected);
    }

    #[test]
    fn what_others_write_into_a_label_stays_inside_it() {
        let mut text = Exposition::default();
        text.sample("a", &[("b", "x\\y\"z\n# TYPE"), ("c", "é")], 1);
        assert_eq!(text.into_text(), "a{b=\"x\\\\y\\\"z\\n# TYPE\",c=\"é\"} 1\n");
    }

    #[test]
    fn a_histogram_ends_with_all_its_sum_and_its_count() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_millis(20));
        histogram.observe(Duration::from_secs(60));
        let mut text = Exposition::default();
        text.histograms("d_seconds", "Time.", [([("to", "x")], &histogram)].into_iter());
        let text = text.into_text();
        for line in [
            "d_seconds_bucket{to=\"x\",le=\"0.01\"} 0",
            "d_seconds_bucket{to=\"x\",le=\"0.025\"} 1",
            "d_seconds_bucket{to=\"x\",le=\"10\"} 1",
            "d_seconds_bucket{to=\"x\",le=\"+Inf\"} 2",
            "d_seconds_sum{to=\"x\"} 60.02",
            "d_seconds_count{to=\"x\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
