//! `ip_allow_list` and `ip_deny_list`: whom they let in, by which address, and that files of lists are followed; both drivers.

use anyhow::{Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::curl::Curl;
use sallyport_tests::fragments::{
    BACKEND, PORT, backend_url, entry_point, local, route_all, router, service,
};
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_server::{Behaviour, RawServer};
use sallyport_tests::wait;
use serde_json::Value;
use std::time::Duration;

on_both_drivers!(
    lists_judge_who_connected,
    a_hop_that_a_trusted_peer_names_counts_and_a_strangers_word_does_not,
    a_list_at_the_entry_point_holds_for_every_router,
    a_list_follows_its_file,
    a_list_that_is_broken_never_opens_a_wider_router,
);

const LIMIT: Duration = Duration::from_secs(20);

fn backend(case: &Case) -> Result<RawServer> {
    RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)
}

/// The status that a client at `from` gets for a path.
fn status(case: &Case, from: &str, path: &str, headers: &[&str]) -> Result<u16> {
    let curl = Curl::new(&case.ns).from(from.parse()?);
    let curl = headers.iter().fold(curl, |curl, header| curl.header(header));
    Ok(curl.get(&format!("http://127.0.0.1:{PORT}{path}"))?.status)
}

/// Four routers, each by a list of its own.
fn body() -> String {
    let mut text = entry_point("forwarded_headers = { trusted_ips = [\"127.0.0.9\"] }");
    for name in ["allow", "deny", "depth", "excluding"] {
        text += &router(
            name,
            &format!("PathPrefix(`/{name}`)"),
            "backend",
            &format!("middlewares = [\"{name}\"]"),
        );
    }
    text + &service("backend", &[&backend_url()], "")
        + "[allowlists.office]\nsources = [\"127.0.0.2/32\"]\n\
           [middlewares.allow.ip_allow_list]\nallow = [\"office\"]\nsource_range = [\"127.0.0.3\"]\n\
           [middlewares.deny.ip_deny_list]\ndeny = [\"office\"]\nreject_status_code = 404\n\
           [middlewares.depth.ip_allow_list]\nsource_range = [\"203.0.113.0/24\"]\nip_strategy = { depth = 1 }\n\
           [middlewares.excluding.ip_deny_list]\nsource_range = [\"203.0.113.0/24\"]\n\
           ip_strategy = { excluded_ips = [\"10.0.0.0/8\"] }\n"
}

fn lists_judge_who_connected(case: &Case) -> Result<()> {
    let server = backend(case)?;
    let gateway = case.gateway(&body())?;
    for (from, path, expected) in [
        ("127.0.0.2", "/allow", 200),
        ("127.0.0.3", "/allow", 200),
        ("127.0.0.4", "/allow", 403),
        ("127.0.0.2", "/deny", 404),
        ("127.0.0.4", "/deny", 200),
    ] {
        let got = status(case, from, path, &[])?;
        ensure!(got == expected, "{from} {path}: {got}");
    }
    ensure!(server.seen.requests().len() == 3, "{:?}", server.seen.requests());
    // A refusal in disguise has the very bytes of what it is disguised as.
    let answer = |path: &str| {
        let curl = Curl::new(&case.ns).from("127.0.0.2".parse()?);
        curl.get(&format!("http://127.0.0.1:{PORT}{path}"))
    };
    ensure!(answer("/deny")?.body == answer("/nowhere")?.body);
    let counted = gateway.status()?;
    let counted = counted
        .pointer("/counters/source_forbidden")
        .and_then(Value::as_u64);
    ensure!(counted == Some(3), "{counted:?}");
    Ok(())
}

