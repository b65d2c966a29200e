//! A parent with three children in namespaces of their own, under 200 requests a second, while something goes wrong with one
//! of them: no request is lost that another could have served. Recovery times are printed, never asserted. Both drivers.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use sallyport_tests::case::Case;
use sallyport_tests::curl::Curl;
use sallyport_tests::family::{Family, PARENT, child, multicluster, offers};
use sallyport_tests::feigned::{Feigned, Says};
use sallyport_tests::fragments::{BACKEND, PORT, backend_url, entry_point};
use sallyport_tests::gateway::{Gateway, Setup};
use sallyport_tests::h2load::{self, Timed};
use sallyport_tests::lan::{Host, Lan};
use sallyport_tests::nginx::{Nginx, Serves};
use sallyport_tests::on_both_drivers;
use sallyport_tests::wait;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

on_both_drivers!(
    a_child_is_killed_and_comes_back_with_other_uplinks,
    a_child_is_cut_off_and_joined_again,
    a_child_lies_is_slow_and_the_parent_reloads,
    a_chain_of_three_serves_and_a_loop_is_refused,
);

/// Every child's uplink port.
const UPLINK: u16 = 9443;
const SOON: Duration = Duration::from_secs(30);
/// Requests in a second while something goes wrong.
const RATE: u64 = 200;
/// What is slow for a request that nothing is wrong with.
const SLOW: Duration = Duration::from_millis(150);
/// Times within which everything is found out, for a test's patience.
const MULTICLUSTER: &str = "poll_interval = \"1s\"\npoll_timeout = \"3s\"\nstale_after = \"4s\"";

/// A child gateway with a server of its own.
struct Kid {
    host: Host,
    setup: Setup,
    gateway: Option<Gateway>,
    _nginx: Nginx,
}

struct World {
    family: Family,
    kids: Vec<Kid>,
    parent: Gateway,
    at: Host,
    _lan: Lan,
}

impl World {
    /// Three children that offer `orders`, and a parent that has heard of them all.
    fn new(case: &Case) -> Result<World> {
        let family = Family::new(&case.dir())?;
        let mut lan = Lan::new(&case.lab, 1)?;
        let at = lan.host(&case.lab, "parent")?;
        let mut kids = Vec::new();
        for name in ["one", "two", "three"] {
            let host = lan.host(&case.lab, name)?;
            let nginx = Nginx::start(&host.ns, name, BACKEND, &Serves::Plain)?;
            let setup = Setup::new(&host.ns, name, case.driver)?;
            let gateway = Some(setup.start(&kid_body(&family, "orders"))?);
            kids.push(Kid {
                host,
                setup,
                gateway,
                _nginx: nginx,
            });
        }
        let all: Vec<(String, SocketAddr)> = kids.iter().map(Kid::place).collect();
        let parent = Setup::new(&at.ns, "parent", case.driver)?.start(&parent_body(&family, &all))?;
        let world = World {
            family,
            kids,
            parent,
            at,
            _lan: lan,
        };
        for number in 0..world.kids.len() {
            world.stands(number, "fresh")?;
        }
        Ok(world)
    }

    fn ask(&self) -> Result<(u16, String)> {
        let curl = Curl::new(&self.at.ns).args(&["--max-time", "10"]);
        let answer = curl.get(&url())?;
        Ok((answer.status, answer.field("name").unwrap_or_default()))
    }

    /// Waits until the parent says this of a child.
    fn stands(&self, number: usize, state: &str) -> Result<Value> {
        let name = format!("c{number}");
        wait::until(SOON, &format!("{name} is {state}"), || {
            let status = self.parent.status()?;
            let all = status.get("children").and_then(Value::as_array).cloned();
            let found = all
                .into_iter()
                .flatten()
                .find(|child| child.get("name") == Some(&Value::from(name.as_str())));
            Ok(found.filter(|child| child.get("state") == Some(&Value::from(state))))
        })
    }

    /// Waits until a server answers through its child, or until none does.
    fn served_by(&self, name: &str) -> Result<()> {
        wait::until(SOON, &format!("`{name}` answers"), || {
            let (status, by) = self.ask()?;
            ensure!(status == 200, "{status}");
            Ok((by == name).then_some(()))
        })
    }

    fn kid(&mut self, number: usize) -> Result<&mut Kid> {
        self.kids.get_mut(number).context("three children")
    }
}

impl Kid {
    fn place(&self) -> (String, SocketAddr) {
        let number = self.host.v4.octets()[3] - 2;
        (format!("c{number}"), SocketAddr::new(self.host.v4.into(), UPLINK))
    }

    fn kill(&mut self) -> Result<()> {
        let mut gateway = self.gateway.take().context("it runs")?;
        gateway.proc.signal(Signal::SIGKILL)?;
        gateway.proc.wait(SOON).map(drop)
    }

