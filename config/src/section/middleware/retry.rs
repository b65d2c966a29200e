//! `retry`.

use super::MiddlewareDraft;
use crate::{
    model::middleware::{Middleware, retry::Retry},
    reader::Table,
    report::Fault,
    section::{Names, statuses::statuses},
};
use std::{ops::RangeInclusive, time::Duration};

/// Most tries of one request.
const ATTEMPTS_MAX: i64 = 16;
/// Most free tries in a second.
const BUDGET_MIN_MAX: i64 = 1_000_000;

/// Reads its table.
pub(super) fn read(table: &Table<'_>, _: &mut Names) -> Option<MiddlewareDraft> {
    let number = |key: &str, range: RangeInclusive<i64>, default: u32| {
        let number = table.get(key).and_then(|value| value.integer(range));
        number
            .and_then(|number| u32::try_from(number).ok())
            .unwrap_or(default)
    };
    table.need(
        "attempts",
        "how often a request is tried, the first time included",
    );
    let status = table.filled("status", "statuses such as `\"503\"` or `\"502-504\"`");
    let read = Retry {
        attempts: number("attempts", 1..=ATTEMPTS_MAX, 1),
        initial_interval: table.duration("initial_interval", Duration::ZERO),
        timeout: table.deadline("timeout", None),
        status: status.iter().filter_map(|value| value.parsed(statuses)).collect(),
        budget_percent: number("budget_percent", 0..=100, 20),
        budget_min: number("budget_min", 0..=BUDGET_MIN_MAX, 10),
    };
    if read.budget_percent == 0 && read.budget_min == 0 {
        let fault = Fault::found("found `budget_percent` and `budget_min` both 0");
        table.refuse(&fault.so("nothing would be tried again").fix("raise one of them"));
    }
    Some(MiddlewareDraft::made(Middleware::Retry(read)))
}
