//! One wrong value each: where it is and what the message names.

use super::{accepted, one, refused, refused_with, warned};

/// `key = value` in `[table]`: refused at the value with these words, and at no other place.
fn check(table: &str, key: &str, value: &str, fragments: &[&str]) {
    let text = format!("[{table}]\n{key} = {value}\n");
    let column = key.chars().count() + 4;
    refused(&text, &[(&format!("2:{column}"), fragments)]);
}

#[test]
fn values_of_the_process_sections() {
    let check = |key: &str, value: &str, fragments: &[&str]| {
        let (table, key) = key.rsplit_once('.').expect("a table and a key");
        check(table, key, value, fragments);
    };
    for workers in ["0", "-1", "1025", "\"many\"", "true"] {
        check("proxy.workers", workers, &["`proxy.workers`"]);
    }
    check(
        "proxy.io",
        "\"urin\"",
        &["found `urin`", "write `uring` if that was meant"],
    );
    check("proxy.max_connections", "0", &["from 1 to"]);
    check("proxy.max_connections", "4294967296", &["from 1 to"]);
    check("proxy.max_connections", "99999999999999999999", &["from 1 to"]);
    check("proxy.max_in_flight_bytes", "1048576", &["found an integer"]);
    check(
        "proxy.max_in_flight_bytes",
        "\"64MB\"",
        &["found `64MB`", "`MiB`"],
    );
    for size in ["1023KiB", "0B", "1048577GiB"] {
        let found = format!("found `{size}`");
        let fragments = [found.as_str(), "from `1MiB` to", "or `0` for no limit"];
        check("proxy.max_in_flight_bytes", &format!("\"{size}\""), &fragments);
    }
    check("proxy.drain", "10", &["found an integer"]);
    check("proxy.drain", "\"10\"", &["unit"]);
    check("proxy.state_dir", "\"\"", &["found no path"]);
    check("log.format", "\"xml\"", &["`text` or `json`"]);
    check("log.level", "\" \"", &["filter directives"]);
    check(
        "admin.socket",
        &format!("\"/{}\"", "a".repeat(107)),
        &["108 bytes", "at most 107"],
    );
    check("gate.mode", "\"on\"", &["`enforce`, `observe` or `off`"]);
    check("gate.attach", "\"generic\"", &["`xdp-generic`"]);
    check("gate.failsafe", "\"10.0.0.1\"", &["found a string", "a list"]);
    check("gate.later_fragments", "\"drop\"", &["`pass` or `strict`"]);
    check("gate.destinations", "\"all\"", &["`auto`, `local` or `any`"]);
    check("multicluster.poll_interval", "\"0s\"", &["at least 10ms"]);
    check("multicluster.poll_timeout", "\"9ms\"", &["at least 10ms"]);
    refused(
        "[gate]\nfailsafe = [\"10.0.0.1/8\"]\n",
        &[(
            "2:13",
            &["`gate.failsafe[0]`", "`10.0.0.0/8` or the address `10.0.0.1`"],
        )],
    );
}

#[test]
fn limits_of_the_process_sections_are_accepted() {
    let text = format!(
        "[proxy]\nworkers = 1024\nmax_connections = 4294967295\n[admin]\nsocket = \"/{}\"\n",
        "a".repeat(106)
    );
    accepted(&text);
}

#[test]
fn allowlists() {
    refused(
        "[allowlists.everyone]\nsources = [\"10.0.0.0/8\"]\n",
        &[("1:13", &["`allowlists.everyone`", "built-in"])],
    );
    refused("[allowlists.a]\n", &[("1:13", &["neither `sources` nor `file`"])]);
    refused(
        "[allowlists.a]\nsources = []\n",
        &[("1:13", &["neither `sources` nor `file`"])],
    );
    refused(
        "[allowlists.a]\nsources = [\"b\"]\n",
        &[("2:12", &["address or prefix"])],
    );
    refused(
        "[allowlists.\"10.0.0.1\"]\nsources = [\"10.0.0.1\"]\n",
        &[("1:13", &["read as an address"])],
    );
    refused(
        "[allowlists.\"a b\"]\nsources = [\"10.0.0.1\"]\n",
        &[("1:13", &["found the name `a b`"])],
    );
    refused(
        "[allowlists.\"\"]\nsources = [\"10.0.0.1\"]\n",
        &[("1:13", &["at least one"])],
    );
    let config =
        accepted("[allowlists.a]\nsources = [\"10.0.0.0/8\", \"::1\"]\n[allowlists.b]\nfile = \"b.list\"\n");
    assert_eq!(config.allowlists["a"].sources.len(), 2);
    assert_eq!(
        config.allowlists["b"]
            .file
            .as_ref()
            .map(|file| file.at.to_string())
            .as_deref(),
        Some("s.toml:4:8")
    );
}

