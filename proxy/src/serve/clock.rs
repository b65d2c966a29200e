//! The deadlines of a connection between and before requests.
//!
//! A connection is reading a header (since its first byte, or since it was opened), or has requests under
//! way, or is idle. Only the first and the last have a deadline here; a request's own are in its body. A connection that is
//! worn, by its requests or its age, takes no more of them.

use crate::{io::Instant, telemetry::Count, tls::Protocol};
use sallyport_config::model::limits::{Limits, Timeouts};
use std::{cell::Cell, num::NonZeroU32, time::Duration};

/// How long a worn connection of HTTP/2 may be idle: its client was told that nothing more will come of it.
const WORN_IDLE: Duration = Duration::from_secs(2);

/// Where a connection stands.
#[derive(Debug)]
pub(super) struct Clock {
    protocol: Protocol,
    header_since: Cell<Option<Instant>>,
    /// Whether some of that header came.
    partial: Cell<bool>,
    idle_since: Cell<Instant>,
    under_way: Cell<u32>,
    opened: Instant,
    requests: Cell<u32>,
    requests_max: Option<NonZeroU32>,
    worn: Cell<Option<Count>>,
    /// When the answer under way on HTTP/1.1 must be done.
    answer_due: Cell<Option<Instant>>,
}

/// What passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// The header's deadline.
    Header,
    /// The idle deadline.
    Idle,
    /// An answer's deadline.
    Write,
    /// The age at which a connection takes no more requests.
    Age,
}

impl Clock {
    /// A connection opened at `now`: its first header is due.
    pub(super) fn new(now: Instant, protocol: Protocol, limits: &Limits) -> Self {
        Self {
            opened: now,
            requests: Cell::new(0),
            requests_max: limits.keep_alive_max_requests,
            worn: Cell::new(None),
            answer_due: Cell::new(None),
            protocol,
            header_since: Cell::new(Some(now)),
            partial: Cell::new(false),
            idle_since: Cell::new(now),
            under_way: Cell::new(0),
        }
    }

    /// What is spoken.
    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Bytes came; on HTTP/1.1 they start a header where nothing is under way. On HTTP/2 they may be frames
    /// about the connection, which is idle all the same.
    pub(super) fn bytes_came(&self) {
        if self.protocol == Protocol::Http11 && self.under_way.get() == 0 {
            self.partial.set(true);
            if self.header_since.get().is_none() {
                self.header_since.set(Some(Instant::now()));
            }
        }
    }

    /// Whether a header of HTTP/1.1 has begun and is not complete.
    pub(super) fn is_within_header(&self) -> bool {
        self.partial.get()
    }

    /// A header is complete. Returns when its first byte came.
    pub(super) fn request_started(&self) -> Instant {
        self.partial.set(false);
        self.under_way.set(self.under_way.get().saturating_add(1));
        self.requests.set(self.requests.get().saturating_add(1));
        if self.worn.get().is_none()
            && self
                .requests_max
                .is_some_and(|max| self.requests.get() >= max.get())
        {
            self.wear_out(Count::KeepAliveRequests);
        }
        self.header_since.take().unwrap_or_else(Instant::now)
    }

    /// A request's answer is done or given up.
    pub(super) fn request_ended(&self) {
        self.answer_due.set(None);
        self.under_way.set(self.under_way.get().saturating_sub(1));
        if self.under_way.get() == 0 {
            self.idle_since.set(Instant::now());
        }
    }

    /// An answer begins. On HTTP/1.1 there is one at a time, and the connection ends with one that takes too long; on
    /// HTTP/2 its stream does.
    pub(super) fn answer_began(&self, limits: &Timeouts) {
        if let (Some(limit), Protocol::Http11) = (limits.write, self.protocol) {
            self.answer_due.set(Some(Instant::now() + limit));
        }
    }

    /// Why the connection takes no more requests, where it does not.
    pub(super) fn worn(&self) -> Option<Count> {
        self.worn.get()
    }

    /// The connection is old.
    pub(super) fn grew_old(&self) {
        if self.worn.get().is_none() {
            self.wear_out(Count::KeepAliveTime);
        }
    }

    /// From here on requests are counted anew.
    fn wear_out(&self, reason: Count) {
        self.worn.set(Some(reason));
        self.requests.set(0);
    }

    /// Requests that have begun although the connection takes no more.
    pub(super) fn requests_when_worn(&self) -> u32 {
        self.worn.get().map_or(0, |_| self.requests.get())
    }

