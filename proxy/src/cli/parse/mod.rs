//! What was asked for: words and options in, an [`Invocation`] or what is wrong with them out.
//!
//! It runs nothing. Every command takes the options that it knows; what is left over is refused by name.

use crate::gate;
use std::{
    collections::BTreeMap, ffi::OsString, net::IpAddr, num::NonZeroUsize, path::PathBuf, time::Duration,
};

/// Where the configuration is unless `--config` says otherwise.
pub(super) const DEFAULT_CONFIG: &str = "/etc/sallyport/sallyport.toml";
/// The longest that a policy may wait for its confirmation.
const CONFIRM_MAX: Duration = Duration::from_secs(24 * 3600);
/// How often `gate top` may ask: the gate answers between two looks at its interfaces.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(3600);

/// The text of `--help`.
pub(super) const HELP: &str = "\
sallyport: a gateway with an XDP allowlist gate in front of a TLS and HTTP proxy

usage: sallyport COMMAND [--config FILE]

commands:
  run                                the proxy
  check [--format text|json]         validate the configuration and every file that it names
  status [--format text|json]        what the running proxy does
  reload                             validate, then apply the configuration to the running proxy
  gate run [--debug-object FILE]     the gate's process; with the programs of FILE, which log what passes
  gate status [--format text|json]   what the gate does
  gate top [--once] [--interval 1s] [--lines N] [--format text|json]
                                     packets a second by interface, policy, reason and dropped source
  gate explain IP PORT [--interface IF] [--format text|json]
                                     what a connection from IP to PORT meets, and which prefix says so
  gate apply [--confirm 60s] [--force] [--format text|json]
                                     make the gate read the configuration again; with --confirm it counts for
                                     that time only, unless `gate confirm` follows; --force applies it although
                                     it cuts connections or a port may be taken
  gate confirm                       keep what was applied
  gate off [--interface IF] [--offline]
                                     take the kernel filter away

options:
  --config FILE    default /etc/sallyport/sallyport.toml
  --help, --version

exit codes: 0 done, 1 failed, 64 bad usage, 69 a needed service is not there, 77 not permitted, 78 bad configuration
";

/// How a report is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Print what there is.
    Help,
    /// Print the version.
    Version,
    /// The proxy.
    Run,
    /// Judge the configuration.
    Check,
    /// Ask the proxy.
    Status,
    /// Tell the proxy.
    Reload,
    /// Something of the gate.
    Gate(GateCommand),
}

/// `gate VERB`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum GateCommand {
    /// The gate's process.
    Run {
        /// The file with other programs.
        debug_object: Option<PathBuf>,
    },
    /// What it does.
    Status,
    /// What it counts.
    Top(gate::Pace),
    /// What a connection meets.
    Explain(gate::Question),
    /// Make it read its configuration.
    Apply(gate::Apply),
    /// Keep what was applied.
    Confirm,
    /// Take the filter away.
    Off {
        /// From one interface alone.
        interface: Option<String>,
        /// How.
        reach: gate::Reach,
    },
}

/// A whole command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Invocation {
    /// What to do.
    pub(super) command: Command,
    /// The main file.
    pub(super) config: PathBuf,
    /// How to print.
    pub(super) format: Format,
}

/// Options with a value, then those without.
const VALUED: [&str; 7] = [
    "--config",
    "--format",
    "--interface",
    "--debug-object",
    "--confirm",
    "--interval",
    "--lines",
];
const FLAGS: [&str; 3] = ["--offline", "--force", "--once"];

/// Reads a command line without the program's name.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Invocation, String> {
    let mut words = Vec::new();
    let mut options = Options::default();
    let mut rest = arguments;
    while let Some(argument) = rest.next() {
        let text = argument.to_string_lossy().into_owned();
        let (name, joined) = match text.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name.to_owned(), Some(OsString::from(value))),
            _ => (text, None),
        };
        match name.as_str() {
            "--help" | "-h" => words = vec!["help".to_owned()],
            "--version" | "-V" => words = vec!["version".to_owned()],
            name if VALUED.contains(&name) => {
                let value = joined.or_else(|| rest.next());
                let value = value.ok_or_else(|| format!("`{name}` needs a value"))?;
                options.given.insert(name.to_owned(), value);
            }
            name if FLAGS.contains(&name) && joined.is_some() => {
                return Err(format!("`{name}` takes no value"));
            }
            name if FLAGS.contains(&name) => {
                options.given.insert(name.to_owned(), OsString::new());
            }
            name if name.starts_with('-') => return Err(format!("unknown option `{name}`")),
            _ => words.push(name),
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let invocation = Invocation {
        config: options
            .take("--config")
            .unwrap_or_else(|| DEFAULT_CONFIG.into())
            .into(),
        format: options
            .text("--format")
            .map_or(Ok(Format::Text), |word| format_of(&word))?,
        command: command_of(&words, &mut options)?,
    };
    options.all_taken(&words, &invocation.command)?;
    Ok(invocation)
}

