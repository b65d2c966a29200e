//! Services that lead to other services.

use super::{InUse, Service, Snapshot};
use crate::balance::{Moment, Sticky, StickyKey};
use sallyport_config::model::{
    Config, ServiceRef,
    service::{self, FailoverErrors, Mirror, MirrorBody},
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// A service that leads to others.
#[derive(Debug)]
pub struct Composite {
    /// Its name.
    pub name: String,
    /// How it leads.
    pub way: Leading,
    /// The services with servers that it comes to in the end; it is up where one of them is.
    leaves: Vec<ServiceRef>,
}

/// How a service leads to others.
#[derive(Debug)]
pub enum Leading {
    /// They share requests.
    Weighted(Weighted),
    /// One, and another for when it has no server.
    Failover(Failover),
    /// One, and others that get copies.
    Mirroring(Mirroring),
}

/// Services that share requests.
#[derive(Debug)]
pub struct Weighted {
    /// The services.
    pub services: Vec<ServiceRef>,
    /// Their weights.
    pub weights: Vec<u32>,
    /// The cookie that keeps a client at one of them.
    pub sticky: Option<Sticky>,
}

/// A service, and another for when it has no server.
#[derive(Debug)]
pub struct Failover {
    /// The first.
    pub service: ServiceRef,
    /// The other.
    pub fallback: ServiceRef,
    return_after: Duration,
    /// Answers of the first in whose place the other is asked.
    pub errors: Option<FailoverErrors>,
    /// The first was down when it was last looked at, and has not been up for long enough since. It outlives reloads.
    away: Arc<AtomicBool>,
}

/// A service, and others that get copies.
#[derive(Debug)]
pub struct Mirroring {
    /// Who answers.
    pub service: ServiceRef,
    /// Who gets copies.
    pub mirrors: Vec<Mirror>,
    /// Whether copies have bodies.
    pub body: MirrorBody,
}

/// Compiles them; `services` are those with servers.
pub(super) fn compile(
    config: &Config,
    services: &HashMap<String, Arc<Service>>,
    in_use: &InUse,
    key: &StickyKey,
) -> HashMap<String, Arc<Composite>> {
    let compiled = config.services.iter().filter_map(|(name, configured)| {
        let leaves = leaves(config, configured);
        let way = match configured {
            service::Service::Servers(_) => return None,
            service::Service::Weighted(weighted) => Leading::Weighted(compile_weighted(name, weighted, key)),
            service::Service::Failover(failover) => {
                Leading::Failover(compile_failover(config, services, in_use, name, failover))
            }
            service::Service::Mirroring(mirroring) => Leading::Mirroring(Mirroring {
                service: mirroring.service.clone(),
                mirrors: mirroring.mirrors.clone(),
                body: mirroring.body,
            }),
        };
        let name = name.clone();
        Some((name.clone(), Arc::new(Composite { name, way, leaves })))
    });
    compiled.collect()
}

fn compile_weighted(name: &str, weighted: &service::Weighted, key: &StickyKey) -> Weighted {
    let names: Vec<String> = weighted
        .services
        .iter()
        .map(|(service, _)| label(service))
        .collect();
    let sticky = weighted.sticky.as_ref();
    Weighted {
        services: weighted
            .services
            .iter()
            .map(|(service, _)| service.clone())
            .collect(),
        weights: weighted.services.iter().map(|(_, weight)| *weight).collect(),
        sticky: sticky.map(|cookie| Sticky::new(cookie, key, name, &names)),
    }
}

fn compile_failover(
    config: &Config,
    services: &HashMap<String, Arc<Service>>,
    in_use: &InUse,
    name: &str,
    failover: &service::Failover,
) -> Failover {
    // After a reload the first is not trusted sooner than before it.
    let now = Moment::now();
    let own = reached(config, &failover.service);
    let settled = own.iter().any(|leaf| match leaf {
        ServiceRef::Multicluster(_) => true,
        ServiceRef::Local(name) => services
            .get(name)
            .is_some_and(|service| service.group.is_settled(failover.return_after, now)),
    });
    Failover {
        service: failover.service.clone(),
        fallback: failover.fallback.clone(),
        return_after: failover.return_after,
        errors: failover.errors.clone(),
        away: in_use.away(name, label(&failover.service), !settled),
    }
}

/// The name of a service as routers write it.
pub(super) fn label(service: &ServiceRef) -> String {
    match service {
        ServiceRef::Local(name) => name.clone(),
        ServiceRef::Multicluster(name) => format!("{name}@multicluster"),
    }
}

/// Who answers: mirrors do not.
fn leaves(config: &Config, configured: &service::Service) -> Vec<ServiceRef> {
    let answering = |service: &service::Service| -> Vec<ServiceRef> {
        match service {
            service::Service::Mirroring(mirroring) => vec![mirroring.service.clone()],
            other => other.leads_to().into_iter().cloned().collect(),
        }
    };
    let mut waiting = answering(configured);
    let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
    while let Some(service) = waiting.pop() {
        if !seen.insert(label(&service)) {
            continue;
        }
        let led = match &service {
            ServiceRef::Local(name) => config.services.get(name).map(answering).unwrap_or_default(),
            ServiceRef::Multicluster(_) => Vec::new(),
        };
        if led.is_empty() {
            found.push(service);
        }
        waiting.extend(led);
    }
    found
}

fn reached(config: &Config, service: &ServiceRef) -> Vec<ServiceRef> {
    let configured = match service {
        ServiceRef::Local(name) => config.services.get(name),
        ServiceRef::Multicluster(_) => None,
    };
    let found = configured
        .map(|configured| leaves(config, configured))
        .unwrap_or_default();
    if found.is_empty() {
        vec![service.clone()]
    } else {
        found
    }
}

impl Composite {
    /// Its kind and the names of the services that it leads to, for status.
    pub fn leads_to(&self) -> (&'static str, Vec<String>) {
        match &self.way {
            Leading::Weighted(weighted) => ("weighted", weighted.services.iter().map(label).collect()),
            Leading::Failover(failover) => (
                "failover",
                vec![label(&failover.service), label(&failover.fallback)],
            ),
            Leading::Mirroring(mirroring) => {
                let mirrors = mirroring.mirrors.iter().map(|mirror| label(&mirror.service));
                let all = std::iter::once(label(&mirroring.service)).chain(mirrors);
                ("mirroring", all.collect())
            }
        }
    }
}

impl Snapshot {
    /// Whether some server of a service, or of those that it leads to, takes new clients.
    pub fn is_up(&self, named: &ServiceRef, now: Moment) -> bool {
        self.any_leaf(named, |service| service.group.is_up(now))
    }

    /// Whether some server of a service, or of those that it leads to, takes clients that are to stay.
    pub fn keeps(&self, named: &ServiceRef, now: Moment) -> bool {
        self.any_leaf(named, |service| service.group.keeps(now))
    }

    fn any_leaf(&self, named: &ServiceRef, holds: impl Fn(&Service) -> bool) -> bool {
        let leaf = |named: &ServiceRef| self.service(named).is_some_and(|service| holds(service));
        match self.composite(named) {
            Some(composite) => composite.leaves.iter().any(leaf),
            None => leaf(named),
        }
    }

    /// The one of the two services of a failover that is asked now.
    pub fn chosen<'f>(&self, failover: &'f Failover, now: Moment) -> &'f ServiceRef {
        if !self.is_up(&failover.service, now) {
            failover.away.store(true, Ordering::Relaxed);
            // Where both are down, the first says so.
            let other = self.is_up(&failover.fallback, now);
            return if other {
                &failover.fallback
            } else {
                &failover.service
            };
        }
        if failover.away.load(Ordering::Relaxed) {
            let settled = |service: &Service| service.group.is_settled(failover.return_after, now);
            if !self.any_leaf(&failover.service, settled) && self.is_up(&failover.fallback, now) {
                return &failover.fallback;
            }
            failover.away.store(false, Ordering::Relaxed);
        }
        &failover.service
    }
}
