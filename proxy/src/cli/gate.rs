//! `gate VERB`: what each asks for, and what its answer is to people, to programs and to the shell.
//!
//! It judges nothing. Commands that must work while the configuration is broken (`confirm`, `off`, `status`, `top`)
//! read of it only where the gate is.

use super::{
    CONFIG, FAILED, OK,
    parse::{Format, GateCommand, Invocation},
    say::{say, say_error, say_failure, say_json, say_problems},
};
use crate::{
    control::{self, load::Loaded},
    gate::{self, ApplyAnswer, GateError, lists::Lists},
};
use sallyport_config::{GatePaths, diagnostic::Diagnostic};
use std::path::Path;

/// A configuration that is refused, or a gate that fails.
enum Failure {
    Invalid(Vec<Diagnostic>),
    Log(control::LogError),
    Gate(GateError),
}

impl From<GateError> for Failure {
    fn from(error: GateError) -> Self {
        Self::Gate(error)
    }
}

/// Runs a verb and returns the exit code.
pub(super) fn gate_command(invocation: &Invocation, command: &GateCommand) -> u8 {
    run(invocation, command).unwrap_or_else(|failure| match failure {
        Failure::Invalid(problems) => {
            say_problems(&problems);
            CONFIG
        }
        Failure::Log(error) => {
            say_failure(&error);
            CONFIG
        }
        Failure::Gate(error) => {
            say_failure(&error);
            error.exit_code()
        }
    })
}

/// The configuration as it is now; a file of an allowlist that had prefixes must not have none.
fn reread(path: &Path, now: &Lists) -> Result<gate::Configured, Vec<Diagnostic>> {
    let (config, base) = control::load::configuration(path)?;
    let lists = Lists::load(&config, &base, Some(now))?;
    Ok(gate::Configured { config, lists })
}

fn run(invocation: &Invocation, command: &GateCommand) -> Result<u8, Failure> {
    let format = invocation.format;
    match command {
        GateCommand::Run { debug_object } => {
            let loaded = loaded(invocation)?;
            control::start_log(&loaded.config.log).map_err(Failure::Log)?;
            let path = invocation.config.clone();
            let configured = gate::Configured {
                config: loaded.config,
                lists: loaded.files,
            };
            gate::run(
                configured,
                Box::new(move |now| reread(&path, now)),
                debug_object.as_deref(),
            )?;
            Ok(OK)
        }
        GateCommand::Status => {
            let status = gate::status(&paths(invocation)?.socket)?;
            Ok(shown(format, &status))
        }
        GateCommand::Top(pace) => {
            let form = match format {
                Format::Text => gate::Form::Text,
                Format::Json => gate::Form::Json,
            };
            gate::top(&paths(invocation)?.socket, pace, form)?;
            Ok(OK)
        }
        GateCommand::Explain(question) => {
            let loaded = loaded(invocation)?;
            let explanation = gate::explain(&loaded.config, &loaded.lists, &loaded.base, question)?;
            Ok(shown(format, &explanation))
        }
        GateCommand::Apply(apply) => {
            let answer = gate::apply(&paths(invocation)?.socket, *apply)?;
            Ok(applied(format, &answer))
        }
        GateCommand::Confirm => {
            gate::confirm(&paths(invocation)?.socket)?;
            Ok(match format {
                Format::Text => say("confirmed: the applied policy counts from now on\n"),
                Format::Json => say_json(&serde_json::json!({ "version": 1, "confirmed": true })),
            })
        }
        GateCommand::Off { interface, reach } => {
            gate::off(&paths(invocation)?, interface.as_deref(), *reach)?;
            Ok(OK)
        }
    }
}

fn loaded(invocation: &Invocation) -> Result<Loaded, Failure> {
    control::load::load(&invocation.config).map_err(Failure::Invalid)
}

fn paths(invocation: &Invocation) -> Result<GatePaths, Failure> {
    let sources = control::load::sources(&invocation.config).map_err(Failure::Invalid)?;
    let paths = sallyport_config::gate_paths(&sources);
    if sallyport_config::parse(&sources).is_err() {
        let GatePaths { socket, pin_dir } = &paths;
        say_error(&format!(
            "warning: the configuration is not valid; the gate is looked for at `{}` and `{}`",
            socket.display(),
            pin_dir.display()
        ));
    }
    Ok(paths)
}

fn shown(format: Format, document: &(impl serde::Serialize + std::fmt::Display)) -> u8 {
    match format {
        Format::Text => say(&document.to_string()),
        Format::Json => say_json(document),
    }
}

/// What is done goes to standard output, what was refused to standard error; a document always to the former.
fn applied(format: Format, answer: &ApplyAnswer) -> u8 {
    if format == Format::Json {
        let _printed = say_json(&answer.document());
    }
    let text = format == Format::Text;
    match answer {
        ApplyAnswer::Applied(applied) => {
            if text {
                applied
                    .warnings
                    .iter()
                    .for_each(|line| say_error(&format!("warning: {line}")));
                say(&applied.to_string());
            }
            OK
        }
        ApplyAnswer::Refused(refusal) => {
            if text {
                say_error(refusal.to_string().trim_end());
            }
            FAILED
        }
        ApplyAnswer::Invalid(problems) => {
            if text {
                problems.iter().for_each(|line| say_error(line));
            }
            CONFIG
        }
    }
}
