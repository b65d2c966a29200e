//! What a parent knows of its children: the last good answer of each, how old it is, and the services that
//! follow.
//!
//! A child that cannot be polled keeps its last answer for `stale_after`, then it is gone. The clock comes
//! in as a reading; nothing here waits.

use super::wire::Advertisement;
use sallyport_config::model::{Child, Multicluster};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

/// The children and what they offer.
#[derive(Debug)]
pub struct Directory {
    children: BTreeMap<String, Known>,
    stale_after: Duration,
}

#[derive(Debug)]
struct Known {
    /// What it may offer; `None` is anything.
    allowed: Option<Vec<String>>,
    address: String,
    /// Name and weight, and when they were last confirmed.
    offered: Vec<(String, u32)>,
    confirmed: Option<Instant>,
    failure: Option<String>,
}

/// A service made of children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveredService {
    /// Its name without `@multicluster`.
    pub name: String,
    /// The uplink that is asked of the members.
    pub uplink: String,
    /// Sorted by child.
    pub members: Vec<Member>,
}

/// A child's share in a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The child.
    pub child: String,
    /// Its weight; 0 gets no new requests.
    pub weight: u32,
}

/// An uplink that a child may not offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its name would be read as that of one child's service.
    Ambiguous {
        /// The uplink.
        uplink: String,
        /// The child whose name it ends in.
        child: String,
    },
    /// `children.NAME.uplinks` does not list it.
    NotAllowed {
        /// The uplink.
        uplink: String,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ambiguous { uplink, child } => {
                write!(
                    f,
                    "`{uplink}` ends in `-{child}`, which names a child; rename the uplink"
                )
            }
            Self::NotAllowed { uplink } => write!(f, "`{uplink}` is not in the child's `uplinks`"),
        }
    }
}

/// A child's state, for `status`.
#[derive(Clone, Debug, Serialize)]
pub struct ChildStatus {
    name: String,
    address: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_answer_seconds_ago: Option<u64>,
    uplinks: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
}

impl Directory {
    /// Nothing is known of the children yet.
    pub fn new(config: &Multicluster) -> Self {
        let mut directory = Self {
            children: BTreeMap::new(),
            stale_after: config.stale_after,
        };
        directory.configure(config);
        directory
    }

    /// Takes over another configuration; a child whose address and rights are the same keeps its answer.
    pub fn configure(&mut self, config: &Multicluster) {
        self.stale_after = config.stale_after;
        let mut before = std::mem::take(&mut self.children);
        for (name, child) in &config.children {
            let same =
                |known: &Known| known.address == child.address.to_string() && known.allowed == child.uplinks;
            let known = before
                .remove(name)
                .filter(same)
                .unwrap_or_else(|| Known::new(child));
            self.children.insert(name.clone(), known);
        }
        // Another set of children makes other names ambiguous.
        let names: Vec<String> = self.children.keys().cloned().collect();
        for (child, known) in &mut self.children {
            known
                .offered
                .retain(|(uplink, _)| ambiguous(uplink, child, &names).is_none());
        }
    }

    /// Takes a child's answer and returns what of it is refused.
    pub fn record(&mut self, child: &str, answer: Advertisement, now: Instant) -> Vec<Refusal> {
        let names: Vec<String> = self.children.keys().cloned().collect();
        let Some(known) = self.children.get_mut(child) else {
            return Vec::new();
        };
        let mut refused = Vec::new();
        known.offered.clear();
        for uplink in answer.uplinks {
            let name = uplink.name;
            if let Some(child) = ambiguous(&name, child, &names) {
                refused.push(Refusal::Ambiguous { uplink: name, child });
            } else if known
                .allowed
                .as_ref()
                .is_some_and(|allowed| !allowed.contains(&name))
            {
                refused.push(Refusal::NotAllowed { uplink: name });
            } else {
                known.offered.push((name, uplink.weight));
            }
        }
        known.confirmed = Some(now);
        known.failure = None;
        refused
    }

    /// A child said that its last answer still holds.
    pub fn unchanged(&mut self, child: &str, now: Instant) {
        if let Some(known) = self.children.get_mut(child) {
            known.confirmed = Some(now);
            known.failure = None;
        }
    }

    /// A child could not be polled.
    pub fn failed(&mut self, child: &str, why: String) {
        if let Some(known) = self.children.get_mut(child) {
            known.failure = Some(why);
        }
    }

