//! What was measured, beside what was wanted: a table and JSON. Pure.

use sallyport_tests::bench::{Results, median};
use serde_json::{Value, json};

/// What a figure is to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bar {
    /// Not above.
    AtMost(f64),
    /// Not below.
    AtLeast(f64),
    /// For information.
    None,
}

/// One figure, measured several times.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    part: &'static str,
    name: String,
    unit: &'static str,
    bar: Bar,
    sorted: Vec<f64>,
    note: String,
}

/// All figures of a run, and what could not be measured.
#[derive(Debug, Default)]
pub(crate) struct Report {
    lines: Vec<Line>,
    skipped: Vec<String>,
    facts: Vec<(String, String)>,
}

impl Line {
    /// A figure of a part; `values` in the order of measuring.
    pub(crate) fn new(part: &'static str, name: &str, unit: &'static str, bar: Bar, values: &[f64]) -> Line {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Line {
            part,
            name: name.to_owned(),
            unit,
            bar,
            sorted,
            note: String::new(),
        }
    }

    /// With a word on how it was measured.
    #[must_use]
    pub(crate) fn note(mut self, note: &str) -> Line {
        note.clone_into(&mut self.note);
        self
    }

    fn verdict(&self, median: f64) -> String {
        match self.bar {
            Bar::AtMost(bar) if median <= bar => "PASS".to_owned(),
            Bar::AtLeast(bar) if median >= bar => "PASS".to_owned(),
            Bar::AtMost(bar) | Bar::AtLeast(bar) => {
                format!("MISS by {:.1} %", (median - bar).abs() / bar * 100.0)
            }
            Bar::None => String::new(),
        }
    }

    fn row(&self) -> String {
        let Some(median) = median(&self.sorted) else {
            return format!("{:<3}{:<58}not measured\n", self.part, self.name);
        };
        let (least, most) = self.ends(median);
        let bar = match self.bar {
            Bar::AtMost(bar) => format!("<= {}", short(bar)),
            Bar::AtLeast(bar) => format!(">= {}", short(bar)),
            Bar::None => "-".to_owned(),
        };
        let note = if self.note.is_empty() {
            String::new()
        } else {
            format!("  ({})", self.note)
        };
        format!(
            "{:<3}{:<58}{:>9} {:<8}{:>9} ..{:>8}  {:<9}{}{note}\n",
            self.part,
            self.name,
            short(median),
            self.unit,
            short(least),
            short(most),
            bar,
            self.verdict(median)
        )
    }

    fn json(&self) -> Value {
        let middle = median(&self.sorted);
        let (least, most) = self.ends(middle.unwrap_or_default());
        let bar = match self.bar {
            Bar::AtMost(bar) => json!({ "at_most": bar }),
            Bar::AtLeast(bar) => json!({ "at_least": bar }),
            Bar::None => Value::Null,
        };
        json!({
            "part": self.part, "name": self.name, "unit": self.unit, "bar": bar, "median": middle,
            "least": least, "most": most, "samples": self.sorted.len(), "note": self.note,
            "verdict": middle.map(|middle| self.verdict(middle)),
        })
    }

    fn ends(&self, otherwise: f64) -> (f64, f64) {
        let end = |value: Option<&f64>| value.copied().unwrap_or(otherwise);
        (end(self.sorted.first()), end(self.sorted.last()))
    }
}

impl Report {
    /// Adds a figure.
    pub(crate) fn add(&mut self, line: Line) {
        self.lines.push(line);
    }

    /// Says what was not measured and why.
    pub(crate) fn skip(&mut self, what: &str) {
        self.skipped.push(what.to_owned());
    }

    /// Says where it was measured.
    pub(crate) fn fact(&mut self, name: &str, value: &str) {
        self.facts.push((name.to_owned(), value.to_owned()));
    }
}

impl Results for Report {
    /// For people.
    fn table(&self) -> String {
        let mut text = String::from("\n");
        for (name, value) in &self.facts {
            text.push_str(&format!("{name}: {value}\n"));
        }
        text.push_str(&format!(
            "\n{:<3}{:<58}{:>9} {:<8}{:>9}   {:>8}  {:<9}\n",
            "", "figure", "median", "unit", "least", "most", "bar"
        ));
        text.extend(self.lines.iter().map(Line::row));
        for what in &self.skipped {
            text.push_str(&format!("SKIPPED: {what}\n"));
        }
        text
    }

    /// For programs.
    fn json(&self) -> Value {
        let facts: serde_json::Map<String, Value> = self
            .facts
            .iter()
            .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
            .collect();
        json!({
            "version": 1,
            "machine": facts,
            "results": self.lines.iter().map(Line::json).collect::<Vec<_>>(),
            "skipped": self.skipped,
        })
    }
}

/// Three digits that matter.
fn short(value: f64) -> String {
    if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::{Bar, Line, Report, Results};

    #[test]
    fn a_miss_says_by_how_much() {
        let mut report = Report::default();
        report.add(Line::new(
            "A",
            "a drop",
            "ns",
            Bar::AtMost(30.0),
            &[40.0, 33.0, 31.0],
        ));
        report.add(Line::new("B", "a ratio", "x", Bar::AtLeast(4.0), &[4.0]));
        let table = report.table();
        assert!(
            table.contains("MISS by 10.0 %") && table.contains("PASS"),
            "{table}"
        );
        let json = report.json().to_string();
        assert!(
            json.contains("\"median\":33.0") && json.contains("\"at_most\":30.0"),
            "{json}"
        );
    }
}