    fn start(&mut self, body: &str) -> Result<()> {
        self.gateway = Some(self.setup.start(body)?);
        Ok(())
    }
}

fn url() -> String {
    format!("http://127.0.0.1:{PORT}/")
}

/// A child that offers this uplink, probed and judged by its parents.
fn kid_body(family: &Family, uplink: &str) -> String {
    let keys = "health_check = { path = \"/\", interval = \"500ms\", timeout = \"3s\", fall = 2, rise = 1 }\n\
                passive_health_check = { failure_window = \"2s\", max_failed_attempts = 8 }";
    family.child_body(&format!(":{UPLINK}"), &[(uplink, keys)], &backend_url())
}

fn parent_body(family: &Family, all: &[(String, SocketAddr)]) -> String {
    let mut body = entry_point("")
        + "[routers.all]\nrule = \"PathPrefix(`/`)\"\nservice = \"orders@multicluster\"\nmiddlewares = [\"again\"]\n\
           [middlewares.again.retry]\nattempts = 4\nbudget_percent = 100\nbudget_min = 1000\n"
        + &multicluster(MULTICLUSTER)
        + &family.transport("timeouts = { dial = \"2s\", tls_handshake = \"3s\", response_header = \"3s\" }");
    for (name, at) in all {
        body += &child(name, &format!("https://{at}"), "servers_transport = \"children\"");
    }
    body
}

/// Every request was answered by 200; how long after `fault` requests were still slow is told.
fn none_lost(what: &str, fault: SystemTime, timed: &[Timed]) -> Result<()> {
    let lost: Vec<&Timed> = timed.iter().filter(|one| one.status != 200).collect();
    ensure!(
        lost.is_empty(),
        "{what}: {} of {} requests lost: {:?}",
        lost.len(),
        timed.len(),
        lost.first()
    );
    let slow = timed.iter().filter(|one| one.took > SLOW);
    let last = slow.clone().map(|one| one.began + one.took).max();
    let recovered = last
        .and_then(|last| last.duration_since(fault).ok())
        .unwrap_or_default();
    let slowest = timed.iter().map(|one| one.took).max().unwrap_or_default();
    eprintln!(
        "{what}: {} requests, none lost; {} over {SLOW:?}, the slowest {slowest:?}, the last ended {recovered:?} after the fault",
        timed.len(),
        slow.count()
    );
    Ok(())
}

fn a_child_is_killed_and_comes_back_with_other_uplinks(case: &Case) -> Result<()> {
    let mut world = World::new(case)?;
    world.served_by("one")?;
    let (bills, orders) = (
        kid_body(&world.family, "bills"),
        kid_body(&world.family, "orders"),
    );
    let ns = world.at.ns.clone();
    let (fault, timed) = h2load::while_loaded(&ns, &url(), RATE, || {
        let fault = SystemTime::now();
        world.kid(0)?.kill()?;
        world.stands(0, "expired")?;
        // What it offered before is in no memory of anybody's once it says what it offers now.
        world.kid(0)?.start(&bills)?;
        world.stands(0, "fresh")?;
        world.kid(0)?.kill()?;
        // While its last answer still counts, it comes back with another.
        world.kid(0)?.start(&orders)?;
        world.stands(0, "fresh")?;
        world.served_by("one")?;
        world.kid(0)?.kill()?;
        world.kid(0)?.start(&bills)?;
        world.stands(0, "fresh")?;
        Ok(fault)
    })?;
    none_lost("killed and changed", fault, &timed)?;
    world.served_by("two")
}

fn a_child_is_cut_off_and_joined_again(case: &Case) -> Result<()> {
    let world = World::new(case)?;
    world.served_by("one")?;
    let parent = world.at.v4;
    let one = world.kids.first().context("three children")?;
    let ns = world.at.ns.clone();
    let (fault, timed) = h2load::while_loaded(&ns, &url(), RATE, || {
        let fault = SystemTime::now();
        // Whatever it answers goes nowhere, without a word to anybody.
        one.host.ns.ip(&format!("route add blackhole {parent}/32\n"))?;
        world.stands(0, "expired")?;
        let joined = SystemTime::now();
        one.host.ns.ip(&format!("route del blackhole {parent}/32\n"))?;
        world.stands(0, "fresh")?;
        world.served_by("one")?;
        eprintln!(
            "joined again: served {:?} later",
            joined.elapsed().unwrap_or_default()
        );
        Ok(fault)
    })?;
    none_lost("cut off", fault, &timed)
}

