//! `openssl s_client` as a second TLS implementation: which alert, which certificate, which answer.

use crate::certs::Identity;
use crate::lab::Ns;
use anyhow::{Context, Result, ensure};
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

/// The TLS version that is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 1.2.
    Tls12,
    /// 1.3.
    Tls13,
}

impl Version {
    /// Both.
    pub const ALL: [Version; 2] = [Version::Tls12, Version::Tls13];
}

/// TLS alerts by number (RFC 8446 section 6, RFC 6066 section 3).
pub mod alert {
    /// `handshake_failure`.
    pub const HANDSHAKE_FAILURE: u8 = 40;
    /// `bad_certificate`.
    pub const BAD_CERTIFICATE: u8 = 42;
    /// `unsupported_certificate`.
    pub const UNSUPPORTED_CERTIFICATE: u8 = 43;
    /// `certificate_revoked`.
    pub const CERTIFICATE_REVOKED: u8 = 44;
    /// `certificate_expired`.
    pub const CERTIFICATE_EXPIRED: u8 = 45;
    /// `certificate_unknown`.
    pub const CERTIFICATE_UNKNOWN: u8 = 46;
    /// `unknown_ca`.
    pub const UNKNOWN_CA: u8 = 48;
    /// `access_denied`.
    pub const ACCESS_DENIED: u8 = 49;
    /// `protocol_version`.
    pub const PROTOCOL_VERSION: u8 = 70;
    /// `unrecognized_name`.
    pub const UNRECOGNIZED_NAME: u8 = 112;
    /// `certificate_required`.
    pub const CERTIFICATE_REQUIRED: u8 = 116;
}

/// A connection to make.
#[derive(Debug)]
pub struct SClient {
    ns: Ns,
    args: Vec<String>,
}

/// How it went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The alert that the peer sent.
    pub alert: Option<u8>,
    /// All that `s_client` printed on standard output: session, certificate and answer.
    pub output: String,
    /// What it printed on standard error.
    pub errors: String,
}

impl Outcome {
    /// Whether an HTTP answer with this status came.
    #[must_use]
    pub fn has_status(&self, status: u16) -> bool {
        self.output.contains(&format!("HTTP/1.1 {status} "))
    }

    /// Whether any HTTP answer came.
    #[must_use]
    pub fn has_answer(&self) -> bool {
        self.output.contains("HTTP/1.")
    }

    /// Whether the session was resumed.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.output.contains("\nReused, ")
    }

    /// Whether the server asked for a certificate.
    #[must_use]
    pub fn was_asked(&self) -> bool {
        self.output.contains("Client Certificate Types:")
            || self.output.contains("Acceptable client certificate CA names")
            || self.output.contains("Requested Signature Algorithms")
    }

    /// The subject line of the server's certificate.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.output.lines().find_map(|line| line.strip_prefix("subject="))
    }

    /// The server's certificate, PEM.
    #[must_use]
    pub fn certificate(&self) -> Option<&str> {
        let start = self.output.find("-----BEGIN CERTIFICATE-----")?;
        let rest = self.output.get(start..)?;
        rest.get(..rest.find("-----END CERTIFICATE-----")?)
    }
}

impl SClient {
    /// To `to` from inside `ns`.
    #[must_use]
    pub fn new(ns: &Ns, to: SocketAddr, version: Version) -> SClient {
        let version = match version {
            Version::Tls12 => "-tls1_2",
            Version::Tls13 => "-tls1_3",
        };
        let args = ["s_client", "-ign_eof", "-connect", &to.to_string(), version].map(str::to_owned);
        SClient {
            ns: ns.clone(),
            args: args.into(),
        }
    }

    /// Sends this name; without it none.
    #[must_use]
    pub fn sni(mut self, name: &str) -> SClient {
        self.args.extend(["-servername".to_owned(), name.to_owned()]);
        self
    }

    /// Verifies against this CA and gives up where that fails.
    #[must_use]
    pub fn trust(mut self, ca: &Path) -> SClient {
        self.args.extend([
            "-CAfile".to_owned(),
            ca.display().to_string(),
            "-verify_return_error".to_owned(),
        ]);
        self
    }

    /// Shows a client certificate.
    #[must_use]
    pub fn identity(mut self, identity: &Identity) -> SClient {
        let files = [
            identity.cert.display().to_string(),
            identity.key.display().to_string(),
        ];
        let [cert, key] = files;
        self.args
            .extend(["-cert".to_owned(), cert, "-key".to_owned(), key]);
        self
    }

    /// Adds words of `s_client`'s own.
    #[must_use]
    pub fn args(mut self, words: &[&str]) -> SClient {
        self.args.extend(words.iter().map(|word| (*word).to_owned()));
        self
    }

    /// Shakes hands, asks for `/` of `host` and reads to the end.
    ///
    /// # Errors
    /// Where openssl cannot be run.
    pub fn get(mut self, host: &str) -> Result<Outcome> {
        if !self.args.iter().any(|arg| arg == "-servername") {
            self.args.push("-noservername".to_owned());
        }
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let args = &self.args;
        let output = self.ns.enter(|| {
            let mut child = Command::new("timeout")
                .args(["10", "openssl"])
                .args(args)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .context("cannot start `openssl`")?;
            // Held open to the end: `s_client` would spin on an ended input.
            let mut stdin = child.stdin.take();
            if let Some(stdin) = &mut stdin {
                // A refused handshake ends the program before it reads.
                let _refused = stdin.write_all(request.as_bytes());
            }
            Ok(child.wait_with_output()?)
        })?;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok(Outcome {
            alert: alert_number(&errors),
            output: String::from_utf8_lossy(&output.stdout).into_owned(),
            errors,
        })
    }
}

/// The number in `…SSL alert number 116`.
fn alert_number(errors: &str) -> Option<u8> {
    let (_, rest) = errors.split_once("alert number ")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// `sha256/…` of the key of a certificate, as openssl computes it.
///
/// # Errors
/// Where the file holds no certificate.
pub fn pin(certificate: &Path) -> Result<String> {
    let script = "openssl x509 -in \"$1\" -pubkey -noout | openssl pkey -pubin -outform der \
                  | openssl dgst -sha256 -binary | openssl base64";
    let output = Command::new("sh")
        .args(["-e", "-c", script, "sh"])
        .arg(certificate)
        .output()?;
    ensure!(
        output.status.success() && output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(format!("sha256/{}", String::from_utf8(output.stdout)?.trim()))
}

#[cfg(test)]
mod tests {
    use super::alert_number;

    #[test]
    fn alert_numbers_are_read_from_openssl() {
        let line = "error:0A00045C:SSL routines:ssl3_read_bytes:tlsv13 alert certificate required:s3.c:1:SSL alert number 116\n";
        assert_eq!(alert_number(line), Some(116));
        assert_eq!(alert_number("no peer certificate available"), None);
    }
}
