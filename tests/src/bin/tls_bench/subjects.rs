//! The origin and the proxies under test: configuration, start, pinning, CPU and memory.

use crate::{LOAD_CPU, PROXY_CPU};
use anyhow::Result;
use sallyport_tests::bench::process_ns;
use sallyport_tests::certs::{Authority, Identity, Role, Validity};
use sallyport_tests::gateway::binary;
use sallyport_tests::lab::{Lab, Ns};
use sallyport_tests::process::{Proc, Spawn};
use std::path::Path;
use std::time::Duration;

/// The origin's port.
const ORIGIN: u16 = 9000;
/// Longest start of a program.
const START: Duration = Duration::from_secs(15);
/// The name that every proxy has a certificate for.
pub(crate) const HOST: &str = "bench.example";

/// A proxy under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// nginx, the peer of the bars.
    Nginx,
    /// HAProxy.
    Haproxy,
    /// This program on io_uring.
    Uring,
    /// This program on epoll.
    Epoll,
}

impl Subject {
    /// In the order of measuring.
    pub(crate) const ALL: [Subject; 4] = [Subject::Nginx, Subject::Haproxy, Subject::Uring, Subject::Epoll];

    /// As the table has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Subject::Nginx => "nginx",
            Subject::Haproxy => "haproxy",
            Subject::Uring => "sallyport uring",
            Subject::Epoll => "sallyport epoll",
        }
    }

    /// Ports of its own: for everybody, and for those with a certificate.
    fn ports(self) -> (u16, u16) {
        match self {
            Subject::Nginx => (8011, 8012),
            Subject::Haproxy => (8021, 8022),
            Subject::Uring => (8031, 8032),
            Subject::Epoll => (8041, 8042),
        }
    }
}

/// The namespace, the origin in it, and everybody's certificates.
pub(crate) struct Bench {
    /// Where all run.
    pub(crate) ns: Ns,
    /// The CA of the proxies.
    pub(crate) ca: Authority,
    /// The clients' certificate.
    pub(crate) client: Identity,
    server: Identity,
    clients_ca: Authority,
    _origin: Proc,
}

/// A running proxy.
pub(crate) struct Proxy {
    /// Which.
    pub(crate) subject: Subject,
    /// Port for everybody.
    pub(crate) open: u16,
    /// Port that demands a certificate.
    pub(crate) mutual: u16,
    proc: Proc,
}

impl Bench {
    /// Makes the certificates and starts the origin.
    ///
    /// # Errors
    /// Where something does not come up.
    pub(crate) fn new(lab: &Lab) -> Result<Bench> {
        let ns = lab.namespace("bench")?;
        let ca = Authority::new(lab.dir(), "ca")?;
        let clients_ca = Authority::new(lab.dir(), "clients")?;
        let config = nginx(
            lab.dir(),
            "origin",
            &format!(
                "server {{ listen 127.0.0.1:{ORIGIN}; location / {{ return 200 'hello, world\\n'; }} }}"
            ),
        );
        let mut origin = start_nginx(&ns, "origin", &config, LOAD_CPU)?;
        origin.wait_listening(ORIGIN, START)?;
        Ok(Bench {
            server: ca.issue_with(Role::Server, Validity::AsPublic, &[HOST, "127.0.0.1"])?,
            client: clients_ca.issue(Role::Client, &["client.example"])?,
            ns,
            ca,
            clients_ca,
            _origin: origin,
        })
    }

    /// Starts a proxy with one worker on its CPU.
    ///
    /// # Errors
    /// Where it does not come up.
    pub(crate) fn start(&self, subject: Subject) -> Result<Proxy> {
        let (open, mutual) = subject.ports();
        let proc = match subject {
            Subject::Nginx => {
                let config = nginx(self.ns.dir(), "proxy", &self.nginx_servers(open, mutual));
                start_nginx(&self.ns, "proxy", &config, PROXY_CPU)?
            }
            Subject::Haproxy => self.start_with("haproxy", "cfg", &self.haproxy(open, mutual), |file| {
                pinned(PROXY_CPU, "haproxy", Path::new("haproxy"))
                    .arg("-db")
                    .arg("-f")
                    .arg(file)
            })?,
            Subject::Uring | Subject::Epoll => {
                let driver = if subject == Subject::Uring {
                    "uring"
                } else {
                    "epoll"
                };
                let (state, program) = (self.ns.fresh(driver, "d"), binary()?);
                std::fs::create_dir(&state)?;
                let config = self.sallyport(driver, &state, open, mutual);
                self.start_with(driver, "toml", &config, |file| {
                    pinned(PROXY_CPU, driver, &program)
                        .arg("run")
                        .arg("--config")
                        .arg(file)
                })?
            }
        };
        let mut proxy = Proxy {
            subject,
            open,
            mutual,
            proc,
        };
        for port in [open, mutual] {
            proxy.proc.wait_listening(port, START)?;
        }
        Ok(proxy)
    }

    fn start_with(
        &self,
        name: &str,
        ending: &str,
        text: &str,
        spawn: impl Fn(&Path) -> Spawn,
    ) -> Result<Proc> {
        let file = self.ns.fresh(name, ending);
        std::fs::write(&file, text)?;
        self.ns.spawn(spawn(&file))
    }

