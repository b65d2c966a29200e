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

    /// Servers with these weights, each of which keeps what it has earned with `before`, at the place that `was` gives.
    /// Nobody's credit outlives a change of its own weight.
    pub fn after(before: &Self, weights: &[u32], was: impl Fn(usize) -> Option<usize>) -> Self {
        let fresh = Self::new(weights);
        let total: i64 = fresh.weights.iter().sum::<i64>() * i64::from(FULL_SHARE);
        let credits = before.credits.borrow();
        for (place, (credit, weight)) in fresh
            .credits
            .borrow_mut()
            .iter_mut()
            .zip(&fresh.weights)
            .enumerate()
        {
            let was = was(place).filter(|was| before.weights.get(*was) == Some(weight));
            let kept = was.and_then(|was| credits.get(was)).copied();
            // Among lighter servers than before nobody waits for longer than one round.
            *credit = kept.unwrap_or(0).clamp(-total, total);
        }
        drop(credits);
        fresh
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
    fn turns_go_on_over_a_change_of_the_list() {
        // A list that is made anew before each turn takes the turns of one that never was.
        let (steady, weights) = (RoundRobin::new(&[3, 2, 1]), [3, 2, 1]);
        let mut remade = RoundRobin::new(&weights);
        for _ in 0..60 {
            assert_eq!(remade.next(), steady.next());
            remade = RoundRobin::after(&remade, &weights, Some);
        }
        // And one whose order changes each time gives everybody the same share.
        let (mut order, mut counts) = (vec![0_usize, 1, 2], [0; 3]);
        let mut turning = RoundRobin::new(&weights);
        for _ in 0..600 {
            counts[order[turning.next().expect("a turn")]] += 1;
            let before = order.clone();
            order.rotate_left(1);
            let weights: Vec<u32> = order.iter().map(|server| weights[*server]).collect();
            turning = RoundRobin::after(&turning, &weights, |place| {
                before.iter().position(|server| *server == order[place])
            });
        }
        assert_eq!(counts, [300, 200, 100]);
    }

    #[test]
    fn who_is_new_or_weighs_otherwise_begins_without_credit_and_none_is_owed_more_than_a_round() {
        let heavy = RoundRobin::new(&[60_000, 60_000]);
        heavy.next();
        let light = RoundRobin::after(&heavy, &[1, 60_000], Some);
        assert_eq!(*light.credits.borrow(), [0, 6_000_000]);
        let alone = RoundRobin::after(&heavy, &[60_000, 5], |place| (place == 0).then_some(0));
        assert_eq!(*alone.credits.borrow(), [-6_000_000, 0]);
        let gone = RoundRobin::after(&heavy, &[1, 1], |_| None);
        assert_eq!(*gone.credits.borrow(), [0, 0]);
        assert!(RoundRobin::after(&heavy, &[], Some).next().is_none());
    }

    #[test]
    fn a_share_scales_the_weight() {
        let order = RoundRobin::new(&[1, 1]);
        let shares = [25, 100];
        let first = (0..500).filter(|_| order.next_of(|index| shares[index]) == Some(0));
        assert_eq!(first.count(), 100);
    }
}
