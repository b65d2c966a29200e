//! What storms on a gateway need beside a flood: a count of what came through that is not the gate's own, friends that
//! come all the time, and chance that can be repeated.

use crate::lab::Ns;
use crate::lan::Host;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a friend may take: a request that is lost is sent again after a second.
const FRIEND: Duration = Duration::from_millis(3500);
/// Longer than this, and a request was lost.
const LOST: Duration = Duration::from_millis(900);
/// Between two connections of a friend.
const BREATH: Duration = Duration::from_millis(5);

/// Counts of packets to a port that were let through to a host, by nftables: each by its source's name, all others under
/// [`OTHERS`].
#[derive(Debug)]
pub struct Through {
    ns: Ns,
}

/// The name of what comes from a source without one.
pub const OTHERS: &str = "others";

impl Through {
    /// Counts from now on.
    ///
    /// # Errors
    /// Where `nft` is not there or refuses.
    pub fn watch(ns: &Ns, port: u16, sources: &[(&str, IpAddr)]) -> Result<Through> {
        let (mut counters, mut rules) = (format!("counter {OTHERS} {{}}\n"), String::new());
        for (name, source) in sources {
            let family = if source.is_ipv4() { "ip" } else { "ip6" };
            writeln!(counters, "counter {name} {{}}")?;
            writeln!(
                rules,
                "tcp dport {port} {family} saddr {source} counter name {name} accept"
            )?;
        }
        writeln!(rules, "tcp dport {port} counter name {OTHERS}")?;
        let file = ns.fresh("rules", "nft");
        std::fs::write(
            &file,
            format!(
                "table inet storm {{\n{counters}chain before {{\ntype filter hook prerouting priority -300;\n{rules}}}\n}}"
            ),
        )?;
        let through = Through { ns: ns.clone() };
        through.nft(&["-f", &file.display().to_string()])?;
        Ok(through)
    }

    /// Packets so far, by name.
    ///
    /// # Errors
    /// Where `nft` refuses.
    pub fn packets(&self) -> Result<BTreeMap<String, u64>> {
        let shown: Value = serde_json::from_slice(&self.nft(&["-j", "list", "counters"])?)?;
        let listed = shown.get("nftables").and_then(Value::as_array);
        let counters = listed.into_iter().flatten().filter_map(|entry| {
            let name = entry.pointer("/counter/name")?.as_str()?;
            Some((name.to_owned(), entry.pointer("/counter/packets")?.as_u64()?))
        });
        Ok(counters.collect())
    }

    /// Packets from sources without a name so far.
    ///
    /// # Errors
    /// Where `nft` refuses.
    pub fn others(&self) -> Result<u64> {
        let packets = self.packets()?;
        packets.get(OTHERS).copied().context("nft lost its counter")
    }

    fn nft(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        let output = self.ns.output(Command::new("nft").args(arguments))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "nft {arguments:?}: {said}");
        Ok(output.stdout)
    }
}

/// What friends met.
#[derive(Clone, Debug, Default)]
pub struct Met {
    /// Connections that came about.
    pub connected: u64,
    /// Those of them whose first request was lost.
    pub late: u64,
    /// Connections that did not.
    pub failed: Vec<String>,
}

/// A thread in which a friend connects again and again, and one that takes it in.
#[derive(Debug)]
pub struct Comers {
    stop: Arc<AtomicBool>,
    friend: Option<JoinHandle<Result<Met>>>,
    listener: Option<JoinHandle<()>>,
}

impl Comers {
    /// From a host to some addresses, by turns; `listener` is theirs.
    ///
    /// # Errors
    /// Where the listener cannot be asked without waiting.
    pub fn start(from: &Host, to: Vec<SocketAddr>, listener: TcpListener) -> Result<Comers> {
        listener.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (told, ns) = (Arc::clone(&stop), from.ns.clone());
        let friend = std::thread::spawn(move || ns.enter(|| Ok(come(&to, &told))));
        let told = Arc::clone(&stop);
        let listener = std::thread::spawn(move || take_in(&listener, &told));
        Ok(Comers {
            stop,
            friend: Some(friend),
            listener: Some(listener),
        })
    }

    /// Ends; what they met.
    ///
    /// # Errors
    /// Where the thread has failed.
    pub fn stop(mut self) -> Result<Met> {
        self.stop.store(true, Ordering::Relaxed);
        let friend = self.friend.take().context("it ends once")?;
        friend.join().ok().context("the friend's thread panicked")?
    }
}

impl Drop for Comers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let friend = self.friend.take().map(|thread| thread.join().is_ok());
        let listener = self.listener.take().map(|thread| thread.join().is_ok());
        // Whether they panicked has been told where it matters.
        let _ends = (friend, listener);
    }
}

fn come(to: &[SocketAddr], told: &AtomicBool) -> Met {
    let mut met = Met::default();
    for to in to.iter().cycle() {
        if told.load(Ordering::Relaxed) {
            break;
        }
        let began = Instant::now();
        match TcpStream::connect_timeout(to, FRIEND) {
            Ok(_) => met.connected += 1,
            Err(error) => met.failed.push(format!("{to}: {error}")),
        }
        met.late += u64::from(began.elapsed() > LOST);
        std::thread::sleep(BREATH);
    }
    met
}

fn take_in(listener: &TcpListener, told: &AtomicBool) {
    while !told.load(Ordering::Relaxed) {
        match listener.accept() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(BREATH),
            _ => {}
        }
    }
}

/// Numbers that look like chance and come again with the same seed (xorshift64*).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// From `SALLYPORT_STORM_SEED`, or always the same.
    ///
    /// # Errors
    /// Where the variable is no number.
    pub fn new() -> Result<Chance> {
        let seed = match std::env::var("SALLYPORT_STORM_SEED") {
            Ok(seed) => seed.parse::<u64>()?,
            Err(_) => 1,
        };
        println!("SALLYPORT_STORM_SEED={seed}");
        Ok(Chance::of(seed))
    }

    /// From this seed.
    #[must_use]
    pub fn of(seed: u64) -> Chance {
        Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    /// Below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// A moment of a span.
    pub fn moment(&mut self, span: Duration) -> Duration {
        Duration::from_micros(self.below(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }
}
