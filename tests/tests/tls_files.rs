//! Files of TLS that change under a running gateway: pairs, authorities, revocation lists; both drivers.
//!
//! They are changed as tools change them: by rename, in place, by a link that is switched, by a directory made anew.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Identity, Role, Validity};
use sallyport_tests::curl::Curl;
use sallyport_tests::fragments::{
    BACKEND, PORT, backend_url, entry_point, local, mutual, route_all, router, service,
};
use sallyport_tests::gateway::Gateway;
use sallyport_tests::h2load::{self, Protocol};
use sallyport_tests::held::Held;
use sallyport_tests::nginx::{Nginx, NginxTls, Serves};
use sallyport_tests::on_both_drivers;
use sallyport_tests::openssl::{SClient, Version, pin};
use sallyport_tests::raw_client;
use sallyport_tests::raw_tcp::TcpServer;
use sallyport_tests::tls_client::{Offer, Session, TlsClient, outgoing};
use sallyport_tests::wait;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

on_both_drivers!(
    a_renewed_pair_is_taken_and_no_request_is_lost,
    a_mismatched_pair_is_refused_and_said_and_taken_once_it_is_mended,
    a_link_that_is_switched_and_a_directory_made_anew_are_taken,
    a_removed_authority_ends_the_sessions_of_its_clients_alone,
    a_removed_authority_ends_the_tunnels_of_its_clients_alone,
    a_handshake_that_was_begun_before_its_authority_was_removed_comes_to_nothing,
    a_session_ends_with_its_clients_certificate,
    a_revoked_client_loses_its_session_and_a_broken_list_changes_nothing,
    a_reload_that_changes_names_ends_sessions_and_one_that_does_not_leaves_them,
    a_key_that_cannot_be_read_leaves_the_old_pair,
    another_authority_for_servers_counts_at_once_and_leaves_other_pools_alone,
    status_and_metrics_show_what_stands_behind_tls,
    check_tells_every_file_that_cannot_be_used,
);

const SOON: Duration = Duration::from_secs(10);
const HOST: &str = "a.example";
const METRICS: u16 = 9102;

/// A pair of files at one place, whatever is put there.
struct Place {
    cert: PathBuf,
    key: PathBuf,
}

impl Place {
    fn new(dir: &Path, first: &Identity) -> Result<Place> {
        fs::create_dir_all(dir)?;
        let place = Place {
            cert: dir.join("site.pem"),
            key: dir.join("site.key"),
        };
        fs::copy(&first.cert, &place.cert)?;
        fs::copy(&first.key, &place.key)?;
        Ok(place)
    }

    fn toml(&self) -> String {
        let (cert, key) = (self.cert.display(), self.key.display());
        format!("[[tls.certificates]]\ncert_file = \"{cert}\"\nkey_file = \"{key}\"\n")
    }

    /// Certificate first, both by rename.
    fn put(&self, next: &Identity) -> Result<()> {
        replace(&self.cert, &fs::read(&next.cert)?)?;
        replace(&self.key, &fs::read(&next.key)?)
    }
}

/// Puts contents at a path in one step.
fn replace(path: &Path, contents: &[u8]) -> Result<()> {
    let fresh = path.with_extension("fresh");
    fs::write(&fresh, contents)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600))?;
    Ok(fs::rename(fresh, path)?)
}

fn metrics_body() -> String {
    format!("[metrics]\naddress = \"127.0.0.1:{METRICS}\"\n")
}

fn metric(case: &Case, line_start: &str) -> Result<Option<u64>> {
    let page = Curl::new(&case.ns)
        .get(&format!("http://127.0.0.1:{METRICS}/metrics"))?
        .expect(200)?
        .text();
    let line = page.lines().find_map(|line| line.strip_prefix(line_start));
    Ok(line.and_then(|rest| rest.trim().parse().ok()))
}

/// Waits until a metric has a value.
fn becomes(case: &Case, line_start: &str, value: u64) -> Result<()> {
    let mut last = None;
    wait::until(SOON, line_start, || {
        last = metric(case, line_start)?;
        Ok((last == Some(value)).then_some(()))
    })
    .with_context(|| format!("expected {value}, the last was {last:?}"))
}

/// The certificate that is served, as one line.
fn served(case: &Case) -> Result<String> {
    let got = SClient::new(&case.ns, local(PORT), Version::Tls13)
        .sni(HOST)
        .get(HOST)?;
    ensure!(got.has_status(200), "{}{}", got.output, got.errors);
    Ok(one_line(got.certificate().context("no certificate")?))
}

