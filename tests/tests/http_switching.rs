//! Requests that leave HTTP, in every combination of versions, with peers that know how; both drivers.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Role};
use sallyport_tests::fragments::{
    BACKEND, PORT, backend_url, certificate, entry_point, local, plain, route_all,
};
use sallyport_tests::on_every_driver;
use sallyport_tests::raw_client::{self, End};
use sallyport_tests::raw_server::{Behaviour, RawServer};
use sallyport_tests::script::{Interpreter, Script, WS_CLIENT, WS_SERVER};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

on_every_driver!(
    websockets_pass_over_http1,
    websockets_pass_over_tls_both_ways,
    an_http2_client_reaches_an_http1_websocket,
    an_http2_client_reaches_an_http2_websocket,
    an_http1_client_reaches_an_http2_websocket,
    a_server_without_extended_connect_is_502,
    a_refusal_to_switch_is_an_answer_and_the_connection_goes_on,
    what_came_early_is_not_lost,
    either_end_is_passed_on,
    a_quiet_websocket_ends_and_a_drain_ends_it,
    only_one_protocol_that_is_no_http_is_passed_on,
    a_101_for_something_else_is_502,
    connect_is_501,
    a_websocket_has_a_line_in_the_access_log,
    websockets_pass_through_middlewares_that_stand_around,
);

const SOON: Duration = Duration::from_secs(10);
const H2_CLIENT: Script = Script {
    name: "h2-connect-client",
    interpreter: Interpreter::Node,
    text: include_str!("../scripts/h2_connect_client.js"),
};
const H2_SERVER: Script = Script {
    name: "h2-connect-server",
    interpreter: Interpreter::Node,
    text: include_str!("../scripts/h2_connect_server.js"),
};
const ASK: &[u8] = b"GET /chat HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const GRANTED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

fn to(url: &str) -> String {
    entry_point("") + &route_all(url)
}

fn websockets_pass_over_http1(case: &Case) -> Result<()> {
    let server = WS_SERVER.serve(&case.ns, BACKEND, &[])?;
    let _gateway = case.gateway(&plain(""))?;
    let said = WS_CLIENT.run(&case.ns, &["ws://a.example", "-", &PORT.to_string()])?;
    ensure!(said.trim() == "ok", "{said}");
    server.wait_for_log("closed 4001", SOON)
}

fn websockets_pass_over_tls_both_ways(case: &Case) -> Result<()> {
    let _server = WS_SERVER.serve(&case.ns, BACKEND, &[])?;
    let ca = Authority::new(&case.dir(), "ca")?;
    let identity = ca.issue(Role::Server, &["a.example"])?;
    // The inner gateway would agree on HTTP/2; the outer one must not ask for it.
    let inner = "[entry_points.inner]\naddress = \"127.0.0.1:8001\"\ntls = {}\n\
        [routers.inner]\nrule = \"PathPrefix(`/`)\"\nservice = \"backend\"\nentry_points = [\"inner\"]\n";
    let outer = format!(
        "[routers.outer]\nrule = \"PathPrefix(`/`)\"\nservice = \"outer\"\n\
         [services.outer]\nservers = [{{ url = \"https://127.0.0.1:8001\" }}]\nservers_transport = \"in\"\n\
         [servers_transports.in]\nserver_name = \"a.example\"\nroot_cas = [\"{}\"]\n\
         [services.backend]\nservers = [{{ url = \"{}\" }}]\n",
        ca.ca_file().display(),
        backend_url()
    );
    let body = entry_point("tls = {}") + &outer + inner + &certificate(&identity);
    let _gateway = case.gateway(&body)?;
    let file = ca.ca_file().display().to_string();
    let said = WS_CLIENT.run(&case.ns, &["wss://a.example", &file, &PORT.to_string()])?;
    ensure!(said.trim() == "ok", "{said}");
    Ok(())
}

