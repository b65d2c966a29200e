//! `cargo xtask setup`: installs what is missing, says what before it does so, and does nothing when all is there.
//!
//! It must not start or enable a service, replace a tool that is already there, or touch anything but packages,
//! Rust components and `bpf-linker`.

mod bpf;
mod needs;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup::needs::{Group, Need};
use crate::tasks;

/// How much to install.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scope {
    /// All that `ci`, `test`, `bench`, `kernel-test` and `dist` use.
    Everything,
    /// What `demo` uses: a C compiler and the peers it shows.
    Minimal,
}

/// Brings the machine to where the verbs of this scope work.
///
/// # Errors
/// Fails when something is missing that it cannot install: no root, no apt, no network. A missing BPF toolchain
/// alone is no error outside CI, because the prebuilt object stands in for it.
pub(crate) fn run(scope: Scope) -> Result<()> {
    let groups: &[Group] = match scope {
        Scope::Everything => &[
            Group::Build,
            Group::Demo,
            Group::Test,
            Group::Package,
            Group::Kernels,
        ],
        Scope::Minimal => &[Group::Build, Group::Demo],
    };
    let missing = needs::missing(groups);
    let lacking_bpf = if scope == Scope::Everything {
        bpf::Lack::find()
    } else {
        bpf::Lack::default()
    };
    let components = if scope == Scope::Everything {
        missing_components()
    } else {
        Vec::new()
    };
    if missing.is_empty() && lacking_bpf.is_empty() && components.is_empty() {
        println!("setup: everything is here");
        return Ok(());
    }
    install_components(&components)?;
    install_packages(&missing)?;
    if !lacking_bpf.is_empty() {
        bpf::install(lacking_bpf)?;
    }
    let still = needs::missing(groups);
    if !still.is_empty() {
        bail!("still missing after the installation: {}", listed(&still));
    }
    println!("setup: done");
    Ok(())
}

/// Installs packages with apt, or says which ones to install where it cannot.
fn install_packages(missing: &[&Need]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    println!("setup: missing: {}", listed(missing));
    if tasks::find_tool("apt-get").is_none() {
        let names: Vec<&str> = missing.iter().map(|need| need.dnf).collect();
        bail!(
            "`apt-get` is not there; install these by hand: dnf install {}",
            names.join(" ")
        );
    }
    let names: Vec<&str> = missing.iter().map(|need| need.apt).collect();
    if !tasks::is_root() {
        bail!(
            "not root; run as root: apt-get install --no-install-recommends {}",
            names.join(" ")
        );
    }
    let apt = Apt::refreshed()?;
    apt.install(&names)
}

fn listed(needs: &[&Need]) -> String {
    let words: Vec<String> = needs
        .iter()
        .map(|need| format!("{} ({})", need.what, need.why))
        .collect();
    words.join(", ")
}

/// apt with fresh package lists.
struct Apt;

/// Runs apt while Debian's own switch against service starts, `policy-rc.d`, says no. The trap takes the switch
/// away after a failure or Ctrl-C too; one that was there before stays.
const APT_INSTALL: &str = r#"
set -e
guard=/usr/sbin/policy-rc.d
if [ ! -e "$guard" ]; then
    trap 'rm -f "$guard"' EXIT
    trap 'exit 130' INT TERM HUP
    printf '#!/bin/sh\nexit 101\n' > "$guard"
    chmod 755 "$guard"
fi
apt-get -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends "$@"
"#;

impl Apt {
    fn refreshed() -> Result<Self> {
        tasks::run(Command::new("apt-get").args(["-o", "DPkg::Lock::Timeout=300", "-q", "update"]))?;
        Ok(Self)
    }

    /// Whether the machine's sources carry a package.
    fn offers(&self, package: &str) -> bool {
        tasks::capture(Command::new("apt-cache").args(["policy", package]))
            .is_ok_and(|said| said.contains("Candidate:") && !said.contains("Candidate: (none)"))
    }

    fn install(&self, packages: &[&str]) -> Result<()> {
        println!("setup: installing with apt: {}", packages.join(" "));
        let mut shell = Command::new("sh");
        shell
            .args(["-c", APT_INSTALL, "sh"])
            .args(packages)
            .env("DEBIAN_FRONTEND", "noninteractive");
        let status = shell.status().context("`sh` does not start")?;
        if !status.success() {
            bail!("`apt-get install {}` ended with {status}", packages.join(" "));
        }
        disable_services(packages);
        Ok(())
    }
}

/// Takes the peers' own services out of the next boot: the tests start their own copies, and nobody asked for a
/// web server on port 80. Only packages that this run installed are named.
fn disable_services(packages: &[&str]) {
    if !Path::new("/etc/systemd/system/multi-user.target.wants").is_dir()
        || tasks::find_tool("systemctl").is_none()
    {
        return;
    }
    for (package, unit) in [
        ("nginx-light", "nginx.service"),
        ("haproxy", "haproxy.service"),
        ("caddy", "caddy.service"),
    ] {
        if packages.contains(&package) {
            println!("setup: {unit} is installed for its program alone: disabled");
            tasks::succeeds(Command::new("systemctl").args(["disable", unit]));
        }
    }
}

/// The Rust components that `ci` uses and this toolchain lacks.
fn missing_components() -> Vec<&'static str> {
    [("rustfmt", "fmt"), ("clippy", "clippy")]
        .into_iter()
        .filter(|(_, verb)| !tasks::succeeds(tasks::cargo().args([verb, "--version"])))
        .map(|(component, _)| component)
        .collect()
}

fn install_components(components: &[&str]) -> Result<()> {
    if components.is_empty() {
        return Ok(());
    }
    println!("setup: missing Rust components: {}", components.join(", "));
    if tasks::find_tool("rustup").is_none() {
        bail!(
            "`rustup` is not there; install {} the way this Rust was installed",
            components.join(" and ")
        );
    }
    tasks::run(Command::new("rustup").args(["component", "add"]).args(components))
}

/// The name of the distribution for messages.
fn system_name() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    line.map_or_else(
        || "this system".to_owned(),
        |name| name.trim_matches('"').to_owned(),
    )
}
