//! Medians, spreads and ratios of what was measured on several proxies, beside the bars: a table and JSON. Pure.

use super::subjects::Subject;
use super::{Results, median};
use serde_json::{Value, json};
use std::fmt::Write;

/// Something that is measured on every proxy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// As the table has it.
    pub name: &'static str,
    /// What the values count.
    pub unit: &'static str,
    /// How many times cheaper than nginx ours is to be.
    pub bar: Option<f64>,
}

/// One value of one proxy in one pass.
#[derive(Clone, Copy, Debug)]
pub struct Measurement {
    /// What was done.
    pub figure: Figure,
    /// By whom.
    pub subject: Subject,
    /// In the figure's unit; less is better.
    pub value: f64,
}

/// Everything measured in this run.
#[derive(Debug)]
pub struct Report {
    facts: Vec<(String, String)>,
    measurements: Vec<Measurement>,
}

/// One line of the table.
#[derive(Debug)]
struct Row {
    figure: Figure,
    subject: Subject,
    median: f64,
    least: f64,
    most: f64,
    /// The peers' medians divided by this one: above 1 it is cheaper than they.
    times_nginx: Option<f64>,
    times_haproxy: Option<f64>,
}

impl Row {
    /// From the least to the most, as a share of the median.
    fn spread(&self) -> f64 {
        (self.most - self.least) / self.median
    }

    /// What ours is to reach beside nginx.
    fn bar(&self) -> Option<f64> {
        self.figure.bar.filter(|_| self.subject.is_ours())
    }

    fn verdict(&self) -> &'static str {
        match (self.bar(), self.times_nginx) {
            (Some(bar), Some(ratio)) if ratio >= bar => "PASS",
            (Some(_), Some(_)) => "MISS",
            _ => "",
        }
    }
}

impl Report {
    /// One without values; `facts` say how and on what it is measured.
    #[must_use]
    pub fn new(facts: Vec<(String, String)>) -> Report {
        Report {
            facts,
            measurements: Vec::new(),
        }
    }

    /// Takes a value.
    pub fn add(&mut self, measurement: Measurement) {
        self.measurements.push(measurement);
    }

    fn rows(&self) -> Vec<Row> {
        let mut figures: Vec<Figure> = Vec::new();
        for measurement in &self.measurements {
            if !figures.contains(&measurement.figure) {
                figures.push(measurement.figure);
            }
        }
        let rows_of = |figure| {
            Subject::ALL
                .into_iter()
                .filter_map(move |subject| self.row(figure, subject))
        };
        figures.into_iter().flat_map(rows_of).collect()
    }

    fn row(&self, figure: Figure, subject: Subject) -> Option<Row> {
        let values = self.values(figure, subject);
        let middle = median(&values)?;
        let times = |peer| {
            let peer = median(&self.values(figure, peer));
            peer.filter(|_| middle > 0.0).map(|peer| peer / middle)
        };
        Some(Row {
            figure,
            subject,
            median: middle,
            least: *values.first()?,
            most: *values.last()?,
            times_nginx: times(Subject::Nginx),
            times_haproxy: times(Subject::Haproxy),
        })
    }

    /// In ascending order.
    fn values(&self, figure: Figure, subject: Subject) -> Vec<f64> {
        let fitting = self
            .measurements
            .iter()
            .filter(|one| one.figure == figure && one.subject == subject);
        let mut values: Vec<f64> = fitting.map(|one| one.value).collect();
        values.sort_by(f64::total_cmp);
        values
    }
}

impl Results for Report {
    /// A line a figure and proxy, and how it was measured.
    fn table(&self) -> String {
        let mut text = String::from("\n");
        // Writing to a `String` does not fail.
        for (name, value) in &self.facts {
            let _ = writeln!(text, "{name}: {value}");
        }
        let _ = writeln!(
            text,
            "\n{:<24}{:<17}{:>7}{:>10}{:>10}{:>10}{:>9}{:>9}{:>11}{:>6}",
            "each", "proxy", "unit", "median", "least", "most", "spread", "x nginx", "x haproxy", "bar"
        );
        for row in self.rows() {
            let times =
                |ratio: Option<f64>| ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            let bar = row
                .bar()
                .map_or_else(|| "-".to_owned(), |bar| format!("{bar:.1}"));
            let _ = writeln!(
                text,
                "{:<24}{:<17}{:>7}{:>10.2}{:>10.2}{:>10.2}{:>8.1}%{:>9}{:>11}{:>6} {}",
                row.figure.name,
                row.subject.name(),
                row.figure.unit,
                row.median,
                row.least,
                row.most,
                row.spread() * 100.0,
                times(row.times_nginx),
                times(row.times_haproxy),
                bar,
                row.verdict()
            );
        }
        text
    }

    /// The same as one document.
    fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows()
            .iter()
            .map(|row| {
                json!({
                    "scenario": row.figure.name,
                    "proxy": row.subject.name(),
                    "unit": row.figure.unit,
                    "median": row.median,
                    "least": row.least,
                    "most": row.most,
                    "spread": row.spread(),
                    "times_nginx": row.times_nginx,
                    "times_haproxy": row.times_haproxy,
                    "bar": row.bar(),
                    "verdict": row.verdict(),
                })
            })
            .collect();
        let facts: serde_json::Map<String, Value> = self
            .facts
            .iter()
            .map(|(name, value)| (name.clone(), Value::String(value.clone())))
            .collect();
        json!({ "version": 1, "facts": facts, "results": rows })
    }
}

#[cfg(test)]
mod tests {
    use super::{Figure, Measurement, Report, Results};
    use crate::bench::subjects::Subject;

    const FULL: Figure = Figure {
        name: "full handshake",
        unit: "us CPU",
        bar: Some(1.9),
    };
    const IDLE: Figure = Figure {
        name: "idle connection",
        unit: "KiB",
        bar: None,
    };

    #[test]
    fn ratios_say_how_many_times_cheaper_and_are_held_to_the_bars() {
        let mut report = Report::new(vec![("cpu".to_owned(), "x".to_owned())]);
        for (figure, subject, value) in [
            (FULL, Subject::Nginx, 400.0),
            (FULL, Subject::Uring, 200.0),
            (FULL, Subject::Epoll, 250.0),
            (IDLE, Subject::Nginx, 16.0),
            (IDLE, Subject::Uring, 8.0),
        ] {
            report.add(Measurement {
                figure,
                subject,
                value,
            });
        }
        let json = report.json();
        let results = json["results"].as_array().expect("there are results");
        let of = |proxy: &str, key: &str| {
            let row = results
                .iter()
                .find(|row| row["proxy"] == proxy && row["scenario"] == "full handshake");
            row.expect("it was measured")[key].clone()
        };
        assert_eq!(of("sallyport uring", "times_nginx"), 2.0);
        assert_eq!(of("sallyport uring", "verdict"), "PASS");
        assert_eq!(of("sallyport epoll", "verdict"), "MISS");
        assert_eq!(of("nginx", "verdict"), "");
        assert!(report.table().contains("idle connection"));
    }
}
