//! TCP routers and services: what they mean, and what is refused.

use super::{accepted, refused_with, warned};
use crate::model::tcp::{TcpTls, TunnelIdle};
use std::time::Duration;

const POINTS: &str = "[entry_points.web]\naddress = \":80\"\n[entry_points.websecure]\naddress = \":443\"\ntls = { options = \"strict\" }\n\
     [tls.options.strict]\nsni_strict = true\n[tls.options.other]\n[tcp_services.db]\nservers = [{ address = \"10.0.0.9:5432\" }]\n\
     [services.s]\nservers = [{ url = \"http://a\" }]\n";

/// A TCP router called `r` with these keys behind the usual ones.
fn with(keys: &str) -> String {
    format!("{POINTS}[tcp_routers.r]\nservice = \"db\"\n{keys}\n")
}

#[test]
fn a_router_says_what_happens_to_tls() {
    let tls = |keys: &str| accepted(&with(keys)).tcp.routers["r"].clone();
    let clear = tls("rule = \"HostSNI(`*`)\"\nentry_points = [\"web\"]");
    assert_eq!((clear.tls, clear.priority), (TcpTls::Clear, -1));
    let through = tls("rule = \"HostSNI(`a.b`)\"\ntls = { passthrough = true }");
    assert_eq!((through.tls, through.priority), (TcpTls::PassThrough, 14));
    assert_eq!(
        through.entry_points,
        ["websecure"],
        "of the default set, those with TLS"
    );
    let anywhere = tls(
        "rule = \"HostSNI(`a`)\"\nentry_points = [\"web\", \"websecure\"]\ntls.passthrough = true\npriority = 3",
    );
    assert_eq!((anywhere.entry_points.len(), anywhere.priority), (2, 3));
    let own = tls("rule = \"HostSNI(`a`)\"\ntls = { options = \"other\" }");
    assert_eq!(
        own.tls,
        TcpTls::Terminate {
            options: Some("other".into())
        }
    );
}

#[test]
fn a_handshake_without_own_options_goes_by_those_of_the_entry_point() {
    let config = accepted(&with("rule = \"HostSNI(`a`)\"\ntls = {}"));
    let (router, point) = (&config.tcp.routers["r"], &config.entry_points["websecure"]);
    assert_eq!(config.tcp_tls_options(router, point), Some("strict"));
    let config = accepted(&with("rule = \"HostSNI(`a`)\"\ntls = { options = \"other\" }"));
    let (router, point) = (&config.tcp.routers["r"], &config.entry_points["websecure"]);
    assert_eq!(config.tcp_tls_options(router, point), Some("other"));
}

#[test]
fn services_have_probes_of_their_own() {
    let with_check = |keys: &str| {
        format!("[tcp_services.s]\nservers = [{{ address = \"db:1\" }}]\nhealth_check = {{ {keys} }}\n")
    };
    let check = |keys: &str| {
        let config = accepted(&with_check(keys));
        config.tcp.services["s"].health_check.clone().expect("a check")
    };
    let plain = check("");
    assert_eq!(
        (plain.port, plain.send.as_str(), plain.expect.as_str()),
        (None, "", "")
    );
    let rhythm = plain.rhythm;
    let seconds = [rhythm.interval, rhythm.unhealthy_interval, rhythm.timeout].map(|time| time.as_secs());
    assert_eq!(
        (seconds, rhythm.rise.get(), rhythm.fall.get()),
        ([30, 30, 5], 2, 3)
    );
    let told = check("port = 2, send = \"PING\\r\\n\", expect = \"+PONG\", interval = \"1s\"");
    assert_eq!(
        (told.port, told.send.as_str(), told.expect.as_str()),
        (Some(2), "PING\r\n", "+PONG")
    );
    assert_eq!(told.rhythm.unhealthy_interval.as_secs(), 1);
    let long = "x".repeat(4097);
    for (keys, fragment) in [
        ("port = 0", "from 1 to 65535"),
        ("send = \"\"", "found 0 bytes"),
        ("timeout = \"1ms\"", "at least 10ms"),
        ("fall = 0", "from 1 to"),
        ("initial = \"new\"", "`up` or `down`"),
        ("path = \"/\"", "unknown key"),
        (&format!("expect = \"{long}\""), "found 4097 bytes"),
    ] {
        refused_with(&with_check(keys), &[fragment]);
    }
}

