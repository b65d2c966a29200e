//! The BPF toolchain: Debian's compiler with its prebuilt `core`, or an upstream nightly with `rust-src`; and
//! `bpf-linker` against the LLVM that is there.
//!
//! It decides and installs; building the object is the duty of `ebpf`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup::needs::{self, Group, Need};
use crate::setup::{Apt, system_name};
use crate::tasks;

const LINKER_VERSION: &str = "0.13.0";

/// What the BPF toolchain lacks.
#[derive(Default)]
pub(super) struct Lack {
    packages: Vec<&'static Need>,
    linker: Linker,
}

#[derive(Default, PartialEq, Eq, Clone, Copy)]
enum Linker {
    #[default]
    Present,
    Missing,
}

impl Lack {
    /// Looks at the machine. An upstream toolchain that is complete lacks nothing, whatever Debian offers.
    pub(super) fn find() -> Self {
        let linker = linker();
        if nightly_with_source() && linker == Linker::Present {
            return Self::default();
        }
        Self {
            packages: needs::missing(&[Group::Bpf]),
            linker,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.packages.is_empty() && self.linker == Linker::Present
    }
}

/// Installs what is lacking: Debian's way where its packages exist, else the upstream way, else a notice.
///
/// # Errors
/// An installation that was started and failed; under CI also a machine where neither way is open.
pub(super) fn install(lack: Lack) -> Result<()> {
    match debian_way(&lack)? {
        Way::Done => return install_linker(&PathBuf::from("/usr/lib/llvm-22"), "22", lack.linker),
        Way::Closed(why) => println!("setup: BPF toolchain from packages: {why}"),
    }
    match upstream_way()? {
        Some((prefix, major)) => install_linker(&prefix, &major, lack.linker),
        None if tasks::in_ci() => {
            bail!("no BPF toolchain can be installed here, and CI must rebuild the object")
        }
        None => {
            println!("setup: no BPF toolchain here: the committed object in `ebpf/prebuilt` will be used");
            Ok(())
        }
    }
}

enum Way {
    Done,
    Closed(String),
}

fn debian_way(lack: &Lack) -> Result<Way> {
    if lack.packages.is_empty() {
        return Ok(Way::Done);
    }
    if tasks::find_tool("apt-get").is_none() {
        return Ok(Way::Closed("`apt-get` is not there".to_owned()));
    }
    let names: Vec<&str> = lack.packages.iter().map(|need| need.apt).collect();
    if !tasks::is_root() {
        return Ok(Way::Closed(format!(
            "not root; as root: apt-get install {}",
            names.join(" ")
        )));
    }
    let apt = Apt::refreshed()?;
    let absent: Vec<&str> = names.iter().copied().filter(|name| !apt.offers(name)).collect();
    if !absent.is_empty() {
        return Ok(Way::Closed(format!(
            "{} does not offer {}",
            system_name(),
            absent.join(", ")
        )));
    }
    apt.install(&names)?;
    Ok(Way::Done)
}

/// The upstream way: a nightly with `rust-src` and an LLVM that `bpf-linker` knows. Returns that LLVM.
fn upstream_way() -> Result<Option<(PathBuf, String)>> {
    if !has_nightly() {
        println!("setup: upstream BPF toolchain: rustup has no nightly");
        return Ok(None);
    }
    let Some(llvm) = known_llvm() else {
        println!("setup: upstream BPF toolchain: no LLVM 21, 22 or 23 with `llvm-config` (llvm-devel)");
        return Ok(None);
    };
    if !nightly_with_source() {
        println!("setup: adding rust-src to the nightly toolchain");
        let mut add = Command::new("rustup");
        add.args(["component", "add", "rust-src", "--toolchain", "nightly"]);
        if let Err(error) = tasks::run(&mut add) {
            println!("setup: upstream BPF toolchain: {error:#}");
            return Ok(None);
        }
    }
    Ok(Some(llvm))
}

fn has_nightly() -> bool {
    tasks::capture(Command::new("rustup").args(["toolchain", "list"]))
        .is_ok_and(|list| list.contains("nightly"))
}

/// Whether a nightly with the sources of `core` is installed.
fn nightly_with_source() -> bool {
    if !has_nightly() {
        return false;
    }
    let sysroot =
        tasks::capture(Command::new("rustup").args(["run", "nightly", "rustc", "--print", "sysroot"]));
    sysroot.is_ok_and(|path| {
        Path::new(path.trim())
            .join("lib/rustlib/src/rust/library/core")
            .is_dir()
    })
}

/// An LLVM of a version that `bpf-linker` has a feature for: its prefix and major version.
fn known_llvm() -> Option<(PathBuf, String)> {
    let versioned =
        ["22", "23", "21"].map(|major| PathBuf::from(format!("/usr/lib/llvm-{major}/bin/llvm-config")));
    let candidates = versioned.into_iter().chain(tasks::find_tool("llvm-config"));
    candidates.filter(|config| config.exists()).find_map(|config| {
        let version = tasks::capture(Command::new(&config).arg("--version")).ok()?;
        let major = version.trim().split('.').next()?.to_owned();
        let prefix = tasks::capture(Command::new(&config).arg("--prefix")).ok()?;
        ["21", "22", "23"]
            .contains(&major.as_str())
            .then(|| (PathBuf::from(prefix.trim()), major))
    })
}

fn linker() -> Linker {
    let Some(tool) = tasks::find_tool("bpf-linker") else {
        return Linker::Missing;
    };
    let said = tasks::capture(Command::new(tool).arg("--version")).unwrap_or_default();
    if said.trim() == format!("bpf-linker {LINKER_VERSION}") {
        Linker::Present
    } else {
        Linker::Missing
    }
}

fn install_linker(prefix: &Path, major: &str, state: Linker) -> Result<()> {
    if state == Linker::Present {
        return Ok(());
    }
    println!(
        "setup: installing bpf-linker {LINKER_VERSION} from crates.io against LLVM {major} (about a minute)"
    );
    let libraries = tasks::capture(Command::new(prefix.join("bin/llvm-config")).arg("--libdir"))?;
    let libraries = libraries.trim();
    let feature = format!("llvm-{major}");
    let mut install = tasks::cargo();
    install
        .args(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked"])
        .args(["--no-default-features", "--features", &feature])
        .env("LLVM_PREFIX", prefix)
        .env(
            "RUSTFLAGS",
            format!("-L {libraries} -C link-arg=-Wl,-rpath,{libraries}"),
        )
        .env_remove("CARGO_TARGET_DIR");
    tasks::run(&mut install).context("bpf-linker cannot be installed")?;
    if linker() == Linker::Missing {
        bail!("`bpf-linker` was installed and does not say version {LINKER_VERSION}");
    }
    Ok(())
}
