//! Oracle and programs side by side, on as many packets as are asked for.
//!
//! Each lane is a thread with programs and maps of its own. It must not decide who is right: it prints both.

use crate::{
    corpus::Vector,
    generate::{Case, Generator, mutate},
    kernel::{Doing, Kernel, PROGRAMS, Raised, Reading, View},
    oracle,
    random::Random,
    world::{Switches, World},
};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

/// Packets of one world, and of one position of the switches.
const WORLD: u64 = 20_000;
const SWITCH: usize = 250;
/// Worlds between two looks at all counters: there are many more of them than a packet can raise.
const AUDIT: u64 = 16;
/// Packets that are kept to be joined with others.
const KEPT: usize = 32;

/// What a program ought to have done and what it did.
#[derive(Debug)]
pub(crate) struct Mismatch {
    pub(crate) program: &'static str,
    pub(crate) expected: Doing,
    pub(crate) got: Doing,
}

/// Packets by reason, as the programs counted them.
pub(crate) type Tally = BTreeMap<&'static str, u64>;

/// A thread's programs, and what their counters must say.
pub(crate) struct Lane {
    kernel: Kernel,
    reading: Reading,
    expected: BTreeMap<u32, u64>,
    offered: u64,
    tally: Tally,
}

/// What the oracle says that a program does with what it sees.
pub(crate) fn expected(view: &View<'_>, world: &World, switches: Switches) -> Doing {
    let answer = oracle::judge(view.packet, view.link, view.segments, world, switches);
    Doing::of(answer, switches.slot)
}

impl Lane {
    /// Loads the programs.
    pub(crate) fn open(reading: Reading) -> Self {
        Self {
            kernel: Kernel::open_reading(reading),
            reading,
            expected: BTreeMap::new(),
            offered: 0,
            tally: Tally::new(),
        }
    }

    /// Gives the programs a world.
    pub(crate) fn enter(&mut self, world: &World) {
        self.kernel.install(world);
    }

    /// Gives the programs switches.
    pub(crate) fn switch(&mut self, switches: Switches) {
        self.kernel.set(switches.slot, switches.mode, switches.fragments);
    }

    /// Runs all programs that can see the case; how many did, or the name of one that did otherwise.
    pub(crate) fn offer(
        &mut self,
        case: &Case,
        world: &World,
        switches: Switches,
    ) -> Result<u32, &'static str> {
        let mut ran = 0;
        for program in PROGRAMS {
            let Some(view) = View::of(program, case) else {
                continue;
            };
            let expected = expected(&view, world, switches);
            let Some(verdict) = self.kernel.verdict_of(program, &view) else {
                assert!(
                    may_be_refused(program, &view),
                    "the kernel refused `{program}` a packet of {} bytes",
                    view.packet.len()
                );
                continue;
            };
            ran += 1;
            let counted = expected.raised.is_none_or(|raised| self.counts(raised));
            if expected.verdict != verdict || !counted {
                return Err(program);
            }
        }
        Ok(ran)
    }

    /// Whether the counter of a packet has risen by one since it was last looked at.
    fn counts(&mut self, raised: Raised) -> bool {
        self.offered += 1;
        *self.tally.entry(raised.reason.code()).or_default() += 1;
        let expected = self.expected.entry(raised.entry()).or_default();
        *expected += 1;
        self.kernel.counter(raised.entry()) == *expected
    }

    /// Every packet was counted once, and none that was not offered.
    pub(crate) fn conserves(&self) {
        assert_eq!(
            self.kernel.counted(),
            self.offered,
            "the reasons add up to the packets offered"
        );
        for (entry, expected) in &self.expected {
            assert_eq!(self.kernel.counter(*entry), *expected, "counter {entry}");
        }
    }
}

/// A test run takes no packet without an Ethernet header, and at TC none that it takes for IP and that is too short
/// to be.
fn may_be_refused(program: &str, view: &View<'_>) -> bool {
    let least = if program.starts_with("gate_xdp") {
        14
    } else {
        14 + 40
    };
    view.packet.len() < least
}

/// All disagreements on one case, with programs of their own.
pub(crate) fn mismatches(kernel: &Kernel, case: &Case, world: &World, switches: Switches) -> Vec<Mismatch> {
    let mut found = Vec::new();
    for program in PROGRAMS {
        let Some(view) = View::of(program, case) else {
            continue;
        };
        let expected = expected(&view, world, switches);
        let Some(got) = kernel.run_view(program, &view) else {
            continue;
        };
        if got != expected {
            found.push(Mismatch {
                program,
                expected,
                got,
            });
        }
    }
    found
}

