//! The proxies that are compared: start, pinning, CPU and memory. Each has one worker on a CPU of its own; the load and
//! the origin share another.
//!
//! What they are told to serve is the benchmark's.

use super::{LOAD_CPU, PROXY_CPU, process_ns};
use crate::gateway::binary;
use crate::lab::{Lab, Ns};
use crate::process::{Proc, Spawn};
use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The origin's port.
pub const ORIGIN: u16 = 9000;
/// Longest start of a program.
const START: Duration = Duration::from_secs(15);
/// Longest end of one: connections are over by then.
const END: Duration = Duration::from_secs(20);
/// Names another build of this program, which is then measured beside the others.
const BESIDE: &str = "SALLYPORT_BESIDE";
/// The driver of that, in the words of `proxy.io`; `uring` where it is not set.
const BESIDE_IO: &str = "SALLYPORT_BESIDE_IO";

/// A proxy under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// nginx, the peer of the bars.
    Nginx,
    /// HAProxy.
    Haproxy,
    /// This program on io_uring.
    Uring,
    /// This program on epoll.
    Epoll,
    /// Another build of this program on io_uring.
    Beside,
}

impl Subject {
    /// In the order of measuring.
    pub const ALL: [Subject; 5] = [
        Subject::Nginx,
        Subject::Haproxy,
        Subject::Uring,
        Subject::Epoll,
        Subject::Beside,
    ];

    /// Those that are there.
    pub(super) fn present() -> impl DoubleEndedIterator<Item = Subject> {
        let beside = std::env::var_os(BESIDE).is_some();
        Subject::ALL
            .into_iter()
            .filter(move |subject| beside || *subject != Subject::Beside)
    }

    /// As the table has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Subject::Nginx => "nginx",
            Subject::Haproxy => "haproxy",
            Subject::Uring => "sallyport uring",
            Subject::Epoll => "sallyport epoll",
            Subject::Beside => "other build uring",
        }
    }

    /// Whether it is to reach the bars.
    #[must_use]
    pub fn is_ours(self) -> bool {
        matches!(self, Subject::Uring | Subject::Epoll)
    }

    /// Ports of its own.
    fn ports(self) -> [u16; 2] {
        match self {
            Subject::Nginx => [8011, 8012],
            Subject::Haproxy => [8021, 8022],
            Subject::Uring => [8031, 8032],
            Subject::Epoll => [8041, 8042],
            Subject::Beside => [8051, 8052],
        }
    }
}

/// What the proxies serve, in the words of each. All listen on both ports of 127.0.0.1 and ask the origin.
pub trait Served {
    /// The inside of `http { }`.
    fn nginx(&self, ports: [u16; 2]) -> String;
    /// Front ends and back ends.
    fn haproxy(&self, ports: [u16; 2]) -> String;
    /// Entry points, routers and services.
    fn sallyport(&self, ports: [u16; 2]) -> String;
}

/// The namespace and the origin in it.
pub struct Setting {
    /// Where all run.
    pub ns: Ns,
    _origin: Proc,
}

/// A running proxy.
pub struct Proxy {
    /// Which.
    pub subject: Subject,
    /// Where it listens.
    pub ports: [u16; 2],
    proc: Proc,
}

impl Setting {
    /// Starts an nginx as the origin, which answers as `origin`, the inside of its `server { }`, says.
    ///
    /// # Errors
    /// Where it does not come up.
    pub fn new(lab: &Lab, origin: &str) -> Result<Setting> {
        let ns = lab.namespace("bench")?;
        let http = format!("server {{ listen 127.0.0.1:{ORIGIN}; {origin} }}");
        let mut origin = start_nginx(&ns, "origin", &http, LOAD_CPU)?;
        origin.wait_listening(ORIGIN, START)?;
        Ok(Setting { ns, _origin: origin })
    }

