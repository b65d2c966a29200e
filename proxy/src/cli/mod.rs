//! The command line: what was asked for, and what the exit code says of how it went.

use crate::{control, fault::with_causes, gate};
use sallyport_config::diagnostic::Diagnostic;
use std::{
    error::Error,
    ffi::OsString,
    io::Write,
    path::{Path, PathBuf},
};

/// Where the configuration is unless `--config` says otherwise.
const DEFAULT_CONFIG: &str = "/etc/sallyport/sallyport.toml";

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

const HELP: &str = "\
sallyport: a gateway with an XDP allowlist gate in front of a TLS and HTTP proxy

usage: sallyport COMMAND [--config FILE]

commands:
  run                                the proxy
  check [--format text|json]         validate the configuration and every file that it names
  status [--format text|json]        what the running proxy does
  reload                             validate, then apply the configuration to the running proxy
  gate run [--debug-object FILE]     the gate's process; with the programs of FILE, which log what passes
  gate status [--format text|json]   what the gate does
  gate off [--interface IF] [--offline]
                                     take the kernel filter away

options:
  --config FILE    default /etc/sallyport/sallyport.toml
  --help, --version

exit codes: 0 done, 1 failed, 64 bad usage, 69 a needed service is not there, 77 not permitted, 78 bad configuration
";

