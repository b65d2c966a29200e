//! Bytes in flight: the whole process holds no more than it may, whoever does not take them; who waited is served, and
//! nobody else waits; both drivers.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::fragments::{PORT, entry_point, local, router, service_at};
use sallyport_tests::gateway::Gateway;
use sallyport_tests::h2load::{self, Protocol};
use sallyport_tests::on_both_drivers;
use sallyport_tests::process::{Proc, Spawn};
use sallyport_tests::raw_client;
use sallyport_tests::raw_http2::{
    END_HEADERS, END_STREAM, HEADERS, Peer, SETTINGS, WINDOW_UPDATE, fields, frame,
};
use sallyport_tests::raw_server::{Behaviour, RawServer};
use sallyport_tests::wait;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

on_both_drivers!(
    uploads_that_no_server_takes_hold_no_more_than_the_process_may,
    answers_that_no_client_takes_hold_no_more_than_the_process_may,
    what_waited_arrives_whole_both_ways,
    without_a_limit_nobody_waits,
    a_long_answer_takes_no_more_memory_than_a_short_one,
);

/// Long for anything that is due soon.
const SOON: Duration = Duration::from_secs(30);
const DEAF: u16 = 9001;
const LARGE: u16 = 9002;
const QUICK: u16 = 9003;
const ECHO: u16 = 9004;
const MIB: u64 = 1 << 20;
/// What the process may have in these tests, and what it has at most: each connection may have a piece of 64 KiB all
/// the same, and the workers are off by an eighth.
const MAX: &str = "2MiB";
const HELD_MAX: u64 = 3 * MIB;
/// Connections of a load, and streams of each: without the limit they would hold some 20 MiB.
const CONNECTIONS: usize = 4;
const STREAMS: usize = 50;

struct Stage<'c> {
    case: &'c Case,
    gateway: Gateway,
    echo: RawServer,
    _servers: [RawServer; 3],
}

impl<'c> Stage<'c> {
    fn new(case: &'c Case, max: &str) -> Result<Self> {
        // What sockets hold is none of the gateway's, and of no interest here.
        case.ns.enter(|| {
            std::fs::write("/proc/sys/net/ipv4/tcp_wmem", "4096 65536 65536")?;
            Ok(std::fs::write("/proc/sys/net/ipv4/tcp_rmem", "4096 65536 65536")?)
        })?;
        let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec();
        let server = |port, behaviour| RawServer::start(&case.ns, local(port), behaviour);
        let servers = [
            server(DEAF, Behaviour::Deaf)?,
            server(LARGE, Behaviour::Stream(MIB))?,
            server(QUICK, Behaviour::Answer(ok))?,
        ];
        let echo = server(ECHO, Behaviour::Echo)?;
        let body = [("deaf", DEAF), ("large", LARGE), ("quick", QUICK), ("echo", ECHO)]
            .map(|(name, port)| {
                router(name, &format!("PathPrefix(`/{name}`)"), name, "") + &service_at(name, &[port], "")
            })
            .concat();
        let key = format!("workers = 2\nmax_in_flight_bytes = \"{max}\"\n");
        let gateway = case
            .setup()?
            .with("workers = 2\n", &key)
            .start(&(entry_point("") + &body))?;
        Ok(Self {
            case,
            gateway,
            echo,
            _servers: servers,
        })
    }

    fn held(&self) -> Result<u64> {
        let status = self.gateway.status()?;
        let held = status.get("in_flight_bytes").and_then(Value::as_u64);
        held.context("no `in_flight_bytes`")
    }

    fn get(&self, path: &str) -> Result<usize> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n");
        let ns = &self.case.ns;
        let got = raw_client::exchange(ns, None, local(PORT), &[request.as_bytes()], SOON)?;
        ensure!(got.status() == 200, "{path}: {:?}", got.end);
        Ok(got.body().len())
    }

    /// A file to upload.
    fn file(&self, bytes: u64) -> Result<PathBuf> {
        let path = self.case.dir().join(format!("body-{bytes}"));
        std::fs::write(&path, vec![b'x'; usize::try_from(bytes)?])?;
        Ok(path)
    }

    /// The process holds what it may and no more, and others are served meanwhile.
    fn must_be_full(&self) -> Result<()> {
        let full = || Ok((self.gateway.count("in_flight_bytes")? > 0).then_some(()));
        wait::until(SOON, "bodies wait", full)?;
        let mut most = 0;
        for _ in 0..20 {
            most = self.held()?.max(most);
            ensure!(self.get("/quick")? == 2);
        }
        ensure!((MIB..HELD_MAX).contains(&most), "{most} bytes in flight");
        ensure!(self.get("/large")? == usize::try_from(MIB)?);
        Ok(())
    }

    fn must_become_empty(&self) -> Result<()> {
        wait::until(SOON, "nothing is in flight", || {
            Ok((self.held()? < MIB / 2).then_some(()))
        })
    }
}

