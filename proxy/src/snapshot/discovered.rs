//! Services that are made of what children advertise: who shares their requests, and how each child stands.
//!
//! `NAME@multicluster` and `NAME-CHILD@multicluster` have one standing a child and uplink between them, which outlives
//! every change of what is offered.

use super::{InUse, Probed, Service};
use crate::{
    balance::{Group, Member, Moment, Rules, key_of},
    uplink::directory::DiscoveredService,
    upstream::Server,
};
use http::HeaderValue;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// Compiles them, with the probes that they ask for.
pub(super) fn compile(
    found: &[DiscoveredService],
    children: &BTreeMap<String, Arc<Server>>,
    in_use: &InUse,
    now: Moment,
) -> (HashMap<String, Arc<Service>>, Vec<Arc<Probed>>) {
    in_use.forget();
    let services = found.iter().filter_map(|service| {
        let (mut servers, mut members) = (Vec::new(), Vec::new());
        for member in &service.members {
            let Some(server) = children.get(&member.child) else {
                continue;
            };
            servers.push(Arc::clone(server));
            members.push(Member {
                weight: member.offer.weight,
                key: key_of(&member.child),
                standing: in_use.uplink(&member.child, &service.uplink, now),
                probed: None,
                passive: None,
            });
        }
        let compiled = Service {
            name: format!("{}@multicluster", service.name),
            servers,
            group: Group::new(members, Rules::turns(), Arc::default()),
            sticky: None,
            pass_host_header: true,
            uplink: Some(HeaderValue::from_str(&service.uplink).ok()?),
            advertised: Some(service.clone()),
        };
        Some((service.name.clone(), Arc::new(compiled)))
    });
    let services = services.collect();
    let offering = found.iter().flat_map(|service| &service.members);
    let offering: BTreeSet<String> = offering.map(|member| member.child.clone()).collect();
    in_use.offered_by(offering);
    (services, Vec::new())
}
