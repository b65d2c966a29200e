//! haproxy as a load balancer in front of the gateway: TCP mode, says the client's address by PROXY protocol.

use crate::lab::Ns;
use crate::process::{Proc, Spawn};
use anyhow::Result;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

/// The version of the PROXY protocol that it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// Text.
    V1,
    /// Binary.
    V2,
}

/// One listening port and where its connections go.
#[derive(Clone, Copy, Debug)]
pub struct Forward {
    /// Port on all addresses.
    pub port: u16,
    /// The gateway.
    pub to: SocketAddr,
    /// How.
    pub speaks: Speaks,
}

/// A running haproxy.
#[derive(Debug)]
pub struct Haproxy {
    /// The process.
    pub proc: Proc,
}

impl Haproxy {
    /// Starts it in `ns`.
    ///
    /// # Errors
    /// Where it does not come up.
    pub fn start(ns: &Ns, forwards: &[Forward]) -> Result<Haproxy> {
        let ports: Vec<u16> = forwards.iter().map(|forward| forward.port).collect();
        Haproxy::start_with(ns, &ports, &sections(forwards))
    }

    /// Starts it in `ns` with these sections, which listen on these ports. Connections are passed on as they are.
    ///
    /// # Errors
    /// Where it does not come up.
    pub fn start_with(ns: &Ns, ports: &[u16], sections: &str) -> Result<Haproxy> {
        let conf = ns.fresh("haproxy", "cfg");
        std::fs::write(&conf, format!("{GENERAL}{sections}"))?;
        let mut proc = ns.spawn(Spawn::new("haproxy", "haproxy").arg("-db").arg("-f").arg(&conf))?;
        for port in ports {
            proc.wait_listening(*port, Duration::from_secs(10))?;
        }
        Ok(Haproxy { proc })
    }
}

const GENERAL: &str = "global\n  log stderr format raw local0 notice\n  nbthread 1\n  ssl-default-bind-options ssl-min-ver TLSv1.2\n\
     defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n";

fn sections(forwards: &[Forward]) -> String {
    let mut out = String::new();
    for Forward { port, to, speaks } in forwards {
        let send = match speaks {
            Speaks::V1 => "send-proxy",
            Speaks::V2 => "send-proxy-v2",
        };
        let _ = write!(
            out,
            "listen l{port}\n  bind 0.0.0.0:{port}\n  bind [::]:{port} v6only\n  server gateway {to} {send}\n"
        );
    }
    out
}