fn one_line(pem: &str) -> String {
    let end = pem.find("-----END").unwrap_or(pem.len());
    pem.get(..end).unwrap_or_default().split_whitespace().collect()
}

fn is_served(case: &Case, identity: &Identity) -> Result<bool> {
    Ok(served(case)? == one_line(&fs::read_to_string(&identity.cert)?))
}

fn must_come(case: &Case, identity: &Identity) -> Result<()> {
    wait::until(SOON, "the new certificate", || {
        Ok(is_served(case, identity)?.then_some(()))
    })
}

fn tls(gateway: &Gateway) -> Result<Value> {
    Ok(at(&gateway.status()?, "/tls").clone())
}

fn becomes_state(gateway: &Gateway, state: &str) -> Result<Value> {
    let mut last = Value::Null;
    wait::until(SOON, &format!("tls files {state}"), || {
        last = tls(gateway)?;
        Ok((at(&last, "/state") == state).then(|| last.clone()))
    })
    .with_context(|| format!("the last was {last}"))
}

fn client(ca: &Authority, identity: Option<&Identity>) -> Result<TlsClient> {
    TlsClient::new(ca.ca_file(), identity, None, Offer::Usual)
}

fn hold(case: &Case, client: &TlsClient) -> Result<Held> {
    let tcp = raw_client::connect(&case.ns, None, local(PORT))?;
    let mut held = Held::http1(client.shake(tcp, HOST)?);
    ensure!(held.get(HOST)? == 200);
    Ok(held)
}

fn hold_http2(case: &Case, client: &TlsClient) -> Result<Held> {
    let tcp = raw_client::connect(&case.ns, None, local(PORT))?;
    let mut held = Held::http2(client.over_http2().shake(tcp, HOST)?)?;
    ensure!(held.get(HOST)? == 200, "over HTTP/2");
    Ok(held)
}

/// A value of a document, null where there is none.
fn at<'v>(document: &'v Value, pointer: &str) -> &'v Value {
    document.pointer(pointer).unwrap_or(&Value::Null)
}

fn log_lines(gateway: &Gateway, text: &str) -> usize {
    gateway
        .proc
        .log()
        .lines()
        .filter(|line| line.contains(text))
        .count()
}

fn plain_body(place: &Place) -> String {
    entry_point("tls = {}") + &route_all(&backend_url()) + &place.toml() + &metrics_body()
}

