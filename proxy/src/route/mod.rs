//! Which router takes a request, or a connection.
//!
//! Routers are ordered once: priority, then specificity, then name. The answer is the same as trying all of them
//! in order.

mod names;
mod ordered;
mod prefixes;
mod query;
pub mod tcp;

pub use names::Names;

use http::{HeaderMap, HeaderValue, Method};
use ordered::{Asked, Demands, Ordered};
use sallyport_config::rule::{Claim, Matcher, Op, Rule};
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
    /// The query as it came, without its `?`.
    pub query: Option<&'a str>,
    /// The method.
    pub method: &'a Method,
    /// The header fields.
    pub headers: &'a HeaderMap,
    /// The client.
    pub client: IpAddr,
}

/// The routers of one entry point or uplink, in order.
#[derive(Debug)]
pub struct Table(Box<Ordered<Matcher, RouteId>>);

impl Table {
    /// Orders routers given as identifier, rule, priority and name.
    pub fn new<'a>(routers: impl IntoIterator<Item = (RouteId, &'a Rule, i64, &'a str)>) -> Self {
        let mut routers: Vec<_> = routers.into_iter().collect();
        routers.sort_by_cached_key(|(_, rule, priority, name)| {
            (Reverse(*priority), Reverse(specificity(rule)), (*name).to_owned())
        });
        let ordered = routers.into_iter().map(|(id, rule, _, _)| {
            let demands = Demands {
                names: rule.required_hosts(),
                paths: rule.required_paths(),
            };
            (id, rule, demands)
        });
        Self(Box::new(Ordered::new(ordered)))
    }

    /// The first router whose rule holds.
    pub fn find(&self, facts: &Facts<'_>) -> Option<RouteId> {
        let asked = Asked {
            name: Some(facts.host),
            path: Some(facts.path),
        };
        self.0.find(&asked, |matcher| holds(matcher, facts))
    }

    /// Whether there is no router.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// How much a rule pins down: the least that it says of the host, then the length of its longest literal path and whether
/// that is the whole path, then how many conditions every match meets.
fn specificity(rule: &Rule) -> (u8, (usize, bool), usize) {
    let hosts = rule.required_hosts().unwrap_or_default();
    let hosts = hosts.into_iter().map(Claim::specificity).min();
    let paths = rule.ops().iter().map(|op| match op {
        Op::Match(Matcher::Path(path)) => (path.len(), true),
        Op::Match(Matcher::PathPrefix(path)) => (path.len(), false),
        _ => (0, false),
    });
    (
        hosts.unwrap_or(0),
        paths.max().unwrap_or((0, false)),
        rule.conditions(),
    )
}

fn holds(matcher: &Matcher, facts: &Facts<'_>) -> bool {
    let query = facts.query.unwrap_or_default();
    match matcher {
        Matcher::AnyHost | Matcher::Host(_) | Matcher::OneLabelUnder(_) | Matcher::HostPattern(_) => {
            matcher.of_host(facts.host) == Some(true)
        }
        Matcher::Path(path) => facts.path == path,
        Matcher::PathPrefix(prefix) => facts.path.starts_with(prefix.as_str()),
        Matcher::PathPattern(pattern) => pattern.is_in(facts.path),
        Matcher::Method(method) => facts.method.as_str() == method,
        Matcher::Header { name, value } => {
            let mut values = facts.headers.get_all(name.as_str()).iter();
            values.any(|found| found.as_bytes() == value.as_bytes())
        }
        Matcher::HeaderPattern { name, pattern } => {
            let mut values = facts.headers.get_all(name.as_str()).iter();
            values.any(|found| pattern.is_in(&text(found)))
        }
        Matcher::Query { name, value } => query::values(query, name).any(|found| query::says(found, value)),
        Matcher::QueryPattern { name, pattern } => {
            query::values(query, name).any(|found| pattern.is_in(&query::decoded(found)))
        }
        Matcher::ClientIp(prefix) => prefix.contains(&facts.client.to_canonical()),
    }
}

/// A field as a pattern reads it: what is not UTF-8 is replaced, so that no byte hides from `.`.
fn text(value: &HeaderValue) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(value.as_bytes())
}

#[cfg(test)]
mod tests;
