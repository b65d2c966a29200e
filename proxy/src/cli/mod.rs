//! The command line: what was asked for, and what the exit code says of how it went.

mod gate;
mod parse;
mod say;

use crate::control;
use gate::gate_command;
use parse::{Command, Format, HELP, Invocation, parse};
use sallyport_config::diagnostic::Diagnostic;
use say::{say, say_error, say_failure, say_json, say_problems};
use std::{ffi::OsString, path::Path};

/// Done.
const OK: u8 = 0;
/// Failed while running.
const FAILED: u8 = 1;
/// Bad usage (`sysexits.h`).
const USAGE: u8 = 64;
/// A service it needs is not there.
const UNAVAILABLE: u8 = 69;
/// Not permitted.
const NOT_PERMITTED: u8 = 77;
/// Bad configuration.
const CONFIG: u8 = 78;

/// Runs the program and returns its exit code.
pub fn main(arguments: impl Iterator<Item = OsString>) -> u8 {
    let invocation = match parse(arguments) {
        Ok(invocation) => invocation,
        Err(error) => {
            say_error(&format!("{error}; `sallyport --help` lists what there is"));
            return USAGE;
        }
    };
    match &invocation.command {
        Command::Help => say(HELP),
        Command::Version => say(concat!("sallyport ", env!("CARGO_PKG_VERSION"), "\n")),
        Command::Run => run(&invocation),
        Command::Check => check(&invocation),
        Command::Status => status(&invocation),
        Command::Reload => reload(&invocation),
        Command::Gate(command) => gate_command(&invocation, command),
    }
}

fn run(invocation: &Invocation) -> u8 {
    match control::run(&invocation.config) {
        Ok(()) => OK,
        Err(control::RunError::Invalid(problems)) => {
            say_problems(&problems);
            CONFIG
        }
        Err(error) => {
            say_failure(&error);
            match error {
                control::RunError::Driver(_) => UNAVAILABLE,
                control::RunError::Log(_) => CONFIG,
                control::RunError::Bind(refused) if refused.is_permission() => NOT_PERMITTED,
                _ => FAILED,
            }
        }
    }
}

fn check(invocation: &Invocation) -> u8 {
    let outcome = control::check(&invocation.config);
    let file = invocation.config.display();
    match (outcome, invocation.format) {
        (Ok(loaded), Format::Text) => {
            for warning in &loaded.config.warnings {
                say_error(&format!("warning: {warning}"));
            }
            say(&format!("{file}: valid\n"))
        }
        (Ok(loaded), Format::Json) => {
            let warnings: Vec<_> = loaded.config.warnings.iter().map(as_json).collect();
            say_json(
                &serde_json::json!({ "version": 1, "valid": true, "diagnostics": [], "warnings": warnings }),
            )
        }
        (Err(problems), Format::Text) => {
            say_problems(&problems);
            CONFIG
        }
        (Err(problems), Format::Json) => {
            let problems: Vec<_> = problems.iter().map(as_json).collect();
            say_json(
                &serde_json::json!({ "version": 1, "valid": false, "diagnostics": problems, "warnings": [] }),
            );
            CONFIG
        }
    }
}

fn as_json(problem: &Diagnostic) -> serde_json::Value {
    serde_json::json!({
        "file": &*problem.at.file,
        "line": problem.at.line,
        "column": problem.at.column,
        "message": problem.message,
    })
}

/// The admin socket is the configuration's; a configuration that is broken now still tells its place in
/// most cases, and the default is tried otherwise.
fn with_admin(
    path: &Path,
    ask: impl FnOnce(&Path) -> Result<serde_json::Value, control::AskError>,
) -> Result<serde_json::Value, u8> {
    let socket = control::admin_socket(path);
    ask(&socket).map_err(|error| {
        say_failure(&error);
        match error {
            control::AskError::Connect { .. } => UNAVAILABLE,
            control::AskError::Refused(lines) => {
                lines.iter().for_each(|line| say_error(line));
                CONFIG
            }
            control::AskError::Http(_) | control::AskError::Answer(_) => FAILED,
        }
    })
}

fn status(invocation: &Invocation) -> u8 {
    match with_admin(&invocation.config, control::ask) {
        Err(code) => code,
        Ok(document) => match invocation.format {
            Format::Json => say_json(&document),
            Format::Text => say(&control::status_text(&document)),
        },
    }
}

fn reload(invocation: &Invocation) -> u8 {
    match with_admin(&invocation.config, control::ask_reload) {
        Err(code) => code,
        Ok(answer) => {
            let generation = answer
                .get("generation")
                .and_then(serde_json::Value::as_u64)
                .unwrap_or_default();
            say(&format!("reloaded, generation {generation}\n"))
        }
    }
}
