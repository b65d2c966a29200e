//! gRPC through the gateway with grpcio on both sides: the four kinds of call, deadlines, cancelling; both drivers.

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Role};
use sallyport_tests::fragments::{BACKEND, PORT, certificate, entry_point, route_all};
use sallyport_tests::on_both_drivers;
use sallyport_tests::process::Proc;
use sallyport_tests::script::{GRPC_CLIENT, GRPC_SERVER};
use std::time::Duration;

on_both_drivers!(
    four_kinds_of_call_pass,
    four_kinds_of_call_pass_over_tls,
    a_deadline_ends_the_call_on_both_sides,
    a_cancelled_call_ends_at_the_server,
    a_conversation_may_last_longer_than_a_request,
    no_server_is_unavailable,
);

const SOON: Duration = Duration::from_secs(10);

fn body(keys: &str) -> String {
    entry_point(keys) + &route_all(&format!("h2c://127.0.0.1:{BACKEND}"))
}

fn calls(case: &Case, ca: &str, what: &str) -> Result<()> {
    let said = GRPC_CLIENT.run(&case.ns, &[&format!("127.0.0.1:{PORT}"), ca, what])?;
    ensure!(said.trim() == "ok", "{said}");
    Ok(())
}

fn server(case: &Case) -> Result<Proc> {
    GRPC_SERVER.serve(&case.ns, BACKEND, &[])
}

fn four_kinds_of_call_pass(case: &Case) -> Result<()> {
    let server = server(case)?;
    let _gateway = case.gateway(&body(""))?;
    calls(case, "-", "kinds")?;
    server.wait_for_log("called unary mine", SOON)
}

fn four_kinds_of_call_pass_over_tls(case: &Case) -> Result<()> {
    let _server = server(case)?;
    let ca = Authority::new(&case.dir(), "ca")?;
    let identity = ca.issue(Role::Server, &["a.example"])?;
    let _gateway = case.gateway(&(body("tls = {}") + &certificate(&identity)))?;
    calls(case, &ca.ca_file().display().to_string(), "kinds")
}

fn a_deadline_ends_the_call_on_both_sides(case: &Case) -> Result<()> {
    let server = server(case)?;
    let _gateway = case.gateway(&body(""))?;
    calls(case, "-", "deadlines")?;
    server.wait_for_log("over sleep", SOON)?;
    server.wait_for_log("over server_stream", SOON)
}

fn a_cancelled_call_ends_at_the_server(case: &Case) -> Result<()> {
    let server = server(case)?;
    let _gateway = case.gateway(&body(""))?;
    let client = GRPC_CLIENT.spawn(&case.ns, &[&format!("127.0.0.1:{PORT}"), "-", "cancels"])?;
    server.wait_for_log("called sleep", SOON)?;
    server.wait_for_log("over server_stream", SOON)?;
    client.signal(Signal::SIGUSR2)?;
    client.wait_for_log("ok", SOON)?;
    server.wait_for_log("over sleep", SOON)
}

fn a_conversation_may_last_longer_than_a_request(case: &Case) -> Result<()> {
    let _server = server(case)?;
    let _gateway = case.gateway(&body("timeouts = { read = \"500ms\" }"))?;
    calls(case, "-", "long")
}

fn no_server_is_unavailable(case: &Case) -> Result<()> {
    let _gateway = case.gateway(&body(""))?;
    calls(case, "-", "unavailable")
}
