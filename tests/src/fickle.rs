//! A backend whose health and answers change on demand: says its name, counts what it is asked, goes away and comes
//! back, holds requests until it is told to let them go.

use crate::lab::Ns;
use crate::raw_server::request_length;
use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// What probes ask for; everything else is a request.
pub const HEALTH: &str = "/healthz";
/// Longest that a connection may be idle before its thread gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// What it does with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Answers with its name, and keeps the connection.
    Answers,
    /// The same, and closes the connection without having said so.
    AnswersAndCloses,
    /// Closes without an answer.
    HangsUp,
    /// Answers the first request of each connection, and closes without an answer when another one comes: what is kept
    /// goes stale while it is used.
    HangsUpLater,
    /// The same, and says that it waited for too long.
    TimesOutLater,
}

/// Its state.
#[derive(Debug)]
struct State {
    name: String,
    health: AtomicU16,
    status: AtomicU16,
    manner: Mutex<Manner>,
    /// Where a probe of exactly [`HEALTH`] is sent.
    redirect: Mutex<Option<String>>,
    /// Milliseconds before each answer.
    delay: AtomicU64,
    holding: Mutex<bool>,
    let_go: Condvar,
    asked: AtomicUsize,
    probed: AtomicUsize,
    under_way: AtomicUsize,
    most: AtomicUsize,
    requests: Mutex<Vec<String>>,
    connections: Mutex<Vec<TcpStream>>,
    gone: AtomicBool,
}

/// The running backend.
#[derive(Debug)]
pub struct Fickle {
    ns: Ns,
    at: Option<SocketAddr>,
    listener: Option<TcpListener>,
    state: Arc<State>,
}

impl Fickle {
    /// Listens at `at` in `ns`.
    ///
    /// # Errors
    /// Where the address cannot be had.
    pub fn start(ns: &Ns, name: &str, at: SocketAddr) -> Result<Fickle> {
        let mut backend = Fickle::absent(ns, name, at);
        backend.come()?;
        Ok(backend)
    }

    /// One that is not there yet.
    #[must_use]
    pub fn absent(ns: &Ns, name: &str, at: SocketAddr) -> Fickle {
        Fickle {
            ns: ns.clone(),
            at: Some(at),
            listener: None,
            state: Arc::new(State::new(name)),
        }
    }

    /// Listens on a Unix socket.
    ///
    /// # Errors
    /// Where the path cannot be had.
    pub fn at_socket(ns: &Ns, name: &str, path: &Path) -> Result<Fickle> {
        let listener = UnixListener::bind(path).with_context(|| path.display().to_string())?;
        let state = Arc::new(State::new(name));
        // Accepting, reading and writing are the same calls for every stream socket.
        let listener = TcpListener::from(OwnedFd::from(listener));
        Fickle::accept(&listener, &state)?;
        Ok(Fickle {
            ns: ns.clone(),
            at: None,
            listener: Some(listener),
            state,
        })
    }

    fn accept(listener: &TcpListener, state: &Arc<State>) -> Result<()> {
        let (accepting, state) = (listener.try_clone()?, Arc::clone(state));
        std::thread::spawn(move || accept_all(&accepting, &state));
        Ok(())
    }

    /// Listens again.
    ///
    /// # Errors
    /// Where the address cannot be had.
    pub fn come(&mut self) -> Result<()> {
        let at = self
            .at
            .context("a socket of the file system does not come back")?;
        let bind = || TcpListener::bind(at).with_context(|| format!("cannot listen on {at}"));
        let listener = self.ns.enter(bind)?;
        self.state.gone.store(false, Ordering::SeqCst);
        Fickle::accept(&listener, &self.state)?;
        self.listener = Some(listener);
        Ok(())
    }

    /// Refuses connections from now on, and breaks those that there are.
    pub fn go(&mut self) {
        self.state.gone.store(true, Ordering::SeqCst);
        self.let_go();
        if let Some(listener) = self.listener.take() {
            // Wakes the accepting thread.
            let _gone = socket2::SockRef::from(&listener).shutdown(Shutdown::Both);
        }
        for connection in lock(&self.state.connections).drain(..) {
            let _gone = connection.shutdown(Shutdown::Both);
        }
    }

    /// What probes are answered with.
    pub fn set_health(&self, status: u16) {
        self.state.health.store(status, Ordering::SeqCst);
    }

    /// Where a probe of exactly [`HEALTH`] is sent; all below that path is answered as before.
    pub fn set_redirect(&self, to: Option<&str>) {
        *lock(&self.state.redirect) = to.map(str::to_owned);
    }

    /// What requests are answered with.
    pub fn set_status(&self, status: u16) {
        self.state.status.store(status, Ordering::SeqCst);
    }

    /// What becomes of requests.
    pub fn set_manner(&self, manner: Manner) {
        *lock(&self.state.manner) = manner;
    }

    /// How long it takes over each answer.
    pub fn set_delay(&self, delay: Duration) {
        let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.state.delay.store(millis, Ordering::SeqCst);
    }

