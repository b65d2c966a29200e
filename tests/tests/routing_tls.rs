//! Wildcards, patterns and no host at all beside hosts whose handshakes demand more: nothing is had for less than it
//! demands, and nothing is refused that was proven. Both drivers.

use anyhow::{Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Identity, Role};
use sallyport_tests::fragments::{
    BACKEND, PORT, backend_url, certificate, entry_point, local, mutual, router, service,
};
use sallyport_tests::on_both_drivers;
use sallyport_tests::openssl::{SClient, Version};
use sallyport_tests::raw_server::{Behaviour, RawServer};

on_both_drivers!(
    a_wildcard_gives_its_options_to_its_names_alone,
    a_router_that_demands_a_certificate_is_not_had_by_a_host_that_does_not,
    a_certificate_of_another_authority_proves_nothing_to_a_wider_router,
    a_wildcard_and_a_pattern_of_http_stay_http_beside_tcp_routers,
);

/// A server behind, two authorities, and clients of each.
struct Stage {
    server: RawServer,
    ours: Authority,
    theirs: Authority,
    our_client: Identity,
    their_client: Identity,
    site: Identity,
}

impl Stage {
    fn new(case: &Case) -> Result<Stage> {
        let (ours, theirs) = (
            Authority::new(&case.dir(), "ours")?,
            Authority::new(&case.dir(), "theirs")?,
        );
        Ok(Stage {
            server: RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?,
            our_client: ours.issue(Role::Client, &["c.example"])?,
            their_client: theirs.issue(Role::Client, &["c.example"])?,
            site: ours.issue(Role::Server, &["x.example", "*.x.example", "y.example"])?,
            ours,
            theirs,
        })
    }

    /// An entry point with these options, and the options `ours` and `theirs`, which demand a client of each.
    fn body(&self, options: &str, routers: &str) -> String {
        entry_point(&format!("tls = {{ options = \"{options}\" }}"))
            + routers
            + &service("backend", &[&backend_url()], "")
            + &certificate(&self.site)
            + &mutual("ours", self.ours.ca_file(), "")
            + &mutual("theirs", self.theirs.ca_file(), "")
            + "[tls.options.open]\nsni_strict = false\n"
    }
}

fn with(name: &str, rule: &str, options: &str) -> String {
    router(
        name,
        rule,
        "backend",
        &format!("tls = {{ options = \"{options}\" }}"),
    )
}

/// The status of a request for `host` over a handshake for `sni`; 0 where there is none.
fn status(case: &Case, sni: &str, host: &str, client: Option<&Identity>) -> Result<u16> {
    let mut connect = SClient::new(&case.ns, local(PORT), Version::Tls13).sni(sni);
    if let Some(client) = client {
        connect = connect.identity(client);
    }
    let got = connect.get(host)?;
    let known = [200, 400, 403, 404, 421]
        .into_iter()
        .find(|status| got.has_status(*status));
    Ok(known.unwrap_or(0))
}

fn a_wildcard_gives_its_options_to_its_names_alone(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let routers = with("wild", "Host(`*.x.example`)", "ours")
        + &with("pub", "Host(`pub.x.example`)", "open")
        + &router("rest", "PathPrefix(`/`)", "backend", "");
    let _gateway = case.gateway(&stage.body("open", &routers))?;
    let client = Some(&stage.our_client);
    for (sni, host, client, expected) in [
        ("a.x.example", "a.x.example", client, 200),
        ("a.x.example", "a.x.example", None, 0),
        ("A.X.example", "b.x.EXAMPLE", client, 200),
        ("a.x.example", "b.x.example.", client, 200),
        ("pub.x.example", "pub.x.example", None, 200),
        ("x.example", "x.example", None, 200),
        ("b.a.x.example", "b.a.x.example", None, 200),
        // Another name's handshake is none for these.
        ("pub.x.example", "a.x.example", None, 421),
        ("x.example", "a.x.example", None, 421),
        ("b.a.x.example", "A.x.example.", None, 421),
        ("a.x.example", "pub.x.example", client, 421),
        ("a.x.example", "x.example", client, 421),
    ] {
        let got = status(case, sni, host, client)?;
        ensure!(got == expected, "{sni} for {host}: {got}, expected {expected}");
    }
    Ok(())
}

