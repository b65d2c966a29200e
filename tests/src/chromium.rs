//! A browser: headless Chromium with a home, a store of certificates and a policy of its own.
//!
//! The policy that chooses a client certificate without asking is a file below `/etc`. It is mounted there in a
//! mount namespace of the browser's, so that this machine's browsers never see it.

use crate::certs::Identity;
use crate::lab::Ns;
use anyhow::{Context, Result, ensure};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The programs that it takes: the browser, and what fills its store.
pub const TOOLS: [&str; 4] = ["chromium", "certutil", "pk12util", "unshare"];

/// Mounts the policy `$1`, then becomes the rest of the arguments.
const WITH_POLICY: &str = r#"
mkdir -p /etc/chromium && mount -t tmpfs policies /etc/chromium && mkdir -p /etc/chromium/policies/managed \
    && cp "$1" /etc/chromium/policies/managed/ && shift && exec "$@"
"#;

/// A browser that is started anew for each page.
#[derive(Debug)]
pub struct Chromium {
    ns: Ns,
    home: PathBuf,
}

/// What a page came to.
#[derive(Clone, Debug)]
pub struct Page {
    /// The page as the browser has it, its own page of an error too.
    pub html: String,
    /// What it complained of.
    pub complaints: String,
}

impl Chromium {
    /// In `ns`, with a store that holds `ca` as an authority for servers.
    ///
    /// # Errors
    /// Where the store cannot be filled.
    pub fn new(ns: &Ns, ca: &Path) -> Result<Chromium> {
        let home = ns.fresh("browser", "d");
        let browser = Chromium { ns: ns.clone(), home };
        std::fs::create_dir_all(browser.store())?;
        let database = browser.database();
        run(Command::new("certutil").args(["-N", "-d", &database, "--empty-password"]))?;
        run(Command::new("certutil")
            .args(["-A", "-d", &database, "-n", "servers", "-t", "C,,", "-i"])
            .arg(ca))?;
        Ok(browser)
    }

    /// Imports a client certificate with its key, as a user does with a `.p12` file.
    ///
    /// # Errors
    /// Where the store refuses it.
    pub fn import(&self, identity: &Identity) -> Result<()> {
        let bundle = self.ns.fresh("client", "p12");
        run(Command::new("openssl")
            .args([
                "pkcs12",
                "-export",
                "-passout",
                "pass:import",
                "-name",
                "client",
                "-in",
            ])
            .arg(&identity.cert)
            .arg("-inkey")
            .arg(&identity.key)
            .arg("-out")
            .arg(&bundle))?;
        run(Command::new("pk12util")
            .args(["-d", &self.database(), "-W", "import", "-i"])
            .arg(&bundle))
    }

    /// Opens `https://HOST:PORT/PATH` at `to`; whatever certificate the server's authorities fit is shown.
    ///
    /// # Errors
    /// Where the browser does not end by itself.
    pub fn open(&self, host: &str, to: SocketAddr, path: &str) -> Result<Page> {
        let policy = self.home.join("policy.json");
        std::fs::write(
            &policy,
            r#"{"AutoSelectCertificateForUrls": ["{\"pattern\":\"https://*\",\"filter\":{}}"]}"#,
        )?;
        let mut command = Command::new("timeout");
        command.args(["60", "unshare", "--mount", "sh", "-c", WITH_POLICY, "sh"]);
        command
            .arg(&policy)
            .args(["chromium", "--headless", "--no-sandbox"]);
        command.args([
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-sync",
        ]);
        command.args(["--disable-background-networking", "--disable-component-update"]);
        command.args([
            "--disable-dev-shm-usage",
            "--virtual-time-budget=5000",
            "--dump-dom",
        ]);
        command.arg(format!("--host-resolver-rules=MAP * {}", to.ip()));
        command.arg(format!(
            "--user-data-dir={}",
            self.ns.fresh("profile", "d").display()
        ));
        command.arg(format!("https://{host}:{}/{path}", to.port()));
        command.env("HOME", &self.home).env_remove("XDG_DATA_HOME");
        command.env("XDG_RUNTIME_DIR", &self.home);
        let output = self.ns.output(&mut command)?;
        let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.success(),
            "chromium ended with {}: {complaints}",
            output.status
        );
        Ok(Page {
            html: String::from_utf8_lossy(&output.stdout).into_owned(),
            complaints,
        })
    }

    fn store(&self) -> PathBuf {
        self.home.join(".pki/nssdb")
    }

    fn database(&self) -> String {
        format!("sql:{}", self.store().display())
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
