//! `cargo xtask ebpf`: builds the BPF object and keeps the committed one honest.
//!
//! The object is built by Debian's `rustc-web` with its prebuilt `core` for BPF, or by an upstream nightly with
//! `rust-src`. `ebpf/prebuilt/` holds it for machines that have neither, beside a manifest with the digests of
//! the sources and the toolchain that it came from; so it does for the programs that `bench gate` measures with.
//! Installing a toolchain is the duty of `setup`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tasks;

const TARGET: &str = "bpfel-unknown-none";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CORE: &str = "/usr/lib/rustlib/bpfel-unknown-none";

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

/// An object that is built from the crate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Object {
    /// The gate's programs, which only judge.
    Gate,
    /// The gate's programs for a process without CAP_PERFMON, which read packets by helpers.
    ByHelper,
    /// The gate's programs, which also log what they let in, by `aya-log`: for `sallyport gate run --debug-object`.
    Debug,
    /// The programs that the gate's are measured with.
    Bench,
}

/// The file that only [`Object::Bench`] is made from.
const BENCH_SOURCE: &str = "bench.rs";

impl Object {
    /// Those that are committed.
    const KEPT: [Self; 3] = [Self::Gate, Self::ByHelper, Self::Bench];

    fn program(self) -> &'static str {
        match self {
            Self::Gate | Self::ByHelper | Self::Debug => "sallyport-gate",
            Self::Bench => "sallyport-gate-bench",
        }
    }

    fn features(self) -> &'static str {
        match self {
            Self::Gate => "programs",
            Self::ByHelper => "by_helper",
            Self::Debug => "programs,log",
            Self::Bench => "bench",
        }
    }

    /// Below the build folder: one each, because a change of features builds everything again.
    fn folder(self) -> &'static str {
        match self {
            Self::Gate => "ebpf",
            Self::ByHelper => "ebpf-by-helper",
            Self::Debug => "ebpf-debug",
            Self::Bench => "ebpf-bench",
        }
    }

    fn made_from(self, source: &Path) -> bool {
        let benches = source.ends_with(BENCH_SOURCE);
        match self {
            Self::Gate | Self::ByHelper | Self::Debug => !benches,
            Self::Bench => benches,
        }
    }

    fn kept(self) -> PathBuf {
        prebuilt().join(format!("{}.o", self.kept_name()))
    }

    fn manifest(self) -> PathBuf {
        prebuilt().join(format!("{}.txt", self.kept_name()))
    }

    fn kept_name(self) -> &'static str {
        match self {
            Self::ByHelper => "sallyport-gate-by-helper",
            other => other.program(),
        }
    }

    /// Compiler flags of this object alone.
    fn flags(self) -> &'static [&'static str] {
        match self {
            // A slot of the stack that held a pointer may not hold a number later, without CAP_PERFMON.
            Self::ByHelper => &["-Clink-arg=--llvm-args=-no-stack-slot-sharing"],
            Self::Gate | Self::Debug | Self::Bench => &[],
        }
    }
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
        Mode::Build => Object::KEPT.into_iter().try_for_each(refresh),
        Mode::Check => Object::KEPT.into_iter().try_for_each(check),
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
    let built = build(toolchain, Object::Debug)?;
    let folder = tasks::target_dir()?.join("bpf-debug");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    let kept = folder.join(format!("{}-debug.o", Object::Debug.program()));
    fs::copy(&built, &kept).with_context(|| format!("cannot write `{}`", kept.display()))?;
    Ok(Some(kept))
}

fn refresh(object: Object) -> Result<()> {
    let toolchain = find_toolchain().context(NO_TOOLCHAIN)?;
    let built = build(toolchain, object)?;
    let folder = prebuilt();
    fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    let kept = object.kept();
    fs::copy(&built, &kept).with_context(|| format!("cannot write `{}`", kept.display()))?;
    let text = manifest(&[
        &versions(toolchain)?[..],
        &[line_of(&kept)?],
        &sources(object)?[..],
    ]);
    let file = object.manifest();
    fs::write(&file, text).with_context(|| format!("cannot write `{}`", file.display()))?;
    println!("ebpf: `{}` is fresh", tasks::relative(&kept));
    Ok(())
}