fn a_router_that_demands_a_certificate_is_not_had_by_a_host_that_does_not(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    // `pub` answers one path; every other path of its host is left to routers that demand a certificate.
    let of_pub = with("pub", "Host(`pub.x.example`) && Path(`/nothing`)", "open");
    let before = stage.server.seen.requests().len();
    for wider in [
        with("wide", "Host(`*.x.example`)", "ours"),
        router("wide", "HostRegexp(`^p.*[.]x[.]example$`)", "backend", ""),
        router("wide", "PathPrefix(`/`)", "backend", ""),
        router("wide", "Host(`*`)", "backend", ""),
    ] {
        let mut gateway = case.gateway(&stage.body("ours", &(of_pub.clone() + &wider)))?;
        let client = Some(&stage.our_client);
        let got = status(case, "pub.x.example", "pub.x.example", None)?;
        ensure!(got == 403, "{wider}: {got} without a certificate");
        let got = status(case, "pub.x.example", "pub.x.example", client)?;
        ensure!(got == 403, "{wider}: {got} with one that nobody asked for");
        let got = status(case, "pb.x.example", "pb.x.example", client)?;
        ensure!(got == 200, "{wider}: {got} where it is demanded");
        ensure!(gateway.stop()?.success());
    }
    let came = stage.server.seen.requests().len() - before;
    ensure!(came == 4, "{came} requests came through");
    Ok(())
}

fn a_certificate_of_another_authority_proves_nothing_to_a_wider_router(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let routers = with("own", "Host(`other.x.example`) && Path(`/own`)", "theirs")
        + &router("wide", "PathPrefix(`/`)", "backend", "");
    let _gateway = case.gateway(&stage.body("ours", &routers))?;
    let (ours, theirs) = (Some(&stage.our_client), Some(&stage.their_client));
    for (host, client, expected) in [
        ("other.x.example", theirs, 403),
        ("other.x.example", ours, 0),
        ("y.example", ours, 200),
        ("y.example", theirs, 0),
    ] {
        let got = status(case, host, host, client)?;
        ensure!(got == expected, "{host}: {got}, expected {expected}");
    }
    Ok(())
}

fn a_wildcard_and_a_pattern_of_http_stay_http_beside_tcp_routers(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let tcp = "[tcp_routers.rest]\nrule = \"HostSNI(`*`)\"\nservice = \"db\"\ntls = {}\n\
               [tcp_routers.own]\nrule = \"HostSNI(`own.x.example`)\"\nservice = \"db\"\ntls = {}\n\
               [tcp_services.db]\nservers = [{ address = \"127.0.0.1:9002\" }]\n";
    let db = RawServer::start(&case.ns, local(9002), Behaviour::Echo)?;
    let routers = router("wild", "Host(`*.x.example`)", "backend", "")
        + &router("pattern", "HostRegexp(`^y[.]`)", "backend", "");
    let _gateway = case.gateway(&(stage.body("open", &routers) + tcp))?;
    for (name, over_http) in [
        ("a.x.example", true),
        ("y.example", true),
        ("x.example", false),
        ("own.x.example", false),
        ("a.a.x.example", false),
    ] {
        let before = (stage.server.seen.requests().len(), db.seen.requests().len());
        ensure!(status(case, name, name, None)? == 200, "{name}");
        let after = (stage.server.seen.requests().len(), db.seen.requests().len());
        let came = (after.0 - before.0, after.1 - before.1);
        let expected = if over_http { (1, 0) } else { (0, 1) };
        ensure!(
            came == expected,
            "{name}: {came:?} requests at HTTP's and TCP's server"
        );
    }
    Ok(())
}
