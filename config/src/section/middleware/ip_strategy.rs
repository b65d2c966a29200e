//! `ip_strategy` inside a middleware that goes by addresses.

use crate::{
    model::middleware::ip_strategy::{IpStrategy, Picked},
    reader::Table,
    report::Fault,
    section::Names,
};
use std::num::NonZeroUsize;

/// Deepest hop that can be named.
const DEPTH_MAX: i64 = 64;

/// Reads the table `ip_strategy` of `of`; absent, it is the client that connected.
pub(super) fn read(of: &Table<'_>, names: &mut Names) -> IpStrategy {
    let Some(table) = of.table("ip_strategy") else {
        return IpStrategy::default();
    };
    let depth = table
        .get("depth")
        .and_then(|value| value.integer(1..=DEPTH_MAX))
        .and_then(|depth| usize::try_from(depth).ok())
        .and_then(NonZeroUsize::new);
    let excluded = table.filled("excluded_ips", "prefixes or allowlists");
    let excluded = names.sources(&excluded);
    if table.has("depth") && table.has("excluded_ips") {
        let fault = Fault::found("found `depth` and `excluded_ips` at once").expected("one of the two");
        table.refuse(
            &fault
                .so("only one of them could choose the address")
                .fix("remove one"),
        );
    }
    let subnet = table.get("ipv6_subnet").and_then(|value| value.integer(1..=128));
    IpStrategy {
        picked: match depth {
            Some(depth) => Picked::Depth(depth),
            None if !excluded.is_empty() => Picked::Excluding(excluded),
            None => Picked::Client,
        },
        ipv6_subnet: subnet.and_then(|length| u8::try_from(length).ok()),
    }
}
