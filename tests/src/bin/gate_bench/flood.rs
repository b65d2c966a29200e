//! The generator: frames that a program rewrites and redirects into a veth (live frames of `BPF_PROG_TEST_RUN`).
//!
//! The kernel makes, sends and reuses the pages in batches of 64, so that one CPU offers millions of frames a second.

use crate::gates::{GATED, STRANGER4, Wire};
use crate::packets::{Ends4, Segment, tcp4};
use crate::probe::{OBJECT, load_xdp};
use anyhow::{Context, Result};
use aya::programs::{TestRun, TestRunAttrs, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use nix::net::if_::if_nametoindex;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use sallyport_tests::lab::Ns;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Frames that one batch of the kernel has.
const BATCH: u32 = 64;
/// How often a paced flood sends a burst: setting one up costs tens of microseconds.
const PERIOD: Duration = Duration::from_millis(5);
/// The longest pause that a paced flood makes up for.
const DEBT: Duration = Duration::from_millis(50);
/// Frames of one call at most, so that Ctrl-C is heard.
const CALL_MAX: u32 = 400_000;

/// Which sources the frames have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sources {
    /// Any of IPv4.
    Random,
    /// Always the same stranger.
    Fixed,
}

/// A generator for one wire.
pub(crate) struct Flood {
    object: Ebpf,
    packet: Vec<u8>,
    outside: Ns,
}

impl Flood {
    /// Towards the gateway's end of a wire.
    ///
    /// # Errors
    /// Where the kernel refuses the program.
    pub(crate) fn new(wire: &Wire, sources: Sources) -> Result<Flood> {
        let outside = wire.outside.clone();
        let name = wire.name.clone();
        let index = outside.enter(move || Ok(if_nametoindex(name.as_str())?))?;
        let (mask, base) = match sources {
            Sources::Random => (u32::MAX, 0),
            Sources::Fixed => (0, u32::from_ne_bytes(STRANGER4.octets())),
        };
        let mut object = EbpfLoader::new()
            .override_global("TARGET", &index, true)
            .override_global("MASK", &mask, true)
            .override_global("BASE", &base, true)
            .load(OBJECT)
            .context("the generator cannot be loaded")?;
        for name in ["flood", "flood_nowhere"] {
            load_xdp(&mut object, name)?;
        }
        let ends = Ends4 {
            source: STRANGER4,
            destination: wire.gateway4,
        };
        Ok(Flood {
            object,
            packet: tcp4(ends, GATED, Segment::Syn),
            outside,
        })
    }

    /// Sends frames as fast as this CPU can; the time that took.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub(crate) fn send(&self, frames: u32) -> Result<Duration> {
        self.outside.enter(|| self.run("flood", frames))
    }

    /// As [`Flood::send`], from a CPU.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub(crate) fn send_from(&self, cpu: usize, frames: u32) -> Result<Duration> {
        self.outside.enter(|| {
            stay_on(cpu)?;
            self.run("flood", frames)
        })
    }

    /// Makes frames and sends none.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub(crate) fn send_nowhere(&self, frames: u32) -> Result<Duration> {
        self.outside.enter(|| self.run("flood_nowhere", frames))
    }

    /// Sends at a rate (frames a second) from a CPU while `work` runs; what `work` gave, and the rate that was sent.
    ///
    /// # Errors
    /// Where the kernel refuses, or `work` fails.
    pub(crate) fn beside<T>(
        &self,
        rate: f64,
        cpu: usize,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<(T, f64)> {
        let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            let flooding = scope.spawn(|| {
                self.outside.enter(|| {
                    stay_on(cpu)?;
                    self.paced(rate, &stop, &sent)
                })
            });
            let (began, before) = (Instant::now(), sent.load(Ordering::Relaxed));
            let given = work();
            let frames = sent.load(Ordering::Relaxed).saturating_sub(before);
            let reached = frames as f64 / began.elapsed().as_secs_f64();
            stop.store(true, Ordering::Relaxed);
            match flooding.join() {
                Ok(outcome) => outcome?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
            Ok((given?, reached))
        })
    }

    /// Sends what has become due, in short bursts. What cannot be sent in [`DEBT`] is never sent: a flood that makes
    /// up for a pause would offer more than the rate.
    fn paced(&self, rate: f64, stop: &AtomicBool, sent: &AtomicU64) -> Result<()> {
        let mut last = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let due = last.elapsed().min(DEBT).as_secs_f64() * rate;
            last = Instant::now();
            let frames = due as u32;
            self.run("flood", frames)?;
            sent.fetch_add(u64::from(frames), Ordering::Relaxed);
            thread::sleep(PERIOD.saturating_sub(last.elapsed()));
        }
        Ok(())
    }

    fn run(&self, program: &str, frames: u32) -> Result<Duration> {
        let program: &Xdp = self.object.program(program).context("no generator")?.try_into()?;
        let began = Instant::now();
        let mut left = frames;
        while left > 0 {
            let now = left.min(CALL_MAX);
            let mut options = TestRunOptions::new();
            options.data_in = Some(&self.packet);
            options.repeat = now;
            options.attrs = TestRunAttrs::new().xdp_live_frames(BATCH);
            program.test_run(options).context("live frames cannot be sent")?;
            left -= now;
        }
        Ok(began.elapsed())
    }
}

/// Keeps this thread on a CPU.
///
/// # Errors
/// Where there is no such CPU.
pub(crate) fn stay_on(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("cannot stay on CPU {cpu}"))
}
