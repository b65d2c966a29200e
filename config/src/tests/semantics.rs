//! What only several sections together show.

use super::{accepted, refused, refused_with, warned};
use crate::{
    effective::EntryPointSet,
    model::{ClientAuth, EntryPointKind, ListenAddress, Reach, SourceRef, Workers, limits::RedirectScheme},
};
use std::num::NonZeroU64;

const SERVICE: &str = "[services.s]\nservers = [{ url = \"http://a\" }]\n";
const OPTIONS: &str = "[tls.options.a]\nsni_strict = true\n[tls.options.mtls]\nclient_auth = { ca_files = [\"ca\"] }\n\
                       [tls.options.given]\nclient_auth = { type = \"VerifyClientCertIfGiven\", ca_files = [\"ca\"] }\n";

fn file(rest: &str) -> String {
    format!("{rest}\n{SERVICE}{OPTIONS}")
}

/// Ordinary entry points by their tables.
fn points(list: &[(&str, &str)]) -> String {
    let table = |(index, (name, rest)): (usize, &(&str, &str))| {
        format!("[entry_points.{name}]\naddress = \":{}\"\n{rest}\n", 8000 + index)
    };
    list.iter().enumerate().map(table).collect()
}

fn router(name: &str, rule: &str, rest: &str) -> String {
    format!("[routers.{name}]\nservice = \"s\"\nrule = \"{rule}\"\n{rest}\n")
}

fn reach(config: &crate::model::Config, name: &str) -> Vec<String> {
    match &config.routers[name].reach {
        Reach::EntryPoints(points) => points.clone(),
        Reach::Uplinks(uplinks) => panic!("{uplinks:?}"),
    }
}

#[test]
fn an_empty_file_gives_the_documented_defaults_and_a_warning() {
    let config = accepted("");
    assert_eq!(config.proxy.workers, Workers::Auto);
    assert_eq!(
        (config.proxy.max_connections, config.proxy.drain.as_secs()),
        (65536, 10)
    );
    let in_flight = |text: &str| accepted(text).proxy.max_in_flight_bytes.map(NonZeroU64::get);
    assert_eq!(in_flight(""), Some(1 << 30));
    assert_eq!(
        in_flight("[proxy]\nmax_in_flight_bytes = \"1MiB\"\n"),
        Some(1 << 20)
    );
    assert_eq!(in_flight("[proxy]\nmax_in_flight_bytes = \"0\"\n"), None);
    assert_eq!(config.admin.socket.to_str(), Some("/run/sallyport/admin.sock"));
    assert_eq!(config.gate.pin_dir.to_str(), Some("/sys/fs/bpf/sallyport"));
    assert_eq!(config.tls.options["default"], crate::model::TlsOptions::default());
    assert_eq!(config.servers_transports["default"].max_idle_per_server, 64);
    assert_eq!(config.multicluster.stale_after.as_secs(), 60);
    assert!(warned("").contains("s.toml:1:1: `entry_points`: found no entry point"));
}

#[test]
fn an_entry_point_has_the_documented_defaults() {
    let config = accepted("[entry_points.web]\naddress = \":80\"\n");
    let point = &config.entry_points["web"];
    let seconds = |deadline: Option<std::time::Duration>| deadline.map(|deadline| deadline.as_secs());
    assert_eq!(
        (point.kind, point.address),
        (EntryPointKind::Ordinary, ListenAddress::AnyAddress(80))
    );
    assert_eq!(
        (point.limits.header_bytes_max, point.limits.headers_max),
        (65536, 100)
    );
    let times = point.timeouts;
    assert_eq!(
        [times.read_header, times.read, times.write].map(seconds),
        [Some(10), Some(60), None]
    );
    assert_eq!(
        [times.idle, times.tls_handshake, times.proxy_header].map(seconds),
        [Some(180), Some(10), Some(5)]
    );
    assert_eq!(
        [times.body_idle, times.keep_alive_max_time].map(seconds),
        [Some(60), None]
    );
    let limits = point.limits;
    assert_eq!(
        [
            limits.h2_streams_max,
            limits.h2_resets_max,
            limits.h2_control_frames_max
        ],
        [250, 200, 1000]
    );
    assert_eq!(limits.body_rate_min.map(u64::from), Some(1024));
    assert!(limits.connections_per_ip_max.is_none() && limits.keep_alive_max_requests.is_none());
    assert!(point.redirect.is_none());
    assert!(point.tls.is_none() && point.gate.is_none() && point.proxy_protocol.is_none());
    assert_eq!(point.address_at.to_string(), "s.toml:2:11");
}

