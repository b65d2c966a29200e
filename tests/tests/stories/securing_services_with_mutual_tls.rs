//! "Securing services": everything under one domain is for the family's devices, which carry certificates of an own
//! CA; one site is public. The gateway stands behind a load balancer of the private network.

use super::Story;
use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Identity, Role};
use sallyport_tests::curl::{Answer, Curl};
use sallyport_tests::fragments::local;
use sallyport_tests::nginx::{Nginx, Serves};
use sallyport_tests::on_both_drivers;
use sallyport_tests::openssl::{SClient, Version, alert};
use sallyport_tests::wait;
use std::process::Command;
use std::time::Duration;

on_both_drivers!(
    only_devices_with_a_certificate_of_my_ca_get_in,
    the_public_site_is_no_way_around,
    the_listed_suites_and_no_others_are_spoken,
    the_access_log_says_whose_device_it_was_and_no_secret,
    a_plain_router_for_a_protected_host_is_refused,
    a_missing_ca_never_opens_the_site,
);

const EXAMPLE: &str = include_str!("../../../config/examples/mutual_tls.toml");

struct Home {
    story: Story,
    ca: Authority,
    device: Identity,
    _code: Nginx,
    _public: Nginx,
}

impl Home {
    fn new(case: &Case) -> Result<Home> {
        let story = Story::new(case)?;
        let (ca, mine) = (
            Authority::new(&case.dir(), "public-ca")?,
            Authority::new(&case.dir(), "my-ca")?,
        );
        let server = ca.issue(Role::Server, &["*.domain.tld", "domain.tld"])?;
        story.put_pair("wildcard-domain-tld", &server)?;
        story.put("my-ca.pem", mine.ca_file())?;
        Ok(Home {
            story,
            ca,
            device: mine.issue(Role::Client, &["laptop"])?,
            _code: Nginx::start(&case.ns, "code", 8080, &Serves::Plain)?,
            _public: Nginx::start(&case.ns, "public", 8081, &Serves::Plain)?,
        })
    }

    fn get(&self, case: &Case, url: &str, device: Option<&Identity>, words: &[&str]) -> Result<Answer> {
        let curl = Curl::new(&case.ns)
            .via(local(443))
            .trust(self.ca.ca_file())
            .args(words);
        match device {
            Some(device) => curl.identity(device),
            None => curl,
        }
        .get(url)
    }
}

fn only_devices_with_a_certificate_of_my_ca_get_in(case: &Case) -> Result<()> {
    let home = Home::new(case)?;
    let _gateway = case.gateway(&home.story.body(EXAMPLE))?;
    let others = Authority::new(&case.dir(), "others")?;
    let stranger = others.issue(Role::Client, &["laptop"])?;
    for way in ["--http1.1", "--http2"] {
        for tls in ["--tlsv1.3", "--tls-max=1.2"] {
            let words: Vec<&str> = [way].into_iter().chain(tls.split('=')).collect();
            let url = "https://code.domain.tld/";
            let mine = home.get(case, url, Some(&home.device), &words)?.expect(200)?;
            ensure!(mine.field("name").as_deref() == Some("code"), "{}", mine.text());
            for (who, device) in [("nobody", None), ("a stranger", Some(&stranger))] {
                let refused = home.get(case, url, device, &words)?;
                ensure!(
                    refused.status == 0 && refused.exit != 0,
                    "{words:?}: {who} got {}",
                    refused.status
                );
            }
            let public = home.get(case, "https://domain.tld/", None, &words)?.expect(200)?;
            ensure!(
                public.field("name").as_deref() == Some("public"),
                "{}",
                public.text()
            );
        }
    }
    Ok(())
}

/// The public site's handshake must not lead to a protected host, nor a name or address that nobody serves.
fn the_public_site_is_no_way_around(case: &Case) -> Result<()> {
    let home = Home::new(case)?;
    let _gateway = case.gateway(&home.story.body(EXAMPLE))?;
    for way in ["--http1.1", "--http2"] {
        for host in [
            "code.domain.tld",
            "CODE.domain.tld",
            "code.domain.tld:443",
            "code.domain.tld.",
        ] {
            let header = format!("Host: {host}");
            let crossed = home.get(case, "https://domain.tld/", None, &[way, "-H", &header])?;
            ensure!(
                crossed.status == 421 || crossed.status == 400,
                "{way}: `{host}` behind the public name: {} {}",
                crossed.status,
                crossed.text()
            );
        }
    }
    for version in Version::ALL {
        let to = local(443);
        let unnamed = SClient::new(&case.ns, to, version).get("code.domain.tld")?;
        ensure!(
            !unnamed.has_answer() && unnamed.alert.is_some(),
            "{version:?}: let in without a name: {}",
            unnamed.output
        );
        for name in ["domain.tld.evil.example", "a.b.domain.tld", "evil.example"] {
            let unknown = SClient::new(&case.ns, to, version)
                .sni(name)
                .get("code.domain.tld")?;
            ensure!(
                unknown.alert == Some(alert::UNRECOGNIZED_NAME),
                "{version:?} {name}: {}",
                unknown.errors
            );
        }
        // A host of the wildcard that no router names has the protected options, which are the default.
        let unrouted = SClient::new(&case.ns, to, version)
            .sni("other.domain.tld")
            .get("other.domain.tld")?;
        ensure!(
            !unrouted.has_answer() && unrouted.alert.is_some(),
            "{version:?}: {}",
            unrouted.output
        );
    }
    Ok(())
}

