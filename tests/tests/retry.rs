//! `retry` and `circuit_breaker`: another try where it is safe, within its budget; and an end to asking who fails.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::curl::{Answer, Curl};
use sallyport_tests::fragments::{BACKEND, PORT, backend_url, entry_point, local, service};
use sallyport_tests::gateway::Gateway;
use sallyport_tests::h2load::{self, Protocol};
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_server::{Behaviour, RawServer};

on_both_drivers!(
    an_idempotent_request_is_tried_again_on_another_server,
    a_post_is_never_sent_twice,
    tries_end_with_their_number_and_with_the_budget,
    an_open_breaker_asks_nobody_and_others_go_on,
    a_breaker_closes_again_once_the_service_is_well,
);

const OTHER: u16 = 9001;
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy";
const BROKEN: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";

fn routed(middleware: &str, urls: &[&str]) -> String {
    entry_point("")
        + "[routers.all]\nrule = \"PathPrefix(`/`)\"\nservice = \"backend\"\nmiddlewares = [\"m\"]\n"
        + &service("backend", urls, "")
        + middleware
}

fn ask(case: &Case, words: &[&str]) -> Result<Answer> {
    Curl::new(&case.ns)
        .args(words)
        .get(&format!("http://127.0.0.1:{PORT}/"))
}

fn counted(gateway: &Gateway, code: &str) -> Result<u64> {
    let status = gateway.status()?;
    let count = status
        .pointer(&format!("/counters/{code}"))
        .and_then(serde_json::Value::as_u64);
    count.with_context(|| format!("`{code}` is not in {status}"))
}

fn an_idempotent_request_is_tried_again_on_another_server(case: &Case) -> Result<()> {
    let busy = RawServer::start(&case.ns, local(BACKEND), Behaviour::Answer(BUSY.to_vec()))?;
    let _well = RawServer::start(&case.ns, local(OTHER), Behaviour::Echo)?;
    let urls = [backend_url(), format!("http://127.0.0.1:{OTHER}")];
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let retry = "[middlewares.m.retry]\nattempts = 4\nstatus = [\"503\"]\nbudget_min = 1000\ninitial_interval = \"1ms\"\n";
    let gateway = case.gateway(&routed(retry, &urls))?;
    for _ in 0..20 {
        ask(case, &[])?.expect(200)?;
        ask(case, &["-X", "DELETE"])?.expect(200)?;
    }
    let tries = busy.seen.requests().len();
    ensure!(tries > 0, "the busy server had its turns");
    ensure!(counted(&gateway, "retried")? == u64::try_from(tries)?);
    Ok(())
}

fn a_post_is_never_sent_twice(case: &Case) -> Result<()> {
    for behaviour in [Behaviour::Answer(BUSY.to_vec()), Behaviour::Close] {
        let server = RawServer::start(&case.ns, local(BACKEND), behaviour.clone())?;
        let retry = "[middlewares.m.retry]\nattempts = 4\nstatus = [\"503\"]\nbudget_min = 1000\n";
        let mut gateway = case.gateway(&routed(retry, &[&backend_url()]))?;
        for words in [&["-d", "x=1"][..], &["-X", "POST"], &["-T", "/etc/hostname"]] {
            let before = server.seen.requests().len();
            let status = ask(case, words)?.status;
            ensure!(matches!(status, 502 | 503), "{words:?}: {status}");
            let sent = server.seen.requests().len() - before;
            ensure!(sent == 1, "{behaviour:?} {words:?}: sent {sent} times");
        }
        gateway.stop()?;
    }
    Ok(())
}

fn tries_end_with_their_number_and_with_the_budget(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Answer(BUSY.to_vec()))?;
    let retry =
        "[middlewares.m.retry]\nattempts = 3\nstatus = [\"500-503\"]\nbudget_percent = 0\nbudget_min = 4\n";
    let gateway = case.gateway(&routed(retry, &[&backend_url()]))?;
    let answer = ask(case, &[])?.expect(503)?;
    ensure!(
        answer.text() == "busy",
        "the last answer is the client's: {}",
        answer.text()
    );
    ensure!(server.seen.requests().len() == 3, "{:?}", server.seen.requests());
    // More at once than the free tries of a minute.
    h2load::run(
        &case.ns,
        &format!("http://127.0.0.1:{PORT}/"),
        Protocol::Http1,
        300,
        10,
    )?;
    ensure!(counted(&gateway, "retry_budget_spent")? > 0);
    let sent = u64::try_from(server.seen.requests().len())?;
    ensure!(sent == counted(&gateway, "requests")? + counted(&gateway, "retried")?);
    Ok(())
}

fn breaker(keys: &str) -> String {
    let other =
        "[routers.other]\nrule = \"PathPrefix(`/other`)\"\nservice = \"well\"\nmiddlewares = [\"m\"]\n";
    let well = service("well", &[&format!("http://127.0.0.1:{OTHER}")], "");
    let expression = "expression = \"ResponseCodeRatio(500, 600, 0, 600) > 0.5\"";
    let middleware =
        format!("[middlewares.m.circuit_breaker]\n{expression}\ncheck_period = \"1ms\"\n{keys}\n");
    routed(&format!("{middleware}{other}{well}"), &[&backend_url()])
}

fn an_open_breaker_asks_nobody_and_others_go_on(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Answer(BROKEN.to_vec()))?;
    let _well = RawServer::start(&case.ns, local(OTHER), Behaviour::Echo)?;
    let gateway = case.gateway(&breaker(
        "fallback_duration = \"1h\"\nresponse_code = 529\nrequest_threshold = 3",
    ))?;
    for _ in 0..2 {
        ask(case, &[])?.expect(500)?;
    }
    gateway.settle(529, || Ok(ask(case, &[])?.status))?;
    let asked = server.seen.requests().len();
    for _ in 0..10 {
        let answer = ask(case, &[])?.expect(529)?;
        let wait: u64 = answer
            .header("retry-after")
            .context("no `Retry-After`")?
            .parse()?;
        ensure!((3000..=3600).contains(&wait), "{wait}");
    }
    ensure!(
        server.seen.requests().len() == asked,
        "an open breaker asked the server"
    );
    let other = Curl::new(&case.ns).get(&format!("http://127.0.0.1:{PORT}/other"))?;
    other.expect(200)?;
    ensure!(counted(&gateway, "breaker_opened")? == 1 && counted(&gateway, "breaker_open")? >= 11);
    Ok(())
}

fn a_breaker_closes_again_once_the_service_is_well(case: &Case) -> Result<()> {
    // It closes, so that the next server is asked and not this one over a kept connection.
    let server = RawServer::start(
        &case.ns,
        local(BACKEND),
        Behaviour::AnswerAndClose(BROKEN.to_vec()),
    )?;
    let gateway = case.gateway(&breaker(
        "fallback_duration = \"200ms\"\nrecovery_duration = \"200ms\"",
    ))?;
    gateway.settle(503, || Ok(ask(case, &[])?.status))?;
    drop(server);
    let _well = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    gateway.settle(200, || Ok(ask(case, &[])?.status))?;
    let closed = || {
        Ok(gateway
            .proc
            .log()
            .contains("circuit breaker closed")
            .then_some(()))
    };
    sallyport_tests::wait::until(std::time::Duration::from_secs(10), "the breaker closes", || {
        ask(case, &[])?;
        closed()
    })?;
    ask(case, &[])?.expect(200)?;
    Ok(())
}
