//! PROXY headers of real senders: haproxy with every option that it has, nginx; trusted and not, IPv4 and IPv6.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Role};
use sallyport_tests::curl::Curl;
use sallyport_tests::fragments::{BACKEND, PORT, backend_url, certificate, local, route_all};
use sallyport_tests::gateway::{Gateway, find_all};
use sallyport_tests::haproxy::Haproxy;
use sallyport_tests::nginx::{Nginx, Serves};
use sallyport_tests::nginx_stream;
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_server::{Behaviour, RawServer};
use sallyport_tests::wait;
use std::time::Duration;

on_both_drivers!(
    haproxy_passes_tls_through_behind_every_kind_of_header,
    haproxy_ends_tls_and_says_so,
    haproxys_health_checks_are_its_own,
    nginx_passes_tls_through_behind_its_header,
    nginx_ends_tls_and_says_nothing_of_it,
    senders_that_are_not_trusted_are_shut_out,
);

const SOON: Duration = Duration::from_secs(5);
/// Of haproxy or nginx.
const SENDER: u16 = 7001;

/// An entry point on all addresses with these keys, all to the backend.
fn body(keys: &str) -> String {
    format!(
        "[entry_points.web]\naddress = \":{PORT}\"\nas_default = true\n{keys}\n\
         proxy_protocol = {{ trusted_ips = [\"127.0.0.1/32\", \"::1/128\"] }}\n{}",
        route_all(&backend_url())
    )
}

/// A counter of `status`.
fn counted(gateway: &Gateway, code: &str) -> Result<u64> {
    let status = gateway.status()?;
    let found = find_all(&status, code).first().and_then(|value| value.as_u64());
    found.with_context(|| format!("no counter `{code}` in {status}"))
}

/// The line of the log about the header of a client.
fn header_line(gateway: &Gateway, client: &str) -> Result<String> {
    let marker = format!("client={client}:");
    wait::until(SOON, "the line about the header", || {
        let log = gateway.proc.log();
        let found = log
            .lines()
            .rfind(|line| line.contains("proxy header") && line.contains(&marker));
        Ok(found.map(str::to_owned))
    })
}

fn haproxy_passes_tls_through_behind_every_kind_of_header(case: &Case) -> Result<()> {
    let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)?;
    let ca = Authority::new(&case.dir(), "ca")?;
    let server = ca.issue(Role::Server, &["a.example"])?;
    let gateway = case.gateway(&(body("tls = {}") + &certificate(&server)))?;
    let senders = [
        (7001, "send-proxy"),
        (7002, "send-proxy-v2"),
        (7003, "send-proxy-v2 proxy-v2-options crc32c,unique-id"),
        (7004, "send-proxy-v2-ssl"),
    ];
    let sections: Vec<String> = senders
        .iter()
        .map(|(port, send)| {
            // Whatever family the client comes by, the header crosses both.
            let to = if port % 2 == 0 { "127.0.0.1" } else { "::1" };
            format!(
                "listen l{port}\n  unique-id-format connection-%ci:%cp\n  bind 0.0.0.0:{port}\n  \
                 bind [::]:{port} v6only\n  server gateway {to}:{PORT} {send}\n"
            )
        })
        .collect();
    let _haproxy = Haproxy::start_with(&case.ns, &senders.map(|(port, _)| port), &sections.concat())?;
    for (port, send) in senders {
        for (host, source) in [("127.0.0.1", "127.0.0.50"), ("[::1]", "::1")] {
            let curl = Curl::new(&case.ns).from(source.parse()?).trust(ca.ca_file());
            let curl = curl.arg("--connect-to").arg(format!("::{host}:{port}"));
            let answer = curl.get("https://a.example/")?.expect(200)?;
            let said = ["xff", "xfproto", "xfport"].map(|key| answer.field(key).unwrap_or_default());
            ensure!(
                said == [source.to_owned(), "https".to_owned(), port.to_string()],
                "{send} from {source}: {said:?}"
            );
        }
    }
    let line = header_line(&gateway, "[::1]")?;
    ensure!(
        line.contains("tls=false"),
        "haproxy saw no TLS of its own: {line}"
    );
    let log = gateway.proc.log();
    ensure!(
        log.contains("unique_id=\"connection-127.0.0.50:"),
        "no line holds the identifier"
    );
    Ok(())
}

