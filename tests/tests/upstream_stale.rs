//! Kept connections that a server closes while a request is on its way: no client learns of it where the request may be
//! sent twice, whatever its body is like; both drivers.

use anyhow::{Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::fickle::{Fickle, Manner};
use sallyport_tests::fragments::{PORT, all_to_s, local, service_at};
use sallyport_tests::gateway::Gateway;
use sallyport_tests::on_every_driver;
use sallyport_tests::raw_client::{self, Exchange};
use std::net::TcpStream;
use std::time::Duration;

on_every_driver!(
    a_short_body_is_sent_again_whole,
    a_long_body_or_one_of_unknown_length_goes_over_a_connection_of_its_own,
    a_server_that_waited_too_long_is_not_the_clients_business,
    what_must_not_be_done_twice_is_not_sent_twice,
    a_body_that_a_server_hung_up_on_goes_to_another,
    bodies_on_connections_that_close_any_time_are_no_errors,
);

/// Longest wait for anything here.
const SOON: Duration = Duration::from_secs(20);
const A: u16 = 9001;
const B: u16 = 9002;

/// A gateway with one worker, so that all requests see the same kept connections.
fn gateway(case: &Case, ports: &[u16]) -> Result<Gateway> {
    let setup = case.setup()?.with("workers = 2", "workers = 1");
    setup.start(&(all_to_s() + &service_at("s", ports, "")))
}

/// How a body is framed.
#[derive(Clone, Copy, Debug)]
enum Framed {
    Length,
    Chunks,
}

fn request(method: &str, body: &str, framed: Framed) -> Vec<u8> {
    let (field, body) = match framed {
        Framed::Length => (format!("Content-Length: {}", body.len()), body.to_owned()),
        Framed::Chunks => (
            "Transfer-Encoding: chunked".to_owned(),
            format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
        ),
    };
    format!("{method} / HTTP/1.1\r\nHost: a.example\r\n{field}\r\n\r\n{body}").into_bytes()
}

fn ask(stream: &mut TcpStream, request: &[u8]) -> Result<Exchange> {
    // In two pieces: the second may come when the first is on its way already.
    let (head, rest) = request.split_at(request.len().saturating_sub(3));
    raw_client::send(stream, &[head, rest])?;
    raw_client::read_answer(stream, SOON)
}

fn must_answer(stream: &mut TcpStream, request: &[u8], name: &str) -> Result<()> {
    let answer = ask(stream, request)?;
    ensure!(
        answer.status() == 200 && answer.body() == name,
        "{}",
        answer.text()
    );
    Ok(())
}

/// Has the gateway keep a connection to the server.
fn warm_up(stream: &mut TcpStream, name: &str) -> Result<()> {
    must_answer(stream, b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", name)
}

fn a_short_body_is_sent_again_whole(case: &Case) -> Result<()> {
    let a = Fickle::start(&case.ns, "a", local(A))?;
    a.set_manner(Manner::HangsUpLater);
    let gateway = gateway(case, &[A])?;
    let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
    for (length, method) in [(10, "PUT"), (64 << 10, "PUT"), (500, "DELETE"), (1, "OPTIONS")] {
        warm_up(&mut stream, "a")?;
        let before = a.requests().len();
        let body = "x".repeat(length - 1) + "y";
        must_answer(&mut stream, &request(method, &body, Framed::Length), "a")?;
        let came = a.requests().split_off(before);
        ensure!(came.len() == 2, "{} tries of {method}", came.len());
        let end = format!("\r\n\r\n{body}");
        ensure!(came.iter().all(|one| one.ends_with(&end)), "not whole: {came:?}");
    }
    // A GET finds the connection stale that was kept after each of them; so does each of them.
    ensure!(gateway.count("upstream_stale")? == 7, "{}", gateway.status()?);
    ensure!(gateway.count("upstream_fresh")? == 0);
    Ok(())
}

fn a_long_body_or_one_of_unknown_length_goes_over_a_connection_of_its_own(case: &Case) -> Result<()> {
    let a = Fickle::start(&case.ns, "a", local(A))?;
    a.set_manner(Manner::HangsUpLater);
    let gateway = gateway(case, &[A])?;
    let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
    let long = "x".repeat((64 << 10) + 1);
    for (number, (body, framed)) in [
        (long.as_str(), Framed::Length),
        ("short", Framed::Chunks),
        (long.as_str(), Framed::Chunks),
    ]
    .into_iter()
    .enumerate()
    {
        warm_up(&mut stream, "a")?;
        let before = a.asked();
        must_answer(&mut stream, &request("PUT", body, framed), "a")?;
        ensure!(
            a.asked() == before + 1,
            "{framed:?} was sent {} times",
            a.asked() - before
        );
        ensure!(gateway.count("upstream_fresh")? == u64::try_from(number)? + 1);
    }
    Ok(())
}

fn a_server_that_waited_too_long_is_not_the_clients_business(case: &Case) -> Result<()> {
    let a = Fickle::start(&case.ns, "a", local(A))?;
    a.set_manner(Manner::TimesOutLater);
    let gateway = gateway(case, &[A])?;
    let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
    warm_up(&mut stream, "a")?;
    warm_up(&mut stream, "a")?;
    must_answer(&mut stream, &request("PUT", "body", Framed::Length), "a")?;
    // What may not be sent twice gets the server's word.
    let answer = ask(&mut stream, &request("POST", "body", Framed::Length))?;
    ensure!(answer.status() == 408, "{}", answer.text());
    ensure!(gateway.count("upstream_stale")? == 2);
    Ok(())
}

fn what_must_not_be_done_twice_is_not_sent_twice(case: &Case) -> Result<()> {
    let a = Fickle::start(&case.ns, "a", local(A))?;
    a.set_manner(Manner::HangsUpLater);
    let _gateway = gateway(case, &[A])?;
    for (method, framed) in [
        ("POST", Framed::Length),
        ("PATCH", Framed::Length),
        ("POST", Framed::Chunks),
    ] {
        let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
        warm_up(&mut stream, "a")?;
        let before = a.asked();
        let answer = ask(&mut stream, &request(method, "body", framed))?;
        ensure!(answer.status() == 502, "{}", answer.text());
        ensure!(
            a.asked() == before + 1,
            "{method} was sent {} times",
            a.asked() - before
        );
    }
    Ok(())
}

fn a_body_that_a_server_hung_up_on_goes_to_another(case: &Case) -> Result<()> {
    let (a, b) = (
        Fickle::start(&case.ns, "a", local(A))?,
        Fickle::start(&case.ns, "b", local(B))?,
    );
    a.set_manner(Manner::HangsUp);
    let _gateway = gateway(case, &[A, B])?;
    for _ in 0..4 {
        let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
        must_answer(&mut stream, &request("PUT", "a body", Framed::Length), "b")?;
    }
    ensure!(a.asked() > 0, "`a` never had its turn");
    let came = b.requests();
    ensure!(came.iter().all(|one| one.ends_with("\r\n\r\na body")), "{came:?}");
    Ok(())
}

fn bodies_on_connections_that_close_any_time_are_no_errors(case: &Case) -> Result<()> {
    let a = Fickle::start(&case.ns, "a", local(A))?;
    // It closes right after each answer: the gateway learns of it before, while or after it sends the next request.
    a.set_manner(Manner::AnswersAndCloses);
    let gateway = gateway(case, &[A])?;
    let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
    let long = "x".repeat(70_000);
    for number in 0..150 {
        let (body, framed) = match number % 3 {
            0 => ("short", Framed::Length),
            1 => (long.as_str(), Framed::Length),
            _ => ("short", Framed::Chunks),
        };
        must_answer(&mut stream, &request("PUT", body, framed), "a")?;
    }
    ensure!(gateway.count("upstream_failed")? == 0);
    Ok(())
}
