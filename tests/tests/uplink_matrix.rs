//! Every kind of entry point, every kind of peer, every spelling of `Hub-Uplink`, several paths: each with its exact outcome,
//! and every group with its exact counters; both drivers.
//!
//! The expectations are written as rules of their own (`expected`), not taken from the program.

use anyhow::{Context, Result, bail, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Identity, Role, Validity};
use sallyport_tests::fragments::{BACKEND, backend_url, certificate, local, router, service};
use sallyport_tests::gateway::{Gateway, Setup};
use sallyport_tests::on_both_drivers;
use sallyport_tests::openssl::Version;
use sallyport_tests::raw_client::{connect, read_answer, read_to_end, send};
use sallyport_tests::raw_server::{Behaviour, RawServer};
use sallyport_tests::tls_client::{Offer, Session, TlsClient, alert_of};
use sallyport_tests::wait;
use std::collections::BTreeMap;
use std::net::{IpAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

on_both_drivers!(every_combination_has_its_outcome_and_its_counter);

/// For what must come.
const LIMIT: Duration = Duration::from_secs(20);
/// An address that every allowlist holds, and one that none does.
const KNOWN: [u8; 4] = [127, 0, 0, 2];
const STRANGER: [u8; 4] = [127, 0, 0, 99];
/// The name that `orders` and `named` are for.
const PARENT: &str = "parent.example";

/// What a gateway listens as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    /// Ordinary, in the clear.
    Plain,
    /// Ordinary, certificates demanded.
    Mutual,
    /// For parents: certificates demanded, and an allowlist.
    Proven,
    /// For parents: certificates verified where they are shown.
    Given,
    /// For parents: certificates demanded whose name the TLS options know.
    Named,
    /// For parents: the allowlist is the proof; in the clear.
    Gated,
    /// For parents: nothing is the proof; over TLS.
    Open,
}

const POINTS: [Point; 7] = [
    Point::Plain,
    Point::Mutual,
    Point::Proven,
    Point::Given,
    Point::Named,
    Point::Gated,
    Point::Open,
];

impl Point {
    fn port(self) -> u16 {
        9400 + self as u16
    }

    fn is_uplink(self) -> bool {
        !matches!(self, Point::Plain | Point::Mutual)
    }

    fn has_tls(self) -> bool {
        !matches!(self, Point::Plain | Point::Gated)
    }

    fn verifies(self) -> bool {
        !matches!(self, Point::Plain | Point::Gated | Point::Open)
    }

    fn demands(self) -> bool {
        self.verifies() && self != Point::Given
    }

    fn has_allowlist(self) -> bool {
        matches!(self, Point::Proven | Point::Gated)
    }

    fn toml(self) -> String {
        let table = if self.is_uplink() {
            "uplink_entry_points"
        } else {
            "entry_points"
        };
        let name = format!("{self:?}").to_ascii_lowercase();
        let tls = match self {
            Point::Plain | Point::Gated => "",
            Point::Mutual | Point::Proven => "tls = { options = \"mutual\" }\n",
            Point::Given => "tls = { options = \"given\" }\n",
            Point::Named => "tls = { options = \"named\" }\n",
            Point::Open => "tls = {}\nallow_unauthenticated = true\n",
        };
        let gate = if self.has_allowlist() {
            "gate = { allow = [\"parents\"] }\n"
        } else {
            ""
        };
        format!(
            "[{table}.{name}]\naddress = \"127.0.0.1:{}\"\n{tls}{gate}",
            self.port()
        )
    }
}

/// Who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    /// From an address that no allowlist holds, with the right certificate.
    Stranger,
    /// No certificate.
    Bare,
    WrongCa,
    Expired,
    Revoked,
    /// The right CA, and a name that is nobody's.
    WrongName,
    RightName,
}

const PEERS: [Peer; 7] = [
    Peer::Stranger,
    Peer::Bare,
    Peer::WrongCa,
    Peer::Expired,
    Peer::Revoked,
    Peer::WrongName,
    Peer::RightName,
];

/// What is said of the uplink: field lines.
const SPELLINGS: [(&str, Said); 12] = [
    ("", Said::Nothing),
    ("Hub-Uplink: open\r\n", Said::Name("open")),
    ("HUB-UPLINK: open\r\n", Said::Name("open")),
    ("hub-uplink:open\r\n", Said::Name("open")),
    (
        "Connection: Hub-Uplink\r\nHub-Uplink: open\r\n",
        Said::Name("open"),
    ),
    ("Hub-Uplink: orders\r\n", Said::Name("orders")),
    ("Hub-Uplink: nothing\r\n", Said::Name("nothing")),
    ("Hub-Uplink: open, orders\r\n", Said::Name("open, orders")),
    ("Hub-Uplink: OPEN\r\n", Said::Name("OPEN")),
    ("Hub_Uplink: open\r\n", Said::Disguised),
    ("Hub.Uplink: open\r\n", Said::Disguised),
    ("Hub-Uplink: open\r\nHub-Uplink: open\r\n", Said::Disguised),
];

