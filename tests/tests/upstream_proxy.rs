//! PROXY headers to servers: who is told what, and that no connection with a header serves two clients; both drivers.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Role};
use sallyport_tests::curl::Curl;
use sallyport_tests::fragments::{BACKEND, PORT, certificate, entry_point, local, mutual, router, service};
use sallyport_tests::gateway::Gateway;
use sallyport_tests::h2load::{self, Protocol};
use sallyport_tests::haproxy_receiver;
use sallyport_tests::nginx::{Nginx, NginxTls, Serves};
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_client;
use sallyport_tests::raw_proxied::{Connection, Proxied};
use sallyport_tests::wait;
use std::collections::BTreeMap;
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

on_both_drivers!(
    nginx_and_haproxy_read_both_versions,
    nginx_reads_the_header_in_front_of_tls_and_http2,
    haproxy_verifies_the_checksum_and_takes_the_facts,
    an_address_that_was_asserted_to_us_is_passed_on,
    what_a_sender_in_front_asserts_of_its_client_is_passed_on,
    clients_never_share_a_connection_and_it_ends_with_theirs,
    streams_of_one_http2_client_share_its_connections,
    a_client_certificate_is_told_with_its_common_name,
    a_reload_and_an_idle_time_end_a_connection_of_ones_own,
);

const SOON: Duration = Duration::from_secs(5);
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";

/// Everything to the backend at `scheme`, with these keys of the transport.
fn body(entry: &str, scheme: &str, keys: &str) -> String {
    let url = format!("{scheme}://127.0.0.1:{BACKEND}");
    let routes = router("all", "PathPrefix(`/`)", "backend", "")
        + &service("backend", &[&url], "servers_transport = \"t\"");
    entry_point(entry) + &routes + &format!("[servers_transports.t]\n{keys}\n")
}

fn get_from(case: &Case, from: IpAddr) -> Result<sallyport_tests::curl::Answer> {
    Curl::new(&case.ns)
        .from(from)
        .get(&format!("http://127.0.0.1:{PORT}/"))?
        .expect(200)
}

fn starts(told: Option<String>, with: &str) -> Result<()> {
    let told = told.unwrap_or_default();
    ensure!(told.starts_with(with), "`{told}` does not start with `{with}`");
    Ok(())
}

fn nginx_and_haproxy_read_both_versions(case: &Case) -> Result<()> {
    let from: IpAddr = "127.0.0.50".parse()?;
    let versions = [
        "\"v1\"",
        "\"v2\"",
        "{ version = \"v2\", tlvs = [\"crc32c\", \"unique_id\", \"alpn\", \"authority\", \"ssl\"] }",
    ];
    for version in versions {
        let body = body("", "http", &format!("proxy_protocol = {version}"));
        {
            let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::Proxied)?;
            let _gateway = case.gateway(&body)?;
            let answer = get_from(case, from)?;
            starts(answer.field("pp"), "127.0.0.50 ").context(version)?;
            ensure!(
                answer.field("ppserver").as_deref() == Some(&format!("127.0.0.1 {PORT}")),
                "{}",
                answer.text()
            );
        }
        let _haproxy = haproxy_receiver::start(&case.ns, BACKEND)?;
        let _gateway = case.gateway(&body)?;
        let answer = get_from(case, from)?;
        starts(answer.field("src"), "127.0.0.50 ").context(version)?;
        starts(answer.field("dst"), &format!("127.0.0.1 {PORT}")).context(version)?;
    }
    Ok(())
}

fn nginx_reads_the_header_in_front_of_tls_and_http2(case: &Case) -> Result<()> {
    let ca = Authority::new(&case.dir(), "ca")?;
    let tls = NginxTls {
        identity: ca.issue(Role::Server, &["127.0.0.1"])?,
        clients: None,
    };
    let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::ProxiedTls(tls))?;
    let keys = format!(
        "root_cas = [\"{}\"]\nproxy_protocol = \"v2\"",
        ca.ca_file().display()
    );
    let _gateway = case.gateway(&body("", "https", &keys))?;
    for from in ["127.0.0.50", "127.0.0.51"] {
        let answer = get_from(case, from.parse()?)?;
        starts(answer.field("pp"), from)?;
        starts(answer.field("proto"), "HTTP/2.0")?;
    }
    Ok(())
}

fn haproxy_verifies_the_checksum_and_takes_the_facts(case: &Case) -> Result<()> {
    let _haproxy = haproxy_receiver::start(&case.ns, BACKEND)?;
    let ca = Authority::new(&case.dir(), "ca")?;
    let own = ca.issue(Role::Server, &["a.example"])?;
    let keys = "proxy_protocol = { version = \"v2\", tlvs = [\"authority\", \"unique_id\", \"crc32c\"] }";
    let _gateway = case.gateway(&(body("tls = {}", "http", keys) + &certificate(&own)))?;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let answer = Curl::new(&case.ns)
            .trust(ca.ca_file())
            .via(local(PORT))
            .get(&format!("https://a.example:{PORT}/"))?
            .expect(200)?;
        ensure!(
            answer.field("authority").as_deref() == Some("a.example"),
            "{}",
            answer.text()
        );
        ids.push(answer.field("id").unwrap_or_default());
    }
    ensure!(
        ids.iter().all(|id| id.len() == 32) && ids.first() != ids.last(),
        "{ids:?}"
    );
    Ok(())
}

