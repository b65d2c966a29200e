//! What [`super::families`] names of services and their servers.

use super::{
    exposition::Samples,
    families::{MIRRORED, QUEUE_REFUSED, QUEUED, RETRIED, SERVER_EJECTED, SERVER_UP, STALE, TCP_SERVER_UP},
};
use crate::{balance::Moment, control::state::State, telemetry::Count};

/// Adds the samples.
pub(super) fn gather(state: &State, samples: &mut Samples) {
    let ((_, snapshot), now) = (state.published().read(), Moment::now());
    let mut services: Vec<_> = snapshot
        .services
        .values()
        .chain(snapshot.discovered.values())
        .collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    for service in services {
        // One URL may stand there several times: it is up where one of them is.
        let mut servers = std::collections::BTreeMap::<String, bool>::new();
        for (server, member) in service.servers.iter().zip(service.group.members()) {
            *servers.entry(server.url.to_string()).or_default() |= member.standing.is_available(now);
        }
        for (server, up) in servers {
            samples.add(&SERVER_UP, &[&service.name, &server], u64::from(up));
        }
    }
    let mut services: Vec<_> = snapshot.tcp_services.values().collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    for service in services {
        let mut servers = std::collections::BTreeMap::<String, bool>::new();
        for server in &service.servers {
            *servers.entry(server.address.to_string()).or_default() |= server.standing.is_up();
        }
        for (server, up) in servers {
            samples.add(&TCP_SERVER_UP, &[&service.name, &server], u64::from(up));
        }
    }
    let counts = state.counts();
    let of = |count: Count| counts.get(count.code()).copied().unwrap_or_default();
    samples.add(&SERVER_EJECTED, &[], of(Count::ServerEjected));
    samples.add(&RETRIED, &[], of(Count::UpstreamRetried));
    for count in [Count::UpstreamStale, Count::UpstreamFresh] {
        samples.add(&STALE, &[count.code()], of(count));
    }
    samples.add(&QUEUED, &[], of(Count::Queued));
    for count in [Count::QueueFull, Count::QueueTimeout] {
        samples.add(&QUEUE_REFUSED, &[count.code()], of(count));
    }
    for count in [Count::Mirrored, Count::MirrorDropped] {
        samples.add(&MIRRORED, &[count.code()], of(count));
    }
}
