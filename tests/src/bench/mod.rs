//! What the benchmark programs have in common: their frame, clocks that count CPU time, and the middle of many values;
//! in `subjects` the proxies that are compared, in `report` what comes of it.
//!
//! It must not know what is measured.

pub mod options;
pub mod passes;
pub mod report;
pub mod subjects;

use crate::case::is_installed;
use crate::gateway::binary;
use crate::lab::Lab;
use crate::signals;
use anyhow::{Context, Result, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;
use options::{Options, Sizes};
use report::Report;
use serde_json::Value;
use std::path::Path;
use std::process::ExitCode;

/// The CPU of the load and the origin.
pub const LOAD_CPU: usize = 0;
/// The CPU of the proxy under test, alone.
pub const PROXY_CPU: usize = 1;

/// It could not measure.
const FAILED: u8 = 1;
/// Bad usage.
const USAGE: u8 = 64;
/// Not root.
const NOT_PERMITTED: u8 = 77;
/// Ended by Ctrl-C, as shells report it.
const INTERRUPTED: u8 = 130;

/// Figures, for people and for programs.
pub trait Results {
    /// A line a figure.
    fn table(&self) -> String;

    /// The same as one document.
    fn json(&self) -> Value;
}

/// A benchmark's `main`: what its command line came to, what it needs root for, what it measures, and how.
pub fn run<T>(
    options: Result<T>,
    needs_root: &str,
    what: &str,
    measure: impl FnOnce(&T) -> Result<()>,
) -> ExitCode {
    let options = match options {
        Ok(options) => options,
        Err(error) => return complain(USAGE, &format!("{error:#}")),
    };
    if !nix::unistd::geteuid().is_root() {
        return complain(NOT_PERMITTED, needs_root);
    }
    match signals::take_down(|| INTERRUPTED).and_then(|()| measure(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(FAILED, &format!("{what} could not be measured: {error:#}")),
    }
}

fn complain(code: u8, text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::from(code)
}

/// Measures in a lab, which goes away in any case, prints the table and writes the JSON to `file`.
///
/// # Errors
/// Where `measure` fails, or the file cannot be written.
pub fn in_lab<R: Results>(
    mut report: R,
    file: &Path,
    measure: impl FnOnce(&Lab, &mut R) -> Result<()>,
) -> Result<()> {
    let lab = Lab::new()?;
    let measured = measure(&lab, &mut report);
    if measured.is_err() {
        eprintln!("{}", lab.logs(20));
    }
    lab.close();
    measured?;
    print!("{}", report.table());
    let json = serde_json::to_string_pretty(&report.json())?;
    std::fs::write(file, json + "\n").with_context(|| format!("`{}`", file.display()))?;
    println!("JSON: {}", file.display());
    Ok(())
}

/// A benchmark that compares proxies under load: reads its words, looks whether its tools are there, and measures.
/// `what` and `how` are for people; the JSON goes to `file` where no other is named.
pub fn beside_peers<S: Sizes>(
    what: &'static str,
    file: &str,
    how: &[(&str, &str)],
    measure: impl FnOnce(&Lab, &Options<S>, &mut Report) -> Result<()>,
) -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    run(
        Options::parse(&words, file),
        "the benchmark makes network namespaces, which needs root",
        what,
        |options| {
            make_ready()?;
            let mut facts = facts()?;
            facts.push(("effort".to_owned(), format!("{options:?}")));
            facts.extend(
                how.iter()
                    .map(|(name, text)| ((*name).to_owned(), (*text).to_owned())),
            );
            in_lab(Report::new(facts), &options.json, |lab, report| {
                measure(lab, options, report)
            })
        },
    )
}

/// Tools, CPUs, descriptors, and this process on the CPU of the load.
fn make_ready() -> Result<()> {
    for tool in ["nginx", "haproxy", "h2load", "taskset"] {
        ensure!(
            is_installed(tool),
            "`{tool}` is not there; `cargo xtask setup` installs it"
        );
    }
    let cpus = std::thread::available_parallelism()?.get();
    ensure!(
        cpus >= 2,
        "two CPUs are needed: one for the load, one for the proxy"
    );
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    stay_on(LOAD_CPU)
}

/// What it is measured on.
fn facts() -> Result<Vec<(String, String)>> {
    let kernel = nix::sys::utsname::uname()?;
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name"));
    let average = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let fact = |name: &str, value: &str| {
        let shown = value.trim_matches([' ', '\t', '\n', ':']);
        (name.to_owned(), shown.to_owned())
    };
    Ok(vec![
        fact("kernel", &kernel.release().to_string_lossy()),
        fact("cpu", model.unwrap_or_default()),
        fact("load average at the start (should be below 0.3)", &average),
        fact("binary", &binary()?.display().to_string()),
    ])
}

/// Keeps this thread, and those that it starts, on a CPU.
///
/// # Errors
/// Where there is no such CPU.
pub fn stay_on(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("cannot stay on CPU {cpu}"))
}

/// CPU time of one thread, in nanoseconds: the first field of its `schedstat`.
///
/// # Errors
/// Where it is gone.
pub fn task_ns(pid: i32) -> Result<u64> {
    first_field(&Path::new("/proc").join(pid.to_string()).join("schedstat"))
}

/// CPU time of all threads of a process, in nanoseconds.
///
/// # Errors
/// Where it is gone.
pub fn process_ns(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        sum += first_field(&thread?.path().join("schedstat"))?;
    }
    Ok(sum)
}

fn first_field(path: &Path) -> Result<u64> {
    let text = std::fs::read_to_string(path).with_context(|| format!("`{}`", path.display()))?;
    let field = text.split(' ').next().context("`schedstat` is empty")?;
    Ok(field.parse()?)
}

/// The middle of sorted values, or the mean of the two in the middle.
#[must_use]
pub fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = sorted.get(middle.checked_sub(1)?)?;
    Some(f64::midpoint(*lower, upper))
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[1.0, 2.0, 9.0]), Some(2.0));
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), Some(3.0));
    }
}
