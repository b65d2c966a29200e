//! Routers beside each other: which can never be told apart, and whose TLS options are whose.

use super::{accepted, refused_with, warned};

const POINTS: &str = "[entry_points.web]\naddress = \":80\"\n[entry_points.websecure]\naddress = \":443\"\ntls = {}\n\
     [services.s]\nservers = [{ url = \"http://a\" }]\n[tcp_services.db]\nservers = [{ address = \"10.0.0.9:5432\" }]\n\
     [tls.options.modern]\nmin_version = \"VersionTLS13\"\n\
     [tls.options.mtls]\nclient_auth = { ca_files = [\"ca\"] }\n";

/// Routers, each as its rule and more keys, called `r0`, `r1` and so on.
fn routers(rules: &[(&str, &str)]) -> String {
    let each = rules.iter().enumerate();
    let each =
        each.map(|(n, (rule, keys))| format!("[routers.r{n}]\nservice = \"s\"\nrule = '{rule}'\n{keys}\n"));
    POINTS.to_owned() + &each.collect::<String>()
}

#[test]
fn routers_that_can_never_be_told_apart_are_refused() {
    let twins = |one: &str, other: &str, words: &str| {
        refused_with(
            &routers(&[(one, ""), (other, "")]),
            &["`routers.r1`", words, "`routers.r0`"],
        );
    };
    let (same, spelled) = ("the same rule and priority as", "but for its spelling");
    twins("Host(`a`)", "Host(`a`)", same);
    twins("Host(`a`)", "Host(`A`)", same);
    twins("Host(`a`) && Path(`/`)", "Path(`/`) && Host(`a`)", same);
    twins("Host(`a`)", "Host( `a` )", spelled);
    twins("HostRegexp(`^a`)", "HostRegexp(`^a`)", same);
    let chosen = |one: &str, other: &str| routers(&[("Host(`a`)", one), ("Host(`a`)", other)]);
    refused_with(&chosen("priority = 7", "priority = 7"), &["`routers.r1`", same]);
    refused_with(&chosen("priority = 9", ""), &["`routers.r1`", same]);
    accepted(&chosen("priority = 7", ""));
    accepted(&chosen("priority = 7", "priority = 8"));
    accepted(&chosen(
        "entry_points = [\"web\"]",
        "entry_points = [\"websecure\"]",
    ));
    accepted(&routers(&[("Host(`a`)", ""), ("Host(`b`)", "")]));
    // Each is told once, and of the first that it is the twin of.
    let text = routers(&[
        ("Host(`a`)", ""),
        ("Host(`a`)", "priority = 3"),
        ("Host(`a`)", ""),
    ]);
    refused_with(&text, &["`routers.r2`", "`routers.r0`"]);
}

#[test]
fn routers_for_tls_and_in_the_clear_are_no_twins() {
    let both = "[tcp_routers.t]\nservice = \"db\"\nrule = 'HostSNI(`*`)'\nentry_points = [\"web\"]\n\
                [tcp_routers.u]\nservice = \"db\"\nrule = 'HostSNI(`*`)'\nentry_points = [\"web\"]\ntls = { passthrough = true }\n";
    accepted(&format!("{POINTS}{both}"));
    let more = "[tcp_routers.v]\nservice = \"db\"\nrule = 'HostSNI( `*` )'\nentry_points = [\"web\"]\ntls = { passthrough = true }\n";
    refused_with(
        &format!("{POINTS}{both}{more}"),
        &["`tcp_routers.v`", "the same rule and priority as `tcp_routers.u`"],
    );
}

#[test]
fn ten_thousand_routers_are_judged_at_once() {
    let rules: Vec<String> = (0..10_000)
        .map(|n| format!("Host(`h{n}.example`) && PathPrefix(`/`)"))
        .collect();
    let mut rules: Vec<(&str, &str)> = rules.iter().map(|rule| (rule.as_str(), "")).collect();
    accepted(&routers(&rules));
    rules.push(("PathPrefix(`/`) && Host(`H77.example`)", ""));
    refused_with(&routers(&rules), &["`routers.r10000`", "`routers.r77`"]);
}

