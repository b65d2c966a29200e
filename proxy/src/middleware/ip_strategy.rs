//! Which address a middleware takes for the client's.
//!
//! `X-Forwarded-For` comes here with what trusted peers wrote, or nothing of a stranger's, and with the peer at its end,
//! which this gateway appended. What cannot be read is no address, and whoever asks must refuse what has none.

use super::Facts;
use crate::gate::policy::{Allowlists, SourceSet, resolve};
use http::{HeaderMap, HeaderName, HeaderValue};
use sallyport_config::model::middleware::ip_strategy::{self, Picked};
use std::net::{IpAddr, Ipv6Addr};

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The compiled `ip_strategy`.
#[derive(Debug)]
pub(super) struct IpStrategy {
    pick: Pick,
    /// The bits of an IPv6 address that count.
    mask: u128,
}

#[derive(Debug)]
enum Pick {
    Client,
    /// How many hops stand behind the one that counts, our own among them.
    Behind(usize),
    Excluding(SourceSet),
}

impl IpStrategy {
    /// Compiles it.
    pub(super) fn new(settings: &ip_strategy::IpStrategy, lists: &Allowlists) -> Self {
        let pick = match &settings.picked {
            Picked::Client => Pick::Client,
            Picked::Depth(depth) => Pick::Behind(depth.get()),
            Picked::Excluding(sources) => Pick::Excluding(resolve(sources, lists)),
        };
        let free = settings
            .ipv6_subnet
            .map_or(0, |length| 128 - u32::from(length.min(128)));
        Self {
            pick,
            mask: u128::MAX.checked_shl(free).unwrap_or(0),
        }
    }

    /// The address that counts; `None` where there is none, which is to be refused.
    pub(super) fn client(&self, headers: &HeaderMap, facts: &Facts<'_>) -> Option<IpAddr> {
        let address = match &self.pick {
            Pick::Client => facts.client,
            Pick::Behind(hops) => address(hops_from_the_right(headers).nth(*hops)?)?,
            Pick::Excluding(known) => {
                let mut hops = hops_from_the_right(headers).skip(1).map(address);
                hops.find(|hop| hop.is_none_or(|hop| !known.contains(hop)))??
            }
        };
        Some(match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) & self.mask)),
        })
    }
}

fn address(hop: &str) -> Option<IpAddr> {
    hop.parse().ok().map(|address: IpAddr| address.to_canonical())
}

fn hops_from_the_right(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lists = headers.get_all(FOR).iter().rev();
    // What is no text is one hop that is no address.
    let lists = lists.map(|value| HeaderValue::to_str(value).unwrap_or_default());
    lists.flat_map(|list| list.rsplit(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroUsize;

    fn nets(list: &[&str]) -> Vec<sallyport_config::model::SourceRef> {
        let net = |text: &&str| sallyport_config::model::SourceRef::Prefix(text.parse().expect("a prefix"));
        list.iter().map(net).collect()
    }

    #[track_caller]
    fn check(picked: Picked, ipv6_subnet: Option<u8>, fields: &[&'static str], expected: Option<&str>) {
        let settings = ip_strategy::IpStrategy { picked, ipv6_subnet };
        let strategy = IpStrategy::new(&settings, &Allowlists::default());
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(FOR, HeaderValue::from_static(field));
        }
        let facts = Facts {
            client: "2001:db8:1:2::7".parse().expect("an address"),
            certificates: None,
        };
        let found = strategy.client(&headers, &facts);
        assert_eq!(
            found,
            expected.map(|text| text.parse().expect("an address")),
            "{fields:?}"
        );
    }

    fn depth(depth: usize) -> Picked {
        Picked::Depth(NonZeroUsize::new(depth).expect("not zero"))
    }

    #[test]
    fn the_client_is_who_connected_unless_a_hop_is_named() {
        check(
            Picked::Client,
            None,
            &["1.1.1.1, 9.9.9.9"],
            Some("2001:db8:1:2::7"),
        );
        check(Picked::Client, Some(48), &[], Some("2001:db8:1::"));
        check(Picked::Client, Some(128), &[], Some("2001:db8:1:2::7"));
    }

    #[test]
    fn a_hop_counts_from_the_right_without_our_own() {
        let hops = &["1.1.1.1, 2.2.2.2", "3.3.3.3,9.9.9.9"];
        check(depth(1), None, hops, Some("3.3.3.3"));
        check(depth(2), None, hops, Some("2.2.2.2"));
        check(depth(3), None, hops, Some("1.1.1.1"));
        check(depth(4), None, hops, None);
        check(depth(1), None, &["9.9.9.9"], None);
        check(depth(1), None, &[], None);
        check(depth(1), None, &["::ffff:1.2.3.4, 9.9.9.9"], Some("1.2.3.4"));
        check(
            depth(1),
            Some(64),
            &["2001:db8::5:6, 9.9.9.9"],
            Some("2001:db8::"),
        );
        check(depth(1), Some(1), &["1.2.3.4, 9.9.9.9"], Some("1.2.3.4"));
    }

    #[test]
    fn what_is_no_address_is_none() {
        for hop in [
            "unknown, 9.9.9.9",
            "1.2.3.4:80, 9.9.9.9",
            ", 9.9.9.9",
            "[::1], 9.9.9.9",
            "1.2.3.4/8, 9.9.9.9",
        ] {
            check(depth(1), None, &[hop], None);
            check(Picked::Excluding(nets(&["10.0.0.0/8"])), None, &[hop], None);
        }
    }

    #[test]
    fn known_hops_are_passed_over_from_the_right() {
        let known = || Picked::Excluding(nets(&["10.0.0.0/8", "2001:db8::/32"]));
        check(
            known(),
            None,
            &["6.6.6.6, 1.1.1.1, 10.0.0.1, 2001:db8::1, 9.9.9.9"],
            Some("1.1.1.1"),
        );
        check(known(), None, &["10.0.0.1, 9.9.9.9"], None);
        check(known(), None, &["1.1.1.1, what, 10.0.0.1, 9.9.9.9"], None);
    }
}
