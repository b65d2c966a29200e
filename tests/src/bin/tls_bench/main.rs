//! `cargo xtask bench tls`: CPU of a handshake and of a request over TLS, and memory of an idle connection, beside
//! nginx and HAProxy in one run.
//!
//! It drives the built program from outside, like its peers. The handshakes are made by this program's own client, the
//! requests over kept connections by h2load. It builds nothing, and a figure that misses its bar is no failure.

mod load;
mod report;
mod subjects;

use crate::load::{Clients, Scenario};
use crate::report::{Measurement, Report};
use crate::subjects::{Bench, Subject};
use anyhow::{Context, Result, bail, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sallyport_tests::bench;
use sallyport_tests::case::is_installed;
use sallyport_tests::gateway::binary;
use sallyport_tests::lab::Lab;
use std::path::PathBuf;
use std::process::ExitCode;

/// The CPU of the load and the origin.
pub(crate) const LOAD_CPU: usize = 0;
/// The CPU of the proxy under test, alone.
pub(crate) const PROXY_CPU: usize = 1;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// There-and-back passes over all proxies.
    pub(crate) rounds: u32,
    /// Handshakes of one figure.
    pub(crate) handshakes: u32,
    /// Requests over kept connections of one figure.
    pub(crate) requests: u32,
    /// Idle connections that are held.
    pub(crate) idle: u32,
}

/// What the command line asks for.
struct Options {
    effort: Effort,
    json: PathBuf,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    bench::run(
        Options::parse(&words),
        "the benchmark makes network namespaces, which needs root",
        "TLS",
        measure,
    )
}

impl Options {
    fn parse(words: &[String]) -> Result<Options> {
        let mut options = Options {
            effort: Effort {
                rounds: 5,
                handshakes: 4000,
                requests: 60_000,
                idle: 2000,
            },
            json: PathBuf::from("tls.json"),
        };
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            match word.as_str() {
                "--quick" => {
                    options.effort = Effort {
                        rounds: 1,
                        handshakes: 400,
                        requests: 4000,
                        idle: 400,
                    };
                }
                "--rounds" => {
                    let rounds = rest.next().context("`--rounds` lacks its number")?;
                    options.effort.rounds = rounds.parse().with_context(|| format!("`--rounds {rounds}`"))?;
                }
                "--json" => options.json = rest.next().context("`--json` lacks its file")?.into(),
                other => bail!("`{other}`: expected --quick, --rounds N or --json FILE"),
            }
        }
        ensure!(options.effort.rounds > 0, "at least one round is needed");
        Ok(options)
    }
}

/// Measures, prints the table and writes the JSON.
fn measure(options: &Options) -> Result<()> {
    for tool in ["nginx", "haproxy", "h2load", "taskset"] {
        ensure!(
            is_installed(tool),
            "`{tool}` is not there; `cargo xtask setup` installs it"
        );
    }
    let cpus = std::thread::available_parallelism()?.get();
    ensure!(
        cpus >= 2,
        "two CPUs are needed: one for the load, one for the proxy"
    );
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    bench::stay_on(LOAD_CPU)?;
    let report = Report::new(facts(&options.effort)?);
    bench::in_lab(report, &options.json, |lab, report| {
        measure_all(lab, &options.effort, report)
    })
}

fn facts(effort: &Effort) -> Result<Vec<(String, String)>> {
    let kernel = nix::sys::utsname::uname()?;
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name"));
    let average = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let fact = |name: &str, value: &str| {
        (
            name.to_owned(),
            value.trim_matches([' ', '\t', '\n', ':']).to_owned(),
        )
    };
    Ok(vec![
        fact("kernel", &kernel.release().to_string_lossy()),
        fact("cpu", model.unwrap_or_default()),
        fact("load average at the start (should be below 0.3)", &average),
        fact("binary", &binary()?.display().to_string()),
        fact("effort", &format!("{effort:?}")),
        fact(
            "handshakes",
            "TLS 1.3, X25519, P-256 certificates, AES-128-GCM, 8 clients of rustls at once, one request, close",
        ),
        fact(
            "requests",
            "HTTP/1.1 over 32 kept connections of TLS 1.3, by h2load",
        ),
    ])
}

fn measure_all(lab: &Lab, effort: &Effort, report: &mut Report) -> Result<()> {
    let bench = Bench::new(lab)?;
    measure_cpu(&bench, effort, report)?;
    measure_memory(&bench, effort, report)
}

/// All proxies run; each scenario goes there and back over them, round by round.
fn measure_cpu(bench: &Bench, effort: &Effort, report: &mut Report) -> Result<()> {
    let running: Vec<_> = Subject::ALL
        .into_iter()
        .map(|subject| bench.start(subject))
        .collect::<Result<_>>()?;
    for scenario in Scenario::ALL {
        let mut clients: Vec<Clients> = Vec::new();
        for proxy in &running {
            let warm = Clients::new(bench, scenario)?;
            warm.run(bench, proxy, (effort.count(scenario) / 10).max(100))?;
            clients.push(warm);
        }
        for round in 0..effort.rounds {
            eprintln!(
                "bench: {} round {} of {}",
                scenario.name(),
                round + 1,
                effort.rounds
            );
            let there: Vec<_> = running.iter().zip(&clients).collect();
            for (proxy, clients) in there.iter().chain(there.iter().rev()) {
                let count = effort.count(scenario);
                let before = proxy.cpu_ns()?;
                clients.run(bench, proxy, count)?;
                let spent = proxy.cpu_ns()?.saturating_sub(before);
                report.add(Measurement {
                    scenario,
                    subject: proxy.subject,
                    value: spent as f64 / 1000.0 / f64::from(count),
                });
            }
        }
    }
    Ok(())
}

/// Each proxy is started anew, so that no memory of earlier connections is used again.
fn measure_memory(bench: &Bench, effort: &Effort, report: &mut Report) -> Result<()> {
    let scenario = Scenario::Idle;
    for round in 0..effort.rounds.div_ceil(2) {
        eprintln!("bench: {} round {}", scenario.name(), round + 1);
        for subject in Subject::ALL.into_iter().chain(Subject::ALL.into_iter().rev()) {
            let proxy = bench.start(subject)?;
            let clients = Clients::new(bench, scenario)?;
            report.add(Measurement {
                scenario,
                subject,
                value: clients.kib_each(bench, &proxy, effort.idle)?,
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
