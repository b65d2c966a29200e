//! The rule language of routers: parsed once, evaluated without recursion.
//!
//! Tokens and calls are read in `parse`, calls become matchers in `matcher` (of HTTP) and `tcp`. A rule is kept in
//! postfix form, which `expression` makes. What a rule demands of names and paths is told by `claim`, whether two mean the same by `meaning`.
//! It knows nothing of requests and connections: the caller answers each matcher.

mod claim;
mod matcher;
mod meaning;
mod parse;
mod pattern;
mod tcp;
#[cfg(test)]
mod tests;

pub use crate::expression::Op;
pub use claim::{Claim, PathClaim};
pub use meaning::Meaning;
pub use parse::RULE_BYTES_MAX;
pub use pattern::Pattern;
pub use tcp::{TcpMatcher, TcpRule};

use crate::expression;
use ipnet::IpNet;
use std::collections::BTreeSet;

/// How deep parentheses and operators may nest; one bit of the evaluation stack each.
pub const RULE_DEPTH_MAX: usize = 64;

/// One question about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matcher {
    /// ``Host(`*`)``: any host, also none.
    AnyHost,
    /// The host without port, lower case and without trailing dot, equals this.
    Host(String),
    /// The host has exactly one label before this.
    OneLabelUnder(String),
    /// The pattern is found in the host.
    HostPattern(Pattern),
    /// The path equals this.
    Path(String),
    /// The path starts with this, a raw string prefix as in Traefik.
    PathPrefix(String),
    /// The pattern is found in the path.
    PathPattern(Pattern),
    /// The method equals this.
    Method(String),
    /// One value of the header equals `value`; the name is lower case.
    Header {
        /// Lower-case field name.
        name: String,
        /// Value, compared byte for byte.
        value: String,
    },
    /// The pattern is found in one value of the header; the name is lower case.
    HeaderPattern {
        /// Lower-case field name.
        name: String,
        /// Looked for in each value.
        pattern: Pattern,
    },
    /// One value of the parameter equals `value`.
    Query {
        /// The parameter, decoded.
        name: String,
        /// Its value, decoded; empty also stands for none.
        value: String,
    },
    /// The pattern is found in one value of the parameter.
    QueryPattern {
        /// The parameter, decoded.
        name: String,
        /// Looked for in each decoded value.
        pattern: Pattern,
    },
    /// The client (after a trusted PROXY header) is inside.
    ClientIp(IpNet),
}

/// What is wrong with a rule, and where in its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    /// Byte of the rule's text.
    pub offset: usize,
    /// The same place in characters, from 1.
    pub character: usize,
    /// What was found.
    pub found: String,
    /// What was expected.
    pub expected: String,
    /// What to do.
    pub remedy: String,
}

impl RuleError {
    /// A fault at a byte of `text`.
    pub(crate) fn new(
        text: &str,
        offset: usize,
        found: impl Into<String>,
        expected: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let character = text.get(..offset).map_or(0, |before| before.chars().count()) + 1;
        Self {
            offset,
            character,
            found: found.into(),
            expected: expected.into(),
            remedy: remedy.into(),
        }
    }
}

impl std::fmt::Display for RuleError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            character,
            found,
            expected,
            remedy,
            ..
        } = self;
        write!(f, "character {character}: {found}, expected {expected}; {remedy}")
    }
}

/// A parsed rule: well-formed postfix of at most [`RULE_DEPTH_MAX`] pending answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule<M = Matcher> {
    ops: Vec<Op<M>>,
    text: String,
}

impl<M> Rule<M> {
    /// The text that it was parsed from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The steps, in postfix order.
    pub fn ops(&self) -> &[Op<M>] {
        &self.ops
    }

    fn matchers(&self) -> impl Iterator<Item = &M> {
        self.ops.iter().filter_map(|op| match op {
            Op::Match(matcher) => Some(matcher),
            Op::Not | Op::And | Op::Or => None,
        })
    }

    /// Evaluates the rule, asking `answer` once for each matcher, in the order of the text.
    pub fn eval(&self, answer: impl FnMut(&M) -> bool) -> bool {
        expression::holds(&self.ops, answer)
    }

    /// What the rule comes to, from what its matchers and operators come to.
    fn fold<'r, T>(
        &'r self,
        leaf: impl Fn(&'r M) -> T,
        not: impl Fn(T) -> T,
        and: impl Fn(T, T) -> T,
        or: impl Fn(T, T) -> T,
    ) -> Option<T> {
        let mut stack: Vec<T> = Vec::new();
        for op in &self.ops {
            let next = match op {
                Op::Match(matcher) => leaf(matcher),
                Op::Not => not(stack.pop()?),
                Op::And | Op::Or => {
                    let (right, left) = (stack.pop()?, stack.pop()?);
                    match op {
                        Op::And => and(left, right),
                        _ => or(left, right),
                    }
                }
            };
            stack.push(next);
        }
        stack.pop()
    }

