//! The program under test as a proxy: `sallyport run` with a configuration, watched from outside.

use crate::lab::Ns;
use crate::process::{Proc, Spawn, is_listening};
use crate::wait;
use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::time::Duration;

/// Longest start of a gateway on a busy machine.
const START: Duration = Duration::from_secs(20);

/// The I/O drivers, as `proxy.io` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// `uring`: the best on io_uring that the kernel has.
    Uring,
    /// `tokio-uring`.
    TokioUring,
    /// `epoll`.
    Epoll,
    /// `auto`.
    Auto,
}

impl Driver {
    /// Its word in the configuration.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            // The whole suite on the other ring, by hand.
            Driver::Uring if std::env::var_os("SALLYPORT_TEST_TOKIO_URING").is_some() => "tokio-uring",
            Driver::Uring => "uring",
            Driver::TokioUring => "tokio-uring",
            Driver::Epoll => "epoll",
            Driver::Auto => "auto",
        }
    }
}

/// A configuration on disk with its own state directory and sockets.
#[derive(Clone, Debug)]
pub struct Setup {
    ns: Ns,
    name: String,
    dir: PathBuf,
    preamble: String,
    user: Option<u32>,
}

impl Setup {
    /// A place for the configuration of a gateway called `name` that will run in `ns`.
    ///
    /// # Errors
    /// Where the directory cannot be made.
    pub fn new(ns: &Ns, name: &str, driver: Driver) -> Result<Setup> {
        let dir = ns.fresh(name, "d");
        std::fs::create_dir(&dir)?;
        let at = dir.display();
        let preamble = format!(
            "[proxy]\nworkers = 2\nio = \"{}\"\nstate_dir = \"{at}/state\"\ndrain = \"10s\"\n\
             [log]\nlevel = \"info,sallyport=debug\"\n[admin]\nsocket = \"{at}/admin.sock\"\n",
            driver.word()
        );
        Ok(Setup {
            ns: ns.clone(),
            name: name.to_owned(),
            dir,
            preamble,
            user: None,
        })
    }

    /// Runs the gateway as this user, without any capability; whatever it reads must be readable for that user.
    ///
    /// # Errors
    /// Where its directory cannot be given to the user.
    pub fn as_user(mut self, user: u32) -> Result<Setup> {
        std::os::unix::fs::chown(&self.dir, Some(user), Some(user))?;
        self.user = Some(user);
        Ok(self)
    }

    /// Replaces a line of the preamble's tables, or adds to it.
    #[must_use]
    pub fn with(mut self, from: &str, to: &str) -> Setup {
        self.preamble = self.preamble.replace(from, to);
        self
    }

    /// Adds the `[gate]` table with sockets and pins of this gateway's own; `bpffs` is a mounted one.
    #[must_use]
    pub fn with_gate(mut self, bpffs: &Path, mode: &str) -> Setup {
        self.preamble.push_str(&format!(
            "[gate]\nmode = \"{mode}\"\nsocket = \"{}\"\npin_dir = \"{}\"\n",
            self.gate_socket().display(),
            bpffs.join(&self.name).display()
        ));
        self
    }

    /// The gate's socket of a configuration made by [`Setup::with_gate`].
    #[must_use]
    pub fn gate_socket(&self) -> PathBuf {
        self.dir.join("gate").join("gate.sock")
    }

    /// The configuration file.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.dir.join("sallyport.toml")
    }

    /// The state directory.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Where the gateway runs.
    #[must_use]
    pub fn ns(&self) -> &Ns {
        &self.ns
    }

    /// Writes the file: the preamble, then `body`.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&self, body: &str) -> Result<()> {
        Ok(std::fs::write(self.file(), format!("{}{body}", self.preamble))?)
    }

    /// Lines before `body`'s first in the file, for positions in diagnostics.
    #[must_use]
    pub fn lines_before_body(&self) -> usize {
        self.preamble.lines().count()
    }

    /// Runs a command of the program on this configuration to its end.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn command(&self, words: &[&str]) -> Result<Output> {
        let mut command = Command::new("timeout");
        command
            .arg("30")
            .arg(binary()?)
            .args(words)
            .arg("--config")
            .arg(self.file());
        self.ns.output(&mut command)
    }

    /// Starts `sallyport run` without waiting.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn spawn(&self) -> Result<Gateway> {
        let spawn = match self.user {
            None => Spawn::new(&self.name, binary()?),
            Some(user) => Spawn::new(&self.name, "setpriv")
                .arg(format!("--reuid={user}"))
                .arg(format!("--regid={user}"))
                .arg("--clear-groups")
                .arg(binary()?),
        };
        let spawn = spawn.arg("run").arg("--config").arg(self.file());
        Ok(Gateway {
            proc: self.ns.spawn(spawn)?,
            setup: self.clone(),
        })
    }

    /// Writes `body`, starts `sallyport run` and waits until every entry point of `body` listens and the
    /// admin socket answers.
    ///
    /// # Errors
    /// Where it does not come up; the log's tail is in the error.
    pub fn start(&self, body: &str) -> Result<Gateway> {
        self.write(body)?;
        let mut gateway = self.spawn()?;
        for port in entry_point_ports(body) {
            gateway.proc.wait_listening(port, START)?;
        }
        wait::until(START, "the admin socket", || {
            gateway.proc.must_run()?;
            Ok(gateway.status().ok())
        })?;
        Ok(gateway)
    }
}

