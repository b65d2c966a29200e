//! The engine against a kernel that answers in every order it may: late, short, cancelled, cancelled in vain, without
//! buffers, or with an end of what should have gone on. What breaks names the seed; `SALLYPORT_RING_SEED` repeats one,
//! `SALLYPORT_RING_WORLDS` has more of them.
//!
//! The kernel here looks at what the real one would: that no descriptor is used after its end or closed twice, that
//! memory of an operation stays what it was until the answer, and that every buffer comes back. The peers look at the
//! bytes: each stream arrives whole and in order, in either direction.

#![allow(unsafe_code, reason = "this is the kernel's side")]

mod holders;
mod world;

use super::{
    buffers,
    engine::Engine,
    ops::{Answer, Kind, Token},
    slots::Key,
};
use holders::Holders;
use std::{
    collections::{BTreeMap, VecDeque},
    os::fd::RawFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Wake,
};
use world::World;

/// Steps of one world.
const STEPS: usize = 1_500;
/// Worlds in a test run.
const WORLDS: u64 = 80;
/// The longest stream of a peer.
const STREAM_MAX: usize = 400_000;

/// Numbers from a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// Once in so many times.
    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// A size of any magnitude up to `most`, at least 1.
    fn size(&mut self, most: usize) -> usize {
        let bits = self.below(usize::BITS as usize - most.leading_zeros() as usize + 1);
        (1 + self.below(1 << bits)).min(most.max(1))
    }
}

/// What a peer sends at a position of its stream.
fn byte_at(descriptor: RawFd, position: usize) -> u8 {
    (position.wrapping_mul(31) ^ (position >> 8) ^ descriptor as usize) as u8
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Flag {
    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

fn turn(engine: &mut Engine, world: &mut World, dice: &mut Dice) {
    let mut ops = Vec::new();
    engine.take_ops(&mut ops);
    let mut ops = VecDeque::from(ops);
    while let Some(op) = ops.pop_front() {
        world.take(op, engine, dice);
    }
}

/// Says which seed it was.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("SALLYPORT_RING_SEED={}", self.0);
        }
    }
}

/// One world from its first operation to its last. What occurred goes to `met`.
fn live(seed: u64, met: &mut BTreeMap<&'static str, u64>) {
    let _named = Named(seed);
    let mut dice = Dice(seed);
    let (mut engine, mut world, mut holders) = (Engine::new(), World::default(), Holders::default());
    let buffers = [8, 150, usize::from(buffers::COUNT)][dice.below(3)];
    engine.buffers.lessen(buffers, dice.size(128) as u16);
    for _ in 0..STEPS {
        match dice.below(8) {
            0..3 => holders.act(&mut engine, &mut world, &mut dice),
            3 => turn(&mut engine, &mut world, &mut dice),
            4..6 => world.work(&mut engine, &mut dice),
            _ => world.deliver(&mut engine, &mut dice),
        }
        for holder in holders.sockets.iter().chain(&holders.left) {
            let got = &world.peers[&holder.descriptor].got;
            assert!(
                holder.written.starts_with(got),
                "{}: what was sent",
                holder.descriptor
            );
        }
    }
    settle(&mut engine, &mut world, &mut holders, &mut dice);
    assert_eq!(engine.buffers.at_rest(), buffers);
    for (what, times) in world.met {
        *met.entry(what).or_default() += times;
    }
}

/// Everybody goes on until all streams have ended, and only when woken; then everything is dropped.
fn settle(engine: &mut Engine, world: &mut World, holders: &mut Holders, dice: &mut Dice) {
    world.calm = true;
    let drive = |engine: &mut Engine, world: &mut World, dice: &mut Dice| {
        turn(engine, world, dice);
        for _ in 0..20 {
            world.work(engine, dice);
            world.deliver(engine, dice);
        }
    };
    let mut rounds = 0;
    while holders.sockets.iter().any(|holder| !holder.ended) || !holders.connecting.is_empty() {
        rounds += 1;
        assert!(rounds < 100_000, "somebody was never woken");
        drive(engine, world, dice);
        holders.look(engine, dice);
        for holder in &mut holders.sockets {
            if !holder.ended && holder.reading.take() {
                holder.read(engine, world, dice);
            }
        }
    }
    for holder in &holders.sockets {
        let peer = &world.peers[&holder.descriptor];
        assert_eq!(holder.read, peer.length, "{}: all was read", holder.descriptor);
    }
    for holder in std::mem::take(&mut holders.sockets) {
        holders.release(holder, engine, world);
    }
    for (key, _) in std::mem::take(&mut holders.listeners) {
        engine.stop_listening(key);
    }
    while !engine.is_empty() || !holders.left.is_empty() {
        rounds += 1;
        assert!(rounds < 200_000, "somebody never ended");
        drive(engine, world, dice);
        holders.see_to_those_left(engine, world, dice);
    }
    turn(engine, world, dice);
    assert!(world.running.is_empty() && world.answers.is_empty());
    assert!(world.open.is_empty(), "open: {:?}", world.open);
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn answers_in_any_order_lose_and_leave_nothing() {
    let mut met = BTreeMap::new();
    if let Some(seed) = from_environment("SALLYPORT_RING_SEED") {
        return live(seed, &mut met);
    }
    let worlds = from_environment("SALLYPORT_RING_WORLDS").unwrap_or(WORLDS);
    let first = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.as_nanos() as u64);
    for seed in (0..worlds).map(|world| first.wrapping_add(world)) {
        live(seed, &mut met);
    }
    for what in [
        "bulk",
        "cancelled",
        "cancelled in vain",
        "interrupted",
        "no buffers",
        "sent at once",
        "short send",
        "stopped",
    ] {
        assert!(met.contains_key(what), "{what} never occurred: {met:?}");
    }
}

#[test]
fn an_answer_that_nobody_expects_is_nobodys() {
    let mut engine = Engine::new();
    for kind in [
        Kind::Accept,
        Kind::Receive,
        Kind::Send,
        Kind::Connect,
        Kind::Nobody,
    ] {
        let key = Key {
            index: 3,
            generation: 9,
        };
        engine.answer(&Answer {
            token: Token::new(kind, key),
            result: -1,
            buffer: None,
            more: false,
        });
    }
    assert!(engine.is_empty());
}
