//! The gate's Unix socket: one line of request, one line of answer, bounded in size and time.
//!
//! Whoever may open the socket may ask for status; everything else is root's, by the kernel's word on who
//! the peer is.

use super::{daemon::Daemon, error::GateError};
use crate::fault::with_causes;
use nix::{
    sys::socket::{getsockopt, sockopt::PeerCredentials},
    unistd::{Gid, Group, chown},
};
use std::{
    fs,
    io::{self, Read, Write},
    os::unix::{
        fs::{DirBuilderExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::Path,
    time::{Duration, Instant},
};

/// The request for a status document.
pub const STATUS_REQUEST: &str = "status\n";
/// The largest answer that a client reads.
pub const ANSWER_BYTES_MAX: u64 = 16 << 20;
const REQUEST_BYTES_MAX: usize = 4096;
/// How long one peer may hold the gate up, from its first byte to our last.
const PEER_LIMIT: Duration = Duration::from_millis(150);
/// Peers that are answered before interfaces are looked at again: together they delay that by less than the
/// 200 ms within which an interface that appears is to be filtered.
const PEERS_A_TURN: usize = 1;
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

/// Answers peers that wait; those beyond [`PEERS_A_TURN`] wait for the next turn.
pub(super) fn serve(listener: &UnixListener, daemon: &mut Daemon) {
    for _ in 0..PEERS_A_TURN {
        let Ok((stream, _)) = listener.accept() else {
            return;
        };
        if let Err(error) = answer(stream, daemon) {
            tracing::debug!(%error, "a peer of the gate's socket went away");
        }
    }
}

fn answer(stream: UnixStream, daemon: &mut Daemon) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(PEER_LIMIT))?;
    let peer = getsockopt(&stream, PeerCredentials)?;
    let request = read_line(&stream, Instant::now() + PEER_LIMIT)?;
    if request.is_empty() {
        // A peer that only looks whether somebody listens.
        return Ok(());
    }
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
    let document = answer.unwrap_or_else(|error| serde_json::json!({ "error": with_causes(&error) }));
    let mut line = document.to_string();
    line.push('\n');
    (&stream).write_all(line.as_bytes())
}

/// Reads up to the end of a line, whatever the pace of its bytes, before `until`.
fn read_line(mut stream: &UnixStream, until: Instant) -> io::Result<String> {
    let mut line = Vec::new();
    let mut buffer = [0u8; 512];
    while !line.contains(&b'\n') {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || line.len() > REQUEST_BYTES_MAX {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        line.extend_from_slice(buffer.get(..count).unwrap_or_default());
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}
