//! `pass_tls_client_cert`.

use super::MiddlewareDraft;
use crate::{
    model::middleware::{
        Middleware,
        pass_tls_client_cert::{CertInfo, NameParts, PassTlsClientCert},
    },
    reader::Table,
    report::Fault,
    section::Names,
};

/// The part of `info` about the certificate's holder.
const SUBJECT: &str = "subject";

/// Reads its table.
pub(super) fn read(table: &Table<'_>, _: &mut Names) -> Option<MiddlewareDraft> {
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
    Some(MiddlewareDraft::made(Middleware::PassTlsClientCert(read)))
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
