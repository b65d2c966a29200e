//! PROXY protocol v1 and v2, from haproxy and byte by byte; both drivers.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Role};
use sallyport_tests::curl::Curl;
use sallyport_tests::fragments::{
    BACKEND, PORT, backend_url, certificate, entry_point, local, plain, route_all,
};
use sallyport_tests::gateway::find_all;
use sallyport_tests::haproxy::{Forward, Haproxy, Speaks};
use sallyport_tests::nginx::{Nginx, Serves};
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_client::{self, End, Exchange};
use sallyport_tests::raw_relay::Relay;
use sallyport_tests::raw_server::{Behaviour, RawServer};
use sallyport_tests::tls_client::{Offer, TlsClient, outgoing};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

on_both_drivers!(
    haproxys_clients_are_seen_by_the_backend,
    a_required_header_that_is_missing_closes,
    malformed_headers_close,
    a_header_from_an_untrusted_source_is_never_parsed,
    an_untrusted_source_without_header_is_served,
    an_optional_header_may_be_missing,
    headers_split_at_every_byte_are_read,
    a_header_and_a_client_hello_in_one_segment,
    local_and_unspecified_headers_keep_the_peer,
    a_slow_header_is_cut_off,
    every_refusal_is_counted_by_its_reason_in_log_metric_and_status,
    headers_with_fields_and_a_hello_behind_are_read_however_they_are_cut,
    what_a_trusted_header_says_of_tls_and_port_is_told_to_servers,
    an_optional_header_stalls_nobody_for_long,
    sources_are_trusted_by_both_families,
);

const SOON: Duration = Duration::from_secs(5);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V1: &[u8] = b"PROXY TCP4 203.0.113.7 198.51.100.1 4000 8000\r\n";

/// Sources in 127.0.0.0/8 that are not trusted by [`required`].
const UNTRUSTED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));

fn required() -> &'static str {
    "proxy_protocol = { trusted_ips = [\"127.0.0.1/32\", \"::1/128\"] }"
}

/// A v2 header: version and command, family and protocol, then the rest with its length.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap_or(u16::MAX);
    [SIGNATURE, &[command, family], &length.to_be_bytes(), rest].concat()
}

/// A v2 header that says 203.0.113.7:4000 to 198.51.100.1:8000, with a no-op TLV.
fn v2_tcp4() -> Vec<u8> {
    v2(
        0x21,
        0x11,
        &[
            203, 0, 113, 7, 198, 51, 100, 1, 0x0f, 0xa0, 0x1f, 0x40, 0x04, 0, 2, 0, 0,
        ],
    )
}

fn ask(case: &Case, from: Option<IpAddr>, segments: &[&[u8]]) -> Result<Exchange> {
    raw_client::exchange(&case.ns, from, local(PORT), segments, SOON)
}

fn says_client(got: &Exchange, client: &str) -> bool {
    let line = format!("x-forwarded-for: {client}\r\n");
    got.status() == 200 && got.text().to_ascii_lowercase().contains(&line)
}

fn haproxys_clients_are_seen_by_the_backend(case: &Case) -> Result<()> {
    let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)?;
    let forward = |port, speaks| Forward {
        port,
        to: local(PORT),
        speaks,
    };
    let _haproxy = Haproxy::start(&case.ns, &[forward(7001, Speaks::V1), forward(7002, Speaks::V2)])?;
    let _gateway = case.gateway(&plain(required()))?;
    for port in [7001, 7002] {
        let four = Curl::new(&case.ns)
            .from("127.0.0.50".parse()?)
            .get(&format!("http://127.0.0.1:{port}/"))?
            .expect(200)?;
        ensure!(
            four.field("xff").as_deref() == Some("127.0.0.50"),
            "{port}: {}",
            four.text()
        );
        let six = Curl::new(&case.ns)
            .get(&format!("http://[::1]:{port}/"))?
            .expect(200)?;
        ensure!(
            six.field("xff").as_deref() == Some("::1"),
            "{port}: {}",
            six.text()
        );
    }
    Ok(())
}

fn a_required_header_that_is_missing_closes(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let _gateway = case.gateway(&plain(required()))?;
    let got = ask(case, None, &[REQUEST])?;
    ensure!(got.is_shut_out(), "{:?} {}", got.end, got.text());
    ensure!(server.seen.bytes() == 0, "something reached the backend");
    Ok(())
}

