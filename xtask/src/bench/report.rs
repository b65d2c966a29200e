//! Medians and ratios of what was measured, as a table and as JSON. Pure.

use std::fmt::Write;

use crate::bench::lab::Subject;
use crate::bench::load::Scenario;

/// One run of the load against one proxy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measurement {
    pub(super) scenario: Scenario,
    pub(super) subject: Subject,
    pub(super) us_per_request: f64,
}

/// Everything measured in this run.
#[derive(Default, Debug)]
pub(super) struct Report {
    measurements: Vec<Measurement>,
}

/// One line of the table.
struct Row {
    scenario: Scenario,
    subject: Subject,
    median: f64,
    least: f64,
    most: f64,
    ratio: f64,
}

impl Report {
    pub(super) fn add(&mut self, measurement: Measurement) {
        self.measurements.push(measurement);
    }

    /// CPU of a request in microseconds, and ours divided by nginx's: below 1 we are cheaper.
    pub(super) fn table(&self) -> String {
        let mut text = format!(
            "\n{:<24}{:<20}{:>10}{:>10}{:>10}{:>12}\n",
            "scenario", "proxy", "us/req", "least", "most", "ours/nginx"
        );
        for row in self.rows() {
            let (scenario, subject) = (row.scenario.name(), row.subject.name());
            let (median, least, most, ratio) = (row.median, row.least, row.most, row.ratio);
            // Writing to a `String` does not fail.
            let _ = writeln!(
                text,
                "{scenario:<24}{subject:<20}{median:>10.2}{least:>10.2}{most:>10.2}{ratio:>12.3}"
            );
        }
        text
    }

    /// The same rows as one JSON document.
    pub(super) fn json(&self) -> String {
        let rows = self.rows().into_iter().map(|row| {
            format!(
                "{{\"scenario\":\"{}\",\"proxy\":\"{}\",\"cpu_us_per_request\":{:.3},\"least\":{:.3},\"most\":{:.3},\"ratio_to_nginx\":{:.4}}}",
                row.scenario.name(), row.subject.name(), row.median, row.least, row.most, row.ratio
            )
        });
        format!(
            "{{\"version\":1,\"results\":[{}]}}",
            rows.collect::<Vec<_>>().join(",")
        )
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for scenario in Scenario::ALL {
            let peer = median(&self.values(scenario, Subject::Nginx));
            for subject in super::SUBJECTS {
                let values = self.values(scenario, subject);
                let (Some(middle), Some(peer)) = (median(&values), peer) else {
                    continue;
                };
                let (least, most) = (values.first().copied(), values.last().copied());
                let ends = (least.unwrap_or(middle), most.unwrap_or(middle));
                rows.push(Row {
                    scenario,
                    subject,
                    median: middle,
                    least: ends.0,
                    most: ends.1,
                    ratio: middle / peer,
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
        let mut values: Vec<f64> = fitting.map(|one| one.us_per_request).collect();
        values.sort_by(f64::total_cmp);
        values
    }
}

/// The middle of sorted values, or the mean of the two in the middle.
fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    sorted
        .get(middle.checked_sub(1)?)
        .map(|lower| f64::midpoint(*lower, upper))
}

#[cfg(test)]
mod tests {
    use super::{Measurement, Report, median};
    use crate::bench::lab::Subject;
    use crate::bench::load::Scenario;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[1.0, 2.0, 9.0]), Some(2.0));
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), Some(3.0));
    }

    #[test]
    fn ratios_are_ours_over_nginx() {
        let mut report = Report::default();
        for (subject, us) in [
            (Subject::Nginx, 20.0),
            (Subject::Uring, 16.0),
            (Subject::Epoll, 25.0),
        ] {
            report.add(Measurement {
                scenario: Scenario::Plain,
                subject,
                us_per_request: us,
            });
        }
        let json = report.json();
        assert!(
            json.contains("\"proxy\":\"sallyport uring\",\"cpu_us_per_request\":16.000"),
            "{json}"
        );
        assert!(
            json.contains("\"ratio_to_nginx\":0.8000") && json.contains("\"ratio_to_nginx\":1.2500"),
            "{json}"
        );
        assert!(report.table().contains("S1 HTTP/1.1"));
    }
}
