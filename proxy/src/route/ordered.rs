//! Rules in order, found without trying all of them: one that demands certain names is looked up by name, so
//! that ten thousand of them cost one hash. The answer is that of trying all in order.

use sallyport_config::rule::Rule;
use std::collections::{BTreeSet, HashMap};

/// Rules of one language, each with what it leads to.
#[derive(Debug)]
pub(super) struct Ordered<M, T> {
    rules: Vec<(T, Rule<M>)>,
    /// Positions in `rules`, ascending.
    pub(super) by_name: HashMap<String, Vec<usize>>,
    /// Positions of rules that demand no name, ascending.
    pub(super) anywhere: Vec<usize>,
}

impl<M, T> Default for Ordered<M, T> {
    fn default() -> Self {
        Self {
            rules: Vec::new(),
            by_name: HashMap::new(),
            anywhere: Vec::new(),
        }
    }
}

impl<M: Clone, T: Copy> Ordered<M, T> {
    /// Adds a rule behind all others. `names` are those of which a match must have one, `None` where it need
    /// not.
    pub(super) fn push(&mut self, to: T, rule: &Rule<M>, names: Option<BTreeSet<&str>>) {
        let position = self.rules.len();
        match names {
            None => self.anywhere.push(position),
            Some(names) => {
                for name in names {
                    self.by_name.entry(name.to_owned()).or_default().push(position);
                }
            }
        }
        self.rules.push((to, rule.clone()));
    }

    /// What the first rule that holds leads to.
    pub(super) fn find(&self, name: Option<&str>, mut holds: impl FnMut(&M) -> bool) -> Option<T> {
        let of_name = name.and_then(|name| self.by_name.get(name));
        let of_name = of_name.map(Vec::as_slice).unwrap_or_default();
        let mut of_name = of_name.iter().copied().peekable();
        let mut anywhere = self.anywhere.iter().copied().peekable();
        loop {
            let position = match (of_name.peek(), anywhere.peek()) {
                (Some(here), Some(there)) if here < there => of_name.next(),
                (Some(_), None) => of_name.next(),
                (_, Some(_)) => anywhere.next(),
                (None, None) => None,
            };
            let (to, rule) = self.rules.get(position?)?;
            if rule.eval(&mut holds) {
                return Some(*to);
            }
        }
    }

    /// Whether there is no rule.
    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}
