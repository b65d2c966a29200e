//! The text format of Prometheus, version 0.0.4: a family at a time, its samples together, labels escaped.
//!
//! Pure: it knows no metric.

use super::families::Family;
use std::{collections::BTreeMap, fmt::Write};

/// Samples by family.
#[derive(Debug, Default)]
pub(super) struct Samples {
    families: BTreeMap<&'static str, Vec<(Vec<String>, u64)>>,
}

impl Samples {
    /// Adds a sample; `labels` are the values in the family's order.
    pub(super) fn add(&mut self, family: &Family, labels: &[&str], value: u64) {
        debug_assert_eq!(family.labels.len(), labels.len(), "{}", family.name);
        let labels = labels.iter().map(|&label| label.to_owned()).collect();
        self.families
            .entry(family.name)
            .or_default()
            .push((labels, value));
    }

    /// Writes the samples in the order of `all`. A family without samples keeps its head, so that whoever reads sees
    /// what there could be.
    pub(super) fn text(&self, all: &[&Family]) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail, here and below.
        for family in all {
            let Family { name, kind, help, .. } = family;
            let _ = writeln!(text, "# HELP {name} {}", help_text(help));
            let _ = writeln!(text, "# TYPE {name} {}", kind.word());
            for (labels, value) in self.families.get(name).into_iter().flatten() {
                let _ = writeln!(text, "{name}{} {value}", braces(family.labels, labels));
            }
        }
        text
    }
}

fn braces(names: &[&str], values: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let pairs = names.iter().zip(values);
    let pairs: Vec<String> = pairs
        .map(|(name, value)| format!("{name}=\"{}\"", label_text(value)))
        .collect();
    format!("{{{}}}", pairs.join(","))
}

/// Backslash, quote and line feed are what the format escapes in a label.
fn label_text(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn help_text(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::metrics::families::Kind;

    const ONE: Family = Family {
        name: "one_total",
        kind: Kind::Counter,
        labels: &["a", "b"],
        help: "A \\ line.",
    };
    const OTHER: Family = Family {
        name: "other",
        kind: Kind::Gauge,
        labels: &[],
        help: "Nothing.",
    };

    #[test]
    fn families_stand_together_and_labels_are_escaped() {
        let mut samples = Samples::default();
        samples.add(&OTHER, &[], 7);
        samples.add(&ONE, &["x", ""], u64::MAX);
        samples.add(&ONE, &["q\"b\\n\n", "é"], 0);
        assert_eq!(
            samples.text(&[&ONE, &OTHER]),
            "# HELP one_total A \\\\ line.\n# TYPE one_total counter\n\
             one_total{a=\"x\",b=\"\"} 18446744073709551615\n\
             one_total{a=\"q\\\"b\\\\n\\n\",b=\"é\"} 0\n\
             # HELP other Nothing.\n# TYPE other gauge\nother 7\n"
        );
    }
}
