//! h2load: many requests over either version of HTTP, counted.

use crate::lab::Ns;
use anyhow::{Context, Result, ensure};
use std::process::Command;

/// The protocol to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2; by ALPN on `https`, by prior knowledge on `http`.
    Http2,
}

/// How the requests ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Done with a status below 400.
    pub succeeded: u64,
    /// Not answered, or with a status from 400.
    pub failed: u64,
    /// Status 2xx.
    pub ok: u64,
}

/// Makes `requests` over `connections`.
///
/// # Errors
/// Where h2load cannot be run or its report not be read.
pub fn run(ns: &Ns, url: &str, protocol: Protocol, requests: u64, connections: u64) -> Result<Counts> {
    let mut command = Command::new("timeout");
    command.args([
        "120",
        "h2load",
        "-n",
        &requests.to_string(),
        "-c",
        &connections.to_string(),
    ]);
    match protocol {
        Protocol::Http1 => command.arg("--h1"),
        Protocol::Http2 => command.args(["-m", "10"]),
    };
    let output = ns.output(command.arg(url))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "h2load ended with {}: {text}{errors}",
        output.status
    );
    parse(&text).with_context(|| format!("cannot read h2load's report: {text}{errors}"))
}

/// Makes `requests` from one CPU, however many connections and streams `words` ask for.
///
/// # Errors
/// Where not every one was answered by 2xx.
pub fn all_answered(ns: &Ns, cpu: usize, requests: u64, words: &[&str], url: &str) -> Result<()> {
    let mut command = Command::new("taskset");
    command.args(["-c", &cpu.to_string(), "h2load", "-n", &requests.to_string()]);
    let output = ns.output(command.args(words).arg(url))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        parse(&text).is_some_and(|counts| counts.ok == requests),
        "not every request of {requests} to {url} was answered by 2xx: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn parse(report: &str) -> Option<Counts> {
    let requests = report.lines().find(|line| line.starts_with("requests:"))?;
    let codes = report.lines().find(|line| line.starts_with("status codes:"))?;
    let errored = number_before(requests, "errored")?;
    let failed = number_before(requests, "failed")?.checked_add(errored)?;
    let timeout = number_before(requests, "timeout")?;
    Some(Counts {
        succeeded: number_before(requests, "succeeded")?,
        failed: failed.checked_add(timeout)?,
        ok: number_before(codes, "2xx")?,
    })
}

fn number_before(line: &str, word: &str) -> Option<u64> {
    let (before, _) = line.split_once(word)?;
    before.split_whitespace().last()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Counts, parse};

    #[test]
    fn the_report_is_read() {
        let report = "requests: 10 total, 10 started, 10 done, 9 succeeded, 1 failed, 0 errored, 2 timeout\n\
                      status codes: 9 2xx, 0 3xx, 0 4xx, 1 5xx\n";
        assert_eq!(
            parse(report),
            Some(Counts {
                succeeded: 9,
                failed: 3,
                ok: 9
            })
        );
        assert_eq!(parse("finished"), None);
    }
}
