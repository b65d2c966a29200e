//! TLS towards clients: versions, certificates by name, policies, client certificates; both drivers.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Identity, Role, Validity, self_signed};
use sallyport_tests::curl::Curl;
use sallyport_tests::fragments::{
    BACKEND, PORT, backend_url, certificate, entry_point, local, mutual, route_all, router, service,
};
use sallyport_tests::nginx::{Nginx, Serves};
use sallyport_tests::on_every_driver;
use sallyport_tests::openssl::{Outcome, SClient, Version, alert};
use sallyport_tests::raw_client::{self, End};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

on_every_driver!(
    the_name_chooses_the_certificate,
    strict_names_refuse_others_with_an_alert,
    the_lowest_version_is_kept,
    alpn_is_as_configured,
    the_generated_certificate_survives_a_restart,
    client_certificates_are_demanded_and_verified,
    an_expired_client_is_told_so_before_its_name,
    another_policys_host_is_421,
    a_silent_handshake_is_cut_off,
    garbage_on_a_tls_port_hurts_nobody,
);

fn connect(case: &Case, version: Version) -> SClient {
    SClient::new(&case.ns, local(PORT), version)
}

fn nginx(case: &Case) -> Result<Nginx> {
    Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)
}

fn tls_body(keys: &str, certificates: &[&Identity]) -> String {
    let certificates: String = certificates
        .iter()
        .map(|identity| certificate(identity))
        .collect();
    entry_point(keys) + &route_all(&backend_url()) + &certificates
}

fn the_name_chooses_the_certificate(case: &Case) -> Result<()> {
    let _nginx = nginx(case)?;
    let ca = Authority::new(&case.dir(), "ca")?;
    let (a, b) = (
        ca.issue(Role::Server, &["a.example"])?,
        ca.issue(Role::Server, &["*.b.example"])?,
    );
    let _gateway = case.gateway(&tls_body("tls = {}", &[&a, &b]))?;
    for version in Version::ALL {
        for (name, shown) in [("a.example", "a.example"), ("x.b.example", "*.b.example")] {
            let got = connect(case, version).sni(name).trust(ca.ca_file()).get(name)?;
            ensure!(
                got.has_status(200),
                "{name} {version:?}: {}{}",
                got.output,
                got.errors
            );
            ensure!(
                got.subject().is_some_and(|subject| subject.contains(shown)),
                "{name}: {:?}",
                got.subject()
            );
        }
        let other = connect(case, version).sni("c.example").get("c.example")?;
        ensure!(
            other.has_status(200),
            "an unknown name gets the generated certificate: {}",
            other.errors
        );
        ensure!(
            other
                .subject()
                .is_some_and(|subject| !subject.contains(".example")),
            "{:?}",
            other.subject()
        );
    }
    Ok(())
}

fn strict_names_refuse_others_with_an_alert(case: &Case) -> Result<()> {
    let _nginx = nginx(case)?;
    let ca = Authority::new(&case.dir(), "ca")?;
    let a = ca.issue(Role::Server, &["a.example"])?;
    let body =
        tls_body("tls = { options = \"strict\" }", &[&a]) + "[tls.options.strict]\nsni_strict = true\n";
    let _gateway = case.gateway(&body)?;
    for version in Version::ALL {
        ensure!(
            connect(case, version)
                .sni("a.example")
                .get("a.example")?
                .has_status(200)
        );
        let other = connect(case, version).sni("b.example").get("b.example")?;
        ensure!(
            other.alert == Some(alert::UNRECOGNIZED_NAME),
            "{version:?}: {}",
            other.errors
        );
        let unnamed = connect(case, version).get("a.example")?;
        ensure!(
            unnamed.alert.is_some() && !unnamed.has_answer(),
            "{version:?}: {}",
            unnamed.errors
        );
    }
    Ok(())
}

fn the_lowest_version_is_kept(case: &Case) -> Result<()> {
    let _nginx = nginx(case)?;
    let ca = Authority::new(&case.dir(), "ca")?;
    let a = ca.issue(Role::Server, &["a.example"])?;
    let body = tls_body("tls = { options = \"new\" }", &[&a])
        + "[tls.options.new]\nmin_version = \"VersionTLS13\"\n";
    let _gateway = case.gateway(&body)?;
    ensure!(
        connect(case, Version::Tls13)
            .sni("a.example")
            .get("a.example")?
            .has_status(200)
    );
    let old = connect(case, Version::Tls12).sni("a.example").get("a.example")?;
    ensure!(old.alert == Some(alert::PROTOCOL_VERSION), "{}", old.errors);
    Ok(())
}

