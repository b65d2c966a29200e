//! Counters of what happened: a worker's own, summed when somebody asks.
//!
//! Every rejection has one reason here, with the same code in log and status. Counting is one relaxed add
//! on a cache line of the worker's.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Count {
    /// Connections taken from the accept queue.
    Accepted,
    /// Connections that ended.
    Closed,
    /// Closed: the source is not on the entry point's allowlist.
    SourceRefused,
    /// Let in by `gate.mode = "observe"` although the source is not on the allowlist.
    SourceObserved,
    /// Ended: the source was taken off the entry point's allowlist.
    SourceRemoved,
    /// Accept failed, such as no descriptor left.
    AcceptFailed,
    /// Accepting paused at `proxy.max_connections`.
    AcceptPaused,
    /// Closed: a trusted source sent no PROXY header.
    PreambleMissing,
    /// Closed: a PROXY header from a source that is not trusted.
    PreambleUntrusted,
    /// Closed: the PROXY header did not come in time.
    PreambleTimeout,
    /// Closed: a source that is not trusted did not send enough to tell that it sends no PROXY header.
    PreambleSilent,
    /// Closed: a version 1 line without an end in reach.
    PreambleV1LineTooLong,
    /// Closed: a version 1 line with a CR or LF alone.
    PreambleV1LoneLineBreak,
    /// Closed: a version 1 line with another protocol word.
    PreambleV1UnknownProtocol,
    /// Closed: a version 1 line with more, fewer or otherwise separated words.
    PreambleV1FieldCount,
    /// Closed: a version 1 line with a bad address.
    PreambleV1BadAddress,
    /// Closed: a version 1 line with a bad port.
    PreambleV1BadPort,
    /// Closed: the version 2 signature with another version.
    PreambleV2BadVersion,
    /// Closed: a version 2 header with an unassigned command.
    PreambleV2BadCommand,
    /// Closed: a version 2 header with an unassigned family and transport.
    PreambleV2BadFamily,
    /// Closed: a version 2 header over the limit.
    PreambleV2TooLong,
    /// Closed: a version 2 header whose length does not hold its addresses.
    PreambleV2AddressesTooShort,
    /// Closed: a version 2 header with a field that runs past the end.
    PreambleV2FieldOverrun,
    /// Closed: a version 2 header with a field against its type's rules.
    PreambleV2BadField,
    /// Closed: a version 2 header with a field twice that may stand once.
    PreambleV2DuplicateField,
    /// Closed: a version 2 header whose checksum does not agree.
    PreambleV2BadChecksum,
    /// PROXY headers of senders that spoke for themselves (`LOCAL`), such as health checks.
    PreambleLocal,
    /// Handshakes that succeeded.
    TlsAccepted,
    /// Handshakes that failed.
    TlsFailed,
    /// Handshakes that took too long.
    TlsTimeout,
    /// Sessions that ended because they would not get in any more.
    TlsSessionEnded,
    /// Requests.
    Requests,
    /// Answers below 400 that came from a server or are ours.
    AnswersOk,
    /// Answers from 400 to 499.
    AnswersClient,
    /// Answers from 500 on.
    AnswersServer,
    /// 400: malformed.
    BadRequest,
    /// 501: CONNECT.
    NotImplemented,
    /// 508: the request has passed here again and again, or too many gateways.
    Loop,
    /// 400: what a parent says of whom a request is from cannot be read.
    ContextMalformed,
    /// 403: that was not written by this parent for this connection and uplink.
    ContextForged,
    /// 403: that was said before.
    ContextReplayed,
    /// 403: the parent's grant is over.
    ContextExpired,
    /// 403: the parent says it of its other requests, and not of this one.
    ContextMissing,
    /// 400: the path says by a triplet what its route does not allow.
    EncodedCharacter,
    /// 404: no router.
    NoRouter,
    /// 403: the route demands what the connection has not proven.
    NotProven,
    /// 403 or as configured: the client is not on `ip_allow_list`, or is on `ip_deny_list`.
    SourceForbidden,
    /// 403: `allowed_hosts` does not hold the host.
    HostForbidden,
    /// 400: a middleware would have made a path that can be read in two ways.
    PathAmbiguous,
    /// 413: the body is longer than `limit_body` allows.
    BodyTooLarge,
    /// 431: what servers would be told of the client's certificate is too long.
    IdentityTooLong,
    /// 421: the host's TLS policy is not the handshake's.
    Misdirected,
    /// 502.
    UpstreamFailed,
    /// 503.
    NoServer,
    /// 401: `basic_auth` knows no such user with this password.
    Unauthorized,
    /// 503: `basic_auth` has too many passwords to verify.
    AuthBusy,
    /// The server of `forward_auth` did not let the request pass.
    AuthRefused,
    /// 429: `rate_limit`.
    RateExceeded,
    /// 429: `in_flight`.
    InFlightExceeded,
    /// A `circuit_breaker` was open.
    BreakerOpen,
    /// Circuit breakers that opened.
    BreakerOpened,
    /// Tries again by `retry`.
    Retried,
    /// Tries again that `retry` left out because its budget was spent.
    RetryBudgetSpent,
    /// 504.
    UpstreamSilent,
    /// 408 or closed: the request did not come in time.
    RequestTimeout,
    /// Closed: nothing asked for too long.
    IdleTimeout,
    /// 431: a header section over `limits.header_bytes` or `limits.headers`.
    HeaderTooLarge,
    /// Cut: the client took too little of an answer for `timeouts.body_idle`.
    AnswerIdle,
    /// Cut: an answer took longer than `timeouts.write`.
    WriteTimeout,
    /// Connections that took no more requests after `limits.keep_alive_max_requests`.
    KeepAliveRequests,
    /// Connections that took no more requests after `timeouts.keep_alive_max_time`.
    KeepAliveTime,
    /// Closed: the client has `limits.connections_per_ip` connections.
    ConnectionsPerIp,
    /// HTTP/2 streams refused: the connection has `limits.h2_streams` under way.
    H2Streams,
    /// Closed: the client reset more HTTP/2 streams than `limits.h2_resets` allows.
    H2Resets,
    /// Closed: more HTTP/2 frames about the connection than `limits.h2_control_frames` allows.
    H2ControlFrames,
    /// Closed: an HTTP/2 connection against the protocol.
    H2Protocol,
    /// Bodies that waited because the process had `proxy.max_in_flight_bytes` in flight.
    InFlightBytes,
    /// Requests whose `Hub-Uplink`, or what parents send beside it, was removed on ordinary entry points or from peers without proof.
    UplinkStripped,
    /// 404: a request on an uplink entry point of whoever proves to be no parent.
    UplinkUnproven,
    /// 404: a parent names an uplink that is not published there.
    UplinkUnknown,
    /// 404: a parent names an uplink that is not for it.
    UplinkForbidden,
    /// 429: a parent asks too often what there is.
    DiscoveryExceeded,
    /// Long polls that were answered at once because too many wait.
    DiscoveryCrowded,
    /// Connections to servers that were opened.
    UpstreamOpened,
    /// Requests that went over a kept connection.
    UpstreamReused,
    /// Kept connections that a server had closed when a request went over them; the request went over another.
    UpstreamStale,
    /// Requests for which a connection was made although one was kept: their body is too long to be sent twice.
    UpstreamFresh,
    /// Requests after which a connection or a stream was HTTP no more.
    Switched,
    /// Lines of the access log that were given up because its queue was full.
    AccessLogDropped,
    /// Closed: a ClientHello that could be read in two ways, or is none, where TCP routers go by it.
    HelloRefused,
    /// Closed: no whole ClientHello in time, where TCP routers go by it.
    HelloTimeout,
    /// Closed: no TCP router takes the connection, and HTTP cannot.
    TcpNoRouter,
    /// Closed: no server of the TCP service could be reached.
    TcpNoServer,
    /// Connections that were joined to a server of a TCP service.
    TcpOpened,
    /// Those of them that ended.
    TcpClosed,
    /// Those that ended because nothing moved for too long.
    TcpIdle,
    /// Those that ended because one side broke.
    TcpBroken,
    /// Bytes from their clients.
    TcpBytesToServer,
    /// Bytes to their clients.
    TcpBytesToClient,
    /// 503: every server was full, and the queue too.
    QueueFull,
    /// 503: no server had room in time.
    QueueTimeout,
    /// Requests that waited for a server with room.
    Queued,
    /// Requests that went to another server after the first one failed.
    UpstreamRetried,
    /// Servers that were left out for a while because requests to them failed.
    ServerEjected,
    /// Copies that went to mirrors.
    Mirrored,
    /// Copies that were not made: too many were under way, or the body was too long or broke off.
    MirrorDropped,
}

