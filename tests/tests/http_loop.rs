//! `Via`, and requests that come back; both drivers.

use anyhow::{Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::curl::Curl;
use sallyport_tests::fragments::{BACKEND, PORT, entry_point, local, plain, route_all};
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_server::{Behaviour, RawServer};

on_both_drivers!(
    a_request_that_comes_back_for_ever_is_508,
    a_loop_over_http2_is_508,
    a_request_may_pass_twice_on_purpose,
    via_names_this_gateway_behind_those_before_it,
);

fn url() -> String {
    format!("http://127.0.0.1:{PORT}/")
}

fn a_request_that_comes_back_for_ever_is_508(case: &Case) -> Result<()> {
    let _gateway = case.gateway(&(entry_point("") + &route_all(&url())))?;
    for flag in ["--http1.1", "--http2-prior-knowledge"] {
        Curl::new(&case.ns).arg(flag).get(&url())?.expect(508)?;
    }
    Ok(())
}

fn a_loop_over_http2_is_508(case: &Case) -> Result<()> {
    let again = format!("h2c://127.0.0.1:{PORT}");
    let _gateway = case.gateway(&(entry_point("") + &route_all(&again)))?;
    Curl::new(&case.ns).get(&url())?.expect(508)?;
    Ok(())
}

fn a_request_may_pass_twice_on_purpose(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let second = "[entry_points.second]\naddress = \"127.0.0.1:8001\"\n\
        [routers.second]\nrule = \"PathPrefix(`/`)\"\nentry_points = [\"second\"]\nservice = \"last\"\n\
        [services.last]\nservers = [{ url = \"http://127.0.0.1:9000\" }]\n";
    let _gateway = case.gateway(&(entry_point("") + &route_all("http://127.0.0.1:8001") + second))?;
    Curl::new(&case.ns).get(&url())?.expect(200)?;
    let seen = server
        .seen
        .requests()
        .pop()
        .unwrap_or_default()
        .to_ascii_lowercase();
    ensure!(seen.matches("1.1 sallyport-").count() == 2, "{seen}");
    Ok(())
}

fn via_names_this_gateway_behind_those_before_it(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let _gateway = case.gateway(&plain(""))?;
    for (flag, version) in [
        ("--http1.1", "1.1"),
        ("--http1.0", "1.0"),
        ("--http2-prior-knowledge", "2.0"),
    ] {
        let curl = Curl::new(&case.ns)
            .arg(flag)
            .header("Via: 1.0 fred, 1.1 sallyport-other");
        let answer = curl.get(&url())?.expect(200)?;
        // It is for the servers: the client learns nothing of what stands here.
        ensure!(answer.header("via").is_none(), "{answer:?}");
        let seen = server
            .seen
            .requests()
            .pop()
            .unwrap_or_default()
            .to_ascii_lowercase();
        let (before, own) = (
            "via: 1.0 fred, 1.1 sallyport-other\r\n",
            format!("via: {version} sallyport-"),
        );
        let place = |text: &str| seen.find(text);
        ensure!(place(before).is_some() && place(before) < place(&own), "{seen}");
    }
    Ok(())
}