#[test]
fn a_zero_is_no_limit_but_of_the_rate_no_mercy() {
    let config = accepted(
        "[entry_points.web]\naddress = \":80\"\n\
         timeouts = { body_idle = \"0s\" }\n\
         limits = { connections_per_ip = 0, body_rate_min = \"0\", keep_alive_max_requests = 0 }\n",
    );
    let point = &config.entry_points["web"];
    assert_eq!(point.timeouts.body_idle, None);
    assert!(point.limits.connections_per_ip_max.is_none() && point.limits.body_rate_min.is_none());
    assert!(point.limits.keep_alive_max_requests.is_none());
}

#[test]
fn a_redirect_has_the_scheme_and_port_of_where_it_leads() {
    let redirect = |keys: &str, target: &str| {
        let text = format!(
            "[entry_points.a]\naddress = \":80\"\nredirect = {{ {keys} }}\n\
             [entry_points.b]\naddress = \":8443\"\n{target}\n"
        );
        accepted(&text).entry_points["a"].redirect.expect("a redirect")
    };
    for (keys, target, expected) in [
        ("to = \"b\"", "tls = {}", (RedirectScheme::Https, 8443, true)),
        ("to = \"b\"", "", (RedirectScheme::Http, 8443, true)),
        (
            "to = \"b\", scheme = \"https\"",
            "",
            (RedirectScheme::Https, 8443, true),
        ),
        (
            "to = \":443\", permanent = false",
            "",
            (RedirectScheme::Https, 443, false),
        ),
        ("to = \":80\"", "", (RedirectScheme::Https, 80, true)),
    ] {
        let found = redirect(keys, target);
        assert_eq!(
            (found.scheme, found.port, found.permanent),
            expected,
            "{keys} {target}"
        );
    }
}

#[test]
fn everyone_is_both_families() {
    let config =
        accepted("[entry_points.web]\naddress = \":80\"\ngate = { allow = [\"everyone\", \"10.0.0.1\"] }\n");
    let allow = &config.entry_points["web"].gate.as_ref().expect("a gate").allow;
    let prefixes =
        ["0.0.0.0/0", "::/0", "10.0.0.1/32"].map(|net| SourceRef::Prefix(net.parse().expect("a prefix")));
    assert_eq!(allow.as_slice(), prefixes);
}

#[test]
fn the_default_set_is_all_or_those_marked_and_never_uplinks() {
    let uplink =
        "[uplink_entry_points.up]\naddress = \":9\"\nallow_unauthenticated = true\nas_default = true\n";
    let rule = router("r", "Path(`/`)", "");
    let all = accepted(&file(&format!(
        "{}{uplink}{rule}",
        points(&[("a", ""), ("b", "")])
    )));
    assert_eq!(reach(&all, "r"), ["a", "b"]);
    assert_eq!(all.default_entry_points(EntryPointSet::Uplink), ["up"]);
    let marked = accepted(&file(&format!(
        "{}{uplink}{rule}",
        points(&[("a", ""), ("b", "as_default = true")])
    )));
    assert_eq!(reach(&marked, "r"), ["b"]);
    let named = router("r", "Path(`/`)", "entry_points = [\"a\"]");
    let named = accepted(&file(&format!(
        "{}{named}",
        points(&[("a", ""), ("b", "as_default = true")])
    )));
    assert_eq!(reach(&named, "r"), ["a"]);
    refused_with(
        &file(&format!("{uplink}{rule}")),
        &["`routers.r`", "no entry point"],
    );
    let on_uplink = router("r", "Path(`/`)", "entry_points = [\"up\"]");
    refused_with(
        &file(&format!("{uplink}{on_uplink}")),
        &["`routers.r.entry_points[0]`", "uplink entry point `up`"],
    );
    let twice = router("r", "Path(`/`)", "entry_points = [\"a\", \"a\"]");
    refused_with(&file(&format!("{}{twice}", points(&[("a", "")]))), &["`a` twice"]);
}

