//! The program under test as a gate: `sallyport gate run`, its status, and what a shut-out host sends.

use crate::gateway::{Setup, binary};
use crate::lab::Ns;
use crate::process::{Proc, Spawn};
use crate::wait;
use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A running gate process.
#[derive(Debug)]
pub struct Gate {
    /// The process.
    pub proc: Proc,
    setup: Setup,
}

impl Gate {
    /// Starts it on a written configuration and waits until its socket answers, which is after the first
    /// attach pass.
    ///
    /// # Errors
    /// Where it does not come up.
    pub fn start(setup: &Setup) -> Result<Gate> {
        Gate::start_with(setup, &[])
    }

    /// As [`Gate::start`], with more arguments.
    ///
    /// # Errors
    /// Where it does not come up.
    pub fn start_with(setup: &Setup, arguments: &[&OsStr]) -> Result<Gate> {
        let spawn = Spawn::new("gate", binary()?)
            .arg("gate")
            .arg("run")
            .arg("--config")
            .arg(setup.file());
        let spawn = arguments.iter().fold(spawn, Spawn::arg);
        let mut proc = setup.ns().spawn(spawn)?;
        wait::until(Duration::from_secs(20), "the gate's socket", || {
            proc.must_run()?;
            Ok(UnixStream::connect(setup.gate_socket()).ok())
        })?;
        Ok(Gate {
            proc,
            setup: setup.clone(),
        })
    }

    /// `sallyport gate status --format json`.
    ///
    /// # Errors
    /// Where the command fails or prints no JSON.
    pub fn status(&self) -> Result<Value> {
        let output = self.setup.command(&["gate", "status", "--format", "json"])?;
        ensure!(
            output.status.success(),
            "gate status: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).context("gate status printed no JSON")
    }

    /// Asks the socket: one line there, one document back.
    ///
    /// # Errors
    /// Where nobody answers, or no JSON.
    pub fn ask(&self, request: &str) -> Result<Value> {
        let mut stream = UnixStream::connect(self.setup.gate_socket())?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(format!("{request}\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        serde_json::from_str(&answer).with_context(|| format!("`{request}` was answered by {answer:?}"))
    }

    /// What is attached to the interface, as the status calls it (`interfaces[].actual`).
    ///
    /// # Errors
    /// Where the interface is not in the status.
    pub fn attached(&self, interface: &str) -> Result<String> {
        let status = self.status()?;
        let listed = status
            .get("interfaces")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let entry = listed
            .iter()
            .find(|entry| entry.get("name").and_then(Value::as_str) == Some(interface));
        let actual = entry.and_then(|entry| entry.get("actual"));
        let actual = actual.ok_or_else(|| anyhow!("`{interface}` is not in the gate's status: {status}"))?;
        Ok(actual.as_str().map_or_else(|| actual.to_string(), str::to_owned))
    }

    /// Packets dropped so far.
    ///
    /// # Errors
    /// Where the status has no such counter.
    pub fn dropped(&self) -> Result<u64> {
        let status = self.status()?;
        drops(&status).ok_or_else(|| anyhow!("no drop counters in the gate's status: {status}"))
    }
}

/// The sum over interfaces of what was dropped, by whatever reason.
fn drops(status: &Value) -> Option<u64> {
    let interfaces = status.get("interfaces")?.as_array()?;
    let each = |interface: &Value| {
        let reasons = interface.get("dropped")?.as_object()?;
        reasons.values().map(Value::as_u64).sum::<Option<u64>>()
    };
    interfaces.iter().map(each).sum()
}

/// TCP connection requests (`SYN`) that hosts in `ns` have sent so far, repeats included.
///
/// # Errors
/// Where `/proc/net/snmp` cannot be read.
pub fn connection_requests(ns: &Ns) -> Result<u64> {
    let text = ns.proc_net("snmp")?;
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
    let names = lines.next().context("no TCP line in snmp")?;
    let values = lines.next().context("no TCP values in snmp")?;
    let pairs = names.split_whitespace().zip(values.split_whitespace());
    let wanted = pairs.filter(|(name, _)| matches!(*name, "ActiveOpens" | "RetransSegs"));
    wanted.map(|(_, value)| Ok(value.parse::<u64>()?)).sum()
}
