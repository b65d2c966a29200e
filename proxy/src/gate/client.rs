//! Asking a running gate, from the command line.

use super::{
    error::GateError,
    preflight::Refusal,
    socket::{ANSWER_BYTES_MAX, STATUS_REQUEST},
    status::Status,
    top::Top,
};
use nix::unistd::Uid;
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

/// How long the gate may take: it answers between two changes of policy.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long a policy may take to be read and installed: a million prefixes take some seconds.
const APPLY_LIMIT: Duration = Duration::from_secs(120);

/// A gate's answer: one of its fields is there.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Answer {
    status: Option<Status>,
    top: Option<Top>,
    applied: Option<Applied>,
    refused: Option<Refusal>,
    invalid: Option<Vec<String>>,
    done: Option<bool>,
    error: Option<String>,
}

/// What `gate apply` is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Apply {
    /// How long the policy counts unless it is confirmed, in whole seconds.
    pub confirm: Option<Duration>,
    /// Whether it is applied although the pre-flight warns.
    pub force: bool,
}

/// A policy that was applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// How often a policy was installed.
    pub generation: u64,
    /// Of the policy.
    pub digest: String,
    /// Prefixes in the kernel, of both families.
    pub prefixes: u64,
    /// What is different now, a line each.
    #[serde(default)]
    pub changes: Vec<String>,
    /// Seconds within which it is to be confirmed.
    #[serde(default)]
    pub confirm_within: Option<u64>,
    /// What the operator should know.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// What became of `gate apply`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyAnswer {
    /// It counts.
    Applied(Applied),
    /// The pre-flight warns, and no force was used.
    Refused(Refusal),
    /// The configuration is broken: its diagnostics.
    Invalid(Vec<String>),
}

/// Asks for the status.
///
/// # Errors
/// Where no gate answers.
pub fn status(socket: &Path) -> Result<Status, GateError> {
    ask(socket, STATUS_REQUEST)?.status.ok_or_else(|| lacks("status"))
}

/// Asks for what it counts.
///
/// # Errors
/// Where no gate answers.
pub(super) fn counts(socket: &Path) -> Result<Top, GateError> {
    ask(socket, "top\n")?.top.ok_or_else(|| lacks("counts"))
}

/// Makes the gate read its configuration again and apply it.
///
/// # Errors
/// Where this is not root's, or no gate answers.
pub fn apply(socket: &Path, apply: Apply) -> Result<ApplyAnswer, GateError> {
    must_be_root("gate apply")?;
    let wanted = serde_json::json!({
        "confirm": apply.confirm.map(|time| time.as_secs()),
        "force": apply.force,
    });
    let answer = ask_within(socket, &format!("apply {wanted}\n"), APPLY_LIMIT)?;
    let applied = answer.applied.map(ApplyAnswer::Applied);
    applied
        .or_else(|| answer.refused.map(ApplyAnswer::Refused))
        .or_else(|| answer.invalid.map(ApplyAnswer::Invalid))
        .ok_or_else(|| lacks("word on the policy"))
}

/// Makes what was applied the policy that stays.
///
/// # Errors
/// Where this is not root's, no gate answers, or there is nothing to confirm.
pub fn confirm(socket: &Path) -> Result<(), GateError> {
    must_be_root("gate confirm")?;
    let answer = ask(socket, "confirm\n")?;
    match answer.done {
        Some(true) => Ok(()),
        _ => Err(lacks("word on the policy")),
    }
}

/// Refuses whoever is not root, before the gate does.
///
/// # Errors
/// Where this process is not root's.
pub(super) fn must_be_root(verb: &'static str) -> Result<(), GateError> {
    if Uid::effective().is_root() {
        Ok(())
    } else {
        Err(GateError::NotRoot(verb))
    }
}

fn lacks(what: &str) -> GateError {
    GateError::Answer(format!("it has no {what}; is the gate of another version?"))
}

/// Sends one request.
///
/// # Errors
/// Where no gate answers, or it refuses.
pub(super) fn ask(socket: &Path, request: &str) -> Result<Answer, GateError> {
    ask_within(socket, request, ANSWER_LIMIT)
}

