//! nginx as a backend: says what it saw of a request, keeps uploads, serves them back.

use crate::certs::Identity;
use crate::lab::Ns;
use crate::process::{Proc, Spawn};
use anyhow::Result;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What nginx speaks.
#[derive(Clone, Debug)]
pub enum Serves {
    /// HTTP/1.1.
    Plain,
    /// HTTP/2 in the clear, by prior knowledge only.
    H2c,
    /// HTTP/2 or HTTP/1.1 over TLS, by ALPN.
    Tls(NginxTls),
    /// The same, but 400 for whoever shows no certificate of `clients`.
    MutualTls(NginxTls),
    /// HTTP/1.1 behind a PROXY header, which must come first.
    Proxied,
    /// TLS behind a PROXY header.
    ProxiedTls(NginxTls),
}

/// How nginx serves TLS.
#[derive(Clone, Debug)]
pub struct NginxTls {
    /// Its certificate.
    pub identity: Identity,
    /// CA of client certificates that it asks for (and reports, never requires); absent: asks for none.
    pub clients: Option<PathBuf>,
}

/// A running nginx. `/` answers `name=…` lines about the request; `/files/` keeps PUT bodies and serves them.
#[derive(Debug)]
pub struct Nginx {
    proc: Proc,
    files: PathBuf,
}

impl Nginx {
    /// Starts it on all addresses of `ns` at `port`; `name` comes back in the `name` line.
    ///
    /// # Errors
    /// Where it does not come up.
    pub fn start(ns: &Ns, name: &str, port: u16, serves: &Serves) -> Result<Nginx> {
        Nginx::start_with(ns, name, port, serves, "access_log off;")
    }

    /// The same with these directives for all of HTTP, about its access log at least.
    ///
    /// # Errors
    /// Where it does not come up.
    pub fn start_with(ns: &Ns, name: &str, port: u16, serves: &Serves, more: &str) -> Result<Nginx> {
        let root = ns.fresh(&format!("nginx-{name}"), "d");
        let files = root.join("files");
        std::fs::create_dir_all(&files)?;
        let conf = root.join("nginx.conf");
        std::fs::write(&conf, configuration(&root, name, port, serves, more))?;
        let spawn = Spawn::new(&format!("nginx-{name}"), "nginx")
            .arg("-e")
            .arg("stderr")
            .arg("-p")
            .arg(&root)
            .arg("-c")
            .arg(&conf);
        let mut proc = ns.spawn(spawn)?;
        proc.wait_listening(port, Duration::from_secs(10))?;
        Ok(Nginx { proc, files })
    }

    /// The directory behind `/files/`.
    #[must_use]
    pub fn files(&self) -> &Path {
        &self.files
    }

    /// The process.
    #[must_use]
    pub fn proc(&self) -> &Proc {
        &self.proc
    }
}

fn configuration(root: &Path, name: &str, port: u16, serves: &Serves, more: &str) -> String {
    let mut out = String::from("daemon off;\nuser root;\nworker_processes 1;\nerror_log stderr notice;\n");
    let at = root.display();
    let _ = write!(
        out,
        "pid {at}/pid;\nevents {{ worker_connections 8192; }}\nhttp {{\n{more}\n"
    );
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        let _ = writeln!(out, "{kind}_temp_path {at}/{kind};");
    }
    let flags = match serves {
        Serves::Plain => "",
        Serves::H2c => " http2",
        Serves::Tls(_) | Serves::MutualTls(_) => " ssl http2",
        Serves::Proxied => " proxy_protocol",
        Serves::ProxiedTls(_) => " ssl http2 proxy_protocol",
    };
    out.push_str("client_max_body_size 0;\nkeepalive_requests 1000000;\nkeepalive_timeout 75s;\n");
    let _ = write!(
        out,
        "server {{\nlisten {port}{flags};\nlisten [::]:{port}{flags} ipv6only=on;\n"
    );
    if let Serves::Tls(tls) | Serves::MutualTls(tls) | Serves::ProxiedTls(tls) = serves {
        let (cert, key) = (tls.identity.cert.display(), tls.identity.key.display());
        let _ = writeln!(
            out,
            "ssl_protocols TLSv1.2 TLSv1.3;\nssl_certificate {cert};\nssl_certificate_key {key};"
        );
        if let Some(clients) = &tls.clients {
            let demand = if matches!(serves, Serves::MutualTls(_)) {
                "on"
            } else {
                "optional"
            };
            let _ = writeln!(
                out,
                "ssl_verify_client {demand};\nssl_client_certificate {};",
                clients.display()
            );
        }
    }
    let _ = writeln!(
        out,
        "default_type text/plain;\nlocation / {{ return 200 \"{}\"; }}",
        echo(name)
    );
    let _ = writeln!(
        out,
        "location /files/ {{ alias {at}/files/; dav_methods PUT; create_full_put_path on; client_body_timeout 60s; }}\n}}\n}}"
    );
    out
}

/// The body of `/`: one `key=value` a line.
fn echo(name: &str) -> String {
    let fields = [
        ("proto", "$server_protocol"),
        ("method", "$request_method"),
        ("uri", "$request_uri"),
        ("host", "$host"),
        ("remote", "$remote_addr"),
        ("xff", "$http_x_forwarded_for"),
        ("xfproto", "$http_x_forwarded_proto"),
        ("xfhost", "$http_x_forwarded_host"),
        ("xfport", "$http_x_forwarded_port"),
        ("hub", "$http_hub_uplink"),
        ("verify", "$ssl_client_verify"),
        ("dn", "$ssl_client_s_dn"),
        ("pp", "$proxy_protocol_addr $proxy_protocol_port"),
        (
            "ppserver",
            "$proxy_protocol_server_addr $proxy_protocol_server_port",
        ),
    ];
    let mut out = format!("name={name}\\n");
    for (key, value) in fields {
        let _ = write!(out, "{key}={value}\\n");
    }
    out
}
