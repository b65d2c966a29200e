//! `Expect: 100-continue` and other interim answers, from end to end; both drivers.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::curl::Curl;
use sallyport_tests::fragments::{BACKEND, PORT, local, plain};
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_client::{self, End};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

on_both_drivers!(
    a_server_decides_whether_the_body_comes,
    a_server_that_refuses_early_never_sees_the_body,
    a_server_that_never_says_continue_gets_the_body_all_the_same,
    a_middle_answer_is_not_the_last_one,
    early_hints_arrive_before_the_answer,
    interim_answers_do_not_reach_who_cannot_read_them,
    interim_answers_stay_with_their_request,
);

const SOON: Duration = Duration::from_secs(10);
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const PUT: &[u8] = b"PUT /a HTTP/1.1\r\nHost: a.example\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";

fn listen(case: &Case) -> Result<TcpListener> {
    case.ns.enter(|| Ok(TcpListener::bind(local(BACKEND))?))
}

fn accept(listener: &TcpListener) -> Result<(TcpStream, String)> {
    let mut stream = raw_client::accept(listener, SOON)?;
    let head = raw_client::read_head(&mut stream, SOON)?.text();
    Ok((stream, head.to_ascii_lowercase()))
}

/// Nothing comes for a while; a time cannot be waited for otherwise, and a longer one would only show more.
fn stays_silent(stream: &mut TcpStream) -> Result<()> {
    let got = raw_client::read_some(stream, Duration::from_millis(200))?;
    ensure!(got.bytes.is_empty() && got.end == End::Silent, "{got:?}");
    Ok(())
}

