//! What a rule demands of names and of paths: sets that every match is in, for indexes and for what is judged before
//! any request.
//!
//! A claim may let in more than its rule does, never less. It knows no requests.

use super::Pattern;
use std::{collections::BTreeSet, fmt};

/// Host names that a rule asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claim<'r> {
    /// This one, in lower case.
    Name(&'r str),
    /// Those with exactly one label before this.
    OneLabelUnder(&'r str),
    /// Those that the pattern is found in.
    Pattern(&'r Pattern),
}

impl Claim<'_> {
    /// Whether `name`, in lower case and without trailing dot, is one of them.
    pub fn holds(self, name: &str) -> bool {
        match self {
            Self::Name(own) => own == name,
            Self::OneLabelUnder(parent) => parent_of(name) == Some(parent),
            Self::Pattern(pattern) => pattern.is_in(name),
        }
    }

    /// How much it says of a name: an exact one most.
    pub fn specificity(self) -> u8 {
        match self {
            Self::Name(_) => 3,
            Self::OneLabelUnder(_) => 2,
            Self::Pattern(_) => 1,
        }
    }
}

impl fmt::Display for Claim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::OneLabelUnder(parent) => write!(f, "*.{parent}"),
            Self::Pattern(pattern) => write!(f, "{pattern}"),
        }
    }
}

/// The name without its first label.
pub(super) fn parent_of(name: &str) -> Option<&str> {
    name.split_once('.').map(|(_, parent)| parent)
}

/// What meets one claim of either set.
pub(super) fn meet<'r>(left: BTreeSet<Claim<'r>>, right: BTreeSet<Claim<'r>>) -> BTreeSet<Claim<'r>> {
    let exact = |set: &BTreeSet<Claim<'_>>| !set.iter().any(|claim| matches!(claim, Claim::Pattern(_)));
    match (exact(&left), exact(&right)) {
        (true, true) => {
            let of_left = left.iter().filter(|claim| is_within(**claim, &right));
            let of_right = right.iter().filter(|claim| is_within(**claim, &left));
            of_left.chain(of_right).copied().collect()
        }
        (true, false) => narrowed(left, &right),
        (false, _) => narrowed(right, &left),
    }
}

/// Whether all names of `claim`, which is no pattern, are among those of `set`, which has none.
fn is_within(claim: Claim<'_>, set: &BTreeSet<Claim<'_>>) -> bool {
    let above = match claim {
        Claim::Name(name) => parent_of(name),
        Claim::OneLabelUnder(_) | Claim::Pattern(_) => None,
    };
    set.contains(&claim) || above.is_some_and(|parent| set.contains(&Claim::OneLabelUnder(parent)))
}

/// Of `set` what `other` may let in too.
fn narrowed<'r>(mut set: BTreeSet<Claim<'r>>, other: &BTreeSet<Claim<'r>>) -> BTreeSet<Claim<'r>> {
    set.retain(|claim| match claim {
        Claim::Name(name) => other.iter().any(|claim| claim.holds(name)),
        Claim::OneLabelUnder(_) | Claim::Pattern(_) => true,
    });
    set
}

/// Paths that a rule asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathClaim<'r> {
    /// This one.
    Path(&'r str),
    /// Those that start with this.
    Prefix(&'r str),
}

impl PathClaim<'_> {
    fn length(&self) -> usize {
        match self {
            Self::Path(text) | Self::Prefix(text) => text.len(),
        }
    }
}

/// That of two sets which says more of the path: what meets both is in either.
pub(super) fn sharper<'r>(
    left: BTreeSet<PathClaim<'r>>,
    right: BTreeSet<PathClaim<'r>>,
) -> BTreeSet<PathClaim<'r>> {
    let least = |set: &BTreeSet<PathClaim<'_>>| set.iter().map(PathClaim::length).min();
    if least(&right) > least(&left) { right } else { left }
}

#[cfg(test)]
mod tests {
    use crate::rule::{PathClaim, Rule};

    fn rule(text: &str) -> Rule {
        Rule::parse(text).unwrap_or_else(|errors| panic!("{text}: {errors:?}"))
    }

