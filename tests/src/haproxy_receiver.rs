//! haproxy as a server behind the gateway: takes PROXY headers, and answers with what they said.

use crate::lab::Ns;
use crate::process::{Proc, Spawn};
use anyhow::Result;
use std::time::Duration;

/// Starts it at `port` in `ns`. `/` answers `src=`, `dst=`, `authority=` and `id=` lines; a header that is missing or
/// wrong, its checksum included, ends the connection.
///
/// # Errors
/// Where it does not come up.
pub fn start(ns: &Ns, port: u16) -> Result<Proc> {
    let conf = ns.fresh("haproxy-receiver", "cfg");
    let text = format!(
        "global\n  log stderr format raw local0 info\n  nbthread 1\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
         frontend f\n  bind 0.0.0.0:{port} accept-proxy\n  bind [::]:{port} v6only accept-proxy\n  \
         http-request return status 200 content-type text/plain lf-string \
         \"src=%[src] %[src_port]\\ndst=%[dst] %[dst_port]\\nauthority=%[fc_pp_authority]\\nid=%[fc_pp_unique_id]\\n\"\n"
    );
    std::fs::write(&conf, text)?;
    let mut proc = ns.spawn(
        Spawn::new("haproxy-receiver", "haproxy")
            .arg("-db")
            .arg("-f")
            .arg(&conf),
    )?;
    proc.wait_listening(port, Duration::from_secs(10))?;
    Ok(proc)
}
