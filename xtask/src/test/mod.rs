//! `cargo xtask test`: all tests, summed into one last line `N passed, N failed, N skipped`.
//!
//! It runs and counts; it must not know any test.

mod tally;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result, bail};

use crate::demo::build_gateway;
use crate::ebpf;
use crate::tasks;
use crate::test::tally::{Stream, Tally};

/// With more failures than this it is not the machine: none is run again.
const AGAIN_MAX: usize = 4;

/// What a skipped test means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Skips {
    /// A developer's machine may lack something.
    Allowed,
    /// CI must have everything.
    Refused,
}

impl Skips {
    /// As the variable `CI` says.
    pub(crate) fn from_env() -> Self {
        if tasks::in_ci() {
            Self::Refused
        } else {
            Self::Allowed
        }
    }
}

/// Builds what is under test, the debug object too where a BPF toolchain is here, and runs every test whose name contains `filter`.
///
/// # Errors
/// A test that failed, a test program that did not end well, or a skip where skips are refused.
pub(crate) fn run(filter: Option<&str>, skips: Skips) -> Result<()> {
    let binary = build_gateway()?;
    let debug_object = ebpf::build_debug()?;
    let under_test = UnderTest {
        binary: &binary,
        debug_object: debug_object.as_deref(),
    };
    let mut tally = Tally::default();
    let broken = run_tests(&under_test, filter.as_slice(), &["--show-output"], &mut tally);
    let unsteady = run_again(&under_test, &mut tally)?;
    for name in unsteady {
        println!(
            "UNSTEADY: {name}: failed, then passed by itself; the failure stands above and wants mending"
        );
    }
    for skipped in tally.reasons() {
        println!("{skipped}");
    }
    if let Err(error) = &broken {
        eprintln!("xtask: {error:#}");
        tally.count_broken_program();
    }
    // The last line on standard output, and alone there: CI reads it.
    println!("{tally}");
    if tally.failed() > 0 {
        bail!("tests failed");
    }
    if skips == Skips::Refused && tally.skipped() > 0 {
        bail!("tests were skipped, and under CI a machine must have what they need: `cargo xtask setup`");
    }
    Ok(())
}

/// What the tests are given.
struct UnderTest<'a> {
    binary: &'a Path,
    debug_object: Option<&'a Path>,
}

/// Runs the tests; their lines go to the terminal and into the tally. `cargos` are words for cargo, `words` for the
/// test programs.
///
/// One cargo for the whole workspace: a second one for some packages would unify features otherwise and build the
/// dependencies again.
fn run_tests(under_test: &UnderTest<'_>, cargos: &[&str], words: &[&str], tally: &mut Tally) -> Result<()> {
    let mut command = tasks::cargo();
    command
        .args(["test", "--locked", "--no-fail-fast"])
        .env("SALLYPORT_BIN", under_test.binary)
        .env("RUST_TEST_THREADS", threads().to_string())
        // The harness turns a skip into a failure where this is set; here skips are counted as what they are.
        .env_remove("CI");
    if let Some(object) = under_test.debug_object {
        command.env("SALLYPORT_DEBUG_OBJECT", object);
    }
    command.args(cargos).arg("--").args(words);
    println!("+ {}", tasks::shown(&command));
    let failed_before = tally.failed();
    let status = stream(&mut command, tally)?;
    if !status && tally.failed() == failed_before {
        bail!(
            "`{}` failed without a failed test: a build error or a crash",
            tasks::shown(&command)
        );
    }
    Ok(())
}

/// Tests of one program at a time. Most wait for programs that wait for a clock, so one more than there are CPUs.
fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from) + 1
}

/// Runs a few failed tests again, one at a time. Whole programs under a busy machine fail now and then for want of CPU;
/// one that passes by itself is told by name, and is no reason to distrust all the others. Returns those.
fn run_again(under_test: &UnderTest<'_>, tally: &mut Tally) -> Result<Vec<String>> {
    let failures = tally.failures().clone();
    // Names that repeat, or a program that crashed, leave failures that no name stands for.
    if failures.is_empty() || failures.len() != tally.failed() || failures.len() > AGAIN_MAX {
        return Ok(Vec::new());
    }
    let mut words = vec!["--exact", "--test-threads=1", "--show-output"];
    words.extend(failures.iter().map(String::as_str));
    let mut again = Tally::default();
    run_tests(under_test, &["--all-targets"], &words, &mut again)?;
    Ok(tally.settle(&again))
}

/// Runs a command whose lines are shown and counted as they come; returns whether it ended well.
fn stream(command: &mut Command, tally: &mut Tally) -> Result<bool> {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cargo does not start")?;
    let stdout = child.stdout.take().context("the child has no standard output")?;
    let stderr = child.stderr.take().context("the child has no standard error")?;
    // Two pipes fill independently, so each has a reader; the channel holds at most a few lines.
    let (sender, lines) = mpsc::sync_channel(64);
    let other = sender.clone();
    let readers = [
        thread::spawn(move || forward(Stream::Output, stdout, &sender)),
        thread::spawn(move || forward(Stream::Errors, stderr, &other)),
    ];
    for (stream, line) in lines {
        if tally.takes(stream, &line) {
            println!("{line}");
        }
    }
    for reader in readers {
        reader
            .join()
            .map_err(|_| anyhow::anyhow!("a reader of test output panicked"))?;
    }
    Ok(child.wait()?.success())
}

fn forward(stream: Stream, pipe: impl Read, lines: &mpsc::SyncSender<(Stream, String)>) {
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&line)
            .trim_end_matches(['\n', '\r'])
            .to_owned();
        if lines.send((stream, text)).is_err() {
            return;
        }
        line.clear();
    }
}
