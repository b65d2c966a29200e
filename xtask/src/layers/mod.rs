//! `cargo xtask layers`: who may import whom, and who may name what, as tables.
//!
//! It reads the paths that the sources name; it must not know what any of the modules do. Test code is left out: it
//! is no part of the program.

mod paths;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::layers::paths::Named;
use crate::source::Source;
use crate::tasks;

/// The way of a connection: a stage imports itself, earlier stages, and the substrate.
const STAGES: &[&str] = &[
    "gate",
    "accept",
    "preamble",
    "hello",
    "tls",
    "http",
    "route",
    "middleware",
    "balance",
    "upstream",
    "tunnel",
];
/// What every stage stands on; it imports no stage.
const SUBSTRATE: &[&str] = &["io", "clock", "fault", "telemetry"];
/// What puts the stages together, on the data path; nothing but assembly imports it.
const DATA_ASSEMBLY: &[&str] = &["access_log", "uplink", "snapshot", "serve", "worker"];
/// What puts the process together; the data path must not import it.
const PROCESS_ASSEMBLY: &[&str] = &["control", "admin", "cli", "health"];

/// A name that only some may use.
struct Reserved {
    /// Where the rule holds.
    folder: &'static str,
    /// What must not be named there.
    paths: &'static [&'static [&'static str]],
    /// Prefixes of file paths that may all the same.
    except: &'static [&'static str],
    /// Why.
    rule: &'static str,
}

const RESERVED: &[Reserved] = &[
    Reserved {
        folder: "proxy/src/",
        paths: &[&["tokio_uring"]],
        except: &["proxy/src/io/"],
        rule: "only `io` names tokio-uring",
    },
    Reserved {
        folder: "proxy/src/",
        paths: &[&["tokio", "net"], &["tokio", "time"], &["tokio", "spawn"]],
        except: &[
            "proxy/src/io/",
            "proxy/src/control",
            "proxy/src/admin",
            "proxy/src/gate/",
        ],
        rule: "workers may run on another executor: go through `io`",
    },
    Reserved {
        folder: "proxy/src/gate/policy",
        paths: &[&["tokio"], &["aya"], &["nix"]],
        except: &[],
        rule: "the policy is pure",
    },
    Reserved {
        folder: "proxy/src/",
        paths: &[
            &["libc"],
            &["std", "os", "fd", "AsRawFd"],
            &["std", "os", "fd", "FromRawFd"],
            &["std", "os", "fd", "IntoRawFd"],
            &["std", "os", "fd", "RawFd"],
            &["std", "os", "fd", "raw"],
            &["std", "os", "unix", "io", "AsRawFd"],
            &["std", "os", "unix", "io", "FromRawFd"],
            &["std", "os", "unix", "io", "IntoRawFd"],
            &["std", "os", "unix", "io", "RawFd"],
        ],
        except: &["proxy/src/io/", "proxy/src/gate/"],
        rule: "only `io` and the gate's process name libc or a raw descriptor",
    },
    Reserved {
        folder: "config/src/",
        paths: &[
            &["std", "env"],
            &["std", "fs"],
            &["std", "net", "TcpListener"],
            &["std", "net", "TcpStream"],
            &["std", "net", "UdpSocket"],
            &["std", "process"],
            &["std", "thread"],
            &["std", "time", "Instant"],
            &["std", "time", "SystemTime"],
            &["tokio"],
        ],
        except: &[],
        rule: "the configuration is text in, values out: no files, sockets, time or async",
    },
    Reserved {
        folder: "ebpf/src/",
        paths: &[
            &["libc"],
            &["std"],
            &["sallyport"],
            &["sallyport_config"],
            &["tokio"],
        ],
        except: &[],
        rule: "the programs and their ABI know nothing of user space",
    },
    Reserved {
        folder: "tests/",
        paths: &[&["sallyport"]],
        except: &[],
        rule: "whole-program tests reach the proxy by running it",
    },
];

/// Checks the workspace.
///
/// # Errors
/// Names every line that breaks a rule.
pub(crate) fn run() -> Result<()> {
    let root = tasks::root();
    let modules = modules_of(&root.join("proxy/src"))?;
    let mut findings = unknown_modules(&modules);
    let mut files = 0;
    for folder in ["config/src", "ebpf/src", "proxy/src", "tests"] {
        for file in tasks::files_under(&root.join(folder), ".rs")? {
            let text =
                fs::read_to_string(&file).with_context(|| format!("cannot read `{}`", file.display()))?;
            files += 1;
            findings.extend(judge(&tasks::relative(&file), &text, &modules));
        }
    }
    let manifest =
        fs::read_to_string(root.join("tests/Cargo.toml")).context("cannot read `tests/Cargo.toml`")?;
    findings.extend(judge_test_manifest(&manifest));
    if !findings.is_empty() {
        bail!("layer rules broken:\n  {}", findings.join("\n  "));
    }
    println!("layers: {files} files keep the rules");
    Ok(())
}