    /// Requests wait for [`Fickle::let_go`] from now on.
    pub fn hold(&self) {
        *lock(&self.state.holding) = true;
    }

    /// Answers what waits, and no request waits any more.
    pub fn let_go(&self) {
        *lock(&self.state.holding) = false;
        self.state.let_go.notify_all();
    }

    /// Requests so far, probes not counted.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.state.asked.load(Ordering::SeqCst)
    }

    /// Probes so far.
    #[must_use]
    pub fn probed(&self) -> usize {
        self.state.probed.load(Ordering::SeqCst)
    }

    /// Requests that it has now.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.state.under_way.load(Ordering::SeqCst)
    }

    /// The most requests that it had at once.
    #[must_use]
    pub fn most(&self) -> usize {
        self.state.most.load(Ordering::SeqCst)
    }

    /// Every request, as it arrived.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        lock(&self.state.requests).clone()
    }
}

impl Drop for Fickle {
    fn drop(&mut self) {
        self.go();
    }
}

impl State {
    fn new(name: &str) -> State {
        State {
            name: name.to_owned(),
            health: AtomicU16::new(200),
            status: AtomicU16::new(200),
            manner: Mutex::new(Manner::Answers),
            redirect: Mutex::default(),
            delay: AtomicU64::new(0),
            holding: Mutex::new(false),
            let_go: Condvar::new(),
            asked: AtomicUsize::new(0),
            probed: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            requests: Mutex::default(),
            connections: Mutex::default(),
            gone: AtomicBool::new(false),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept_all(listener: &TcpListener, state: &Arc<State>) {
    // Not `incoming`: a Unix socket's peer has no address that it could show.
    while let Ok((socket, _)) = socket2::SockRef::from(listener).accept() {
        let stream = TcpStream::from(OwnedFd::from(socket));
        if state.gone.load(Ordering::SeqCst) {
            return;
        }
        if let Ok(copy) = stream.try_clone() {
            lock(&state.connections).push(copy);
        }
        let state = Arc::clone(state);
        // An error here is the peer's leaving, which tests look at from the other side.
        std::thread::spawn(move || serve(stream, &state));
    }
}

fn serve(mut stream: TcpStream, state: &State) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let (mut pending, mut before) = (Vec::new(), 0);
    let mut buffer = [0_u8; 16 * 1024];
    loop {
        while let Some(length) = request_length(&pending) {
            let rest = pending.split_off(length);
            let request = String::from_utf8_lossy(&std::mem::replace(&mut pending, rest)).into_owned();
            if !answer(&mut stream, state, request, before)? {
                return stream.shutdown(Shutdown::Both);
            }
            before += 1;
        }
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        pending.extend_from_slice(buffer.get(..count).unwrap_or_default());
    }
}

/// Answers a probe.
fn answer_probe(stream: &mut TcpStream, state: &State, path: &str, head: bool) -> std::io::Result<()> {
    state.probed.fetch_add(1, Ordering::SeqCst);
    let redirect = lock(&state.redirect).clone().filter(|_| path == HEALTH);
    if let Some(to) = redirect {
        let answer = format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
        return stream.write_all(answer.as_bytes());
    }
    write(stream, state.health.load(Ordering::SeqCst), "", head)
}

/// Answers one request, the one after `before` others on its connection; returns whether the connection stays.
fn answer(stream: &mut TcpStream, state: &State, request: String, before: usize) -> std::io::Result<bool> {
    let head = request.starts_with("HEAD ");
    let path = request.split(' ').nth(1).unwrap_or_default();
    if path.starts_with(HEALTH) {
        answer_probe(stream, state, path, head)?;
        return Ok(true);
    }
    state.asked.fetch_add(1, Ordering::SeqCst);
    lock(&state.requests).push(request);
    let now = state.under_way.fetch_add(1, Ordering::SeqCst) + 1;
    state.most.fetch_max(now, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(state.delay.load(Ordering::SeqCst)));
    let mut holding = lock(&state.holding);
    while *holding {
        holding = state.let_go.wait(holding).unwrap_or_else(PoisonError::into_inner);
    }
    drop(holding);
    let manner = *lock(&state.manner);
    let status = state.status.load(Ordering::SeqCst);
    // Before the answer: whoever has it may look.
    state.under_way.fetch_sub(1, Ordering::SeqCst);
    match manner {
        Manner::HangsUpLater if before > 0 => return Ok(false),
        Manner::TimesOutLater if before > 0 => {
            let late = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(late)?;
            return Ok(false);
        }
        Manner::HangsUp => return Ok(false),
        Manner::Answers | Manner::AnswersAndCloses | Manner::HangsUpLater | Manner::TimesOutLater => {}
    }
    write(stream, status, &state.name, head)?;
    Ok(manner != Manner::AnswersAndCloses)
}

fn write(stream: &mut TcpStream, status: u16, body: &str, head: bool) -> std::io::Result<()> {
    let length = body.len();
    let body = if head { "" } else { body };
    stream
        .write_all(format!("HTTP/1.1 {status} As Told\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes())
}
