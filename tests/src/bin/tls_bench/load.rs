//! The load, and proof that each handshake was of the wanted kind and each request was answered.
//!
//! It must not read any clock: what is measured is the proxy's CPU, not the time of the load.

use crate::served::{Bench, HOST};
use anyhow::{Context, Result, anyhow, ensure};
use sallyport_tests::bench::LOAD_CPU;
use sallyport_tests::bench::report::Figure;
use sallyport_tests::bench::subjects::Proxy;
use sallyport_tests::fragments::local;
use sallyport_tests::h2load;
use sallyport_tests::openssl::Version;
use sallyport_tests::raw_client::connect_here;
use sallyport_tests::tls_client::{Offer, Session, TlsClient};
use sallyport_tests::wait;
use std::time::Duration;

/// Clients at once.
const CLIENTS: u32 = 8;

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// A full handshake and one request.
    Full,
    /// A resumed handshake and one request.
    Resumed,
    /// A full handshake with a client certificate and one request.
    Mutual,
    /// A request over a kept connection.
    KeepAlive,
    /// Memory of a connection that has had its answer and is silent.
    Idle,
}

impl Scenario {
    /// Those whose CPU is measured.
    pub(crate) const ALL: [Scenario; 4] = [
        Scenario::Full,
        Scenario::Resumed,
        Scenario::Mutual,
        Scenario::KeepAlive,
    ];

    /// As the table has it.
    pub(crate) fn figure(self) -> Figure {
        let (name, unit, bar) = match self {
            Scenario::Full => ("full handshake", "us CPU", Some(1.9)),
            Scenario::Resumed => ("resumed handshake", "us CPU", None),
            Scenario::Mutual => ("mutual handshake", "us CPU", Some(1.7)),
            Scenario::KeepAlive => ("keep-alive request", "us CPU", Some(1.2)),
            Scenario::Idle => ("idle connection", "KiB", None),
        };
        Figure { name, unit, bar }
    }
}

/// The clients of one scenario and one proxy; they keep their sessions from run to run.
pub(crate) struct Clients {
    scenario: Scenario,
    clients: Vec<TlsClient>,
}

impl Clients {
    /// New ones, without a session.
    ///
    /// # Errors
    /// Where a certificate cannot be used.
    pub(crate) fn new(bench: &Bench, scenario: Scenario) -> Result<Clients> {
        let identity = (scenario == Scenario::Mutual).then_some(&bench.papers.client);
        let one = TlsClient::new(
            bench.papers.ca.ca_file(),
            identity,
            Some(Version::Tls13),
            Offer::Common,
        )?;
        let each = |_| match scenario {
            Scenario::Resumed => one.that_resumes(),
            _ => one.clone(),
        };
        Ok(Clients {
            scenario,
            clients: (0..CLIENTS).map(each).collect(),
        })
    }

    /// Does it `count` times.
    ///
    /// # Errors
    /// Where anything was not answered by 200, or a handshake was of another kind.
    pub(crate) fn run(&self, bench: &Bench, proxy: &Proxy, count: u32) -> Result<()> {
        if self.scenario == Scenario::KeepAlive {
            return keep_alive(bench, proxy, count);
        }
        let port = self.port(proxy);
        let share = count.div_ceil(CLIENTS);
        let resumed = bench.setting.ns.enter(|| {
            std::thread::scope(|scope| {
                let running: Vec<_> = self
                    .clients
                    .iter()
                    .map(|client| scope.spawn(move || visit(client, port, share)))
                    .collect();
                let each = running.into_iter().map(|one| one.join());
                let each = each.map(|one| one.map_err(|_| anyhow!("a client panicked"))?);
                each.sum::<Result<u32>>()
            })
        })?;
        // The first visit of a client has nothing to resume.
        let wanted = match self.scenario {
            Scenario::Resumed => (share - 1) * CLIENTS..=share * CLIENTS,
            _ => 0..=0,
        };
        ensure!(
            wanted.contains(&resumed),
            "{} of {}: {resumed} handshakes were resumed, expected {wanted:?}",
            self.scenario.figure().name,
            proxy.subject.name()
        );
        Ok(())
    }

    /// KiB that each of `count` connections takes which have had an answer and are silent.
    ///
    /// # Errors
    /// Where one of them is not answered.
    pub(crate) fn kib_each(&self, bench: &Bench, proxy: &Proxy, count: u32) -> Result<f64> {
        let client = self.clients.first().context("there are clients")?;
        let port = self.port(proxy);
        bench.setting.ns.enter(|| visit(client, port, 20))?;
        let before = settled(proxy)?;
        let held = bench.setting.ns.enter(|| {
            let hold = |_| -> Result<Session> {
                let mut session = client.shake(connect_here(None, local(port))?, HOST)?;
                ensure!(session.get(HOST)?.status == 200, "not answered by 200");
                Ok(session)
            };
            (0..count).map(hold).collect::<Result<Vec<_>>>()
        })?;
        let grown = settled(proxy)?.saturating_sub(before);
        drop(held);
        Ok(grown as f64 / f64::from(count))
    }

    fn port(&self, proxy: &Proxy) -> u16 {
        let [open, mutual] = proxy.ports;
        match self.scenario {
            Scenario::Mutual => mutual,
            _ => open,
        }
    }
}

/// So many handshakes with one request each; how many of them were resumed.
fn visit(client: &TlsClient, port: u16, count: u32) -> Result<u32> {
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    let mut resumed = 0;
    for _ in 0..count {
        let mut session = client.shake(connect_here(None, local(port))?, HOST)?;
        let reply = session.ask(&request)?;
        ensure!(reply.status == 200, "answered by {}", reply.status);
        resumed += u32::from(session.is_resumed());
        session.drain();
    }
    Ok(resumed)
}

/// Resident memory once it stays.
fn settled(proxy: &Proxy) -> Result<u64> {
    let (limit, quiet) = (Duration::from_secs(10), Duration::from_millis(300));
    wait::until_steady(limit, quiet, "the memory", || proxy.resident_kib().unwrap_or(0))
}

/// By h2load, whose own work a request is small beside any proxy's.
fn keep_alive(bench: &Bench, proxy: &Proxy, count: u32) -> Result<()> {
    let [open, _] = proxy.ports;
    let words = ["--h1", "-c", "32", "--tls13-ciphers=TLS_AES_128_GCM_SHA256"];
    let url = format!("https://127.0.0.1:{open}/");
    h2load::all_answered(&bench.setting.ns, LOAD_CPU, u64::from(count), &words, &url)
}