fn an_http2_client_reaches_an_http1_websocket(case: &Case) -> Result<()> {
    let server = WS_SERVER.serve(&case.ns, BACKEND, &[])?;
    let _gateway = case.gateway(&plain(""))?;
    let url = format!("http://127.0.0.1:{PORT}");
    let said = H2_CLIENT.run(&case.ns, &[&url, "/chat", "frames"])?;
    for line in ["status 200", "protocol chat", "echoed", "closed"] {
        ensure!(said.lines().any(|said| said == line), "no `{line}`: {said}");
    }
    server.wait_for_log("asked /chat key", SOON)?;
    // The client's end of the stream is an end without a closing frame.
    server.wait_for_log("closed 1006", SOON)?;
    let said = H2_CLIENT.run(&case.ns, &[&url, "/refused", "frames"])?;
    ensure!(said.contains("status 403"), "{said}");
    Ok(())
}

fn an_http2_client_reaches_an_http2_websocket(case: &Case) -> Result<()> {
    let server = H2_SERVER.serve(&case.ns, BACKEND, &[])?;
    let _gateway = case.gateway(&to(&format!("h2c://127.0.0.1:{BACKEND}")))?;
    let url = format!("http://127.0.0.1:{PORT}");
    let said = H2_CLIENT.run(&case.ns, &[&url, "/chat", "bytes"])?;
    ensure!(said.contains("status 200") && said.contains("echoed"), "{said}");
    server.wait_for_log("CONNECT websocket /chat a.example keyless", SOON)?;
    let said = H2_CLIENT.run(&case.ns, &[&url, "/refused", "bytes"])?;
    ensure!(said.contains("status 403"), "{said}");
    Ok(())
}

fn an_http1_client_reaches_an_http2_websocket(case: &Case) -> Result<()> {
    let server = H2_SERVER.serve(&case.ns, BACKEND, &[])?;
    let _gateway = case.gateway(&to(&format!("h2c://127.0.0.1:{BACKEND}")))?;
    let mut client = raw_client::connect(&case.ns, None, local(PORT))?;
    client.write_all(ASK)?;
    let head = raw_client::read_head(&mut client, SOON)?
        .text()
        .to_ascii_lowercase();
    ensure!(head.starts_with("http/1.1 101 "), "{head}");
    for field in [
        "upgrade: websocket",
        "connection: upgrade",
        "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=",
    ] {
        ensure!(head.contains(field), "no `{field}`: {head}");
    }
    client.write_all(b"bytes")?;
    ensure!(raw_client::read_exactly(&mut client, 5, SOON)? == b"bytes");
    drop(client);
    server.wait_for_log("closed", SOON)
}

fn a_server_without_extended_connect_is_502(case: &Case) -> Result<()> {
    let server = H2_SERVER.serve(&case.ns, BACKEND, &["plain"])?;
    let _gateway = case.gateway(&to(&format!("h2c://127.0.0.1:{BACKEND}")))?;
    let mut client = raw_client::connect(&case.ns, None, local(PORT))?;
    client.write_all(ASK)?;
    let got = raw_client::read_head(&mut client, SOON)?;
    ensure!(got.status() == 502, "{}", got.text());
    ensure!(!server.log().contains("CONNECT"), "{}", server.log());
    Ok(())
}

fn a_refusal_to_switch_is_an_answer_and_the_connection_goes_on(case: &Case) -> Result<()> {
    let answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Answer(answer.to_vec()))?;
    let _gateway = case.gateway(&plain(""))?;
    let mut client = raw_client::connect(&case.ns, None, local(PORT))?;
    for _ in 0..3 {
        client.write_all(ASK)?;
        let got = raw_client::read_answer(&mut client, SOON)?;
        ensure!(
            got.status() == 403 && got.text().ends_with("no"),
            "{}",
            got.text()
        );
    }
    client.write_all(b"GET /plain HTTP/1.1\r\nHost: a.example\r\n\r\n")?;
    ensure!(raw_client::read_answer(&mut client, SOON)?.status() == 403);
    let seen = server.seen.requests();
    let asked = seen
        .first()
        .map(|request| request.to_ascii_lowercase())
        .unwrap_or_default();
    for field in [
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-key: dghlihnhbxbszsbub25jzq==",
    ] {
        ensure!(asked.contains(field), "no `{field}`: {asked}");
    }
    ensure!(
        seen.last()
            .is_some_and(|last| !last.to_ascii_lowercase().contains("upgrade")),
        "{seen:?}"
    );
    Ok(())
}

/// A server that takes one connection, and hands it over with the request that it read.
struct One(TcpListener);