/// A run of the generator: which packets, how many, and who is told how far it is.
pub(crate) struct Run<'a> {
    pub(crate) seed: u64,
    pub(crate) packets: u64,
    pub(crate) done: &'a AtomicU64,
}

/// Offers the packets of a run to all programs, one world to those of one object and the next to those of the other;
/// the tallies, or a vector that shows the first disagreement.
pub(crate) fn run(run: &Run<'_>) -> Result<Vec<Tally>, Box<Vector>> {
    let mut lanes: Vec<Lane> = Reading::all().into_iter().map(Lane::open).collect();
    let mut random = Random::of(run.seed);
    let mut kept: Vec<Vec<u8>> = Vec::new();
    let (mut left, mut worlds) = (run.packets, 0);
    while left > 0 {
        let number = random.next() | 1;
        let world = World::of(number);
        lanes.rotate_left(1);
        let lane = lanes.first_mut().expect("one way to read at least");
        lane.enter(&world);
        let packets = left.min(WORLD);
        for start in (0..packets).step_by(SWITCH) {
            let switches = Switches::random(&mut random);
            lane.switch(switches);
            let count = (packets - start).min(SWITCH as u64);
            for case in cases(&mut random, &world, &mut kept, count) {
                if lane.offer(&case, &world, switches).is_err() {
                    let case = minimise(case, &world, switches, lane.reading);
                    return Err(Box::new(Vector::found(number, switches, case)));
                }
                run.done.fetch_add(1, Ordering::Relaxed);
            }
        }
        left -= packets;
        worlds += 1;
        if left == 0 || worlds % AUDIT == 0 {
            lanes.iter().for_each(Lane::conserves);
        }
    }
    Ok(lanes.into_iter().map(|lane| lane.tally).collect())
}

/// The packets between two changes of the switches, a third of them mutated.
fn cases(random: &mut Random, world: &World, kept: &mut Vec<Vec<u8>>, count: u64) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut generator = Generator::new(random, world);
    for _ in 0..count {
        let mut case = generator.case();
        let random = generator.random();
        if random.one_in(3) {
            let other = kept.get(random.below(KEPT)).cloned().unwrap_or_default();
            mutate(random, &mut case, &other);
        }
        if random.one_in(16) {
            kept.truncate(KEPT - 1);
            kept.insert(random.below(kept.len() + 1), case.frame.clone());
        }
        cases.push(case);
    }
    cases
}

/// Whether some program does otherwise than the oracle says; looks at one counter alone.
fn differs(kernel: &Kernel, case: &Case, world: &World, switches: Switches) -> bool {
    PROGRAMS.into_iter().any(|program| {
        let Some(view) = View::of(program, case) else {
            return false;
        };
        let expected = expected(&view, world, switches);
        let counter = || expected.raised.map_or(0, |raised| kernel.counter(raised.entry()));
        let before = counter();
        let Some(verdict) = kernel.verdict_of(program, &view) else {
            return false;
        };
        verdict != expected.verdict || counter() != before + u64::from(expected.raised.is_some())
    })
}

/// A case as small as it can be while some program still disagrees.
fn minimise(mut case: Case, world: &World, switches: Switches, reading: Reading) -> Case {
    let mut kernel = Kernel::open_reading(reading);
    kernel.install(world);
    kernel.set(switches.slot, switches.mode, switches.fragments);
    let fails = |case: &Case| differs(&kernel, case, world, switches);
    if !fails(&case) {
        return case;
    }
    let take = |smaller: Case, case: &mut Case| {
        if smaller != *case && fails(&smaller) {
            *case = smaller;
        }
    };
    let whole = Case {
        first_buffer: None,
        ..case.clone()
    };
    take(whole, &mut case);
    let single = Case {
        segments: oracle::Segments::One,
        ..case.clone()
    };
    take(single, &mut case);
    for step in [256, 64, 16, 8, 4, 1] {
        for at in (14..case.frame.len()).rev().step_by(step) {
            take(without(&case, at, step), &mut case);
        }
    }
    for at in 0..case.frame.len() {
        let mut zeroed = case.clone();
        zeroed.frame[at] = 0;
        take(zeroed, &mut case);
    }
    case
}

/// A case without some of its bytes.
fn without(case: &Case, at: usize, count: usize) -> Case {
    let mut shorter = case.clone();
    let end = (at + count).min(shorter.frame.len());
    drop(shorter.frame.drain(at.min(end)..end));
    if end <= shorter.network {
        shorter.network -= end - at.min(end);
    }
    let length = shorter.frame.len();
    shorter.first_buffer = shorter.first_buffer.filter(|bytes| (*bytes as usize) < length);
    shorter
}
