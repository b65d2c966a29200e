//! Cookies that keep a client at a server, and that nobody can read or make; both drivers.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use sallyport_tests::case::Case;
use sallyport_tests::fickle::Fickle;
use sallyport_tests::fragments::{PORT, all_to_s, local, service_at};
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_client::{self, Exchange};
use sallyport_tests::wait;
use serde_json::Value;
use std::time::Duration;

on_both_drivers!(
    a_cookie_keeps_a_client_at_its_server,
    a_cookie_that_was_not_made_here_is_as_good_as_none,
    a_client_whose_server_is_gone_gets_another_and_its_cookie,
    cookies_outlive_reloads_and_restarts,
    a_drained_server_keeps_its_clients_and_gets_no_new_ones,
    a_weighted_service_keeps_a_client_on_its_side,
    a_client_of_a_full_server_is_served_elsewhere_and_comes_back,
);

/// Longest wait for anything here.
const SOON: Duration = Duration::from_secs(20);
const A: u16 = 9001;
const B: u16 = 9002;
const COOKIE: &str = "sticky = { cookie = { name = \"lb\", secure = true, http_only = true, same_site = \"lax\", max_age = \"1h\" } }";

fn ask(case: &Case, cookie: Option<&str>) -> Result<Exchange> {
    let cookie = cookie
        .map(|pair| format!("Cookie: other=1; {pair}\r\n"))
        .unwrap_or_default();
    let request = format!("GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n{cookie}\r\n");
    raw_client::exchange(&case.ns, None, local(PORT), &[request.as_bytes()], SOON)
}

/// The pair that a client sends back, where the answer sets one.
fn set(answer: &Exchange) -> Option<String> {
    let fields = answer.fields("set-cookie");
    let field = fields.first()?;
    Some(field.split(';').next().unwrap_or_default().to_owned())
}

/// A client that is at the server of this name.
fn client_of(case: &Case, name: &str) -> Result<String> {
    for _ in 0..20 {
        let answer = ask(case, None)?;
        if answer.body() == name {
            return set(&answer).context("no cookie");
        }
    }
    anyhow::bail!("nobody came to `{name}`")
}

/// The client is at the server of this name, every time, and gets no other cookie.
fn stays(case: &Case, pair: &str, name: &str) -> Result<()> {
    for _ in 0..6 {
        let answer = ask(case, Some(pair))?;
        ensure!(
            answer.status() == 200 && answer.body() == name,
            "{}",
            answer.text()
        );
        ensure!(set(&answer).is_none(), "{}", answer.text());
    }
    Ok(())
}

fn servers(case: &Case) -> Result<(Fickle, Fickle)> {
    Ok((
        Fickle::start(&case.ns, "a", local(A))?,
        Fickle::start(&case.ns, "b", local(B))?,
    ))
}

fn a_cookie_keeps_a_client_at_its_server(case: &Case) -> Result<()> {
    let _servers = servers(case)?;
    let _gateway = case.gateway(&(all_to_s() + &service_at("s", &[A, B], COOKIE)))?;
    let field = ask(case, None)?
        .fields("set-cookie")
        .first()
        .context("no cookie")?
        .clone();
    ensure!(
        field.ends_with("; Path=/; Max-Age=3600; HttpOnly; Secure; SameSite=Lax"),
        "{field}"
    );
    ensure!(
        !field.contains("127.0.0.1") && !field.contains("900"),
        "it tells: {field}"
    );
    for name in ["a", "b"] {
        let pair = client_of(case, name)?;
        stays(case, &pair, name)?;
    }
    Ok(())
}

fn a_cookie_that_was_not_made_here_is_as_good_as_none(case: &Case) -> Result<()> {
    let _servers = servers(case)?;
    let _gateway = case.gateway(&(all_to_s() + &service_at("s", &[A, B], COOKIE)))?;
    let pair = client_of(case, "a")?;
    let last = if pair.ends_with('0') { "1" } else { "0" };
    let forged = format!("{}{last}", pair.get(..pair.len() - 1).context("short")?);
    for cookie in [forged.as_str(), "lb=http://127.0.0.1:9001", "lb=a", "lb=", "LB=x"] {
        let answer = ask(case, Some(cookie))?;
        ensure!(
            answer.status() == 200 && set(&answer).is_some(),
            "{cookie}: {}",
            answer.text()
        );
    }
    // Of several values the one that was made here counts.
    let both = format!("lb=old; {pair}");
    stays(case, &both, "a")
}

