//! One boot in qemu: no disk, no network, an emulated processor, everything said on the serial console.
//!
//! It starts, reads, and ends the guest; it must not know what the lines mean.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::tasks;

/// More than a guest ever says; past it something there runs wild.
const SAID_BYTES_MAX: usize = 16 << 20;

/// What to boot.
pub(super) struct Guest<'a> {
    /// The kernel.
    pub(super) kernel: &'a Path,
    /// Its file system.
    pub(super) initramfs: &'a Path,
    /// Where its console is kept.
    pub(super) log: &'a Path,
}

impl Guest<'_> {
    /// Boots it, waits until it switches itself off, and returns what it said.
    ///
    /// # Errors
    /// qemu does not start, the guest talks without end, or it is still on after `patience`.
    pub(super) fn run(&self, patience: Duration) -> Result<String> {
        let mut child = self.command()?.spawn().context("qemu does not start")?;
        let said = self.watch(&mut child, Instant::now() + patience);
        // One that has switched itself off is not harmed by this, and none may stay behind.
        let _ = child.kill();
        let status = child.wait().context("cannot wait for qemu")?;
        let said = said?;
        if said.is_empty() {
            bail!("qemu ended with {status} before the guest said anything");
        }
        Ok(said)
    }

    /// The accelerator is emulation everywhere: what a kernel's verifier does hangs on no processor, and not every
    /// machine that has `/dev/kvm` can use it.
    fn command(&self) -> Result<Command> {
        let qemu = tasks::find_tool("qemu-system-x86_64").context("`qemu-system-x86_64` is not there")?;
        let mut command = Command::new(qemu);
        command
            .args([
                "-accel",
                "tcg",
                "-cpu",
                "max",
                "-m",
                "1024",
                "-nodefaults",
                "-no-reboot",
            ])
            .args(["-display", "none", "-monitor", "none", "-serial", "stdio"])
            .arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.initramfs)
            .args(["-append", "console=ttyS0 loglevel=1 panic=-1"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        Ok(command)
    }

    /// Collects lines until the console closes.
    fn watch(&self, child: &mut Child, until: Instant) -> Result<String> {
        let console = child.stdout.take().context("qemu has no standard output")?;
        let mut log =
            File::create(self.log).with_context(|| format!("cannot write `{}`", self.log.display()))?;
        let (sender, lines) = mpsc::sync_channel(64);
        let reader = thread::spawn(move || forward(console, &sender));
        let mut said = String::new();
        loop {
            match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    log.write_all(line.as_bytes())
                        .context("cannot keep what the guest said")?;
                    said += &line;
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    bail!(
                        "the guest has not ended in time; it said `{}`",
                        self.log.display()
                    )
                }
            }
            if said.len() > SAID_BYTES_MAX {
                bail!("the guest talks without end; it said `{}`", self.log.display());
            }
        }
        // The channel is closed, so the reader is done.
        let _ = reader.join();
        Ok(said)
    }
}

fn forward(console: impl Read, lines: &mpsc::SyncSender<String>) {
    let mut reader = BufReader::new(console);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&line);
        if lines.send(text.trim_end().to_owned() + "\n").is_err() {
            return;
        }
        line.clear();
    }
}
