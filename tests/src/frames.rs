//! Ethernet frames with a TCP segment, put on a wire as they are: any source, an exact count, nothing of the sending
//! host's stack in between. What becomes of them it must not know.

use crate::lab::Ns;
use anyhow::{Context, Result, ensure};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike, bind, send, socket,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A hardware address.
pub type Mac = [u8; 6];

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const SYN: u8 = 2;

/// Sends frames out of one interface.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
}

impl Wire {
    /// Out of an interface of `ns`.
    ///
    /// # Errors
    /// Where it is not there, or a packet socket is refused.
    pub fn open(ns: &Ns, interface: &str) -> Result<Wire> {
        ns.enter(|| {
            let place = link(interface)?;
            // No protocol: it receives nothing.
            let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)
                .context("no packet socket")?;
            bind(socket.as_raw_fd(), &place).context("cannot bind to the interface")?;
            Ok(Wire { socket })
        })
    }

    /// Sends one frame; whether the other end of the wire has it. A full queue there is an ordinary thing under load.
    #[must_use]
    pub fn send(&self, frame: &[u8]) -> bool {
        send(self.socket.as_raw_fd(), frame, MsgFlags::empty()).is_ok()
    }
}

/// A thread that sends frames by turns until it is stopped.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    turns: Arc<AtomicU64>,
    thread: Option<JoinHandle<Vec<Vec<u64>>>>,
}

impl Stream {
    /// Begins: on every wire its frames, and a pause after each turn, which may be none.
    #[must_use]
    pub fn start(wires: Vec<(Wire, Vec<Vec<u8>>)>, pause: Duration) -> Stream {
        let stop = Arc::new(AtomicBool::new(false));
        let turns = Arc::new(AtomicU64::new(0));
        let (told, turned) = (Arc::clone(&stop), Arc::clone(&turns));
        let send = move || {
            let mut sent: Vec<Vec<u64>> = wires.iter().map(|(_, frames)| vec![0; frames.len()]).collect();
            while !told.load(Ordering::Relaxed) {
                for ((wire, frames), sent) in wires.iter().zip(&mut sent) {
                    for (frame, sent) in frames.iter().zip(sent) {
                        *sent += u64::from(wire.send(frame));
                    }
                }
                turned.fetch_add(1, Ordering::Relaxed);
                if !pause.is_zero() {
                    std::thread::sleep(pause);
                }
            }
            sent
        };
        Stream {
            stop,
            turns,
            thread: Some(std::thread::spawn(send)),
        }
    }

    /// How often every frame has been sent.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Stops; how many of each frame the other end of each wire was given.
    ///
    /// # Errors
    /// Where one was never sent: then nothing was tried.
    pub fn stop(mut self) -> Result<Vec<Vec<u64>>> {
        let sent = self.end().context("the stream has ended before")?;
        ensure!(
            sent.iter().flatten().all(|sent| *sent > 0),
            "not every frame was sent"
        );
        Ok(sent)
    }

    fn end(&mut self) -> Option<Vec<Vec<u64>>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take()?.join().ok()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _counts = self.end();
    }
}

/// The hardware address of an interface.
///
/// # Errors
/// Where it is not there.
pub fn mac(ns: &Ns, interface: &str) -> Result<Mac> {
    ns.enter(|| link(interface)?.addr().context("no hardware address"))
}

fn link(interface: &str) -> Result<LinkAddr> {
    let found = getifaddrs()?
        .filter(|entry| entry.interface_name == interface)
        .find_map(|entry| {
            let address = entry.address?;
            let is_link = address.family() == Some(AddressFamily::Packet);
            is_link.then(|| address.as_link_addr().copied()).flatten()
        });
    found.with_context(|| format!("`{interface}` has no link address"))
}

/// A connection request with right checksums, to a host with this hardware address. Families do not mix: what is
/// returned is empty then.
#[must_use]
pub fn request(to_mac: Mac, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let tcp = [
        &from.port().to_be_bytes()[..],
        &to.port().to_be_bytes(),
        &[0, 0, 0, 1, 0, 0, 0, 0, 5 << 4, SYN, 0xff, 0xff, 0, 0, 0, 0],
    ]
    .concat();
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet(to_mac, IPV4, &v4(from, to, tcp)),
        (IpAddr::V6(from), IpAddr::V6(to)) => ethernet(to_mac, IPV6, &v6(from, to, tcp)),
        _ => Vec::new(),
    }
}

fn ethernet(to: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = to.to_vec();
    // A sender of our own administration.
    frame.extend([2, 0, 0, 0, 0, 0xee]);
    frame.extend(kind.to_be_bytes());
    frame.extend(payload);
    // The shortest frame of an Ethernet, without its check sequence.
    frame.resize(frame.len().max(60), 0);
    frame
}

fn v4(from: Ipv4Addr, to: Ipv4Addr, tcp: Vec<u8>) -> Vec<u8> {
    let pseudo = [&from.octets()[..], &to.octets(), &[0, TCP, 0, 20]].concat();
    let tcp = with_checksum(&pseudo, 16, tcp);
    let mut header = vec![0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, TCP, 0, 0];
    header.extend(from.octets());
    header.extend(to.octets());
    let mut packet = with_checksum(&[], 10, header);
    packet.extend(tcp);
    packet
}

fn v6(from: Ipv6Addr, to: Ipv6Addr, tcp: Vec<u8>) -> Vec<u8> {
    let pseudo = [&from.octets()[..], &to.octets(), &[0, 0, 0, 20, 0, 0, 0, TCP]].concat();
    let mut packet = vec![0x60, 0, 0, 0, 0, 20, TCP, 64];
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(with_checksum(&pseudo, 16, tcp));
    packet
}

/// `bytes` with the checksum of `before` and themselves in two bytes at `at`, which are 0 (RFC 1071).
fn with_checksum(before: &[u8], at: usize, mut bytes: Vec<u8>) -> Vec<u8> {
    let words = before.chunks(2).chain(bytes.chunks(2));
    let sum: u32 = words
        .map(|word| word.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    let checksum = !u16::try_from(folded).unwrap_or(u16::MAX);
    bytes.splice(at..at + 2, checksum.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::request;

    fn sum(bytes: &[u8]) -> u32 {
        let words = bytes.chunks(2);
        let sum: u32 = words
            .map(|word| word.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
            .sum();
        (sum & 0xffff) + (sum >> 16)
    }

    #[test]
    fn a_request_has_right_checksums() {
        let mac = [2, 0, 0, 0, 0, 1];
        let four = request(
            mac,
            "10.1.2.3:1024".parse().unwrap(),
            "10.77.1.1:8000".parse().unwrap(),
        );
        assert_eq!(four.len(), 60);
        assert_eq!(sum(&four[14..34]), 0xffff);
        let pseudo = [&four[26..34], &[0, 6, 0, 20], &four[34..54]].concat();
        assert_eq!(sum(&pseudo), 0xffff);
        let six = request(
            mac,
            "[fd00::1]:1024".parse().unwrap(),
            "[fd77::1]:8000".parse().unwrap(),
        );
        assert_eq!(six.len(), 74);
        let pseudo = [&six[22..54], &[0, 0, 0, 20, 0, 0, 0, 6], &six[54..74]].concat();
        assert_eq!(sum(&pseudo), 0xffff);
    }
}
