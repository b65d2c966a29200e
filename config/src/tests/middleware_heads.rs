//! The kinds of middleware that look at the header section of a request: what they say, and what is refused.

use super::{accepted, refused_with, warned};
use crate::model::{
    ServiceRef, SourceRef,
    middleware::{
        Middleware,
        errors::Errors,
        headers::{Change, Cors, Headers, Hosts, Origin},
        ip_strategy::Picked,
        redirect::Web,
    },
};

fn table(kind: &str, keys: &str) -> String {
    format!("[middlewares.m.{kind}]\n{keys}\n[allowlists.office]\nsources = [\"192.0.2.0/24\"]\n")
}

fn made(kind: &str, keys: &str) -> Middleware {
    accepted(&table(kind, keys)).middlewares["m"].clone()
}

#[track_caller]
fn wrong(kind: &str, keys: &str, says: &[&str]) {
    refused_with(&table(kind, keys), says);
}

#[test]
fn lists_of_sources_name_allowlists_and_prefixes() {
    let Middleware::IpAllowList(list) = made(
        "ip_allow_list",
        "allow = [\"office\"]\nsource_range = [\"10.0.0.1\", \"office\"]",
    ) else {
        panic!("another kind")
    };
    let office = || SourceRef::List("office".to_owned());
    let one = SourceRef::Prefix("10.0.0.1/32".parse().expect("a prefix"));
    assert_eq!(list.sources, [office(), one, office()]);
    assert_eq!(
        (list.reject_status, list.ip_strategy.picked),
        (403, Picked::Client)
    );
    let Middleware::IpDenyList(list) = made(
        "ip_deny_list",
        "deny = [\"everyone\"]\nreject_status_code = 404\nip_strategy = { depth = 2, ipv6_subnet = 64 }",
    ) else {
        panic!("another kind")
    };
    assert_eq!(
        (
            list.sources.len(),
            list.reject_status,
            list.ip_strategy.ipv6_subnet
        ),
        (2, 404, Some(64))
    );
    assert!(matches!(list.ip_strategy.picked, Picked::Depth(depth) if depth.get() == 2));
}

#[test]
fn a_list_of_nobody_or_with_two_addresses_is_refused() {
    let allow = |keys: &str, says: &[&str]| wrong("ip_allow_list", keys, says);
    allow(
        "",
        &[
            "found nobody that it names, expected `allow` or `source_range`",
            "nobody could pass",
        ],
    );
    wrong(
        "ip_deny_list",
        "reject_status_code = 403",
        &["found nobody that it names", "everybody would pass"],
    );
    allow(
        "allow = []",
        &["`middlewares.m.ip_allow_list.allow`: found an empty list"],
    );
    allow(
        "source_range = [\"10.0.0.1/8\"]",
        &["`middlewares.m.ip_allow_list.source_range[0]`"],
    );
    allow(
        "allow = [\"ofice\"]",
        &[
            "found `ofice`, which no allowlist has as its name",
            "write `office`",
        ],
    );
    allow("deny = [\"office\"]", &["found an unknown key"]);
    allow(
        "allow = [\"office\"]\nreject_status_code = 200",
        &["expected a number from 400 to 599"],
    );
    let strategy = |keys: &str| format!("allow = [\"office\"]\nip_strategy = {{ {keys} }}");
    allow(&strategy("depth = 0"), &["expected a number from 1 to 64"]);
    allow(
        &strategy("depth = 1, excluded_ips = [\"office\"]"),
        &["found `depth` and `excluded_ips` at once"],
    );
    allow(
        &strategy("excluded_ips = [\"nobody\"]"),
        &["found `nobody`, which no allowlist"],
    );
    allow(
        &strategy("ipv6_subnet = 129"),
        &["expected a number from 1 to 128"],
    );
}

