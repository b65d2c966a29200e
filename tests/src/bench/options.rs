//! The command line of a benchmark that compares proxies. Pure.

use super::subjects::Subject;
use anyhow::{Context, Result, bail, ensure};
use std::fmt::Debug;
use std::path::PathBuf;

/// How much one pass measures.
pub trait Sizes: Clone + Debug {
    /// To see whether all works.
    const QUICK: Self;
    /// For figures.
    const FULL: Self;
}

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peers {
    /// This program, nginx and HAProxy.
    All,
    /// This program.
    Ours,
}

/// What the command line asks for.
#[derive(Clone, Debug)]
pub struct Options<S> {
    /// There-and-back passes over all proxies.
    pub rounds: u32,
    /// What one pass measures.
    pub sizes: S,
    /// The figures whose name holds this text alone; all where it is empty.
    pub only: String,
    /// Whether this program runs beside its peers, or alone to be trained.
    pub peers: Peers,
    /// Where the JSON goes.
    pub json: PathBuf,
}

impl<S: Sizes> Options<S> {
    /// Reads the words; `file` is where the JSON goes unless they name another.
    ///
    /// # Errors
    /// Names the word that is wrong.
    pub fn parse(words: &[String], file: &str) -> Result<Self> {
        let mut options = Options {
            rounds: 5,
            sizes: S::FULL,
            only: String::new(),
            peers: Peers::All,
            json: PathBuf::from(file),
        };
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            let mut value = || rest.next().with_context(|| format!("`{word}` lacks its value"));
            match word.as_str() {
                "--quick" => (options.rounds, options.sizes) = (1, S::QUICK),
                "--rounds" => {
                    let rounds = value()?;
                    options.rounds = rounds.parse().with_context(|| format!("`--rounds {rounds}`"))?;
                }
                "--only" => options.only.clone_from(value()?),
                "--ours" => options.peers = Peers::Ours,
                "--json" => options.json = value()?.into(),
                other => bail!("`{other}`: expected --quick, --rounds N, --only TEXT, --ours or --json FILE"),
            }
        }
        ensure!(options.rounds > 0, "at least one round is needed");
        Ok(options)
    }

    /// Those that are measured.
    pub fn subjects(&self) -> impl DoubleEndedIterator<Item = Subject> + use<S> {
        let peers = self.peers;
        Subject::present().filter(move |subject| peers == Peers::All || subject.is_ours())
    }

    /// Whether a figure is asked for.
    pub fn asks_for(&self, name: &str) -> bool {
        name.contains(&self.only)
    }
}

#[cfg(test)]
mod tests {
    use super::super::subjects::Subject;
    use super::{Options, Peers, Sizes};

    #[derive(Clone, Debug, PartialEq)]
    struct Count(u32);

    impl Sizes for Count {
        const QUICK: Count = Count(1);
        const FULL: Count = Count(9);
    }

    fn parse(words: &str) -> anyhow::Result<Options<Count>> {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        Options::parse(&words, "x.json")
    }

    #[test]
    fn words_are_read_and_wrong_ones_named() {
        let plain = parse("").expect("no words are fine");
        assert_eq!((plain.rounds, plain.sizes.clone()), (5, Count(9)));
        assert!(plain.asks_for("anything"));
        let quick = parse("--quick --rounds 3 --only tls --json y").expect("these words are right");
        assert_eq!((quick.rounds, quick.sizes.clone()), (3, Count(1)));
        assert!(quick.asks_for("a tls thing") && !quick.asks_for("plain"));
        assert_eq!(quick.json.as_os_str(), "y");
        assert_eq!(plain.peers, Peers::All);
        let alone = parse("--ours").expect("this word is right");
        assert!(alone.subjects().all(Subject::is_ours) && alone.subjects().count() > 0);
        for wrong in ["--rounds", "--rounds 0", "--rounds x", "--fast"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
