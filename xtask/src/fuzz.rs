//! `cargo xtask fuzz SUBJECT`: a parser and its oracle on as many generated inputs as one has patience for.
//!
//! It builds the tests of the subject with optimisation and tells them how much to try; an input on which the two
//! disagree becomes a vector that the tests replay. It must not know an input.

use std::thread;

use anyhow::{Context, Result, bail};

use crate::tasks;

/// What is tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Subject {
    /// The gate's programs, on packets.
    Gate,
    /// The parser of PROXY headers.
    Proxy,
    /// The parser of ClientHellos.
    Hello,
    /// The canonicaliser of targets.
    Target,
    /// The parser of rules.
    Rule,
}

impl Subject {
    /// By its word on the command line.
    ///
    /// # Errors
    /// Names a word that is none.
    pub(crate) fn parse(word: &str) -> Result<Self> {
        match word {
            "gate" => Ok(Self::Gate),
            "proxy" => Ok(Self::Proxy),
            "hello" => Ok(Self::Hello),
            "target" => Ok(Self::Target),
            "rule" => Ok(Self::Rule),
            other => bail!("`{other}` is no subject of `fuzz`; expected gate, proxy, hello, target or rule"),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::Proxy => "proxy",
            Self::Hello => "hello",
            Self::Target => "target",
            Self::Rule => "rule",
        }
    }

    /// What its inputs are called.
    fn inputs(self) -> &'static str {
        match self {
            Self::Gate => "--packets",
            Self::Proxy | Self::Hello | Self::Target | Self::Rule => "--inputs",
        }
    }

    /// How many without the option.
    fn default_inputs(self) -> u64 {
        match self {
            Self::Gate => 100_000_000,
            Self::Proxy | Self::Hello | Self::Target => 10_000_000,
            // A pattern is compiled for many of them.
            Self::Rule => 1_000_000,
        }
    }

    /// The test program, a filter of its tests, and the variable that says how many inputs.
    fn tests(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Gate => ("gate_packets", "fuzz::", "SALLYPORT_FUZZ_PACKETS"),
            Self::Proxy => ("first_bytes", "preamble::", "SALLYPORT_FUZZ_INPUTS"),
            Self::Hello => ("first_bytes", "hello::", "SALLYPORT_FUZZ_INPUTS"),
            Self::Target => ("first_bytes", "target::", "SALLYPORT_FUZZ_INPUTS"),
            Self::Rule => ("first_bytes", "rule::", "SALLYPORT_FUZZ_INPUTS"),
        }
    }
}

/// How much to try.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Options {
    subject: Subject,
    inputs: u64,
    threads: u64,
    seed: Option<u64>,
}

impl Options {
    /// Reads the words after the subject.
    ///
    /// # Errors
    /// Names the word that it does not know, or the number that is none.
    pub(crate) fn parse(subject: Subject, words: &[&str]) -> Result<Self> {
        let mut options = Self {
            subject,
            inputs: subject.default_inputs(),
            threads: thread::available_parallelism().map_or(1, |count| count.get() as u64),
            seed: None,
        };
        for pair in words.chunks(2) {
            let [name, value] = pair else {
                bail!("`{}` lacks its number", pair.concat())
            };
            let number: u64 = value
                .parse()
                .with_context(|| format!("`{name} {value}`: expected a number"))?;
            match *name {
                name if name == subject.inputs() => options.inputs = number,
                "--threads" => options.threads = number,
                "--seed" => options.seed = Some(number),
                other => bail!(
                    "`{other}` is no option of `fuzz {}`; expected {} N, --seed S or --threads N",
                    subject.word(),
                    subject.inputs()
                ),
            }
        }
        if options.inputs < 1 || !(1..=64).contains(&options.threads) {
            bail!(
                "`{} N` must be at least 1, and from 1 to 64 threads are needed",
                subject.inputs()
            );
        }
        Ok(options)
    }
}

/// Runs the tests that replay kept vectors, then the long run; its last lines count inputs by what became of them.
///
/// # Errors
/// Where the two disagree; the input is then among the vectors. For the gate without root.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.subject == Subject::Gate && !tasks::is_root() {
        bail!("root is needed to load BPF programs");
    }
    let (program, filter, variable) = options.subject.tests();
    let mut command = tasks::cargo();
    command
        .args(["test", "--locked", "--profile", "test-release"])
        .args(["--package", "sallyport", "--test", program, filter])
        .args(["--", "--nocapture", "--test-threads", "1"])
        .env(variable, options.inputs.to_string())
        .env("SALLYPORT_FUZZ_THREADS", options.threads.to_string())
        .env("SALLYPORT_FUZZ_KEEP", "1")
        .env("CI", "1");
    if let Some(seed) = options.seed {
        command.env("SALLYPORT_FUZZ_SEED", seed.to_string());
    }
    tasks::run(&mut command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_options_or_are_named() {
        let words = ["--packets", "7", "--seed", "9", "--threads", "3"];
        let options = Options::parse(Subject::Gate, &words).expect("good words");
        assert_eq!(
            options,
            Options {
                subject: Subject::Gate,
                inputs: 7,
                threads: 3,
                seed: Some(9)
            }
        );
        for word in ["proxy", "hello", "target"] {
            let subject = Subject::parse(word).expect("a subject");
            let options = Options::parse(subject, &["--inputs", "5"]).expect("good words");
            assert_eq!((options.subject.word(), options.inputs), (word, 5));
            assert_eq!(Options::parse(subject, &[]).expect("no words").inputs, 10_000_000);
            assert!(Options::parse(subject, &["--packets", "5"]).is_err());
        }
        assert!(Subject::parse("gates").is_err());
        for (words, named) in [
            (&["--packets"][..], "--packets"),
            (&["--packets", "many"], "many"),
            (&["--rounds", "1"], "--rounds"),
            (&["--packets", "0"], "packets"),
            (&["--threads", "65"], "threads"),
        ] {
            let error = Options::parse(Subject::Gate, words).expect_err("bad words");
            assert!(format!("{error:#}").contains(named), "{words:?}: {error:#}");
        }
    }
}
