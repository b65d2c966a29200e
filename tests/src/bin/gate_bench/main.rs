//! `cargo xtask bench gate`: what the gate costs, measured on what `sallyport gate run` attached.
//!
//! It drives the built program from outside and reaches the judging program by the pinned link, so that it measures
//! the product and follows any change of its maps. Everything lives in namespaces of its own. It builds nothing, and
//! a figure that misses its bar is no failure.

mod clock;
mod flood;
mod gates;
mod goodput;
mod judged;
mod live;
mod napi;
mod packets;
mod peers;
mod prefixes;
mod probe;
mod report;
mod swap;
mod trials;

use crate::flood::Generator;
use crate::gates::Stage;
use crate::report::Report;
use anyhow::{Context, Result, bail};
use sallyport_tests::bench;
use sallyport_tests::gateway::binary;
use sallyport_tests::lab::Lab;
use std::path::PathBuf;
use std::process::ExitCode;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Passes over all figures.
    pub(crate) rounds: u32,
    /// Packets of one figure in one pass.
    pub(crate) repeat: u32,
    /// Passes, there and back, of live frames.
    pub(crate) live_rounds: u32,
    /// Frames of one of them.
    pub(crate) frames: u32,
    /// Passes of handshakes, flooded and not.
    pub(crate) handshake_rounds: u32,
    /// Seconds of one of them; a client takes up to one more.
    pub(crate) handshake_seconds: u32,
    /// Swaps of a big policy.
    pub(crate) swaps: u32,
    /// CPUs that there are.
    pub(crate) cpus: usize,
}

/// What the command line asks for.
struct Options {
    effort: Effort,
    parts: String,
    json: PathBuf,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    bench::run(
        Options::parse(&words),
        "the benchmark makes namespaces and loads programs, which needs root",
        "the gate",
        measure,
    )
}

impl Options {
    fn parse(words: &[String]) -> Result<Options> {
        let mut options = Options {
            effort: Effort {
                rounds: 11,
                repeat: 300_000,
                live_rounds: 5,
                frames: 800_000,
                handshake_rounds: 4,
                handshake_seconds: 4,
                swaps: 5,
                cpus: cpus(),
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
                        live_rounds: 2,
                        frames: 200_000,
                        handshake_rounds: 1,
                        handshake_seconds: 2,
                        swaps: 2,
                        cpus: cpus(),
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
    // A thread that wanders would take the caches of two CPUs into one figure.
    bench::stay_on(options.effort.cpus - 1)?;
    bench::in_lab(report, &options.json, |lab, report| {
        measure_parts(lab, options, report)
    })
}

fn measure_parts(lab: &Lab, options: &Options, report: &mut Report) -> Result<()> {
    let stage = Stage::new(lab)?;
    let mut generator = Generator::new(&stage.outside)?;
    if options.parts.contains('A') {
        judged::measure(&stage, &options.effort, report)?;
    }
    if options.parts.contains('B') {
        live::measure(&stage, &mut generator, &options.effort, report)?;
    }
    if options.parts.contains('C') {
        goodput::measure(lab, &stage, &mut generator, &options.effort, report)?;
    }
    if options.parts.contains('D') {
        swap::measure(&stage, &options.effort, report)?;
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
    report.fact("cpus", &cpus().to_string());
    let read = |path: &str| {
        std::fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    report.fact(
        "net.core.bpf_jit_enable",
        &read("/proc/sys/net/core/bpf_jit_enable"),
    );
    report.fact(
        "load average at the start (should be below 0.3)",
        &read("/proc/loadavg"),
    );
    report.fact("binary", &binary()?.display().to_string());
    Ok(())
}

/// CPUs of the machine, whatever this thread is kept on.
fn cpus() -> usize {
    std::fs::read_to_string("/proc/cpuinfo").map_or(1, |text| text.matches("processor\t").count().max(1))
}
