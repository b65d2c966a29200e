//! What probes ask and what they take for an answer: every key of `health_check`, redirections included; both drivers.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Role};
use sallyport_tests::fickle::Fickle;
use sallyport_tests::fragments::{all_to_s, local, service_at};
use sallyport_tests::gateway::Gateway;
use sallyport_tests::nginx::{Nginx, NginxTls, Serves};
use sallyport_tests::on_both_drivers;
use sallyport_tests::wait;
use serde_json::Value;
use std::time::Duration;

on_both_drivers!(
    a_probe_says_what_it_is_told_to_say,
    the_status_that_is_wanted_is_the_only_good_one,
    another_port_is_probed_and_speaks_for_the_server,
    another_protocol_is_probed_and_its_certificate_is_verified,
    redirections_are_followed_at_the_same_server_only,
    redirections_are_judged_where_that_is_wanted,
);

/// Longest wait for anything here.
const SOON: Duration = Duration::from_secs(20);
const A: u16 = 9001;
const B: u16 = 9002;

/// `health_check` with these keys, often.
fn check(keys: &str) -> String {
    format!("health_check = {{ interval = \"50ms\", timeout = \"5s\", rise = 1, fall = 1, {keys} }}")
}

fn gateway(case: &Case, keys: &str) -> Result<Gateway> {
    case.gateway(&(all_to_s() + &service_at("s", &[A], &check(keys))))
}

/// The word and the complaint of the only server.
fn health(gateway: &Gateway) -> Result<(String, String)> {
    let status = gateway.status()?;
    let text = |key: &str| {
        let found = status.pointer(&format!("/services/0/servers/0/{key}"));
        found.and_then(Value::as_str).map(str::to_owned)
    };
    Ok((
        text("health").context("no health")?,
        text("complaint").unwrap_or_default(),
    ))
}

fn until_health(gateway: &Gateway, word: &str) -> Result<String> {
    let mut last = (String::new(), String::new());
    let waited = wait::until(SOON, word, || {
        last = health(gateway)?;
        Ok((last.0 == word).then_some(()))
    });
    waited.with_context(|| format!("{last:?}"))?;
    Ok(last.1)
}

fn a_probe_says_what_it_is_told_to_say(case: &Case) -> Result<()> {
    let a = Fickle::start(&case.ns, "a", local(A))?;
    let keys = "path = \"/probe?full=1\", method = \"HEAD\", hostname = \"api.internal\", \
                headers = { X-Probe = \"yes\", Accept = \"text/plain\" }";
    let gateway = gateway(case, keys)?;
    until_health(&gateway, "up")?;
    let probes = a.requests();
    let first = probes.first().context("no probe")?.to_ascii_lowercase();
    ensure!(first.starts_with("head /probe?full=1 http/1.1\r\n"), "{first}");
    for line in [
        "host: api.internal",
        "x-probe: yes",
        "accept: text/plain",
        "user-agent: sallyport-probe",
    ] {
        ensure!(first.lines().any(|found| found == line), "{line}: {first}");
    }
    ensure!(first.matches("\r\nhost:").count() == 1, "{first}");
    Ok(())
}

fn the_status_that_is_wanted_is_the_only_good_one(case: &Case) -> Result<()> {
    let a = Fickle::start(&case.ns, "a", local(A))?;
    a.set_health(204);
    let gateway = gateway(case, "path = \"/healthz\", status = 204")?;
    until_health(&gateway, "up")?;
    a.set_health(200);
    let complaint = until_health(&gateway, "down")?;
    ensure!(complaint == "status 200 OK, expected 204", "{complaint}");
    a.set_health(204);
    until_health(&gateway, "up")?;
    Ok(())
}

fn another_port_is_probed_and_speaks_for_the_server(case: &Case) -> Result<()> {
    let (a, b) = (
        Fickle::start(&case.ns, "a", local(A))?,
        Fickle::start(&case.ns, "b", local(B))?,
    );
    let gateway = gateway(case, &format!("path = \"/healthz\", port = {B}"))?;
    until_health(&gateway, "up")?;
    b.set_health(500);
    until_health(&gateway, "down")?;
    ensure!(a.probed() == 0 && b.probed() > 0, "{} {}", a.probed(), b.probed());
    Ok(())
}