    /// Starts a proxy with one worker on its CPU.
    ///
    /// # Errors
    /// Where it does not come up.
    pub fn start(&self, subject: Subject, served: &dyn Served) -> Result<Proxy> {
        let ports = subject.ports();
        let mut proc = match subject {
            Subject::Nginx => start_nginx(&self.ns, "proxy", &served.nginx(ports), PROXY_CPU)?,
            Subject::Haproxy => self.start_haproxy(&served.haproxy(ports))?,
            Subject::Uring => self.start_ours("uring", "uring", &binary()?, &served.sallyport(ports))?,
            Subject::Epoll => self.start_ours("epoll", "epoll", &binary()?, &served.sallyport(ports))?,
            Subject::Beside => {
                let other: PathBuf = std::env::var_os(BESIDE)
                    .with_context(|| format!("`{BESIDE}` names no program"))?
                    .into();
                let driver = std::env::var(BESIDE_IO).unwrap_or_else(|_| "uring".to_owned());
                self.start_ours("beside", &driver, &other, &served.sallyport(ports))?
            }
        };
        for port in ports {
            proc.wait_listening(port, START)?;
        }
        Ok(Proxy { subject, ports, proc })
    }

    fn start_haproxy(&self, served: &str) -> Result<Proc> {
        let file = self.ns.fresh("haproxy", "cfg");
        let text = format!(
            "global\n  log stderr format raw local0 notice\n  nbthread 1\n  maxconn 6000\n\
             defaults\n  mode http\n  timeout connect 5s\n  timeout client 600s\n  timeout server 600s\n\
             \x20 option http-keep-alive\n  option forwardfor\n  http-reuse always\n{served}"
        );
        std::fs::write(&file, text)?;
        let spawn = pinned(PROXY_CPU, "haproxy", Path::new("haproxy"));
        self.ns.spawn(spawn.arg("-db").arg("-f").arg(&file))
    }

    fn start_ours(&self, name: &str, driver: &str, program: &Path, served: &str) -> Result<Proc> {
        let state = self.ns.fresh(name, "d");
        std::fs::create_dir(&state)?;
        let file = self.ns.fresh(name, "toml");
        let at = state.display();
        let text = format!(
            "[proxy]\nworkers = 1\nio = \"{driver}\"\nstate_dir = \"{at}/state\"\n[log]\nlevel = \"warn\"\n\
             [admin]\nsocket = \"{at}/admin.sock\"\n{served}"
        );
        std::fs::write(&file, text)?;
        let spawn = pinned(PROXY_CPU, name, program);
        self.ns.spawn(spawn.arg("run").arg("--config").arg(&file))
    }
}

impl Proxy {
    /// Ends it as an operator does, so that it can finish what it does at its end.
    ///
    /// # Errors
    /// Where it does not end.
    pub fn end(mut self) -> Result<()> {
        self.proc.signal(Signal::SIGTERM)?;
        self.proc.wait(END)?;
        Ok(())
    }

    /// CPU time of all its threads so far, in nanoseconds: the first field of `schedstat`.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn cpu_ns(&self) -> Result<u64> {
        process_ns(self.proc.pid())
    }

    /// Resident memory in KiB.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn resident_kib(&self) -> Result<u64> {
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
fn start_nginx(ns: &Ns, name: &str, http: &str, cpu: usize) -> Result<Proc> {
    let at = ns.dir().display();
    let text = format!(
        "daemon off; master_process off; worker_processes 1; pid {at}/{name}.pid; error_log stderr warn;\n\
         events {{ worker_connections 12000; }}\nhttp {{\naccess_log off; keepalive_requests 1000000000;\n\
         keepalive_timeout 600;\nclient_body_temp_path {at}/{name}-body; proxy_temp_path {at}/{name}-proxy;\n\
         fastcgi_temp_path {at}/{name}-fastcgi; uwsgi_temp_path {at}/{name}-uwsgi; scgi_temp_path {at}/{name}-scgi;\n\
         {http}\n}}\n"
    );
    let file = ns.fresh(name, "conf");
    std::fs::write(&file, text)?;
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
