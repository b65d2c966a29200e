//! Which TCP router takes a connection, and which connections are left to HTTP.
//!
//! Pure: it is told what the client said and who it is. It must not know services.

use super::{
    Names,
    ordered::{Asked, Demands, Ordered},
};
use crate::hello::parse::Hello;
use sallyport_config::rule::{Claim, TcpMatcher, TcpRule};
use std::{cmp::Reverse, net::IpAddr};

/// Identifies a TCP router within one entry point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpRouteId(pub usize);

/// A TCP router, as the table orders and asks it.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// What it is found as.
    pub id: TcpRouteId,
    /// Its rule.
    pub rule: &'a TcpRule,
    /// Its priority; higher goes first.
    pub priority: i64,
    /// Its name, which breaks ties.
    pub name: &'a str,
    /// Which connections it is for.
    pub kind: Kind,
}

/// Which connections a TCP router is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Those that begin with a ClientHello.
    Tls,
    /// All that no other takes, without a look at their bytes.
    Clear,
}

/// The TCP routers of one entry point.
#[derive(Debug)]
pub struct TcpTable {
    /// Those for TLS that demand a name or a protocol, in order.
    claims: Ordered<TcpMatcher, TcpRouteId>,
    /// The other ones for TLS.
    rest: Ordered<TcpMatcher, TcpRouteId>,
    /// Those for connections in the clear.
    clear: Ordered<TcpMatcher, TcpRouteId>,
    /// The hosts that routers of HTTP over TLS name here.
    http_hosts: Names,
}

impl TcpTable {
    /// Orders routers; `http_hosts` are those of the routers of HTTP over TLS.
    pub fn new<'a>(routers: impl IntoIterator<Item = Candidate<'a>>, http_hosts: Names) -> Self {
        let mut routers: Vec<_> = routers.into_iter().collect();
        routers.sort_by_cached_key(|router| {
            let rank = Reverse((router.priority, specificity(router.rule)));
            (rank, router.name.to_owned())
        });
        let among = |wanted: &dyn Fn(&Candidate<'a>) -> bool| {
            let wanted = routers.iter().filter(|router| wanted(router));
            Ordered::new(wanted.map(|router| {
                let demands = Demands {
                    names: router.rule.required_names(),
                    paths: None,
                };
                (router.id, router.rule, demands)
            }))
        };
        let over_tls = |router: &Candidate<'a>| matches!(router.kind, Kind::Tls);
        Self {
            claims: among(&|router| over_tls(router) && router.rule.demands_hello()),
            rest: among(&|router| over_tls(router) && !router.rule.demands_hello()),
            clear: among(&|router| !over_tls(router)),
            http_hosts,
        }
    }

    /// Whether the client's first bytes matter. Where they do not, nobody waits for them: it may be the server
    /// that speaks first.
    pub fn asks_for_hello(&self) -> bool {
        !(self.claims.is_empty() && self.rest.is_empty())
    }

    /// The router that takes a connection; `None` leaves it to HTTP. `hello` is what the client began with,
    /// where that is one.
    pub fn find(&self, hello: Option<&Hello>, client: IpAddr) -> Option<TcpRouteId> {
        let name = hello.and_then(|hello| hello.sni.as_deref());
        let ask = |rules: &Ordered<TcpMatcher, TcpRouteId>| {
            rules.find(&Asked { name, path: None }, |matcher| {
                holds(matcher, hello, name, client)
            })
        };
        let is_http = || name.is_some_and(|name| self.http_hosts.holds(name));
        let over_tls =
            hello.and_then(|_| ask(&self.claims).or_else(|| if is_http() { None } else { ask(&self.rest) }));
        over_tls.or_else(|| ask(&self.clear))
    }
}

/// How much a rule pins down: the least that it says of the name, then how many conditions every match meets.
fn specificity(rule: &TcpRule) -> (u8, usize) {
    let names = rule.required_names().unwrap_or_default();
    let names = names.into_iter().map(Claim::specificity).min();
    (names.unwrap_or(0), rule.conditions())
}

