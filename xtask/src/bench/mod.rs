//! `cargo xtask bench`: CPU per proxied keep-alive request beside nginx, both drivers, in one run.
//!
//! The load and the origin share CPU 0 and the proxy under test has CPU 1 alone; the order A B C C B A takes drift
//! out. The result is a ratio measured now and here; it must not be compared with one of another run or machine.

pub(crate) mod gate;
mod lab;
mod load;
mod programs;
mod report;
pub(crate) mod tls;

use std::thread;

use anyhow::{Context, Result, bail};

use crate::bench::lab::{Lab, Subject};
use crate::bench::load::Scenario;
use crate::bench::report::{Measurement, Report};
use crate::demo::build_gateway;
use crate::tasks;

const SUBJECTS: [Subject; 3] = [Subject::Nginx, Subject::Uring, Subject::Epoll];

/// How much to measure.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Options {
    requests: u32,
    rounds: u32,
}

impl Options {
    /// Reads the words after `bench`.
    ///
    /// # Errors
    /// Names the word that it does not know, or the number that is none.
    pub(crate) fn parse(words: &[&str]) -> Result<Self> {
        let mut options = Self {
            requests: 100_000,
            rounds: 3,
        };
        for pair in words.chunks(2) {
            let [name, value] = pair else {
                bail!("`{}` lacks its number", pair.concat())
            };
            let number: u32 = value
                .parse()
                .with_context(|| format!("`{name} {value}`: expected a number"))?;
            match *name {
                "--requests" => options.requests = number,
                "--rounds" => options.rounds = number,
                other => bail!("`{other}` is no option of `bench`; expected --requests N or --rounds N"),
            }
        }
        if options.requests < 1000 || options.rounds < 1 {
            bail!("at least 1000 requests (the warm-up sends a tenth) and 1 round are needed");
        }
        Ok(options)
    }
}

/// Measures and prints a table and, after it, the same as JSON; the JSON is kept in `target/bench.json` too.
///
/// # Errors
/// Fewer than two CPUs, a missing tool, or a request that was not answered with 2xx.
pub(crate) fn run(options: &Options) -> Result<()> {
    if thread::available_parallelism().map_or(1, std::num::NonZero::get) < 2 {
        bail!("two CPUs are needed: one for the load, one for the proxy");
    }
    for tool in ["nginx", "h2load", "openssl", "taskset"] {
        if tasks::find_tool(tool).is_none() {
            bail!("`{tool}` is not there; `cargo xtask setup` installs it");
        }
    }
    let binary = match std::env::var_os("SALLYPORT_BIN") {
        Some(binary) => binary.into(),
        None => build_gateway()?,
    };
    let lab = Lab::start(&tasks::target_dir()?.join("bench"), &binary)?;
    let mut report = Report::default();
    for scenario in Scenario::ALL {
        measure(&lab, scenario, options, &mut report)?;
    }
    print!("{}", report.table());
    let json = report.json();
    println!("{json}");
    let kept = tasks::target_dir()?.join("bench.json");
    std::fs::write(&kept, json).with_context(|| format!("cannot write `{}`", kept.display()))
}

/// One scenario: a warm-up each, then every round there and back again.
fn measure(lab: &Lab, scenario: Scenario, options: &Options, report: &mut Report) -> Result<()> {
    for subject in SUBJECTS {
        load::run(lab.proxy(subject)?, scenario, options.requests / 10)?;
    }
    for round in 0..options.rounds {
        eprintln!(
            "bench: {} round {} of {}",
            scenario.name(),
            round + 1,
            options.rounds
        );
        for subject in SUBJECTS.into_iter().chain(SUBJECTS.into_iter().rev()) {
            let proxy = lab.proxy(subject)?;
            let before = proxy.cpu_ns()?;
            load::run(proxy, scenario, options.requests)?;
            let spent = proxy.cpu_ns()?.saturating_sub(before);
            let us = spent as f64 / 1000.0 / f64::from(options.requests);
            report.add(Measurement {
                scenario,
                subject,
                us_per_request: us,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Options;

    #[test]
    fn options_are_numbers_with_a_floor() {
        let read = Options::parse(&["--requests", "1000", "--rounds", "1"]).expect("these words are right");
        assert_eq!(
            read,
            Options {
                requests: 1000,
                rounds: 1
            }
        );
        for words in [
            &["--requests"][..],
            &["--requests", "x"],
            &["--rounds", "0"],
            &["--other", "1"],
        ] {
            assert!(Options::parse(words).is_err(), "{words:?}");
        }
    }
}
