//! A worker's own memory of whose turn it is, and its dice.

use super::RoundRobin;
use std::{
    cell::Cell,
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    net::IpAddr,
};

/// What a worker remembers of one service.
#[derive(Debug)]
pub struct Picker {
    pub(super) turns: RoundRobin,
    state: Cell<u64>,
}

impl Picker {
    /// Of servers with these weights; `seed` decides how the dice fall.
    pub fn new(weights: &[u32], seed: u64) -> Self {
        Self {
            turns: RoundRobin::new(weights),
            state: Cell::new(seed),
        }
    }

    /// Of servers with these weights, each of which goes on where it stood with `before`, at the place that `was` gives.
    pub fn after(before: &Self, weights: &[u32], was: impl Fn(usize) -> Option<usize>) -> Self {
        Self {
            turns: RoundRobin::after(&before.turns, weights, was),
            state: before.state.clone(),
        }
    }

    /// The same with a seed that nobody knows.
    pub fn unforeseen(weights: &[u32]) -> Self {
        Self::new(weights, RandomState::new().build_hasher().finish())
    }

    /// A number below `bound`, or 0.
    pub fn below(&self, bound: usize) -> usize {
        let next = self.state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.state.set(next);
        let wide = u128::from(mix(next)) * (bound as u128);
        usize::try_from(wide >> 64).unwrap_or(0)
    }
}

/// The finaliser of SplitMix64: every bit of the outcome depends on every bit.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// FNV-1a, 64 bits: the same on every gateway, so that they send a client to the same server.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// What a server is to `affinity`.
pub fn key_of(name: &str) -> u64 {
    mix(fnv(name.as_bytes()))
}

/// How much a client is a server's by rendezvous hashing with weights: -w / ln(h), for h evenly between 0 and 1.
pub(super) fn affinity(client: IpAddr, key: u64, weight: f64) -> f64 {
    let bytes = match client.to_canonical() {
        IpAddr::V4(four) => four.to_ipv6_mapped().octets(),
        IpAddr::V6(six) => six.octets(),
    };
    let hash = mix(fnv(&bytes) ^ key) >> 11;
    // 53 bits are what a float holds exactly; the half keeps it away from 0 and 1.
    let even = (hash as f64 + 0.5) / (1_u64 << 53) as f64;
    -weight / even.ln()
}
