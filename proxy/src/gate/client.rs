//! Asking a running gate, from the command line.

use super::{
    error::GateError,
    socket::{ANSWER_BYTES_MAX, STATUS_REQUEST},
    status::Status,
};
use sallyport_config::model::Config;
use serde::Deserialize;
use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

/// How long the gate may take: it answers between two changes of policy.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// A gate's answer.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    status: Option<Status>,
    error: Option<String>,
}

/// Asks for the status.
///
/// # Errors
/// Where no gate answers.
pub fn status(config: &Config) -> Result<Status, GateError> {
    let answer = ask(&config.gate.socket, STATUS_REQUEST)?;
    answer
        .status
        .ok_or_else(|| GateError::Answer("it has no status".to_owned()))
}

/// Sends one request.
///
/// # Errors
/// Where no gate answers, or it refuses.
pub(super) fn ask(socket: &Path, request: &str) -> Result<Answer, GateError> {
    let failed = |source| GateError::NoDaemon {
        path: socket.to_owned(),
        source,
    };
    let mut stream = UnixStream::connect(socket).map_err(failed)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT)).map_err(failed)?;
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut line = String::new();
    BufReader::new(stream.take(ANSWER_BYTES_MAX))
        .read_line(&mut line)
        .map_err(failed)?;
    let answer: Answer = serde_json::from_str(&line).map_err(|error| GateError::Answer(error.to_string()))?;
    match answer.error {
        Some(error) => Err(GateError::Refused(error)),
        None => Ok(answer),
    }
}
