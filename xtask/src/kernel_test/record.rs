//! `ebpf/prebuilt/verified-instructions.txt`: how far the verifier of each kernel walked through the committed
//! object. A reviewer sees in its diff what a change of the programs costs; the verifier's limit is a million.
//!
//! It formats and writes. A kernel that was not tried in this run keeps the line of an earlier run on the same object.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use crate::kernel_test::report::{PROGRAMS, Report};
use crate::tasks;

const FILE: &str = "ebpf/prebuilt/verified-instructions.txt";
const OBJECT: &str = "ebpf/prebuilt/sallyport-gate.o";

/// Writes what these reports say.
///
/// # Errors
/// The file cannot be written.
pub(super) fn write(reports: &[Report]) -> Result<()> {
    let file = tasks::root().join(FILE);
    let digest = tasks::capture(
        Command::new("sha256sum")
            .arg("--")
            .arg(tasks::root().join(OBJECT)),
    )?;
    let digest = digest.split_whitespace().next().unwrap_or_default();
    let rows: Vec<Row> = reports.iter().map(Row::of).collect();
    let before = fs::read_to_string(&file).unwrap_or_default();
    let text = text(digest, &rows, &before);
    fs::write(&file, text).with_context(|| format!("cannot write `{FILE}`"))?;
    println!("kernel-test: `{FILE}` is fresh");
    Ok(())
}

/// One kernel's line.
struct Row {
    release: String,
    line: String,
}

impl Row {
    fn of(report: &Report) -> Self {
        let counts = PROGRAMS.map(|program| {
            report
                .verified(program)
                .map_or_else(|| "-".to_owned(), |count| count.to_string())
        });
        let needs = if report.refusal().is_some() {
            "perfmon"
        } else {
            "-"
        };
        Self {
            release: report.release.clone(),
            line: columns(&report.release, &counts.each_ref().map(String::as_str), needs),
        }
    }
}

fn columns(kernel: &str, counts: &[&str; 4], needs: &str) -> String {
    let counts: Vec<String> = counts.iter().map(|count| format!("{count:>18}")).collect();
    format!("{kernel:<30}{}  {needs}", counts.concat())
}

fn text(digest: &str, rows: &[Row], before: &str) -> String {
    let head = [
        "# Instructions that each kernel's verifier walked, of the million that it would; `cargo xtask kernel-test` writes it.".to_owned(),
        "# `also`: the capability that loading needs beside CAP_BPF and CAP_NET_ADMIN.".to_owned(),
        format!("# object {digest}"),
        columns("# kernel", &PROGRAMS, "also"),
    ];
    let same_object = before.lines().any(|line| line == head[2]);
    let kept = before.lines().filter(|line| {
        let kernel = line.split_whitespace().next().unwrap_or_default();
        same_object
            && !line.starts_with('#')
            && !rows.iter().any(|row| series(&row.release) == series(kernel))
    });
    let mut lines: Vec<String> = rows
        .iter()
        .map(|row| row.line.clone())
        .chain(kept.map(str::to_owned))
        .collect();
    lines.sort_by_key(|line| crate::kernel_test::report::version(line));
    head.into_iter().chain(lines).map(|line| line + "\n").collect()
}

fn series(release: &str) -> Option<(u32, u32)> {
    crate::kernel_test::report::version(release)
}

#[cfg(test)]
mod tests {
    use super::{Row, columns, text};

    fn row(release: &str, count: &str) -> Row {
        Row {
            release: release.to_owned(),
            line: columns(release, &[count, "2", "3", "4"], "-"),
        }
    }

    #[test]
    fn a_kernel_that_was_not_tried_keeps_its_line_while_the_object_is_the_same() {
        let first = text("aa", &[row("6.12.1", "10"), row("6.1.0-56", "20")], "");
        let order: Vec<&str> = first
            .lines()
            .skip(4)
            .map(|line| line.split(' ').next().unwrap_or_default())
            .collect();
        assert_eq!(order, ["6.1.0-56", "6.12.1"]);
        let again = text("aa", &[row("6.12.2", "11")], &first);
        assert!(
            again.contains("6.1.0-56") && again.contains("6.12.2") && !again.contains("6.12.1 "),
            "{again}"
        );
        let other = text("bb", &[row("6.12.2", "11")], &first);
        assert!(!other.contains("6.1.0-56"), "{other}");
    }
}
