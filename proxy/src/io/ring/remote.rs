//! Wakes from other threads: a list that a thread's executor takes, and an eventfd that its ring waits on.
//!
//! Nothing here is touched while a thread wakes only its own tasks.

#![allow(unsafe_code, reason = "the eventfd")]

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Executors that there can be at once: what fits into a waker's number.
pub(super) const EXECUTORS_MAX: usize = 1 << 12;

static REMOTES: Mutex<Vec<Option<Arc<Remote>>>> = Mutex::new(Vec::new());

/// What other threads know of an executor.
struct Remote {
    woken: Mutex<Vec<u64>>,
    told: AtomicBool,
    event: File,
}

/// An executor's entry in the list of all; it ends with this.
pub(super) struct Registered {
    number: usize,
    remote: Arc<Remote>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registered {
    /// Enters this thread's executor.
    ///
    /// # Errors
    /// Where there is no descriptor left, or [`EXECUTORS_MAX`] run already.
    pub(super) fn new() -> io::Result<Self> {
        let remote = Arc::new(Remote {
            woken: Mutex::default(),
            told: AtomicBool::new(false),
            event: eventfd()?,
        });
        let mut remotes = locked(&REMOTES);
        let number = remotes.iter().position(Option::is_none).unwrap_or(remotes.len());
        if number >= EXECUTORS_MAX {
            return Err(io::Error::other("too many executors"));
        }
        if number == remotes.len() {
            remotes.push(None);
        }
        if let Some(place) = remotes.get_mut(number) {
            *place = Some(Arc::clone(&remote));
        }
        Ok(Self { number, remote })
    }

    /// Its number.
    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// What becomes readable when another thread woke somebody.
    pub(super) fn event(&self) -> RawFd {
        self.remote.event.as_raw_fd()
    }

    /// Whom other threads woke.
    pub(super) fn take(&self) -> Vec<u64> {
        // Nothing to read means that somebody was faster; the list is looked at all the same.
        let _ = (&self.remote.event).read(&mut [0; 8]);
        self.remote.told.store(false, Ordering::SeqCst);
        std::mem::take(&mut *locked(&self.remote.woken))
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        if let Some(place) = locked(&REMOTES).get_mut(self.number) {
            *place = None;
        }
    }
}

/// Wakes a task of the executor with this number; where it has ended, nobody.
pub(super) fn wake(number: usize, task: u64) {
    let Some(remote) = locked(&REMOTES).get(number).cloned().flatten() else {
        return;
    };
    locked(&remote.woken).push(task);
    if !remote.told.swap(true, Ordering::SeqCst) {
        // It cannot be full: one is added for each time that it was emptied.
        let _ = (&remote.event).write(&1u64.to_ne_bytes());
    }
}

fn eventfd() -> io::Result<File> {
    // SAFETY: the call takes no pointers.
    let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given this descriptor to nobody else; held by `another_thread_wakes_a_task`.
    let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
    Ok(File::from(owned))
}