impl One {
    fn listen(case: &Case) -> Result<One> {
        Ok(One(case.ns.enter(|| Ok(TcpListener::bind(local(BACKEND))?))?))
    }

    fn granted(&self, answer: &[u8]) -> Result<(TcpStream, String)> {
        let mut stream = raw_client::accept(&self.0, SOON)?;
        let asked = raw_client::read_head(&mut stream, SOON)?.text();
        stream.write_all(answer)?;
        Ok((stream, asked))
    }
}

/// A client and a server that are joined.
fn joined(case: &Case, server: &One) -> Result<(TcpStream, TcpStream)> {
    let mut client = raw_client::connect(&case.ns, None, local(PORT))?;
    client.write_all(ASK)?;
    let (stream, _) = server.granted(GRANTED)?;
    let head = raw_client::read_head(&mut client, SOON)?;
    ensure!(head.status() == 101, "{}", head.text());
    Ok((client, stream))
}

fn what_came_early_is_not_lost(case: &Case) -> Result<()> {
    let server = One::listen(case)?;
    let _gateway = case.gateway(&plain(""))?;
    let mut client = raw_client::connect(&case.ns, None, local(PORT))?;
    client.write_all(&[ASK, b"client early"].concat())?;
    let (mut stream, _) = server.granted(&[GRANTED, b"server early"].concat())?;
    ensure!(raw_client::read_exactly(&mut stream, 12, SOON)? == b"client early");
    let mut head = raw_client::read_head(&mut client, SOON)?.bytes;
    while !head.ends_with(b"server early") {
        head.extend(raw_client::read_exactly(&mut client, 1, SOON)?);
    }
    Ok(())
}

fn either_end_is_passed_on(case: &Case) -> Result<()> {
    let server = One::listen(case)?;
    let _gateway = case.gateway(&plain(""))?;
    let (client, mut stream) = joined(case, &server)?;
    drop(client);
    let end = raw_client::read_to_end(&mut stream, SOON)?;
    ensure!(
        end.end != End::Silent && end.took < Duration::from_secs(2),
        "{end:?}"
    );
    let (mut client, stream) = joined(case, &server)?;
    drop(stream);
    let end = raw_client::read_to_end(&mut client, SOON)?;
    ensure!(
        end.end != End::Silent && end.took < Duration::from_secs(2),
        "{end:?}"
    );
    // One that ends its side may be answered still.
    let (mut client, mut stream) = joined(case, &server)?;
    client.write_all(b"last")?;
    client.shutdown(std::net::Shutdown::Write)?;
    ensure!(raw_client::read_to_end(&mut stream, SOON)?.bytes == b"last");
    stream.write_all(b"word")?;
    drop(stream);
    ensure!(raw_client::read_to_end(&mut client, SOON)?.bytes == b"word");
    Ok(())
}

fn a_quiet_websocket_ends_and_a_drain_ends_it(case: &Case) -> Result<()> {
    let server = One::listen(case)?;
    let gateway = case.gateway(&plain("timeouts = { idle = \"1s\", read = \"500ms\" }"))?;
    let (mut client, mut stream) = joined(case, &server)?;
    // Longer than `read`, which is for HTTP, and than `idle` without a pause as long.
    for _ in 0..8 {
        client.write_all(b"x")?;
        ensure!(raw_client::read_exactly(&mut stream, 1, SOON)? == b"x");
        std::thread::sleep(Duration::from_millis(200));
    }
    let end = raw_client::read_to_end(&mut client, SOON)?;
    ensure!(end.end == End::Closed, "{end:?}");
    drop(gateway);
    let mut gateway = case.gateway(&plain("timeouts = { idle = \"60s\" }"))?;
    let (mut client, _stream) = joined(case, &server)?;
    gateway.stop()?;
    let end = raw_client::read_to_end(&mut client, SOON)?;
    ensure!(end.end != End::Silent, "{end:?}");
    Ok(())
}

