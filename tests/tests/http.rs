//! Requests and bodies through the gateway over HTTP/1.1 and HTTP/2, both drivers.

use anyhow::{Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Role};
use sallyport_tests::curl::Curl;
use sallyport_tests::fragments::{
    BACKEND, PORT, backend_url, certificate, entry_point, local, plain, route_all,
};
use sallyport_tests::h2load::{self, Protocol};
use sallyport_tests::nginx::{Nginx, Serves};
use sallyport_tests::on_every_driver;
use sallyport_tests::raw_client::{self, End};
use sallyport_tests::raw_server::{Behaviour, RawServer};
use sallyport_tests::wait;
use std::net::SocketAddr;
use std::time::Duration;

on_every_driver!(
    http1_get_reaches_nginx,
    http2_get_reaches_nginx_over_tls,
    five_thousand_requests_have_no_error,
    bodies_arrive_byte_for_byte,
    chunked_bodies_pass_both_ways,
    answers_without_a_body_end,
    upstream_connections_are_pooled,
    an_address_without_host_serves_both_families,
    a_client_that_does_not_read_holds_the_backend_back,
    a_backend_that_does_not_read_holds_the_client_back,
);

const SOON: Duration = Duration::from_secs(10);

fn http1_get_reaches_nginx(case: &Case) -> Result<()> {
    let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)?;
    let _gateway = case.gateway(&plain(""))?;
    let answer = Curl::new(&case.ns)
        .arg("--http1.1")
        .get(&format!("http://127.0.0.1:{PORT}/a?b=c"))?
        .expect(200)?;
    let saw = |key: &str| answer.field(key).unwrap_or_default();
    ensure!(
        answer.version == "1.1" && saw("name") == "n" && saw("uri") == "/a?b=c",
        "{}",
        answer.text()
    );
    ensure!(
        saw("method") == "GET" && saw("host") == "127.0.0.1" && saw("xff") == "127.0.0.1",
        "{}",
        answer.text()
    );
    Ok(())
}

/// An entry point with TLS, certificate for `a.example`, all to the backend.
fn tls_body(case: &Case) -> Result<(Authority, String)> {
    let ca = Authority::new(&case.dir(), "ca")?;
    let server = ca.issue(Role::Server, &["a.example"])?;
    Ok((
        ca,
        entry_point("tls = {}") + &route_all(&backend_url()) + &certificate(&server),
    ))
}

fn http2_get_reaches_nginx_over_tls(case: &Case) -> Result<()> {
    let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)?;
    let (ca, body) = tls_body(case)?;
    let _gateway = case.gateway(&body)?;
    for (flag, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let curl = Curl::new(&case.ns).via(local(PORT)).trust(ca.ca_file()).arg(flag);
        let answer = curl.get("https://a.example/x")?.expect(200)?;
        ensure!(
            answer.version == version,
            "asked for {version}, got {}",
            answer.version
        );
        ensure!(
            answer.field("host").as_deref() == Some("a.example"),
            "{}",
            answer.text()
        );
        ensure!(
            answer.field("xfproto").as_deref() == Some("https"),
            "{}",
            answer.text()
        );
    }
    Ok(())
}

fn five_thousand_requests_have_no_error(case: &Case) -> Result<()> {
    let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)?;
    let (_ca, body) = tls_body(case)?;
    let plain = "[entry_points.clear]\naddress = \"127.0.0.1:8001\"\nas_default = true\n";
    let _gateway = case.gateway(&format!("{body}{plain}"))?;
    for (url, protocol) in [
        ("http://127.0.0.1:8001/", Protocol::Http1),
        ("https://127.0.0.1:8000/", Protocol::Http1),
        ("https://127.0.0.1:8000/", Protocol::Http2),
    ] {
        let counts = h2load::run(&case.ns, url, protocol, 5000, 32)?;
        ensure!(
            (counts.ok, counts.failed) == (5000, 0),
            "{url} {protocol:?}: {counts:?}"
        );
    }
    Ok(())
}

fn bodies_arrive_byte_for_byte(case: &Case) -> Result<()> {
    let nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)?;
    let (ca, body) = tls_body(case)?;
    let _gateway = case.gateway(&body)?;
    let content: Vec<u8> = (0_u32..4 << 20)
        .flat_map(|word| word.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let file = case.dir().join("16MiB");
    std::fs::write(&file, &content)?;
    for flag in ["--http1.1", "--http2"] {
        let url = format!("https://a.example/files/{}", flag.trim_start_matches('-'));
        let curl = || Curl::new(&case.ns).via(local(PORT)).trust(ca.ca_file()).arg(flag);
        curl()
            .arg("-T")
            .arg(file.display().to_string())
            .get(&url)?
            .expect(201)?;
        let stored = std::fs::read(nginx.files().join(flag.trim_start_matches('-')))?;
        ensure!(stored == content, "{flag}: the upload differs");
        let back = curl().get(&url)?.expect(200)?;
        ensure!(back.body == content, "{flag}: the download differs");
    }
    Ok(())
}

