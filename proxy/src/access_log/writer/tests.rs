//! The writer: order, rotation, a disk that is full or slow, and its end.

use super::*;
use sallyport_config::{
    diagnostic::Location,
    model::access_log::{Destination, FieldRule, HeaderRules, LineFormat},
};
use std::{collections::BTreeMap, env::temp_dir, fs, io::Read, sync::atomic::AtomicUsize};

const SOON: Duration = Duration::from_secs(20);

/// A directory of its own, gone with the test.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = temp_dir().join(format!("sallyport-access-log-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

fn chunk(line: &str) -> Chunk {
    let mut chunk = Chunk::default();
    chunk.push(line);
    chunk
}

fn configured(path: &str) -> access_log::AccessLog {
    access_log::AccessLog {
        path: Located {
            value: Destination::File(path.into()),
            at: Location {
                file: "s.toml".into(),
                line: 1,
                column: 1,
            },
        },
        format: LineFormat::Json,
        query: FieldRule::Drop,
        headers: HeaderRules {
            default: FieldRule::Drop,
            names: BTreeMap::new(),
        },
    }
}

fn open_log(keeper: &Keeper, dir: &Dir, path: &str) -> Arc<AccessLog> {
    let log = keeper.compile(Some(&configured(path)), &dir.0, Opening::Open);
    log.expect("it can be opened").expect("it is on")
}

#[test]
fn a_moved_file_is_left_alone_once_the_log_is_opened_again() {
    let (dir, keeper) = (Dir::new(), Keeper::default());
    let log = open_log(&keeper, &dir, "a.log");
    let (at, moved) = (dir.0.join("a.log"), dir.0.join("a.log.1"));
    assert!(log.writer.offer(chunk("one\n")).is_ok());
    keeper.finish(SOON);
    fs::rename(&at, &moved).expect("moved");
    assert!(log.writer.offer(chunk("two\n")).is_ok());
    keeper.finish(SOON);
    keeper.reopen();
    assert!(log.writer.offer(chunk("three\n")).is_ok());
    keeper.finish(SOON);
    assert_eq!(fs::read_to_string(&moved).ok().as_deref(), Some("one\ntwo\n"));
    assert_eq!(fs::read_to_string(&at).ok().as_deref(), Some("three\n"));
}

#[test]
fn a_file_that_cannot_be_opened_again_goes_on() {
    let (dir, keeper) = (Dir::new(), Keeper::default());
    let log = open_log(&keeper, &dir, "a.log");
    let (at, moved) = (dir.0.join("a.log"), dir.0.join("moved"));
    fs::rename(&at, &moved).expect("moved");
    fs::create_dir(&at).expect("a directory in its place");
    keeper.reopen();
    assert!(log.writer.offer(chunk("one\n")).is_ok());
    keeper.finish(SOON);
    assert_eq!(fs::read_to_string(&moved).ok().as_deref(), Some("one\n"));
}

#[test]
fn a_full_disk_loses_lines_counts_them_and_keeps_the_rest_apart() {
    let (dir, keeper) = (Dir::new(), Keeper::default());
    // Every write there fails with ENOSPC.
    std::os::unix::fs::symlink("/dev/full", dir.0.join("full")).expect("a link");
    let log = open_log(&keeper, &dir, "full");
    let mut two = chunk("one\n");
    two.push("two\n");
    assert!(log.writer.offer(two).is_ok());
    assert!(log.writer.offer(chunk("three\n")).is_ok());
    keeper.finish(SOON);
    assert_eq!(keeper.lost(), 3);
    // Once there is room, a line end comes first: half a line may be there.
    fs::remove_file(dir.0.join("full")).expect("the link goes");
    let mut pen = Pen {
        path: None,
        file: open(Some(&dir.0.join("full"))).expect("a file"),
        reopen: Arc::default(),
        lost: Arc::default(),
        state: State::Failed,
    };
    pen.write(&chunk("four\n"));
    pen.write(&chunk("five\n"));
    assert_eq!(
        fs::read_to_string(dir.0.join("full")).ok().as_deref(),
        Some("\nfour\nfive\n")
    );
}

#[test]
fn a_reader_that_does_not_read_fills_the_queue_and_nothing_else() {
    let (dir, keeper) = (Dir::new(), Keeper::default());
    let at = dir.0.join("pipe");
    nix::unistd::mkfifo(&at, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let none = keeper.compile(Some(&configured("pipe")), &dir.0, Opening::Open);
    assert!(none.is_err(), "nobody reads the pipe, and nobody waits for that");
    let reader = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(&at)
        .expect("a reader");
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::empty())).expect("it waits");
    let log = open_log(&keeper, &dir, "pipe");
    let line = format!("{}\n", "x".repeat(64 * 1024));
    let mut taken = 0_usize;
    // The pipe's own room and the chunk in the writer's hands come to the queue's.
    while taken < 10 * QUEUE_CHUNKS && log.writer.offer(chunk(&line)).is_ok() {
        taken += 1;
    }
    assert!((QUEUE_CHUNKS..=QUEUE_CHUNKS + 4).contains(&taken), "{taken}");
    let refused = log.writer.offer(chunk(&line));
    assert!(matches!(refused, Err(Refused::Full(chunk)) if chunk.lines() == 1));
    // The end of the process does not wait for a reader.
    keeper.finish(Duration::from_millis(10));
    drop(log);
    let mut all = Vec::new();
    let mut reader = reader;
    reader.read_to_end(&mut all).expect("all of it");
    assert_eq!(all.len(), taken * line.len());
}

#[test]
fn a_destination_is_kept_over_reloads_and_ends_with_its_last_user() {
    let (dir, keeper) = (Dir::new(), Keeper::default());
    let first = open_log(&keeper, &dir, "a.log");
    let second = open_log(&keeper, &dir, "a.log");
    assert!(Arc::ptr_eq(&first.writer, &second.writer));
    let other = open_log(&keeper, &dir, "b.log");
    assert!(!Arc::ptr_eq(&first.writer, &other.writer));
    assert_eq!(keeper.alive().len(), 2);
    drop((first, second));
    assert_eq!(keeper.alive().len(), 1);
    assert!(matches!(keeper.compile(None, &dir.0, Opening::Open), Ok(None)));
}

#[test]
fn trying_makes_no_file_and_says_what_would_not_work() {
    let (dir, keeper) = (Dir::new(), Keeper::default());
    let tried = |path: &str| keeper.compile(Some(&configured(path)), &dir.0, Opening::Try);
    assert!(matches!(tried("a.log"), Ok(None)));
    assert!(!dir.0.join("a.log").exists());
    for path in ["none/a.log", "."] {
        let problem = tried(path).expect_err("cannot be opened");
        assert!(
            problem
                .message
                .starts_with(&format!("`access_log.path`: `{path}` cannot be opened")),
            "{problem}"
        );
    }
}