fn uploads_that_no_server_takes_hold_no_more_than_the_process_may(case: &Case) -> Result<()> {
    let stage = Stage::new(case, MAX)?;
    let file = stage.file(MIB)?;
    let load = Spawn::new("h2load", "h2load")
        .arg("-c")
        .arg(CONNECTIONS.to_string())
        .arg("-m")
        .arg(STREAMS.to_string())
        .arg("-n")
        .arg((CONNECTIONS * STREAMS).to_string())
        .arg("-d")
        .arg(&file)
        .arg(format!("http://127.0.0.1:{PORT}/deaf"));
    let load: Proc = case.ns.spawn(load)?;
    stage.must_be_full()?;
    drop(load);
    stage.must_become_empty()
}

/// A client that asks for much, makes room for all of it, and reads nothing.
fn deaf(case: &Case) -> Result<Peer> {
    let mut peer = Peer::connect(&case.ns, SOON)?;
    // SETTINGS_INITIAL_WINDOW_SIZE, and the connection's own window.
    let room: u32 = 1 << 30;
    let setting = [&[0, 4][..], &room.to_be_bytes()].concat();
    peer.send(&frame(SETTINGS, 0, 0, &setting))?;
    peer.send(&frame(WINDOW_UPDATE, 0, 0, &room.to_be_bytes()))?;
    let header = fields(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/large"),
        (":authority", "a.example"),
    ]);
    for stream in (1..).step_by(2).take(STREAMS) {
        peer.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &header))?;
    }
    Ok(peer)
}

fn answers_that_no_client_takes_hold_no_more_than_the_process_may(case: &Case) -> Result<()> {
    let stage = Stage::new(case, MAX)?;
    let peers: Vec<Peer> = (0..CONNECTIONS).map(|_| deaf(case)).collect::<Result<_>>()?;
    stage.must_be_full()?;
    drop(peers);
    stage.must_become_empty()
}

fn what_waited_arrives_whole_both_ways(case: &Case) -> Result<()> {
    let stage = Stage::new(case, "1MiB")?;
    let url = |path: &str| format!("http://127.0.0.1:{PORT}/{path}");
    let waited = || stage.gateway.count("in_flight_bytes");
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let counts = h2load::run(&case.ns, &url("large"), protocol, 200, 16)?;
        ensure!(counts.ok == 200, "{protocol:?}: {counts:?}");
    }
    let after_answers = waited()?;
    ensure!(after_answers > 0, "no answer waited");
    let file = stage.file(MIB)?;
    let file = file.to_string_lossy();
    let words = ["-c", "4", "-m", "10", "-d", &*file];
    h2load::all_answered(&case.ns, 0, 40, &words, &url("echo"))?;
    ensure!(waited()? > after_answers, "no upload waited");
    ensure!(stage.echo.seen.bytes() > 40 * MIB, "{}", stage.echo.seen.bytes());
    stage.must_become_empty()
}

fn without_a_limit_nobody_waits(case: &Case) -> Result<()> {
    let stage = Stage::new(case, "0")?;
    let counts = h2load::run(
        &case.ns,
        &format!("http://127.0.0.1:{PORT}/large"),
        Protocol::Http2,
        100,
        4,
    )?;
    ensure!(counts.ok == 100, "{counts:?}");
    ensure!((stage.held()?, stage.gateway.count("in_flight_bytes")?) == (0, 0));
    Ok(())
}

fn a_long_answer_takes_no_more_memory_than_a_short_one(case: &Case) -> Result<()> {
    const LONG: u64 = 256 * MIB;
    let _server = RawServer::start(&case.ns, local(LARGE), Behaviour::Stream(LONG))?;
    let body = router("large", "PathPrefix(`/`)", "large", "") + &service_at("large", &[LARGE], "");
    let gateway = case.gateway(&(entry_point("") + &body))?;
    let before = gateway.proc.resident_kib()?;
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let mut curl = Command::new("curl");
        curl.args(["-sS", version, "-o", "/dev/null", "-w", "%{size_download}"]);
        let output = case.ns.output(curl.arg(format!("http://127.0.0.1:{PORT}/")))?;
        let got = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(got == LONG.to_string(), "{version}: {got} bytes");
        let grown = gateway.proc.resident_kib()?.saturating_sub(before);
        ensure!(grown < 32 * 1024, "{version}: {grown} KiB more");
    }
    Ok(())
}
