//! `cargo xtask kernel-test`: the committed programs on other kernels, those of Debian in qemu and the host's own.
//!
//! On each kernel they must load and pass every packet vector, and `sallyport gate run` must attach them. What the
//! verifier walked through goes into `ebpf/prebuilt/verified-instructions.txt`. It must not install or change
//! anything on the host: kernels are unpacked below the target folder, and the guest has no network and no disk.

mod archive;
mod guest;
mod image;
mod initramfs;
mod record;
mod report;

use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::kernel_test::guest::Guest;
use crate::kernel_test::image::Image;
use crate::kernel_test::report::{Finding, Report};
use crate::tasks;

/// Debian's kernels that are tried when none is named: the oldest and the newest long-term series of Debian 12 and 13.
const SERIES: [&str; 2] = ["6.1", "6.12"];

/// A guest that has not switched itself off by then hangs. The machine may be busy with other work, and the guest's
/// processor is emulated.
const PATIENCE: Duration = Duration::from_secs(600);

/// Tools of the host that the guests need, started here or copied into them.
const TOOLS: [&str; 8] = [
    "qemu-system-x86_64",
    "busybox",
    "setpriv",
    "ip",
    "ldd",
    "strip",
    "apt-get",
    "dpkg-deb",
];

/// Which kernels to try.
pub(crate) struct Options {
    series: Vec<String>,
}

impl Options {
    /// Reads series like `6.12`; none means all.
    ///
    /// # Errors
    /// A word that is no series.
    pub(crate) fn parse(words: &[&str]) -> Result<Self> {
        let chosen = if words.is_empty() { &SERIES[..] } else { words };
        for word in chosen {
            if report::version(word).is_none() {
                bail!("`{word}` is no kernel series; it looks like `6.12`");
            }
        }
        Ok(Self {
            series: chosen.iter().map(|word| (*word).to_owned()).collect(),
        })
    }
}

/// Tries the kernels, prints what each did, and writes the record.
///
/// # Errors
/// What is missing, a kernel that cannot be had, or a finding that is not as it must be.
pub(crate) fn run(options: &Options) -> Result<()> {
    let missing: Vec<&str> = TOOLS
        .into_iter()
        .filter(|tool| tasks::find_tool(tool).is_none())
        .collect();
    if !missing.is_empty() {
        bail!(
            "`{}` is not there; `cargo xtask setup` installs what kernel tests need",
            missing.join("`, `")
        );
    }
    let folder = tasks::target_dir()?.join("kernel-test");
    let images = options
        .series
        .iter()
        .map(|series| Image::of(series, &folder))
        .collect::<Result<Vec<_>>>()?;
    let programs = build()?;
    let mut reports = boot_all(&images, &programs)?;
    reports.extend(on_host(&programs)?);
    let findings: Vec<Finding> = reports.iter().flat_map(Report::judge).collect();
    for report in &reports {
        println!("{report}");
    }
    for finding in &findings {
        println!("{finding}");
    }
    record::write(&reports)?;
    let bad = findings.iter().filter(|finding| !finding.good).count();
    if bad > 0 {
        bail!(
            "{bad} of {} findings are not as they must be; what the guests said is in `{}`",
            findings.len(),
            folder.display()
        );
    }
    println!(
        "kernel-test: {} findings on {} kernels, all as they must be",
        findings.len(),
        reports.len()
    );
    Ok(())
}

/// The programs that run on each kernel.
struct Programs {
    packets: PathBuf,
    sallyport: PathBuf,
}

/// Builds the packet vectors; the binary comes along, because cargo builds it for every integration test.
fn build() -> Result<Programs> {
    let mut build = tasks::cargo();
    build.args([
        "test",
        "--locked",
        "-p",
        "sallyport",
        "--test",
        "gate_packets",
        "--no-run",
    ]);
    println!("+ {}", tasks::shown(&build));
    let messages = tasks::capture(build.arg("--message-format=json"))?;
    let executable = |named: &str| {
        let found = messages
            .lines()
            .filter_map(|line| line.split("\"executable\":\"").nth(1)?.split('"').next())
            .find(|path| {
                path.rsplit('/')
                    .next()
                    .is_some_and(|file| file.starts_with(named))
            });
        found
            .map(PathBuf::from)
            .with_context(|| format!("cargo says nothing of `{named}`"))
    };
    Ok(Programs {
        packets: executable("gate_packets")?,
        sallyport: executable("sallyport")?,
    })
}

/// Boots all guests at once: each has one emulated processor, and waiting is most of it.
fn boot_all(images: &[Image], programs: &Programs) -> Result<Vec<Report>> {
    thread::scope(|scope| {
        let running: Vec<_> = images
            .iter()
            .map(|image| scope.spawn(move || boot(image, programs)))
            .collect();
        let joined = running.into_iter().map(|guest| {
            guest
                .join()
                .unwrap_or_else(|_| Err(anyhow!("a guest's watcher panicked")))
        });
        joined.collect()
    })
}

fn boot(image: &Image, programs: &Programs) -> Result<Report> {
    let archive = initramfs::build(image, &programs.packets, &programs.sallyport)?;
    let guest = Guest {
        kernel: &image.kernel,
        initramfs: &archive,
        log: &image.folder.join("serial.log"),
    };
    println!("kernel-test: booting {}", image.release);
    let began = Instant::now();
    let said = guest
        .run(PATIENCE)
        .with_context(|| format!("kernel {}", image.release))?;
    Report::read(&said, began.elapsed()).with_context(|| {
        format!(
            "kernel {} did not come to its end; it said `{}`",
            image.release,
            guest.log.display()
        )
    })
}

/// The same vectors on the kernel that runs here; nothing where we are not root.
fn on_host(programs: &Programs) -> Result<Option<Report>> {
    if !tasks::is_root() {
        println!("kernel-test: not root, so the kernel that runs here is left out and its record goes");
        return Ok(None);
    }
    let release = tasks::capture(Command::new("uname").arg("-r"))?;
    // What follows the version is this machine's own.
    let release = release.trim().split('-').next().unwrap_or_default();
    let mut said = format!("@@ kernel {release}\n");
    let began = Instant::now();
    for (part, capabilities) in [
        ("probe", "+bpf,+net_admin"),
        ("packets", "+bpf,+net_admin,+perfmon"),
    ] {
        let mut test = Command::new(tasks::find_tool("setpriv").context("`setpriv` is gone")?);
        test.arg(format!("--bounding-set=-all,{capabilities}"))
            .args(["--inh-caps=-all", "--no-new-privs"])
            .arg(&programs.packets)
            .args(["--test-threads=1", "--nocapture"])
            .env(initramfs::FUZZ_PACKETS.0, initramfs::FUZZ_PACKETS.1)
            .env_remove("RUST_BACKTRACE");
        let output = test.output().context("the packet vectors do not start")?;
        said += &format!("@@ begin {part}\n");
        said += &String::from_utf8_lossy(&output.stdout);
        said += &String::from_utf8_lossy(&output.stderr);
        let code = output.status.code().unwrap_or(-1);
        said += &format!("\n@@ end {part} {code} {:.2}\n", began.elapsed().as_secs_f64());
    }
    said += "@@ done\n";
    Report::read(&said, began.elapsed()).map(Some)
}
