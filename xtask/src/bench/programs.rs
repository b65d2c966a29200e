//! The benchmarks that are programs of `tests/`: builds what is measured and what measures, and becomes it.
//!
//! It must not measure.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::guided;
use crate::tasks;

/// A program that measures.
pub(super) struct Bench<'a> {
    /// Its name.
    pub(super) program: &'static str,
    /// The profile that it is built with, and that profile's folder below the build folder.
    pub(super) profile: &'static str,
    pub(super) folder: &'static str,
    /// Its document, in `bench/` of the build folder.
    pub(super) json: &'static str,
    /// What it is told.
    pub(super) words: &'a [&'a str],
}

/// Builds, then becomes the benchmark; returns only on an error.
///
/// # Errors
/// A build that fails, or a program that does not start.
pub(super) fn become_bench(bench: &Bench<'_>) -> Result<()> {
    let target = tasks::target_dir()?;
    let binary = match std::env::var_os("SALLYPORT_BIN") {
        Some(binary) => binary.into(),
        // What is shipped is what is measured.
        None => guided::build()?,
    };
    tasks::run(tasks::cargo().args([
        "build",
        "--locked",
        "--profile",
        bench.profile,
        "-p",
        "sallyport-tests",
        "--bin",
        bench.program,
    ]))?;
    let folder = target.join("bench");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    let mut command = Command::new(target.join(bench.folder).join(bench.program));
    command.env("SALLYPORT_BIN", binary).current_dir(tasks::root());
    command
        .args(bench.words)
        .arg("--json")
        .arg(folder.join(bench.json));
    // Replacing this process leaves nobody between the terminal's signals and the benchmark's clean-up.
    let error = command.exec();
    Err(error).context("the benchmark does not start")
}
