//! The rows of `pass_tls_client_cert`.

use crate::reference::rows::{Row, now, table};

/// Relative to `middlewares.NAME`.
pub(super) const ROWS: &[Row] = &[
    table(
        "pass_tls_client_cert",
        "Tells servers of the client's certificate; at least one of `pem`, `info` and `rfc9440`.",
    ),
    now(
        "pass_tls_client_cert.pem",
        "boolean",
        "false",
        "`X-Forwarded-Tls-Client-Cert`: the certificate in base64.",
    ),
    now(
        "pass_tls_client_cert.rfc9440",
        "boolean",
        "false",
        "`Client-Cert`, and with `chain` `Client-Cert-Chain` (RFC 9440).",
    ),
    now(
        "pass_tls_client_cert.chain",
        "boolean",
        "false",
        "The verified certificates between the client's and the CA's too.",
    ),
    now(
        "pass_tls_client_cert.allow_unverified",
        "boolean",
        "false",
        "Tells also of certificates that nobody verified; servers cannot tell the two apart.",
    ),
    table(
        "pass_tls_client_cert.info",
        "`X-Forwarded-Tls-Client-Cert-Info`: chosen facts as escaped text.",
    ),
    now(
        "pass_tls_client_cert.info.not_before",
        "boolean",
        "false",
        "`NB`, seconds since 1970.",
    ),
    now(
        "pass_tls_client_cert.info.not_after",
        "boolean",
        "false",
        "`NA`, seconds since 1970.",
    ),
    now(
        "pass_tls_client_cert.info.serial_number",
        "boolean",
        "false",
        "`SerialNumber`, decimal.",
    ),
    now(
        "pass_tls_client_cert.info.sans",
        "boolean",
        "false",
        "`SAN`: DNS names, mail addresses, IP addresses and URIs.",
    ),
    table("pass_tls_client_cert.info.subject", "Parts of the subject."),
    now(
        "pass_tls_client_cert.info.subject.domain_component",
        "boolean",
        "false",
        "`DC`.",
    ),
    now(
        "pass_tls_client_cert.info.subject.country",
        "boolean",
        "false",
        "`C`.",
    ),
    now(
        "pass_tls_client_cert.info.subject.province",
        "boolean",
        "false",
        "`ST`.",
    ),
    now(
        "pass_tls_client_cert.info.subject.locality",
        "boolean",
        "false",
        "`L`.",
    ),
    now(
        "pass_tls_client_cert.info.subject.organization",
        "boolean",
        "false",
        "`O`.",
    ),
    now(
        "pass_tls_client_cert.info.subject.organizational_unit",
        "boolean",
        "false",
        "`OU`.",
    ),
    now(
        "pass_tls_client_cert.info.subject.serial_number",
        "boolean",
        "false",
        "`SN`.",
    ),
    now(
        "pass_tls_client_cert.info.subject.common_name",
        "boolean",
        "false",
        "`CN`.",
    ),
    table("pass_tls_client_cert.info.issuer", "Parts of the issuer."),
    now(
        "pass_tls_client_cert.info.issuer.domain_component",
        "boolean",
        "false",
        "`DC`.",
    ),
    now(
        "pass_tls_client_cert.info.issuer.country",
        "boolean",
        "false",
        "`C`.",
    ),
    now(
        "pass_tls_client_cert.info.issuer.province",
        "boolean",
        "false",
        "`ST`.",
    ),
    now(
        "pass_tls_client_cert.info.issuer.locality",
        "boolean",
        "false",
        "`L`.",
    ),
    now(
        "pass_tls_client_cert.info.issuer.organization",
        "boolean",
        "false",
        "`O`.",
    ),
    now(
        "pass_tls_client_cert.info.issuer.serial_number",
        "boolean",
        "false",
        "`SN`.",
    ),
    now(
        "pass_tls_client_cert.info.issuer.common_name",
        "boolean",
        "false",
        "`CN`.",
    ),
];