/// A key of an entry point: refused on its line alone.
fn check_point(key: &str, value: &str, fragments: &[&str]) {
    let text = format!("[entry_points.a]\naddress = \":80\"\n{key} = {value}\n");
    let Err(errors) = one(&text) else {
        panic!("accepted: {text}")
    };
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].at.line, 3, "{}", errors[0]);
    for fragment in fragments {
        assert!(errors[0].message.contains(fragment), "{fragment}: {}", errors[0]);
    }
}

#[test]
fn entry_points() {
    check_point("as_default", "\"yes\"", &["`true` or `false`"]);
    check_point("tls", "true", &["a table"]);
    check_point(
        "tls",
        "{ cert_resolver = \"le\" }",
        &["`entry_points.a.tls.cert_resolver`: not supported yet"],
    );
    check_point("tls", "{ options = \"x\" }", &["found `x`", "expected `default`"]);
    check_point("proxy_protocol", "{}", &["`trusted_ips` is missing"]);
    check_point("proxy_protocol", "{ trusted_ips = [] }", &["empty list"]);
    check_point(
        "proxy_protocol",
        "{ trusted_ips = [\"nobody\"] }",
        &["no allowlist has", "`everyone`"],
    );
    check_point(
        "proxy_protocol",
        "{ trusted_ips = [\"10.0.0\"] }",
        &["address or prefix"],
    );
    check_point(
        "proxy_protocol",
        "{ trusted_ips = [\"10.0.0.1/8\"] }",
        &["bits past /8"],
    );
    check_point(
        "proxy_protocol",
        "{ trusted_ips = [\"10.0.0.0/8\"], mode = \"maybe\" }",
        &["`required` or `optional`"],
    );
    check_point(
        "underscore_headers_strategy",
        "\"drop\"",
        &["`keep`, `delete` or `reject`"],
    );
}

#[test]
fn limits_of_entry_points() {
    check_point("timeouts", "{ reed = \"1s\" }", &["unknown key", "write `read`"]);
    check_point(
        "limits",
        "{ header_bytes = \"255B\" }",
        &["from `256B` to `16MiB`"],
    );
    check_point(
        "limits",
        "{ header_bytes = \"17MiB\" }",
        &["from `256B` to `16MiB`"],
    );
    check_point("limits", "{ headers = 0 }", &["from 1 to 10000"]);
    check_point("limits", "{ h2_streams = 0 }", &["from 1 to 10000"]);
    check_point("limits", "{ h2_streams = 10001 }", &["from 1 to 10000"]);
    check_point("limits", "{ h2_resets = 0 }", &["from 1 to 1000000"]);
    check_point("limits", "{ h2_control_frames = 99 }", &["from 100 to 1000000"]);
    check_point("limits", "{ connections_per_ip = -1 }", &["from 0 to 1000000"]);
    check_point(
        "limits",
        "{ connections_per_ip = 1000001 }",
        &["from 0 to 1000000"],
    );
    check_point("limits", "{ body_rate_min = \"1\" }", &["`KiB`"]);
    check_point(
        "limits",
        "{ body_rate_min = \"2GiB\" }",
        &["at most `1GiB` a second", "no client"],
    );
    check_point(
        "limits",
        "{ keep_alive_max_requests = 4294967296 }",
        &["from 0 to"],
    );
    check_point("timeouts", "{ body_idle = 5 }", &["found an integer"]);
}

