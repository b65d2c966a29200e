//! `source_criterion` of a middleware that counts for each source.

use super::{field_name::field_name, ip_strategy};
use crate::{
    model::middleware::{ip_strategy::IpStrategy, source_criterion::SourceCriterion},
    reader::Table,
    report::{Fault, one_of},
    section::Names,
};

const KEYS: [&str; 3] = ["ip_strategy", "request_header_name", "request_host"];

/// A client of IPv6 has this much of a network to itself: each of its addresses for a source would be no limit.
const IPV6_SUBNET: u8 = 64;

/// The client's address.
pub(super) fn address() -> SourceCriterion {
    SourceCriterion::Address(IpStrategy {
        ipv6_subnet: Some(IPV6_SUBNET),
        ..IpStrategy::default()
    })
}

/// Reads the table of `of`; `default` where it is absent or was refused.
pub(super) fn read(of: &Table<'_>, default: SourceCriterion, names: &mut Names) -> SourceCriterion {
    let Some(table) = of.table("source_criterion") else {
        return default;
    };
    let written: Vec<&str> = KEYS.into_iter().filter(|key| table.has(key)).collect();
    match written.as_slice() {
        ["ip_strategy"] => {
            let mut strategy = ip_strategy::read(&table, names);
            strategy.ipv6_subnet.get_or_insert(IPV6_SUBNET);
            SourceCriterion::Address(strategy)
        }
        ["request_header_name"] => {
            let name = table
                .get("request_header_name")
                .and_then(|value| value.parsed(field_name));
            name.map_or(default, SourceCriterion::Header)
        }
        ["request_host"] => match table.flag("request_host") {
            Some(true) => SourceCriterion::Host,
            Some(false) | None => default,
        },
        [] => {
            if !table.is_excused() {
                let fault = Fault::found("found nothing that tells sources apart").expected(one_of(KEYS));
                table.refuse(&fault.fix("add one of them or leave the table out"));
            }
            default
        }
        [_, ..] => {
            let fault = Fault::found(format!("found {} at once", one_of(written.iter().copied())))
                .expected("exactly one")
                .fix("remove the others");
            table.refuse(&fault);
            default
        }
    }
}
