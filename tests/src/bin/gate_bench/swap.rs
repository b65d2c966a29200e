//! Part D: a policy of 100,000 prefixes replaced by another, in seconds, and the memory that the maps then have.

use crate::Effort;
use crate::gates::{Gated, Hook, Stage, rewrite};
use crate::prefixes::Prefixes;
use crate::report::{Bar, Line, Report};
use anyhow::{Context, Result, ensure};
use aya::maps::{ArrayOfMaps, Map, MapData, MapType};
use nix::sys::signal::Signal;
use sallyport_tests::gate::Gate;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

const PREFIXES4: usize = 80_000;
const PREFIXES6: usize = 20_000;
/// Longest swap that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
const MIB: f64 = 1024.0 * 1024.0;

/// Measures the part.
///
/// # Errors
/// Where the gate does not come up, or refuses the policy.
pub(crate) fn measure(stage: &Stage, effort: &Effort, report: &mut Report) -> Result<()> {
    let mut gated = stage.gate("swap", Hook::Xdp, &Prefixes::random(PREFIXES4, PREFIXES6, 1))?;
    let before = kernel_memory(&gated.pins)?;
    let (mut seconds, mut memory, mut refused) = (Vec::new(), Vec::new(), None);
    for round in 0..effort.swaps {
        eprintln!("bench gate: D, swap {} of {}", round + 1, effort.swaps);
        rewrite(
            &gated.setup,
            &Prefixes::random(PREFIXES4, PREFIXES6, u64::from(round) + 2),
        )?;
        let took = match &refused {
            None => apply(&gated)?,
            Some(_) => Err(String::new()),
        };
        let took = match took {
            Ok(took) => took,
            Err(why) => {
                refused.get_or_insert(why);
                restart(&mut gated)?
            }
        };
        seconds.push(took.as_secs_f64());
        memory.push(kernel_memory(&gated.pins)? as f64 / MIB);
    }
    let how = match refused {
        None => "`apply` on the socket, until its answer".to_owned(),
        Some(why) => {
            format!("start of a gate on the pins of the one before, until its socket answers; apply: {why}")
        }
    };
    report.add(Line::new("D", "swap of 100,000 prefixes", "s", Bar::AtMost(1.5), &seconds).note(&how));
    let first = Line::new(
        "D",
        "kernel memory of all maps, one policy",
        "MiB",
        Bar::AtMost(16.0),
        &[before as f64 / MIB],
    );
    report.add(first.note("as `memlock` of each map says, tries of both slots included"));
    report.add(Line::new(
        "D",
        "kernel memory of all maps, after swaps",
        "MiB",
        Bar::AtMost(16.0),
        &memory,
    ));
    Ok(())
}

/// Has the new allowlist applied; the time until the answer, or why it was not.
fn apply(gated: &Gated) -> Result<Result<Duration, String>> {
    let mut socket = UnixStream::connect(gated.setup.gate_socket()).context("the gate's socket")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let began = Instant::now();
    socket.write_all(b"apply {\"confirm\":null,\"force\":true}\n")?;
    let mut line = String::new();
    BufReader::new(socket)
        .read_line(&mut line)
        .context("the gate does not answer")?;
    let took = began.elapsed();
    let answer: Value = serde_json::from_str(&line).unwrap_or(Value::Null);
    let Some(applied) = answer.get("applied") else {
        return Ok(Err(line.trim().chars().take(60).collect()));
    };
    let prefixes = applied
        .get("prefixes")
        .and_then(Value::as_u64)
        .unwrap_or_default();
    ensure!(
        prefixes > 90_000,
        "{prefixes} prefixes were applied, 100,000 were expected"
    );
    Ok(Ok(took))
}

fn restart(gated: &mut Gated) -> Result<Duration> {
    gated.gate.proc.signal(Signal::SIGTERM)?;
    gated.gate.proc.wait(Duration::from_secs(10))?;
    let began = Instant::now();
    gated.gate = Gate::start(&gated.setup)?;
    Ok(began.elapsed())
}

/// What the kernel accounts for the pinned maps and the maps in them, in bytes.
fn kernel_memory(pins: &Path) -> Result<u64> {
    let mut sum = 0;
    let mut open = vec![pins.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            let link = path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("link_"));
            if path.is_dir() {
                open.push(path);
            } else if !link {
                sum += memory_of(&path).with_context(|| format!("`{}`", path.display()))?;
            }
        }
    }
    Ok(sum)
}

fn memory_of(pin: &Path) -> Result<u64> {
    let map = MapData::from_pin(pin)?;
    let mut sum = memlock(&map)?;
    if map.info()?.map_type()? == MapType::ArrayOfMaps {
        let outer: ArrayOfMaps<MapData, MapData> = ArrayOfMaps::try_from(Map::ArrayOfMaps(map))?;
        for index in 0..outer.len() {
            // A slot that was never filled has no map.
            if let Ok(inner) = outer.get(&index, 0) {
                sum += memlock(&inner)?;
            }
        }
    }
    Ok(sum)
}

fn memlock(map: &MapData) -> Result<u64> {
    let fd = map.fd().as_fd().as_raw_fd();
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("memlock:"));
    Ok(line.context("no `memlock`")?.trim().parse()?)
}