fn check(object: Object) -> Result<()> {
    let file = object.manifest();
    let kept = fs::read_to_string(&file)
        .with_context(|| format!("cannot read `{}`; `cargo xtask ebpf` writes it", file.display()))?;
    let mut now = vec![line_of(&object.kept())?];
    now.extend(sources(object)?);
    let stale = stale(&kept, &now);
    if !stale.is_empty() {
        bail!(
            "`ebpf/prebuilt` is stale ({}); run `cargo xtask ebpf` and commit it",
            stale.join(", ")
        );
    }
    let name = tasks::relative(&object.kept());
    let Some(toolchain) = find_toolchain() else {
        if tasks::in_ci() {
            bail!("no BPF toolchain is here, and CI must rebuild the object; run `cargo xtask setup`");
        }
        println!("ebpf: sources match `{name}`; it was not rebuilt: no BPF toolchain is here");
        return Ok(());
    };
    let built = build(toolchain, object)?;
    if !same_toolchain(&kept, &versions(toolchain)?) {
        println!("ebpf: sources match `{name}` and it builds; another toolchain built the committed one");
        return Ok(());
    }
    if fs::read(&built)? != fs::read(object.kept())? {
        bail!(
            "what this toolchain builds is not the committed `{name}`; run `cargo xtask ebpf` and commit it"
        );
    }
    println!("ebpf: `{name}` is what the sources build, byte for byte");
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

fn build(toolchain: Toolchain, object: Object) -> Result<PathBuf> {
    let target = tasks::target_dir()?.join(object.folder());
    let mut command = cargo_build(toolchain);
    command
        .args(["--bin", object.program(), "--features", object.features()])
        .args(["--target", TARGET, "--target-dir"])
        .arg(&target);
    for (key, value) in PROFILE {
        command.env(format!("CARGO_PROFILE_RELEASE_{key}"), value);
    }
    command
        .env_remove("CARGO_INCREMENTAL")
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .env("CARGO_ENCODED_RUSTFLAGS", flags(object)?);
    tasks::run(&mut command)?;
    let built = target.join(TARGET).join("release").join(object.program());
    let stripped = built.with_extension("o");
    // BTF, which maps of maps need, is made by now; DWARF would be nine tenths of the committed file.
    tasks::run(
        Command::new(objcopy()?)
            .arg("--strip-debug")
            .arg(&built)
            .arg(&stripped),
    )?;
    Ok(stripped)
}

/// The toolchain's `cargo build` of the crate; binary, features and target still to be said.
fn cargo_build(toolchain: Toolchain) -> Command {
    let cargo_args = ["build", "--release", "--locked", "--package", "sallyport-ebpf"];
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
fn flags(object: Object) -> Result<String> {
    let linker = tasks::find_tool("bpf-linker").context("`bpf-linker` is not there")?;
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    let home = home.context("neither `CARGO_HOME` nor a home folder is set")?;
    let mut flags = vec![
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
    flags.extend(object.flags().iter().map(|flag| (*flag).to_owned()));
    Ok(flags.join("\u{1f}"))
}

/// `digest  path` lines of everything that the object is made from.
fn sources(object: Object) -> Result<Vec<String>> {
    let folder = tasks::root().join("ebpf");
    let mut files = tasks::files_under(&folder.join("src"), ".rs")?;
    files.retain(|file| object.made_from(file));
    files.insert(0, folder.join("Cargo.toml"));
    files.iter().map(|file| line_of(file)).collect()
}

fn line_of(file: &Path) -> Result<String> {
    Ok(format!("{}  {}", digest(file)?, tasks::relative(file)))
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

fn manifest(parts: &[&[String]]) -> String {
    let title = "# What `cargo xtask ebpf` built this object from; SHA-256.";
    let lines = parts.iter().copied().flatten().map(String::as_str);
    let lines: Vec<&str> = std::iter::once(title).chain(lines).collect();
    lines.join("\n") + "\n"
}

/// What the manifest and the tree do not agree on.
fn stale(manifest: &str, now: &[String]) -> Vec<String> {
    let kept: Vec<&str> = manifest.lines().filter(|line| !line.starts_with('#')).collect();
    let path = |line: &str| line.split_whitespace().last().unwrap_or_default().to_owned();
    let changed = now
        .iter()
        .filter(|line| !kept.contains(&line.as_str()))
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
        let line = |text: &str| text.to_owned();
        let was = ["00  ebpf/prebuilt/g.o", "aa  ebpf/src/a.rs", "bb  ebpf/src/b.rs"].map(line);
        let kept = manifest(&[&["# rustc 1".to_owned()], &was]);
        assert!(stale(&kept, &was).is_empty());
        let now = ["01  ebpf/prebuilt/g.o", "ab  ebpf/src/a.rs", "cc  ebpf/src/c.rs"].map(line);
        assert_eq!(
            stale(&kept, &now),
            [
                "ebpf/prebuilt/g.o",
                "ebpf/src/a.rs",
                "ebpf/src/c.rs",
                "ebpf/src/b.rs"
            ]
        );
        assert!(same_toolchain(&kept, &["# rustc 1".to_owned()]));
        assert!(!same_toolchain(&kept, &["# rustc 2".to_owned()]));
    }
}
