//! CPU time: of this thread and what the kernel does in its name, of the kernel's own threads, of a process.
//!
//! Time on the clock would take in whatever else ran; on a quiet machine both are the same.

use anyhow::{Context, Result};
use nix::sched::sched_getcpu;
use nix::time::{ClockId, clock_gettime};
use sallyport_tests::bench::task_ns;
use std::time::Duration;

/// What this thread and its CPU's softirq thread have spent: a receiver that polls in softirq runs in either.
pub(crate) struct Meter {
    softirq: i32,
    before: Duration,
}

impl Meter {
    /// Begins on the CPU that this thread is kept on.
    ///
    /// # Errors
    /// Where the kernel does not say.
    pub(crate) fn start() -> Result<Meter> {
        let name = format!("ksoftirqd/{}", sched_getcpu()?);
        let softirq = find_task(|task| task == name).with_context(|| format!("no thread `{name}`"))?;
        let before = spent(softirq)?;
        Ok(Meter { softirq, before })
    }

    /// Since the start.
    ///
    /// # Errors
    /// Where the kernel does not say.
    pub(crate) fn stop(self) -> Result<Duration> {
        Ok(spent(self.softirq)?.saturating_sub(self.before))
    }
}

fn spent(softirq: i32) -> Result<Duration> {
    let own = Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?);
    Ok(own + Duration::from_nanos(task_ns(softirq)?))
}

/// The id of a task whose name fits.
pub(crate) fn find_task(fits: impl Fn(&str) -> bool) -> Option<i32> {
    let entries = std::fs::read_dir("/proc").ok()?;
    let mut pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.find(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| fits(name.trim())))
}
