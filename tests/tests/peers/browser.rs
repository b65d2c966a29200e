//! A browser with a client certificate in its store, and one without.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::{self, Case, is_installed, skip};
use sallyport_tests::certs::{Authority, Role, Validity};
use sallyport_tests::chromium::{Chromium, TOOLS};
use sallyport_tests::fragments::{
    BACKEND, PORT, backend_url, certificate, entry_point, local, mutual, route_all, router, service,
};
use sallyport_tests::gateway::Driver;
use sallyport_tests::raw_server::{Behaviour, RawServer};

/// What the protected page says.
const SECRET: &str = "the family's photographs";

#[test]
fn a_browser_with_a_client_certificate_sees_the_page_and_one_without_does_not() {
    let name = "a_browser_with_a_client_certificate_sees_the_page_and_one_without_does_not";
    if let Some(tool) = TOOLS.iter().find(|tool| !is_installed(tool)) {
        return skip(name, &format!("needs `{tool}`, which is not installed"));
    }
    case::run(name, Driver::Auto, only_with_a_certificate);
}

#[test]
fn a_browser_that_would_share_a_connection_is_sent_to_make_another() {
    let name = "a_browser_that_would_share_a_connection_is_sent_to_make_another";
    if let Some(tool) = TOOLS.iter().find(|tool| !is_installed(tool)) {
        return skip(name, &format!("needs `{tool}`, which is not installed"));
    }
    case::run(name, Driver::Auto, sent_to_make_another);
}

/// A page of the open host fetches from the staff's host. Both are of one site, at one address under one certificate, so over HTTP/2 the
/// browser takes the connection that it has (RFC 9113 section 9.1.1), is told 421, and makes one under the staff's policy.
fn sent_to_make_another(case: &Case) -> Result<()> {
    let page = "<!doctype html><title>open</title><p id=\"told\">waiting</p><script>\
                fetch('https://staff.home.example:8000/', { credentials: 'include' }).then(r => r.text())\
                .then(t => document.getElementById('told').textContent = t)\
                .catch(e => document.getElementById('told').textContent = 'failed: ' + e)</script>";
    let answer = |kind: &str, more: &str, body: &str| {
        let text = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{more}\r\n{body}",
            body.len()
        );
        Behaviour::Answer(text.into_bytes())
    };
    let cors = "Access-Control-Allow-Origin: https://www.home.example:8000\r\nAccess-Control-Allow-Credentials: true\r\n";
    let _open = RawServer::start(&case.ns, local(BACKEND), answer("text/html", "", page))?;
    let staff = RawServer::start(&case.ns, local(9001), answer("text/plain", cors, SECRET))?;
    let authority = |name: &str| Authority::new(&case.dir(), name);
    let (ca, people) = (authority("ca")?, authority("people")?);
    let site = ca.issue_with(
        Role::Server,
        Validity::AsPublic,
        &["www.home.example", "staff.home.example"],
    )?;
    let gateway = case.gateway(
        &(entry_point("tls = {}")
            + &router("open", "Host(`www.home.example`)", "open", "")
            + &router(
                "staff",
                "Host(`staff.home.example`)",
                "staff",
                "tls = { options = \"mtls\" }",
            )
            + &service("open", &[&backend_url()], "")
            + &service("staff", &["http://127.0.0.1:9001"], "")
            + &certificate(&site)
            + &mutual("mtls", people.ca_file(), "")),
    )?;
    let browser = Chromium::new(&case.ns, ca.ca_file())?;
    browser.import(&people.issue(Role::Client, &["alice.example"])?)?;
    let seen = browser.open("www.home.example", local(PORT), "")?;
    let status = gateway.status()?;
    let misdirected = status
        .pointer("/counters/misdirected")
        .and_then(|count| count.as_u64());
    ensure!(
        seen.html.contains(SECRET),
        "{misdirected:?} times 421: {}\n{}",
        seen.html,
        seen.complaints
    );
    ensure!(
        misdirected > Some(0),
        "the browser did not try to share: {status}"
    );
    ensure!(
        !staff.seen.requests().is_empty(),
        "the answer did not come from the server"
    );

    let without = Chromium::new(&case.ns, ca.ca_file())?;
    let seen = without.open("www.home.example", local(PORT), "")?;
    ensure!(
        seen.html.contains("failed") && !seen.html.contains(SECRET),
        "{}",
        seen.html
    );
    Ok(())
}

fn only_with_a_certificate(case: &Case) -> Result<()> {
    let page = format!("<!doctype html><title>home</title><p id=\"secret\">{SECRET}</p>");
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\r\n{page}",
        page.len()
    );
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Answer(answer.into_bytes()))?;
    let authority = |name: &str| Authority::new(&case.dir(), name);
    let (ca, people, others) = (authority("ca")?, authority("people")?, authority("others")?);
    let site = ca.issue_with(Role::Server, Validity::AsPublic, &["home.example"])?;
    let gateway = case.gateway(
        &(entry_point("tls = { options = \"mtls\" }")
            + &route_all(&backend_url())
            + &certificate(&site)
            + &mutual("mtls", people.ca_file(), "")),
    )?;

    let with = Chromium::new(&case.ns, ca.ca_file())?;
    with.import(&people.issue(Role::Client, &["alice.example"])?)?;
    let seen = with.open("home.example", local(PORT), "")?;
    ensure!(
        seen.html.contains(SECRET) && seen.html.contains("id=\"secret\""),
        "{}\n{}",
        seen.html,
        seen.complaints
    );
    let requests = server.seen.requests().len();
    ensure!(requests > 0, "the page did not come from the server");

    let without = Chromium::new(&case.ns, ca.ca_file())?;
    let stranger = Chromium::new(&case.ns, ca.ca_file())?;
    stranger.import(&others.issue(Role::Client, &["alice.example"])?)?;
    for (who, browser) in [("nobody", &without), ("a stranger", &stranger)] {
        let seen = browser.open("home.example", local(PORT), "")?;
        ensure!(!seen.html.contains(SECRET), "{who} saw the page: {}", seen.html);
    }
    ensure!(
        server.seen.requests().len() == requests,
        "a refused browser's request reached the server"
    );
    let log = gateway.proc.log();
    let refused = log
        .lines()
        .find(|line| line.contains("home.example") && line.contains("tls_certificate_missing"));
    refused.with_context(|| format!("no refusal in the log: {log}"))?;
    Ok(())
}