fn a_client_whose_server_is_gone_gets_another_and_its_cookie(case: &Case) -> Result<()> {
    let (mut a, b) = servers(case)?;
    let check =
        "health_check = { path = \"/healthz\", interval = \"50ms\", timeout = \"5s\", rise = 1, fall = 1 }";
    let gateway = case.gateway(&(all_to_s() + &service_at("s", &[A, B], &format!("{COOKIE}\n{check}"))))?;
    let pair = client_of(case, "a")?;
    a.go();
    // Also before a probe has found out.
    let answer = ask(case, Some(&pair))?;
    ensure!(
        answer.status() == 200 && answer.body() == "b",
        "{}",
        answer.text()
    );
    wait::until(SOON, "a server that is down", || {
        Ok(gateway
            .status()?
            .to_string()
            .contains("\"health\":\"down\"")
            .then_some(()))
    })?;
    let answer = ask(case, Some(&pair))?;
    ensure!(
        answer.status() == 200 && answer.body() == "b",
        "{}",
        answer.text()
    );
    let other = set(&answer).context("no new cookie")?;
    ensure!(other != pair);
    a.come()?;
    wait::until(SOON, "both servers up", || {
        Ok((!gateway.status()?.to_string().contains("\"health\":\"down\"")).then_some(()))
    })?;
    stays(case, &other, "b")?;
    drop(b);
    Ok(())
}

fn cookies_outlive_reloads_and_restarts(case: &Case) -> Result<()> {
    let _servers = servers(case)?;
    let body = all_to_s() + &service_at("s", &[A, B], COOKIE);
    let mut gateway = case.gateway(&body)?;
    let pair = client_of(case, "b")?;
    // The order of the servers is nobody's business.
    gateway
        .setup()
        .write(&(all_to_s() + &service_at("s", &[B, A], COOKIE)))?;
    gateway.proc.signal(Signal::SIGHUP)?;
    wait::until(SOON, "the second generation", || {
        let status = gateway.status()?;
        Ok((status.pointer("/configuration/generation") == Some(&Value::from(2))).then_some(()))
    })?;
    stays(case, &pair, "b")?;
    let setup = gateway.setup().clone();
    ensure!(gateway.stop()?.success());
    let _again = setup.start(&body)?;
    stays(case, &pair, "b")
}

fn a_drained_server_keeps_its_clients_and_gets_no_new_ones(case: &Case) -> Result<()> {
    let _servers = servers(case)?;
    let body = |weight: u32| {
        all_to_s()
            + &format!(
                "[services.s]\nservers = [{{ url = \"http://127.0.0.1:{A}\", weight = {weight} }}, {{ url = \"http://127.0.0.1:{B}\" }}]\n{COOKIE}\n"
            )
    };
    let gateway = case.gateway(&body(1))?;
    let pair = client_of(case, "a")?;
    gateway.setup().write(&body(0))?;
    gateway.proc.signal(Signal::SIGHUP)?;
    wait::until(SOON, "the second generation", || {
        let status = gateway.status()?;
        Ok((status.pointer("/configuration/generation") == Some(&Value::from(2))).then_some(()))
    })?;
    stays(case, &pair, "a")?;
    for _ in 0..6 {
        ensure!(ask(case, None)?.body() == "b");
    }
    Ok(())
}

fn a_weighted_service_keeps_a_client_on_its_side(case: &Case) -> Result<()> {
    let _servers = servers(case)?;
    let body = all_to_s()
        + "[services.s.weighted]\nservices = [{ name = \"one\" }, { name = \"two\" }]\nsticky = { cookie = { name = \"side\" } }\n"
        + &service_at("one", &[A], "")
        + &service_at("two", &[B], "");
    let _gateway = case.gateway(&body)?;
    for name in ["a", "b"] {
        let pair = client_of(case, name)?;
        ensure!(pair.starts_with("side="), "{pair}");
        stays(case, &pair, name)?;
    }
    Ok(())
}

fn a_client_of_a_full_server_is_served_elsewhere_and_comes_back(case: &Case) -> Result<()> {
    let (a, _b) = servers(case)?;
    let keys = format!("{COOKIE}\nmax_connections_per_server = 1");
    let gateway = case.gateway(&(all_to_s() + &service_at("s", &[A, B], &keys)))?;
    let pair = client_of(case, "a")?;
    a.hold();
    let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
    let request = format!("GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\nCookie: {pair}\r\n\r\n");
    raw_client::send(&mut stream, &[request.as_bytes()])?;
    wait::until(SOON, "the request at `a`", || {
        Ok((a.under_way() == 1).then_some(()))
    })?;
    let answer = ask(case, Some(&pair))?;
    ensure!(
        answer.body() == "b" && set(&answer).is_none(),
        "{}",
        answer.text()
    );
    a.let_go();
    ensure!(raw_client::read_to_end(&mut stream, SOON)?.body() == "a");
    // The place is free a moment after the answer is read.
    wait::until(SOON, "the place at `a`", || {
        let status = gateway.status()?;
        Ok((status.pointer("/services/0/servers/0/under_way") == Some(&Value::from(0))).then_some(()))
    })?;
    stays(case, &pair, "a")
}
