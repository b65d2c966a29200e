//! Every way in which a path comes to lead to something else.

use super::{LONGEST, QUIET, Settle, Watch};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{
    fs,
    io::Write,
    os::{fd::AsFd, unix::fs::symlink},
    path::PathBuf,
    time::{Duration, Instant},
};

struct Stage {
    directory: PathBuf,
    watch: Watch,
}

impl Stage {
    /// A fresh directory with what `prepare` makes in it, and a watch over `file` there.
    fn new(name: &str, file: &str, prepare: impl FnOnce(&PathBuf)) -> Self {
        let directory = std::env::temp_dir().join(format!("sallyport-watch-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        prepare(&directory);
        let watch = Watch::new([directory.join(file)]).expect("a watch");
        assert!(watch.blind().is_empty(), "{:?}", watch.blind());
        Self { directory, watch }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// inotify tells before the call that changed something returns, so nothing is waited for.
    fn must_see(&mut self, what: &str) {
        let mut fds = [PollFd::new(self.watch.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, PollTimeout::ZERO), Ok(1), "{what}: not readable");
        assert!(self.watch.drain(), "{what}");
        assert!(!self.watch.drain(), "{what}: once");
    }

    fn must_not_see(&mut self, what: &str) {
        assert!(!self.watch.drain(), "{what}");
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.directory).expect("removed");
    }
}

#[test]
fn writing_replacing_and_removing_a_file_are_seen_each_time() {
    let mut stage = Stage::new("file", "a.list", |at| {
        fs::write(at.join("a.list"), "x").expect("written")
    });
    let (path, beside) = (stage.path("a.list"), stage.path("a.list.new"));
    for _ in 0..2 {
        let mut file = fs::OpenOptions::new().append(true).open(&path).expect("there");
        file.write_all(b"y").expect("written");
        stage.must_see("a write");
        drop(file);
        stage.must_see("the end of writing");
        fs::write(&beside, "z").expect("written");
        stage.must_not_see("a file beside it");
        fs::rename(&beside, &path).expect("renamed");
        stage.must_see("a replacement");
        fs::remove_file(&path).expect("there");
        stage.must_see("a removal");
        fs::write(&path, "again").expect("written");
        stage.must_see("a return");
    }
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("set");
    stage.must_see("other permissions");
}

#[test]
fn a_directory_that_comes_later_is_waited_for_at_every_depth() {
    let mut stage = Stage::new("later", "a/b/c.list", |_| {});
    fs::create_dir(stage.path("a")).expect("made");
    stage.must_see("the first directory");
    fs::create_dir(stage.path("a/b")).expect("made");
    stage.must_see("the second");
    fs::write(stage.path("a/b/other"), "x").expect("written");
    stage.must_not_see("another file");
    fs::write(stage.path("a/b/c.list"), "x").expect("written");
    stage.must_see("the file");
    fs::rename(stage.path("a"), stage.path("old")).expect("renamed");
    stage.must_see("a directory that goes");
    fs::write(stage.path("old/b/c.list"), "y").expect("written");
    stage.must_not_see("what is no longer on the way");
    fs::create_dir_all(stage.path("new/b")).expect("made");
    fs::write(stage.path("new/b/c.list"), "y").expect("written");
    fs::rename(stage.path("new"), stage.path("a")).expect("renamed");
    stage.must_see("a directory in its place");
    fs::write(stage.path("a/b/c.list"), "z").expect("written");
    stage.must_see("a write there");
}

#[test]
fn a_link_that_is_switched_is_seen_wherever_it_stands_on_the_way() {
    // As an orchestrator's volumes do it: the file links through `..data` into a directory that is replaced.
    let mut stage = Stage::new("link", "a.list", |at| {
        for version in ["v1", "v2"] {
            fs::create_dir(at.join(version)).expect("made");
            fs::write(at.join(version).join("a.list"), version).expect("written");
        }
        symlink("v1", at.join("..data")).expect("linked");
        symlink("..data/a.list", at.join("a.list")).expect("linked");
    });
    fs::write(stage.path("v2/a.list"), "other").expect("written");
    stage.must_not_see("the version that is not linked");
    fs::write(stage.path("v1/a.list"), "other").expect("written");
    stage.must_see("the version that is linked");
    symlink("v2", stage.path("..next")).expect("linked");
    stage.must_not_see("a link beside it");
    fs::rename(stage.path("..next"), stage.path("..data")).expect("renamed");
    stage.must_see("a switched link");
    fs::write(stage.path("v1/a.list"), "more").expect("written");
    stage.must_not_see("the version of before");
    fs::write(stage.path("v2/a.list"), "more").expect("written");
    stage.must_see("the version of now");
}

#[test]
fn a_write_under_another_name_of_the_same_file_is_seen() {
    let mut stage = Stage::new("hard", "a.list", |at| {
        fs::create_dir(at.join("elsewhere")).expect("made");
        fs::write(at.join("a.list"), "x").expect("written");
        fs::hard_link(at.join("a.list"), at.join("elsewhere/other")).expect("linked");
    });
    fs::write(stage.path("elsewhere/other"), "y").expect("written");
    stage.must_see("the same file");
}

#[test]
fn links_in_a_ring_end_and_so_does_a_flood_of_events() {
    let mut stage = Stage::new("ring", "a", |at| {
        symlink("b", at.join("a")).expect("linked");
        symlink("a", at.join("b")).expect("linked");
    });
    for round in 0..20_000 {
        fs::write(stage.path(&format!("n{}", round % 7)), "x").expect("written");
    }
    while stage.watch.drain() {}
    fs::remove_file(stage.path("b")).expect("there");
    // Drains are bounded, so what came before may still be in front.
    let seen = (0..1_000).any(|_| stage.watch.drain());
    assert!(seen);
}

#[test]
fn other_paths_take_the_place_of_those_before() {
    let mut stage = Stage::new("paths", "a", |_| {});
    let (a, b) = (stage.path("a"), stage.path("b"));
    stage.watch.set_paths([b.clone()]);
    fs::write(a, "x").expect("written");
    stage.must_not_see("the path of before");
    fs::write(b, "x").expect("written");
    stage.must_see("the path of now");
}

#[test]
fn a_burst_is_over_when_it_is_quiet_and_never_goes_on_for_long() {
    let start = Instant::now();
    let mut settle = Settle::default();
    assert!(settle.due().is_none() && !settle.take(start));
    settle.note(start);
    assert!(!settle.take(start + QUIET - Duration::from_millis(1)));
    settle.note(start + QUIET / 2);
    assert!(!settle.take(start + QUIET));
    assert!(settle.take(start + QUIET / 2 + QUIET));
    assert!(settle.due().is_none());
    let mut now = start;
    settle.note(now);
    while now < start + LONGEST {
        assert!(!settle.take(now));
        now += QUIET / 2;
        settle.note(now);
    }
    assert!(settle.take(now));
}