    /// The claims one of which every match must meet, or `None` where some alternative makes none. `both` is what is
    /// left where two such sets are demanded at once.
    fn required<'r, C: Ord>(
        &'r self,
        claim: impl Fn(&'r M) -> Option<C>,
        both: impl Fn(BTreeSet<C>, BTreeSet<C>) -> BTreeSet<C>,
    ) -> Option<BTreeSet<C>> {
        self.fold(
            |matcher| claim(matcher).map(|claim| BTreeSet::from([claim])),
            |_| None,
            |left, right| match (left, right) {
                (Some(left), Some(right)) => Some(both(left, right)),
                (some, none) => some.or(none),
            },
            |left, right| {
                left.zip(right).map(|(mut all, mut more)| {
                    all.append(&mut more);
                    all
                })
            },
        )
        .flatten()
    }

    /// Every claim of some alternative; what is under a `!` does not count.
    fn named<'r, C: Ord>(&'r self, claim: impl Fn(&'r M) -> Option<C>) -> BTreeSet<C> {
        let join = |mut all: BTreeSet<C>, mut more: BTreeSet<C>| {
            all.append(&mut more);
            all
        };
        let leaf = |matcher| claim(matcher).into_iter().collect();
        self.fold(leaf, |_| BTreeSet::new(), join, join)
            .unwrap_or_default()
    }

    /// Whether it holds whatever the answers are that `known` does not know; `None` where it depends on them.
    fn surely(&self, known: impl Fn(&M) -> Option<bool>) -> Option<bool> {
        self.fold(
            known,
            |answer| answer.map(|answer| !answer),
            |left, right| match (left, right) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), other) | (other, Some(true)) => other,
                (None, None) => None,
            },
            |left, right| match (left, right) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), other) | (other, Some(false)) => other,
                (None, None) => None,
            },
        )
        .flatten()
    }

    /// How many matchers every match answers as the rule wants, at least.
    pub fn conditions(&self) -> usize {
        // Beside the count of the rule that of its negation: `!` swaps the two (De Morgan).
        let counted = self.fold(
            |_| (1, 1),
            |(holds, fails)| (fails, holds),
            |left: (usize, usize), right: (usize, usize)| (left.0 + right.0, left.1.min(right.1)),
            |left, right| (left.0.min(right.0), left.1 + right.1),
        );
        counted.map_or(0, |(holds, _)| holds)
    }
}

impl Rule {
    /// The hosts one of which every matching request must have, or `None` where some alternative of the
    /// rule demands none.
    pub fn required_hosts(&self) -> Option<BTreeSet<Claim<'_>>> {
        self.required(Matcher::host, claim::meet)
    }

    /// Every host that some alternative of the rule asks for; hosts under a `!` do not count.
    pub fn named_hosts(&self) -> BTreeSet<Claim<'_>> {
        self.named(Matcher::host)
    }

    /// The paths one of which every matching request must have, or `None` where some alternative of the rule demands
    /// none.
    pub fn required_paths(&self) -> Option<BTreeSet<PathClaim<'_>>> {
        self.required(Matcher::path, claim::sharper)
    }

    /// Whether some request for `host`, in lower case, may match.
    pub fn may_hold_for(&self, host: &str) -> bool {
        self.surely(|matcher| matcher.of_host(host)) != Some(false)
    }
}

impl Matcher {
    /// The hosts that this asks for.
    fn host(&self) -> Option<Claim<'_>> {
        match self {
            Self::Host(host) => Some(Claim::Name(host)),
            Self::OneLabelUnder(parent) => Some(Claim::OneLabelUnder(parent)),
            Self::HostPattern(pattern) => Some(Claim::Pattern(pattern)),
            Self::AnyHost
            | Self::Path(_)
            | Self::PathPrefix(_)
            | Self::PathPattern(_)
            | Self::Method(_)
            | Self::Header { .. }
            | Self::HeaderPattern { .. }
            | Self::Query { .. }
            | Self::QueryPattern { .. }
            | Self::ClientIp(_) => None,
        }
    }

    /// The answer by the host, which is lower case, without port and trailing dot; `None` where it says nothing about
    /// this.
    pub fn of_host(&self, host: &str) -> Option<bool> {
        match self {
            Self::AnyHost => Some(true),
            other => other.host().map(|claim| claim.holds(host)),
        }
    }

    /// The paths that this asks for.
    fn path(&self) -> Option<PathClaim<'_>> {
        match self {
            Self::Path(path) => Some(PathClaim::Path(path)),
            Self::PathPrefix(prefix) => Some(PathClaim::Prefix(prefix)),
            Self::PathPattern(pattern) => pattern.head().map(PathClaim::Prefix),
            Self::AnyHost
            | Self::Host(_)
            | Self::OneLabelUnder(_)
            | Self::HostPattern(_)
            | Self::Method(_)
            | Self::Header { .. }
            | Self::HeaderPattern { .. }
            | Self::Query { .. }
            | Self::QueryPattern { .. }
            | Self::ClientIp(_) => None,
        }
    }
}
