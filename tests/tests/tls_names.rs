//! Names and policies: which certificate a client sees, and the known ways past a policy, each a test named after the
//! advisory that told of it elsewhere.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Identity, KeyType, Role};
use sallyport_tests::curl::Curl;
use sallyport_tests::fragments::{
    BACKEND, PORT, backend_url, certificate, entry_point, local, mutual, route_all, router, service,
};
use sallyport_tests::nginx::{Nginx, Serves};
use sallyport_tests::on_both_drivers;
use sallyport_tests::openssl::{SClient, Version, alert};
use sallyport_tests::raw_client;
use sallyport_tests::tls_client::{Offer, Session, TlsClient, outgoing};
use std::process::Command;

on_both_drivers!(
    an_address_chooses_a_certificate_where_there_is_no_name,
    the_key_type_follows_what_the_client_verifies,
    versions_suites_and_groups_are_those_that_are_configured,
    the_hybrid_group_is_what_a_modern_client_gets,
    odd_certificates_are_said_at_check,
    ghsa_hrhx_6h34_j5hc_a_trailing_dot_is_no_way_past_mutual_tls,
    cve_2026_32305_a_hello_over_many_records_is_no_way_past_mutual_tls,
    ghsa_5r4w_85f3_pw66_a_wildcard_certificate_is_no_way_past_the_421,
    ghsa_9cr8_q42q_g8m7_the_case_of_a_name_is_no_way_past_mutual_tls,
    one_http2_connection_serves_the_hosts_of_its_policy_and_no_others,
    the_policy_of_another_entry_point_is_not_had_by_name,
);

fn connect(case: &Case, version: Version) -> SClient {
    SClient::new(&case.ns, local(PORT), version)
}

fn nginx(case: &Case) -> Result<Nginx> {
    Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)
}

fn tls_body(keys: &str, certificates: &[&Identity]) -> String {
    let certificates: String = certificates.iter().map(|one| certificate(one)).collect();
    entry_point(keys) + &route_all(&backend_url()) + &certificates
}

fn an_address_chooses_a_certificate_where_there_is_no_name(case: &Case) -> Result<()> {
    let _nginx = nginx(case)?;
    let ca = Authority::new(&case.dir(), "ca")?;
    let (named, addressed) = (
        ca.issue(Role::Server, &["a.example"])?,
        ca.issue(Role::Server, &["127.0.0.1", "shown.example"])?,
    );
    let body = tls_body("tls = { options = \"o\" }", &[&named, &addressed]);
    for strict in [false, true] {
        let keys = format!("[tls.options.o]\nsni_strict = {strict}\n");
        let mut gateway = case.gateway(&(body.clone() + &keys))?;
        for version in Version::ALL {
            let unnamed = connect(case, version).trust(ca.ca_file()).get("a.example")?;
            ensure!(unnamed.has_status(200), "{version:?}: {}", unnamed.errors);
            let names = Curl::new(&case.ns).trust(ca.ca_file());
            names.get(&format!("https://127.0.0.1:{PORT}/"))?.expect(200)?;
        }
        ensure!(gateway.stop()?.success());
    }
    // Without such a certificate a strict entry point says that it has none.
    let body = tls_body("tls = { options = \"o\" }", &[&named]) + "[tls.options.o]\nsni_strict = true\n";
    let _gateway = case.gateway(&body)?;
    for version in Version::ALL {
        let unnamed = connect(case, version).get("a.example")?;
        ensure!(
            unnamed.alert == Some(alert::UNRECOGNIZED_NAME),
            "{version:?}: {}",
            unnamed.errors
        );
    }
    Ok(())
}

