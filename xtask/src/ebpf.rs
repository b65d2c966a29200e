//! `cargo xtask ebpf`: builds the BPF object and keeps the committed one honest.
//!
//! The object is built by Debian's `rustc-web` with its prebuilt `core` for BPF, or by an upstream nightly with
//! `rust-src`. `ebpf/prebuilt/` holds it for machines that have neither, beside a manifest with the digests of
//! the sources and the toolchain that it came from. Installing a toolchain is the duty of `setup`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tasks;

const TARGET: &str = "bpfel-unknown-none";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CORE: &str = "/usr/lib/rustlib/bpfel-unknown-none";
const PROGRAM: &str = "sallyport-gate";

/// What to do with the object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// Build it and refresh `ebpf/prebuilt/`.
    Build,
    /// Fail when `ebpf/prebuilt/` is stale; build it too where a toolchain is there.
    Check,
    /// Build the debug object, whose programs log, and print its path.
    Debug,
}

/// What the object's programs do beside judging.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flavour {
    /// Nothing: the object that is committed.
    Quiet,
    /// They log what they let in, by `aya-log`: for `sallyport gate run --debug-object`.
    Debug,
}

/// A compiler that has `core` for BPF.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Toolchain {
    /// `rustc-web` and `libstd-rust-web-dev-bpf`.
    Debian,
    /// A nightly that builds `core` from `rust-src`.
    Nightly,
}

/// Builds or checks the object.
///
/// # Errors
/// No toolchain (when building), a build that fails, or a committed object that is not what the sources say.
pub(crate) fn run(mode: Mode) -> Result<()> {
    match mode {
        Mode::Build => refresh(),
        Mode::Check => check(),
        Mode::Debug => {
            let object = build_debug()?.context(NO_TOOLCHAIN)?;
            println!("{}", object.display());
            Ok(())
        }
    }
}

const NO_TOOLCHAIN: &str = "no BPF toolchain is here; `cargo xtask setup` installs one";

/// Builds the debug object and says where it is; `None` where no BPF toolchain is here.
///
/// # Errors
/// A build that fails.
pub(crate) fn build_debug() -> Result<Option<PathBuf>> {
    let Some(toolchain) = find_toolchain() else {
        return Ok(None);
    };
    let built = build(toolchain, Flavour::Debug)?;
    let folder = tasks::target_dir()?.join("bpf-debug");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    let kept = folder.join(format!("{PROGRAM}-debug.o"));
    fs::copy(&built, &kept).with_context(|| format!("cannot write `{}`", kept.display()))?;
    Ok(Some(kept))
}

fn refresh() -> Result<()> {
    let toolchain = find_toolchain().context(NO_TOOLCHAIN)?;
    let object = build(toolchain, Flavour::Quiet)?;
    let folder = prebuilt();
    fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    let kept = folder.join(format!("{PROGRAM}.o"));
    fs::copy(&object, &kept).with_context(|| format!("cannot write `{}`", kept.display()))?;
    let text = manifest(&sources()?, &digest(&kept)?, &versions(toolchain)?);
    let file = folder.join(format!("{PROGRAM}.txt"));
    fs::write(&file, text).with_context(|| format!("cannot write `{}`", file.display()))?;
    println!("ebpf: `{}` is fresh", tasks::relative(&kept));
    Ok(())
}

fn check() -> Result<()> {
    let file = prebuilt().join(format!("{PROGRAM}.txt"));
    let kept = fs::read_to_string(&file)
        .with_context(|| format!("cannot read `{}`; `cargo xtask ebpf` writes it", file.display()))?;
    let stale = stale(
        &kept,
        &sources()?,
        &digest(&prebuilt().join(format!("{PROGRAM}.o")))?,
    );
    if !stale.is_empty() {
        bail!(
            "`ebpf/prebuilt` is stale ({}); run `cargo xtask ebpf` and commit it",
            stale.join(", ")
        );
    }
    let Some(toolchain) = find_toolchain() else {
        if tasks::in_ci() {
            bail!("no BPF toolchain is here, and CI must rebuild the object; run `cargo xtask setup`");
        }
        println!("ebpf: sources match the committed object; it was not rebuilt: no BPF toolchain is here");
        return Ok(());
    };
    let built = build(toolchain, Flavour::Quiet)?;
    if !same_toolchain(&kept, &versions(toolchain)?) {
        println!("ebpf: sources match and the object builds; another toolchain built the committed one");
        return Ok(());
    }
    if fs::read(&built)? != fs::read(prebuilt().join(format!("{PROGRAM}.o")))? {
        bail!(
            "the object that this toolchain builds is not the committed one; run `cargo xtask ebpf` and commit it"
        );
    }
    println!("ebpf: the committed object is what the sources build, byte for byte");
    Ok(())
}

