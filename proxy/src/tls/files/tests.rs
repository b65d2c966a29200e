//! Files as authorities, operators and tools leave them.

use super::*;
use sallyport_config::diagnostic::Location;
use std::{fs, sync::atomic::AtomicU32, sync::atomic::Ordering};

static DIRECTORIES: AtomicU32 = AtomicU32::new(0);

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let number = DIRECTORIES.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("sallyport-files-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        Self(dir)
    }

    fn write(&self, name: &str, text: &str) {
        // By rename, as tools do: a change within the clock's grain still shows.
        let fresh = self.0.join("fresh");
        fs::write(&fresh, text).expect("written");
        fs::rename(fresh, self.0.join(name)).expect("renamed");
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn named(name: &str) -> Located<PathBuf> {
    Located {
        value: name.into(),
        at: Location {
            file: "t.toml".into(),
            line: 1,
            column: 1,
        },
    }
}

fn pair() -> CertFiles {
    CertFiles {
        cert_file: named("a.pem"),
        key_file: named("a.key"),
    }
}

fn made() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).expect("a certificate");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn provider() -> CryptoProvider {
    crate::tls::base_provider()
}

fn leaf(files: &Files) -> Vec<u8> {
    let key = files.certified_key(&pair(), &provider()).expect("held");
    key.cert[0].to_vec()
}

fn problems(files: &Files) -> Vec<String> {
    let states = files.states();
    let all = states.iter().flat_map(|state| &state.problems);
    all.map(|problem| problem.message.clone()).collect()
}

#[test]
fn a_pair_is_taken_whole_or_not_at_all_and_a_half_is_mended_by_its_other_half() {
    let scratch = Scratch::new();
    let (first, second) = (made(), made());
    scratch.write("a.pem", &first.0);
    scratch.write("a.key", &first.1);
    let mut files = Files::new(&scratch.0);
    let before = leaf(&files);
    assert!(!files.is_stale() && files.look(&provider()).is_empty());

    scratch.write("a.key", &second.1);
    assert!(files.is_stale());
    assert!(
        files.look(&provider()).is_empty(),
        "a key of another certificate is nothing new"
    );
    assert!(!files.is_stale(), "it was looked at");
    let said = problems(&files);
    assert!(
        said[0].contains("`a.key` does not fit `a.pem`")
            && said[0].contains(KEPT)
            && !said[0].contains(REFUSED),
        "{said:?}"
    );
    assert_eq!(leaf(&files), before);

    scratch.write("a.pem", &second.0);
    let fresh = files.look(&provider());
    assert_eq!(fresh.len(), 1);
    assert_eq!(leaf(&files), before, "not before it is taken");
    files.take(&fresh[0]);
    assert_ne!(leaf(&files), before);
    assert!(problems(&files).is_empty() && files.look(&provider()).is_empty());
}

#[test]
fn what_is_refused_stays_refused_until_it_is_another_and_what_comes_back_is_well() {
    let scratch = Scratch::new();
    let (first, second) = (made(), made());
    scratch.write("ca.pem", &first.0);
    let mut files = Files::new(&scratch.0);
    let before = files.certificates(&named("ca.pem")).expect("read");
    scratch.write("ca.pem", &second.0);
    let fresh = files.look(&provider());
    files.refuse(
        &fresh[0],
        vec![refuse(&named("ca.pem"), "is not liked", "change it")],
    );
    assert_eq!(files.certificates(&named("ca.pem")).expect("held"), before);
    assert_eq!(problems(&files).len(), 1);
    assert_eq!(
        files.look(&provider()).len(),
        1,
        "it may be liked beside other files"
    );
    fs::remove_file(scratch.0.join("ca.pem")).expect("removed");
    assert!(files.is_stale() && files.look(&provider()).is_empty());
    assert!(
        problems(&files)[0].contains("cannot be read"),
        "{:?}",
        problems(&files)
    );
    scratch.write("ca.pem", &first.0);
    assert!(files.look(&provider()).is_empty() && problems(&files).is_empty());
    assert_eq!(files.certificates(&named("ca.pem")).expect("held"), before);
}

#[test]
fn recording_tells_what_was_used_within() {
    let scratch = Scratch::new();
    scratch.write("a.pem", &made().0);
    scratch.write("b.pem", &made().0);
    let files = Files::new(&scratch.0);
    files.read(&named("b.pem")).expect("read");
    let used = |name: &str| files.recording(|| files.certificates(&named(name)).is_ok());
    let (a, again, b) = (used("a.pem"), used("a.pem"), used("b.pem"));
    assert_eq!(a, again);
    assert!(a.0 && a.1.len() == 1 && b.1.len() == 1 && a.1 != b.1);
    assert!(used("missing.pem").1.is_empty());
}

#[test]
fn what_is_no_file_is_refused_and_nothing_waits_for_a_pipe() {
    let scratch = Scratch::new();
    nix::unistd::mkfifo(&scratch.0.join("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let files = Files::new(&scratch.0);
    for (name, expected) in [
        ("pipe", "no regular file"),
        (".", "no regular file"),
        ("none", "cannot be read"),
    ] {
        let problem = files.read(&named(name)).expect_err(name);
        assert!(
            problem.message.contains(expected) && problem.message.contains(REFUSED),
            "{problem}"
        );
    }
}