    /// The services that stand at `now`, sorted by name.
    pub fn services(&self, now: Instant) -> Vec<DiscoveredService> {
        let mut services: BTreeMap<String, DiscoveredService> = BTreeMap::new();
        for (child, known) in &self.children {
            if known.state(now, self.stale_after) == "expired" {
                continue;
            }
            for (uplink, weight) in &known.offered {
                for name in [uplink.clone(), format!("{uplink}-{child}")] {
                    let service = services.entry(name.clone()).or_insert_with(|| DiscoveredService {
                        name,
                        uplink: uplink.clone(),
                        members: Vec::new(),
                    });
                    service.members.push(Member {
                        child: child.clone(),
                        weight: *weight,
                    });
                }
            }
        }
        services.into_values().collect()
    }

    /// The children as they stand at `now`.
    pub fn children(&self, now: Instant) -> Vec<ChildStatus> {
        let describe = |(name, known): (&String, &Known)| ChildStatus {
            name: name.clone(),
            address: known.address.clone(),
            state: known.state(now, self.stale_after),
            last_answer_seconds_ago: known
                .confirmed
                .map(|at| now.saturating_duration_since(at).as_secs()),
            uplinks: known.offered.iter().map(|(uplink, _)| uplink.clone()).collect(),
            failure: known.failure.clone(),
        };
        self.children.iter().map(describe).collect()
    }
}

impl Known {
    fn new(child: &Child) -> Self {
        Self {
            allowed: child.uplinks.clone(),
            address: child.address.to_string(),
            offered: Vec::new(),
            confirmed: None,
            failure: None,
        }
    }

    fn state(&self, now: Instant, stale_after: Duration) -> &'static str {
        match (self.confirmed, &self.failure) {
            (None, None) => "unknown",
            (Some(_), None) => "fresh",
            (Some(at), Some(_)) if now.saturating_duration_since(at) < stale_after => "stale",
            (_, Some(_)) => "expired",
        }
    }
}

/// The child whose own services an uplink of `offering` would be taken for.
///
/// `orders-c0` of a lying child would take `orders` of child `c0`. Where children are called `b` and `a-b`,
/// `orders-a` of `b` would as `orders-a-b` take `orders` of `a-b`: the child with the longer name has it.
fn ambiguous(uplink: &str, offering: &str, children: &[String]) -> Option<String> {
    let ends_in = |name: &str, child: &str| name.strip_suffix(child).is_some_and(|rest| rest.ends_with('-'));
    let own = format!("{uplink}-{offering}");
    let takes =
        |child: &&String| ends_in(uplink, child) || (child.len() > offering.len() && ends_in(&own, child));
    children.iter().find(takes).cloned()
}

#[cfg(test)]
mod tests {
    use super::{super::wire::Advertised, *};
    use sallyport_config::model::{Scheme, ServerPlace, ServerUrl};

    const STALE_AFTER: Duration = Duration::from_secs(60);

    fn config(children: &[(&str, Option<&[&str]>)]) -> Multicluster {
        let child = |(name, uplinks): &(&str, Option<&[&str]>)| {
            let child = Child {
                address: ServerUrl {
                    scheme: Scheme::Https,
                    at: ServerPlace::Host {
                        host: format!("{name}.example"),
                        port: 9443,
                    },
                },
                servers_transport: "default".to_owned(),
                uplinks: uplinks.map(|list| list.iter().map(|s| (*s).to_owned()).collect()),
            };
            ((*name).to_owned(), child)
        };
        Multicluster {
            poll_interval: Duration::from_secs(5),
            poll_timeout: Duration::from_secs(5),
            stale_after: STALE_AFTER,
            children: children.iter().map(child).collect(),
        }
    }

    fn offers(uplinks: &[(&str, u32)]) -> Advertisement {
        let offer = |(name, weight): &(&str, u32)| Advertised {
            name: (*name).to_owned(),
            weight: *weight,
            health_check: None,
            passive_health_check: None,
        };
        Advertisement::new(uplinks.iter().map(offer).collect())
    }

    fn names(directory: &Directory, now: Instant) -> Vec<String> {
        directory
            .services(now)
            .into_iter()
            .map(|service| service.name)
            .collect()
    }

