//! Client certificates: what each mode proves, revocation, and what a refused client and the operator are told.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Identity, KeyType, Role, Validity};
use sallyport_tests::fragments::{
    BACKEND, PORT, backend_url, certificate, entry_point, local, mutual, route_all, router, service,
};
use sallyport_tests::gateway::Gateway;
use sallyport_tests::nginx::{Nginx, Serves};
use sallyport_tests::on_both_drivers;
use sallyport_tests::openssl::{Outcome, SClient, Version, alert};
use sallyport_tests::raw_client;
use sallyport_tests::tls_client::{Offer, TlsClient};
use sallyport_tests::wait;
use std::process::Command;
use std::time::Duration;

on_both_drivers!(
    an_unverified_certificate_is_asked_for_and_proves_nothing,
    an_unverified_certificate_is_no_parent,
    a_client_without_the_key_is_refused_in_every_mode,
    revocation_lists_fail_closed,
    a_chain_is_asked_about_whole_unless_the_leaf_alone_is_to_be,
    names_are_those_of_the_alternative_name_and_never_the_common_name,
    a_client_that_is_refused_after_its_finished_reads_the_alert_and_no_reset,
    a_refusal_is_one_line_that_names_the_certificate,
    a_flood_of_bad_handshakes_is_sampled,
);

fn connect(case: &Case, version: Version) -> SClient {
    SClient::new(&case.ns, local(PORT), version)
}

fn nginx(case: &Case) -> Result<Nginx> {
    Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)
}

/// Entry point `web` with options `o`, which have these keys, everything to the backend.
fn body(server: &Identity, keys: &str) -> String {
    entry_point("tls = { options = \"o\" }")
        + &route_all(&backend_url())
        + &certificate(server)
        + &format!("[tls.options.o]\n{keys}\n")
}

fn get(case: &Case, version: Version, identity: Option<&Identity>) -> Result<Outcome> {
    let client = connect(case, version).sni("a.example");
    let client = match identity {
        Some(identity) => client
            .identity(identity)
            .args(&["-cert_chain", &identity.cert.display().to_string()]),
        None => client,
    };
    client.get("a.example")
}

fn refused(got: &Outcome, expected: u8, what: &str) -> Result<()> {
    ensure!(!got.has_answer(), "{what} got an answer: {}", got.output);
    ensure!(
        got.alert == Some(expected),
        "{what}: alert {:?}, expected {expected}: {}",
        got.alert,
        got.errors
    );
    Ok(())
}

fn an_unverified_certificate_is_asked_for_and_proves_nothing(case: &Case) -> Result<()> {
    let _nginx = nginx(case)?;
    let ca = Authority::new(&case.dir(), "ca")?;
    let (server, client) = (
        ca.issue(Role::Server, &["a.example", "b.example"])?,
        ca.issue(Role::Client, &["c.example"])?,
    );
    // The open host asks and verifies nothing; the closed one demands the same certificate, verified.
    let routes = router("open", "Host(`a.example`)", "backend", "")
        + &router(
            "closed",
            "Host(`b.example`)",
            "backend",
            "tls = { options = \"mtls\" }",
        )
        + &service("backend", &[&backend_url()], "");
    for kind in ["RequestClientCert", "RequireAnyClientCert"] {
        let options = format!("[tls.options.o]\nclient_auth = {{ type = \"{kind}\" }}\n");
        let body = entry_point("tls = { options = \"o\" }")
            + &routes
            + &certificate(&server)
            + &options
            + &mutual("mtls", ca.ca_file(), "");
        let mut gateway = case.gateway(&body)?;
        for version in Version::ALL {
            let client = connect(case, version).sni("a.example").identity(&client);
            let crossed = client.get("b.example")?;
            ensure!(crossed.has_status(421), "{kind} {version:?}: {}", crossed.output);
        }
        ensure!(gateway.stop()?.success());
    }
    Ok(())
}

