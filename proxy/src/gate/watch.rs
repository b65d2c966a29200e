//! Tells when files change that other programs write: allowlists that an operator edits or a tool replaces.
//!
//! It watches and reads nothing. What counts is the path, not the file that it once led to: every directory and
//! every symbolic link on the way is watched, so that a file that is replaced by rename, a link that is switched and
//! a directory that appears later are all seen. One that waits for the end of a burst of changes uses [`Settle`].

#![allow(unsafe_code, reason = "registering a descriptor for readiness")]

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor},
};
use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    ffi::{OsStr, OsString},
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    path::{Component, Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::io::{Interest as Readiness, unix::AsyncFd};

/// Symbolic links followed on the way to one file, as the kernel does (`path_resolution(7)`).
const LINKS_MAX: usize = 40;
/// Reads of one [`Watch::drain`]: more than the kernel's default queue of 16,384 events fills. Under a flood something
/// may be left, which keeps the descriptor readable.
const READS_MAX: usize = 256;

/// What can happen to a name in a directory.
const NAMES: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_ATTRIB)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR);
/// What can happen to a file, under whatever name it is written.
const CONTENTS: AddWatchFlags = AddWatchFlags::IN_MODIFY
    .union(AddWatchFlags::IN_CLOSE_WRITE)
    .union(AddWatchFlags::IN_ATTRIB)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF);

/// A watch over some paths. Its descriptor is readable when there is something to [`Watch::drain`].
#[derive(Debug)]
pub struct Watch {
    inotify: Inotify,
    paths: BTreeSet<PathBuf>,
    watched: HashMap<WatchDescriptor, Interest>,
    blind: Vec<String>,
}

/// What matters of the events of one watched object.
#[derive(Debug, Default)]
struct Interest {
    /// Of a directory: the names on the way to a file.
    names: BTreeSet<OsString>,
    /// Of a file: everything.
    all: bool,
}

impl Watch {
    /// Watches `paths`. What happened before is not told: look at the files once afterwards.
    ///
    /// # Errors
    /// Where the kernel gives no watch at all. One that it refuses for a single directory is in [`Watch::blind`].
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let mut watch = Self {
            inotify,
            paths: BTreeSet::new(),
            watched: HashMap::new(),
            blind: Vec::new(),
        };
        watch.set_paths(paths);
        Ok(watch)
    }

    /// Watches these paths in place of the ones before.
    pub fn set_paths(&mut self, paths: impl IntoIterator<Item = PathBuf>) {
        // A path without a current directory to start from stays as it is and is looked up from the root.
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        self.paths = paths.into_iter().map(absolute).collect();
        self.arm();
    }

    /// Directories and files that the kernel does not let us watch, with the reason: changes there go unseen.
    pub fn blind(&self) -> &[String] {
        &self.blind
    }

    /// Takes what has happened, without waiting. Returns whether a watched path may lead to something else now.
    pub fn drain(&mut self) -> bool {
        let mut changed = false;
        for _ in 0..READS_MAX {
            match self.inotify.read_events() {
                Ok(events) => {
                    changed |= events
                        .iter()
                        .any(|event| self.matters(event.wd, event.mask, event.name.as_deref()));
                }
                Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        if changed {
            self.arm();
        }
        changed
    }

    fn matters(&self, descriptor: WatchDescriptor, mask: AddWatchFlags, name: Option<&OsStr>) -> bool {
        if mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            return true;
        }
        // A watch that we gave up ourselves says so once more; it is not in the table.
        self.watched
            .get(&descriptor)
            .is_some_and(|interest| interest.all || name.is_none_or(|name| interest.names.contains(name)))
    }

    /// Watches what is on the way to every path now, and nothing else.
    fn arm(&mut self) {
        let mut way = Way {
            inotify: &self.inotify,
            watched: HashMap::new(),
            blind: BTreeSet::new(),
        };
        self.paths.iter().for_each(|path| way.walk(path));
        let Way { watched, blind, .. } = way;
        for gone in self.watched.keys().filter(|known| !watched.contains_key(known)) {
            // The kernel has dropped it where the object is gone.
            let _ = self.inotify.rm_watch(*gone);
        }
        self.watched = watched;
        self.blind = blind.into_iter().collect();
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// For [`AsyncFd`] alone.
impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.inotify.as_fd().as_raw_fd()
    }
}

