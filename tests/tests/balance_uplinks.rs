//! Services made of children: probes and ejection as each child asks for them, and such services in services that lead
//! to others; both drivers.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use sallyport_tests::case::Case;
use sallyport_tests::family::Family;
use sallyport_tests::fickle::Fickle;
use sallyport_tests::fragments::{PORT, local, service_at};
use sallyport_tests::gateway::{Gateway, Setup};
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_client::{self, Exchange};
use sallyport_tests::wait;
use serde_json::Value;
use std::time::Duration;

on_both_drivers!(
    each_child_is_probed_as_it_asks_for_itself,
    a_child_that_fails_requests_is_ejected_as_it_asks_for,
    a_local_service_comes_first_and_a_child_stands_in,
    a_child_that_comes_back_waits_for_its_turn,
    a_child_gets_copies,
    a_child_that_drains_keeps_whom_it_has,
);

/// Longest wait for anything here.
const SOON: Duration = Duration::from_secs(30);
/// The children, and the servers behind them.
const C1: u16 = 9443;
const C2: u16 = 9444;
const A: u16 = 9001;
const B: u16 = 9002;
const POLLS: &str = "poll_interval = \"100ms\"\npoll_timeout = \"5s\"";
const PROBED: &str = "health_check = { path = \"/healthz\", interval = \"100ms\", rise = 1, fall = 1 }";

/// A parent, two children, and a server behind each.
struct Stage {
    family: Family,
    a: Fickle,
    _b: Fickle,
    c1: Gateway,
    _c2: Gateway,
}

impl Stage {
    /// The children offer `orders` with these keys.
    fn new(case: &Case, first: &str, second: &str) -> Result<Stage> {
        let family = Family::new(&case.dir())?;
        let child = |name: &str, port: u16, backend: u16, keys: &str| {
            let setup = Setup::new(&case.ns, name, case.driver)?;
            setup.start(&body(&family, port, backend, keys))
        };
        Ok(Stage {
            a: Fickle::start(&case.ns, "a", local(A))?,
            _b: Fickle::start(&case.ns, "b", local(B))?,
            c1: child("c1", C1, A, first)?,
            _c2: child("c2", C2, B, second)?,
            family,
        })
    }

    /// A parent with one worker that sends everything to `to`, with more tables; it knows both children's offers.
    fn parent(&self, case: &Case, to: &str, tables: &str) -> Result<Gateway> {
        let children = [("c1", local(C1)), ("c2", local(C2))];
        let body = self.family.parent_body(to, POLLS, &children) + tables;
        let setup = Setup::new(&case.ns, "parent", case.driver)?.with("workers = 2", "workers = 1");
        let parent = setup.start(&body)?;
        for child in ["c1", "c2"] {
            wait::until(SOON, child, || Ok(health(&parent, child).ok()))?;
        }
        Ok(parent)
    }

    /// The first child offers something else from now on.
    fn offers_now(&self, keys: &str) -> Result<()> {
        self.c1.setup().write(&body(&self.family, C1, A, keys))?;
        self.c1.proc.signal(Signal::SIGHUP)
    }
}

fn body(family: &Family, port: u16, backend: u16, keys: &str) -> String {
    let address = format!("127.0.0.1:{port}");
    family.child_body(
        &address,
        &[("orders", keys)],
        &format!("http://127.0.0.1:{backend}"),
    )
}

fn ask_with(case: &Case, cookie: &str) -> Result<Exchange> {
    let request = format!("GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n{cookie}\r\n");
    raw_client::exchange(&case.ns, None, local(PORT), &[request.as_bytes()], SOON)
}

fn ask(case: &Case) -> Result<Exchange> {
    ask_with(case, "")
}

/// Asks so often; every answer must be this one's.
fn only(case: &Case, name: &str) -> Result<()> {
    for _ in 0..6 {
        let answer = ask(case)?;
        ensure!(
            answer.status() == 200 && answer.body() == name,
            "{}",
            answer.text()
        );
    }
    Ok(())
}

fn until_asked(case: &Case, name: &str) -> Result<()> {
    wait::until(SOON, &format!("an answer of `{name}`"), || {
        Ok((ask(case)?.body() == name).then_some(()))
    })
}

/// A server of `orders-CHILD@multicluster` in status.
fn own(gateway: &Gateway, child: &str) -> Result<Value> {
    let status = gateway.status()?;
    let name = format!("orders-{child}@multicluster");
    let services = status.pointer("/services").and_then(Value::as_array);
    let mut services = services.into_iter().flatten();
    let found = services.find(|service| service.get("name").and_then(Value::as_str) == Some(&name));
    let server = found.and_then(|found| found.pointer("/servers/0"));
    server.cloned().with_context(|| format!("`{name}` is not there"))
}

fn health(gateway: &Gateway, child: &str) -> Result<String> {
    let word = own(gateway, child)?
        .get("health")
        .and_then(Value::as_str)
        .map(str::to_owned);
    word.context("no health")
}

fn until_health(gateway: &Gateway, child: &str, word: &str) -> Result<()> {
    wait::until(SOON, &format!("{child} {word}"), || {
        Ok((health(gateway, child).ok().as_deref() == Some(word)).then_some(()))
    })
}

