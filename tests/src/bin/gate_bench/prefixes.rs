//! The allowlists: prefixes that look random and are the same in every run. Pure.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Distinct /24 of IPv4 and /48 of IPv6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prefixes {
    /// The networks' addresses.
    pub(crate) v4: BTreeSet<Ipv4Addr>,
    /// The networks' addresses.
    pub(crate) v6: BTreeSet<Ipv6Addr>,
}

/// Bits of the IPv4 prefixes.
pub(crate) const LENGTH4: u8 = 24;
/// Bits of the IPv6 prefixes.
pub(crate) const LENGTH6: u8 = 48;

impl Prefixes {
    /// As many as asked for; another `seed` gives others. None is in 198.18.0.0/15 or 10.0.0.0/8, where the
    /// measured packets come from, and all of IPv6 are in 2000::/3.
    pub(crate) fn random(v4: usize, v6: usize, seed: u64) -> Prefixes {
        let mut state = seed;
        let mut prefixes = Prefixes {
            v4: BTreeSet::new(),
            v6: BTreeSet::new(),
        };
        while prefixes.v4.len() < v4 {
            let [a, b, c, ..] = splitmix(&mut state).to_be_bytes();
            let net = Ipv4Addr::new(a, b, c, 0);
            let reserved = matches!(a, 0 | 10 | 127 | 224..) || (a == 198 && matches!(b, 18 | 19));
            if !reserved {
                prefixes.v4.insert(net);
            }
        }
        while prefixes.v6.len() < v6 {
            let [a, b, c, d, e, f, ..] = splitmix(&mut state).to_be_bytes();
            let mut net = [0; 16];
            for (to, from) in net.iter_mut().zip([(a & 0x1f) | 0x20, b, c, d, e, f]) {
                *to = from;
            }
            prefixes.v6.insert(Ipv6Addr::from(net));
        }
        prefixes
    }

    /// One a line, as `allowlists.NAME.file` wants them.
    pub(crate) fn lines(&self) -> String {
        let v4 = self.v4.iter().map(|net| format!("{net}/{LENGTH4}\n"));
        let v6 = self.v6.iter().map(|net| format!("{net}/{LENGTH6}\n"));
        v4.chain(v6).collect()
    }
}

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::Prefixes;

    #[test]
    fn prefixes_are_as_many_as_asked_for_and_the_same_each_time() {
        let one = Prefixes::random(1000, 100, 7);
        assert_eq!((one.v4.len(), one.v6.len()), (1000, 100));
        assert_eq!(one, Prefixes::random(1000, 100, 7));
        assert_ne!(one, Prefixes::random(1000, 100, 8));
        assert_eq!(one.lines().lines().count(), 1100);
    }
}
