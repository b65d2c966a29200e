//! nginx as a load balancer in front of the gateway: module `stream`, which sends PROXY headers of version 1.

use crate::lab::Ns;
use crate::process::{Proc, Spawn};
use anyhow::{Context, Result};
use std::path::Path;
use std::time::Duration;

/// Where distributions put the module, where it is not built in.
const MODULES: [&str; 2] = [
    "/usr/lib/nginx/modules/ngx_stream_module.so",
    "/usr/lib64/nginx/modules/ngx_stream_module.so",
];

/// Starts it in `ns` with these `server` blocks of `stream`, which listen on these ports.
///
/// # Errors
/// Where it does not come up, or has no such module.
pub fn start(ns: &Ns, ports: &[u16], servers: &str) -> Result<Proc> {
    let root = ns.fresh("nginx-stream", "d");
    std::fs::create_dir_all(&root)?;
    let conf = root.join("nginx.conf");
    let module = MODULES.iter().find(|path| Path::new(path).is_file());
    let module = module.context("nginx has no module `stream`: `cargo xtask setup`")?;
    std::fs::write(
        &conf,
        format!(
            "load_module {module};\ndaemon off;\nuser root;\nworker_processes 1;\nerror_log stderr notice;\npid {}/pid;\n\
             events {{ worker_connections 1024; }}\nstream {{\n{servers}\n}}\n",
            root.display()
        ),
    )?;
    let spawn = Spawn::new("nginx-stream", "nginx")
        .arg("-e")
        .arg("stderr")
        .arg("-p")
        .arg(&root)
        .arg("-c")
        .arg(&conf);
    let mut proc = ns.spawn(spawn)?;
    for port in ports {
        proc.wait_listening(*port, Duration::from_secs(10))?;
    }
    Ok(proc)
}
