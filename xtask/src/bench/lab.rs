//! The origin and the proxies under test: configuration, start, pinning, CPU accounting, end.
//!
//! Everything listens on loopback ports that the kernel chose, and every process ends with the lab.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::tasks;

/// A proxy under test.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Subject {
    Nginx,
    Uring,
    Epoll,
}

impl Subject {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Uring => "sallyport uring",
            Self::Epoll => "sallyport epoll",
        }
    }
}

/// A running proxy; it ends when this is dropped.
pub(super) struct Proxy {
    subject: Subject,
    pub(super) plain_port: u16,
    pub(super) tls_port: u16,
    process: Process,
}

/// The origin and every proxy.
pub(super) struct Lab {
    proxies: Vec<Proxy>,
    _origin: Process,
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it ended by itself, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Lab {
    /// Starts the origin on CPU 0 and each proxy, with one worker, on CPU 1.
    pub(super) fn start(folder: &Path, sallyport: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
        certificate(folder)?;
        let [origin_port] = free_ports()?;
        let config = origin_config(folder, origin_port);
        let origin = start_nginx(folder, "origin", &config, "0")?;
        listening(origin_port, "origin", folder)?;
        let mut proxies = Vec::new();
        for subject in super::SUBJECTS {
            let [plain_port, tls_port] = free_ports()?;
            let ports = Ports {
                origin: origin_port,
                plain: plain_port,
                tls: tls_port,
            };
            let process = match subject {
                Subject::Nginx => start_nginx(folder, "proxy", &nginx_config(folder, &ports), "1")?,
                Subject::Uring => start_sallyport(folder, "uring", sallyport, &ports)?,
                Subject::Epoll => start_sallyport(folder, "epoll", sallyport, &ports)?,
            };
            listening(plain_port, subject.name(), folder)?;
            listening(tls_port, subject.name(), folder)?;
            proxies.push(Proxy {
                subject,
                plain_port,
                tls_port,
                process,
            });
        }
        Ok(Self {
            proxies,
            _origin: origin,
        })
    }

    pub(super) fn proxy(&self, subject: Subject) -> Result<&Proxy> {
        let found = self.proxies.iter().find(|proxy| proxy.subject == subject);
        found.with_context(|| format!("{} is not running", subject.name()))
    }
}

impl Proxy {
    /// CPU time of all its threads so far, in nanoseconds: the first field of `schedstat`.
    pub(super) fn cpu_ns(&self) -> Result<u64> {
        let threads = PathBuf::from(format!("/proc/{}/task", self.process.0.id()));
        let mut sum = 0;
        for thread in fs::read_dir(&threads).with_context(|| format!("{} has ended", self.subject.name()))? {
            let text = fs::read_to_string(thread?.path().join("schedstat"))?;
            let field = text.split(' ').next().context("`schedstat` is empty")?;
            sum += field
                .parse::<u64>()
                .context("`schedstat` does not start with a number")?;
        }
        Ok(sum)
    }
}

struct Ports {
    origin: u16,
    plain: u16,
    tls: u16,
}

/// Ports that are free now; all are held until each is known, so that they differ.
fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut ports = [0; N];
    let mut held = Vec::new();
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0").context("no free port on loopback")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

fn certificate(folder: &Path) -> Result<()> {
    let mut openssl = Command::new("openssl");
    openssl
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "30",
        ])
        .args([
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
        ])
        .arg("-keyout")
        .arg(folder.join("key.pem"))
        .arg("-out")
        .arg(folder.join("cert.pem"));
    tasks::capture(&mut openssl).map(drop)
}

/// What both nginx processes share. One process without a master is the worker, and easy to end.
fn nginx_frame(folder: &Path, name: &str, http: &str) -> String {
    let folder = folder.display();
    format!(
        "daemon off; master_process off; worker_processes 1; pid {folder}/{name}.pid; error_log {folder}/{name}.log warn;\n\
         events {{ worker_connections 12000; }}\n\
         http {{\n access_log off; keepalive_requests 1000000000; keepalive_timeout 600;\n\
         client_body_temp_path {folder}/{name}-body; proxy_temp_path {folder}/{name}-proxy;\n\
         fastcgi_temp_path {folder}/{name}-fastcgi; uwsgi_temp_path {folder}/{name}-uwsgi;\n\
         scgi_temp_path {folder}/{name}-scgi;\n{http}\n}}\n"
    )
}

