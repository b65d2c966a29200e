//! Services: what they are by default, and each wrong value.

use super::{accepted, refused, refused_with, warned};
use crate::model::{
    Scheme, ServerPlace, ServiceRef,
    service::{InitialState, MirrorBody, Probe, Redirects, SameSite, Servers, Service, Strategy},
};
use std::{path::PathBuf, time::Duration};

const ONE: &str = "servers = [{ url = \"http://a\" }]";

fn servers(keys: &str) -> Servers {
    let config = accepted(&format!("[services.s]\n{ONE}\n{keys}\n"));
    match &config.services["s"] {
        Service::Servers(servers) => Servers::clone(servers),
        other => panic!("{other:?}"),
    }
}

/// A key below `[services.s]` with a server: refused at its value with these words.
fn check(key: &str, value: &str, fragments: &[&str]) {
    let text = format!("[services.s]\n{ONE}\n{key} = {value}\n");
    refused_with(&text, fragments);
}

#[test]
fn a_service_has_the_documented_defaults() {
    let plain = servers("");
    assert_eq!(plain.strategy, Strategy::Wrr);
    assert!(plain.health_check.is_none() && plain.passive.is_none() && plain.sticky.is_none());
    assert!(plain.requests_max.is_none() && plain.slow_start.is_zero());
    let check = servers("health_check = { path = \"/\" }")
        .health_check
        .expect("a check");
    let seconds = [check.interval, check.unhealthy_interval, check.timeout].map(|time| time.as_secs());
    assert_eq!((seconds, check.rise.get(), check.fall.get()), ([30, 30, 5], 2, 3));
    assert_eq!(
        (check.initial, check.redirects),
        (InitialState::Up, Redirects::Follow)
    );
    let Probe::Http { method, status, .. } = check.probe else {
        panic!("{:?}", check.probe)
    };
    assert_eq!((method.as_str(), status), ("GET", None));
    let passive = servers("passive_health_check = {}").passive.expect("ejection");
    assert_eq!(
        (passive.failure_window.as_secs(), passive.failures_max.get()),
        (10, 1)
    );
    let cookie = servers("sticky = { cookie = {} }").sticky.expect("a cookie");
    assert!(cookie.name.is_none() && !cookie.secure && cookie.max_age.is_none() && cookie.path == "/");
    let queue = servers("max_connections_per_server = 1").queue;
    assert_eq!((queue.waiting_max, queue.timeout.as_secs()), (128, 10));
}

#[test]
fn keys_are_read() {
    let read = servers(
        "strategy = \"hrw\"\nslow_start = \"30s\"\nmax_connections_per_server = 3\nqueue = { max = 0, timeout = \"1s\" }\n\
         health_check = { path = \"/h?x=1\", interval = \"1s\", unhealthy_interval = \"20ms\", headers = { X-A = \"b\" }, status = 204 }\n\
         sticky = { cookie = { name = \"lb\", same_site = \"lax\", max_age = \"60s\" } }",
    );
    assert_eq!((read.strategy, read.slow_start.as_secs()), (Strategy::Hrw, 30));
    assert_eq!(
        (read.requests_max.map(|max| max.get()), read.queue.waiting_max),
        (Some(3), 0)
    );
    let check = read.health_check.expect("a check");
    assert_eq!(check.unhealthy_interval, Duration::from_millis(20));
    assert_eq!(check.headers, [("x-a".to_owned(), "b".to_owned())]);
    let cookie = read.sticky.expect("a cookie");
    assert_eq!(
        (cookie.same_site, cookie.max_age),
        (Some(SameSite::Lax), Some(Duration::from_secs(60)))
    );
}

#[test]
fn servers_may_listen_on_sockets() {
    let url = |text: &str| {
        let config = accepted(&format!("[services.s]\nservers = [{{ url = \"{text}\" }}]\n"));
        config.services["s"].servers().expect("servers").servers[0]
            .url
            .clone()
    };
    let at = |path: &str| ServerPlace::Socket(PathBuf::from(path));
    let (plain, h2c) = (url("unix:///run/a.sock"), url("h2c+unix:///run/a.sock"));
    assert_eq!((plain.scheme, &plain.at), (Scheme::Http, &at("/run/a.sock")));
    assert_eq!((h2c.scheme, &h2c.at), (Scheme::H2c, &at("/run/a.sock")));
    assert_eq!(plain.to_string(), "unix:///run/a.sock");
    assert_eq!(h2c.to_string(), "h2c+unix:///run/a.sock");
    let long = format!("unix:///{}", "a".repeat(107));
    accepted(&format!(
        "[services.s]\nservers = [{{ url = \"unix:///{}\" }}]\n",
        "a".repeat(106)
    ));
    for bad in ["unix://run/a.sock", "unix:///", "unix:///a?b", &long] {
        let text = format!("[services.s]\nservers = [{{ url = \"{bad}\" }}]\n");
        refused(&text, &[("2:20", &["path of a socket", "absolute path"])]);
    }
}

