//! The established TCP connections of this network namespace, by the kernel's socket diagnosis (sock_diag(7)).
//!
//! Parsing is pure and works on checked slices; the shell around it asks, reads and gives up in bounded time. It
//! judges nothing. The layouts are those of `linux/netlink.h` and `linux/inet_diag.h`; of the seventy-two bytes of
//! an answer five fields are read, for which a crate would be more code than this. Parts are read as they come, unlike
//! the whole answers of `gate::netlink`: a host may have a million connections.

use nix::{
    libc,
    sys::{
        socket::{
            AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recvfrom, sendto,
            setsockopt, socket, sockopt::ReceiveTimeout,
        },
        time::{TimeVal, TimeValLike},
    },
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd},
};

/// Connections that are listed at most; a host with more is told so.
const CONNECTIONS_MAX: usize = 1 << 20;
/// How long the kernel may be silent. It answers in the call itself; this is for a kernel that does not.
const SILENCE_SECONDS_MAX: i64 = 5;
/// The kernel makes no part of a dump larger than this.
const PART_BYTES_MAX: usize = 64 * 1024;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const TCP_ESTABLISHED: u8 = 1;
const HEADER_BYTES: usize = 16;
const REQUEST_BYTES: usize = HEADER_BYTES + 56;
/// Up to the end of the peer's address; what follows is not read.
const ANSWER_BYTES_MIN: usize = 40;

/// A connection as this host sees it. Addresses that are mapped into IPv6 are the IPv4 ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gate) struct Connection {
    /// This host's end.
    pub(in crate::gate) local: SocketAddr,
    /// The other end.
    pub(in crate::gate) peer: SocketAddr,
}

/// Lists all established TCP connections of the calling thread's network namespace, of both families.
///
/// # Errors
/// Where the kernel has no socket diagnosis, refuses, or has more connections than are listed.
pub(in crate::gate) fn established() -> io::Result<Vec<Connection>> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(SILENCE_SECONDS_MAX))?;
    let mut connections = Vec::new();
    for (family, sequence) in [(libc::AF_INET, 1), (libc::AF_INET6, 2)] {
        dump(&socket, family, sequence, &mut connections)?;
    }
    Ok(connections)
}

fn dump(socket: &OwnedFd, family: i32, sequence: u32, connections: &mut Vec<Connection>) -> io::Result<()> {
    let family = u8::try_from(family).map_err(io::Error::other)?;
    let kernel = NetlinkAddr::new(0, 0);
    sendto(
        socket.as_raw_fd(),
        &request(family, sequence),
        &kernel,
        MsgFlags::empty(),
    )?;
    let mut buffer = vec![0u8; PART_BYTES_MAX];
    loop {
        let (count, from) = recvfrom::<NetlinkAddr>(socket.as_raw_fd(), &mut buffer)?;
        // Only the kernel is believed.
        if from.is_none_or(|from| from.pid() != 0) {
            continue;
        }
        let part = buffer.get(..count).unwrap_or_default();
        if read_part(part, sequence, connections)? == Dump::Whole {
            return Ok(());
        }
        if connections.len() > CONNECTIONS_MAX {
            return Err(io::Error::other(format!(
                "more than {CONNECTIONS_MAX} connections are established"
            )));
        }
    }
}

/// A request for a dump: `struct nlmsghdr`, then `struct inet_diag_req_v2` whose socket identity is all zero.
fn request(family: u8, sequence: u32) -> [u8; REQUEST_BYTES] {
    const FLAGS: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    const PROTOCOL: u8 = libc::IPPROTO_TCP as u8;
    const LENGTH: u32 = REQUEST_BYTES as u32;
    let states: u32 = 1 << TCP_ESTABLISHED;
    let mut request = [0u8; REQUEST_BYTES];
    let fields: [&[u8]; 7] = [
        &LENGTH.to_ne_bytes(),
        &SOCK_DIAG_BY_FAMILY.to_ne_bytes(),
        &FLAGS.to_ne_bytes(),
        &sequence.to_ne_bytes(),
        &[0; 4],
        &[family, PROTOCOL, 0, 0],
        &states.to_ne_bytes(),
    ];
    let written = fields.concat();
    for (to, from) in request.iter_mut().zip(written) {
        *to = from;
    }
    request
}