fn malformed_headers_close(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let _gateway = case.gateway(&plain(required()))?;
    let long = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200], b"\r\n"].concat();
    let headers = [
        b"PROXY TCP4 203.0.113.7 198.51.100.1 4000\r\n".to_vec(),
        b"PROXY TCP4 203.0.113.300 198.51.100.1 4000 8000\r\n".to_vec(),
        b"PROXY TCP4 203.0.113.7 198.51.100.1 4000 70000\r\n".to_vec(),
        b"PROXY TCP6 203.0.113.7 198.51.100.1 4000 8000\r\n".to_vec(),
        b"PROXY  TCP4 203.0.113.7 198.51.100.1 4000 8000\r\n".to_vec(),
        b"proxy TCP4 203.0.113.7 198.51.100.1 4000 8000\r\n".to_vec(),
        b"PROXY TCP4 203.0.113.7 198.51.100.1 4000 8000\n".to_vec(),
        long,
        v2(0x31, 0x11, &[0; 12]),
        v2(0x22, 0x11, &[0; 12]),
        v2(0x21, 0x11, &[0; 11]),
        v2(0x21, 0x21, &[0; 12]),
        v2(0x21, 0x11, &[0; 4097]),
    ];
    for header in headers {
        let shown = String::from_utf8_lossy(header.get(..60).unwrap_or(&header)).into_owned();
        let got = ask(case, None, &[&[header.as_slice(), REQUEST].concat()])?;
        ensure!(got.is_shut_out(), "{shown:?}: {:?} {}", got.end, got.text());
    }
    ensure!(
        server.seen.bytes() == 0,
        "something reached the backend: {:?}",
        server.seen.requests()
    );
    Ok(())
}

fn a_header_from_an_untrusted_source_is_never_parsed(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let _gateway = case.gateway(&plain(required()))?;
    for header in [V1.to_vec(), v2_tcp4()] {
        let got = ask(case, Some(UNTRUSTED), &[&[header.as_slice(), REQUEST].concat()])?;
        ensure!(
            got.end != End::Silent && matches!(got.status(), 0 | 400),
            "{:?} {}",
            got.end,
            got.text()
        );
    }
    ensure!(
        server.seen.bytes() == 0,
        "something reached the backend: {:?}",
        server.seen.requests()
    );
    Ok(())
}

fn an_untrusted_source_without_header_is_served(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let _gateway = case.gateway(&plain(required()))?;
    let got = ask(case, Some(UNTRUSTED), &[REQUEST])?;
    ensure!(says_client(&got, "127.0.0.9"), "{}", got.text());
    Ok(())
}

fn an_optional_header_may_be_missing(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let body = plain("proxy_protocol = { trusted_ips = [\"127.0.0.1/32\"], mode = \"optional\" }");
    let _gateway = case.gateway(&body)?;
    let without = ask(case, None, &[REQUEST])?;
    ensure!(says_client(&without, "127.0.0.1"), "{}", without.text());
    let with = ask(case, None, &[V1, REQUEST])?;
    ensure!(says_client(&with, "203.0.113.7"), "{}", with.text());
    Ok(())
}

fn headers_split_at_every_byte_are_read(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let _gateway = case.gateway(&plain(required()))?;
    let six = [
        &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7][..],
        &[0; 16],
        &[0x0f, 0xa0, 0x1f, 0x40],
    ]
    .concat();
    for (header, client) in [
        (V1.to_vec(), "203.0.113.7"),
        (v2_tcp4(), "203.0.113.7"),
        (v2(0x21, 0x21, &six), "2001:db8::7"),
    ] {
        let whole = [header.as_slice(), REQUEST].concat();
        for middle in 1..=header.len() {
            let (first, second) = whole.split_at(middle);
            let got = ask(case, None, &[first, second])?;
            ensure!(
                says_client(&got, client),
                "{client} split at {middle}: {:?} {}",
                got.end,
                got.text()
            );
        }
    }
    Ok(())
}