fn alpn_is_as_configured(case: &Case) -> Result<()> {
    let _nginx = nginx(case)?;
    let ca = Authority::new(&case.dir(), "ca")?;
    let a = ca.issue(Role::Server, &["a.example"])?;
    let body = tls_body("tls = { options = \"one\" }", &[&a])
        + "[tls.options.one]\nalpn_protocols = [\"http/1.1\"]\n";
    let _gateway = case.gateway(&body)?;
    let curl = Curl::new(&case.ns)
        .via(local(PORT))
        .trust(ca.ca_file())
        .arg("--http2");
    let answer = curl.get("https://a.example/")?.expect(200)?;
    ensure!(answer.version == "1.1", "{}", answer.version);
    Ok(())
}

fn the_generated_certificate_survives_a_restart(case: &Case) -> Result<()> {
    let _nginx = nginx(case)?;
    let setup = case.setup()?;
    let body = tls_body("tls = {}", &[]);
    let mut shown = Vec::new();
    for _ in 0..2 {
        let mut gateway = setup.start(&body)?;
        let got = connect(case, Version::Tls13).get("a.example")?;
        shown.push(got.certificate().context("no certificate")?.to_owned());
        ensure!(gateway.stop()?.success());
    }
    ensure!(
        shown.first() == shown.last(),
        "another certificate after the restart"
    );
    let keys = private_keys(&setup.state_dir())?;
    ensure!(keys > 0, "no private key under the state directory");
    Ok(())
}

/// Private keys under `dir`; fails where one may be read by others.
fn private_keys(dir: &Path) -> Result<usize> {
    let mut found = 0;
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if String::from_utf8_lossy(&std::fs::read(&path)?).contains("PRIVATE KEY") {
                let mode = std::fs::metadata(&path)?.permissions().mode() & 0o777;
                ensure!(mode == 0o600, "`{}` has mode {mode:o}", path.display());
                found += 1;
            }
        }
    }
    Ok(found)
}

fn refused(got: &Outcome, alerts: &[u8], what: &str) -> Result<()> {
    ensure!(!got.has_answer(), "{what} got an answer: {}", got.output);
    let number = got
        .alert
        .with_context(|| format!("{what} got no alert: {}", got.errors))?;
    ensure!(
        alerts.contains(&number),
        "{what} got alert {number}, expected one of {alerts:?}"
    );
    Ok(())
}

/// TLS 1.2 has no alert of that name (RFC 5246 section 7.4.6 asks for `handshake_failure`).
fn certificate_required(version: Version) -> &'static [u8] {
    match version {
        Version::Tls12 => &[alert::CERTIFICATE_REQUIRED, alert::HANDSHAKE_FAILURE],
        Version::Tls13 => &[alert::CERTIFICATE_REQUIRED],
    }
}

fn client_certificates_are_demanded_and_verified(case: &Case) -> Result<()> {
    let _nginx = nginx(case)?;
    let ca = Authority::new(&case.dir(), "ca")?;
    let (clients, others) = (
        Authority::new(&case.dir(), "clients")?,
        Authority::new(&case.dir(), "others")?,
    );
    let server = ca.issue(Role::Server, &["a.example"])?;
    let issue = |name: &str| clients.issue(Role::Client, &[name]);
    let (good, bad_name, revoked) = (
        issue("x.staff.example")?,
        issue("x.guests.example")?,
        issue("y.staff.example")?,
    );
    let crl = clients.revoke(&[&revoked])?;
    let keys = format!(
        ", crl_files = [\"{}\"], subject_names = [\"*.staff.example\"]",
        crl.display()
    );
    let body =
        tls_body("tls = { options = \"mtls\" }", &[&server]) + &mutual("mtls", clients.ca_file(), &keys);
    let gateway = case.gateway(&body)?;
    let stranger = others.issue(Role::Client, &["x.staff.example"])?;
    let own = self_signed(&case.dir(), Role::Client, &["x.staff.example"])?;
    let expired = clients.issue_with(Role::Client, Validity::Expired, &["x.staff.example"])?;
    let wrong_use = clients.issue(Role::Server, &["x.staff.example"])?;
    let unknown = [
        alert::UNKNOWN_CA,
        alert::BAD_CERTIFICATE,
        alert::CERTIFICATE_UNKNOWN,
    ];
    let unfit = [
        alert::BAD_CERTIFICATE,
        alert::CERTIFICATE_UNKNOWN,
        alert::ACCESS_DENIED,
        alert::UNSUPPORTED_CERTIFICATE,
    ];
    for version in Version::ALL {
        let get = |identity: &Identity| {
            connect(case, version)
                .sni("a.example")
                .identity(identity)
                .get("a.example")
        };
        let right = get(&good)?;
        ensure!(
            right.has_status(200),
            "{version:?}: {}{}",
            right.output,
            right.errors
        );
        let none = connect(case, version).sni("a.example").get("a.example")?;
        refused(&none, certificate_required(version), "no certificate")?;
        refused(&get(&stranger)?, &unknown, "another CA's client")?;
        refused(&get(&own)?, &unknown, "a self-signed client")?;
        refused(&get(&expired)?, &[alert::CERTIFICATE_EXPIRED], "an expired one")?;
        refused(&get(&revoked)?, &[alert::CERTIFICATE_REVOKED], "a revoked client")?;
        refused(&get(&bad_name)?, &unfit, "a client of another name")?;
        refused(&get(&wrong_use)?, &unfit, "a server's certificate")?;
    }
    // One line for each refusal, with the peer, the name asked for and the reason.
    let log = gateway.proc.log();
    let told = log
        .lines()
        .filter(|line| line.contains("127.0.0.1:") && line.contains("a.example"));
    let told = told.filter(|line| line.contains("certificate")).count();
    ensure!(told == 2 * 7, "{told} lines for 14 refusals: {log}");
    Ok(())
}

