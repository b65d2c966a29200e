//! What servers learn of a client's certificate, and that nobody else can say it; both drivers.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Identity, Role};
use sallyport_tests::curl::Curl;
use sallyport_tests::fragments::{
    BACKEND, PORT, backend_url, certificate, entry_point, local, mutual, router, service,
};
use sallyport_tests::gateway::{Gateway, Setup};
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_client;
use sallyport_tests::raw_server::{Behaviour, RawServer};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

on_both_drivers!(
    a_server_is_told_of_the_clients_certificate,
    a_subject_made_by_openssl_forges_nothing,
    a_stranger_cannot_say_that_it_has_a_certificate,
    trailers_and_connection_bring_no_certificate_either,
    a_strangers_word_chooses_no_route,
    a_gateway_behind_a_trusted_one_passes_its_word_on,
    a_connection_with_a_certificate_is_told_of_alone,
    what_a_trusted_peer_says_twice_is_not_passed_on,
    a_parent_tells_its_child_of_the_client,
    the_chain_is_told_without_strays_and_only_where_asked,
    a_certificate_that_nobody_verified_is_told_of_only_by_name,
    a_certificate_too_large_for_a_field_is_refused,
    a_reload_that_names_a_missing_middleware_changes_nothing,
);

/// Everything that can be told, of the leaf.
const TELL: &str = "[middlewares.tell.pass_tls_client_cert]\npem = true\nrfc9440 = true\n\
    [middlewares.tell.pass_tls_client_cert.info]\nserial_number = true\nsans = true\n\
    subject = { organization = true, common_name = true }\nissuer = { common_name = true }\n";

/// The fields that tell of a certificate, in the spellings that servers take for them.
const FORGED: [&str; 14] = [
    "Client-Cert",
    "client_cert",
    "CLIENT.CERT",
    "Client-Cert-Chain",
    "Client_Cert-Chain",
    "X-Forwarded-Tls-Client-Cert",
    "x_forwarded_tls_client_cert",
    "X-Forwarded.Tls-Client-Cert-Info",
    "X-FORWARDED-TLS-CLIENT-CERT-INFO",
    "X-Forwarded-Client-Cert",
    "X-Client-Cert",
    "X-SSL-Client-Verify",
    "SSL_CLIENT_CERT",
    "X-Client-DN",
];

struct Trust {
    clients: Authority,
    servers: Authority,
    server: Identity,
}

impl Trust {
    fn new(case: &Case) -> Result<Trust> {
        let servers = Authority::new(&case.dir(), "servers")?;
        Ok(Trust {
            clients: Authority::new(&case.dir(), "clients")?,
            server: servers.issue(Role::Server, &["a.example"])?,
            servers,
        })
    }

    /// An entry point that demands a client certificate, and a route to the backend with these keys.
    fn body(&self, entry_keys: &str, router_keys: &str) -> String {
        format!(
            "{}{}{}{}{}",
            entry_point(&format!("tls = {{ options = \"clients\" }}\n{entry_keys}")),
            router("all", "PathPrefix(`/`)", "backend", router_keys),
            service("backend", &[&backend_url()], ""),
            certificate(&self.server),
            mutual("clients", self.clients.ca_file(), ""),
        )
    }

    fn curl(&self, case: &Case) -> Curl {
        Curl::new(&case.ns).via(local(PORT)).trust(self.servers.ca_file())
    }
}

fn backend(case: &Case) -> Result<RawServer> {
    RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)
}

/// The values of a field of a request as the backend got it.
fn values<'r>(request: &'r str, name: &str) -> Vec<&'r str> {
    let lines = request.lines().filter_map(|line| line.split_once(':'));
    lines
        .filter(|(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
        .collect()
}

fn value<'r>(request: &'r str, name: &str) -> Result<&'r str> {
    let found = values(request, name);
    ensure!(
        found.len() == 1,
        "`{name}` is there {} times: {request}",
        found.len()
    );
    found.first().copied().context("one")
}

