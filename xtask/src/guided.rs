//! The released program, compiled by a profile of itself at work: built to count, trained with the loads of the
//! benchmarks, and built again with what it counted.
//!
//! A request's way is hundreds of small functions, and the compiler cannot see which of their branches are taken. It
//! must not decide what is trained: the programs `http_bench` and `tls_bench` do.

use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tasks;

/// The programs that put the load on.
const TRAINERS: [&str; 2] = ["http_bench", "tls_bench"];
/// Without these no trainer runs.
const TOOLS: [&str; 4] = ["nginx", "haproxy", "h2load", "taskset"];

/// Builds the release as it is shipped, and returns the program.
///
/// Where the machine cannot train it, the program is built without a profile and a line says so: it does the same and
/// costs more CPU.
///
/// # Errors
/// A build or a training that fails.
pub(crate) fn build() -> Result<PathBuf> {
    let trained = match merger() {
        Ok(merger) => Workshop::new(merger)?.build(),
        Err(why) => {
            println!("build: no profile guides this build, so it costs some 7 % more CPU: {why:#}");
            return plain();
        }
    };
    trained.context("the build by a profile failed")
}

/// Builds the release without a profile, and returns the program.
///
/// # Errors
/// A build that fails.
pub(crate) fn plain() -> Result<PathBuf> {
    tasks::run(tasks::cargo().args(["build", "--locked", "--release", "-p", "sallyport"]))?;
    Ok(tasks::target_dir()?.join("release/sallyport"))
}

/// The compiler's own version of the tool that merges counts, where all else is there too.
fn merger() -> Result<PathBuf> {
    if !tasks::is_root() {
        bail!("the training makes network namespaces, which needs root");
    }
    if let Some(tool) = TOOLS.into_iter().find(|tool| tasks::find_tool(tool).is_none()) {
        bail!("`{tool}` is not there; `cargo xtask setup` installs it");
    }
    let major = about_rustc("LLVM version: ")?;
    let major = major.split('.').next().unwrap_or_default();
    let own = PathBuf::from(format!("/usr/lib/llvm-{major}/bin/llvm-profdata"));
    let versioned = || tasks::find_tool(&format!("llvm-profdata-{major}"));
    let found = Some(own).filter(|file| file.exists()).or_else(versioned);
    found.with_context(|| {
        format!(
            "`llvm-profdata` of LLVM {major}, which this rustc is built on, is not there (Debian: llvm-{major})"
        )
    })
}

/// What `rustc -vV` says after these words.
fn about_rustc(words: &str) -> Result<String> {
    let said = tasks::capture(Command::new("rustc").arg("-vV").current_dir(tasks::root()))?;
    let found = said.lines().find_map(|line| line.strip_prefix(words));
    Ok(found
        .with_context(|| format!("`rustc -vV` has no line `{words}`"))?
        .to_owned())
}

/// Where both builds and the counts lie.
struct Workshop {
    merger: PathBuf,
    host: String,
    target: PathBuf,
    folder: PathBuf,
}

impl Workshop {
    fn new(merger: PathBuf) -> Result<Self> {
        let target = tasks::target_dir()?;
        let folder = target.join("guided");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
        Ok(Self {
            merger,
            host: about_rustc("host: ")?,
            folder,
            target,
        })
    }

    fn build(&self) -> Result<PathBuf> {
        let counting = self.compile("counting", "-Cprofile-generate")?;
        let mark = digest(&counting)?;
        let profile = self.folder.join(format!("{mark}.profdata"));
        if !profile.exists() {
            self.train(&counting)?;
            self.merge(&profile)?;
        }
        // Cargo looks at the words of the flag and not into the file, hence its name.
        self.compile("program", &format!("-Cprofile-use={}", profile.display()))
    }

    /// A release build of its own with one more flag. Naming the target keeps the flag from build scripts.
    fn compile(&self, name: &str, flag: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        let given = std::env::var("RUSTFLAGS").unwrap_or_default();
        let mut build = tasks::cargo();
        build.args(["build", "--locked", "--release", "-p", "sallyport", "--target"]);
        build.arg(&self.host).arg("--target-dir").arg(&folder);
        tasks::run(build.env("RUSTFLAGS", format!("{given} {flag}").trim()))?;
        Ok(folder.join(&self.host).join("release/sallyport"))
    }

    /// Puts the loads on the counting program, which writes what it counted when it ends.
    fn train(&self, counting: &Path) -> Result<()> {
        let counts = self.counts();
        if counts.exists() {
            fs::remove_dir_all(&counts).with_context(|| format!("cannot remove `{}`", counts.display()))?;
        }
        let mut build = tasks::cargo();
        build.args([
            "build",
            "--locked",
            "--profile",
            "test-release",
            "-p",
            "sallyport-tests",
        ]);
        for trainer in TRAINERS {
            build.args(["--bin", trainer]);
        }
        tasks::run(&mut build)?;
        for trainer in TRAINERS {
            let mut load = Command::new(self.target.join("test-release").join(trainer));
            load.args(["--quick", "--ours", "--json"])
                .arg(self.folder.join("training.json"))
                .env("SALLYPORT_BIN", counting)
                .env("LLVM_PROFILE_FILE", counts.join("%p.profraw"))
                .current_dir(tasks::root());
            tasks::run(&mut load)?;
        }
        Ok(())
    }

    fn merge(&self, profile: &Path) -> Result<()> {
        let mut files = tasks::files_under(&self.counts(), ".profraw")?;
        // One that was cut off by a kill says nothing.
        files.retain(|file| fs::metadata(file).is_ok_and(|facts| facts.len() > 0));
        if files.is_empty() {
            bail!("the training left no counts in `{}`", self.counts().display());
        }
        tasks::run(
            Command::new(&self.merger)
                .args(["merge", "--output"])
                .arg(profile)
                .args(files),
        )
    }

    fn counts(&self) -> PathBuf {
        self.folder.join("counts")
    }
}

/// A name for what a file holds.
fn digest(file: &Path) -> Result<String> {
    let bytes = fs::read(file).with_context(|| format!("cannot read `{}`", file.display()))?;
    let mut hasher = DefaultHasher::new();
    hasher.write(&bytes);
    Ok(format!("{:016x}", hasher.finish()))
}
