//! The children's last answers, in a file of the state directory: a parent that starts while a child is down goes on
//! with what it knew, for as long as it would have without the restart.
//!
//! What is read is checked like an answer from the wire, and believed only of a child with the same name and address whose
//! answer is younger than `stale_after` by the clock. It chooses nothing but where requests go: the child is proven anew by
//! each connection.

use crate::{
    control::remembered::replace,
    fault::with_causes,
    uplink::{
        directory::{Directory, Keepsake},
        wire,
    },
};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// The file's name.
const NAME: &str = "children.json";
/// Of this file.
const VERSION: u32 = 1;
/// The largest file that is read; a larger one is not written.
const FILE_BYTES_MAX: usize = 64 << 20;
/// Between two writes.
const WRITES_APART: Duration = Duration::from_secs(1);

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    children: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    child: String,
    address: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    /// When the child said that it holds, in seconds since the epoch.
    confirmed: u64,
    /// As on the wire.
    answer: serde_json::Value,
}

/// When the file was written, and whether it is behind.
#[derive(Debug, Default)]
pub(in crate::control) struct Memory {
    written: Option<Instant>,
    behind: bool,
}

impl Memory {
    /// Writes what is known where the file is behind, or so old that its dates would make it worth less.
    pub(super) fn keep(
        &mut self,
        state_dir: &Path,
        directory: &Directory,
        stale_after: Duration,
        news: bool,
    ) {
        let now = Instant::now();
        self.behind |= news;
        let age = self.written.map(|at| now.saturating_duration_since(at));
        let due = if self.behind {
            WRITES_APART
        } else {
            WRITES_APART.max(stale_after / 4)
        };
        if age.is_some_and(|age| age < due) {
            return;
        }
        (self.written, self.behind) = (Some(now), false);
        let kept = directory.keepsakes(now);
        if let Err(error) = write(&path(state_dir), &kept, SystemTime::now()) {
            let error = with_causes(&error);
            tracing::debug!(error, "what the children offer cannot be remembered");
        }
    }
}

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(NAME)
}

fn write(path: &Path, kept: &[Keepsake], now: SystemTime) -> io::Result<()> {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let entry = |kept: &Keepsake| {
        Ok(Entry {
            child: kept.child.clone(),
            address: kept.address.clone(),
            tag: kept.tag.clone(),
            confirmed: now.saturating_sub(kept.age).as_secs(),
            answer: serde_json::from_slice(&kept.answer.encode()?.0)?,
        })
    };
    let children = kept.iter().map(entry).collect::<serde_json::Result<_>>()?;
    let document = Document {
        version: VERSION,
        children,
    };
    let text = serde_json::to_string(&document)?;
    if text.len() > FILE_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    replace(path, &text)
}

/// Gives the directory what was remembered, where it may be believed.
pub(in crate::control) fn recall(state_dir: &Path, directory: &mut Directory) {
    let path = path(state_dir);
    match read(&path, SystemTime::now()) {
        Ok(kept) => {
            for kept in kept {
                let (child, age) = (kept.child.clone(), kept.age);
                if directory.restore(kept, Instant::now()) {
                    tracing::info!(
                        child,
                        ?age,
                        "the child's last answer is remembered from before the start"
                    );
                }
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            let (error, file) = (with_causes(&error), path.display());
            tracing::warn!(
                error,
                "`{file}` is not believed; children count once they were polled"
            );
        }
    }
}

/// What the file holds that is no older than it can be; what is wrong with one child's entry takes no other down.
fn read(path: &Path, now: SystemTime) -> io::Result<Vec<Keepsake>> {
    let mut text = Vec::new();
    let limit = u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX);
    File::open(path)?.take(limit).read_to_end(&mut text)?;
    let document: Document = serde_json::from_slice(&text)?;
    if document.version != VERSION {
        return Err(io::Error::other(format!(
            "its version is {}, expected {VERSION}",
            document.version
        )));
    }
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let kept = document.children.into_iter().filter_map(|entry| {
        // What was confirmed in the future was written by another clock, and has no age.
        let age = now.checked_sub(Duration::from_secs(entry.confirmed))?;
        let answer = serde_json::to_vec(&entry.answer).ok()?;
        Some(Keepsake {
            answer: wire::decode(&answer).ok()?,
            child: entry.child,
            address: entry.address,
            tag: entry.tag,
            age,
        })
    });
    Ok(kept.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn kept(child: &str, age: u64) -> Keepsake {
        let answer = br#"{"version":1,"uplinks":[{"name":"orders","weight":3}]}"#;
        Keepsake {
            child: child.to_owned(),
            address: "https://c.example:9443".to_owned(),
            tag: Some("\"t\"".to_owned()),
            age: Duration::from_secs(age),
            answer: wire::decode(answer).expect("an answer"),
        }
    }

    #[test]
    fn what_is_written_is_read_and_ages_and_anything_odd_is_not_believed() {
        let dir = std::env::temp_dir().join(format!("sp-children-{}", std::process::id()));
        let (path, now) = (path(&dir), UNIX_EPOCH + Duration::from_secs(1_000_000));
        assert_eq!(
            read(&path, now).expect_err("no file").kind(),
            io::ErrorKind::NotFound
        );
        write(&path, &[kept("c0", 5), kept("c1", 0)], now).expect("written");
        let later = now + Duration::from_secs(7);
        let read_again = |now: SystemTime| {
            let all = read(&path, now).expect("readable").into_iter();
            all.map(|kept| (kept.child, kept.age.as_secs()))
                .collect::<Vec<_>>()
        };
        assert_eq!(read_again(later), [("c0".to_owned(), 12), ("c1".to_owned(), 7)]);
        let earlier = now - Duration::from_secs(3);
        assert_eq!(
            read_again(earlier),
            [("c0".to_owned(), 2)],
            "the other one is of the future"
        );
        let first = read(&path, later).expect("readable").remove(0);
        assert_eq!(
            (first.tag, first.answer),
            (kept("c0", 5).tag, kept("c0", 5).answer)
        );
        let text = fs::read_to_string(&path).expect("there");
        fs::write(&path, text.replacen("orders", "Orders", 1)).expect("written");
        assert_eq!(read_again(later).len(), 1, "the wire format holds here too");
        for refused in [
            text.replace("\"version\":1,\"children\"", "\"version\":2,\"children\""),
            "{".to_owned(),
        ] {
            fs::write(&path, refused).expect("written");
            assert!(read(&path, later).is_err());
        }
        fs::remove_dir_all(&dir).expect("removed");
    }
}
