//! Uplink entry points and uplinks: what a child may say, and what it is told when it says something else.

use super::{accepted, refused, refused_with, warned};
use crate::{
    effective::EntryPointSet,
    model::service::{InitialState, Probe},
    reference::reference,
};
use std::{collections::BTreeSet, time::Duration};

const MUTUAL: &str = "[tls.options.mtls]\nclient_auth = { ca_files = [\"ca.pem\"] }\n";

/// An uplink entry point `up` with mutual TLS, and an uplink with these keys on the sixth line.
fn uplink(keys: &str) -> String {
    format!(
        "[uplink_entry_points.up]\naddress = \":9443\"\ntls = {{ options = \"mtls\" }}\n\n\
         [uplinks.orders]\n{keys}\n{MUTUAL}"
    )
}

/// A key of an uplink: refused at the value with these words, and at no other place.
fn check(key: &str, value: &str, column: usize, fragments: &[&str]) {
    let place = format!("6:{column}");
    refused(&uplink(&format!("{key} = {value}")), &[(&place, fragments)]);
}

#[test]
fn an_uplink_entry_point_has_every_key_of_an_entry_point_but_a_redirect() {
    let keys = |table: &str| -> BTreeSet<&str> {
        let all = reference()
            .iter()
            .filter_map(|option| option.key.strip_prefix(table));
        all.collect()
    };
    let (ordinary, uplink) = (keys("entry_points.NAME."), keys("uplink_entry_points.NAME."));
    let missing: Vec<_> = ordinary.difference(&uplink).collect();
    let redirects = |key: &&&str| **key == "redirect" || key.starts_with("redirect.");
    assert!(
        !missing.is_empty() && missing.iter().all(redirects),
        "{missing:?}"
    );
    let more: Vec<_> = uplink.difference(&ordinary).collect();
    assert_eq!(more, [&"allow_unauthenticated"]);
}

#[test]
fn names_and_addresses_that_clash_are_told_with_both_places() {
    let ordinary = "[entry_points.web]\naddress = \"127.0.0.1:9443\"\n";
    let up = |name: &str, address: &str| {
        format!("[uplink_entry_points.{name}]\naddress = \"{address}\"\ntls = {{ options = \"mtls\" }}\n")
    };
    let clash = format!("{ordinary}{}{MUTUAL}", up("web", ":9444"));
    refused(
        &clash,
        &[(
            "3:22",
            &["`uplink_entry_points.web`", "same name is at s.toml:1:15"],
        )],
    );
    let overlap = format!("{ordinary}{}{MUTUAL}", up("up", ":9443"));
    refused(
        &overlap,
        &[(
            "4:11",
            &[
                "`uplink_entry_points.up.address`",
                "`127.0.0.1:9443` of `entry_points.web` at s.toml:2:11",
            ],
        )],
    );
    // The two entry points of the story that this was made after.
    let one_port = format!("{}{}{MUTUAL}", up("public", ":9443"), up("internal", ":9443"));
    refused(
        &one_port,
        &[(
            "5:11",
            &[
                "`uplink_entry_points.internal.address`",
                "of `uplink_entry_points.public` at s.toml:2:11",
            ],
        )],
    );
    let apart = format!("{ordinary}{}{MUTUAL}", up("up", "127.0.0.2:9443"));
    accepted(&apart);
}

#[test]
fn uplink_entry_points_serve_http_over_tcp_alone() {
    let with = |address: &str| {
        format!("[uplink_entry_points.up]\naddress = \"{address}\"\nallow_unauthenticated = true\n")
    };
    refused_with(&with(":9443/udp"), &["`uplink_entry_points.up.address`", "UDP"]);
    accepted(&with(":9443/tcp"));
}

#[test]
fn a_connection_of_a_parent_has_the_budgets_of_many_clients_unless_written() {
    let budgets = |keys: &str| {
        let config = accepted(&format!(
            "[entry_points.web]\naddress = \":1\"\n{keys}\n[uplink_entry_points.up]\naddress = \":2\"\n\
             tls = {{ options = \"mtls\" }}\n{keys}\n{MUTUAL}"
        ));
        ["web", "up"].map(|name| {
            let limits = config.entry_points[name].limits;
            (limits.h2_resets_max, limits.h2_control_frames_max)
        })
    };
    assert_eq!(budgets(""), [(200, 1000), (4000, 20_000)]);
    let written = "limits = { h2_resets = 7, h2_control_frames = 100 }";
    assert_eq!(budgets(written), [(7, 100); 2]);
}

