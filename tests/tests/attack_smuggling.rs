//! Nearly valid requests through the gateway to servers of other hands: no server sees a request that the gateway did
//! not send it. Both drivers.
//!
//! What the gateway saw is its access log, what a server saw is its own. The seed is in every failure;
//! `SALLYPORT_SMUGGLING_SEED` and `_INPUTS` try others and more.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::fragments::{local, router, service};
use sallyport_tests::haproxy::Haproxy;
use sallyport_tests::lab::Ns;
use sallyport_tests::near_valid::{self, Input};
use sallyport_tests::nginx::{Nginx, Serves};
use sallyport_tests::on_both_drivers;
use sallyport_tests::process::Proc;
use sallyport_tests::raw_client::{self, End};
use sallyport_tests::script::{Interpreter, Script};
use sallyport_tests::wait;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{Shutdown, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

on_both_drivers!(no_server_sees_two_requests_where_the_gateway_saw_one);

const SEED: u64 = 0x5a11_1904;
const INPUTS: usize = 2000;
const SOON: Duration = Duration::from_secs(10);
/// Far longer than any answer takes; who is silent as long has not understood the end of the request.
const PATIENCE: Duration = Duration::from_secs(20);
const NODE: Script = Script {
    name: "node-http",
    interpreter: Interpreter::Node,
    text: include_str!("../scripts/http_seen.js"),
};
const NGINX_PORT: u16 = 9001;
const HAPROXY_PORT: u16 = 9002;
const NODE_PORT: u16 = 9003;

/// How often each request was seen, by its name.
type Seen = BTreeMap<String, usize>;

/// A server, and the entry point that leads to it.
struct Peer {
    name: &'static str,
    entry: u16,
    port: u16,
    /// Where it writes what it saw.
    log: PathBuf,
    proc: Option<Proc>,
}

impl Peer {
    /// The names of the requests that it saw; `last` is in it once everything is.
    fn seen(&self, last: &str) -> Result<Seen> {
        let read = || -> Result<String> {
            match &self.proc {
                Some(proc) => Ok(proc.log()),
                None => Ok(std::fs::read_to_string(&self.log)?),
            }
        };
        wait::until(
            SOON,
            &format!("the last request in the log of {}", self.name),
            || {
                let seen = names(&read()?);
                Ok(seen.contains_key(last).then_some(seen))
            },
        )
    }
}

/// The names in a text, one a line.
fn names(text: &str) -> Seen {
    let mut seen = Seen::new();
    for line in text.lines() {
        if let Some(name) = name(line) {
            *seen.entry(name).or_default() += 1;
        }
    }
    seen
}

/// The first `i` or `s` with a number behind it.
fn name(target: &str) -> Option<String> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (at, length) = target.char_indices().find_map(|(at, c)| {
        let length = digits(target.get(at + 1..).filter(|_| matches!(c, 'i' | 's'))?);
        (length > 0).then_some((at, 1 + length))
    })?;
    target.get(at..at + length).map(str::to_owned)
}

fn peers(case: &Case) -> Result<(Vec<Peer>, Nginx, Haproxy)> {
    let nginx_log = case.dir().join("nginx-seen");
    let format = format!(
        "log_format seen '$request_uri'; access_log {} seen;",
        nginx_log.display()
    );
    let nginx = Nginx::start_with(&case.ns, "seen", NGINX_PORT, &Serves::Plain, &format)?;
    let sections = format!(
        "frontend seen\n  mode http\n  bind 127.0.0.1:{HAPROXY_PORT}\n  log stdout format raw local0\n  log-format %HU\n  \
         http-request return status 200 content-type text/plain string ok\n"
    );
    let haproxy = Haproxy::start_with(&case.ns, &[HAPROXY_PORT], &sections)?;
    let node = NODE.serve(&case.ns, NODE_PORT, &[])?;
    let peer = |name, entry, port, log: &Path, proc| Peer {
        name,
        entry,
        port,
        log: log.to_owned(),
        proc,
    };
    let none = Path::new("");
    let all = vec![
        peer("nginx", 8001, NGINX_PORT, &nginx_log, None),
        peer("haproxy", 8002, HAPROXY_PORT, none, None),
        peer("node", 8003, NODE_PORT, none, Some(node)),
    ];
    Ok((all, nginx, haproxy))
}

fn configuration(peers: &[Peer], log: &Path) -> String {
    let mut body = format!("[access_log]\npath = \"{}\"\n", log.display());
    for peer in peers {
        let (name, entry) = (peer.name, peer.entry);
        body += &format!("[entry_points.{name}]\naddress = \"127.0.0.1:{entry}\"\n");
        body += &router(
            name,
            "PathPrefix(`/`)",
            name,
            &format!("entry_points = [\"{name}\"]"),
        );
        body += &service(name, &[&format!("http://127.0.0.1:{}", peer.port)], "");
    }
    body
}

