//! What finding a router costs, by how many there are: `cargo xtask bench routes`.
//!
//! Routers that are alike but for their host or path, and requests for any of them. Counts are measured in turns in one
//! run, the best of several rounds each; the last column is the cost beside that of ten. It asserts nothing.
#![allow(clippy::print_stdout, reason = "this is its report")]

use http::{HeaderMap, Method};
use sallyport::route::{Facts, RouteId, Table};
use sallyport_config::rule::Rule;
use std::{
    hint::black_box,
    time::{Duration, Instant},
};

/// How many routers, the first of them what the others are held against.
const COUNTS: [usize; 4] = [10, 100, 1_000, 10_000];
/// Requests of one round.
const REQUESTS: usize = 100_000;
/// Rounds, of which the best counts.
const ROUNDS: usize = 9;

/// Routers of one kind.
struct Kind {
    name: &'static str,
    rule: fn(usize) -> String,
    host: fn(usize) -> String,
    path: fn(usize) -> String,
}

const KINDS: [Kind; 5] = [
    Kind {
        name: "Host",
        rule: |n| format!("Host(`h{n}.example.com`)"),
        host: |n| format!("h{n}.example.com"),
        path: |_| "/".to_owned(),
    },
    Kind {
        name: "Host && PathPrefix",
        rule: |n| format!("Host(`h{n}.example.com`) && PathPrefix(`/v1`)"),
        host: |n| format!("h{n}.example.com"),
        path: |_| "/v1/orders".to_owned(),
    },
    Kind {
        name: "Host with wildcard",
        rule: |n| format!("Host(`*.h{n}.example.com`)"),
        host: |n| format!("any.h{n}.example.com"),
        path: |_| "/".to_owned(),
    },
    Kind {
        name: "HostRegexp",
        rule: |n| format!(r"HostRegexp(`^[a-z]+\.h{n}\.example\.com$`)"),
        host: |n| format!("any.h{n}.example.com"),
        path: |_| "/".to_owned(),
    },
    Kind {
        name: "PathPrefix",
        rule: |n| format!("PathPrefix(`/p{n}/`)"),
        host: |_| "example.com".to_owned(),
        path: |n| format!("/p{n}/x"),
    },
];

/// A table and requests for its routers.
struct Stage {
    table: Table,
    asked: Vec<(String, String)>,
    best: Duration,
}

impl Stage {
    fn new(kind: &Kind, count: usize) -> Option<Self> {
        let routers = (0..count).map(|n| Some((n, Rule::parse(&(kind.rule)(n)).ok()?, format!("r{n}"))));
        let routers: Vec<(usize, Rule, String)> = routers.collect::<Option<_>>()?;
        let given = routers
            .iter()
            .filter_map(|(n, rule, name)| Some((RouteId(u32::try_from(*n).ok()?), rule, 1, name.as_str())));
        // A stride that is prime to all counts: neighbours in time are none in memory.
        let asked = (0..count).map(|n| n * 7_919 % count);
        Some(Self {
            table: Table::new(given),
            asked: asked.map(|n| ((kind.host)(n), (kind.path)(n))).collect(),
            best: Duration::MAX,
        })
    }

    /// Asks for all in turn, and says how many were found.
    fn round(&mut self, headers: &HeaderMap) -> usize {
        let (began, mut found) = (Instant::now(), 0);
        for (host, path) in self.asked.iter().cycle().take(REQUESTS) {
            let facts = Facts {
                host,
                path,
                query: None,
                method: &Method::GET,
                headers,
                client: [192, 0, 2, 1].into(),
            };
            found += usize::from(self.table.find(black_box(&facts)).is_some());
        }
        self.best = self.best.min(began.elapsed());
        found
    }

    fn nanoseconds(&self) -> f64 {
        self.best.as_secs_f64() * 1e9 / REQUESTS as f64
    }
}

fn main() {
    // `cargo test --benches` runs this too, and only wants to know that it runs.
    let measured = std::env::args().any(|word| word == "--bench");
    let headers = HeaderMap::new();
    println!("{:<20} {:>8} {:>8} {:>6}", "routers", "count", "ns", "of 10");
    for kind in &KINDS {
        let counts = if measured { &COUNTS[..] } else { &COUNTS[..1] };
        let mut stages: Vec<Stage> = counts
            .iter()
            .filter_map(|count| Stage::new(kind, *count))
            .collect();
        for _ in 0..if measured { ROUNDS } else { 1 } {
            for stage in &mut stages {
                assert_eq!(
                    stage.round(&headers),
                    REQUESTS,
                    "{}: every request has its router",
                    kind.name
                );
            }
        }
        let ten = stages.first().map_or(f64::NAN, Stage::nanoseconds);
        for (stage, count) in stages.iter().zip(counts) {
            let cost = stage.nanoseconds();
            println!("{:<20} {count:>8} {cost:>8.0} {:>6.2}", kind.name, cost / ten);
        }
    }
}