fn origin_config(folder: &Path, port: u16) -> String {
    let server =
        format!("server {{ listen 127.0.0.1:{port}; location / {{ return 200 'hello, world\\n'; }} }}");
    nginx_frame(folder, "origin", &server)
}

fn nginx_config(folder: &Path, ports: &Ports) -> String {
    let shown = folder.display();
    let (origin, plain, tls) = (ports.origin, ports.plain, ports.tls);
    let http = format!(
        "upstream origin {{ server 127.0.0.1:{origin}; keepalive 256; keepalive_requests 1000000000; }}\n\
         server {{\n listen 127.0.0.1:{plain}; listen 127.0.0.1:{tls} ssl http2;\n\
         ssl_certificate {shown}/cert.pem; ssl_certificate_key {shown}/key.pem;\n\
         ssl_protocols TLSv1.2 TLSv1.3; ssl_session_tickets on;\n\
         location / {{ proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection '';\n\
         proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }}\n}}"
    );
    nginx_frame(folder, "proxy", &http)
}

fn start_nginx(folder: &Path, name: &str, config: &str, cpu: &str) -> Result<Process> {
    let file = folder.join(format!("{name}.conf"));
    fs::write(&file, config).with_context(|| format!("cannot write `{}`", file.display()))?;
    let mut nginx = pinned(cpu, "nginx");
    nginx.arg("-p").arg(folder).arg("-c").arg(&file);
    start(nginx, folder, name)
}

fn start_sallyport(folder: &Path, driver: &str, binary: &Path, ports: &Ports) -> Result<Process> {
    let shown = folder.display();
    let (origin, plain, tls) = (ports.origin, ports.plain, ports.tls);
    let config = format!(
        "[proxy]\nworkers = 1\nio = \"{driver}\"\nstate_dir = \"{shown}/{driver}-state\"\n\
         [log]\nlevel = \"warn\"\n\
         [admin]\nsocket = \"{shown}/{driver}.sock\"\n\
         [entry_points.plain]\naddress = \"127.0.0.1:{plain}\"\n\
         [entry_points.secure]\naddress = \"127.0.0.1:{tls}\"\ntls = {{}}\n\
         [tls]\ndefault_certificate = {{ cert_file = \"{shown}/cert.pem\", key_file = \"{shown}/key.pem\" }}\n\
         [routers.all]\nrule = \"PathPrefix(`/`)\"\nentry_points = [\"plain\", \"secure\"]\nservice = \"origin\"\n\
         [services.origin]\nservers = [{{ url = \"http://127.0.0.1:{origin}\" }}]\n"
    );
    fs::create_dir_all(folder.join(format!("{driver}-state")))?;
    let file = folder.join(format!("{driver}.toml"));
    fs::write(&file, config).with_context(|| format!("cannot write `{}`", file.display()))?;
    let mut sallyport = pinned("1", &binary.to_string_lossy());
    sallyport.args(["run", "--config"]).arg(&file);
    start(sallyport, folder, driver)
}

/// taskset replaces itself by the program, so the child's id is the program's.
fn pinned(cpu: &str, program: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", cpu, program]);
    command
}

fn start(mut command: Command, folder: &Path, name: &str) -> Result<Process> {
    let file = folder.join(format!("{name}.out"));
    let log = File::create(&file).with_context(|| format!("cannot write `{}`", file.display()))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let child = command
        .spawn()
        .with_context(|| format!("`{}` does not start", tasks::shown(&command)))?;
    Ok(Process(child))
}

/// Waits until somebody accepts on the port.
fn listening(port: u16, who: &str, folder: &Path) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(15);
    while Instant::now() < deadline {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
    bail!(
        "{who} does not listen on port {port} after 15 s; what it said is in `{}`",
        folder.display()
    )
}
