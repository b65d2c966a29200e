//! `ebpf/prebuilt/verified-instructions.txt`: how far the verifier of each kernel walked through the committed
//! object. A reviewer sees in its diff what a change of the programs costs; the verifier's limit is a million.
//!
//! It formats and writes. A kernel that was not tried in this run keeps the line of an earlier run on the same object.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use crate::kernel_test::report::{PROGRAMS, Report, version};
use crate::tasks;

const FILE: &str = "ebpf/prebuilt/verified-instructions.txt";
/// What a process loads with CAP_PERFMON, and without.
const OBJECTS: [&str; 2] = [
    "ebpf/prebuilt/sallyport-gate.o",
    "ebpf/prebuilt/sallyport-gate-by-helper.o",
];

/// Writes what these reports say.
///
/// # Errors
/// The file cannot be written.
pub(super) fn write(reports: &[Report]) -> Result<()> {
    let file = tasks::root().join(FILE);
    let mut objects = Vec::new();
    for object in OBJECTS {
        let line = tasks::capture(
            Command::new("sha256sum")
                .arg("--")
                .arg(tasks::root().join(object)),
        )?;
        let digest = line.split_whitespace().next().unwrap_or_default();
        objects.push(format!("# {digest}  {object}"));
    }
    let rows: Vec<Row> = reports.iter().map(Row::of).collect();
    let before = fs::read_to_string(&file).unwrap_or_default();
    fs::write(&file, text(&objects, &rows, &before)).with_context(|| format!("cannot write `{FILE}`"))?;
    println!("kernel-test: `{FILE}` is fresh");
    Ok(())
}

/// One kernel's lines: with CAP_PERFMON and without.
struct Row {
    release: String,
    lines: [String; 2],
}

impl Row {
    fn of(report: &Report) -> Self {
        let [with, without] = ["packets", "probe"].map(|part| {
            PROGRAMS.map(|program| {
                let count = report.verified(part, program);
                count.map_or_else(|| "-".to_owned(), |count| count.to_string())
            })
        });
        let without = report.refusal().map_or_else(
            || columns(&report.release, "-", &without),
            |why| format!("{:<30}{:<9}  refused: {why}", report.release, "-"),
        );
        Self {
            release: report.release.clone(),
            lines: [columns(&report.release, "perfmon", &with), without],
        }
    }
}

fn columns(kernel: &str, also: &str, counts: &[impl AsRef<str>; 4]) -> String {
    let counts = counts.each_ref().map(|count| format!("{:>18}", count.as_ref()));
    format!("{kernel:<30}{also:<9}{}", counts.concat())
}

fn text(objects: &[String], rows: &[Row], before: &str) -> String {
    let mut head = vec![
        "# Instructions that each kernel's verifier walked, of the million that it would; `cargo xtask kernel-test` writes it."
            .to_owned(),
        "# `also`: the capability beside CAP_BPF and CAP_NET_ADMIN.".to_owned(),
    ];
    head.extend_from_slice(objects);
    head.push(columns("# kernel", "also", &PROGRAMS));
    let same_objects = objects
        .iter()
        .all(|object| before.lines().any(|line| line == object));
    let tried = |line: &str| rows.iter().any(|row| version(&row.release) == version(line));
    let kept = before
        .lines()
        .filter(|line| same_objects && !line.starts_with('#') && !tried(line));
    let mut lines: Vec<&str> = rows
        .iter()
        .flat_map(|row| &row.lines)
        .map(String::as_str)
        .collect();
    lines.extend(kept);
    // Stable, so that both lines of a kernel keep their order.
    lines.sort_by_key(|line| version(line));
    let all = head.iter().map(String::as_str).chain(lines);
    all.flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::{Row, columns, text};

    fn row(release: &str, count: &str) -> Row {
        Row {
            release: release.to_owned(),
            lines: ["perfmon", "-"].map(|also| columns(release, also, &[count, "2", "3", "4"])),
        }
    }

    #[test]
    fn a_kernel_that_was_not_tried_keeps_its_lines_while_the_objects_are_the_same() {
        let [same, other] = ["# aa  x.o", "# bb  x.o"].map(|object| vec![object.to_owned()]);
        let first = text(&same, &[row("6.12.1", "10"), row("6.1.0-56", "20")], "");
        let order: Vec<&str> = first
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split(' ').next().unwrap_or_default())
            .collect();
        assert_eq!(order, ["6.1.0-56", "6.1.0-56", "6.12.1", "6.12.1"]);
        let again = text(&same, &[row("6.12.2", "11")], &first);
        assert!(
            again.contains("6.1.0-56") && again.contains("6.12.2") && !again.contains("6.12.1 "),
            "{again}"
        );
        let changed = text(&other, &[row("6.12.2", "11")], &first);
        assert!(!changed.contains("6.1.0-56"), "{changed}");
    }
}
