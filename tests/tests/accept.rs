//! The allowlist at accept, without a kernel filter; both drivers.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::fragments::{BACKEND, PORT, backend_url, local, plain, route_all};
use sallyport_tests::gateway::{Gateway, Setup};
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_client::{self, End, Exchange};
use sallyport_tests::raw_server::{Behaviour, RawServer};
use sallyport_tests::wait;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

on_both_drivers!(
    a_source_outside_is_closed_before_any_byte,
    a_source_outside_gets_no_tls_byte,
    a_proxy_header_does_not_talk_its_way_in,
    a_v6_listener_judges_v4_sources_as_v4,
    observe_lets_everybody_in,
    a_reload_shuts_a_source_out,
    a_changed_list_file_counts_without_a_reload,
    a_list_file_that_goes_bad_keeps_its_last_good_contents,
    a_list_that_is_switched_by_a_link_is_taken,
    observing_ends_no_session,
    a_list_of_trusted_proxies_is_taken_too,
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

/// An entry point whose allowlist stands in a file beside the configuration.
const FROM_FILE: &str = "gate = { allow = [\"guests\"] }";
const FILE_LIST: &str = "[allowlists.guests]\nfile = \"guests.list\"\n";

/// A gateway and its list file.
struct Guests {
    gateway: Gateway,
    _server: RawServer,
}

impl Guests {
    fn start(case: &Case, setup: &Setup, guests: &str, keys: &str) -> Result<Guests> {
        let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
        std::fs::write(setup.file().with_file_name("guests.list"), guests)?;
        let gateway = setup.start(&(plain(keys) + FILE_LIST))?;
        Ok(Guests {
            gateway,
            _server: server,
        })
    }

    fn file(&self) -> std::path::PathBuf {
        self.gateway.setup().file().with_file_name("guests.list")
    }

    /// By rename, as careful tools do.
    fn replace(&self, guests: &str) -> Result<()> {
        let beside = self.file().with_extension("new");
        std::fs::write(&beside, guests)?;
        Ok(std::fs::rename(beside, self.file())?)
    }

    fn list(&self) -> Result<Value> {
        let status = self.gateway.status()?;
        status
            .pointer("/allowlists/0")
            .cloned()
            .context("no list in the status")
    }

    fn wait_for_list(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        wait::until(Duration::from_secs(10), what, || {
            let list = self.list()?;
            Ok(fits(&list).then_some(list))
        })
    }

    fn removed(&self) -> Result<u64> {
        let status = self.gateway.status()?;
        let count = status.pointer("/counters/source_removed").and_then(Value::as_u64);
        count.context("no such counter")
    }
}

fn prefixes(list: &Value) -> u64 {
    list.get("prefixes").and_then(Value::as_u64).unwrap_or_default()
}

fn problems(list: &Value) -> String {
    list.get("problems").map(Value::to_string).unwrap_or_default()
}

/// A connection that has had one answer and stays open.
fn session(case: &Case, from: &str) -> Result<TcpStream> {
    let mut stream = raw_client::connect(&case.ns, Some(from.parse()?), local(PORT))?;
    must_answer(&mut stream, from)?;
    Ok(stream)
}

fn must_answer(stream: &mut TcpStream, from: &str) -> Result<()> {
    raw_client::send(stream, &[b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"])?;
    // The echo ends with the empty line of the request that it echoes.
    let head = raw_client::read_head(stream, SOON)?;
    ensure!(head.status() == 200, "{from}: {:?} {}", head.end, head.text());
    if !head.text().contains("\r\n\r\nGET") {
        raw_client::read_head(stream, SOON)?;
    }
    Ok(())
}

fn a_changed_list_file_counts_without_a_reload(case: &Case) -> Result<()> {
    let guests = Guests::start(case, &case.setup()?, "127.0.0.5\n127.0.0.6\n", FROM_FILE)?;
    let (mut stays, mut goes) = (session(case, "127.0.0.5")?, session(case, "127.0.0.6")?);
    must_be_shut_out(case, "127.0.0.7")?;
    guests.replace("127.0.0.5\n127.0.0.7\n")?;
    let ended = raw_client::read_to_end(&mut goes, Duration::from_secs(10))?;
    ensure!(
        ended.end == End::Closed && ended.bytes.is_empty(),
        "{:?}",
        ended.end
    );
    must_be_shut_out(case, "127.0.0.6")?;
    must_be_served(case, "127.0.0.7")?;
    must_answer(&mut stays, "127.0.0.5")?;
    ensure!(guests.removed()? == 1, "{} sessions ended", guests.removed()?);
    // In place, as an editor or a shell does.
    std::fs::write(guests.file(), "127.0.0.5\n127.0.0.6\n127.0.0.7\n")?;
    guests.wait_for_list("three prefixes", |list| prefixes(list) == 3)?;
    must_be_served(case, "127.0.0.6")
}

fn a_list_file_that_goes_bad_keeps_its_last_good_contents(case: &Case) -> Result<()> {
    let guests = Guests::start(case, &case.setup()?, "127.0.0.5\n", FROM_FILE)?;
    let mut session = session(case, "127.0.0.5")?;
    let mut check = |found: &str| {
        let list = guests.wait_for_list(found, |list| problems(list).contains(found))?;
        ensure!(prefixes(&list) == 1, "{list}");
        must_be_served(case, "127.0.0.5")?;
        must_be_shut_out(case, "127.0.0.6")?;
        must_answer(&mut session, "127.0.0.5")
    };
    guests.replace("127.0.0.6\n  127.0.0.300\n")?;
    check("guests.list:2:3: `127.0.0.300` is no prefix")?;
    std::fs::remove_file(guests.file())?;
    check("cannot be read")?;
    guests.replace("# nobody\n")?;
    check("has no prefixes, and had 1")?;
    guests.replace("127.0.0.6\n")?;
    guests.wait_for_list("no problem", |list| problems(list) == "[]")?;
    must_be_served(case, "127.0.0.6")?;
    must_be_shut_out(case, "127.0.0.5")
}

fn a_list_that_is_switched_by_a_link_is_taken(case: &Case) -> Result<()> {
    let setup = case.setup()?;
    let at = setup.file().with_file_name("lists");
    for (version, guest) in [("v1", "127.0.0.5\n"), ("v2", "127.0.0.6\n")] {
        std::fs::create_dir_all(at.join(version))?;
        std::fs::write(at.join(version).join("guests.list"), guest)?;
    }
    std::os::unix::fs::symlink("v1", at.join("now"))?;
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let list = "[allowlists.guests]\nfile = \"lists/now/guests.list\"\n";
    let _gateway = setup.start(&(plain(FROM_FILE) + list))?;
    must_be_served(case, "127.0.0.5")?;
    std::os::unix::fs::symlink("v2", at.join("next"))?;
    std::fs::rename(at.join("next"), at.join("now"))?;
    wait::until(Duration::from_secs(10), "the other version", || {
        Ok((ask(case, "127.0.0.6", REQUEST)?.status() == 200).then_some(()))
    })?;
    must_be_shut_out(case, "127.0.0.5")
}

fn observing_ends_no_session(case: &Case) -> Result<()> {
    let setup = case.setup()?.with_gate(&case.dir(), "observe");
    let guests = Guests::start(case, &setup, "127.0.0.5\n127.0.0.6\n", FROM_FILE)?;
    let mut session = session(case, "127.0.0.6")?;
    guests.replace("127.0.0.5\n")?;
    guests.wait_for_list("one prefix", |list| prefixes(list) == 1)?;
    must_answer(&mut session, "127.0.0.6")?;
    must_be_served(case, "127.0.0.6")?;
    ensure!(guests.removed()? == 0, "a session ended");
    Ok(())
}

fn a_list_of_trusted_proxies_is_taken_too(case: &Case) -> Result<()> {
    let keys = "proxy_protocol = { trusted_ips = [\"guests\"] }";
    let guests = Guests::start(case, &case.setup()?, "127.0.0.5\n", keys)?;
    let claim = [b"PROXY TCP4 192.0.2.1 127.0.0.1 4000 8000\r\n", REQUEST].concat();
    let got = ask(case, "127.0.0.6", &claim)?;
    ensure!(got.status() == 0, "{}", got.text());
    guests.replace("127.0.0.5\n127.0.0.6\n")?;
    guests.wait_for_list("two prefixes", |list| prefixes(list) == 2)?;
    let got = ask(case, "127.0.0.6", &claim)?;
    ensure!(got.status() == 200, "{}", got.text());
    Ok(())
}
