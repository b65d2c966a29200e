//! Places, files and the reader itself.

use super::{accepted, lines, one, refused, refused_with, source};
use crate::{Source, parse, reader, reference, report::Report, section};
use std::collections::BTreeSet;

fn parse_all(files: &[(&str, &str)]) -> Result<crate::model::Config, String> {
    let sources: Vec<Source> = files.iter().map(|(name, text)| source(name, text)).collect();
    parse(&sources).map_err(|errors| lines(&errors))
}

#[test]
fn columns_count_characters_not_bytes() {
    refused("[proxy]\n\"é\" = 1\n", &[("2:1", &["unknown key"])]);
    refused("[log]\nformat = \"é\" # é\n", &[("2:10", &["found `é`"])]);
    refused(
        "log = { level = \"ü\", format = 1 }",
        &[("1:31", &["found an integer"])],
    );
}

#[test]
fn the_column_of_a_rule_fault_is_inside_the_string() {
    let text = |rule: &str| {
        format!(
            "[entry_points.w]\naddress = \":80\"\n[services.s]\nservers = [{{ url = \"http://a\" }}]\n[routers.r]\nservice = \"s\"\nrule = {rule}\n"
        )
    };
    refused(
        &text("\"Host(`a`) && Hots(`b`)\""),
        &[("7:22", &["`routers.r.rule`", "unknown matcher `Hots`"])],
    );
    refused(&text("'Path(`x`)'"), &[("7:14", &["starts with `/`"])]);
    refused(
        &text("'Path(\"/é\") && Path(`x`)'"),
        &[("7:28", &["starts with `/`"])],
    );
    // Escapes and several lines: offsets in the file are not offsets in the rule.
    refused(&text("\"Path(\\\"x\\\")\""), &[("7:14", &["starts with `/`"])]);
    refused(
        &text("\"\"\"\nPath(`/`) ||\n Path(`x`)\"\"\""),
        &[("9:7", &["starts with `/`"])],
    );
    refused(
        &text("\"PathRegexp(`/a\\\\d(b`)\""),
        &[("7:26", &["unclosed group"])],
    );
}

#[test]
fn syntax_errors_have_their_place_and_start_no_others() {
    refused("[proxy\n", &[("1:7", &["not valid TOML"])]);
    refused(
        "[entry_points.web]\naddress = :80\n",
        &[("2:11", &["not valid TOML"])],
    );
    refused(
        "[log]\nlevel = \"info\"\n\n[log]\n",
        &[("4:2", &["`log`: defined twice in this file"])],
    );
    refused(
        "[log]\nlevel = \"a\"\nlevel = \"b\"\n",
        &[("3:1", &["`level`: defined twice"])],
    );
    // The rest of the file is still read.
    let text = "[entry_points.web]\naddress = :80\n[proxy]\nworker = 2\nio = \"kqueue\"\n";
    refused(
        text,
        &[
            ("2:11", &["not valid TOML"]),
            ("4:1", &["`proxy.worker`", "`workers`"]),
            ("5:6", &["`epoll`"]),
        ],
    );
}

#[test]
fn syntax_errors_never_quote_the_line() {
    let text = "[servers_transports.a]\nserver_name = hunter2\n";
    let errors = one(text).expect_err("no string");
    assert!(!lines(&errors).contains("hunter2"), "{}", lines(&errors));
}

#[test]
fn files_are_merged_by_name() {
    let main = "[entry_points.web]\naddress = \":80\"\n[proxy]\ndrain = \"1s\"\n[tls]\n[[tls.certificates]]\ncert_file = \"a\"\nkey_file = \"b\"\n";
    let routers = "[routers.r]\nrule = \"Path(`/`)\"\nservice = \"s\"\n[proxy]\nworkers = 2\n";
    let services = "[services.s]\nservers = [{ url = \"http://a\" }]\n[[tls.certificates]]\ncert_file = \"c\"\nkey_file = \"d\"\n[tls.options.x]\n";
    let config = parse_all(&[
        ("s.toml", main),
        ("conf.d/r.toml", routers),
        ("conf.d/s.toml", services),
    ])
    .expect("one whole");
    assert_eq!(config.tls.certificates.len(), 2);
    assert_eq!(config.proxy.drain.as_secs(), 1);
    assert_eq!(config.routers["r"].at.to_string(), "conf.d/r.toml:1:10");
    assert!(config.tls.options.contains_key("x") && config.tls.options.contains_key("default"));
}

