//! Several hosts on one switched network: a namespace each, joined by a bridge in a namespace of its own.

use crate::lab::{Lab, Ns, veth};
use anyhow::{Result, ensure};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Name of every host's interface on the network.
pub const INTERFACE: &str = "eth0";

/// A switched network; host `n` (from 1) is 10.77.SUBNET.n and fd77:SUBNET::n.
#[derive(Debug)]
pub struct Lan {
    switch: Ns,
    subnet: u8,
    hosts: u8,
}

/// A host on a [`Lan`].
#[derive(Clone, Debug)]
pub struct Host {
    /// Its namespace.
    pub ns: Ns,
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
}

impl Host {
    /// Both addresses.
    #[must_use]
    pub fn addresses(&self) -> [IpAddr; 2] {
        [IpAddr::V4(self.v4), IpAddr::V6(self.v6)]
    }
}

impl Lan {
    /// An empty network; `subnet` keeps the networks of one lab apart.
    ///
    /// # Errors
    /// Where the bridge cannot be made.
    pub fn new(lab: &Lab, subnet: u8) -> Result<Lan> {
        let switch = lab.namespace(&format!("lan{subnet}"))?;
        switch
            .ip("link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\nlink set br0 up\n")?;
        Ok(Lan {
            switch,
            subnet,
            hosts: 0,
        })
    }

    /// A new host in a new namespace.
    ///
    /// # Errors
    /// Where `ip` refuses.
    pub fn host(&mut self, lab: &Lab, name: &str) -> Result<Host> {
        let ns = lab.namespace(name)?;
        self.join(&ns, INTERFACE)
    }

    /// Joins a namespace by an interface of the given name.
    ///
    /// # Errors
    /// Where `ip` refuses.
    pub fn join(&mut self, ns: &Ns, interface: &str) -> Result<Host> {
        ensure!(self.hosts < 250, "the network is full");
        self.hosts += 1;
        let port = format!("port{}", self.hosts);
        veth(ns, interface, &self.switch, &port)?;
        self.switch.ip(&format!("link set {port} master br0\n"))?;
        let v4 = Ipv4Addr::new(10, 77, self.subnet, self.hosts);
        let v6 = Ipv6Addr::new(
            0xfd77,
            u16::from(self.subnet),
            0,
            0,
            0,
            0,
            0,
            u16::from(self.hosts),
        );
        ns.ip(&format!(
            "addr add {v4}/24 dev {interface}\naddr add {v6}/64 dev {interface} nodad\n"
        ))?;
        Ok(Host {
            ns: ns.clone(),
            v4,
            v6,
        })
    }
}