/// What was given and not yet taken.
#[derive(Default)]
struct Options {
    given: BTreeMap<String, OsString>,
}

impl Options {
    fn take(&mut self, name: &str) -> Option<OsString> {
        self.given.remove(name)
    }

    fn text(&mut self, name: &str) -> Option<String> {
        self.take(name).map(|value| value.to_string_lossy().into_owned())
    }

    fn flag(&mut self, name: &str) -> bool {
        self.take(name).is_some()
    }

    fn duration(&mut self, name: &str, least: Duration, most: Duration) -> Result<Option<Duration>, String> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let wrong = |expected: String| format!("`{name} {text}` is unknown, expected {expected}");
        let time = sallyport_config::duration(&text)
            .ok_or_else(|| wrong("a whole number with the unit `ms`, `s`, `m` or `h`".to_owned()))?;
        if (least..=most).contains(&time) {
            Ok(Some(time))
        } else {
            Err(wrong(format!("from {least:?} to {most:?}")))
        }
    }

    /// Refuses what no one wanted. Whoever asks for help gets it whatever else was written.
    fn all_taken(&self, words: &[&str], command: &Command) -> Result<(), String> {
        match self.given.keys().next() {
            Some(name) if !matches!(command, Command::Help | Command::Version) => {
                let verb: Vec<&str> = words.iter().take(2).copied().collect();
                Err(format!("`{name}` is no option of `{}`", verb.join(" ")))
            }
            _ => Ok(()),
        }
    }
}

fn command_of(words: &[&str], options: &mut Options) -> Result<Command, String> {
    match words {
        ["help"] => Ok(Command::Help),
        ["version"] => Ok(Command::Version),
        ["run"] => Ok(Command::Run),
        ["check"] => Ok(Command::Check),
        ["status"] => Ok(Command::Status),
        ["reload"] => Ok(Command::Reload),
        ["gate", verb @ ..] => gate_command(verb, options).map(Command::Gate),
        [later @ ("completions" | "man"), ..] => Err(format!("`{later}` is not supported yet")),
        [] => Err("no command given".to_owned()),
        other => Err(format!("unknown command `{}`", other.join(" "))),
    }
}

fn gate_command(words: &[&str], options: &mut Options) -> Result<GateCommand, String> {
    match words {
        ["run"] => Ok(GateCommand::Run {
            debug_object: options.take("--debug-object").map(PathBuf::from),
        }),
        ["status"] => Ok(GateCommand::Status),
        ["top"] => pace(options).map(GateCommand::Top),
        ["explain", source, port] => question(source, port, options).map(GateCommand::Explain),
        ["explain", ..] => {
            Err("`gate explain` needs an address and a port, such as `192.0.2.7 443`".to_owned())
        }
        ["apply"] => apply(options).map(GateCommand::Apply),
        ["confirm"] => Ok(GateCommand::Confirm),
        ["off"] => Ok(GateCommand::Off {
            interface: options.text("--interface"),
            reach: if options.flag("--offline") {
                gate::Reach::Pins
            } else {
                gate::Reach::Daemon
            },
        }),
        other => Err(format!("unknown command `gate {}`", other.join(" "))),
    }
}

fn pace(options: &mut Options) -> Result<gate::Pace, String> {
    let interval = options.duration("--interval", INTERVAL_MIN, INTERVAL_MAX)?;
    let lines = match options.text("--lines") {
        None => None,
        Some(text) => Some(
            text.parse::<NonZeroUsize>()
                .map_err(|_| format!("`--lines {text}` is unknown, expected a number from 1"))?,
        ),
    };
    Ok(gate::Pace {
        interval: interval.unwrap_or(Duration::from_secs(1)),
        lines,
        rounds: if options.flag("--once") {
            gate::Rounds::One
        } else {
            gate::Rounds::Endless
        },
    })
}

fn question(source: &str, port: &str, options: &mut Options) -> Result<gate::Question, String> {
    Ok(gate::Question {
        source: source
            .parse::<IpAddr>()
            .map_err(|_| {
                format!("`{source}` is no address, expected one such as `192.0.2.7` or `2001:db8::7`")
            })?
            .to_canonical(),
        port: port
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| format!("`{port}` is no port, expected a number from 1 to 65535"))?,
        interface: options.text("--interface"),
    })
}

fn apply(options: &mut Options) -> Result<gate::Apply, String> {
    let confirm = options.duration("--confirm", Duration::from_secs(1), CONFIRM_MAX)?;
    if confirm.is_some_and(|time| time.subsec_nanos() != 0) {
        return Err("`--confirm` takes whole seconds, such as `60s`".to_owned());
    }
    Ok(gate::Apply {
        confirm,
        force: options.flag("--force"),
    })
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

#[cfg(test)]
mod tests;
