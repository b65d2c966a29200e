//! What this gateway is called towards other gateways: made once and kept in the state directory, so that it is the same
//! over restarts.
//!
//! Where it cannot be kept, this process has one of its own and says so: loops are seen all the same.

use super::StateDir;
use crate::{fault::with_causes, uplink::context::GatewayId};
use aws_lc_rs::rand;
use sallyport_config::{
    diagnostic::{Diagnostic, Location},
    model::Config,
};
use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::Path,
    sync::OnceLock,
};

const FILE: &str = "gateway-id";

/// The identity of this gateway. One that has no uplinks and no children needs none that lasts.
pub(super) fn identity(config: &Config, state_dir: StateDir, remarks: &mut Vec<Diagnostic>) -> GatewayId {
    if config.uplinks.is_empty() && config.multicluster.children.is_empty() {
        return passing();
    }
    let path = config.proxy.state_dir.join(FILE);
    let found = match (read(&path), state_dir) {
        (Err(error), StateDir::Keep) if error.kind() == io::ErrorKind::NotFound => make(&path),
        (Err(error), StateDir::LookOnly) if error.kind() == io::ErrorKind::NotFound => Ok(passing()),
        (found, _) => found,
    };
    found.unwrap_or_else(|error| {
        remarks.push(remark(&path, &error));
        passing()
    })
}

/// That of this process.
fn passing() -> GatewayId {
    static PASSING: OnceLock<GatewayId> = OnceLock::new();
    *PASSING.get_or_init(|| random().unwrap_or(GatewayId([0; GatewayId::BYTES])))
}

fn random() -> io::Result<GatewayId> {
    let mut bytes = [0; GatewayId::BYTES];
    rand::fill(&mut bytes).map_err(|_| io::Error::other("no random numbers"))?;
    Ok(GatewayId(bytes))
}

fn read(path: &Path) -> io::Result<GatewayId> {
    let text = fs::read_to_string(path)?;
    let expected = || io::Error::new(io::ErrorKind::InvalidData, "expected 32 hexadecimal digits");
    GatewayId::read(text.trim_end()).ok_or_else(expected)
}

/// Makes it. Of two processes that begin together one wins, and the other takes the winner's.
fn make(path: &Path) -> io::Result<GatewayId> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    // A process of this number may have left one when it crashed.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(&fresh)?;
    writeln!(file, "{}", random()?)?;
    file.sync_all()?;
    let linked = match fs::hard_link(&fresh, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => read(path),
    };
    // What is left over harms nobody.
    let _ = fs::remove_file(&fresh);
    linked
}

fn remark(path: &Path, error: &io::Error) -> Diagnostic {
    let file = path.display().to_string();
    let message = format!(
        "`{file}` cannot be used as this gateway's identity: {}; until the next start it has one that is kept nowhere; \
         make the directory writable for this user, set `proxy.state_dir`, or remove a file that is no identity",
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

    #[test]
    fn the_identity_is_made_once_and_what_is_none_is_not_taken() {
        let dir = std::env::temp_dir().join(format!("sallyport-gateway-{}", std::process::id()));
        let path = dir.join(FILE);
        let first = make(&path).expect("an identity");
        assert_eq!(make(&path).expect("the same"), first);
        assert_eq!(read(&path).expect("the same"), first);
        assert_eq!(GatewayId::read(&first.to_string()), Some(first));
        assert_eq!(fs::read_dir(&dir).expect("a directory").count(), 1);
        for text in [
            "",
            "12",
            "zz345678123456781234567812345678",
            "123456781234567812345678123456789",
        ] {
            fs::write(&path, text).expect("written");
            assert!(read(&path).is_err(), "{text}");
        }
        fs::remove_dir_all(&dir).expect("removed");
    }
}
