//! `cargo xtask bench http` and `bench tls`: their words; `programs` builds them and becomes them.
//!
//! It must not measure: the programs `http_bench` and `tls_bench` in `tests/` do, which have the lab and the clients.

use anyhow::{Result, bail};

use crate::bench::programs;
use crate::tasks;

/// What is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Proxied requests.
    Http,
    /// Handshakes, requests and idle connections of TLS.
    Tls,
}

/// What the command line asks for: words for the program, checked here so that a mistake costs no build.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Options {
    words: Vec<String>,
}

impl Kind {
    fn program(self) -> &'static str {
        match self {
            Self::Http => "http_bench",
            Self::Tls => "tls_bench",
        }
    }

    fn json(self) -> &'static str {
        match self {
            Self::Http => "http.json",
            Self::Tls => "tls.json",
        }
    }
}

impl Options {
    /// Reads the words after `bench http` or `bench tls`.
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
                "--only" if rest.next().is_some() => {}
                "--only" => bail!("`--only`: expected a part of the names of figures"),
                other => {
                    bail!(
                        "`{other}` is no option of this benchmark; expected --quick, --rounds N or --only TEXT"
                    )
                }
            }
        }
        Ok(Self {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
        })
    }
}

/// Builds, then becomes the benchmark; returns only on an error. The JSON goes to `bench/` in the build folder.
///
/// # Errors
/// No root, or a build that fails.
pub(crate) fn run(kind: Kind, options: &Options) -> Result<()> {
    if !tasks::is_root() {
        bail!("the benchmark makes network namespaces, which needs root");
    }
    let words: Vec<&str> = options.words.iter().map(String::as_str).collect();
    programs::become_bench(&programs::Bench {
        program: kind.program(),
        // Optimised too: a slow client would let the proxies fall asleep between its handshakes.
        profile: "test-release",
        folder: "test-release",
        json: kind.json(),
        words: &words,
    })
}

#[cfg(test)]
mod tests {
    use super::Options;

    #[test]
    fn words_are_those_of_the_program() {
        let words = ["--quick", "--rounds", "3", "--only", "tls"];
        let read = Options::parse(&words).expect("these words are right");
        assert_eq!(read.words, words);
        for words in [
            &["--rounds"][..],
            &["--rounds", "0"],
            &["--json", "x"],
            &["--only"],
        ] {
            assert!(Options::parse(words).is_err(), "{words:?}");
        }
    }
}
