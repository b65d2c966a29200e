//! Gates that are killed at any moment, started again, with other policies, other hooks and other layouts of their maps,
//! under a flood: what the flood sends must never come through, and friends must always come in.

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use sallyport_tests::case::{Case, is_installed, run, skip};
use sallyport_tests::frames::{Stream, Wire, mac, request};
use sallyport_tests::gate::Gate;
use sallyport_tests::gateway::{Driver, binary};
use sallyport_tests::lan::INTERFACE;
use sallyport_tests::process::{Proc, Spawn};
use sallyport_tests::stage::{PORT, SOON, Stage, entry, word};
use sallyport_tests::storm::{Chance, Comers, Through};
use sallyport_tests::wait;
use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

macro_rules! cases {
    ($($case:ident),+ $(,)?) => {
        mod gate_storm_kills {
            $(#[test]
            fn $case() {
                super::run(stringify!($case), super::Driver::Epoll, super::$case);
            })+
        }
    };
}

cases!(
    fifty_kills_restarts_and_upgrades_under_a_flood_let_nothing_in,
    a_kill_between_native_and_generic_xdp_leaves_a_filter,
);

const ROUNDS: u64 = 50;
/// Sources of the flood, of each family.
const SOURCES: u16 = 64;
/// After each turn of the flood: the machine has other work as well.
const PAUSE: Duration = Duration::from_micros(500);

/// When in its life a gate is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// So long after its start.
    Starting(Duration),
    /// So long after it was told to take another policy.
    Changing(Duration),
    /// Idle.
    Idle,
}

/// What a storm goes on with.
struct Storm<'a> {
    case: &'a Case,
    stage: &'a Stage,
    chance: Chance,
    /// How long a start took, and a change of the policy.
    start: Duration,
    change: Duration,
    /// Which hook is wanted now.
    attach: &'static str,
    upgrades: u64,
    /// What the last rounds were.
    done: Vec<String>,
}

impl Storm<'_> {
    /// Writes one of the policies: the friend may come in by all of them, the flood by none.
    fn write(&mut self) -> Result<()> {
        let keys = format!(
            "[gate]\nattach = \"{}\"\nfailsafe = [\"192.0.2.{}\"]\n",
            self.attach,
            self.chance.below(200)
        );
        let setup = self.stage.setup.clone().with("[gate]\n", &keys);
        let (v4, v6) = (self.stage.friend.v4, self.stage.friend.v6);
        let (more, ports) = (self.chance.below(200), self.chance.below(3));
        let mut body = format!(
            "[entry_points.gated]\naddress = \":{PORT}\"\ngate = {{ interfaces = [\"{INTERFACE}\"], \
             allow = [\"{v4}\", \"{v6}\", \"198.51.100.{more}\", \"2001:db8::{more}\"] }}\n"
        );
        for port in 0..ports {
            body += &format!(
                "[entry_points.more{port}]\naddress = \":{}\"\n\
                 gate = {{ interfaces = [\"{INTERFACE}\"], allow = [\"198.51.100.0/24\"] }}\n",
                PORT - 1 - u16::try_from(port)?
            );
        }
        setup.write(&body)
    }

    fn moment(&mut self) -> Moment {
        match self.chance.below(4) {
            0 | 1 => Moment::Starting(self.chance.moment(self.start * 5 / 4)),
            2 => Moment::Changing(self.chance.moment(self.change * 5 / 4)),
            _ => Moment::Idle,
        }
    }

    /// Moves the pins away to where a version with another layout would have left them.
    fn become_older(&mut self) -> Result<()> {
        let pins = self.case.lab.bpffs()?.join("gateway");
        let ours = pins.join(format!("v{}", sallyport_ebpf::LAYOUT));
        if ours.exists() {
            self.upgrades += 1;
            fs::rename(&ours, pins.join(format!("v{}", 4000 + self.upgrades)))?;
        }
        Ok(())
    }

    fn round(&mut self) -> Result<()> {
        if self.chance.below(5) == 0 {
            let hooks = ["auto", "tc", "clsact", "xdp-generic"];
            let hook = usize::try_from(self.chance.below(4))?;
            self.attach = hooks.get(hook).copied().context("within the table")?;
        }
        self.write()?;
        if self.chance.below(3) == 0 {
            self.become_older()?;
        }
        let moment = self.moment();
        let (attach, upgrades) = (self.attach, self.upgrades);
        self.done
            .push(format!("{moment:?} by {attach} after {upgrades} upgrades"));
        let gate = spawn(self.stage)?;
        match moment {
            Moment::Starting(after) => std::thread::sleep(after),
            Moment::Changing(after) => {
                let mut socket = connect(self.stage, gate)?;
                self.write()?;
                socket.1.write_all(b"apply {\"confirm\":null,\"force\":true}\n")?;
                std::thread::sleep(after);
                return kill(socket.0);
            }
            Moment::Idle => return kill(connect(self.stage, gate)?.0),
        }
        kill(gate)
    }
}

