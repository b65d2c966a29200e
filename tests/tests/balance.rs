//! Which server a request goes to, and what becomes of it where that server does not take it; both drivers.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::fickle::{Fickle, Manner};
use sallyport_tests::fragments::{PORT, all_to_s, local, service, service_at};
use sallyport_tests::gateway::{Gateway, find_all};
use sallyport_tests::nghttpd;
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_client::{self, Exchange};
use sallyport_tests::raw_server::{Behaviour, RawServer};
use sallyport_tests::wait;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

on_both_drivers!(
    shares_are_by_weight,
    a_server_that_refuses_costs_no_request,
    a_server_that_dies_mid_request_is_502_or_another_try_where_that_is_safe,
    connections_that_went_stale_are_no_errors,
    the_less_busy_of_two_is_asked,
    the_server_that_answers_soonest_is_asked_most,
    a_client_by_its_address_stays_and_clients_are_spread,
    no_server_has_more_requests_than_it_may_and_who_waits_is_bounded,
    a_queue_that_does_not_move_is_503,
    a_full_server_leaves_the_others_alone,
    servers_on_unix_sockets_answer,
    a_connection_that_left_http_counts_at_its_server_until_it_ends,
);

/// Longest wait for anything here.
const SOON: Duration = Duration::from_secs(20);
const A: u16 = 9001;
const B: u16 = 9002;
const C: u16 = 9003;

fn request(method: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let length = if body.is_empty() {
        String::new()
    } else {
        format!("Content-Length: {length}\r\n")
    };
    format!("{method} / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n{length}\r\n{body}").into_bytes()
}

fn ask_from(case: &Case, from: Option<IpAddr>, method: &str, body: &str) -> Result<Exchange> {
    raw_client::exchange(&case.ns, from, local(PORT), &[&request(method, body)], SOON)
}

fn ask(case: &Case, method: &str) -> Result<Exchange> {
    let body = if method == "GET" { "" } else { "body" };
    ask_from(case, None, method, body)
}

/// Asks so often and counts who answered; every answer must be 200.
fn names(case: &Case, count: usize) -> Result<BTreeMap<String, usize>> {
    let mut found = BTreeMap::new();
    for _ in 0..count {
        let answer = ask(case, "GET")?;
        ensure!(answer.status() == 200, "{}", answer.text());
        *found.entry(answer.body()).or_default() += 1;
    }
    Ok(found)
}

fn counter(gateway: &Gateway, code: &str) -> Result<u64> {
    let status = gateway.status()?;
    let value = status.pointer(&format!("/counters/{code}"));
    value.and_then(serde_json::Value::as_u64).context(code.to_owned())
}

/// Requests that are sent and whose answers nobody has read yet.
fn send(case: &Case, count: usize) -> Result<Vec<std::net::TcpStream>> {
    let one = || {
        let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
        raw_client::send(&mut stream, &[&request("GET", "")])?;
        Ok(stream)
    };
    (0..count).map(|_| one()).collect()
}

fn shares_are_by_weight(case: &Case) -> Result<()> {
    let _servers = [
        Fickle::start(&case.ns, "a", local(A))?,
        Fickle::start(&case.ns, "b", local(B))?,
    ];
    let servers = format!(
        "[services.s]\nservers = [{{ url = \"http://127.0.0.1:{A}\", weight = 3 }}, {{ url = \"http://127.0.0.1:{B}\" }}]\n"
    );
    let setup = case.setup()?.with("workers = 2", "workers = 1");
    let _gateway = setup.start(&(all_to_s() + &servers))?;
    let found = names(case, 40)?;
    ensure!(
        found.get("a") == Some(&30) && found.get("b") == Some(&10),
        "{found:?}"
    );
    Ok(())
}

fn a_server_that_refuses_costs_no_request(case: &Case) -> Result<()> {
    let _server = Fickle::start(&case.ns, "b", local(B))?;
    let gateway = case.gateway(&(all_to_s() + &service_at("s", &[A, B, C], "")))?;
    for method in ["GET", "POST", "PUT"] {
        for _ in 0..6 {
            let answer = ask(case, method)?;
            ensure!(
                answer.status() == 200 && answer.body() == "b",
                "{}",
                answer.text()
            );
        }
    }
    ensure!(counter(&gateway, "upstream_retried")? >= 6);
    Ok(())
}

fn a_server_that_dies_mid_request_is_502_or_another_try_where_that_is_safe(case: &Case) -> Result<()> {
    let (a, b) = (
        Fickle::start(&case.ns, "a", local(A))?,
        Fickle::start(&case.ns, "b", local(B))?,
    );
    a.set_manner(Manner::HangsUp);
    let _gateway = case.gateway(&(all_to_s() + &service_at("s", &[A, B], "")))?;
    for _ in 0..8 {
        let answer = ask(case, "GET")?;
        ensure!(
            answer.status() == 200 && answer.body() == "b",
            "{}",
            answer.text()
        );
    }
    // What a server has seen is not sent again where doing it twice would do more than doing it once.
    let (mut fine, mut broken) = (0, 0);
    let before = (a.asked(), b.asked());
    for _ in 0..8 {
        match ask(case, "POST")?.status() {
            200 => fine += 1,
            502 => broken += 1,
            other => anyhow::bail!("{other}"),
        }
    }
    ensure!(fine > 0 && broken > 0, "{fine} {broken}");
    ensure!(
        (a.asked() - before.0, b.asked() - before.1) == (broken, fine),
        "asked twice"
    );
    Ok(())
}

