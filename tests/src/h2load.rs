//! h2load: many requests over either version of HTTP, counted.

use crate::lab::Ns;
use anyhow::{Context, Result, anyhow, ensure};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Clients of a paced run.
const CLIENTS: u64 = 4;
/// Seconds of one paced run; as many follow each other as are needed.
const RUN_SECONDS: u64 = 2;

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

/// What became of one request of a paced run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timed {
    /// When it began.
    pub began: SystemTime,
    /// Its status; 0 where there was no answer.
    pub status: u16,
    /// How long it took.
    pub took: Duration,
}

/// Asks for `url` so many times a second over HTTP/2 while `work` goes on, and returns what became of every request.
///
/// # Errors
/// The work's own, or where h2load cannot be run or its log not be read.
pub fn while_loaded<T>(
    ns: &Ns,
    url: &str,
    each_second: u64,
    work: impl FnOnce() -> Result<T>,
) -> Result<(T, Vec<Timed>)> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut all = Vec::new();
            while !stop.load(Ordering::Acquire) {
                all.extend(paced(ns, url, each_second)?);
            }
            Ok::<_, anyhow::Error>(all)
        });
        let done = work();
        stop.store(true, Ordering::Release);
        let timed = load.join().map_err(|_| anyhow!("the load's thread panicked"))?;
        Ok((done?, timed?))
    })
}

fn paced(ns: &Ns, url: &str, each_second: u64) -> Result<Vec<Timed>> {
    let log = ns.fresh("h2load", "tsv");
    let (requests, each) = (each_second * RUN_SECONDS, each_second / CLIENTS);
    let words = [
        "60".to_owned(),
        "h2load".to_owned(),
        format!("--requests={requests}"),
        format!("--clients={CLIENTS}"),
        format!("--rps={each}"),
        "--max-concurrent-streams=32".to_owned(),
        format!("--log-file={}", log.display()),
        url.to_owned(),
    ];
    let output = ns.output(Command::new("timeout").args(words))?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.success(),
        "h2load ended with {}: {errors}",
        output.status
    );
    let text = std::fs::read_to_string(&log).context("h2load wrote no log")?;
    let timed: Vec<Timed> = text.lines().filter_map(timed).collect();
    let count = u64::try_from(timed.len())?;
    ensure!(
        count == requests,
        "{count} of {requests} requests are in the log: {errors}"
    );
    Ok(timed)
}

/// A line of h2load's log: microseconds since the epoch, status, microseconds.
fn timed(line: &str) -> Option<Timed> {
    let mut words = line.split_whitespace();
    let began = words.next()?.parse().ok()?;
    let status: i32 = words.next()?.parse().ok()?;
    let took = words.next()?.parse().ok()?;
    Some(Timed {
        began: UNIX_EPOCH + Duration::from_micros(began),
        status: u16::try_from(status).unwrap_or(0),
        took: Duration::from_micros(took),
    })
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
    use super::{Counts, parse, timed};

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
        let line = timed("1700000000000001\t200\t1500").expect("a line");
        assert_eq!((line.status, line.took.as_micros()), (200, 1500));
        assert_eq!(timed("1700000000000001\t-1\t7").expect("a line").status, 0);
    }
}
