//! Start, check, reload, drain, and what remains of many connections; both drivers.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use sallyport_tests::case::Case;
use sallyport_tests::curl::Curl;
use sallyport_tests::fragments::{BACKEND, PORT, backend_url, entry_point, local, plain, route_all};
use sallyport_tests::gateway::{Gateway, Setup};
use sallyport_tests::nginx::{Nginx, Serves};
use sallyport_tests::on_every_driver;
use sallyport_tests::raw_client::{self, End};
use sallyport_tests::raw_server::{Behaviour, RawServer};
use sallyport_tests::wait;
use std::net::TcpStream;
use std::time::Duration;

on_every_driver!(
    sigterm_lets_a_download_finish,
    sigterm_ends_what_does_not_finish,
    an_invalid_reload_keeps_the_old_configuration,
    check_is_content_with_a_valid_file,
    check_prints_every_problem_with_its_place,
    a_key_that_is_not_built_is_refused,
    a_missing_certificate_file_is_bad_configuration,
    status_names_the_driver,
    two_thousand_dropped_connections_leave_nothing,
    abandoned_requests_leave_nothing,
);

const SOON: Duration = Duration::from_secs(10);

fn get(case: &Case) -> Result<u16> {
    Ok(Curl::new(&case.ns)
        .get(&format!("http://127.0.0.1:{PORT}/"))?
        .status)
}

