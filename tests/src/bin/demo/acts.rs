//! The acts: each does a thing on the stage, and says what came back and whether that was expected.

use crate::stage::{BALANCED, PROXIED, PUBLIC_URL, SHOP, SOON, Stage, UPLINK_INTERFACE};
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use sallyport_tests::certs::Identity;
use sallyport_tests::curl::Curl;
use sallyport_tests::gate::{Gate, connection_requests};
use sallyport_tests::gateway::{Gateway, find_all};
use sallyport_tests::lying_parent::{LyingParent, Tale};
use sallyport_tests::openssl::{SClient, Version, alert};
use sallyport_tests::raw_client::{self, End};
use sallyport_tests::tls_client::{Offer, TlsClient};
use sallyport_tests::wait;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A line of the table: what is done, and how, giving what came back; an error is what was not expected.
struct Act {
    what: &'static str,
    how: fn(&mut Stage) -> Result<String>,
}

const ACTS: [Act; 10] = [
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
        what: "discovery stolen: right authority, not the parent",
        how: stolen_discovery,
    },
    Act {
        what: "a client's identity replayed over the parent's connection",
        how: replayed_context,
    },
    Act {
        what: "second child killed while clients ask, then started again",
        how: failover,
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
            name.starts_with("shop") && saw.is_empty(),
            "`{header}` went to `{name}`, which saw `{saw}`"
        );
    }
    Ok("stripped in 3 spellings; ordinary routing to `shop`, 200".to_owned())
}

fn stolen_discovery(stage: &mut Stage) -> Result<String> {
    let ask = |identity: &Identity, header: &str| {
        let curl = Curl::new(&stage.parent_uplink.ns)
            .trust(&stage.servers)
            .via(stage.uplink_at());
        curl.identity(identity)
            .header(header)
            .get("https://child.example/uplinks")
    };
    let own = ask(&stage.trust.parent, "Accept: */*")?.expect(200)?.text();
    ensure!(
        own.contains("\"shop\"") && own.contains("\"admin\""),
        "the parent itself sees {own}"
    );
    let seen = ask(&stage.trust.other, "Accept: */*")?.expect(200)?.text();
    ensure!(
        !seen.contains("shop") && !seen.contains("admin"),
        "it sees {seen}"
    );
    let taken = ask(&stage.trust.other, "Hub-Uplink: shop")?;
    ensure!(
        taken.status == 404,
        "an uplink that is not its own: {}",
        taken.status
    );
    Ok("sees no uplink, and 404 for one that it names; the parent sees 2".to_owned())
}

fn replayed_context(stage: &mut Stage) -> Result<String> {
    let (name, at) = ("child.example", stage.uplink_at());
    let client = TlsClient::new(
        &stage.servers,
        Some(&stage.trust.parent),
        Some(Version::Tls13),
        Offer::Usual,
    )?;
    let connect = || {
        let tcp = raw_client::connect(&stage.parent_uplink.ns, None, at)?;
        LyingParent::new(client.shake(tcp, name)?, name, Some(&stage.trust.parent))
    };
    let (mut parent, mut thief) = (connect()?, connect()?);
    let told = parent.seal("shop", &Tale::of([203, 0, 113, 7]))?;
    let mut statuses = Vec::new();
    for _ in 0..2 {
        statuses.push(parent.ask("shop", Some(&told), &[])?.status);
    }
    statuses.push(thief.ask("shop", Some(&told), &[])?.status);
    ensure!(
        statuses == [200, 403, 403],
        "once, again, on another connection: {statuses:?}"
    );
    let (replayed, forged) = (
        stage.child.count("context_replayed")?,
        stage.child.count("context_forged")?,
    );
    ensure!(
        replayed == 1 && forged == 1,
        "counted {replayed} replayed and {forged} forged"
    );
    Ok("200 the first time; then 403, counted as replayed; on another connection 403, as forged".to_owned())
}

/// Requests while a child is killed and started again.
const ASKED: usize = 40;

fn failover(stage: &mut Stage) -> Result<String> {
    let mut by = std::collections::BTreeMap::<String, usize>::new();
    for number in 0..ASKED {
        if number == ASKED / 4 {
            let mut second = stage.second.take().context("it runs")?;
            second.proc.signal(Signal::SIGKILL)?;
            second.proc.wait(SOON)?;
        }
        let answer = stage
            .visit()
            .get(PUBLIC_URL)?
            .expect(200)
            .with_context(|| format!("request {number}"))?;
        *by.entry(answer.field("name").unwrap_or_default()).or_default() += 1;
    }
    stage.second = Some(stage.second_setup.start(&stage.second_body)?);
    let back = Instant::now();
    wait::until(SOON, "the second child answers again", || {
        let answer = stage.visit().get(PUBLIC_URL)?.expect(200)?;
        Ok((answer.field("name").as_deref() == Some("shop-2")).then_some(()))
    })?;
    Ok(format!(
        "{ASKED} of {ASKED} answered ({} by child 1, {} by child 2); used again {:.1} s after it was back",
        by.get("shop").copied().unwrap_or_default(),
        by.get("shop-2").copied().unwrap_or_default(),
        back.elapsed().as_secs_f32()
    ))
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