fn the_key_type_follows_what_the_client_verifies(case: &Case) -> Result<()> {
    let _nginx = nginx(case)?;
    let ca = Authority::new(&case.dir(), "ca")?;
    let issue = |key, name| ca.issue_key(Role::Server, key, &[name]);
    let (rsa, p256, ed) = (
        issue(KeyType::Rsa, "a.example")?,
        issue(KeyType::P256, "a.example")?,
        issue(KeyType::Ed25519, "a.example")?,
    );
    let (exact, wildcard) = (
        issue(KeyType::P256, "x.b.example")?,
        issue(KeyType::Rsa, "*.b.example")?,
    );
    let body = tls_body("tls = {}", &[&rsa, &p256, &ed, &exact, &wildcard]);
    let _gateway = case.gateway(&body)?;
    let shown = |version, name: &str, words: &[&str]| -> Result<String> {
        let got = connect(case, version)
            .sni(name)
            .trust(ca.ca_file())
            .args(words)
            .get(name)?;
        ensure!(got.has_status(200), "{version:?} {words:?}: {}", got.errors);
        let kind = got
            .output
            .lines()
            .find_map(|line| line.split_once("Peer signature type: "));
        Ok(kind.map(|(_, kind)| kind.to_owned()).unwrap_or_default())
    };
    for (version, words, expected) in [
        (
            Version::Tls13,
            &["-sigalgs", "ECDSA+SHA256:RSA-PSS+SHA256:ed25519"][..],
            "ECDSA",
        ),
        (
            Version::Tls13,
            &["-sigalgs", "RSA-PSS+SHA256:ECDSA+SHA512:ed25519"],
            "ed25519",
        ),
        (Version::Tls13, &["-sigalgs", "RSA-PSS+SHA256"], "RSA-PSS"),
        (Version::Tls12, &["-sigalgs", "RSA-PSS+SHA256:RSA+SHA256"], "RSA"),
        (Version::Tls12, &["-cipher", "ECDHE-RSA-AES128-GCM-SHA256"], "RSA"),
        (
            Version::Tls12,
            &["-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"],
            "ECDSA",
        ),
    ] {
        let kind = shown(version, "a.example", words)?;
        ensure!(
            kind.starts_with(expected),
            "{version:?} {words:?}: {kind}, expected {expected}"
        );
    }
    // A client of TLS 1.2 verifies no ECDSA over a curve that it does not have.
    let curve = shown(Version::Tls12, "a.example", &["-groups", "X25519"])?;
    ensure!(curve == "ed25519", "{curve}");
    let modern = shown(Version::Tls12, "x.b.example", &[])?;
    ensure!(modern == "ECDSA", "{modern}");
    let old = shown(
        Version::Tls12,
        "x.b.example",
        &["-cipher", "ECDHE-RSA-AES128-GCM-SHA256"],
    )?;
    ensure!(old.starts_with("RSA"), "{old}");
    Ok(())
}

fn versions_suites_and_groups_are_those_that_are_configured(case: &Case) -> Result<()> {
    let _nginx = nginx(case)?;
    let ca = Authority::new(&case.dir(), "ca")?;
    let server = ca.issue(Role::Server, &["a.example"])?;
    let body = |keys: &str| {
        tls_body("tls = { options = \"o\" }", &[&server]) + &format!("[tls.options.o]\n{keys}\n")
    };
    let get = |version, words: &[&str]| {
        connect(case, version)
            .sni("a.example")
            .args(words)
            .get("a.example")
    };
    let mut gateway = case.gateway(&body("max_version = \"VersionTLS12\""))?;
    ensure!(get(Version::Tls12, &[])?.has_status(200));
    let refused = get(Version::Tls13, &[])?;
    ensure!(
        refused.alert == Some(alert::PROTOCOL_VERSION),
        "{}",
        refused.errors
    );
    ensure!(gateway.stop()?.success());

    let suites = "cipher_suites = [\"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305\"]";
    let mut gateway = case.gateway(&body(suites))?;
    ensure!(get(Version::Tls12, &["-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"])?.has_status(200));
    let refused = get(Version::Tls12, &["-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"])?;
    ensure!(
        refused.alert == Some(alert::HANDSHAKE_FAILURE),
        "{}",
        refused.errors
    );
    ensure!(get(Version::Tls13, &[])?.has_status(200));
    ensure!(gateway.stop()?.success());

    let mut gateway = case.gateway(&body("curve_preferences = [\"CurveP384\"]"))?;
    for version in Version::ALL {
        let got = get(version, &["-groups", "X25519:P-256:P-384"])?;
        ensure!(got.has_status(200), "{version:?}: {}", got.output);
        let refused = get(version, &["-groups", "X25519:P-256"])?;
        ensure!(
            refused.alert == Some(alert::HANDSHAKE_FAILURE),
            "{version:?}: {}",
            refused.errors
        );
    }
    ensure!(gateway.stop()?.success());
    // Our order decides, not the client's, also where the client must be asked for another share.
    let mut gateway = case.gateway(&body("curve_preferences = [\"CurveP384\", \"X25519\"]"))?;
    for version in Version::ALL {
        for (groups, expected) in [("X25519:P-256:P-384", "secp384r1"), ("P-256:X25519", "X25519")] {
            let got = get(version, &["-groups", groups])?;
            let key = got
                .output
                .lines()
                .find(|line| line.starts_with("Server Temp Key"));
            ensure!(
                got.has_status(200) && key.is_some_and(|key| key.contains(expected)),
                "{version:?} {groups}: {key:?}"
            );
        }
    }
    ensure!(gateway.stop()?.success());
    Ok(())
}