fn a_renewed_pair_is_taken_and_no_request_is_lost(case: &Case) -> Result<()> {
    let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)?;
    let ca = Authority::new(&case.dir(), "ca")?;
    let first = ca.issue(Role::Server, &[HOST])?;
    let place = Place::new(&case.dir().join("live"), &first)?;
    let gateway = case.gateway(&plain_body(&place))?;
    let resuming = client(&ca, None)?.that_resumes();
    let ask = |client: &TlsClient| {
        let tcp = raw_client::connect(&case.ns, None, local(PORT))?;
        let mut session = client.shake(tcp, HOST)?;
        let status = session.get(HOST)?.status;
        Ok::<_, anyhow::Error>((status, session.is_resumed()))
    };
    let (full, resumed) = (ask(&resuming)?, ask(&resuming)?);
    ensure!(
        full == (200, false) && resumed == (200, true),
        "{full:?} {resumed:?}"
    );
    let (stop, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    let anew = client(&ca, None)?;
    std::thread::scope(|scope| {
        let fresh = scope.spawn(|| {
            while !stop.load(Ordering::Acquire) {
                let (status, _) = ask(&anew)?;
                ensure!(status == 200, "a new connection got {status}");
                asked.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        let kept = scope.spawn(|| -> Result<()> {
            while !stop.load(Ordering::Acquire) {
                let url = format!("https://127.0.0.1:{PORT}/");
                let counts = h2load::run(&case.ns, &url, Protocol::Http2, 200, 4)?;
                ensure!(counts.failed == 0 && counts.ok == 200, "{counts:?}");
            }
            Ok(())
        });
        let rotated = rotate(case, &ca, &place);
        stop.store(true, Ordering::Release);
        let outcomes = [fresh.join(), kept.join()];
        rotated?;
        for outcome in outcomes {
            outcome.map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        Ok::<_, anyhow::Error>(())
    })?;
    ensure!(asked.load(Ordering::Relaxed) > 0, "nobody asked");
    ensure!(
        ask(&resuming)? == (200, true),
        "tickets must outlive a new certificate"
    );
    let status = gateway.status()?;
    ensure!(
        at(&status, "/configuration/generation") == 1,
        "{}",
        at(&status, "/configuration")
    );
    becomes(case, "sallyport_tls_files_valid", 1)
}

/// Every way in which a pair is renewed, each until it is served.
fn rotate(case: &Case, ca: &Authority, place: &Place) -> Result<()> {
    let next = || ca.issue(Role::Server, &[HOST]);
    let renamed = next()?;
    place.put(&renamed)?;
    must_come(case, &renamed)?;
    let key_first = next()?;
    replace(&place.key, &fs::read(&key_first.key)?)?;
    replace(&place.cert, &fs::read(&key_first.cert)?)?;
    must_come(case, &key_first)?;
    let in_place = next()?;
    fs::write(&place.cert, fs::read(&in_place.cert)?)?;
    fs::write(&place.key, fs::read(&in_place.key)?)?;
    must_come(case, &in_place)
}

fn a_mismatched_pair_is_refused_and_said_and_taken_once_it_is_mended(case: &Case) -> Result<()> {
    let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)?;
    let ca = Authority::new(&case.dir(), "ca")?;
    let (first, second, third) = (
        ca.issue(Role::Server, &[HOST])?,
        ca.issue(Role::Server, &[HOST])?,
        ca.issue(Role::Server, &["b.example"])?,
    );
    let place = Place::new(&case.dir().join("live"), &first)?;
    let well = Place::new(&case.dir().join("well"), &third)?;
    let body = plain_body(&place) + &well.toml();
    let gateway = case.gateway(&body)?;
    becomes(case, "sallyport_tls_files_valid", 1)?;
    replace(&place.key, &fs::read(&second.key)?)?;
    let state = becomes_state(&gateway, "invalid")?;
    let problem = at(&state, "/problems/0").as_str().unwrap_or_default().to_owned();
    for part in ["site.key", "does not fit", "stay in force", "sallyport.toml:"] {
        ensure!(problem.contains(part), "`{part}` is not in `{problem}`");
    }
    becomes(case, "sallyport_tls_files_valid", 0)?;
    let label = format!("sallyport_tls_file_refused{{file=\"{}\"}}", place.cert.display());
    becomes(case, &label, 1)?;
    ensure!(is_served(case, &first)?, "the old pair must be served");
    // One that is well is taken meanwhile.
    let renewed = ca.issue(Role::Server, &["b.example"])?;
    well.put(&renewed)?;
    gateway
        .proc
        .wait_for_log("certificate and key taken", SOON)
        .context("the other pair")?;
    ensure!(log_lines(&gateway, "does not fit") == 1, "{}", gateway.proc.log());
    // A reload is judged by the files as they are.
    let reload = gateway.setup().command(&["reload"])?;
    let said = String::from_utf8_lossy(&reload.stderr).into_owned();
    ensure!(
        reload.status.code() == Some(78) && said.contains("does not fit"),
        "{said}"
    );
    ensure!(at(&gateway.status()?, "/configuration/state") == "invalid");
    ensure!(is_served(case, &first)?, "after a refused reload too");
    // Mended by its other half.
    replace(&place.cert, &fs::read(&second.cert)?)?;
    becomes_state(&gateway, "valid")?;
    must_come(case, &second)?;
    becomes(case, "sallyport_tls_files_valid", 1)?;
    becomes(case, &label, 0)?;
    ensure!(gateway.setup().command(&["reload"])?.status.success());
    ensure!(at(&gateway.status()?, "/configuration/state") == "valid");
    Ok(())
}

fn a_link_that_is_switched_and_a_directory_made_anew_are_taken(case: &Case) -> Result<()> {
    let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)?;
    let ca = Authority::new(&case.dir(), "ca")?;
    let issue = || ca.issue(Role::Server, &[HOST]);
    let (first, second, third) = (issue()?, issue()?, issue()?);
    let mount = case.dir().join("mount");
    // As Kubernetes lays a secret out: names lead through `..data` to a directory of the version.
    Place::new(&mount.join("..v1"), &first)?;
    symlink("..v1", mount.join("..data"))?;
    let place = Place {
        cert: mount.join("site.pem"),
        key: mount.join("site.key"),
    };
    symlink("..data/site.pem", &place.cert)?;
    symlink("..data/site.key", &place.key)?;
    let gateway = case.gateway(&plain_body(&place))?;
    ensure!(is_served(case, &first)?);
    Place::new(&mount.join("..v2"), &second)?;
    symlink("..v2", mount.join("..data_tmp"))?;
    fs::rename(mount.join("..data_tmp"), mount.join("..data"))?;
    fs::remove_dir_all(mount.join("..v1"))?;
    must_come(case, &second)?;
    // Gone altogether: the old one stays, and that is said.
    fs::remove_dir_all(&mount)?;
    let state = becomes_state(&gateway, "invalid")?;
    ensure!(
        at(&state, "/problems/0")
            .as_str()
            .is_some_and(|problem| problem.contains("cannot be read")),
        "{state}"
    );
    ensure!(is_served(case, &second)?);
    Place::new(&mount, &third)?;
    must_come(case, &third)?;
    becomes_state(&gateway, "valid").map(drop)
}

/// A gateway that demands client certificates of a bundle.
struct Mutual {
    server_ca: Authority,
    bundle: PathBuf,
    crl: PathBuf,
    body: String,
}

impl Mutual {
    fn new(case: &Case, authorities: &[&Authority], crl: Option<&Path>) -> Result<Mutual> {
        let server_ca = Authority::new(&case.dir(), "server")?;
        let server = server_ca.issue(Role::Server, &[HOST])?;
        let (bundle, live_crl) = (case.dir().join("bundle.pem"), case.dir().join("live.crl"));
        write_bundle(&bundle, authorities)?;
        let mut keys = String::new();
        if let Some(crl) = crl {
            fs::copy(crl, &live_crl)?;
            keys = format!(", crl_files = [\"{}\"]", live_crl.display());
        }
        let body = entry_point("tls = { options = \"mtls\" }")
            + &route_all(&backend_url())
            + &sallyport_tests::fragments::certificate(&server)
            + &mutual("mtls", &bundle, &keys)
            + &metrics_body();
        Ok(Mutual {
            server_ca,
            bundle,
            crl: live_crl,
            body,
        })
    }
}

fn write_bundle(path: &Path, authorities: &[&Authority]) -> Result<()> {
    let mut all = Vec::new();
    for authority in authorities {
        all.extend(fs::read(authority.ca_file())?);
    }
    replace(path, &all)
}

fn a_removed_authority_ends_the_sessions_of_its_clients_alone(case: &Case) -> Result<()> {
    let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)?;
    let (old, new) = (
        Authority::new(&case.dir(), "old")?,
        Authority::new(&case.dir(), "new")?,
    );
    let world = Mutual::new(case, &[&old, &new], None)?;
    let gateway = case.gateway(&world.body)?;
    let (leaving, staying) = (
        old.issue(Role::Client, &["leaving.example"])?,
        new.issue(Role::Client, &["staying.example"])?,
    );
    let leaving = client(&world.server_ca, Some(&leaving))?;
    let staying = client(&world.server_ca, Some(&staying))?;
    let mut gone = [hold(case, &leaving)?, hold_http2(case, &leaving)?];
    let mut kept = [hold(case, &staying)?, hold_http2(case, &staying)?];
    write_bundle(&world.bundle, &[&new])?;
    for held in &mut gone {
        held.ends_within(SOON)?;
    }
    for held in &mut kept {
        ensure!(held.get(HOST)? == 200, "the other client's connection");
    }
    ensure!(
        hold(case, &leaving).is_err(),
        "a new handshake must be refused too"
    );
    hold(case, &staying)?;
    let ended = "sallyport_tls_sessions_ended_total{reason=\"tls_certificate_unknown\"}";
    becomes(case, ended, 2)?;
    ensure!(at(&tls(&gateway)?, "/sessions_ended/tls_certificate_unknown") == 2);
    ensure!(
        log_lines(&gateway, "tls session ended") == 2,
        "{}",
        gateway.proc.log()
    );
    let failed = "sallyport_tls_handshakes_failed_total{reason=\"tls_certificate_unknown\"}";
    becomes(case, failed, 1)
}

fn a_removed_authority_ends_the_tunnels_of_its_clients_alone(case: &Case) -> Result<()> {
    let _echo = TcpServer::echo(&case.ns, local(BACKEND))?;
    let (old, new) = (
        Authority::new(&case.dir(), "old")?,
        Authority::new(&case.dir(), "new")?,
    );
    let server_ca = Authority::new(&case.dir(), "server")?;
    let bundle = case.dir().join("bundle.pem");
    write_bundle(&bundle, &[&old, &new])?;
    let body = entry_point("tls = {}")
        + &sallyport_tests::fragments::certificate(&server_ca.issue(Role::Server, &[HOST])?)
        + &mutual("mtls", &bundle, "")
        + &metrics_body()
        + &format!(
            "[tcp_routers.t]\nrule = \"HostSNI(`{HOST}`)\"\nservice = \"t\"\ntls = {{ options = \"mtls\" }}\n\
             [tcp_services.t]\nservers = [{{ address = \"127.0.0.1:{BACKEND}\" }}]\n"
        );
    let _gateway = case.gateway(&body)?;
    let dig = |authority: &Authority| -> Result<Session> {
        let identity = authority.issue(Role::Client, &["one.example"])?;
        let tcp = raw_client::connect(&case.ns, None, local(PORT))?;
        let mut session = client(&server_ca, Some(&identity))?.shake(tcp, HOST)?;
        echoes(&mut session)?;
        Ok(session)
    };
    let (mut gone, mut kept) = (dig(&old)?, dig(&new)?);
    write_bundle(&bundle, &[&new])?;
    ensure!(gone.receive(SOON)?.is_none(), "the removed authority's tunnel");
    echoes(&mut kept).context("the other client's tunnel")?;
    ensure!(dig(&old).is_err(), "a new tunnel must be refused too");
    let ended = "sallyport_tls_sessions_ended_total{reason=\"tls_certificate_unknown\"}";
    becomes(case, ended, 1)
}

fn echoes(session: &mut Session) -> Result<()> {
    session.send(b"hello")?;
    let back = session.receive(SOON)?;
    ensure!(back.as_deref() == Some(b"hello"), "{back:?}");
    Ok(())
}

fn a_handshake_that_was_begun_before_its_authority_was_removed_comes_to_nothing(case: &Case) -> Result<()> {
    let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)?;
    let (old, new) = (
        Authority::new(&case.dir(), "old")?,
        Authority::new(&case.dir(), "new")?,
    );
    let world = Mutual::new(case, &[&old, &new], None)?;
    let gateway = case.gateway(&world.body)?;
    let leaving = old.issue(Role::Client, &["leaving.example"])?;
    let leaving = client(&world.server_ca, Some(&leaving))?;
    // The gateway has answered the hello by the policy of before when that is replaced.
    let mut begun = leaving.begin(HOST)?;
    let mut tcp = raw_client::connect(&case.ns, None, local(PORT))?;
    raw_client::send(&mut tcp, &[&outgoing(&mut begun)?])?;
    tcp.peek(&mut [0])?;
    write_bundle(&world.bundle, &[&new])?;
    gateway.proc.wait_for_log("authorities taken", SOON)?;
    let answered = Session::finish(begun, tcp).and_then(|mut session| session.get(HOST));
    ensure!(answered.is_err(), "{answered:?}");
    let ended = "sallyport_tls_sessions_ended_total{reason=\"tls_certificate_unknown\"}";
    becomes(case, ended, 1)
}

