//! Whether two rules hold for the same requests, however they are spelled.
//!
//! Matchers count as independent questions here: rules that the laws of `!`, `&&` and `||` make equal are found, rules
//! that only their matchers' contents make equal are not.

use super::Rule;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

/// How many different matchers a rule may have that is judged by its whole table of truth.
const MATCHERS_MAX: usize = 6;

/// What a rule means: equal for rules that hold for the same requests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Meaning(Sense);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Sense {
    /// The matchers that matter, and a bit for each way to answer them.
    Truth { matchers: Vec<String>, holds: u64 },
    /// A rule of more matchers: its sorted form.
    Form(Form),
}

/// A rule without `!` but before matchers, its parts sorted and each there once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Form {
    All(BTreeSet<String>),
    Any(BTreeSet<String>),
}

impl<M: Debug> Rule<M> {
    /// What it means.
    pub fn meaning(&self) -> Meaning {
        let words: BTreeSet<String> = self.matchers().map(|matcher| format!("{matcher:?}")).collect();
        if words.len() <= MATCHERS_MAX {
            self.truth(words.into_iter().collect())
        } else {
            self.form()
        }
    }

    fn truth(&self, mut matchers: Vec<String>) -> Meaning {
        let index: BTreeMap<&str, usize> = matchers.iter().map(String::as_str).zip(0..).collect();
        let asked: Vec<usize> = self
            .matchers()
            .filter_map(|matcher| index.get(format!("{matcher:?}").as_str()).copied())
            .collect();
        let mut holds = 0u64;
        for answers in 0..1u64 << matchers.len() {
            // The rule asks its matchers in their order, each once.
            let mut next = asked.iter();
            let held = self.eval(|_| next.next().is_some_and(|bit| answers >> bit & 1 == 1));
            holds |= u64::from(held) << answers;
        }
        for bit in (0..matchers.len()).rev() {
            let (without, with) = (
                fixed(holds, matchers.len(), bit, 0),
                fixed(holds, matchers.len(), bit, 1),
            );
            if without == with {
                holds = without;
                matchers.remove(bit);
            }
        }
        Meaning(Sense::Truth { matchers, holds })
    }

    fn form(&self) -> Meaning {
        let leaf = |matcher| {
            let word = format!("{matcher:?}");
            let one = |word| Form::All(BTreeSet::from([word]));
            (one(word.clone()), one(format!("!{word}")))
        };
        // Beside the form of the rule that of its negation: `!` swaps the two (De Morgan).
        let whole = self.fold(
            leaf,
            |(holds, fails)| (fails, holds),
            |left, right| (all(left.0, right.0), any(left.1, right.1)),
            |left, right| (any(left.0, right.0), all(left.1, right.1)),
        );
        let nothing = Form::All(BTreeSet::new());
        Meaning(Sense::Form(whole.map_or(nothing, |(holds, _)| holds)))
    }
}

/// The table of truth of one matcher less, whose answer is fixed.
fn fixed(holds: u64, matchers: usize, bit: usize, answer: u64) -> u64 {
    let less = 0..1u64 << (matchers - 1);
    less.fold(0, |table, answers| {
        let (high, low) = (answers >> bit, answers & ((1 << bit) - 1));
        let whole = high << (bit + 1) | answer << bit | low;
        table | (holds >> whole & 1) << answers
    })
}

fn all(left: Form, right: Form) -> Form {
    if left == right {
        return left;
    }
    let parts = |form| match form {
        Form::All(parts) => parts,
        Form::Any(parts) => single("any", parts),
    };
    Form::All(parts(left).into_iter().chain(parts(right)).collect())
}

fn any(left: Form, right: Form) -> Form {
    if left == right {
        return left;
    }
    let parts = |form| match form {
        Form::Any(parts) => parts,
        Form::All(parts) => single("all", parts),
    };
    Form::Any(parts(left).into_iter().chain(parts(right)).collect())
}

/// Parts that become one; one alone stays what it is.
fn single(word: &str, parts: BTreeSet<String>) -> BTreeSet<String> {
    if parts.len() == 1 {
        return parts;
    }
    let joined: Vec<String> = parts.into_iter().collect();
    BTreeSet::from([format!("{word}({})", joined.join(","))])
}

#[cfg(test)]
mod tests {
    use crate::rule::{Rule, TcpRule};

    /// `count` alternatives after these, so that a rule is judged by its form.
    fn long(rule: &str) -> String {
        let more: Vec<String> = (0..7).map(|n| format!("Method(`M{n}`)")).collect();
        format!("({rule}) || {}", more.join(" || "))
    }

    fn same(left: &str, right: &str) -> bool {
        let meaning = |text: &str| {
            Rule::parse(text)
                .unwrap_or_else(|e| panic!("{text}: {e:?}"))
                .meaning()
        };
        meaning(left) == meaning(right)
    }

    #[test]
    fn order_repetition_and_spelling_make_no_difference() {
        for (left, right) in [
            ("Host(`a`)", "host( \"A.\" )"),
            ("Host(`a`) && Path(`/x`)", "Path(`/x`) && Host(`a`)"),
            (
                "Host(`a`) || Host(`b`) || Host(`c`)",
                "Host(`c`) || (Host(`b`) || Host(`a`))",
            ),
            ("Host(`a`) && Host(`a`)", "Host(`a`)"),
            ("!(Host(`a`) || Path(`/x`))", "!Path(`/x`) && !Host(`a`)"),
            ("!!Host(`a`)", "Host(`a`)"),
        ] {
            assert!(same(left, right), "{left} / {right}");
            assert!(same(&long(left), &long(right)), "{left} / {right}");
        }
        for (left, right) in [
            (
                "Host(`a`) && (Path(`/x`) || Path(`/y`))",
                "Host(`a`) && Path(`/x`) || Path(`/y`) && Host(`a`)",
            ),
            ("Host(`a`) || Host(`a`) && Path(`/x`)", "Host(`a`)"),
            ("Host(`a`) && (Path(`/x`) || !Path(`/x`))", "Host(`a`)"),
        ] {
            assert!(same(left, right), "{left} / {right}");
        }
    }

    #[test]
    fn rules_that_differ_stay_apart() {
        for (left, right) in [
            ("Host(`a`)", "Host(`b`)"),
            ("Host(`a`)", "Host(`*.a`)"),
            ("Host(`a`)", "HostRegexp(`a`)"),
            ("Path(`/a`)", "PathPrefix(`/a`)"),
            ("Host(`a`) && Path(`/x`)", "Host(`a`) || Path(`/x`)"),
            ("Host(`a`)", "!Host(`a`)"),
            ("Header(`x`, `y`)", "Query(`x`, `y`)"),
            (
                "Host(`a`) && Path(`/x`) || Path(`/y`)",
                "Host(`a`) && (Path(`/x`) || Path(`/y`))",
            ),
        ] {
            assert!(!same(left, right), "{left} / {right}");
            assert!(!same(&long(left), &long(right)), "{left} / {right}");
        }
    }

    #[test]
    fn rules_of_connections_have_meanings_too() {
        let meaning = |text: &str| TcpRule::parse_tcp(text).expect("a rule").meaning();
        let swapped = meaning("ALPN(`x`) && HostSNI(`A.b`)");
        assert_eq!(meaning("HostSNI(`a.b`) && ALPN(`x`)"), swapped);
        assert_ne!(meaning("HostSNI(`a.b`)"), swapped);
    }
}
