//! What one kernel said, read and judged. Pure.
//!
//! The lines come from `init.sh`: `@@ begin PART`, what the part printed, `@@ end PART CODE SECONDS`.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};

/// The four programs.
pub(super) const PROGRAMS: [&str; 4] = ["gate_xdp", "gate_xdp_nofrags", "gate_tc_l2", "gate_tc_l3"];

/// One kernel's run.
pub(super) struct Report {
    /// What `uname -r` said.
    pub(super) release: String,
    parts: Vec<Part>,
    took: Duration,
}

struct Part {
    name: String,
    code: i32,
    text: String,
}

/// Something that must be so, and whether it is.
pub(super) struct Finding {
    /// On which kernel.
    kernel: String,
    /// Whether it is as it must be.
    pub(super) good: bool,
    /// What was found, and what was expected where that differs.
    text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.good { "ok" } else { "FAILED" };
        write!(f, "{word:>6}  {:5}  {}", self.kernel, self.text)
    }
}

/// Major and minor number at the beginning of a release or series.
pub(super) fn version(release: &str) -> Option<(u32, u32)> {
    let (major, rest) = release.split_once('.')?;
    let minor = rest.split(|letter: char| !letter.is_ascii_digit()).next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

impl Report {
    /// Reads a console.
    ///
    /// # Errors
    /// A run that has no kernel line or broke off before its end.
    pub(super) fn read(said: &str, took: Duration) -> Result<Self> {
        let mut report = Self {
            release: String::new(),
            parts: Vec::new(),
            took,
        };
        let mut done = false;
        for line in said.lines() {
            // Whoever spoke before may have left the line unfinished.
            let Some((before, words)) = line.split_once("@@ ") else {
                report.say(line);
                continue;
            };
            report.say(before);
            match words.split_whitespace().collect::<Vec<_>>()[..] {
                ["kernel", release] => release.clone_into(&mut report.release),
                ["begin", name] => report.parts.push(Part {
                    name: name.to_owned(),
                    code: -1,
                    text: String::new(),
                }),
                ["end", name, code, ..] => report.end(name, code)?,
                ["done"] => done = true,
                _ => report.say(line),
            }
        }
        anyhow::ensure!(done, "the run broke off after `{}`", report.last());
        version(&report.release).context("no line says which kernel it is")?;
        Ok(report)
    }

    fn last(&self) -> &str {
        self.parts.last().map_or("the start", |part| &part.name)
    }

    fn say(&mut self, line: &str) {
        if let Some(part) = self.parts.last_mut() {
            part.text += line;
            part.text.push('\n');
        }
    }

    fn end(&mut self, name: &str, code: &str) -> Result<()> {
        let part = self.parts.last_mut().filter(|part| part.name == name);
        let part = part.with_context(|| format!("`{name}` ended without a beginning"))?;
        part.code = code
            .parse()
            .with_context(|| format!("`{name}` ended with `{code}`"))?;
        Ok(())
    }

    fn part(&self, name: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.name == name)
    }

    /// `6.12` of `6.12.117+deb12-cloud-amd64`.
    pub(super) fn series(&self) -> String {
        version(&self.release).map_or_else(String::new, |(major, minor)| format!("{major}.{minor}"))
    }

    /// How many instructions the verifier walked for a program, with all capabilities that the gate may have.
    pub(super) fn verified(&self, program: &str) -> Option<u32> {
        count_in(&self.part("packets")?.text, program)
    }

    /// Why the verifier refuses the programs without CAP_PERFMON; `None` where it does not.
    pub(super) fn refusal(&self) -> Option<String> {
        let part = self.part("probe").filter(|part| part.code != 0)?;
        let mut lines = part.text.lines();
        let end = lines.position(|line| line.trim_start().starts_with("verification time"))?;
        let before = part.text.lines().nth(end.checked_sub(1)?)?;
        Some(before.trim().to_owned())
    }

    /// Holds what was said to what must be.
    pub(super) fn judge(&self) -> Vec<Finding> {
        let mut findings = vec![self.vectors(), self.counts()];
        findings.extend(self.probe());
        for name in ["modules", "network"] {
            if let Some(part) = self.part(name).filter(|part| part.code != 0) {
                findings.push(self.finding(
                    false,
                    format!("`{name}` of the guest failed: {}", part.text.trim()),
                ));
            }
        }
        // TCX came with Linux 6.6; before it the filter is one of a clsact queueing discipline.
        let tc = if version(&self.release) >= Some((6, 6)) {
            "tcx"
        } else {
            "clsact"
        };
        for (name, wanted) in [("gate-auto", "xdp"), ("gate-tc", tc), ("gate-tun", tc)] {
            findings.extend(self.part(name).map(|part| self.attached(part, wanted)));
        }
        findings.extend(self.part("gate-two").map(|part| self.two_capabilities(part)));
        findings
    }

    fn finding(&self, good: bool, text: String) -> Finding {
        Finding {
            kernel: self.series(),
            good,
            text,
        }
    }

    fn vectors(&self) -> Finding {
        let Some(part) = self.part("packets") else {
            return self.finding(false, "the packet vectors did not run".to_owned());
        };
        let (passed, failed) = (tally(&part.text, " passed;"), tally(&part.text, " failed;"));
        let good = part.code == 0 && passed.is_some_and(|count| count > 0) && failed == Some(0);
        let shown = |count: Option<u32>| count.map_or_else(|| "no".to_owned(), |count| count.to_string());
        self.finding(
            good,
            format!(
                "packet vectors: {} tests passed, {} failed",
                shown(passed),
                shown(failed)
            ),
        )
    }

    /// With CAP_BPF and CAP_NET_ADMIN alone the programs are refused by the verifier, or judge as with all.
    fn probe(&self) -> Option<Finding> {
        let part = self.part("probe")?;
        let text = "without CAP_PERFMON";
        if let Some(why) = self.refusal() {
            return Some(self.finding(true, format!("{text}: refused by the verifier: {why}")));
        }
        let counts = PROGRAMS.map(|program| {
            let count =
                count_in(&part.text, program).map_or_else(|| "-".to_owned(), |count| count.to_string());
            format!("{program} {count}")
        });
        let failed = tally(&part.text, " failed;");
        let good = part.code == 0 && failed == Some(0);
        let shown = failed.map_or_else(|| "no sum of".to_owned(), |failed| failed.to_string());
        Some(self.finding(
            good,
            format!(
                "{text}: loaded, {shown} failed tests, instructions verified: {}",
                counts.join(", ")
            ),
        ))
    }

    fn counts(&self) -> Finding {
        let counts = PROGRAMS.map(|program| (program, self.verified(program)));
        let good = counts.iter().all(|(_, count)| count.is_some());
        let words = counts.map(|(program, count)| {
            count.map_or_else(
                || format!("{program} not loaded"),
                |count| format!("{program} {count}"),
            )
        });
        self.finding(good, format!("instructions verified: {}", words.join(", ")))
    }

    /// The gate sits where it should, and where a stranger knocked, dropped it.
    fn attached(&self, part: &Part, wanted: &str) -> Finding {
        let status = part.text.split("status:\n").nth(1).unwrap_or_default();
        let actual = word_after(status, "\"actual\"").unwrap_or("no answer");
        let reason = word_after(status, "\"reason\"").unwrap_or_default();
        let dropped = status
            .split("\"dropped\"")
            .nth(1)
            .and_then(|rest| number_after(rest, "\"source\""));
        let knocked = word_after(status, "\"name\"") == Some("g0");
        let good = actual == wanted && (!knocked || dropped.is_some_and(|count| count > 0));
        let wish = if actual == wanted {
            String::new()
        } else {
            format!(", where `{wanted}` is expected")
        };
        let text = format!(
            "`{}`: attached by `{actual}` ({reason}){wish}, {} of a stranger's packets dropped",
            part.name,
            dropped.unwrap_or(0)
        );
        self.finding(good, text)
    }

    /// With CAP_BPF and CAP_NET_ADMIN alone the gate attaches where the verifier takes the programs, and elsewhere
    /// names the capability that is missing.
    fn two_capabilities(&self, part: &Part) -> Finding {
        match self.refusal() {
            None => self.attached(part, "xdp"),
            Some(why) => {
                let named = part.text.contains("CAP_PERFMON");
                let said = if named {
                    "names it"
                } else {
                    "does not name it, which it must"
                };
                self.finding(
                    named,
                    format!("without CAP_PERFMON the programs are refused ({why}); `gate run` {said}"),
                )
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel {} in {:.0} s", self.release, self.took.as_secs_f64())
    }
}

/// How many instructions the verifier walked for a program, as the packet vectors say it.
fn count_in(text: &str, program: &str) -> Option<u32> {
    let named = format!("{program}: ");
    text.lines().find_map(|line| {
        let (before, count) = line.strip_suffix(" instructions verified")?.rsplit_once(&named)?;
        // Not the end of a longer name.
        let whole = before.is_empty() || before.ends_with(' ');
        count.parse().ok().filter(|_| whole)
    })
}

/// The number before `word` in the line that sums up the tests.
fn tally(text: &str, word: &str) -> Option<u32> {
    let line = text.lines().rev().find(|line| line.contains("test result:"))?;
    let before = line
        .split(word)
        .next()
        .filter(|before| before.len() < line.len())?;
    before.rsplit(' ').next()?.parse().ok()
}

/// The string that follows a key of a JSON document.
fn word_after<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let value = text.split_once(key)?.1.trim_start().strip_prefix(':')?;
    value.trim_start().strip_prefix('"')?.split('"').next()
}

/// The number that follows a key of a JSON document.
fn number_after(text: &str, key: &str) -> Option<u64> {
    let value = text
        .split_once(key)?
        .1
        .trim_start()
        .strip_prefix(':')?
        .trim_start();
    let end = value
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(value.len());
    value.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests;