fn a_server_decides_whether_the_body_comes(case: &Case) -> Result<()> {
    let listener = listen(case)?;
    let _gateway = case.gateway(&plain(""))?;
    let mut client = raw_client::connect(&case.ns, None, local(PORT))?;
    client.write_all(PUT)?;
    let (mut server, head) = accept(&listener)?;
    ensure!(
        head.contains("expect: 100-continue") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    stays_silent(&mut client)?;
    server.write_all(CONTINUE)?;
    ensure!(raw_client::read_exactly(&mut client, CONTINUE.len(), SOON)? == CONTINUE);
    client.write_all(b"body")?;
    ensure!(raw_client::read_exactly(&mut server, 4, SOON)? == b"body");
    server.write_all(OK)?;
    ensure!(raw_client::read_answer(&mut client, SOON)?.status() == 200);
    // Both connections go on.
    client.write_all(b"GET /b HTTP/1.1\r\nHost: a.example\r\n\r\n")?;
    let head = raw_client::read_head(&mut server, SOON)?.text();
    ensure!(head.starts_with("GET /b "), "{head}");
    Ok(())
}

fn a_server_that_refuses_early_never_sees_the_body(case: &Case) -> Result<()> {
    let listener = listen(case)?;
    let _gateway = case.gateway(&plain(""))?;
    let mut client = raw_client::connect(&case.ns, None, local(PORT))?;
    client.write_all(PUT)?;
    let (mut server, _) = accept(&listener)?;
    server.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno")?;
    let got = raw_client::read_to_end(&mut client, SOON)?;
    // No `100 Continue` before it, and no request after it: whether a body follows is not known.
    ensure!(
        got.status() == 401 && got.end == End::Closed && got.text().ends_with("no"),
        "{}",
        got.text()
    );
    let rest = raw_client::read_to_end(&mut server, SOON)?;
    ensure!(rest.bytes.is_empty() && rest.end != End::Silent, "{rest:?}");
    Ok(())
}

fn a_server_that_never_says_continue_gets_the_body_all_the_same(case: &Case) -> Result<()> {
    let listener = listen(case)?;
    let _gateway = case.gateway(&plain(""))?;
    let mut client = raw_client::connect(&case.ns, None, local(PORT))?;
    client.write_all(PUT)?;
    let (mut server, _) = accept(&listener)?;
    ensure!(raw_client::read_exactly(&mut client, CONTINUE.len(), SOON)? == CONTINUE);
    client.write_all(b"body")?;
    ensure!(raw_client::read_exactly(&mut server, 4, SOON)? == b"body");
    server.write_all(OK)?;
    ensure!(raw_client::read_answer(&mut client, SOON)?.status() == 200);
    // A client that does not wait is not made to.
    let started = Instant::now();
    client.write_all(&[PUT, b"here"].concat())?;
    let head = raw_client::read_head(&mut server, SOON)?.bytes;
    ensure!(!head.is_empty());
    server.write_all(CONTINUE)?;
    let wanted = if head.ends_with(b"here") { 0 } else { 4 };
    ensure!(raw_client::read_exactly(&mut server, wanted, SOON)?.len() == wanted && started.elapsed() < SOON);
    Ok(())
}

fn a_middle_answer_is_not_the_last_one(case: &Case) -> Result<()> {
    let listener = listen(case)?;
    let _gateway = case.gateway(&plain(""))?;
    let server = std::thread::spawn(move || -> Result<String> {
        let (mut server, head) = accept(&listener)?;
        server.write_all(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")?;
        server.write_all(CONTINUE)?;
        server.write_all(OK)?;
        Ok(head)
    });
    let answer = Curl::new(&case.ns)
        .get(&format!("http://127.0.0.1:{PORT}/"))?
        .expect(200)?;
    ensure!(answer.text() == "ok" && answer.head.contains("103"), "{answer:?}");
    server
        .join()
        .map_err(|_| anyhow::anyhow!("the server's thread"))??;
    Ok(())
}

fn early_hints_arrive_before_the_answer(case: &Case) -> Result<()> {
    let listener = listen(case)?;
    let _gateway = case.gateway(&plain(""))?;
    let mut client = raw_client::connect(&case.ns, None, local(PORT))?;
    client.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")?;
    let (mut server, _) = accept(&listener)?;
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\nConnection: x-mine\r\nX-Mine: 1\r\n\r\n";
    server.write_all(hints.as_bytes())?;
    let got = raw_client::read_head(&mut client, SOON)?
        .text()
        .to_ascii_lowercase();
    ensure!(
        got == "http/1.1 103 early hints\r\nlink: </style.css>; rel=preload\r\n\r\n",
        "{got}"
    );
    server.write_all(OK)?;
    ensure!(raw_client::read_answer(&mut client, SOON)?.status() == 200);
    Ok(())
}

fn interim_answers_do_not_reach_who_cannot_read_them(case: &Case) -> Result<()> {
    let listener = listen(case)?;
    let _gateway = case.gateway(&plain(""))?;
    let server = std::thread::spawn(move || -> Result<()> {
        let (mut server, _) = accept(&listener)?;
        server.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")?;
        server.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")?;
        Ok(())
    });
    let old = b"GET / HTTP/1.0\r\nHost: a.example\r\n\r\n";
    let got = raw_client::exchange(&case.ns, None, local(PORT), &[old], SOON)?;
    ensure!(
        got.status() == 200 && !got.text().contains("103"),
        "{}",
        got.text()
    );
    server
        .join()
        .map_err(|_| anyhow::anyhow!("the server's thread"))?
}

fn interim_answers_stay_with_their_request(case: &Case) -> Result<()> {
    let listener = listen(case)?;
    let _gateway = case.gateway(&plain(""))?;
    let mut one = raw_client::connect(&case.ns, None, local(PORT))?;
    one.write_all(b"GET /one HTTP/1.1\r\nHost: a.example\r\n\r\n")?;
    let (mut to_one, _) = accept(&listener)?;
    let mut two = raw_client::connect(&case.ns, None, local(PORT))?;
    two.write_all(b"GET /two HTTP/1.1\r\nHost: a.example\r\n\r\n")?;
    let (mut to_two, _) = accept(&listener)?;
    to_one.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </one>\r\n\r\n")?;
    ensure!(raw_client::read_head(&mut one, SOON)?.text().contains("</one>"));
    to_two.write_all(OK)?;
    ensure!(raw_client::read_answer(&mut two, SOON)?.status() == 200);
    to_one.write_all(OK)?;
    ensure!(raw_client::read_answer(&mut one, SOON)?.status() == 200);
    // Pipelined requests: the second one's hint comes after the first one's answer.
    one.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n")?;
    for name in ["/a", "/b"] {
        let head = raw_client::read_head(&mut to_one, SOON)?.text();
        ensure!(head.starts_with(&format!("GET {name} ")), "{head}");
        to_one.write_all(format!("HTTP/1.1 103 Early Hints\r\nLink: <{name}>\r\n\r\n").as_bytes())?;
        to_one.write_all(OK)?;
    }
    let mut came = String::new();
    while came.matches("200 OK").count() < 2 || !came.ends_with("ok") {
        came.push_str(&String::from_utf8_lossy(&raw_client::read_exactly(
            &mut one, 1, SOON,
        )?));
    }
    let place = |text: &str| came.find(text).context(came.clone());
    ensure!(
        place("</a>")? < place("200 OK")? && place("200 OK")? < place("</b>")?,
        "{came}"
    );
    Ok(())
}