const PATHS: [&str; 4] = ["/uplinks", "/orders", "/shop", "/missing"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    Name(&'static str),
    /// Twice, or not by its name.
    Disguised,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Met {
    /// Closed before any byte.
    Shut,
    /// The handshake is refused, for a reason with this code.
    Alert(&'static str),
    /// Requests are answered.
    Http,
}

fn met(point: Point, peer: Peer) -> Met {
    if peer == Peer::Stranger && point.has_allowlist() {
        return Met::Shut;
    }
    if !point.verifies() {
        return Met::Http;
    }
    match peer {
        Peer::Bare if point.demands() => Met::Alert("tls_certificate_missing"),
        Peer::WrongCa => Met::Alert("tls_certificate_unknown"),
        Peer::Expired => Met::Alert("tls_certificate_expired"),
        Peer::Revoked => Met::Alert("tls_certificate_revoked"),
        Peer::WrongName if point == Point::Named => Met::Alert("tls_certificate_not_named"),
        Peer::Bare | Peer::WrongName | Peer::RightName | Peer::Stranger => Met::Http,
    }
}

/// Status of an answer, who gave it, and the reason where the gateway refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Server,
    Discovery,
    Refused(u16, &'static str),
}

impl Expected {
    fn status(self) -> u16 {
        match self {
            Expected::Server | Expected::Discovery => 200,
            Expected::Refused(status, _) => status,
        }
    }
}

fn expected(point: Point, peer: Peer, said: Said, path: &str) -> Expected {
    let missing = Expected::Refused(404, "no_router");
    if !point.is_uplink() {
        return if path == "/shop" {
            Expected::Server
        } else {
            missing
        };
    }
    if point.verifies() && peer == Peer::Bare {
        return Expected::Refused(404, "uplink_unproven");
    }
    // `orders` names its parents, so that it is published only where certificates are verified.
    let is_parent = matches!(peer, Peer::RightName | Peer::Stranger);
    let name = match said {
        Said::Nothing if path == "/uplinks" => return Expected::Discovery,
        Said::Nothing => return missing,
        Said::Disguised => return Expected::Refused(400, "bad_request"),
        Said::Name(name) => name,
    };
    match name {
        "open" => {}
        "orders" if !point.verifies() => return Expected::Refused(404, "uplink_unknown"),
        "orders" if !is_parent => return Expected::Refused(404, "uplink_forbidden"),
        "orders" => {}
        _ => return Expected::Refused(404, "uplink_unknown"),
    }
    if path == "/orders" {
        Expected::Server
    } else {
        missing
    }
}

/// The uplinks that a parent is shown, in their order.
fn shown(point: Point, peer: Peer) -> &'static str {
    match point.verifies() && matches!(peer, Peer::RightName | Peer::Stranger) {
        true => r#"{"version":1,"uplinks":[{"name":"open","weight":1},{"name":"orders","weight":7}]}"#,
        false => r#"{"version":1,"uplinks":[{"name":"open","weight":1}]}"#,
    }
}

/// Whether something was taken away on the way: on ordinary entry points, and from whoever proves nothing.
fn is_stripped(point: Point, peer: Peer, said: Said) -> bool {
    said != Said::Nothing && (!point.is_uplink() || (point.verifies() && peer == Peer::Bare))
}

struct World {
    servers: Authority,
    identities: BTreeMap<&'static str, Identity>,
}

impl World {
    fn new(dir: &Path) -> Result<(World, String)> {
        let servers = Authority::new(dir, "servers")?;
        let (parents, others) = (Authority::new(dir, "parents")?, Authority::new(dir, "others")?);
        let revoked = parents.issue(Role::Client, &[PARENT])?;
        let list = parents.revoke(&[&revoked])?;
        let identities = BTreeMap::from([
            ("wrong_ca", others.issue(Role::Client, &[PARENT])?),
            (
                "expired",
                parents.issue_with(Role::Client, Validity::Expired, &[PARENT])?,
            ),
            ("revoked", revoked),
            ("wrong_name", parents.issue(Role::Client, &["other.example"])?),
            ("right_name", parents.issue(Role::Client, &[PARENT])?),
        ]);
        let child = servers.issue(Role::Server, &["child.example"])?;
        let options = |name: &str, kind: &str, keys: &str| {
            format!(
                "[tls.options.{name}]\nclient_auth = {{ type = \"{kind}\", ca_files = [\"{}\"], crl_files = [\"{}\"]{keys} }}\n",
                parents.ca_file().display(),
                list.display()
            )
        };
        let demanded = "RequireAndVerifyClientCert";
        let named = format!(", subject_names = [\"{PARENT}\"]");
        let body = POINTS.map(Point::toml).concat()
            + "[allowlists.parents]\nsources = [\"127.0.0.2\", \"10.0.0.0/8\"]\n\
               [uplinks.open]\n[uplinks.orders]\nweight = 7\nparents = [\"parent.example\"]\n\
               entry_points = [\"proven\", \"given\", \"named\"]\n"
            + &router("open", "PathPrefix(`/orders`)", "backend", "uplinks = [\"open\"]")
            + &router(
                "orders",
                "PathPrefix(`/orders`)",
                "backend",
                "uplinks = [\"orders\"]",
            )
            + &router("shop", "PathPrefix(`/shop`)", "backend", "")
            + &service("backend", &[&backend_url()], "")
            + &certificate(&child)
            + &options("mutual", demanded, "")
            + &options("given", "VerifyClientCertIfGiven", "")
            + &options("named", demanded, &named);
        Ok((World { servers, identities }, body))
    }

    fn identity(&self, peer: Peer) -> Option<&Identity> {
        let name = match peer {
            Peer::Bare => return None,
            Peer::WrongCa => "wrong_ca",
            Peer::Expired => "expired",
            Peer::Revoked => "revoked",
            Peer::WrongName => "wrong_name",
            Peer::RightName | Peer::Stranger => "right_name",
        };
        self.identities.get(name)
    }

    /// A connection whose handshake is done, where there is one.
    fn open(&self, case: &Case, point: Point, peer: Peer) -> Result<Wire> {
        let from = IpAddr::from(if peer == Peer::Stranger { STRANGER } else { KNOWN });
        let tcp = connect(&case.ns, Some(from), local(point.port()))?;
        tcp.set_read_timeout(Some(LIMIT))?;
        if !point.has_tls() {
            return Ok(Wire::Clear(tcp));
        }
        let client = TlsClient::new(
            self.servers.ca_file(),
            self.identity(peer),
            Some(Version::Tls13),
            Offer::Usual,
        )?;
        Ok(Wire::Tls(Box::new(client.shake(tcp, "child.example")?)))
    }
}

enum Wire {
    Clear(TcpStream),
    Tls(Box<Session>),
}

/// An answer without its date.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn new(status: u16, head: &str, body: String) -> Answer {
        let lines = head.lines().filter(|line| !line.starts_with("date:"));
        Answer {
            status,
            head: lines.collect::<Vec<_>>().join("\n"),
            body,
        }
    }
}

