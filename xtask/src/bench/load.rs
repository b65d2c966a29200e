//! The load: h2load pinned to CPU 0, and proof that every request was answered.
//!
//! It must not read any clock: what is measured is the proxy's CPU, not the time of the load.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::bench::lab::Proxy;
use crate::tasks;

/// What the clients do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scenario {
    /// S1: HTTP/1.1 keep-alive, 32 connections.
    Plain,
    /// S2: the same over TLS 1.3.
    Tls,
    /// S8: HTTP/2 over TLS, 8 connections of 10 streams.
    Http2,
}

impl Scenario {
    pub(super) const ALL: [Self; 3] = [Self::Plain, Self::Tls, Self::Http2];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "S1 HTTP/1.1",
            Self::Tls => "S2 HTTP/1.1 over TLS",
            Self::Http2 => "S8 HTTP/2 over TLS",
        }
    }

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Plain => &["--h1", "-c", "32"],
            Self::Tls => &["--h1", "-c", "32", "--tls13-ciphers=TLS_AES_128_GCM_SHA256"],
            Self::Http2 => &["-c", "8", "-m", "10"],
        }
    }

    fn url(self, proxy: &Proxy) -> String {
        match self {
            Self::Plain => format!("http://127.0.0.1:{}/", proxy.plain_port),
            Self::Tls | Self::Http2 => format!("https://127.0.0.1:{}/", proxy.tls_port),
        }
    }
}

/// Sends the requests and waits for every answer.
///
/// # Errors
/// Any answer that is not 2xx, or that did not come.
pub(super) fn run(proxy: &Proxy, scenario: Scenario, requests: u32) -> Result<()> {
    let count = requests.to_string();
    let mut load = Command::new("taskset");
    load.args(["-c", "0", "h2load", "-n", &count])
        .args(scenario.arguments())
        .arg(scenario.url(proxy));
    let said = tasks::capture(&mut load)?;
    let answered = answered_2xx(&said).context("h2load printed no `status codes`")?;
    if answered != requests {
        bail!(
            "{}: {answered} of {requests} requests were answered with 2xx\n{said}",
            scenario.name()
        );
    }
    Ok(())
}

/// The number in `status codes: 100 2xx, 0 3xx, …`.
fn answered_2xx(said: &str) -> Option<u32> {
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("status codes: "))?;
    line.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::answered_2xx;

    #[test]
    fn answers_are_read_from_what_h2load_prints() {
        let said = "requests: 2 total, 2 done\nstatus codes: 2 2xx, 0 3xx, 0 4xx, 0 5xx\n";
        assert_eq!(answered_2xx(said), Some(2));
        assert_eq!(answered_2xx("requests: 2 total\n"), None);
    }
}