fn haproxy_ends_tls_and_says_so(case: &Case) -> Result<()> {
    let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)?;
    let ca = Authority::new(&case.dir(), "ca")?;
    let server = ca.issue(Role::Server, &["a.example"])?;
    // A subject that would forge a line of the log, and fields in it.
    let client = ca.issue_called("eve\nlevel=error\" authority=b.example \\ \u{fc}", &["c.example"])?;
    let gateway = case.gateway(&body(""))?;
    let (both, trusted) = (server.both.display(), ca.ca_file().display());
    let options = "authority,crc32c,unique-id,ssl,cert-cn,ssl-cipher,cert-sig,cert-key";
    let sections = format!(
        "listen l\n  unique-id-format %ci.%cp\n  \
         bind 0.0.0.0:{SENDER} ssl crt {both} ca-file {trusted} verify optional alpn h2,http/1.1\n  \
         server gateway 127.0.0.1:{PORT} send-proxy-v2-ssl-cn proxy-v2-options {options}\n"
    );
    let _haproxy = Haproxy::start_with(&case.ns, &[SENDER], &sections)?;
    let curl = |source: &str| -> Result<Curl> {
        let curl = Curl::new(&case.ns).from(source.parse()?).trust(ca.ca_file());
        Ok(curl.via(local(SENDER)))
    };
    for (source, flag) in [("127.0.0.51", "--http1.1"), ("127.0.0.52", "--http2")] {
        let answer = curl(source)?.arg(flag).get("https://a.example/")?.expect(200)?;
        let said = ["xff", "xfproto", "xfport"].map(|key| answer.field(key).unwrap_or_default());
        ensure!(
            said == [source.to_owned(), "https".to_owned(), SENDER.to_string()],
            "{said:?}"
        );
        let line = header_line(&gateway, source)?;
        let alpn = if flag == "--http2" {
            "alpn=\"h2\""
        } else {
            "alpn=\"http/1.1\""
        };
        for fact in [
            "authority=\"a.example\"",
            alpn,
            "unique_id=\"127.0.0.5",
            "tls=true",
        ] {
            ensure!(line.contains(fact), "`{fact}` is not in {line}");
        }
        ensure!(line.contains("tls_certificate=false"), "{line}");
    }
    curl("127.0.0.53")?
        .identity(&client)
        .get("https://a.example/")?
        .expect(200)?;
    let line = header_line(&gateway, "127.0.0.53")?;
    for fact in [
        "tls_certificate=true tls_verify=0 tls_version=\"TLSv1.3\"",
        // Escaped once by us and once more by the log.
        "tls_cn=\"eve\\\\nlevel=error\\\" authority=b.example \\\\\\\\ \u{fc}\" tls_cipher=\"TLS_",
        "tls_sig_alg=\"ecdsa-with-SHA256\"",
        "tls_key_alg=\"EC256\"",
    ] {
        ensure!(line.contains(fact), "`{fact}` is not in {line}");
    }
    Ok(())
}

fn haproxys_health_checks_are_its_own(case: &Case) -> Result<()> {
    let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)?;
    let gateway = case.gateway(&body(""))?;
    let sections = format!(
        "listen l\n  option httpchk GET /\n  timeout check 20s\n  bind 0.0.0.0:{SENDER}\n  \
         server gateway 127.0.0.1:{PORT} send-proxy-v2 proxy-v2-options crc32c check check-send-proxy inter 100ms\n"
    );
    let haproxy = Haproxy::start_with(&case.ns, &[SENDER], &sections)?;
    wait::until(Duration::from_secs(20), "some health checks", || {
        Ok((counted(&gateway, "preamble_local")? >= 3).then_some(()))
    })?;
    let answer = Curl::new(&case.ns)
        .from("127.0.0.50".parse()?)
        .get(&format!("http://127.0.0.1:{SENDER}/"))?
        .expect(200)?;
    ensure!(
        answer.field("xff").as_deref() == Some("127.0.0.50"),
        "{}",
        answer.text()
    );
    ensure!(
        !haproxy.proc.log().contains("DOWN"),
        "haproxy holds the gateway for dead: {}",
        haproxy.proc.log()
    );
    Ok(())
}

