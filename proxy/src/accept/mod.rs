//! The second gate: whether a connection's source may be here at all.
//!
//! The same compiled policy as the kernel filter's, judged by the socket's peer on every connection whatever
//! interface it came by. Addresses that a PROXY header or a request asserts never count here.

use crate::gate::policy::SourceSet;
use std::net::SocketAddr;

/// The other end of a socket, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddress(pub SocketAddr);

/// What a refused source meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdmissionMode {
    /// It is closed.
    Enforce,
    /// It is counted and let in.
    Observe,
}

/// The policy of one entry point.
#[derive(Debug)]
pub struct Admission {
    /// Who may connect.
    pub allow: SourceSet,
    /// Who always may.
    pub failsafe: SourceSet,
    /// What the others meet.
    pub mode: AdmissionMode,
}

/// The judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// On the allowlist.
    Admitted,
    /// Not on it, and let in.
    Observed,
    /// Not on it: close before any byte.
    Refused,
}

impl Admission {
    /// Judges a peer.
    pub fn judge(&self, peer: PeerAddress) -> Verdict {
        let source = peer.0.ip();
        match self.mode {
            _ if self.allow.contains(source) || self.failsafe.contains(source) => Verdict::Admitted,
            AdmissionMode::Observe => Verdict::Observed,
            AdmissionMode::Enforce => Verdict::Refused,
        }
    }
}
