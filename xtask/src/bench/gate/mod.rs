//! `cargo xtask bench gate`: its words; `programs` builds it and becomes it.
//!
//! It must not measure: the program `gate_bench` in `tests/` does, which has the lab and reaches the kernel.

use anyhow::{Result, bail};

use crate::bench::programs;
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
    let mut words = vec!["--part", options.parts.as_str()];
    if options.quick {
        words.push("--quick");
    }
    programs::become_bench(&programs::Bench {
        program: "gate_bench",
        profile: "dev",
        folder: "debug",
        json: "gate.json",
        words: &words,
    })
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
