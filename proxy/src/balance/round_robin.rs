//! Smooth weighted round robin.
//!
//! Smooth: with the weights 5, 1, 1 the heavy server is not asked five times in a row.

use std::cell::RefCell;

/// The share of a server that has all of its weight.
pub const FULL_SHARE: u32 = 100;

/// The turns of one service's servers.
#[derive(Debug)]
pub struct RoundRobin {
    weights: Vec<i64>,
    credits: RefCell<Vec<i64>>,
}

impl RoundRobin {
    /// Servers with these weights; one of weight 0 is never asked.
    pub fn new(weights: &[u32]) -> Self {
        Self {
            credits: RefCell::new(vec![0; weights.len()]),
            weights: weights.iter().map(|weight| i64::from(*weight)).collect(),
        }
    }

    /// The next server's index, `None` where no server has weight.
    pub fn next(&self) -> Option<usize> {
        if let [weight] = self.weights[..] {
            return (weight > 0).then_some(0);
        }
        self.next_of(|_| FULL_SHARE)
    }

    /// The next of the servers that have a share, which is of [`FULL_SHARE`] and scales the weight. What the others have
    /// earned so far stays theirs.
    pub fn next_of(&self, share: impl Fn(usize) -> u32) -> Option<usize> {
        let mut credits = self.credits.borrow_mut();
        let (mut total, mut best) = (0, None);
        for (index, (credit, weight)) in credits.iter_mut().zip(&self.weights).enumerate() {
            let earned = weight * i64::from(share(index));
            if earned == 0 {
                continue;
            }
            total += earned;
            *credit += earned;
            // The first of equals.
            if best.is_none_or(|(_, most)| *credit > most) {
                best = Some((index, *credit));
            }
        }
        let (index, _) = best?;
        if let Some(credit) = credits.get_mut(index) {
            *credit -= total;
        }
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(weights: &[u32], count: usize) -> Vec<usize> {
        let order = RoundRobin::new(weights);
        std::iter::from_fn(|| order.next()).take(count).collect()
    }

    #[test]
    fn equals_take_turns_in_order() {
        assert_eq!(turns(&[1, 1, 1], 6), [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn weights_are_shares_and_turns_are_spread() {
        assert_eq!(turns(&[5, 1, 1], 7), [0, 0, 1, 0, 2, 0, 0]);
        let long = turns(&[3, 1], 4000);
        assert_eq!(long.iter().filter(|index| **index == 0).count(), 3000);
    }

    #[test]
    fn a_drained_server_is_never_asked() {
        assert_eq!(turns(&[0, 2], 3), [1, 1, 1]);
        assert_eq!(turns(&[7], 2), [0, 0]);
        assert!(turns(&[0, 0], 1).is_empty());
        assert!(turns(&[0], 1).is_empty());
        assert!(turns(&[], 1).is_empty());
    }

    #[test]
    fn who_is_left_out_does_not_catch_up_and_the_others_keep_their_shares() {
        let order = RoundRobin::new(&[1, 1, 2]);
        let mut counts = [0; 3];
        for _ in 0..300 {
            let index = order.next_of(|index| if index == 0 { 0 } else { FULL_SHARE });
            counts[index.expect("two are there")] += 1;
        }
        assert_eq!(counts, [0, 100, 200]);
        let back: Vec<_> = (0..8).filter_map(|_| order.next()).collect();
        assert_eq!(back.iter().filter(|index| **index == 0).count(), 2, "{back:?}");
    }

    #[test]
    fn a_share_scales_the_weight() {
        let order = RoundRobin::new(&[1, 1]);
        let shares = [25, 100];
        let first = (0..500).filter(|_| order.next_of(|index| shares[index]) == Some(0));
        assert_eq!(first.count(), 100);
    }
}