#[test]
fn redirects_of_entry_points() {
    check_point("redirect", "{}", &["`to` is missing"]);
    check_point("redirect", "{ to = \"nowhere\" }", &["no entry point has"]);
    check_point("redirect", "{ to = \":0\" }", &["from `:1` to `:65535`"]);
    check_point("redirect", "{ to = \":65536\" }", &["from `:1` to `:65535`"]);
    check_point("redirect", "{ to = \":+1\" }", &["from `:1` to `:65535`"]);
    check_point(
        "redirect",
        "{ to = \":443\", scheme = \"ftp\" }",
        &["`http` or `https`"],
    );
    check_point(
        "redirect",
        "{ to = \":443\", permanent = 1 }",
        &["`true` or `false`"],
    );
    check_point("redirect", "{ to = \"a\" }", &["itself", "circle"]);
    let of = |a: &str, b: &str| {
        format!("[entry_points.a]\naddress = \":80\"\n{a}\n[entry_points.b]\naddress = \":81\"\n{b}\n")
    };
    let circle = of("redirect.to = \"b\"", "redirect.to = \"a\"");
    refused_with(
        &circle,
        &["`entry_points.a.redirect.to`", "circle", "leads back to `a`"],
    );
    refused_with(
        &of("redirect.to = \":80\"\nredirect.scheme = \"http\"", ""),
        &["itself"],
    );
    let uplink = "[entry_points.a]\naddress = \":80\"\nredirect.to = \"u\"\n\
                  [uplink_entry_points.u]\naddress = \":81\"\nallow_unauthenticated = true\n";
    refused_with(uplink, &["`entry_points.a.redirect.to`", "`u`"]);
    let own =
        "[uplink_entry_points.u]\naddress = \":81\"\nallow_unauthenticated = true\nredirect.to = \":1\"\n";
    refused_with(own, &["`uplink_entry_points.u.redirect`", "unknown key"]);
}

#[test]
fn gates_of_entry_points() {
    check_point("allow_unauthenticated", "true", &["unknown key"]);
    check_point("gate", "{}", &["`allow` is missing"]);
    check_point("gate", "{ allow = [] }", &["empty list"]);
    check_point(
        "gate",
        "{ allow = [\"10.0.0.0/8\"], interfaces = [] }",
        &["empty list"],
    );
    check_point(
        "gate",
        "{ allow = [\"10.0.0.0/8\"], interfaces = [\"a/b\"] }",
        &["name of an interface"],
    );
    check_point(
        "gate",
        "{ allow = [\"10.0.0.0/8\"], interfaces = [\"sixteen-letters-\"] }",
        &["at most 15"],
    );
    check_point(
        "gate",
        "{ allow = [\"10.0.0.0/8\"], interfaces = [\"e\", \"e\"] }",
        &["`e` twice"],
    );
    check_point(
        "gate",
        "{ allow = [\"10.0.0.0/8\"], interfaces = [\"e\"], ports = [0] }",
        &["from 1 to 65535"],
    );
    check_point(
        "gate",
        "{ allow = [\"10.0.0.0/8\"], interfaces = [\"e\"], ports = [65536] }",
        &["from 1 to 65535"],
    );
    check_point(
        "gate",
        "{ allow = [\"10.0.0.0/8\"], required = true }",
        &["no `interfaces`"],
    );
    refused("[entry_points.a]\n", &[("1:15", &["`address` is missing"])]);
    refused(
        "[entry_points.a]\nadress = \":80\"\n",
        &[("2:1", &["unknown key", "write `address`"])],
    );
    refused(
        "[uplink_entry_points.a]\naddress = \":80/udp\"\nallow_unauthenticated = true\n",
        &[("2:11", &["UDP"])],
    );
}