fn a_session_ends_with_its_clients_certificate(case: &Case) -> Result<()> {
    /// Sessions are judged once a minute although nothing changes.
    const A_MINUTE_AND_MORE: Duration = Duration::from_secs(90);
    let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)?;
    let clients = Authority::new(&case.dir(), "clients")?;
    let world = Mutual::new(case, &[&clients], None)?;
    let _gateway = case.gateway(&world.body)?;
    let short = Validity::For(Duration::from_secs(12));
    let short = clients.issue_with(Role::Client, short, &["short.example"])?;
    let long = clients.issue(Role::Client, &["long.example"])?;
    let (short, long) = (
        client(&world.server_ca, Some(&short))?,
        client(&world.server_ca, Some(&long))?,
    );
    let mut ending = [hold(case, &short)?, hold_http2(case, &short)?];
    let mut staying = [hold(case, &long)?, hold_http2(case, &long)?];
    for held in &mut ending {
        held.ends_within(A_MINUTE_AND_MORE)?;
    }
    for held in &mut staying {
        ensure!(held.get(HOST)? == 200);
    }
    let ended = "sallyport_tls_sessions_ended_total{reason=\"tls_certificate_expired\"}";
    becomes(case, ended, 2)
}

fn a_revoked_client_loses_its_session_and_a_broken_list_changes_nothing(case: &Case) -> Result<()> {
    let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)?;
    let clients = Authority::new(&case.dir(), "clients")?;
    let issue = |name: &str| clients.issue(Role::Client, &[name]);
    let (bad_leaf, good_leaf, gone_leaf) = (
        issue("bad.example")?,
        issue("good.example")?,
        issue("gone.example")?,
    );
    let world = Mutual::new(case, &[&clients], Some(&clients.revoke(&[&gone_leaf])?))?;
    let gateway = case.gateway(&world.body)?;
    let as_client = |identity| client(&world.server_ca, Some(identity));
    let (bad, good, long_gone) = (
        as_client(&bad_leaf)?,
        as_client(&good_leaf)?,
        as_client(&gone_leaf)?,
    );
    let mut ending = [hold(case, &bad)?, hold_http2(case, &bad)?];
    let mut staying = [hold(case, &good)?, hold_http2(case, &good)?];
    ensure!(hold(case, &long_gone).is_err());
    // Broken, empty and gone: what was taken before goes on to count.
    for broken in [
        &b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"[..],
        b"",
    ] {
        replace(&world.crl, broken)?;
        becomes_state(&gateway, "invalid")?;
        ensure!(hold(case, &long_gone).is_err(), "the old list must count");
        for held in ending.iter_mut().chain(&mut staying) {
            ensure!(held.get(HOST)? == 200);
        }
    }
    fs::remove_file(&world.crl)?;
    wait::until(SOON, "the vanished list", || {
        let problem = at(&tls(&gateway)?, "/problems/0").to_string();
        Ok(problem.contains("cannot be read").then_some(()))
    })?;
    ensure!(hold(case, &long_gone).is_err(), "the old list must count");
    let of_bad = clients.revoke(&[&bad_leaf, &gone_leaf])?;
    replace(&world.crl, &fs::read(of_bad)?)?;
    for held in &mut ending {
        held.ends_within(SOON)?;
    }
    for held in &mut staying {
        ensure!(held.get(HOST)? == 200);
    }
    becomes_state(&gateway, "valid")?;
    let ended = "sallyport_tls_sessions_ended_total{reason=\"tls_certificate_revoked\"}";
    becomes(case, ended, 2)
}

