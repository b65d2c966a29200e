//! Every metric: its name, what it is, and its labels. A pure data table, which `docs/metrics.md` is held against.

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Never goes back while the process, or for the gate its pins, live.
    Counter,
    /// As it is now.
    Gauge,
}

impl Kind {
    /// Its word in the text format.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

/// A metric.
#[derive(Debug)]
pub(super) struct Family {
    /// Its name.
    pub(super) name: &'static str,
    /// What it is.
    pub(super) kind: Kind,
    /// Its labels, in order.
    pub(super) labels: &'static [&'static str],
    /// One line for people.
    pub(super) help: &'static str,
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
    Family {
        name,
        kind: Kind::Counter,
        labels,
        help,
    }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
    Family {
        name,
        kind: Kind::Gauge,
        labels,
        help,
    }
}

/// Whether the gate answers.
pub(super) const GATE_UP: Family = gauge("sallyport_gate_up", &[], "1 where the gate answers.");
/// Packets that the programs judged.
pub(super) const GATE_PACKETS: Family = counter(
    "sallyport_gate_packets_total",
    &["interface", "policy", "verdict", "reason"],
    "Packets that the gate judged; policy is empty where none was asked; verdict is pass, drop or observe.",
);
/// How often a policy was installed.
pub(super) const GATE_GENERATION: Family = gauge(
    "sallyport_gate_policy_generation",
    &[],
    "How often a policy was installed in the kernel.",
);
/// How the program is attached.
pub(super) const GATE_ATTACH: Family = gauge(
    "sallyport_gate_attach_mode",
    &["interface", "mode"],
    "1 for the way in which the program is attached; mode none is not filtered.",
);
/// Whether a policy is on trial.
pub(super) const GATE_CONFIRM: Family = gauge(
    "sallyport_gate_confirm_pending",
    &[],
    "1 while a policy is on trial and waits for `sallyport gate confirm`.",
);
/// Prefixes in the kernel.
pub(super) const GATE_PREFIXES: Family = gauge(
    "sallyport_gate_prefixes",
    &[],
    "Prefixes in the kernel, of both families.",
);
/// Whether gate and accept judge alike.
pub(super) const GATE_DIFFERS: Family = gauge(
    "sallyport_gate_policy_differs",
    &[],
    "1 where the gate and the check at accept judge by different policies.",
);
/// What the check at accept did.
pub(super) const ACCEPT: Family = counter(
    "sallyport_accept_connections_total",
    &["entry_point", "verdict"],
    "Connections that the check at accept judged; verdict is admitted, observed or refused.",
);
/// Sessions of removed sources.
pub(super) const REMOVED: Family = counter(
    "sallyport_accept_sessions_removed_total",
    &["entry_point"],
    "Sessions that ended because their source left the allowlist.",
);
/// Connections closed for their PROXY header.
pub(super) const PREAMBLE_REFUSED: Family = counter(
    "sallyport_preamble_refused_total",
    &["reason"],
    "Connections closed for their PROXY header or the lack of one.",
);
/// Headers of senders that spoke for themselves.
pub(super) const PREAMBLE_LOCAL: Family = counter(
    "sallyport_preamble_local_total",
    &[],
    "PROXY headers of senders that spoke for themselves, such as health checks.",
);
/// TCP connections that were joined to a server.
pub(super) const TCP_OPENED: Family = counter(
    "sallyport_tcp_connections_total",
    &[],
    "Connections that were joined to a server of a TCP service.",
);
/// TCP connections that ended.
pub(super) const TCP_CLOSED: Family = counter(
    "sallyport_tcp_connections_closed_total",
    &[],
    "Those of them that ended.",
);
/// TCP connections that nobody served.
pub(super) const TCP_REFUSED: Family = counter(
    "sallyport_tcp_refused_total",
    &["reason"],
    "Connections that were closed where TCP routers are; reason is a counter of status.",
);
/// Requests that were refused.
pub(super) const HTTP_REFUSED: Family = counter(
    "sallyport_http_refused_total",
    &["reason"],
    "Requests that got an answer of the gateway in place of a server's; reason is a counter of status.",
);
/// Bytes of TCP connections.
pub(super) const TCP_BYTES: Family = counter(
    "sallyport_tcp_bytes_total",
    &["direction"],
    "Bytes that TCP connections have carried; direction is to_server or to_client.",
);
/// Limits that acted.
pub(super) const LIMITED: Family = counter(
    "sallyport_limits_total",
    &["reason"],
    "How often a limit or a deadline for clients acted; reason is a counter of status.",
);
/// Bytes of bodies on their way.
pub(super) const IN_FLIGHT: Family = gauge(
    "sallyport_in_flight_bytes",
    &[],
    "Bytes of bodies that were taken from one side and not yet given to the other.",
);
/// Whether a server is asked.
pub(super) const SERVER_UP: Family = gauge(
    "sallyport_service_server_up",
    &["service", "server"],
    "1 where requests may go to the server; 0 where probes fail or it is ejected.",
);
/// Whether a server of TCP is asked.
pub(super) const TCP_SERVER_UP: Family = gauge(
    "sallyport_tcp_service_server_up",
    &["service", "server"],
    "1 where connections may go to the server; 0 where probes fail.",
);
/// Requests whose kept connection was closed already, and those that were spared it.
pub(super) const STALE: Family = counter(
    "sallyport_upstream_stale_total",
    &["kind"],
    "Requests that went over another connection: `upstream_stale`, the kept one had been closed by the server; `upstream_fresh`, none was to be tried because their body cannot be sent twice.",
);
/// Ejections.
pub(super) const SERVER_EJECTED: Family = counter(
    "sallyport_service_ejections_total",
    &[],
    "Servers that were left out for a while because requests to them failed.",
);
/// Requests that went elsewhere.
pub(super) const RETRIED: Family = counter(
    "sallyport_service_retries_total",
    &[],
    "Requests that went to another server after one did not take them.",
);
/// Requests that waited.
pub(super) const QUEUED: Family = counter(
    "sallyport_service_queued_total",
    &[],
    "Requests that found every server full.",
);
/// Requests that waited in vain.
pub(super) const QUEUE_REFUSED: Family = counter(
    "sallyport_service_queue_refused_total",
    &["reason"],
    "Those of them that got no server: queue_full or queue_timeout.",
);
/// Copies of requests.
pub(super) const MIRRORED: Family = counter(
    "sallyport_service_mirrored_total",
    &["result"],
    "Copies of requests for mirrors; result is mirrored or mirror_dropped.",
);
/// Handshakes that succeeded.
pub(super) const TLS_HANDSHAKES: Family = counter(
    "sallyport_tls_handshakes_total",
    &["version", "kind"],
    "Handshakes with clients that succeeded; kind is full or resumed.",
);
/// Handshakes that failed.
pub(super) const TLS_FAILED: Family = counter(
    "sallyport_tls_handshakes_failed_total",
    &["reason"],
    "Handshakes with clients that failed.",
);
/// Sessions that were ended.
pub(super) const TLS_ENDED: Family = counter(
    "sallyport_tls_sessions_ended_total",
    &["reason"],
    "Live sessions that ended because they would not get in any more.",
);
/// When a certificate ends.
pub(super) const TLS_CERTIFICATE_END: Family = gauge(
    "sallyport_tls_certificate_not_after_seconds",
    &["file"],
    "When the certificate that counts of a file ends, in seconds since the epoch; file is generated for the generated one.",
);
/// When a revocation list ends.
pub(super) const TLS_LIST_END: Family = gauge(
    "sallyport_tls_crl_next_update_seconds",
    &["file"],
    "When the first revocation list of a file expires, in seconds since the epoch.",
);
/// Whether all files are taken.
pub(super) const TLS_FILES_VALID: Family = gauge(
    "sallyport_tls_files_valid",
    &[],
    "1 where every file of TLS, and of users, as it is now is taken.",
);
/// Whether a file is not taken.
pub(super) const TLS_FILE_REFUSED: Family = gauge(
    "sallyport_tls_file_refused",
    &["file"],
    "1 where a file of TLS or of users as it is now, for a certificate with its key, is not taken and its last good contents count.",
);
/// How much a child's word is worth.
pub(super) const CHILD_STATE: Family = gauge(
    "sallyport_child_state",
    &["child", "state"],
    "1 for the state of a child: unknown, fresh, stale or expired.",
);
/// Polls of a child.
pub(super) const CHILD_POLLS: Family = counter(
    "sallyport_child_polls_total",
    &["child", "result"],
    "Polls of a child that ended; result is changed, unchanged or failed.",
);
/// When a child answered last.
pub(super) const CHILD_ANSWERED: Family = gauge(
    "sallyport_child_answered_timestamp_seconds",
    &["child"],
    "When a child last said what it offers, or that it still does.",
);
/// Different answers of a child.
pub(super) const CHILD_GENERATION: Family = gauge(
    "sallyport_child_generation",
    &["child"],
    "How many different answers a child has given.",
);
/// What a child offers.
pub(super) const CHILD_UPLINKS: Family = gauge(
    "sallyport_child_uplinks",
    &["child", "result"],
    "Uplinks in the last answer of a child; result is taken or refused.",
);
/// What parents asked for.
pub(super) const UPLINK_REQUESTS: Family = counter(
    "sallyport_uplink_requests_total",
    &["uplink", "parent"],
    "Requests of proven parents; parent is empty for those beyond the first 32 of an uplink.",
);
/// Lines of the access log that are lost.
pub(super) const ACCESS_LOG_DROPPED: Family = counter(
    "sallyport_access_log_dropped_total",
    &[],
    "Lines of the access log that were given up because its writer was behind, or that could not be written.",
);
/// Prefixes of an allowlist's file.
pub(super) const LIST_PREFIXES: Family = gauge(
    "sallyport_allowlist_prefixes",
    &["list"],
    "Prefixes that count of an allowlist's file.",
);
/// When a file was taken.
pub(super) const LIST_TAKEN: Family = gauge(
    "sallyport_allowlist_taken_timestamp_seconds",
    &["list"],
    "When the contents that count of an allowlist's file were read.",
);
/// Whether a file is not taken.
pub(super) const LIST_STALE: Family = gauge(
    "sallyport_allowlist_refused",
    &["list"],
    "1 where an allowlist's file as it is now is not taken and its last good contents count.",
);