/// All counts with their codes, in the order of [`Count`].
pub const COUNTS: &[(Count, &str)] = &[
    (Count::Accepted, "accepted"),
    (Count::Closed, "closed"),
    (Count::SourceRefused, "source_refused"),
    (Count::SourceObserved, "source_observed"),
    (Count::SourceRemoved, "source_removed"),
    (Count::AcceptFailed, "accept_failed"),
    (Count::AcceptPaused, "accept_paused"),
    (Count::PreambleMissing, "preamble_missing"),
    (Count::PreambleUntrusted, "preamble_untrusted"),
    (Count::PreambleTimeout, "preamble_timeout"),
    (Count::PreambleSilent, "preamble_silent"),
    (Count::PreambleV1LineTooLong, "preamble_v1_line_too_long"),
    (Count::PreambleV1LoneLineBreak, "preamble_v1_lone_line_break"),
    (Count::PreambleV1UnknownProtocol, "preamble_v1_unknown_protocol"),
    (Count::PreambleV1FieldCount, "preamble_v1_field_count"),
    (Count::PreambleV1BadAddress, "preamble_v1_bad_address"),
    (Count::PreambleV1BadPort, "preamble_v1_bad_port"),
    (Count::PreambleV2BadVersion, "preamble_v2_bad_version"),
    (Count::PreambleV2BadCommand, "preamble_v2_bad_command"),
    (Count::PreambleV2BadFamily, "preamble_v2_bad_family"),
    (Count::PreambleV2TooLong, "preamble_v2_too_long"),
    (
        Count::PreambleV2AddressesTooShort,
        "preamble_v2_addresses_too_short",
    ),
    (Count::PreambleV2FieldOverrun, "preamble_v2_field_overrun"),
    (Count::PreambleV2BadField, "preamble_v2_bad_field"),
    (Count::PreambleV2DuplicateField, "preamble_v2_duplicate_field"),
    (Count::PreambleV2BadChecksum, "preamble_v2_bad_checksum"),
    (Count::PreambleLocal, "preamble_local"),
    (Count::TlsAccepted, "tls_accepted"),
    (Count::TlsFailed, "tls_failed"),
    (Count::TlsTimeout, "tls_timeout"),
    (Count::TlsSessionEnded, "tls_session_ended"),
    (Count::Requests, "requests"),
    (Count::AnswersOk, "answers_ok"),
    (Count::AnswersClient, "answers_client_error"),
    (Count::AnswersServer, "answers_server_error"),
    (Count::BadRequest, "bad_request"),
    (Count::NotImplemented, "not_implemented"),
    (Count::Loop, "loop"),
    (Count::ContextMalformed, "context_malformed"),
    (Count::ContextForged, "context_forged"),
    (Count::ContextReplayed, "context_replayed"),
    (Count::ContextExpired, "context_expired"),
    (Count::ContextMissing, "context_missing"),
    (Count::EncodedCharacter, "encoded_character"),
    (Count::NoRouter, "no_router"),
    (Count::NotProven, "not_proven"),
    (Count::SourceForbidden, "source_forbidden"),
    (Count::HostForbidden, "host_forbidden"),
    (Count::PathAmbiguous, "path_ambiguous"),
    (Count::BodyTooLarge, "body_too_large"),
    (Count::IdentityTooLong, "identity_too_long"),
    (Count::Misdirected, "misdirected"),
    (Count::UpstreamFailed, "upstream_failed"),
    (Count::NoServer, "no_server"),
    (Count::Unauthorized, "unauthorized"),
    (Count::AuthBusy, "auth_busy"),
    (Count::AuthRefused, "auth_refused"),
    (Count::RateExceeded, "rate_exceeded"),
    (Count::InFlightExceeded, "in_flight_exceeded"),
    (Count::BreakerOpen, "breaker_open"),
    (Count::BreakerOpened, "breaker_opened"),
    (Count::Retried, "retried"),
    (Count::RetryBudgetSpent, "retry_budget_spent"),
    (Count::UpstreamSilent, "upstream_silent"),
    (Count::RequestTimeout, "request_timeout"),
    (Count::IdleTimeout, "idle_timeout"),
    (Count::HeaderTooLarge, "header_too_large"),
    (Count::AnswerIdle, "answer_idle"),
    (Count::WriteTimeout, "write_timeout"),
    (Count::KeepAliveRequests, "keep_alive_requests"),
    (Count::KeepAliveTime, "keep_alive_time"),
    (Count::ConnectionsPerIp, "connections_per_ip"),
    (Count::H2Streams, "h2_streams"),
    (Count::H2Resets, "h2_resets"),
    (Count::H2ControlFrames, "h2_control_frames"),
    (Count::H2Protocol, "h2_protocol"),
    (Count::InFlightBytes, "in_flight_bytes"),
    (Count::UplinkStripped, "uplink_stripped"),
    (Count::UplinkUnproven, "uplink_unproven"),
    (Count::UplinkUnknown, "uplink_unknown"),
    (Count::UplinkForbidden, "uplink_forbidden"),
    (Count::DiscoveryExceeded, "discovery_exceeded"),
    (Count::DiscoveryCrowded, "discovery_crowded"),
    (Count::UpstreamOpened, "upstream_opened"),
    (Count::UpstreamReused, "upstream_reused"),
    (Count::UpstreamStale, "upstream_stale"),
    (Count::UpstreamFresh, "upstream_fresh"),
    (Count::Switched, "switched"),
    (Count::AccessLogDropped, "access_log_dropped"),
    (Count::HelloRefused, "hello_refused"),
    (Count::HelloTimeout, "hello_timeout"),
    (Count::TcpNoRouter, "tcp_no_router"),
    (Count::TcpNoServer, "tcp_no_server"),
    (Count::TcpOpened, "tcp_opened"),
    (Count::TcpClosed, "tcp_closed"),
    (Count::TcpIdle, "tcp_idle"),
    (Count::TcpBroken, "tcp_broken"),
    (Count::TcpBytesToServer, "tcp_bytes_to_server"),
    (Count::TcpBytesToClient, "tcp_bytes_to_client"),
    (Count::QueueFull, "queue_full"),
    (Count::QueueTimeout, "queue_timeout"),
    (Count::Queued, "queued"),
    (Count::UpstreamRetried, "upstream_retried"),
    (Count::ServerEjected, "server_ejected"),
    (Count::Mirrored, "mirrored"),
    (Count::MirrorDropped, "mirror_dropped"),
];

