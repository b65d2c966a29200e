//! The tree of files that both packages hold, as it will lie on the machine.
//!
//! It knows neither package format.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::tasks;

/// What is copied as it is: source below the checkout, place on the machine.
const FILES: &[(&str, &str)] = &[
    (
        "packaging/systemd/sallyport.service",
        "usr/lib/systemd/system/sallyport.service",
    ),
    (
        "packaging/systemd/sallyport-gate.service",
        "usr/lib/systemd/system/sallyport-gate.service",
    ),
    (
        "packaging/sysusers/sallyport.conf",
        "usr/lib/sysusers.d/sallyport.conf",
    ),
    (
        "packaging/tmpfiles/sallyport.conf",
        "usr/lib/tmpfiles.d/sallyport.conf",
    ),
    ("packaging/etc/sallyport.toml", "etc/sallyport/sallyport.toml"),
    ("packaging/copyright", "usr/share/doc/sallyport/copyright"),
    ("README.md", "usr/share/doc/sallyport/README.md"),
];
const BINARY: &str = "usr/bin/sallyport";
const MAN_PAGE: &str = "usr/share/man/man8/sallyport.8";
const CHANGELOG: &str = "usr/share/doc/sallyport/changelog";

/// A tree that is laid out.
pub(super) struct Stage {
    /// Its root.
    pub(super) root: PathBuf,
    /// The version of the packages.
    pub(super) version: &'static str,
}

impl Stage {
    /// Lays the tree out afresh around this binary.
    pub(super) fn lay_out(root: &Path, binary: &Path) -> Result<Self> {
        remove(root)?;
        let stage = Self {
            root: root.to_path_buf(),
            version: env!("CARGO_PKG_VERSION"),
        };
        for (source, place) in FILES {
            stage.copy(&tasks::root().join(source), place)?;
        }
        stage.copy(binary, BINARY)?;
        stage.allow(BINARY, 0o755)?;
        tasks::run(
            Command::new("strip")
                .args(["--strip-unneeded", "--remove-section=.comment"])
                .arg(stage.path(BINARY)),
        )?;
        stage.copy(&tasks::root().join("CHANGELOG.md"), CHANGELOG)?;
        stage.write(MAN_PAGE, &man_page(stage.version)?)?;
        for text in [CHANGELOG, MAN_PAGE] {
            // -n: no time stamp inside, so that the same tree gives the same package.
            tasks::run(Command::new("gzip").args(["-9", "-n"]).arg(stage.path(text)))?;
        }
        Ok(stage)
    }

    /// The place of a file below the root of the tree.
    pub(super) fn path(&self, place: &str) -> PathBuf {
        self.root.join(place)
    }

    /// Every file of the tree, as absolute paths on the machine.
    pub(super) fn installed_files(&self) -> Result<Vec<PathBuf>> {
        let files = tasks::files_under(&self.root, "")?;
        Ok(files
            .iter()
            .filter_map(|file| file.strip_prefix(&self.root).ok())
            .map(|file| Path::new("/").join(file))
            .collect())
    }

    fn copy(&self, source: &Path, place: &str) -> Result<()> {
        let text = fs::read(source).with_context(|| format!("cannot read `{}`", source.display()))?;
        self.write(place, &text)
    }

    fn write(&self, place: &str, text: &[u8]) -> Result<()> {
        let file = self.path(place);
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
        }
        fs::write(&file, text).with_context(|| format!("cannot write `{}`", file.display()))?;
        self.allow(place, 0o644)
    }

    fn allow(&self, place: &str, mode: u32) -> Result<()> {
        let file = self.path(place);
        fs::set_permissions(&file, fs::Permissions::from_mode(mode))
            .with_context(|| format!("cannot set the mode of `{}`", file.display()))
    }
}

/// The man page with the version, and the date of the last commit, filled in.
fn man_page(version: &str) -> Result<Vec<u8>> {
    let source = tasks::root().join("packaging/man/sallyport.8");
    let text = fs::read_to_string(&source).with_context(|| format!("cannot read `{}`", source.display()))?;
    let mut log = Command::new("git");
    log.current_dir(tasks::root()).args(["log", "-1", "--format=%cs"]);
    let date = tasks::capture(&mut log).unwrap_or_default();
    Ok(text
        .replace("@VERSION@", version)
        .replace("@DATE@", date.trim())
        .into_bytes())
}

/// Removes a tree of ours; one that is not there is fine.
pub(super) fn remove(tree: &Path) -> Result<()> {
    match fs::remove_dir_all(tree) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove `{}`", tree.display()))
        }
        _ => Ok(()),
    }
}
