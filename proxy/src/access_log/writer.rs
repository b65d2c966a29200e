//! The thread that writes lines, and the files that it writes to.
//!
//! Nobody waits for it but the end of the process, and that only for a while. What it cannot write is counted.

use super::{AccessLog, Choice};
use crate::fault::with_causes;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use sallyport_config::{
    diagnostic::Diagnostic,
    model::{Located, access_log},
};
use std::{
    fs::{File, OpenOptions},
    io::{self, Write, stdout},
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel},
    },
    thread,
    time::Duration,
};

/// Chunks that may wait for the writer, of all workers together.
const QUEUE_CHUNKS: usize = 64;
/// Readable by the owner and its group.
const FILE_MODE: u32 = 0o640;

/// Lines in one piece.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    bytes: Vec<u8>,
    lines: u64,
}

impl Chunk {
    /// Adds a line with its end.
    pub(super) fn push(&mut self, line: &str) {
        self.bytes.extend_from_slice(line.as_bytes());
        self.lines = self.lines.saturating_add(1);
    }

    /// Its bytes.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it holds no line.
    pub(super) fn is_empty(&self) -> bool {
        self.lines == 0
    }

    /// Its lines.
    pub(super) fn lines(&self) -> u64 {
        self.lines
    }
}

/// A chunk that was not taken.
pub(super) enum Refused {
    /// The queue is full.
    Full(Chunk),
    /// The writer has ended.
    Gone(Chunk),
}

enum Order {
    Write(Chunk),
    /// Look whether the file is to be opened anew.
    Look,
    /// Say when everything before is written.
    Tell(Sender<()>),
}

/// One destination and the thread that writes to it; the thread ends when nobody holds this any more.
#[derive(Debug)]
pub(super) struct Writer {
    path: Option<PathBuf>,
    queue: SyncSender<Order>,
    reopen: Arc<AtomicBool>,
}

impl Writer {
    fn start(path: Option<PathBuf>, lost: Arc<AtomicU64>) -> io::Result<Self> {
        let file = open(path.as_deref())?;
        let (queue, orders) = sync_channel(QUEUE_CHUNKS);
        let reopen = Arc::new(AtomicBool::new(false));
        let mut pen = Pen {
            path: path.clone(),
            file,
            reopen: Arc::clone(&reopen),
            lost,
            state: State::Well,
        };
        thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || pen.work(&orders))?;
        Ok(Self { path, queue, reopen })
    }

    /// Gives it a chunk without waiting.
    pub(super) fn offer(&self, chunk: Chunk) -> Result<(), Refused> {
        self.queue
            .try_send(Order::Write(chunk))
            .map_err(|error| match error {
                TrySendError::Full(Order::Write(chunk)) => Refused::Full(chunk),
                TrySendError::Disconnected(Order::Write(chunk)) => Refused::Gone(chunk),
                // Only what was offered comes back.
                TrySendError::Full(_) | TrySendError::Disconnected(_) => Refused::Gone(Chunk::default()),
            })
    }

    fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
        // A writer that is busy looks by itself.
        let _ = self.queue.try_send(Order::Look);
    }

    fn finish(&self, limit: Duration) {
        let (done, wait) = channel();
        if self.queue.try_send(Order::Tell(done)).is_ok() {
            let _ = wait.recv_timeout(limit);
        }
    }
}

/// Whether the last write was one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Well,
    /// A line may be there in part.
    Failed,
}

/// The thread's side.
struct Pen {
    path: Option<PathBuf>,
    file: File,
    reopen: Arc<AtomicBool>,
    lost: Arc<AtomicU64>,
    state: State,
}

impl Pen {
    fn work(&mut self, orders: &Receiver<Order>) {
        while let Ok(order) = orders.recv() {
            if self.reopen.swap(false, Ordering::AcqRel) {
                self.open_anew();
            }
            match order {
                Order::Write(chunk) => self.write(&chunk),
                Order::Look => {}
                Order::Tell(done) => drop(done.send(())),
            }
        }
    }

    /// Where the file cannot be opened, the old one goes on.
    fn open_anew(&mut self) {
        match open(self.path.as_deref()) {
            Ok(file) => (self.file, self.state) = (file, State::Well),
            Err(error) => {
                let (path, error) = (shown(self.path.as_deref()), with_causes(&error));
                tracing::error!(
                    path,
                    error,
                    "the access log cannot be opened again; the old file goes on"
                );
            }
        }
    }

