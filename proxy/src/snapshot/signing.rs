//! The key that sticky cookies are signed with: made once and kept in the state directory, so that clients stay where
//! they are over restarts.

use super::{
    StateDir,
    made_once::{MadeOnce, random},
};
use crate::{
    balance::{KEY_BYTES, StickyKey},
    fault::with_causes,
};
use sallyport_config::{
    diagnostic::{Diagnostic, Location},
    model::{Config, service::Service},
};
use std::{io, path::Path};

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
    let kept = MadeOnce {
        path: &path,
        mode: 0o600,
        fresh: || random::<KEY_BYTES>().map(Vec::from),
        read,
    };
    match kept.get(state_dir) {
        Ok(Some(bytes)) => Ok(StickyKey::new(&bytes)),
        Ok(None) => Ok(passing()),
        Err(error) => Err(problem(&path, &error)),
    }
}

/// A key that is kept nowhere.
pub(super) fn passing() -> StickyKey {
    StickyKey::new(&random().unwrap_or([0; KEY_BYTES]))
}

fn read(bytes: &[u8]) -> io::Result<[u8; KEY_BYTES]> {
    bytes
        .try_into()
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("expected {KEY_BYTES} bytes")))
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
        at: Location::start_of(file),
        message,
    }
}