#[test]
fn a_router_with_tls_skips_entry_points_without() {
    let both = points(&[("plain", ""), ("tls", "tls = {}")]);
    let config = accepted(&file(&format!("{both}{}", router("r", "Host(`h`)", "tls = {}"))));
    assert_eq!(reach(&config, "r"), ["tls"]);
    let named = router("r", "Host(`h`)", "tls = {}\nentry_points = [\"plain\"]");
    refused_with(&file(&format!("{both}{named}")), &["`plain`, which has no TLS"]);
    let none = router("r", "Host(`h`)", "tls = {}");
    refused_with(
        &file(&format!("{}{none}", points(&[("plain", "")]))),
        &["no entry point of the default set has TLS"],
    );
}

#[test]
fn overlapping_addresses_quote_both_places() {
    let text = "[entry_points.b]\naddress = \":80\"\n[entry_points.a]\naddress = \"127.0.0.1:80\"\n";
    refused(
        text,
        &[(
            "4:11",
            &[
                "`entry_points.a.address`",
                "overlaps `:80` of `entry_points.b` at s.toml:2:11",
            ],
        )],
    );
    let with_uplink = "[entry_points.b]\naddress = \":80\"\n[uplink_entry_points.u]\naddress = \":80\"\nallow_unauthenticated = true\n";
    refused(with_uplink, &[("4:11", &["`uplink_entry_points.u.address`"])]);
    accepted("[entry_points.b]\naddress = \"0.0.0.0:80\"\n[entry_points.a]\naddress = \"[::]:80\"\n");
}

#[test]
fn priority_is_the_length_of_the_rule_unless_written() {
    let routers = [
        ("r0", "PathPrefix(`/é`)", ""),
        ("r1", "Path(`/`)", "priority = 0"),
        ("r2", "Path(`/`)", "priority = -7"),
    ];
    let routers: String = routers
        .iter()
        .map(|(name, rule, rest)| router(name, rule, rest))
        .collect();
    let config = accepted(&file(&format!("{}{routers}", points(&[("a", "")]))));
    assert_eq!(
        ["r0", "r1", "r2"].map(|name| config.routers[name].priority),
        [16, 9, -7]
    );
}

#[test]
fn services_of_children_need_not_be_advertised() {
    let with = |service: &str| {
        format!(
            "{}[routers.r]\nrule = \"Path(`/`)\"\nservice = \"{service}\"\n{SERVICE}",
            points(&[("a", "")])
        )
    };
    assert!(warned(&with("x@multicluster")).contains("there are no children"));
    refused_with(&with("x@file"), &["`routers.r.service`", "found `@file`"]);
    refused_with(&with("X@multicluster"), &["RFC 1123"]);
    refused_with(&with("t"), &["found `t`, which no service has", "`s`"]);
}

#[test]
fn options_of_a_router_need_hosts_where_they_differ() {
    let on = points(&[("a", "tls = { options = \"a\" }")]);
    let with = |rule: &str, options: &str| {
        file(&format!(
            "{on}{}",
            router("r", rule, &format!("tls = {{ options = \"{options}\" }}"))
        ))
    };
    accepted(&with("Host(`h`) && Path(`/`)", "mtls"));
    accepted(&with("Path(`/`)", "a"));
    refused_with(
        &with("Path(`/`)", "mtls"),
        &[
            "`routers.r.tls.options`",
            "found `mtls`",
            "`Host` in every alternative",
        ],
    );
    refused_with(
        &with("Host(`h`) || Path(`/`)", "mtls"),
        &["`Host` in every alternative"],
    );
    assert!(warned(&with("Path(`/`)", "default")).contains("`Host` in every alternative"));
    accepted(&file(&format!("{on}{}", router("r", "Path(`/`)", ""))));
}

