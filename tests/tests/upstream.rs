//! Towards servers: HTTP versions, TLS with verification, client certificates, pins; both drivers.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Identity, Role, Validity};
use sallyport_tests::curl::{Answer, Curl};
use sallyport_tests::fragments::{BACKEND, PORT, entry_point, router, service};
use sallyport_tests::gateway::Gateway;
use sallyport_tests::nginx::{Nginx, NginxTls, Serves};
use sallyport_tests::on_every_driver;
use sallyport_tests::openssl::pin;
use std::path::Path;
use std::time::Duration;

on_every_driver!(
    verified_tls_reaches_the_server_by_http2,
    http2_can_be_disabled_upstream,
    http2_in_the_clear_reaches_the_server,
    a_certificate_of_another_name_is_502_and_the_log_says_why,
    a_certificate_of_another_ca_is_502,
    an_expired_certificate_is_502,
    any_of_the_subject_names_will_do,
    the_client_certificate_is_shown,
    a_pinned_key_stands_for_a_ca,
    skipping_verification_takes_any_certificate,
);

fn tls_nginx(case: &Case, identity: &Identity, clients: Option<&Path>) -> Result<Nginx> {
    let tls = NginxTls {
        identity: identity.clone(),
        clients: clients.map(Path::to_owned),
    };
    Nginx::start(&case.ns, "n", BACKEND, &Serves::Tls(tls))
}

/// A gateway that sends everything to the backend at `scheme` with these keys of its transport.
fn gateway(case: &Case, scheme: &str, transport: &str) -> Result<Gateway> {
    let url = format!("{scheme}://127.0.0.1:{BACKEND}");
    let routes = router("all", "PathPrefix(`/`)", "backend", "")
        + &service("backend", &[&url], "servers_transport = \"t\"");
    case.gateway(&(entry_point("") + &routes + &format!("[servers_transports.t]\n{transport}\n")))
}

fn get(case: &Case) -> Result<Answer> {
    Curl::new(&case.ns).get(&format!("http://127.0.0.1:{PORT}/"))
}

fn roots(ca: &Authority) -> String {
    format!("root_cas = [\"{}\"]\n", ca.ca_file().display())
}

fn verified_tls_reaches_the_server_by_http2(case: &Case) -> Result<()> {
    let ca = Authority::new(&case.dir(), "ca")?;
    let _nginx = tls_nginx(case, &ca.issue(Role::Server, &["127.0.0.1"])?, None)?;
    let _gateway = gateway(case, "https", &roots(&ca))?;
    for _ in 0..3 {
        let answer = get(case)?.expect(200)?;
        ensure!(
            answer.field("proto").as_deref() == Some("HTTP/2.0"),
            "{}",
            answer.text()
        );
    }
    Ok(())
}

fn http2_can_be_disabled_upstream(case: &Case) -> Result<()> {
    let ca = Authority::new(&case.dir(), "ca")?;
    let _nginx = tls_nginx(case, &ca.issue(Role::Server, &["backend.internal"])?, None)?;
    let keys = roots(&ca) + "server_name = \"backend.internal\"\ndisable_http2 = true\n";
    let _gateway = gateway(case, "https", &keys)?;
    let answer = get(case)?.expect(200)?;
    ensure!(
        answer.field("proto").as_deref() == Some("HTTP/1.1"),
        "{}",
        answer.text()
    );
    Ok(())
}

fn http2_in_the_clear_reaches_the_server(case: &Case) -> Result<()> {
    let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::H2c)?;
    let _gateway = gateway(case, "h2c", "")?;
    let answer = get(case)?.expect(200)?;
    ensure!(
        answer.field("proto").as_deref() == Some("HTTP/2.0"),
        "{}",
        answer.text()
    );
    Ok(())
}

/// 502 to the client without a reason, and a line of the log that names both.
fn refused(case: &Case, gateway: &Gateway, reason: &str) -> Result<()> {
    let answer = get(case)?.expect(502)?;
    ensure!(
        !answer.text().to_ascii_lowercase().contains("certificate"),
        "too much said: {}",
        answer.text()
    );
    sallyport_tests::wait::until(Duration::from_secs(2), "the reason in the log", || {
        let log = gateway.proc.log().to_ascii_lowercase();
        let told = log
            .lines()
            .any(|line| line.contains("certificate") && line.contains(reason));
        Ok(told.then_some(()))
    })
    .with_context(|| format!("no line of the log names `certificate` and `{reason}`"))
}