/// Sends an input as one client does, who says nothing more. Returns whether the gateway made an end of it.
fn send(ns: &Ns, to: SocketAddr, input: &Input) -> Result<bool> {
    let mut stream = raw_client::connect(ns, None, to)?;
    raw_client::send(&mut stream, &[&input.bytes])?;
    // The other side may have closed already.
    let _closed = stream.shutdown(Shutdown::Write);
    Ok(raw_client::read_to_end(&mut stream, PATIENCE)?.end != End::Silent)
}

/// What the gateway sent to each of its services.
fn sent(log: &Path) -> Result<BTreeMap<String, Seen>> {
    let mut sent: BTreeMap<String, Seen> = BTreeMap::new();
    for line in std::fs::read_to_string(log)?.lines() {
        let line: Value = serde_json::from_str(line)?;
        let word = |key: &str| line.get(key).and_then(Value::as_str);
        if let (Some(service), Some(path)) = (word("service"), word("path")) {
            let name = name(path).unwrap_or_else(|| path.to_owned());
            *sent
                .entry(service.to_owned())
                .or_default()
                .entry(name)
                .or_default() += 1;
        }
    }
    Ok(sent)
}

fn number(variable: &str, default: u64) -> Result<u64> {
    match std::env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("`{variable}` is no number")),
        Err(_) => Ok(default),
    }
}

fn no_server_sees_two_requests_where_the_gateway_saw_one(case: &Case) -> Result<()> {
    let seed = number("SALLYPORT_SMUGGLING_SEED", SEED)?;
    let count = usize::try_from(number("SALLYPORT_SMUGGLING_INPUTS", u64::try_from(INPUTS)?)?)?;
    try_seed(case, seed, count).with_context(|| format!("SALLYPORT_SMUGGLING_SEED={seed} _INPUTS={count}"))
}

fn try_seed(case: &Case, seed: u64, count: usize) -> Result<()> {
    let (peers, _nginx, haproxy) = peers(case)?;
    let log = case.dir().join("access.json");
    let mut gateway = case.gateway(&configuration(&peers, &log))?;
    std::thread::scope(|scope| {
        let sending: Vec<_> = peers
            .iter()
            .map(|peer| scope.spawn(|| send_all(&case.ns, peer, seed, count)))
            .collect();
        for sending in sending {
            sending
                .join()
                .map_err(|_| anyhow::anyhow!("a sender's thread"))??;
        }
        Ok::<(), anyhow::Error>(())
    })?;
    let last = format!("i{count}");
    // Its end is when the log is whole.
    gateway.stop()?;
    let sent = sent(&log)?;
    for peer in &peers {
        let seen = if peer.name == "haproxy" {
            names(&haproxy.proc.log())
        } else {
            peer.seen(&last)?
        };
        let sent = sent.get(peer.name).context("nothing was sent")?;
        judge(peer.name, sent, &seen, count)?;
    }
    Ok(())
}

/// All inputs, then one plain request that is seen by everybody last.
fn send_all(ns: &Ns, peer: &Peer, seed: u64, count: usize) -> Result<()> {
    for input in near_valid::inputs(seed, 0..count) {
        let ended = send(ns, local(peer.entry), &input)?;
        let text = String::from_utf8_lossy(&input.bytes).into_owned();
        ensure!(
            ended,
            "{}: the gateway neither answers nor closes: {text:?}",
            peer.name
        );
    }
    let last = Input {
        id: count,
        bytes: format!("GET /i{count} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").into_bytes(),
    };
    ensure!(send(ns, local(peer.entry), &last)?);
    Ok(())
}

/// Every request that a server saw is one that it was sent.
fn judge(name: &str, sent: &Seen, seen: &Seen, count: usize) -> Result<()> {
    for (request, times) in seen {
        let allowed = sent.get(request).copied().unwrap_or(0);
        ensure!(
            *times <= allowed,
            "{name} saw `{request}` {times} times, and was sent it {allowed} times"
        );
    }
    let total = |seen: &Seen| seen.values().sum::<usize>();
    let hidden = |seen: &Seen| seen.keys().filter(|name| name.starts_with('s')).count();
    println!(
        "{name}: {} of {count} inputs became {} requests, {} hidden ones among them; it saw {}",
        sent.keys().filter(|name| name.starts_with('i')).count(),
        total(sent),
        hidden(sent),
        total(seen),
    );
    // Both ways of reading must have been tried, or this shows nothing.
    ensure!(
        total(sent) > count / 10 && hidden(sent) > count / 100,
        "{name}: too few inputs were requests at all"
    );
    ensure!(total(seen) > count / 10, "{name} saw too few");
    Ok(())
}

#[test]
fn a_request_that_was_not_sent_is_seen() {
    let seen = |names: &[&str]| {
        names
            .iter()
            .map(|name| ((*name).to_owned(), 50))
            .collect::<Seen>()
    };
    let sent = seen(&["i1", "i2", "s2"]);
    assert!(judge("peer", &sent, &seen(&["i1", "i2", "s2"]), 50).is_ok());
    assert!(judge("peer", &sent, &seen(&["i1", "s1", "s2"]), 50).is_err());
    assert_eq!(name("http://a.example/i12/../i12"), Some("i12".to_owned()));
    assert_eq!(name("/s3?x"), Some("s3".to_owned()));
    assert_eq!(name("-"), None);
}
