//! The rows of `headers`.

use crate::reference::rows::{Row, now, table};

/// Relative to `middlewares.NAME`.
pub(super) const ROWS: &[Row] = &[
    table(
        "headers",
        "Sets and removes header fields; CORS; what tells browsers to be careful.",
    ),
    table("headers.custom_request_headers", "Fields of requests, by name."),
    now(
        "headers.custom_request_headers.NAME",
        "string",
        "",
        "The new value; an empty one takes the field away. `Host` may be set.",
    ),
    table("headers.custom_response_headers", "Fields of answers, by name."),
    now(
        "headers.custom_response_headers.NAME",
        "string",
        "",
        "The new value; an empty one takes the field away.",
    ),
    now(
        "headers.access_control_allow_origin_list",
        "list of origins",
        "",
        "Whose pages may read answers; `*` is everybody's and goes with no credentials.",
    ),
    now(
        "headers.access_control_allow_origin_list_regex",
        "list of regular expressions",
        "",
        "The same for origins that one of these takes as a whole.",
    ),
    now(
        "headers.access_control_allow_credentials",
        "boolean",
        "false",
        "Whether those pages may ask in their visitor's name.",
    ),
    now(
        "headers.access_control_allow_headers",
        "list of names",
        "",
        "The fields that those pages may send.",
    ),
    now(
        "headers.access_control_allow_methods",
        "list of methods",
        "",
        "The methods that those pages may use.",
    ),
    now(
        "headers.access_control_expose_headers",
        "list of names",
        "",
        "The fields of answers that those pages may read.",
    ),
    now(
        "headers.access_control_max_age",
        "number of seconds",
        "",
        "How long browsers may remember what they asked beforehand.",
    ),
    now(
        "headers.add_vary_header",
        "boolean",
        "true unless `*` is listed",
        "`Vary: Origin`, so that caches keep the answers of different origins apart.",
    ),
    now(
        "headers.allowed_hosts",
        "list of hosts",
        "",
        "The hosts that may be asked for; any other is refused with 403.",
    ),
    now(
        "headers.hosts_proxy_headers",
        "list with `X-Forwarded-Host`",
        "",
        "What a trusted proxy in front says of the host counts in place of `Host`.",
    ),
    now(
        "headers.sts_seconds",
        "number of seconds",
        "0",
        "`Strict-Transport-Security` in answers over TLS; 0 is none.",
    ),
    now(
        "headers.sts_include_subdomains",
        "boolean",
        "false",
        "`includeSubDomains` in it.",
    ),
    now("headers.sts_preload", "boolean", "false", "`preload` in it."),
    now(
        "headers.force_sts_header",
        "boolean",
        "false",
        "Also in answers in the clear.",
    ),
    table(
        "headers.ssl_proxy_headers",
        "Fields by which a proxy in front tells that a request came by TLS, by name.",
    ),
    now(
        "headers.ssl_proxy_headers.NAME",
        "string",
        "",
        "The value that tells it.",
    ),
    now(
        "headers.frame_deny",
        "boolean",
        "false",
        "`X-Frame-Options: DENY`.",
    ),
    now(
        "headers.custom_frame_options_value",
        "string",
        "",
        "Another value of `X-Frame-Options`.",
    ),
    now(
        "headers.content_type_nosniff",
        "boolean",
        "false",
        "`X-Content-Type-Options: nosniff`.",
    ),
    now(
        "headers.browser_xss_filter",
        "boolean",
        "false",
        "`X-XSS-Protection: 1; mode=block`.",
    ),
    now(
        "headers.custom_browser_xss_value",
        "string",
        "",
        "Another value of `X-XSS-Protection`.",
    ),
    now(
        "headers.content_security_policy",
        "string",
        "",
        "`Content-Security-Policy`.",
    ),
    now(
        "headers.content_security_policy_report_only",
        "string",
        "",
        "`Content-Security-Policy-Report-Only`.",
    ),
    now("headers.public_key", "string", "", "`Public-Key-Pins`."),
    now("headers.referrer_policy", "string", "", "`Referrer-Policy`."),
    now(
        "headers.permissions_policy",
        "string",
        "",
        "`Permissions-Policy`.",
    ),
    now(
        "headers.is_development",
        "boolean",
        "false",
        "Neither `allowed_hosts` nor `sts_seconds` counts.",
    ),
];