fn a_reload_that_changes_names_ends_sessions_and_one_that_does_not_leaves_them(case: &Case) -> Result<()> {
    let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)?;
    let clients = Authority::new(&case.dir(), "clients")?;
    let identity = clients.issue(Role::Client, &["one.example"])?;
    let world = Mutual::new(case, &[&clients], None)?;
    let gateway = case.gateway(&world.body)?;
    let client = client(&world.server_ca, Some(&identity))?;
    let mut held = [hold(case, &client)?, hold_http2(case, &client)?];
    let more = "# a line that moves the rest\n".to_owned() + &world.body;
    let more = more + &router("other", "Host(`other.example`)", "backend", "");
    let reload = |body: &str| -> Result<()> {
        gateway.setup().write(body)?;
        let done = gateway.setup().command(&["reload"])?;
        ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Ok(())
    };
    reload(&more)?;
    for held in &mut held {
        ensure!(held.get(HOST)? == 200, "an unrelated reload");
    }
    // The names still hold this client: it is judged and stays.
    let named = |name: &str| {
        more.replace(
            "RequireAndVerifyClientCert\"",
            &format!("RequireAndVerifyClientCert\", subject_names = [\"{name}\"]"),
        )
    };
    reload(&named("*.example"))?;
    for held in &mut held {
        ensure!(held.get(HOST)? == 200, "names that it has");
    }
    reload(&named("two.example"))?;
    for held in &mut held {
        held.ends_within(SOON)?;
    }
    let ended = "sallyport_tls_sessions_ended_total{reason=\"tls_certificate_not_named\"}";
    becomes(case, ended, 2)
}

