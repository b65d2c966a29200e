//! The gate's Unix socket: one line of request, one line of answer, bounded in size and time.
//!
//! Whoever may open the socket may look: at status and counts, and at every change of the policy. Everything else is
//! root's, by the kernel's word on who the peer is.

use super::{apply::Taken, daemon::Daemon, error::GateError};
use crate::fault::with_causes;
use nix::{
    sys::socket::{getsockopt, sockopt::PeerCredentials},
    unistd::{Gid, Group, chown},
};
use serde_json::{Value, json};
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
/// Peers that watch at once: proxies, of which there is one, and who looks on.
const SUBSCRIBERS_MAX: usize = 16;
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
            return Err(GateError::AnotherGate {
                path: path.to_owned(),
            });
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

/// Ends the start of a gate while another one answers.
///
/// # Errors
/// Where one does.
pub(super) fn refuse_another(path: &Path) -> Result<(), GateError> {
    match UnixStream::connect(path) {
        Ok(_) => Err(GateError::AnotherGate {
            path: path.to_owned(),
        }),
        Err(_) => Ok(()),
    }
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

/// Peers that are told of every change of the policy: those that asked for `watch`.
#[derive(Default)]
pub(super) struct Subscribers {
    streams: Vec<UnixStream>,
}

impl Subscribers {
    /// Takes one in, and tells it how things are. Those that have gone make room; one too many is let go.
    fn add(&mut self, stream: UnixStream, line: &str) -> io::Result<()> {
        self.streams.retain(is_there);
        stream.set_nonblocking(true)?;
        if self.streams.len() >= SUBSCRIBERS_MAX {
            return Err(io::Error::other("too many peers watch already"));
        }
        (&stream).write_all(line.as_bytes())?;
        self.streams.push(stream);
        Ok(())
    }

    /// Tells all. One that does not read loses its subscription: it comes again and asks.
    pub(super) fn tell(&mut self, line: &str) {
        self.streams
            .retain(|mut stream| stream.write_all(line.as_bytes()).is_ok());
    }
}

/// Whether the other end is open: it has nothing to say, so that every reading is its end.
fn is_there(stream: &UnixStream) -> bool {
    let mut byte = [0];
    let mut stream = stream;
    matches!(stream.read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
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
    let request = request.trim_end();
    if request.is_empty() {
        // A peer that only looks whether somebody listens.
        return Ok(());
    }
    if request == "watch" {
        let line = daemon.announcement();
        return daemon.subscribers.add(stream, &line);
    }
    let document = match peer.uid() {
        0 => roots(request, daemon).or_else(|| everybodys(request, daemon)),
        _ => everybodys(request, daemon),
    };
    let document = document.unwrap_or_else(|| {
        let uid = peer.uid();
        tracing::warn!(uid, "a request on the gate's socket is refused");
        let shown: String = request.chars().take(32).collect();
        json!({ "error": format!("request {shown:?} is unknown or not for uid {uid}") })
    });
    let mut line = document.to_string();
    line.push('\n');
    (&stream).write_all(line.as_bytes())
}

fn everybodys(request: &str, daemon: &mut Daemon) -> Option<Value> {
    Some(match request {
        "status" => of(daemon.status().map(|status| json!({ "status": status }))),
        "top" => of(daemon.top().map(|top| json!({ "top": top }))),
        _ => return None,
    })
}

fn roots(request: &str, daemon: &mut Daemon) -> Option<Value> {
    let (verb, rest) = request.split_once(' ').unwrap_or((request, ""));
    let done = |()| json!({ "done": true });
    Some(match (verb, rest) {
        ("off", "") => of(daemon.off(None).map(done)),
        ("off", interface) => of(daemon.off(Some(interface)).map(done)),
        ("confirm", "") => of(daemon.confirm().map(done)),
        ("apply", wanted) => match serde_json::from_str(wanted) {
            Err(error) => json!({ "error": format!("the request is not understood: {error}") }),
            Ok(wanted) => match daemon.apply(wanted) {
                Taken::Applied(applied) => json!({ "applied": applied }),
                Taken::Refused(refusal) => json!({ "refused": refusal }),
                Taken::Invalid(problems) => json!({ "invalid": problems }),
                Taken::Failed(error) => json!({ "error": with_causes(&error) }),
            },
        },
        _ => return None,
    })
}

fn of(outcome: Result<Value, GateError>) -> Value {
    outcome.unwrap_or_else(|error| json!({ "error": with_causes(&error) }))
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
