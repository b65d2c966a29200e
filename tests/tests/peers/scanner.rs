//! testssl.sh against what an operator gets who chooses nothing.

use anyhow::{Result, ensure};
use sallyport_tests::case::{self, Case, is_installed, skip};
use sallyport_tests::certs::{Authority, Role, Validity};
use sallyport_tests::fragments::{BACKEND, PORT, backend_url, certificate, entry_point, local, route_all};
use sallyport_tests::gateway::Driver;
use sallyport_tests::nginx::{Nginx, Serves};
use sallyport_tests::testssl::{self, Finding};

/// Findings of testssl.sh without which it has not looked.
const MUST_HAVE: [&str; 12] = [
    "TLS1",
    "TLS1_1",
    "TLS1_2",
    "TLS1_3",
    "cipherlist_NULL",
    "PFS",
    "cert_chain_of_trust",
    "heartbleed",
    "ROBOT",
    "secure_renego",
    "CRIME_TLS",
    "LUCKY13",
];

/// What it warns of that is its own trouble: its openssl has no engine for GOST; and it leaves before a TLS 1.3 server's
/// ticket has come, when it is quick, and then has no session to come back with. (`openssl.rs` resumes sessions.)
const OWN_TROUBLE: [(&str, &str); 2] = [
    ("engine_problem", ""),
    (
        "sessionresumption_ticket",
        "check failed because of connect problem",
    ),
];

#[test]
fn testssl_finds_nothing_above_low_on_the_default_options() {
    let name = "testssl_finds_nothing_above_low_on_the_default_options";
    if !is_installed(testssl::TOOL) {
        return skip(name, "needs `testssl`, which is not installed");
    }
    case::run(name, Driver::Auto, nothing_above_low);
}

fn nothing_above_low(case: &Case) -> Result<()> {
    let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)?;
    let ca = Authority::new(&case.dir(), "ca")?;
    let server = ca.issue_with(Role::Server, Validity::AsPublic, &["a.example"])?;
    let _gateway =
        case.gateway(&(entry_point("tls = {}") + &route_all(&backend_url()) + &certificate(&server)))?;
    let findings = testssl::scan(&case.ns, "a.example", local(PORT), ca.ca_file())?;
    for id in MUST_HAVE {
        ensure!(
            findings.iter().any(|finding| finding.id == id),
            "it did not look at `{id}`: {:?}",
            findings.iter().map(|finding| &finding.id).collect::<Vec<_>>()
        );
    }
    let own_trouble = |finding: &Finding| {
        let is = |(id, text): &(&str, &str)| finding.id == *id && finding.text.contains(text);
        finding.severity == "WARN" && OWN_TROUBLE.iter().any(is)
    };
    let above: Vec<&Finding> = findings
        .iter()
        .filter(|finding| finding.is_above_low() && !own_trouble(finding))
        .collect();
    ensure!(above.is_empty(), "{above:#?}");
    Ok(())
}