    #[test]
    fn a_name_gathers_all_children_that_offer_it_and_each_child_has_its_own() {
        let mut directory = Directory::new(&config(&[("c0", None), ("c1", None)]));
        let now = Instant::now();
        assert!(directory.record("c0", offers(&[("orders", 10)]), now).is_empty());
        assert!(
            directory
                .record("c1", offers(&[("orders", 0), ("bills", 1)]), now)
                .is_empty()
        );
        assert_eq!(
            names(&directory, now),
            ["bills", "bills-c1", "orders", "orders-c0", "orders-c1"]
        );
        let orders = directory
            .services(now)
            .into_iter()
            .find(|s| s.name == "orders")
            .expect("there");
        let shares: Vec<_> = orders
            .members
            .iter()
            .map(|m| (m.child.as_str(), m.weight))
            .collect();
        assert_eq!(shares, [("c0", 10), ("c1", 0)]);
        assert_eq!(directory.services(now)[3].uplink, "orders");
    }

    #[test]
    fn a_lying_child_cannot_take_anothers_name() {
        let mut directory = Directory::new(&config(&[("c0", None), ("evil", None)]));
        let now = Instant::now();
        let refused = directory.record("evil", offers(&[("orders-c0", 1), ("x-evil", 1), ("c0", 1)]), now);
        assert_eq!(refused.len(), 2);
        assert_eq!(names(&directory, now), ["c0", "c0-evil"]);
    }

    #[test]
    fn of_two_children_whose_names_end_alike_the_longer_keeps_its_services() {
        let children = config(&[("a-b", None), ("b", None)]);
        let now = Instant::now();
        for order in [["a-b", "b"], ["b", "a-b"]] {
            let mut directory = Directory::new(&children);
            let mut refused = Vec::new();
            for child in order {
                refused.extend(directory.record(child, offers(&[("orders", 1), ("orders-a", 1)]), now));
            }
            let taken = Refusal::Ambiguous {
                uplink: "orders-a".to_owned(),
                child: "a-b".to_owned(),
            };
            assert_eq!(refused, [taken]);
            let services = directory.services(now);
            let own = services
                .iter()
                .find(|service| service.name == "orders-a-b")
                .expect("there");
            assert_eq!(own.uplink, "orders");
            assert_eq!(
                own.members,
                [Member {
                    child: "a-b".to_owned(),
                    weight: 1
                }]
            );
            assert!(services.iter().any(|service| service.name == "orders-b"));
        }
    }

    #[test]
    fn a_name_that_a_new_child_makes_ambiguous_goes_with_the_reload() {
        let mut directory = Directory::new(&config(&[("b", None)]));
        let now = Instant::now();
        assert!(
            directory
                .record("b", offers(&[("orders-a", 1), ("bills-c", 1), ("x", 1)]), now)
                .is_empty()
        );
        directory.configure(&config(&[("a-b", None), ("b", None), ("c", None)]));
        assert_eq!(names(&directory, now), ["x", "x-b"]);
    }

    #[test]
    fn a_child_offers_only_what_it_may() {
        let mut directory = Directory::new(&config(&[("c0", Some(&["orders"]))]));
        let now = Instant::now();
        let refused = directory.record("c0", offers(&[("orders", 1), ("admin", 1)]), now);
        assert_eq!(
            refused,
            [Refusal::NotAllowed {
                uplink: "admin".to_owned()
            }]
        );
        assert_eq!(names(&directory, now), ["orders", "orders-c0"]);
    }

    #[test]
    fn a_silent_child_is_stale_then_gone_and_comes_back() {
        let mut directory = Directory::new(&config(&[("c0", None)]));
        let start = Instant::now();
        assert!(names(&directory, start).is_empty());
        directory.record("c0", offers(&[("orders", 1)]), start);
        directory.failed("c0", "refused".to_owned());
        assert_eq!(
            names(&directory, start + STALE_AFTER - Duration::from_secs(1)).len(),
            2
        );
        assert!(names(&directory, start + STALE_AFTER).is_empty());
        directory.unchanged("c0", start + STALE_AFTER);
        assert_eq!(names(&directory, start + STALE_AFTER).len(), 2);
    }

    #[test]
    fn a_reload_keeps_the_answers_of_children_that_did_not_change() {
        let mut directory = Directory::new(&config(&[("c0", None), ("c1", None)]));
        let now = Instant::now();
        directory.record("c0", offers(&[("orders", 1)]), now);
        directory.record("c1", offers(&[("orders", 1)]), now);
        directory.configure(&config(&[("c0", None), ("c1", Some(&[])), ("c2", None)]));
        assert_eq!(names(&directory, now), ["orders", "orders-c0"]);
    }
}