fn a_header_and_a_client_hello_in_one_segment(case: &Case) -> Result<()> {
    let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)?;
    let ca = Authority::new(&case.dir(), "ca")?;
    let server = ca.issue(Role::Server, &["a.example"])?;
    let keys = format!("tls = {{}}\n{}", required());
    let _gateway =
        case.gateway(&(entry_point(&keys) + &route_all(&backend_url()) + &certificate(&server)))?;
    for (port, header) in [(7001, V1.to_vec()), (7002, v2_tcp4())] {
        let _relay = Relay::start(&case.ns, local(port), local(PORT), header)?;
        for flag in ["--http1.1", "--http2", "--tls-max 1.2"] {
            let words: Vec<&str> = flag.split(' ').collect();
            let curl = Curl::new(&case.ns)
                .via(local(port))
                .trust(ca.ca_file())
                .args(&words);
            let answer = curl.get("https://a.example/")?.expect(200)?;
            ensure!(
                answer.field("xff").as_deref() == Some("203.0.113.7"),
                "{port} {flag}: {}",
                answer.text()
            );
        }
    }
    Ok(())
}

fn local_and_unspecified_headers_keep_the_peer(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let _gateway = case.gateway(&plain(required()))?;
    let local_with_junk = v2(0x20, 0x00, &[1, 2, 3, 4, 5]);
    for header in [
        v2(0x20, 0x00, &[]),
        local_with_junk,
        b"PROXY UNKNOWN\r\n".to_vec(),
    ] {
        let got = ask(case, None, &[&header, REQUEST])?;
        ensure!(
            says_client(&got, "127.0.0.1"),
            "{header:?}: {:?} {}",
            got.end,
            got.text()
        );
    }
    Ok(())
}

fn a_slow_header_is_cut_off(case: &Case) -> Result<()> {
    let _gateway = case.gateway(&plain(&format!(
        "{}\ntimeouts = {{ proxy_header = \"500ms\" }}",
        required()
    )))?;
    for start in [&b""[..], &b"PROXY TC"[..], SIGNATURE] {
        let got = raw_client::exchange(&case.ns, None, local(PORT), &[start], SOON)?;
        ensure!(
            got.is_shut_out(),
            "{:?} after {:?}: {}",
            got.end,
            got.took,
            got.text()
        );
    }
    Ok(())
}

/// Where metrics are served.
const METRICS: u16 = 9100;

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    [&[kind][..], &length.to_be_bytes(), value].concat()
}

/// 203.0.113.7:4000 to 198.51.100.1:PORT, then these fields.
fn v2_with(port: u16, fields: &[Vec<u8>]) -> Vec<u8> {
    let mut rest = vec![203, 0, 113, 7, 198, 51, 100, 1, 0x0f, 0xa0];
    rest.extend(port.to_be_bytes());
    rest.extend(fields.concat());
    v2(0x21, 0x11, &rest)
}

/// One header for each reason, and what is told of it.
fn refused() -> Vec<(&'static str, Vec<u8>)> {
    let line = |text: &str| text.as_bytes().to_vec();
    let inet = |field: Vec<u8>| v2_with(8000, &[field]);
    vec![
        ("preamble_missing", REQUEST.to_vec()),
        (
            "preamble_v1_line_too_long",
            [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 100]].concat(),
        ),
        ("preamble_v1_lone_line_break", line("PROXY UNKNOWN\n")),
        (
            "preamble_v1_unknown_protocol",
            line("PROXY UDP4 1.1.1.1 1.1.1.1 1 1\r\n"),
        ),
        (
            "preamble_v1_field_count",
            line("PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n"),
        ),
        (
            "preamble_v1_bad_address",
            line("PROXY TCP4 1.1.1.01 1.1.1.1 1 1\r\n"),
        ),
        (
            "preamble_v1_bad_port",
            line("PROXY TCP4 1.1.1.1 1.1.1.1 01 1\r\n"),
        ),
        ("preamble_v2_bad_version", v2(0x31, 0x11, &[0; 12])),
        ("preamble_v2_bad_command", v2(0x22, 0x11, &[0; 12])),
        ("preamble_v2_bad_family", v2(0x21, 0x13, &[0; 12])),
        ("preamble_v2_too_long", v2(0x21, 0x11, &[0; 4081])),
        ("preamble_v2_addresses_too_short", v2(0x21, 0x11, &[0; 11])),
        ("preamble_v2_field_overrun", inet(vec![0xE0, 0, 9, 1])),
        ("preamble_v2_bad_field", inet(tlv(0x02, b"a\0b"))),
        (
            "preamble_v2_duplicate_field",
            inet([tlv(0x05, b"1"), tlv(0x05, b"2")].concat()),
        ),
        ("preamble_v2_bad_checksum", inet(tlv(0x03, &[1, 2, 3, 4]))),
    ]
}

