//! caddy on either side of the gateway, by every version that it speaks; both drivers.

use anyhow::{Context, Result, ensure};
use sallyport_tests::caddy;
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Role};
use sallyport_tests::curl::{Answer, Curl};
use sallyport_tests::fragments::{
    BACKEND, PORT, backend_url, certificate, entry_point, local, plain, route_all, router, service,
};
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_client::{self, End};
use sallyport_tests::raw_server::{Behaviour, RawServer};
use sallyport_tests::script::{GRPC_CLIENT, GRPC_SERVER, WS_CLIENT, WS_SERVER};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

on_both_drivers!(
    caddy_serves_by_every_version,
    caddy_asks_by_every_version,
    websockets_pass_with_caddy_on_either_side,
    grpc_passes_with_caddy_on_either_side,
    events_pass_at_once_with_caddy_on_either_side,
);

const SOON: Duration = Duration::from_secs(20);
/// caddy's port where it stands before or behind the gateway.
const CADDY: u16 = 8100;
const VERSIONS: [&str; 2] = ["--http1.1", "--http2-prior-knowledge"];
const ECHO: &str = "\trespond /body \"{http.request.body}\"\n\trespond \"proto={http.request.proto}\nmethod={http.request.method}\n\
    uri={http.request.uri}\nhost={http.request.hostport}\nxff={http.request.header.X-Forwarded-For}\n\
    via={http.request.header.Via}\n\"";

fn is(answer: &Answer, key: &str, expected: &str) -> Result<()> {
    let found = answer.field(key);
    ensure!(
        found.as_deref() == Some(expected),
        "`{key}` is {found:?}, expected `{expected}`: {}",
        answer.text()
    );
    Ok(())
}

/// A body of a size that takes many reads, in a file for curl.
fn large(case: &Case) -> Result<(String, Vec<u8>)> {
    let file = case.dir().join("large");
    let bytes = b"abcdefghij0123456789\n".repeat(20_000);
    std::fs::write(&file, &bytes)?;
    Ok((format!("@{}", file.display()), bytes))
}

fn caddy_serves_by_every_version(case: &Case) -> Result<()> {
    let ca = Authority::new(&case.dir(), "ca")?;
    let identity = ca.issue(Role::Server, &["caddy.example"])?;
    let (cert, key) = (identity.cert.display(), identity.key.display());
    let sites = caddy::site(CADDY, ECHO)
        + &format!("https://:8143 {{\n\tbind 127.0.0.1\n\ttls {cert} {key}\n{ECHO}\n}}\n");
    let _caddy = caddy::start(&case.ns, &[CADDY, 8143], &sites)?;
    let mut body = entry_point("");
    for (name, url, keys) in [
        ("h1", "http://127.0.0.1:8100", ""),
        ("h2c", "h2c://127.0.0.1:8100", ""),
        ("h2", "https://127.0.0.1:8143", "servers_transport = \"in\""),
    ] {
        body += &router(name, &format!("Host(`{name}.example`)"), name, "");
        body += &service(name, &[url], keys);
    }
    body += &format!(
        "[servers_transports.in]\nserver_name = \"caddy.example\"\nroot_cas = [\"{}\"]\n",
        ca.ca_file().display()
    );
    let _gateway = case.gateway(&body)?;
    let (file, bytes) = large(case)?;
    for own in VERSIONS {
        for (name, proto) in [("h1", "HTTP/1.1"), ("h2c", "HTTP/2.0"), ("h2", "HTTP/2.0")] {
            let curl = || Curl::new(&case.ns).via(local(PORT)).arg(own);
            let url = format!("http://{name}.example");
            let answer = curl().get(&format!("{url}/a%2Fb/c?x=%20&y"))?.expect(200)?;
            is(&answer, "proto", proto)?;
            is(&answer, "method", "GET")?;
            is(&answer, "uri", "/a%2Fb/c?x=%20&y")?;
            is(&answer, "host", &format!("{name}.example"))?;
            is(&answer, "xff", "127.0.0.1")?;
            ensure!(answer.field("via").is_some_and(|via| !via.is_empty()), "no `Via`");
            let answer = curl()
                .args(&["--data-binary", &file])
                .get(&format!("{url}/body"))?
                .expect(200)?;
            ensure!(
                answer.body == bytes,
                "{own} to {name}: {} bytes came",
                answer.body.len()
            );
            let answer = curl().arg("-I").get(&format!("{url}/"))?.expect(200)?;
            ensure!(answer.body.is_empty() || answer.exit == 0, "{}", answer.complaint);
        }
    }
    Ok(())
}

