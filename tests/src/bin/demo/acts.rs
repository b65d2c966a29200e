//! The seven acts: each does a thing on the stage, and says what came back and whether that was expected.

use crate::stage::{BALANCED, PROXIED, PUBLIC_URL, SHOP, Stage, UPLINK_INTERFACE};
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use sallyport_tests::curl::Curl;
use sallyport_tests::gate::{Gate, connection_requests};
use sallyport_tests::gateway::{Gateway, find_all};
use sallyport_tests::openssl::{SClient, Version, alert};
use sallyport_tests::raw_client::{self, End};
use std::net::SocketAddr;
use std::time::Duration;

/// A line of the table: what is done, and how, giving what came back; an error is what was not expected.
struct Act {
    what: &'static str,
    how: fn(&mut Stage) -> Result<String>,
}

const ACTS: [Act; 7] = [
    Act {
        what: "client > parent > uplink (mTLS) > child > backend",
        how: all_the_way,
    },
    Act {
        what: "stranger > child's uplink port",
        how: stranger_is_dropped,
    },
    Act {
        what: "allowed host without a client certificate",
        how: no_certificate,
    },
    Act {
        what: "forged Hub-Uplink at the parent's public entry point",
        how: forged_uplink,
    },
    Act {
        what: "client > haproxy (PROXY v2) > parent; forged from the client",
        how: through_haproxy,
    },
    Act {
        what: "gate process killed with SIGKILL; stranger again",
        how: killed_gate,
    },
    Act {
        what: "I/O driver and attach mode in use",
        how: modes,
    },
];

/// Plays all acts, printing the table; whether every line was as expected.
pub(crate) fn play(stage: &mut Stage) -> bool {
    let mut as_expected = true;
    println!("\n    {:<62} came back", "did");
    for (number, act) in (1..).zip(&ACTS) {
        let (mark, came) = match (act.how)(stage) {
            Ok(came) => ("ok", came),
            Err(error) => {
                as_expected = false;
                ("NOT AS EXPECTED", format!("{error:#}"))
            }
        };
        println!("{number:>2}  {:<62} {came}  [{mark}]", act.what);
    }
    as_expected
}

fn all_the_way(stage: &mut Stage) -> Result<String> {
    let answer = stage.visit().get(PUBLIC_URL)?.expect(200)?;
    let saw = answer.field("xff").unwrap_or_default();
    let client = stage.client.v4.to_string();
    ensure!(
        saw.split(',').next() == Some(client.as_str()),
        "200, but the backend saw `{saw}`, not {client}"
    );
    Ok(format!("200; the backend saw {client}, the client's address"))
}

/// A stranger's try at the uplink port, which must have no answer; the packets that it sent.
fn knock(stage: &Stage) -> Result<u64> {
    let before = connection_requests(&stage.stranger.ns)?;
    let curl = Curl::new(&stage.stranger.ns).args(&["-k", "--connect-timeout", "3"]);
    let answer = curl.get(&format!("https://{}/", stage.uplink_at()))?;
    // 28 is curl's timeout; a refusal or a reset would be an answer.
    ensure!(
        answer.exit == 28 && answer.status == 0,
        "an answer: curl {} {}",
        answer.exit,
        answer.complaint
    );
    Ok(connection_requests(&stage.stranger.ns)? - before)
}

fn stranger_is_dropped(stage: &mut Stage) -> Result<String> {
    let before = stage.gate.dropped()?;
    let sent = knock(stage)?;
    let dropped = stage.gate.dropped()?.saturating_sub(before);
    ensure!(
        sent > 0 && dropped == sent,
        "no answer, but {sent} packets sent and {dropped} counted as dropped"
    );
    Ok(format!(
        "no answer; {sent} packets sent, the drop counter rose by {dropped}"
    ))
}

fn no_certificate(stage: &mut Stage) -> Result<String> {
    let client = SClient::new(&stage.parent_uplink.ns, stage.uplink_at(), Version::Tls13);
    let outcome = client.sni("child.example").get("child.example")?;
    ensure!(
        outcome.alert == Some(alert::CERTIFICATE_REQUIRED) && !outcome.has_answer(),
        "alert {:?}: {}",
        outcome.alert,
        outcome.errors.lines().last().unwrap_or_default()
    );
    Ok(format!(
        "TLS alert {} certificate required",
        alert::CERTIFICATE_REQUIRED
    ))
}

fn forged_uplink(stage: &mut Stage) -> Result<String> {
    for header in ["Hub-Uplink: admin", "hub_uplink: admin", "HUB-UPLINK: admin"] {
        let answer = stage.visit().header(header).get(PUBLIC_URL)?.expect(200)?;
        let (name, saw) = (
            answer.field("name").unwrap_or_default(),
            answer.field("hub").unwrap_or_default(),
        );
        ensure!(
            name == "shop" && saw.is_empty(),
            "`{header}` went to `{name}`, which saw `{saw}`"
        );
    }
    Ok("stripped in 3 spellings; ordinary routing to `shop`, 200".to_owned())
}

fn through_haproxy(stage: &mut Stage) -> Result<String> {
    let client = stage.client.v4.to_string();
    let url = format!("http://{}:{BALANCED}/", stage.balancer.v4);
    let answer = Curl::new(&stage.client.ns)
        .header(&format!("Host: {SHOP}"))
        .get(&url)?
        .expect(200)?;
    let saw = answer.field("xff").unwrap_or_default();
    ensure!(
        saw.split(',').next() == Some(client.as_str()),
        "200, but the backend saw `{saw}`, not {client}"
    );
    let header = [
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".as_slice(),
        &[192, 0, 2, 66, 192, 0, 2, 1, 1, 1, 1, 1],
    ]
    .concat();
    let request = [
        &header,
        b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n".as_slice(),
    ]
    .concat();
    let to = SocketAddr::new(stage.parent_public.v4.into(), PROXIED);
    let got = raw_client::exchange(&stage.client.ns, None, to, &[&request], Duration::from_secs(5))?;
    ensure!(
        got.end != End::Silent && matches!(got.status(), 0 | 400),
        "the forged header was served: {}",
        got.text()
    );
    Ok(format!(
        "200, the backend saw {client}; the same header from a source not trusted: closed"
    ))
}

fn killed_gate(stage: &mut Stage) -> Result<String> {
    stage.gate.proc.signal(Signal::SIGKILL)?;
    stage.gate.proc.wait(Duration::from_secs(5))?;
    let sent = knock(stage)?;
    stage
        .visit()
        .get(PUBLIC_URL)?
        .expect(200)
        .context("but the parent is shut out too")?;
    Ok(format!("no answer to {sent} packets; the parent still gets 200"))
}

fn modes(stage: &mut Stage) -> Result<String> {
    let (parent, child) = (driver(&stage.parent)?, driver(&stage.child)?);
    // A new gate process takes up what the killed one left.
    stage.gate = Gate::start(stage.child.setup())?;
    let attached = stage.gate.attached(UPLINK_INTERFACE)?;
    ensure!(
        attached.contains("xdp") || attached.contains("tc"),
        "attached as `{attached}`"
    );
    Ok(format!(
        "parent {parent}, child {child}; gate on {UPLINK_INTERFACE}: {attached}"
    ))
}

/// The I/O driver that a gateway's status names.
fn driver(gateway: &Gateway) -> Result<String> {
    let status = gateway.status()?;
    let named = find_all(&status, "driver");
    let word = named.iter().find_map(|value| value.as_str());
    Ok(word
        .with_context(|| format!("no I/O driver in the status: {status}"))?
        .to_owned())
}
