//! Files of the state directory that are made once and kept, so that what they hold is the same over restarts.
//!
//! It must not know what they hold.

use super::StateDir;
use aws_lc_rs::rand;
use std::{
    fs::{self, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// A file that is made once.
pub(super) struct MadeOnce<'p, T> {
    /// Where it is.
    pub(super) path: &'p Path,
    /// Who may read it.
    pub(super) mode: u32,
    /// What it holds at first.
    pub(super) fresh: fn() -> io::Result<Vec<u8>>,
    /// What it holds, or why it is none.
    pub(super) read: fn(&[u8]) -> io::Result<T>,
}

impl<T> MadeOnce<'_, T> {
    /// What is kept; where nothing is there it is made, or there is none where the directory is only looked at.
    ///
    /// # Errors
    /// A file that cannot be read, written, or is none of its kind.
    pub(super) fn get(&self, state_dir: StateDir) -> io::Result<Option<T>> {
        match (self.found(), state_dir) {
            (Err(error), StateDir::Keep) if error.kind() == ErrorKind::NotFound => self.make().map(Some),
            (Err(error), StateDir::LookOnly) if error.kind() == ErrorKind::NotFound => Ok(None),
            (found, _) => found.map(Some),
        }
    }

    fn found(&self) -> io::Result<T> {
        (self.read)(&fs::read(self.path)?)
    }

    /// Makes it. Of two processes that begin together one wins, and the other takes the winner's.
    fn make(&self) -> io::Result<T> {
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory)?;
        }
        let fresh = self.path.with_extension(format!("{}.new", std::process::id()));
        // A process of this number may have left one when it crashed.
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(self.mode)
            .open(&fresh)?;
        file.write_all(&(self.fresh)()?)?;
        file.sync_all()?;
        let linked = match fs::hard_link(&fresh, self.path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => self.found(),
        };
        // What is left over harms nobody.
        let _ = fs::remove_file(&fresh);
        linked
    }
}

/// Bytes that nobody can guess.
///
/// # Errors
/// Where the system has none.
pub(super) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| io::Error::other("no random numbers"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_made_once_and_is_the_owners_alone() {
        let dir = std::env::temp_dir().join(format!("sallyport-made-once-{}", std::process::id()));
        let path = dir.join("file");
        let file = MadeOnce {
            path: &path,
            mode: 0o600,
            fresh: || random::<8>().map(Vec::from),
            read: |bytes| {
                let whole = bytes.try_into().map_err(|_| ErrorKind::InvalidData)?;
                Ok::<[u8; 8], _>(whole)
            },
        };
        assert_eq!(file.get(StateDir::LookOnly).expect("nothing"), None);
        let first = file.get(StateDir::Keep).expect("made");
        assert!(first.is_some());
        assert_eq!(file.make().map(Some).expect("the same"), first);
        assert_eq!(file.get(StateDir::LookOnly).expect("the same"), first);
        let mode = fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(&dir).expect("a directory").count(), 1);
        fs::write(&path, "short").expect("written");
        assert!(file.get(StateDir::Keep).is_err());
        fs::remove_dir_all(&dir).expect("removed");
    }
}
