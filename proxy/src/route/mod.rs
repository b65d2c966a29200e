//! Which router takes a request.
//!
//! Routers are ordered once: priority, then specificity, then name. A router whose rule demands certain
//! hosts is looked up by host, so that ten thousand of them cost a request one hash; the others are tried in
//! order. The answer is the same as trying all of them in order.

use http::{HeaderMap, Method};
use sallyport_config::rule::{Matcher, Op, Rule};
use std::{cmp::Reverse, collections::HashMap, net::IpAddr};

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
pub struct Table {
    ordered: Vec<(RouteId, Rule)>,
    /// Positions in `ordered`, ascending.
    by_host: HashMap<String, Vec<usize>>,
    /// Positions of rules that demand no host, ascending.
    anywhere: Vec<usize>,
}

impl Table {
    /// Orders routers given as identifier, rule, priority and name.
    pub fn new<'a>(routers: impl IntoIterator<Item = (RouteId, &'a Rule, i64, &'a str)>) -> Self {
        let mut routers: Vec<_> = routers.into_iter().collect();
        routers.sort_by_cached_key(|(_, rule, priority, name)| {
            (Reverse(*priority), Reverse(specificity(rule)), (*name).to_owned())
        });
        let mut table = Self {
            ordered: Vec::new(),
            by_host: HashMap::new(),
            anywhere: Vec::new(),
        };
        for (position, (id, rule, _, _)) in routers.into_iter().enumerate() {
            match rule.required_hosts() {
                None => table.anywhere.push(position),
                Some(hosts) => {
                    for host in hosts {
                        table.by_host.entry(host.to_owned()).or_default().push(position);
                    }
                }
            }
            table.ordered.push((id, rule.clone()));
        }
        table
    }

    /// The first router whose rule holds.
    pub fn find(&self, facts: &Facts<'_>) -> Option<RouteId> {
        let of_host = self
            .by_host
            .get(facts.host)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let mut of_host = of_host.iter().copied().peekable();
        let mut anywhere = self.anywhere.iter().copied().peekable();
        loop {
            let position = match (of_host.peek(), anywhere.peek()) {
                (Some(here), Some(there)) if here < there => of_host.next(),
                (Some(_), None) => of_host.next(),
                (_, Some(_)) => anywhere.next(),
                (None, None) => None,
            };
            let (id, rule) = self.ordered.get(position?)?;
            if rule.eval(|matcher| holds(matcher, facts)) {
                return Some(*id);
            }
        }
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