fn an_address_that_was_asserted_to_us_is_passed_on(case: &Case) -> Result<()> {
    let backend = Proxied::start(&case.ns, local(BACKEND))?;
    let entry = "proxy_protocol = { trusted_ips = [\"127.0.0.1/32\"] }";
    let _gateway = case.gateway(&body(entry, "http", "proxy_protocol = \"v1\""))?;
    for (header, expected) in [
        (
            "PROXY TCP4 203.0.113.7 198.51.100.1 4000 443\r\n",
            "PROXY TCP4 203.0.113.7 198.51.100.1 4000 443\r\n",
        ),
        (
            "PROXY TCP6 2001:db8::7 2001:db8::1 4000 443\r\n",
            "PROXY TCP6 2001:db8::7 2001:db8::1 4000 443\r\n",
        ),
    ] {
        let segment = [header.as_bytes(), GET].concat();
        let mut client = raw_client::connect(&case.ns, None, local(PORT))?;
        raw_client::send(&mut client, &[&segment])?;
        ensure!(raw_client::read_head(&mut client, SOON)?.status() == 200);
        let told = backend.connections().pop().context("no connection")?.header;
        ensure!(
            told == expected.as_bytes(),
            "{:?}",
            String::from_utf8_lossy(&told)
        );
    }
    Ok(())
}

/// A field of a version 2 header.
fn field(kind: u8, value: &[u8]) -> Result<Vec<u8>> {
    let length = u16::try_from(value.len())?.to_be_bytes();
    Ok([&[kind], &length[..], value].concat())
}

fn what_a_sender_in_front_asserts_of_its_client_is_passed_on(case: &Case) -> Result<()> {
    let backend = Proxied::start(&case.ns, local(BACKEND))?;
    let entry = "proxy_protocol = { trusted_ips = [\"127.0.0.1/32\"] }";
    let keys =
        "proxy_protocol = { version = \"v2\", tlvs = [\"authority\", \"alpn\", \"ssl\", \"unique_id\"] }";
    let _gateway = case.gateway(&body(entry, "http", keys))?;
    let tls = [
        &[7, 0, 0, 0, 0][..],
        &field(0x21, b"TLSv1.2")?,
        &field(0x22, b"someone")?,
    ]
    .concat();
    let fields = [
        field(0x02, b"x.example")?,
        field(0x01, b"h2")?,
        field(0x20, &tls)?,
        field(0x05, b"lb-1")?,
    ]
    .concat();
    let addresses = [203, 0, 113, 7, 198, 51, 100, 1, 0x0f, 0xa0, 0x01, 0xbb];
    let block = [&addresses[..], &fields].concat();
    let length = u16::try_from(block.len())?.to_be_bytes();
    let header = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11"[..], &length, &block].concat();
    let mut client = raw_client::connect(&case.ns, None, local(PORT))?;
    raw_client::send(&mut client, &[&[header.as_slice(), GET].concat()])?;
    ensure!(raw_client::read_head(&mut client, SOON)?.status() == 200);
    let told = backend.connections().pop().context("no connection")?.header;
    ensure!(told == header, "{told:?} is not {header:?}");
    Ok(())
}

/// The line of a version 1 header from a client socket.
fn line_of(client: &TcpStream) -> Result<Vec<u8>> {
    let (from, to) = (client.local_addr()?, client.peer_addr()?);
    let (source, destination) = (from.ip(), to.ip());
    let (from, to) = (from.port(), to.port());
    Ok(format!("PROXY TCP4 {source} {destination} {from} {to}\r\n").into_bytes())
}

fn ask(client: &mut TcpStream) -> Result<()> {
    raw_client::send(client, &[GET])?;
    let answer = raw_client::read_answer(client, SOON)?;
    ensure!(answer.status() == 200, "{}", answer.text());
    Ok(())
}

/// The connections to the backend that began with this header.
fn of(backend: &Proxied, header: &[u8]) -> Vec<Connection> {
    let all = backend.connections().into_iter();
    all.filter(|connection| connection.header == header).collect()
}