fn holds(matcher: &TcpMatcher, hello: Option<&Hello>, name: Option<&str>, client: IpAddr) -> bool {
    match matcher {
        TcpMatcher::Any | TcpMatcher::Name(_) | TcpMatcher::OneLabelUnder(_) | TcpMatcher::NamePattern(_) => {
            matcher.of_name(name).unwrap_or(false)
        }
        TcpMatcher::ClientIp(prefix) => prefix.contains(&client.to_canonical()),
        TcpMatcher::Protocol(wanted) => {
            hello.is_some_and(|hello| hello.protocols().any(|offered| offered == wanted.as_bytes()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sallyport_config::rule::Rule;

    fn hello(name: Option<&str>, protocols: &[&str]) -> Hello {
        Hello::new(name, protocols)
    }

    /// A table of routers, each as kind, priority (0: its rule's length) and rule, in the order of their ids.
    fn table(routers: &[(Kind, i64, &str)], http: &[&str]) -> TcpTable {
        let rules: Vec<TcpRule> = routers
            .iter()
            .map(|(_, _, rule)| TcpRule::parse_tcp(rule).expect("a rule"))
            .collect();
        let names: Vec<String> = (0..rules.len()).map(|id| format!("r{id}")).collect();
        let candidates = routers
            .iter()
            .enumerate()
            .map(|(id, (kind, priority, text))| Candidate {
                id: TcpRouteId(id),
                rule: &rules[id],
                priority: match priority {
                    0 if *text == "HostSNI(`*`)" => -1,
                    0 => i64::try_from(text.len()).expect("short"),
                    own => *own,
                },
                name: &names[id],
                kind: *kind,
            });
        let http: Vec<Rule> = http
            .iter()
            .map(|rule| Rule::parse(rule).expect("a rule"))
            .collect();
        TcpTable::new(candidates, http.iter().flat_map(Rule::named_hosts).collect())
    }

    fn client() -> IpAddr {
        [10, 0, 0, 7].into()
    }

    #[test]
    fn names_protocols_and_clients_choose() {
        let routers = [
            (Kind::Tls, 0, "HostSNI(`a.x`)"),
            (Kind::Tls, 0, "HostSNI(`*.x`)"),
            (Kind::Tls, 0, "HostSNIRegexp(`^y[0-9]$`)"),
            (Kind::Tls, 0, "HostSNI(`a.x`) && ALPN(`p`)"),
            (Kind::Tls, 0, "HostSNI(`b.x`) && !ClientIP(`10.0.0.0/8`)"),
            (Kind::Tls, 0, "HostSNI(`*`)"),
        ];
        let table = table(&routers, &["Host(`http.x`)"]);
        let check = |name: Option<&str>, protocols: &[&str], expected: Option<usize>| {
            let found = table.find(Some(&hello(name, protocols)), client());
            assert_eq!(found, expected.map(TcpRouteId), "{name:?} {protocols:?}");
        };
        check(Some("a.x"), &[], Some(0));
        check(Some("a.x"), &["h2", "p"], Some(3));
        check(Some("a.x"), &["pp"], Some(0));
        check(Some("c.x"), &[], Some(1));
        check(Some("b.x"), &[], Some(1));
        check(Some("x"), &[], Some(5));
        check(Some("a.b.x"), &[], Some(5));
        check(Some("y1"), &[], Some(2));
        check(None, &[], Some(5));
        check(Some("http.x"), &[], Some(1));
        let stranger = table.find(Some(&hello(Some("b.x"), &[])), [192, 0, 2, 1].into());
        assert_eq!(stranger, Some(TcpRouteId(4)));
    }

    #[test]
    fn a_host_of_http_goes_before_routers_that_take_any_name() {
        let any = [
            (Kind::Tls, 1000, "HostSNI(`*`)"),
            (Kind::Tls, 0, "ClientIP(`10.0.0.0/8`)"),
        ];
        let table = table(
            &any,
            &["Host(`http.x`) || Host(`*.w.x`)", "HostRegexp(`^p[0-9]`)"],
        );
        let find = |name| table.find(Some(&hello(name, &[])), client());
        assert_eq!(find(Some("http.x")), None);
        assert_eq!(find(Some("a.w.x")), None);
        assert_eq!(find(Some("p1.x")), None);
        assert_eq!(find(Some("w.x")), Some(TcpRouteId(0)));
        assert_eq!(find(Some("a.a.w.x")), Some(TcpRouteId(0)));
        assert_eq!(find(Some("other.x")), Some(TcpRouteId(0)));
        assert_eq!(find(None), Some(TcpRouteId(0)));
    }

    #[test]
    fn priority_then_specificity_then_name_decide() {
        let first = |routers: &[(Kind, i64, &str)]| {
            table(routers, &[]).find(Some(&hello(Some("a.x"), &[])), client())
        };
        let (exact, one_label) = ("HostSNI(`a.x`)", "HostSNI(`*.x`)");
        assert_eq!(
            first(&[(Kind::Tls, 0, one_label), (Kind::Tls, 0, exact)]),
            Some(TcpRouteId(1))
        );
        assert_eq!(
            first(&[(Kind::Tls, 99, one_label), (Kind::Tls, 0, exact)]),
            Some(TcpRouteId(0))
        );
        let (left, right) = ("HostSNI(`*.x`) || ALPN(`p`)", "HostSNI(`*.x`) || ALPN(`q`)");
        assert_eq!(
            first(&[(Kind::Tls, 0, right), (Kind::Tls, 0, left)]),
            Some(TcpRouteId(0))
        );
    }

    #[test]
    fn in_the_clear_a_router_takes_what_is_left() {
        let clear = [(Kind::Clear, 0, "ClientIP(`10.0.0.0/8`)")];
        let only = table(&clear, &[]);
        assert!(!only.asks_for_hello());
        assert_eq!(only.find(None, client()), Some(TcpRouteId(0)));
        assert_eq!(only.find(None, [192, 0, 2, 1].into()), None);
        let mapped = "::ffff:10.0.0.7".parse().expect("an address");
        assert_eq!(only.find(None, mapped), Some(TcpRouteId(0)));
        let both = table(&[clear[0], (Kind::Tls, 0, "HostSNI(`a.x`)")], &[]);
        assert!(both.asks_for_hello());
        assert_eq!(both.find(None, client()), Some(TcpRouteId(0)));
        assert_eq!(
            both.find(Some(&hello(Some("a.x"), &[])), client()),
            Some(TcpRouteId(1))
        );
        assert_eq!(
            both.find(Some(&hello(Some("b.x"), &[])), client()),
            Some(TcpRouteId(0))
        );
    }

    #[test]
    fn the_index_answers_as_trying_all_in_order_does() {
        let rules: Vec<String> = (0..50)
            .map(|index| match index % 4 {
                0 => format!("HostSNI(`n{index}.x`)"),
                1 => format!("HostSNI(`n{index}.x`) || HostSNI(`n{}.x`)", index + 1),
                2 => format!("HostSNIRegexp(`^n{}`)", index / 10),
                _ => format!("HostSNI(`*.x`) && ALPN(`p{index}`)"),
            })
            .collect();
        let routers: Vec<_> = rules.iter().map(|rule| (Kind::Tls, 0, rule.as_str())).collect();
        let table = table(&routers, &[]);
        let mut order: Vec<usize> = (0..rules.len()).collect();
        let parsed: Vec<TcpRule> = rules
            .iter()
            .map(|rule| TcpRule::parse_tcp(rule).expect("a rule"))
            .collect();
        order.sort_by_cached_key(|id| {
            (
                Reverse((rules[*id].len(), specificity(&parsed[*id]))),
                format!("r{id}"),
            )
        });
        for index in 0..60 {
            let hello = hello(Some(&format!("n{index}.x")), &[&format!("p{index}")]);
            let name = hello.sni.as_deref();
            let tried = order
                .iter()
                .find(|id| parsed[**id].eval(|matcher| holds(matcher, Some(&hello), name, client())));
            assert_eq!(
                table.find(Some(&hello), client()),
                tried.map(|id| TcpRouteId(*id)),
                "n{index}.x"
            );
        }
    }
}