#[test]
fn services_have_deadlines_of_their_own() {
    let service = |keys: &str| {
        accepted(&format!(
            "[tcp_services.s]\nservers = [{{ address = \"DB.local:1\" }}]\n{keys}\n"
        ))
        .tcp
        .services["s"]
            .clone()
    };
    let plain = service("");
    assert_eq!(plain.servers[0].address.to_string(), "db.local:1");
    assert_eq!(plain.dial_timeout, Some(Duration::from_secs(30)));
    assert_eq!(plain.idle_timeout, TunnelIdle::OfEntryPoint);
    let own = service("timeouts = { dial = \"0s\", idle = \"1h\" }");
    assert_eq!(own.dial_timeout, None);
    assert_eq!(own.idle_timeout, TunnelIdle::Own(Some(Duration::from_secs(3600))));
    let never = service("timeouts.idle = \"0s\"");
    assert_eq!(never.idle_timeout, TunnelIdle::Own(None));
}

#[test]
fn addresses_have_a_port_and_no_scheme() {
    let check = |address: &str, fragment: &str| {
        let text = format!("[tcp_services.s]\nservers = [{{ address = \"{address}\" }}]\n");
        refused_with(&text, &["`tcp_services.s.servers[0].address`", fragment]);
    };
    check("db", "without a port");
    check("db:0", "from 1 to 65535");
    check("db:x", "from 1 to 65535");
    check("tcp://db:1", "remove the scheme");
    check("::1:1", "in brackets");
    check("[10.0.0.1]:1", "IPv6 address");
    check(":1", "host");
    check("a b:1", "host");
    refused_with(
        "[tcp_services.s]\nservers = [{ address = \"a:1\", weight = 0 }]\n",
        &["no server would get a connection"],
    );
}

#[test]
fn names_need_tls() {
    for rule in [
        "HostSNI(`a`)",
        "HostSNI(`*`) && ALPN(`x`)",
        "HostSNI(`*`) || HostSNIRegexp(`a`)",
    ] {
        refused_with(
            &with(&format!("rule = \"{rule}\"\nentry_points = [\"web\"]")),
            &[
                "`tcp_routers.r.rule`",
                "without `tls`",
                "``HostSNI(`*`)`` and `ClientIP` alone",
            ],
        );
    }
    accepted(&with(
        "rule = \"HostSNI(`*`) && !ClientIP(`10.0.0.0/8`)\"\nentry_points = [\"web\"]",
    ));
}

#[test]
fn a_router_stands_where_it_can_match() {
    let check = |keys: &str, fragments: &[&str]| refused_with(&with(keys), fragments);
    check(
        "rule = \"HostSNI(`*`)\"\nentry_points = [\"websecure\"]",
        &["which has TLS, on a router without `tls`"],
    );
    check("rule = \"HostSNI(`*`)\"", &["neither `entry_points` nor `tls`"]);
    check(
        "rule = \"HostSNI(`a`)\"\nentry_points = [\"web\"]\ntls = {}",
        &["which has no TLS, on a router that shakes hands"],
    );
    check(
        "rule = \"HostSNI(`a`)\"\nentry_points = [\"nowhere\"]\ntls = {}",
        &["found `nowhere`"],
    );
    check(
        "rule = \"HostSNI(`a`)\"\ntls = { passthrough = true, options = \"other\" }",
        &["`options` beside `passthrough = true`"],
    );
    check(
        "rule = \"HostSNI(`a`)\"\ntls = { options = \"none\" }",
        &["found `none`"],
    );
    check("rule = \"Host(`a`)\"\ntls = {}", &["unknown matcher `Host`"]);
    let uplink = "[uplink_entry_points.up]\naddress = \":9443\"\nallow_unauthenticated = true\n";
    let keys = "rule = \"HostSNI(`a`)\"\nentry_points = [\"up\"]\ntls.passthrough = true\n";
    refused_with(
        &with(&format!("{keys}{uplink}")),
        &["the uplink entry point `up`"],
    );
    refused_with(
        "[entry_points.web]\naddress = \":80\"\n[tcp_routers.r]\nservice = \"nobody\"\nrule = \"HostSNI(`*`)\"\nentry_points = [\"web\"]\n",
        &["found `nobody`, which no TCP service has as its name"],
    );
    refused_with(
        "[entry_points.web]\naddress = \":80\"\n[tcp_services.db]\nservers = [{ address = \"a:1\" }]\n[tcp_routers.r]\nservice = \"db\"\nrule = \"HostSNI(`a`)\"\ntls.passthrough = true\n",
        &["no entry point of the default set that has TLS"],
    );
}