fn another_protocol_is_probed_and_its_certificate_is_verified(case: &Case) -> Result<()> {
    let _a = Fickle::start(&case.ns, "a", local(A))?;
    let (ca, other) = (
        Authority::new(&case.dir(), "ca")?,
        Authority::new(&case.dir(), "other")?,
    );
    let tls = NginxTls {
        identity: ca.issue(Role::Server, &["127.0.0.1"])?,
        clients: None,
    };
    let _nginx = Nginx::start(&case.ns, "n", B, &Serves::Tls(tls))?;
    // The servers themselves are in the clear, so the transport proves the probes alone; `server_name` and no CA would
    // be refused, a mixed list is not.
    let body = |ca: &Authority| {
        all_to_s()
            + &format!(
                "[services.s]\nservers = [{{ url = \"http://127.0.0.1:{A}\" }}, {{ url = \"https://127.0.0.1:{B}\", weight = 0 }}]\n\
                 servers_transport = \"t\"\n{}\n[servers_transports.t]\nroot_cas = [\"{}\"]\n",
                check(&format!("path = \"/\", scheme = \"https\", port = {B}")),
                ca.ca_file().display()
            )
    };
    let mut gateway = case.gateway(&body(&ca))?;
    until_health(&gateway, "up")?;
    gateway.stop()?;
    let gateway = case.gateway(&body(&other))?;
    let complaint = until_health(&gateway, "down")?;
    ensure!(complaint.contains("issuer"), "{complaint}");
    Ok(())
}

fn redirections_are_followed_at_the_same_server_only(case: &Case) -> Result<()> {
    let (a, b) = (
        Fickle::start(&case.ns, "a", local(A))?,
        Fickle::start(&case.ns, "b", local(B))?,
    );
    a.set_redirect(Some("/healthz/live"));
    let gateway = gateway(case, "path = \"/healthz\"")?;
    until_health(&gateway, "up")?;
    a.set_health(503);
    let complaint = until_health(&gateway, "down")?;
    ensure!(complaint.contains("status 503"), "{complaint}");
    a.set_health(200);
    until_health(&gateway, "up")?;
    // Another server may be well without this one being so, and is not the operator's to have asked.
    a.set_redirect(Some(&format!("http://127.0.0.1:{B}/healthz")));
    let complaint = until_health(&gateway, "down")?;
    ensure!(complaint.contains("leads to another server"), "{complaint}");
    ensure!(b.probed() == 0 && b.asked() == 0, "it was asked");
    a.set_redirect(Some(&format!("http://127.0.0.1:{A}/healthz/live")));
    until_health(&gateway, "up")?;
    a.set_redirect(Some("/healthz"));
    let complaint = until_health(&gateway, "down")?;
    ensure!(complaint.contains("more than 10 redirections"), "{complaint}");
    Ok(())
}

fn redirections_are_judged_where_that_is_wanted(case: &Case) -> Result<()> {
    let a = Fickle::start(&case.ns, "a", local(A))?;
    a.set_redirect(Some("http://elsewhere.example/"));
    let setup = case.setup()?;
    let with = |keys: &str| all_to_s() + &service_at("s", &[A], &check(keys));
    let mut gateway = setup.start(&with("path = \"/healthz\", follow_redirects = false"))?;
    until_health(&gateway, "up")?;
    gateway.stop()?;
    // The status that is wanted is an answer, wherever it leads.
    let mut gateway = setup.start(&with("path = \"/healthz\", status = 302"))?;
    until_health(&gateway, "up")?;
    gateway.stop()?;
    let gateway = setup.start(&with(
        "path = \"/healthz\", follow_redirects = false, status = 200",
    ))?;
    let complaint = until_health(&gateway, "down")?;
    ensure!(complaint == "status 302 Found, expected 200", "{complaint}");
    Ok(())
}
