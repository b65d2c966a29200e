//! The place that a connection takes of those its client may have.

use super::context::Context;
use crate::{
    accept::{Held, PeerAddress},
    preamble::ClientAddress,
    snapshot::Entry,
    telemetry::Count,
};
use std::net::IpAddr;

/// A connection's place, given back when this is dropped.
pub(super) enum Place {
    /// None is needed, or it is taken.
    Settled(#[expect(dead_code, reason = "its drop gives the place back")] Option<Held>),
    /// The peer sends PROXY headers and stands for others, who count when it said who they are.
    ForOthers,
}

impl Place {
    /// That of a connection from `peer`; `None` where it has as many as it may.
    pub(super) fn at_accept(context: &Context, entry: &Entry, peer: PeerAddress) -> Option<Self> {
        let source = peer.0.ip();
        match &entry.preamble {
            Some(policy) if policy.trusted.contains(source) => Some(Self::ForOthers),
            _ => Self::of(context, entry, source),
        }
    }

    /// The same once the client is known.
    pub(super) fn for_client(self, context: &Context, entry: &Entry, client: ClientAddress) -> Option<Self> {
        match self {
            Self::Settled(_) => Some(self),
            Self::ForOthers => Self::of(context, entry, client.0.ip()),
        }
    }

    fn of(context: &Context, entry: &Entry, client: IpAddr) -> Option<Self> {
        let Some(max) = entry.limits.connections_per_ip_max else {
            return Some(Self::Settled(None));
        };
        let connections_max = context.view().snapshot.connections_max;
        let held = context.sources.enter(&entry.name, client, max, connections_max);
        if held.is_none() {
            context.counters.add(Count::ConnectionsPerIp);
            tracing::debug!(%client, entry = entry.name, "closed: the client has as many connections as it may");
        }
        Some(Self::Settled(Some(held?)))
    }
}