fn spawn(stage: &Stage) -> Result<Proc> {
    let spawn = Spawn::new("gate", binary()?).arg("gate").arg("run");
    stage
        .setup
        .ns()
        .spawn(spawn.arg("--config").arg(stage.setup.file()))
}

/// Waits until it answers.
fn connect(stage: &Stage, mut gate: Proc) -> Result<(Proc, UnixStream)> {
    let socket = wait::until(Duration::from_secs(30), "the gate's socket", || {
        gate.must_run()?;
        Ok(UnixStream::connect(stage.setup.gate_socket()).ok())
    });
    let socket = socket.with_context(|| {
        let stack = fs::read_to_string(format!("/proc/{}/stack", gate.pid())).unwrap_or_default();
        format!("it says {}\nand is at {stack}", gate.log())
    })?;
    Ok((gate, socket))
}

/// Kills it if it still lives: one that has ended by itself has failed.
fn kill(mut gate: Proc) -> Result<()> {
    if let Some(status) = gate.ended()? {
        bail!("the gate ended by itself with {status}: {}", gate.log());
    }
    gate.signal(Signal::SIGKILL)?;
    gate.wait(SOON).map(drop)
}

/// Requests of strangers to the gated port, of both families.
fn strangers(stage: &Stage) -> Result<Stream> {
    let to_mac = mac(&stage.gateway.ns, INTERFACE)?;
    let mut frames = Vec::new();
    for number in 0..SOURCES {
        let [high, low] = number.to_be_bytes();
        let four = IpAddr::V4(Ipv4Addr::new(203, 0, 113 + high, low));
        let six = IpAddr::V6(Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, number));
        for (from, to) in [(four, stage.gateway.v4.into()), (six, stage.gateway.v6.into())] {
            let from = SocketAddr::new(from, 1024 + number);
            frames.push(request(to_mac, from, SocketAddr::new(to, PORT)));
        }
    }
    // The stranger's own neighbours are on the gated network.
    for (from, to) in stage
        .stranger
        .addresses()
        .into_iter()
        .zip(stage.gateway.addresses())
    {
        frames.push(request(
            to_mac,
            SocketAddr::new(from, 1023),
            SocketAddr::new(to, PORT),
        ));
    }
    let wire = Wire::open(&stage.stranger.ns, INTERFACE)?;
    Ok(Stream::start(vec![(wire, frames)], PAUSE))
}

/// How many rounds.
fn rounds() -> Result<u64> {
    match std::env::var("SALLYPORT_STORM_ROUNDS") {
        Ok(rounds) => Ok(rounds.parse()?),
        Err(_) => Ok(ROUNDS),
    }
}

/// A stage under a flood that comes through: nothing filters yet.
fn flooded(case: &Case) -> Result<(Stage, Through, Stream)> {
    let stage = Stage::new(case)?;
    let [v4, v6] = stage.friend.addresses();
    let leak = Through::watch(&stage.gateway.ns, PORT, &[("friend4", v4), ("friend6", v6)])?;
    let flood = strangers(&stage)?;
    wait::until(SOON, "the flood comes through", || {
        Ok((leak.others()? > 100).then_some(()))
    })?;
    Ok((stage, leak, flood))
}

/// What came through before the gate was there, once it is.
fn before(leak: &Through) -> Result<u64> {
    wait::until_steady(SOON, Duration::from_millis(100), "what came before", || {
        leak.others().unwrap_or_default()
    })
}

fn can_count(name: &str) -> bool {
    let can = is_installed("nft");
    if !can {
        skip(name, "needs `nft`");
    }
    can
}