/// The top-level modules that exist.
fn modules_of(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list `{}`", folder.display()))? {
        let path = entry?.path();
        let stem = path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default();
        let source = path.extension().is_some_and(|ending| ending == "rs") && stem != "main" && stem != "lib";
        if source || path.join("mod.rs").exists() {
            names.push(stem);
        }
    }
    names.sort();
    Ok(names)
}

/// A module that no table names would escape the rules.
fn unknown_modules(modules: &[String]) -> Vec<String> {
    let known = [STAGES, SUBSTRATE, DATA_ASSEMBLY, PROCESS_ASSEMBLY].concat();
    let unknown = modules.iter().filter(|module| !known.contains(&module.as_str()));
    unknown
        .map(|module| format!("proxy/src/{module}: in no layer; name it in a table of `xtask layers`"))
        .collect()
}

/// What one file does wrong.
fn judge(path: &str, text: &str, modules: &[String]) -> Vec<String> {
    if path.ends_with("/tests.rs") || path.contains("/src/tests/") {
        return Vec::new();
    }
    let source = Source::new(text);
    let mut findings = Vec::new();
    for named in paths::named(&source) {
        let line = source.line_of(named.at);
        let reserved = RESERVED.iter().filter_map(|rule| reserved_by(rule, path, &named));
        let misplaced = path
            .strip_prefix("proxy/src/")
            .and_then(|inside| crate_path(inside, &source, &named))
            .and_then(|(own, target)| import_rule(&own, &target, modules));
        for why in reserved.map(str::to_owned).chain(misplaced) {
            findings.push(format!("{path}:{line}: `{}`: {why}", named.segments.join("::")));
        }
    }
    findings
}

fn reserved_by(rule: &Reserved, path: &str, named: &Named) -> Option<&'static str> {
    let held = path.starts_with(rule.folder) && !rule.except.iter().any(|prefix| path.starts_with(prefix));
    (held && rule.paths.iter().any(|prefix| named.reaches(prefix))).then_some(rule.rule)
}

/// A path inside the crate, told from its root: the module that names it, and what it names.
fn crate_path(inside: &str, source: &Source, named: &Named) -> Option<(String, Vec<String>)> {
    let mut home: Vec<String> = inside
        .trim_end_matches(".rs")
        .split('/')
        .map(str::to_owned)
        .collect();
    if home.last().is_some_and(|name| name == "mod") {
        home.pop();
    }
    let own = home.first()?.clone();
    if own == "lib" || own == "main" {
        return None;
    }
    let ups = named
        .segments
        .iter()
        .take_while(|segment| *segment == "super")
        .count();
    match named.segments.first().map(String::as_str) {
        Some("crate") => Some((own, named.segments.iter().skip(1).cloned().collect())),
        Some("super") => {
            let around = source
                .inline_modules()
                .into_iter()
                .filter(|(_, range)| range.contains(&named.at));
            home.extend(around.map(|(name, _)| name));
            home.truncate(home.len().saturating_sub(ups));
            home.extend(named.segments.iter().skip(ups).cloned());
            Some((own, home))
        }
        _ => None,
    }
}

/// The import rule that `own` breaks by naming `target`, if any.
fn import_rule(own: &str, target: &[String], modules: &[String]) -> Option<String> {
    let to = target.first()?.as_str();
    if to == own || !modules.iter().any(|module| module == to) {
        return None;
    }
    let rank = |name: &str| STAGES.iter().position(|stage| *stage == name);
    let assembly = DATA_ASSEMBLY.contains(&to) || PROCESS_ASSEMBLY.contains(&to);
    if SUBSTRATE.contains(&own) {
        return (!SUBSTRATE.contains(&to))
            .then(|| "the substrate imports no stage and no assembly".to_owned());
    }
    if let Some(own_rank) = rank(own) {
        return match rank(to) {
            _ if assembly => Some("a stage imports no assembly".to_owned()),
            Some(_) if to == "gate" && target.get(1).is_none_or(|part| part != "policy") => {
                Some("of the gate a stage knows `policy` alone".to_owned())
            }
            Some(to_rank) if to_rank > own_rank => {
                Some(format!("`{own}` comes before `{to}`: nothing calls forward"))
            }
            _ => None,
        };
    }
    let backwards = DATA_ASSEMBLY.contains(&own) && PROCESS_ASSEMBLY.contains(&to);
    backwards.then(|| "the data path does not know the process around it".to_owned())
}

/// The harness must not be able to reach the proxy's insides.
fn judge_test_manifest(manifest: &str) -> Vec<String> {
    let depends = |line: &str| {
        let key = line.split(['=', '.', ' ']).next().unwrap_or_default();
        key == "sallyport"
    };
    let lines = manifest
        .lines()
        .enumerate()
        .filter(|(_, line)| depends(line.trim()));
    lines
        .map(|(index, _)| {
            format!(
                "tests/Cargo.toml:{}: depends on `sallyport`: run the binary instead",
                index + 1
            )
        })
        .collect()
}

#[cfg(test)]
mod tests;
