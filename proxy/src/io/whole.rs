//! A file, read whole or not at all: no pipe holds the reader up, none is larger than its reader allows, and one that
//! changes meanwhile is not taken for a version of itself.
//!
//! It blocks: it is for control and the gate, never for a worker.

use nix::fcntl::OFlag;
use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

/// What tells one version of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// The version that is there now; `None` where nothing is.
    pub fn look(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().as_ref().map(Self::of)
    }
}

/// Why there are no contents.
#[derive(Debug, thiserror::Error)]
pub enum WholeError {
    /// The system does not give them.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// A directory, a pipe, a device.
    #[error("is no regular file")]
    NoFile,
    /// More than the reader wants.
    #[error("has {bytes} bytes, expected at most {limit}")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The most that is read.
        limit: u64,
    },
    /// Somebody writes it.
    #[error("changed while it was read")]
    Moving,
}

/// Reads a file of at most `limit` bytes. What was seen of it comes back in either case, for
/// [`Stamp::look`] to tell later whether it is another one.
pub fn read_whole(path: &Path, limit: u64) -> (Option<Stamp>, Result<Vec<u8>, WholeError>) {
    let (file, metadata) = match open(path) {
        Ok(opened) => opened,
        Err(error) => return (Stamp::look(path), Err(error.into())),
    };
    let seen = Stamp::of(&metadata);
    if !metadata.is_file() {
        return (Some(seen), Err(WholeError::NoFile));
    }
    let bytes = metadata.len();
    if bytes > limit {
        return (Some(seen), Err(WholeError::TooLarge { bytes, limit }));
    }
    match contents(&file, limit) {
        Err(error) => (Stamp::look(path), Err(error.into())),
        Ok((_, after)) if after != seen => (None, Err(WholeError::Moving)),
        Ok((contents, _)) => (Some(seen), Ok(contents)),
    }
}

fn contents(file: &File, limit: u64) -> io::Result<(Vec<u8>, Stamp)> {
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((bytes, Stamp::of(&file.metadata()?)))
}

/// A pipe or a device at the path must not hold the reader up.
fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)?;
    let metadata = file.metadata()?;
    Ok((file, metadata))
}