    fn write(&mut self, chunk: &Chunk) {
        let begun = match self.state {
            State::Well => Ok(()),
            // What may be half a line ends here, and no whole one is glued to it.
            State::Failed => self.file.write_all(b"\n"),
        };
        match begun.and_then(|()| self.file.write_all(&chunk.bytes)) {
            Ok(()) => {
                if self.state == State::Failed {
                    tracing::info!(
                        path = shown(self.path.as_deref()),
                        "the access log is written again"
                    );
                }
                self.state = State::Well;
            }
            Err(error) => {
                self.lost.fetch_add(chunk.lines, Ordering::Relaxed);
                if self.state == State::Well {
                    let (path, error) = (shown(self.path.as_deref()), with_causes(&error));
                    tracing::error!(
                        path,
                        error,
                        "the access log cannot be written; its lines are lost and counted"
                    );
                }
                self.state = State::Failed;
            }
        }
    }
}

fn shown(path: Option<&Path>) -> String {
    path.map_or_else(|| "-".to_owned(), |path| path.display().to_string())
}

/// Opens a destination. A pipe without a reader is an error instead of a wait; once open, writing waits.
fn open(path: Option<&Path>) -> io::Result<File> {
    let Some(path) = path else {
        return Ok(File::from(stdout().as_fd().try_clone_to_owned()?));
    };
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(FILE_MODE)
        .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
        .open(path)?;
    fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND))?;
    Ok(file)
}

/// What compiling may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Open files and start threads.
    Open,
    /// Only say what could not be opened.
    Try,
}

/// The writers of a process and what they have lost, kept over reloads.
#[derive(Debug, Default)]
pub struct Keeper {
    writers: Mutex<Vec<Weak<Writer>>>,
    lost: Arc<AtomicU64>,
}

impl Keeper {
    /// The access log as configured; relative paths start at `base`. A destination that is written to already goes on.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub fn compile(
        &self,
        configured: Option<&access_log::AccessLog>,
        base: &Path,
        opening: Opening,
    ) -> Result<Option<Arc<AccessLog>>, Diagnostic> {
        let Some(configured) = configured else {
            return Ok(None);
        };
        let path = match &configured.path.value {
            access_log::Destination::StandardOutput => None,
            access_log::Destination::File(path) => Some(base.join(path)),
        };
        let refused = |error: io::Error| refuse(&configured.path, &error);
        if opening == Opening::Try {
            return try_open(path.as_deref()).map(|()| None).map_err(refused);
        }
        let writer = self.writer(path).map_err(refused)?;
        Ok(Some(Arc::new(AccessLog {
            format: configured.format,
            query: configured.query,
            headers: Choice::new(&configured.headers),
            writer,
        })))
    }

    fn writer(&self, path: Option<PathBuf>) -> io::Result<Arc<Writer>> {
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        writers.retain(|writer| writer.strong_count() > 0);
        let mut alive = writers.iter().filter_map(Weak::upgrade);
        if let Some(known) = alive.find(|writer| writer.path == path) {
            return Ok(known);
        }
        let writer = Arc::new(Writer::start(path, Arc::clone(&self.lost))?);
        writers.push(Arc::downgrade(&writer));
        Ok(writer)
    }

    fn alive(&self) -> Vec<Arc<Writer>> {
        let writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        writers.iter().filter_map(Weak::upgrade).collect()
    }

    /// Opens every file anew, as after it was rotated.
    pub fn reopen(&self) {
        self.alive().iter().for_each(|writer| writer.reopen());
    }

    /// Waits until what was handed over is written, but no longer than `limit` for each destination.
    pub fn finish(&self, limit: Duration) {
        self.alive().iter().for_each(|writer| writer.finish(limit));
    }

    /// Lines that could not be written.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// Whether a file could be opened, without making it.
fn try_open(path: Option<&Path>) -> io::Result<()> {
    let Some(path) = path else { return Ok(()) };
    let mut options = OpenOptions::new();
    options.append(true).custom_flags(OFlag::O_NONBLOCK.bits());
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            std::fs::read_dir(parent.unwrap_or(Path::new("."))).map(drop)
        }
        other => other.map(drop),
    }
}

fn refuse(path: &Located<access_log::Destination>, error: &io::Error) -> Diagnostic {
    let name = match &path.value {
        access_log::Destination::StandardOutput => "-".to_owned(),
        access_log::Destination::File(path) => path.display().to_string(),
    };
    Diagnostic {
        at: path.at.clone(),
        message: format!(
            "`access_log.path`: `{name}` cannot be opened for writing: {error}; the configuration is refused; create its directory and let this user write there, or write `-`"
        ),
    }
}

#[cfg(test)]
mod tests;