fn an_expired_client_is_told_so_before_its_name(case: &Case) -> Result<()> {
    let _nginx = nginx(case)?;
    let ca = Authority::new(&case.dir(), "ca")?;
    let server = ca.issue(Role::Server, &["a.example"])?;
    let stale = ca.issue_with(Role::Client, Validity::Expired, &["wrong.example"])?;
    let body = tls_body("tls = { options = \"mtls\" }", &[&server])
        + &mutual("mtls", ca.ca_file(), ", subject_names = [\"right.example\"]");
    let _gateway = case.gateway(&body)?;
    for version in Version::ALL {
        let got = connect(case, version)
            .sni("a.example")
            .identity(&stale)
            .get("a.example")?;
        refused(
            &got,
            &[alert::CERTIFICATE_EXPIRED],
            "an expired client of another name",
        )?;
    }
    Ok(())
}

fn another_policys_host_is_421(case: &Case) -> Result<()> {
    let _nginx = nginx(case)?;
    let ca = Authority::new(&case.dir(), "ca")?;
    let (server, client) = (
        ca.issue(Role::Server, &["open.example", "closed.example"])?,
        ca.issue(Role::Client, &["c.example"])?,
    );
    let routes = router("open", "Host(`open.example`)", "backend", "")
        + &router(
            "closed",
            "Host(`closed.example`)",
            "backend",
            "tls = { options = \"mtls\" }",
        )
        + &service("backend", &[&backend_url()], "");
    let body = entry_point("tls = {}") + &routes + &certificate(&server) + &mutual("mtls", ca.ca_file(), "");
    let _gateway = case.gateway(&body)?;
    for version in Version::ALL {
        let crossed = connect(case, version).sni("open.example").get("closed.example")?;
        ensure!(crossed.has_status(421), "{version:?}: {}", crossed.output);
        let upper = connect(case, version)
            .sni("open.example")
            .get("CLOSED.example:8000")?;
        ensure!(upper.has_status(421), "{version:?}: {}", upper.output);
        ensure!(
            connect(case, version)
                .sni("open.example")
                .get("open.example")?
                .has_status(200)
        );
        let proven = connect(case, version)
            .sni("closed.example")
            .identity(&client)
            .get("closed.example")?;
        ensure!(
            proven.has_status(200),
            "{version:?}: {}{}",
            proven.output,
            proven.errors
        );
        let unproven = connect(case, version)
            .sni("closed.example")
            .get("closed.example")?;
        ensure!(
            unproven.alert.is_some() && !unproven.has_answer(),
            "{version:?}: {}",
            unproven.output
        );
    }
    // HTTP/2: the second request of a connection that was made for the open host.
    let curl = Curl::new(&case.ns)
        .via(local(PORT))
        .trust(ca.ca_file())
        .arg("--http2")
        .header("Host: closed.example");
    curl.get("https://open.example/")?.expect(421)?;
    Ok(())
}

fn a_silent_handshake_is_cut_off(case: &Case) -> Result<()> {
    let _gateway = case.gateway(&tls_body(
        "tls = {}\ntimeouts = { tls_handshake = \"500ms\" }",
        &[],
    ))?;
    for start in [&b""[..], &b"\x16\x03\x01\x02\x00\x01"[..]] {
        let got = raw_client::exchange(&case.ns, None, local(PORT), &[start], Duration::from_secs(5))?;
        ensure!(got.end != End::Silent, "still open after {:?}", got.took);
    }
    Ok(())
}

fn garbage_on_a_tls_port_hurts_nobody(case: &Case) -> Result<()> {
    let _nginx = nginx(case)?;
    let _gateway = case.gateway(&tls_body("tls = {}", &[]))?;
    for garbage in [
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        &[0xff; 600][..],
        &b"\x16\x03\x01\xff\xff"[..],
        &b"\x80\x2e\x01\x03\x01"[..],
    ] {
        let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
        raw_client::send(&mut stream, &[garbage])?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let got = raw_client::read_to_end(&mut stream, Duration::from_secs(5))?;
        ensure!(
            got.end != End::Silent && got.status() == 0,
            "{:?} {}",
            got.end,
            got.text()
        );
    }
    ensure!(connect(case, Version::Tls13).get("a.example")?.has_status(200));
    Ok(())
}
