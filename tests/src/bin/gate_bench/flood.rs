//! The generator: frames that a program rewrites and redirects into a veth (live frames of `BPF_PROG_TEST_RUN`).
//!
//! The kernel makes, sends and reuses the pages in batches of 64, so that one CPU offers millions of frames a second.

use crate::clock::Meter;
use crate::gates::{GATED, STRANGER4, Wire};
use crate::packets::{Ends4, Segment, tcp4};
use crate::probe::{OBJECT, load_xdp};
use anyhow::{Context, Result};
use aya::maps::{Array, MapData};
use aya::programs::{TestRun, TestRunAttrs, TestRunOptions, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use nix::net::if_::if_nametoindex;
use sallyport_tests::bench::stay_on;
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

/// The programs that make frames; one for all floods.
///
/// They sit on a spare pair of interfaces where nothing comes by: a program that is attached nowhere is put into the kernel's XDP
/// dispatcher and taken out again around every test run, which costs two grace periods, 20 ms.
pub(crate) struct Generator {
    object: Ebpf,
    outside: Ns,
}

/// A flood towards one wire.
pub(crate) struct Flood {
    settings: [u32; 3],
    packet: Vec<u8>,
}

impl Generator {
    /// In the namespace that frames come from.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub(crate) fn new(outside: &Ns) -> Result<Generator> {
        outside.ip("link add spare0 type veth peer name spare1\nlink set spare0 up\nlink set spare1 up\n")?;
        let mut object = EbpfLoader::new()
            .load(OBJECT)
            .context("the generator cannot be loaded")?;
        for name in ["flood", "flood_nowhere"] {
            load_xdp(&mut object, name)?;
        }
        let object = outside.enter(move || {
            for (name, spare) in [("flood", "spare0"), ("flood_nowhere", "spare1")] {
                let program: &mut Xdp = object.program_mut(name).context("no generator")?.try_into()?;
                program.attach(spare, XdpMode::Driver)?;
            }
            Ok(object)
        })?;
        Ok(Generator {
            object,
            outside: outside.clone(),
        })
    }

    /// Sends frames as fast as this CPU can; the CPU time that they and their receiver took.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub(crate) fn send(&mut self, flood: &Flood, frames: u32) -> Result<Duration> {
        self.aim(flood)?;
        self.outside.enter(|| self.run("flood", flood, frames))
    }

    /// As [`Generator::send`], from a CPU.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub(crate) fn send_from(&mut self, cpu: usize, flood: &Flood, frames: u32) -> Result<Duration> {
        self.aim(flood)?;
        self.outside.enter(|| {
            stay_on(cpu)?;
            self.run("flood", flood, frames)
        })
    }

    /// Makes frames and sends none.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub(crate) fn send_nowhere(&mut self, flood: &Flood, frames: u32) -> Result<Duration> {
        self.aim(flood)?;
        self.outside.enter(|| self.run("flood_nowhere", flood, frames))
    }

    /// Sends at a rate (frames a second) from a CPU while `work` runs; what `work` gave, and the rate that was sent.
    ///
    /// # Errors
    /// Where the kernel refuses, or `work` fails.
    pub(crate) fn beside<T>(
        &mut self,
        flood: &Flood,
        rate: f64,
        cpu: usize,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<(T, f64)> {
        self.aim(flood)?;
        let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
        let sender = &*self;
        thread::scope(|scope| {
            let flooding = scope.spawn(|| {
                sender.outside.enter(|| {
                    stay_on(cpu)?;
                    sender.paced(flood, rate, &stop, &sent)
                })
            });
            let began = Instant::now();
            let given = work();
            let reached = sent.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
            stop.store(true, Ordering::Relaxed);
            match flooding.join() {
                Ok(outcome) => outcome?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
            Ok((given?, reached))
        })
    }

    fn aim(&mut self, flood: &Flood) -> Result<()> {
        let map = self.object.map_mut("FLOOD").context("the object lacks `FLOOD`")?;
        let mut map: Array<&mut MapData, [u32; 3]> = Array::try_from(map)?;
        Ok(map.set(0, flood.settings, 0)?)
    }

    /// Sends what has become due, in short bursts. What cannot be sent in [`DEBT`] is never sent: a flood that makes
    /// up for a pause would offer more than the rate.
    fn paced(&self, flood: &Flood, rate: f64, stop: &AtomicBool, sent: &AtomicU64) -> Result<()> {
        let mut last = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let due = last.elapsed().min(DEBT).as_secs_f64() * rate;
            last = Instant::now();
            let frames = due as u32;
            self.run("flood", flood, frames)?;
            sent.fetch_add(u64::from(frames), Ordering::Relaxed);
            thread::sleep(PERIOD.saturating_sub(last.elapsed()));
        }
        Ok(())
    }

    fn run(&self, program: &str, flood: &Flood, frames: u32) -> Result<Duration> {
        let program: &Xdp = self.object.program(program).context("no generator")?.try_into()?;
        let meter = Meter::start()?;
        let mut left = frames;
        while left > 0 {
            let now = left.min(CALL_MAX);
            let mut options = TestRunOptions::new();
            options.data_in = Some(&flood.packet);
            options.repeat = now;
            options.attrs = TestRunAttrs::new().xdp_live_frames(BATCH);
            program.test_run(options).context("live frames cannot be sent")?;
            left -= now;
        }
        meter.stop()
    }
}

impl Flood {
    /// Towards the gateway's end of a wire.
    ///
    /// # Errors
    /// Where the wire is not there.
    pub(crate) fn new(wire: &Wire, sources: Sources) -> Result<Flood> {
        let name = wire.name.clone();
        let index = wire.outside.enter(move || Ok(if_nametoindex(name.as_str())?))?;
        let settings = match sources {
            Sources::Random => [index, u32::MAX, 0],
            Sources::Fixed => [index, 0, u32::from_ne_bytes(STRANGER4.octets())],
        };
        let ends = Ends4 {
            source: STRANGER4,
            destination: wire.gateway4,
        };
        Ok(Flood {
            settings,
            packet: tcp4(ends, GATED, Segment::Syn),
        })
    }
}
