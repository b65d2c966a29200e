//! `cargo xtask bench http`: CPU of a proxied request beside nginx and HAProxy in one run, over HTTP/1.1 and HTTP/2, in
//! the clear and over TLS, with small and large bodies, over kept and new connections, and among 1,000 hosts.
//!
//! It drives the built program from outside, like its peers. It builds nothing, and a figure that misses its bar is no
//! failure.

mod load;
mod served;

use crate::load::Scenario;
use crate::served::Bench;
use anyhow::Result;
use sallyport_tests::bench::options::{Options, Sizes};
use sallyport_tests::bench::report::Report;
use sallyport_tests::bench::subjects::Proxy;
use sallyport_tests::bench::{self, passes};
use sallyport_tests::lab::Lab;
use std::process::ExitCode;

/// How much is measured.
#[derive(Clone, Debug)]
pub(crate) struct Effort {
    /// Small requests of one figure.
    pub(crate) requests: u32,
    /// Connections of one figure.
    pub(crate) connections: u32,
    /// Bodies of 64 KiB of one figure.
    pub(crate) bodies: u32,
    /// Bodies of 1 MiB of one figure.
    pub(crate) large: u32,
}

impl Sizes for Effort {
    const QUICK: Effort = Effort {
        requests: 4000,
        connections: 1000,
        bodies: 1000,
        large: 100,
    };
    const FULL: Effort = Effort {
        requests: 60_000,
        connections: 6000,
        bodies: 10_000,
        large: 1000,
    };
}

fn main() -> ExitCode {
    let how = [
        (
            "load",
            "h2load: 32 connections of HTTP/1.1, or 8 of HTTP/2 with 10 streams each; bodies over 8",
        ),
        ("churn", "8 clients at once: connect, one request, close"),
        (
            "1,000 hosts",
            "routed by `Host` among 1,000; ten of them, from one end to the other, share the requests",
        ),
    ];
    bench::beside_peers("HTTP", "http.json", &how, measure_all)
}

fn measure_all(lab: &Lab, options: &Options<Effort>, report: &mut Report) -> Result<()> {
    let bench = Bench::new(lab)?;
    for scenarios in [&Scenario::ONE_SERVICE[..], &Scenario::MANY_HOSTS] {
        let asked: Vec<Scenario> = scenarios
            .iter()
            .copied()
            .filter(|scenario| options.asks_for(scenario.figure().name))
            .collect();
        let Some(first) = asked.first() else { continue };
        let served = bench.served(*first);
        let running: Vec<_> = options
            .subjects()
            .map(|subject| bench.setting.start(subject, &served))
            .collect::<Result<_>>()?;
        for scenario in asked {
            let count = scenario.count(&options.sizes);
            passes::cpu(
                &running,
                scenario.figure(),
                options.rounds,
                count,
                report,
                |proxy, count| scenario.run(&bench, proxy, count),
            )?;
        }
        running.into_iter().try_for_each(Proxy::end)?;
    }
    Ok(())
}
