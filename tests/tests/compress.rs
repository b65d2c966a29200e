//! `compress`: answers in each coding, read by curl; and what stays as it is.

use anyhow::{Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::curl::{Answer, Curl};
use sallyport_tests::fragments::{BACKEND, PORT, backend_url, entry_point, local, service};
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_client;
use sallyport_tests::raw_server::{Behaviour, RawServer};
use std::time::Duration;

on_both_drivers!(
    curl_reads_every_coding_over_both_versions,
    what_must_stay_as_it_is_does,
    an_event_goes_out_before_the_stream_ends,
    a_server_that_breaks_off_is_seen_to,
);

const SOON: Duration = Duration::from_secs(10);

fn body() -> String {
    entry_point("")
        + "[routers.all]\nrule = \"PathPrefix(`/`)\"\nservice = \"backend\"\nmiddlewares = [\"small\"]\n"
        + &service("backend", &[&backend_url()], "")
        + "[middlewares.small.compress]\n"
}

fn text() -> String {
    (0..20_000).map(|line| format!("line {line}\n")).collect()
}

/// Closes then, so that the next server of a case is asked and not this one over a kept connection.
fn answer(fields: &str, body: &str) -> Behaviour {
    let length = body.len();
    Behaviour::AnswerAndClose(
        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{fields}\r\n{body}").into_bytes(),
    )
}

fn ask(case: &Case, words: &[&str]) -> Result<Answer> {
    Curl::new(&case.ns)
        .args(words)
        .get(&format!("http://127.0.0.1:{PORT}/"))?
        .expect(200)
}

fn curl_reads_every_coding_over_both_versions(case: &Case) -> Result<()> {
    let fields = "Content-Type: text/plain\r\nETag: \"v1\"\r\nAccept-Ranges: bytes\r\n";
    let _server = RawServer::start(&case.ns, local(BACKEND), answer(fields, &text()))?;
    let _gateway = case.gateway(&body())?;
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        for coding in ["gzip", "br", "zstd"] {
            let accept = format!("Accept-Encoding: {coding}");
            let raw = ask(case, &[version, "-H", &accept])?;
            ensure!(
                raw.header("content-encoding").as_deref() == Some(coding),
                "{}",
                raw.head
            );
            ensure!(
                raw.body.len() < text().len() / 3,
                "{coding}: {} bytes",
                raw.body.len()
            );
            ensure!(
                raw.header("vary").as_deref() == Some("Accept-Encoding"),
                "{}",
                raw.head
            );
            ensure!(raw.header("etag").as_deref() == Some("W/\"v1\""), "{}", raw.head);
            ensure!(raw.header("accept-ranges").is_none(), "{}", raw.head);
            let plain = ask(case, &[version, "--compressed", "-H", &accept])?;
            ensure!(
                plain.text() == text(),
                "{version} {coding}: another text came out"
            );
        }
        let plain = ask(case, &[version])?;
        ensure!(plain.header("content-encoding").is_none() && plain.text() == text());
        ensure!(
            plain.header("vary").as_deref() == Some("Accept-Encoding"),
            "{}",
            plain.head
        );
        ensure!(
            plain.header("etag").as_deref() == Some("\"v1\""),
            "{}",
            plain.head
        );
    }
    Ok(())
}

fn what_must_stay_as_it_is_does(case: &Case) -> Result<()> {
    let gateway = case.gateway(&body())?;
    let (long, short) = (text(), "short".to_owned());
    for (fields, body) in [
        ("Content-Type: application/grpc\r\n", &long),
        ("Content-Type: image/png\r\n", &long),
        ("Content-Type: text/plain\r\nContent-Encoding: deflate\r\n", &long),
        (
            "Content-Type: text/plain\r\nCache-Control: no-transform\r\n",
            &long,
        ),
        ("Content-Type: text/plain\r\n", &short),
    ] {
        let server = RawServer::start(&case.ns, local(BACKEND), answer(fields, body))?;
        let raw = ask(case, &["-H", "Accept-Encoding: gzip, br, zstd"])?;
        ensure!(raw.text() == *body, "{fields}: {}", raw.head);
        ensure!(
            raw.header("content-length") == Some(body.len().to_string()),
            "{}",
            raw.head
        );
        drop(server);
    }
    drop(gateway);
    Ok(())
}

fn an_event_goes_out_before_the_stream_ends(case: &Case) -> Result<()> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    // The stream goes on after its first event, and nothing more comes.
    let behaviour = Behaviour::Answer(format!("{head}b\r\ndata: one\n\n\r\n").into_bytes());
    let _server = RawServer::start(&case.ns, local(BACKEND), behaviour)?;
    let _gateway = case.gateway(&body())?;
    for coding in ["gzip", "br", "zstd"] {
        let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {coding}\r\n\r\n");
        raw_client::send(&mut stream, &[request.as_bytes()])?;
        let head = raw_client::read_head(&mut stream, SOON)?;
        let text = head.text().to_ascii_lowercase();
        ensure!(text.contains(&format!("content-encoding: {coding}")), "{text}");
        let behind = text.split_once("\r\n\r\n").map_or(0, |(_, body)| body.len());
        if behind == 0 {
            let more = raw_client::read_some(&mut stream, SOON)?;
            ensure!(!more.bytes.is_empty(), "{coding}: no byte of the event came");
        }
    }
    Ok(())
}

fn a_server_that_breaks_off_is_seen_to(case: &Case) -> Result<()> {
    let half = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1000000\r\n\r\n{}",
        text()
    );
    let behaviour = Behaviour::AnswerAndClose(half.into_bytes());
    let _server = RawServer::start(&case.ns, local(BACKEND), behaviour)?;
    let _gateway = case.gateway(&body())?;
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let curl = Curl::new(&case.ns).args(&[version, "-H", "Accept-Encoding: gzip"]);
        let answer = curl.get(&format!("http://127.0.0.1:{PORT}/"))?;
        ensure!(
            answer.exit != 0,
            "{version}: curl took half of an answer for the whole"
        );
    }
    Ok(())
}