fn prebuilt() -> PathBuf {
    tasks::root().join("ebpf/prebuilt")
}

fn find_toolchain() -> Option<Toolchain> {
    tasks::find_tool("bpf-linker")?;
    if Path::new(DEBIAN_RUSTC).exists() && Path::new(DEBIAN_CORE).exists() {
        return Some(Toolchain::Debian);
    }
    let nightly = tasks::succeeds(Command::new("rustup").args(["run", "nightly", "rustc", "--version"]));
    nightly.then_some(Toolchain::Nightly)
}

fn build(toolchain: Toolchain, flavour: Flavour) -> Result<PathBuf> {
    let (folder, features) = match flavour {
        Flavour::Quiet => ("ebpf", "programs"),
        Flavour::Debug => ("ebpf-debug", "programs,log"),
    };
    let target = tasks::target_dir()?.join(folder);
    let mut command = cargo_build(toolchain);
    command
        .args(["--features", features, "--target", TARGET, "--target-dir"])
        .arg(&target);
    for (key, value) in PROFILE {
        command.env(format!("CARGO_PROFILE_RELEASE_{key}"), value);
    }
    command
        .env_remove("CARGO_INCREMENTAL")
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .env("CARGO_ENCODED_RUSTFLAGS", flags()?);
    tasks::run(&mut command)?;
    let built = target.join(TARGET).join("release").join(PROGRAM);
    let object = built.with_extension("o");
    // BTF, which maps of maps need, is made by now; DWARF would be nine tenths of the committed file.
    tasks::run(
        Command::new(objcopy()?)
            .arg("--strip-debug")
            .arg(&built)
            .arg(&object),
    )?;
    Ok(object)
}

/// The toolchain's `cargo build` of the programs, features and target still to be said.
fn cargo_build(toolchain: Toolchain) -> Command {
    let cargo_args = [
        "build",
        "--release",
        "--locked",
        "--package",
        "sallyport-ebpf",
        "--bin",
        PROGRAM,
    ];
    match toolchain {
        Toolchain::Debian => {
            let mut command = tasks::cargo();
            command
                .env("RUSTC", DEBIAN_RUSTC)
                .env("RUSTC_BOOTSTRAP", "1")
                .args(cargo_args);
            command
        }
        Toolchain::Nightly => {
            let mut command = Command::new("rustup");
            command
                .current_dir(tasks::root())
                .env_remove("RUSTC")
                .env_remove("CARGO");
            command
                .env_remove("RUSTUP_TOOLCHAIN")
                .args(["run", "nightly", "cargo"])
                .args(cargo_args);
            command.args(["-Z", "build-std=core"]);
            command
        }
    }
}

/// LLVM's `objcopy`: the one of GNU knows no BPF.
fn objcopy() -> Result<PathBuf> {
    let versioned =
        ["22", "23", "21"].map(|major| PathBuf::from(format!("/usr/lib/llvm-{major}/bin/llvm-objcopy")));
    let mut candidates = versioned.into_iter().chain(tasks::find_tool("llvm-objcopy"));
    candidates
        .find(|tool| tool.exists())
        .context("`llvm-objcopy` is not there; `cargo xtask setup` installs it")
}

/// The profile of the programs: `bpf-linker` does the link-time optimisation and makes BTF from the debug
/// information, without which no map of maps can be loaded.
///
/// Whether the build is incremental changes what is inlined, so it is said here and never by the caller's environment.
const PROFILE: [(&str, &str); 6] = [
    ("INCREMENTAL", "true"),
    ("LTO", "false"),
    ("CODEGEN_UNITS", "1"),
    ("OPT_LEVEL", "3"),
    ("DEBUG", "2"),
    ("PANIC", "abort"),
];

