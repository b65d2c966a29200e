//! Whose requests are counted together: a keyed digest of an address, a field or a host.
//!
//! Whoever counts must refuse a request that has no source.

use super::{Facts, ip_strategy::IpStrategy};
use crate::gate::policy::Allowlists;
use http::{HeaderMap, HeaderName, header::HOST};
use sallyport_config::model::middleware::source_criterion;
use std::hash::{BuildHasher, Hasher, RandomState};

/// The compiled `source_criterion`.
#[derive(Debug)]
pub(super) enum SourceCriterion {
    /// The client's address.
    Address(IpStrategy),
    /// The values of a field.
    Header(HeaderName),
    /// The host that is asked for.
    Host,
}

/// A source, as a table knows it; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source(pub(super) u64);

impl SourceCriterion {
    /// Compiles it.
    pub(super) fn new(settings: &source_criterion::SourceCriterion, lists: &Allowlists) -> Self {
        match settings {
            source_criterion::SourceCriterion::Address(strategy) => {
                Self::Address(IpStrategy::new(strategy, lists))
            }
            // A name that is none was refused with the configuration; no request has this one.
            source_criterion::SourceCriterion::Header(name) => Self::Header(
                HeaderName::try_from(name.as_str()).unwrap_or(HeaderName::from_static("hub-uplink")),
            ),
            source_criterion::SourceCriterion::Host => Self::Host,
        }
    }

    /// The source of a request under a table's keys; `None` where there is none, which is to be refused.
    pub(super) fn of(&self, keys: &RandomState, headers: &HeaderMap, facts: &Facts<'_>) -> Option<Source> {
        let mut hasher = keys.build_hasher();
        match self {
            Self::Address(strategy) => {
                let address = strategy.client(headers, facts)?;
                hasher.write_u128(match address {
                    std::net::IpAddr::V4(address) => u128::from(address.to_ipv6_mapped()),
                    std::net::IpAddr::V6(address) => u128::from(address),
                });
            }
            Self::Header(name) => {
                for value in headers.get_all(name) {
                    hasher.write(value.as_bytes());
                    // No value has one.
                    hasher.write_u8(0);
                }
            }
            Self::Host => {
                let host = headers.get(HOST).map(|host| host.as_bytes()).unwrap_or_default();
                for byte in without_port(host) {
                    hasher.write_u8(byte.to_ascii_lowercase());
                }
            }
        }
        Some(Source(hasher.finish().max(1)))
    }
}

fn without_port(host: &[u8]) -> &[u8] {
    let colon = host.iter().rposition(|byte| *byte == b':');
    let bracket = host.iter().rposition(|byte| *byte == b']');
    match colon {
        Some(colon) if bracket.is_none_or(|bracket| bracket < colon) => host.get(..colon).unwrap_or(host),
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use sallyport_config::model::middleware::ip_strategy;

    fn facts(client: &str) -> Facts<'static> {
        Facts {
            client: client.parse().expect("an address"),
            certificates: None,
        }
    }

    #[test]
    fn addresses_hosts_and_fields_tell_sources_apart() {
        let keys = RandomState::new();
        let strategy = ip_strategy::IpStrategy {
            ipv6_subnet: Some(64),
            ..ip_strategy::IpStrategy::default()
        };
        let settings = source_criterion::SourceCriterion::Address(strategy);
        let address = SourceCriterion::new(&settings, &Allowlists::default());
        let of = |client: &str| address.of(&keys, &HeaderMap::new(), &facts(client));
        assert_eq!(of("192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::2"), "one network");
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        let asked = |criterion: &SourceCriterion, name: HeaderName, values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(&name, HeaderValue::from_static(value));
            }
            criterion.of(&keys, &headers, &facts("192.0.2.1"))
        };
        let host = |value| asked(&SourceCriterion::Host, HOST, &[value]);
        assert_eq!(host("a.example"), host("A.Example:8080"));
        assert_eq!(host("[::1]:80"), host("[::1]"));
        assert_ne!(host("a.example"), host("b.example"));
        let tenant = HeaderName::from_static("x-tenant");
        let header = SourceCriterion::Header(tenant.clone());
        let values = |values| asked(&header, tenant.clone(), values);
        assert_eq!(values(&["a"]), values(&["a"]));
        assert_ne!(values(&["a", "b"]), values(&["ab"]));
        assert_ne!(values(&["a"]), values(&[]));
    }

    #[test]
    fn a_client_without_a_hop_has_no_source() {
        let strategy = ip_strategy::IpStrategy {
            picked: ip_strategy::Picked::Depth(std::num::NonZeroUsize::MIN),
            ipv6_subnet: None,
        };
        let settings = source_criterion::SourceCriterion::Address(strategy);
        let criterion = SourceCriterion::new(&settings, &Allowlists::default());
        assert_eq!(
            criterion.of(&RandomState::new(), &HeaderMap::new(), &facts("192.0.2.1")),
            None
        );
    }
}
