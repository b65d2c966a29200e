//! A child that is none: answers `GET /uplinks` as it is told, truthfully or not, holds long polls, and takes uplink
//! traffic. HTTP/1.1 in the clear, a thread a connection.

use crate::lab::Ns;
use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Longest that a connection may be idle before its thread gives up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Largest header section that is read.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// What it says to a poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Says {
    /// This document, with an entity tag; long polls are held until something else is said.
    Offers(String),
    /// This document, with an entity tag; whoever asks to wait is answered at once.
    OffersAtOnce(String),
    /// These bytes, then the connection closes.
    Raw(Vec<u8>),
    /// Nothing, until something else is said.
    Nothing,
}

/// A poll that came.
#[derive(Clone, Debug)]
pub struct Poll {
    /// When.
    pub at: Instant,
    /// Over which connection, counted from 0.
    pub connection: usize,
    /// Its header section, lower case.
    pub head: String,
}

impl Poll {
    /// The value of a field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(':'));
        fields
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.trim())
    }
}

#[derive(Debug)]
struct State {
    says: Says,
    /// Counts what was said.
    version: u64,
    polls: Vec<Poll>,
    served: u64,
    connections: Vec<TcpStream>,
    gone: bool,
}

#[derive(Debug)]
struct Shared {
    name: String,
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The running child.
#[derive(Debug)]
pub struct Feigned {
    listener: TcpListener,
    shared: Arc<Shared>,
}

impl Feigned {
    /// Listens at `at` in `ns`; uplink traffic is answered with `name`.
    ///
    /// # Errors
    /// Where the address cannot be had.
    pub fn start(ns: &Ns, name: &str, at: SocketAddr, says: Says) -> Result<Feigned> {
        let listener =
            ns.enter(|| TcpListener::bind(at).with_context(|| format!("cannot listen on {at}")))?;
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            state: Mutex::new(State {
                says,
                version: 1,
                polls: Vec::new(),
                served: 0,
                connections: Vec::new(),
                gone: false,
            }),
            changed: Condvar::new(),
        });
        let (accepting, own) = (listener.try_clone()?, Arc::clone(&shared));
        std::thread::spawn(move || accept_all(&accepting, &own));
        Ok(Feigned { listener, shared })
    }

    /// From now on says this; polls that wait are answered.
    pub fn say(&self, says: Says) {
        let mut state = self.shared.state();
        state.says = says;
        state.version += 1;
        drop(state);
        self.shared.changed.notify_all();
    }

    /// The polls so far.
    #[must_use]
    pub fn polls(&self) -> Vec<Poll> {
        self.shared.state().polls.clone()
    }

    /// Requests of uplink traffic so far.
    #[must_use]
    pub fn served(&self) -> u64 {
        self.shared.state().served
    }
}

impl Drop for Feigned {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.gone = true;
        for connection in state.connections.drain(..) {
            // It may have ended by itself.
            let _ended = connection.shutdown(Shutdown::Both);
        }
        drop(state);
        self.shared.changed.notify_all();
        // Wakes the accepting thread.
        let _gone = socket2::SockRef::from(&self.listener).shutdown(Shutdown::Both);
    }
}

fn accept_all(listener: &TcpListener, shared: &Arc<Shared>) {
    for (number, stream) in listener.incoming().enumerate() {
        let Ok(stream) = stream else { return };
        let mut state = shared.state();
        if state.gone {
            return;
        }
        state.connections.extend(stream.try_clone());
        drop(state);
        let shared = Arc::clone(shared);
        // An error here is the parent's leaving.
        std::thread::spawn(move || serve(stream, number, &shared));
    }
}

fn serve(mut stream: TcpStream, number: usize, shared: &Shared) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    while let Some(head) = read_head(&mut stream)? {
        if head.lines().any(|line| line.starts_with("hub-uplink:")) {
            shared.state().served += 1;
            stream.write_all(&answer("200 OK", "", shared.name.as_bytes()))?;
            continue;
        }
        let poll = Poll {
            at: Instant::now(),
            connection: number,
            head,
        };
        let (bytes, stays) = reply(&poll, shared);
        stream.write_all(&bytes)?;
        if !stays {
            return stream.shutdown(Shutdown::Write);
        }
    }
    Ok(())
}

/// The bytes of an answer to a poll, and whether the connection stays.
fn reply(poll: &Poll, shared: &Shared) -> (Vec<u8>, bool) {
    let mut state = shared.state();
    state.polls.push(poll.clone());
    let wait = poll.field("prefer").and_then(|words| words.strip_prefix("wait="));
    let deadline = poll.at + Duration::from_secs(wait.and_then(|wait| wait.parse().ok()).unwrap_or(0));
    loop {
        if state.gone {
            return (Vec::new(), false);
        }
        let tag = format!("\"v{}\"", state.version);
        let known = poll.field("if-none-match") == Some(tag.as_str());
        let left = match (&state.says, known) {
            (Says::Raw(bytes), _) => return (bytes.clone(), false),
            (Says::Offers(body) | Says::OffersAtOnce(body), false) => {
                let fields = format!("Content-Type: application/json\r\nETag: {tag}\r\n");
                return (answer("200 OK", &fields, body.as_bytes()), true);
            }
            (Says::OffersAtOnce(_), true) => Duration::ZERO,
            (Says::Offers(_), true) => deadline.saturating_duration_since(Instant::now()),
            (Says::Nothing, _) => PATIENCE,
        };
        if left.is_zero() {
            return (answer("304 Not Modified", &format!("ETag: {tag}\r\n"), b""), true);
        }
        let waited = shared.changed.wait_timeout(state, left);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

fn answer(status: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let length = if status.starts_with("304") {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", body.len())
    };
    let mut bytes = format!("HTTP/1.1 {status}\r\n{fields}{length}\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// The next header section, lower case; `None` where the peer has ended. No request of these tests has a body.
fn read_head(stream: &mut TcpStream) -> std::io::Result<Option<String>> {
    let (mut head, mut byte) = (Vec::new(), [0_u8; 1]);
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 || head.len() > HEAD_BYTES_MAX {
            return Ok(None);
        }
        head.extend_from_slice(&byte);
    }
    Ok(Some(String::from_utf8_lossy(&head).to_ascii_lowercase()))
}
