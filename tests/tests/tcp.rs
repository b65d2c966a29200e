//! TCP routers: pass-through, TCP over terminated TLS, and bytes in the clear, beside HTTP; both drivers.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Identity, Role};
use sallyport_tests::curl::Curl;
use sallyport_tests::fragments::{
    BACKEND, PORT, backend_url, certificate, entry_point, local, mutual, router, service,
};
use sallyport_tests::gateway::find_all;
use sallyport_tests::hello;
use sallyport_tests::nginx::{Nginx, NginxTls, Serves};
use sallyport_tests::on_both_drivers;
use sallyport_tests::openssl::{SClient, Version, alert};
use sallyport_tests::raw_client::{self, End};
use sallyport_tests::raw_tcp::{Kept, TcpServer};
use sallyport_tests::s_server::SServer;
use sallyport_tests::tls_client::{Offer, Session, TlsClient, in_records, outgoing};
use sallyport_tests::wait;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown};
use std::time::Duration;

on_both_drivers!(
    a_passed_through_handshake_is_the_servers_own,
    passed_through_names_and_https_share_a_port,
    a_hello_cut_at_every_byte_finds_its_router,
    a_hello_in_many_records_shakes_hands_on_every_way,
    a_hello_of_two_names_reaches_nobody,
    unknown_names_are_https_or_closed,
    names_protocols_and_clients_choose_the_router,
    tcp_over_terminated_tls_demands_its_own_certificates,
    protocols_are_those_of_the_rule,
    a_server_may_speak_first_in_the_clear,
    http_keeps_what_no_tcp_router_takes_in_the_clear,
);

const SOON: Duration = Duration::from_secs(5);
const SECOND: u16 = 9001;
const THIRD: u16 = 9002;
/// A client in 127.0.0.0/8 beside the usual one.
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));

/// A TCP router with more keys.
fn tcp_router(name: &str, rule: &str, service: &str, keys: &str) -> String {
    format!("[tcp_routers.{name}]\nrule = \"{rule}\"\nservice = \"{service}\"\n{keys}\n")
}

/// A TCP service at ports of 127.0.0.1, with more keys.
fn tcp_service(name: &str, ports: &[u16], keys: &str) -> String {
    let servers: Vec<String> = ports
        .iter()
        .map(|port| format!("{{ address = \"127.0.0.1:{port}\" }}"))
        .collect();
    format!(
        "[tcp_services.{name}]\nservers = [{}]\n{keys}\n",
        servers.join(", ")
    )
}

fn through(name: &str, rule: &str, service: &str) -> String {
    tcp_router(name, rule, service, "tls = { passthrough = true }")
}

/// HTTPS for `web.example`, served by the backend in the clear.
fn https(server: &Identity) -> String {
    entry_point("tls = {}")
        + &certificate(server)
        + &router("web", "Host(`web.example`)", "web", "")
        + &service("web", &[&backend_url()], "")
}

/// What a server answers to these bytes, read to its end.
fn said(case: &Case, from: Option<IpAddr>, bytes: &[u8]) -> Result<raw_client::Exchange> {
    raw_client::exchange(&case.ns, from, local(PORT), &[bytes], SOON)
}

fn counter(gateway: &sallyport_tests::gateway::Gateway, name: &str) -> Result<u64> {
    let status = gateway.status()?;
    let found = find_all(&status, name);
    found
        .first()
        .and_then(|value| value.as_u64())
        .with_context(|| format!("no counter `{name}`"))
}

fn a_passed_through_handshake_is_the_servers_own(case: &Case) -> Result<()> {
    let ca = Authority::new(&case.dir(), "ca")?;
    let (ours, theirs) = (
        ca.issue(Role::Server, &["web.example"])?,
        ca.issue(Role::Server, &["db.example"])?,
    );
    let _server = SServer::new(&theirs).start(&case.ns, BACKEND)?;
    let body =
        https(&ours) + &through("db", "HostSNI(`db.example`)", "db") + &tcp_service("db", &[BACKEND], "");
    let gateway = case.gateway(&body)?;
    let theirs = std::fs::read_to_string(&theirs.cert)?;
    for version in Version::ALL {
        let outcome = SClient::new(&case.ns, local(PORT), version)
            .sni("DB.example")
            .trust(ca.ca_file())
            .get("db.example")?;
        let shown = outcome.certificate().context("a certificate")?;
        ensure!(
            theirs.starts_with(shown),
            "{version:?}: the certificate is not the server's"
        );
        ensure!(
            outcome.output.contains("HTTP/1.0 200"),
            "{version:?}: {}",
            outcome.output
        );
    }
    ensure!(counter(&gateway, "tls_accepted")? == 0, "the gateway shook hands");
    ensure!(counter(&gateway, "tcp_opened")? == 2, "two tunnels");
    Ok(())
}

