//! The gate's Unix socket: one line of request, one line of answer, bounded in size and time.
//!
//! Whoever may open the socket may ask for status; everything else is root's, by the kernel's word on who
//! the peer is.

use super::{daemon::Daemon, error::GateError};
use nix::{
    sys::socket::{getsockopt, sockopt::PeerCredentials},
    unistd::{Gid, Group, chown},
};
use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::{
        fs::{DirBuilderExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::Path,
    time::Duration,
};

/// The request for a status document.
pub const STATUS_REQUEST: &str = "status\n";
/// The largest answer that a client reads.
pub const ANSWER_BYTES_MAX: u64 = 16 << 20;
const REQUEST_BYTES_MAX: u64 = 4096;
/// How long one peer may hold the gate up.
const PEER_LIMIT: Duration = Duration::from_millis(500);
/// The group of the proxy's user.
const GROUP: &str = "sallyport";

/// Opens the socket.
///
/// # Errors
/// Where its path cannot be used, or another gate answers there.
pub(super) fn listen(path: &Path) -> Result<UnixListener, GateError> {
    let failed = |source| GateError::Socket {
        path: path.to_owned(),
        source,
    };
    let group = Group::from_name(GROUP).ok().flatten().map(|group| group.gid);
    if let Some(directory) = path.parent() {
        make_directory(directory, group).map_err(failed)?;
    }
    match UnixStream::connect(path) {
        Ok(_) => {
            return Err(failed(io::Error::new(
                io::ErrorKind::AddrInUse,
                "another gate answers there",
            )));
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)?
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(failed)?;
    if let Some(group) = group {
        chown(path, None, Some(group)).map_err(|errno| failed(errno.into()))?;
    }
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// A directory that is there keeps its owner and mode.
fn make_directory(directory: &Path, group: Option<Gid>) -> io::Result<()> {
    if directory.exists() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(directory)?;
    if let Some(group) = group {
        chown(directory, None, Some(group))?;
    }
    Ok(())
}

/// Answers the peers that wait.
pub(super) fn serve(listener: &UnixListener, daemon: &mut Daemon) {
    while let Ok((stream, _)) = listener.accept() {
        if let Err(error) = answer(stream, daemon) {
            tracing::debug!(%error, "a peer of the gate's socket went away");
        }
    }
}

fn answer(stream: UnixStream, daemon: &mut Daemon) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PEER_LIMIT))?;
    stream.set_write_timeout(Some(PEER_LIMIT))?;
    let peer = getsockopt(&stream, PeerCredentials)?;
    let mut request = String::new();
    BufReader::new((&stream).take(REQUEST_BYTES_MAX)).read_line(&mut request)?;
    let answer = match (request.trim_end(), peer.uid()) {
        ("status", _) => daemon
            .status()
            .map(|status| serde_json::json!({ "status": status })),
        ("off", 0) => daemon.off(None).map(|()| serde_json::json!({ "done": true })),
        (named, 0) if named.starts_with("off ") => {
            let interface = named.strip_prefix("off ").unwrap_or_default();
            daemon
                .off(Some(interface))
                .map(|()| serde_json::json!({ "done": true }))
        }
        (request, uid) => {
            tracing::warn!(uid, "a request on the gate's socket is refused");
            let shown: String = request.chars().take(32).collect();
            Ok(serde_json::json!({ "error": format!("request {shown:?} is unknown or not for uid {uid}") }))
        }
    };
    let document =
        answer.unwrap_or_else(|error| serde_json::json!({ "error": super::attach::chain(&error) }));
    let mut line = document.to_string();
    line.push('\n');
    (&stream).write_all(line.as_bytes())
}