fn ask_within(socket: &Path, request: &str, limit: Duration) -> Result<Answer, GateError> {
    let line = exchange(socket, request, limit).map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => GateError::NotAllowed {
            path: socket.to_owned(),
            source,
        },
        _ => GateError::NoDaemon {
            path: socket.to_owned(),
            source,
        },
    })?;
    read(&line)
}

/// Sends one line and returns the line that answers it.
///
/// # Errors
/// Where nobody listens, or the answer takes too long.
pub(super) fn exchange(socket: &Path, request: &str, limit: Duration) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    stream.write_all(request.as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream.take(ANSWER_BYTES_MAX)).read_line(&mut line)?;
    if line.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "it closed the connection without an answer",
        ));
    }
    Ok(line)
}

fn read(line: &str) -> Result<Answer, GateError> {
    let answer: Answer = serde_json::from_str(line).map_err(|error| GateError::Answer(error.to_string()))?;
    match answer.error {
        Some(error) => Err(GateError::Refused(error)),
        None => Ok(answer),
    }
}

impl ApplyAnswer {
    /// The document of `--format json`.
    pub fn document(&self) -> serde_json::Value {
        match self {
            Self::Applied(applied) => serde_json::json!({ "version": 1, "applied": applied }),
            Self::Refused(refusal) => serde_json::json!({ "version": 1, "refused": refusal }),
            Self::Invalid(problems) => serde_json::json!({ "version": 1, "invalid": problems }),
        }
    }
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            generation,
            digest,
            prefixes,
            ..
        } = self;
        writeln!(
            f,
            "applied: generation {generation}, {prefixes} prefixes, digest {digest}"
        )?;
        for change in &self.changes {
            writeln!(f, "  {change}")?;
        }
        match self.confirm_within {
            Some(seconds) => writeln!(
                f,
                "confirm within {seconds}s with `sallyport gate confirm`, else the last confirmed policy counts again"
            ),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn answers_are_told_apart() {
        let applied = r#"{"applied":{"generation":8,"digest":"ab","prefixes":12,"changes":["mode: `observe` to `enforce`"],"confirm_within":60,"warnings":["w"]}}"#;
        let applied = read(applied).expect("an answer").applied.expect("applied");
        let text = applied.to_string();
        assert!(
            text.starts_with("applied: generation 8, 12 prefixes, digest ab\n  mode: `observe` to"),
            "{text}"
        );
        assert!(text.ends_with("confirm within 60s with `sallyport gate confirm`, else the last confirmed policy counts again\n"), "{text}");
        let short = read(r#"{"applied":{"generation":8,"digest":"ab","prefixes":12,"confirm_within":null}}"#);
        let short = short.expect("an answer").applied.expect("applied").to_string();
        assert_eq!(short, "applied: generation 8, 12 prefixes, digest ab\n");
        let refused = r#"{"refused":{"reasons":["r"],"connections":[{"entry_point":"web","local":"192.0.2.1:443","peer":"198.51.100.7:5555"}],"more":2}}"#;
        assert_eq!(
            read(refused).expect("an answer").refused.expect("refused").more,
            2
        );
        assert!(matches!(read(r#"{"error":"no"}"#), Err(GateError::Refused(why)) if why == "no"));
        for other in ["", "{", "3", "{\"top\":{}}"] {
            assert!(matches!(read(other), Err(GateError::Answer(_))), "{other}");
        }
    }

    #[test]
    fn a_gate_that_closes_without_a_word_does_not_answer() {
        let path = std::env::temp_dir().join(format!("sallyport-client-{}.sock", std::process::id()));
        let listener = UnixListener::bind(&path).expect("a socket");
        let closes = std::thread::spawn(move || listener.accept().map(drop));
        let failure = ask(&path, STATUS_REQUEST).expect_err("no answer");
        closes.join().expect("no panic").expect("a client");
        std::fs::remove_file(&path).expect("it is there");
        assert!(matches!(failure, GateError::NoDaemon { .. }), "{failure}");
        let gone = ask(&path, STATUS_REQUEST).expect_err("nobody");
        assert_eq!(gone.exit_code(), 69);
    }
}
