//! Two readings in, rates out. Pure: the clock's reading comes with each of them.

use super::{SourceCount, Top};
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::Instant,
};

/// What was counted, and when it was asked for.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    /// When.
    pub(super) at: Instant,
    /// What.
    pub(super) top: Top,
}

impl Reading {
    /// A reading of now.
    pub(super) fn new(top: Top) -> Self {
        Self {
            at: Instant::now(),
            top,
        }
    }
}

/// A count and how fast it grows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Figure {
    /// Packets so far.
    pub(super) total: u64,
    /// Packets a second; `None` where there is no earlier reading, or where counting began anew.
    pub(super) rate: Option<f64>,
}

/// An interface, or a policy on one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// The interface.
    pub(super) interface: String,
    /// `None` is the whole interface.
    pub(super) policy: Option<String>,
    /// Passed.
    pub(super) passed: Figure,
    /// Dropped.
    pub(super) dropped: Figure,
    /// Would have been dropped.
    pub(super) observed: Figure,
}

/// A dropped source.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Source {
    /// Its address.
    pub(super) address: IpAddr,
    /// Where it came in.
    pub(super) interface: String,
    /// Its drops, estimated.
    pub(super) packets: Figure,
}

/// What is shown.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    /// Each interface, followed by its policies.
    pub(super) rows: Vec<Row>,
    /// Reasons that have counted, fastest first.
    pub(super) reasons: Vec<(String, Figure)>,
    /// Fastest first.
    pub(super) sources: Vec<Source>,
    /// Samples that were lost.
    pub(super) events_lost: u64,
}

type Three = [u64; 3];

impl View {
    /// What `now` says, and how fast it came from `before`.
    pub(super) fn between(before: Option<&Reading>, now: &Reading) -> Self {
        let since = Since::of(before, now);
        let mut rows = Vec::new();
        for interface in &now.top.interfaces {
            let counts = [interface.passed, interface.dropped, interface.observed];
            rows.push(since.row(&interface.name, None, counts));
            let policies = now
                .top
                .policies
                .iter()
                .filter(|policy| policy.interface == interface.name);
            rows.extend(policies.map(|policy| {
                let counts = [policy.passed, policy.dropped, policy.observed];
                since.row(&policy.interface, Some(&policy.policy), counts)
            }));
        }
        let mut reasons: Vec<(String, Figure)> = now
            .top
            .reasons
            .iter()
            .filter(|(_, total)| **total > 0)
            .map(|(code, total)| {
                (
                    code.clone(),
                    since.figure(*total, since.reasons.get(code.as_str()).copied()),
                )
            })
            .collect();
        reasons.sort_by(|(_, a), (_, b)| faster(a, b));
        let mut sources: Vec<Source> = now
            .top
            .sources
            .iter()
            .map(|source| since.source(source))
            .collect();
        sources.sort_by(|a, b| faster(&a.packets, &b.packets));
        Self {
            rows,
            reasons,
            sources,
            events_lost: now.top.events_lost,
        }
    }
}

/// By rate, then by total; what has no rate is slowest.
fn faster(a: &Figure, b: &Figure) -> std::cmp::Ordering {
    let rate = |figure: &Figure| figure.rate.unwrap_or(-1.0);
    rate(b).total_cmp(&rate(a)).then(b.total.cmp(&a.total))
}

/// The earlier reading, by what it counted.
#[derive(Default)]
struct Since<'a> {
    seconds: Option<f64>,
    rows: HashMap<(&'a str, Option<&'a str>), Three>,
    reasons: BTreeMap<&'a str, u64>,
    sources: HashMap<(IpAddr, &'a str), u64>,
}

impl<'a> Since<'a> {
    fn of(before: Option<&'a Reading>, now: &Reading) -> Self {
        let Some(before) = before else {
            return Self::default();
        };
        let top = &before.top;
        let interfaces = top.interfaces.iter().map(|counts| {
            let key = (counts.name.as_str(), None);
            (key, [counts.passed, counts.dropped, counts.observed])
        });
        let policies = top.policies.iter().map(|counts| {
            let key = (counts.interface.as_str(), Some(counts.policy.as_str()));
            (key, [counts.passed, counts.dropped, counts.observed])
        });
        let seconds = now.at.saturating_duration_since(before.at).as_secs_f64();
        let source = |count: &'a SourceCount| ((count.source, count.interface.as_str()), count.packets);
        Self {
            seconds: Some(seconds).filter(|seconds| *seconds > 0.0),
            rows: interfaces.chain(policies).collect(),
            reasons: top
                .reasons
                .iter()
                .map(|(code, total)| (code.as_str(), *total))
                .collect(),
            sources: top.sources.iter().map(source).collect(),
        }
    }

