//! Which router takes a request, or a connection.
//!
//! Routers are ordered once: priority, then specificity, then name. The answer is the same as trying all of them
//! in order.

mod ordered;
pub mod tcp;

use http::{HeaderMap, Method};
use ordered::Ordered;
use sallyport_config::rule::{Matcher, Op, Rule};
use std::{cmp::Reverse, net::IpAddr};

/// Identifies a router within one snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId(pub u32);

/// What rules ask about.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Lower case, without port and trailing dot.
    pub host: &'a str,
    /// The canonical path.
    pub path: &'a str,
    /// The method.
    pub method: &'a Method,
    /// The header fields.
    pub headers: &'a HeaderMap,
    /// The client.
    pub client: IpAddr,
}

/// The routers of one entry point or uplink, in order.
#[derive(Debug)]
pub struct Table(Ordered<Matcher, RouteId>);

impl Table {
    /// Orders routers given as identifier, rule, priority and name.
    pub fn new<'a>(routers: impl IntoIterator<Item = (RouteId, &'a Rule, i64, &'a str)>) -> Self {
        let mut routers: Vec<_> = routers.into_iter().collect();
        routers.sort_by_cached_key(|(_, rule, priority, name)| {
            (Reverse(*priority), Reverse(specificity(rule)), (*name).to_owned())
        });
        let mut ordered = Ordered::default();
        for (id, rule, _, _) in routers {
            ordered.push(id, rule, rule.required_hosts());
        }
        Self(ordered)
    }

    /// The first router whose rule holds.
    pub fn find(&self, facts: &Facts<'_>) -> Option<RouteId> {
        self.0.find(Some(facts.host), |matcher| holds(matcher, facts))
    }

    /// Whether there is no router.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// How much a rule pins down: whether hosts, then the length of its longest literal path.
fn specificity(rule: &Rule) -> (usize, usize) {
    let hosts = usize::from(rule.required_hosts().is_some());
    let paths = rule.ops().iter().map(|op| match op {
        Op::Match(Matcher::Path(path) | Matcher::PathPrefix(path)) => path.len(),
        _ => 0,
    });
    (hosts, paths.max().unwrap_or(0))
}

fn holds(matcher: &Matcher, facts: &Facts<'_>) -> bool {
    match matcher {
        Matcher::Host(host) => facts.host == host,
        Matcher::Path(path) => facts.path == path,
        Matcher::PathPrefix(prefix) => facts.path.starts_with(prefix.as_str()),
        Matcher::Method(method) => facts.method.as_str() == method,
        Matcher::Header { name, value } => facts
            .headers
            .get_all(name.as_str())
            .iter()
            .any(|found| found.as_bytes() == value.as_bytes()),
        Matcher::ClientIp(prefix) => prefix.contains(&facts.client.to_canonical()),
    }
}

#[cfg(test)]
mod tests;
