//! The host's interfaces and addresses, and the kernel's word that they changed (rtnetlink, never
//! `/sys/class/net`, which shows another namespace's after `setns`).

use super::error::GateError;
use nix::{
    ifaddrs::getifaddrs,
    net::if_::if_nametoindex,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
    },
};
use std::{
    collections::BTreeSet,
    io,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV6_IFADDR` of `linux/rtnetlink.h`.
const GROUPS: u32 = 0x1 | 0x10 | 0x100;

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

impl Interface {
    /// Looks an interface up, `None` where it is not there.
    pub(super) fn look_up(name: &str) -> Option<Self> {
        let index = if_nametoindex(name).ok()?;
        let of_this = getifaddrs().ok()?.filter(|entry| entry.interface_name == name);
        let hardware = of_this
            .filter_map(|entry| Some(entry.address?.as_link_addr()?.hatype()))
            .next();
        // A device without a hardware address (TUN, WireGuard) has no such entry at all.
        let ethernet = hardware.is_some_and(|kind| ETHERNET_TYPES.contains(&kind));
        let device = if ethernet { Device::Ethernet } else { Device::Bare };
        Some(Self {
            name: name.to_owned(),
            index,
            device,
        })
    }
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