fn a_key_that_cannot_be_read_leaves_the_old_pair(case: &Case) -> Result<()> {
    const NOBODY: u32 = 65_534;
    let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)?;
    let ca = Authority::new(&case.dir(), "ca")?;
    let (first, second) = (ca.issue(Role::Server, &[HOST])?, ca.issue(Role::Server, &[HOST])?);
    let place = Place::new(&case.dir().join("live"), &first)?;
    for file in [&place.cert, &place.key] {
        chown(file, Some(NOBODY), Some(NOBODY))?;
    }
    let gateway = case.setup()?.as_user(NOBODY)?.start(&plain_body(&place))?;
    ensure!(is_served(case, &first)?);
    fs::set_permissions(&place.key, fs::Permissions::from_mode(0o000))?;
    let state = becomes_state(&gateway, "invalid")?;
    let problem = at(&state, "/problems/0").to_string();
    ensure!(
        problem.contains("site.key") && problem.contains("Permission denied"),
        "{problem}"
    );
    ensure!(is_served(case, &first)?);
    fs::set_permissions(&place.key, fs::Permissions::from_mode(0o400))?;
    becomes_state(&gateway, "valid")?;
    // A renewed key of root's, as some tools leave it.
    place.put(&second)?;
    becomes_state(&gateway, "invalid")?;
    ensure!(is_served(case, &first)?);
    for file in [&place.cert, &place.key] {
        chown(file, Some(NOBODY), Some(NOBODY))?;
    }
    must_come(case, &second)?;
    becomes_state(&gateway, "valid").map(drop)
}

