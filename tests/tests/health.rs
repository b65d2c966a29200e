//! Servers that come and go: probes, ejection, and services that stand in for each other; both drivers.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use sallyport_tests::case::Case;
use sallyport_tests::fickle::Fickle;
use sallyport_tests::fragments::{PORT, all_to_s, local, service_at};
use sallyport_tests::gateway::Gateway;
use sallyport_tests::grpc_health::GrpcHealth;
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_client::{self, Exchange};
use sallyport_tests::wait;
use serde_json::Value;
use std::time::Duration;

on_both_drivers!(
    a_server_that_fails_its_probes_is_left_out_and_comes_back,
    the_first_probe_comes_at_once_and_decides,
    a_server_is_not_asked_before_it_passed_where_that_is_wanted,
    what_probes_said_outlives_a_reload_wherever_the_server_stands,
    all_down_is_503_and_no_server_is_asked,
    servers_are_probed_over_grpc,
    a_server_that_fails_requests_is_ejected_and_comes_back,
    answers_from_500_on_eject_but_never_the_last_server,
    a_failover_turns_to_its_fallback_and_returns_late,
    a_failover_sends_on_what_the_first_service_did_not_take,
    weighted_services_share_and_those_that_are_down_are_left_out,
    mirrors_get_copies_and_nobody_sees_their_answers,
);

/// Longest wait for anything here.
const SOON: Duration = Duration::from_secs(20);
const A: u16 = 9001;
const B: u16 = 9002;
const C: u16 = 9003;
/// Probes that come often.
const OFTEN: &str =
    "health_check = { path = \"/healthz\", interval = \"50ms\", timeout = \"5s\", rise = 2, fall = 2 }";

