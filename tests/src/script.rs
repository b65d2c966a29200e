//! Peers that are short programs for Debian's Python or for node: a library of another hand speaks, the test says what.

use crate::lab::Ns;
use crate::process::{Proc, Spawn};
use anyhow::{Result, bail, ensure};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Longest that a script may take to listen, or to come to its end.
const LIMIT: Duration = Duration::from_secs(30);

/// What runs a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interpreter {
    /// Debian's Python, whose modules are Debian's packages.
    Python,
    /// node.
    Node,
}

impl Interpreter {
    fn program(self) -> &'static str {
        match self {
            // By its path: another Python on the path has other modules.
            Interpreter::Python => "/usr/bin/python3",
            Interpreter::Node => "node",
        }
    }

    fn ending(self) -> &'static str {
        match self {
            Interpreter::Python => "py",
            Interpreter::Node => "js",
        }
    }
}

/// A script and what it is called in the logs.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    /// Its name.
    pub name: &'static str,
    /// What runs it.
    pub interpreter: Interpreter,
    /// Its text.
    pub text: &'static str,
}

/// A WebSocket server by python3-websockets.
pub const WS_SERVER: Script = Script {
    name: "ws-server",
    interpreter: Interpreter::Python,
    text: include_str!("../scripts/ws_server.py"),
};
/// A WebSocket client by the same.
pub const WS_CLIENT: Script = Script {
    name: "ws-client",
    interpreter: Interpreter::Python,
    text: include_str!("../scripts/ws_client.py"),
};
/// A gRPC server by python3-grpcio.
pub const GRPC_SERVER: Script = Script {
    name: "grpc-server",
    interpreter: Interpreter::Python,
    text: include_str!("../scripts/grpc_server.py"),
};
/// A gRPC client by the same.
pub const GRPC_CLIENT: Script = Script {
    name: "grpc-client",
    interpreter: Interpreter::Python,
    text: include_str!("../scripts/grpc_client.py"),
};

impl Script {
    fn file(&self, ns: &Ns) -> Result<PathBuf> {
        let file = ns.fresh(self.name, self.interpreter.ending());
        std::fs::write(&file, self.text)?;
        Ok(file)
    }

    /// Starts it as a server, its port as its first argument.
    ///
    /// # Errors
    /// Where it does not come to listen.
    pub fn serve(&self, ns: &Ns, port: u16, args: &[&str]) -> Result<Proc> {
        let spawn = Spawn::new(self.name, self.interpreter.program()).arg(self.file(ns)?);
        let spawn = spawn.env("PYTHONUNBUFFERED", "1").arg(port.to_string());
        let spawn = args.iter().fold(spawn, |spawn, arg| spawn.arg(arg));
        let mut proc = ns.spawn(spawn)?;
        if let Err(error) = proc.wait_listening(port, LIMIT) {
            bail!("{error:#}; is `cargo xtask setup` done? {}", proc.log());
        }
        Ok(proc)
    }

    /// Starts it as a client that goes on while others act.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn spawn(&self, ns: &Ns, args: &[&str]) -> Result<Proc> {
        let spawn = Spawn::new(self.name, self.interpreter.program()).arg(self.file(ns)?);
        let spawn = spawn.env("PYTHONUNBUFFERED", "1");
        let spawn = args.iter().fold(spawn, |spawn, arg| spawn.arg(arg));
        ns.spawn(spawn)
    }

    /// Runs it to its end, which must be a good one; what it wrote.
    ///
    /// # Errors
    /// Where it fails or does not end.
    pub fn run(&self, ns: &Ns, args: &[&str]) -> Result<String> {
        let mut command = Command::new("timeout");
        command
            .arg(LIMIT.as_secs().to_string())
            .arg(self.interpreter.program())
            .arg(self.file(ns)?)
            .args(args);
        let output = ns.output(&mut command)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "`{}` ended with {}: {text}{}",
            self.name,
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(text)
    }
}