#[test]
fn routers_that_can_never_be_told_apart_are_refused() {
    let other = |rule: &str, keys: &str| {
        with(&format!(
            "rule = \"HostSNI(`A.b`)\"\ntls.passthrough = true\n[tcp_routers.t]\nservice = \"db\"\nrule = \"{rule}\"\ntls = {{}}\n{keys}"
        ))
    };
    refused_with(
        &other("HostSNI(`a.B`)", ""),
        &["`tcp_routers.t`", "the same rule and priority as `tcp_routers.r`"],
    );
    accepted(&other("HostSNI(`a.b`)", "priority = 9"));
    accepted(&other("HostSNI(`*.b`)", ""));
}

#[test]
fn a_host_belongs_to_http_or_to_a_tcp_router_and_has_one_set_of_options() {
    let both = |tcp: &str, tls: &str, http: &str| {
        with(&format!(
            "rule = \"{tcp}\"\ntls = {tls}\n[routers.h]\nservice = \"s\"\nentry_points = [\"websecure\"]\nrule = \"{http}\"\n"
        ))
    };
    let through = "{ passthrough = true }";
    let http = "Host(`a.b`) && PathPrefix(`/`)";
    for rule in [
        "HostSNI(`a.b`)",
        "HostSNI(`*.b`)",
        "HostSNIRegexp(`^a`)",
        "HostSNI(`a.b`) || ALPN(`x`)",
    ] {
        refused_with(
            &both(rule, through, http),
            &[
                "`tcp_routers.r`",
                "every connection of the host `a.b`",
                "`routers.h`",
            ],
        );
    }
    for rule in [
        "HostSNI(`a.b`) && ALPN(`x`)",
        "HostSNI(`c.b`)",
        "HostSNI(`*`)",
        "ClientIP(`10.0.0.0/8`)",
    ] {
        accepted(&both(rule, through, http));
    }
    let part = "HostSNI(`a.b`) && ALPN(`x`)";
    accepted(&both(part, "{}", http));
    accepted(&both(part, "{ options = \"strict\" }", http));
    refused_with(
        &both(part, "{ options = \"other\" }", http),
        &[
            "`tcp_routers.r`",
            "the TLS options `other` on `entry_points.websecure`, but `strict`",
        ],
    );
}

#[test]
fn http_behind_a_router_that_takes_everything_earns_a_warning() {
    let text = |rule: &str, named: &str| {
        with(&format!(
            "rule = \"{rule}\"\nentry_points = [\"web\"]\n[routers.h]\nservice = \"s\"\nrule = \"Path(`/`)\"\n{named}"
        ))
    };
    let named = "entry_points = [\"web\"]";
    assert!(warned(&text("HostSNI(`*`)", named)).contains("this router never matches there"));
    assert!(!warned(&text("HostSNI(`*`)", "")).contains("never matches"));
    assert!(!warned(&text("ClientIP(`10.0.0.0/8`)", named)).contains("never matches"));
}
