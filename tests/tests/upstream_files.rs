//! Files of servers transports that cannot be used: refused at check, start and reload, by names; both drivers.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Role};
use sallyport_tests::curl::Curl;
use sallyport_tests::fragments::{BACKEND, PORT, entry_point, router, service};
use sallyport_tests::nginx::{Nginx, NginxTls, Serves};
use sallyport_tests::on_both_drivers;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

on_both_drivers!(every_unusable_file_refuses_the_configuration_and_is_named_with_all_routes,);

/// A way in which a file is of no use, and what is said of it.
#[derive(Clone)]
struct Unusable {
    /// What is done to the file.
    what: &'static str,
    /// Keys of the transport; the file stands for `@`.
    keys: &'static str,
    /// Its contents; `None`: it is not there.
    contents: Option<Vec<u8>>,
    /// Words of the diagnostic.
    words: &'static [&'static str],
}

const OUR_CERTIFICATE: &str = "certificates = [{ cert_file = \"@\", key_file = \"KEY\" }]";
const OUR_KEY: &str = "certificates = [{ cert_file = \"CERT\", key_file = \"@\" }]";
const ROOTS: &str = "root_cas = [\"@\"]";

fn unusable(cert: &[u8], other_key: &[u8]) -> Vec<Unusable> {
    [roots(cert, other_key), ours(cert, other_key)].concat()
}

fn one(
    what: &'static str,
    keys: &'static str,
    contents: Option<&[u8]>,
    words: &'static [&'static str],
) -> Unusable {
    Unusable {
        what,
        keys,
        contents: contents.map(<[u8]>::to_vec),
        words,
    }
}

fn roots(cert: &[u8], other_key: &[u8]) -> Vec<Unusable> {
    let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let cut = cert.get(..cert.len() / 2).unwrap_or_default();
    let none: &[&str] = &["`root_cas`", "no PEM certificate"];
    vec![
        one("a missing ca", ROOTS, None, &["`root_cas`", "cannot be read"]),
        one("an empty ca", ROOTS, Some(&[]), none),
        one(
            "a ca that is no pem",
            ROOTS,
            Some(&[7; 64]),
            &["`root_cas`", "PEM"],
        ),
        one("a ca that is cut off", ROOTS, Some(cut), &["`root_cas`", "PEM"]),
        one(
            "a ca that is no certificate",
            ROOTS,
            Some(broken),
            &["`root_cas`", "no trust anchor"],
        ),
        one("a key in place of a ca", ROOTS, Some(other_key), none),
    ]
}

fn ours(cert: &[u8], other_key: &[u8]) -> Vec<Unusable> {
    let unread: &[&str] = &["`certificates`", "cannot be read"];
    let key: &[&str] = &["`certificates`", "private key"];
    vec![
        one("a missing certificate", OUR_CERTIFICATE, None, unread),
        one(
            "an empty certificate",
            OUR_CERTIFICATE,
            Some(&[]),
            &["`certificates`", "no PEM certificate"],
        ),
        one("a missing key", OUR_KEY, None, unread),
        one("an empty key", OUR_KEY, Some(&[]), key),
        one("a certificate in place of a key", OUR_KEY, Some(cert), key),
        one(
            "a key of another certificate",
            OUR_KEY,
            Some(other_key),
            &["`certificates`", "does not fit"],
        ),
    ]
}

/// Two routers to the service that the transport is of, one to another.
fn body(transport: &str) -> String {
    let url = format!("https://127.0.0.1:{BACKEND}");
    entry_point("")
        + &router("first", "PathPrefix(`/`)", "secured", "")
        + &router("second", "Host(`b.example`)", "secured", "")
        + &router("third", "Host(`c.example`)", "apart", "")
        + &service("secured", &[&url], "servers_transport = \"proven\"")
        + &service("apart", &[&url], "")
        + &format!("[servers_transports.proven]\n{transport}\n")
}

fn told(what: &str, text: &str, words: &[&str]) -> Result<()> {
    for router in ["first", "second"] {
        let way = format!("router `{router}`: service `secured`: servers transport `proven`");
        let line = text.lines().find(|line| line.contains(&way));
        let line = line.with_context(|| format!("{what}: `{way}` is not in {text}"))?;
        for word in words {
            ensure!(line.contains(word), "{what}: `{word}` is not in {line}");
        }
    }
    let other = |line: &str| line.contains("servers transport") && line.contains("third");
    ensure!(!text.lines().any(other), "{what}: {text}");
    Ok(())
}

fn every_unusable_file_refuses_the_configuration_and_is_named_with_all_routes(case: &Case) -> Result<()> {
    let ca = Authority::new(&case.dir(), "ca")?;
    let (own, other) = (
        ca.issue(Role::Client, &["gateway.example"])?,
        ca.issue(Role::Client, &["other.example"])?,
    );
    let tls = NginxTls {
        identity: ca.issue(Role::Server, &["127.0.0.1"])?,
        clients: None,
    };
    let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::Tls(tls))?;
    let good = format!("root_cas = [\"{}\"]", ca.ca_file().display());
    let gateway = case.gateway(&body(&good))?;
    let get = || Curl::new(&case.ns).get(&format!("http://127.0.0.1:{PORT}/"));
    get()?.expect(200)?;
    let file: PathBuf = case.dir().join("unusable.pem");
    let shown = file.display().to_string();
    for one in unusable(&std::fs::read(&own.cert)?, &std::fs::read(&other.key)?) {
        if let Some(contents) = &one.contents {
            std::fs::write(&file, contents)?;
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600))?;
        } else if file.exists() {
            std::fs::remove_file(&file)?;
        }
        let keys = one
            .keys
            .replace('@', &shown)
            .replace("CERT", &own.cert.display().to_string())
            .replace("KEY", &own.key.display().to_string());
        let keys = if one.keys == ROOTS {
            keys
        } else {
            format!("{good}\n{keys}")
        };
        gateway.setup().write(&body(&keys))?;
        let words = [one.words, &[shown.as_str()]].concat();
        for command in ["check", "reload"] {
            let refused = gateway.setup().command(&[command])?;
            let text = String::from_utf8_lossy(&refused.stdout) + String::from_utf8_lossy(&refused.stderr);
            ensure!(
                refused.status.code() == Some(78),
                "{command}: {}: {text}",
                one.what
            );
            told(one.what, &text, &words)?;
        }
        let status = gateway.setup().command(&["status"])?;
        told(one.what, &String::from_utf8_lossy(&status.stdout), &words)?;
        // What ran goes on as it was, verified.
        get()?.expect(200)?;
    }
    // A gateway that begins so does not begin.
    let fresh = case.setup()?;
    fresh.write(&body(&format!("root_cas = [\"{shown}.missing\"]")).replace(&PORT.to_string(), "8001"))?;
    let mut begun = fresh.spawn()?;
    let ended = begun.proc.wait(Duration::from_secs(20))?;
    ensure!(ended.code() == Some(78), "{ended}");
    told("at start", &begun.proc.log(), &["cannot be read"])
}
