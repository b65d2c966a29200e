//! A kernel package of Debian, fetched by apt from wherever this machine fetches and unpacked below the target folder.
//!
//! Nothing is installed, and no source of packages is added.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tasks;

/// An unpacked kernel.
pub(super) struct Image {
    /// What `uname -r` will say.
    pub(super) release: String,
    /// The kernel itself.
    pub(super) kernel: PathBuf,
    /// Its modules' root, `lib/modules/RELEASE`.
    pub(super) modules: PathBuf,
    /// A folder of its own for what is made from it.
    pub(super) folder: PathBuf,
}

impl Image {
    /// The newest kernel of a series that apt offers, or the one that is here from before where apt offers none.
    ///
    /// # Errors
    /// Neither is there, or it cannot be fetched.
    pub(super) fn of(series: &str, folder: &Path) -> Result<Self> {
        let folder = folder.join(series);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
        let Some(package) = newest(series)? else {
            let Some(kept) = unpacked(&folder)? else {
                bail!(
                    "apt offers no `linux-image-{series}.*`, and none is in `{}`; add a Debian release that has it to apt's \
                     sources, run `apt-get update`, or name the series that shall be tried",
                    folder.display()
                );
            };
            println!(
                "kernel-test: apt offers no `linux-image-{series}.*`; {} is here from before",
                kept.release
            );
            return Ok(kept);
        };
        let release = package.trim_start_matches("linux-image-");
        if let Some(kept) = unpacked(&folder)?.filter(|kept| kept.release == release) {
            return Ok(kept);
        }
        fetch(&package, &folder)?;
        unpacked(&folder)?.with_context(|| format!("`{package}` holds no kernel"))
    }

    /// The file of a module, packed or not.
    ///
    /// # Errors
    /// The kernel has no such module.
    pub(super) fn module(&self, name: &str) -> Result<PathBuf> {
        for suffix in [".ko", ".ko.xz"] {
            let file = format!("{name}{suffix}");
            let found = tasks::files_under(&self.modules, &file)?;
            let exact = found.into_iter().find(|path| path.ends_with(&file));
            if let Some(path) = exact {
                return Ok(path);
            }
        }
        bail!("kernel {} has no module `{name}`", self.release)
    }
}

/// The newest image package of a series: small cloud kernels first, they boot faster.
fn newest(series: &str) -> Result<Option<String>> {
    let known =
        tasks::capture(Command::new("apt-cache").args(["pkgnames", &format!("linux-image-{series}.")]))?;
    let mut offered: Vec<&str> = known.lines().map(str::trim).collect();
    offered.sort_by_key(|name| numbers(name));
    for suffix in ["-cloud-amd64", "-amd64"] {
        let of_kind = offered.iter().rev().filter(|name| {
            name.strip_suffix(suffix).is_some_and(|rest| {
                rest.rsplit('-')
                    .next()
                    .is_some_and(|last| last.chars().any(|c| c.is_ascii_digit()))
            })
        });
        for name in of_kind {
            let versions = tasks::capture(Command::new("apt-cache").args(["madison", name]))?;
            if !versions.trim().is_empty() {
                return Ok(Some((*name).to_owned()));
            }
        }
    }
    Ok(None)
}

/// The numbers in a name, by which releases are ordered.
fn numbers(name: &str) -> Vec<u32> {
    let words = name.split(|letter: char| !letter.is_ascii_digit());
    words.filter_map(|word| word.parse().ok()).collect()
}

fn fetch(package: &str, folder: &Path) -> Result<()> {
    println!("kernel-test: fetching `{package}`");
    fs::remove_dir_all(folder).with_context(|| format!("cannot empty `{}`", folder.display()))?;
    fs::create_dir_all(folder)?;
    tasks::capture(
        Command::new("apt-get")
            .args(["-q", "download", package])
            .current_dir(folder),
    )
    .context("the kernel cannot be fetched; `apt-get update` refreshes a list that is out of date")?;
    let file = tasks::files_under(folder, ".deb")?.into_iter().next();
    let file = file.with_context(|| format!("`apt-get download {package}` left no file"))?;
    // A part of a package must not look like a whole one to the next run.
    let half = folder.join("unpacking");
    tasks::capture(Command::new("dpkg-deb").arg("-x").arg(&file).arg(&half))?;
    fs::rename(half, folder.join("root"))?;
    fs::remove_file(file)?;
    Ok(())
}

/// The kernel that lies unpacked in a folder.
fn unpacked(folder: &Path) -> Result<Option<Image>> {
    let root = folder.join("root");
    let Ok(boot) = fs::read_dir(root.join("boot")) else {
        return Ok(None);
    };
    for entry in boot {
        let kernel = entry?.path();
        let name = kernel
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let Some(release) = name.strip_prefix("vmlinuz-") else {
            continue;
        };
        let modules = ["lib/modules", "usr/lib/modules"].map(|path| root.join(path).join(release));
        let modules = modules.into_iter().find(|path| path.is_dir());
        return Ok(Some(Image {
            release: release.to_owned(),
            kernel: kernel.clone(),
            modules: modules.with_context(|| format!("kernel {release} has no modules"))?,
            folder: folder.to_owned(),
        }));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn releases_are_ordered_by_their_numbers() {
        let mut names = [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.1.0-10-cloud-amd64",
        ];
        names.sort_by_key(|name| numbers(name));
        assert_eq!(names[2], "linux-image-6.1.0-56-cloud-amd64");
        assert!(
            numbers("linux-image-6.12.117+deb12-cloud-amd64")
                > numbers("linux-image-6.12.95+deb12-cloud-amd64")
        );
    }
}
