//! The load, and proof that every request was answered.
//!
//! It must not read any clock: what is measured is the proxy's CPU, not the time of the load.

use crate::Effort;
use crate::served::{Bench, HOSTS, host};
use anyhow::{Context, Result, anyhow, ensure};
use sallyport_tests::bench::LOAD_CPU;
use sallyport_tests::bench::report::Figure;
use sallyport_tests::bench::subjects::Proxy;
use sallyport_tests::fragments::local;
use sallyport_tests::h2load;
use sallyport_tests::raw_client::connect_here;
use std::io::{Read, Write};

/// Clients that connect at once.
const CLIENTS: u32 = 8;
/// Hosts that are asked for among all.
const ASKED: usize = 10;

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// Requests over kept connections.
    KeepAlive,
    /// The same over TLS.
    KeepAliveTls,
    /// HTTP/2 over TLS, ten streams a connection.
    Http2,
    /// A connection for each request.
    Churn,
    /// Bodies of 64 KiB.
    Body64,
    /// The same over TLS.
    Body64Tls,
    /// Bodies of 1 MiB.
    Body1024,
    /// The same over TLS.
    Body1024Tls,
    /// Requests over kept connections, routed among many hosts.
    Hosts,
}

impl Scenario {
    /// Those that one service without a choice answers.
    pub(crate) const ONE_SERVICE: [Scenario; 8] = [
        Scenario::KeepAlive,
        Scenario::KeepAliveTls,
        Scenario::Http2,
        Scenario::Churn,
        Scenario::Body64,
        Scenario::Body64Tls,
        Scenario::Body1024,
        Scenario::Body1024Tls,
    ];
    /// Those that need many routers.
    pub(crate) const MANY_HOSTS: [Scenario; 1] = [Scenario::Hosts];

    /// As the table has it. The bars of requests and of HTTP/2 are those that the data plane is to reach in the end.
    pub(crate) fn figure(self) -> Figure {
        let (name, bar) = match self {
            Scenario::KeepAlive => ("plain keep-alive", Some(1.2)),
            Scenario::KeepAliveTls => ("tls keep-alive", Some(1.2)),
            Scenario::Http2 => ("http/2, 10 streams", Some(1.5)),
            Scenario::Churn => ("connection churn", None),
            Scenario::Body64 => ("plain body of 64 KiB", None),
            Scenario::Body64Tls => ("tls body of 64 KiB", None),
            Scenario::Body1024 => ("plain body of 1 MiB", None),
            Scenario::Body1024Tls => ("tls body of 1 MiB", None),
            Scenario::Hosts => ("plain, 1,000 hosts", None),
        };
        Figure {
            name,
            unit: "us CPU",
            bar,
        }
    }

    /// How many of them one pass has.
    pub(crate) fn count(self, sizes: &Effort) -> u32 {
        match self {
            Scenario::KeepAlive | Scenario::KeepAliveTls | Scenario::Http2 | Scenario::Hosts => {
                sizes.requests
            }
            Scenario::Churn => sizes.connections,
            Scenario::Body64 | Scenario::Body64Tls => sizes.bodies,
            Scenario::Body1024 | Scenario::Body1024Tls => sizes.large,
        }
    }

    /// Does it `count` times.
    ///
    /// # Errors
    /// Where anything was not answered by 2xx.
    pub(crate) fn run(self, bench: &Bench, proxy: &Proxy, count: u32) -> Result<()> {
        let [plain, tls] = proxy.ports;
        let many = ["--h1", "-c", "32"];
        let few = ["--h1", "-c", "8"];
        let ask = |words: &[&str], url: String| {
            let ciphers = "--tls13-ciphers=TLS_AES_128_GCM_SHA256";
            let words: Vec<&str> = words.iter().copied().chain([ciphers]).collect();
            h2load::all_answered(&bench.setting.ns, LOAD_CPU, u64::from(count), &words, &url)
        };
        match self {
            Scenario::KeepAlive => ask(&many, format!("http://127.0.0.1:{plain}/")),
            Scenario::KeepAliveTls => ask(&many, format!("https://127.0.0.1:{tls}/")),
            Scenario::Http2 => ask(&["-c", "8", "-m", "10"], format!("https://127.0.0.1:{tls}/")),
            Scenario::Churn => churn(bench, plain, count),
            Scenario::Body64 => ask(&few, format!("http://127.0.0.1:{plain}/64k")),
            Scenario::Body64Tls => ask(&few, format!("https://127.0.0.1:{tls}/64k")),
            Scenario::Body1024 => ask(&few, format!("http://127.0.0.1:{plain}/1m")),
            Scenario::Body1024Tls => ask(&few, format!("https://127.0.0.1:{tls}/1m")),
            Scenario::Hosts => hosts(bench, plain, count),
        }
    }
}

/// So many connections with one request each.
fn churn(bench: &Bench, port: u16, count: u32) -> Result<()> {
    let share = count.div_ceil(CLIENTS);
    bench.setting.ns.enter(|| {
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..CLIENTS)
                .map(|_| scope.spawn(move || visit(port, share)))
                .collect();
            running
                .into_iter()
                .try_for_each(|one| one.join().map_err(|_| anyhow!("a client panicked"))?)
        })
    })
}

fn visit(port: u16, count: u32) -> Result<()> {
    let mut answer = Vec::new();
    for _ in 0..count {
        let mut stream = connect_here(None, local(port))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: bench.example\r\nConnection: close\r\n\r\n")?;
        answer.clear();
        stream.read_to_end(&mut answer)?;
        ensure!(
            answer.starts_with(b"HTTP/1.1 200"),
            "not answered by 200: {}",
            String::from_utf8_lossy(&answer)
        );
    }
    Ok(())
}

/// Some of the hosts, from one end of the table to the other.
fn hosts(bench: &Bench, port: u16, count: u32) -> Result<()> {
    let share = u64::from(count).div_ceil(ASKED as u64);
    for number in (0..ASKED).map(|each| each * (HOSTS - 1) / (ASKED - 1)) {
        // It makes the `Host` of HTTP/1.1 of this one.
        let field = format!(":authority: {}", host(number));
        let words = ["--h1", "-c", "32", "-H", &field];
        h2load::all_answered(
            &bench.setting.ns,
            LOAD_CPU,
            share,
            &words,
            &format!("http://127.0.0.1:{port}/"),
        )
        .with_context(|| field.clone())?;
    }
    Ok(())
}