#[test]
fn two_routers_of_one_host_need_the_same_options_on_each_entry_point() {
    let on = points(&[("a", "tls = {}"), ("b", "tls = { options = \"mtls\" }")]);
    let pair = |one: &str, other: &str| {
        file(&format!(
            "{on}{}{}",
            router("r1", "Host(`h`)", one),
            router("r2", "Host(`H.`) && Path(`/x`)", other)
        ))
    };
    let only_a = "entry_points = [\"a\"]";
    let mtls = "tls = { options = \"mtls\" }";
    let text = pair(&format!("{only_a}\n{mtls}"), only_a);
    refused_with(
        &text,
        &[
            "`routers.r2`",
            "the host `h`",
            "`default` on `entry_points.a`",
            "`mtls` by `routers.r1` at s.toml:9:8",
        ],
    );
    accepted(&pair(&format!("{only_a}\n{mtls}"), &format!("{only_a}\n{mtls}")));
    accepted(&pair(&format!("{only_a}\n{mtls}"), "entry_points = [\"b\"]"));
    accepted(&pair("", ""));
    // One alternative without a host does not hide the one with it.
    let text = file(&format!(
        "{on}{}{}",
        router("r1", "Host(`h`)", &format!("{only_a}\n{mtls}")),
        router("r2", "Host(`h`) || Path(`/x`)", only_a)
    ));
    refused_with(&text, &["`routers.r2`", "the host `h`"]);
}

fn uplink_point(rest: &str) -> String {
    file(&format!(
        "[uplink_entry_points.up]\naddress = \":9443\"\n{rest}\n"
    ))
}

#[test]
fn an_uplink_entry_point_needs_a_proof_of_a_parent() {
    let refused =
        |rest: &str, found: &str| refused_with(&uplink_point(rest), &["`uplink_entry_points.up`", found]);
    refused("", "neither verified client certificates nor a gate");
    refused("tls = {}", "neither verified client certificates nor a gate");
    refused("gate = { allow = [\"everyone\"] }", "lets everyone in");
    refused("gate = { allow = [\"::/0\"] }", "lets everyone in");
    refused(
        "gate = { allow = [\"0.0.0.0/1\", \"128.0.0.0/1\"] }",
        "lets everyone in",
    );
    refused(
        "gate = { allow = [\"all\"] }\n[allowlists.all]\nsources = [\"0.0.0.0/0\"]",
        "lets everyone in",
    );
    refused(
        "gate = { allow = [\"10.0.0.0/8\"] }\n[gate]\nmode = \"observe\"",
        "only observes",
    );
    refused(
        "gate = { allow = [\"10.0.0.0/8\"] }\n[gate]\nmode = \"off\"",
        "is off",
    );
    accepted(&uplink_point("tls = { options = \"mtls\" }"));
    accepted(&uplink_point(
        "tls = { options = \"given\" }\n[gate]\nmode = \"observe\"",
    ));
    accepted(&uplink_point("gate = { allow = [\"10.0.0.0/8\"] }"));
    assert!(warned(&uplink_point("allow_unauthenticated = true")).contains("anyone who can connect"));
    assert!(!warned(&uplink_point("tls = { options = \"mtls\" }")).contains("anyone who can connect"));
}

#[test]
fn the_gate_is_required_by_default_only_where_it_guards_uplinks() {
    let required = |text: &str, name: &str| {
        accepted(text).entry_points[name]
            .gate
            .as_ref()
            .map(|gate| gate.required)
    };
    let guarded =
        "tls = { options = \"mtls\" }\ngate = { allow = [\"10.0.0.0/8\"], interfaces = [\"eth1\"] }";
    assert_eq!(required(&uplink_point(guarded), "up"), Some(true));
    assert_eq!(
        required(
            &uplink_point(&format!("{guarded}\n[gate]\nmode = \"observe\"")),
            "up"
        ),
        Some(false)
    );
    assert_eq!(
        required(&uplink_point("gate = { allow = [\"10.0.0.0/8\"] }"), "up"),
        Some(false)
    );
    let not = "gate = { allow = [\"10.0.0.0/8\"], interfaces = [\"eth1\"], required = false }";
    assert_eq!(required(&uplink_point(not), "up"), Some(false));
    let ordinary = points(&[(
        "a",
        "gate = { allow = [\"10.0.0.0/8\"], interfaces = [\"eth1\"] }",
    )]);
    assert_eq!(required(&ordinary, "a"), Some(false));
    for mode in ["observe", "off"] {
        let text = "gate = { allow = [\"10.0.0.0/8\"], interfaces = [\"eth1\"], required = true }";
        let text = format!("{}[gate]\nmode = \"{mode}\"\n", points(&[("a", text)]));
        refused(
            &text,
            &[("3:68", &["`entry_points.a.gate.required`", &format!("`{mode}`")])],
        );
    }
}

