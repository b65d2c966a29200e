//! `rate_limit` and `in_flight`: limits of the whole process, whatever the number of its workers.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use sallyport_tests::case::Case;
use sallyport_tests::curl::Curl;
use sallyport_tests::fragments::{BACKEND, PORT, backend_url, entry_point, local, service};
use sallyport_tests::h2load::{self, Protocol};
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_client;
use sallyport_tests::raw_server::{Behaviour, RawServer};
use sallyport_tests::wait;
use std::net::TcpStream;
use std::time::Duration;

on_both_drivers!(
    a_burst_is_one_for_all_workers,
    sources_do_not_share_and_reloads_forget_nothing,
    requests_under_way_are_counted_and_given_back,
    a_connection_that_left_http_counts_until_it_ends,
);

const SOON: Duration = Duration::from_secs(10);

fn body(middleware: &str) -> String {
    entry_point("")
        + "[routers.all]\nrule = \"PathPrefix(`/`)\"\nservice = \"backend\"\nmiddlewares = [\"limit\"]\n"
        + &service("backend", &[&backend_url()], "")
        + middleware
}

fn rate(keys: &str) -> String {
    body(&format!(
        "[middlewares.limit.rate_limit]\nperiod = \"1h\"\naverage = 1\n{keys}\n"
    ))
}

fn status(case: &Case, from: &str) -> Result<u16> {
    let curl = Curl::new(&case.ns).from(from.parse()?);
    Ok(curl.get(&format!("http://127.0.0.1:{PORT}/"))?.status)
}

fn a_burst_is_one_for_all_workers(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let gateway = case.gateway(&rate("burst = 50"))?;
    let counts = h2load::run(
        &case.ns,
        &format!("http://127.0.0.1:{PORT}/"),
        Protocol::Http1,
        400,
        20,
    )?;
    ensure!((counts.ok, counts.failed) == (50, 350), "{counts:?}");
    ensure!(server.seen.requests().len() == 50);
    let answer = Curl::new(&case.ns)
        .get(&format!("http://127.0.0.1:{PORT}/"))?
        .expect(429)?;
    let wait: u64 = answer
        .header("retry-after")
        .context("no `Retry-After`")?
        .parse()?;
    ensure!((3000..=3600).contains(&wait), "{wait}");
    let status = gateway.status()?;
    let counted = status
        .pointer("/counters/rate_exceeded")
        .and_then(serde_json::Value::as_u64);
    ensure!(counted == Some(351), "{status}");
    Ok(())
}

fn sources_do_not_share_and_reloads_forget_nothing(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let gateway = case.gateway(&rate("burst = 2"))?;
    for from in ["127.0.0.1", "127.0.0.2"] {
        for expected in [200, 200, 429] {
            let found = status(case, from)?;
            ensure!(found == expected, "{from}: {found} in place of {expected}");
        }
    }
    let other = "[routers.other]\nrule = \"PathPrefix(`/other`)\"\nservice = \"backend\"\n";
    gateway.setup().write(&(rate("burst = 2") + other))?;
    gateway.proc.signal(Signal::SIGHUP)?;
    let at_other = || {
        Ok(Curl::new(&case.ns)
            .get(&format!("http://127.0.0.1:{PORT}/other"))?
            .status)
    };
    gateway.settle(200, at_other)?;
    ensure!(
        status(case, "127.0.0.1")? == 429,
        "the reload forgot what was used"
    );
    gateway.setup().write(&(rate("burst = 3") + other))?;
    gateway.proc.signal(Signal::SIGHUP)?;
    gateway.settle(200, || status(case, "127.0.0.1"))?;
    Ok(())
}

/// A request whose answer the server holds back.
fn held(case: &Case, server: &RawServer, expected: usize) -> Result<TcpStream> {
    let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
    raw_client::send(&mut stream, &[b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"])?;
    let arrived = || Ok((server.seen.requests().len() >= expected).then_some(()));
    wait::until(SOON, "the request reaches the server", arrived)?;
    Ok(stream)
}

fn requests_under_way_are_counted_and_given_back(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Silent)?;
    let gateway = case.gateway(&body("[middlewares.limit.in_flight]\namount = 3\n"))?;
    let mut streams = Vec::new();
    for count in 1..=3 {
        streams.push(held(case, &server, count)?);
    }
    let ask = |host: &str| {
        let curl = Curl::new(&case.ns)
            .header(&format!("Host: {host}"))
            .args(&["--max-time", "1"]);
        Ok(curl.get(&format!("http://127.0.0.1:{PORT}/"))?.status)
    };
    ensure!(ask("a.example")? == 429);
    ensure!(ask("A.Example:8000")? == 429, "the same host");
    ensure!(ask("b.example")? == 0, "another host gets to the silent server");
    // Whoever goes away gives its place back.
    streams.pop();
    gateway.settle(0, || ask("a.example"))
}

fn a_connection_that_left_http_counts_until_it_ends(case: &Case) -> Result<()> {
    let granted = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n";
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Answer(granted.to_vec()))?;
    let gateway = case.gateway(&body("[middlewares.limit.in_flight]\namount = 1\n"))?;
    let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
    let asked = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n";
    raw_client::send(&mut stream, &[asked])?;
    let head = raw_client::read_head(&mut stream, SOON)?;
    ensure!(head.status() == 101, "{}", head.text());
    let ask = || {
        let curl = Curl::new(&case.ns).header("Host: a.example");
        Ok(curl.get(&format!("http://127.0.0.1:{PORT}/"))?.status)
    };
    ensure!(ask()? == 429);
    drop(stream);
    // An answer of 101 to who did not ask for it is none.
    gateway.settle(502, ask)
}