fn an_unverified_certificate_is_no_parent(case: &Case) -> Result<()> {
    let ca = Authority::new(&case.dir(), "ca")?;
    let (server, parent) = (
        ca.issue(Role::Server, &["a.example"])?,
        ca.issue(Role::Client, &["parent.example"])?,
    );
    let uplink = |options: &str, keys: &str| {
        format!(
            "[uplink_entry_points.up]\naddress = \"127.0.0.1:{PORT}\"\ntls = {{ options = \"o\" }}\n{keys}\n\
             [uplinks.orders]\nentry_points = [\"up\"]\n\
             [routers.orders]\nrule = \"PathPrefix(`/`)\"\nuplinks = [\"orders\"]\nservice = \"backend\"\n"
        ) + &service("backend", &[&backend_url()], "")
            + &certificate(&server)
            + &format!("[tls.options.o]\nclient_auth = {{ {options} }}\n")
    };
    let setup = case.setup()?;
    // It is no proof of a parent, so an entry point with no other proof is refused.
    setup.write(&uplink("type = \"RequireAnyClientCert\"", ""))?;
    let checked = setup.command(&["check"])?;
    ensure!(checked.status.code() == Some(78), "{checked:?}");
    let verified = format!("ca_files = [\"{}\"]", ca.ca_file().display());
    let gateway = setup.start(&uplink(&verified, ""))?;
    let asks = |identity: &Identity| -> Result<Outcome> {
        connect(case, Version::Tls13).identity(identity).get("a.example")
    };
    ensure!(asks(&parent)?.has_answer());
    drop(gateway);
    Ok(())
}

fn a_client_without_the_key_is_refused_in_every_mode(case: &Case) -> Result<()> {
    let _nginx = nginx(case)?;
    let ca = Authority::new(&case.dir(), "ca")?;
    let server = ca.issue(Role::Server, &["a.example"])?;
    let stolen = ca.issue(Role::Client, &["c.example"])?;
    // The certificate of one client with the key of another: nothing but a proof of possession tells them apart.
    let own = ca.issue(Role::Client, &["d.example"])?;
    let verified = format!("client_auth = {{ ca_files = [\"{}\"] }}", ca.ca_file().display());
    for keys in [
        "client_auth = { type = \"RequestClientCert\" }",
        "client_auth = { type = \"RequireAnyClientCert\" }",
        &verified,
    ] {
        let mut gateway = case.gateway(&body(&server, keys))?;
        let client = TlsClient::with_pair(ca.ca_file(), &stolen.cert, &own.key)?;
        let tcp = raw_client::connect(&case.ns, None, local(PORT))?;
        let answered = client
            .shake(tcp, "a.example")
            .and_then(|mut session| session.get("a.example"));
        ensure!(answered.is_err(), "{keys}: {answered:?}");
        ensure!(get(case, Version::Tls13, Some(&own))?.has_status(200), "{keys}");
        ensure!(gateway.stop()?.success());
    }
    Ok(())
}

fn revocation_lists_fail_closed(case: &Case) -> Result<()> {
    let _nginx = nginx(case)?;
    let ca = Authority::new(&case.dir(), "ca")?;
    let other = Authority::new(&case.dir(), "other")?;
    let server = ca.issue(Role::Server, &["a.example"])?;
    let (good, revoked) = (
        ca.issue(Role::Client, &["good.example"])?,
        ca.issue(Role::Client, &["revoked.example"])?,
    );
    let unlisted = other.issue(Role::Client, &["unlisted.example"])?;
    let (fresh, stale) = (ca.revoke(&[&revoked])?, ca.revoke_long_ago(&[])?);
    let keys = |list: &std::path::Path| {
        format!(
            "client_auth = {{ ca_files = [\"{}\", \"{}\"], crl_files = [\"{}\"] }}",
            ca.ca_file().display(),
            other.ca_file().display(),
            list.display()
        )
    };
    let setup = case.setup()?;
    let mut gateway = setup.start(&body(&server, &keys(&fresh)))?;
    for version in Version::ALL {
        ensure!(get(case, version, Some(&good))?.has_status(200), "{version:?}");
        refused(
            &get(case, version, Some(&revoked))?,
            alert::CERTIFICATE_REVOKED,
            "revoked",
        )?;
        // No list speaks about that authority's clients.
        refused(
            &get(case, version, Some(&unlisted))?,
            alert::UNKNOWN_CA,
            "unlisted",
        )?;
    }
    ensure!(gateway.stop()?.success());
    let checked = setup.command(&["check"])?;
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    ensure!(checked.status.success() && said.contains("CN=other"), "{said}");
    let mut gateway = setup.start(&body(&server, &keys(&stale)))?;
    refused(
        &get(case, Version::Tls13, Some(&good))?,
        alert::UNKNOWN_CA,
        "an expired list",
    )?;
    let log = gateway.proc.log();
    ensure!(log.contains("tls_certificate_status_unknown"), "{log}");
    ensure!(gateway.stop()?.success());
    let checked = setup.command(&["check"])?;
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    ensure!(said.contains("an expired revocation list of `CN=ca`"), "{said}");
    Ok(())
}

