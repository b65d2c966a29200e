//! "The proxy protocol": a load balancer in front says who the client is, and an attacker who connects to the gateway
//! directly says so too.

use super::Story;
use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Role};
use sallyport_tests::curl::{Answer, Curl};
use sallyport_tests::gateway::{Gateway, find_all};
use sallyport_tests::haproxy::{Forward, Haproxy, Speaks};
use sallyport_tests::lab::Ns;
use sallyport_tests::lan::{Host, Lan};
use sallyport_tests::nginx::{Nginx, Serves};
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_client::{self, Exchange};
use sallyport_tests::raw_relay::Relay;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

on_both_drivers!(
    the_application_sees_the_client_behind_the_balancer,
    an_attacker_who_connects_directly_cannot_forge_an_address,
    an_attacker_behind_the_balancer_cannot_forge_an_address,
    a_balancer_that_sends_no_header_is_shut_out_and_the_log_says_why,
);

const EXAMPLE: &str = include_str!("../../../config/examples/proxy_protocol.toml");
const SOON: Duration = Duration::from_secs(5);
/// The balancer's address, the one that the example names beside 10.0.0.0/8.
const BALANCER: Ipv4Addr = Ipv4Addr::new(11, 22, 33, 44);
/// A client that the example lets into `/admin`.
const OFFICE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
/// A client, or an attacker, of the internet.
const STRANGER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
/// The gateway's address.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// An internet of one switch: every host reaches every other by its public address.
struct Internet {
    story: Story,
    ca: Authority,
    gateway: Gateway,
    balancer: Ns,
    client: Ns,
    _app: Nginx,
    _admin: Nginx,
}

impl Internet {
    fn new(case: &Case) -> Result<Internet> {
        let story = Story::new(case)?;
        let ca = Authority::new(&case.dir(), "public-ca")?;
        story.put_pair("app", &ca.issue(Role::Server, &["app.example.com"])?)?;
        let mut lan = Lan::new(&case.lab, 1)?;
        public(&lan.join(&case.ns, "eth0")?, "eth0", &[GATEWAY])?;
        let balancer = lan.host(&case.lab, "balancer")?;
        public(&balancer, "eth0", &[BALANCER])?;
        let client = lan.host(&case.lab, "client")?;
        public(&client, "eth0", &[STRANGER, OFFICE])?;
        Ok(Internet {
            _app: Nginx::start(&case.ns, "app", 8080, &Serves::Plain)?,
            _admin: Nginx::start(&case.ns, "admin", 8081, &Serves::Plain)?,
            gateway: case.gateway(&story.body(EXAMPLE))?,
            story,
            ca,
            balancer: balancer.ns,
            client: client.ns,
        })
    }

    /// haproxy at the balancer: ports 80 and 443 by v2, 8080 and 8443 by v1.
    fn balance(&self) -> Result<Haproxy> {
        let forward = |port, to, speaks| Forward {
            port,
            to: at(GATEWAY, to),
            speaks,
        };
        Haproxy::start(
            &self.balancer,
            &[
                forward(80, 80, Speaks::V2),
                forward(443, 443, Speaks::V2),
                forward(8080, 80, Speaks::V1),
                forward(8443, 443, Speaks::V1),
            ],
        )
    }

    fn get(&self, from: Ipv4Addr, via: SocketAddr, url: &str, words: &[&str]) -> Result<Answer> {
        let curl = Curl::new(&self.client)
            .from(IpAddr::V4(from))
            .via(via)
            .trust(self.ca.ca_file());
        curl.args(words).get(url)
    }

    /// Bytes from the client's machine straight to the gateway.
    fn send(&self, from: Ipv4Addr, to: SocketAddr, bytes: &[u8]) -> Result<Exchange> {
        raw_client::exchange(&self.client, Some(IpAddr::V4(from)), to, &[bytes], SOON)
    }

    fn counted(&self, code: &str) -> Result<u64> {
        let status = self.gateway.status()?;
        let found = find_all(&status, code);
        found
            .first()
            .and_then(|value| value.as_u64())
            .with_context(|| format!("no `{code}` in {status}"))
    }
}

/// Gives a host public addresses, the first of which it speaks by to everybody else.
fn public(host: &Host, interface: &str, addresses: &[Ipv4Addr]) -> Result<()> {
    let mut lines = format!("addr del {}/24 dev {interface}\n", host.v4);
    for address in addresses {
        lines += &format!("addr add {address}/32 dev {interface}\n");
    }
    if let Some(first) = addresses.first() {
        lines += &format!("route add 0.0.0.0/0 dev {interface} src {first}\n");
    }
    host.ns.ip(&lines)
}

fn at(address: Ipv4Addr, port: u16) -> SocketAddr {
    SocketAddr::from((address, port))
}

/// Headers that an attacker would like to be believed.
fn forged() -> Vec<Vec<u8>> {
    let signature = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    let mut v2 = signature.clone();
    v2.extend([
        0x21, 0x11, 0, 12, 198, 51, 100, 7, 192, 0, 2, 1, 0x9c, 0x40, 0, 80,
    ]);
    let mut local = signature;
    local.extend([0x20, 0, 0, 0]);
    vec![
        b"PROXY TCP4 198.51.100.7 192.0.2.1 40000 80\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        v2,
        local,
    ]
}

const ADMIN: &[u8] = b"GET /admin HTTP/1.1\r\nHost: app.example.com\r\nX-Forwarded-For: 198.51.100.7\r\nConnection: close\r\n\r\n";

