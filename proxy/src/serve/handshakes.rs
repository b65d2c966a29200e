//! One line of the log for a failed handshake, and under a flood a sample that says how many were not said.
//!
//! Refusals of trust and noise have budgets of their own, so that a scanner does not drown out a client that an operator
//! looks for. Who counts is not this module's business.

use super::live::Handle;
use crate::{
    accept::PeerAddress,
    io::Instant,
    preamble::ClientAddress,
    tls::{Attempt, Facts, TlsFault, TlsReason},
};
use std::{cell::Cell, time::Duration};

/// Lines a second, a worker and a kind.
const LINES_MAX: u32 = 20;
const SECOND: Duration = Duration::from_secs(1);

/// Where a handshake came from.
pub(super) struct From<'a> {
    /// The socket's peer.
    pub peer: PeerAddress,
    /// The client.
    pub client: ClientAddress,
    /// The entry point's name.
    pub entry: &'a str,
}

/// What a worker says of failed handshakes.
#[derive(Debug, Default)]
pub struct HandshakeLog {
    trust: Budget,
    noise: Budget,
    ended: Budget,
}

impl HandshakeLog {
    /// Says why a client did not get through.
    pub(super) fn failed(&self, from: &From<'_>, attempt: &Attempt, fault: &TlsFault) {
        // Whoever connects and goes away, as probes of load balancers do, has begun no handshake.
        if fault.reason == TlsReason::ClientGone && attempt.version().is_none() {
            tracing::debug!(peer = %from.peer.0, entry = from.entry, "closed before a tls handshake");
            return;
        }
        self.say(from, attempt, fault.reason, &fault.detail);
    }

    /// Says that a client was too slow.
    pub(super) fn timed_out(&self, from: &From<'_>, attempt: &Attempt) {
        self.say(from, attempt, TlsReason::Timeout, "no tls handshake in time");
    }

    /// Says that a session that stood was ended.
    pub(super) fn ended(&self, handle: &Handle, facts: &Facts, reason: TlsReason) {
        let Some(unsaid) = self.ended.take(Instant::now()) else {
            return;
        };
        let certificate = facts.shown.as_ref().and_then(|chain| chain.identity.as_deref());
        tracing::info!(
            peer = %handle.peer.0,
            client = handle.client.get().map(|client| client.0.to_string()),
            entry = handle.entry,
            sni = facts.sni.as_deref().unwrap_or("-"),
            reason = reason.code(),
            subject = certificate.map(|of| of.subject.as_str()),
            issuer = certificate.map(|of| of.issuer.as_str()),
            serial = certificate.map(|of| of.serial.as_str()),
            fingerprint = certificate.map(|of| of.fingerprint.as_str()),
            unsaid = (unsaid > 0).then_some(unsaid),
            "tls session ended: it would not get in any more"
        );
    }

    fn say(&self, from: &From<'_>, attempt: &Attempt, reason: TlsReason, detail: &str) {
        let budget = if reason.is_about_trust() {
            &self.trust
        } else {
            &self.noise
        };
        let Some(unsaid) = budget.take(Instant::now()) else {
            return;
        };
        let shown = attempt.take_shown();
        let certificate = shown.as_ref().and_then(|chain| chain.identity.as_deref());
        // Texts are given as strings, not by their own formatting, so that the subscriber quotes and escapes them: a
        // certificate must not be able to write lines of the log.
        tracing::info!(
            peer = %from.peer.0,
            client = %from.client.0,
            entry = from.entry,
            sni = attempt.sni().as_deref().unwrap_or("-"),
            version = attempt.version().unwrap_or("-"),
            reason = reason.code(),
            subject = certificate.map(|of| of.subject.as_str()),
            issuer = certificate.map(|of| of.issuer.as_str()),
            serial = certificate.map(|of| of.serial.as_str()),
            fingerprint = certificate.map(|of| of.fingerprint.as_str()),
            unsaid = (unsaid > 0).then_some(unsaid),
            detail,
            "tls handshake failed"
        );
    }
}

/// Lines of one kind.
#[derive(Debug, Default)]
struct Budget {
    since: Cell<Option<Instant>>,
    said: Cell<u32>,
    unsaid: Cell<u64>,
}

impl Budget {
    /// Takes one line, with the number of those that were not said since the last; `None` where the second has had its
    /// lines.
    fn take(&self, now: Instant) -> Option<u64> {
        let running = self
            .since
            .get()
            .filter(|since| now.duration_since(*since) < SECOND);
        if running.is_none() {
            self.since.set(Some(now));
            self.said.set(0);
        }
        if self.said.get() == LINES_MAX {
            self.unsaid.set(self.unsaid.get().saturating_add(1));
            return None;
        }
        self.said.set(self.said.get() + 1);
        Some(self.unsaid.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_sampled_and_the_next_line_says_how_many_were_left_out() {
        let (budget, start) = (Budget::default(), Instant::now());
        for _ in 0..LINES_MAX {
            assert_eq!(budget.take(start), Some(0));
        }
        for _ in 0..1000 {
            assert_eq!(budget.take(start + SECOND / 2), None);
        }
        assert_eq!(budget.take(start + SECOND), Some(1000));
        assert_eq!(budget.take(start + SECOND), Some(0));
    }
}
