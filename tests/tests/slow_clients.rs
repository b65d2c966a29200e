//! Five thousand clients that are as slow as they may be: everybody else is served meanwhile, each of them is cut off by
//! the deadline that is for it, and what they held is given back; both drivers.
//!
//! What others wait is printed beside what they waited before, and never asserted beyond where a stall begins.

use anyhow::{Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sallyport_tests::case::Case;
use sallyport_tests::fragments::{PORT, entry_point, local, router, service};
use sallyport_tests::gateway::{Gateway, find_all};
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_client;
use sallyport_tests::raw_server::{Behaviour, RawServer};
use sallyport_tests::wait;
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use std::fmt;
use std::net::TcpStream;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

on_both_drivers!(five_thousand_slow_clients_cost_nobody_else_a_request);

/// Clients whose header section never ends.
const HEADS: usize = 3000;
/// Whose body trickles.
const BODIES: usize = 1500;
/// Who do not read their answer.
const DEAF: usize = 300;
/// Who ask once and keep the connection.
const IDLE: usize = 200;
/// Descriptors that this takes here and in the gateway, both drivers at once.
const DESCRIPTORS: u64 = 3 * 5000;
/// Requests of somebody else, one after another.
const REQUESTS: usize = 3000;
/// Where a stall begins.
const STALL: Duration = Duration::from_secs(10);
/// The deadlines of all kinds, and time for all of them to have passed.
const DEADLINE: &str = "7s";
const PASSED: Duration = Duration::from_secs(60);

/// One driver at a time: what the other's clients begin is a load of its own.
static ALONE: Mutex<()> = Mutex::new(());

const QUICK: u16 = 9001;
const LARGE: u16 = 9002;

fn five_thousand_slow_clients_cost_nobody_else_a_request(case: &Case) -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    ensure!(
        most >= DESCRIPTORS,
        "{DESCRIPTORS} descriptors are needed, {most} allowed"
    );
    // The gateway inherits it.
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec();
    let _quick = RawServer::start(&case.ns, local(QUICK), Behaviour::Answer(ok))?;
    let large = RawServer::start(&case.ns, local(LARGE), Behaviour::Stream(64 << 20))?;
    let deadlines = ["read_header", "read", "idle", "body_idle"].map(|key| format!("{key} = \"{DEADLINE}\""));
    let gateway = case.gateway(
        &(entry_point(&format!("timeouts = {{ {} }}", deadlines.join(", ")))
            + &router("quick", "PathPrefix(`/quick`)", "quick", "")
            + &router("large", "PathPrefix(`/large`)", "large", "")
            + &service("quick", &[&format!("http://127.0.0.1:{QUICK}")], "")
            + &service("large", &[&format!("http://127.0.0.1:{LARGE}")], "")),
    )?;
    let alone = others(case)?;
    let slow = begin(case)?;
    // What fills the buffers on the way is a load of its own, which is not tried here.
    let sent = || large.seen.sent();
    wait::until_steady(STALL, Duration::from_millis(300), "the buffers fill", sent)?;
    let beside = others(case)?;
    eprintln!("alone: {alone}; beside {} slow clients: {beside}", slow.len());
    let timeouts = u64::try_from(HEADS + BODIES)?;
    wait::until(PASSED, "every slow client is cut off", || {
        Ok((connections(&gateway)? == 0).then_some(()))
    })?;
    gateway.counts("request_timeout", timeouts)?;
    gateway.counts("answer_idle", u64::try_from(DEAF)?)?;
    others(case)?;
    drop(slow);
    Ok(())
}

fn connections(gateway: &Gateway) -> Result<u64> {
    let status = gateway.status()?;
    let workers = status.get("workers").unwrap_or(&Value::Null);
    Ok(find_all(workers, "connections")
        .into_iter()
        .filter_map(Value::as_u64)
        .sum())
}

/// Opens all slow clients, each of which begins something and goes on with nothing.
fn begin(case: &Case) -> Result<Vec<TcpStream>> {
    let kinds: [(usize, &[u8]); 3] = [
        (HEADS, b"GET /quick HTTP/1.1\r\nHost: a.example\r\nX: "),
        (
            BODIES,
            b"POST /quick HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1000\r\n\r\na",
        ),
        (IDLE, b"GET /quick HTTP/1.1\r\nHost: a.example\r\n\r\n"),
    ];
    case.ns.enter(|| {
        let mut all = Vec::new();
        for (count, bytes) in kinds {
            for _ in 0..count {
                let mut stream = raw_client::connect_here(None, local(PORT))?;
                raw_client::send(&mut stream, &[bytes])?;
                all.push(stream);
            }
        }
        for _ in 0..DEAF {
            all.push(deaf()?);
        }
        Ok(all)
    })
}

/// A client with a small buffer, which reads nothing of an answer that has begun.
fn deaf() -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_recv_buffer_size(4096)?;
    socket.connect_timeout(&local(PORT).into(), STALL)?;
    let mut stream = TcpStream::from(socket);
    raw_client::send(&mut stream, &[b"GET /large HTTP/1.1\r\nHost: a.example\r\n\r\n"])?;
    stream.set_read_timeout(Some(STALL))?;
    ensure!(stream.peek(&mut [0; 1])? == 1, "closed");
    Ok(stream)
}

/// What requests of somebody else take.
struct Took(Vec<Duration>);

impl Took {
    fn at_most(&self, of_thousand: usize) -> Duration {
        let place = self.0.len().saturating_sub(1) * of_thousand / 1000;
        self.0.get(place).copied().unwrap_or_default()
    }
}

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [half, most, nearly, all] = [500, 990, 999, 1000].map(|share| self.at_most(share));
        write!(
            f,
            "50 % within {half:?}, 99 % {most:?}, 99.9 % {nearly:?}, all {all:?}"
        )
    }
}

/// Somebody else's requests, each on a connection of its own.
fn others(case: &Case) -> Result<Took> {
    let request = b"GET /quick HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
    let mut took = case.ns.enter(|| {
        let ask = |_| {
            let start = Instant::now();
            let mut stream = raw_client::connect_here(None, local(PORT))?;
            raw_client::send(&mut stream, &[request])?;
            let got = raw_client::read_to_end(&mut stream, STALL)?;
            let took = start.elapsed();
            ensure!(
                got.status() == 200,
                "{:?} after {took:?}: {}",
                got.end,
                got.text()
            );
            Ok(took)
        };
        (0..REQUESTS).map(ask).collect::<Result<Vec<_>>>()
    })?;
    took.sort_unstable();
    Ok(Took(took))
}