/// All of them, in the order in which they are written.
pub(super) const ALL: &[&Family] = &[
    &GATE_UP,
    &GATE_PACKETS,
    &GATE_GENERATION,
    &GATE_ATTACH,
    &GATE_CONFIRM,
    &GATE_PREFIXES,
    &GATE_DIFFERS,
    &ACCEPT,
    &REMOVED,
    &PREAMBLE_REFUSED,
    &PREAMBLE_LOCAL,
    &TCP_OPENED,
    &TCP_CLOSED,
    &TCP_REFUSED,
    &TCP_BYTES,
    &LIMITED,
    &IN_FLIGHT,
    &HTTP_REFUSED,
    &SERVER_UP,
    &TCP_SERVER_UP,
    &STALE,
    &SERVER_EJECTED,
    &RETRIED,
    &QUEUED,
    &QUEUE_REFUSED,
    &MIRRORED,
    &TLS_HANDSHAKES,
    &TLS_FAILED,
    &TLS_ENDED,
    &TLS_CERTIFICATE_END,
    &TLS_LIST_END,
    &TLS_FILES_VALID,
    &TLS_FILE_REFUSED,
    &CHILD_STATE,
    &CHILD_POLLS,
    &CHILD_ANSWERED,
    &CHILD_GENERATION,
    &CHILD_UPLINKS,
    &UPLINK_REQUESTS,
    &ACCESS_LOG_DROPPED,
    &LIST_PREFIXES,
    &LIST_TAKEN,
    &LIST_STALE,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        telemetry::{COUNTS, LIMITS},
        tls::TLS_REASONS,
    };

    const PAGE: &str = include_str!("../../../../docs/metrics.md");

    #[test]
    fn the_page_has_every_metric_and_no_other() {
        let row = |family: &&Family| {
            let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
            let (name, kind, help) = (family.name, family.kind.word(), family.help);
            format!("| `{name}` | {kind} | {} | {help} |", labels.join(", "))
        };
        let table: Vec<String> = ALL.iter().map(row).collect();
        let page: Vec<&str> = PAGE
            .lines()
            .filter(|line| line.starts_with("| `sallyport_"))
            .collect();
        assert_eq!(page, table);
    }

    #[test]
    fn the_page_has_every_reason_of_a_refused_preamble() {
        let counted = COUNTS.iter().filter(|(count, _)| count.refuses_preamble());
        let codes: Vec<&str> = counted.map(|(_, code)| *code).collect();
        let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `preamble_"));
        let page: Vec<String> = rows
            .filter_map(|row| row.split_once('`'))
            .map(|(rest, _)| format!("preamble_{rest}"))
            .collect();
        assert_eq!(page, codes);
    }

    #[test]
    fn the_page_of_limits_has_every_reason_of_a_limit() {
        let page = include_str!("../../../../docs/limits.md");
        for count in LIMITS {
            let cell = format!("| `{}` |", count.code());
            assert!(page.contains(&cell), "{cell}");
        }
    }

    #[test]
    fn the_page_has_every_reason_of_tls() {
        let codes: Vec<&str> = TLS_REASONS.iter().map(|reason| reason.code()).collect();
        let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `tls_"));
        let page: Vec<String> = rows
            .filter_map(|row| row.split_once('`'))
            .map(|(rest, _)| format!("tls_{rest}"))
            .collect();
        assert_eq!(page, codes);
    }

    #[test]
    fn names_say_what_they_are() {
        for family in ALL {
            let name = family.name;
            assert!(name.starts_with("sallyport_"), "{name}");
            assert_eq!(name.ends_with("_total"), family.kind == Kind::Counter, "{name}");
        }
    }
}