    /// The deadline that stands now, where there is one.
    pub(super) fn deadline(&self, limits: &Timeouts) -> Option<(Instant, Passed)> {
        let age = match (limits.keep_alive_max_time, self.worn.get()) {
            (Some(limit), None) => Some((self.opened + limit, Passed::Age)),
            _ => None,
        };
        let own = self.deadline_of_state(limits);
        own.into_iter().chain(age).min_by_key(|(at, _)| *at)
    }

    fn idle_limit(&self, limits: &Timeouts) -> Option<Duration> {
        match (self.protocol, self.worn.get()) {
            (Protocol::H2, Some(_)) => Some(limits.idle.map_or(WORN_IDLE, |idle| idle.min(WORN_IDLE))),
            _ => limits.idle,
        }
    }

    fn deadline_of_state(&self, limits: &Timeouts) -> Option<(Instant, Passed)> {
        if self.under_way.get() > 0 {
            return self.answer_due.get().map(|due| (due, Passed::Write));
        }
        match self.header_since.get() {
            Some(since) => limits.read_header.map(|limit| (since + limit, Passed::Header)),
            None => self
                .idle_limit(limits)
                .map(|limit| (self.idle_since.get() + limit, Passed::Idle)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn timeouts() -> Timeouts {
        Timeouts {
            read_header: Some(10 * SECOND),
            read: None,
            write: None,
            idle: Some(180 * SECOND),
            tls_handshake: None,
            proxy_header: None,
            body_idle: None,
            keep_alive_max_time: None,
        }
    }

    fn limits(requests: u32) -> Limits {
        Limits {
            header_bytes_max: 0,
            headers_max: 0,
            h2_streams_max: 0,
            h2_resets_max: 0,
            h2_control_frames_max: 0,
            connections_per_ip_max: None,
            body_rate_min: None,
            keep_alive_max_requests: NonZeroU32::new(requests),
        }
    }

    #[test]
    fn a_header_is_due_from_its_first_byte_and_nothing_is_due_while_a_request_is_under_way() {
        let timeouts = timeouts();
        let opened = Instant::now();
        let clock = Clock::new(opened, Protocol::Http11, &limits(0));
        assert_eq!(
            clock.deadline(&timeouts),
            Some((opened + 10 * SECOND, Passed::Header))
        );
        assert!(!clock.is_within_header());
        clock.bytes_came();
        assert!(clock.is_within_header());
        assert_eq!(clock.request_started(), opened);
        clock.bytes_came();
        assert_eq!(
            (clock.deadline(&timeouts), clock.is_within_header()),
            (None, false)
        );
        clock.request_ended();
        assert!(matches!(clock.deadline(&timeouts), Some((_, Passed::Idle))));
        clock.bytes_came();
        assert!(matches!(clock.deadline(&timeouts), Some((_, Passed::Header))));
        assert_eq!(
            clock.deadline(&Timeouts {
                read_header: None,
                ..timeouts
            }),
            None
        );
    }

    #[test]
    fn a_connection_is_worn_by_its_last_request_and_not_before() {
        let clock = Clock::new(Instant::now(), Protocol::Http11, &limits(2));
        let endless = Clock::new(Instant::now(), Protocol::Http11, &limits(0));
        for worn in [None, Some(Count::KeepAliveRequests)] {
            clock.request_started();
            endless.request_started();
            assert_eq!((clock.worn(), endless.worn()), (worn, None));
        }
    }

    #[test]
    fn a_connection_grows_old_once_whatever_it_does() {
        let timeouts = Timeouts {
            keep_alive_max_time: Some(5 * SECOND),
            ..timeouts()
        };
        let opened = Instant::now();
        let clock = Clock::new(opened, Protocol::H2, &limits(0));
        let old = Some((opened + 5 * SECOND, Passed::Age));
        assert_eq!(clock.deadline(&timeouts), old);
        clock.request_started();
        assert_eq!(clock.deadline(&timeouts), old);
        clock.grew_old();
        assert_eq!(
            (clock.deadline(&timeouts), clock.worn()),
            (None, Some(Count::KeepAliveTime))
        );
    }

    #[test]
    fn an_answer_is_due_on_http1_until_it_is_done() {
        let timeouts = Timeouts {
            write: Some(3 * SECOND),
            ..timeouts()
        };
        for (protocol, due) in [(Protocol::Http11, true), (Protocol::H2, false)] {
            let clock = Clock::new(Instant::now(), protocol, &limits(0));
            clock.request_started();
            assert_eq!(clock.deadline(&timeouts), None);
            clock.answer_began(&timeouts);
            let write = matches!(clock.deadline(&timeouts), Some((_, Passed::Write)));
            assert_eq!(write, due, "{protocol:?}");
            clock.request_ended();
            assert!(matches!(clock.deadline(&timeouts), Some((_, Passed::Idle))));
        }
    }
}
