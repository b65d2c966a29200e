//! Configuration of Sallyport: text in, a validated [`model::Config`] or every diagnostic at once out.
//!
//! This crate knows no sockets, files, clock or async runtime: the caller reads the files and hands over
//! their text, and reads what the configuration names (certificates, allowlist files) itself.

pub mod condition;
pub mod diagnostic;
pub mod effective;
pub mod model;
pub mod password;
pub mod probing;
pub mod reference;
pub mod rule;
pub mod spelled;

mod address;
mod expression;
mod link;
mod reader;
mod report;
mod section;
#[cfg(test)]
mod tests;
mod units;

use report::{Fault, Place, Report, SOURCE_BYTES_MAX};
use std::{path::PathBuf, time::Duration};

/// `gate.socket` unless a file says otherwise.
const GATE_SOCKET: &str = "/run/sallyport-gate/gate.sock";
/// `gate.pin_dir` unless a file says otherwise.
const GATE_PIN_DIR: &str = "/sys/fs/bpf/sallyport";

/// One configuration file.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name as the operator gave it; diagnostics quote it.
    pub name: String,
    /// Its contents.
    pub text: String,
}

/// Parses and validates the main file and its `conf.d` companions as one configuration.
///
/// # Errors
/// Every problem that was found, sorted by place.
pub fn parse(sources: &[Source]) -> Result<model::Config, Vec<diagnostic::Diagnostic>> {
    let report = Report::new(sources);
    let config = read(&report, sources);
    let warnings = report.finish()?;
    // A configuration is absent only after a syntax error, which `finish` returned.
    config
        .map(|config| model::Config { warnings, ..config })
        .ok_or_else(Vec::new)
}

/// The admin socket that a file names, read as far as it can be: a gateway must be reachable also while its
/// file is not valid. `None` where the file names none.
pub fn admin_socket(text: &str) -> Option<PathBuf> {
    named_path(text, "admin", "socket")
}

/// Where a gate is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatePaths {
    /// `gate.socket`.
    pub socket: PathBuf,
    /// `gate.pin_dir`.
    pub pin_dir: PathBuf,
}

/// Where the gate of a configuration is reached, read as far as it can be: confirming a policy and taking the
/// filter away must work also while the files are not valid.
pub fn gate_paths(sources: &[Source]) -> GatePaths {
    let named = |key: &str, default: &str| {
        let mut found = sources
            .iter()
            .filter_map(|source| named_path(&source.text, "gate", key));
        found.next().unwrap_or_else(|| default.into())
    };
    GatePaths {
        socket: named("socket", GATE_SOCKET),
        pin_dir: named("pin_dir", GATE_PIN_DIR),
    }
}

/// A duration as the files write it (`500ms`, `60s`, `2m`, `1h`), at most a year; `None` where it is none.
pub fn duration(text: &str) -> Option<Duration> {
    units::duration(text).ok()
}

fn named_path(text: &str, section: &str, key: &str) -> Option<PathBuf> {
    let (document, _) = toml::de::DeTable::parse_recoverable(text);
    let table = document.get_ref().get(section)?.get_ref().as_table()?;
    table.get(key)?.get_ref().as_str().map(Into::into)
}

/// Reads and links. After a syntax error only what stands in single values is checked: what seems to be
/// missing may just not have been read.
fn read(report: &Report<'_>, sources: &[Source]) -> Option<model::Config> {
    let mut documents = Vec::new();
    for (file, source) in sources.iter().enumerate() {
        if source.text.len() > SOURCE_BYTES_MAX {
            let fault = Fault::found(format!("found {} bytes", source.text.len()));
            let fault = fault
                .expected(format!("at most {SOURCE_BYTES_MAX}"))
                .fix("move prefixes to a `file` of an allowlist");
            report.syntax(Place { file, offset: 0 }, &source.name, &fault);
        } else {
            documents.push((file, reader::document(report, file, &source.text)));
        }
    }
    let root = reader::Table::root(report, &documents);
    let draft = section::read(&root);
    (!report.is_broken()).then(|| link::link(report, draft))
}
