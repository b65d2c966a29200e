//! `cargo xtask limits`: refuses functions over 70 lines and files over 600 lines without their tests.
//!
//! It counts lines and judges nothing else.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::source::Source;
use crate::tasks;

const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 600;
/// Files of nothing but data, exempt from the limit on files.
const DATA_TABLES: &[&str] = &["config/src/reference/rows.rs"];
const FOLDERS: &[&str] = &["config", "ebpf", "proxy", "tests", "xtask"];

/// Checks every Rust file of the workspace.
///
/// # Errors
/// Names each function and file that is too long.
pub(crate) fn run() -> Result<()> {
    let mut findings = Vec::new();
    let mut files = 0;
    for folder in FOLDERS {
        for file in tasks::files_under(&tasks::root().join(folder), ".rs")? {
            let text =
                fs::read_to_string(&file).with_context(|| format!("cannot read `{}`", file.display()))?;
            files += 1;
            findings.extend(judge(&tasks::relative(&file), &text));
        }
    }
    if !findings.is_empty() {
        bail!("too long:\n  {}", findings.join("\n  "));
    }
    println!("limits: {files} files within {FILE_LINES_MAX} lines, functions within {FUNCTION_LINES_MAX}");
    Ok(())
}

/// What is too long in one file.
fn judge(path: &str, text: &str) -> Vec<String> {
    let source = Source::new(text);
    let mut findings = Vec::new();
    let lines = source.lines_without_tests();
    if !is_test_file(path) && !DATA_TABLES.contains(&path) && lines > FILE_LINES_MAX {
        findings.push(format!(
            "{path}: {lines} lines without tests, at most {FILE_LINES_MAX} are allowed"
        ));
    }
    for function in source.functions() {
        if function.lines > FUNCTION_LINES_MAX {
            let (name, line, lines) = (function.name, function.line, function.lines);
            findings.push(format!(
                "{path}:{line}: `{name}` has {lines} lines, at most {FUNCTION_LINES_MAX} are allowed"
            ));
        }
    }
    findings
}

/// Whether a whole file is test code: `tests.rs`, a file in a `tests` module, or an integration test.
fn is_test_file(path: &str) -> bool {
    let mut parts = Path::new(path)
        .components()
        .skip(1)
        .map(|part| part.as_os_str().to_string_lossy());
    parts.any(|part| part == "tests" || part == "tests.rs")
}

#[cfg(test)]
mod tests {
    use super::{is_test_file, judge};

    fn function_of(lines: usize) -> String {
        format!("fn f() {{\n{}}}\n", "    g();\n".repeat(lines - 2))
    }

    #[test]
    fn a_function_at_the_limit_passes_and_one_past_it_is_named() {
        assert_eq!(judge("proxy/src/a.rs", &function_of(70)), Vec::<String>::new());
        let expected = vec!["proxy/src/a.rs:1: `f` has 71 lines, at most 70 are allowed".to_owned()];
        assert_eq!(judge("proxy/src/a.rs", &function_of(71)), expected);
    }

    #[test]
    fn a_file_at_the_limit_passes_and_one_past_it_is_named() {
        assert_eq!(
            judge("proxy/src/a.rs", &"const A: u8 = 1;\n".repeat(600)),
            Vec::<String>::new()
        );
        assert_eq!(
            judge("proxy/src/a.rs", &"const A: u8 = 1;\n".repeat(601)).len(),
            1
        );
    }

    #[test]
    fn tests_do_not_count_towards_the_file() {
        let tests = format!(
            "#[cfg(test)]\nmod tests {{\n{}}}\n",
            "    const A: u8 = 1;\n".repeat(700)
        );
        assert_eq!(judge("proxy/src/a.rs", &tests), Vec::<String>::new());
        assert_eq!(
            judge("proxy/src/http/tests.rs", &"const A: u8 = 1;\n".repeat(700)),
            Vec::<String>::new()
        );
    }

    #[test]
    fn the_harness_is_no_test_file_but_its_programs_are() {
        assert!(!is_test_file("tests/src/lab.rs"));
        assert!(is_test_file("tests/tests/uplink.rs"));
        assert!(is_test_file("config/src/tests/rules.rs"));
        assert!(!is_test_file("proxy/src/contests.rs"));
    }
}
