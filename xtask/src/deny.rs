//! `cargo xtask deny`: licences and doubled dependencies, against `deny.toml`.
//!
//! The file is in cargo-deny's own format, so that whoever has cargo-deny can run it; this reads the two lists that
//! matter here from it, because compiling cargo-deny takes a new user minutes. It must not reach the network.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result, bail};

use crate::tasks;

/// Checks every dependency of the workspace for this target.
///
/// # Errors
/// Names each licence that is not allowed and each crate that comes in two versions without a reason.
pub(crate) fn run() -> Result<()> {
    let text = fs::read_to_string(tasks::root().join("deny.toml")).context("cannot read `deny.toml`")?;
    let allowed = strings_of(&text, "allow");
    let skipped = names_of(&text, "skip");
    let mut tree = tasks::cargo();
    tree.args([
        "tree",
        "--workspace",
        "--locked",
        "--prefix",
        "none",
        "--no-dedupe",
        "--format",
        "{p}|{l}",
    ]);
    let packages = packages(&tasks::capture(&mut tree)?);
    let mut findings = licence_findings(&packages, &allowed);
    findings.extend(double_findings(&packages, &skipped));
    if !findings.is_empty() {
        bail!("dependencies against `deny.toml`:\n  {}", findings.join("\n  "));
    }
    println!(
        "deny: {} packages, licences and versions as `deny.toml` allows",
        packages.len()
    );
    Ok(())
}

/// Name, version and licence of each package in the tree; our own carry a path after the version.
fn packages(tree: &str) -> BTreeSet<(String, String, String)> {
    let lines = tree.lines().filter_map(|line| line.split_once('|'));
    let parts = lines.filter_map(|(package, licence)| {
        let mut words = package.split(' ');
        let (name, version) = (words.next()?, words.next()?);
        Some((
            name.to_owned(),
            version.trim_start_matches('v').to_owned(),
            licence.trim().to_owned(),
        ))
    });
    parts.collect()
}

fn licence_findings(
    packages: &BTreeSet<(String, String, String)>,
    allowed: &BTreeSet<String>,
) -> Vec<String> {
    let refused = packages
        .iter()
        .filter(|(_, _, licence)| !licence_allowed(licence, allowed));
    refused
        .map(|(name, version, licence)| format!("`{name}` {version}: licence `{licence}` is not allowed"))
        .collect()
}

fn double_findings(packages: &BTreeSet<(String, String, String)>, skipped: &BTreeSet<String>) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, version, _) in packages {
        versions.entry(name).or_default().insert(version);
    }
    let doubled = versions
        .iter()
        .filter(|(name, versions)| versions.len() > 1 && !skipped.contains(**name));
    doubled
        .map(|(name, versions)| {
            let list: Vec<&str> = versions.iter().copied().collect();
            format!(
                "`{name}` comes in versions {}; unify them or give a reason under `skip`",
                list.join(", ")
            )
        })
        .collect()
}

/// Judges an SPDX expression. `AND` binds closer than `OR`; the old `/` means `OR`.
fn licence_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ")
        .replace(" WITH ", "+WITH+");
    // One frame a parenthesis: whether an earlier alternative holds, and whether the present one does so far.
    let mut frames = vec![(false, true)];
    let mut empty = true;
    for word in spaced.split_whitespace() {
        let value = match word {
            "AND" => continue,
            "(" => {
                frames.push((false, true));
                continue;
            }
            "OR" => {
                if let Some((any, now)) = frames.last_mut() {
                    (*any, *now) = (*any || *now, true);
                }
                continue;
            }
            ")" => frames.pop().is_some_and(|(any, now)| any || now),
            licence => allowed.contains(&licence.replace("+WITH+", " WITH ")),
        };
        empty = false;
        if let Some((_, now)) = frames.last_mut() {
            *now &= value;
        }
    }
    !empty && frames.len() == 1 && frames.iter().all(|(any, now)| *any || *now)
}

/// The lines of a TOML array `key = [ … ]`, without comments.
fn array_lines<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    let opens = move |line: &&str| {
        line.split_once('=')
            .is_some_and(|(name, rest)| name.trim() == key && rest.trim_start().starts_with('['))
    };
    let after = text.lines().skip_while(move |line| !opens(line)).skip(1);
    after
        .take_while(|line| line.trim() != "]")
        .filter(|line| !line.trim_start().starts_with('#'))
}

/// The strings of an array that has one a line.
fn strings_of(text: &str, key: &str) -> BTreeSet<String> {
    array_lines(text, key)
        .filter_map(|line| line.split('"').nth(1))
        .map(str::to_owned)
        .collect()
}

/// The `name`s, or cargo-deny's shorter `crate`s, of an array that has one table a line; a version after `@` is cut.
fn names_of(text: &str, key: &str) -> BTreeSet<String> {
    let names = array_lines(text, key).filter_map(|line| line.split('"').nth(1));
    names
        .map(|name| name.split('@').next().unwrap_or(name).to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{double_findings, licence_allowed, names_of, packages, strings_of};

    #[test]
    fn expressions_are_judged_as_spdx_reads_them() {
        let allowed: BTreeSet<String> = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"]
            .map(str::to_owned)
            .into();
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("GPL-3.0 OR MIT", true),
            ("MIT AND GPL-3.0", false),
            ("GPL-3.0/MIT", true),
            ("ISC AND (Apache-2.0 OR ISC)", true),
            ("ISC AND (Apache-2.0 OR GPL-3.0)", false),
            ("GPL-3.0 AND MIT OR ISC", true),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("Apache-2.0", false),
            ("", false),
            ("(MIT", false),
        ] {
            assert_eq!(licence_allowed(expression, &allowed), expected, "{expression}");
        }
    }

    #[test]
    fn a_doubled_crate_needs_a_reason() {
        let tree = "a v1.0.0|MIT\na v2.0.0|MIT\nb v1.0.0 (/src/b)|MIT\nb v1.0.0 (/src/b)|MIT\n";
        let packages = packages(tree);
        assert_eq!(double_findings(&packages, &BTreeSet::new()).len(), 1);
        assert!(double_findings(&packages, &BTreeSet::from(["a".to_owned()])).is_empty());
    }

    #[test]
    fn the_lists_are_read_from_cargo_denys_format() {
        let text = "[licenses]\nallow = [\n    # why\n    \"MIT\",\n]\n[bans]\nskip = [\n    { crate = \"a@0.4\", reason = \"x\" },\n]\n";
        assert_eq!(strings_of(text, "allow"), BTreeSet::from(["MIT".to_owned()]));
        assert_eq!(names_of(text, "skip"), BTreeSet::from(["a".to_owned()]));
    }
}
