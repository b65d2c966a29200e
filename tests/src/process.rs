//! A long-running program: started in a namespace in a process group of its own, its output captured in a
//! file, killed and reaped on drop.

use crate::lab::{Ns, Shared};
use crate::wait;
use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// What to start.
#[derive(Debug)]
pub struct Spawn {
    name: String,
    command: Command,
    terminal: Option<OwnedFd>,
}

impl Spawn {
    /// `program` with its output captured under `name`.
    pub fn new(name: &str, program: impl AsRef<std::ffi::OsStr>) -> Spawn {
        Spawn {
            name: name.to_owned(),
            command: Command::new(program),
            terminal: None,
        }
    }

    /// Gives it a terminal as its standard input and output; only its errors are captured then.
    #[must_use]
    pub fn on(mut self, terminal: OwnedFd) -> Spawn {
        self.terminal = Some(terminal);
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<std::ffi::OsStr>) -> Spawn {
        self.command.arg(arg);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Spawn {
        self.command.env(key, value);
        self
    }
}

/// A running program.
#[derive(Debug)]
pub struct Proc {
    name: String,
    child: Child,
    log: PathBuf,
    shared: Arc<Shared>,
}

impl Proc {
    pub(crate) fn start(ns: &Ns, shared: &Arc<Shared>, spawn: Spawn) -> Result<Proc> {
        let Spawn {
            name,
            mut command,
            terminal,
        } = spawn;
        let log = shared.fresh(&name, "log");
        let out = std::fs::File::create(&log)?;
        let err = out.try_clone()?;
        command.stderr(err).process_group(0);
        match terminal {
            Some(terminal) => command.stdin(terminal.try_clone()?).stdout(terminal),
            None => command.stdin(Stdio::null()).stdout(out),
        };
        let child = shared.adopt(|| {
            let child = ns.enter(move || {
                command
                    .spawn()
                    .with_context(|| format!("cannot start {command:?}"))
            })?;
            let group = i32::try_from(child.id()).context("a process id out of range")?;
            Ok((child, group))
        })?;
        Ok(Proc {
            name,
            child,
            log,
            shared: Arc::clone(shared),
        })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// Where it is gone already.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.raw_pid()?, signal).with_context(|| format!("cannot signal `{}`", self.name))
    }

    fn raw_pid(&self) -> Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.child.id())?))
    }

    /// Its exit status, where it has ended.
    ///
    /// # Errors
    /// Where the kernel refuses to say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Where it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        wait::until(limit, &what, || self.ended())
    }

    /// Fails with the log's tail where it has ended.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn must_run(&mut self) -> Result<()> {
        if let Some(status) = self.ended()? {
            bail!("`{}` ended with {status}: {}", self.name, self.log_tail());
        }
        Ok(())
    }

    /// All that it has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines
            .get(lines.len().saturating_sub(12)..)
            .unwrap_or_default()
            .join("\n")
    }

    /// Waits until its log says `text`.
    ///
    /// # Errors
    /// Where it does not within `limit`.
    pub fn wait_for_log(&self, text: &str, limit: Duration) -> Result<()> {
        wait::until(limit, &format!("`{text}` in the log of {}", self.name), || {
            Ok(self.log().contains(text).then_some(()))
        })
    }

    /// Waits until it, or anything in its namespace, listens on the TCP port.
    ///
    /// # Errors
    /// Where it has ended, or does not listen within `limit`.
    pub fn wait_listening(&mut self, port: u16, limit: Duration) -> Result<()> {
        let what = format!("{} listening on port {port}", self.name);
        let waited = wait::until(limit, &what, || {
            self.must_run()?;
            Ok(is_listening(self.pid(), port)?.then_some(()))
        });
        waited.with_context(|| self.log_tail())
    }

    /// Open descriptors.
    ///
    /// # Errors
    /// Where it is gone.
    pub fn descriptors(&self) -> Result<u64> {
        let entries = std::fs::read_dir(format!("/proc/{}/fd", self.pid()))?;
        Ok(u64::try_from(entries.count())?)
    }

    /// How long its threads, together, were ready to run so far and had no CPU: the second field of `schedstat`.
    ///
    /// # Errors
    /// Where it is gone.
    pub fn waited_for_cpu(&self) -> Result<Duration> {
        let mut sum = 0_u64;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
            let field = text.split_whitespace().nth(1).context("a short `schedstat`")?;
            sum = sum.saturating_add(field.parse()?);
        }
        Ok(Duration::from_nanos(sum))
    }

    /// Resident memory in KiB.
    ///
    /// # Errors
    /// Where it is gone.
    pub fn resident_kib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|rest| rest.split_whitespace().next());
        Ok(number
            .ok_or_else(|| anyhow!("no VmRSS for `{}`", self.name))?
            .parse()?)
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        let Ok(group) = i32::try_from(self.child.id()) else {
            return;
        };
        let child = &mut self.child;
        let shared = Arc::clone(&self.shared);
        shared.release(group, || {
            // The group was killed, so this ends; a failure to reap has nobody to tell.
            let _status = child.wait();
        });
    }
}

/// Whether a TCP socket listens on `port` in the network namespace of process `pid`.
///
/// # Errors
/// Where the process is gone.
pub fn is_listening(pid: u32, port: u16) -> Result<bool> {
    for table in ["tcp", "tcp6"] {
        let path = Path::new("/proc").join(pid.to_string()).join("net").join(table);
        if std::fs::read_to_string(path)?
            .lines()
            .any(|line| listens(line, port))
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a line of `/proc/net/tcp` is a listener (state `0A`) on `port`.
fn listens(line: &str, port: u16) -> bool {
    let mut fields = line.split_whitespace();
    let local = fields.nth(1).and_then(|local| local.rsplit_once(':'));
    let state = fields.nth(1);
    state == Some("0A") && local.is_some_and(|(_, hex)| u16::from_str_radix(hex, 16) == Ok(port))
}

#[cfg(test)]
mod tests {
    use super::listens;

    #[test]
    fn listener_lines_are_told_from_others() {
        let listener = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000";
        let connection = "   1: 0100007F:1F90 0100007F:C001 01 00000000:00000000 00:00000000 00000000";
        assert!(listens(listener, 8080));
        assert!(!listens(listener, 8081));
        assert!(!listens(connection, 8080));
        assert!(!listens("  sl  local_address rem_address   st", 8080));
    }
}