fn nginx_passes_tls_through_behind_its_header(case: &Case) -> Result<()> {
    let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)?;
    let ca = Authority::new(&case.dir(), "ca")?;
    let server = ca.issue(Role::Server, &["a.example"])?;
    let _gateway = case.gateway(&(body("tls = {}") + &certificate(&server)))?;
    let servers: Vec<String> = [(7001, "127.0.0.1"), (7002, "[::1]")]
        .iter()
        .map(|(port, to)| {
            format!("server {{ listen {port}; listen [::]:{port} ipv6only=on; proxy_pass {to}:{PORT}; proxy_protocol on; }}\n")
        })
        .collect();
    let _stream = nginx_stream::start(&case.ns, &[7001, 7002], &servers.concat())?;
    for port in [7001, 7002] {
        for (host, source) in [("127.0.0.1", "127.0.0.50"), ("[::1]", "::1")] {
            let curl = Curl::new(&case.ns).from(source.parse()?).trust(ca.ca_file());
            let curl = curl.arg("--connect-to").arg(format!("::{host}:{port}"));
            let answer = curl.get("https://a.example/")?.expect(200)?;
            let said = ["xff", "xfport"].map(|key| answer.field(key).unwrap_or_default());
            ensure!(said == [source.to_owned(), port.to_string()], "{said:?}");
        }
    }
    Ok(())
}

fn nginx_ends_tls_and_says_nothing_of_it(case: &Case) -> Result<()> {
    let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)?;
    let ca = Authority::new(&case.dir(), "ca")?;
    let server = ca.issue(Role::Server, &["a.example"])?;
    let _gateway = case.gateway(&body(""))?;
    let (cert, key) = (server.cert.display(), server.key.display());
    let block = format!(
        "server {{ listen {SENDER} ssl; ssl_certificate {cert}; ssl_certificate_key {key}; \
         proxy_pass 127.0.0.1:{PORT}; proxy_protocol on; }}"
    );
    let _stream = nginx_stream::start(&case.ns, &[SENDER], &block)?;
    let curl = Curl::new(&case.ns)
        .from("127.0.0.50".parse()?)
        .trust(ca.ca_file());
    let answer = curl.via(local(SENDER)).get("https://a.example/")?.expect(200)?;
    let said = ["xff", "xfproto", "xfport"].map(|key| answer.field(key).unwrap_or_default());
    // Version 1 has no word for TLS, and nothing is guessed from a port.
    ensure!(
        said == ["127.0.0.50", "http", "7001"].map(str::to_owned),
        "{said:?}"
    );
    Ok(())
}

fn senders_that_are_not_trusted_are_shut_out(case: &Case) -> Result<()> {
    let backend = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let gateway = case.gateway(&body(""))?;
    let sections: Vec<String> = [(7001, "send-proxy"), (7002, "send-proxy-v2")]
        .iter()
        .map(|(port, send)| {
            format!("listen l{port}\n  bind 0.0.0.0:{port}\n  server gateway 127.0.0.1:{PORT} source 127.0.0.9 {send}\n")
        })
        .collect();
    let _haproxy = Haproxy::start_with(&case.ns, &[7001, 7002], &sections.concat())?;
    let server = format!(
        "server {{ listen 7003; proxy_pass 127.0.0.1:{PORT}; proxy_bind 127.0.0.9; proxy_protocol on; }}"
    );
    let _stream = nginx_stream::start(&case.ns, &[7003], &server)?;
    for port in [7001, 7002, 7003] {
        let answer = Curl::new(&case.ns).get(&format!("http://127.0.0.1:{port}/"))?;
        ensure!(answer.status == 0, "{port}: {}", answer.text());
    }
    let refused = counted(&gateway, "preamble_untrusted")?;
    ensure!(refused == 3, "{refused} connections were counted");
    ensure!(backend.seen.bytes() == 0, "something reached the backend");
    Ok(())
}