fn the_hybrid_group_is_what_a_modern_client_gets(case: &Case) -> Result<()> {
    let _nginx = nginx(case)?;
    let ca = Authority::new(&case.dir(), "ca")?;
    let server = ca.issue(Role::Server, &["a.example"])?;
    let _gateway = case.gateway(&tls_body("tls = {}", &[&server]))?;
    for (offer, expected) in [(Offer::Usual, "X25519MLKEM768"), (Offer::Common, "X25519")] {
        let client = TlsClient::new(ca.ca_file(), None, Some(Version::Tls13), offer)?;
        let tcp = raw_client::connect(&case.ns, None, local(PORT))?;
        let mut session = client.shake(tcp, "a.example")?;
        ensure!(session.get("a.example")?.status == 200);
        let group = session.group().unwrap_or_default();
        ensure!(group == expected, "{group}, expected {expected}");
    }
    Ok(())
}

fn odd_certificates_are_said_at_check(case: &Case) -> Result<()> {
    let ca = Authority::new(&case.dir(), "ca")?;
    let setup = case.setup()?;
    let check = |body: &str| -> Result<(Option<i32>, String)> {
        setup.write(body)?;
        let done = setup.command(&["check"])?;
        Ok((
            done.status.code(),
            String::from_utf8_lossy(&done.stderr).into_owned(),
        ))
    };
    let (first, second) = (
        ca.issue(Role::Server, &["a.example"])?,
        ca.issue(Role::Server, &["a.example"])?,
    );
    let other = ca.issue_key(Role::Server, KeyType::Rsa, &["a.example"])?;
    let (code, said) = check(&tls_body("tls = {}", &[&first, &other]))?;
    ensure!(code == Some(0) && !said.contains("same type"), "{said}");
    let (code, said) = check(&tls_body("tls = {}", &[&first, &second]))?;
    ensure!(
        code == Some(0) && said.contains("the earlier one is served"),
        "{said}"
    );
    // Suites of TLS 1.2 that no certificate of the gateway can sign for.
    let suites = "cipher_suites = [\"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256\"]\n";
    let options = |more: &str| {
        tls_body("tls = { options = \"o\" }", &[&first]) + &format!("[tls.options.o]\n{suites}{more}")
    };
    let (code, said) = check(&options(""))?;
    ensure!(
        code == Some(0) && said.contains("clients of TLS 1.2 are refused"),
        "{said}"
    );
    let (code, said) = check(&options("max_version = \"VersionTLS12\"\n"))?;
    ensure!(
        code == Some(78) && said.contains("nobody could connect"),
        "{said}"
    );
    Ok(())
}

/// `open.example` is open; `closed.example` demands a client certificate.
struct Sides {
    _nginx: Nginx,
    ca: Authority,
    client: Identity,
    body: String,
}

impl Sides {
    fn new(case: &Case, names: &[&str]) -> Result<Sides> {
        let ca = Authority::new(&case.dir(), "ca")?;
        let server = ca.issue(Role::Server, names)?;
        let routes = router(
            "open",
            "Host(`open.example`) || Host(`also.example`)",
            "backend",
            "",
        ) + &router(
            "closed",
            "Host(`closed.example`)",
            "backend",
            "tls = { options = \"mtls\" }",
        ) + &router("rest", "PathPrefix(`/`)", "backend", "")
            + &service("backend", &[&backend_url()], "");
        Ok(Sides {
            _nginx: nginx(case)?,
            client: ca.issue(Role::Client, &["c.example"])?,
            body: entry_point("tls = {}")
                + &routes
                + &certificate(&server)
                + &mutual("mtls", ca.ca_file(), ""),
            ca,
        })
    }
}

const HOSTS: &[&str] = &["open.example", "closed.example", "also.example"];

