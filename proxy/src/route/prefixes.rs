//! Positions by prefix: all prefixes of a text among thousands, by one binary search and a walk.

use std::cmp::Ordering;

/// Prefixes in their order, each with what it stands for.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    prefix: Box<str>,
    /// Ascending.
    positions: Vec<usize>,
    /// The longest entry that this one begins with.
    above: Option<usize>,
}

impl Prefixes {
    /// Adds a position, behind all others of its prefix. [`Prefixes::settle`] must follow.
    pub(super) fn put(&mut self, prefix: &str, position: usize) {
        self.entries.push(Entry {
            prefix: prefix.into(),
            positions: vec![position],
            above: None,
        });
    }

    /// Makes what was put searchable.
    pub(super) fn settle(&mut self) {
        // Stable: positions of one prefix stay in their order.
        self.entries.sort_by(|one, other| one.prefix.cmp(&other.prefix));
        self.entries.dedup_by(|next, kept| {
            let same = next.prefix == kept.prefix;
            if same {
                kept.positions.append(&mut next.positions);
            }
            same
        });
        // In this order an entry stands behind all that it begins with: they are the one before it and those above that.
        for index in 1..self.entries.len() {
            let (before, rest) = self.entries.split_at_mut(index);
            let Some(entry) = rest.first_mut() else { return };
            let mut above = Some(index - 1);
            while let Some(candidate) = above.and_then(|at| before.get(at)) {
                if entry.prefix.starts_with(&*candidate.prefix) {
                    break;
                }
                above = candidate.above;
            }
            entry.above = above;
        }
    }

    /// The positions of every prefix of `text`, the longest prefix first.
    pub(super) fn each_of(&self, text: &str, mut found: impl FnMut(&[usize])) {
        let behind = self
            .entries
            .partition_point(|entry| entry.prefix.as_ref().cmp(text) != Ordering::Greater);
        let mut at = behind.checked_sub(1);
        while let Some(entry) = at.and_then(|at| self.entries.get(at)) {
            if text.starts_with(&*entry.prefix) {
                found(&entry.positions);
            }
            at = entry.above;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Prefixes;
    use proptest::prelude::{prop_assert_eq, proptest};

    fn found(prefixes: &[String], text: &str) -> Vec<usize> {
        let mut index = Prefixes::default();
        prefixes
            .iter()
            .zip(0..)
            .for_each(|(prefix, position)| index.put(prefix, position));
        index.settle();
        let mut all = Vec::new();
        index.each_of(text, |positions| {
            assert!(positions.is_sorted(), "{positions:?}");
            all.extend_from_slice(positions);
        });
        all.sort_unstable();
        all
    }

    proptest! {
        #[test]
        fn every_prefix_of_a_text_is_found_and_no_other(
            prefixes in proptest::collection::vec("[ab/]{0,5}", 0..20),
            text in "[abc/]{0,7}",
        ) {
            let expected: Vec<usize> =
                (0..prefixes.len()).filter(|at| text.starts_with(&prefixes[*at])).collect();
            prop_assert_eq!(found(&prefixes, &text), expected);
        }
    }
}
