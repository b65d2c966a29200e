//! `chain`: several middlewares under one name.

use super::MiddlewareDraft;
use crate::{
    reader::Table,
    section::{Kind, Names},
};

/// Reads its table; that chains end is for the link stage to see.
pub(super) fn read(table: &Table<'_>, names: &mut Names) -> Option<MiddlewareDraft> {
    table.need("middlewares", "the names of middlewares, in order")?;
    names
        .list(Kind::Middleware, table, "middlewares")
        .map(MiddlewareDraft::Chain)
}
