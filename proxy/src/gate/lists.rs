//! The files of allowlists: read whole or not at all, and once there is a good one, the last good one stays.
//!
//! It reads when it is told to and watches nothing (that is [`super::watch`]). What the prefixes mean is
//! [`super::policy`]'s.

use super::policy::Allowlists;
use crate::io::{Stamp, read_whole};
use ipnet::IpNet;
use sallyport_config::{
    diagnostic::{Diagnostic, Location},
    model::{Config, Located},
};
use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

/// The largest allowlist file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Bad lines that are named; the rest are counted.
const BAD_LINES_MAX: usize = 20;
/// Characters of a bad entry that are shown.
const SHOWN_CHARS_MAX: usize = 64;

/// All allowlists of a configuration with the state of their files.
#[derive(Clone, Debug, Default)]
pub struct Lists {
    lists: BTreeMap<String, List>,
}

#[derive(Clone, Debug)]
struct List {
    /// Prefixes written in the configuration.
    own: Vec<IpNet>,
    file: Option<ListFile>,
    /// Both together; shared with whoever judges by them.
    all: Arc<[IpNet]>,
}

#[derive(Clone, Debug)]
struct ListFile {
    path: PathBuf,
    /// Where the configuration names it.
    named: Location,
    /// Prefixes of the last good contents.
    prefixes: usize,
    /// When those were read.
    taken: SystemTime,
    /// What the last look saw, good or bad.
    seen: Option<Stamp>,
    /// Why the last look did not give new contents.
    problems: Vec<Diagnostic>,
}

/// The state of one list's file, for status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileState {
    /// The list's name.
    pub list: String,
    /// The file.
    pub path: PathBuf,
    /// Prefixes in the file that count now.
    pub prefixes: usize,
    /// When they were read.
    pub taken: SystemTime,
    /// Why the file as it is now is not taken; empty where it is.
    pub problems: Vec<Diagnostic>,
}

impl Lists {
    /// Reads every file, relative to `base`. With the lists that counted before, a file that had prefixes and now has
    /// none is a problem too.
    ///
    /// # Errors
    /// Every file that cannot be read and every line that is no prefix.
    pub fn load(config: &Config, base: &Path, before: Option<&Lists>) -> Result<Self, Vec<Diagnostic>> {
        let (lists, mut problems) = Self::read(config, base, before);
        problems.extend(lists.problems().cloned());
        if problems.is_empty() {
            Ok(lists)
        } else {
            Err(problems)
        }
    }

    /// As [`Lists::load`], but a file that cannot be used keeps the contents that it had in `before`, and says so in
    /// its state.
    ///
    /// # Errors
    /// Every problem of a file that `before` does not have.
    pub fn load_or_keep(config: &Config, base: &Path, before: &Lists) -> Result<Self, Vec<Diagnostic>> {
        let (lists, problems) = Self::read(config, base, Some(before));
        if problems.is_empty() {
            Ok(lists)
        } else {
            Err(problems)
        }
    }

    /// What could be read, and the problems of files for which there are no earlier contents.
    fn read(config: &Config, base: &Path, before: Option<&Lists>) -> (Self, Vec<Diagnostic>) {
        let mut lists = BTreeMap::new();
        let mut problems = Vec::new();
        for (name, list) in &config.allowlists {
            let known = before.and_then(|before| before.lists.get(name));
            match List::read(&list.sources, list.file.as_ref(), base, known) {
                Ok(list) => drop(lists.insert(name.clone(), list)),
                Err(mut found) => problems.append(&mut found),
            }
        }
        (Self { lists }, problems)
    }

    /// Looks at every file that is not as it was when last looked at, and takes what is good. Returns whether any
    /// list has other prefixes now.
    pub fn refresh(&mut self) -> bool {
        let mut changed = false;
        for list in self.lists.values_mut() {
            changed |= list.refresh();
        }
        changed
    }

    /// Whether a file is not as it was when last looked at. One look at the metadata of each.
    pub fn is_stale(&self) -> bool {
        let mut files = self.lists.values().filter_map(|list| list.file.as_ref());
        files.any(|file| Stamp::look(&file.path) != file.seen)
    }

    /// The prefixes that count.
    pub fn allowlists(&self) -> Allowlists {
        let lists = self.lists.iter();
        Allowlists::new(
            lists
                .map(|(name, list)| (name.clone(), Arc::clone(&list.all)))
                .collect(),
        )
    }

    /// The files, to be watched.
    pub fn paths(&self) -> Vec<PathBuf> {
        let files = self.lists.values().filter_map(|list| list.file.as_ref());
        files.map(|file| file.path.clone()).collect()
    }

    /// The state of each file, by the list's name.
    pub fn files(&self) -> Vec<FileState> {
        let files = self
            .lists
            .iter()
            .filter_map(|(name, list)| Some((name, list.file.as_ref()?)));
        let state = |(name, file): (&String, &ListFile)| FileState {
            list: name.clone(),
            path: file.path.clone(),
            prefixes: file.prefixes,
            taken: file.taken,
            problems: file.problems.clone(),
        };
        files.map(state).collect()
    }

    /// Why files as they are now are not taken.
    pub fn problems(&self) -> impl Iterator<Item = &Diagnostic> {
        let files = self.lists.values().filter_map(|list| list.file.as_ref());
        files.flat_map(|file| &file.problems)
    }
}