/// How far a dump has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dump {
    Whole,
    More,
}

/// Reads one part of a dump. Messages with another sequence number answer an older question.
fn read_part(part: &[u8], sequence: u32, connections: &mut Vec<Connection>) -> io::Result<Dump> {
    const DONE: u16 = libc::NLMSG_DONE as u16;
    const ERROR: u16 = libc::NLMSG_ERROR as u16;
    let mut rest = part;
    while !rest.is_empty() {
        let message =
            Message::first(rest).ok_or_else(|| io::Error::other("a truncated answer of the kernel"))?;
        // Messages start at multiples of four; the last one may lack its padding.
        rest = rest.get(message.length.next_multiple_of(4)..).unwrap_or_default();
        if message.sequence != sequence {
            continue;
        }
        match message.kind {
            SOCK_DIAG_BY_FAMILY => connections.extend(connection(message.body)),
            DONE | ERROR => return end(message.body).map(|()| Dump::Whole),
            _ => {}
        }
    }
    Ok(Dump::More)
}

struct Message<'a> {
    length: usize,
    kind: u16,
    sequence: u32,
    body: &'a [u8],
}

impl<'a> Message<'a> {
    fn first(bytes: &'a [u8]) -> Option<Self> {
        let length = usize::try_from(u32::from_ne_bytes(array(bytes, 0)?)).ok()?;
        Some(Self {
            length,
            kind: u16::from_ne_bytes(array(bytes, 4)?),
            sequence: u32::from_ne_bytes(array(bytes, 8)?),
            body: bytes.get(HEADER_BYTES..length)?,
        })
    }
}

/// The end of a dump carries 0 or a negated errno. An older kernel's end may carry nothing.
fn end(body: &[u8]) -> io::Result<()> {
    match array(body, 0).map(i32::from_ne_bytes) {
        None | Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
    }
}

/// Reads a `struct inet_diag_msg`, `None` where it is no established connection of TCP over IP.
fn connection(body: &[u8]) -> Option<Connection> {
    let [family, state] = array(body, 0)?;
    if state != TCP_ESTABLISHED || body.len() < ANSWER_BYTES_MIN {
        return None;
    }
    let end = |port: usize, address: usize| {
        let port = u16::from_be_bytes(array(body, port)?);
        Some(SocketAddr::new(ip(family, body, address)?, port))
    };
    Some(Connection {
        local: end(4, 8)?,
        peer: end(6, 24)?,
    })
}

