//! `limit_body`.

use super::MiddlewareDraft;
use crate::{
    model::middleware::{Middleware, limit_body::LimitBody},
    reader::Table,
    section::Names,
    units,
};

/// Reads its table.
pub(super) fn read(table: &Table<'_>, _: &mut Names) -> Option<MiddlewareDraft> {
    let bytes = table.need("max_request_body_bytes", "a size such as `10MiB`")?;
    let read = LimitBody {
        request_bytes_max: bytes.parsed(units::size)?,
    };
    Some(MiddlewareDraft::made(Middleware::LimitBody(read)))
}
