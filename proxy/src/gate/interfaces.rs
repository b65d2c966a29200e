//! The host's interfaces and addresses, and the kernel's word that they changed (rtnetlink, never
//! `/sys/class/net`, which shows another namespace's after `setns`).

use super::{
    error::GateError,
    netlink::{Attributes, Message, Netlink, attribute},
};
use crate::fault::with_causes;
use ipnet::IpNet;
use nix::{
    ifaddrs::getifaddrs,
    libc,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
    },
};
use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

/// `RTMGRP_LINK`, `RTMGRP_TC`, `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV6_IFADDR` of `linux/rtnetlink.h`, and its groups
/// `RTNLGRP_IPV4_NETCONF` and `RTNLGRP_IPV6_NETCONF`: somebody may have deleted a clsact filter, or switched forwarding.
/// Routes are not among them, because a router's come by the thousand; a local one that is no address is seen at the
/// next look.
const GROUPS: u32 = 0x1 | 0x8 | 0x10 | 0x100 | 1 << 23 | 1 << 24;

/// Tells when interfaces or addresses change.
pub(super) struct Changes {
    socket: OwnedFd,
}

impl Changes {
    /// Subscribes.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub(super) fn subscribe() -> Result<Self, GateError> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let failed = |errno: nix::Error| GateError::Watch(errno.into());
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            flags,
            SockProtocol::NetlinkRoute,
        )
        .map_err(failed)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS)).map_err(failed)?;
        Ok(Self { socket })
    }

    /// What to wait on.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Reads away what has come. What it says does not matter: the whole state is looked at again, so a
    /// lost message (ENOBUFS) is one more reason to look.
    pub(super) fn drain(&self) {
        let mut buffer = [0u8; 16 * 1024];
        loop {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(count) if count > 0 => {}
                Err(nix::Error::ENOBUFS | nix::Error::EINTR) => {}
                _ => return,
            }
        }
    }
}

/// What a device puts before the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Device {
    /// An Ethernet header.
    Ethernet,
    /// Nothing: TUN, WireGuard, PPP and other tunnels.
    Bare,
}

/// An interface as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interface {
    /// Its name.
    pub(super) name: String,
    /// Its index.
    pub(super) index: u32,
    /// What it is.
    pub(super) device: Device,
}

/// `ARPHRD_ETHER` and `ARPHRD_LOOPBACK` of `linux/if_arp.h`.
const ETHERNET_TYPES: [u16; 2] = [1, 772];

/// `IFLA_XDP_PROG_ID` and those of the three modes, of `linux/if_link.h`.
const XDP_PROGRAMS: std::ops::RangeInclusive<u16> = 4..=7;

impl Interface {
    /// Looks an interface up by its name, `None` where it is not there. One that is found by another name of it has its
    /// own name in the answer.
    pub(super) fn look_up(name: &str) -> Option<Self> {
        let named = [name.as_bytes(), &[0]].concat();
        let body = [link_header(0), attribute(libc::IFLA_IFNAME, &named)].concat();
        let answer = Netlink::open().and_then(|netlink| netlink.request(libc::RTM_GETLINK, 0, &body));
        match answer {
            Ok(answer) => answer.iter().find_map(|message| Self::read(name, message)),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => None,
            Err(error) => {
                let (interface, error) = (name, with_causes(&error));
                tracing::error!(interface, error, "the interface cannot be looked up");
                None
            }
        }
    }

    fn read(name: &str, message: &Message) -> Option<Self> {
        let ([_, _, kind_low, kind_high, ..], attributes) = message.split::<16>()?;
        let ethernet = ETHERNET_TYPES.contains(&u16::from_ne_bytes([*kind_low, *kind_high]));
        Some(Self {
            name: attributes.text(libc::IFLA_IFNAME).unwrap_or(name).to_owned(),
            index: link_index(message)?,
            device: if ethernet { Device::Ethernet } else { Device::Bare },
        })
    }

    /// The name that an index has now, `None` where it has none.
    pub(super) fn name_of(index: u32) -> Option<String> {
        let netlink = Netlink::open().ok()?;
        let answer = netlink.request(libc::RTM_GETLINK, 0, &link_header(index)).ok()?;
        let (_, attributes) = answer.first()?.split::<16>()?;
        attributes.text(libc::IFLA_IFNAME).map(str::to_owned)
    }