fn ip(family: u8, body: &[u8], at: usize) -> Option<IpAddr> {
    match i32::from(family) {
        libc::AF_INET => Some(Ipv4Addr::from(array::<4>(body, at)?).into()),
        libc::AF_INET6 => Some(IpAddr::from(Ipv6Addr::from(array::<16>(body, at)?)).to_canonical()),
        _ => None,
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert_eq, proptest};
    use std::net::{TcpListener, TcpStream};

    fn message(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER_BYTES + body.len()).expect("a small body");
        let mut bytes = [
            &length.to_ne_bytes()[..],
            &kind.to_ne_bytes(),
            &[0; 2],
            &sequence.to_ne_bytes(),
            &[0; 4],
            body,
        ]
        .concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// As the kernel writes it, with the parts that are not read.
    fn answer(state: u8, local: SocketAddr, peer: SocketAddr) -> Vec<u8> {
        let family = match local {
            SocketAddr::V4(_) => libc::AF_INET,
            SocketAddr::V6(_) => libc::AF_INET6,
        };
        let address = |end: SocketAddr| match end.ip() {
            IpAddr::V4(ip) => [&ip.octets()[..], &[0; 12]].concat(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        [
            &[u8::try_from(family).expect("small"), state, 0, 0][..],
            &local.port().to_be_bytes(),
            &peer.port().to_be_bytes(),
            &address(local),
            &address(peer),
            &[0xee; 32],
        ]
        .concat()
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn connections_of_both_families_are_read_and_mapped_ones_are_of_the_first() {
        let cases = [
            (
                "192.0.2.1:443",
                "198.51.100.7:5555",
                "192.0.2.1:443",
                "198.51.100.7:5555",
            ),
            (
                "[2001:db8::1]:443",
                "[2001:db8::2]:1",
                "[2001:db8::1]:443",
                "[2001:db8::2]:1",
            ),
            (
                "[::ffff:192.0.2.1]:8",
                "[::ffff:10.0.0.1]:9",
                "192.0.2.1:8",
                "10.0.0.1:9",
            ),
        ];
        let mut part = Vec::new();
        for (local, peer, _, _) in cases {
            part.extend(message(20, 7, &answer(TCP_ESTABLISHED, at(local), at(peer))));
        }
        // Not asked for, not established, and an unknown kind: none is a connection.
        part.extend(message(
            20,
            6,
            &answer(TCP_ESTABLISHED, at("1.1.1.1:1"), at("1.1.1.1:2")),
        ));
        part.extend(message(20, 7, &answer(10, at("1.1.1.1:1"), at("0.0.0.0:0"))));
        part.extend(message(99, 7, &[1, 2, 3]));
        let mut found = Vec::new();
        assert_eq!(read_part(&part, 7, &mut found).expect("valid"), Dump::More);
        let expected: Vec<Connection> = cases
            .iter()
            .map(|(_, _, local, peer)| Connection {
                local: at(local),
                peer: at(peer),
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_end_of_a_dump_is_told_from_its_failure() {
        let mut found = Vec::new();
        let done = message(3, 1, &0i32.to_ne_bytes());
        assert_eq!(read_part(&done, 1, &mut found).expect("valid"), Dump::Whole);
        assert_eq!(
            read_part(&message(3, 1, &[]), 1, &mut found).expect("valid"),
            Dump::Whole
        );
        for kind in [2, 3] {
            let refused = message(kind, 1, &(-libc::ENOENT).to_ne_bytes());
            let error = read_part(&refused, 1, &mut found).expect_err("an errno");
            assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        }
    }

    #[test]
    fn a_truncated_part_is_an_error_at_every_byte() {
        let whole = message(20, 1, &answer(1, at("192.0.2.1:443"), at("198.51.100.7:5555")));
        for length in 1..whole.len() {
            let part = &whole[..length];
            assert!(read_part(part, 1, &mut Vec::new()).is_err(), "{length}");
        }
    }

    #[test]
    fn a_body_that_ends_early_is_no_connection() {
        let body = answer(1, at("192.0.2.1:443"), at("198.51.100.7:5555"));
        for length in 0..ANSWER_BYTES_MIN {
            assert_eq!(connection(&body[..length]), None, "{length}");
        }
        assert!(connection(&body[..ANSWER_BYTES_MIN]).is_some());
    }

    #[test]
    fn the_kernel_lists_a_connection_at_both_of_its_ends() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                panic!("this host has no loopback address of the family of {address}");
            };
            let here = listener.local_addr().expect("bound");
            let client = TcpStream::connect(here).expect("a listener is there");
            let there = client.local_addr().expect("connected");
            let _server = listener.accept().expect("a client is there");
            let found = established().expect("socket diagnosis");
            for (local, peer) in [(here, there), (there, here)] {
                assert!(
                    found.contains(&Connection { local, peer }),
                    "{local} {peer}: {found:?}"
                );
            }
            assert!(
                !found.iter().any(|c| c.local == here && c.peer.port() == 0),
                "a listener is none"
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic_and_never_past_their_end(part in proptest::collection::vec(any::<u8>(), 0..300), sequence in 0u32..3) {
            let mut found = Vec::new();
            let _judged = read_part(&part, sequence, &mut found);
            assert!(found.len() <= part.len() / (HEADER_BYTES + ANSWER_BYTES_MIN));
        }

        #[test]
        fn what_is_written_is_read(local in any::<[u8; 16]>(), peer in any::<[u8; 16]>(), ports in any::<(u16, u16)>()) {
            let (local, peer) = (SocketAddr::new(IpAddr::from(local), ports.0), SocketAddr::new(IpAddr::from(peer), ports.1));
            let found = connection(&answer(TCP_ESTABLISHED, local, peer)).expect("a connection");
            let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
            prop_assert_eq!(found, Connection { local: canonical(local), peer: canonical(peer) });
        }
    }
}