fn sigterm_lets_a_download_finish(case: &Case) -> Result<()> {
    let size: u64 = 64 << 20;
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Stream(size))?;
    let mut gateway = case.gateway(&plain(""))?;
    let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
    raw_client::send(&mut stream, &[b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"])?;
    let head = raw_client::read_head(&mut stream, SOON)?;
    ensure!(head.status() == 200, "{}", head.text());
    gateway.proc.signal(Signal::SIGTERM)?;
    wait::until(SOON, "the listener to be gone", || {
        Ok((!gateway.listens(PORT).unwrap_or(false)).then_some(()))
    })?;
    let rest = raw_client::read_to_end(&mut stream, SOON)?;
    let got = head.bytes.len() + rest.bytes.len();
    ensure!(
        rest.end == End::Closed && got as u64 > size,
        "{got} bytes, then {:?}",
        rest.end
    );
    let status = gateway.proc.wait(SOON)?;
    ensure!(status.success(), "{status}");
    Ok(())
}

fn sigterm_ends_what_does_not_finish(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Silent)?;
    let mut gateway = case
        .setup()?
        .with("drain = \"10s\"", "drain = \"500ms\"")
        .start(&plain(""))?;
    let mut busy = raw_client::connect(&case.ns, None, local(PORT))?;
    raw_client::send(&mut busy, &[b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"])?;
    let mut idle = raw_client::connect(&case.ns, None, local(PORT))?;
    gateway.proc.signal(Signal::SIGTERM)?;
    let status = gateway.proc.wait(SOON)?;
    ensure!(status.success(), "{status}");
    ensure!(raw_client::read_to_end(&mut idle, SOON)?.end != End::Silent);
    Ok(())
}

fn an_invalid_reload_keeps_the_old_configuration(case: &Case) -> Result<()> {
    let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)?;
    let mut gateway = case.gateway(&plain(""))?;
    gateway
        .setup()
        .write("[entry_points.web]\naddress = \"nonsense\"\n[routers.x]\nrule = \"Host(\"\n")?;
    gateway.proc.signal(Signal::SIGHUP)?;
    wait::until(SOON, "`invalid` in the status", || {
        gateway.proc.must_run()?;
        Ok(gateway.status()?.to_string().contains("invalid").then_some(()))
    })?;
    ensure!(get(case)? == 200);
    gateway.setup().write(&plain(""))?;
    gateway.proc.signal(Signal::SIGHUP)?;
    wait::until(SOON, "a valid status again", || {
        Ok((!gateway.status()?.to_string().contains("invalid")).then_some(()))
    })?;
    ensure!(get(case)? == 200);
    Ok(())
}

/// The exit code and the output of `check`.
fn check(setup: &Setup, body: &str) -> Result<(i32, String)> {
    setup.write(body)?;
    let output = setup.command(&["check"])?;
    let text = [output.stdout, output.stderr].concat();
    Ok((
        output.status.code().context("killed")?,
        String::from_utf8_lossy(&text).into_owned(),
    ))
}

fn check_is_content_with_a_valid_file(case: &Case) -> Result<()> {
    let (code, text) = check(&case.setup()?, &plain(""))?;
    ensure!(code == 0, "exit {code}: {text}");
    Ok(())
}

fn check_prints_every_problem_with_its_place(case: &Case) -> Result<()> {
    let setup = case.setup()?;
    let body = "[entry_points.web]\naddress = \"127.0.0.1:99999\"\nbogus = 1\n\
                [routers.all]\nrule = \"Hots(`a`)\"\nservice = \"nowhere\"\n";
    let (code, text) = check(&setup, body)?;
    ensure!(code == 78, "exit {code}: {text}");
    let first = setup.lines_before_body();
    // The lines of `address`, `bogus`, `rule` and `service`.
    for line in [2, 3, 5, 6].map(|line| first + line) {
        let place = format!("{}:{line}:", setup.file().display());
        let told = text.lines().any(|text| {
            let rest = text.split_once(&place).map(|(_, rest)| rest);
            rest.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
        });
        ensure!(told, "nothing is said of line {line}: {text}");
    }
    let output = setup.command(&["run"])?;
    ensure!(
        output.status.code() == Some(78),
        "run on the same file: {:?}",
        output.status
    );
    Ok(())
}

fn a_key_that_is_not_built_is_refused(case: &Case) -> Result<()> {
    let body = plain("") + "[certificate_resolvers.le.acme]\nemail = \"x@example.com\"\n";
    let (code, text) = check(&case.setup()?, &body)?;
    ensure!(
        code == 78 && text.contains("not supported yet"),
        "exit {code}: {text}"
    );
    Ok(())
}

fn a_missing_certificate_file_is_bad_configuration(case: &Case) -> Result<()> {
    let setup = case.setup()?;
    let body = entry_point("tls = {}")
        + &route_all(&backend_url())
        + "[[tls.certificates]]\ncert_file = \"/nonexistent/site.pem\"\nkey_file = \"/nonexistent/site.key\"\n";
    let (code, text) = check(&setup, &body)?;
    ensure!(
        code == 78 && text.contains("/nonexistent/site.pem"),
        "exit {code}: {text}"
    );
    let output = setup.command(&["run"])?;
    ensure!(
        output.status.code() == Some(78),
        "run on the same file: {:?}",
        output.status
    );
    Ok(())
}

fn status_names_the_driver(case: &Case) -> Result<()> {
    let gateway = case.gateway(&plain(""))?;
    let status = gateway.status()?;
    ensure!(status.get("version").is_some(), "{status}");
    ensure!(status.to_string().contains(case.driver.word()), "{status}");
    Ok(())
}

/// Opens `count` connections at once, sends `bytes` on each, drops them.
fn open_and_drop(case: &Case, count: usize, bytes: &[u8]) -> Result<()> {
    for _ in 0..count.div_ceil(100) {
        let mut streams: Vec<TcpStream> = Vec::new();
        for _ in 0..100 {
            let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
            raw_client::send(&mut stream, &[bytes])?;
            streams.push(stream);
        }
    }
    Ok(())
}

/// Descriptors come back to `before`, memory stays within `room_kib` of it.
fn must_recover(gateway: &Gateway, before: (u64, u64), room_kib: u64) -> Result<()> {
    let mut last = 0;
    let back = wait::until(SOON, "the descriptors of before", || {
        last = gateway.proc.descriptors()?;
        Ok((last <= before.0).then_some(()))
    });
    back.with_context(|| format!("{last} descriptors, {} before", before.0))?;
    let resident = gateway.proc.resident_kib()?;
    ensure!(
        resident < before.1 + room_kib,
        "{resident} KiB resident, {} before",
        before.1
    );
    Ok(())
}

fn two_thousand_dropped_connections_leave_nothing(case: &Case) -> Result<()> {
    let gateway = case.gateway(&plain(""))?;
    let partial = b"GET / HTTP/1.1\r\nHost: a\r\nX: ";
    // What stays allocated after the first burst is there to be used again.
    open_and_drop(case, 300, partial)?;
    let quiet = Duration::from_millis(300);
    let descriptors = || gateway.proc.descriptors().unwrap_or(0);
    let steady = wait::until_steady(SOON, quiet, "the descriptors to settle", descriptors)?;
    let before = (steady, gateway.proc.resident_kib()?);
    open_and_drop(case, 1000, b"")?;
    open_and_drop(case, 1000, partial)?;
    must_recover(&gateway, before, 16 << 10)
}

fn abandoned_requests_leave_nothing(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Silent)?;
    let gateway = case.gateway(&plain(""))?;
    let before = (gateway.proc.descriptors()?, gateway.proc.resident_kib()?);
    open_and_drop(case, 300, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")?;
    wait::until(SOON, "requests at the backend", || {
        Ok((server.seen.bytes() > 0).then_some(()))
    })?;
    must_recover(&gateway, before, 32 << 10)
}
