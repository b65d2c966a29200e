//! `[access_log]`, validated: where a line for each request goes, and what stands in it.

use super::Located;
use std::{collections::BTreeMap, path::PathBuf};

/// `[access_log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// Where lines go; default standard output.
    pub path: Located<Destination>,
    /// Form of a line; default JSON.
    pub format: LineFormat,
    /// The query of a request; default drop.
    pub query: FieldRule,
    /// Header fields.
    pub headers: HeaderRules,
}

/// `access_log.path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// `-`.
    StandardOutput,
    /// A file; relative to the configuration's directory.
    File(PathBuf),
}

/// `access_log.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFormat {
    /// One JSON object a line.
    Json,
    /// The common log format with what Traefik puts behind it.
    Common,
}

/// What becomes of a value in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldRule {
    /// It is written.
    Keep,
    /// Nothing is written.
    Drop,
    /// That it was there is written, not what it was.
    Redact,
}

/// `access_log.headers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderRules {
    /// For fields that are not named; what holds secrets is redacted even where this is keep.
    pub default: FieldRule,
    /// By name, lower case.
    pub names: BTreeMap<String, FieldRule>,
}
