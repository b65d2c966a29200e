//! `[middlewares]`: one table a name, in it one table that is the kind.

use crate::{
    model::middleware::{CertInfo, NameParts, PassTlsClientCert},
    reader::{NameRule, Named, Table},
    report::{Fault, one_of},
    section::{Kind, Mention, Names},
};
use std::collections::BTreeMap;

/// The kinds that are built.
const KINDS: [&str; 2] = ["chain", "pass_tls_client_cert"];

/// The part of `info` about the certificate's holder.
const SUBJECT: &str = "subject";

/// A middleware as it is written.
pub(crate) enum MiddlewareDraft {
    /// Of a kind that needs nothing else.
    PassTlsClientCert(PassTlsClientCert),
    /// Names of others.
    Chain(Vec<Mention>),
    /// It was refused.
    Broken,
}

pub(super) fn middlewares(root: &Table<'_>, names: &mut Names) -> BTreeMap<String, MiddlewareDraft> {
    let mut found = BTreeMap::new();
    for named in root.named("middlewares", NameRule::Word) {
        names.define(Kind::Middleware, &named);
        let draft = middleware(&named, names);
        found.insert(named.name, draft);
    }
    found
}

fn middleware(named: &Named<'_>, names: &mut Names) -> MiddlewareDraft {
    let table = &named.table;
    let written: Vec<&str> = KINDS.into_iter().filter(|kind| table.has(kind)).collect();
    match written.as_slice() {
        [] => {
            if !table.is_excused() {
                let fault = Fault::found("found no kind").expected(one_of(KINDS));
                table.refuse(&fault.fix(format!("write `[{}.KIND]`", table.path())));
            }
            MiddlewareDraft::Broken
        }
        ["chain"] => chain(table, names),
        [_] => table
            .table("pass_tls_client_cert")
            .map_or(MiddlewareDraft::Broken, |table| {
                MiddlewareDraft::PassTlsClientCert(pass_tls_client_cert(&table))
            }),
        [_, ..] => {
            let fault = Fault::found(format!("found {} at once", one_of(written.iter().copied())))
                .expected("one kind for each name")
                .so("the order in which they act would be anybody's guess")
                .fix("give each a name of its own and join them by `chain`");
            table.refuse(&fault);
            MiddlewareDraft::Broken
        }
    }
}

fn chain(table: &Table<'_>, names: &mut Names) -> MiddlewareDraft {
    let Some(chain) = table.table("chain") else {
        return MiddlewareDraft::Broken;
    };
    let what = "the names of middlewares, in order";
    match chain.need("middlewares", what) {
        Some(_) => names
            .list(Kind::Middleware, &chain, "middlewares")
            .map_or(MiddlewareDraft::Broken, MiddlewareDraft::Chain),
        None => MiddlewareDraft::Broken,
    }
}

fn pass_tls_client_cert(table: &Table<'_>) -> PassTlsClientCert {
    let flag = |key: &str| table.flag(key).unwrap_or(false);
    let read = PassTlsClientCert {
        pem: flag("pem"),
        info: table.table("info").map(|table| info(&table)),
        rfc9440: flag("rfc9440"),
        chain: flag("chain"),
        allow_unverified: flag("allow_unverified"),
    };
    if !read.pem && read.info.is_none() && !read.rfc9440 && !table.is_excused() && !table.has("info") {
        let fault = Fault::found("found nothing that it shall tell").expected("`pem`, `info` or `rfc9440`");
        table.refuse(
            &fault
                .so("servers would learn nothing")
                .fix("add `pem = true`, `rfc9440 = true` or an `info` table"),
        );
    }
    read
}

fn info(table: &Table<'_>) -> CertInfo {
    let flag = |key: &str| table.flag(key).unwrap_or(false);
    let parts = |key: &str| {
        let table = table.table(key);
        table.map_or_else(NameParts::default, |table| name_parts(&table, key))
    };
    let read = CertInfo {
        not_before: flag("not_before"),
        not_after: flag("not_after"),
        serial_number: flag("serial_number"),
        sans: flag("sans"),
        subject: parts(SUBJECT),
        issuer: parts("issuer"),
    };
    let flags = read.not_before || read.not_after || read.serial_number || read.sans;
    if !(flags || read.subject.any() || read.issuer.any() || table.is_excused()) {
        let fault = Fault::found("found nothing chosen").expected("at least one of its keys set to `true`");
        table.refuse(
            &fault
                .so("the header would be empty")
                .fix("add `subject = { common_name = true }` or remove `info`"),
        );
    }
    read
}

fn name_parts(table: &Table<'_>, of: &str) -> NameParts {
    let flag = |key: &str| table.flag(key).unwrap_or(false);
    NameParts {
        domain_component: flag("domain_component"),
        country: flag("country"),
        province: flag("province"),
        locality: flag("locality"),
        organization: flag("organization"),
        // Traefik has no such switch for the issuer.
        organizational_unit: of == SUBJECT && flag("organizational_unit"),
        serial_number: flag("serial_number"),
        common_name: flag("common_name"),
    }
}