fn every_refusal_is_counted_by_its_reason_in_log_metric_and_status(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let limits = "timeouts = { proxy_header = \"300ms\", read_header = \"300ms\" }";
    let body = format!(
        "[metrics]\naddress = \"127.0.0.1:{METRICS}\"\n{}",
        plain(&format!("{}\n{limits}", required()))
    );
    let gateway = case.gateway(&body)?;
    let mut reasons: Vec<&str> = Vec::new();
    for (reason, header) in refused() {
        let got = ask(case, None, &[&header])?;
        ensure!(got.is_shut_out(), "{reason}: {:?} {}", got.end, got.text());
        reasons.push(reason);
    }
    for (reason, from, bytes) in [
        ("preamble_untrusted", Some(UNTRUSTED), V1),
        ("preamble_silent", Some(UNTRUSTED), b"PROX"),
        ("preamble_timeout", None, b"PROXY TCP4"),
    ] {
        let got = ask(case, from, &[bytes])?;
        ensure!(got.is_shut_out(), "{reason}: {:?} {}", got.end, got.text());
        reasons.push(reason);
    }
    let (status, log) = (gateway.status()?, gateway.proc.log());
    let page = raw_client::exchange(
        &case.ns,
        None,
        local(METRICS),
        &[b"GET /metrics HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n"],
        SOON,
    )?;
    for reason in &reasons {
        let counted = find_all(&status, reason).first().and_then(|value| value.as_u64());
        ensure!(counted == Some(1), "{reason}: {counted:?} in the status");
        let sample = format!("sallyport_preamble_refused_total{{reason=\"{reason}\"}} 1\n");
        ensure!(
            page.text().contains(&sample),
            "{sample} is not in {}",
            page.text()
        );
        let lines = log
            .lines()
            .filter(|line| line.contains(&format!("reason=\"{reason}\"")));
        ensure!(lines.count() == 1, "{reason} is not once in the log");
    }
    let series = page.text().matches("sallyport_preamble_refused_total{").count();
    ensure!(
        series == reasons.len(),
        "{series} reasons, {} tried",
        reasons.len()
    );
    ensure!(server.seen.bytes() == 0, "something reached the backend");
    Ok(())
}

fn headers_with_fields_and_a_hello_behind_are_read_however_they_are_cut(case: &Case) -> Result<()> {
    let ca = Authority::new(&case.dir(), "ca")?;
    let server = ca.issue(Role::Server, &["a.example"])?;
    let keys = format!("tls = {{}}\n{}", required());
    let _gateway = case.gateway(&(entry_point(&keys) + &certificate(&server)))?;
    let client = TlsClient::new(ca.ca_file(), None, None, Offer::Common)?;
    let hello = outgoing(&mut client.begin("a.example")?)?;
    let tls = [&[1, 0, 0, 0, 0][..], &tlv(0x21, b"TLSv1.3")].concat();
    let fields = [
        tlv(0x02, b"a.example"),
        tlv(0x04, b""),
        tlv(0x20, &tls),
        tlv(0x05, &[7; 16]),
    ];
    for header in [V1.to_vec(), v2_with(443, &fields), v2(0x20, 0, &[0xE0, 0, 1, 9])] {
        let whole = [header.as_slice(), &hello].concat();
        // Up to some bytes into the hello, so that it is cut as well.
        for middle in 1..header.len() + 8 {
            let (first, second) = whole.split_at(middle);
            let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
            raw_client::send(&mut stream, &[first, second])?;
            let begin = raw_client::read_some(&mut stream, SOON)?;
            ensure!(
                begin.bytes.starts_with(&[22, 3, 3]),
                "cut at {middle} of {}: {:?} {:?}",
                header.len(),
                begin.end,
                begin.bytes
            );
        }
    }
    Ok(())
}