impl Wire {
    fn ask(&mut self, fields: &str, path: &str) -> Result<Answer> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: child.example\r\n{fields}\r\n");
        match self {
            Wire::Clear(tcp) => {
                send(tcp, &[request.as_bytes()])?;
                let got = read_answer(tcp, LIMIT)?;
                let text = got.text();
                let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
                Ok(Answer::new(got.status(), head, body.to_owned()))
            }
            Wire::Tls(session) => {
                let reply = session.ask(&request)?;
                Ok(Answer::new(reply.status, &reply.head, reply.text()))
            }
        }
    }
}

fn every_combination_has_its_outcome_and_its_counter(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let (world, body) = World::new(&case.dir())?;
    let child = Setup::new(&case.ns, "child", case.driver)?.start(&body)?;
    for point in POINTS {
        for peer in PEERS {
            let before = (counters(&child)?, server.seen.requests().len());
            let wanted = group(case, &world, point, peer).with_context(|| format!("{point:?} × {peer:?}"))?;
            settle(&child, &before.0, &wanted.counters).with_context(|| format!("{point:?} × {peer:?}"))?;
            let asked = server.seen.requests().len() - before.1;
            ensure!(
                asked == wanted.served,
                "{point:?} × {peer:?}: {asked} reached the server, expected {}",
                wanted.served
            );
        }
    }
    let told = server.seen.requests();
    let leaked = told.iter().find(|request| {
        let request = request.to_ascii_lowercase().replace(['_', '.'], "-");
        request.contains("hub-uplink")
    });
    ensure!(leaked.is_none(), "the server was told: {leaked:?}");
    Ok(())
}

/// What one peer at one entry point comes to.
#[derive(Default)]
struct Wanted {
    counters: BTreeMap<&'static str, u64>,
    /// Requests that reach the server.
    served: usize,
}

