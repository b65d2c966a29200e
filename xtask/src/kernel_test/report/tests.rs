//! Consoles as guests print them, cut to what is read.

use super::{Report, version};
use std::time::Duration;

const VECTORS: &str = "\
@@ begin packets
test a ... gate_xdp: 9112 instructions verified
gate_xdp_nofrags: 24268 instructions verified
gate_tc_l2: 14034 instructions verified
gate_tc_l3: 13408 instructions verified
ok
test result: ok. 17 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.59s
@@ end packets 0 40.1
";

const REFUSED: &str = "\
@@ begin probe
    R1 has pointer with unsupported alu operation, pointer arithmetic with it prohibited for !root
    verification time 10689 usec
test result: FAILED. 0 passed; 1 failed; 0 ignored
@@ end probe 101 7.2
";

fn status(actual: &str, dropped: u32) -> String {
    format!(
        "status:\n{{ \"interfaces\": [ {{ \"name\": \"g0\", \"actual\": \"{actual}\", \"reason\": \"so\",\n\
         \"passed\": {{}}, \"dropped\": {{ \"internal\": 0, \"source\": {dropped} }} }} ] }}\n"
    )
}

fn part(name: &str, text: &str, code: i32) -> String {
    format!("@@ begin {name}\n{text}@@ end {name} {code} 1.0\n")
}

fn read(release: &str, parts: &str) -> Report {
    let said = format!("firmware\u{1b}[2J@@ kernel {release}\n{parts}@@ done\n");
    Report::read(&said, Duration::ZERO).expect("a whole console")
}

fn bad(report: &Report) -> Vec<String> {
    let findings = report.judge().into_iter().filter(|finding| !finding.good);
    findings.map(|finding| finding.to_string()).collect()
}

#[test]
fn releases_begin_with_their_version() {
    for (release, expected) in [
        ("6.12", Some((6, 12))),
        ("6.1.0-56-cloud-amd64", Some((6, 1))),
        ("6.18.44-fc", Some((6, 18))),
        ("six", None),
        ("6", None),
        ("6.x", None),
    ] {
        assert_eq!(version(release), expected, "{release}");
    }
}

#[test]
fn a_good_run_has_no_bad_finding_and_all_counts() {
    let parts = VECTORS.to_owned()
        + &part("probe", "test result: ok. 1 passed; 0 failed;\n", 0)
        + &part("gate-auto", &status("xdp", 1), 0);
    let report = read("6.12.9-cloud", &(parts + &part("gate-tc", &status("tcx", 2), 0)));
    assert_eq!(bad(&report), Vec::<String>::new());
    assert_eq!(report.series(), "6.12");
    assert_eq!(report.verified("gate_xdp"), Some(9112));
    assert_eq!(report.verified("gate_xdp_nofrags"), Some(24268));
    assert_eq!(report.verified("gate_tc_l3"), Some(13408));
    assert_eq!(report.refusal(), None);
}

#[test]
fn what_the_kernel_expects_of_the_hook_follows_its_version() {
    for (release, actual, good) in [
        ("6.1.0", "clsact", true),
        ("6.1.0", "none", false),
        ("6.5.9", "clsact", true),
        ("6.6.0", "clsact", false),
        ("6.6.0", "tcx", true),
    ] {
        let report = read(
            release,
            &(VECTORS.to_owned() + &part("gate-tc", &status(actual, 1), 0)),
        );
        assert_eq!(bad(&report).is_empty(), good, "{release} {actual}");
    }
}

#[test]
fn a_stranger_that_is_not_dropped_is_a_failure() {
    let report = read(
        "6.6.0",
        &(VECTORS.to_owned() + &part("gate-auto", &status("xdp", 0), 0)),
    );
    assert_eq!(bad(&report).len(), 1);
}

#[test]
fn programs_refused_for_want_of_a_capability_must_be_told_by_its_name() {
    for (said, good) in [("CAP_PERFMON is needed\n", true), ("Permission denied\n", false)] {
        let parts = VECTORS.to_owned() + REFUSED + &part("gate-two", said, 0);
        let report = read("6.1.0", &parts);
        assert!(
            report
                .refusal()
                .is_some_and(|why| why.contains("prohibited for !root"))
        );
        assert_eq!(bad(&report).is_empty(), good, "{said}");
    }
}

#[test]
fn programs_that_load_with_fewer_capabilities_must_judge_alike() {
    for (sum, code, good) in [
        ("ok. 20 passed; 0", 0, true),
        ("FAILED. 19 passed; 1", 101, false),
    ] {
        let said = format!("gate_xdp: 38971 instructions verified\ntest result: {sum} failed;\n");
        let report = read("6.18.1", &(VECTORS.to_owned() + &part("probe", &said, code)));
        assert_eq!(report.refusal(), None);
        assert_eq!(bad(&report).is_empty(), good, "{sum}");
    }
}

#[test]
fn failed_missing_and_uncounted_vectors_are_failures() {
    let failed = VECTORS.replace("17 passed; 0 failed", "16 passed; 1 failed");
    assert_eq!(bad(&read("6.1.0", &failed)).len(), 1);
    let crashed = VECTORS.replace("end packets 0", "end packets 139");
    assert_eq!(bad(&read("6.1.0", &crashed)).len(), 1);
    let none_ran = VECTORS.replace("17 passed", "0 passed");
    assert_eq!(bad(&read("6.1.0", &none_ran)).len(), 1);
    assert_eq!(bad(&read("6.1.0", "")).len(), 2);
}

#[test]
fn a_run_that_broke_off_is_no_report() {
    for said in [
        "",
        "@@ kernel 6.1.0\n@@ begin packets\n",
        "@@ done\n",
        "@@ kernel 6.1.0\n@@ end x 0 1\n@@ done\n",
    ] {
        assert!(Report::read(said, Duration::ZERO).is_err(), "{said:?}");
    }
}
