//! Which server's turn it is: smooth weighted round robin, a worker's own.
//!
//! Smooth: with the weights 5, 1, 1 the heavy server is not asked five times in a row. The state is of the
//! worker alone; shares hold for each worker and so for the process.

use std::cell::RefCell;

/// The turns of one service's servers.
#[derive(Debug)]
pub struct RoundRobin {
    weights: Vec<i64>,
    credits: RefCell<Vec<i64>>,
    total: i64,
}

impl RoundRobin {
    /// Servers with these weights; one of weight 0 is never asked.
    pub fn new(weights: &[u32]) -> Self {
        let weights: Vec<i64> = weights.iter().map(|weight| i64::from(*weight)).collect();
        let total = weights.iter().sum();
        Self {
            credits: RefCell::new(vec![0; weights.len()]),
            weights,
            total,
        }
    }

    /// The next server's index, `None` where no server has weight.
    pub fn next(&self) -> Option<usize> {
        if let [weight] = self.weights[..] {
            return (weight > 0).then_some(0);
        }
        let mut credits = self.credits.borrow_mut();
        for (credit, weight) in credits.iter_mut().zip(&self.weights) {
            *credit += weight;
        }
        let willing = credits
            .iter_mut()
            .zip(&self.weights)
            .enumerate()
            .filter(|(_, (_, weight))| **weight > 0);
        // The first of equals: `max_by_key` would take the last.
        let (index, (credit, _)) = willing.rev().max_by_key(|(_, (credit, _))| **credit)?;
        *credit -= self.total;
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
}
