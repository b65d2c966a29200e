//! The key that sticky cookies are signed with: made once and kept in the state directory, so that clients stay where
//! they are over restarts.

use super::StateDir;
use crate::{
    balance::{KEY_BYTES, StickyKey},
    fault::with_causes,
};
use aws_lc_rs::rand;
use sallyport_config::{
    diagnostic::{Diagnostic, Location},
    model::{Config, service::Service},
};
use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

const KEY_FILE: &str = "sticky.key";

/// The key of this gateway, where some service needs one; else one for nothing.
pub(super) fn key(config: &Config, state_dir: StateDir) -> Result<StickyKey, Diagnostic> {
    let sticks = config.services.values().any(|service| match service {
        Service::Servers(servers) => servers.sticky.is_some(),
        Service::Weighted(weighted) => weighted.sticky.is_some(),
        Service::Failover(_) | Service::Mirroring(_) => false,
    });
    if !sticks {
        return Ok(passing());
    }
    let path = config.proxy.state_dir.join(KEY_FILE);
    let found = match (read(&path), state_dir) {
        (Err(error), StateDir::Keep) if error.kind() == io::ErrorKind::NotFound => make(&path),
        (Err(error), StateDir::LookOnly) if error.kind() == io::ErrorKind::NotFound => return Ok(passing()),
        (other, _) => other,
    };
    found
        .map(|bytes| StickyKey::new(&bytes))
        .map_err(|error| problem(&path, &error))
}

/// A key that is kept nowhere.
pub(super) fn passing() -> StickyKey {
    StickyKey::new(&random().unwrap_or([0; KEY_BYTES]))
}

fn random() -> io::Result<[u8; KEY_BYTES]> {
    let mut bytes = [0; KEY_BYTES];
    rand::fill(&mut bytes).map_err(|_| io::Error::other("no random numbers"))?;
    Ok(bytes)
}

fn read(path: &Path) -> io::Result<[u8; KEY_BYTES]> {
    let bytes = fs::read(path)?;
    bytes
        .try_into()
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("expected {KEY_BYTES} bytes")))
}

/// Makes the key. Of two processes that begin together one wins, and the other takes the winner's.
fn make(path: &Path) -> io::Result<[u8; KEY_BYTES]> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    // A process of this number may have left one when it crashed.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(&random()?)?;
    file.sync_all()?;
    let linked = match fs::hard_link(&fresh, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => read(path),
    };
    // What is left over harms nobody.
    let _ = fs::remove_file(&fresh);
    linked
}

fn problem(path: &Path, error: &io::Error) -> Diagnostic {
    let file = path.display().to_string();
    let message = format!(
        "`{file}` cannot be used as the key of sticky cookies: {}; clients would not stay where they are, so the \
         configuration is refused; make the directory writable for this user, set `proxy.state_dir`, or remove a file \
         that is no key",
        with_causes(error)
    );
    Diagnostic {
        at: Location {
            file: file.into(),
            line: 1,
            column: 1,
        },
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_key_is_made_once_and_is_the_owners_alone() {
        let dir = std::env::temp_dir().join(format!("sallyport-sticky-{}", std::process::id()));
        let path = dir.join(KEY_FILE);
        let first = make(&path).expect("a key");
        assert_eq!(make(&path).expect("the same"), first);
        assert_eq!(read(&path).expect("the same"), first);
        let mode = fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(&dir).expect("a directory").count(), 1);
        fs::write(&path, "short").expect("written");
        assert!(read(&path).is_err());
        fs::remove_dir_all(&dir).expect("removed");
    }
}
