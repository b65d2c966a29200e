//! Limits of connections and bodies: each acts on whom it is for, on nobody else, and is counted; both drivers.

use anyhow::{Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::fragments::{BACKEND, PORT, local, plain};
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_client::{self, End, Exchange};
use sallyport_tests::raw_server::{Behaviour, RawServer};
use sallyport_tests::wait;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

on_both_drivers!(
    a_client_has_as_many_connections_as_it_may_whichever_worker_has_them,
    behind_a_proxy_header_the_client_counts_and_not_the_sender,
    the_process_serves_as_many_connections_as_it_may_and_the_rest_wait,
    those_who_wait_for_the_process_cost_it_no_descriptors,
    the_last_request_of_a_connection_says_so,
    an_old_connection_takes_no_more_requests,
    a_connection_that_asks_for_nothing_is_closed,
    a_long_upload_at_a_fair_rate_lives_and_a_trickle_does_not,
    without_a_rate_the_deadline_has_no_exception,
    a_body_that_stands_still_is_given_up,
    a_client_that_takes_nothing_is_cut_off,
    a_slow_reader_at_a_fair_rate_gets_all_of_it,
    an_answer_that_takes_too_long_is_cut_off,
    header_sections_over_a_limit_are_431,
    a_header_that_stops_halfway_is_408_and_silence_is_closed,
);

/// Long for anything that is due at once.
const SOON: Duration = Duration::from_secs(10);
/// Between two pieces of a client that is paced.
const BEAT: Duration = Duration::from_millis(100);

fn connect(case: &Case, from: &str) -> Result<TcpStream> {
    let from: IpAddr = from.parse()?;
    raw_client::connect(&case.ns, Some(from), local(PORT))
}

fn get(stream: &mut TcpStream) -> Result<Exchange> {
    raw_client::send(stream, &[b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"])?;
    raw_client::read_answer(stream, SOON)
}

/// A connection that was served once and is kept.
fn served(case: &Case, from: &str) -> Result<TcpStream> {
    let mut stream = connect(case, from)?;
    let got = get(&mut stream)?;
    ensure!(got.status() == 200, "{from}: {:?} {}", got.end, got.text());
    Ok(stream)
}

fn is_shut_out(case: &Case, from: &str) -> Result<bool> {
    let mut stream = connect(case, from)?;
    Ok(raw_client::read_to_end(&mut stream, Duration::from_millis(500))?.is_shut_out())
}

fn a_client_has_as_many_connections_as_it_may_whichever_worker_has_them(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let gateway = case.gateway(&plain("limits = { connections_per_ip = 6 }"))?;
    let mut kept = Vec::new();
    for _ in 0..6 {
        kept.push(served(case, "127.0.0.5")?);
    }
    // Enough that each worker gets some.
    for _ in 0..12 {
        ensure!(is_shut_out(case, "127.0.0.5")?, "one too many was let in");
    }
    gateway.counts("connections_per_ip", 12)?;
    drop(served(case, "127.0.0.6")?);
    drop(kept.pop());
    let again = wait::until(SOON, "there is room again", || Ok(served(case, "127.0.0.5").ok()))?;
    ensure!(is_shut_out(case, "127.0.0.5")?);
    drop(again);
    Ok(())
}

fn behind_a_proxy_header_the_client_counts_and_not_the_sender(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let gateway = case.gateway(&plain(
        "proxy_protocol = { trusted_ips = [\"127.0.0.5\"] }\nlimits = { connections_per_ip = 1 }",
    ))?;
    let by = |client: &str| -> Result<(TcpStream, Exchange)> {
        let mut stream = connect(case, "127.0.0.5")?;
        let header = format!("PROXY TCP4 {client} 127.0.0.1 4000 8000\r\n");
        raw_client::send(&mut stream, &[header.as_bytes()])?;
        let got = get(&mut stream)?;
        Ok((stream, got))
    };
    let (first, got) = by("203.0.113.1")?;
    ensure!(got.status() == 200, "{}", got.text());
    let (_second, got) = by("203.0.113.2")?;
    ensure!(got.status() == 200, "{}", got.text());
    ensure!(by("203.0.113.1")?.1.is_shut_out());
    // Whoever is not trusted counts by its own address.
    let own = served(case, "127.0.0.6")?;
    ensure!(is_shut_out(case, "127.0.0.6")?);
    gateway.counts("connections_per_ip", 2)?;
    drop((first, own));
    wait::until(SOON, "there is room again", || {
        Ok((by("203.0.113.1")?.1.status() == 200).then_some(()))
    })
}

fn the_process_serves_as_many_connections_as_it_may_and_the_rest_wait(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let setup = case
        .setup()?
        .with("workers = 2\n", "workers = 2\nmax_connections = 3\n");
    let gateway = setup.start(&plain(""))?;
    let mut all: Vec<TcpStream> = Vec::new();
    for _ in 0..12 {
        let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
        raw_client::send(&mut stream, &[b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"])?;
        all.push(stream);
    }
    let mut answered = 0;
    // Those who are served are ended one after another; each makes room for exactly one who waits.
    while answered < 12 {
        let before = answered;
        let (mut ready, mut waiting) = (Vec::new(), Vec::new());
        wait::until(SOON, "somebody is served", || {
            (ready, waiting) = (Vec::new(), Vec::new());
            for stream in &all {
                stream.set_nonblocking(true)?;
                match stream.peek(&mut [0; 1]) {
                    Ok(_) => ready.push(stream.try_clone()?),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => waiting.push(stream.try_clone()?),
                    Err(error) => return Err(error.into()),
                }
            }
            Ok((!ready.is_empty()).then_some(()))
        })?;
        ensure!(ready.len() <= 3, "{} are served at once", ready.len());
        answered += ready.len();
        all = waiting;
        ensure!(answered > before);
    }
    ensure!(gateway.count("accept_paused")? > 0);
    ensure!(gateway.count("accepted")? == 12);
    Ok(())
}

fn those_who_wait_for_the_process_cost_it_no_descriptors(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let setup = case
        .setup()?
        .with("workers = 2\n", "workers = 2\nmax_connections = 3\n");
    let gateway = setup.start(&plain(""))?;
    let before = gateway.proc.descriptors()?;
    let mut all = Vec::new();
    for _ in 0..100 {
        let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
        raw_client::send(&mut stream, &[b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"])?;
        all.push(stream);
    }
    wait::until(SOON, "accepting pauses", || {
        Ok((gateway.count("accept_paused")? > 0 && gateway.count("accepted")? == 3).then_some(()))
    })?;
    // Three clients and their servers, one in the hands of each worker, and who asks for status.
    let held = gateway.proc.descriptors()?.saturating_sub(before);
    ensure!(held <= 3 + 3 + 2 + 4, "{held} descriptors");
    drop(all);
    gateway.counts("accepted", 100)
}

fn the_last_request_of_a_connection_says_so(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let gateway = case.gateway(&plain("limits = { keep_alive_max_requests = 3 }"))?;
    let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
    for last in [false, false, true] {
        let text = get(&mut stream)?.text().to_ascii_lowercase();
        ensure!(text.starts_with("http/1.1 200"), "{text}");
        ensure!(text.contains("connection: close") == last, "{text}");
    }
    let got = raw_client::read_to_end(&mut stream, SOON)?;
    ensure!(got.bytes.is_empty() && got.end == End::Closed, "{:?}", got.end);
    gateway.counts("keep_alive_requests", 1)
}

fn an_old_connection_takes_no_more_requests(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let gateway = case.gateway(&plain("timeouts = { keep_alive_max_time = \"700ms\" }"))?;
    let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
    let start = Instant::now();
    while start.elapsed() < SOON {
        let got = get(&mut stream)?;
        if got.status() != 200 || got.text().to_ascii_lowercase().contains("connection: close") {
            break;
        }
    }
    ensure!(
        start.elapsed() >= Duration::from_millis(600),
        "{:?}",
        start.elapsed()
    );
    let got = raw_client::read_to_end(&mut stream, SOON)?;
    ensure!(got.end != End::Silent, "still open");
    gateway.counts("keep_alive_time", 1)
}

fn a_connection_that_asks_for_nothing_is_closed(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let gateway = case.gateway(&plain("timeouts = { idle = \"700ms\" }"))?;
    let mut stream = served(case, "127.0.0.5")?;
    let got = raw_client::read_to_end(&mut stream, SOON)?;
    ensure!(got.bytes.is_empty() && got.end == End::Closed, "{:?}", got.end);
    gateway.counts("idle_timeout", 1)?;
    ensure!(gateway.count("request_timeout")? == 0);
    Ok(())
}

/// Sends a body in pieces of `piece` bytes a beat until all of it is sent or the gateway answers, and reads what it says.
fn upload(case: &Case, length: usize, piece: usize) -> Result<Exchange> {
    let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
    let head = format!(
        "POST / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    raw_client::send(&mut stream, &[head.as_bytes()])?;
    let start = Instant::now();
    let mut left = length;
    while left > 0 && !answers(&stream)? {
        let count = piece.min(left);
        raw_client::send(&mut stream, &[&vec![b'x'; count]])?;
        left -= count;
        // The pace is what is tried here.
        std::thread::sleep(BEAT);
    }
    let mut got = raw_client::read_to_end(&mut stream, SOON)?;
    got.took = start.elapsed();
    Ok(got)
}

fn answers(stream: &TcpStream) -> Result<bool> {
    stream.set_nonblocking(true)?;
    let came = match stream.peek(&mut [0; 1]) {
        Ok(_) => true,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    };
    stream.set_nonblocking(false)?;
    Ok(came)
}

fn a_long_upload_at_a_fair_rate_lives_and_a_trickle_does_not(case: &Case) -> Result<()> {
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Answer(ok.to_vec()))?;
    let keys = "timeouts = { read = \"1s\" }\nlimits = { body_rate_min = \"1KiB\" }";
    let gateway = case.gateway(&plain(keys))?;
    let fair = upload(case, 40 * 1024, 1024)?;
    ensure!(fair.status() == 200, "after {:?}: {}", fair.took, fair.text());
    ensure!(fair.took > Duration::from_secs(3), "{:?}", fair.took);
    let trickle = upload(case, 40 * 1024, 10)?;
    ensure!(
        trickle.status() == 408,
        "after {:?}: {}",
        trickle.took,
        trickle.text()
    );
    gateway.counts("request_timeout", 1)
}

fn without_a_rate_the_deadline_has_no_exception(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let keys = "timeouts = { read = \"1s\" }\nlimits = { body_rate_min = \"0\" }";
    let _gateway = case.gateway(&plain(keys))?;
    let got = upload(case, 400 * 1024, 4096)?;
    ensure!(got.status() == 408, "after {:?}: {}", got.took, got.text());
    ensure!(upload(case, 100, 100)?.status() == 200);
    Ok(())
}

fn a_body_that_stands_still_is_given_up(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let gateway = case.gateway(&plain("timeouts = { read = \"60s\", body_idle = \"700ms\" }"))?;
    let request = b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 100\r\n\r\nabc";
    let got = raw_client::exchange(&case.ns, None, local(PORT), &[request], SOON)?;
    ensure!(
        got.status() == 408 && got.end != End::Silent,
        "{:?} {}",
        got.end,
        got.text()
    );
    gateway.counts("request_timeout", 1)
}

/// An answer far beyond what sockets hold.
const LARGE: u64 = 256 << 20;

fn a_client_that_takes_nothing_is_cut_off(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Stream(LARGE))?;
    let gateway = case.gateway(&plain("timeouts = { body_idle = \"1s\" }"))?;
    let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
    raw_client::send(&mut stream, &[b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"])?;
    gateway.counts("answer_idle", 1)?;
    // What was sent already may still be read; it is not the whole, and its end is none in order.
    let mut sink = vec![0; 1 << 20];
    let mut read = 0_u64;
    let end = loop {
        stream.set_read_timeout(Some(SOON))?;
        match stream.read(&mut sink) {
            Ok(0) => break "an end",
            Ok(count) => read += u64::try_from(count)?,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break "a reset",
            Err(error) => return Err(error.into()),
        }
    };
    ensure!(end == "a reset" && read < LARGE, "{end} after {read} bytes");
    ensure!(server.seen.sent() < LARGE, "the server sent all of it");
    Ok(())
}

fn a_slow_reader_at_a_fair_rate_gets_all_of_it(case: &Case) -> Result<()> {
    let size = 24_u64 << 20;
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Stream(size))?;
    let keys = "timeouts = { body_idle = \"1s\" }\nlimits = { body_rate_min = \"64KiB\" }";
    let gateway = case.gateway(&plain(keys))?;
    let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
    let request = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
    raw_client::send(&mut stream, &[request])?;
    let mut sink = vec![0; 512 << 10];
    let mut read = 0_u64;
    loop {
        // The pace is what is tried here: a small part of what the sockets could take.
        std::thread::sleep(BEAT);
        stream.set_read_timeout(Some(SOON))?;
        match stream.read(&mut sink)? {
            0 => break,
            count => read += u64::try_from(count)?,
        }
    }
    ensure!(read > size, "{read} bytes");
    ensure!(gateway.count("answer_idle")? == 0);
    Ok(())
}

fn an_answer_that_takes_too_long_is_cut_off(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Stream(LARGE))?;
    let gateway = case.gateway(&plain("timeouts = { write = \"1s\" }"))?;
    // Whether the client does not read, or the server does not send.
    let mut deaf = raw_client::connect(&case.ns, None, local(PORT))?;
    raw_client::send(&mut deaf, &[b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"])?;
    gateway.counts("write_timeout", 1)?;
    drop(deaf);
    Ok(())
}

fn header_sections_over_a_limit_are_431(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let gateway = case.gateway(&plain("limits = { header_bytes = \"16KiB\", headers = 20 }"))?;
    let ask = |fields: &str| {
        let request = format!("GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n{fields}\r\n");
        raw_client::exchange(&case.ns, None, local(PORT), &[request.as_bytes()], SOON)
    };
    ensure!(ask(&"X: y\r\n".repeat(18))?.status() == 200);
    ensure!(ask(&"X: y\r\n".repeat(19))?.status() == 431);
    ensure!(ask(&format!("X: {}\r\n", "y".repeat(15 << 10)))?.status() == 200);
    ensure!(ask(&format!("X: {}\r\n", "y".repeat(17 << 10)))?.status() == 431);
    ensure!(server.seen.requests().len() == 2);
    gateway.counts("header_too_large", 2)?;
    ensure!(gateway.count("bad_request")? == 0);
    let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n")?;
    ensure!(raw_client::read_to_end(&mut stream, SOON)?.status() == 400);
    gateway.counts("bad_request", 1)
}

fn a_header_that_stops_halfway_is_408_and_silence_is_closed(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let gateway = case.gateway(&plain("timeouts = { read_header = \"700ms\" }"))?;
    let halfway = |bytes: &[u8]| raw_client::exchange(&case.ns, None, local(PORT), &[bytes], SOON);
    // The second might become HTTP/2.
    let begun: [&[u8]; 3] = [b"GET / HTTP/1.1\r\nHost: a.exa", b"P", b"GET / HTTP/1.1\r\n"];
    for bytes in begun {
        let got = halfway(bytes)?;
        let text = got.text();
        ensure!(
            got.status() == 408 && got.end == End::Closed,
            "{:?} {text}",
            got.end
        );
        ensure!(got.fields("connection") == ["close"], "{text}");
        ensure!(
            got.fields("content-length") == [got.body().len().to_string()],
            "{text}"
        );
    }
    gateway.counts("request_timeout", 3)?;
    // After a whole request too, and its answer stands before.
    let mut stream = served(case, "127.0.0.5")?;
    raw_client::send(&mut stream, &[b"GET / HT"])?;
    let got = raw_client::read_to_end(&mut stream, SOON)?;
    ensure!(
        got.status() == 408 && got.end == End::Closed,
        "{:?} {}",
        got.end,
        got.text()
    );
    ensure!(halfway(b"")?.is_shut_out());
    gateway.counts("request_timeout", 5)?;
    ensure!(gateway.count("answers_client_error")? == 4);
    ensure!(server.seen.requests().len() == 1);
    Ok(())
}