fn a_chain_is_asked_about_whole_unless_the_leaf_alone_is_to_be(case: &Case) -> Result<()> {
    let _nginx = nginx(case)?;
    let root = Authority::new(&case.dir(), "root")?;
    let between = root.subordinate("between")?;
    let server = root.issue(Role::Server, &["a.example"])?;
    let client = between.issue(Role::Client, &["c.example"])?;
    let (of_root, of_between) = (root.revoke(&[])?, between.revoke(&[])?);
    let keys = |lists: &[&std::path::Path], more: &str| {
        let lists: Vec<String> = lists
            .iter()
            .map(|list| format!("\"{}\"", list.display()))
            .collect();
        format!(
            "client_auth = {{ ca_files = [\"{}\"], crl_files = [{}]{more} }}",
            root.ca_file().display(),
            lists.join(", ")
        )
    };
    for (keys, passes) in [
        (keys(&[&of_root, &of_between], ""), true),
        (keys(&[&of_between], ""), false),
        (keys(&[&of_between], ", crl_only_verify_leaf_cert = true"), true),
        (keys(&[&of_root], ", crl_only_verify_leaf_cert = true"), false),
    ] {
        let mut gateway = case.gateway(&body(&server, &keys))?;
        let got = get(case, Version::Tls13, Some(&client))?;
        ensure!(
            got.has_status(200) == passes,
            "{keys}: {}{}",
            got.output,
            got.errors
        );
        ensure!(gateway.stop()?.success());
    }
    Ok(())
}

fn names_are_those_of_the_alternative_name_and_never_the_common_name(case: &Case) -> Result<()> {
    let _nginx = nginx(case)?;
    let ca = Authority::new(&case.dir(), "ca")?;
    let server = ca.issue(Role::Server, &["a.example"])?;
    let keys = format!(
        "client_auth = {{ ca_files = [\"{}\"], subject_names = [\"anna.example\", \"*.staff.example\", \
         \"spiffe://example.org/parent\", \"192.0.2.7\"] }}",
        ca.ca_file().display()
    );
    let _gateway = case.gateway(&body(&server, &keys))?;
    for (names, passes) in [
        (&["anna.example"][..], true),
        (&["ANNA.example"], true),
        (&["x.staff.example"], true),
        (&["spiffe://example.org/parent"], true),
        (&["192.0.2.7"], true),
        (&["x.y.staff.example"], false),
        (&["staff.example"], false),
        (&["*.staff.example"], false),
        (&["spiffe://example.org/parent/child"], false),
        (&["192.0.2.8"], false),
        // The common name is the first of these, which the certificate carries nowhere else.
        (&["CN:anna.example", "other.example"], false),
    ] {
        let client = match names {
            [common, rest @ ..] if common.starts_with("CN:") => {
                ca.issue_called(common.trim_start_matches("CN:"), rest)?
            }
            names => ca.issue(Role::Client, names)?,
        };
        let got = get(case, Version::Tls13, Some(&client))?;
        if passes {
            ensure!(got.has_status(200), "{names:?}: {}", got.errors);
        } else {
            refused(&got, alert::ACCESS_DENIED, &format!("{names:?}"))?;
        }
    }
    Ok(())
}

fn a_client_that_is_refused_after_its_finished_reads_the_alert_and_no_reset(case: &Case) -> Result<()> {
    let ca = Authority::new(&case.dir(), "ca")?;
    let server = ca.issue(Role::Server, &["a.example"])?;
    let revoked = ca.issue(Role::Client, &["c.example"])?;
    let list = ca.revoke(&[&revoked])?;
    let keys = format!(
        "client_auth = {{ ca_files = [\"{}\"], crl_files = [\"{}\"] }}",
        ca.ca_file().display(),
        list.display()
    );
    let _gateway = case.gateway(&body(&server, &keys))?;
    let client = TlsClient::new(ca.ca_file(), Some(&revoked), Some(Version::Tls13), Offer::Usual)?;
    for _ in 0..20 {
        let tcp = raw_client::connect(&case.ns, None, local(PORT))?;
        let mut session = client.shake(tcp, "a.example")?;
        // For this client the handshake is over, so it sends what it wants, and reads afterwards.
        let error = session.get("a.example").err().context("an answer came")?;
        let told = format!("{error:#}");
        ensure!(told.contains("CertificateRevoked"), "{told}");
        // A system that throws away what it has not read once it is reset would not have told its program.
        ensure!(
            session.ends_without_reset(&[0; 60_000]),
            "the connection was reset"
        );
    }
    Ok(())
}

fn openssl_says(identity: &Identity, what: &str) -> Result<String> {
    let output = Command::new("openssl")
        .args(["x509", "-noout", "-in", &identity.cert.display().to_string()])
        .args(what.split(' '))
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(text
        .rsplit_once('=')
        .context("no `=`")?
        .1
        .replace(':', "")
        .to_lowercase())
}

