//! A set of host names, as rules ask for them.

use sallyport_config::rule::{Claim, Pattern};
use std::collections::HashSet;

/// Names that claims hold.
#[derive(Debug, Default)]
pub struct Names {
    exact: HashSet<String>,
    parents: HashSet<String>,
    patterns: Vec<Pattern>,
}

impl Names {
    /// Whether a name, in lower case and without trailing dot, is among them.
    pub fn holds(&self, name: &str) -> bool {
        let parent = || name.split_once('.').map(|(_, parent)| parent);
        self.exact.contains(name)
            || (!self.parents.is_empty() && parent().is_some_and(|parent| self.parents.contains(parent)))
            || self.patterns.iter().any(|pattern| pattern.is_in(name))
    }
}

impl<'r> FromIterator<Claim<'r>> for Names {
    fn from_iter<I: IntoIterator<Item = Claim<'r>>>(claims: I) -> Self {
        let mut names = Self::default();
        for claim in claims {
            match claim {
                Claim::Name(name) => drop(names.exact.insert(name.to_owned())),
                Claim::OneLabelUnder(parent) => drop(names.parents.insert(parent.to_owned())),
                Claim::Pattern(pattern) => names.patterns.push(pattern.clone()),
            }
        }
        names
    }
}