    fn nginx_servers(&self, open: u16, mutual: u16) -> String {
        let (cert, key) = (self.server.cert.display(), self.server.key.display());
        let server = |port: u16, keys: &str| {
            format!(
                "server {{\nlisten 127.0.0.1:{port} ssl http2;\nssl_certificate {cert}; ssl_certificate_key {key};\n\
                 ssl_protocols TLSv1.2 TLSv1.3; ssl_session_tickets on;\n{keys}\n\
                 location / {{ proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection '';\n\
                 proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }}\n}}\n"
            )
        };
        let demand = format!(
            "ssl_verify_client on; ssl_client_certificate {};",
            self.clients_ca.ca_file().display()
        );
        format!(
            "upstream origin {{ server 127.0.0.1:{ORIGIN}; keepalive 256; keepalive_requests 1000000000; }}\n{}{}",
            server(open, ""),
            server(mutual, &demand)
        )
    }

    fn haproxy(&self, open: u16, mutual: u16) -> String {
        let bind = |port: u16, words: &str| {
            format!(
                "  bind 127.0.0.1:{port} ssl crt {} alpn h2,http/1.1 ssl-min-ver TLSv1.2 {words}\n",
                self.server.both.display()
            )
        };
        format!(
            "global\n  log stderr format raw local0 notice\n  nbthread 1\n  maxconn 6000\n\
             defaults\n  mode http\n  timeout connect 5s\n  timeout client 600s\n  timeout server 600s\n\
             \x20 option http-keep-alive\n  option forwardfor\n  http-reuse always\n\
             frontend f\n{}{}  default_backend b\nbackend b\n  server origin 127.0.0.1:{ORIGIN} pool-max-conn 256\n",
            bind(open, ""),
            bind(
                mutual,
                &format!("ca-file {} verify required", self.clients_ca.ca_file().display())
            ),
        )
    }

    fn sallyport(&self, driver: &str, state: &Path, open: u16, mutual: u16) -> String {
        let (at, clients) = (state.display(), self.clients_ca.ca_file().display());
        format!(
            "[proxy]\nworkers = 1\nio = \"{driver}\"\nstate_dir = \"{at}/state\"\n[log]\nlevel = \"warn\"\n\
             [admin]\nsocket = \"{at}/admin.sock\"\n\
             [entry_points.open]\naddress = \"127.0.0.1:{open}\"\ntls = {{}}\n\
             [entry_points.mutual]\naddress = \"127.0.0.1:{mutual}\"\ntls = {{ options = \"mutual\" }}\n\
             [tls]\ndefault_certificate = {}\n\
             [tls.options.mutual]\nclient_auth = {{ ca_files = [\"{clients}\"] }}\n\
             [routers.all]\nrule = \"PathPrefix(`/`)\"\nservice = \"origin\"\n\
             [services.origin]\nservers = [{{ url = \"http://127.0.0.1:{ORIGIN}\" }}]\n",
            self.server.toml()
        )
    }
}

impl Proxy {
    /// CPU time of all its threads so far, in nanoseconds: the first field of `schedstat`.
    ///
    /// # Errors
    /// Where it has ended.
    pub(crate) fn cpu_ns(&self) -> Result<u64> {
        process_ns(self.proc.pid())
    }

    /// Resident memory in KiB.
    ///
    /// # Errors
    /// Where it has ended.
    pub(crate) fn resident_kib(&self) -> Result<u64> {
        self.proc.resident_kib()
    }
}

/// A program kept on one CPU; taskset replaces itself by it, so the process is the program's.
fn pinned(cpu: usize, name: &str, program: &Path) -> Spawn {
    Spawn::new(name, "taskset")
        .arg("-c")
        .arg(cpu.to_string())
        .arg(program)
}

/// One process without a master is the worker, and easy to account for.
fn nginx(folder: &Path, name: &str, http: &str) -> String {
    let at = folder.display();
    format!(
        "daemon off; master_process off; worker_processes 1; pid {at}/{name}.pid; error_log stderr warn;\n\
         events {{ worker_connections 12000; }}\nhttp {{\naccess_log off; keepalive_requests 1000000000;\n\
         keepalive_timeout 600;\nclient_body_temp_path {at}/{name}-body; proxy_temp_path {at}/{name}-proxy;\n\
         fastcgi_temp_path {at}/{name}-fastcgi; uwsgi_temp_path {at}/{name}-uwsgi; scgi_temp_path {at}/{name}-scgi;\n\
         {http}\n}}\n"
    )
}

fn start_nginx(ns: &Ns, name: &str, config: &str, cpu: usize) -> Result<Proc> {
    let file = ns.fresh(name, "conf");
    std::fs::write(&file, config)?;
    let spawn = pinned(cpu, name, Path::new("nginx"));
    ns.spawn(
        spawn
            .arg("-e")
            .arg("stderr")
            .arg("-p")
            .arg(ns.dir())
            .arg("-c")
            .arg(&file),
    )
}