fn lines(gateway: &Gateway, reason: &str) -> Vec<String> {
    let log = gateway.proc.log();
    let said = log.lines().filter(|line| line.contains("tls handshake failed"));
    said.filter(|line| line.contains(reason))
        .map(str::to_owned)
        .collect()
}

fn a_refusal_is_one_line_that_names_the_certificate(case: &Case) -> Result<()> {
    let _nginx = nginx(case)?;
    let ca = Authority::new(&case.dir(), "ca")?;
    let strangers = Authority::new(&case.dir(), "strangers")?;
    let server = ca.issue(Role::Server, &["a.example"])?;
    let keys = format!(
        "client_auth = {{ ca_files = [\"{}\"], subject_names = [\"right.example\"] }}",
        ca.ca_file().display()
    );
    let gateway = case.gateway(&body(&server, &keys))?;
    let named = [
        (
            ca.issue(Role::Client, &["wrong.example"])?,
            "tls_certificate_not_named",
        ),
        (
            strangers.issue(Role::Client, &["right.example"])?,
            "tls_certificate_unknown",
        ),
        (
            ca.issue_with(Role::Client, Validity::Expired, &["right.example"])?,
            "tls_certificate_expired",
        ),
        (ca.issue(Role::Server, &["right.example"])?, "tls_certificate_bad"),
        // A subject cannot write lines or fields of the log.
        (
            strangers.issue_called("x\" reason=\"fine\nforged line", &["right.example"])?,
            "tls_certificate_unknown",
        ),
    ];
    for version in Version::ALL {
        for (identity, reason) in &named {
            ensure!(!get(case, version, Some(identity))?.has_answer(), "{reason}");
            let fingerprint = openssl_says(identity, "-fingerprint -sha256")?;
            let serial = openssl_says(identity, "-serial")?;
            let found = wait::until(Duration::from_secs(5), reason, || {
                let lines = lines(&gateway, reason);
                Ok(lines.into_iter().find(|line| line.contains(&fingerprint)))
            })?;
            let plain = found.replace(':', "").to_lowercase();
            for part in ["127.0.0.1", "a.example", "subject=", "issuer=", &serial] {
                ensure!(plain.contains(part), "no `{part}` in {found}");
            }
        }
        ensure!(!get(case, version, None)?.has_answer());
    }
    let missing = lines(&gateway, "tls_certificate_missing");
    ensure!(missing.len() == 2, "{missing:?}");
    ensure!(
        missing.iter().any(|line| line.contains("version=\"TLSv1.2\"")),
        "{missing:?}"
    );
    ensure!(
        missing.iter().any(|line| line.contains("version=\"TLSv1.3\"")),
        "{missing:?}"
    );
    let log = gateway.proc.log();
    ensure!(!log.lines().any(|line| line.starts_with("forged line")), "{log}");
    ensure!(!log.contains("\" reason=\"fine"), "{log}");
    let all = lines(&gateway, "");
    ensure!(all.len() == 2 * (named.len() + 1), "{} lines: {all:?}", all.len());
    Ok(())
}

fn a_flood_of_bad_handshakes_is_sampled(case: &Case) -> Result<()> {
    let _nginx = nginx(case)?;
    let ca = Authority::new(&case.dir(), "ca")?;
    let server = ca.issue_key(Role::Server, KeyType::P256, &["a.example"])?;
    let gateway = case.gateway(&body(&server, "sni_strict = true"))?;
    for _ in 0..600 {
        let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
        raw_client::send(&mut stream, &[b"GET / HTTP/1.1\r\n\r\n"])?;
        raw_client::read_to_end(&mut stream, Duration::from_secs(5))?;
    }
    let said = lines(&gateway, "tls_not_tls").len();
    ensure!(said > 0 && said < 600, "{said} lines for 600 bad handshakes");
    let status = gateway.status()?.to_string();
    ensure!(status.contains("\"tls_failed\":600"), "{status}");
    // A refusal of trust is said all the same, and once the flood is over a line says how much was left out.
    let unknown = connect(case, Version::Tls13).sni("b.example").get("b.example")?;
    ensure!(unknown.alert == Some(alert::UNRECOGNIZED_NAME));
    ensure!(lines(&gateway, "tls_unknown_name").len() == 1);
    wait::until(
        Duration::from_secs(5),
        "a line that says how many were left out",
        || {
            let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
            raw_client::send(&mut stream, &[b"GET / HTTP/1.1\r\n\r\n"])?;
            raw_client::read_to_end(&mut stream, Duration::from_secs(5))?;
            Ok(lines(&gateway, "tls_not_tls")
                .iter()
                .any(|line| line.contains("unsaid="))
                .then_some(()))
        },
    )
}
