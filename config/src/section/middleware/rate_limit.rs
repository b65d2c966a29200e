//! `rate_limit`.

use super::{MiddlewareDraft, source_criterion};
use crate::{
    model::middleware::{Middleware, rate_limit::RateLimit},
    reader::Table,
    report::Fault,
    section::Names,
};
use std::time::Duration;

/// Most requests of a period, and at once.
const REQUESTS_MAX: i64 = 1_000_000_000;
/// Longest time until a source that used everything up has everything again.
const FULL_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// Reads its table.
pub(super) fn read(table: &Table<'_>, names: &mut Names) -> Option<MiddlewareDraft> {
    let number = |key: &str| {
        let number = table.get(key)?.integer(1..=REQUESTS_MAX)?;
        u64::try_from(number).ok()
    };
    table.need("average", "how many requests a source may make in a `period`");
    let read = RateLimit {
        average: number("average").unwrap_or(1),
        period: table.duration_from("period", Duration::from_millis(1), Duration::from_secs(1)),
        burst: number("burst").unwrap_or(1),
        source: source_criterion::read(table, source_criterion::address(), names),
    };
    let full = read.period.as_nanos() * u128::from(read.burst) / u128::from(read.average);
    if full > FULL_MAX.as_nanos() {
        let fault = Fault::found("found a `burst` that fills up again in more than a year")
            .expected("`burst` times `period` over `average` of at most a year");
        table.refuse(&fault.fix("lower `burst` or raise `average`"));
    }
    Some(MiddlewareDraft::made(Middleware::RateLimit(read)))
}
