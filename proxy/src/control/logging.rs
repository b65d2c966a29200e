//! The operator's log: `tracing` to standard error, as text or JSON.

use sallyport_config::{
    diagnostic::Diagnostic,
    model::{Log, LogFormat},
};
use std::io::{IsTerminal, stderr};
use tracing_subscriber::EnvFilter;

/// The log cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the log: {0}")]
pub struct LogError(String);

/// Checks what only the log's library can tell.
///
/// # Errors
/// Where `log.level` is not a filter.
pub(super) fn check(log: &Log) -> Result<(), Vec<Diagnostic>> {
    filter(log).map(drop).map_err(|problem| vec![problem])
}

/// Starts the log of this process.
///
/// # Errors
/// Where `log.level` is not a filter, or the log was started already.
pub fn start(log: &Log) -> Result<(), LogError> {
    let filter = filter(log).map_err(|problem| LogError(problem.to_string()))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_target(false);
    let started = match log.format {
        LogFormat::Text => builder.with_ansi(stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| LogError(error.to_string()))
}

fn filter(log: &Log) -> Result<EnvFilter, Diagnostic> {
    EnvFilter::builder().parse(&log.level.value).map_err(|error| Diagnostic {
        at: log.level.at.clone(),
        message: format!(
            "`log.level`: {error}, expected `error`, `warn`, `info`, `debug`, `trace` or tracing filter directives; the proxy cannot log; write such a filter"
        ),
    })
}
