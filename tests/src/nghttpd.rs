//! nghttpd as a backend that speaks HTTP/2 and nothing else, in the clear or over TLS.

use crate::certs::Identity;
use crate::lab::Ns;
use crate::process::{Proc, Spawn};
use anyhow::Result;
use std::time::Duration;

/// Starts it at `port` in `ns`, over TLS where it has an identity; `/` answers `nghttpd`.
///
/// # Errors
/// Where it does not come up.
pub fn start(ns: &Ns, port: u16, identity: Option<&Identity>) -> Result<Proc> {
    let root = ns.fresh("nghttpd", "d");
    std::fs::create_dir(&root)?;
    std::fs::write(root.join("index.html"), "nghttpd\n")?;
    let spawn = Spawn::new("nghttpd", "nghttpd").arg("-d").arg(&root);
    let spawn = match identity {
        None => spawn.arg("--no-tls").arg(port.to_string()),
        Some(identity) => spawn.arg(port.to_string()).arg(&identity.key).arg(&identity.cert),
    };
    let mut proc = ns.spawn(spawn)?;
    proc.wait_listening(port, Duration::from_secs(10))?;
    Ok(proc)
}
