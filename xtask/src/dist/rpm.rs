//! The rpm: `rpmbuild` over the staged tree.
//!
//! It only packs; what the scriptlets do is written in `packaging/rpm/sallyport.spec`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::dist::stage::{self, Stage};
use crate::tasks;

/// Builds the rpm in `folder`.
pub(super) fn build(stage: &Stage, folder: &Path) -> Result<PathBuf> {
    if tasks::find_tool("rpmbuild").is_none() {
        bail!(
            "`rpmbuild` is not there; `cargo xtask setup` installs it, `cargo xtask dist deb` does without"
        );
    }
    let top = folder.join("rpm");
    stage::remove(&top)?;
    fs::create_dir_all(&top).with_context(|| format!("cannot create `{}`", top.display()))?;
    let defines = [
        format!("_topdir {}", top.display()),
        format!("_rpmdir {}", top.display()),
        "_rpmfilename %{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm".to_owned(),
        format!("sallyport_version {}", stage.version),
        format!("sallyport_stage {}", stage.root.display()),
    ];
    let mut rpmbuild = Command::new("rpmbuild");
    rpmbuild.args(["--quiet", "-bb"]);
    for define in &defines {
        rpmbuild.args(["--define", define]);
    }
    tasks::run(rpmbuild.arg(tasks::root().join("packaging/rpm/sallyport.spec")))?;
    let built = tasks::files_under(&top, ".rpm")?
        .into_iter()
        .next()
        .context("`rpmbuild` made no rpm")?;
    let package = folder.join(built.file_name().context("the rpm has no name")?);
    fs::rename(&built, &package).with_context(|| format!("cannot move `{}`", built.display()))?;
    Ok(package)
}
