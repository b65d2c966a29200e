//! `forward_auth`: what the server is asked, what it grants, and that nobody gets in without its word.

use anyhow::{Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::curl::{Answer, Curl};
use sallyport_tests::fragments::{BACKEND, PORT, backend_url, entry_point, local, service};
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_server::{Behaviour, RawServer};

on_both_drivers!(
    the_server_is_asked_and_what_it_grants_goes_on,
    its_refusal_is_the_clients_answer,
    nobody_gets_in_without_its_word,
    a_body_goes_to_both_up_to_its_limit,
);

const AUTH: u16 = 9100;

fn body(keys: &str) -> String {
    entry_point("")
        + "[routers.all]\nrule = \"PathPrefix(`/`)\"\nservice = \"backend\"\nmiddlewares = [\"ask\"]\n"
        + &service("backend", &[&backend_url()], "")
        + &format!(
            "[middlewares.ask.forward_auth]\naddress = \"http://127.0.0.1:{AUTH}/verify?app=shop\"\n{keys}\n"
        )
}

fn answers(text: &str) -> Behaviour {
    Behaviour::Answer(text.as_bytes().to_vec())
}

fn ask(case: &Case, headers: &[&str]) -> Result<Answer> {
    let curl = headers
        .iter()
        .fold(Curl::new(&case.ns), |curl, line| curl.header(line));
    curl.get(&format!("http://127.0.0.1:{PORT}/orders?id=1"))
}

fn the_server_is_asked_and_what_it_grants_goes_on(case: &Case) -> Result<()> {
    let backend = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let granted = "HTTP/1.1 200 OK\r\nX-Auth-User: joe\r\nX-Auth-Team: blue\r\nX-Secret: no\r\n\
                   Set-Cookie: session=1\r\nSet-Cookie: other=2\r\nContent-Length: 2\r\n\r\nok";
    let auth = RawServer::start(&case.ns, local(AUTH), answers(granted))?;
    let keys = "auth_response_headers = [\"X-Auth-User\"]\nauth_response_headers_regex = \"^x-auth-t\"\n\
                add_auth_cookies_to_response = [\"session\"]";
    let _gateway = case.gateway(&body(keys))?;
    let forged = [
        "X-Auth-User: root",
        "x_auth_user: root",
        "X-Auth-Team: root",
        "Cookie: s=1",
    ];
    for _ in 0..3 {
        let answer = ask(case, &forged)?.expect(200)?;
        ensure!(
            answer.header("set-cookie").as_deref() == Some("session=1"),
            "{}",
            answer.head
        );
    }
    let asked = auth.seen.requests();
    let first = asked
        .first()
        .map(|request| request.to_ascii_lowercase())
        .unwrap_or_default();
    ensure!(first.starts_with("get /verify?app=shop http/1.1"), "{first}");
    for line in [
        "x-forwarded-method: get",
        "x-forwarded-uri: /orders?id=1",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
        "cookie: s=1",
        "host: 127.0.0.1:9100",
    ] {
        ensure!(first.contains(line), "{line}: {first}");
    }
    let seen = backend.seen.requests().join("\n").to_ascii_lowercase();
    ensure!(
        seen.contains("x-auth-user: joe") && seen.contains("x-auth-team: blue"),
        "{seen}"
    );
    ensure!(!seen.contains("root") && !seen.contains("x-secret"), "{seen}");
    ensure!(
        asked.len() == 3 && auth.seen.connections() < 3,
        "kept connections are used again"
    );
    Ok(())
}

fn its_refusal_is_the_clients_answer(case: &Case) -> Result<()> {
    let backend = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let refusal = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nContent-Length: 7\r\n\r\nno word";
    let _auth = RawServer::start(&case.ns, local(AUTH), answers(refusal))?;
    let gateway = case.gateway(&body(""))?;
    let answer = ask(case, &[])?.expect(401)?;
    ensure!(
        answer.header("www-authenticate").as_deref() == Some("Bearer"),
        "{}",
        answer.head
    );
    ensure!(answer.text() == "no word", "{}", answer.text());
    ensure!(backend.seen.requests().is_empty());
    let status = gateway.status()?;
    ensure!(
        status
            .pointer("/counters/auth_refused")
            .and_then(serde_json::Value::as_u64)
            == Some(1),
        "{status}"
    );
    Ok(())
}

fn nobody_gets_in_without_its_word(case: &Case) -> Result<()> {
    let backend = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let long = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n{}",
        "x".repeat(2000)
    );
    let short = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbroken";
    let keys = "timeout = \"500ms\"\nmax_response_body_size = \"1KiB\"";
    let _gateway = case.gateway(&body(keys))?;
    ask(case, &[])?.expect(502)?;
    for (behaviour, status) in [
        (Behaviour::Close, 502),
        (Behaviour::Silent, 504),
        (answers(&long), 502),
        (Behaviour::AnswerAndClose(short.as_bytes().to_vec()), 502),
        (answers("no http\r\n\r\n"), 502),
    ] {
        let auth = RawServer::start(&case.ns, local(AUTH), behaviour.clone())?;
        let answer = ask(case, &[])?;
        ensure!(
            answer.status == status,
            "{behaviour:?}: {} {}",
            answer.status,
            answer.text()
        );
        drop(auth);
    }
    ensure!(
        backend.seen.requests().is_empty(),
        "{:?}",
        backend.seen.requests()
    );
    Ok(())
}

fn a_body_goes_to_both_up_to_its_limit(case: &Case) -> Result<()> {
    let backend = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let auth = RawServer::start(
        &case.ns,
        local(AUTH),
        answers("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    )?;
    let _gateway = case.gateway(&body("forward_body = true\nmax_body_size = \"1KiB\""))?;
    let send = |bytes: usize, chunked: bool| {
        let mut curl = Curl::new(&case.ns).args(&["--data-binary", &"y".repeat(bytes)]);
        if chunked {
            curl = curl.header("Transfer-Encoding: chunked");
        }
        curl.get(&format!("http://127.0.0.1:{PORT}/"))
    };
    for chunked in [false, true] {
        send(1024, chunked)?.expect(200)?;
        send(1025, chunked)?.expect(413)?;
    }
    for seen in [auth.seen.requests(), backend.seen.requests()] {
        ensure!(seen.len() == 2, "{seen:?}");
        ensure!(
            seen.iter().all(|request| request.ends_with(&"y".repeat(1024))),
            "{seen:?}"
        );
    }
    Ok(())
}