fn caddy_asks_by_every_version(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let ca = Authority::new(&case.dir(), "ca")?;
    let identity = ca.issue(Role::Server, &["a.example"])?;
    let trusted = "forwarded_headers = { trusted_ips = [\"127.0.0.1/32\"] }";
    let secure = format!(
        "[entry_points.secure]\naddress = \"127.0.0.1:8443\"\nas_default = true\ntls = {{}}\n{trusted}\n"
    );
    let body = entry_point(trusted) + &secure + &route_all(&backend_url()) + &certificate(&identity);
    let _gateway = case.gateway(&body)?;
    let tls = format!(
        "\t\ttransport http {{\n\t\t\ttls_server_name a.example\n\t\t\ttls_trusted_ca_certs {}\n\t\t}}",
        ca.ca_file().display()
    );
    // As a front that has a host of its own: a gateway behind TLS goes by the name of the handshake.
    let tls = format!("\t\theader_up Host a.example\n{tls}");
    let sites = caddy::proxy(8101, "http://127.0.0.1:8000", "")
        + &caddy::proxy(8102, "h2c://127.0.0.1:8000", "")
        + &caddy::proxy(8103, "https://127.0.0.1:8443", &tls);
    let _caddy = caddy::start(&case.ns, &[8101, 8102, 8103], &sites)?;
    let (file, bytes) = large(case)?;
    for own in VERSIONS {
        for port in [8101, 8102, 8103] {
            let curl = || Curl::new(&case.ns).from([127, 0, 0, 9].into()).arg(own);
            let url = format!("http://127.0.0.1:{port}");
            let before = server.seen.requests().len();
            // What a stranger says of itself, caddy takes away; what caddy says, the gateway believes.
            let asked = curl()
                .header("X-Forwarded-For: 6.6.6.6")
                .header("Hub-Uplink: forged");
            asked.get(&format!("{url}/a%2Fb?x=%20"))?.expect(200)?;
            let seen = server.seen.requests();
            let seen = seen.get(before).context("nothing reached the server")?;
            let seen = seen.to_ascii_lowercase();
            ensure!(seen.starts_with("get /a%2fb?x=%20 http/1.1\r\n"), "{seen}");
            ensure!(
                seen.contains("x-forwarded-for: 127.0.0.9, 127.0.0.1\r\n"),
                "{seen}"
            );
            ensure!(!seen.contains("forged") && !seen.contains("6.6.6.6"), "{seen}");
            let answer = curl().args(&["--data-binary", &file]).get(&url)?.expect(200)?;
            ensure!(
                answer.body.ends_with(&bytes),
                "{own} by {port}: {} bytes came",
                answer.body.len()
            );
        }
    }
    Ok(())
}

