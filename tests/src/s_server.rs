//! `openssl s_server` as a backend: versions, suites and client certificates as it is told.

use crate::certs::Identity;
use crate::lab::Ns;
use crate::process::{Proc, Spawn};
use anyhow::Result;
use std::path::Path;
use std::time::Duration;

/// One to be started.
#[derive(Debug)]
pub struct SServer {
    args: Vec<String>,
}

impl SServer {
    /// With this certificate; it answers any request with a page about the connection.
    #[must_use]
    pub fn new(identity: &Identity) -> SServer {
        let (cert, key) = (identity.cert.display(), identity.key.display());
        let args = [
            "s_server",
            "-www",
            "-cert",
            &cert.to_string(),
            "-key",
            &key.to_string(),
        ];
        SServer {
            args: args.map(str::to_owned).into(),
        }
    }

    /// More arguments.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> SServer {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// Breaks off with whoever shows no certificate of `ca`.
    #[must_use]
    pub fn demanding(self, ca: &Path) -> SServer {
        self.args(&[
            "-Verify",
            "3",
            "-verify_return_error",
            "-CAfile",
            &ca.display().to_string(),
        ])
    }

    /// Starts it at `port` in `ns`.
    ///
    /// # Errors
    /// Where it does not come up.
    pub fn start(&self, ns: &Ns, port: u16) -> Result<Proc> {
        let accept = port.to_string();
        let spawn = self
            .args
            .iter()
            .fold(Spawn::new("s_server", "openssl"), Spawn::arg)
            .arg("-accept")
            .arg(accept);
        let mut proc = ns.spawn(spawn)?;
        proc.wait_listening(port, Duration::from_secs(10))?;
        Ok(proc)
    }
}
