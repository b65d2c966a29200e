//! Both forms of a line, and what hostile clients make of them.

use super::*;
use http::HeaderValue;
use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, proptest};

fn came() -> Came<'static> {
    Came {
        client: [203, 0, 113, 9].into(),
        peer: ([192, 0, 2, 7], 5123).into(),
        entry: "web",
        asserted: None,
    }
}

fn chosen(pairs: &[(&'static str, Option<&str>)]) -> Vec<Chosen> {
    let pair = |(name, value): &(&'static str, Option<&str>)| {
        let value = value.map(|value| HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        (HeaderName::from_static(name), value)
    };
    pairs.iter().map(pair).collect()
}

/// Both forms of a request.
fn lines(uri: &Uri, host: &[u8], headers: &[Chosen], query: FieldRule) -> [String; 2] {
    lines_of(uri, host, headers, query, None)
}

/// Both forms of a request of a verified user.
fn lines_of(uri: &Uri, host: &[u8], headers: &[Chosen], query: FieldRule, user: Option<&str>) -> [String; 2] {
    let line = Line {
        time: SystemTime::UNIX_EPOCH,
        came: came(),
        shown: None,
        asked: Some(Asked {
            method: &Method::GET,
            uri,
            host: Some(host),
            version: Version::HTTP_11,
            user,
            headers,
        }),
        ended: Ended {
            status: Some(200),
            router: Some("all"),
            service: Some("backend"),
            server: Some("http://127.0.0.1:9000"),
            bytes: Some(Bytes { came: 3, went: 5 }),
            duration: Duration::from_micros(1500),
            upstream: Some(Duration::from_micros(900)),
            ..Ended::default()
        },
    };
    [line.json(query), line.common(query)]
}

#[test]
fn a_request_has_its_facts_in_both_forms() {
    let uri = "/a?token=1".parse().expect("a target");
    let headers = chosen(&[("user-agent", Some("curl \"7\"")), ("cookie", None)]);
    let [json, common] = lines(&uri, b"a.example", &headers, FieldRule::Drop);
    assert_eq!(
        json,
        "{\"time\":\"1970-01-01T00:00:00.000Z\",\"event\":\"request\",\"client\":\"203.0.113.9\",\
         \"peer\":\"192.0.2.7:5123\",\"entry_point\":\"web\",\"method\":\"GET\",\"host\":\"a.example\",\"path\":\"/a\",\
         \"protocol\":\"HTTP/1.1\",\"status\":200,\"bytes_in\":3,\"bytes_out\":5,\"router\":\"all\",\
         \"service\":\"backend\",\"server\":\"http://127.0.0.1:9000\",\"duration_us\":1500,\
         \"upstream_duration_us\":900,\"request_headers\":{\"user-agent\":\"curl \\\"7\\\"\",\
         \"cookie\":\"REDACTED\"}}\n"
    );
    assert_eq!(
        common,
        "203.0.113.9 - - [01/Jan/1970:00:00:00 +0000] \"GET /a HTTP/1.1\" 200 5 \"-\" \
         \"curl \\x227\\x22\" - \"all\" \"http://127.0.0.1:9000\" 1ms\n"
    );
    let [json, common] = lines(&uri, b"a", &[], FieldRule::Keep);
    assert!(json.contains("\"query\":\"token=1\"") && common.contains("\"GET /a?token=1 HTTP/1.1\""));
    let [json, common] = lines(&uri, b"a", &[], FieldRule::Redact);
    assert!(json.contains("\"query\":\"REDACTED\"") && common.contains("/a?REDACTED "));
}

#[test]
fn a_verified_user_has_a_field_that_nothing_breaks_out_of() {
    let uri = Uri::from_static("/");
    let check = |user: &str, told: &str, word: &str| {
        let [json, common] = lines_of(&uri, b"a", &[], FieldRule::Drop, Some(user));
        let parsed: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(parsed["user"], told, "{json}");
        assert!(
            common.starts_with(&format!("203.0.113.9 - {word} [01/Jan/1970:")),
            "{common}"
        );
    };
    check("joe", "joe", "joe");
    check("joe doe", "joe doe", "joe\\x20doe");
    check("j [01] \"\n", "j [01] \"\n", "j\\x20[01]\\x20\\x22\\x0A");
    check("jörg", "jörg", "j\\xC3\\xB6rg");
    check("-", "-", "\\x2D");
    check("", "", "-");
}

#[test]
fn a_connection_that_came_to_nothing_has_its_reason() {
    let line = Line {
        time: SystemTime::UNIX_EPOCH,
        came: came(),
        shown: Some(Shown {
            sni: Some("a.example"),
            version: None,
            suite: None,
            session: None,
            client: None,
        }),
        asked: None,
        ended: Ended {
            reason: Some("tls_certificate_missing"),
            ..Ended::default()
        },
    };
    assert_eq!(
        line.json(FieldRule::Drop),
        "{\"time\":\"1970-01-01T00:00:00.000Z\",\"event\":\"connection\",\"client\":\"203.0.113.9\",\
         \"peer\":\"192.0.2.7:5123\",\"entry_point\":\"web\",\"reason\":\"tls_certificate_missing\",\
         \"duration_us\":0,\"tls_sni\":\"a.example\"}\n"
    );
    assert_eq!(
        line.common(FieldRule::Drop),
        "203.0.113.9 - - [01/Jan/1970:00:00:00 +0000] \"-\" - - \"-\" \"-\" tls_certificate_missing \"-\" \"-\" 0ms\n"
    );
}

#[test]
fn fields_of_one_name_stand_together() {
    let headers = chosen(&[("x-a", Some("1")), ("x-a", Some("2")), ("x-b", Some("3"))]);
    let [json, _] = lines(&Uri::from_static("/"), b"", &headers, FieldRule::Drop);
    assert!(
        json.contains("\"request_headers\":{\"x-a\":[\"1\",\"2\"],\"x-b\":\"3\"}"),
        "{json}"
    );
}

#[test]
fn a_line_ends_at_its_limits() {
    let whole = "x".repeat(FIELDS_BYTES_MAX / 4 - 3);
    let full = [
        ("x-a", Some(whole.as_str())),
        ("x-b", Some(&whole)),
        ("x-c", Some(&whole)),
        ("x-d", Some(&whole)),
    ];
    let [json, _] = lines(&Uri::from_static("/"), b"", &chosen(&full), FieldRule::Drop);
    assert!(
        json.contains("\"x-d\"") && !json.contains("truncated"),
        "{}",
        json.len()
    );
    let over = [&full[..], &[("x-e", Some(""))]].concat();
    let [json, _] = lines(&Uri::from_static("/"), b"", &chosen(&over), FieldRule::Drop);
    assert!(json.contains("\"x-d\"") && !json.contains("\"x-e\"") && json.contains("\"truncated\":true"));
    let long: Uri = format!("/{}", "x".repeat(60_000)).parse().expect("a target");
    let [json, common] = lines(&long, b"", &[], FieldRule::Drop);
    assert!(json.len() < 6000 && json.contains("\"truncated\":true") && common.len() < 6000);
}

proptest! {
    #[test]
    fn no_client_byte_forges_a_line_or_a_field(
        path in "/[!-~]{0,30}",
        host in prop::collection::vec(any::<u8>(), 0..20),
        agent in prop::collection::vec((0x20_u8..=0xff).prop_filter("no DEL", |byte| *byte != 0x7f), 0..30),
    ) {
        let Ok(uri) = path.parse::<Uri>() else { return Ok(()) };
        let headers = vec![(USER_AGENT, Some(HeaderValue::from_bytes(&agent).expect("a value")))];
        let [json, common] = lines(&uri, &host, &headers, FieldRule::Keep);
        for line in [&json, &common] {
            prop_assert_eq!(line.bytes().filter(|byte| !(b' '..=b'~').contains(byte)).count(), 1, "{}", line);
            prop_assert!(line.ends_with('\n'));
        }
        let parsed: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        let keys: Vec<&String> = parsed.as_object().expect("an object").keys().collect();
        let known = ["bytes_in", "bytes_out", "client", "duration_us", "entry_point", "event", "host", "method", "path",
            "peer", "protocol", "query", "request_headers", "router", "server", "service", "status", "time",
            "upstream_duration_us"];
        prop_assert!(keys.iter().all(|key| known.contains(&key.as_str())), "{keys:?}");
        prop_assert_eq!(parsed["request_headers"].as_object().map(serde_json::Map::len), Some(1));
        prop_assert_eq!(common.matches('"').count(), 10, "{}", common);
    }
}