fn what_a_trusted_header_says_of_tls_and_port_is_told_to_servers(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let _gateway = case.gateway(&plain(required()))?;
    let ssl = |bits| tlv(0x20, &[bits, 0, 0, 0, 0]);
    let forged: &[u8] =
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: gopher\r\nX-Forwarded-Port: 1\r\nConnection: close\r\n\r\n";
    for (header, proto, port) in [
        (v2_with(443, &[ssl(1)]), "https", 443),
        (v2_with(443, &[ssl(0)]), "http", 443),
        (v2_with(443, &[]), "http", 443),
        // A sender that does not know the port.
        (v2_with(0, &[ssl(7)]), "https", PORT),
        (V1.to_vec(), "http", 8000),
        (v2(0x21, 0x00, &ssl(1)), "https", PORT),
        // What LOCAL carries is not believed.
        (v2(0x20, 0x00, &ssl(1)), "http", PORT),
        (b"PROXY UNKNOWN\r\n".to_vec(), "http", PORT),
    ] {
        let got = ask(case, None, &[&header, forged])?;
        let text = got.text().to_ascii_lowercase();
        for field in [
            format!("x-forwarded-proto: {proto}\r\n"),
            format!("x-forwarded-port: {port}\r\n"),
        ] {
            ensure!(
                got.status() == 200 && text.contains(&field),
                "{field:?} is not in {text}"
            );
        }
    }
    Ok(())
}

fn an_optional_header_stalls_nobody_for_long(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let body = plain(
        "proxy_protocol = { trusted_ips = [\"127.0.0.1/32\"], mode = \"optional\" }\n\
         timeouts = { proxy_header = \"400ms\" }",
    );
    let mut gateway = case.gateway(&body)?;
    // A method that begins as a header does, whole and after a pause longer than the deadline.
    let request: &[u8] = b"PROPFIND / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let whole = ask(case, None, &[request])?;
    ensure!(says_client(&whole, "127.0.0.1"), "{}", whole.text());
    for ahead in [0, 3] {
        let (begin, rest) = request.split_at(ahead);
        let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
        raw_client::send(&mut stream, &[begin])?;
        let silent = raw_client::read_some(&mut stream, Duration::from_millis(900))?;
        ensure!(silent.end == End::Silent, "after {ahead} bytes: {:?}", silent.end);
        raw_client::send(&mut stream, &[rest])?;
        let got = raw_client::read_to_end(&mut stream, SOON)?;
        ensure!(
            says_client(&got, "127.0.0.1"),
            "after {ahead} bytes: {}",
            got.text()
        );
    }
    // Past its mark a header must be one, and in time.
    let before = server.seen.bytes();
    for start in [&b"PROXY "[..], b"PROXY TCP4 1.1.1.1\r\n", SIGNATURE] {
        let got = ask(case, None, &[start])?;
        ensure!(got.is_shut_out(), "{start:?}: {:?} {}", got.end, got.text());
    }
    ensure!(server.seen.bytes() == before, "something reached the backend");
    let checked = gateway.setup().command(&["check"])?;
    let said =
        String::from_utf8_lossy(&checked.stdout).into_owned() + &String::from_utf8_lossy(&checked.stderr);
    ensure!(
        checked.status.success() && said.contains("can forge any address"),
        "{said}"
    );
    gateway.proc.must_run()
}

fn sources_are_trusted_by_both_families(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let body = plain("proxy_protocol = { trusted_ips = [\"::1/128\"] }").replace("127.0.0.1:8000", ":8000");
    let gateway = case.gateway(&body)?;
    let six = SocketAddr::from((Ipv6Addr::LOCALHOST, PORT));
    for header in [V1.to_vec(), v2_tcp4()] {
        let got = raw_client::exchange(&case.ns, None, six, &[&header, REQUEST], SOON)?;
        ensure!(says_client(&got, "203.0.113.7"), "{:?} {}", got.end, got.text());
        let got = raw_client::exchange(&case.ns, None, local(PORT), &[&header, REQUEST], SOON)?;
        ensure!(got.is_shut_out(), "{:?} {}", got.end, got.text());
    }
    let status = gateway.status()?;
    let refused = find_all(&status, "preamble_untrusted")
        .first()
        .and_then(|count| count.as_u64());
    ensure!(refused.context("a counter")? == 2, "{refused:?}");
    Ok(())
}
