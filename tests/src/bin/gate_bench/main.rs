//! `cargo xtask bench gate`: what the gate costs, measured on what `sallyport gate run` attached.
//!
//! It drives the built program from outside and reaches the judging program by the pinned link, so that it measures
//! the product and follows any change of its maps. Everything lives in namespaces of its own. It builds nothing, and
//! a figure that misses its bar is no failure.

mod gates;
mod judged;
mod packets;
mod prefixes;
mod probe;
mod report;

use crate::gates::Stage;
use crate::report::Report;
use anyhow::{Context, Result, bail};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use sallyport_tests::gateway::binary;
use sallyport_tests::lab::{Lab, close_all};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// It could not measure.
const FAILED: u8 = 1;
/// Bad usage.
const USAGE: u8 = 64;
/// Not root.
const NOT_PERMITTED: u8 = 77;
/// Ended by Ctrl-C, as shells report it.
const INTERRUPTED: i32 = 130;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Passes over all figures.
    pub(crate) rounds: u32,
    /// Packets of one figure in one pass.
    pub(crate) repeat: u32,
}

/// What the command line asks for.
struct Options {
    effort: Effort,
    parts: String,
    json: PathBuf,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let options = match Options::parse(&words) {
        Ok(options) => options,
        Err(error) => return complain(USAGE, &format!("{error:#}")),
    };
    if !nix::unistd::geteuid().is_root() {
        return complain(
            NOT_PERMITTED,
            "the benchmark makes namespaces and loads programs, which needs root",
        );
    }
    match clean_up_on_signals().and_then(|()| measure(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(FAILED, &format!("the gate could not be measured: {error:#}")),
    }
}

fn complain(code: u8, text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::from(code)
}

impl Options {
    fn parse(words: &[String]) -> Result<Options> {
        let mut options = Options {
            effort: Effort {
                rounds: 11,
                repeat: 300_000,
            },
            parts: "ABCD".to_owned(),
            json: PathBuf::from("gate.json"),
        };
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            match word.as_str() {
                "--quick" => {
                    options.effort = Effort {
                        rounds: 5,
                        repeat: 50_000,
                    };
                }
                "--part" => options.parts = rest.next().context("`--part` lacks its letters")?.clone(),
                "--json" => options.json = rest.next().context("`--json` lacks its file")?.into(),
                other => bail!("`{other}`: expected --quick, --part LETTERS or --json FILE"),
            }
        }
        Ok(options)
    }
}

/// Measures, prints the table and writes the JSON.
fn measure(options: &Options) -> Result<()> {
    let mut report = Report::default();
    facts(&mut report)?;
    stay_on_the_last_cpu()?;
    let lab = Lab::new()?;
    let measured = measure_parts(&lab, options, &mut report);
    if measured.is_err() {
        eprintln!("{}", lab.logs(20));
    }
    lab.close();
    measured?;
    print!("{}", report.table());
    let json = serde_json::to_string_pretty(&report.json())?;
    std::fs::write(&options.json, json + "\n").with_context(|| format!("`{}`", options.json.display()))?;
    println!("JSON: {}", options.json.display());
    Ok(())
}

fn measure_parts(lab: &Lab, options: &Options, report: &mut Report) -> Result<()> {
    let stage = Stage::new(lab)?;
    if options.parts.contains('A') {
        judged::measure(&stage, &options.effort, report)?;
    }
    Ok(())
}

fn facts(report: &mut Report) -> Result<()> {
    let kernel = nix::sys::utsname::uname()?;
    report.fact("kernel", &kernel.release().to_string_lossy());
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name"));
    report.fact(
        "cpu",
        model.unwrap_or_default().trim_start_matches(['\t', ' ', ':']),
    );
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    report.fact("cpus", &cpus.to_string());
    report.fact("binary", &binary()?.display().to_string());
    Ok(())
}

/// A thread that wanders would take the caches of two CPUs into one figure.
fn stay_on_the_last_cpu() -> Result<()> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let mut set = CpuSet::new();
    set.set(cpus.saturating_sub(1))?;
    sched_setaffinity(Pid::from_raw(0), &set).context("cannot stay on one CPU")
}

/// A thread that takes every lab down at SIGINT and SIGTERM, then ends the process.
fn clean_up_on_signals() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let entered = runtime.enter();
    let mut signals = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?];
    drop(entered);
    std::thread::spawn(move || {
        runtime.block_on(std::future::poll_fn(|context| {
            let came = signals
                .iter_mut()
                .any(|signal| signal.poll_recv(context).is_ready());
            if came {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        }));
        eprintln!("taking the lab down");
        close_all();
        std::process::exit(INTERRUPTED);
    });
    Ok(())
}