#[test]
fn wrong_values() {
    check("strategy", "\"random\"", &["found `random`", "`least_time`"]);
    check("max_connections_per_server", "0", &["from 1 to"]);
    check(
        "queue",
        "{ max = 3 }",
        &[
            "`services.s.queue`",
            "no `max_connections_per_server`",
            "nobody would wait",
        ],
    );
    check(
        "passive_health_check",
        "{ max_failed_attempts = 0 }",
        &["from 1 to"],
    );
    check(
        "passive_health_check",
        "{ failure_window = \"0s\" }",
        &["at least 10ms"],
    );
    check("passive", "{}", &["`services.s.passive`", "unknown key"]);
    check("sticky", "{}", &["`cookie` is missing"]);
    check("sticky", "{ cookie = { name = \"a b\" } }", &["found `a b`"]);
    check("sticky", "{ cookie = { path = \"/;x\" } }", &["found `/;x`"]);
    check("sticky", "{ cookie = { domain = \"-\" } }", &["found `-`"]);
    check(
        "sticky",
        "{ cookie = { same_site = \"none\" } }",
        &["without `secure`", "add `secure = true`"],
    );
    servers("sticky = { cookie = { same_site = \"none\", secure = true } }");
}

#[test]
fn wrong_probes() {
    let wrong = |table: &str, fragments: &[&str]| check("health_check", table, fragments);
    wrong("{}", &["`path` is missing"]);
    wrong("{ path = \"healthz\" }", &["found `healthz`", "starts with `/`"]);
    wrong("{ path = \"http://b/\" }", &["found `http://b/`"]);
    wrong("{ path = \"/a b\" }", &["found `/a b`"]);
    for key in ["interval", "timeout", "unhealthy_interval"] {
        wrong(
            &format!("{{ path = \"/\", {key} = \"9ms\" }}"),
            &["at least 10ms"],
        );
    }
    for key in ["rise", "fall"] {
        wrong(&format!("{{ path = \"/\", {key} = 0 }}"), &["from 1 to"]);
    }
    wrong("{ path = \"/\", status = 100 }", &["from 200 to 599"]);
    wrong(
        "{ path = \"/\", follow_redirects = \"no\" }",
        &["`true` or `false`"],
    );
    wrong(
        "{ mode = \"grpc\", follow_redirects = true }",
        &["beside `mode = \"grpc\"`"],
    );
    wrong("{ path = \"/\", port = 0 }", &["from 1 to 65535"]);
    wrong(
        "{ path = \"/\", method = \"get\" }",
        &["found `get`", "capital letters"],
    );
    wrong("{ path = \"/\", method = \"CONNECT\" }", &["found `CONNECT`"]);
    wrong("{ path = \"/\", initial = \"unknown\" }", &["`up` or `down`"]);
    wrong(
        "{ path = \"/\", headers = { Host = \"b\" } }",
        &["a probe cannot have"],
    );
    wrong("{ path = \"/\", headers = { X = \"\\r\\n\" } }", &["printable"]);
    wrong(
        "{ path = \"/\", grpc_service = \"x\" }",
        &["beside `mode = \"http\"`"],
    );
    wrong("{ mode = \"grpc\", path = \"/\" }", &["beside `mode = \"grpc\"`"]);
}

#[test]
fn services_lead_to_services() {
    let config = accepted(
        "[services.a]\nservers = [{ url = \"http://a\" }]\n\
         [services.w.weighted]\nservices = [{ name = \"a\", weight = 9 }, { name = \"b@multicluster\" }]\n\
         [services.f.failover]\nservice = \"w\"\nfallback = \"a\"\n\
         [services.m.mirroring]\nservice = \"f\"\nmirrors = [{ name = \"a\", percent = 5 }]\n",
    );
    let Service::Weighted(weighted) = &config.services["w"] else {
        panic!("{config:?}")
    };
    let shares: Vec<u32> = weighted.services.iter().map(|(_, weight)| *weight).collect();
    assert_eq!(shares, [9, 1]);
    assert_eq!(weighted.services[1].0, ServiceRef::Multicluster("b".to_owned()));
    let (Service::Failover(failover), Service::Mirroring(mirroring)) =
        (&config.services["f"], &config.services["m"])
    else {
        panic!("{config:?}")
    };
    assert_eq!(failover.return_after.as_secs(), 10);
    assert!(failover.errors.is_none());
    assert_eq!(
        (mirroring.mirrors[0].percent, mirroring.body),
        (5, MirrorBody::UpTo(64 << 10))
    );
}