fn only_one_protocol_that_is_no_http_is_passed_on(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let _gateway = case.gateway(&plain(""))?;
    let ask = |fields: &str, passed: bool| -> Result<()> {
        let request = format!("GET / HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n\r\n");
        let mut client = raw_client::connect(&case.ns, None, local(PORT))?;
        client.write_all(request.as_bytes())?;
        ensure!(
            raw_client::read_answer(&mut client, SOON)?.status() == 200,
            "{fields}"
        );
        let seen = server
            .seen
            .requests()
            .pop()
            .unwrap_or_default()
            .to_ascii_lowercase();
        ensure!(seen.contains("\r\nupgrade:") == passed, "{fields}: {seen}");
        Ok(())
    };
    ask("Connection: Upgrade\r\nUpgrade: other/1", true)?;
    ask(
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
        false,
    )?;
    ask("Connection: Upgrade\r\nUpgrade: websocket, h2c", false)?;
    ask("Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c", false)?;
    ask("Connection: Upgrade\r\nUpgrade: TLS/1.0", false)?;
    ask("Upgrade: websocket", false)
}

fn a_101_for_something_else_is_502(case: &Case) -> Result<()> {
    let server = One::listen(case)?;
    let _gateway = case.gateway(&plain(""))?;
    let mut client = raw_client::connect(&case.ns, None, local(PORT))?;
    client.write_all(ASK)?;
    let other = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\nhello";
    let (mut stream, _) = server.granted(other)?;
    let got = raw_client::read_answer(&mut client, SOON)?;
    ensure!(
        got.status() == 502 && !got.text().contains("hello"),
        "{}",
        got.text()
    );
    ensure!(raw_client::read_to_end(&mut stream, SOON)?.end != End::Silent);
    Ok(())
}

fn connect_is_501(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let _gateway = case.gateway(&plain(""))?;
    let request = b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\nhello";
    let got = raw_client::exchange(&case.ns, None, local(PORT), &[request], SOON)?;
    ensure!(got.status() == 501 && got.end == End::Closed, "{got:?}");
    ensure!(server.seen.connections() == 0);
    Ok(())
}

fn a_websocket_has_a_line_in_the_access_log(case: &Case) -> Result<()> {
    let server = One::listen(case)?;
    let file = case.dir().join("access.log");
    let log = format!("[access_log]\npath = \"{}\"\n", file.display());
    let _gateway = case.gateway(&(plain("") + &log))?;
    let (mut client, mut stream) = joined(case, &server)?;
    client.write_all(b"four")?;
    ensure!(raw_client::read_exactly(&mut stream, 4, SOON)? == b"four");
    stream.write_all(b"threes")?;
    ensure!(raw_client::read_exactly(&mut client, 6, SOON)? == b"threes");
    ensure!(
        std::fs::read_to_string(&file)?.is_empty(),
        "a line before the end"
    );
    drop((client, stream));
    sallyport_tests::wait::until(SOON, "the line", || {
        let text = std::fs::read_to_string(&file)?;
        let whole = [
            "\"status\":101",
            "\"bytes_in\":4",
            "\"bytes_out\":6",
            "\"path\":\"/chat\"",
        ];
        Ok(whole.iter().all(|part| text.contains(part)).then_some(()))
    })
    .with_context(|| std::fs::read_to_string(&file).unwrap_or_default())
}

fn websockets_pass_through_middlewares_that_stand_around(case: &Case) -> Result<()> {
    let server = WS_SERVER.serve(&case.ns, BACKEND, &[])?;
    let route = "[routers.all]\nrule = \"PathPrefix(`/`)\"\nservice = \"backend\"\n\
        middlewares = [\"compressed\", \"again\", \"bounded\", \"breaker\"]\n\
        [middlewares.compressed.compress]\n[middlewares.again.retry]\nattempts = 2\n\
        [middlewares.bounded.in_flight]\namount = 10\n\
        [middlewares.breaker.circuit_breaker]\nexpression = \"NetworkErrorRatio() > 0.5\"\n";
    let services = format!(
        "[services.backend]\nservers = [{{ url = \"{}\" }}]\n",
        backend_url()
    );
    let _gateway = case.gateway(&(entry_point("") + route + &services))?;
    let said = WS_CLIENT.run(&case.ns, &["ws://a.example", "-", &PORT.to_string()])?;
    ensure!(said.trim() == "ok", "{said}");
    server.wait_for_log("closed 4001", SOON)?;
    let said = H2_CLIENT.run(
        &case.ns,
        &[&format!("http://127.0.0.1:{PORT}"), "/chat", "frames"],
    )?;
    ensure!(said.contains("echoed"), "{said}");
    Ok(())
}
