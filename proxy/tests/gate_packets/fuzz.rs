//! The tests that hold oracle and programs to each other.
//!
//! `SALLYPORT_FUZZ_PACKETS`, `SALLYPORT_FUZZ_SEED` and `SALLYPORT_FUZZ_THREADS` change how much is tried;
//! `SALLYPORT_FUZZ_KEEP` makes a failure a vector of the corpus. `cargo xtask fuzz gate` sets them.

use crate::{
    corpus::{self, Vector},
    differential::{self, Mismatch, Run, Tally, mismatches},
    has_rights,
    kernel::{Kernel, Reading},
    oracle::Segments,
    random::Random,
    world::World,
};
use sallyport_ebpf::Reason;
use std::{
    env, fs,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

/// What CI tries.
const PACKETS: u64 = 1_000_000;
/// From so many packets on, a run says how far it is.
const LONG: u64 = 5_000_000;

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("`{name}` is `{text}`, expected a number")),
    )
}

/// A seed that nobody chose.
fn any_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0u8) >> 1
}

/// What programs of either object do otherwise than the oracle says.
fn replay(vector: &Vector) -> Vec<(Reading, Mismatch)> {
    let (world, switches) = (World::of(vector.world), vector.switches);
    let mut found = Vec::new();
    for reading in Reading::all() {
        let mut kernel = Kernel::open_reading(reading);
        kernel.install(&world);
        kernel.set(switches.slot, switches.mode, switches.fragments);
        let others = mismatches(&kernel, &vector.case, &world, switches);
        found.extend(others.into_iter().map(|mismatch| (reading, mismatch)));
    }
    found
}

fn complain(seed: u64, vector: &Vector) -> String {
    let text = vector.text();
    let mut said = format!("seed {seed}: oracle and programs disagree, smallest packet:\n{text}\n");
    for (reading, mismatch) in replay(vector) {
        said += &format!(
            "`{}`, {reading:?}: oracle {:?}, program {:?}\n",
            mismatch.program, mismatch.expected, mismatch.got
        );
    }
    said + &format!("{:#?}", World::of(vector.world))
}

fn keep(vector: &Vector) {
    if env::var_os("SALLYPORT_FUZZ_KEEP").is_none() {
        return;
    }
    let text = vector.text();
    let name = text.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let path = corpus::folder().join(format!("found_{name:016x}.txt"));
    fs::write(&path, text).expect("the vector is kept");
    println!("kept as `{}`", path.display());
}

/// Says how far a long run is, until all is done or nobody goes on.
fn report(done: &AtomicU64, packets: u64, ended: &AtomicU64, lanes: u64) {
    let (start, mut next) = (Instant::now(), Duration::from_secs(10));
    while ended.load(Ordering::Relaxed) < lanes {
        thread::park_timeout(Duration::from_millis(200));
        if start.elapsed() >= next && packets >= LONG {
            let now = done.load(Ordering::Relaxed);
            println!(
                "{now} of {packets} packets, {} a second",
                now / start.elapsed().as_secs().max(1)
            );
            next += Duration::from_secs(10);
        }
    }
}

fn try_packets(packets: u64, seed: u64, threads: u64) -> Tally {
    let (done, ended) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut seeds = Random::of(seed);
    let runs: Vec<(u64, u64)> = (0..threads)
        .map(|lane| {
            (
                seeds.next(),
                packets / threads + u64::from(lane < packets % threads),
            )
        })
        .collect();
    let outcomes: Vec<_> = thread::scope(|scope| {
        let lanes: Vec<_> = runs
            .iter()
            .map(|(seed, packets)| {
                let (done, ended) = (&done, &ended);
                scope.spawn(move || {
                    let _ended = Ended(ended);
                    differential::run(&Run {
                        seed: *seed,
                        packets: *packets,
                        done,
                    })
                })
            })
            .collect();
        report(&done, packets, &ended, threads);
        lanes
            .into_iter()
            .map(|lane| lane.join().expect("a lane ends well"))
            .collect()
    });
    let mut total = Tally::new();
    for outcome in outcomes {
        let tally = outcome.unwrap_or_else(|vector| {
            keep(&vector);
            panic!("{}", complain(seed, &vector));
        });
        for (reason, packets) in tally.into_iter().flatten() {
            *total.entry(reason).or_default() += packets;
        }
    }
    total
}

/// Counts a lane that ended, by a panic too.
struct Ended<'a>(&'a AtomicU64);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn programs_and_oracle_agree_on_whatever_comes() {
    if !has_rights() {
        return;
    }
    let packets = number("SALLYPORT_FUZZ_PACKETS").unwrap_or(PACKETS);
    let seed = number("SALLYPORT_FUZZ_SEED").unwrap_or_else(any_seed);
    let threads = number("SALLYPORT_FUZZ_THREADS").unwrap_or(2).max(1);
    println!("seed {seed}, {packets} packets in {threads} threads");
    let tally = try_packets(packets, seed, threads);
    println!("{packets} packets, each in up to four programs; runs by reason: {tally:?}");
    if packets >= 100_000 {
        for reason in Reason::ALL.iter().filter(|reason| **reason != Reason::Internal) {
            assert!(
                tally.contains_key(reason.code()),
                "no packet gave `{}`",
                reason.code()
            );
        }
    }
}

#[test]
fn kept_vectors_are_judged_as_the_oracle_says() {
    if !has_rights() {
        return;
    }
    for (name, vector) in corpus::vectors() {
        assert_eq!(
            Vector::parse(&vector.text()),
            vector,
            "`{name}` is read as it is written"
        );
        let found = replay(&vector);
        assert!(found.is_empty(), "`{name}`: {found:#?}");
    }
}

#[test]
fn a_seed_gives_the_same_packets_each_time() {
    use crate::generate::Generator;
    let world = World::of(77);
    let packets = |seed| {
        let mut random = Random::of(seed);
        (0..50)
            .map(|_| Generator::new(&mut random, &world).case())
            .collect::<Vec<_>>()
    };
    assert_eq!(packets(5), packets(5));
    assert_ne!(packets(5), packets(6));
    assert!((0..400).any(|seed| packets(seed).iter().any(|case| case.segments == Segments::Joined)));
}
