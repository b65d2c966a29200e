//! curl, run to its end, and its answer.

use crate::certs::Identity;
use crate::lab::Ns;
use anyhow::{Context, Result, ensure};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// A request to make.
#[derive(Debug)]
pub struct Curl {
    ns: Ns,
    args: Vec<String>,
}

/// What curl got.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status of the last answer, 0 where there was none.
    pub status: u16,
    /// HTTP version, `1.1` or `2`.
    pub version: String,
    /// Header section of the last answer, as curl writes it.
    pub head: String,
    /// Body.
    pub body: Vec<u8>,
    /// curl's exit code.
    pub exit: i32,
    /// curl's complaint.
    pub complaint: String,
}

impl Answer {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The value of a `key=value` line of the body (nginx's echo).
    #[must_use]
    pub fn field(&self, key: &str) -> Option<String> {
        self.text()
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('=').map(str::to_owned))
    }

    /// The value of a response header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().to_owned())
            .next_back()
    }

    /// Fails unless the status is this one; says what came instead.
    ///
    /// # Errors
    /// Where it is not.
    pub fn expect(self, status: u16) -> Result<Answer> {
        let Answer {
            status: got,
            exit,
            ref complaint,
            ..
        } = self;
        ensure!(
            got == status,
            "expected {status}, got {got} (curl {exit}: {complaint}): {}",
            self.text()
        );
        Ok(self)
    }
}

impl Curl {
    /// From inside `ns`.
    #[must_use]
    pub fn new(ns: &Ns) -> Curl {
        Curl {
            ns: ns.clone(),
            args: Vec::new(),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Curl {
        self.args.push(arg.into());
        self
    }

    /// Adds several arguments.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Curl {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// Connects there whatever the URL's host says.
    #[must_use]
    pub fn via(self, to: SocketAddr) -> Curl {
        self.arg("--connect-to").arg(format!("::{to}"))
    }

    /// Connects from this address.
    #[must_use]
    pub fn from(self, address: std::net::IpAddr) -> Curl {
        self.arg("--interface").arg(address.to_string())
    }

    /// Adds a request header.
    #[must_use]
    pub fn header(self, line: &str) -> Curl {
        self.arg("-H").arg(line)
    }

    /// Trusts only this CA.
    #[must_use]
    pub fn trust(self, ca: &Path) -> Curl {
        self.arg("--cacert").arg(ca.display().to_string())
    }

    /// Shows a client certificate.
    #[must_use]
    pub fn identity(self, identity: &Identity) -> Curl {
        self.arg("--cert")
            .arg(identity.cert.display().to_string())
            .arg("--key")
            .arg(identity.key.display().to_string())
    }

    /// Fetches `url`.
    ///
    /// # Errors
    /// Where curl cannot be run; a failure of the transfer is in the answer.
    pub fn get(&self, url: &str) -> Result<Answer> {
        let (head, body) = (self.ns.fresh("curl", "head"), self.ns.fresh("curl", "body"));
        let mut command = Command::new("curl");
        command.args([
            "-sS",
            "--noproxy",
            "*",
            "--max-time",
            "30",
            "--connect-timeout",
            "5",
        ]);
        command
            .args(["-w", "%{http_code} %{http_version}\\n", "-D"])
            .arg(&head)
            .arg("-o")
            .arg(&body);
        command.args(&self.args).arg(url);
        let output = self.ns.output(&mut command).context("curl")?;
        let summary = String::from_utf8_lossy(&output.stdout).into_owned();
        // With several URLs the last one counts.
        let (status, version) = summary
            .trim()
            .lines()
            .last()
            .and_then(|line| line.split_once(' '))
            .unwrap_or(("0", "0"));
        let status = status.parse().unwrap_or(0);
        let answer = Answer {
            status,
            version: version.to_owned(),
            head: std::fs::read_to_string(&head).unwrap_or_default(),
            body: std::fs::read(&body).unwrap_or_default(),
            exit: output.status.code().unwrap_or(-1),
            complaint: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        };
        for file in [&head, &body] {
            // Absent where nothing came.
            let _absent = std::fs::remove_file(file);
        }
        Ok(answer)
    }
}
