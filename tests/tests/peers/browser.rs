//! A browser with a client certificate in its store, and one without.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::{self, Case, is_installed, skip};
use sallyport_tests::certs::{Authority, Role, Validity};
use sallyport_tests::chromium::{Chromium, TOOLS};
use sallyport_tests::fragments::{
    BACKEND, PORT, backend_url, certificate, entry_point, local, mutual, route_all,
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