#[test]
fn services() {
    let service = |value: &str, place: &str, fragments: &[&str]| {
        refused(&format!("[services.s]\n{value}\n"), &[(place, fragments)]);
    };
    service("", "1:11", &["`servers` is missing"]);
    service("servers = []", "2:11", &["empty list"]);
    service(
        "servers = [{ url = \"http://a\", weight = 0 }]",
        "2:11",
        &["weight over 0"],
    );
    service(
        "servers = [{ url = \"http://a\", weight = -1 }]",
        "2:41",
        &["from 0 to 65535"],
    );
    service(
        "servers = [{ url = \"http://a/v1\" }]",
        "2:20",
        &["path of a server url is not supported yet"],
    );
    service(
        "servers = [{ url = \"http://u:p@a\" }]",
        "2:20",
        &["user information"],
    );
    service(
        "servers = [\"http://a\"]",
        "2:12",
        &["found a string, expected a table"],
    );
    service(
        "servers = [{ url = \"http://a\" }]\nstrategy = \"rr\"",
        "3:12",
        &["found `rr`", "`wrr`"],
    );
    service(
        "servers = [{ url = \"http://a\" }]\nservers_transport = \"x\"",
        "3:21",
        &["no servers transport", "`default`"],
    );
}

#[test]
fn servers_transports() {
    let transport = |value: &str, place: &str, fragments: &[&str]| {
        refused(
            &format!("[servers_transports.t]\n{value}\n"),
            &[(place, fragments)],
        );
    };
    let pin = "pinned_spki = [\"sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\"]";
    transport(
        "pinned_spki = [\"sha256/abc\"]",
        "2:16",
        &["44 base64 characters"],
    );
    transport(
        &format!("{pin}\ninsecure_skip_verify = true"),
        "3:24",
        &["beside `pinned_spki`"],
    );
    transport(
        "subject_names = [\"a\"]\ninsecure_skip_verify = true",
        "3:24",
        &["beside `subject_names`"],
    );
    transport("subject_names = [\"*.a\"]", "2:18", &["wildcards"]);
    transport("server_name = \"a b\"", "2:15", &["host name"]);
    transport(
        "certificates = [{ cert_file = \"a\" }]",
        "2:17",
        &["`key_file` is missing"],
    );
    transport("root_cas = [\"\"]", "2:13", &["found no path"]);
    transport("max_idle_per_server = -1", "2:23", &["from 0 to 65535"]);
    transport(
        "root_cas = [\"a\"]\ninsecure_skip_verify = true",
        "3:24",
        &["beside `root_cas`", "would check nothing"],
    );
    transport(
        "min_version = \"TLS1.3\"",
        "2:15",
        &["`VersionTLS12` or `VersionTLS13`"],
    );
    transport(
        "cipher_suites = [\"TLS_RSA_WITH_RC4_128_SHA\"]",
        "2:18",
        &["`TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256`"],
    );
    transport("curve_preferences = [\"P-256\"]", "2:22", &["`CurveP256`"]);
}

#[test]
fn tls_options_and_servers_transports_are_told_apart() {
    let service = "[services.s]\nservers = [{ url = \"https://a\" }]\nservers_transport = \"x\"\n";
    refused(
        &format!("{service}[tls.options.x]\n"),
        &[(
            "3:21",
            &[
                "`[tls.options.x]` is another thing (TLS towards clients)",
                "define `[servers_transports.x]`",
            ],
        )],
    );
    refused(
        "[entry_points.e]\naddress = \":443\"\ntls = { options = \"x\" }\n[servers_transports.x]\n",
        &[(
            "3:19",
            &[
                "`[servers_transports.x]` is another thing",
                "define `[tls.options.x]`",
            ],
        )],
    );
}

#[test]
fn proofs_of_servers_in_the_clear() {
    let body = |urls: &str| {
        format!(
            "[services.s]\nservers = [{urls}]\nservers_transport = \"t\"\n[servers_transports.t]\nroot_cas = [\"ca.pem\"]\n"
        )
    };
    for url in ["http://a", "h2c://a"] {
        refused(
            &body(&format!("{{ url = \"{url}\" }}")),
            &[(
                "3:21",
                &["`root_cas` would check nothing", "in the clear", "`https://`"],
            )],
        );
    }
    let mixed = body("{ url = \"http://a\" }, { url = \"https://b\" }");
    assert!(warned(&mixed).contains("it checks nothing there"));
    assert!(warned(&body("{ url = \"https://b\" }")).contains("no entry point"));
}

