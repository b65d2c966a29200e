//! What the benchmark programs have in common: their frame, clocks that count CPU time, and the middle of many values.
//!
//! It must not know what is measured.

use crate::lab::Lab;
use crate::signals;
use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::Value;
use std::path::Path;
use std::process::ExitCode;

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