/// The limits and deadlines that act on what comes from clients, where they have a metric in common.
pub const LIMITS: [Count; 14] = [
    Count::AcceptPaused,
    Count::ConnectionsPerIp,
    Count::RequestTimeout,
    Count::IdleTimeout,
    Count::HeaderTooLarge,
    Count::AnswerIdle,
    Count::WriteTimeout,
    Count::KeepAliveRequests,
    Count::KeepAliveTime,
    Count::H2Streams,
    Count::H2Resets,
    Count::H2ControlFrames,
    Count::H2Protocol,
    Count::InFlightBytes,
];

impl Count {
    /// Its code in logs, status and metrics.
    pub fn code(self) -> &'static str {
        COUNTS.get(self as usize).map_or("", |(_, code)| code)
    }

    /// Whether it is a connection closed for its PROXY header or the lack of one.
    pub fn refuses_preamble(self) -> bool {
        let all = Self::PreambleMissing as usize..=Self::PreambleV2BadChecksum as usize;
        all.contains(&(self as usize))
    }
}

/// The counters of one worker, on cache lines of their own.
#[derive(Debug)]
#[repr(align(128))]
pub struct Counters {
    values: [AtomicU64; COUNTS.len()],
    /// By entry point. Locked when an entry point is opened and when somebody asks, never by a connection. One that
    /// is closed keeps its counters: there are as many as names in all configurations that ran.
    admission: Mutex<BTreeMap<String, Arc<AdmissionCounters>>>,
}

