//! Judging the deb: its parts as they are, and, where told to, a whole life on this machine: install, check,
//! install again as an upgrade, purge.
//!
//! It refuses to touch a machine on which Sallyport is installed already.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::dist::stage::Stage;
use crate::tasks;

const UNITS: &[&str] = &["sallyport.service", "sallyport-gate.service"];
/// What only exists because of the package, beside its files.
const TRACES: &[&str] = &[
    "/etc/sallyport",
    "/var/lib/sallyport",
    "/run/sallyport",
    "/run/sallyport-gate",
    "/sys/fs/bpf/sallyport",
    "/usr/share/doc/sallyport",
    "/etc/systemd/system/sallyport.service",
    "/etc/systemd/system/sallyport-gate.service",
    "/etc/systemd/system/multi-user.target.wants/sallyport.service",
    "/etc/systemd/system/multi-user.target.wants/sallyport-gate.service",
    "/var/lib/systemd/deb-systemd-helper-enabled/sallyport.service.dsh-also",
    "/var/lib/systemd/deb-systemd-helper-enabled/sallyport-gate.service.dsh-also",
    "/var/lib/dpkg/info/sallyport.list",
];

/// Judges the deb; installs it only as root and with `SALLYPORT_DIST_INSTALL=1`.
///
/// # Errors
/// The first thing that is not as it should be.
pub(super) fn run(deb: &Path, stage: &Stage) -> Result<()> {
    contents_match(deb, stage)?;
    scripts_parse()?;
    man_page_is_clean(stage)?;
    silent(
        "systemd-analyze verify on the staged tree",
        Command::new("systemd-analyze")
            .arg("verify")
            .arg("--recursive-errors=no")
            .args(
                UNITS
                    .iter()
                    .map(|unit| stage.path("usr/lib/systemd/system").join(unit)),
            )
            .env(
                "SYSTEMD_UNIT_PATH",
                format!("{}:", stage.path("usr/lib/systemd/system").display()),
            ),
        Tolerated::MissingBinary,
    )?;
    silent(
        "check of the default configuration",
        &mut staged_check(stage),
        Tolerated::Nothing,
    )?;
    if std::env::var("SALLYPORT_DIST_INSTALL").is_ok_and(|value| value == "1") {
        return live(deb, stage);
    }
    println!(
        "dist: not installed; as root, SALLYPORT_DIST_INSTALL=1 tries installation, upgrade and purge here"
    );
    Ok(())
}

fn staged_check(stage: &Stage) -> Command {
    let mut check = Command::new(stage.path("usr/bin/sallyport"));
    check
        .args(["check", "--config"])
        .arg(stage.path("etc/sallyport/sallyport.toml"));
    check
}

/// What a judge may say without harm.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tolerated {
    Nothing,
    /// The units name the binary where it will be, which on a staged tree is not yet so.
    MissingBinary,
}

/// Demands success, and nothing said on standard error.
fn silent(what: &str, command: &mut Command, tolerated: Tolerated) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("`{}` does not start", tasks::shown(command)))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let ours = |line: &&str| {
        tolerated == Tolerated::Nothing
            || !line.contains("/usr/bin/sallyport is not executable: No such file")
    };
    let complaints: Vec<&str> = said
        .lines()
        .filter(|line| !line.trim().is_empty())
        .filter(ours)
        .collect();
    let failed = !output.status.success() && tolerated == Tolerated::Nothing;
    if failed || !complaints.is_empty() {
        let out = String::from_utf8_lossy(&output.stdout);
        bail!(
            "{what}: {}\n{}\n{}",
            output.status,
            complaints.join("\n"),
            out.trim()
        );
    }
    println!("dist: {what}: ok");
    Ok(())
}

/// The deb holds the staged files, owned by root, and nothing else.
fn contents_match(deb: &Path, stage: &Stage) -> Result<()> {
    let listed = tasks::capture(Command::new("dpkg-deb").arg("--contents").arg(deb))?;
    let mut held = Vec::new();
    for line in listed.lines() {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [mode, owner, .., path] = columns.as_slice() else {
            bail!("`dpkg-deb` said `{line}`")
        };
        if *owner != "root/root" {
            bail!("`{path}` in the deb belongs to `{owner}`, expected root/root");
        }
        if mode.starts_with('-') {
            held.push(PathBuf::from(path.trim_start_matches('.')));
        }
    }
    held.sort();
    let expected = stage.installed_files()?;
    if held != expected {
        bail!("the deb holds {held:?}, expected {expected:?}");
    }
    println!("dist: contents of the deb: ok, {} files", held.len());
    Ok(())
}

fn scripts_parse() -> Result<()> {
    for name in ["postinst", "prerm", "postrm"] {
        let script = tasks::root().join("packaging/deb").join(name);
        silent(
            &format!("syntax of {name}"),
            Command::new("sh").arg("-n").arg(script),
            Tolerated::Nothing,
        )?;
    }
    Ok(())
}

fn man_page_is_clean(stage: &Stage) -> Result<()> {
    let page = stage.path("usr/share/man/man8/sallyport.8.gz");
    let mut man = Command::new("man");
    man.args(["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"])
        .arg(page)
        .env("MANROFFSEQ", "")
        .env("MANWIDTH", "80");
    silent("man page", &mut man, Tolerated::Nothing)
}

/// Installs, checks, upgrades and purges on this machine; purges after a failure too.
fn live(deb: &Path, stage: &Stage) -> Result<()> {
    if !tasks::is_root() {
        bail!("installing needs root");
    }
    if Path::new("/var/lib/dpkg/info/sallyport.list").exists() || Path::new("/etc/sallyport").exists() {
        bail!("Sallyport is installed on this machine already; it is left alone");
    }
    let lived = installed_life(deb);
    tasks::run(Command::new("dpkg").args(["--purge", "sallyport"]))?;
    lived?;
    nothing_left(stage)
}

fn installed_life(deb: &Path) -> Result<()> {
    tasks::run(Command::new("dpkg").arg("-i").arg(deb))?;
    silent(
        "check as installed",
        Command::new("/usr/bin/sallyport").arg("check"),
        Tolerated::Nothing,
    )?;
    silent(
        "check as the service's user",
        Command::new("setpriv").args([
            "--reuid=sallyport",
            "--regid=sallyport",
            "--clear-groups",
            "/usr/bin/sallyport",
            "check",
        ]),
        Tolerated::Nothing,
    )?;
    silent(
        "systemd-analyze verify",
        Command::new("systemd-analyze").arg("verify").args(UNITS),
        Tolerated::Nothing,
    )?;
    tasks::run(Command::new("dpkg").arg("-i").arg(deb)).context("the upgrade failed")?;
    silent(
        "check after an upgrade",
        Command::new("/usr/bin/sallyport").arg("check"),
        Tolerated::Nothing,
    )
}

fn nothing_left(stage: &Stage) -> Result<()> {
    let mut left: Vec<String> = TRACES
        .iter()
        .filter(|path| exists(Path::new(path)))
        .map(|path| (*path).to_owned())
        .collect();
    left.extend(
        stage
            .installed_files()?
            .iter()
            .filter(|file| exists(file))
            .map(|file| file.display().to_string()),
    );
    for (file, what) in [("/etc/passwd", "user"), ("/etc/group", "group")] {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read `{file}`"))?;
        if text.lines().any(|line| line.starts_with("sallyport:")) {
            left.push(format!("{what} sallyport"));
        }
    }
    if !left.is_empty() {
        bail!("the purge left: {}", left.join(", "));
    }
    println!("dist: purge: nothing is left");
    Ok(())
}

/// Whether a path is there, a dangling link included.
fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}
