//! `in_flight`: so many requests of a source at the same time, for the whole process.
//!
//! A request counts from its header to the end of its answer, or until nobody waits for it any more.

mod table;

use super::{Around, Making, Next, guarded::guarded, source_criterion::SourceCriterion};
use crate::{
    fault::Fault,
    http::{body::RequestBody, call::Answering},
};
use http::{Request, StatusCode};
use sallyport_config::model::middleware::in_flight;
use std::sync::Arc;
use table::Table;

/// The compiled middleware.
#[derive(Debug)]
pub(super) struct InFlight {
    amount: u32,
    source: SourceCriterion,
    table: Arc<Table>,
}

impl InFlight {
    /// Compiles it; what is under way counts over reloads while sources are told apart by the same.
    pub(super) fn new(name: &str, settings: &in_flight::InFlight, making: Making<'_>) -> Self {
        Self {
            amount: settings.amount,
            source: SourceCriterion::new(&settings.source, making.lists),
            table: making.kept.state(
                name,
                |table: &Table| table.criterion == settings.source,
                || Table::new(settings.source.clone()),
            ),
        }
    }
}

impl Around for InFlight {
    fn call<'a>(&'a self, request: Request<RequestBody>, next: Next<'a>) -> Answering<'a> {
        Box::pin(async move {
            let source = self.source.of(&self.table.keys, request.headers(), &next.facts);
            let source = source.ok_or(Fault::SourceForbidden(StatusCode::FORBIDDEN))?;
            let held = Table::hold(&self.table, source, self.amount).ok_or(Fault::InFlightExceeded)?;
            let answer = next.run(request).await?;
            Ok(answer.map(|body| guarded(body, held)))
        })
    }
}