/// How a report is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Format {
    #[default]
    Text,
    Json,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Command {
    Help,
    Version,
    Run,
    Check,
    Status,
    Reload,
    GateRun,
    GateStatus,
    GateOff,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Invocation {
    command: Command,
    config: PathBuf,
    format: Format,
    interface: Option<String>,
    debug_object: Option<PathBuf>,
    reach: gate::Reach,
}

/// Runs the program and returns its exit code.
pub fn main(arguments: impl Iterator<Item = OsString>) -> u8 {
    let invocation = match parse(arguments) {
        Ok(invocation) => invocation,
        Err(error) => {
            say_error(&format!("{error}; `sallyport --help` lists what there is"));
            return USAGE;
        }
    };
    match invocation.command {
        Command::Help => say(HELP),
        Command::Version => say(concat!("sallyport ", env!("CARGO_PKG_VERSION"), "\n")),
        Command::Run => run(&invocation),
        Command::Check => check(&invocation),
        Command::Status => status(&invocation),
        Command::Reload => reload(&invocation),
        Command::GateRun | Command::GateStatus | Command::GateOff => gate_command(&invocation),
    }
}

fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Invocation, String> {
    let mut words = Vec::new();
    let mut invocation = Invocation {
        command: Command::Help,
        config: PathBuf::from(DEFAULT_CONFIG),
        format: Format::Text,
        interface: None,
        debug_object: None,
        reach: gate::Reach::Daemon,
    };
    let mut rest = arguments;
    while let Some(argument) = rest.next() {
        let text = argument.to_string_lossy().into_owned();
        let (option, joined) = match text.split_once('=') {
            Some((option, value)) if option.starts_with("--") => {
                (option.to_owned(), Some(OsString::from(value)))
            }
            _ => (text, None),
        };
        let mut value = || {
            joined
                .clone()
                .or_else(|| rest.next())
                .ok_or(format!("`{option}` needs a value"))
        };
        match option.as_str() {
            "--config" => invocation.config = value()?.into(),
            "--format" => invocation.format = format_of(&value()?.to_string_lossy())?,
            "--interface" => invocation.interface = Some(value()?.to_string_lossy().into_owned()),
            "--debug-object" => invocation.debug_object = Some(value()?.into()),
            "--offline" => invocation.reach = gate::Reach::Pins,
            "--help" | "-h" => words = vec!["help".to_owned()],
            "--version" | "-V" => words = vec!["version".to_owned()],
            other if other.starts_with('-') => return Err(format!("unknown option `{other}`")),
            _ => words.push(option),
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    invocation.command = command_of(&words)?;
    if invocation.debug_object.is_some() && invocation.command != Command::GateRun {
        return Err("`--debug-object` is an option of `gate run` alone".to_owned());
    }
    Ok(invocation)
}

fn command_of(words: &[&str]) -> Result<Command, String> {
    match words {
        ["help"] => Ok(Command::Help),
        ["version"] => Ok(Command::Version),
        ["run"] => Ok(Command::Run),
        ["check"] => Ok(Command::Check),
        ["status"] => Ok(Command::Status),
        ["reload"] => Ok(Command::Reload),
        ["gate", "run"] => Ok(Command::GateRun),
        ["gate", "status"] => Ok(Command::GateStatus),
        ["gate", "off"] => Ok(Command::GateOff),
        ["gate", later @ ("top" | "explain" | "apply" | "confirm"), ..] => {
            Err(format!("`gate {later}` is not supported yet"))
        }
        [later @ ("completions" | "man"), ..] => Err(format!("`{later}` is not supported yet")),
        [] => Err("no command given".to_owned()),
        other => Err(format!("unknown command `{}`", other.join(" "))),
    }
}

fn format_of(word: &str) -> Result<Format, String> {
    match word {
        "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        other => Err(format!(
            "`--format {other}` is unknown, expected `text` or `json`"
        )),
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

fn gate_command(invocation: &Invocation) -> u8 {
    let loaded = match control::load::load(&invocation.config) {
        Ok(loaded) => loaded,
        Err(problems) => {
            say_problems(&problems);
            return CONFIG;
        }
    };
    let config = &loaded.config;
    let outcome = match invocation.command {
        Command::GateRun => match control::start_log(&config.log) {
            Ok(()) => gate::run(config, &loaded.lists, invocation.debug_object.as_deref()).map(|()| OK),
            Err(error) => {
                say_failure(&error);
                return CONFIG;
            }
        },
        Command::GateStatus => gate::status(config).map(|status| match invocation.format {
            Format::Json => say_json(&status),
            Format::Text => say(&status.to_string()),
        }),
        _ => gate::off(config, invocation.interface.as_deref(), invocation.reach).map(|()| OK),
    };
    outcome.unwrap_or_else(|error| {
        say_failure(&error);
        error.exit_code()
    })
}

/// Prints to standard output; a closed pipe is the reader's choice.
fn say(text: &str) -> u8 {
    let _ = std::io::stdout().write_all(text.as_bytes());
    OK
}

fn say_json(document: &impl serde::Serialize) -> u8 {
    match serde_json::to_string_pretty(document) {
        Ok(text) => say(&format!("{text}\n")),
        Err(error) => {
            say_failure(&error);
            FAILED
        }
    }
}

fn say_error(text: &str) {
    // Nobody may be reading.
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn say_problems(problems: &[Diagnostic]) {
    for problem in problems {
        say_error(&problem.to_string());
    }
}

fn say_failure(error: &dyn Error) {
    say_error(&format!("sallyport: {}", with_causes(error)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Invocation, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn commands_and_options_stand_in_any_order() {
        let run = parsed("run").expect("a command");
        assert_eq!(
            (run.command, run.config),
            (Command::Run, PathBuf::from(DEFAULT_CONFIG))
        );
        let status = parsed("--config=/a.toml gate --format json status").expect("a command");
        assert_eq!(
            (status.command, status.format),
            (Command::GateStatus, Format::Json)
        );
        assert_eq!(status.config, PathBuf::from("/a.toml"));
        let off = parsed("gate off --interface eth0 --offline").expect("a command");
        assert_eq!(
            (off.interface.as_deref(), off.reach),
            (Some("eth0"), gate::Reach::Pins)
        );
        let debug = parsed("gate run --debug-object=/gate.o").expect("a command");
        assert_eq!(
            (debug.command, debug.debug_object),
            (Command::GateRun, Some(PathBuf::from("/gate.o")))
        );
        assert_eq!(parsed("--version").map(|i| i.command), Ok(Command::Version));
    }

    #[test]
    fn what_is_not_a_command_is_refused_with_its_name() {
        for (line, word) in [
            ("", "no command"),
            ("walk", "`walk`"),
            ("run now", "`run now`"),
            ("run --fast", "`--fast`"),
            ("run --config", "needs a value"),
            ("gate run --debug-object", "needs a value"),
            ("gate status --debug-object /gate.o", "`gate run` alone"),
            ("check --format xml", "`text` or `json`"),
            ("gate explain 192.0.2.1 443", "not supported yet"),
        ] {
            let error = parsed(line).expect_err(line);
            assert!(error.contains(word), "{line}: {error}");
        }
    }
}