#[test]
fn an_uplink_is_published_by_those_that_are_marked_or_by_all() {
    let published = |marks: [bool; 2], keys: &str| {
        let [a, b] = marks;
        let text = format!(
            "[uplink_entry_points.a]\naddress = \":1\"\nas_default = {a}\ntls = {{ options = \"mtls\" }}\n\
             [uplink_entry_points.b]\naddress = \":2\"\nas_default = {b}\ntls = {{ options = \"mtls\" }}\n\
             [entry_points.web]\naddress = \":3\"\nas_default = true\n[uplinks.x]\n{keys}\n{MUTUAL}"
        );
        let config = accepted(&text);
        assert_eq!(config.default_entry_points(EntryPointSet::Ordinary), ["web"]);
        config.uplinks["x"].entry_points.clone()
    };
    assert_eq!(published([false, false], ""), ["a", "b"]);
    assert_eq!(published([true, false], ""), ["a"]);
    assert_eq!(published([true, true], ""), ["a", "b"]);
    assert_eq!(published([true, false], "entry_points = [\"b\"]"), ["b"]);
    refused_with(
        &uplink("entry_points = [\"web\"]\n[entry_points.web]\naddress = \":1\""),
        &[
            "`uplinks.orders.entry_points[0]`",
            "found `web`, which no uplink entry point has",
        ],
    );
    refused_with(&uplink("entry_points = [\"up\", \"up\"]"), &["found `up` twice"]);
}

#[test]
fn probes_of_an_uplink_are_read_whole_and_have_no_place_of_their_own() {
    let check_of = |keys: &str| {
        let config = accepted(&uplink(&format!("health_check = {{ {keys} }}")));
        config.uplinks["orders"].health_check.clone().expect("there")
    };
    let plain = check_of("path = \"/healthz\"");
    let asked = Probe::Http {
        path: "/healthz".to_owned(),
        method: "GET".to_owned(),
        status: None,
    };
    assert_eq!(plain.probe, asked);
    assert_eq!(
        (plain.interval, plain.timeout),
        (Duration::from_secs(30), Duration::from_secs(5))
    );
    assert_eq!(
        (plain.scheme, plain.port, plain.initial),
        (None, None, InitialState::Up)
    );
    let grpc = check_of("mode = \"grpc\", grpc_service = \"a.B\", interval = \"1s\"");
    assert_eq!(
        grpc.probe,
        Probe::Grpc {
            service: "a.B".to_owned()
        }
    );
    assert_eq!(grpc.unhealthy_interval, Duration::from_secs(1));
    for elsewhere in ["scheme = \"http\"", "port = 80"] {
        let keys = format!("health_check = {{ path = \"/\", {elsewhere} }}");
        refused_with(
            &uplink(&keys),
            &["`uplinks.orders.health_check", "found an unknown key"],
        );
    }
}

#[test]
fn wrong_values_of_probes_and_of_ejection_are_refused_at_their_place() {
    let probe = |keys: &str, fragments: &[&str]| {
        refused_with(&uplink(&format!("health_check = {{ {keys} }}")), fragments);
    };
    probe("", &["`uplinks.orders.health_check`", "`path` is missing"]);
    probe(
        "path = \"healthz\"",
        &["`uplinks.orders.health_check.path`", "starts with `/`"],
    );
    probe(
        "path = \"/\", interval = \"99ms\"",
        &["`uplinks.orders.health_check.interval`", "at least 100ms"],
    );
    probe(
        "path = \"/\", unhealthy_interval = \"10ms\"",
        &["unhealthy_interval`", "at least 100ms"],
    );
    probe(
        "path = \"/\", status = 99",
        &["`uplinks.orders.health_check.status`", "from 200 to 599"],
    );
    probe("path = \"/\", method = \"get\"", &["capital letters"]);
    for own in ["Hub-Uplink", "hub_uplink", "Content.Length"] {
        probe(
            &format!("path = \"/\", headers = {{ \"{own}\" = \"x\" }}"),
            &["a name that a probe cannot have"],
        );
    }
    probe(
        "mode = \"grpc\", path = \"/\"",
        &["found `path` beside `mode = \"grpc\"`"],
    );
    check(
        "passive_health_check",
        "{ max_failed_attempts = 0 }",
        48,
        &["from 1 to 1000000"],
    );
    check(
        "passive_health_check",
        "{ failure_window = \"1ms\" }",
        43,
        &["at least 10ms"],
    );
    check("weight", "65536", 10, &["from 0 to 65535"]);
    let drained = accepted(&uplink("weight = 0"));
    assert_eq!(drained.uplinks["orders"].weight, 0);
    assert_eq!(accepted(&uplink("")).uplinks["orders"].weight, 1);
}

#[test]
fn a_permission_that_is_not_needed_and_a_proof_by_the_sender_earn_warnings() {
    let with = |keys: &str| {
        let text = format!("[uplink_entry_points.up]\naddress = \":9443\"\n{keys}\n{MUTUAL}");
        warned(&text)
    };
    let needless = "beside a proof of a parent";
    let (proof, permission) = ("tls = { options = \"mtls\" }\n", "allow_unauthenticated = true\n");
    assert!(with(&format!("{proof}{permission}")).contains(needless));
    assert!(!with(proof).contains(needless) && !with(permission).contains(needless));
    assert!(with(permission).contains("anyone who can connect use every uplink"));
    let (gate, sender) = (
        "gate = { allow = [\"10.0.0.0/8\"] }\n",
        "proxy_protocol = { trusted_ips = [\"10.0.0.1\"] }\n",
    );
    let passed_on = "whoever they pass on is taken for a parent";
    assert!(with(&format!("{gate}{sender}")).contains(passed_on));
    assert!(!with(&format!("{proof}{gate}{sender}")).contains(passed_on));
    assert!(!with(gate).contains(passed_on));
}