fn another_authority_for_servers_counts_at_once_and_leaves_other_pools_alone(case: &Case) -> Result<()> {
    const SECURE: u16 = 9443;
    let (right, wrong) = (
        Authority::new(&case.dir(), "right")?,
        Authority::new(&case.dir(), "wrong")?,
    );
    let identity = right.issue(Role::Server, &["backend.internal"])?;
    let tls = NginxTls {
        identity,
        clients: None,
    };
    let _secure = Nginx::start(&case.ns, "s", SECURE, &Serves::Tls(tls))?;
    let _plain = Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)?;
    let bundle = case.dir().join("servers.pem");
    write_bundle(&bundle, &[&right])?;
    let body = entry_point("")
        + &router("s", "Host(`s.example`)", "secure", "")
        + &router("p", "Host(`p.example`)", "plain", "")
        + &service(
            "secure",
            &[&format!("https://127.0.0.1:{SECURE}")],
            "servers_transport = \"internal\"",
        )
        + &service("plain", &[&backend_url()], "")
        + &format!(
            "[servers_transports.internal]\nserver_name = \"backend.internal\"\ndisable_http2 = true\nroot_cas = [\"{}\"]\n",
            bundle.display()
        )
        + &metrics_body();
    let setup = case.setup()?.with("workers = 2", "workers = 1");
    let gateway = setup.start(&body)?;
    let ask = |host: &str| -> Result<u16> {
        Ok(Curl::new(&case.ns)
            .via(local(PORT))
            .get(&format!("http://{host}/"))?
            .status)
    };
    let opened = || -> Result<u64> {
        let status = gateway.status()?;
        at(&status, "/counters/upstream_opened")
            .as_u64()
            .context("no counter")
    };
    for _ in 0..2 {
        ensure!(ask("s.example")? == 200 && ask("p.example")? == 200);
    }
    ensure!(opened()? == 2, "{}", opened()?);
    write_bundle(&bundle, &[&wrong])?;
    gateway.proc.wait_for_log("authorities taken", SOON)?;
    gateway.settle(502, || ask("s.example"))?;
    let before = opened()?;
    ensure!(ask("p.example")? == 200);
    ensure!(
        opened()? == before,
        "the other transport's connection must be used again"
    );
    write_bundle(&bundle, &[&wrong, &right])?;
    gateway.settle(200, || ask("s.example"))?;
    // Broken: the old bundle goes on to count, and its connections too.
    let before = opened()?;
    replace(&bundle, b"nonsense")?;
    let state = becomes_state(&gateway, "invalid")?;
    ensure!(
        at(&state, "/problems").to_string().contains("servers.pem"),
        "{state}"
    );
    ensure!(ask("s.example")? == 200 && opened()? == before);
    Ok(())
}

