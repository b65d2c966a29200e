//! Network namespaces, and everything that lives in them, gone when the `Lab` is dropped.
//!
//! A namespace is entered by `setns` on a thread of its own: `ip netns exec` would show another sysfs, in
//! which pinned eBPF objects are lost. Nothing here knows what runs in a namespace.

use crate::process::{Proc, Spawn};
use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, Weak};
use std::time::Duration;

/// Start of the name of every namespace and directory made here; the process id follows.
const PREFIX: &str = "sp";

static COUNTER: AtomicU32 = AtomicU32::new(0);
static LABS: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());

/// A set of namespaces, processes, mounts and one scratch directory with one life.
#[derive(Debug)]
pub struct Lab {
    shared: Arc<Shared>,
}

/// What a lab owns; also held by its processes, so that they can sign off.
#[derive(Debug)]
pub(crate) struct Shared {
    id: String,
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    namespaces: Vec<String>,
    mounts: Vec<PathBuf>,
    groups: BTreeSet<i32>,
}

/// One network namespace of a lab; a cheap handle.
#[derive(Clone, Debug)]
pub struct Ns {
    name: String,
    net: Arc<File>,
    shared: Arc<Shared>,
}

impl Lab {
    /// A lab with an empty scratch directory and no namespaces yet.
    ///
    /// # Errors
    /// Where the directory cannot be made.
    pub fn new() -> Result<Lab> {
        static SWEPT: Once = Once::new();
        SWEPT.call_once(sweep_leftovers);
        let id = format!(
            "{PREFIX}{}x{}",
            std::process::id(),
            COUNTER.fetch_add(1, Ordering::Relaxed)
        );
        let dir = std::env::temp_dir().join(&id);
        std::fs::create_dir(&dir).with_context(|| format!("cannot make `{}`", dir.display()))?;
        let shared = Arc::new(Shared {
            id,
            dir,
            state: Mutex::default(),
        });
        locked(&LABS).push(Arc::downgrade(&shared));
        Ok(Lab { shared })
    }

    /// The scratch directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// A new namespace with loopback up.
    ///
    /// # Errors
    /// Where `ip` refuses.
    pub fn namespace(&self, name: &str) -> Result<Ns> {
        let full = format!("{}-{name}", self.shared.id);
        {
            let mut state = self.shared.state();
            ensure!(!state.closed, "the lab is being taken down");
            run(Command::new("ip").args(["netns", "add", &full]))?;
            state.namespaces.push(full.clone());
        }
        let net = File::open(Path::new("/run/netns").join(&full)).context("cannot open the namespace")?;
        let ns = Ns {
            name: full,
            net: Arc::new(net),
            shared: Arc::clone(&self.shared),
        };
        ns.ip("link set lo up")?;
        Ok(ns)
    }

    /// A bpffs of the lab's own; whatever is pinned there goes with the lab.
    ///
    /// # Errors
    /// Where the kernel refuses the mount.
    pub fn bpffs(&self) -> Result<PathBuf> {
        let at = self.shared.dir.join("bpf");
        std::fs::create_dir_all(&at)?;
        let mut state = self.shared.state();
        if !state.mounts.contains(&at) {
            mount(Some("bpf"), &at, Some("bpf"), MsFlags::empty(), None::<&str>)
                .context("cannot mount a bpffs")?;
            state.mounts.push(at.clone());
        }
        Ok(at)
    }

    /// Takes everything down now; the drop does the same.
    pub fn close(&self) {
        self.shared.close();
    }

    /// The last lines of every log in the scratch directory, for a failure's report.
    #[must_use]
    pub fn logs(&self, lines_each: usize) -> String {
        let mut names: Vec<PathBuf> = std::fs::read_dir(&self.shared.dir)
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        names.retain(|path| path.extension().is_some_and(|end| end == "log"));
        names.sort();
        let mut out = String::new();
        for path in names {
            let text = std::fs::read(&path).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            let all: Vec<&str> = text.lines().collect();
            let tail = all
                .get(all.len().saturating_sub(lines_each)..)
                .unwrap_or_default();
            out.push_str(&format!("--- {}\n{}\n", path.display(), tail.join("\n")));
        }
        out
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// Runs `spawn` unless the lab is closed, and remembers the process group that it gives.
    pub(crate) fn adopt<T>(&self, spawn: impl FnOnce() -> Result<(T, i32)>) -> Result<T> {
        let mut state = self.state();
        ensure!(!state.closed, "the lab is being taken down");
        let (value, group) = spawn()?;
        state.groups.insert(group);
        Ok(value)
    }

    /// Kills the group of a process that is not reaped yet, reaps it by `reap` and forgets it.
    pub(crate) fn release(&self, group: i32, reap: impl FnOnce()) {
        let mut state = self.state();
        if state.groups.remove(&group) {
            kill_group(group);
        }
        reap();
        drop(state);
        await_end(group);
    }

    /// A fresh path in the scratch directory.
    pub(crate) fn fresh(&self, stem: &str, ending: &str) -> PathBuf {
        self.dir.join(format!(
            "{stem}-{}.{ending}",
            COUNTER.fetch_add(1, Ordering::Relaxed)
        ))
    }

    fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        for group in std::mem::take(&mut state.groups) {
            kill_group(group);
        }
        for at in std::mem::take(&mut state.mounts) {
            report(umount2(&at, MntFlags::MNT_DETACH).context("cannot unmount"));
        }
        for name in std::mem::take(&mut state.namespaces) {
            report(run(Command::new("ip").args(["netns", "del", &name])));
        }
        if self.dir.exists() {
            report(std::fs::remove_dir_all(&self.dir).context("cannot remove the scratch directory"));
        }
    }
}

