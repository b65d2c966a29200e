//! What is asked, what is granted, and what a client is told.

use super::*;

fn headers(pairs: &[(&str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::try_from(*name).expect("a name");
        headers.append(name, HeaderValue::from_static(value));
    }
    headers
}

fn settings() -> forward_auth::ForwardAuth {
    let text = "[middlewares.m.forward_auth]\naddress = \"http://auth.internal:9000/verify\"\n";
    let source = sallyport_config::Source {
        name: "s.toml".to_owned(),
        text: text.to_owned(),
    };
    let config = sallyport_config::parse(&[source]).expect("valid");
    let Some(sallyport_config::model::middleware::Middleware::ForwardAuth(settings)) =
        config.middlewares.get("m")
    else {
        panic!("another kind");
    };
    settings.clone()
}

fn auth(settings: forward_auth::ForwardAuth) -> ForwardAuth {
    ForwardAuth {
        service: ServiceRef::Local("m@forward_auth".to_owned()),
        target: settings.target.parse().expect("a target"),
        asked: Fields::of_request(&settings.request_headers),
        granted: Fields::of_answer(
            &settings.response_headers,
            settings.response_headers_regex.as_deref(),
        )
        .expect("a pattern"),
        settings,
    }
}

fn head(pairs: &[(&str, &'static str)]) -> Parts {
    let (mut head, ()) = Request::post("/a?b=c").body(()).expect("a request").into_parts();
    head.headers = headers(pairs);
    head
}

#[test]
fn the_server_is_told_what_is_asked_for_and_by_whom() {
    let came = head(&[
        ("host", "shop.example"),
        ("cookie", "s=1"),
        ("content-length", "7"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-host", "shop.example"),
        ("x-forwarded-method", "GET"),
        ("x-forwarded-uri", "/public"),
    ]);
    let asking = auth(settings()).asking(&came, None);
    assert_eq!(
        (asking.method().as_str(), asking.uri().path()),
        ("GET", "/verify")
    );
    let sent = asking.headers();
    assert_eq!(sent["x-forwarded-method"], "POST");
    assert_eq!(sent["x-forwarded-uri"], "/a?b=c");
    assert_eq!(sent["cookie"], "s=1");
    assert_eq!(sent["x-forwarded-host"], "shop.example");
    assert!(!sent.contains_key("content-length") && !sent.contains_key("host"));
    let trusting = forward_auth::ForwardAuth {
        trust_forward_header: true,
        preserve_request_method: true,
        request_headers: vec!["authorization".to_owned()],
        ..settings()
    };
    let asking = auth(trusting).asking(&came, Some(7));
    let sent = asking.headers();
    assert_eq!(asking.method(), "POST");
    assert_eq!(sent["x-forwarded-method"], "GET");
    assert_eq!(sent["x-forwarded-uri"], "/public");
    assert_eq!(sent["content-length"], "7");
    assert!(!sent.contains_key("cookie") && sent.contains_key("x-forwarded-for"));
}

#[test]
fn granted_fields_are_the_servers_alone_in_every_spelling() {
    let granting = forward_auth::ForwardAuth {
        response_headers: vec!["x-auth-user".to_owned(), "x_team".to_owned()],
        response_headers_regex: Some("^x-scope-|^host$|^content-length$".to_owned()),
        ..settings()
    };
    let mut request = headers(&[
        ("x-auth-user", "root"),
        ("x_auth_user", "root"),
        ("x.auth-user", "root"),
        ("x-team", "root"),
        ("x-scope-all", "root"),
        ("x_scope_all", "root"),
        ("host", "shop.example"),
        ("x-other", "kept"),
    ]);
    let answer = headers(&[
        ("x-auth-user", "joe"),
        ("x-scope-read", "1"),
        ("x-scope-read", "2"),
        ("host", "evil.example"),
        ("content-length", "5"),
        ("x-unnamed", "no"),
    ]);
    auth(granting).granted.grant(&answer, &mut request);
    let expected = headers(&[
        ("host", "shop.example"),
        ("x-other", "kept"),
        ("x-auth-user", "joe"),
        ("x-scope-read", "1"),
        ("x-scope-read", "2"),
    ]);
    assert_eq!(request, expected);
}

fn refused(settings: forward_auth::ForwardAuth, status: u16, location: &'static str) -> (u16, String) {
    let mut answer = Response::new(Bytes::from_static(b"no"));
    *answer.status_mut() = StatusCode::from_u16(status).expect("a status");
    answer
        .headers_mut()
        .insert(LOCATION, HeaderValue::from_static(location));
    let answer = auth(settings).refusal(answer);
    let fault = crate::fault::of(&answer);
    assert_eq!(fault, Some(Fault::AuthRefused(answer.status())));
    let location = answer.headers()[LOCATION].to_str().expect("text").to_owned();
    (answer.status().as_u16(), location)
}

#[test]
fn clients_get_the_servers_refusal_and_find_their_way() {
    let found = |status: u16, text: &str| (status, text.to_owned());
    assert_eq!(
        refused(settings(), 302, "/login"),
        found(302, "http://auth.internal:9000/login")
    );
    assert_eq!(
        refused(settings(), 302, "https://x.example/"),
        found(302, "https://x.example/")
    );
    assert_eq!(
        refused(settings(), 302, "//x.example/"),
        found(302, "//x.example/")
    );
    let preserving = forward_auth::ForwardAuth {
        preserve_location_header: true,
        ..settings()
    };
    assert_eq!(refused(preserving, 302, "/login"), found(302, "/login"));
    let signin = || forward_auth::ForwardAuth {
        signin_url: Some("https://login.example/".to_owned()),
        ..settings()
    };
    assert_eq!(refused(signin(), 401, "/x"), found(302, "https://login.example/"));
    assert_eq!(
        refused(signin(), 403, "/x"),
        found(403, "http://auth.internal:9000/x")
    );
}

#[test]
fn only_named_cookies_are_added() {
    let naming = forward_auth::ForwardAuth {
        cookies: vec!["session".to_owned()],
        ..settings()
    };
    let mut answer = headers(&[("set-cookie", "session=1; Path=/"), ("set-cookie", "other=2")]);
    assert_eq!(auth(naming).cookies(&mut answer), ["session=1; Path=/"]);
}