#[test]
fn a_name_in_two_files_is_an_error_that_quotes_both() {
    let main = "[entry_points.web]\naddress = \":80\"\n[proxy]\ndrain = \"1s\"\n[tls.options.a]\n";
    let other = "[entry_points.web]\nas_default = true\n[proxy]\ndrain = \"2s\"\n[tls.options.a]\nsni_strict = true\n";
    let errors = parse_all(&[("s.toml", main), ("conf.d/o.toml", other)]).expect_err("three names twice");
    for expected in [
        "conf.d/o.toml:1:15: `entry_points.web`: defined a second time; the first is at s.toml:1:15",
        "conf.d/o.toml:4:1: `proxy.drain`: defined a second time; the first is at s.toml:4:1",
        "conf.d/o.toml:5:14: `tls.options.a`: defined a second time; the first is at s.toml:5:14",
    ] {
        assert!(errors.contains(expected), "{expected}\n{errors}");
    }
    assert_eq!(errors.lines().count(), 3, "{errors}");
}

#[test]
fn a_section_of_the_wrong_type_is_refused_in_either_file() {
    let errors = parse_all(&[
        ("a", "proxy = 1\n"),
        ("b", "[proxy]\ndrain = \"x\"\nentry_points = 3\n"),
    ])
    .expect_err("types");
    assert!(
        errors.contains("a:1:9: `proxy`: found an integer, expected a table"),
        "{errors}"
    );
    assert!(errors.contains("b:2:9: `proxy.drain`"), "{errors}");
    refused_with("entry_points = 3\n", &["`entry_points`: found an integer"]);
    refused_with(
        "entry_points = { web = 3 }\n",
        &["`entry_points.web`: found an integer"],
    );
}

#[test]
fn a_file_over_the_size_limit_is_refused() {
    let text = "#".repeat(crate::report::SOURCE_BYTES_MAX);
    assert!(one(&text).is_ok());
    refused(&format!("{text}#"), &[("1:1", &["bytes", "at most"])]);
}

#[test]
fn no_message_spans_lines() {
    let errors =
        one("\"a\\nb\\u001b[31m\" = 1\n[entry_points.\"x\\ny\"]\naddress = \"\\n\"\n").expect_err("names");
    for error in &errors {
        assert!(!error.to_string().contains(|c: char| c.is_control()), "{error:?}");
    }
}

/// All keys that work, each used once.
const EVERY_KEY: &str = include_str!("every_key.toml");

#[test]
fn the_reference_and_the_readers_know_the_same_keys() {
    accepted(EVERY_KEY);
    let sources = [source("every_key.toml", EVERY_KEY)];
    let report = Report::new(&sources);
    let documents = [(0, reader::document(&report, 0, EVERY_KEY))];
    let _ = section::read(&reader::Table::root(&report, &documents));
    let asked = report.asked.borrow().clone();
    // Names of the operator's are walked, not asked for.
    let supported = reference::reference()
        .iter()
        .filter(|option| option.support == reference::Support::Now);
    let documented: BTreeSet<String> = supported
        .map(|option| option.key.clone())
        .filter(|key| !key.ends_with(".NAME"))
        .collect();
    assert_eq!(asked, documented);
}

#[test]
fn every_reserved_key_is_refused_as_not_supported_yet() {
    let reserved = reference::reference()
        .iter()
        .filter(|option| option.support == reference::Support::NotYet);
    for option in reserved {
        let key = option.key.replace("NAME", "x");
        let (table, last) = key.rsplit_once('.').unwrap_or(("", &key));
        let text = if table.is_empty() {
            format!("{last} = {{}}\n")
        } else {
            format!("[{table}]\n{last} = {{}}\n")
        };
        refused_with(&text, &[&format!("`{key}`: not supported yet"), "remove it"]);
    }
}

