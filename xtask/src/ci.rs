//! `cargo xtask ci`: what a change must pass, in the order of what is quickest to say no.
//!
//! A list of steps; each step's work is another verb's. It changes no file of the checkout.

use std::time::Instant;

use anyhow::{Context, Result};

use crate::test::Skips;
use crate::{deny, docs, ebpf, layers, limits, tasks, test};

type Step = (&'static str, fn() -> Result<()>);

const STEPS: &[Step] = &[
    ("format", format),
    ("limits", limits::run),
    ("layers", layers::run),
    ("deny", deny::run),
    ("clippy", clippy),
    ("ebpf", || ebpf::run(ebpf::Mode::Check)),
    ("docs", docs::run),
    ("test", || test::run(None, Skips::Refused)),
];

/// Runs every step; the first that fails ends the run.
///
/// # Errors
/// The failure of that step, with its name.
pub(crate) fn run() -> Result<()> {
    let start = Instant::now();
    for (index, (name, step)) in STEPS.iter().enumerate() {
        let so_far = start.elapsed().as_secs_f64();
        println!("\n=== {}/{} {name} (after {so_far:.0} s)", index + 1, STEPS.len());
        let began = Instant::now();
        step().with_context(|| {
            format!(
                "step `{name}` failed after {:.1} s",
                began.elapsed().as_secs_f64()
            )
        })?;
        // After the tests nothing more is said: their sums are the last line of the whole run.
        if index + 1 < STEPS.len() {
            println!("=== {name}: ok, {:.1} s", began.elapsed().as_secs_f64());
        }
    }
    Ok(())
}

fn format() -> Result<()> {
    tasks::run(tasks::cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> Result<()> {
    let mut clippy = tasks::cargo();
    clippy.args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ]);
    tasks::run(&mut clippy)
}
