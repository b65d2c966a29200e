//! Requests in every combination of versions, with node on both sides: bodies, trailers, answers without body; both
//! drivers.

use anyhow::{Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::fragments::{BACKEND, PORT, entry_point, route_all};
use sallyport_tests::on_both_drivers;
use sallyport_tests::script::{Interpreter, Script};

on_both_drivers!(requests_pass_in_every_combination_of_versions);

const SERVER: Script = Script {
    name: "versions-server",
    interpreter: Interpreter::Node,
    text: include_str!("../scripts/versions_server.js"),
};
const CLIENT: Script = Script {
    name: "versions-client",
    interpreter: Interpreter::Node,
    text: include_str!("../scripts/versions_client.js"),
};

fn requests_pass_in_every_combination_of_versions(case: &Case) -> Result<()> {
    let _server = SERVER.serve(&case.ns, BACKEND, &["9001"])?;
    for (url, servers) in [("h2c://127.0.0.1:9000", "2.0"), ("http://127.0.0.1:9001", "1.1")] {
        let gateway = case.gateway(&(entry_point("") + &route_all(url)))?;
        for own in ["1", "2"] {
            let said = CLIENT.run(&case.ns, &[&format!("http://127.0.0.1:{PORT}"), own, servers])?;
            ensure!(said.trim() == "ok", "{own} to {servers}: {said}");
        }
        drop(gateway);
    }
    Ok(())
}