#[test]
fn routers_of_one_wildcard_need_the_same_options() {
    let (modern, mtls) = ("tls = { options = \"modern\" }", "tls = { options = \"mtls\" }");
    let pair = |one: (&str, &str), other: (&str, &str)| routers(&[one, other]);
    let refused = |one, other| {
        refused_with(
            &pair(one, other),
            &["`routers.r1`", "the host `*.x`", "by `routers.r0`"],
        );
    };
    refused(("Host(`*.x`)", mtls), ("Host(`*.X`) && Path(`/`)", modern));
    refused(
        ("Host(`*.x`)", mtls),
        ("Host(`*.x`) || Path(`/y`)", "entry_points = [\"websecure\"]"),
    );
    accepted(&pair(("Host(`*.x`)", mtls), ("Host(`*.x`) && Path(`/`)", mtls)));
    accepted(&pair(("Host(`*.x`)", mtls), ("Host(`*.y`)", modern)));
    // Each name goes by its own: the exact host before the wildcard.
    accepted(&pair(("Host(`*.x`)", modern), ("Host(`a.x`)", mtls)));
    // A pattern chooses nothing at the handshake.
    for rule in [
        "HostRegexp(`^a[.]x$`)",
        "Host(`a.x`) || HostRegexp(`^b`)",
        "Host(`*`)",
    ] {
        refused_with(
            &routers(&[(rule, mtls)]),
            &["`routers.r0.tls.options`", "`Host` in every alternative"],
        );
    }
    accepted(&routers(&[("HostRegexp(`^a`) && Host(`*.x`)", mtls)]));
}

#[test]
fn a_router_that_demands_more_than_a_hosts_handshake_earns_a_warning() {
    let mtls = "tls = { options = \"mtls\" }";
    let open = ("Host(`pub.x`)", "entry_points = [\"websecure\"]");
    let warning = "takes requests for the host `pub.x`";
    let with = |rule: &str| warned(&routers(&[open, (rule, mtls)]));
    assert!(with("Host(`*.x`)").contains(warning));
    assert!(with("Host(`*.x`) && Path(`/`)").contains("answered 403"));
    assert!(!with("Host(`*.x`) && !Host(`pub.x`)").contains(warning));
    assert!(!with("Host(`*.y`)").contains(warning));
    assert!(!with("Host(`a.x`)").contains(warning));
    let strict = |rule: &str| {
        let text = routers(&[("Host(`pub.x`)", "tls = { options = \"modern\" }"), (rule, "")]);
        warned(&text.replace("tls = {}", "tls = { options = \"mtls\" }"))
    };
    for rule in ["Path(`/`)", "HostRegexp(`x$`)", "Host(`*`)"] {
        assert!(strict(rule).contains(warning), "{rule}");
    }
    assert!(!strict("HostRegexp(`y$`)").contains(warning));
    // What demands nothing may be reached over any handshake.
    assert!(!warned(&routers(&[("Host(`a.x`)", mtls), ("Host(`*.x`)", "")])).contains("403"));
}

#[test]
fn a_wildcard_of_http_and_tcp_routers_share_an_entry_point_by_name() {
    let both = |tcp: &str, tls: &str, http: &str| {
        let tcp = format!("[tcp_routers.t]\nservice = \"db\"\nrule = '{tcp}'\ntls = {tls}\n");
        routers(&[(http, "entry_points = [\"websecure\"]")]) + &tcp
    };
    let through = "{ passthrough = true }";
    refused_with(
        &both("HostSNI(`*.x`)", through, "Host(`*.x`)"),
        &[
            "`tcp_routers.t`",
            "every connection of the host `*.x`",
            "`routers.r0`",
        ],
    );
    refused_with(
        &both("HostSNIRegexp(`^a`)", through, "HostRegexp(`^a`)"),
        &["every connection of the host `^a`"],
    );
    accepted(&both("HostSNI(`a.x`)", through, "Host(`*.x`)"));
    accepted(&both("HostSNI(`*.y`)", through, "Host(`*.x`)"));
    accepted(&both("HostSNI(`*.x`) && ALPN(`p`)", through, "Host(`*.x`)"));
    refused_with(
        &both(
            "HostSNI(`*.x`) && ALPN(`p`)",
            "{ options = \"modern\" }",
            "Host(`*.x`)",
        ),
        &["the TLS options `modern`", "but `default`"],
    );
}