#[test]
fn a_failover_names_answers_by_status() {
    let errors = |keys: &str| {
        let config = accepted(&format!(
            "[services.a]\nservers = [{{ url = \"http://a\" }}]\n\
             [services.f.failover]\nservice = \"a\"\nfallback = \"x@multicluster\"\nerrors = {{ {keys} }}\n"
        ));
        match &config.services["f"] {
            Service::Failover(failover) => failover.errors.clone().expect("errors"),
            other => panic!("{other:?}"),
        }
    };
    let read = errors("status = [\"500-502\", \"429\"]");
    assert_eq!(read.body_bytes_max, 64 << 10);
    let held: Vec<u16> = (400..600).filter(|status| read.holds(*status)).collect();
    assert_eq!(held, [429, 500, 501, 502]);
    assert_eq!(
        errors("status = [\"503\"], max_request_body_bytes = \"1B\"").body_bytes_max,
        1
    );
    let wrong = |keys: &str, fragments: &[&str]| {
        refused_with(
            &format!(
                "[services.a]\nservers = [{{ url = \"http://a\" }}]\n\
                 [services.f.failover]\nservice = \"a\"\nfallback = \"x@multicluster\"\nerrors = {{ {keys} }}\n"
            ),
            fragments,
        );
    };
    wrong("", &["`status` is missing"]);
    wrong("status = []", &["empty list"]);
    wrong("status = [\"200\"]", &["found `200`", "from 400 to 599"]);
    wrong("status = [\"504-500\"]", &["found `504-500`"]);
    wrong(
        "status = [\"500\"], max_request_body_bytes = \"65MiB\"",
        &["at most `64MiB`", "kept in memory"],
    );
}

#[test]
fn wrong_composites() {
    let with_a = |text: &str, fragments: &[&str]| {
        refused_with(
            &format!("[services.a]\nservers = [{{ url = \"http://a\" }}]\n{text}\n"),
            fragments,
        );
    };
    with_a("[services.w.weighted]", &["`services` is missing"]);
    with_a("[services.w.weighted]\nservices = []", &["empty list"]);
    with_a(
        "[services.w.weighted]\nservices = [{ name = \"a\", weight = 0 }]",
        &["no service with a weight over 0"],
    );
    with_a(
        "[services.w.weighted]\nservices = [{ name = \"a\" }, { name = \"a\" }]",
        &["found `a` twice"],
    );
    with_a(
        "[services.w.weighted]\nservices = [{ name = \"b\" }]",
        &["found `b`, which no service has as its name"],
    );
    with_a(
        "[services.f.failover]\nservice = \"a\"",
        &["`fallback` is missing"],
    );
    with_a(
        "[services.f.failover]\nservice = \"a\"\nfallback = \"a\"",
        &["found `a` twice"],
    );
    with_a(
        "[services.m.mirroring]\nservice = \"a\"\nmirrors = [{ name = \"a\" }]",
        &["`percent` is missing"],
    );
    with_a(
        "[services.m.mirroring]\nservice = \"a\"\nmirrors = [{ name = \"a\", percent = 101 }]",
        &["from 0 to 100"],
    );
    let mirror = "service = \"a\"\nmirrors = [{ name = \"a\", percent = 1 }]";
    with_a(
        &format!("[services.m.mirroring]\n{mirror}\nmax_body_size = \"65MiB\""),
        &["at most `64MiB`"],
    );
    with_a(
        &format!("[services.m.mirroring]\n{mirror}\nmirror_body = false\nmax_body_size = \"1KiB\""),
        &["beside `mirror_body = false`"],
    );
    with_a(
        "[services.f]\nstrategy = \"wrr\"\n[services.f.failover]\nservice = \"a\"\nfallback = \"x@multicluster\"",
        &[
            "`services.f.strategy`: found `strategy` beside `failover`",
            "move `strategy`",
        ],
    );
}

#[test]
fn services_that_lead_in_a_circle_are_refused() {
    let failover = |name: &str, first: &str, second: &str| {
        format!("[services.{name}.failover]\nservice = \"{first}\"\nfallback = \"{second}\"\n")
    };
    let a = "[services.a]\nservers = [{ url = \"http://a\" }]\n";
    refused_with(
        &(a.to_owned() + &failover("f", "a", "f")),
        &["`services.f.failover.fallback`", "leads back to itself"],
    );
    let text = a.to_owned() + &failover("f", "a", "g") + &failover("g", "f", "a");
    refused_with(&text, &["`services.f.failover.fallback`", "leads back to itself"]);
    refused_with(&text, &["`services.g.failover.service`", "leads back to itself"]);
    // A chain as long as is allowed, and one longer; the whole of it is refused where it begins.
    let chain = |length: usize| {
        let mut text = a.to_owned() + &failover("f0", "a", "x@multicluster");
        for index in 1..length {
            text += &failover(&format!("f{index}"), &format!("f{}", index - 1), "a");
        }
        text
    };
    accepted(&chain(7));
    refused_with(
        &chain(8),
        &["`services.f7.failover.service`", "more than 8 services"],
    );
}

#[test]
fn transports_of_services_that_lead_elsewhere_are_nobodys() {
    let text = "[services.f]\nservers_transport = \"t\"\nfailover = { service = \"a\", fallback = \"b\" }\n\
                [services.a]\nservers = [{ url = \"http://a\" }]\n[services.b]\nservers = [{ url = \"http://b\" }]\n\
                [servers_transports.t]\n";
    refused_with(text, &["`services.f.servers_transport`", "beside `failover`"]);
    assert!(!warned("[services.a]\nservers = [{ url = \"unix:///a\" }]\n").contains("unix"));
}
