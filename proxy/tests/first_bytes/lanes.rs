//! Many inputs in several threads, the same for a seed however many threads there are.
//!
//! `SALLYPORT_FUZZ_INPUTS`, `SALLYPORT_FUZZ_SEED` and `SALLYPORT_FUZZ_THREADS` change how much is tried;
//! `SALLYPORT_FUZZ_KEEP` makes a failure a vector of the corpus. It must not know what is parsed.

use crate::{corpus, random::Random};
use std::{
    any::Any,
    collections::BTreeMap,
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Inputs of one seed of the sequence that the first seed gives.
const BATCH: u64 = 1_000;
/// From so many inputs on, a run says how far it is.
const LONG: u64 = 2_000_000;

/// A parser and its judge.
pub(crate) struct Subject {
    /// Its name, and that of its folder in the corpus.
    pub(crate) name: &'static str,
    /// Makes an input.
    pub(crate) generate: fn(&mut Random) -> Vec<u8>,
    /// The class of the outcome, or what two readers do not agree on. `random` chooses where the input is cut.
    pub(crate) judge: fn(&[u8], &mut Random) -> Result<&'static str, String>,
    /// How many inputs CI tries.
    pub(crate) inputs: u64,
    /// Classes that a run of so many must have met.
    pub(crate) classes: &'static [&'static str],
}

type Tally = BTreeMap<&'static str, u64>;

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

/// As many inputs as the environment asks for.
pub(crate) fn run(subject: &'static Subject) {
    let inputs = number("SALLYPORT_FUZZ_INPUTS").unwrap_or(subject.inputs);
    let seed = number("SALLYPORT_FUZZ_SEED").unwrap_or_else(any_seed);
    let threads = number("SALLYPORT_FUZZ_THREADS").unwrap_or(2).max(1);
    println!(
        "{}: seed {seed}, {inputs} inputs in {threads} threads",
        subject.name
    );
    let began = Instant::now();
    let tally = spread(subject, inputs, seed, threads);
    let took = began.elapsed().as_secs_f64();
    println!(
        "{}: {inputs} inputs in {took:.1} s, by outcome: {tally:?}",
        subject.name
    );
    if inputs >= subject.inputs {
        for class in subject.classes {
            assert!(
                tally.contains_key(class),
                "seed {seed}: no input came to `{class}`"
            );
        }
    }
}

fn spread(subject: &'static Subject, inputs: u64, seed: u64, threads: u64) -> Tally {
    let (next, ended) = (AtomicU64::new(0), AtomicU64::new(0));
    let outcomes: Vec<Result<Tally, Vec<u8>>> = thread::scope(|scope| {
        let lane = || {
            let _ended = Ended(&ended);
            lane(subject, inputs, seed, &next)
        };
        let lanes: Vec<_> = (0..threads).map(|_| scope.spawn(lane)).collect();
        report(&next, inputs, &ended, threads);
        lanes
            .into_iter()
            .map(|lane| lane.join().expect("a lane ends well"))
            .collect()
    });
    let mut total = Tally::new();
    for outcome in outcomes {
        let tally = outcome.unwrap_or_else(|input| {
            let why = verdict(subject, &input).expect_err("it failed before");
            corpus::keep(subject.name, &input);
            panic!(
                "{}: seed {seed}: {why}, smallest input:\n{}",
                subject.name,
                corpus::text(&input)
            )
        });
        for (class, count) in tally {
            *total.entry(class).or_default() += count;
        }
    }
    total
}

/// Takes batches until there are no more, or one fails: then the smallest input that does.
fn lane(subject: &Subject, inputs: u64, seed: u64, next: &AtomicU64) -> Result<Tally, Vec<u8>> {
    let mut tally = Tally::new();
    loop {
        let batch = next.fetch_add(1, Ordering::Relaxed);
        let left = inputs.saturating_sub(batch * BATCH).min(BATCH);
        if left == 0 {
            return Ok(tally);
        }
        let mut random = Random::of(Random::of(seed ^ batch.rotate_left(32)).next());
        for _ in 0..left {
            let input = (subject.generate)(&mut random);
            match verdict(subject, &input) {
                Ok(class) => *tally.entry(class).or_default() += 1,
                Err(_) => {
                    next.store(u64::MAX / 2, Ordering::Relaxed);
                    return Err(smallest(subject, input));
                }
            }
        }
    }
}

/// One input; a panic is a failure too. Where it is cut follows from the input, so that it fails again.
pub(crate) fn verdict(subject: &Subject, input: &[u8]) -> Result<&'static str, String> {
    let mut random = Random::of(corpus::hash(input));
    catch_unwind(AssertUnwindSafe(|| (subject.judge)(input, &mut random)))
        .unwrap_or_else(|panic| Err(format!("panic: {}", text_of(&*panic))))
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
        .unwrap_or_default()
}

/// Takes pieces away for as long as what is left fails.
fn smallest(subject: &Subject, mut input: Vec<u8>) -> Vec<u8> {
    let mut piece = input.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        while at < input.len() {
            let mut less = input.clone();
            less.drain(at..(at + piece).min(input.len()));
            if verdict(subject, &less).is_err() {
                input = less;
            } else {
                at += piece;
            }
        }
        if piece == 1 {
            return input;
        }
        piece /= 2;
    }
}

/// Says how far a long run is, until nobody goes on.
fn report(next: &AtomicU64, inputs: u64, ended: &AtomicU64, lanes: u64) {
    let (start, mut due) = (Instant::now(), Duration::from_secs(10));
    while ended.load(Ordering::Relaxed) < lanes {
        thread::park_timeout(Duration::from_millis(50));
        if start.elapsed() >= due && inputs >= LONG {
            let now = (next.load(Ordering::Relaxed).saturating_mul(BATCH)).min(inputs);
            println!(
                "{now} of {inputs}, {} a second",
                now / start.elapsed().as_secs().max(1)
            );
            due += Duration::from_secs(10);
        }
    }
}

/// Counts a lane that ended, by a panic too.
struct Ended<'a>(&'a AtomicU64);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
