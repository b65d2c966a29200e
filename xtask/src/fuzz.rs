//! `cargo xtask fuzz gate`: the gate's programs and their oracle on as many generated packets as one has patience for.
//!
//! It builds the packet tests with optimisation and tells them how much to try; a packet on which they disagree
//! becomes a vector that the tests replay. It must not know a packet.

use std::thread;

use anyhow::{Context, Result, bail};

use crate::tasks;

/// How much to try.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Options {
    packets: u64,
    threads: u64,
    seed: Option<u64>,
}

impl Options {
    /// Reads the words after `fuzz gate`.
    ///
    /// # Errors
    /// Names the word that it does not know, or the number that is none.
    pub(crate) fn parse(words: &[&str]) -> Result<Self> {
        let mut options = Self {
            packets: 100_000_000,
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
                "--packets" => options.packets = number,
                "--threads" => options.threads = number,
                "--seed" => options.seed = Some(number),
                other => {
                    bail!(
                        "`{other}` is no option of `fuzz gate`; expected --packets N, --seed S or --threads N"
                    )
                }
            }
        }
        if options.packets < 1 || !(1..=64).contains(&options.threads) {
            bail!("at least 1 packet and from 1 to 64 threads are needed");
        }
        Ok(options)
    }
}

/// Runs the packet tests that replay kept vectors, then the long run; its last line counts packets by reason.
///
/// # Errors
/// Without root, and where programs and oracle disagree; the packet is then among the vectors.
pub(crate) fn gate(options: &Options) -> Result<()> {
    if !tasks::is_root() {
        bail!("root is needed to load BPF programs");
    }
    let mut command = tasks::cargo();
    command
        .args([
            "test",
            "--locked",
            "--profile",
            "test-release",
            "--package",
            "sallyport",
        ])
        .args([
            "--test",
            "gate_packets",
            "fuzz::",
            "--",
            "--nocapture",
            "--test-threads",
            "1",
        ])
        .env("SALLYPORT_FUZZ_PACKETS", options.packets.to_string())
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
        let options =
            Options::parse(&["--packets", "7", "--seed", "9", "--threads", "3"]).expect("good words");
        assert_eq!(
            options,
            Options {
                packets: 7,
                threads: 3,
                seed: Some(9)
            }
        );
        for (words, named) in [
            (&["--packets"][..], "--packets"),
            (&["--packets", "many"], "many"),
            (&["--rounds", "1"], "--rounds"),
            (&["--packets", "0"], "packet"),
            (&["--threads", "65"], "threads"),
        ] {
            let error = Options::parse(words).expect_err("bad words");
            assert!(format!("{error:#}").contains(named), "{words:?}: {error:#}");
        }
    }
}