impl List {
    fn read(
        own: &[IpNet],
        file: Option<&Located<PathBuf>>,
        base: &Path,
        known: Option<&List>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let Some(file) = file else {
            return Ok(Self {
                own: own.to_vec(),
                file: None,
                all: own.into(),
            });
        };
        let path = base.join(&file.value);
        let known = known.filter(|list| list.file.as_ref().is_some_and(|known| known.path == path));
        let (seen, found) = read_file(&path, &file.at, known.map_or(0, List::in_file));
        let (found, problems, taken) = match (found, known) {
            (Ok(found), _) => (found, Vec::new(), SystemTime::now()),
            (Err(problems), None) => return Err(problems),
            (Err(problems), Some(known)) => {
                let taken = known
                    .file
                    .as_ref()
                    .map_or_else(SystemTime::now, |file| file.taken);
                (known.file_prefixes().to_vec(), problems, taken)
            }
        };
        Ok(Self {
            own: own.to_vec(),
            all: own.iter().chain(&found).copied().collect(),
            file: Some(ListFile {
                path,
                named: file.at.clone(),
                prefixes: found.len(),
                taken,
                seen,
                problems,
            }),
        })
    }

    fn in_file(&self) -> usize {
        self.file.as_ref().map_or(0, |file| file.prefixes)
    }

    fn file_prefixes(&self) -> &[IpNet] {
        self.all.get(self.own.len()..).unwrap_or_default()
    }

    fn refresh(&mut self) -> bool {
        let had = self.in_file();
        let Some(file) = &mut self.file else { return false };
        // What was bad is looked at again: the file may have been caught half written.
        if file.problems.is_empty() && Stamp::look(&file.path) == file.seen {
            return false;
        }
        let (seen, found) = read_file(&file.path, &file.named, had);
        file.seen = seen;
        match found {
            Err(problems) => {
                file.problems = problems;
                false
            }
            Ok(found) => {
                file.problems.clear();
                file.taken = SystemTime::now();
                file.prefixes = found.len();
                let all: Arc<[IpNet]> = self.own.iter().chain(&found).copied().collect();
                let changed = all != self.all;
                self.all = all;
                changed
            }
        }
    }
}

/// Reads a file that gave `had` prefixes before; also what was seen of it.
fn read_file(
    path: &Path,
    named: &Location,
    had: usize,
) -> (Option<Stamp>, Result<Vec<IpNet>, Vec<Diagnostic>>) {
    let shown = path.display();
    let refuse = |found: String| {
        let message = format!("`{shown}` {found}; the allowlist is refused; check path, owner and size");
        vec![Diagnostic {
            at: named.clone(),
            message,
        }]
    };
    let (seen, bytes) = match read_whole(path, FILE_BYTES_MAX) {
        (seen, Ok(bytes)) => (seen, bytes),
        (seen, Err(why)) => return (seen, Err(refuse(why.to_string()))),
    };
    let text = String::from_utf8_lossy(&bytes);
    let found = parse_list(&path.display().to_string(), &text).and_then(|found| match found.len() {
        0 if had > 0 => Err(refuse(format!("has no prefixes, and had {had}"))),
        _ => Ok(found),
    });
    (seen, found)
}

/// Parses an allowlist file: one prefix a line, `#` starts a comment.
///
/// # Errors
/// Every line that is no prefix, up to a ceiling; one more says how many there are beyond.
pub fn parse_list(name: &str, text: &str) -> Result<Vec<IpNet>, Vec<Diagnostic>> {
    let mut prefixes = Vec::new();
    let mut problems: Vec<Diagnostic> = Vec::new();
    let mut beyond = 0usize;
    for (line, number) in text.lines().zip(1u32..) {
        let entry = line.split('#').next().unwrap_or_default();
        let start = entry.trim_start();
        let indent = entry.chars().count() - start.chars().count();
        let entry = start.trim_end();
        match parse_prefix(entry) {
            _ if entry.is_empty() => {}
            Ok(prefix) => prefixes.push(prefix),
            Err(_) if problems.len() == BAD_LINES_MAX => beyond += 1,
            Err(expected) => problems.push(Diagnostic {
                at: Location {
                    file: name.into(),
                    line: number,
                    column: u32::try_from(indent).unwrap_or(u32::MAX).saturating_add(1),
                },
                message: format!(
                    "`{}` is no prefix, expected {expected}; the allowlist is refused; mend the line",
                    shown(entry)
                ),
            }),
        }
    }
    if let (true, Some(last)) = (beyond > 0, problems.last()) {
        let message =
            format!("{beyond} more lines are no prefixes; the allowlist is refused; mend the lines");
        problems.push(Diagnostic {
            at: last.at.clone(),
            message,
        });
    }
    if problems.is_empty() {
        Ok(prefixes)
    } else {
        Err(problems)
    }
}

/// A line of a file that may be anything, fit for a log.
fn shown(entry: &str) -> String {
    let mut text: String = entry
        .chars()
        .take(SHOWN_CHARS_MAX)
        .flat_map(char::escape_debug)
        .collect();
    if entry.chars().nth(SHOWN_CHARS_MAX).is_some() {
        text.push('…');
    }
    text
}

fn parse_prefix(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let prefix: IpNet = text
        .parse()
        .map_err(|_| "an address or a prefix such as `192.0.2.0/24`".to_owned())?;
    if prefix.addr() == prefix.network() {
        Ok(prefix)
    } else {
        Err(format!("`{}`", prefix.trunc()))
    }
}

#[cfg(test)]
mod tests;
