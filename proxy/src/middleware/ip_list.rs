//! `ip_allow_list` and `ip_deny_list`: who is let in, and who is kept out, by the address that `ip_strategy` picks.
//!
//! Whoever has no address that can be told passes neither. It must not know connections: it judges one request.

use super::{Facts, Head, Pass, ip_strategy::IpStrategy};
use crate::{
    fault::Fault,
    gate::policy::{Allowlists, SourceSet, resolve},
};
use http::{StatusCode, request::Parts};
use sallyport_config::model::middleware::ip_list;
use std::net::IpAddr;

/// The compiled middleware.
#[derive(Debug)]
pub(super) struct IpList {
    name: String,
    sense: Sense,
    sources: SourceSet,
    rejection: StatusCode,
    strategy: IpStrategy,
}

/// What being on the list means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sense {
    /// Only who is on it passes.
    Allow,
    /// Only who is not on it passes.
    Deny,
}

impl IpList {
    /// Compiles it.
    pub(super) fn new(name: &str, sense: Sense, settings: &ip_list::IpList, lists: &Allowlists) -> Self {
        Self {
            name: name.to_owned(),
            sense,
            sources: resolve(&settings.sources, lists),
            rejection: StatusCode::from_u16(settings.reject_status).unwrap_or(StatusCode::FORBIDDEN),
            strategy: IpStrategy::new(&settings.ip_strategy, lists),
        }
    }

    fn lets_in(&self, address: Option<IpAddr>) -> bool {
        let listed = |address| self.sources.contains(address);
        match self.sense {
            Sense::Allow => address.is_some_and(listed),
            Sense::Deny => address.is_some_and(|address| !listed(address)),
        }
    }
}

impl Head for IpList {
    fn pass(&self, head: &mut Parts, facts: &Facts<'_>) -> Result<Pass, Fault> {
        let address = self.strategy.client(&head.headers, facts);
        if self.lets_in(address) {
            return Ok(Pass::On);
        }
        let (client, middleware) = (facts.client, self.name.as_str());
        tracing::debug!(%client, ?address, middleware, "source refused");
        Err(Fault::SourceForbidden(self.rejection))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderValue, Request};
    use sallyport_config::model::{
        SourceRef,
        middleware::ip_strategy::{IpStrategy as Settings, Picked},
    };
    use std::num::NonZeroUsize;

    fn list(sense: Sense, picked: Picked) -> IpList {
        let settings = ip_list::IpList {
            sources: vec![
                SourceRef::Prefix("192.0.2.0/24".parse().expect("a prefix")),
                SourceRef::List("office".to_owned()),
            ],
            reject_status: 404,
            ip_strategy: Settings {
                picked,
                ipv6_subnet: None,
            },
        };
        let office = ["2001:db8::/32".parse().expect("a prefix")];
        let lists = Allowlists::new([("office".to_owned(), office.into())].into());
        IpList::new("m", sense, &settings, &lists)
    }

    fn passes(list: &IpList, client: &str, hops: Option<&'static str>) -> bool {
        let (mut head, ()) = Request::new(()).into_parts();
        if let Some(hops) = hops {
            head.headers
                .insert("x-forwarded-for", HeaderValue::from_static(hops));
        }
        let facts = Facts {
            client: client.parse().expect("an address"),
            certificates: None,
        };
        match list.pass(&mut head, &facts) {
            Ok(Pass::On) => true,
            Err(Fault::SourceForbidden(StatusCode::NOT_FOUND)) => false,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn both_lists_judge_the_same_addresses_in_opposite_senses() {
        let (allow, deny) = (
            list(Sense::Allow, Picked::Client),
            list(Sense::Deny, Picked::Client),
        );
        for (client, listed) in [
            ("192.0.2.1", true),
            ("::ffff:192.0.2.1", true),
            ("2001:db8::1", true),
            ("192.0.3.1", false),
            ("2001:db9::1", false),
        ] {
            assert_eq!(passes(&allow, client, None), listed, "{client}");
            assert_eq!(passes(&deny, client, None), !listed, "{client}");
        }
    }

    #[test]
    fn who_has_no_address_passes_neither_list() {
        let depth = || Picked::Depth(NonZeroUsize::MIN);
        for sense in [Sense::Allow, Sense::Deny] {
            let list = list(sense, depth());
            for hops in [None, Some("192.0.2.1"), Some("nobody, 192.0.2.1")] {
                assert!(!passes(&list, "192.0.2.1", hops), "{sense:?} {hops:?}");
            }
        }
        assert!(passes(
            &list(Sense::Allow, depth()),
            "9.9.9.9",
            Some("192.0.2.5, 9.9.9.9")
        ));
        assert!(passes(
            &list(Sense::Deny, depth()),
            "192.0.2.1",
            Some("9.9.9.9, 192.0.2.1")
        ));
    }
}