fn ghsa_hrhx_6h34_j5hc_a_trailing_dot_is_no_way_past_mutual_tls(case: &Case) -> Result<()> {
    let sides = Sides::new(case, HOSTS)?;
    let _gateway = case.gateway(&sides.body)?;
    for version in Version::ALL {
        for host in [
            "closed.example.",
            "closed.example.:8000",
            "CLOSED.example.",
            "closed.example:",
        ] {
            let crossed = connect(case, version).sni("open.example").get(host)?;
            ensure!(crossed.has_status(421), "{version:?} {host}: {}", crossed.output);
        }
        for host in ["closed.example..", ".closed.example"] {
            let crossed = connect(case, version).sni("open.example").get(host)?;
            ensure!(crossed.has_status(400), "{version:?} {host}: {}", crossed.output);
        }
        // A name that ends in a dot is either that host's or no name at all; it never opens the host without proof.
        let dotted = connect(case, version)
            .sni("closed.example.")
            .get("closed.example")?;
        ensure!(!dotted.has_status(200), "{version:?}: {}", dotted.output);
        let dotted = connect(case, version)
            .sni("closed.example.")
            .get("closed.example.")?;
        ensure!(!dotted.has_status(200), "{version:?}: {}", dotted.output);
        let proven = connect(case, version)
            .sni("closed.example")
            .identity(&sides.client)
            .get("closed.example.")?;
        ensure!(
            proven.has_status(200),
            "{version:?}: {}{}",
            proven.output,
            proven.errors
        );
    }
    Ok(())
}

fn cve_2026_32305_a_hello_over_many_records_is_no_way_past_mutual_tls(case: &Case) -> Result<()> {
    let sides = Sides::new(case, HOSTS)?;
    let _gateway = case.gateway(&sides.body)?;
    for version in Version::ALL {
        for size in [1, 7, 60] {
            let stranger = TlsClient::new(sides.ca.ca_file(), None, Some(version), Offer::Usual)?;
            let refused = answer(case, &stranger, size);
            ensure!(refused.is_err(), "{version:?}, records of {size}: {refused:?}");
            let known = TlsClient::new(
                sides.ca.ca_file(),
                Some(&sides.client),
                Some(version),
                Offer::Usual,
            )?;
            let served = answer(case, &known, size)?;
            ensure!(served == 200, "{version:?}, records of {size}: {served}");
        }
    }
    Ok(())
}

/// What `closed.example` answers to a hello that comes in records of `size` bytes.
fn answer(case: &Case, client: &TlsClient, size: usize) -> Result<u16> {
    let mut connection = client.begin("closed.example")?;
    let hello = outgoing(&mut connection)?;
    let (head, message) = hello.split_at(5);
    let mut records = Vec::new();
    for piece in message.chunks(size) {
        records.extend_from_slice(head.first_chunk::<3>().context("no record")?);
        records.extend_from_slice(&u16::try_from(piece.len())?.to_be_bytes());
        records.extend_from_slice(piece);
    }
    let mut tcp = raw_client::connect(&case.ns, None, local(PORT))?;
    raw_client::send(&mut tcp, &[&records])?;
    Ok(Session::finish(connection, tcp)?.get("closed.example")?.status)
}

fn ghsa_5r4w_85f3_pw66_a_wildcard_certificate_is_no_way_past_the_421(case: &Case) -> Result<()> {
    let sides = Sides::new(case, &["*.example"])?;
    // A wildcard in a rule, where the advisory's lookup failed.
    let wild = sides.body.replace("Host(`closed.example`)", "Host(`*.example`)");
    let mut gateway = case.gateway(&wild)?;
    for version in Version::ALL {
        let crossed = connect(case, version).sni("open.example").get("closed.example")?;
        ensure!(crossed.has_status(421), "{version:?}: {}", crossed.output);
        let bare = connect(case, version)
            .sni("closed.example")
            .get("closed.example")?;
        ensure!(!bare.has_answer(), "{version:?}: {}", bare.output);
        let proven = connect(case, version)
            .sni("other.example")
            .identity(&sides.client);
        let proven = proven.get("closed.example")?;
        ensure!(proven.has_status(200), "{version:?}: {}", proven.output);
    }
    ensure!(gateway.stop()?.success());
    let _gateway = case.gateway(&sides.body)?;
    for version in Version::ALL {
        for name in ["open.example", "other.example", "also.example"] {
            let crossed = connect(case, version).sni(name).get("closed.example")?;
            ensure!(crossed.has_status(421), "{version:?} {name}: {}", crossed.output);
        }
        // No name at all is the entry point's own policy.
        let crossed = connect(case, version).get("closed.example")?;
        ensure!(crossed.has_status(421), "{version:?}: {}", crossed.output);
        let other = connect(case, version)
            .sni("other.example")
            .get("another.example")?;
        ensure!(other.has_status(200), "{version:?}: {}", other.output);
    }
    Ok(())
}