fn the_application_sees_the_client_behind_the_balancer(case: &Case) -> Result<()> {
    let net = Internet::new(case)?;
    let _haproxy = net.balance()?;
    for (scheme, port) in [("http", 80), ("https", 443), ("http", 8080), ("https", 8443)] {
        for (client, path, name) in [
            (STRANGER, "", "app"),
            (OFFICE, "", "app"),
            (OFFICE, "admin", "admin"),
        ] {
            let url = format!("{scheme}://app.example.com/{path}");
            // What a client claims of itself counts for nothing.
            let claim = [
                "-H",
                "X-Forwarded-For: 198.51.100.99",
                "-H",
                "X-Real-Ip: 198.51.100.99",
            ];
            let answer = net.get(client, at(BALANCER, port), &url, &claim)?.expect(200)?;
            ensure!(
                answer.field("name").as_deref() == Some(name)
                    && answer.field("xff") == Some(client.to_string())
                    && answer.field("xfproto").as_deref() == Some(scheme),
                "{url} at port {port} from {client}: {}",
                answer.text()
            );
        }
        let url = format!("{scheme}://app.example.com/admin");
        let stranger = net.get(STRANGER, at(BALANCER, port), &url, &[])?.expect(200)?;
        ensure!(
            stranger.field("name").as_deref() == Some("app"),
            "a stranger got into /admin: {}",
            stranger.text()
        );
    }
    Ok(())
}

fn an_attacker_who_connects_directly_cannot_forge_an_address(case: &Case) -> Result<()> {
    let net = Internet::new(case)?;
    for header in forged() {
        let before = net.counted("preamble_untrusted")?;
        let got = net.send(STRANGER, at(GATEWAY, 80), &[header.as_slice(), ADMIN].concat())?;
        ensure!(
            got.is_shut_out(),
            "{:?}: {:?} {}",
            String::from_utf8_lossy(&header),
            got.end,
            got.text()
        );
        ensure!(
            net.counted("preamble_untrusted")? == before + 1,
            "{:?} was not counted",
            String::from_utf8_lossy(&header)
        );
        // The same in front of a handshake.
        let relay = Relay::start(
            &net.client,
            at(Ipv4Addr::LOCALHOST, 7000),
            at(GATEWAY, 443),
            header.clone(),
        )?;
        let via = at(Ipv4Addr::LOCALHOST, 7000);
        let url = "https://app.example.com/admin";
        let curl = Curl::new(&net.client).via(via).trust(net.ca.ca_file());
        let answer = curl.get(url)?;
        ensure!(
            answer.status == 0,
            "{:?}: {}",
            String::from_utf8_lossy(&header),
            answer.text()
        );
        drop(relay);
    }
    let log = net.gateway.proc.log();
    ensure!(
        log.lines()
            .any(|line| line.contains("203.0.113.9") && line.contains("PROXY")),
        "no line names the attacker: {log}"
    );
    // Without a header it is an ordinary client, known by its own address whatever it claims.
    for (scheme, port) in [("http", 80), ("https", 443)] {
        let url = format!("{scheme}://app.example.com/admin");
        let claim = ["-H", "X-Forwarded-For: 198.51.100.7"];
        let answer = net.get(STRANGER, at(GATEWAY, port), &url, &claim)?.expect(200)?;
        ensure!(
            answer.field("name").as_deref() == Some("app")
                && answer.field("xff").as_deref() == Some("203.0.113.9"),
            "{scheme}: {}",
            answer.text()
        );
        let office = net.get(OFFICE, at(GATEWAY, port), &url, &[])?.expect(200)?;
        ensure!(
            office.field("name").as_deref() == Some("admin"),
            "{}",
            office.text()
        );
    }
    Ok(())
}

/// The balancer's header is the first and the only one: what the client sends behind it is its request.
fn an_attacker_behind_the_balancer_cannot_forge_an_address(case: &Case) -> Result<()> {
    let net = Internet::new(case)?;
    let _haproxy = net.balance()?;
    for port in [80, 8080] {
        for header in forged() {
            let got = net.send(STRANGER, at(BALANCER, port), &[header.as_slice(), ADMIN].concat())?;
            ensure!(
                !got.text().contains("name=") && matches!(got.status(), 0 | 400),
                "{:?}: {}",
                String::from_utf8_lossy(&header),
                got.text()
            );
        }
    }
    Ok(())
}

/// The balancer is reconfigured and sends no header any more. To go on without would make it the client of everything.
fn a_balancer_that_sends_no_header_is_shut_out_and_the_log_says_why(case: &Case) -> Result<()> {
    let net = Internet::new(case)?;
    let before = net.counted("preamble_missing")?;
    let got = raw_client::exchange(&net.balancer, None, at(GATEWAY, 80), &[ADMIN], SOON)?;
    ensure!(got.is_shut_out(), "{:?} {}", got.end, got.text());
    ensure!(net.counted("preamble_missing")? == before + 1, "not counted");
    let log = net.gateway.proc.log();
    ensure!(
        log.lines()
            .any(|line| line.contains("11.22.33.44") && line.contains("PROXY")),
        "no line names the balancer: {log}"
    );
    let curl = Curl::new(&net.balancer)
        .via(at(GATEWAY, 443))
        .trust(&net.story.file("app.pem"));
    ensure!(curl.get("https://app.example.com/")?.status == 0);
    Ok(())
}