#[test]
fn a_list_that_goes_by_hops_that_nobody_may_write_earns_a_warning() {
    let text = |trusted: &str, keys: &str| {
        format!(
            "[entry_points.w]\naddress = \":80\"\n{trusted}\n[services.s]\nservers = [{{ url = \"http://a\" }}]\n\
             [routers.r]\nrule = \"Path(`/`)\"\nservice = \"s\"\nmiddlewares = [\"m\"]\n{}",
            table("ip_allow_list", &format!("allow = [\"office\"]\n{keys}"))
        )
    };
    let by_depth = "ip_strategy = { depth = 1 }";
    let told = warned(&text("", by_depth));
    assert!(
        told.contains("`routers.r.middlewares[0]`: `m` goes by `X-Forwarded-For`, which entry point `w`"),
        "{told}"
    );
    assert!(warned(&text("middlewares = [\"m\"]", by_depth)).contains("`entry_points.w.middlewares[0]`"));
    let trusting = "forwarded_headers = { trusted_ips = [\"10.0.0.1\"] }";
    for (trusted, keys) in [
        (trusting, by_depth),
        ("", ""),
        ("", "ip_strategy = { ipv6_subnet = 64 }"),
    ] {
        let told = warned(&text(trusted, keys));
        assert!(!told.contains("X-Forwarded-For"), "{told}");
    }
}

#[test]
fn paths_are_in_the_form_that_requests_come_in() {
    let Middleware::StripPrefix(strip) = made("strip_prefix", "prefixes = [\"/a/\", \"/b%2Fc\", \"/\"]")
    else {
        panic!("another kind")
    };
    assert_eq!(strip.prefixes, ["/a/", "/b%2Fc", "/"]);
    let Middleware::AddPrefix(add) = made("add_prefix", "prefix = \"/a/\"") else {
        panic!("another kind")
    };
    assert_eq!(add.prefix, "/a");
    for (path, says) in [
        ("a", "a path that starts with `/`"),
        ("/a//b", "without `//`, `/./` and `/../`"),
        ("/a/./b", "without `//`, `/./` and `/../`"),
        ("/..", "without `//`, `/./` and `/../`"),
        ("/a?b", "without `?`, `#` and"),
        ("/a b", "printable ASCII"),
        ("/ä", "printable ASCII"),
        ("/%2f", "in upper case"),
        ("/%41", "not for letters"),
        ("/%", "before two hexadecimal digits"),
        ("/%00", "before two hexadecimal digits"),
    ] {
        wrong("replace_path", &format!("path = \"{path}\""), &[says]);
        wrong("strip_prefix", &format!("prefixes = [\"{path}\"]"), &[says]);
        wrong("add_prefix", &format!("prefix = \"{path}\""), &[says]);
    }
    wrong("strip_prefix", "", &["`prefixes` is missing"]);
    wrong("strip_prefix", "prefixes = []", &["found an empty list"]);
    wrong(
        "replace_path_regex",
        "regex = \"a\"",
        &["`replacement` is missing"],
    );
    wrong(
        "replace_path_regex",
        "regex = \"a\"\nreplacement = \"/b?c\"",
        &["a path without `?` and `#`"],
    );
}

#[test]
fn regular_expressions_are_checked() {
    wrong(
        "strip_prefix_regex",
        "regex = [\"(\"]",
        &["found no regular expression that can be used", "unclosed group"],
    );
    wrong(
        "strip_prefix_regex",
        "regex = [\"a)|(b\"]",
        &["found no regular expression"],
    );
    wrong("strip_prefix_regex", "regex = [\"\"]", &["of 1 to 4096 bytes"]);
    wrong(
        "redirect_regex",
        "regex = \"(a{1000}){1000}\"\nreplacement = \"/\"",
        &["fits in 1 MiB once compiled"],
    );
    wrong(
        "redirect_regex",
        "regex = \"a\"\nreplacement = \"a b\"",
        &["text that cannot stand in a URL"],
    );
}

#[test]
fn redirects_have_a_scheme_and_a_port_as_number_or_text() {
    for port in ["8443", "\"8443\""] {
        let Middleware::RedirectScheme(to) =
            made("redirect_scheme", &format!("scheme = \"https\"\nport = {port}"))
        else {
            panic!("another kind")
        };
        assert_eq!(
            (to.scheme, to.port.map(u16::from), to.permanent),
            (Web::Https, Some(8443), false)
        );
    }
    wrong("redirect_scheme", "", &["`scheme` is missing"]);
    wrong(
        "redirect_scheme",
        "scheme = \"ftp\"",
        &["expected `http` or `https`"],
    );
    for port in ["0", "65536", "\"+1\"", "\"0\"", "\"x\""] {
        wrong(
            "redirect_scheme",
            &format!("scheme = \"https\"\nport = {port}"),
            &["from 1 to 65535"],
        );
    }
}