fn ghsa_9cr8_q42q_g8m7_the_case_of_a_name_is_no_way_past_mutual_tls(case: &Case) -> Result<()> {
    let sides = Sides::new(case, HOSTS)?;
    let _gateway = case.gateway(&sides.body)?;
    for version in Version::ALL {
        for (name, host) in [
            ("CLOSED.EXAMPLE", "closed.example"),
            ("Closed.Example", "CLOSED.EXAMPLE"),
            ("cLOSED.eXAMPLE", "closed.example:8000"),
        ] {
            let refused = connect(case, version).sni(name).get(host)?;
            ensure!(
                refused.alert == Some(alert::CERTIFICATE_REQUIRED) && !refused.has_answer(),
                "{version:?} {name}: {}{}",
                refused.output,
                refused.errors
            );
            let proven = connect(case, version)
                .sni(name)
                .identity(&sides.client)
                .get(host)?;
            ensure!(
                proven.has_status(200),
                "{version:?} {name}: {}{}",
                proven.output,
                proven.errors
            );
        }
        let crossed = connect(case, version).sni("OPEN.EXAMPLE").get("Closed.Example")?;
        ensure!(crossed.has_status(421), "{version:?}: {}", crossed.output);
    }
    Ok(())
}

fn one_http2_connection_serves_the_hosts_of_its_policy_and_no_others(case: &Case) -> Result<()> {
    let sides = Sides::new(case, HOSTS)?;
    let _gateway = case.gateway(&sides.body)?;
    // curl makes both requests of one command over one connection, and says how many it made.
    let pair = |first: &str, second: &str, words: &[&str]| -> Result<(Vec<String>, String)> {
        let resolve = format!("{first}:{PORT}:127.0.0.1");
        let url = format!("https://{first}:{PORT}/");
        let mut curl = Command::new("curl");
        curl.args([
            "-sS",
            "--http2",
            "--max-time",
            "10",
            "--resolve",
            &resolve,
            "--cacert",
        ])
        .arg(sides.ca.ca_file())
        .args(words)
        .args([
            "-o",
            "/dev/null",
            "-w",
            "%{http_code} %{num_connects} %{http_version}\n",
            &url,
        ])
        .args([
            "--next",
            "-sS",
            "--http2",
            "--max-time",
            "10",
            "--resolve",
            &resolve,
            "--cacert",
        ])
        .arg(sides.ca.ca_file())
        .args(words)
        .args(["-H", &format!("Host: {second}")])
        .args([
            "-o",
            "/dev/null",
            "-w",
            "%{http_code} %{num_connects} %{http_version}\n",
            &url,
        ]);
        let output = case.ns.output(&mut curl)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok((text.lines().map(str::to_owned).collect(), errors))
    };
    let (got, errors) = pair("open.example", "closed.example", &[])?;
    ensure!(got == ["200 1 2", "421 0 2"], "{got:?} {errors}");
    let (got, errors) = pair("open.example", "also.example", &[])?;
    ensure!(got == ["200 1 2", "200 0 2"], "{got:?} {errors}");
    let (cert, key) = (
        sides.client.cert.display().to_string(),
        sides.client.key.display().to_string(),
    );
    let shown = ["--cert", &cert, "--key", &key];
    let (got, errors) = pair("closed.example", "open.example", &shown)?;
    ensure!(got == ["200 1 2", "421 0 2"], "{got:?} {errors}");
    Ok(())
}

fn the_policy_of_another_entry_point_is_not_had_by_name(case: &Case) -> Result<()> {
    let sides = Sides::new(case, HOSTS)?;
    // The second entry point demands a certificate whatever the name, and serves none of those hosts.
    let other = "[entry_points.inner]\naddress = \"127.0.0.1:8001\"\ntls = { options = \"mtls\" }\n\
                 [routers.inner]\nrule = \"PathPrefix(`/`)\"\nentry_points = [\"inner\"]\nservice = \"backend\"\n";
    let _gateway = case.gateway(&(sides.body.clone() + other))?;
    for version in Version::ALL {
        for name in ["open.example", "closed.example", "any.example"] {
            let to = SClient::new(&case.ns, local(8001), version).sni(name);
            let refused = to.get(name)?;
            ensure!(
                refused.alert == Some(alert::CERTIFICATE_REQUIRED),
                "{version:?} {name}: {}{}",
                refused.output,
                refused.errors
            );
            let to = SClient::new(&case.ns, local(8001), version).sni(name);
            let proven = to.identity(&sides.client).get(name)?;
            ensure!(proven.has_status(200), "{version:?} {name}: {}", proven.output);
        }
    }
    Ok(())
}