fn passed_through_names_and_https_share_a_port(case: &Case) -> Result<()> {
    let ca = Authority::new(&case.dir(), "ca")?;
    let (ours, theirs) = (
        ca.issue(Role::Server, &["web.example"])?,
        ca.issue(Role::Server, &["db.example"])?,
    );
    let _web = Nginx::start(&case.ns, "web", BACKEND, &Serves::Plain)?;
    let tls = NginxTls {
        identity: theirs,
        clients: None,
    };
    let _db = Nginx::start(&case.ns, "db", SECOND, &Serves::Tls(tls))?;
    let body =
        https(&ours) + &through("db", "HostSNI(`db.example`)", "db") + &tcp_service("db", &[SECOND], "");
    let _gateway = case.gateway(&body)?;
    for (host, flag) in [
        ("web", "--http1.1"),
        ("db", "--http1.1"),
        ("web", "--http2"),
        ("db", "--http2"),
        ("db", "--tls-max=1.2"),
    ] {
        let words: Vec<&str> = flag.split('=').collect();
        let curl = Curl::new(&case.ns)
            .via(local(PORT))
            .trust(ca.ca_file())
            .args(&words);
        let answer = curl.get(&format!("https://{host}.example/"))?.expect(200)?;
        ensure!(
            answer.field("name").as_deref() == Some(host),
            "{host} {flag}: {}",
            answer.text()
        );
    }
    Ok(())
}

/// A hello reaches its server byte for byte, wherever it is cut into segments.
fn a_hello_cut_at_every_byte_finds_its_router(case: &Case) -> Result<()> {
    let ca = Authority::new(&case.dir(), "ca")?;
    let kept = Kept::default();
    let keeps = kept.clone();
    let wanted = [hello::record("db.example", &["x"]), b"and what follows".to_vec()].concat();
    let length = wanted.len();
    let _server = TcpServer::start(&case.ns, local(BACKEND), move |mut stream| {
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes)?;
        keeps.push(bytes);
        stream.write_all(b"db")
    })?;
    let _wrong = TcpServer::says(&case.ns, local(SECOND), "wrong")?;
    let body = https(&ca.issue(Role::Server, &["web.example"])?)
        + &through("db", "HostSNI(`db.example`)", "db")
        + &through("any", "HostSNI(`*`)", "wrong")
        + &tcp_service("db", &[BACKEND], "")
        + &tcp_service("wrong", &[SECOND], "");
    let _gateway = case.gateway(&body)?;
    for middle in 1..wanted.len() {
        let (first, second) = wanted.split_at(middle);
        let got = raw_client::exchange(&case.ns, None, local(PORT), &[first, second], SOON)?;
        ensure!(
            got.text() == "db",
            "cut at {middle}: {:?} {}",
            got.end,
            got.text()
        );
    }
    let all = kept.all();
    ensure!(all.len() == wanted.len() - 1, "{} connections", all.len());
    ensure!(all.iter().all(|bytes| *bytes == wanted), "bytes were changed");
    Ok(())
}