    /// The numbers of the XDP programs on the interface of an index.
    ///
    /// # Errors
    /// Where the kernel does not say.
    pub(super) fn xdp_programs(index: u32) -> io::Result<Vec<u32>> {
        let answer = Netlink::open()?.request(libc::RTM_GETLINK, 0, &link_header(index))?;
        let attributes = answer.first().and_then(|message| message.split::<16>());
        let xdp = attributes.and_then(|(_, attributes)| attributes.nested(libc::IFLA_XDP));
        let numbers = XDP_PROGRAMS.filter_map(|kind| xdp?.number(kind));
        Ok(numbers.collect())
    }

    /// The indices of all interfaces.
    ///
    /// # Errors
    /// Where they cannot be listed.
    pub(super) fn indices(netlink: &Netlink) -> io::Result<Vec<u32>> {
        let listed = netlink.list(libc::RTM_GETLINK, &link_header(0))?;
        Ok(listed.iter().filter_map(link_index).collect())
    }
}

/// `struct ifinfomsg` with an index.
fn link_header(index: u32) -> Vec<u8> {
    let mut header = vec![0; 16];
    header.splice(4..8, index.to_ne_bytes());
    header
}

fn link_index(message: &Message) -> Option<u32> {
    let ([_, _, _, _, a, b, c, d, ..], _) = message.split::<16>()?;
    Some(u32::from_ne_bytes([*a, *b, *c, *d]))
}

/// All addresses of this host in this namespace.
///
/// # Errors
/// Where they cannot be listed.
pub(super) fn local_addresses() -> Result<BTreeSet<IpAddr>, GateError> {
    let addresses = getifaddrs().map_err(|errno| GateError::Watch(io::Error::from(errno)))?;
    let each = addresses.filter_map(|entry| {
        let address = entry.address?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    });
    Ok(each.collect())
}

/// All prefixes whose packets this host takes for its own: its addresses, and the local routing table, where a whole
/// prefix may be (`ip route add local 192.0.2.0/24 dev lo`). An interface of a VRF has its addresses in another table,
/// therefore both.
///
/// # Errors
/// Where they cannot be listed.
pub(super) fn local_prefixes() -> Result<BTreeSet<IpNet>, GateError> {
    let netlink = Netlink::open().map_err(GateError::Watch)?;
    let mut prefixes: BTreeSet<IpNet> = local_addresses()?.into_iter().map(IpNet::from).collect();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let routes = local_routes(&netlink, family).map_err(GateError::Watch)?;
        prefixes.extend(routes.iter().filter_map(local_route));
    }
    Ok(prefixes)
}

fn local_routes(netlink: &Netlink, family: libc::c_int) -> io::Result<Vec<Message>> {
    let family = u8::try_from(family).map_err(|_| io::ErrorKind::InvalidInput)?;
    // `struct rtmsg`; the kernel heeds its table.
    let body = [family, 0, 0, 0, libc::RT_TABLE_LOCAL, 0, 0, 0, 0, 0, 0, 0];
    match netlink.list(libc::RTM_GETROUTE, &body) {
        // No such family, or nothing local in it yet.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOENT)) => Ok(Vec::new()),
        other => other,
    }
}

/// The destination of a route of the local table to this host itself.
fn local_route(message: &Message) -> Option<IpNet> {
    let ([family, length, _, _, _, _, _, kind, ..], attributes) = message.split::<12>()?;
    let ours = [libc::RTN_LOCAL, libc::RTN_ANYCAST].contains(kind);
    let table = attributes.number(libc::RTA_TABLE)?;
    if !ours || table != u32::from(libc::RT_TABLE_LOCAL) {
        return None;
    }
    let address = route_address(libc::c_int::from(*family), attributes)?;
    Some(IpNet::new(address, *length).ok()?.trunc())
}

/// A default route has no address.
fn route_address(family: libc::c_int, attributes: Attributes<'_>) -> Option<IpAddr> {
    let bytes = attributes.find(libc::RTA_DST);
    match (family, bytes) {
        (libc::AF_INET, None) => Some(Ipv4Addr::UNSPECIFIED.into()),
        (libc::AF_INET6, None) => Some(Ipv6Addr::UNSPECIFIED.into()),
        (libc::AF_INET, Some(bytes)) => Some(IpAddr::from(*bytes.first_chunk::<4>()?)),
        (libc::AF_INET6, Some(bytes)) => Some(IpAddr::from(*bytes.first_chunk::<16>()?)),
        _ => None,
    }
}