    /// What was not there before has grown from nothing; what shrank was counted anew.
    #[allow(clippy::cast_precision_loss, reason = "a rate is shown by three digits")]
    fn figure(&self, total: u64, before: Option<u64>) -> Figure {
        let grown = total.checked_sub(before.unwrap_or(0));
        let rate = self
            .seconds
            .zip(grown)
            .map(|(seconds, grown)| grown as f64 / seconds);
        Figure { total, rate }
    }

    fn row(&self, interface: &str, policy: Option<&str>, counts: Three) -> Row {
        let before = self.rows.get(&(interface, policy));
        let [passed, dropped, observed] = counts;
        let [passed_before, dropped_before, observed_before] = match before {
            Some(counts) => counts.map(Some),
            None => [None; 3],
        };
        Row {
            interface: interface.to_owned(),
            policy: policy.map(str::to_owned),
            passed: self.figure(passed, passed_before),
            dropped: self.figure(dropped, dropped_before),
            observed: self.figure(observed, observed_before),
        }
    }

    fn source(&self, count: &SourceCount) -> Source {
        let before = self.sources.get(&(count.source, count.interface.as_str()));
        Source {
            address: count.source,
            interface: count.interface.clone(),
            packets: self.figure(count.packets, before.copied()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::top::{InterfaceCounts, PolicyCounts};
    use std::time::Duration;

    fn reading(at: Instant, counts: u64, sources: &[(&str, u64)]) -> Reading {
        Reading {
            at,
            top: Top {
                version: 1,
                interfaces: vec![InterfaceCounts {
                    name: "eth0".to_owned(),
                    passed: counts,
                    dropped: 10 * counts,
                    observed: 0,
                }],
                reasons: [
                    ("source".to_owned(), 10 * counts),
                    ("allowed".to_owned(), counts),
                    ("internal".to_owned(), 0),
                ]
                .into(),
                policies: vec![PolicyCounts {
                    interface: "eth0".to_owned(),
                    policy: "web".to_owned(),
                    passed: 0,
                    dropped: 10 * counts,
                    observed: 0,
                }],
                sources: sources
                    .iter()
                    .map(|(source, packets)| SourceCount {
                        source: source.parse().expect("an address"),
                        interface: "eth0".to_owned(),
                        packets: *packets,
                    })
                    .collect(),
                events_lost: 3,
            },
        }
    }

    #[test]
    fn a_rate_is_the_difference_by_the_time_that_passed() {
        let start = Instant::now();
        let before = reading(start, 100, &[("192.0.2.1", 500), ("192.0.2.2", 10)]);
        let now = reading(
            start + Duration::from_millis(500),
            150,
            &[("192.0.2.1", 600), ("192.0.2.2", 400), ("192.0.2.3", 64)],
        );
        let view = View::between(Some(&before), &now);
        assert_eq!(
            view.rows[0].passed,
            Figure {
                total: 150,
                rate: Some(100.0)
            }
        );
        assert_eq!(
            view.rows[0].dropped,
            Figure {
                total: 1500,
                rate: Some(1000.0)
            }
        );
        assert_eq!(view.rows[1].policy.as_deref(), Some("web"));
        assert_eq!(view.rows[1].dropped.rate, Some(1000.0));
        let sources: Vec<(String, Option<f64>)> = view
            .sources
            .iter()
            .map(|source| (source.address.to_string(), source.packets.rate))
            .collect();
        assert_eq!(
            sources,
            [
                ("192.0.2.2".to_owned(), Some(780.0)),
                ("192.0.2.1".to_owned(), Some(200.0)),
                ("192.0.2.3".to_owned(), Some(128.0))
            ]
        );
        let reasons: Vec<&str> = view.reasons.iter().map(|(code, _)| code.as_str()).collect();
        assert_eq!(
            reasons,
            ["source", "allowed"],
            "what has counted nothing is left out"
        );
        assert_eq!(view.events_lost, 3);
    }

    #[test]
    fn the_first_reading_has_no_rate_and_a_count_that_shrank_has_none_either() {
        let start = Instant::now();
        let before = reading(start, 100, &[("192.0.2.1", 500)]);
        let alone = View::between(None, &before);
        assert_eq!(
            alone.rows[0].passed,
            Figure {
                total: 100,
                rate: None
            }
        );
        assert_eq!(alone.sources[0].packets.rate, None);
        let again = reading(start + Duration::from_secs(1), 7, &[("192.0.2.1", 4)]);
        let view = View::between(Some(&before), &again);
        assert_eq!(view.rows[0].passed, Figure { total: 7, rate: None });
        assert_eq!(view.sources[0].packets.rate, None);
        let same = View::between(Some(&before), &before);
        assert_eq!(same.rows[0].passed.rate, None, "no time has passed");
    }
}