/// The hello of a real client in small records: passed through, terminated and as HTTPS.
fn a_hello_in_many_records_shakes_hands_on_every_way(case: &Case) -> Result<()> {
    let ca = Authority::new(&case.dir(), "ca")?;
    let names = ["web.example", "db.example", "in.example"];
    let identity = ca.issue(Role::Server, &names)?;
    let _web = Nginx::start(&case.ns, "web", BACKEND, &Serves::Plain)?;
    let tls = NginxTls {
        identity: identity.clone(),
        clients: None,
    };
    let _db = Nginx::start(&case.ns, "db", SECOND, &Serves::Tls(tls))?;
    let _inside = Nginx::start(&case.ns, "in", THIRD, &Serves::Plain)?;
    let body = https(&identity)
        + &through("db", "HostSNI(`db.example`)", "db")
        + &tcp_router("in", "HostSNI(`in.example`)", "in", "tls = {}")
        + &tcp_service("db", &[SECOND], "")
        + &tcp_service("in", &[THIRD], "");
    let _gateway = case.gateway(&body)?;
    let client = TlsClient::new(ca.ca_file(), None, None, Offer::Usual)?;
    for (name, size) in names
        .into_iter()
        .flat_map(|name| [1, 2, 7, 100, 500].map(|size| (name, size)))
    {
        // The hybrid's share makes the usual hello too long for records of one byte.
        let small = TlsClient::new(ca.ca_file(), None, None, Offer::Common)?;
        let client = if size < 7 { &small } else { &client };
        let mut handshake = client.begin(name)?;
        let mut tcp = raw_client::connect(&case.ns, None, local(PORT))?;
        tcp.write_all(&in_records(&outgoing(&mut handshake)?, size)?)?;
        let mut session = Session::finish(handshake, tcp).with_context(|| format!("{name} in {size}"))?;
        let reply = session.get(name)?;
        let expected = format!("name={}", name.trim_end_matches(".example"));
        ensure!(
            reply.text().lines().any(|line| line == expected),
            "{name} in {size}: {}",
            reply.text()
        );
    }
    Ok(())
}

fn a_hello_of_two_names_reaches_nobody(case: &Case) -> Result<()> {
    let ca = Authority::new(&case.dir(), "ca")?;
    let server = TcpServer::says(&case.ns, local(BACKEND), "reached")?;
    let body = https(&ca.issue(Role::Server, &["web.example"])?)
        + &through("any", "HostSNI(`*`)", "any")
        + &tcp_service("any", &[BACKEND], "");
    let gateway = case.gateway(&body)?;
    let good = hello::record("a.example", &[]);
    ensure!(
        said(case, None, &good)?.text() == "reached",
        "the good one is passed through"
    );
    // The same extension again: type 0, a list of one name.
    let name = [&[0, 0, 0, 14, 0, 12, 0, 0, 9][..], b"b.example"].concat();
    let doubled = hello::with_more(&good, &name);
    for bad in [
        doubled,
        hello::record("a..example", &[]),
        hello::record("\u{fc}.example", &[]),
    ] {
        let got = said(case, None, &bad)?;
        ensure!(
            got.end != End::Silent && !got.text().contains("reached"),
            "{:?} {:?}",
            got.end,
            got.bytes
        );
        ensure!(
            got.bytes.first().is_none_or(|kind| *kind == 21),
            "an alert or nothing: {:?}",
            got.bytes
        );
    }
    ensure!(server.connections() == 1, "a bad hello reached the server");
    ensure!(counter(&gateway, "hello_refused")? == 3, "three were refused");
    Ok(())
}

fn unknown_names_are_https_or_closed(case: &Case) -> Result<()> {
    let ca = Authority::new(&case.dir(), "ca")?;
    let server = TcpServer::says(&case.ns, local(BACKEND), "reached")?;
    let strict = "tls = { options = \"strict\" }\n[tls.options.strict]\nsni_strict = true";
    let clear = "[entry_points.other]\naddress = \"127.0.0.1:8001\"\n";
    let body = entry_point(strict)
        + clear
        + &certificate(&ca.issue(Role::Server, &["web.example"])?)
        + &tcp_router(
            "db",
            "HostSNI(`db.example`)",
            "db",
            "entry_points = [\"web\", \"other\"]\ntls = { passthrough = true }",
        )
        + &tcp_service("db", &[BACKEND], "");
    let gateway = case.gateway(&body)?;
    for version in Version::ALL {
        let refused = SClient::new(&case.ns, local(PORT), version)
            .sni("x.example")
            .get("x.example")?;
        ensure!(
            refused.alert == Some(alert::UNRECOGNIZED_NAME),
            "{:?}",
            refused.errors
        );
    }
    let other = |bytes: &[u8]| raw_client::exchange(&case.ns, None, local(8001), &[bytes], SOON);
    ensure!(
        other(&hello::record("db.example", &[]))?.text() == "reached",
        "in the clear too"
    );
    for closed in [
        hello::record("x.example", &[]),
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
    ] {
        let got = other(&closed)?;
        ensure!(got.is_shut_out(), "{:?} {}", got.end, got.text());
    }
    ensure!(server.connections() == 1, "an unknown name reached the server");
    ensure!(counter(&gateway, "tcp_no_router")? == 2, "both were counted");
    Ok(())
}

