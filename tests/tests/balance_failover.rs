//! `failover.errors`: another service in place of answers that say that the first failed; both drivers.

use anyhow::{Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::fickle::Fickle;
use sallyport_tests::fragments::{PORT, all_to_s, local, service_at};
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_client::{self, Exchange};
use std::time::Duration;

on_both_drivers!(
    an_answer_that_says_that_the_first_failed_is_replaced,
    a_body_over_the_bound_is_sent_once,
    where_the_fallback_is_down_the_answer_of_the_first_stands,
    a_fallback_that_fails_too_has_the_last_word,
);

/// Longest wait for anything here.
const SOON: Duration = Duration::from_secs(20);
const A: u16 = 9001;
const B: u16 = 9002;

fn body(keys: &str) -> String {
    all_to_s()
        + &format!("[services.s.failover]\nservice = \"first\"\nfallback = \"second\"\n{keys}\n")
        + &service_at("first", &[A], "")
}

fn ask(case: &Case, method: &str, body: &str) -> Result<Exchange> {
    let length = body.len();
    let request = format!(
        "{method} /x HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    raw_client::exchange(&case.ns, None, local(PORT), &[request.as_bytes()], SOON)
}

fn an_answer_that_says_that_the_first_failed_is_replaced(case: &Case) -> Result<()> {
    let (a, b) = (
        Fickle::start(&case.ns, "a", local(A))?,
        Fickle::start(&case.ns, "b", local(B))?,
    );
    let keys = "errors = { status = [\"500-502\", \"429\"] }";
    let gateway = case.gateway(&(body(keys) + &service_at("second", &[B], "")))?;
    for (status, method) in [(500, "GET"), (502, "POST"), (429, "PUT")] {
        a.set_status(status);
        let (first, second) = (a.asked(), b.asked());
        let answer = ask(case, method, "a body")?;
        ensure!(
            answer.status() == 200 && answer.body() == "b",
            "{}",
            answer.text()
        );
        ensure!((a.asked(), b.asked()) == (first + 1, second + 1));
    }
    let came = b.requests();
    ensure!(came.iter().all(|one| one.ends_with("\r\n\r\na body")), "{came:?}");
    ensure!(gateway.count("upstream_retried")? == 3);
    // Any other answer is the client's.
    let second = b.asked();
    for status in [200, 404, 428, 503] {
        a.set_status(status);
        let answer = ask(case, "GET", "")?;
        ensure!(
            answer.status() == status && answer.body() == "a",
            "{}",
            answer.text()
        );
    }
    ensure!(b.asked() == second);
    Ok(())
}

fn a_body_over_the_bound_is_sent_once(case: &Case) -> Result<()> {
    let (a, b) = (
        Fickle::start(&case.ns, "a", local(A))?,
        Fickle::start(&case.ns, "b", local(B))?,
    );
    a.set_status(503);
    let keys = "errors = { status = [\"503\"], max_request_body_bytes = \"1KiB\" }";
    let _gateway = case.gateway(&(body(keys) + &service_at("second", &[B], "")))?;
    let (at, over) = ("x".repeat(1024), "x".repeat(1025));
    let answer = ask(case, "POST", &at)?;
    ensure!(
        answer.status() == 200 && answer.body() == "b",
        "{}",
        answer.text()
    );
    let answer = ask(case, "POST", &over)?;
    ensure!(
        answer.status() == 503 && answer.body() == "a",
        "{}",
        answer.text()
    );
    ensure!(
        a.requests().last().is_some_and(|one| one.ends_with(&over)),
        "it came whole"
    );
    ensure!(b.asked() == 1);
    Ok(())
}

fn where_the_fallback_is_down_the_answer_of_the_first_stands(case: &Case) -> Result<()> {
    let a = Fickle::start(&case.ns, "a", local(A))?;
    a.set_status(503);
    let second = service_at(
        "second",
        &[B],
        "health_check = { path = \"/healthz\", initial = \"down\", interval = \"1h\" }",
    );
    let _gateway = case.gateway(&(body("errors = { status = [\"503\"] }") + &second))?;
    let answer = ask(case, "GET", "")?;
    ensure!(
        answer.status() == 503 && answer.body() == "a",
        "{}",
        answer.text()
    );
    Ok(())
}

fn a_fallback_that_fails_too_has_the_last_word(case: &Case) -> Result<()> {
    let (a, b) = (
        Fickle::start(&case.ns, "a", local(A))?,
        Fickle::start(&case.ns, "b", local(B))?,
    );
    a.set_status(503);
    b.set_status(503);
    let keys = "errors = { status = [\"503\"] }";
    let _gateway = case.gateway(&(body(keys) + &service_at("second", &[B], "")))?;
    let answer = ask(case, "GET", "")?;
    ensure!(
        answer.status() == 503 && answer.body() == "b",
        "{}",
        answer.text()
    );
    ensure!((a.asked(), b.asked()) == (1, 1), "asked in a circle");
    Ok(())
}