impl Ns {
    /// Its name, as `ip netns list` shows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The lab's scratch directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// A path in the scratch directory that nobody else was given.
    #[must_use]
    pub fn fresh(&self, stem: &str, ending: &str) -> PathBuf {
        self.shared.fresh(stem, ending)
    }

    /// Runs `work` on a thread inside this namespace: sockets that it makes and processes that it starts
    /// belong here.
    ///
    /// # Errors
    /// Where the namespace cannot be entered, or what `work` returned.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let net = &self.net;
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                setns(net.as_ref(), CloneFlags::CLONE_NEWNET).context("cannot enter the namespace")?;
                work()
            });
            match inside.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Runs lines of `ip -batch` in this namespace.
    ///
    /// # Errors
    /// Where one of them is refused.
    pub fn ip(&self, lines: &str) -> Result<()> {
        let mut child = Command::new("ip")
            .args(["-n", &self.name, "-batch", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start `ip`")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(lines.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        ensure!(
            output.status.success(),
            "`{lines}`: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// Starts a long-running program here, its output captured.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn spawn(&self, spawn: Spawn) -> Result<Proc> {
        Proc::start(self, &self.shared, spawn)
    }

    /// Runs a program to its end here and returns its output.
    ///
    /// # Errors
    /// Where it cannot be started; its exit status is the caller's to judge.
    pub fn output(&self, command: &mut Command) -> Result<std::process::Output> {
        let name = command.get_program().to_string_lossy().into_owned();
        self.enter(move || command.output().with_context(|| format!("cannot run `{name}`")))
    }

    /// The content of `/proc/net/NAME` as this namespace sees it.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn proc_net(&self, name: &str) -> Result<String> {
        self.enter(|| {
            Ok(std::fs::read_to_string(
                Path::new("/proc/thread-self/net").join(name),
            )?)
        })
    }
}

/// Joins two namespaces by a veth pair, named `a_name` in `a` and `b_name` in `b`, both up.
///
/// # Errors
/// Where `ip` refuses.
pub fn veth(a: &Ns, a_name: &str, b: &Ns, b_name: &str) -> Result<()> {
    a.ip(&format!(
        "link add {a_name} type veth peer name {b_name} netns {}\nlink set {a_name} up\n",
        b.name
    ))?;
    b.ip(&format!("link set {b_name} up\n"))
}

/// Takes every lab of this process down; for a signal's thread, which then ends the process.
pub fn close_all() {
    let labs: Vec<Arc<Shared>> = locked(&LABS).iter().filter_map(Weak::upgrade).collect();
    for shared in labs {
        shared.close();
    }
}

/// What a killed run of this harness left behind: namespaces of our naming whose maker is dead.
fn sweep_leftovers() {
    let Ok(entries) = std::fs::read_dir("/run/netns") else {
        return;
    };
    for name in entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
    {
        if maker(&name).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            report(sweep(&name));
        }
    }
}

/// The process id in a name of our making.
fn maker(name: &str) -> Option<u32> {
    let (pid, rest) = name.strip_prefix(PREFIX)?.split_once('x')?;
    rest.split_once('-')?.0.parse::<u32>().ok()?;
    pid.parse().ok()
}

fn sweep(name: &str) -> Result<()> {
    let pids = Command::new("ip").args(["netns", "pids", name]).output()?;
    for pid in String::from_utf8_lossy(&pids.stdout).split_whitespace() {
        kill(Pid::from_raw(pid.parse()?), Signal::SIGKILL)?;
    }
    run(Command::new("ip").args(["netns", "del", name]))?;
    let Some((lab, _)) = name.split_once('-') else {
        return Ok(());
    };
    let dir = std::env::temp_dir().join(lab);
    if dir.exists() {
        // Not mounted is the usual case; a mounted bpffs must go before the directory can.
        let _not_mounted = umount2(&dir.join("bpf"), MntFlags::MNT_DETACH);
        std::fs::remove_dir_all(&dir)?;
    }
    Ok(())
}

fn kill_group(group: i32) {
    // Already gone is what is wanted.
    let _gone = killpg(Pid::from_raw(group), Signal::SIGKILL);
}

/// Waits until no process of a killed group is left: a worker that dies a moment after its master still
/// holds its listening sockets meanwhile.
fn await_end(group: i32) {
    let gone = || killpg(Pid::from_raw(group), None).is_err();
    let waited = crate::wait::until(Duration::from_secs(5), "the end of a process group", || {
        Ok(gone().then_some(()))
    });
    report(waited);
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn report(result: Result<()>) {
    if let Err(error) = result {
        eprintln!("taking the lab down: {error:#}");
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