fn names_protocols_and_clients_choose_the_router(case: &Case) -> Result<()> {
    let ca = Authority::new(&case.dir(), "ca")?;
    let words = ["exact", "label", "pattern", "protocol", "client", "any"];
    let ports = 9100..;
    let servers: Result<Vec<TcpServer>> = words
        .iter()
        .zip(ports.clone())
        .map(|(word, port)| TcpServer::says(&case.ns, local(port), word))
        .collect();
    let _servers = servers?;
    let rules = [
        "HostSNI(`a.example`)",
        "HostSNI(`*.example`)",
        "HostSNIRegexp(`^p[0-9]+\\\\.test$`)",
        "ALPN(`postgresql`)",
        "HostSNI(`c.test`) && ClientIP(`127.0.0.9`)",
        "HostSNI(`*`)",
    ];
    let mut body = https(&ca.issue(Role::Server, &["web.example"])?);
    for ((word, rule), port) in words.iter().zip(rules).zip(ports) {
        body += &(through(word, rule, word) + &tcp_service(word, &[port], ""));
    }
    // The host of HTTP would be the wildcard's.
    let body = body.replace("Host(`web.example`)", "Host(`web.test`)");
    let _gateway = case.gateway(&body)?;
    let check = |from: Option<IpAddr>, name: &str, protocols: &[&str], expected: &str| {
        let got = said(case, from, &hello::record(name, protocols))?;
        ensure!(
            got.text() == expected,
            "{name} {protocols:?}: {:?} {}",
            got.end,
            got.text()
        );
        Ok(())
    };
    check(None, "a.example", &[], "exact")?;
    check(None, "A.EXAMPLE.", &[], "exact")?;
    check(None, "b.example", &[], "label")?;
    check(None, "c.b.example", &[], "any")?;
    check(None, "p12.test", &[], "pattern")?;
    check(None, "xp12.test", &[], "any")?;
    check(None, "q.test", &["h2", "postgresql"], "protocol")?;
    check(None, "q.test", &["postgresql2"], "any")?;
    check(Some(OTHER), "c.test", &[], "client")?;
    check(None, "c.test", &[], "any")?;
    check(None, "10.0.0.1", &[], "any")?;
    let http = said(case, None, &hello::record("web.test", &[]))?;
    ensure!(
        http.bytes.first() == Some(&21),
        "HTTP's own name is HTTP's: {:?}",
        http.bytes
    );
    Ok(())
}

fn tcp_over_terminated_tls_demands_its_own_certificates(case: &Case) -> Result<()> {
    let (ca, clients, strangers) = (
        Authority::new(&case.dir(), "ca")?,
        Authority::new(&case.dir(), "clients")?,
        Authority::new(&case.dir(), "strangers")?,
    );
    let server = ca.issue(Role::Server, &["web.example", "db.example"])?;
    let _web = Nginx::start(&case.ns, "web", BACKEND, &Serves::Plain)?;
    let _db = Nginx::start(&case.ns, "db", SECOND, &Serves::Plain)?;
    let body = https(&server)
        + &tcp_router("db", "HostSNI(`db.example`)", "db", "tls = { options = \"own\" }")
        + &tcp_service("db", &[SECOND], "")
        + &mutual("own", clients.ca_file(), "");
    let gateway = case.gateway(&body)?;
    let (friend, stranger) = (
        clients.issue(Role::Client, &["friend"])?,
        strangers.issue(Role::Client, &["stranger"])?,
    );
    for version in Version::ALL {
        let ask = |name: &str, who: Option<&Identity>| {
            let client = SClient::new(&case.ns, local(PORT), version)
                .sni(name)
                .trust(ca.ca_file());
            let client = match who {
                Some(identity) => client.identity(identity),
                None => client,
            };
            client.get(name)
        };
        let allowed = ask("db.example", Some(&friend))?;
        ensure!(
            allowed.has_status(200) && allowed.output.contains("name=db"),
            "{}",
            allowed.output
        );
        let missing = ask("db.example", None)?;
        ensure!(!missing.has_answer(), "{version:?}: served without a certificate");
        ensure!(
            missing.alert == Some(alert::CERTIFICATE_REQUIRED),
            "{version:?}: {:?}",
            missing.alert
        );
        let unknown = ask("db.example", Some(&stranger))?;
        ensure!(
            !unknown.has_answer() && unknown.alert == Some(alert::UNKNOWN_CA),
            "{version:?}: {:?}",
            unknown.alert
        );
        let web = ask("web.example", None)?;
        ensure!(
            web.has_status(200) && web.output.contains("name=web"),
            "{version:?}: {}",
            web.output
        );
    }
    ensure!(
        counter(&gateway, "tcp_opened")? == 2,
        "only the friend was relayed"
    );
    Ok(())
}

