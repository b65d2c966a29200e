//! The rule language of routers: parsed once, evaluated without recursion.
//!
//! Text becomes postfix in `parse`, calls become matchers in `matcher` (of HTTP) and `tcp`. A rule is kept in
//! postfix form. It knows nothing of requests and connections: the caller answers each matcher.

mod matcher;
mod parse;
mod tcp;
#[cfg(test)]
mod tests;

pub use parse::RULE_BYTES_MAX;
pub use tcp::{NamePattern, TcpMatcher, TcpRule};

use ipnet::IpNet;
use std::collections::BTreeSet;

/// How deep parentheses and operators may nest; one bit of the evaluation stack each.
pub const RULE_DEPTH_MAX: usize = 64;

/// One question about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matcher {
    /// The host without port, lower case and without trailing dot, equals this.
    Host(String),
    /// The path equals this.
    Path(String),
    /// The path starts with this, a raw string prefix as in Traefik.
    PathPrefix(String),
    /// The method equals this.
    Method(String),
    /// One value of the header equals `value`; the name is lower case.
    Header {
        /// Lower-case field name.
        name: String,
        /// Value, compared byte for byte.
        value: String,
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
    fn new(
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

/// One step of a rule in postfix order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op<M = Matcher> {
    /// Push the answer.
    Match(M),
    /// Replace the top by its negation.
    Not,
    /// Replace the two topmost by their conjunction.
    And,
    /// Replace the two topmost by their disjunction.
    Or,
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

    /// Evaluates the rule, asking `answer` once for each matcher.
    pub fn eval(&self, mut answer: impl FnMut(&M) -> bool) -> bool {
        let mut stack = 0u64;
        for op in &self.ops {
            stack = match op {
                Op::Match(matcher) => (stack << 1) | u64::from(answer(matcher)),
                Op::Not => stack ^ 1,
                Op::And => (stack >> 1) & (stack | !1),
                Op::Or => (stack >> 1) | (stack & 1),
            };
        }
        stack & 1 == 1
    }

    /// The names one of which every match must have, or `None` where some alternative demands none.
    fn required<'r>(&'r self, name: impl Fn(&'r M) -> Option<&'r str>) -> Option<BTreeSet<&'r str>> {
        let mut stack: Vec<Option<BTreeSet<&str>>> = Vec::new();
        for op in &self.ops {
            let next = match op {
                Op::Match(matcher) => name(matcher).map(|name| BTreeSet::from([name])),
                Op::Not => {
                    stack.pop();
                    None
                }
                Op::And => match (stack.pop().flatten(), stack.pop().flatten()) {
                    (Some(right), Some(left)) => Some(left.intersection(&right).copied().collect()),
                    (some, none) => some.or(none),
                },
                Op::Or => match (stack.pop().flatten(), stack.pop().flatten()) {
                    (Some(right), Some(left)) => Some(left.union(&right).copied().collect()),
                    _ => None,
                },
            };
            stack.push(next);
        }
        stack.pop().flatten()
    }

    /// Every name that some alternative asks for; names under a `!` do not count.
    fn named<'r>(&'r self, name: impl Fn(&'r M) -> Option<&'r str>) -> BTreeSet<&'r str> {
        let mut stack: Vec<BTreeSet<&str>> = Vec::new();
        for op in &self.ops {
            let next = match op {
                Op::Match(matcher) => name(matcher).into_iter().collect(),
                Op::Not => {
                    stack.pop();
                    BTreeSet::new()
                }
                Op::And | Op::Or => {
                    let mut names = stack.pop().unwrap_or_default();
                    names.append(&mut stack.pop().unwrap_or_default());
                    names
                }
            };
            stack.push(next);
        }
        stack.pop().unwrap_or_default()
    }
}

impl Rule {
    /// The hosts one of which every matching request must have, or `None` where some alternative of the
    /// rule demands no `Host`.
    pub fn required_hosts(&self) -> Option<BTreeSet<&str>> {
        self.required(Matcher::host)
    }

    /// Every host that some alternative of the rule asks for; hosts under a `!` do not count.
    pub fn named_hosts(&self) -> BTreeSet<&str> {
        self.named(Matcher::host)
    }
}

impl Matcher {
    /// The host that this asks for.
    fn host(&self) -> Option<&str> {
        match self {
            Self::Host(host) => Some(host),
            Self::Path(_)
            | Self::PathPrefix(_)
            | Self::Method(_)
            | Self::Header { .. }
            | Self::ClientIp(_) => None,
        }
    }
}
