//! Which counters were taken: each once, late ones as long as they are not older than the window (RFC 6479 keeps
//! packets so).

/// How far behind the newest a counter may come: more than a connection has requests under way.
pub(super) const WIDTH: u64 = 1024;
const WORDS: usize = 16;

/// Counters that were taken.
#[derive(Debug, Default)]
pub(super) struct Window {
    newest: u64,
    /// By the counter's last ten bits.
    taken: [u64; WORDS],
}

impl Window {
    /// Takes a counter; `false` where it was taken before, is too old to tell, or is 0, which nobody sends.
    pub(super) fn take(&mut self, counter: u64) -> bool {
        if counter > self.newest {
            self.advance(counter);
        } else if counter == 0 || self.newest - counter >= WIDTH {
            return false;
        }
        let (word, bit) = place(counter);
        let Some(word) = self.taken.get_mut(word) else {
            return false;
        };
        let fresh = *word & bit == 0;
        *word |= bit;
        fresh
    }

    fn advance(&mut self, counter: u64) {
        if counter - self.newest >= WIDTH {
            self.taken = [0; WORDS];
        } else {
            for passed in self.newest + 1..=counter {
                let (word, bit) = place(passed);
                if let Some(word) = self.taken.get_mut(word) {
                    *word &= !bit;
                }
            }
        }
        self.newest = counter;
    }
}

fn place(counter: u64) -> (usize, u64) {
    let place = counter % WIDTH;
    (usize::try_from(place / 64).unwrap_or(0), 1 << (place % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop_assert_eq, proptest};
    use std::collections::HashSet;

    #[test]
    fn each_counter_is_taken_once_and_none_from_before_the_window() {
        let mut window = Window::default();
        for (counter, expected) in [
            (0, false),
            (1, true),
            (1, false),
            (5, true),
            (3, true),
            (3, false),
            (WIDTH, true),
            (2, true),
            (1 + WIDTH, true),
            (2, false),
            (1, false),
            (2 + WIDTH, true),
            (4, true),
            (9 * WIDTH, true),
            (8 * WIDTH, false),
            (8 * WIDTH + 1, true),
            (u64::MAX, true),
            (u64::MAX, false),
            (u64::MAX - WIDTH, false),
            (u64::MAX - WIDTH + 1, true),
        ] {
            assert_eq!(window.take(counter), expected, "{counter}");
        }
    }

    proptest! {
        #[test]
        fn it_judges_as_a_set_of_all_counters_would(steps in proptest::collection::vec((0u64..4, 0u64..1600), 1..400)) {
            let (mut window, mut seen, mut newest) = (Window::default(), HashSet::new(), 0u64);
            for (kind, by) in steps {
                let counter = match kind {
                    0 => newest + 1,
                    1 => newest + by,
                    _ => newest.saturating_sub(by),
                };
                let expected = counter > 0 && newest.saturating_sub(counter) < WIDTH && !seen.contains(&counter);
                prop_assert_eq!(window.take(counter), expected, "{} after {}", counter, newest);
                if expected {
                    seen.insert(counter);
                    newest = newest.max(counter);
                }
            }
        }
    }
}
