//! The deadlines of a connection between and before requests.
//!
//! A connection is reading a header (since its first byte, or since it was opened), or has requests under
//! way, or is idle. Only the first and the last have a deadline here; a request's own are in its body.

use crate::{io::Instant, tls::Protocol};
use sallyport_config::model::Timeouts;
use std::cell::Cell;

/// Where a connection stands.
#[derive(Debug)]
pub(super) struct Clock {
    protocol: Protocol,
    header_since: Cell<Option<Instant>>,
    idle_since: Cell<Instant>,
    under_way: Cell<u32>,
}

/// What passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// The header's deadline.
    Header,
    /// The idle deadline.
    Idle,
}

impl Clock {
    /// A connection opened at `now`: its first header is due.
    pub(super) fn new(now: Instant, protocol: Protocol) -> Self {
        Self {
            protocol,
            header_since: Cell::new(Some(now)),
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
        if self.protocol == Protocol::Http11 && self.under_way.get() == 0 && self.header_since.get().is_none()
        {
            self.header_since.set(Some(Instant::now()));
        }
    }

    /// A header is complete. Returns when its first byte came.
    pub(super) fn request_started(&self) -> Instant {
        self.under_way.set(self.under_way.get().saturating_add(1));
        self.header_since.take().unwrap_or_else(Instant::now)
    }

    /// A request's answer is done or given up.
    pub(super) fn request_ended(&self) {
        self.under_way.set(self.under_way.get().saturating_sub(1));
        if self.under_way.get() == 0 {
            self.idle_since.set(Instant::now());
        }
    }

    /// The deadline that stands now; `None` while requests are under way or where there is no limit.
    pub(super) fn deadline(&self, limits: &Timeouts) -> Option<(Instant, Passed)> {
        if self.under_way.get() > 0 {
            return None;
        }
        match self.header_since.get() {
            Some(since) => limits.read_header.map(|limit| (since + limit, Passed::Header)),
            None => limits
                .idle
                .map(|limit| (self.idle_since.get() + limit, Passed::Idle)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_header_is_due_from_its_first_byte_and_nothing_is_due_while_a_request_is_under_way() {
        let limits = Timeouts {
            read_header: Some(Duration::from_secs(10)),
            read: None,
            write: None,
            idle: Some(Duration::from_secs(180)),
            tls_handshake: None,
            proxy_header: None,
        };
        let opened = Instant::now();
        let clock = Clock::new(opened, Protocol::Http11);
        assert_eq!(
            clock.deadline(&limits),
            Some((opened + Duration::from_secs(10), Passed::Header))
        );
        assert_eq!(clock.request_started(), opened);
        clock.bytes_came();
        assert_eq!(clock.deadline(&limits), None);
        clock.request_ended();
        assert!(matches!(clock.deadline(&limits), Some((_, Passed::Idle))));
        clock.bytes_came();
        assert!(matches!(clock.deadline(&limits), Some((_, Passed::Header))));
        assert_eq!(
            clock.deadline(&Timeouts {
                read_header: None,
                ..limits
            }),
            None
        );
    }
}