/// The base64 of the certificates of a PEM file.
fn base64_of(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path)?;
    let mut found: Vec<String> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match line {
            "-----BEGIN CERTIFICATE-----" => {
                found.push(String::new());
                inside = true;
            }
            "-----END CERTIFICATE-----" => inside = false,
            _ if inside => found.last_mut().context("begun")?.push_str(line.trim()),
            _ => {}
        }
    }
    Ok(found)
}

/// Undoes the escaping of a URL's query.
fn unescape(text: &str) -> Result<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().context("a digit")?, rest.next().context("a digit")?];
                u8::from_str_radix(std::str::from_utf8(&digits)?, 16)?
            }
            other => other,
        });
    }
    Ok(String::from_utf8(bytes)?)
}

fn a_server_is_told_of_the_clients_certificate(case: &Case) -> Result<()> {
    let _server = backend(case)?;
    let trust = Trust::new(case)?;
    let client = trust.clients.issue(
        Role::Client,
        &["alice.example", "spiffe://example.org/alice", "192.0.2.7"],
    )?;
    let _gateway = case.gateway(&(trust.body("", "middlewares = [\"tell\"]") + TELL))?;
    let [leaf] = &base64_of(&client.cert)?[..] else {
        anyhow::bail!("one certificate was expected")
    };
    for version in ["--http1.1", "--http2"] {
        let curl = trust.curl(case).identity(&client).arg(version);
        let curl = FORGED
            .iter()
            .fold(curl, |curl, name| curl.header(&format!("{name}: forged")));
        let request = curl.get("https://a.example/")?.expect(200)?.text();
        ensure!(!request.contains("forged"), "{version}: {request}");
        ensure!(
            value(&request, "X-Forwarded-Tls-Client-Cert")? == leaf,
            "{request}"
        );
        ensure!(
            value(&request, "Client-Cert")? == format!(":{leaf}:"),
            "{request}"
        );
        ensure!(values(&request, "Client-Cert-Chain").is_empty(), "{request}");
        let info = unescape(value(&request, "X-Forwarded-Tls-Client-Cert-Info")?)?;
        let expected = "Subject=\"CN=alice.example\";Issuer=\"CN=clients\";SerialNumber=\"1000\";\
                        SAN=\"alice.example,192.0.2.7,spiffe://example.org/alice\"";
        ensure!(info == expected, "{info}");
    }
    Ok(())
}

