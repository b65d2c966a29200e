//! The receiving side of a wire as a thread of the kernel's, whose CPU time can be read (threaded NAPI).

use crate::clock::find_task;
use crate::gates::Wire;
use anyhow::{Context, Result, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use sallyport_tests::bench::task_ns;
use std::process::Command;

/// A receiving thread; it is the kernel's and goes with the interface.
pub(crate) struct Napi {
    pid: i32,
}

impl Napi {
    /// Gives the gateway's end of a wire a thread, and keeps that on a CPU.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub(crate) fn thread(wire: &Wire, cpu: usize) -> Result<Napi> {
        // Another namespace's sysfs must be mounted to be seen; the mount goes with the shell.
        let script = format!(
            "mount -t sysfs sysfs /sys && echo 1 > /sys/class/net/{}/threaded",
            wire.name
        );
        let mut shell = Command::new("unshare");
        shell.args(["-m", "sh", "-c", &script]);
        let output = wire.gateway.output(&mut shell)?;
        ensure!(
            output.status.success(),
            "threaded NAPI: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let name = format!("napi/{}-", wire.name);
        let pid = find_task(|task| task.starts_with(&name)).with_context(|| format!("no thread `{name}`"))?;
        let thread = Napi { pid };
        thread.move_to(cpu)?;
        Ok(thread)
    }

    /// Lets it interrupt every ordinary task of its CPU, as a device's interrupt does.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub(crate) fn interrupts(&self) -> Result<()> {
        let output = Command::new("chrt")
            .args(["--fifo", "--pid", "1", &self.pid.to_string()])
            .output()
            .context("cannot run `chrt`")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the receiving thread's priority: {said}");
        Ok(())
    }

    /// Moves it to a CPU.
    ///
    /// # Errors
    /// Where there is no such CPU.
    pub(crate) fn move_to(&self, cpu: usize) -> Result<()> {
        let mut set = CpuSet::new();
        set.set(cpu)?;
        sched_setaffinity(Pid::from_raw(self.pid), &set).context("the receiving thread cannot be moved")
    }

    /// CPU time that it has spent, in nanoseconds.
    ///
    /// # Errors
    /// Where it is gone.
    pub(crate) fn cpu_ns(&self) -> Result<u64> {
        task_ns(self.pid)
    }
}
