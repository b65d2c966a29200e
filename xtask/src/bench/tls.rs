//! `cargo xtask bench tls`: its words; `programs` builds it and becomes it.
//!
//! It must not measure: the program `tls_bench` in `tests/` does, which has the lab and the TLS client.

use anyhow::{Result, bail};

use crate::bench::programs;
use crate::tasks;

/// What the command line asks for: words for the program, checked here so that a mistake costs no build.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Options {
    words: Vec<String>,
}

impl Options {
    /// Reads the words after `bench tls`.
    ///
    /// # Errors
    /// Names the word that it does not know.
    pub(crate) fn parse(words: &[&str]) -> Result<Self> {
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            match *word {
                "--quick" => {}
                "--rounds" => {
                    let rounds = rest.next().copied().unwrap_or_default();
                    if !rounds.parse().is_ok_and(|rounds: u32| rounds > 0) {
                        bail!("`--rounds {rounds}`: expected a number from 1");
                    }
                }
                other => bail!("`{other}` is no option of `bench tls`; expected --quick or --rounds N"),
            }
        }
        Ok(Self {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
        })
    }
}

/// Builds, then becomes the benchmark; returns only on an error. The JSON goes to `bench/tls.json` in the build folder.
///
/// # Errors
/// No root, or a build that fails.
pub(crate) fn run(options: &Options) -> Result<()> {
    if !tasks::is_root() {
        bail!("the benchmark makes network namespaces, which needs root");
    }
    let words: Vec<&str> = options.words.iter().map(String::as_str).collect();
    programs::become_bench(&programs::Bench {
        program: "tls_bench",
        // Optimised too: a slow client would let the proxies fall asleep between its handshakes.
        profile: "test-release",
        folder: "test-release",
        json: "tls.json",
        words: &words,
    })
}

#[cfg(test)]
mod tests {
    use super::Options;

    #[test]
    fn words_are_those_of_the_program() {
        let read = Options::parse(&["--quick", "--rounds", "3"]).expect("these words are right");
        assert_eq!(read.words, ["--quick", "--rounds", "3"]);
        for words in [&["--rounds"][..], &["--rounds", "0"], &["--json", "x"]] {
            assert!(Options::parse(words).is_err(), "{words:?}");
        }
    }
}
