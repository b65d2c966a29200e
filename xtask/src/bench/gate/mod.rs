//! `cargo xtask bench gate`: builds what is measured and what measures, and becomes it.
//!
//! It must not measure: the program `gate_bench` in `tests/` does, which has the lab and reaches the kernel.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::tasks;

/// Parts of the measurement: judging, live frames, goodput, swap.
const PARTS: &str = "ABCD";

/// What the command line asks for.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Options {
    quick: bool,
    parts: String,
}

impl Options {
    /// Reads the words after `bench gate`.
    ///
    /// # Errors
    /// Names the word that it does not know.
    pub(crate) fn parse(words: &[&str]) -> Result<Self> {
        let mut options = Self {
            quick: false,
            parts: PARTS.to_owned(),
        };
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            match *word {
                "--quick" => options.quick = true,
                "--part" => {
                    let parts = rest.next().copied().unwrap_or_default();
                    if parts.is_empty() || !parts.chars().all(|part| PARTS.contains(part)) {
                        bail!("`--part {parts}`: expected letters of `{PARTS}`");
                    }
                    parts.clone_into(&mut options.parts);
                }
                other => bail!("`{other}` is no option of `bench gate`; expected --quick or --part LETTERS"),
            }
        }
        Ok(options)
    }
}

/// Builds, then becomes the benchmark; returns only on an error. The JSON goes to `bench/gate.json` in the build
/// folder.
///
/// # Errors
/// No root, or a build that fails.
pub(crate) fn run(options: &Options) -> Result<()> {
    if !tasks::is_root() {
        bail!("the benchmark makes network namespaces and loads BPF programs, which needs root");
    }
    let target = tasks::target_dir()?;
    let binary = match std::env::var_os("SALLYPORT_BIN") {
        Some(binary) => binary.into(),
        None => build_release(&target)?,
    };
    tasks::run(tasks::cargo().args([
        "build",
        "--locked",
        "-p",
        "sallyport-tests",
        "--bin",
        "gate_bench",
    ]))?;
    let folder = target.join("bench");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    let mut bench = std::process::Command::new(target.join("debug/gate_bench"));
    bench.env("SALLYPORT_BIN", binary).current_dir(tasks::root());
    bench
        .args(["--part", &options.parts, "--json"])
        .arg(folder.join("gate.json"));
    if options.quick {
        bench.arg("--quick");
    }
    // Replacing this process leaves nobody between the terminal's signals and the benchmark's clean-up.
    let error = bench.exec();
    Err(error).context("the benchmark does not start")
}

/// What is shipped is what is measured.
pub(in crate::bench) fn build_release(target: &std::path::Path) -> Result<PathBuf> {
    tasks::run(tasks::cargo().args(["build", "--locked", "--release", "-p", "sallyport"]))?;
    Ok(target.join("release/sallyport"))
}

#[cfg(test)]
mod tests {
    use super::Options;

    #[test]
    fn parts_are_letters_of_the_known_ones() {
        let read = Options::parse(&["--quick", "--part", "AC"]).expect("these words are right");
        assert!(read.quick && read.parts == "AC");
        for words in [&["--part"][..], &["--part", "X"], &["--fast"]] {
            assert!(Options::parse(words).is_err(), "{words:?}");
        }
    }
}