fn clients_never_share_a_connection_and_it_ends_with_theirs(case: &Case) -> Result<()> {
    let backend = Proxied::start(&case.ns, local(BACKEND))?;
    // One worker, so that every connection could be taken by every client.
    let setup = case.setup()?.with("workers = 2", "workers = 1");
    let _gateway = setup.start(&body("", "http", "proxy_protocol = \"v1\""))?;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(raw_client::connect(&case.ns, None, local(PORT))?);
    }
    for _ in 0..3 {
        for client in &mut clients {
            ask(client)?;
        }
    }
    for client in &clients {
        let own = of(&backend, &line_of(client)?);
        let [only] = own.as_slice() else {
            anyhow::bail!("{} connections for one client", own.len());
        };
        ensure!(only.requests.len() == 3 && !only.closed, "{only:?}");
    }
    ensure!(backend.connections().len() == 4);
    let leaving = clients.pop().context("four clients")?;
    let line = line_of(&leaving)?;
    drop(leaving);
    wait::until(SOON, "the end of the client's connection to the server", || {
        Ok(of(&backend, &line).iter().all(|one| one.closed).then_some(()))
    })?;
    let open = backend.connections().iter().filter(|one| !one.closed).count();
    ensure!(open == 3, "{open} are open");
    // And nobody else gets what it left.
    let mut late = raw_client::connect(&case.ns, None, local(PORT))?;
    ask(&mut late)?;
    ensure!(of(&backend, &line_of(&late)?).len() == 1);
    Ok(())
}

fn streams_of_one_http2_client_share_its_connections(case: &Case) -> Result<()> {
    let backend = Proxied::start(&case.ns, local(BACKEND))?;
    let setup = case.setup()?.with("workers = 2", "workers = 1");
    let _gateway = setup.start(&body("", "http", "proxy_protocol = \"v2\""))?;
    let counts = h2load::run(
        &case.ns,
        &format!("http://127.0.0.1:{PORT}/"),
        Protocol::Http2,
        400,
        4,
    )?;
    ensure!(counts.ok == 400, "{counts:?}");
    let mut requests = BTreeMap::new();
    for connection in backend.connections() {
        *requests.entry(connection.header).or_insert(0) += connection.requests.len();
    }
    // A header a client; each client made a fourth of the requests, over far fewer connections.
    ensure!(requests.values().eq(&[100, 100, 100, 100]), "{requests:?}");
    let connections = backend.connections().len();
    ensure!((4..=40).contains(&connections), "{connections} connections");
    Ok(())
}

fn a_client_certificate_is_told_with_its_common_name(case: &Case) -> Result<()> {
    let backend = Proxied::start(&case.ns, local(BACKEND))?;
    let ca = Authority::new(&case.dir(), "ca")?;
    let (own, client) = (
        ca.issue(Role::Server, &["a.example"])?,
        ca.issue(Role::Client, &["someone.example"])?,
    );
    let keys = "proxy_protocol = { version = \"v2\", tlvs = [\"ssl\", \"alpn\"] }";
    let configuration =
        body("tls = { options = \"m\" }", "http", keys) + &certificate(&own) + &mutual("m", ca.ca_file(), "");
    let _gateway = case.gateway(&configuration)?;
    Curl::new(&case.ns)
        .trust(ca.ca_file())
        .identity(&client)
        .via(local(PORT))
        .get(&format!("https://a.example:{PORT}/"))?
        .expect(200)?;
    let header = backend.connections().pop().context("no connection")?.header;
    let facts = header.get(28..).context("no facts")?;
    let holds = |bytes: &[u8]| facts.windows(bytes.len()).any(|window| window == bytes);
    // Over TLS, with a certificate of this connection and of its session, verified.
    ensure!(holds(&[7, 0, 0, 0, 0, 0x21]), "{facts:?}");
    ensure!(holds(b"\x21\0\x07TLSv1.3"), "{facts:?}");
    ensure!(holds(b"\x22\0\x0fsomeone.example"), "{facts:?}");
    ensure!(holds(b"\x01\0\x02h2"), "{facts:?}");
    Ok(())
}

fn closed(backend: &Proxied, count: usize, what: &str) -> Result<()> {
    wait::until(SOON, what, || {
        let seen = backend.connections();
        Ok((seen.iter().filter(|one| one.closed).count() == count).then_some(()))
    })
}

fn a_reload_and_an_idle_time_end_a_connection_of_ones_own(case: &Case) -> Result<()> {
    let backend = Proxied::start(&case.ns, local(BACKEND))?;
    let gateway: Gateway = case.gateway(&body("", "http", "proxy_protocol = \"v1\""))?;
    let mut client = raw_client::connect(&case.ns, None, local(PORT))?;
    ask(&mut client)?;
    let dialled = "proxy_protocol = \"v1\"\ntimeouts = { dial = \"7s\" }";
    gateway.setup().write(&body("", "http", dialled))?;
    gateway.proc.signal(Signal::SIGHUP)?;
    closed(&backend, 1, "the end of the older configuration's connection")?;
    ask(&mut client)?;
    let seen = of(&backend, &line_of(&client)?);
    ensure!(seen.len() == 2, "{seen:?}");
    let idle = "proxy_protocol = \"v1\"\ntimeouts = { idle = \"1s\" }";
    gateway.setup().write(&body("", "http", idle))?;
    gateway.proc.signal(Signal::SIGHUP)?;
    closed(&backend, 2, "the end of the older configuration's connection")?;
    ask(&mut client)?;
    closed(&backend, 3, "the end of an idle connection")?;
    ask(&mut client)
}
