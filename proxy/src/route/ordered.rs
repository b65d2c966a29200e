//! Rules in order, found without trying all of them: a rule is looked up by the names and paths that it demands, so that
//! ten thousand hosts cost as much as ten. The answer is that of trying all in order.

use super::prefixes::Prefixes;
use sallyport_config::rule::{Claim, PathClaim, Rule};
use std::collections::{BTreeSet, HashMap};

/// Rules of one language, each with what it leads to.
#[derive(Debug)]
pub(super) struct Ordered<M, T> {
    rules: Vec<(T, Rule<M>)>,
    /// Those that demand this name.
    by_name: HashMap<Box<str>, Shelf>,
    /// Those that demand one label before this.
    by_parent: HashMap<Box<str>, Shelf>,
    /// Those that demand a pattern whose names end with a dot and this.
    by_domain: HashMap<Box<str>, Shelf>,
    /// Those that may take any name.
    anywhere: Shelf,
}

/// Rules of the same names, by the paths that they demand. Positions in [`Ordered::rules`], ascending.
#[derive(Debug, Default)]
struct Shelf {
    exact: HashMap<Box<str>, Vec<usize>>,
    prefixes: Prefixes,
    any: Vec<usize>,
}

/// What is known of a request or a connection without asking a matcher.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// Lower case, without port and trailing dot.
    pub(super) name: Option<&'a str>,
    /// Canonical.
    pub(super) path: Option<&'a str>,
}

/// What every match of a rule has; `None` where some has another or none.
#[derive(Debug, Default)]
pub(super) struct Demands<'r> {
    /// One of these names.
    pub(super) names: Option<BTreeSet<Claim<'r>>>,
    /// One of these paths.
    pub(super) paths: Option<BTreeSet<PathClaim<'r>>>,
}

impl<M, T> Default for Ordered<M, T> {
    fn default() -> Self {
        Self {
            rules: Vec::new(),
            by_name: HashMap::new(),
            by_parent: HashMap::new(),
            by_domain: HashMap::new(),
            anywhere: Shelf::default(),
        }
    }
}

impl<M: Clone, T: Copy> Ordered<M, T> {
    /// Adds rules behind all others, in their order.
    pub(super) fn new<'r>(rules: impl IntoIterator<Item = (T, &'r Rule<M>, Demands<'r>)>) -> Self
    where
        M: 'r,
    {
        let mut ordered = Self::default();
        for (to, rule, demands) in rules {
            ordered.push(to, rule, &demands);
        }
        ordered.settle();
        ordered
    }

    fn push(&mut self, to: T, rule: &Rule<M>, demands: &Demands<'_>) {
        let position = self.rules.len();
        self.rules.push((to, rule.clone()));
        let Some(names) = &demands.names else {
            return self.anywhere.put(position, demands);
        };
        for claim in names {
            let (shelves, key) = match claim {
                Claim::Name(name) => (&mut self.by_name, *name),
                Claim::OneLabelUnder(parent) => (&mut self.by_parent, *parent),
                Claim::Pattern(pattern) => match pattern.tail().and_then(domain) {
                    Some(domain) => (&mut self.by_domain, domain),
                    None => {
                        self.anywhere.put(position, demands);
                        continue;
                    }
                },
            };
            shelves.entry(key.into()).or_default().put(position, demands);
        }
    }

    fn settle(&mut self) {
        let named = [&mut self.by_name, &mut self.by_parent, &mut self.by_domain];
        let shelves = named.into_iter().flat_map(HashMap::values_mut);
        shelves
            .chain([&mut self.anywhere])
            .for_each(|shelf| shelf.prefixes.settle());
    }

    /// What the first rule that holds leads to. Rules that cannot hold for what is asked are not tried.
    pub(super) fn find(&self, asked: &Asked<'_>, holds: impl FnMut(&M) -> bool) -> Option<T> {
        let mut search = Search {
            rules: &self.rules,
            path: asked.path,
            holds,
            first: self.rules.len(),
        };
        if let Some(name) = asked.name {
            search.shelf(self.by_name.get(name));
            self.wider(name, &mut search);
        }
        search.shelf(Some(&self.anywhere));
        self.rules.get(search.first).map(|(to, _)| *to)
    }

    /// The rules that demand something of the labels behind the first.
    fn wider(&self, name: &str, search: &mut Search<'_, M, T, impl FnMut(&M) -> bool>) {
        if self.by_parent.is_empty() && self.by_domain.is_empty() {
            return;
        }
        let mut rest = domain(name);
        search.shelf(rest.and_then(|parent| self.by_parent.get(parent)));
        while let Some(domain_of_name) = rest.filter(|_| !self.by_domain.is_empty()) {
            search.shelf(self.by_domain.get(domain_of_name));
            rest = domain(domain_of_name);
        }
    }
}

impl<M, T> Ordered<M, T> {
    /// Whether there is no rule.
    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

/// What of a name stands behind its first label.
fn domain(name: &str) -> Option<&str> {
    name.split_once('.').map(|(_, domain)| domain)
}

/// The first rule that holds, among those of the shelves that were looked at.
struct Search<'t, M, T, H> {
    rules: &'t [(T, Rule<M>)],
    path: Option<&'t str>,
    holds: H,
    /// Its position; past the end where there is none yet.
    first: usize,
}

impl<M: Clone, T, H: FnMut(&M) -> bool> Search<'_, M, T, H> {
    fn shelf(&mut self, shelf: Option<&Shelf>) {
        let Some(shelf) = shelf else { return };
        if let Some(path) = self.path {
            if !shelf.exact.is_empty() {
                self.list(shelf.exact.get(path).map(Vec::as_slice).unwrap_or_default());
            }
            shelf.prefixes.each_of(path, |positions| self.list(positions));
        }
        self.list(&shelf.any);
    }

    /// Asks the rules before the first known one, until one holds.
    fn list(&mut self, positions: &[usize]) {
        let before = positions.iter().take_while(|position| **position < self.first);
        for position in before.copied() {
            let held = self
                .rules
                .get(position)
                .is_some_and(|(_, rule)| rule.eval(&mut self.holds));
            if held {
                self.first = position;
                return;
            }
        }
    }
}

impl Shelf {
    fn put(&mut self, position: usize, demands: &Demands<'_>) {
        let Some(paths) = &demands.paths else {
            return self.any.push(position);
        };
        for claim in paths {
            match claim {
                PathClaim::Path(path) => self.exact.entry((*path).into()).or_default().push(position),
                PathClaim::Prefix(prefix) => self.prefixes.put(prefix, position),
            }
        }
    }
}