#[test]
fn bodies_have_a_size() {
    assert!(matches!(
        made("limit_body", "max_request_body_bytes = \"1MiB\""),
        Middleware::LimitBody(limit) if limit.request_bytes_max == 1 << 20
    ));
    wrong("limit_body", "", &["`max_request_body_bytes` is missing"]);
    wrong(
        "limit_body",
        "max_request_body_bytes = \"1MB\"",
        &["with the unit `B`, `KiB`"],
    );
}

#[test]
fn pages_are_for_statuses_and_of_a_service() {
    let service = "[services.pages]\nservers = [{ url = \"http://a\" }]\n";
    let keys = "status = [404, \"500-599\"]\nservice = \"pages\"\nstatus_rewrites = { 502-504 = 503 }";
    let config = accepted(&format!("{}{service}", table("errors", keys)));
    let expected = Errors {
        status: vec![404..=404, 500..=599],
        service: ServiceRef::Local("pages".to_owned()),
        query: "/".to_owned(),
        rewrites: vec![(502..=504, 503)],
    };
    assert_eq!(config.middlewares["m"], Middleware::Errors(expected));
    let errors =
        |keys: &str, says: &[&str]| refused_with(&format!("{}{service}", table("errors", keys)), says);
    errors("service = \"pages\"", &["`status` is missing"]);
    errors("status = [404]", &["`service` is missing"]);
    errors(
        "status = [404]\nservice = \"page\"",
        &["found `page`, which no service has"],
    );
    for status in ["\"200\"", "\"599-500\"", "\"5xx\"", "\"+40\"", "\"500-\"", "600"] {
        errors(
            &format!("status = [{status}]\nservice = \"pages\""),
            &["from 300 to 599"],
        );
    }
    for query in ["x", "/{code}", "/ä", "/a b", "/}"] {
        errors(
            &format!("status = [404]\nservice = \"pages\"\nquery = \"{query}\""),
            &["only `{status}`"],
        );
    }
    errors(
        "status = [404]\nservice = \"pages\"\nstatus_rewrites = { 5xx = 503 }",
        &["found `5xx`"],
    );
    errors(
        "status = [404]\nservice = \"pages\"\nstatus_rewrites = { 500 = 200 }",
        &["from 300 to 599"],
    );
}

fn headers(keys: &str) -> Headers {
    match made("headers", keys) {
        Middleware::Headers(headers) => *headers,
        other => panic!("{other:?}"),
    }
}

fn set(name: &str, value: &str) -> Change {
    Change {
        name: name.to_owned(),
        value: (!value.is_empty()).then(|| value.to_owned()),
    }
}

#[test]
fn fields_are_set_by_a_value_and_taken_away_by_none() {
    let read = headers(
        "custom_request_headers = { X-A = \"1\", X-B = \"\" }\ncustom_response_headers = { Server = \"\" }",
    );
    assert_eq!(read.request, [set("x-a", "1"), set("x-b", "")]);
    assert_eq!(read.response, [set("server", "")]);
    assert!(read.security.is_empty() && read.cors.is_none() && read.strict_transport.is_none());
    let read = headers(
        "frame_deny = true\ncontent_type_nosniff = true\nbrowser_xss_filter = true\nreferrer_policy = \"origin\"",
    );
    let expected = [
        set("x-frame-options", "DENY"),
        set("x-content-type-options", "nosniff"),
        set("x-xss-protection", "1; mode=block"),
        set("referrer-policy", "origin"),
    ];
    assert_eq!(read.security, expected);
    let read = headers("frame_deny = true\ncustom_frame_options_value = \"SAMEORIGIN\"");
    assert_eq!(read.security, [set("x-frame-options", "SAMEORIGIN")]);
}

