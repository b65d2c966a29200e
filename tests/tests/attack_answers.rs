//! Answers that are wrong in their framing, and what of them a client sees; both drivers.

use anyhow::{Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::fragments::{BACKEND, PORT, local, plain};
use sallyport_tests::on_every_driver;
use sallyport_tests::raw_client::{self, End, Exchange};
use sallyport_tests::raw_server::{Behaviour, RawServer};
use std::time::Duration;

on_every_driver!(
    an_answers_length_beside_its_coding_does_not_cut_it,
    a_coding_that_was_not_asked_for_is_502,
    a_switch_of_protocols_that_was_not_asked_for_is_502,
    what_came_before_a_server_broke_off_arrives,
);

const LIMIT: Duration = Duration::from_secs(3);

fn get(case: &Case) -> Result<Exchange> {
    let request = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
    raw_client::exchange(&case.ns, None, local(PORT), &[request], LIMIT)
}

fn answering(case: &Case, answer: &[u8]) -> Result<RawServer> {
    RawServer::start(
        &case.ns,
        local(BACKEND),
        Behaviour::AnswerAndClose(answer.to_vec()),
    )
}

fn an_answers_length_beside_its_coding_does_not_cut_it(case: &Case) -> Result<()> {
    let _gateway = case.gateway(&plain(""))?;
    for length in [3, 300] {
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"
        );
        let _server = answering(case, answer.as_bytes())?;
        let got = get(case)?;
        let text = got.text().to_ascii_lowercase();
        ensure!(got.status() == 200 && text.contains("abcde"), "{text}");
        ensure!(!text.contains("content-length"), "{text}");
    }
    Ok(())
}

fn a_coding_that_was_not_asked_for_is_502(case: &Case) -> Result<()> {
    let _gateway = case.gateway(&plain(""))?;
    for (coding, status) in [("gzip, chunked", 502), ("xchunked", 502), ("Chunked", 200)] {
        let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\n1\r\na\r\n0\r\n\r\n");
        let _server = answering(case, answer.as_bytes())?;
        let got = get(case)?;
        ensure!(got.status() == status, "{coding}: {}", got.text());
    }
    Ok(())
}

fn a_switch_of_protocols_that_was_not_asked_for_is_502(case: &Case) -> Result<()> {
    let _gateway = case.gateway(&plain(""))?;
    let _server = answering(
        case,
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\nhello",
    )?;
    let got = get(case)?;
    ensure!(
        got.status() == 502 && !got.text().contains("hello"),
        "{}",
        got.text()
    );
    Ok(())
}

fn what_came_before_a_server_broke_off_arrives(case: &Case) -> Result<()> {
    let _gateway = case.gateway(&plain(""))?;
    for framing in [
        "Content-Length: 10\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        let _server = answering(case, format!("HTTP/1.1 200 OK\r\n{framing}").as_bytes())?;
        let got = get(case)?;
        let text = got.text();
        ensure!(got.status() == 200 && text.contains("abc"), "{framing}: {text:?}");
        ensure!(
            got.end != End::Silent && !text.ends_with("0\r\n\r\n"),
            "{framing}: {text:?}"
        );
    }
    Ok(())
}