/// A [`Watch`] for a tokio runtime.
#[derive(Debug)]
pub struct AsyncWatch(AsyncFd<Watch>);

impl AsyncWatch {
    /// Registers a watch with the runtime of this thread.
    ///
    /// # Errors
    /// Where the kernel gives no watch.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> io::Result<Self> {
        let watch = Watch::new(paths)?;
        // SAFETY: the watch owns its descriptor, and nothing here closes or replaces it while the runtime has it; the
        // tests of allowlist files in `tests/tests/accept.rs` run through here.
        let registered = unsafe { AsyncFd::register_with_interest(watch, Readiness::READABLE) };
        Ok(Self(registered?))
    }

    /// The watch.
    pub fn watch(&mut self) -> &mut Watch {
        self.0.get_mut()
    }

    /// Waits until a watched path may lead to something else. Dropping this loses nothing.
    ///
    /// # Errors
    /// Where the runtime ends.
    pub async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable_mut().await?;
            let changed = ready.get_inner_mut().drain();
            ready.clear_ready();
            if changed {
                return Ok(());
            }
        }
    }
}

/// The ways to all paths, as they are found.
struct Way<'a> {
    inotify: &'a Inotify,
    watched: HashMap<WatchDescriptor, Interest>,
    blind: BTreeSet<String>,
}

impl Way<'_> {
    /// Walks to `path` as the kernel would, as far as there is a way.
    fn walk(&mut self, path: &Path) {
        let mut directory = PathBuf::from("/");
        let mut ahead: VecDeque<OsString> = names(path);
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            if name == ".." {
                directory.pop();
                continue;
            }
            // Watched first, looked at second: what happens between the two is told.
            self.watch_name(&directory, &name);
            let there = directory.join(&name);
            let Ok(found) = fs::symlink_metadata(&there) else {
                return;
            };
            if found.is_symlink() {
                links += 1;
                let Ok(target) = fs::read_link(&there) else { return };
                if links > LINKS_MAX {
                    return;
                }
                if target.is_absolute() {
                    directory = PathBuf::from("/");
                }
                let mut through = names(&target);
                through.append(&mut ahead);
                ahead = through;
            } else if found.is_dir() {
                directory = there;
            } else {
                self.watch_contents(&there);
                return;
            }
        }
    }

    fn watch_name(&mut self, directory: &Path, name: &OsStr) {
        if let Some(descriptor) = self.add(directory, NAMES) {
            let interest = self.watched.entry(descriptor).or_default();
            interest.names.insert(name.to_owned());
        }
    }

    fn watch_contents(&mut self, file: &Path) {
        if let Some(descriptor) = self.add(file, CONTENTS | AddWatchFlags::IN_DONT_FOLLOW) {
            self.watched.entry(descriptor).or_default().all = true;
        }
    }

    fn add(&mut self, path: &Path, mask: AddWatchFlags) -> Option<WatchDescriptor> {
        match self.inotify.add_watch(path, mask) {
            Ok(descriptor) => Some(descriptor),
            // It went away a moment ago, which its directory tells.
            Err(Errno::ENOENT | Errno::ENOTDIR) => None,
            Err(errno) => {
                self.blind
                    .insert(format!("`{}`: {}", path.display(), errno.desc()));
                None
            }
        }
    }
}

fn names(path: &Path) -> VecDeque<OsString> {
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(name).collect()
}

/// How long nothing must happen before a burst of changes counts as over.
const QUIET: Duration = Duration::from_millis(200);
/// How long a burst may go on before it is looked into all the same.
const LONGEST: Duration = Duration::from_secs(2);

/// When to look into a burst of changes: once it is quiet, and at the latest after a while.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settle {
    burst: Option<(Instant, Instant)>,
}

impl Settle {
    /// Something changed.
    pub fn note(&mut self, now: Instant) {
        let first = self.burst.map_or(now, |(first, _)| first);
        self.burst = Some((first, now));
    }

    /// When to look, where there is anything to look into.
    pub fn due(&self) -> Option<Instant> {
        self.burst
            .map(|(first, last)| (last + QUIET).min(first + LONGEST))
    }

    /// Whether it is time; then the burst is over.
    pub fn take(&mut self, now: Instant) -> bool {
        let due = self.due().is_some_and(|due| due <= now);
        if due {
            self.burst = None;
        }
        due
    }
}

#[cfg(test)]
mod tests;