fn connections_that_went_stale_are_no_errors(case: &Case) -> Result<()> {
    let a = Fickle::start(&case.ns, "a", local(A))?;
    a.set_manner(Manner::AnswersAndCloses);
    let _gateway = case.gateway(&(all_to_s() + &service_at("s", &[A], "")))?;
    let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
    for _ in 0..200 {
        raw_client::send(&mut stream, &[b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"])?;
        let answer = raw_client::read_answer(&mut stream, SOON)?;
        ensure!(
            answer.status() == 200 && answer.body() == "a",
            "{}",
            answer.text()
        );
    }
    Ok(())
}

fn the_less_busy_of_two_is_asked(case: &Case) -> Result<()> {
    let (a, b) = (
        Fickle::start(&case.ns, "a", local(A))?,
        Fickle::start(&case.ns, "b", local(B))?,
    );
    let _gateway = case.gateway(&(all_to_s() + &service_at("s", &[A, B], "strategy = \"p2c\"")))?;
    a.hold();
    b.hold();
    // One after the other, each seen to arrive: of two servers the one with fewer gets the next.
    let mut waiting = Vec::new();
    for count in 1..=10 {
        waiting.extend(send(case, 1)?);
        wait::until(SOON, "the request at a server", || {
            Ok((a.under_way() + b.under_way() == count).then_some(()))
        })?;
        let (one, other) = (a.under_way(), b.under_way());
        ensure!(one.abs_diff(other) <= 1, "{one} and {other}");
    }
    a.let_go();
    b.let_go();
    for mut stream in waiting {
        ensure!(raw_client::read_to_end(&mut stream, SOON)?.status() == 200);
    }
    Ok(())
}

fn the_server_that_answers_soonest_is_asked_most(case: &Case) -> Result<()> {
    let (a, b) = (
        Fickle::start(&case.ns, "a", local(A))?,
        Fickle::start(&case.ns, "b", local(B))?,
    );
    // So slow that a busy machine does not make the other one look as slow.
    a.set_delay(Duration::from_millis(1500));
    let _gateway = case.gateway(&(all_to_s() + &service_at("s", &[A, B], "strategy = \"least_time\"")))?;
    let found = names(case, 24)?;
    ensure!(b.asked() >= 18, "{found:?}");
    Ok(())
}

fn a_client_by_its_address_stays_and_clients_are_spread(case: &Case) -> Result<()> {
    let _servers = [
        Fickle::start(&case.ns, "a", local(A))?,
        Fickle::start(&case.ns, "b", local(B))?,
        Fickle::start(&case.ns, "c", local(C))?,
    ];
    let _gateway = case.gateway(&(all_to_s() + &service_at("s", &[A, B, C], "strategy = \"hrw\"")))?;
    let mut found = BTreeMap::<String, usize>::new();
    for last in 1..=24 {
        let client = IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
        let first = ask_from(case, Some(client), "GET", "")?.body();
        for _ in 0..2 {
            let again = ask_from(case, Some(client), "GET", "")?.body();
            ensure!(again == first, "{client}: {first}, then {again}");
        }
        *found.entry(first).or_default() += 1;
    }
    ensure!(found.len() == 3, "{found:?}");
    Ok(())
}

fn no_server_has_more_requests_than_it_may_and_who_waits_is_bounded(case: &Case) -> Result<()> {
    let (a, b) = (
        Fickle::start(&case.ns, "a", local(A))?,
        Fickle::start(&case.ns, "b", local(B))?,
    );
    a.hold();
    b.hold();
    let keys = "max_connections_per_server = 2\nqueue = { max = 3, timeout = \"60s\" }";
    let gateway = case.gateway(&(all_to_s() + &service_at("s", &[A, B], keys)))?;
    // Four are at servers, three wait; over both workers.
    let waiting = send(case, 7)?;
    wait::until(SOON, "four at servers and three in the queue", || {
        let status = gateway.status()?;
        let queued = status
            .pointer("/services/0/waiting")
            .and_then(serde_json::Value::as_u64);
        Ok((a.under_way() + b.under_way() == 4 && queued == Some(3)).then_some(()))
    })?;
    let refused = ask(case, "GET")?;
    ensure!(refused.status() == 503, "{}", refused.text());
    ensure!(counter(&gateway, "queue_full")? == 1);
    a.let_go();
    b.let_go();
    for mut stream in waiting {
        let answer = raw_client::read_to_end(&mut stream, SOON)?;
        ensure!(answer.status() == 200, "{}", answer.text());
    }
    ensure!(a.most() <= 2 && b.most() <= 2, "{} {}", a.most(), b.most());
    ensure!(
        counter(&gateway, "queued")? == 4,
        "three that waited, one that was refused"
    );
    // What was taken was given back.
    let found = names(case, 8)?;
    ensure!(found.len() == 2, "{found:?}");
    Ok(())
}

fn a_queue_that_does_not_move_is_503(case: &Case) -> Result<()> {
    let a = Fickle::start(&case.ns, "a", local(A))?;
    a.hold();
    let keys = "max_connections_per_server = 1\nqueue = { max = 5, timeout = \"200ms\" }";
    let gateway = case.gateway(&(all_to_s() + &service_at("s", &[A], keys)))?;
    let first = send(case, 1)?;
    wait::until(SOON, "the request at the server", || {
        Ok((a.under_way() == 1).then_some(()))
    })?;
    ensure!(ask(case, "GET")?.status() == 503);
    ensure!(counter(&gateway, "queue_timeout")? == 1);
    // A client that goes away gives its place up, at the server and in the queue.
    drop(first);
    a.let_go();
    gateway.settle(200, || Ok(ask(case, "GET")?.status()))?;
    // An idle connection of one worker would be one more than the server takes when the other one asks.
    let status = gateway.status()?;
    let idle = find_all(&status, "idle_upstream");
    ensure!(
        idle.len() == 2 && idle.iter().all(|count| **count == 0),
        "{idle:?}"
    );
    Ok(())
}

fn a_full_server_leaves_the_others_alone(case: &Case) -> Result<()> {
    let (a, b) = (
        Fickle::start(&case.ns, "a", local(A))?,
        Fickle::start(&case.ns, "b", local(B))?,
    );
    a.hold();
    let keys = "max_connections_per_server = 1";
    let _gateway = case.gateway(&(all_to_s() + &service_at("s", &[A, B], keys)))?;
    // Until one hangs at `a`.
    let mut held = Vec::new();
    wait::until(SOON, "a request at `a`", || {
        held.extend(send(case, 1)?);
        wait::until(SOON, "an answer or a wait", || {
            Ok((a.under_way() == 1 || b.asked() == held.len()).then_some(()))
        })?;
        Ok((a.under_way() == 1).then_some(()))
    })?;
    let found = names(case, 6)?;
    ensure!(found.get("b") == Some(&6), "{found:?}");
    Ok(())
}

fn servers_on_unix_sockets_answer(case: &Case) -> Result<()> {
    let path = case.dir().join("app.sock");
    let server = Fickle::at_socket(&case.ns, "u", &path)?;
    let gateway =
        case.gateway(&(all_to_s() + &service("s", &[&format!("unix://{}", path.display())], "")))?;
    let body = "x".repeat(300_000);
    for (method, body) in [("GET", ""), ("PUT", body.as_str())] {
        let answer = ask_from(case, None, method, body)?;
        ensure!(
            answer.status() == 200 && answer.body() == "u",
            "{}",
            answer.text()
        );
    }
    let requests = server.requests();
    let [first, second] = requests.as_slice() else {
        anyhow::bail!("{} requests", requests.len())
    };
    ensure!(second.ends_with(&body), "the body is another");
    ensure!(first.to_ascii_lowercase().contains("host: a.example"), "{first}");
    ensure!(
        gateway.status()?.to_string().contains("unix:///"),
        "status does not name it"
    );
    drop(server);
    std::fs::remove_file(&path)?;
    ensure!(ask(case, "GET")?.status() == 502);
    // HTTP/2 by the way, at the same kind of service.
    let _h2 = nghttpd::start(&case.ns, B, None)?;
    gateway
        .setup()
        .write(&(all_to_s() + &service("s", &[&format!("h2c://127.0.0.1:{B}")], "")))?;
    gateway.proc.signal(nix::sys::signal::Signal::SIGHUP)?;
    gateway.settle(200, || Ok(ask(case, "GET")?.status()))
}

fn a_connection_that_left_http_counts_at_its_server_until_it_ends(case: &Case) -> Result<()> {
    let joined =
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: tin-cans\r\nConnection: upgrade\r\n\r\n".to_vec();
    let _server = RawServer::start(&case.ns, local(B), Behaviour::Answer(joined))?;
    // Nobody is at `A`: it has not seen the request, which may go on.
    let keys = "max_connections_per_server = 1\nqueue = { max = 0 }";
    let gateway = case.gateway(&(all_to_s() + &service_at("s", &[A, B], keys)))?;
    let under_way = |count: u64| {
        wait::until(SOON, &format!("{count} under way"), || {
            let status = gateway.status()?;
            let now = status.pointer("/services/0/servers/1/under_way");
            Ok((now.and_then(serde_json::Value::as_u64) == Some(count)).then_some(()))
        })
    };
    for _ in 0..4 {
        let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
        let request =
            b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: tin-cans\r\n\r\n";
        raw_client::send(&mut stream, &[request])?;
        let answer = raw_client::read_head(&mut stream, SOON)?;
        ensure!(answer.status() == 101, "{}", answer.text());
        under_way(1)?;
        drop(stream);
        under_way(0)?;
    }
    Ok(())
}