fn chunked_bodies_pass_both_ways(case: &Case) -> Result<()> {
    let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n";
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Answer(answer.to_vec()))?;
    let _gateway = case.gateway(&plain(""))?;
    let url = format!("http://127.0.0.1:{PORT}/");
    let curl = Curl::new(&case.ns).args(&["-H", "Transfer-Encoding: chunked", "--data-binary", "hello-body"]);
    let got = curl.get(&url)?.expect(200)?;
    ensure!(got.text() == "abcdefg", "{}", got.text());
    let request = server.seen.requests().pop().unwrap_or_default();
    ensure!(
        request.contains("hello-body"),
        "the body did not arrive: {request}"
    );
    ensure!(
        !request.to_ascii_lowercase().contains("content-length:"),
        "two framings: {request}"
    );
    // A body with its length written, after `100 Continue`.
    let curl = Curl::new(&case.ns).args(&["-H", "Expect: 100-continue", "--data-binary", "0123456789"]);
    curl.get(&url)?.expect(200)?;
    let request = server.seen.requests().pop().unwrap_or_default();
    ensure!(request.ends_with("\r\n\r\n0123456789"), "{request}");
    Ok(())
}

fn answers_without_a_body_end(case: &Case) -> Result<()> {
    let head = b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 5\r\n\r\n";
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Answer(head.to_vec()))?;
    let _gateway = case.gateway(&plain(""))?;
    let url = format!("http://127.0.0.1:{PORT}/");
    // Twice over one connection: the second answer shows that the first ended where it should.
    let twice = Curl::new(&case.ns)
        .arg(url.as_str())
        .arg("-o")
        .arg("/dev/null")
        .get(&url)?
        .expect(304)?;
    ensure!(
        twice.exit == 0 && twice.header("etag").as_deref() == Some("\"x\""),
        "{twice:?}"
    );
    let nothing = Curl::new(&case.ns).arg("-I").get(&url)?.expect(304)?;
    ensure!(nothing.exit == 0, "{nothing:?}");
    Ok(())
}

fn upstream_connections_are_pooled(case: &Case) -> Result<()> {
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Answer(ok.to_vec()))?;
    let _gateway = case.gateway(&plain(""))?;
    for _ in 0..20 {
        Curl::new(&case.ns)
            .get(&format!("http://127.0.0.1:{PORT}/"))?
            .expect(200)?;
    }
    let (requests, connections) = (server.seen.requests().len(), server.seen.connections());
    // At most one for each of the two workers, since no two requests overlap.
    ensure!(
        requests == 20 && connections <= 2,
        "{requests} requests over {connections} connections"
    );
    Ok(())
}

fn an_address_without_host_serves_both_families(case: &Case) -> Result<()> {
    let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)?;
    let body = format!(
        "[entry_points.web]\naddress = \":{PORT}\"\nas_default = true\n{}",
        route_all(&backend_url())
    );
    let _gateway = case.gateway(&body)?;
    for address in ["127.0.0.1", "::1"] {
        let at = SocketAddr::new(address.parse()?, PORT);
        let answer = Curl::new(&case.ns).get(&format!("http://{at}/"))?.expect(200)?;
        // A v4 client of a v6 socket is still a v4 client.
        ensure!(
            answer.field("xff").as_deref() == Some(address),
            "{}",
            answer.text()
        );
    }
    Ok(())
}

fn a_client_that_does_not_read_holds_the_backend_back(case: &Case) -> Result<()> {
    let size: u64 = 512 << 20;
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Stream(size))?;
    let gateway = case.gateway(&plain(""))?;
    let before = gateway.proc.resident_kib()?;
    let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
    raw_client::send(&mut stream, &[b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"])?;
    ensure!(raw_client::read_head(&mut stream, SOON)?.status() == 200);
    let quiet = Duration::from_millis(500);
    let sent = wait::until_steady(SOON, quiet, "the backend to be held back", || server.seen.sent())?;
    let resident = gateway.proc.resident_kib()?;
    // The kernel's socket buffers of two connections may hold much; the gateway may not.
    ensure!(
        sent < size,
        "the backend could send all to a client that reads nothing ({before} to {resident} KiB)"
    );
    let grown = resident.saturating_sub(before);
    ensure!(grown < 16 << 10, "the gateway grew by {grown} KiB");
    // It goes on where it was held.
    let more = raw_client::read_to_end(&mut stream, Duration::from_secs(2))?;
    ensure!(
        !more.bytes.is_empty() && more.end != End::Reset,
        "nothing more came: {:?}",
        more.end
    );
    ensure!(server.seen.sent() > sent, "the backend was not let go on");
    Ok(())
}

fn a_backend_that_does_not_read_holds_the_client_back(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Deaf)?;
    let gateway = case.gateway(&plain("timeouts = { read = \"0s\" }"))?;
    let before = gateway.proc.resident_kib()?;
    let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
    raw_client::send(
        &mut stream,
        &[b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 536870912\r\n\r\n"],
    )?;
    let taken = fill(&mut stream, 512 << 20)?;
    ensure!(
        taken < 64 << 20,
        "the gateway took {taken} bytes for a backend that reads nothing"
    );
    let grown = gateway.proc.resident_kib()?.saturating_sub(before);
    ensure!(grown < 16 << 10, "the gateway grew by {grown} KiB");
    Ok(())
}

/// Writes until the peer takes nothing for half a second; the bytes taken.
fn fill(stream: &mut std::net::TcpStream, limit: usize) -> Result<usize> {
    use std::io::{ErrorKind, Write};
    stream.set_write_timeout(Some(Duration::from_millis(500)))?;
    let chunk = [b'y'; 64 * 1024];
    let mut taken = 0;
    while taken < limit {
        match stream.write(&chunk) {
            Ok(count) => taken += count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(taken)
}