/// Compiler flags, separated as cargo wants them. Paths are cut, so that every checkout builds the same bytes.
fn flags() -> Result<String> {
    let linker = tasks::find_tool("bpf-linker").context("`bpf-linker` is not there")?;
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    let home = home.context("neither `CARGO_HOME` nor a home folder is set")?;
    let flags = [
        format!("-Clinker={}", linker.display()),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        // 32-bit arithmetic and jumps: Linux 5.1, which is older than all that is supported.
        "-Ctarget-cpu=v3".to_owned(),
        // Else a header's word is read byte by byte: no packet's header is aligned for it. The kernel lets programs
        // read such words where the processor can, which it can on x86-64 and aarch64.
        "-Ctarget-feature=+allows-misaligned-mem-access".to_owned(),
        "--cfg=bpf_target_arch=\"x86_64\"".to_owned(),
        format!("--remap-path-prefix={}=/cargo", home.display()),
        format!("--remap-path-prefix={}=/sallyport", tasks::root().display()),
    ];
    Ok(flags.join("\u{1f}"))
}

/// `digest  path` lines of everything that the object is made from.
fn sources() -> Result<Vec<String>> {
    let folder = tasks::root().join("ebpf");
    let mut files = vec![folder.join("Cargo.toml")];
    files.extend(tasks::files_under(&folder.join("src"), ".rs")?);
    files
        .iter()
        .map(|file| Ok(format!("{}  {}", digest(file)?, tasks::relative(file))))
        .collect()
}

fn digest(file: &Path) -> Result<String> {
    let line = tasks::capture(Command::new("sha256sum").arg("--").arg(file))?;
    Ok(line.split_whitespace().next().unwrap_or_default().to_owned())
}

/// `name version` lines of the toolchain.
fn versions(toolchain: Toolchain) -> Result<Vec<String>> {
    let mut rustc = match toolchain {
        Toolchain::Debian => Command::new(DEBIAN_RUSTC),
        Toolchain::Nightly => {
            let mut command = Command::new("rustup");
            command.args(["run", "nightly", "rustc"]);
            command
        }
    };
    let rustc = tasks::capture(rustc.arg("--version"))?;
    let linker = tasks::find_tool("bpf-linker").context("`bpf-linker` is not there")?;
    let linker = tasks::capture(Command::new(linker).arg("--version"))?;
    Ok(vec![
        format!("# {}", rustc.trim()),
        format!("# {}", linker.trim()),
    ])
}

fn manifest(sources: &[String], object: &str, versions: &[String]) -> String {
    let mut lines = vec!["# What `cargo xtask ebpf` built this object from; SHA-256.".to_owned()];
    lines.extend_from_slice(versions);
    lines.push(format!("{object}  ebpf/prebuilt/{PROGRAM}.o"));
    lines.extend_from_slice(sources);
    lines.join("\n") + "\n"
}

/// What the manifest and the tree do not agree on.
fn stale(manifest: &str, sources: &[String], object: &str) -> Vec<String> {
    let kept: Vec<&str> = manifest.lines().filter(|line| !line.starts_with('#')).collect();
    let object = format!("{object}  ebpf/prebuilt/{PROGRAM}.o");
    let now: Vec<&str> = std::iter::once(object.as_str())
        .chain(sources.iter().map(String::as_str))
        .collect();
    let path = |line: &str| line.split_whitespace().last().unwrap_or_default().to_owned();
    let changed = now
        .iter()
        .filter(|line| !kept.contains(line))
        .map(|line| path(line));
    let gone = kept
        .iter()
        .filter(|line| !now.iter().any(|other| path(other) == path(line)))
        .map(|line| path(line));
    changed.chain(gone).collect()
}

fn same_toolchain(manifest: &str, versions: &[String]) -> bool {
    versions
        .iter()
        .all(|version| manifest.lines().any(|line| line == version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_names_what_changed_appeared_and_vanished() {
        let sources = vec!["aa  ebpf/src/a.rs".to_owned(), "bb  ebpf/src/b.rs".to_owned()];
        let kept = manifest(&sources, "00", &["# rustc 1".to_owned()]);
        assert!(stale(&kept, &sources, "00").is_empty());
        assert_eq!(stale(&kept, &sources, "01"), ["ebpf/prebuilt/sallyport-gate.o"]);
        let now = vec!["ab  ebpf/src/a.rs".to_owned(), "cc  ebpf/src/c.rs".to_owned()];
        assert_eq!(
            stale(&kept, &now, "00"),
            ["ebpf/src/a.rs", "ebpf/src/c.rs", "ebpf/src/b.rs"]
        );
        assert!(same_toolchain(&kept, &["# rustc 1".to_owned()]));
        assert!(!same_toolchain(&kept, &["# rustc 2".to_owned()]));
    }
}