impl Wanted {
    fn count(&mut self, code: &'static str) {
        *self.counters.entry(code).or_default() += 1;
    }
}

fn group(case: &Case, world: &World, point: Point, peer: Peer) -> Result<Wanted> {
    let mut wanted = Wanted::default();
    match met(point, peer) {
        Met::Shut => {
            wanted.count("source_refused");
            shut_out(case, point)?;
        }
        Met::Alert(code) => {
            wanted.count("tls_failed");
            wanted.count(code);
            let alert = match world
                .open(case, point, peer)
                .and_then(|mut wire| wire.ask("", "/uplinks"))
            {
                Ok(answer) => bail!("answered {answer:?}"),
                Err(error) => alert_of(&error).with_context(|| format!("no alert but {error:#}"))?,
            };
            ensure!(alert == number(code), "alert {alert}");
        }
        Met::Http => ask_everything(case, world, (point, peer), &mut wanted)?,
    }
    Ok(wanted)
}

/// The alert of TLS 1.3 that says it.
fn number(code: &str) -> u8 {
    match code {
        "tls_certificate_missing" => 116,
        "tls_certificate_unknown" => 48,
        "tls_certificate_expired" => 45,
        "tls_certificate_revoked" => 44,
        _ => 49,
    }
}

fn shut_out(case: &Case, point: Point) -> Result<()> {
    let mut tcp = connect(&case.ns, Some(STRANGER.into()), local(point.port()))?;
    let ended = read_to_end(&mut tcp, LIMIT)?;
    ensure!(ended.is_shut_out(), "{ended:?}");
    Ok(())
}

fn ask_everything(
    case: &Case,
    world: &World,
    (point, peer): (Point, Peer),
    wanted: &mut Wanted,
) -> Result<()> {
    let mut wire = world.open(case, point, peer)?;
    let mut page: Option<Answer> = None;
    for (fields, said) in SPELLINGS {
        for path in PATHS {
            let expected = expected(point, peer, said, path);
            let answer = wire
                .ask(fields, path)
                .with_context(|| format!("{fields:?} {path}"))?;
            ensure!(
                answer.status == expected.status(),
                "{fields:?} {path}: {answer:?}, expected {expected:?}"
            );
            if is_stripped(point, peer, said) {
                wanted.count("uplink_stripped");
            }
            match expected {
                Expected::Server => wanted.served += 1,
                Expected::Discovery => ensure!(answer.body == shown(point, peer), "{answer:?}"),
                Expected::Refused(status, code) => {
                    wanted.count(code);
                    if status == 404 {
                        // Nothing tells one missing page from another.
                        let page = page.get_or_insert_with(|| answer.clone());
                        ensure!(answer == *page, "{fields:?} {path}: {answer:?} is not {page:?}");
                    } else {
                        wire = world.open(case, point, peer)?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// What this is about; each is among the counters, so that none can come unexpected.
const WATCHED: [&str; 16] = [
    "source_refused",
    "source_observed",
    "tls_failed",
    "tls_certificate_missing",
    "tls_certificate_unknown",
    "tls_certificate_expired",
    "tls_certificate_revoked",
    "tls_certificate_not_named",
    "uplink_stripped",
    "uplink_unproven",
    "uplink_unknown",
    "uplink_forbidden",
    "no_router",
    "not_proven",
    "bad_request",
    "discovery_exceeded",
];

fn counters(child: &Gateway) -> Result<BTreeMap<&'static str, u64>> {
    let status = child.status()?;
    let all = status.get("counters").context("no counters")?;
    let value = |code: &&'static str| Some((*code, all.get(*code)?.as_u64()?));
    Ok(WATCHED.iter().filter_map(value).collect())
}

/// Waits until the counters are what they were and this more, and no other.
fn settle(
    child: &Gateway,
    before: &BTreeMap<&'static str, u64>,
    more: &BTreeMap<&'static str, u64>,
) -> Result<()> {
    let mut differ = Vec::new();
    let waited = wait::until(LIMIT, "the counters", || {
        let now = counters(child)?;
        let grown = |code: &str| {
            let at = |counters: &BTreeMap<&'static str, u64>| counters.get(code).copied().unwrap_or(0);
            at(&now).saturating_sub(at(before))
        };
        let wanted = |code: &str| more.get(code).copied().unwrap_or(0);
        differ = WATCHED
            .iter()
            .filter(|code| grown(code) != wanted(code))
            .map(|code| format!("{code}: {} instead of {}", grown(code), wanted(code)))
            .collect();
        Ok(differ.is_empty().then_some(()))
    });
    waited.with_context(|| differ.join(", "))
}
