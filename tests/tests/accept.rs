//! The allowlist at accept, without a kernel filter; both drivers.

use anyhow::{Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::fragments::{BACKEND, PORT, backend_url, local, plain, route_all};
use sallyport_tests::gateway::Setup;
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_client::{self, Exchange};
use sallyport_tests::raw_server::{Behaviour, RawServer};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

on_both_drivers!(
    a_source_outside_is_closed_before_any_byte,
    a_source_outside_gets_no_tls_byte,
    a_proxy_header_does_not_talk_its_way_in,
    a_v6_listener_judges_v4_sources_as_v4,
    observe_lets_everybody_in,
    a_reload_shuts_a_source_out,
);

const SOON: Duration = Duration::from_secs(5);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const GATED: &str = "gate = { allow = [\"parents\", \"127.0.0.6/32\"] }";
const LISTS: &str = "[allowlists.parents]\nsources = [\"127.0.0.5/32\", \"2001:db8::/32\"]\n";

fn ask(case: &Case, from: &str, bytes: &[u8]) -> Result<Exchange> {
    let from: IpAddr = from.parse()?;
    raw_client::exchange(&case.ns, Some(from), local(PORT), &[bytes], SOON)
}

fn must_be_shut_out(case: &Case, from: &str) -> Result<()> {
    // Nothing is sent first: the close must not wait for a request.
    let got = ask(case, from, b"")?;
    ensure!(got.is_shut_out(), "{from}: {:?} {}", got.end, got.text());
    let got = ask(case, from, REQUEST)?;
    ensure!(got.is_shut_out(), "{from}: {:?} {}", got.end, got.text());
    Ok(())
}

fn must_be_served(case: &Case, from: &str) -> Result<()> {
    let got = ask(case, from, REQUEST)?;
    ensure!(got.status() == 200, "{from}: {:?} {}", got.end, got.text());
    Ok(())
}

fn a_source_outside_is_closed_before_any_byte(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let _gateway = case.gateway(&(plain(GATED) + LISTS))?;
    must_be_shut_out(case, "127.0.0.1")?;
    must_be_shut_out(case, "127.0.0.7")?;
    ensure!(server.seen.bytes() == 0, "something reached the backend");
    must_be_served(case, "127.0.0.5")?;
    must_be_served(case, "127.0.0.6")
}

fn a_source_outside_gets_no_tls_byte(case: &Case) -> Result<()> {
    let _gateway = case.gateway(&(plain(&format!("tls = {{}}\n{GATED}")) + LISTS))?;
    must_be_shut_out(case, "127.0.0.1")
}

fn a_proxy_header_does_not_talk_its_way_in(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let keys = format!("{GATED}\nproxy_protocol = {{ trusted_ips = [\"127.0.0.0/8\"] }}");
    let _gateway = case.gateway(&(plain(&keys) + LISTS))?;
    let claim = [b"PROXY TCP4 127.0.0.5 127.0.0.1 4000 8000\r\n", REQUEST].concat();
    let got = ask(case, "127.0.0.1", &claim)?;
    ensure!(
        got.is_shut_out() && server.seen.bytes() == 0,
        "{:?} {}",
        got.end,
        got.text()
    );
    // And a client that the header names need not be on the list.
    let other = [b"PROXY TCP4 203.0.113.1 127.0.0.1 4000 8000\r\n", REQUEST].concat();
    let got = ask(case, "127.0.0.5", &other)?;
    ensure!(got.status() == 200, "{:?} {}", got.end, got.text());
    Ok(())
}

fn a_v6_listener_judges_v4_sources_as_v4(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let entry = format!("[entry_points.web]\naddress = \":{PORT}\"\nas_default = true\n{GATED}\n");
    let _gateway = case.gateway(&(entry + &route_all(&backend_url()) + LISTS))?;
    must_be_served(case, "127.0.0.5")?;
    must_be_shut_out(case, "127.0.0.1")?;
    let six = SocketAddr::new("::1".parse()?, PORT);
    let got = raw_client::exchange(&case.ns, None, six, &[REQUEST], SOON)?;
    ensure!(got.is_shut_out(), "::1: {:?} {}", got.end, got.text());
    Ok(())
}

fn observe_lets_everybody_in(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let setup = Setup::new(&case.ns, "gateway", case.driver)?.with_gate(&case.dir(), "observe");
    let _gateway = setup.start(&(plain(GATED) + LISTS))?;
    must_be_served(case, "127.0.0.5")?;
    must_be_served(case, "127.0.0.1")
}

fn a_reload_shuts_a_source_out(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let gateway = case.gateway(&(plain(GATED) + LISTS))?;
    must_be_served(case, "127.0.0.6")?;
    gateway
        .setup()
        .write(&(plain("gate = { allow = [\"parents\"] }") + LISTS))?;
    gateway.proc.signal(nix::sys::signal::Signal::SIGHUP)?;
    sallyport_tests::wait::until(Duration::from_secs(10), "the source to be shut out", || {
        Ok(ask(case, "127.0.0.6", REQUEST)?.is_shut_out().then_some(()))
    })?;
    must_be_served(case, "127.0.0.5")
}