/// An authority and a client's certificate and key by openssl, with any subject and string type.
fn made_by_openssl(case: &Case, name: &str, mask: &str, subject: &str) -> Result<[PathBuf; 3]> {
    let at = |ending: &str| case.dir().join(format!("{name}.{ending}"));
    let (conf, ca, ca_key) = (at("cnf"), at("ca.pem"), at("ca.key"));
    let (cert, key, request) = (at("pem"), at("key"), at("csr"));
    std::fs::write(
        &conf,
        format!(
            "[req]\nprompt = no\nutf8 = yes\nstring_mask = {mask}\ndistinguished_name = dn\n[dn]\nO = Acme\nCN = {subject}\n\
             [ca]\nbasicConstraints = critical,CA:true\nkeyUsage = critical,keyCertSign\n\
             [leaf]\nbasicConstraints = critical,CA:false\nextendedKeyUsage = clientAuth\nsubjectAltName = DNS:real.example\n"
        ),
    )?;
    let run = |words: &[&str]| -> Result<()> {
        let output = case.ns.output(Command::new("openssl").args(words))?;
        ensure!(
            output.status.success(),
            "{words:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    };
    let text = |path: &Path| path.display().to_string();
    let (conf, ca, ca_key) = (text(&conf), text(&ca), text(&ca_key));
    let (cert_text, key_text, request) = (text(&cert), text(&key), text(&request));
    let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let root = [
        "req",
        "-x509",
        "-subj",
        "/CN=made",
        "-days",
        "30",
        "-config",
        &conf,
        "-extensions",
        "ca",
    ];
    run(&[&root[..], &new_key, &["-keyout", &ca_key, "-out", &ca]].concat())?;
    run(&[
        &["req", "-new", "-config", &conf][..],
        &new_key,
        &["-keyout", &key_text, "-out", &request],
    ]
    .concat())?;
    run(&[
        "x509",
        "-req",
        "-in",
        &request,
        "-CA",
        &ca,
        "-CAkey",
        &ca_key,
        "-days",
        "30",
        "-extfile",
        &conf,
        "-extensions",
        "leaf",
        "-out",
        &cert_text,
    ])?;
    Ok([PathBuf::from(ca), cert, key])
}

fn a_subject_made_by_openssl_forges_nothing(case: &Case) -> Result<()> {
    let _server = backend(case)?;
    let subjects = [
        (
            "quote",
            "utf8only",
            "\\\",SAN=\\\"evil.example",
            "\",SAN=\"evil.example",
        ),
        (
            "field",
            "utf8only",
            "x\\\"\\;SAN=\\\"evil.example\\\"\\;NA=\\\"1",
            "x\";SAN=\"evil.example\";NA=\"1",
        ),
        ("comma", "utf8only", "alice\\,CN=root", "alice,CN=root"),
        ("line", "utf8only", "alice\\nX-Admin: yes", "alice\nX-Admin: yes"),
        (
            "percent",
            "utf8only",
            "%22\\;SAN=%22evil.example",
            "%22;SAN=%22evil.example",
        ),
        ("letters", "utf8only", "Zoë Müller", "Zoë Müller"),
        // `nombstr` and `default` differ in what they write for letters outside Latin-1; this one is a BMPString.
        ("plane", "MASK:0x800", "Zoë \\\"日本\\\"", "Zoë \"日本\""),
    ];
    let trust = Trust::new(case)?;
    for (name, mask, written, subject) in subjects {
        let [ca, cert, key] = made_by_openssl(case, name, mask, written)?;
        let body = trust.body("", "middlewares = [\"tell\"]") + TELL;
        let body = body.replace(
            &trust.clients.ca_file().display().to_string(),
            &ca.display().to_string(),
        );
        let setup = Setup::new(&case.ns, name, case.driver)?;
        let mut gateway = setup.start(&body)?;
        let curl = trust.curl(case).arg("--cert").arg(cert.display().to_string());
        let curl = curl.arg("--key").arg(key.display().to_string());
        let request = curl.get("https://a.example/")?.expect(200)?.text();
        ensure!(values(&request, "X-Admin").is_empty(), "{name}: {request}");
        let info = unescape(value(&request, "X-Forwarded-Tls-Client-Cert-Info")?)?;
        // The simplest of splitters: at every separator.
        let fields: Vec<&str> = info.split(';').collect();
        let [said, issuer, serial, sans] = &fields[..] else {
            anyhow::bail!("{name}: {info}")
        };
        ensure!(
            *issuer == "Issuer=\"CN=made\"" && serial.starts_with("SerialNumber=\""),
            "{name}: {info}"
        );
        ensure!(*sans == "SAN=\"real.example\"", "{name}: {info}");
        let parts: Vec<&str> = said
            .trim_start_matches("Subject=\"")
            .trim_end_matches('"')
            .split(',')
            .collect();
        let [organization, common] = &parts[..] else {
            anyhow::bail!("{name}: {info}")
        };
        let common = unescape(common.trim_start_matches("CN="))?;
        ensure!(*organization == "O=Acme" && common == subject, "{name}: {info}");
        gateway.stop()?;
    }
    Ok(())
}

fn a_stranger_cannot_say_that_it_has_a_certificate(case: &Case) -> Result<()> {
    let _server = backend(case)?;
    let told = "middlewares = [\"tell\"]";
    let body = entry_point("forwarded_headers = { trusted_ips = [\"127.0.0.1/32\"] }")
        + &router("plain", "PathPrefix(`/`)", "backend", "")
        + &router("told", "PathPrefix(`/told`)", "backend", told)
        + &service("backend", &[&backend_url()], "")
        + TELL;
    let _gateway = case.gateway(&body)?;
    for path in ["/", "/told"] {
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            for name in FORGED {
                let curl = Curl::new(&case.ns).from([127, 0, 0, 9].into()).arg(version);
                let curl = curl
                    .header(&format!("{name}: forged"))
                    .header(&format!("{name}: forged too"));
                let request = curl
                    .get(&format!("http://127.0.0.1:{PORT}{path}"))?
                    .expect(200)?
                    .text();
                ensure!(!request.contains("forged"), "{path} {version} {name}: {request}");
            }
            // The other side: the trusted peer's word passes, in the one spelling that proxies write.
            let curl = Curl::new(&case.ns).from([127, 0, 0, 1].into()).arg(version);
            let curl = curl
                .header("Client-Cert: :dHJ1ZQ==:")
                .header("client_cert: forged");
            let request = curl
                .get(&format!("http://127.0.0.1:{PORT}{path}"))?
                .expect(200)?
                .text();
            ensure!(value(&request, "Client-Cert")? == ":dHJ1ZQ==:", "{request}");
            ensure!(!request.contains("forged"), "{path} {version}: {request}");
        }
    }
    Ok(())
}

fn trailers_and_connection_bring_no_certificate_either(case: &Case) -> Result<()> {
    let server = backend(case)?;
    let trust = Trust::new(case)?;
    let client = trust.clients.issue(Role::Client, &["alice.example"])?;
    let plain = "[entry_points.plain]\naddress = \"127.0.0.1:8001\"\n";
    let _gateway = case.gateway(
        &(trust.body(
            "",
            "entry_points = [\"plain\", \"web\"]\nmiddlewares = [\"tell\"]",
        ) + TELL
            + plain),
    )?;
    let request = "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\nTrailer: Client-Cert\r\n\
        Connection: close\r\n\r\n2\r\nab\r\n0\r\nClient-Cert: :Zm9yZ2Vk:\r\nclient_cert_chain: forged\r\n\
        X-Forwarded-Tls-Client-Cert-Info: forged\r\nX-Sum: kept\r\n\r\n";
    let segments = [request.as_bytes()];
    let to = local(8001);
    let got = raw_client::exchange(&case.ns, None, to, &segments, Duration::from_secs(10))?;
    ensure!(got.status() == 200, "{}", got.text());
    let seen = server.seen.requests().join("");
    ensure!(!seen.contains("orged") && !seen.contains("Zm9yZ2Vk"), "{seen}");
    // What is ours cannot be named away.
    let listed = "Connection: Client-Cert, X-Forwarded-Tls-Client-Cert, X-Forwarded-Tls-Client-Cert-Info";
    let curl = trust.curl(case).identity(&client).arg("--http1.1").header(listed);
    let request = curl.get("https://a.example/")?.expect(200)?.text();
    for name in [
        "Client-Cert",
        "X-Forwarded-Tls-Client-Cert",
        "X-Forwarded-Tls-Client-Cert-Info",
    ] {
        value(&request, name)?;
    }
    Ok(())
}

fn a_strangers_word_chooses_no_route(case: &Case) -> Result<()> {
    let _server = backend(case)?;
    let body = entry_point("forwarded_headers = { trusted_ips = [\"127.0.0.1/32\"] }")
        + &router("admin", "Header(`Client-Cert`, `:dHJ1ZQ==:`)", "backend", "")
        + &service("backend", &[&backend_url()], "");
    let _gateway = case.gateway(&body)?;
    for (from, status) in [([127, 0, 0, 9], 404), ([127, 0, 0, 1], 200)] {
        let curl = Curl::new(&case.ns)
            .from(from.into())
            .header("Client-Cert: :dHJ1ZQ==:");
        curl.get(&format!("http://127.0.0.1:{PORT}/"))?.expect(status)?;
    }
    Ok(())
}

/// A gateway at port 8001 with these keys, in front of the backend.
fn behind(case: &Case, entry_keys: &str, router_keys: &str) -> Result<Gateway> {
    let body = format!(
        "[entry_points.web]\naddress = \"127.0.0.1:8001\"\n{entry_keys}\n{}{}{TELL}",
        router("all", "PathPrefix(`/`)", "backend", router_keys),
        service("backend", &[&backend_url()], ""),
    );
    Setup::new(&case.ns, "behind", case.driver)?.start(&body)
}

fn a_gateway_behind_a_trusted_one_passes_its_word_on(case: &Case) -> Result<()> {
    let _server = backend(case)?;
    let trust = Trust::new(case)?;
    let client = trust.clients.issue(Role::Client, &["alice.example"])?;
    let front = trust.body("", "middlewares = [\"tell\"]") + TELL;
    let _front = case.gateway(&front.replace(&backend_url(), "http://127.0.0.1:8001"))?;
    let leaf = base64_of(&client.cert)?.concat();
    for (keys, passes) in [
        ("forwarded_headers = { trusted_ips = [\"127.0.0.1/32\"] }", true),
        ("", false),
    ] {
        for router_keys in ["", "middlewares = [\"tell\"]"] {
            let mut second = behind(case, keys, router_keys)?;
            let curl = trust
                .curl(case)
                .identity(&client)
                .header("Client-Cert: :Zm9yZ2Vk:");
            let request = curl.get("https://a.example/")?.expect(200)?.text();
            ensure!(!request.contains("Zm9yZ2Vk"), "{request}");
            let expected: Vec<String> = passes.then(|| format!(":{leaf}:")).into_iter().collect();
            ensure!(
                values(&request, "Client-Cert") == expected,
                "{keys} {router_keys}: {request}"
            );
            ensure!(
                values(&request, "X-Forwarded-Tls-Client-Cert-Info").len() == expected.len(),
                "{keys} {router_keys}: {request}"
            );
            second.stop()?;
        }
    }
    Ok(())
}

fn a_connection_with_a_certificate_is_told_of_alone(case: &Case) -> Result<()> {
    let _server = backend(case)?;
    let trust = Trust::new(case)?;
    let client = trust.clients.issue(Role::Client, &["alice.example"])?;
    let leaf = base64_of(&client.cert)?.concat();
    let trusted = "forwarded_headers = { trusted_ips = [\"127.0.0.1/32\"] }";
    for (keys, expected) in [
        ("", None),
        ("middlewares = [\"tell\"]", Some(format!(":{leaf}:"))),
    ] {
        let setup = Setup::new(&case.ns, "told", case.driver)?;
        let mut gateway = setup.start(&(trust.body(trusted, keys) + TELL))?;
        let curl = trust
            .curl(case)
            .identity(&client)
            .header("Client-Cert: :b3RoZXI=:");
        let curl = curl
            .header("X-Forwarded-Client-Cert: other")
            .header("X-Forwarded-For: 203.0.113.9");
        let request = curl.get("https://a.example/")?.expect(200)?.text();
        ensure!(
            !request.contains("b3RoZXI=") && !request.contains("other"),
            "{request}"
        );
        ensure!(
            values(&request, "Client-Cert").first().copied() == expected.as_deref(),
            "{request}"
        );
        ensure!(
            value(&request, "X-Forwarded-For")?.starts_with("203.0.113.9"),
            "{request}"
        );
        gateway.stop()?;
    }
    Ok(())
}

fn what_a_trusted_peer_says_twice_is_not_passed_on(case: &Case) -> Result<()> {
    let _server = backend(case)?;
    let _gateway = behind(
        case,
        "forwarded_headers = { trusted_ips = [\"127.0.0.1/32\"] }",
        "",
    )?;
    let get = |headers: &[&str]| -> Result<String> {
        let curl = headers
            .iter()
            .fold(Curl::new(&case.ns), |curl, header| curl.header(header));
        Ok(curl.get("http://127.0.0.1:8001/")?.expect(200)?.text())
    };
    let once = get(&["Client-Cert: :b25l:", "X-Forwarded-Client-Cert: one"])?;
    ensure!(value(&once, "Client-Cert")? == ":b25l:" && value(&once, "X-Forwarded-Client-Cert")? == "one");
    let twice = get(&[
        "Client-Cert: :Zm9yZ2Vk:",
        "Client-Cert: :b25l:",
        "X-Forwarded-Client-Cert: one",
    ])?;
    ensure!(values(&twice, "Client-Cert").is_empty(), "{twice}");
    ensure!(value(&twice, "X-Forwarded-Client-Cert")? == "one", "{twice}");
    Ok(())
}

fn a_parent_tells_its_child_of_the_client(case: &Case) -> Result<()> {
    let _server = backend(case)?;
    let trust = Trust::new(case)?;
    let parents = Authority::new(&case.dir(), "parents")?;
    let child = trust.servers.issue(Role::Server, &["child.example"])?;
    let parent = parents.issue(Role::Client, &["parent.example"])?;
    let client = trust.clients.issue(Role::Client, &["alice.example"])?;
    // The child's own middleware tells nothing: the certificate there is the parent's.
    let child_body = format!(
        "[uplink_entry_points.up]\naddress = \"127.0.0.1:9443\"\ntls = {{ options = \"uplink\" }}\n[uplinks.orders]\n\
         [routers.orders]\nrule = \"PathPrefix(`/`)\"\nuplinks = [\"orders\"]\nservice = \"backend\"\n\
         middlewares = [\"tell\"]\n{TELL}{}{}{}",
        service("backend", &[&backend_url()], ""),
        certificate(&child),
        mutual("uplink", parents.ca_file(), ""),
    );
    let _child = Setup::new(&case.ns, "child", case.driver)?.start(&child_body)?;
    let parent_body = trust
        .body("", "middlewares = [\"tell\"]")
        .replace("service = \"backend\"", "service = \"orders@multicluster\"")
        + TELL
        + &format!(
            "[servers_transports.children]\nserver_name = \"child.example\"\nroot_cas = [\"{}\"]\ncertificates = [{}]\n\
             [multicluster]\npoll_interval = \"200ms\"\n[multicluster.children.c1]\n\
             address = \"https://127.0.0.1:9443\"\nservers_transport = \"children\"\n",
            trust.servers.ca_file().display(),
            parent.toml()
        );
    let front = Setup::new(&case.ns, "parent", case.driver)?.start(&parent_body)?;
    let get = || {
        trust
            .curl(case)
            .identity(&client)
            .header("Client-Cert: :Zm9yZ2Vk:")
            .get("https://a.example/")
    };
    front.settle(200, || Ok(get()?.status))?;
    let request = get()?.expect(200)?.text();
    let leaf = base64_of(&client.cert)?.concat();
    ensure!(
        value(&request, "Client-Cert")? == format!(":{leaf}:"),
        "{request}"
    );
    let info = unescape(value(&request, "X-Forwarded-Tls-Client-Cert-Info")?)?;
    ensure!(info.starts_with("Subject=\"CN=alice.example\";"), "{info}");
    Ok(())
}

fn the_chain_is_told_without_strays_and_only_where_asked(case: &Case) -> Result<()> {
    let _server = backend(case)?;
    let trust = Trust::new(case)?;
    let between = trust.clients.subordinate("between")?;
    let client = between.issue(Role::Client, &["alice.example"])?;
    let stray = Authority::new(&case.dir(), "stray")?;
    let bundle = case.dir().join("bundle.pem");
    let sent = std::fs::read_to_string(&client.cert)? + &std::fs::read_to_string(stray.ca_file())?;
    std::fs::write(&bundle, sent)?;
    let [leaf, middle] = &base64_of(&client.cert)?[..] else {
        anyhow::bail!("leaf and intermediate were expected")
    };
    for (keys, chain) in [("", None), ("chain = true\n", Some(format!(":{middle}:")))] {
        let tell = TELL.replacen("pem = true\n", &format!("pem = true\n{keys}"), 1);
        let setup = Setup::new(&case.ns, "chain", case.driver)?;
        let mut gateway = setup.start(&(trust.body("", "middlewares = [\"tell\"]") + &tell))?;
        let curl = trust.curl(case).arg("--cert").arg(bundle.display().to_string());
        let curl = curl.arg("--key").arg(client.key.display().to_string());
        let request = curl.get("https://a.example/")?.expect(200)?.text();
        ensure!(
            value(&request, "Client-Cert")? == format!(":{leaf}:"),
            "{request}"
        );
        ensure!(
            values(&request, "Client-Cert-Chain").first().copied() == chain.as_deref(),
            "{request}"
        );
        let pem = chain
            .as_ref()
            .map_or_else(|| leaf.clone(), |_| format!("{leaf},{middle}"));
        ensure!(
            value(&request, "X-Forwarded-Tls-Client-Cert")? == pem,
            "{request}"
        );
        gateway.stop()?;
    }
    Ok(())
}

fn a_certificate_that_nobody_verified_is_told_of_only_by_name(case: &Case) -> Result<()> {
    let _server = backend(case)?;
    let trust = Trust::new(case)?;
    let stranger = Authority::new(&case.dir(), "stranger")?.issue(Role::Client, &["mallory.example"])?;
    for (keys, told) in [("", false), ("allow_unverified = true\n", true)] {
        let tell = TELL.replacen("pem = true\n", &format!("pem = true\n{keys}"), 1);
        let body = trust.body(
            "forwarded_headers = { trusted_ips = [\"127.0.0.1/32\"] }",
            "middlewares = [\"tell\"]",
        );
        let (start, _) = body.split_once("[tls.options.clients]").context("the options")?;
        let body = format!(
            "{start}[tls.options.clients]\nclient_auth = {{ type = \"RequireAnyClientCert\" }}\n{tell}"
        );
        let mut gateway = Setup::new(&case.ns, "any", case.driver)?.start(&body)?;
        let curl = trust
            .curl(case)
            .identity(&stranger)
            .header("Client-Cert: :b3RoZXI=:");
        let request = curl.get("https://a.example/")?.expect(200)?.text();
        ensure!(!request.contains("b3RoZXI="), "{request}");
        ensure!(
            values(&request, "Client-Cert").len() == usize::from(told),
            "{keys}: {request}"
        );
        gateway.stop()?;
    }
    Ok(())
}

fn a_certificate_too_large_for_a_field_is_refused(case: &Case) -> Result<()> {
    let server = backend(case)?;
    let trust = Trust::new(case)?;
    let names: Vec<String> = (0..400)
        .map(|number| format!("name-{number:030}.example.org"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (large, small) = (
        trust.clients.issue(Role::Client, &names)?,
        trust.clients.issue(Role::Client, &["alice.example"])?,
    );
    let gateway = case.gateway(&(trust.body("", "middlewares = [\"tell\"]") + TELL))?;
    let refused = trust
        .curl(case)
        .identity(&large)
        .get("https://a.example/")?
        .expect(431)?;
    ensure!(
        refused.text() == "client certificate too large\n",
        "{}",
        refused.text()
    );
    ensure!(server.seen.requests().is_empty());
    trust
        .curl(case)
        .identity(&small)
        .get("https://a.example/")?
        .expect(200)?;
    let counted = gateway.status()?;
    let counted = counted
        .pointer("/counters/identity_too_long")
        .and_then(serde_json::Value::as_u64);
    ensure!(counted == Some(1), "{counted:?}");
    Ok(())
}

fn a_reload_that_names_a_missing_middleware_changes_nothing(case: &Case) -> Result<()> {
    let _server = backend(case)?;
    let trust = Trust::new(case)?;
    let client = trust.clients.issue(Role::Client, &["alice.example"])?;
    let good = trust.body("", "middlewares = [\"tell\"]") + TELL;
    let gateway = case.gateway(&good)?;
    for broken in [
        good.replace("middlewares = [\"tell\"]", "middlewares = [\"told\"]"),
        good.replace("pem = true", "pem = \"yes\""),
    ] {
        gateway.setup().write(&broken)?;
        for words in [&["check"][..], &["reload"]] {
            let output = gateway.setup().command(words)?;
            ensure!(output.status.code() == Some(78), "{words:?}: {output:?}");
        }
        let request = trust
            .curl(case)
            .identity(&client)
            .get("https://a.example/")?
            .expect(200)?
            .text();
        value(&request, "Client-Cert")?;
    }
    Ok(())
}
