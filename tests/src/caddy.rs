//! caddy as a server and as a proxy, HTTP/1.1 and HTTP/2 by whatever way a client asks.

use crate::lab::Ns;
use crate::process::{Proc, Spawn};
use anyhow::{Result, bail};
use std::time::Duration;

/// Longest start on a busy machine.
const START: Duration = Duration::from_secs(30);
/// No administration, no certificates of its own; HTTP/2 in the clear too.
const GENERAL: &str = "{\n\tadmin off\n\tauto_https off\n\tservers {\n\t\tprotocols h1 h2 h2c\n\t}\n}\n";

/// A site at 127.0.0.1 and this port, in the clear, with these directives.
#[must_use]
pub fn site(port: u16, directives: &str) -> String {
    format!("http://:{port} {{\n\tbind 127.0.0.1\n{directives}\n}}\n")
}

/// A site that passes all on to `upstream`, with these options.
#[must_use]
pub fn proxy(port: u16, upstream: &str, options: &str) -> String {
    site(port, &format!("\treverse_proxy {upstream} {{\n{options}\n\t}}"))
}

/// Starts it with these sites, which listen on these ports.
///
/// # Errors
/// Where it does not come up.
pub fn start(ns: &Ns, ports: &[u16], sites: &str) -> Result<Proc> {
    let home = ns.fresh("caddy", "d");
    std::fs::create_dir(&home)?;
    let file = home.join("Caddyfile");
    std::fs::write(&file, format!("{GENERAL}{sites}"))?;
    let own = home.display().to_string();
    let spawn = Spawn::new("caddy", "caddy")
        .env("XDG_CONFIG_HOME", &own)
        .env("XDG_DATA_HOME", &own)
        .arg("run")
        .arg("--config")
        .arg(&file)
        .arg("--adapter")
        .arg("caddyfile");
    let mut proc = ns.spawn(spawn)?;
    for port in ports {
        if let Err(error) = proc.wait_listening(*port, START) {
            bail!("{error:#}; is `cargo xtask setup` done? {}", proc.log());
        }
    }
    Ok(proc)
}
