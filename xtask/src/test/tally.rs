//! Counting tests from what libtest prints. Pure: lines in, numbers out.
//!
//! With `--show-output` libtest prints what passed tests said under `successes:`. Those blocks are hidden, but a line
//! `SKIPPED: why` in one says that its test did not test.

use std::collections::BTreeSet;
use std::fmt;

/// Where a line came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stream {
    /// Standard output: libtest's report.
    Output,
    /// Standard error: cargo, and what tests write past libtest's capture.
    Errors,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Section {
    #[default]
    Report,
    Successes,
    Failures,
}

/// The sums over all test programs so far.
#[derive(Default, Debug)]
pub(super) struct Tally {
    passed: usize,
    failed: usize,
    skipped: usize,
    section: Section,
    test: String,
    /// Tests of the running program that said they skipped.
    skipping: BTreeSet<String>,
    /// Skips that were said past the capture; their tests are among the passed.
    uncaptured: usize,
    reasons: Vec<String>,
    /// Tests that failed, by the name that libtest knows them by.
    failures: BTreeSet<String>,
    /// Tests that passed; kept to know what a second run came to.
    successes: BTreeSet<String>,
}

impl Tally {
    /// Takes in one line; returns whether the user should see it.
    pub(super) fn takes(&mut self, stream: Stream, line: &str) -> bool {
        if let Some(place) = line.find("SKIPPED: ") {
            self.skip(stream, line.get(place..).unwrap_or(line));
            return false;
        }
        if stream == Stream::Errors {
            return true;
        }
        if let Some(result) = line.strip_prefix("test result: ") {
            self.close_program(result);
            return true;
        }
        if let Some((name, outcome)) = outcome(line) {
            match outcome {
                "ok" => self.successes.insert(name.to_owned()),
                "FAILED" => self.failures.insert(name.to_owned()),
                _ => false,
            };
        }
        match line {
            "successes:" => self.section = Section::Successes,
            "failures:" => self.section = Section::Failures,
            _ => {}
        }
        if let Some(name) = line
            .strip_prefix("---- ")
            .and_then(|rest| rest.strip_suffix(" stdout ----"))
        {
            self.test = name.to_owned();
        }
        self.section != Section::Successes
    }

    /// A skip counts once a test, and not at all in one that failed anyway. Past the capture there is one line a test,
    /// and no telling whether it comes before or after the result of its program on the other stream.
    fn skip(&mut self, stream: Stream, reason: &str) {
        match (stream, self.section) {
            (Stream::Output, Section::Failures) => {}
            (Stream::Output, Section::Successes) => {
                if self.skipping.insert(self.test.clone()) {
                    self.reasons.push(format!("{}: {reason}", self.test));
                }
            }
            (Stream::Errors, _) | (Stream::Output, Section::Report) => {
                self.uncaptured += 1;
                self.reasons.push(reason.to_owned());
            }
        }
    }

    /// `ok. 3 passed; 0 failed; 1 ignored; 0 measured; …`: one test program has ended.
    fn close_program(&mut self, result: &str) {
        let count = |word: &str| {
            let part = result
                .split(['.', ';'])
                .map(str::trim)
                .find(|part| part.ends_with(word));
            part.and_then(|part| part.split(' ').next()?.parse::<usize>().ok())
                .unwrap_or(0)
        };
        let skipping = self.skipping.len().min(count("passed"));
        self.passed += count("passed") - skipping;
        self.failed += count("failed");
        self.skipped += skipping + count("ignored");
        self.skipping.clear();
        self.section = Section::Report;
    }

    /// A program that ended badly without naming a test counts as one failure.
    pub(super) fn count_broken_program(&mut self) {
        self.failed += 1;
    }

    pub(super) fn failed(&self) -> usize {
        self.failed
    }

    /// The tests that failed; fewer than [`Self::failed`] where a program ended badly or names repeat.
    pub(super) fn failures(&self) -> &BTreeSet<String> {
        &self.failures
    }