fn protocols_are_those_of_the_rule(case: &Case) -> Result<()> {
    let ca = Authority::new(&case.dir(), "ca")?;
    let server = ca.issue(Role::Server, &["web.example", "db.example", "in.example"])?;
    let _db = Nginx::start(&case.ns, "db", SECOND, &Serves::Plain)?;
    let body = https(&server)
        + &tcp_router(
            "db",
            "HostSNI(`db.example`) && ALPN(`postgresql`)",
            "db",
            "tls = {}",
        )
        + &tcp_router("in", "HostSNI(`in.example`)", "db", "tls = {}")
        + &tcp_service("db", &[SECOND], "");
    let _gateway = case.gateway(&body)?;
    let ask = |name: &str, offer: &str| {
        SClient::new(&case.ns, local(PORT), Version::Tls13)
            .sni(name)
            .args(&["-alpn", offer])
            .get(name)
    };
    let named = ask("db.example", "h2,postgresql")?;
    ensure!(
        named.output.contains("ALPN protocol: postgresql"),
        "{}",
        named.output
    );
    ensure!(named.output.contains("name=db"), "{}", named.output);
    let none = ask("in.example", "h2,http/1.1")?;
    ensure!(none.output.contains("No ALPN negotiated"), "{}", none.output);
    ensure!(none.output.contains("name=db"), "{}", none.output);
    // Without the protocol the name is HTTP's, where nobody knows it.
    let http = ask("db.example", "http/1.1")?;
    ensure!(http.has_status(404), "{}", http.output);
    Ok(())
}

fn a_server_may_speak_first_in_the_clear(case: &Case) -> Result<()> {
    let _server = TcpServer::says(&case.ns, local(BACKEND), "220 hello\r\n")?;
    let body = entry_point("")
        + &tcp_router("mail", "HostSNI(`*`)", "mail", "entry_points = [\"web\"]")
        + &tcp_service("mail", &[BACKEND], "");
    let _gateway = case.gateway(&body)?;
    let mut client = raw_client::connect(&case.ns, None, local(PORT))?;
    let got = raw_client::read_to_end(&mut client, SOON)?;
    ensure!(got.text() == "220 hello\r\n", "{:?} {}", got.end, got.text());
    Ok(())
}

fn http_keeps_what_no_tcp_router_takes_in_the_clear(case: &Case) -> Result<()> {
    let _web = Nginx::start(&case.ns, "web", BACKEND, &Serves::Plain)?;
    let _taken = TcpServer::echo(&case.ns, local(SECOND))?;
    let body = entry_point("")
        + &router("web", "PathPrefix(`/`)", "web", "")
        + &service("web", &[&backend_url()], "")
        + &tcp_router(
            "taken",
            "ClientIP(`127.0.0.9`)",
            "taken",
            "entry_points = [\"web\"]",
        )
        + &tcp_service("taken", &[SECOND], "");
    let _gateway = case.gateway(&body)?;
    let answer = Curl::new(&case.ns)
        .get(&format!("http://{}/", local(PORT)))?
        .expect(200)?;
    ensure!(
        answer.field("name").as_deref() == Some("web"),
        "{}",
        answer.text()
    );
    let mut taken = raw_client::connect(&case.ns, Some(OTHER), local(PORT))?;
    raw_client::send(&mut taken, &[b"GET / HTTP/1.1\r\n\r\n"])?;
    taken.shutdown(Shutdown::Write)?;
    let got = raw_client::read_to_end(&mut taken, SOON)?;
    ensure!(
        got.text() == "GET / HTTP/1.1\r\n\r\n",
        "{:?} {}",
        got.end,
        got.text()
    );
    wait::until(SOON, "the tunnel is gone", || {
        Ok(find_all(&_gateway.status()?, "tcp_closed")
            .first()
            .and_then(|value| value.as_u64())
            .filter(|count| *count == 1))
    })?;
    Ok(())
}