fn each_child_is_probed_as_it_asks_for_itself(case: &Case) -> Result<()> {
    let stage = Stage::new(case, PROBED, "")?;
    let parent = stage.parent(case, "orders@multicluster", "")?;
    until_health(&parent, "c1", "up")?;
    ensure!(health(&parent, "c2")? == "unchecked");
    until_asked(case, "a")?;
    until_asked(case, "b")?;
    stage.a.set_health(500);
    until_health(&parent, "c1", "down")?;
    let before = stage.a.asked();
    only(case, "b")?;
    ensure!(stage.a.asked() == before, "it was asked while it was down");
    let complaint = own(&parent, "c1")?.to_string();
    ensure!(
        complaint.contains("status 500 Internal Server Error"),
        "{complaint}"
    );
    stage.a.set_health(200);
    until_health(&parent, "c1", "up")?;
    until_asked(case, "a")?;
    // It asks for no more probes: what they said is forgotten, and none comes.
    stage.offers_now("")?;
    until_health(&parent, "c1", "unchecked")?;
    let probed = wait::until_steady(SOON, Duration::from_secs(1), "the probes", || {
        u64::try_from(stage.a.probed()).unwrap_or(u64::MAX)
    })?;
    ensure!(probed > 0);
    Ok(())
}

fn a_child_that_fails_requests_is_ejected_as_it_asks_for(case: &Case) -> Result<()> {
    let ejects = "passive_health_check = { failure_window = \"1h\", max_failed_attempts = 2 }";
    let stage = Stage::new(case, ejects, "")?;
    let parent = stage.parent(case, "orders@multicluster", "")?;
    stage.a.set_status(503);
    wait::until(SOON, "the ejection of c1", || {
        ask(case)?;
        Ok((health(&parent, "c1")? == "ejected").then_some(()))
    })?;
    ensure!(stage.a.asked() == 2, "{} failures ejected it", stage.a.asked());
    only(case, "b")?;
    // What the other child changes is no reason to ask this one again.
    ensure!(health(&parent, "c2")? == "unchecked" && health(&parent, "c1")? == "ejected");
    Ok(())
}

fn failover(first: &str, second: &str, after: &str) -> String {
    format!(
        "[services.s.failover]\nservice = \"{first}\"\nfallback = \"{second}\"\nreturn_after = \"{after}\"\n"
    )
}

fn a_local_service_comes_first_and_a_child_stands_in(case: &Case) -> Result<()> {
    let stage = Stage::new(case, "", "")?;
    let near = Fickle::start(&case.ns, "near", local(9003))?;
    let often = "health_check = { path = \"/healthz\", interval = \"50ms\", rise = 1, fall = 1 }";
    let tables = failover("near", "orders-c1@multicluster", "500ms") + &service_at("near", &[9003], often);
    let _parent = stage.parent(case, "s", &tables)?;
    only(case, "near")?;
    near.set_health(500);
    until_asked(case, "a")?;
    only(case, "a")?;
    near.set_health(200);
    until_asked(case, "near")?;
    only(case, "near")
}

fn a_child_that_comes_back_waits_for_its_turn(case: &Case) -> Result<()> {
    let stage = Stage::new(case, PROBED, "")?;
    let _near = Fickle::start(&case.ns, "near", local(9003))?;
    let tables = failover("orders-c1@multicluster", "near", "1h") + &service_at("near", &[9003], "");
    let parent = stage.parent(case, "s", &tables)?;
    until_health(&parent, "c1", "up")?;
    only(case, "a")?;
    stage.a.set_health(500);
    until_health(&parent, "c1", "down")?;
    only(case, "near")?;
    stage.a.set_health(200);
    until_health(&parent, "c1", "up")?;
    only(case, "near")
}

fn a_child_gets_copies(case: &Case) -> Result<()> {
    let stage = Stage::new(case, "", "")?;
    let _near = Fickle::start(&case.ns, "near", local(9003))?;
    let mirrors = "[services.s.mirroring]\nservice = \"near\"\nmirrors = [{ name = \"orders-c1@multicluster\", percent = 100 }]\n";
    let tables = mirrors.to_owned() + &service_at("near", &[9003], "");
    let _parent = stage.parent(case, "s", &tables)?;
    only(case, "near")?;
    wait::until(SOON, "six copies", || Ok((stage.a.asked() == 6).then_some(())))?;
    Ok(())
}

fn a_child_that_drains_keeps_whom_it_has(case: &Case) -> Result<()> {
    let stage = Stage::new(case, "", "")?;
    let services = "[services.s.weighted]\nservices = [{ name = \"orders-c1@multicluster\" }, { name = \"orders-c2@multicluster\" }]\n\
                    sticky = { cookie = { name = \"side\" } }\n";
    let parent = stage.parent(case, "s", services)?;
    let mut cookies = std::collections::BTreeMap::new();
    wait::until(SOON, "a cookie for each", || {
        let answer = ask(case)?;
        let cookie = answer.fields("set-cookie").pop().context("no cookie")?;
        let pair = cookie.split(';').next().unwrap_or_default();
        cookies.insert(answer.body(), format!("Cookie: {pair}\r\n"));
        Ok((cookies.len() == 2).then_some(()))
    })?;
    let stays = |name: &str| -> Result<()> {
        for _ in 0..4 {
            let answer = ask_with(case, cookies.get(name).map_or("", String::as_str))?;
            ensure!(
                answer.status() == 200 && answer.body() == name,
                "{name}: {}",
                answer.text()
            );
        }
        Ok(())
    };
    stays("a")?;
    stays("b")?;
    stage.offers_now("weight = 0")?;
    wait::until(SOON, "the weight at the parent", || {
        let weight = own(&parent, "c1")?.get("weight").and_then(Value::as_u64);
        Ok((weight == Some(0)).then_some(()))
    })?;
    only(case, "b")?;
    stays("a")?;
    stays("b")
}