#[test]
fn proxy_headers_to_servers() {
    let sending = |value: &str, place: &str, fragments: &[&str]| {
        refused(
            &format!("[servers_transports.t]\nproxy_protocol = {value}\n"),
            &[(place, fragments)],
        );
    };
    sending("\"v3\"", "2:18", &["found `v3`", "`v1` or `v2`"]);
    sending("2", "2:18", &["expected a table"]);
    sending("{ tlvs = [\"ssl\"] }", "2:18", &["`version` is missing"]);
    sending(
        "{ version = \"v1\", tlvs = [\"ssl\"] }",
        "2:18",
        &["beside `version", "addresses alone", "`v2`"],
    );
    sending(
        "{ version = \"v2\", tlvs = [\"sni\"] }",
        "2:44",
        &["`authority`, `alpn`, `ssl`, `unique_id` or `crc32c`"],
    );
    sending(
        "{ version = \"v2\", tlvs = [\"ssl\", \"ssl\"] }",
        "2:51",
        &["twice"],
    );
    sending("{ version = \"v2\", tlvs = [] }", "2:43", &["empty list"]);
    sending("{ version = \"v2\", trusted_ips = [] }", "2:36", &["unknown key"]);
}

#[test]
fn tls_options() {
    let options = |value: &str, place: &str, fragments: &[&str]| {
        refused(&format!("[tls.options.o]\n{value}\n"), &[(place, fragments)]);
    };
    options(
        "min_version = \"VersionTLS11\"",
        "2:15",
        &["`VersionTLS12` or `VersionTLS13`"],
    );
    options(
        "cipher_suites = [\"TLS_RSA_WITH_RC4_128_SHA\"]",
        "2:18",
        &["`TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256`"],
    );
    options("cipher_suites = []", "2:17", &["empty list"]);
    options(
        "curve_preferences = [\"CurveP521\"]",
        "2:22",
        &["`CurveP521` is not supported yet"],
    );
    options(
        "curve_preferences = [\"X25519\", \"X25519\"]",
        "2:32",
        &["`X25519` twice"],
    );
    options(
        "alpn_protocols = [\"acme-tls/1\"]",
        "2:19",
        &["not supported yet"],
    );
    options("alpn_protocols = [\"h3\"]", "2:19", &["`h2` or `http/1.1`"]);
}

#[test]
fn client_auth_asks_for_no_less_than_its_other_keys() {
    let options = |value: &str, place: &str, fragments: &[&str]| {
        refused(&format!("[tls.options.o]\n{value}\n"), &[(place, fragments)]);
    };
    options("client_auth = {}", "2:15", &["neither `type` nor `ca_files`"]);
    options(
        "client_auth = { crl_files = [\"a\"] }",
        "2:15",
        &["neither `type` nor `ca_files`"],
    );
    options("client_auth = { ca_files = [] }", "2:28", &["empty list"]);
    for (auth, instead) in [
        ("NoClientCert", "RequireAndVerifyClientCert"),
        ("RequestClientCert", "VerifyClientCertIfGiven"),
        ("RequireAnyClientCert", "RequireAndVerifyClientCert"),
    ] {
        for check in ["ca_files", "subject_names"] {
            options(
                &format!("client_auth = {{ type = \"{auth}\", {check} = [\"a\"] }}"),
                "2:24",
                &[
                    &format!("found `{auth}` beside `{check}`"),
                    &format!("write `{instead}` or remove `{check}`"),
                ],
            );
        }
    }
    options(
        "client_auth = { type = \"RequireClientCert\" }",
        "2:24",
        &["`NoClientCert`, `RequestClientCert`, `RequireAnyClientCert`, `VerifyClientCertIfGiven` or"],
    );
    options(
        "client_auth = { ca_files = [\"a\"], crl_only_verify_leaf_cert = true }",
        "2:63",
        &["without `crl_files`"],
    );
    for auth in ["VerifyClientCertIfGiven", "RequireAndVerifyClientCert"] {
        options(
            &format!("client_auth = {{ type = \"{auth}\" }}"),
            "2:15",
            &["no `ca_files`"],
        );
    }
    options(
        "client_auth = { ca_files = [\"a\"], subject_names = [\"a b\"] }",
        "2:52",
        &["DNS name"],
    );
}