fn status_and_metrics_show_what_stands_behind_tls(case: &Case) -> Result<()> {
    let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)?;
    let clients = Authority::new(&case.dir(), "clients")?;
    let (gone, short_of) = (
        clients.issue(Role::Client, &["gone.example"])?,
        clients.issue_with(
            Role::Server,
            Validity::For(Duration::from_secs(5 * 86_400 + 3_600)),
            &["short.example"],
        )?,
    );
    let world = Mutual::new(case, &[&clients], Some(&clients.revoke(&[&gone])?))?;
    let short = Place::new(&case.dir().join("short"), &short_of)?;
    let gateway = case.gateway(&(world.body.clone() + &short.toml()))?;
    let tls = tls(&gateway)?;
    let named = |name: &str| {
        let all = at(&tls, "/certificates").as_array().into_iter().flatten();
        let mut found = all.filter(|one| at(one, "/names").to_string().contains(name));
        found
            .next()
            .cloned()
            .with_context(|| format!("{name} is not in {tls}"))
    };
    let shown = named("short.example")?;
    ensure!(
        at(&shown, "/days_left") == 5 && at(&shown, "/key") == "ECDSA 256",
        "{shown}"
    );
    ensure!(at(&shown, "/spki") == pin(&short.cert)?.as_str(), "{shown}");
    ensure!(at(&shown, "/used_by/0") == "tls.certificates", "{shown}");
    let generated = named("sallyport.invalid")?;
    ensure!(at(&generated, "/name") == "generated", "{generated}");
    let kept = pin(&gateway.setup().state_dir().join("default-certificate.pem"))?;
    ensure!(at(&generated, "/spki") == kept.as_str(), "{generated}");
    lists_and_authorities(&tls)?;
    let status = gateway.status()?;
    let demand = at(&status, "/entry_points/0/clients/0/client_auth");
    ensure!(demand == "RequireAndVerifyClientCert", "{status}");
    let label = format!(
        "sallyport_tls_certificate_not_after_seconds{{file=\"{}\"}}",
        short.cert.display()
    );
    let end = metric(case, &label)?;
    ensure!(end == at(&shown, "/not_after").as_u64(), "{end:?} {shown}");
    ensure!(
        log_lines(&gateway, "expires within so many days") == 1,
        "{}",
        gateway.proc.log()
    );
    text_shows_it_too(&gateway)
}

fn lists_and_authorities(tls: &Value) -> Result<()> {
    let list = at(tls, "/revocation_lists/0/lists/0");
    ensure!(
        at(list, "/revoked") == 1 && at(list, "/expired") == false,
        "{tls}"
    );
    ensure!(
        at(list, "/next_update")
            .as_u64()
            .is_some_and(|next| next > 3_000_000_000),
        "{list}"
    );
    let authorities = at(tls, "/authorities/0");
    ensure!(
        at(authorities, "/count") == 1 && at(authorities, "/used_by/0") == "tls.options.mtls",
        "{tls}"
    );
    Ok(())
}

fn text_shows_it_too(gateway: &Gateway) -> Result<()> {
    let text = gateway.setup().command(&["status"])?;
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    for part in [
        "tls certificates:",
        "sha256/",
        "tls revocation lists:",
        "files valid",
    ] {
        ensure!(text.contains(part), "`{part}` is not in {text}");
    }
    Ok(())
}

fn check_tells_every_file_that_cannot_be_used(case: &Case) -> Result<()> {
    let ca = Authority::new(&case.dir(), "ca")?;
    let (one, two) = (ca.issue(Role::Server, &[HOST])?, ca.issue(Role::Server, &[HOST])?);
    let crossed = Place::new(&case.dir().join("crossed"), &one)?;
    replace(&crossed.key, &fs::read(&two.key)?)?;
    let body = entry_point("tls = { options = \"mtls\" }\n")
        + &route_all(&backend_url())
        + &crossed.toml()
        + "[[tls.certificates]]\ncert_file = \"missing.pem\"\nkey_file = \"missing.key\"\n"
        + "[tls.options.mtls]\nclient_auth = { ca_files = [\"no-ca.pem\"], crl_files = [\"no.crl\"] }\n"
        + "[servers_transports.internal]\nroot_cas = [\"no-root.pem\"]\n"
        + "[allowlists.office]\nfile = \"no.list\"\n";
    let setup = case.setup()?;
    setup.write(&body)?;
    for command in [&["check"][..], &["run"]] {
        let output = setup.command(command)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(78), "{command:?}: {said}");
        let files = ["site.key", "missing.pem", "no-ca.pem", "no.crl", "no-root.pem"];
        for file in files.iter().filter(|_| command == ["check"]) {
            ensure!(
                said.contains(&format!("`{file}`")) || said.contains(&format!("/{file}`")),
                "{file}: {said}"
            );
        }
        ensure!(said.contains("no.list"), "{said}");
    }
    Ok(())
}
