//! testssl.sh: what a scanner finds of a TLS port, by severity.

use crate::lab::Ns;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// Its program, as Debian calls it.
pub const TOOL: &str = "testssl";
/// Seconds after which it is given up.
const PATIENCE: &str = "300";

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub id: String,
    /// `OK`, `INFO`, `LOW`, `MEDIUM`, `HIGH`, `CRITICAL`, `WARN`, …
    pub severity: String,
    /// In its words.
    pub text: String,
}

impl Finding {
    /// Whether it is worse than `LOW`. What is not known is.
    #[must_use]
    pub fn is_above_low(&self) -> bool {
        !matches!(self.severity.as_str(), "OK" | "INFO" | "LOW" | "DEBUG")
    }
}

/// Scans `name` at `to` from inside `ns`: protocols, cipher categories, forward secrecy, preferences, defaults,
/// tolerance and all vulnerabilities. `ca` is trusted.
///
/// # Errors
/// Where it does not end in time or its findings cannot be read.
pub fn scan(ns: &Ns, name: &str, to: SocketAddr, ca: &Path) -> Result<Vec<Finding>> {
    let findings = ns.fresh("testssl", "json");
    let mut command = Command::new("timeout");
    command.args([PATIENCE, TOOL, "--quiet", "--color", "0", "--warnings", "off"]);
    command.args(["--nodns", "none", "-p", "-s", "-f", "-P", "-S", "-g", "-U"]);
    command.args(["--ip", &to.ip().to_string(), "--add-ca"]).arg(ca);
    command.arg("--jsonfile").arg(&findings);
    command.arg(format!("https://{name}:{}/", to.port()));
    let output = ns.output(&mut command)?;
    let said = || String::from_utf8_lossy(&output.stdout).into_owned();
    // Its exit code counts what it found, up to where it means an error.
    ensure!(
        output.status.code().is_some_and(|code| code < 124),
        "testssl ended with {}: {}",
        output.status,
        said()
    );
    let text = std::fs::read_to_string(&findings).with_context(said)?;
    let read: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
    let list = read.as_array().context("the findings are no list")?;
    list.iter()
        .map(|entry| {
            let word = |key: &str| Some(entry.get(key)?.as_str()?.to_owned());
            Some(Finding {
                id: word("id")?,
                severity: word("severity")?,
                text: word("finding")?,
            })
        })
        .collect::<Option<Vec<_>>>()
        .with_context(|| format!("a finding lacks its words: {text}"))
}

#[cfg(test)]
mod tests {
    use super::Finding;

    #[test]
    fn what_is_not_known_to_be_low_is_above() {
        let above = |severity: &str| {
            Finding {
                id: "x".to_owned(),
                severity: severity.to_owned(),
                text: String::new(),
            }
            .is_above_low()
        };
        assert!(!above("OK") && !above("LOW"));
        assert!(above("MEDIUM") && above("CRITICAL") && above("WARN") && above("FATAL"));
    }
}
