use super::{accepted, lines};
use crate::model::{Alpn, ClientAuth, Reach, ServiceRef};

const MINIMAL: &str = include_str!("../../examples/minimal.toml");
const GATEWAY: &str = include_str!("../../examples/gateway.toml");
const CHILD: &str = include_str!("../../examples/child.toml");
const PARENT: &str = include_str!("../../examples/parent.toml");
const MUTUAL_TLS: &str = include_str!("../../examples/mutual_tls.toml");
const END_TO_END_TLS: &str = include_str!("../../examples/end_to_end_tls.toml");
const UPSTREAM_VALIDATION: &str = include_str!("../../examples/upstream_validation.toml");
const PROXY_PROTOCOL: &str = include_str!("../../examples/proxy_protocol.toml");
const TCP: &str = include_str!("../../examples/tcp.toml");

#[test]
fn every_example_is_valid_without_a_warning() {
    for text in [
        MINIMAL,
        GATEWAY,
        CHILD,
        PARENT,
        MUTUAL_TLS,
        END_TO_END_TLS,
        UPSTREAM_VALIDATION,
        PROXY_PROTOCOL,
        TCP,
    ] {
        let config = accepted(text);
        assert!(config.warnings.is_empty(), "{}\n{text}", lines(&config.warnings));
    }
}

#[test]
fn the_tcp_example_says_what_it_shows() {
    let config = accepted(TCP);
    let point = &config.entry_points["websecure"];
    let options = |name: &str| config.tcp_tls_options(&config.tcp.routers[name], point);
    assert_eq!((options("db"), options("queue")), (None, Some("partners")));
    assert_eq!(config.tcp.routers["mail"].entry_points, ["mail"]);
    assert_eq!(config.tcp.routers["db"].entry_points, ["websecure"]);
}

#[test]
fn the_gateway_example_says_what_it_shows() {
    let config = accepted(GATEWAY);
    let point = &config.entry_points["websecure"];
    let staff = &config.routers["staff-api"];
    assert_eq!(config.effective_tls_options(staff, point), "staff");
    assert_eq!(
        config.effective_tls_options(&config.routers["site"], point),
        "modern"
    );
    assert!(point.gate.as_ref().is_some_and(|gate| gate.required));
    assert_eq!(
        config.tls.options["modern"].alpn_protocols,
        [Alpn::H2, Alpn::Http11]
    );
    assert!(
        matches!(&config.tls.options["staff"].client_auth, ClientAuth::RequireAndVerify(v) if v.ca_files.len() == 1)
    );
}

#[test]
fn the_child_and_parent_examples_speak_of_one_uplink() {
    let child = accepted(CHILD);
    assert_eq!(
        child.routers["orders"].reach,
        Reach::Uplinks(vec!["orders".to_owned()])
    );
    assert_eq!(child.uplinks["orders"].entry_points, ["multicluster"]);
    assert!(
        child.entry_points["multicluster"]
            .gate
            .as_ref()
            .is_some_and(|gate| gate.required)
    );
    let parent = accepted(PARENT);
    assert_eq!(
        parent.routers["orders"].service,
        ServiceRef::Multicluster("orders".to_owned())
    );
    assert_eq!(
        parent.multicluster.children["east"].uplinks.as_deref(),
        Some(&["orders".to_owned()][..])
    );
}

#[test]
fn the_mutual_tls_example_leaves_one_site_open() {
    let config = accepted(MUTUAL_TLS);
    let point = &config.entry_points["websecure"];
    assert_eq!(
        config.effective_tls_options(&config.routers["code"], point),
        "default"
    );
    assert_eq!(
        config.effective_tls_options(&config.routers["public"], point),
        "withoutcerts"
    );
    assert!(matches!(
        &config.tls.options["default"].client_auth,
        ClientAuth::RequireAndVerify(_)
    ));
    assert!(config.tls.options["withoutcerts"].sni_strict);
}
