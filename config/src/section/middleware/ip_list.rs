//! `ip_allow_list` and `ip_deny_list`.

use super::{MiddlewareDraft, ip_strategy};
use crate::{
    model::middleware::{Middleware, ip_list::IpList},
    reader::Table,
    report::Fault,
    section::Names,
};

/// Traefik's word for prefixes in place.
const SOURCE_RANGE: &str = "source_range";
/// The status of a refusal unless another is chosen.
const FORBIDDEN: u16 = 403;

/// Reads the table of `ip_allow_list`.
pub(super) fn allow(table: &Table<'_>, names: &mut Names) -> Option<MiddlewareDraft> {
    let read = list(table, "allow", "nobody could pass", names)?;
    Some(MiddlewareDraft::made(Middleware::IpAllowList(read)))
}

/// Reads the table of `ip_deny_list`.
pub(super) fn deny(table: &Table<'_>, names: &mut Names) -> Option<MiddlewareDraft> {
    let read = list(table, "deny", "everybody would pass", names)?;
    Some(MiddlewareDraft::made(Middleware::IpDenyList(read)))
}

/// `own` is the key of the kind; `none` is what follows where nobody is named.
fn list(table: &Table<'_>, own: &str, none: &str, names: &mut Names) -> Option<IpList> {
    let mut values = table.filled(own, "allowlists or prefixes");
    values.extend(table.filled(SOURCE_RANGE, "prefixes or allowlists"));
    let sources = names.sources(&values);
    if !table.has(own) && !table.has(SOURCE_RANGE) && !table.is_excused() {
        let fault =
            Fault::found("found nobody that it names").expected(format!("`{own}` or `{SOURCE_RANGE}`"));
        table.refuse(&fault.so(none).fix(format!(
            "add `{own} = [\"NAME\"]` or `{SOURCE_RANGE} = [\"PREFIX\"]`"
        )));
        return None;
    }
    let status = table
        .get("reject_status_code")
        .and_then(|value| value.integer(400..=599));
    let read = IpList {
        sources,
        reject_status: status
            .and_then(|status| u16::try_from(status).ok())
            .unwrap_or(FORBIDDEN),
        ip_strategy: ip_strategy::read(table, names),
    };
    // What was refused above is no list.
    (!read.sources.is_empty()).then_some(read)
}
