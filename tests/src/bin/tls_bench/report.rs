//! Medians, spreads and ratios of what was measured, beside the bars: a table and JSON. Pure.

use crate::load::Scenario;
use crate::subjects::Subject;
use sallyport_tests::bench::{Results, median};
use serde_json::{Value, json};
use std::fmt::Write;

/// One figure of one proxy in one pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measurement {
    /// What was done.
    pub(crate) scenario: Scenario,
    /// By whom.
    pub(crate) subject: Subject,
    /// Microseconds of CPU each, or KiB of memory.
    pub(crate) value: f64,
}

/// Everything measured in this run.
#[derive(Debug)]
pub(crate) struct Report {
    facts: Vec<(String, String)>,
    measurements: Vec<Measurement>,
}

/// One line of the table.
#[derive(Debug)]
struct Row {
    scenario: Scenario,
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
        let ours = matches!(self.subject, Subject::Uring | Subject::Epoll);
        let bar = match self.scenario {
            Scenario::Full => Some(1.9),
            Scenario::Mutual => Some(1.7),
            Scenario::KeepAlive => Some(1.2),
            Scenario::Resumed | Scenario::Idle => None,
        };
        bar.filter(|_| ours)
    }

    fn verdict(&self) -> &'static str {
        match (self.bar(), self.times_nginx) {
            (Some(bar), Some(ratio)) if ratio >= bar => "PASS",
            (Some(_), Some(_)) => "MISS",
            _ => "",
        }
    }
}

/// The unit of a scenario's figures.
fn unit(scenario: Scenario) -> &'static str {
    match scenario {
        Scenario::Idle => "KiB",
        _ => "us CPU",
    }
}

impl Report {
    pub(crate) fn new(facts: Vec<(String, String)>) -> Report {
        Report {
            facts,
            measurements: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, measurement: Measurement) {
        self.measurements.push(measurement);
    }
}

impl Results for Report {
    /// A line a scenario and proxy, and how it was measured.
    fn table(&self) -> String {
        let mut text = String::from("\n");
        // Writing to a `String` does not fail.
        for (name, value) in &self.facts {
            let _ = writeln!(text, "{name}: {value}");
        }
        let _ = writeln!(
            text,
            "\n{:<20}{:<17}{:>7}{:>10}{:>10}{:>10}{:>9}{:>9}{:>11}{:>6}",
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
                "{:<20}{:<17}{:>7}{:>10.2}{:>10.2}{:>10.2}{:>8.1}%{:>9}{:>11}{:>6} {}",
                row.scenario.name(),
                row.subject.name(),
                unit(row.scenario),
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
                    "scenario": row.scenario.name(),
                    "proxy": row.subject.name(),
                    "unit": unit(row.scenario),
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

impl Report {
    fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for scenario in Scenario::ALL.into_iter().chain([Scenario::Idle]) {
            let peer = |subject| median(&self.values(scenario, subject));
            let (nginx, haproxy) = (peer(Subject::Nginx), peer(Subject::Haproxy));
            for subject in Subject::ALL {
                let values = self.values(scenario, subject);
                let (Some(median), Some(least), Some(most)) =
                    (median(&values), values.first(), values.last())
                else {
                    continue;
                };
                let times = |peer: Option<f64>| peer.filter(|_| median > 0.0).map(|peer| peer / median);
                rows.push(Row {
                    scenario,
                    subject,
                    median,
                    least: *least,
                    most: *most,
                    times_nginx: times(nginx),
                    times_haproxy: times(haproxy),
                });
            }
        }
        rows
    }

    /// In ascending order.
    fn values(&self, scenario: Scenario, subject: Subject) -> Vec<f64> {
        let fitting = self
            .measurements
            .iter()
            .filter(|one| one.scenario == scenario && one.subject == subject);
        let mut values: Vec<f64> = fitting.map(|one| one.value).collect();
        values.sort_by(f64::total_cmp);
        values
    }
}

#[cfg(test)]
mod tests {
    use super::{Measurement, Report, Results};
    use crate::load::Scenario;
    use crate::subjects::Subject;

    #[test]
    fn ratios_say_how_many_times_cheaper_and_are_held_to_the_bars() {
        let mut report = Report::new(vec![("cpu".to_owned(), "x".to_owned())]);
        for (scenario, subject, value) in [
            (Scenario::Full, Subject::Nginx, 400.0),
            (Scenario::Full, Subject::Uring, 200.0),
            (Scenario::Full, Subject::Epoll, 250.0),
            (Scenario::Idle, Subject::Nginx, 16.0),
            (Scenario::Idle, Subject::Uring, 8.0),
        ] {
            report.add(Measurement {
                scenario,
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