fn the_listed_suites_and_no_others_are_spoken(case: &Case) -> Result<()> {
    let home = Home::new(case)?;
    let _gateway = case.gateway(&home.story.body(EXAMPLE))?;
    let ask = |suite: &str| {
        SClient::new(&case.ns, local(443), Version::Tls12)
            .sni("code.domain.tld")
            .identity(&home.device)
            .args(&["-cipher", suite])
            .get("code.domain.tld")
    };
    // The CHACHA20 suite is written without `_SHA256`, as Go had it.
    for suite in [
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
    ] {
        let got = ask(suite)?;
        ensure!(got.has_status(200), "{suite}: {}", got.errors);
    }
    // The first of the list that a client has is taken, whatever order the client has.
    for offered in [
        "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384",
    ] {
        let got = ask(offered)?;
        ensure!(
            got.output.contains("Cipher is ECDHE-ECDSA-AES128-GCM-SHA256"),
            "{offered}: {}",
            got.output
        );
    }
    for suite in ["ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES128-SHA256:@SECLEVEL=0"] {
        let got = ask(suite)?;
        ensure!(
            got.alert == Some(alert::HANDSHAKE_FAILURE),
            "{suite}: {:?} {}",
            got.alert,
            got.errors
        );
    }
    Ok(())
}

/// "The only way to detect such a breach is to check and log certificate fingerprints."
fn the_access_log_says_whose_device_it_was_and_no_secret(case: &Case) -> Result<()> {
    let home = Home::new(case)?;
    let gateway = case.gateway(&home.story.body(EXAMPLE))?;
    let words = [
        "-H",
        "Authorization: Bearer s3cret",
        "-H",
        "Cookie: session=s3cret",
        "-H",
        "X-Kept: yes",
    ];
    home.get(case, "https://code.domain.tld/x", Some(&home.device), &words)?
        .expect(200)?;
    let fingerprint = Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
        .arg(&home.device.cert)
        .output()?;
    let fingerprint = String::from_utf8(fingerprint.stdout)?;
    let (_, fingerprint) = fingerprint.trim().split_once('=').context("no fingerprint")?;
    let fingerprint = fingerprint.replace(':', "").to_ascii_lowercase();
    let line = wait::until(Duration::from_secs(5), "the line of the request", || {
        let log = gateway.proc.log();
        let mut lines = log.lines().filter(|line| line.contains("\"event\":\"request\""));
        Ok(lines.next().map(str::to_owned))
    })?;
    let lower = line.to_ascii_lowercase();
    for word in ["code.domain.tld", "laptop", fingerprint.as_str(), "x-kept"] {
        ensure!(lower.contains(word), "`{word}` is not in {line}");
    }
    ensure!(
        !lower.contains("authorization") && !line.contains("s3cret"),
        "a secret is in {line}"
    );
    Ok(())
}

/// In Traefik a colleague's plain router for a protected host turns its protection off for everybody.
fn a_plain_router_for_a_protected_host_is_refused(case: &Case) -> Result<()> {
    let home = Home::new(case)?;
    let body = home.story.body(EXAMPLE);
    let gateway = case.gateway(&body)?;
    let mistake = format!(
        "{body}[routers.colleague]\nrule = \"Host(`code.domain.tld`) && PathPrefix(`/new`)\"\nservice = \"public\"\n\
         tls = {{ options = \"withoutcerts\" }}\n"
    );
    gateway.setup().write(&mistake)?;
    for command in ["check", "reload"] {
        let refused = gateway.setup().command(&[command])?;
        let told = String::from_utf8_lossy(&refused.stdout) + String::from_utf8_lossy(&refused.stderr);
        ensure!(
            refused.status.code() == Some(78),
            "{command}: {}: {told}",
            refused.status
        );
        for word in ["code.domain.tld", "colleague", "routers.code", "withoutcerts"] {
            ensure!(told.contains(word), "{command}: `{word}` is not in {told}");
        }
    }
    let url = "https://code.domain.tld/new";
    ensure!(
        home.get(case, url, None, &[])?.status == 0,
        "the protection is off"
    );
    home.get(case, url, Some(&home.device), &[])?.expect(200)?;
    Ok(())
}

/// Where Traefik skips what it cannot read, and asks nobody for a certificate then.
fn a_missing_ca_never_opens_the_site(case: &Case) -> Result<()> {
    let home = Home::new(case)?;
    let body = home.story.body(EXAMPLE);
    let gateway = case.gateway(&body)?;
    let ca = home.story.file("my-ca.pem");
    let good = std::fs::read(&ca)?;
    let empty = body.replace(&format!("[\"{}\"]", ca.display()), "[]");
    for (what, bytes, body) in [
        ("no CA", None, &body),
        ("an empty CA", Some(&b""[..]), &body),
        (
            "no certificate",
            Some(&b"-----BEGIN RSA PUBLIC KEY-----\n"[..]),
            &body,
        ),
        ("a broken CA", good.get(..good.len() / 2), &body),
        ("no list", Some(&good[..]), &empty),
    ] {
        match bytes {
            Some(bytes) => std::fs::write(&ca, bytes)?,
            None => std::fs::remove_file(&ca)?,
        }
        gateway.setup().write(body)?;
        for command in ["check", "reload"] {
            let refused = gateway.setup().command(&[command])?;
            let told = String::from_utf8_lossy(&refused.stdout) + String::from_utf8_lossy(&refused.stderr);
            ensure!(
                refused.status.code() == Some(78) && told.contains("ca"),
                "{what}: {command}: {}: {told}",
                refused.status
            );
        }
        let status = gateway.status()?;
        ensure!(
            status
                .pointer("/configuration/state")
                .and_then(|state| state.as_str())
                == Some("invalid"),
            "{what}: {status}"
        );
        let url = "https://code.domain.tld/";
        ensure!(
            home.get(case, url, None, &[])?.status == 0,
            "{what} opened the site"
        );
        home.get(case, url, Some(&home.device), &[])?.expect(200)?;
    }
    Ok(())
}
