//! `[middlewares]`, the lists that name them, and `[access_log]`.

use super::{accepted, refused, refused_with, warned};
use crate::model::{
    access_log::{Destination, FieldRule, LineFormat},
    middleware::{MIDDLEWARES_MAX, Middleware},
};
use std::fmt::Write;

const BASE: &str = "[entry_points.w]\naddress = \":80\"\n[services.s]\nservers = [{ url = \"http://a\" }]\n";

fn router(keys: &str) -> String {
    format!("[routers.r]\nrule = \"Path(`/`)\"\nservice = \"s\"\n{keys}\n")
}

fn pass(name: &str) -> String {
    format!("[middlewares.{name}.pass_tls_client_cert]\npem = true\n")
}

fn chain(name: &str, members: &[&str]) -> String {
    format!("[middlewares.{name}.chain]\nmiddlewares = {members:?}\n")
}

#[test]
fn a_client_certificate_is_told_of_as_chosen() {
    let text = format!(
        "{BASE}{}[middlewares.m.pass_tls_client_cert]\npem = true\nrfc9440 = true\nchain = true\n\
         info = {{ sans = true, subject = {{ organizational_unit = true }}, issuer = {{ common_name = true }} }}\n",
        router("middlewares = [\"m\"]")
    );
    let config = accepted(&text);
    assert_eq!(config.routers["r"].middlewares, ["m"]);
    let Middleware::PassTlsClientCert(settings) = &config.middlewares["m"] else {
        panic!("another kind")
    };
    let info = settings.info.as_ref().expect("info is written");
    assert!(settings.pem && settings.rfc9440 && settings.chain && !settings.allow_unverified);
    assert!(info.sans && !info.serial_number && info.subject.organizational_unit && info.issuer.common_name);
    assert!(!info.issuer.organizational_unit && !info.subject.common_name);
}

#[test]
fn a_middleware_is_one_known_kind_that_does_something() {
    refused(
        "[middlewares.m]\n",
        &[("1:14", &["`middlewares.m`: found no kind", "expected `chain`"])],
    );
    refused_with(
        "[middlewares.m.pass_tls_client_certs]\npem = true\n",
        &[
            "found an unknown key",
            "write `pass_tls_client_cert` if that was meant",
        ],
    );
    refused_with(
        "[middlewares.m.gzip]\n",
        &["`middlewares.m.gzip`: found an unknown key, expected `chain`"],
    );
    refused_with(
        &format!(
            "{}{}",
            pass("m"),
            "[middlewares.m.chain]\nmiddlewares = [\"m\"]\n"
        ),
        &["found `chain` or `pass_tls_client_cert` at once"],
    );
    let settings = |keys: &str| format!("[middlewares.m.pass_tls_client_cert]\n{keys}\n");
    refused_with(&settings(""), &["found nothing that it shall tell"]);
    refused_with(
        &settings("allow_unverified = true"),
        &["found nothing that it shall tell"],
    );
    refused_with(
        &settings("info = {}"),
        &["`middlewares.m.pass_tls_client_cert.info`: found nothing chosen"],
    );
    refused_with(&settings("info = { subject = {} }"), &["found nothing chosen"]);
    refused_with(
        &settings("info = { issuer = { organizational_unit = true } }"),
        &["found an unknown key"],
    );
    refused_with(&settings("pem = \"yes\""), &["expected `true` or `false`"]);
}

#[test]
fn a_name_that_no_middleware_has_refuses_the_configuration() {
    let text = format!("{BASE}{}{}", router("middlewares = [\"n\"]"), pass("m"));
    refused_with(
        &text,
        &[
            "`routers.r.middlewares[0]`: found `n`, which no middleware has as its name",
            "expected `m`",
        ],
    );
    refused_with(
        "[entry_points.w]\naddress = \":80\"\nmiddlewares = [\"n\"]\n",
        &[
            "`entry_points.w.middlewares[0]`: found `n`",
            "of which there is none",
        ],
    );
    refused_with(
        &chain("c", &["n"]),
        &["found `n`, which no middleware has as its name"],
    );
}

#[test]
fn a_broken_middleware_refuses_the_configuration_of_its_router() {
    let text = format!(
        "{BASE}{}[middlewares.m.pass_tls_client_cert]\npem = 1\n",
        router("middlewares = [\"m\"]")
    );
    refused_with(
        &text,
        &["`middlewares.m.pass_tls_client_cert.pem`: found an integer"],
    );
}

#[test]
fn chains_become_their_members_in_order() {
    let text = format!(
        "{BASE}{}{}{}{}{}",
        router("middlewares = [\"c\", \"a\"]"),
        pass("a"),
        pass("b"),
        chain("c", &["d", "a"]),
        chain("d", &["b", "a"]),
    );
    let config = accepted(&text);
    assert_eq!(config.routers["r"].middlewares, ["b", "a", "a", "a"]);
    assert_eq!(
        config.middlewares["c"],
        Middleware::Chain(vec!["b".into(), "a".into(), "a".into()])
    );
}

