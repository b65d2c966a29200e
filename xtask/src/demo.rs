//! `cargo xtask demo`: from a bare machine to the running demonstration.
//!
//! It prepares and builds; what is shown, and cleaning up after it, is the duty of the program `demo` in `tests/`.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::setup;
use crate::tasks;

/// What becomes of the lab after the table is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Afterwards {
    /// Everything is removed.
    CleanUp,
    /// The lab stays up until the user leaves it.
    Keep,
}

/// Sets up, builds and becomes the demo; returns only on an error.
///
/// # Errors
/// No root, or a step before the demo fails.
pub(crate) fn run(afterwards: Afterwards) -> Result<()> {
    if !tasks::is_root() {
        bail!(
            "the demo makes network namespaces and loads BPF programs, which needs root; run: sudo -E env \"PATH=$PATH\" cargo xtask demo"
        );
    }
    println!("[1/4] setup");
    setup::run(setup::Scope::Minimal)?;
    println!("[2/4] building the gateway");
    let binary = build_gateway()?;
    println!("[3/4] building the demo");
    tasks::run(tasks::cargo().args(["build", "--locked", "-p", "sallyport-tests", "--bin", "demo"]))?;
    println!("[4/4] running it");
    let mut demo = tasks::cargo();
    demo.args([
        "run",
        "--quiet",
        "--locked",
        "-p",
        "sallyport-tests",
        "--bin",
        "demo",
    ]);
    if afterwards == Afterwards::Keep {
        demo.args(["--", "--keep"]);
    }
    // Replacing this process leaves nobody between the terminal's signals and the demo's clean-up.
    let error = demo.env("SALLYPORT_BIN", binary).exec();
    Err(error).context("the demo does not start")
}

/// Builds the binary that tests and the demo run; returns where it is.
///
/// # Errors
/// The build fails.
pub(crate) fn build_gateway() -> Result<PathBuf> {
    tasks::run(tasks::cargo().args([
        "build",
        "--locked",
        "--profile",
        "test-release",
        "-p",
        "sallyport",
    ]))?;
    Ok(tasks::target_dir()?.join("test-release/sallyport"))
}
