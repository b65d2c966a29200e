//! Files as an operator, a tool or an accident leaves them.

use super::{FILE_BYTES_MAX, Lists, parse_list};
use crate::gate::policy::Allowlists;
use sallyport_config::{Source, model::Config};
use std::{fs, path::PathBuf};

/// A directory of a test's own, gone with it.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sallyport-lists-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    fn write(&self, file: &str, text: &str) {
        // By rename, as a careful tool does; a file that is written in place is the watch's business.
        let beside = self.0.join("beside");
        fs::write(&beside, text).expect("written");
        fs::rename(&beside, self.0.join(file)).expect("renamed");
    }

    fn load(&self) -> Lists {
        Lists::load(&config(), &self.0, None).expect("valid")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("removed");
    }
}

fn config() -> Config {
    let text = "[allowlists.a]\nsources = [\"192.0.2.1/32\"]\nfile = \"a.list\"\n";
    let source = Source {
        name: "t".to_owned(),
        text: text.to_owned(),
    };
    sallyport_config::parse(&[source]).expect("valid")
}

fn texts(lists: &Allowlists) -> Vec<String> {
    lists.prefixes("a").iter().map(ToString::to_string).collect()
}

#[test]
fn a_list_file_is_read_whole_or_every_bad_entry_is_named_with_its_place() {
    let good = parse_list("l", "10.0.0.0/8\n# nobody\n\n 2001:db8::1 # one\r\n").expect("valid");
    assert_eq!(good.len(), 2);
    let bad = parse_list("l", "10.0.0.1/8\n  \t x # why\n10.0.0.0/8\n é y\n").expect_err("invalid");
    let places: Vec<(u32, u32)> = bad
        .iter()
        .map(|problem| (problem.at.line, problem.at.column))
        .collect();
    assert_eq!(places, [(1, 1), (2, 5), (4, 2)]);
    assert!(bad[0].message.contains("`10.0.0.0/8`"));
}

#[test]
fn a_file_of_rubbish_gives_few_and_short_lines() {
    let rubbish = format!("{}\n", "\u{1b}[2J".repeat(100)).repeat(50);
    let bad = parse_list("l", &rubbish).expect_err("invalid");
    assert_eq!(bad.len(), 21);
    assert!(bad[20].message.starts_with("30 more lines"));
    assert!(
        bad.iter()
            .all(|problem| problem.message.len() < 800 && !problem.message.contains('\u{1b}'))
    );
}

#[test]
fn what_is_wrong_later_leaves_the_last_good_contents_and_says_so() {
    let directory = Directory::new("later");
    let path = directory.0.join("a.list");
    directory.write("a.list", "10.0.0.0/8\n");
    let mut lists = directory.load();
    let good = ["192.0.2.1/32", "10.0.0.0/8"];
    assert_eq!(texts(&lists.allowlists()), good);
    assert!(!lists.is_stale() && !lists.refresh());

    let check = |lists: &mut Lists, found: &str| {
        assert!(lists.is_stale(), "{found}");
        assert!(!lists.refresh(), "{found}");
        assert!(!lists.is_stale(), "{found}: seen");
        assert_eq!(texts(&lists.allowlists()), good, "{found}");
        let problem = lists.problems().next().expect(found).to_string();
        assert!(problem.contains(found), "{problem}");
    };
    directory.write("a.list", "# nobody\n");
    check(&mut lists, "has no prefixes, and had 1");
    directory.write("a.list", "10.0.0.0/8\n192.0.2.0/2x\n");
    check(&mut lists, "a.list:2:1");
    fs::remove_file(&path).expect("there");
    check(&mut lists, "cannot be read");
    fs::create_dir(&path).expect("a directory");
    check(&mut lists, "no regular file");
    fs::remove_dir(&path).expect("there");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).expect("a pipe");
    check(&mut lists, "no regular file");
    fs::remove_file(&path).expect("there");
    let large = fs::File::create(&path).expect("made");
    large.set_len(FILE_BYTES_MAX + 1).expect("sparse");
    check(&mut lists, "expected at most");

    directory.write("a.list", "10.0.0.0/8\n203.0.113.0/24\n");
    assert!(lists.refresh());
    assert_eq!(lists.problems().count(), 0);
    assert_eq!(texts(&lists.allowlists()).len(), 3);
    assert_eq!(lists.files()[0].prefixes, 2);
}

#[test]
fn the_same_prefixes_in_a_new_file_are_no_change() {
    let directory = Directory::new("same");
    directory.write("a.list", "10.0.0.0/8\n");
    let mut lists = directory.load();
    directory.write("a.list", "10.0.0.0/8 # the same\n");
    assert!(lists.is_stale() && !lists.refresh() && !lists.is_stale());
}

#[test]
fn at_start_a_missing_file_is_an_error_and_an_empty_one_is_not() {
    let directory = Directory::new("start");
    let problems = Lists::load(&config(), &directory.0, None).expect_err("missing");
    assert_eq!((&*problems[0].at.file, problems[0].at.line), ("t", 3));
    directory.write("a.list", "");
    assert_eq!(texts(&directory.load().allowlists()), ["192.0.2.1/32"]);
}

#[test]
fn reading_anew_refuses_what_refreshing_survives_and_one_that_follows_keeps_it() {
    let directory = Directory::new("anew");
    directory.write("a.list", "10.0.0.0/8\n");
    let before = directory.load();
    directory.write("a.list", "\n");
    Lists::load(&config(), &directory.0, Some(&before)).expect_err("emptied");
    let kept = Lists::load_or_keep(&config(), &directory.0, &before).expect("kept");
    assert_eq!(kept.allowlists(), before.allowlists());
    assert_eq!(kept.problems().count(), 1);
    let unknown = Lists::default();
    fs::remove_file(directory.0.join("a.list")).expect("there");
    Lists::load_or_keep(&config(), &directory.0, &unknown).expect_err("nothing to keep");
}

#[test]
fn a_hundred_thousand_lines_and_more_are_read() {
    let directory = Directory::new("many");
    let lines: String = (0..150_000u32)
        .map(|i| format!("10.{}.{}.{}\n", i >> 16, (i >> 8) & 255, i & 255))
        .collect();
    directory.write("a.list", &lines);
    assert_eq!(directory.load().allowlists().prefixes("a").len(), 150_001);
}