#[test]
fn problems_of_all_kinds_are_reported_at_once() {
    let text = r#"
[proxy]
workers = 0
io = "kqueue"
drain = "10"
color = "red"

[entry_points.web]
address = ":0"
timeouts = { read = 5 }
limits = { header_bytes = "1TiB", h2_streams = 0 }

[entry_points.web2]
address = ":8080"
tls = { options = "nowhere" }

[uplink_entry_points.web2]
address = ":8081/udp"

[routers.r]
rule = "Hots(`a`) || Path(`x`)"
service = "nobody"
entry_points = ["webb"]

[services.s]
servers = [{ url = "ftp://a" }, { weight = 70000 }]

[tcp_services.x]
servers = []

[certificate_resolvers.le.acme]
"#;
    refused(
        text,
        &[
            ("3:11", &["`proxy.workers`", "from 1 to 1024"]),
            ("4:6", &["`proxy.io`", "`tokio-uring` or `epoll`"]),
            ("5:9", &["`proxy.drain`", "unit"]),
            ("6:1", &["`proxy.color`", "unknown key", "`workers`"]),
            ("9:11", &["`entry_points.web.address`", "`:PORT`"]),
            ("10:21", &["`entry_points.web.timeouts.read`", "found an integer"]),
            ("11:27", &["`entry_points.web.limits.header_bytes`", "`KiB`"]),
            (
                "11:48",
                &["`entry_points.web.limits.h2_streams`", "from 1 to 10000"],
            ),
            (
                "15:19",
                &["`entry_points.web2.tls.options`", "found `nowhere`", "`default`"],
            ),
            ("17:22", &["`uplink_entry_points.web2`", "s.toml:13:15"]),
            ("18:11", &["`uplink_entry_points.web2.address`", "UDP"]),
            ("21:9", &["`routers.r.rule`", "unknown matcher"]),
            ("21:27", &["`routers.r.rule`", "starts with `/`"]),
            ("22:11", &["`routers.r.service`", "found `nobody`", "`s`"]),
            (
                "23:17",
                &["`routers.r.entry_points[0]`", "found `webb`", "`web` or `web2`"],
            ),
            ("26:20", &["`services.s.servers[0].url`", "another scheme"]),
            ("26:33", &["`services.s.servers[1]`", "`url` is missing"]),
            ("26:44", &["`services.s.servers[1].weight`", "from 0 to 65535"]),
            ("29:11", &["`tcp_services.x.servers`", "an empty list"]),
            ("31:2", &["`certificate_resolvers`", "not supported yet"]),
        ],
    );
}

#[test]
fn the_admin_socket_is_told_also_where_the_rest_is_not_valid() {
    let socket = |text: &str| crate::admin_socket(text).map(|path| path.display().to_string());
    assert_eq!(
        socket("[admin]\nsocket = \"/a.sock\"\n[nonsense]\nx = 1\n").as_deref(),
        Some("/a.sock")
    );
    assert_eq!(
        socket("[admin]\nsocket = \"/a.sock\"\nbroken = \n").as_deref(),
        Some("/a.sock")
    );
    assert_eq!(socket("[proxy]\nworkers = 1\n"), None);
    assert_eq!(socket("]["), None);
}

#[test]
fn a_gate_is_found_also_where_the_rest_is_not_valid() {
    let paths = |texts: &[&str]| {
        let sources: Vec<crate::Source> = texts
            .iter()
            .map(|text| crate::Source {
                name: "t".to_owned(),
                text: (*text).to_owned(),
            })
            .collect();
        let paths = crate::gate_paths(&sources);
        (
            paths.socket.display().to_string(),
            paths.pin_dir.display().to_string(),
        )
    };
    let (socket, pins) = ("/run/sallyport-gate/gate.sock", "/sys/fs/bpf/sallyport");
    assert_eq!(paths(&[]), (socket.to_owned(), pins.to_owned()));
    assert_eq!(
        paths(&["[gate]\nsocket = \"/a.sock\"\nbroken = \n"]),
        ("/a.sock".to_owned(), pins.to_owned())
    );
    assert_eq!(
        paths(&["][", "[gate]\npin_dir = \"/p\"\nmode = 1\n"]),
        (socket.to_owned(), "/p".to_owned())
    );
    let told = crate::parse(&[]).map(|config| (config.gate.socket, config.gate.pin_dir));
    assert_eq!(told.ok(), Some((socket.into(), pins.into())));
}
