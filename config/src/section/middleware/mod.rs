//! `[middlewares]`: one table a name, in it one table that is the kind. One file a kind.

mod basic_auth;
mod chain;
mod circuit_breaker;
mod compress;
mod errors;
mod field_name;
mod forward_auth;
mod headers;
mod in_flight;
mod ip_list;
mod ip_strategy;
mod limit_body;
mod pass_tls_client_cert;
mod path;
mod pattern;
mod rate_limit;
mod redirect;
mod retry;
mod source_criterion;

use crate::{
    model::middleware::Middleware,
    reader::{NameRule, Named, Table},
    report::{Fault, one_of},
    section::{Kind, Mention, Names},
};
use std::collections::BTreeMap;

/// Reads the table of a kind; `None` where it was refused.
type Read = fn(&Table<'_>, &mut Names) -> Option<MiddlewareDraft>;

/// The kinds that are built: the word of the file, and who reads the table of that name.
const KINDS: &[(&str, Read)] = &[
    ("chain", chain::read),
    // Kinds that look at the header section of a request.
    ("ip_allow_list", ip_list::allow),
    ("ip_deny_list", ip_list::deny),
    ("strip_prefix", path::strip_prefix),
    ("strip_prefix_regex", path::strip_prefix_regex),
    ("add_prefix", path::add_prefix),
    ("replace_path", path::replace_path),
    ("replace_path_regex", path::replace_path_regex),
    ("redirect_scheme", redirect::scheme),
    ("redirect_regex", redirect::regex),
    ("limit_body", limit_body::read),
    ("errors", errors::read),
    ("headers", headers::read),
    // Kinds that tell servers of the client.
    ("pass_tls_client_cert", pass_tls_client_cert::read),
    // Kinds that wait, count or ask others.
    ("basic_auth", basic_auth::read),
    ("forward_auth", forward_auth::read),
    ("rate_limit", rate_limit::read),
    ("in_flight", in_flight::read),
    ("retry", retry::read),
    ("circuit_breaker", circuit_breaker::read),
    ("compress", compress::read),
];

/// A middleware as it is written.
pub(crate) enum MiddlewareDraft {
    /// Of a kind that needs nothing else; the names that it mentions are noted.
    Made(Box<Middleware>),
    /// Names of others.
    Chain(Vec<Mention>),
    /// It was refused.
    Broken,
}

impl MiddlewareDraft {
    fn made(middleware: Middleware) -> Self {
        Self::Made(Box::new(middleware))
    }
}

pub(super) fn middlewares(root: &Table<'_>, names: &mut Names) -> BTreeMap<String, MiddlewareDraft> {
    let mut found = BTreeMap::new();
    for named in root.named("middlewares", NameRule::Word) {
        names.define(Kind::Middleware, &named);
        let draft = middleware(&named, names).unwrap_or(MiddlewareDraft::Broken);
        found.insert(named.name, draft);
    }
    found
}

fn middleware(named: &Named<'_>, names: &mut Names) -> Option<MiddlewareDraft> {
    let table = &named.table;
    let words = || KINDS.iter().map(|(word, _)| *word);
    let written: Vec<&(&str, Read)> = KINDS.iter().filter(|(word, _)| table.has(word)).collect();
    match written.as_slice() {
        [] => {
            if !table.is_excused() {
                let fault = Fault::found("found no kind").expected(one_of(words()));
                table.refuse(&fault.fix(format!("write `[{}.KIND]`", table.path())));
            }
            None
        }
        [(word, read)] => read(&table.table(word)?, names),
        [_, ..] => {
            let found = one_of(written.iter().map(|(word, _)| *word));
            let fault = Fault::found(format!("found {found} at once"))
                .expected("one kind for each name")
                .so("the order in which they act would be anybody's guess")
                .fix("give each a name of its own and join them by `chain`");
            table.refuse(&fault);
            None
        }
    }
}