fn ask_with(case: &Case, method: &str, body: &str) -> Result<Exchange> {
    let length = body.len();
    let request = format!(
        "{method} / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    raw_client::exchange(&case.ns, None, local(PORT), &[request.as_bytes()], SOON)
}

fn ask(case: &Case) -> Result<Exchange> {
    ask_with(case, "GET", "")
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

/// The word of a server in status.
fn health(gateway: &Gateway, port: u16) -> Result<String> {
    let status = gateway.status()?;
    let services = status
        .pointer("/services")
        .and_then(Value::as_array)
        .context("services")?;
    let servers = services
        .iter()
        .filter_map(|service| service.get("servers")?.as_array())
        .flatten();
    let at = format!("http://127.0.0.1:{port}");
    let mut own = servers.filter(|server| server.get("url").and_then(Value::as_str) == Some(&at));
    let word = own.next().and_then(|server| server.get("health")?.as_str());
    Ok(word.context(at.clone())?.to_owned())
}

fn until_health(gateway: &Gateway, port: u16, word: &str) -> Result<()> {
    wait::until(SOON, &format!("{port} {word}"), || {
        Ok((health(gateway, port)? == word).then_some(()))
    })
}

fn reload(gateway: &Gateway, body: &str) -> Result<()> {
    let generation = |gateway: &Gateway| -> Result<Option<u64>> {
        Ok(gateway
            .status()?
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

fn a_server_that_fails_its_probes_is_left_out_and_comes_back(case: &Case) -> Result<()> {
    let (mut a, _b) = (
        Fickle::start(&case.ns, "a", local(A))?,
        Fickle::start(&case.ns, "b", local(B))?,
    );
    let gateway = case.gateway(&(all_to_s() + &service_at("s", &[A, B], OFTEN)))?;
    until_health(&gateway, A, "up")?;
    until_health(&gateway, B, "up")?;
    a.set_health(500);
    until_health(&gateway, A, "down")?;
    let before = a.asked();
    only(case, "b")?;
    ensure!(a.asked() == before, "it was asked while it was down");
    ensure!(
        gateway
            .status()?
            .to_string()
            .contains("status 500 Internal Server Error, expected 200 to 399")
    );
    a.set_health(302);
    until_health(&gateway, A, "up")?;
    wait::until(SOON, "a request at `a`", || {
        Ok((ask(case)?.body() == "a").then_some(()))
    })?;
    // Gone altogether, and back.
    a.go();
    until_health(&gateway, A, "down")?;
    only(case, "b")?;
    a.come()?;
    a.set_health(200);
    until_health(&gateway, A, "up")
}

fn the_first_probe_comes_at_once_and_decides(case: &Case) -> Result<()> {
    let (a, _b) = (
        Fickle::start(&case.ns, "a", local(A))?,
        Fickle::start(&case.ns, "b", local(B))?,
    );
    a.set_health(503);
    let rarely = "health_check = { path = \"/healthz\", interval = \"1h\", rise = 5, fall = 5 }";
    let gateway = case.gateway(&(all_to_s() + &service_at("s", &[A, B], rarely)))?;
    until_health(&gateway, A, "down")?;
    until_health(&gateway, B, "up")?;
    ensure!(a.probed() == 1, "{}", a.probed());
    let before = a.asked();
    only(case, "b")?;
    ensure!(a.asked() == before, "it was asked while it was down");
    Ok(())
}

fn a_server_is_not_asked_before_it_passed_where_that_is_wanted(case: &Case) -> Result<()> {
    let mut a = Fickle::absent(&case.ns, "a", local(A));
    let often = OFTEN.replace("rise", "initial = \"down\", rise");
    let gateway = case.gateway(&(all_to_s() + &service_at("s", &[A], &often)))?;
    ensure!(health(&gateway, A)? == "down");
    ensure!(ask(case)?.status() == 503);
    a.come()?;
    until_health(&gateway, A, "up")?;
    only(case, "a")
}

fn what_probes_said_outlives_a_reload_wherever_the_server_stands(case: &Case) -> Result<()> {
    let servers = [
        Fickle::start(&case.ns, "a", local(A))?,
        Fickle::start(&case.ns, "b", local(B))?,
        Fickle::start(&case.ns, "c", local(C))?,
    ];
    let [a, ..] = &servers;
    a.set_health(503);
    let gateway = case.gateway(&(all_to_s() + &service_at("s", &[A, B], OFTEN)))?;
    until_health(&gateway, A, "down")?;
    // From here on a probe takes for ever: what is known of `a` is what was said before.
    let before = a.asked();
    let slow = OFTEN.replace("/healthz", "/slow").replace("50ms", "1h");
    a.hold();
    reload(&gateway, &(all_to_s() + &service_at("s", &[C, B, A], &slow)))?;
    ensure!(health(&gateway, A)? == "down");
    for _ in 0..9 {
        let answer = ask(case)?;
        ensure!(
            answer.status() == 200 && answer.body() != "a",
            "{}",
            answer.text()
        );
    }
    let asked = a.requests();
    let clients = asked
        .iter()
        .skip(before)
        .filter(|request| !request.contains("/slow"));
    ensure!(clients.count() == 0, "{asked:?}");
    Ok(())
}

fn all_down_is_503_and_no_server_is_asked(case: &Case) -> Result<()> {
    let (a, b) = (
        Fickle::start(&case.ns, "a", local(A))?,
        Fickle::start(&case.ns, "b", local(B))?,
    );
    a.set_health(500);
    b.set_health(500);
    let gateway = case.gateway(&(all_to_s() + &service_at("s", &[A, B], OFTEN)))?;
    until_health(&gateway, A, "down")?;
    until_health(&gateway, B, "down")?;
    let before = (a.asked(), b.asked());
    for method in ["GET", "POST"] {
        let answer = ask_with(case, method, "x")?;
        ensure!(answer.status() == 503, "{}", answer.text());
    }
    ensure!((a.asked(), b.asked()) == before);
    b.set_health(200);
    until_health(&gateway, B, "up")?;
    only(case, "b")
}

fn servers_are_probed_over_grpc(case: &Case) -> Result<()> {
    let server = GrpcHealth::start(&case.ns, A)?;
    let check = "health_check = { mode = \"grpc\", grpc_service = \"orders.Orders\", interval = \"50ms\", timeout = \"5s\", rise = 1, fall = 1 }";
    let body = |keys: &str| all_to_s() + &service_at("s", &[A], keys);
    let gateway = case.gateway(&body(check))?;
    until_health(&gateway, A, "up")?;
    server.set_serving(false)?;
    until_health(&gateway, A, "down")?;
    ensure!(gateway.status()?.to_string().contains("NOT_SERVING"));
    server.set_serving(true)?;
    until_health(&gateway, A, "up")?;
    reload(&gateway, &body(&check.replace("orders.Orders", "bills.Bills")))?;
    until_health(&gateway, A, "down")?;
    ensure!(
        gateway.status()?.to_string().contains("gRPC status 5"),
        "{}",
        gateway.status()?
    );
    Ok(())
}

const EJECTS: &str = "passive_health_check = { failure_window = \"2s\", max_failed_attempts = 3 }";

fn a_server_that_fails_requests_is_ejected_and_comes_back(case: &Case) -> Result<()> {
    let (mut a, _b) = (
        Fickle::absent(&case.ns, "a", local(A)),
        Fickle::start(&case.ns, "b", local(B))?,
    );
    let gateway = case.gateway(&(all_to_s() + &service_at("s", &[A, B], EJECTS)))?;
    wait::until(SOON, "an ejection", || {
        // Many in a row, so that three failures are of one window on a slow machine too.
        only(case, "b")?;
        only(case, "b")?;
        Ok((gateway.status()?.pointer("/counters/server_ejected") == Some(&Value::from(1))).then_some(()))
    })?;
    a.come()?;
    wait::until(SOON, "a request at `a`", || {
        Ok((ask(case)?.body() == "a").then_some(()))
    })
}

fn answers_from_500_on_eject_but_never_the_last_server(case: &Case) -> Result<()> {
    let (a, b) = (
        Fickle::start(&case.ns, "a", local(A))?,
        Fickle::start(&case.ns, "b", local(B))?,
    );
    let ejects = EJECTS.replace("2s", "1h");
    let gateway = case.gateway(&(all_to_s() + &service_at("s", &[A, B], &ejects)))?;
    a.set_status(500);
    wait::until(SOON, "the ejection of `a`", || {
        ask(case)?;
        Ok((health(&gateway, A)? == "ejected").then_some(()))
    })?;
    only(case, "b")?;
    b.set_status(500);
    for _ in 0..8 {
        let answer = ask(case)?;
        ensure!(answer.status() == 500, "{}", answer.text());
    }
    b.set_status(200);
    only(case, "b")?;
    ensure!(health(&gateway, B)? == "unchecked");
    Ok(())
}

fn failover(keys: &str) -> String {
    all_to_s() + &format!("[services.s.failover]\nservice = \"first\"\nfallback = \"second\"\n{keys}\n")
}

fn a_failover_turns_to_its_fallback_and_returns_late(case: &Case) -> Result<()> {
    let (a, _b) = (
        Fickle::start(&case.ns, "a", local(A))?,
        Fickle::start(&case.ns, "b", local(B))?,
    );
    let body = |after: &str| {
        failover(&format!("return_after = \"{after}\""))
            + &service_at("first", &[A], OFTEN)
            + &service_at("second", &[B], "")
    };
    let gateway = case.gateway(&body("1h"))?;
    until_health(&gateway, A, "up")?;
    only(case, "a")?;
    a.set_health(500);
    until_health(&gateway, A, "down")?;
    only(case, "b")?;
    a.set_health(200);
    until_health(&gateway, A, "up")?;
    // It is up, but not for long enough, and a reload is no way around that.
    only(case, "b")?;
    reload(&gateway, &(body("1h") + "# changed\n"))?;
    only(case, "b")?;
    reload(&gateway, &body("100ms"))?;
    wait::until(SOON, "the first service again", || {
        Ok((ask(case)?.body() == "a").then_some(()))
    })?;
    only(case, "a")
}

fn a_failover_sends_on_what_the_first_service_did_not_take(case: &Case) -> Result<()> {
    let b = Fickle::start(&case.ns, "b", local(B))?;
    let body = failover("") + &service_at("first", &[A], "") + &service_at("second", &[B], "");
    let _gateway = case.gateway(&body)?;
    for method in ["GET", "POST"] {
        let answer = ask_with(case, method, "a body")?;
        ensure!(
            answer.status() == 200 && answer.body() == "b",
            "{}",
            answer.text()
        );
    }
    let arrived = b.requests();
    ensure!(
        arrived.iter().all(|request| request.ends_with("a body")),
        "{arrived:?}"
    );
    Ok(())
}

fn weighted_services_share_and_those_that_are_down_are_left_out(case: &Case) -> Result<()> {
    let (a, _b) = (
        Fickle::start(&case.ns, "a", local(A))?,
        Fickle::start(&case.ns, "b", local(B))?,
    );
    let body = all_to_s()
        + "[services.s.weighted]\nservices = [{ name = \"many\", weight = 3 }, { name = \"few\" }]\n"
        + &service_at("many", &[A], OFTEN)
        + &service_at("few", &[B], "");
    let setup = case.setup()?.with("workers = 2", "workers = 1");
    let gateway = setup.start(&body)?;
    until_health(&gateway, A, "up")?;
    let names: Vec<String> = (0..20).map(|_| Ok(ask(case)?.body())).collect::<Result<_>>()?;
    let many = names.iter().filter(|name| *name == "a").count();
    ensure!(many == 15, "{names:?}");
    a.set_health(500);
    until_health(&gateway, A, "down")?;
    only(case, "b")
}

fn mirrors_get_copies_and_nobody_sees_their_answers(case: &Case) -> Result<()> {
    let (a, b) = (
        Fickle::start(&case.ns, "a", local(A))?,
        Fickle::start(&case.ns, "b", local(B))?,
    );
    b.set_status(500);
    let body = all_to_s()
        + "[services.s.mirroring]\nservice = \"own\"\nmirrors = [{ name = \"other\", percent = 50 }]\nmax_body_size = \"64B\"\n"
        + &service_at("own", &[A], "")
        + &service_at("other", &[B], "");
    let setup = case.setup()?.with("workers = 2", "workers = 1");
    let gateway = setup.start(&body)?;
    for _ in 0..10 {
        let answer = ask_with(case, "POST", "to be copied")?;
        ensure!(
            answer.status() == 200 && answer.body() == "a",
            "{}",
            answer.text()
        );
    }
    wait::until(SOON, "five copies", || Ok((b.asked() == 5).then_some(())))?;
    ensure!(a.asked() == 10);
    let copies = b.requests();
    ensure!(
        copies.iter().all(|copy| copy.ends_with("\r\n\r\nto be copied")),
        "{copies:?}"
    );
    // A body over the limit has no copy, and reaches its own service whole.
    let long = "x".repeat(65);
    for _ in 0..2 {
        ensure!(ask_with(case, "POST", &long)?.status() == 200);
    }
    ensure!(
        a.requests()
            .last()
            .is_some_and(|request| request.ends_with(&long))
    );
    wait::until(SOON, "the copy that was given up", || {
        let status = gateway.status()?;
        let of = |code: &str| {
            status
                .pointer(&format!("/counters/{code}"))
                .and_then(Value::as_u64)
        };
        Ok((of("mirror_dropped") == Some(1) && of("mirrored") == Some(5)).then_some(()))
    })?;
    ensure!(b.asked() == 5);
    // A mirror that is not there is nobody's business either.
    drop(b);
    for _ in 0..4 {
        ensure!(ask(case)?.body() == "a");
    }
    Ok(())
}