#[test]
fn a_chain_that_leads_back_is_refused_wherever_it_begins() {
    refused_with(&chain("c", &["c"]), &["the chain `c` leads back to itself"]);
    let circle = format!(
        "{}{}{}",
        chain("a", &["b"]),
        chain("b", &["a"]),
        chain("into", &["a"])
    );
    refused_with(
        &circle,
        &["`middlewares.a.chain.middlewares[0]`: the chain `a` leads back"],
    );
    refused_with(
        &circle,
        &["`middlewares.b.chain.middlewares[0]`: the chain `b` leads back"],
    );
}

/// Each chain names the one before twice, by two names.
fn doubling(levels: usize, leaf: &str) -> String {
    let mut text = chain("a0", &[leaf]) + &chain("b0", &[leaf]);
    for level in 1..=levels {
        let (a, b) = (format!("a{}", level - 1), format!("b{}", level - 1));
        for side in ["a", "b"] {
            let _ = write!(text, "{}", chain(&format!("{side}{level}"), &[&a, &b]));
        }
    }
    text
}

#[test]
fn a_list_of_middlewares_ends_at_its_limit() {
    let levels = MIDDLEWARES_MAX.ilog2() as usize;
    let full = format!(
        "{BASE}{}{}{}",
        pass("m"),
        doubling(levels, "m"),
        router(&format!("middlewares = [\"a{levels}\"]"))
    );
    assert_eq!(accepted(&full).routers["r"].middlewares.len(), MIDDLEWARES_MAX);
    let over = full.replace(&format!("[\"a{levels}\"]"), &format!("[\"a{levels}\", \"m\"]"));
    refused_with(
        &over,
        &["`routers.r.middlewares[1]`: this name makes it more than 64 middlewares"],
    );
    let deep = format!("{}{}", pass("m"), doubling(40, "m"));
    refused_with(
        &deep,
        &["`middlewares.a40.chain.middlewares[0]`: this name makes it more than 64"],
    );
    // Chains that lead to nothing end as soon.
    let nowhere = doubling(40, "nobody");
    refused_with(
        &nowhere,
        &["`middlewares.a40.chain.middlewares[0]`: this name makes it more than 64"],
    );
}

#[test]
fn the_way_of_parents_tells_nothing_of_their_certificates() {
    let text = format!(
        "{}[uplink_entry_points.u]\naddress = \":81\"\nallow_unauthenticated = true\n[uplinks.x]\n[services.s]\nservers = [{{ url = \"http://a\" }}]\n{}",
        pass("m"),
        router("uplinks = [\"x\"]\nmiddlewares = [\"m\"]")
    );
    let warnings = warned(&text);
    assert!(
        warnings.contains("`routers.r.middlewares[0]`: `m` tells of certificates on the way of parents"),
        "{warnings}"
    );
}

#[test]
fn the_access_log_is_off_unless_its_table_is_there() {
    assert!(accepted("").access_log.is_none());
    let log = accepted("[access_log]\n").access_log.expect("on");
    assert_eq!(log.path.value, Destination::StandardOutput);
    assert_eq!((log.format, log.query), (LineFormat::Json, FieldRule::Drop));
    assert_eq!(log.headers.default, FieldRule::Drop);
    let text = "[access_log]\npath = \"/var/log/a\"\nformat = \"common\"\nquery = \"keep\"\n[access_log.headers]\n\
                default = \"keep\"\nnames = { User-Agent = \"redact\", x_y = \"drop\" }\n";
    let log = accepted(text).access_log.expect("on");
    assert_eq!(log.path.value, Destination::File("/var/log/a".into()));
    assert_eq!(
        (log.format, log.headers.default),
        (LineFormat::Common, FieldRule::Keep)
    );
    assert_eq!(log.headers.names["user-agent"], FieldRule::Redact);
    assert_eq!(log.headers.names["x_y"], FieldRule::Drop);
}

#[test]
fn the_access_logs_words_are_checked() {
    let log = |keys: &str| format!("[access_log]\n{keys}\n");
    refused_with(&log("format = \"xml\""), &["`json` or `common`"]);
    refused_with(&log("path = \"\""), &["found no path"]);
    refused_with(&log("query = \"maybe\""), &["`keep`, `drop` or `redact`"]);
    let headers = |keys: &str| format!("[access_log.headers]\n{keys}\n");
    refused_with(&headers("default = \"hide\""), &["`keep`, `drop` or `redact`"]);
    refused_with(
        &headers("names = { A = \"hide\" }"),
        &["`access_log.headers.names.A`: found `hide`"],
    );
    refused_with(
        &headers("names = { A = \"keep\", a = \"drop\" }"),
        &["the same field in another case"],
    );
    refused_with(
        &headers("names = { \"a b\" = \"keep\" }"),
        &["found no name of a header field"],
    );
    refused_with(&headers("names = [\"A\"]"), &["expected a table"]);
}