fn a_certificate_of_another_name_is_502_and_the_log_says_why(case: &Case) -> Result<()> {
    let ca = Authority::new(&case.dir(), "ca")?;
    let _nginx = tls_nginx(case, &ca.issue(Role::Server, &["other.internal"])?, None)?;
    let keys = roots(&ca) + "server_name = \"backend.internal\"\n";
    refused(case, &gateway(case, "https", &keys)?, "backend.internal")
}

fn a_certificate_of_another_ca_is_502(case: &Case) -> Result<()> {
    let (ca, other) = (
        Authority::new(&case.dir(), "ca")?,
        Authority::new(&case.dir(), "other")?,
    );
    let _nginx = tls_nginx(case, &other.issue(Role::Server, &["127.0.0.1"])?, None)?;
    refused(case, &gateway(case, "https", &roots(&ca))?, "issuer")
}

fn an_expired_certificate_is_502(case: &Case) -> Result<()> {
    let ca = Authority::new(&case.dir(), "ca")?;
    let _nginx = tls_nginx(
        case,
        &ca.issue_with(Role::Server, Validity::Expired, &["127.0.0.1"])?,
        None,
    )?;
    refused(case, &gateway(case, "https", &roots(&ca))?, "expired")
}

fn any_of_the_subject_names_will_do(case: &Case) -> Result<()> {
    let ca = Authority::new(&case.dir(), "ca")?;
    let _nginx = tls_nginx(case, &ca.issue(Role::Server, &["two.internal"])?, None)?;
    let names = |list: &str| {
        format!(
            "{}server_name = \"front.internal\"\nsubject_names = [{list}]\n",
            roots(&ca)
        )
    };
    {
        let _gateway = gateway(case, "https", &names("\"one.internal\", \"two.internal\""))?;
        get(case)?.expect(200)?;
    }
    let _gateway = gateway(case, "https", &names("\"one.internal\""))?;
    get(case)?.expect(502)?;
    Ok(())
}

fn the_client_certificate_is_shown(case: &Case) -> Result<()> {
    let (ca, clients) = (
        Authority::new(&case.dir(), "ca")?,
        Authority::new(&case.dir(), "clients")?,
    );
    let _nginx = tls_nginx(
        case,
        &ca.issue(Role::Server, &["127.0.0.1"])?,
        Some(clients.ca_file()),
    )?;
    let own = clients.issue(Role::Client, &["gateway.example"])?;
    {
        let _gateway = gateway(
            case,
            "https",
            &(roots(&ca) + &format!("certificates = [{}]\n", own.toml())),
        )?;
        let answer = get(case)?.expect(200)?;
        ensure!(
            answer.field("verify").as_deref() == Some("SUCCESS"),
            "{}",
            answer.text()
        );
        ensure!(
            answer
                .field("dn")
                .is_some_and(|dn| dn.contains("gateway.example")),
            "{}",
            answer.text()
        );
    }
    let _gateway = gateway(case, "https", &roots(&ca))?;
    ensure!(
        get(case)?.expect(200)?.field("verify").as_deref() == Some("NONE"),
        "a certificate from nowhere"
    );
    Ok(())
}

fn a_pinned_key_stands_for_a_ca(case: &Case) -> Result<()> {
    let ca = Authority::new(&case.dir(), "ca")?;
    let (own, other) = (
        ca.issue(Role::Server, &["x.internal"])?,
        ca.issue(Role::Server, &["127.0.0.1"])?,
    );
    let _nginx = tls_nginx(case, &own, None)?;
    {
        let _gateway = gateway(
            case,
            "https",
            &format!("pinned_spki = [\"{}\"]\n", pin(&own.cert)?),
        )?;
        get(case)?.expect(200)?;
    }
    let _gateway = gateway(
        case,
        "https",
        &format!("pinned_spki = [\"{}\"]\n", pin(&other.cert)?),
    )?;
    get(case)?.expect(502)?;
    Ok(())
}

fn skipping_verification_takes_any_certificate(case: &Case) -> Result<()> {
    let ca = Authority::new(&case.dir(), "ca")?;
    let _nginx = tls_nginx(
        case,
        &ca.issue_with(Role::Server, Validity::Expired, &["x"])?,
        None,
    )?;
    let _gateway = gateway(case, "https", "insecure_skip_verify = true\n")?;
    get(case)?.expect(200)?;
    Ok(())
}
