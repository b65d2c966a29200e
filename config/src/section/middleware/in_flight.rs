//! `in_flight`.

use super::{MiddlewareDraft, source_criterion};
use crate::{
    model::middleware::{Middleware, in_flight::InFlight, source_criterion::SourceCriterion},
    reader::Table,
    section::Names,
};

/// Most requests at the same time that can be counted.
const AMOUNT_MAX: i64 = 1_000_000;

/// Reads its table.
pub(super) fn read(table: &Table<'_>, names: &mut Names) -> Option<MiddlewareDraft> {
    let amount = table.need("amount", "how many requests may be under way at the same time")?;
    let amount = amount
        .integer(1..=AMOUNT_MAX)
        .and_then(|amount| u32::try_from(amount).ok());
    let read = InFlight {
        amount: amount.unwrap_or(1),
        source: source_criterion::read(table, SourceCriterion::Host, names),
    };
    Some(MiddlewareDraft::made(Middleware::InFlight(read)))
}