    /// Takes in what came of another run of the tests that failed, and returns those that passed in it, each time that
    /// their name stood there. They count as passed.
    pub(super) fn settle(&mut self, again: &Tally) -> Vec<String> {
        let passed = |name: &&String| again.successes.contains(*name) && !again.failures.contains(*name);
        let recovered: Vec<String> = self.failures.iter().filter(passed).cloned().collect();
        self.failures.retain(|name| !recovered.contains(name));
        self.failed -= recovered.len();
        self.passed += recovered.len();
        recovered
    }

    pub(super) fn skipped(&self) -> usize {
        self.skipped + self.uncaptured
    }

    /// Which tests were skipped and why, one line each.
    pub(super) fn reasons(&self) -> &[String] {
        &self.reasons
    }
}

/// A line `test NAME ... OUTCOME`.
fn outcome(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("test ")?.rsplit_once(" ... ")
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let passed = self.passed.saturating_sub(self.uncaptured);
        write!(
            out,
            "{passed} passed, {} failed, {} skipped",
            self.failed,
            self.skipped()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{Stream, Tally};

    fn tally(lines: &[(Stream, &str)]) -> (String, Vec<String>) {
        let mut tally = Tally::default();
        let shown = lines.iter().filter(|(stream, line)| tally.takes(*stream, line));
        let shown = shown.map(|(_, line)| (*line).to_owned()).collect();
        (tally.to_string(), shown)
    }

    const OUT: Stream = Stream::Output;

    #[test]
    fn programs_are_summed() {
        let one =
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        let two = "test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(
            tally(&[(OUT, one), (OUT, two)]).0,
            "7 passed, 2 failed, 1 skipped"
        );
    }

    #[test]
    fn a_test_that_passes_in_a_second_run_is_known_by_name() {
        let run = |lines: &[&str]| {
            let mut tally = Tally::default();
            for line in lines {
                tally.takes(OUT, line);
            }
            tally
        };
        let mut first = run(&[
            "test a::one ... FAILED",
            "test a::two ... FAILED",
            "test b::three ... FAILED",
            "test b::four ... ok",
            "test result: FAILED. 1 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out",
        ]);
        // `three` stands in two programs and fails in one of them again.
        let second = run(&[
            "test a::one ... ok",
            "test a::two ... FAILED",
            "test b::three ... ok",
            "test b::three ... FAILED",
            "test result: FAILED. 2 passed; 2 failed; 0 ignored; 0 measured; 9 filtered out",
        ]);
        assert_eq!(first.settle(&second), ["a::one"]);
        assert_eq!(first.to_string(), "2 passed, 2 failed, 0 skipped");
        assert_eq!(first.failures().len(), 2);
    }

    #[test]
    fn a_passed_test_that_says_skipped_is_no_pass() {
        let lines = [
            (OUT, "test a ... ok"),
            (OUT, "successes:"),
            (OUT, "---- a stdout ----"),
            (OUT, "noise"),
            (OUT, "SKIPPED: no nginx"),
            (OUT, "SKIPPED: no nginx, again"),
            (
                OUT,
                "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
            ),
        ];
        let (sums, shown) = tally(&lines);
        assert_eq!(sums, "1 passed, 0 failed, 1 skipped");
        assert_eq!(shown.len(), 2, "what passed tests said is hidden: {shown:?}");
    }

    #[test]
    fn a_failed_test_that_says_skipped_is_a_failure() {
        let lines = [
            (OUT, "failures:"),
            (OUT, "---- a stdout ----"),
            (OUT, "SKIPPED: part of it"),
            (
                OUT,
                "test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out",
            ),
        ];
        assert_eq!(tally(&lines).0, "0 passed, 1 failed, 0 skipped");
    }

    #[test]
    fn a_skip_past_the_capture_counts_before_and_after_the_result() {
        let lines = [
            (Stream::Errors, "SKIPPED: one: no root"),
            (
                OUT,
                "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
            ),
            (Stream::Errors, "SKIPPED: two: no root"),
        ];
        assert_eq!(tally(&lines).0, "1 passed, 0 failed, 2 skipped");
    }
}
