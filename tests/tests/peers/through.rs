//! The whole way of mutual TLS: a client's certificate in, the gateway's own certificate out, to an nginx that
//! demands one.

use anyhow::{Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Identity, Role};
use sallyport_tests::curl::Curl;
use sallyport_tests::fragments::{BACKEND, PORT, certificate, entry_point, local, mutual, router, service};
use sallyport_tests::nginx::{Nginx, NginxTls, Serves};
use sallyport_tests::on_both_drivers;

on_both_drivers!(
    curl_with_a_certificate_gets_through_to_an_nginx_that_demands_one,
    without_the_gateways_certificate_nginx_refuses,
);

/// The ways in which curl speaks to the gateway.
const WAYS: [&[&str]; 4] = [
    &["--http1.1", "--tls-max", "1.2"],
    &["--http1.1", "--tlsv1.3"],
    &["--http2", "--tls-max", "1.2"],
    &["--http2", "--tlsv1.3"],
];

struct Parties {
    ca: Authority,
    client: Identity,
    stranger: Identity,
    body: String,
    _nginx: Nginx,
}

/// A gateway that demands certificates of `people` and has `keys` in its transport to an nginx that demands
/// certificates of `gateways`.
fn parties(case: &Case, keys: impl Fn(&Authority) -> Result<String>) -> Result<Parties> {
    let authority = |name: &str| Authority::new(&case.dir(), name);
    let (ca, people, inner, gateways) = (
        authority("ca")?,
        authority("people")?,
        authority("inner")?,
        authority("gateways")?,
    );
    let tls = NginxTls {
        identity: inner.issue(Role::Server, &["backend.internal"])?,
        clients: Some(gateways.ca_file().to_owned()),
    };
    let nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::MutualTls(tls))?;
    let server = ca.issue(Role::Server, &["a.example"])?;
    let body = entry_point("tls = { options = \"mtls\" }")
        + &router("all", "Host(`a.example`)", "backend", "")
        + &service(
            "backend",
            &[&format!("https://127.0.0.1:{BACKEND}")],
            "servers_transport = \"inner\"",
        )
        + &format!(
            "[servers_transports.inner]\nserver_name = \"backend.internal\"\nroot_cas = [\"{}\"]\n{}\n",
            inner.ca_file().display(),
            keys(&gateways)?
        )
        + &certificate(&server)
        + &mutual("mtls", people.ca_file(), "");
    Ok(Parties {
        client: people.issue(Role::Client, &["alice.example"])?,
        stranger: gateways.issue(Role::Client, &["alice.example"])?,
        ca,
        body,
        _nginx: nginx,
    })
}

fn curl(case: &Case, parties: &Parties, way: &[&str]) -> Curl {
    let curl = Curl::new(&case.ns).via(local(PORT)).args(way);
    curl.trust(parties.ca.ca_file())
}

fn curl_with_a_certificate_gets_through_to_an_nginx_that_demands_one(case: &Case) -> Result<()> {
    let parties = parties(case, |gateways| {
        let own = gateways.issue(Role::Client, &["gateway.example"])?;
        Ok(format!("certificates = [{}]", own.toml()))
    })?;
    let _gateway = case.gateway(&parties.body)?;
    for way in WAYS {
        let answer = curl(case, &parties, way)
            .identity(&parties.client)
            .get("https://a.example/")?
            .expect(200)?;
        let http2 = way.contains(&"--http2");
        ensure!(
            (answer.version == "2") == http2,
            "{way:?}: HTTP/{}",
            answer.version
        );
        ensure!(
            answer.field("verify").as_deref() == Some("SUCCESS")
                && answer
                    .field("dn")
                    .is_some_and(|dn| dn.contains("gateway.example") && !dn.contains("alice")),
            "{way:?}: the server saw another certificate than the gateway's: {}",
            answer.text()
        );
        for (what, curl) in [
            ("nobody", curl(case, &parties, way)),
            // The CA of the gateway's own certificate is no CA of its clients.
            (
                "a stranger",
                curl(case, &parties, way).identity(&parties.stranger),
            ),
        ] {
            let refused = curl.get("https://a.example/")?;
            ensure!(
                refused.status == 0 && refused.exit != 0,
                "{way:?}: {what} got {}: {}",
                refused.status,
                refused.text()
            );
        }
    }
    Ok(())
}

fn without_the_gateways_certificate_nginx_refuses(case: &Case) -> Result<()> {
    let parties = parties(case, |_| Ok(String::new()))?;
    let _gateway = case.gateway(&parties.body)?;
    // The handshake passes, since nginx refuses by an answer of its own.
    let answer = curl(case, &parties, &[])
        .identity(&parties.client)
        .get("https://a.example/")?;
    ensure!(
        answer.status == 400 && answer.field("verify").is_none(),
        "{}: {}",
        answer.status,
        answer.text()
    );
    Ok(())
}
