//! Command lines, good and bad.

use super::{Command, DEFAULT_CONFIG, Format, GateCommand, HELP, Invocation, parse};
use crate::gate::{Apply, Pace, Question, Reach, Rounds};
use std::{ffi::OsString, num::NonZeroUsize, path::PathBuf, time::Duration};

fn parsed(line: &str) -> Result<Invocation, String> {
    parse(line.split_whitespace().map(OsString::from))
}

fn gate(line: &str) -> GateCommand {
    match parsed(line).map(|invocation| invocation.command) {
        Ok(Command::Gate(command)) => command,
        other => panic!("{line}: {other:?}"),
    }
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
        (Command::Gate(GateCommand::Status), Format::Json)
    );
    assert_eq!(status.config, PathBuf::from("/a.toml"));
    assert_eq!(
        gate("gate off --interface eth0 --offline"),
        GateCommand::Off {
            interface: Some("eth0".to_owned()),
            reach: Reach::Pins
        }
    );
    assert_eq!(
        gate("gate off"),
        GateCommand::Off {
            interface: None,
            reach: Reach::Daemon
        }
    );
    assert_eq!(
        gate("gate run --debug-object=/gate.o"),
        GateCommand::Run {
            debug_object: Some(PathBuf::from("/gate.o"))
        }
    );
    assert_eq!(parsed("--version").map(|i| i.command), Ok(Command::Version));
    assert_eq!(
        parsed("gate top --once --help").map(|i| i.command),
        Ok(Command::Help)
    );
}

#[test]
fn apply_and_confirm_say_how_long_and_whether_by_force() {
    let apply = |line: &str| match gate(line) {
        GateCommand::Apply(Apply { confirm, force }) => (confirm, force),
        other => panic!("{other:?}"),
    };
    assert_eq!(apply("gate apply"), (None, false));
    assert_eq!(
        apply("gate apply --confirm 60s"),
        (Some(Duration::from_secs(60)), false)
    );
    assert_eq!(
        apply("gate --force apply --confirm=2m"),
        (Some(Duration::from_secs(120)), true)
    );
    assert_eq!(
        apply("gate apply --confirm 24h"),
        (Some(Duration::from_secs(86_400)), false)
    );
    assert_eq!(gate("gate confirm"), GateCommand::Confirm);
}

#[test]
fn top_has_an_interval_lines_and_rounds() {
    let pace = |line: &str| match gate(line) {
        GateCommand::Top(pace) => pace,
        other => panic!("{other:?}"),
    };
    let usual = Pace {
        interval: Duration::from_secs(1),
        lines: None,
        rounds: Rounds::Endless,
    };
    assert_eq!(pace("gate top"), usual);
    assert_eq!(
        pace("gate top --once --interval 100ms --lines 7"),
        Pace {
            interval: Duration::from_millis(100),
            lines: NonZeroUsize::new(7),
            rounds: Rounds::One
        }
    );
}

#[test]
fn explain_takes_an_address_and_a_port() {
    let question = |line: &str| match gate(line) {
        GateCommand::Explain(question) => question,
        other => panic!("{other:?}"),
    };
    let expected = |source: &str, port: u16, interface: Option<&str>| Question {
        source: source.parse().expect("an address"),
        port,
        interface: interface.map(str::to_owned),
    };
    assert_eq!(
        question("gate explain 192.0.2.7 443"),
        expected("192.0.2.7", 443, None)
    );
    assert_eq!(
        question("gate explain 2001:db8::7 1 --interface eth0"),
        expected("2001:db8::7", 1, Some("eth0"))
    );
    assert_eq!(
        question("gate explain ::ffff:192.0.2.7 65535"),
        expected("192.0.2.7", 65535, None)
    );
}

#[test]
fn what_is_not_a_command_is_refused_with_its_name() {
    for (line, word) in [
        ("", "no command"),
        ("walk", "`walk`"),
        ("run now", "`run now`"),
        ("run --fast", "`--fast`"),
        ("run --config", "needs a value"),
        ("run --force", "`--force` is no option of `run`"),
        ("gate", "`gate "),
        ("gate walk", "`gate walk`"),
        ("gate run --debug-object", "needs a value"),
        ("gate status --debug-object /gate.o", "no option of `gate status`"),
        ("gate confirm --force", "no option of `gate confirm`"),
        ("gate apply --force=yes", "takes no value"),
        ("gate apply --confirm", "needs a value"),
        ("gate apply --confirm 60", "the unit"),
        ("gate apply --confirm 0s", "from 1s"),
        ("gate apply --confirm 1500ms", "whole seconds"),
        ("gate apply --confirm 25h", "to 86400s"),
        ("gate apply --confirm 99999999999999999999h", "the unit"),
        ("gate top --interval 99ms", "from 100ms"),
        ("gate top --interval 2h", "to 3600s"),
        ("gate top --lines 0", "from 1"),
        ("gate top --lines x", "from 1"),
        ("gate explain", "an address and a port"),
        ("gate explain 192.0.2.1", "an address and a port"),
        ("gate explain 192.0.2.1 443 1", "an address and a port"),
        ("gate explain 192.0.2.0/24 443", "is no address"),
        ("gate explain host 443", "is no address"),
        ("gate explain 192.0.2.1 0", "is no port"),
        ("gate explain 192.0.2.1 65536", "is no port"),
        ("gate explain 192.0.2.1 443 --once", "no option of `gate explain`"),
        ("check --format xml", "`text` or `json`"),
    ] {
        let error = parsed(line).expect_err(line);
        assert!(error.contains(word), "{line}: {error}");
    }
}

#[test]
fn the_help_names_every_option_and_verb() {
    for word in super::VALUED.iter().chain(&super::FLAGS) {
        assert!(HELP.contains(word), "{word}");
    }
    for verb in ["run", "status", "top", "explain", "apply", "confirm", "off"] {
        assert!(HELP.contains(&format!("gate {verb}")), "{verb}");
    }
}
