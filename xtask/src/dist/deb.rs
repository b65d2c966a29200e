//! The deb: the staged tree, a control file with its dependencies, and the maintainer scripts.
//!
//! It only packs; what the scripts do is written in `packaging/deb`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::dist::stage::{self, Stage};
use crate::tasks;

const SCRIPTS: &[(&str, u32)] = &[
    ("conffiles", 0o644),
    ("postinst", 0o755),
    ("prerm", 0o755),
    ("postrm", 0o755),
];

/// Builds the deb in `folder`.
pub(super) fn build(stage: &Stage, folder: &Path) -> Result<PathBuf> {
    if tasks::find_tool("dpkg-deb").is_none() {
        bail!(
            "`dpkg-deb` is not there; `cargo xtask setup` installs it, `cargo xtask dist rpm` does without"
        );
    }
    let arch = architecture()?;
    let tree = folder.join("deb");
    stage::remove(&tree)?;
    tasks::run(Command::new("cp").arg("-a").arg(&stage.root).arg(&tree))?;
    let meta = tree.join("DEBIAN");
    fs::create_dir_all(&meta).with_context(|| format!("cannot create `{}`", meta.display()))?;
    for (name, mode) in SCRIPTS {
        let file = meta.join(name);
        fs::copy(tasks::root().join("packaging/deb").join(name), &file)
            .with_context(|| format!("cannot copy `packaging/deb/{name}`"))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(*mode))?;
    }
    let template = fs::read_to_string(tasks::root().join("packaging/deb/control"))?;
    let control = template
        .replace("@VERSION@", stage.version)
        .replace("@ARCH@", arch)
        .replace("@SIZE@", &installed_kib(stage)?.to_string())
        .replace("@DEPENDS@", &dependencies(stage, folder)?);
    fs::write(meta.join("control"), control)?;
    let package = folder.join(format!("sallyport_{}_{arch}.deb", stage.version));
    tasks::run(
        Command::new("dpkg-deb")
            .args(["--root-owner-group", "-Zxz", "--build"])
            .arg(&tree)
            .arg(&package),
    )?;
    Ok(package)
}

/// Debian's name of the architecture that we build for.
fn architecture() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("no deb is made for `{other}`; expected x86_64 or aarch64"),
    }
}

fn installed_kib(stage: &Stage) -> Result<u64> {
    let mut bytes = 0;
    for file in tasks::files_under(&stage.root, "")? {
        bytes += fs::metadata(&file)?.len();
    }
    Ok(bytes.div_ceil(1024))
}

/// The shared libraries that the binary needs, as packages with versions; `dpkg-shlibdeps` knows them.
fn dependencies(stage: &Stage, folder: &Path) -> Result<String> {
    let work = folder.join("shlibdeps");
    fs::create_dir_all(work.join("debian"))?;
    fs::write(
        work.join("debian/control"),
        "Source: sallyport\n\nPackage: sallyport\nArchitecture: any\n",
    )?;
    let mut shlibdeps = Command::new("dpkg-shlibdeps");
    shlibdeps
        .current_dir(&work)
        .arg("-O")
        .arg(stage.path("usr/bin/sallyport"));
    let said = tasks::capture(&mut shlibdeps)?;
    let depends = said.lines().find_map(|line| line.strip_prefix("shlibs:Depends="));
    depends
        .map(str::to_owned)
        .context("`dpkg-shlibdeps` names no dependencies")
}
