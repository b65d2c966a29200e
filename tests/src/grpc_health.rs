//! A server of `grpc.health.v1` by python's grpcio, whose health changes on demand.

use crate::lab::Ns;
use crate::process::{Proc, Spawn};
use anyhow::Result;
use std::path::PathBuf;
use std::time::Duration;

/// The program: it knows the service `orders.Orders`, which serves while the file of its argument is there.
const PROGRAM: &str = r#"
import os, sys
from concurrent import futures
import grpc

PORT, FLAG = sys.argv[1], sys.argv[2]

def check(request, context):
    if request != b"\x0a\x0dorders.Orders":
        context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
    return b"\x08\x01" if os.path.exists(FLAG) else b"\x08\x02"

handler = grpc.unary_unary_rpc_method_handler(check)
server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
server.add_generic_rpc_handlers(
    (grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler}),))
assert server.add_insecure_port("0.0.0.0:" + PORT)
server.start()
server.wait_for_termination()
"#;

/// The running server.
#[derive(Debug)]
pub struct GrpcHealth {
    _proc: Proc,
    flag: PathBuf,
}

impl GrpcHealth {
    /// Starts it at `port` in `ns`; it serves.
    ///
    /// # Errors
    /// Where it does not come up.
    pub fn start(ns: &Ns, port: u16) -> Result<GrpcHealth> {
        let (program, flag) = (ns.fresh("grpc-health", "py"), ns.fresh("grpc-serves", "flag"));
        std::fs::write(&program, PROGRAM)?;
        std::fs::write(&flag, "")?;
        // The system's own: another python on the path does not have its packages.
        let spawn = Spawn::new("grpc-health", "/usr/bin/python3")
            .arg(&program)
            .arg(port.to_string())
            .arg(&flag);
        let mut proc = ns.spawn(spawn)?;
        proc.wait_listening(port, Duration::from_secs(20))?;
        Ok(GrpcHealth { _proc: proc, flag })
    }

    /// Whether it serves from now on.
    ///
    /// # Errors
    /// Where its flag cannot be written.
    pub fn set_serving(&self, serves: bool) -> Result<()> {
        if serves {
            std::fs::write(&self.flag, "")?;
        } else {
            std::fs::remove_file(&self.flag)?;
        }
        Ok(())
    }
}