#[test]
fn fields_of_the_gateways_own_and_values_that_no_message_has_are_refused() {
    let headers = |keys: &str, says: &[&str]| wrong("headers", keys, says);
    headers("", &["found nothing that it does"]);
    for side in ["request", "response"] {
        let custom = |pair: &str| format!("custom_{side}_headers = {{ {pair} }}");
        for name in [
            "Connection",
            "Content-Length",
            "transfer_encoding",
            "Upgrade",
            "TE",
        ] {
            headers(
                &custom(&format!("{name} = \"x\"")),
                &["found `", "does not frame messages"],
            );
        }
        for name in ["Hub_Uplink", "hub-context", "\"Hub.Grant\""] {
            headers(
                &custom(&format!("{name} = \"x\"")),
                &["another field than those of uplinks"],
            );
        }
        headers(
            &custom("\"a b\" = \"x\""),
            &["found no name that a message can have"],
        );
        headers(
            &custom("A = \"x\", a = \"y\""),
            &["found the same field in another case"],
        );
        let secret = refusal(&custom("A = \"hush\\nB: c\""));
        assert!(
            secret.contains("found a value that no field can have") && !secret.contains("hush"),
            "{secret}"
        );
    }
    headers(
        "custom_request_headers = { Host = \"\" }",
        &["`Host` cannot be taken away"],
    );
    headers("custom_request_headers = { Host = \"a/b\" }", &["found no host"]);
    headers(
        "custom_response_headers = { Host = \"a\" }",
        &["answers have no `Host`"],
    );
    headers(
        "content_security_policy = \"\"",
        &["found nothing, expected the value of the field"],
    );
}

fn refusal(keys: &str) -> String {
    let source = super::source("t.toml", &table("headers", keys));
    let errors = crate::parse(&[source]).expect_err("refused");
    errors.iter().map(|error| format!("{error}\n")).collect()
}

#[test]
fn transport_security_needs_its_seconds_and_development_turns_it_off() {
    let read = headers("sts_seconds = 60\nsts_include_subdomains = true\nsts_preload = true");
    let strict = read.strict_transport.expect("on");
    assert_eq!(
        (strict.value.as_str(), strict.force),
        ("max-age=60; includeSubDomains; preload", false)
    );
    wrong(
        "headers",
        "sts_preload = true",
        &["found `sts_preload` without `sts_seconds`"],
    );
    let off = headers("sts_seconds = 60\nallowed_hosts = [\"a\"]\nis_development = true");
    assert!(off.strict_transport.is_none() && off.hosts.is_none());
}

#[test]
fn hosts_come_without_ports_and_by_the_field_that_is_known_to_be_true() {
    let read = headers("allowed_hosts = [\"A.example.\"]\nhosts_proxy_headers = [\"X-Forwarded-Host\"]");
    let expected = Hosts {
        allowed: vec!["a.example".to_owned()],
        forwarded: true,
    };
    assert_eq!(read.hosts, Some(expected));
    wrong(
        "headers",
        "allowed_hosts = [\"a:80\"]",
        &["expected a host in ASCII, without port"],
    );
    wrong(
        "headers",
        "allowed_hosts = [\"a\"]\nhosts_proxy_headers = [\"X-Original-Host\"]",
        &["any client could write another field"],
    );
    wrong(
        "headers",
        "hosts_proxy_headers = [\"X-Forwarded-Host\"]",
        &["without `allowed_hosts`"],
    );
}

#[test]
fn other_origins_are_named_before_anything_is_said_to_them() {
    let keys = "access_control_allow_origin_list = [\"https://A.example\"]\naccess_control_max_age = \"10m\"\n\
                access_control_allow_methods = [\"GET\"]\naccess_control_allow_credentials = true";
    let expected = Cors {
        origins: vec![Origin::Exact("https://a.example".to_owned())],
        credentials: true,
        headers: vec![],
        methods: vec!["GET".to_owned()],
        exposed: vec![],
        max_age: Some(600),
        vary: true,
    };
    assert_eq!(headers(keys).cors, Some(expected));
    let any = headers("access_control_allow_origin_list = [\"*\"]")
        .cors
        .expect("on");
    assert!(!any.vary && any.origins == [Origin::Any]);
    let cors = |keys: &str, says: &[&str]| wrong("headers", keys, says);
    cors(
        "access_control_allow_methods = [\"GET\"]",
        &["found `access_control_allow_methods` and no origin"],
    );
    cors(
        "access_control_allow_origin_list = [\"*\"]\naccess_control_allow_credentials = true",
        &["every page could act in its visitor's name"],
    );
    for origin in [
        "a.example",
        "https://a.example/",
        "https://",
        "https://*.example",
        "https://a b",
    ] {
        cors(
            &format!("access_control_allow_origin_list = [\"{origin}\"]"),
            &["no browser sends it"],
        );
    }
    cors(
        "access_control_allow_origin_list_regex = [\"(\"]",
        &["found no regular expression"],
    );
    cors(
        "access_control_allow_origin_list = [\"*\"]\naccess_control_allow_headers = [\"a b\"]",
        &["found no name that a message can have"],
    );
}