fn a_child_lies_is_slow_and_the_parent_reloads(case: &Case) -> Result<()> {
    let mut world = World::new(case)?;
    // In the place of the first child's polls, at another address: one that says what it likes and serves all the same.
    let liar_at = SocketAddr::new(world.at.v4.into(), UPLINK);
    let says = |weight| Says::Offers(offers(&[("orders", weight)]));
    let liar = Feigned::start(&world.at.ns, "liar", liar_at, says(1))?;
    let all: Vec<(String, SocketAddr)> = world.kids.iter().map(Kid::place).collect();
    let body = parent_body(&world.family, &all) + &child("c9", &format!("http://{liar_at}"), "");
    let reload = |parent: &Gateway| {
        parent.setup().write(&body)?;
        let output = parent.setup().command(&["reload"])?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    };
    let ns = world.at.ns.clone();
    let (fault, timed) = h2load::while_loaded(&ns, &url(), RATE, || {
        let fault = SystemTime::now();
        reload(&world.parent)?;
        world.stands(9, "fresh")?;
        wait::until(SOON, "the other child is asked", || {
            Ok((liar.served() > 0).then_some(()))
        })?;
        liar.say(Says::Raw(
            b"HTTP/1.1 200 OK\r\nContent-Length: 26\r\n\r\n{\"version\":9,\"uplinks\":[]}".to_vec(),
        ));
        world.stands(9, "stale")?;
        liar.say(says(1));
        world.stands(9, "fresh")?;
        liar.say(Says::Nothing);
        world.stands(9, "expired")?;
        reload(&world.parent)?;
        // A process that stands still: its connections are there and nothing comes.
        let one = world.kid(0)?.gateway.as_ref().context("it runs")?;
        one.proc.signal(Signal::SIGSTOP)?;
        world.stands(0, "expired")?;
        let one = world.kid(0)?.gateway.as_ref().context("it runs")?;
        one.proc.signal(Signal::SIGCONT)?;
        world.stands(0, "fresh")?;
        Ok(fault)
    })?;
    none_lost("lies, slowness, reloads", fault, &timed)
}

/// A child that offers, as `relayed`, the uplink `asked` of a child of its own at `to`.
fn relay_body(family: &Family, to: SocketAddr, asked: &str) -> String {
    let service = format!("service = \"{asked}@multicluster\"");
    family
        .child_body(&format!(":{UPLINK}"), &[("relayed", "")], &backend_url())
        .replace("service = \"backend\"", &service)
        + &multicluster(MULTICLUSTER)
        + &family.transport("")
        + &child(
            "below",
            &format!("https://{to}"),
            "servers_transport = \"children\"",
        )
}

fn a_chain_of_three_serves_and_a_loop_is_refused(case: &Case) -> Result<()> {
    let family = Family::new(&case.dir())?;
    let mut lan = Lan::new(&case.lab, 1)?;
    let hosts = [
        lan.host(&case.lab, "top")?,
        lan.host(&case.lab, "middle")?,
        lan.host(&case.lab, "bottom")?,
    ];
    let [top, middle, bottom] = &hosts;
    let _nginx = Nginx::start(&bottom.ns, "bottom", BACKEND, &Serves::Plain)?;
    let (below, up) = (
        SocketAddr::new(bottom.v4.into(), UPLINK),
        SocketAddr::new(middle.v4.into(), UPLINK),
    );
    let _bottom = Setup::new(&bottom.ns, "bottom", case.driver)?.start(&family.child_body(
        &format!(":{UPLINK}"),
        &[("orders", "")],
        &backend_url(),
    ))?;
    let relay = |to: SocketAddr| {
        let asked = if to == up { "relayed" } else { "orders" };
        relay_body(&family, to, asked)
    };
    let setup = Setup::new(&middle.ns, "middle", case.driver)?;
    let between = setup.start(&relay(below))?;
    let parent = Setup::new(&top.ns, "top", case.driver)?.start(&family.parent_body(
        "relayed@multicluster",
        MULTICLUSTER,
        &[("middle", up)],
    ))?;
    let ask = || {
        let curl = Curl::new(&top.ns).args(&["--max-time", "20"]);
        curl.get(&url())
    };
    parent.settle(200, || Ok(ask()?.status))?;
    let answer = ask()?.expect(200)?;
    ensure!(
        answer.field("name").as_deref() == Some("bottom"),
        "{}",
        answer.text()
    );
    ensure!(
        answer.field("xff").unwrap_or_default().starts_with("127.0.0.1"),
        "{}",
        answer.text()
    );
    let used = between.status()?.to_string();
    ensure!(used.contains(PARENT), "{used}");
    // Its own child: whatever comes to it comes again.
    setup.write(&relay(up))?;
    let output = setup.command(&["reload"])?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    parent.settle(508, || Ok(ask()?.status))
}