fn fifty_kills_restarts_and_upgrades_under_a_flood_let_nothing_in(case: &Case) -> Result<()> {
    if !can_count("fifty_kills_restarts_and_upgrades_under_a_flood_let_nothing_in") {
        return Ok(());
    }
    let (stage, leak, flood) = flooded(case)?;
    let began = Instant::now();
    let gate = Gate::start(&stage.setup)?;
    let start = began.elapsed();
    let shown = entry(&gate, INTERFACE)?;
    ensure!(word(&shown, "actual") == "xdp", "{shown}");
    let mut storm = Storm {
        case,
        stage: &stage,
        chance: Chance::new()?,
        start,
        change: start,
        attach: "auto",
        upgrades: 0,
        done: Vec::new(),
    };
    storm.write()?;
    let began = Instant::now();
    gate.ask(r#"apply {"confirm":null,"force":true}"#)?;
    storm.change = began.elapsed();
    kill(gate.proc)?;
    let before = before(&leak)?;
    let to = stage.gateway.addresses().map(|to| SocketAddr::new(to, PORT));
    let comers = Comers::start(&stage.friend, to.to_vec(), stage.listener()?)?;
    for round in 0..rounds()? {
        let outcome = storm.round();
        let through = leak.others()? - before;
        ensure!(
            outcome.is_ok() && through == 0,
            "round {round}: {through} packets of strangers came through, {outcome:?}; the rounds were\n{}",
            storm.done.join("\n")
        );
    }
    let (met, upgrades) = (comers.stop()?, storm.upgrades);
    let sent: u64 = flood.stop()?.iter().flatten().sum();
    let _gate = Gate::start(&stage.setup)?;
    stage.must_filter()?;
    println!(
        "{sent} packets of strangers, none came through; {upgrades} upgrades; friends: {met:?}; {start:?}"
    );
    ensure!(
        met.failed.is_empty() && met.connected > 0,
        "friends were kept out: {met:?}"
    );
    Ok(())
}

/// The pin of a hook's link, as soon as a version of this layout has one.
fn pin(case: &Case, hook: &str) -> Result<Option<PathBuf>> {
    let pins = case.lab.bpffs()?.join("gateway");
    let Ok(namespaces) = fs::read_dir(pins.join(format!("v{}", sallyport_ebpf::LAYOUT))) else {
        return Ok(None);
    };
    for namespace in namespaces {
        for entry in fs::read_dir(namespace?.path())? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_links = name.starts_with("link_") && name.contains(&format!("_{hook}_"));
            if is_links {
                return Ok(Some(path));
            }
        }
    }
    Ok(None)
}

/// The two exclude each other, so that one must go before the other can come. Whoever is killed just then leaves what
/// stands in meanwhile.
fn a_kill_between_native_and_generic_xdp_leaves_a_filter(case: &Case) -> Result<()> {
    if !can_count("a_kill_between_native_and_generic_xdp_leaves_a_filter") {
        return Ok(());
    }
    let (stage, leak, flood) = flooded(case)?;
    drop(Gate::start(&stage.setup)?);
    let before = before(&leak)?;
    for (old, new) in [("xdp", "xdp-generic"), ("xdp-generic", "xdp")].repeat(3) {
        let there = pin(case, old)?.context("no link is pinned")?;
        let keys = format!("[gate]\nattach = \"{new}\"\n");
        let setup = stage.setup.clone().with("[gate]\n", &keys);
        setup.write(&stage.body(&[INTERFACE]))?;
        let mut gate = spawn(&stage)?;
        while there.exists() {
            gate.must_run()?;
        }
        kill(gate)?;
        let killed_between = pin(case, new)?.is_none();
        let from = flood.turns();
        wait::until(SOON, "the flood goes on", || {
            Ok((flood.turns() > from + 50).then_some(()))
        })?;
        let through = leak.others()? - before;
        ensure!(through == 0, "{old} to {new}: {through} packets came through");
        println!("{old} to {new}, killed between: {killed_between}");
        let gate = Gate::start(&setup)?;
        ensure!(gate.attached(INTERFACE)? == new, "{}", entry(&gate, INTERFACE)?);
        stage.must_filter()?;
        kill(gate.proc)?;
        ensure!(pin(case, "tcx")?.is_none(), "what stood in is still there");
    }
    let through = leak.others()? - before;
    // The stranger of `must_filter` is one of those that are counted.
    ensure!(through == 0, "{through} packets came through");
    Ok(())
}