#[test]
fn senders_of_proxy_headers_outside_the_gate_earn_a_warning() {
    let with = |trusted: &str| {
        let rest = format!(
            "gate = {{ allow = [\"10.0.0.0/9\", \"10.128.0.0/9\"] }}\nproxy_protocol = {{ trusted_ips = [\"{trusted}\"] }}"
        );
        warned(&points(&[("a", &rest)]))
    };
    assert_eq!(with("10.0.0.0/8"), "");
    let warning = with("192.0.2.0/24");
    assert!(
        warning.starts_with("s.toml:4:34: `entry_points.a.proxy_protocol.trusted_ips`: `192.0.2.0/24`"),
        "{warning}"
    );
}

#[test]
fn optional_proxy_headers_earn_a_warning_and_required_ones_do_not() {
    let with = |mode: &str| {
        let rest = format!("proxy_protocol = {{ trusted_ips = [\"10.0.0.0/8\"]{mode} }}");
        warned(&points(&[("a", &rest)]))
    };
    assert_eq!(with(""), "");
    assert_eq!(with(", mode = \"required\""), "");
    let warning = with(", mode = \"optional\"");
    assert!(
        warning.starts_with("s.toml:3:57: `entry_points.a.proxy_protocol.mode`: found `optional`"),
        "{warning}"
    );
    assert!(warning.contains("can forge any address"), "{warning}");
}

#[test]
fn an_uplink_needs_an_entry_point_and_named_parents_need_certificates() {
    refused_with(
        "[uplinks.orders]\n",
        &["`uplinks.orders`", "no uplink entry point"],
    );
    let with = |point: &str, parents: &str| format!("{}[uplinks.orders]\n{parents}\n", uplink_point(point));
    refused_with(
        &with("gate = { allow = [\"10.0.0.0/8\"] }", "parents = [\"p\"]"),
        &["verifies no client certificates"],
    );
    refused_with(
        &with("allow_unauthenticated = true", "parents = [\"p\"]"),
        &["verifies no client certificates"],
    );
    accepted(&with("tls = { options = \"given\" }", "parents = [\"p\"]"));
    assert!(warned(&with("tls = { options = \"mtls\" }", "")).contains("no router names this uplink"));
}

#[test]
fn a_router_of_uplinks_has_no_entry_points_and_no_tls() {
    let with = |rest: &str| {
        let router = router("r", "Path(`/`)", &format!("uplinks = [\"orders\"]\n{rest}"));
        format!(
            "{}[uplinks.orders]\n{router}",
            uplink_point("tls = { options = \"mtls\" }")
        )
    };
    assert_eq!(
        accepted(&with("")).routers["r"].reach,
        Reach::Uplinks(vec!["orders".to_owned()])
    );
    refused_with(&with("tls = {}"), &["`routers.r.tls`", "beside `uplinks`"]);
    refused_with(
        &with("entry_points = [\"up\"]"),
        &["`routers.r.entry_points`", "beside `uplinks`"],
    );
    let unknown = with("").replace("uplinks = [\"orders\"]", "uplinks = [\"order\"]");
    refused_with(
        &unknown,
        &["found `order`, which no uplink has", "write `orders`"],
    );
    // Two routers of one host differ in nothing on an uplink entry point.
    let second = router("r2", "Host(`h`) && Path(`/x`)", "uplinks = [\"orders\"]");
    accepted(&format!("{}{second}", with("").replace("Path(`/`)", "Host(`h`)")));
}

#[test]
fn ca_files_alone_mean_that_certificates_are_required() {
    let config = accepted(OPTIONS);
    assert!(matches!(
        config.tls.options["mtls"].client_auth,
        ClientAuth::RequireAndVerify(_)
    ));
    assert!(matches!(
        config.tls.options["given"].client_auth,
        ClientAuth::VerifyIfGiven(_)
    ));
}

#[test]
fn skipping_verification_and_plain_children_earn_warnings() {
    assert!(
        warned("[servers_transports.t]\ninsecure_skip_verify = true\n")
            .contains("whoever answers is believed")
    );
    assert!(warned("[multicluster.children.c]\naddress = \"h2c://a\"\n").contains("found `h2c://a:80`"));
    assert!(warned("[gate]\nfailsafe = [\"0.0.0.0/0\"]\n").contains("every source"));
}