/// A running proxy.
#[derive(Debug)]
pub struct Gateway {
    /// The process.
    pub proc: Proc,
    setup: Setup,
}

impl Gateway {
    /// Its configuration.
    #[must_use]
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// `sallyport status --format json`.
    ///
    /// # Errors
    /// Where the command fails or prints no JSON.
    pub fn status(&self) -> Result<Value> {
        let output = self.setup.command(&["status", "--format", "json"])?;
        ensure!(
            output.status.success(),
            "status: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).context("status printed no JSON")
    }

    /// One of the counters of `status`, by its code.
    ///
    /// # Errors
    /// Where there is none.
    pub fn count(&self, code: &str) -> Result<u64> {
        let status = self.status()?;
        let counters = status.get("counters").and_then(|counters| counters.get(code));
        counters
            .and_then(Value::as_u64)
            .with_context(|| format!("no counter `{code}`"))
    }

    /// Waits until a counter of `status` is this.
    ///
    /// # Errors
    /// Where it is not within ten seconds.
    pub fn counts(&self, code: &str, expected: u64) -> Result<()> {
        let mut last = 0;
        let waited = wait::until(Duration::from_secs(10), &format!("{code} is {expected}"), || {
            last = self.count(code)?;
            Ok((last == expected).then_some(()))
        });
        waited.with_context(|| format!("it was {last}"))
    }

    /// Whether it listens on the port now.
    ///
    /// # Errors
    /// Where it is gone.
    pub fn listens(&self, port: u16) -> Result<bool> {
        is_listening(self.proc.pid(), port)
    }

    /// `SIGTERM`, then waits for its end.
    ///
    /// # Errors
    /// Where it does not end.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.proc.signal(Signal::SIGTERM)?;
        self.proc.wait(Duration::from_secs(20))
    }

    /// Waits until an HTTP status comes back from `probe`, which is repeated.
    ///
    /// # Errors
    /// Where it does not within ten seconds.
    pub fn settle(&self, status: u16, mut probe: impl FnMut() -> Result<u16>) -> Result<()> {
        let mut last = 0;
        let waited = wait::until(Duration::from_secs(10), &format!("status {status}"), || {
            last = probe()?;
            Ok((last == status).then_some(()))
        });
        waited.with_context(|| format!("the last status was {last}"))
    }
}

/// Every value under `key`, at any depth of a document.
#[must_use]
pub fn find_all<'v>(document: &'v Value, key: &str) -> Vec<&'v Value> {
    let mut found = Vec::new();
    let mut open = vec![document];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(map) => {
                found.extend(map.get(key));
                open.extend(map.values());
            }
            Value::Array(list) => open.extend(list),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    found
}

/// The ports in `address = "…:PORT"` lines of entry point tables.
fn entry_point_ports(body: &str) -> Vec<u16> {
    let mut ports = Vec::new();
    let mut inside = false;
    for line in body.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line.starts_with("[entry_points.") || line.starts_with("[uplink_entry_points.");
        }
        if inside && line.starts_with("address") {
            let port = line
                .rsplit_once(':')
                .map(|(_, rest)| rest.chars().take_while(char::is_ascii_digit).collect());
            ports.extend(port.and_then(|digits: String| digits.parse::<u16>().ok()));
        }
    }
    ports
}

/// The binary under test: `SALLYPORT_BIN`, or a build beside this program's own.
///
/// # Errors
/// Where there is none.
pub fn binary() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("SALLYPORT_BIN") {
        let named = PathBuf::from(named);
        if !named.is_file() {
            bail!("`SALLYPORT_BIN` names `{}`, which is not there", named.display());
        }
        return Ok(named);
    }
    let own = std::env::current_exe()?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let roots = target.iter().map(PathBuf::as_path).chain(own.ancestors().skip(2));
    for root in roots {
        for profile in ["test-release", "release", "debug"] {
            let path = root.join(profile).join("sallyport");
            if path.is_file() {
                return Ok(path);
            }
        }
    }
    Err(anyhow!(
        "no `sallyport` binary: build it with `cargo build --profile test-release -p sallyport`"
    ))
}

#[cfg(test)]
mod tests {
    use super::{entry_point_ports, find_all};

    #[test]
    fn ports_are_those_of_entry_points_alone() {
        let body = "[entry_points.a]\naddress = \"127.0.0.1:80\"\n[uplink_entry_points.u]\naddress = \":9443\"\n\
                    [multicluster.children.c]\naddress = \"https://x:1\"\n";
        assert_eq!(entry_point_ports(body), [80, 9443]);
    }

    #[test]
    fn values_are_found_at_any_depth() {
        let document = serde_json::json!({ "a": [{ "k": 1 }, { "b": { "k": 2 } }] });
        let mut found: Vec<i64> = find_all(&document, "k")
            .into_iter()
            .filter_map(serde_json::Value::as_i64)
            .collect();
        found.sort_unstable();
        assert_eq!(found, [1, 2]);
    }
}
