//! TLS servers of every kind, right and wrong: what reaches them, and what the operator is told; both drivers.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Identity, Role, Validity, self_signed};
use sallyport_tests::curl::{Answer, Curl};
use sallyport_tests::fragments::{BACKEND, PORT, entry_point, router, service};
use sallyport_tests::gateway::Gateway;
use sallyport_tests::nghttpd;
use sallyport_tests::nginx::{Nginx, NginxTls, Serves};
use sallyport_tests::on_both_drivers;
use sallyport_tests::openssl::pin;
use sallyport_tests::s_server::SServer;
use sallyport_tests::wait;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

on_both_drivers!(
    a_self_signed_server_is_believed_by_pin_or_by_name_and_else_the_log_says_how,
    a_self_signed_ca_as_openssl_makes_it_is_believed_where_it_is_named,
    an_address_without_ip_san_is_refused_with_the_key_to_set,
    an_expired_server_is_refused_with_its_date,
    a_spiffe_identity_is_one_of_the_subject_names,
    versions_are_agreed_on_or_the_log_says_which_key,
    a_server_that_breaks_off_without_our_certificate_is_explained,
    nginx_gets_the_certificate_of_the_ca_that_it_names,
    servers_of_http2_alone_are_reached_by_alpn_and_in_the_clear,
    a_flood_of_refusals_does_not_flood_the_log,
    a_changed_transport_uses_no_session_of_the_older_trust,
);

const SOON: Duration = Duration::from_secs(5);

fn body(scheme: &str, keys: &str) -> String {
    let url = format!("{scheme}://127.0.0.1:{BACKEND}");
    let routes = router("all", "PathPrefix(`/`)", "backend", "")
        + &service("backend", &[&url], "servers_transport = \"t\"");
    entry_point("") + &routes + &format!("[servers_transports.t]\n{keys}\n")
}

fn get(case: &Case) -> Result<Answer> {
    Curl::new(&case.ns).get(&format!("http://127.0.0.1:{PORT}/"))
}

fn roots(ca: &Path) -> String {
    format!("root_cas = [\"{}\"]\n", ca.display())
}

/// 502 to the client without a reason, and a line of the log that has all these words.
fn refused(case: &Case, gateway: &Gateway, words: &[&str]) -> Result<()> {
    let answer = get(case)?.expect(502)?;
    ensure!(
        answer.text() == "bad gateway\n",
        "too much said: {}",
        answer.text()
    );
    let told = || {
        let log = gateway.proc.log();
        let hit = log
            .lines()
            .filter(|line| line.contains("no answer from the server"))
            .any(|line| words.iter().all(|word| line.contains(word)));
        Ok(hit.then_some(()))
    };
    wait::until(SOON, "the reason in the log", told).with_context(|| format!("no line has all of {words:?}"))
}

fn served(case: &Case, keys: &str) -> Result<Answer> {
    let _gateway = case.gateway(&body("https", keys))?;
    get(case)?.expect(200)
}

fn not_served(case: &Case, keys: &str, words: &[&str]) -> Result<()> {
    refused(case, &case.gateway(&body("https", keys))?, words)
}

fn tls_nginx(case: &Case, identity: &Identity) -> Result<Nginx> {
    let tls = NginxTls {
        identity: identity.clone(),
        clients: None,
    };
    Nginx::start(&case.ns, "n", BACKEND, &Serves::Tls(tls))
}

fn a_self_signed_server_is_believed_by_pin_or_by_name_and_else_the_log_says_how(case: &Case) -> Result<()> {
    let own = self_signed(&case.dir(), Role::Server, &["127.0.0.1"])?;
    let other = self_signed(&case.dir(), Role::Server, &["127.0.0.1"])?;
    let _nginx = tls_nginx(case, &own)?;
    let (right, wrong) = (pin(&own.cert)?, pin(&other.cert)?);
    served(case, &format!("pinned_spki = [\"{wrong}\", \"{right}\"]"))?;
    served(case, &roots(&own.cert))?;
    served(
        case,
        &(roots(&own.cert) + &format!("pinned_spki = [\"{right}\"]")),
    )?;
    let advice = format!("pin its key `{right}` with `pinned_spki`");
    not_served(
        case,
        "",
        &["is self-signed", "name it in `root_cas`", &advice, "system's"],
    )?;
    not_served(case, &roots(&other.cert), &["certificate", "`root_cas`"])?;
    let add = format!("add `{right}`");
    let wanted = format!("wanted: any name, a key of `{wrong}`");
    not_served(
        case,
        &format!("pinned_spki = [\"{wrong}\"]"),
        &["`pinned_spki`", &add, &wanted],
    )?;
    // Both must hold.
    let both = roots(&other.cert) + &format!("pinned_spki = [\"{right}\"]");
    not_served(case, &both, &["certificate"])
}

