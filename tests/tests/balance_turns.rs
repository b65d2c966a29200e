//! Turns that go on where they stood when the configuration changes; both drivers.

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use sallyport_tests::case::Case;
use sallyport_tests::fickle::Fickle;
use sallyport_tests::fragments::{PORT, all_to_s, local, service_at};
use sallyport_tests::gateway::Gateway;
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_client;
use sallyport_tests::wait;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

on_both_drivers!(
    turns_of_servers_go_on_over_reloads,
    turns_of_services_go_on_over_reloads,
);

/// Longest wait for anything here.
const SOON: Duration = Duration::from_secs(20);
const A: u16 = 9001;
const B: u16 = 9002;
/// Reloads, with one request after each.
const ROUNDS: usize = 12;

fn reload(gateway: &Gateway, body: &str) -> Result<()> {
    let generation = |gateway: &Gateway| -> Result<Option<u64>> {
        let status = gateway.status()?;
        Ok(status
            .pointer("/configuration/generation")
            .and_then(Value::as_u64))
    };
    let before = generation(gateway)?;
    gateway.setup().write(body)?;
    gateway.proc.signal(Signal::SIGHUP)?;
    wait::until(SOON, "the next generation", || {
        Ok((generation(gateway)? > before).then_some(()))
    })
}

/// One request after each of many reloads; who answered how often.
fn shares(case: &Case, body: impl Fn(usize) -> String) -> Result<BTreeMap<String, usize>> {
    let _servers = [
        Fickle::start(&case.ns, "a", local(A))?,
        Fickle::start(&case.ns, "b", local(B))?,
    ];
    let setup = case.setup()?.with("workers = 2", "workers = 1");
    let gateway = setup.start(&body(0))?;
    let mut found = BTreeMap::new();
    for round in 1..=ROUNDS {
        let request = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
        let answer = raw_client::exchange(&case.ns, None, local(PORT), &[request], SOON)?;
        ensure!(answer.status() == 200, "{}", answer.text());
        *found.entry(answer.body()).or_default() += 1;
        reload(&gateway, &body(round))?;
    }
    Ok(found)
}

/// Keys that are others each time, and change nobody's turn.
fn other(round: usize) -> String {
    format!("slow_start = \"{round}ms\"")
}

fn turns_of_servers_go_on_over_reloads(case: &Case) -> Result<()> {
    let found = shares(case, |round| {
        all_to_s()
            + &format!(
                "[services.s]\nservers = [{{ url = \"http://127.0.0.1:{A}\", weight = 3 }}, {{ url = \"http://127.0.0.1:{B}\" }}]\n{}\n",
                other(round)
            )
    })?;
    ensure!(
        found.get("a") == Some(&9) && found.get("b") == Some(&3),
        "{found:?}"
    );
    Ok(())
}

fn turns_of_services_go_on_over_reloads(case: &Case) -> Result<()> {
    let found = shares(case, |round| {
        // Their order changes each time too.
        let mut services = ["{ name = \"many\", weight = 2 }", "{ name = \"few\" }"];
        services.rotate_left(round % 2);
        all_to_s()
            + &format!("[services.s.weighted]\nservices = [{}]\n", services.join(", "))
            + &service_at("many", &[A], &other(round))
            + &service_at("few", &[B], "")
    })?;
    ensure!(
        found.get("a") == Some(&8) && found.get("b") == Some(&4),
        "{found:?}"
    );
    Ok(())
}