fn websockets_pass_with_caddy_on_either_side(case: &Case) -> Result<()> {
    let server = WS_SERVER.serve(&case.ns, BACKEND, &[])?;
    let behind = "[entry_points.by]\naddress = \"127.0.0.1:8001\"\n\
        [routers.by]\nrule = \"PathPrefix(`/`)\"\nentry_points = [\"by\"]\nservice = \"by\"\n";
    let body = plain("") + behind + &service("by", &["http://127.0.0.1:8101"], "");
    let _gateway = case.gateway(&body)?;
    let sites =
        caddy::proxy(CADDY, "http://127.0.0.1:8000", "") + &caddy::proxy(8101, "http://127.0.0.1:9000", "");
    let _caddy = caddy::start(&case.ns, &[CADDY, 8101], &sites)?;
    for port in [CADDY, 8001] {
        let said = WS_CLIENT.run(&case.ns, &["ws://a.example", "-", &port.to_string()])?;
        ensure!(said.trim() == "ok", "{port}: {said}");
    }
    sallyport_tests::wait::until(SOON, "both closed as the client said", || {
        Ok((server.log().matches("closed 4001").count() == 2).then_some(()))
    })
}

fn grpc_passes_with_caddy_on_either_side(case: &Case) -> Result<()> {
    let server = GRPC_SERVER.serve(&case.ns, BACKEND, &[])?;
    let behind = "[entry_points.by]\naddress = \"127.0.0.1:8001\"\n\
        [routers.by]\nrule = \"PathPrefix(`/`)\"\nentry_points = [\"by\"]\nservice = \"by\"\n";
    let body = entry_point("")
        + &route_all("h2c://127.0.0.1:9000")
        + behind
        + &service("by", &["h2c://127.0.0.1:8101"], "");
    let _gateway = case.gateway(&body)?;
    let sites =
        caddy::proxy(CADDY, "h2c://127.0.0.1:8000", "") + &caddy::proxy(8101, "h2c://127.0.0.1:9000", "");
    let _caddy = caddy::start(&case.ns, &[CADDY, 8101], &sites)?;
    for port in [CADDY, 8001] {
        let said = GRPC_CLIENT.run(&case.ns, &[&format!("127.0.0.1:{port}"), "-", "kinds"])?;
        ensure!(said.trim() == "ok", "{port}: {said}");
    }
    server.wait_for_log("called unary mine", SOON)
}

fn events_pass_at_once_with_caddy_on_either_side(case: &Case) -> Result<()> {
    let server = case.ns.enter(|| Ok(TcpListener::bind(local(BACKEND))?))?;
    let behind = "[entry_points.by]\naddress = \"127.0.0.1:8001\"\n\
        [routers.by]\nrule = \"PathPrefix(`/`)\"\nentry_points = [\"by\"]\nservice = \"by\"\n";
    let body = plain("") + behind + &service("by", &["http://127.0.0.1:8101"], "");
    let _gateway = case.gateway(&body)?;
    let sites =
        caddy::proxy(CADDY, "http://127.0.0.1:8000", "") + &caddy::proxy(8101, "http://127.0.0.1:9000", "");
    let _caddy = caddy::start(&case.ns, &[CADDY, 8101], &sites)?;
    for port in [CADDY, 8001] {
        let mut client = raw_client::connect(&case.ns, None, local(port))?;
        client.write_all(b"GET /events HTTP/1.1\r\nHost: a.example\r\nAccept: text/event-stream\r\n\r\n")?;
        let mut stream = raw_client::accept(&server, SOON)?;
        raw_client::read_head(&mut stream, SOON)?;
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes())?;
        client.set_read_timeout(Some(SOON))?;
        let mut got = String::new();
        // The next one is sent when this one has come.
        for number in 0..5 {
            let event = format!("data: {number}\n\n");
            stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes())?;
            while !got.contains(&event) {
                let mut bytes = [0_u8; 1024];
                let count = client
                    .read(&mut bytes)
                    .with_context(|| format!("{port}: `{got}`"))?;
                ensure!(count > 0, "{port}: the answer ended: `{got}`");
                got += &String::from_utf8_lossy(bytes.get(..count).unwrap_or_default());
            }
        }
        // Whoever leaves is missed at the other end.
        drop(client);
        let end = raw_client::read_to_end(&mut stream, SOON)?;
        ensure!(end.end != End::Silent, "{port}: the server was not told");
    }
    Ok(())
}