#[test]
fn tls_options_with_which_nobody_could_connect() {
    let options = |value: &str, place: &str, fragments: &[&str]| {
        refused(&format!("[tls.options.o]\n{value}\n"), &[(place, fragments)]);
    };
    options(
        "max_version = \"VersionTLS10\"",
        "2:15",
        &["`VersionTLS12` or `VersionTLS13`"],
    );
    options(
        "max_version = \"VersionTLS12\"\nmin_version = \"VersionTLS13\"",
        "2:15",
        &["below `min_version`", "nobody could connect"],
    );
    options(
        "curve_preferences = [\"X25519MLKEM768\"]\nmax_version = \"VersionTLS12\"",
        "2:21",
        &["hybrid groups alone", "nobody could connect"],
    );
    let hybrid = "[tls.options.o]\ncurve_preferences = [\"X25519MLKEM768\", \"SecP256r1MLKEM768\"]\n";
    assert!(warned(hybrid).contains("peers of TLS 1.2 are refused"));
    let modern = format!("{hybrid}min_version = \"VersionTLS13\"\n");
    assert!(!warned(&modern).contains("hybrid"));
    let suites = "cipher_suites = [\"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\"]\n";
    assert!(!warned(&format!("[tls.options.o]\n{suites}")).contains("suites"));
    let modern = format!("[tls.options.o]\n{suites}min_version = \"VersionTLS13\"\n");
    assert!(warned(&modern).contains("they choose nothing"));
}

#[test]
fn a_certificate_without_its_other_half() {
    refused(
        "[[tls.certificates]]\ncert_file = \"a\"\n",
        &[("1:1", &["`tls.certificates[0]`", "`key_file` is missing"])],
    );
    refused(
        "[tls]\ndefault_certificate = { key_file = \"a\" }\n",
        &[("2:23", &["`cert_file` is missing"])],
    );
}

#[test]
fn uplinks_and_children() {
    let point = "[uplink_entry_points.m]\naddress = \":9443\"\ngate = { allow = [\"10.0.0.0/8\"] }\n";
    let uplink = |name: &str, value: &str, place: &str, fragments: &[&str]| {
        refused(
            &format!("{point}[uplinks.{name}]\n{value}\n"),
            &[(place, fragments)],
        );
    };
    uplink("Orders", "", "4:10", &["found the name `Orders`", "RFC 1123"]);
    uplink("a_b", "", "4:10", &["RFC 1123"]);
    uplink("orders", "weight = -1", "5:10", &["from 0 to 65535"]);
    uplink("orders", "entry_points = []", "5:16", &["empty list"]);
    uplink(
        "orders",
        "entry_points = [\"x\"]",
        "5:17",
        &["no uplink entry point", "`m`"],
    );
    uplink(
        "orders",
        "parents = [\"p\"]",
        "5:11",
        &["verifies no client certificates"],
    );
    let child = |value: &str, place: &str, fragments: &[&str]| {
        refused(
            &format!("[multicluster.children.c0]\n{value}\n"),
            &[(place, fragments)],
        );
    };
    child("", "1:24", &["`address` is missing"]);
    child("address = \"https://a/x\"", "2:11", &["path"]);
    child("address = \"a:9443\"", "2:11", &["found no scheme"]);
    child(
        "address = \"https://a\"\nservers_transport = \"x\"",
        "3:21",
        &["no servers transport"],
    );
    child("address = \"https://a\"\nuplinks = []", "3:11", &["empty list"]);
    child(
        "address = \"https://a\"\nuplinks = [\"A\"]",
        "3:12",
        &["RFC 1123"],
    );
    child(
        "address = \"https://a\"\nuplinks = [\"a-c0\"]",
        "3:12",
        &["ends in `-c0`"],
    );
    refused(
        "[multicluster.children.C0]\naddress = \"https://a\"\n",
        &[("1:24", &["RFC 1123"])],
    );
}
