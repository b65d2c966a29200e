//! Connection requests (`SYN`) as raw packets, sent without a pause that a gap in a filter could fall into.

use crate::lab::Ns;
use anyhow::{Context, Result, bail};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// `IPPROTO_RAW`: the packet brings its own header.
const RAW: i32 = 255;
const TCP: u8 = 6;
const SYN: u8 = 2;
/// Packets between two breaths, and how long one is: the machine has other work as well.
const BURST: u16 = 32;
const BREATH: Duration = Duration::from_micros(200);

/// A thread that sends until it is stopped.
#[derive(Debug)]
pub struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// Sends requests from `ns` to a port of these addresses, by turns, from the given sources.
    ///
    /// # Errors
    /// Where a raw socket is refused.
    pub fn start(ns: &Ns, pairs: &[(IpAddr, IpAddr)], port: u16) -> Result<Flood> {
        let pairs = pairs.to_vec();
        let (v4, v6) = ns.enter(|| Ok((raw(Domain::IPV4)?, raw(Domain::IPV6)?)))?;
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (told, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let send = move || {
            for number in (0..=u16::MAX).cycle() {
                if told.load(Ordering::Relaxed) {
                    return;
                }
                for (from, to) in &pairs {
                    let from = SocketAddr::new(*from, 1024 | number);
                    let socket = if to.is_ipv4() { &v4 } else { &v6 };
                    let packet = syn(from, SocketAddr::new(*to, port));
                    let to = SockAddr::from(SocketAddr::new(*to, 0));
                    // A route that is not there for a moment is part of what is tried.
                    if socket.send_to(&packet, &to).is_ok() {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
                if number % BURST == 0 {
                    std::thread::sleep(BREATH);
                }
            }
        };
        Ok(Flood {
            stop,
            sent,
            thread: Some(std::thread::spawn(send)),
        })
    }

    /// How many were sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Stops, and says how many were sent.
    ///
    /// # Errors
    /// Where none was: then nothing was tried.
    pub fn stop(mut self) -> Result<u64> {
        self.end();
        match self.sent() {
            0 => bail!("the flood sent nothing"),
            sent => Ok(sent),
        }
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.end();
    }
}

fn raw(domain: Domain) -> Result<Socket> {
    Socket::new(domain, Type::RAW, Some(Protocol::from(RAW))).context("no raw socket")
}

/// TCP segments of both families that the namespace's stack was given so far.
///
/// # Errors
/// Where `/proc/net/snmp` cannot be read.
pub fn segments_in(ns: &Ns) -> Result<u64> {
    let text = ns.proc_net("snmp")?;
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
    let names = lines.next().context("no TCP line in snmp")?;
    let values = lines.next().context("no TCP values in snmp")?;
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    let (_, value) = pairs
        .find(|(name, _)| *name == "InSegs")
        .context("no `InSegs` in snmp")?;
    Ok(value.parse()?)
}

/// A connection request with right checksums.
fn syn(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let mut tcp = Vec::with_capacity(20);
    tcp.extend_from_slice(&from.port().to_be_bytes());
    tcp.extend_from_slice(&to.port().to_be_bytes());
    tcp.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 5 << 4, SYN, 0xff, 0xff, 0, 0, 0, 0]);
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => v4(from, to, tcp),
        (IpAddr::V6(from), IpAddr::V6(to)) => v6(from, to, tcp),
        // Families do not mix; nothing is sent then.
        _ => Vec::new(),
    }
}

fn v4(from: Ipv4Addr, to: Ipv4Addr, tcp: Vec<u8>) -> Vec<u8> {
    let pseudo = [&from.octets()[..], &to.octets(), &[0, TCP, 0, 20]].concat();
    let tcp = with_checksum(&pseudo, tcp);
    // The kernel fills in the header's own checksum.
    let mut packet = vec![0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, TCP, 0, 0];
    packet.extend_from_slice(&from.octets());
    packet.extend_from_slice(&to.octets());
    packet.extend(tcp);
    packet
}

fn v6(from: Ipv6Addr, to: Ipv6Addr, tcp: Vec<u8>) -> Vec<u8> {
    let pseudo = [&from.octets()[..], &to.octets(), &[0, 0, 0, 20, 0, 0, 0, TCP]].concat();
    let tcp = with_checksum(&pseudo, tcp);
    let mut packet = vec![0x60, 0, 0, 0, 0, 20, TCP, 64];
    packet.extend_from_slice(&from.octets());
    packet.extend_from_slice(&to.octets());
    packet.extend(tcp);
    packet
}

fn with_checksum(pseudo: &[u8], mut tcp: Vec<u8>) -> Vec<u8> {
    let words = pseudo.chunks(2).chain(tcp.chunks(2));
    let sum: u32 = words
        .map(|word| word.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    let checksum = !u16::try_from(folded).unwrap_or(u16::MAX);
    tcp.splice(16..18, checksum.to_be_bytes());
    tcp
}