/// What the check at accept did at one entry point.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct AdmissionCounters([AtomicU64; ADMISSION_COUNTS.len()]);

/// A judgement of the check at accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum AdmissionCount {
    /// Let in.
    Admitted,
    /// Let in although not on the allowlist.
    Observed,
    /// Closed.
    Refused,
    /// Let in once, and ended when its source left the allowlist.
    Removed,
}

/// All judgements with their codes, in the order of [`AdmissionCount`].
pub const ADMISSION_COUNTS: [(AdmissionCount, &str); 4] = [
    (AdmissionCount::Admitted, "admitted"),
    (AdmissionCount::Observed, "observed"),
    (AdmissionCount::Refused, "refused"),
    (AdmissionCount::Removed, "removed"),
];

impl AdmissionCounters {
    /// Counts one.
    pub fn add(&self, count: AdmissionCount) {
        if let Some(value) = self.0.get(count as usize) {
            value.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often it happened.
    pub fn get(&self, count: AdmissionCount) -> u64 {
        self.0
            .get(count as usize)
            .map_or(0, |value| value.load(Ordering::Relaxed))
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            values: [const { AtomicU64::new(0) }; COUNTS.len()],
            admission: Mutex::default(),
        }
    }
}

impl Counters {
    /// Counts one.
    pub fn add(&self, count: Count) {
        if let Some(value) = self.values.get(count as usize) {
            value.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts some, such as bytes; none costs nothing.
    pub fn add_many(&self, count: Count, many: u64) {
        if let Some(value) = self.values.get(count as usize).filter(|_| many > 0) {
            value.fetch_add(many, Ordering::Relaxed);
        }
    }

    /// The counters of one entry point's check at accept.
    pub fn admission(&self, entry: &str) -> Arc<AdmissionCounters> {
        let mut all = self.admission.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(entry.to_owned()).or_default())
    }

    /// The counters of all entry points that were ever open.
    pub fn admissions(&self) -> BTreeMap<String, Arc<AdmissionCounters>> {
        self.admission
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How often it happened.
    pub fn get(&self, count: Count) -> u64 {
        self.values
            .get(count as usize)
            .map_or(0, |value| value.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enumeration_and_codes_are_distinct() {
        let mut codes: Vec<&str> = COUNTS.iter().map(|(_, code)| *code).collect();
        for (index, (count, _)) in COUNTS.iter().enumerate() {
            assert_eq!(*count as usize, index);
        }
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), COUNTS.len());
        for (count, code) in COUNTS.iter().copied() {
            assert_eq!(count.code(), code);
            let refuses = code.starts_with("preamble_") && count != Count::PreambleLocal;
            assert_eq!(count.refuses_preamble(), refuses, "{code}");
        }
        for (index, (count, _)) in ADMISSION_COUNTS.iter().enumerate() {
            assert_eq!(*count as usize, index);
        }
    }

    #[test]
    fn an_entry_point_that_is_opened_again_goes_on_counting() {
        let counters = Counters::default();
        counters.admission("web").add(AdmissionCount::Refused);
        counters.admission("web").add(AdmissionCount::Refused);
        counters.admission("other").add(AdmissionCount::Admitted);
        let all = counters.admissions();
        assert_eq!(all["web"].get(AdmissionCount::Refused), 2);
        assert_eq!(all["other"].get(AdmissionCount::Refused), 0);
    }

    #[test]
    fn counting_counts_that_count_alone() {
        let counters = Counters::default();
        counters.add(Count::UpstreamReused);
        counters.add(Count::UpstreamReused);
        assert_eq!(counters.get(Count::UpstreamReused), 2);
        assert_eq!(counters.get(Count::UpstreamOpened), 0);
    }
}