fn a_self_signed_ca_as_openssl_makes_it_is_believed_where_it_is_named(case: &Case) -> Result<()> {
    let (cert, key) = (case.dir().join("own.pem"), case.dir().join("own.key"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=own", "-addext", "subjectAltName=DNS:own.internal"])
        .arg("-out")
        .arg(&cert)
        .arg("-keyout")
        .arg(&key)
        .output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut own = self_signed(&case.dir(), Role::Server, &["x"])?;
    own.cert.clone_from(&cert);
    own.key = key;
    let _nginx = tls_nginx(case, &own)?;
    served(case, &(roots(&cert) + "server_name = \"own.internal\""))?;
    not_served(
        case,
        &(roots(&cert) + "server_name = \"other.internal\""),
        &["is not for `other.internal`", "such as `own.internal`"],
    )?;
    not_served(
        case,
        "server_name = \"own.internal\"",
        &["`root_cas`", "`pinned_spki`"],
    )
}

fn an_address_without_ip_san_is_refused_with_the_key_to_set(case: &Case) -> Result<()> {
    let ca = Authority::new(&case.dir(), "ca")?;
    {
        let _nginx = tls_nginx(case, &ca.issue(Role::Server, &["127.0.0.1"])?)?;
        served(case, &roots(ca.ca_file()))?;
    }
    let _nginx = tls_nginx(case, &ca.issue(Role::Server, &["backend.internal"])?)?;
    served(
        case,
        &(roots(ca.ca_file()) + "server_name = \"backend.internal\""),
    )?;
    not_served(
        case,
        &roots(ca.ca_file()),
        &[
            "certificate has no IP SAN",
            "set `server_name`",
            "presented: subject `CN=backend.internal`, names `backend.internal`, issuer `CN=ca`",
            "wanted: the name `127.0.0.1`, an issuer of `",
            "router=\"all\"",
            "service=\"backend\"",
            "transport=\"t\"",
        ],
    )
}

fn an_expired_server_is_refused_with_its_date(case: &Case) -> Result<()> {
    let ca = Authority::new(&case.dir(), "ca")?;
    let own = ca.issue_with(Role::Server, Validity::Expired, &["127.0.0.1"])?;
    let _nginx = tls_nginx(case, &own)?;
    not_served(
        case,
        &roots(ca.ca_file()),
        &["certificate expired at 2021-01-01T00:00:00Z"],
    )?;
    // A pin alone says nothing of dates.
    served(case, &format!("pinned_spki = [\"{}\"]", pin(&own.cert)?)).map(drop)
}

fn a_spiffe_identity_is_one_of_the_subject_names(case: &Case) -> Result<()> {
    let ca = Authority::new(&case.dir(), "ca")?;
    let own = ca.issue(Role::Server, &["spiffe://example.org/backend"])?;
    let _nginx = tls_nginx(case, &own)?;
    let names = |list: &str| roots(ca.ca_file()) + &format!("subject_names = [{list}]");
    served(case, &names("\"a.internal\", \"spiffe://example.org/backend\""))?;
    not_served(
        case,
        &names("\"spiffe://example.org/other\""),
        &[
            "none of `subject_names`",
            "names `spiffe://example.org/backend`",
            "`spiffe://example.org/other`",
        ],
    )
}

fn versions_are_agreed_on_or_the_log_says_which_key(case: &Case) -> Result<()> {
    let ca = Authority::new(&case.dir(), "ca")?;
    let own = ca.issue(Role::Server, &["127.0.0.1"])?;
    let trust = roots(ca.ca_file());
    for (only, good, bad) in [
        (
            "-tls1_2",
            "max_version = \"VersionTLS12\"",
            "min_version = \"VersionTLS13\"",
        ),
        (
            "-tls1_3",
            "min_version = \"VersionTLS13\"",
            "max_version = \"VersionTLS12\"",
        ),
    ] {
        let _server = SServer::new(&own).args(&[only]).start(&case.ns, BACKEND)?;
        served(case, &trust).context(only)?;
        served(case, &(trust.clone() + good)).context(only)?;
        not_served(case, &(trust.clone() + bad), &["no TLS version in common"]).context(only)?;
    }
    let suite = "ECDHE-ECDSA-AES256-GCM-SHA384";
    let _server = SServer::new(&own)
        .args(&["-tls1_2", "-cipher", suite])
        .start(&case.ns, BACKEND)?;
    let choose = |suite: &str| trust.clone() + &format!("cipher_suites = [\"{suite}\"]");
    served(case, &choose("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"))?;
    not_served(
        case,
        &choose("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
        &["`cipher_suites`"],
    )
}

fn a_server_that_breaks_off_without_our_certificate_is_explained(case: &Case) -> Result<()> {
    let (ca, clients, strangers) = (
        Authority::new(&case.dir(), "ca")?,
        Authority::new(&case.dir(), "clients")?,
        Authority::new(&case.dir(), "strangers")?,
    );
    let own = ca.issue(Role::Server, &["127.0.0.1"])?;
    let (good, bad) = (
        clients.issue(Role::Client, &["gateway.example"])?,
        strangers.issue(Role::Client, &["stranger.example"])?,
    );
    let with = |pair: &Identity| roots(ca.ca_file()) + &format!("certificates = [{}]", pair.toml());
    for version in ["-tls1_2", "-tls1_3"] {
        let _server = SServer::new(&own)
            .args(&[version])
            .demanding(clients.ca_file())
            .start(&case.ns, BACKEND)?;
        served(case, &with(&good)).context(version)?;
        not_served(
            case,
            &roots(ca.ca_file()),
            &[
                "the server demands a client certificate of `CN=clients`",
                "set `certificates`",
            ],
        )
        .context(version)?;
        not_served(
            case,
            &with(&bad),
            &[
                "the server refuses the client certificate `CN=stranger.example`",
                "`CN=clients`",
            ],
        )
        .context(version)?;
    }
    Ok(())
}

fn nginx_gets_the_certificate_of_the_ca_that_it_names(case: &Case) -> Result<()> {
    let (ca, clients, others) = (
        Authority::new(&case.dir(), "ca")?,
        Authority::new(&case.dir(), "clients")?,
        Authority::new(&case.dir(), "others")?,
    );
    let tls = NginxTls {
        identity: ca.issue(Role::Server, &["127.0.0.1"])?,
        clients: Some(clients.ca_file().to_owned()),
    };
    let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::MutualTls(tls))?;
    let (good, other) = (
        clients.issue(Role::Client, &["good.example"])?,
        others.issue(Role::Client, &["other.example"])?,
    );
    let with = |pairs: &[&Identity]| {
        let pairs: Vec<String> = pairs.iter().map(|pair| pair.toml()).collect();
        roots(ca.ca_file()) + &format!("certificates = [{}]", pairs.join(", "))
    };
    for pairs in [[&other, &good], [&good, &other]] {
        let answer = served(case, &with(&pairs))?;
        ensure!(
            answer.field("dn").is_some_and(|dn| dn.contains("good.example")),
            "{}",
            answer.text()
        );
    }
    // nginx finishes the handshake and answers 400; that is the server's own answer.
    for keys in [with(&[&other]), roots(ca.ca_file())] {
        let _gateway = case.gateway(&body("https", &keys))?;
        get(case)?.expect(400)?;
    }
    Ok(())
}

fn servers_of_http2_alone_are_reached_by_alpn_and_in_the_clear(case: &Case) -> Result<()> {
    let ca = Authority::new(&case.dir(), "ca")?;
    {
        let _server = nghttpd::start(&case.ns, BACKEND, None)?;
        let _gateway = case.gateway(&body("h2c", ""))?;
        ensure!(get(case)?.expect(200)?.text() == "nghttpd\n");
    }
    let own = ca.issue(Role::Server, &["127.0.0.1"])?;
    let _server = nghttpd::start(&case.ns, BACKEND, Some(&own))?;
    ensure!(served(case, &roots(ca.ca_file()))?.text() == "nghttpd\n");
    let _gateway = case.gateway(&body("https", &(roots(ca.ca_file()) + "disable_http2 = true")))?;
    get(case)?.expect(502).map(drop)
}

fn a_flood_of_refusals_does_not_flood_the_log(case: &Case) -> Result<()> {
    let own = self_signed(&case.dir(), Role::Server, &["127.0.0.1"])?;
    let _nginx = tls_nginx(case, &own)?;
    let setup = case.setup()?.with("info,sallyport=debug", "info");
    let gateway = setup.start(&body("https", ""))?;
    let began = std::time::Instant::now();
    for _ in 0..100 {
        get(case)?.expect(502)?;
    }
    let log = gateway.proc.log();
    let told = log.lines().filter(|line| line.contains("is self-signed")).count();
    // Two workers, each a line a second.
    let seconds = usize::try_from(began.elapsed().as_secs())?;
    ensure!(told >= 1, "nothing told: {log}");
    ensure!(told <= 2 * (seconds + 2), "{told} lines in {seconds} s");
    Ok(())
}

fn a_changed_transport_uses_no_session_of_the_older_trust(case: &Case) -> Result<()> {
    let own = self_signed(&case.dir(), Role::Server, &["127.0.0.1"])?;
    let other = self_signed(&case.dir(), Role::Server, &["127.0.0.1"])?;
    // Every exchange has a connection of its own, so that each handshake could resume a session.
    let _server = SServer::new(&own).start(&case.ns, BACKEND)?;
    let setup = case.setup()?.with("workers = 2", "workers = 1");
    let gateway = setup.start(&body("https", &roots(&own.cert)))?;
    for _ in 0..2 {
        get(case)?.expect(200)?;
    }
    let resumed = get(case)?.expect(200)?;
    ensure!(resumed.text().contains("Reused, TLSv1.3"), "{}", resumed.text());
    gateway.setup().write(&body("https", &roots(&other.cert)))?;
    ensure!(gateway.setup().command(&["reload"])?.status.success());
    refused(case, &gateway, &["certificate", "`root_cas`"])
}