fn a_hop_that_a_trusted_peer_names_counts_and_a_strangers_word_does_not(case: &Case) -> Result<()> {
    let _server = backend(case)?;
    let _gateway = case.gateway(&body())?;
    let (trusted, stranger) = ("127.0.0.9", "127.0.0.4");
    for (from, path, hops, expected) in [
        (trusted, "/depth", "203.0.113.7", 200),
        (trusted, "/depth", "198.51.100.1", 403),
        (trusted, "/depth", "203.0.113.7, 198.51.100.1", 403),
        (trusted, "/depth", "198.51.100.1, 203.0.113.7", 200),
        (trusted, "/depth", "203.0.113.7:80", 403),
        (stranger, "/depth", "203.0.113.7", 403),
        (trusted, "/excluding", "198.51.100.1, 10.0.0.1", 200),
        (trusted, "/excluding", "203.0.113.7, 10.0.0.1", 403),
        (trusted, "/excluding", "10.0.0.1", 403),
        (stranger, "/excluding", "198.51.100.1", 403),
    ] {
        let got = status(case, from, path, &[&format!("X-Forwarded-For: {hops}")])?;
        ensure!(got == expected, "{from} {path} {hops}: {got}");
    }
    for path in ["/depth", "/excluding"] {
        let got = status(case, trusted, path, &[])?;
        ensure!(got == 403, "{path}: who names nobody was let in: {got}");
        let got = status(
            case,
            stranger,
            path,
            &["X_Forwarded_For: 203.0.113.7, 198.51.100.1"],
        )?;
        ensure!(got == 403, "{path}: {got}");
    }
    Ok(())
}

fn a_list_at_the_entry_point_holds_for_every_router(case: &Case) -> Result<()> {
    let server = backend(case)?;
    let _gateway = case.gateway(
        &(entry_point("middlewares = [\"office\"]")
            + &route_all(&backend_url())
            + "[middlewares.office.ip_allow_list]\nsource_range = [\"127.0.0.2\"]\n"),
    )?;
    ensure!(status(case, "127.0.0.2", "/a", &[])? == 200);
    ensure!(status(case, "127.0.0.4", "/a", &[])? == 403);
    ensure!(server.seen.requests().len() == 1);
    Ok(())
}

fn a_list_follows_its_file(case: &Case) -> Result<()> {
    let _server = backend(case)?;
    let file = case.dir().join("office.list");
    std::fs::write(&file, "127.0.0.2\n")?;
    let body = |keys: &str| {
        format!(
            "{}{}[allowlists.office]\nfile = \"{}\"\n[middlewares.office.ip_allow_list]\nallow = [\"office\"]\n",
            entry_point(keys),
            router("all", "PathPrefix(`/`)", "backend", "middlewares = [\"office\"]")
                + &service("backend", &[&backend_url()], ""),
            file.display()
        )
    };
    let _gateway = case.gateway(&body("middlewares = [\"office\"]"))?;
    ensure!(status(case, "127.0.0.2", "/", &[])? == 200);
    ensure!(status(case, "127.0.0.3", "/", &[])? == 403);
    let next = case.dir().join("office.next");
    std::fs::write(&next, "127.0.0.3\n")?;
    std::fs::rename(&next, &file)?;
    wait::until(LIMIT, "the new list", || {
        let (old, new) = (
            status(case, "127.0.0.2", "/", &[])?,
            status(case, "127.0.0.3", "/", &[])?,
        );
        Ok(((old, new) == (403, 200)).then_some(()))
    })
}

fn a_list_that_is_broken_never_opens_a_wider_router(case: &Case) -> Result<()> {
    let _server = backend(case)?;
    let good = entry_point("")
        + &router(
            "inner",
            "PathPrefix(`/inner`)",
            "backend",
            "middlewares = [\"office\"]",
        )
        + &route_all(&backend_url())
        + "[middlewares.office.ip_allow_list]\nsource_range = [\"127.0.0.2\"]\n";
    let gateway = case.gateway(&good)?;
    for broken in [
        good.replace("[\"127.0.0.2\"]", "[]"),
        good.replace("[\"127.0.0.2\"]", "[\"nobody\"]"),
        good.replace("[\"office\"]", "[\"ofice\"]"),
        good.replace("source_range = [\"127.0.0.2\"]", ""),
    ] {
        gateway.setup().write(&broken)?;
        for words in [&["check"][..], &["reload"]] {
            let output = gateway.setup().command(words)?;
            ensure!(output.status.code() == Some(78), "{words:?}: {output:?}");
        }
        ensure!(status(case, "127.0.0.3", "/inner", &[])? == 403);
        ensure!(status(case, "127.0.0.2", "/inner", &[])? == 200);
    }
    Ok(())
}
