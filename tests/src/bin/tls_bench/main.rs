//! `cargo xtask bench tls`: CPU of a handshake and of a request over TLS, and memory of an idle connection, beside
//! nginx and HAProxy in one run.
//!
//! It drives the built program from outside, like its peers. The handshakes are made by this program's own client, the
//! requests over kept connections by h2load. It builds nothing, and a figure that misses its bar is no failure.

mod load;
mod served;

use crate::load::{Clients, Scenario};
use crate::served::Bench;
use anyhow::{Context, Result};
use sallyport_tests::bench::options::{Options, Sizes};
use sallyport_tests::bench::report::{Measurement, Report};
use sallyport_tests::bench::subjects::{Proxy, Subject};
use sallyport_tests::bench::{self, passes};
use sallyport_tests::lab::Lab;
use std::process::ExitCode;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Handshakes of one figure.
    pub(crate) handshakes: u32,
    /// Requests over kept connections of one figure.
    pub(crate) requests: u32,
    /// Idle connections that are held.
    pub(crate) idle: u32,
}

impl Sizes for Effort {
    const QUICK: Effort = Effort {
        handshakes: 400,
        requests: 4000,
        idle: 400,
    };
    const FULL: Effort = Effort {
        handshakes: 4000,
        requests: 60_000,
        idle: 2000,
    };
}

fn main() -> ExitCode {
    let how = [
        (
            "handshakes",
            "TLS 1.3, X25519, P-256 certificates, AES-128-GCM, 8 clients of rustls at once, one request, close",
        ),
        (
            "requests",
            "HTTP/1.1 over 32 kept connections of TLS 1.3, by h2load",
        ),
    ];
    bench::beside_peers("TLS", "tls.json", &how, measure_all)
}

fn measure_all(lab: &Lab, options: &Options<Effort>, report: &mut Report) -> Result<()> {
    let bench = Bench::new(lab)?;
    measure_cpu(&bench, options, report)?;
    measure_memory(&bench, options, report)
}

/// All proxies run; each scenario goes there and back over them, round by round.
fn measure_cpu(bench: &Bench, options: &Options<Effort>, report: &mut Report) -> Result<()> {
    let running: Vec<_> = options
        .subjects()
        .map(|subject| bench.setting.start(subject, &bench.papers))
        .collect::<Result<_>>()?;
    for scenario in Scenario::ALL {
        let figure = scenario.figure();
        if !options.asks_for(figure.name) {
            continue;
        }
        // A client for each proxy: sessions are kept from pass to pass.
        let new = |proxy: &Proxy| Ok((proxy.subject, Clients::new(bench, scenario)?));
        let clients: Vec<(Subject, Clients)> = running.iter().map(new).collect::<Result<_>>()?;
        let count = options.sizes.count(scenario);
        passes::cpu(&running, figure, options.rounds, count, report, |proxy, count| {
            let own = clients.iter().find(|(subject, _)| *subject == proxy.subject);
            let (_, own) = own.context("every proxy has clients")?;
            own.run(bench, proxy, count)
        })?;
    }
    running.into_iter().try_for_each(Proxy::end)
}

/// Each proxy is started anew, so that no memory of earlier connections is used again.
fn measure_memory(bench: &Bench, options: &Options<Effort>, report: &mut Report) -> Result<()> {
    let scenario = Scenario::Idle;
    if !options.asks_for(scenario.figure().name) {
        return Ok(());
    }
    for round in 0..options.rounds.div_ceil(2) {
        eprintln!("bench: {} round {}", scenario.figure().name, round + 1);
        for subject in options.subjects().chain(options.subjects().rev()) {
            let proxy = bench.setting.start(subject, &bench.papers)?;
            let clients = Clients::new(bench, scenario)?;
            report.add(Measurement {
                figure: scenario.figure(),
                subject,
                value: clients.kib_each(bench, &proxy, options.sizes.idle)?,
            });
        }
    }
    Ok(())
}

impl Effort {
    fn count(&self, scenario: Scenario) -> u32 {
        match scenario {
            Scenario::Full | Scenario::Resumed | Scenario::Mutual => self.handshakes,
            Scenario::KeepAlive => self.requests,
            Scenario::Idle => self.idle,
        }
    }
}
