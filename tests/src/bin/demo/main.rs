//! The main job of Sallyport, shown in network namespaces: a table of what was done and what came back.
//!
//! Every line is measured here and now. It builds nothing and installs nothing; `cargo xtask demo` does.

mod acts;
mod stage;

use crate::stage::Stage;
use anyhow::{Result, ensure};
use sallyport_tests::case::{Verdict, can_run};
use sallyport_tests::gateway::binary;
use sallyport_tests::lab::Lab;
use sallyport_tests::signals;
use std::io::BufRead;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU8, Ordering};

/// Not every line was as expected.
const FAILED: u8 = 1;
/// Bad usage.
const USAGE: u8 = 64;
/// A program or the binary is missing.
const UNAVAILABLE: u8 = 69;
/// Not root.
const NOT_PERMITTED: u8 = 77;
/// Ended by Ctrl-C, as shells report it.
const INTERRUPTED: u8 = 130;

/// What Ctrl-C leaves with: once `--keep` waits, leaving is no failure.
static ON_SIGNAL: AtomicU8 = AtomicU8::new(INTERRUPTED);

/// What becomes of the lab after the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Leave,
    Keep,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let after = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => After::Leave,
        ["--keep"] => After::Keep,
        _ => return complain(USAGE, "usage: demo [--keep]"),
    };
    if !nix::unistd::geteuid().is_root() {
        return complain(
            NOT_PERMITTED,
            "the demo needs root for its network namespaces: run `sudo -E cargo xtask demo`",
        );
    }
    if let Verdict::Skip(why) = can_run() {
        return complain(UNAVAILABLE, &format!("the demo {why}: run `cargo xtask setup`"));
    }
    if let Err(error) = binary() {
        return complain(UNAVAILABLE, &format!("{error:#}"));
    }
    if let Err(error) = signals::take_down(|| ON_SIGNAL.load(Ordering::Acquire)) {
        return complain(FAILED, &format!("{error:#}"));
    }
    match show(after) {
        Ok(code) => ExitCode::from(code),
        Err(error) => complain(FAILED, &format!("the demo could not be run: {error:#}")),
    }
}

fn complain(code: u8, text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::from(code)
}

/// Sets the stage, plays the acts, takes all down; the exit code.
fn show(after: After) -> Result<u8> {
    eprintln!(
        "setting the stage: namespaces, certificates, nginx, haproxy, a parent, two children, one gate"
    );
    let lab = Lab::new()?;
    let mut stage = match Stage::set(&lab) {
        Ok(stage) => stage,
        Err(error) => {
            eprintln!("{}", lab.logs(20));
            return Err(error);
        }
    };
    let as_expected = acts::play(&mut stage);
    let code = if as_expected { 0 } else { FAILED };
    if !as_expected {
        eprintln!(
            "\nnot every line is as expected; the last lines of the logs:\n{}",
            lab.logs(20)
        );
    }
    if after == After::Keep {
        keep(&stage, code);
    }
    drop(stage);
    lab.close();
    nothing_remains(&lab)?;
    Ok(code)
}

/// Waits for Enter, or for Ctrl-C, which the signal's thread handles.
fn keep(stage: &Stage, code: u8) {
    println!("\nThe lab is up. To try:");
    for (what, command) in stage.commands() {
        println!("\n  # {what}\n  {command}");
    }
    println!("\nEnter or Ctrl-C takes it down.");
    ON_SIGNAL.store(code, Ordering::Release);
    let mut line = String::new();
    // An input that has ended is as good as Enter.
    let _ended = std::io::stdin().lock().read_line(&mut line);
}

/// Fails where a namespace or the directory of this run is still there.
fn nothing_remains(lab: &Lab) -> Result<()> {
    let own = format!("sp{}x", std::process::id());
    let names = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let left: Vec<String> = names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    ensure!(
        !left.iter().any(|name| name.starts_with(&own)),
        "namespaces are left: {left:?}"
    );
    ensure!(!lab.dir().exists(), "`{}` is left", lab.dir().display());
    Ok(())
}