    #[test]
    fn hosts_of_every_alternative_are_known() {
        let check = |text: &str, required: Option<&[&str]>, named: &[&str]| {
            let rule = rule(text);
            let words = |claims: std::collections::BTreeSet<super::Claim<'_>>| {
                claims.iter().map(ToString::to_string).collect::<Vec<_>>()
            };
            let expected = required.map(|hosts| hosts.iter().map(ToString::to_string).collect::<Vec<_>>());
            assert_eq!(rule.required_hosts().map(words), expected, "{text}");
            assert_eq!(words(rule.named_hosts()), named, "{text}");
        };
        check("Host(`a`)", Some(&["a"]), &["a"]);
        check("Host(`a`) || Host(`b`)", Some(&["a", "b"]), &["a", "b"]);
        check("Host(`a`) && Path(`/`)", Some(&["a"]), &["a"]);
        check("Host(`a`) || Path(`/`)", None, &["a"]);
        check(
            "(Host(`a`) || Host(`b`)) && !Host(`b`)",
            Some(&["a", "b"]),
            &["a", "b"],
        );
        check("Path(`/`)", None, &[]);
        check("!Host(`a`)", None, &[]);
        check("Host(`a`) && Host(`b`)", Some(&[]), &["a", "b"]);
        check("Host(`*`)", None, &[]);
        check("Host(`*`) && Host(`a`)", Some(&["a"]), &["a"]);
        check("Host(`*.x`)", Some(&["*.x"]), &["*.x"]);
        check("Host(`*.x`) && Host(`a.x`)", Some(&["a.x"]), &["a.x", "*.x"]);
        check("Host(`a.x`) && Host(`*.x`)", Some(&["a.x"]), &["a.x", "*.x"]);
        check("Host(`*.x`) && Host(`a.b.x`)", Some(&[]), &["a.b.x", "*.x"]);
        check("Host(`*.x`) && Host(`*.y`)", Some(&[]), &["*.x", "*.y"]);
        check(
            "Host(`*.x`) || Host(`a.x`)",
            Some(&["a.x", "*.x"]),
            &["a.x", "*.x"],
        );
        check("HostRegexp(`^a`)", Some(&["^a"]), &["^a"]);
        check(
            "HostRegexp(`^a`) && (Host(`a.x`) || Host(`b.x`))",
            Some(&["a.x"]),
            &["a.x", "b.x", "^a"],
        );
        check("Host(`*.x`) && HostRegexp(`^a`)", Some(&["*.x"]), &["*.x", "^a"]);
        check("!HostRegexp(`^a`)", None, &[]);
    }

    #[test]
    fn paths_of_every_alternative_are_known() {
        let check = |text: &str, expected: Option<&[PathClaim<'_>]>| {
            let rule = rule(text);
            let found = rule
                .required_paths()
                .map(|claims| claims.into_iter().collect::<Vec<_>>());
            assert_eq!(found.as_deref(), expected, "{text}");
        };
        use PathClaim::{Path, Prefix};
        check("Path(`/a`)", Some(&[Path("/a")]));
        check(
            "PathPrefix(`/a`) || Path(`/b`)",
            Some(&[Path("/b"), Prefix("/a")]),
        );
        check("PathPrefix(`/a`) && PathPrefix(`/a/b`)", Some(&[Prefix("/a/b")]));
        check("PathPrefix(`/a/b`) && PathPrefix(`/a`)", Some(&[Prefix("/a/b")]));
        check("PathPrefix(`/a`) && !Path(`/a/b`)", Some(&[Prefix("/a")]));
        check("!Path(`/a`)", None);
        check("Path(`/a`) || Host(`h`)", None);
        check("PathRegexp(`^/v[0-9]`)", Some(&[Prefix("/v")]));
        check("PathRegexp(`/v[0-9]`)", None);
    }

    #[test]
    fn a_rule_that_cannot_take_a_host_is_told() {
        let check = |text: &str, host: &str, expected: bool| {
            assert_eq!(rule(text).may_hold_for(host), expected, "{text} {host}");
        };
        check("Path(`/`)", "a.x", true);
        check("Host(`a.x`)", "a.x", true);
        check("Host(`a.x`)", "b.x", false);
        check("Host(`*.x`)", "a.x", true);
        check("Host(`*.x`) && !Host(`a.x`)", "a.x", false);
        check("Host(`*`) && Path(`/`)", "a.x", true);
        check("!Host(`*`)", "a.x", false);
        check("HostRegexp(`^[ab]`) && Method(`GET`)", "c.x", false);
        check("Host(`b.x`) || Method(`GET`)", "a.x", true);
    }
}
