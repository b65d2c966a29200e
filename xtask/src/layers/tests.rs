//! The checker is checked: each rule with a line that breaks it and one that keeps it.

use super::{judge, judge_test_manifest, unknown_modules};

fn check(path: &str, text: &str, broken: &[usize]) {
    let modules: Vec<String> = [
        "gate", "accept", "http", "route", "upstream", "io", "fault", "serve", "control",
    ]
    .map(str::to_owned)
    .to_vec();
    let findings = judge(path, text, &modules);
    let lines: Vec<usize> = findings
        .iter()
        .map(|finding| {
            let line = finding.strip_prefix(path).and_then(|rest| rest.split(':').nth(1));
            line.and_then(|line| line.parse().ok())
                .expect("a finding starts with path and line")
        })
        .collect();
    assert_eq!(lines, broken, "{path}: {findings:?}");
}

#[test]
fn a_stage_imports_earlier_stages_and_the_substrate_only() {
    check(
        "proxy/src/route/table.rs",
        "use crate::http::Head;\nuse crate::io::Stream;\nuse crate::route::host;\n",
        &[],
    );
    check(
        "proxy/src/http/mod.rs",
        "use crate::fault::Fault;\nuse crate::{io, route::Table};\n",
        &[2],
    );
    check(
        "proxy/src/http/mod.rs",
        "fn f() -> crate::upstream::Pool {}\n",
        &[1],
    );
    check(
        "proxy/src/http/mod.rs",
        "use crate::serve::Walk;\nuse crate::control::Reload;\n",
        &[1, 2],
    );
    check("proxy/src/http.rs", "use crate::VERSION;\n", &[]);
}

#[test]
fn super_is_followed_to_where_it_leads() {
    check(
        "proxy/src/http/head.rs",
        "use super::Body;\nuse super::super::route::Table;\n",
        &[2],
    );
    check(
        "proxy/src/http/mod.rs",
        "mod deep {\n    use super::super::route::Table;\n    use super::Body;\n}\n",
        &[2],
    );
}

#[test]
fn of_the_gate_a_stage_knows_the_policy_alone() {
    check(
        "proxy/src/accept/mod.rs",
        "use crate::gate::policy::Policy;\nuse crate::gate::loader::Loader;\n",
        &[2],
    );
    check(
        "proxy/src/gate/loader.rs",
        "use crate::gate::policy::Policy;\nuse crate::accept::Accepted;\n",
        &[2],
    );
}

#[test]
fn the_substrate_knows_no_stage_and_the_data_path_no_process() {
    check(
        "proxy/src/io/mod.rs",
        "use crate::fault::Fault;\nuse crate::http::Head;\n",
        &[2],
    );
    check(
        "proxy/src/serve/mod.rs",
        "use crate::upstream::Pool;\nuse crate::control::Reload;\n",
        &[2],
    );
    check(
        "proxy/src/control/mod.rs",
        "use crate::serve::Walk;\nuse crate::http::Head;\n",
        &[],
    );
}

#[test]
fn runtimes_and_descriptors_are_named_in_their_folders_only() {
    let text = "use tokio_uring::net::TcpStream;\nuse tokio::{net, sync};\nfn f() { tokio::spawn(g); }\n";
    check("proxy/src/http/mod.rs", text, &[1, 2, 3]);
    check("proxy/src/control/mod.rs", text, &[1]);
    check("proxy/src/io/uring.rs", text, &[]);
    let raw =
        "use std::os::fd::{AsRawFd, OwnedFd};\nuse std::os::unix::io::RawFd;\nfn f() { libc::close(3); }\n";
    check("proxy/src/worker/mod.rs", raw, &[1, 2, 3]);
    check("proxy/src/gate/loader.rs", raw, &[]);
    check("proxy/src/worker/mod.rs", "use std::os::fd::*;\n", &[1]);
}

#[test]
fn the_configuration_reads_no_file_and_no_clock() {
    check(
        "config/src/lib.rs",
        "use std::net::IpAddr;\nuse std::time::Duration;\n",
        &[],
    );
    check(
        "config/src/lib.rs",
        "use std::fs;\nuse std::time::{Duration, Instant};\nuse std::net::TcpStream;\n",
        &[1, 2, 3],
    );
}

#[test]
fn tests_are_free_of_the_rules_and_comments_and_strings_too() {
    check(
        "proxy/src/http/mod.rs",
        "// use tokio::net;\n#[cfg(test)]\nmod tests {\n    use tokio::net;\n}\n",
        &[],
    );
    check("proxy/src/http/tests.rs", "use crate::upstream::Pool;\n", &[]);
}

#[test]
fn the_harness_does_not_reach_inside() {
    check(
        "tests/src/lab.rs",
        "use sallyport::http;\nuse sallyport_tests::lab;\n",
        &[1],
    );
    assert_eq!(
        judge_test_manifest("[dependencies]\nsallyport.workspace = true\n").len(),
        1
    );
    assert_eq!(
        judge_test_manifest("[dependencies]\nsallyport = { path = \"x\" }\n").len(),
        1
    );
    assert!(
        judge_test_manifest("name = \"sallyport-tests\"\nsallyport-config.workspace = true\n").is_empty()
    );
}

#[test]
fn a_module_in_no_table_is_refused() {
    assert_eq!(unknown_modules(&["http".to_owned(), "extra".to_owned()]).len(), 1);
}
