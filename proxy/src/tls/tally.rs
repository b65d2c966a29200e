//! What came of handshakes and of the sessions that they began: a worker's own numbers, summed when somebody asks.
//!
//! Every number is there from the start, so that its first increase is seen. Nothing here logs.

use super::{
    facts::{Facts, Session},
    fault::{TLS_REASONS, TlsReason},
};
use std::sync::atomic::{AtomicU64, Ordering};

/// Versions and kinds of handshakes, with the words of their labels.
pub const HANDSHAKES: [(&str, &str); 4] = [
    ("TLSv1.2", "full"),
    ("TLSv1.2", "resumed"),
    ("TLSv1.3", "full"),
    ("TLSv1.3", "resumed"),
];

/// The numbers of one worker, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Tally {
    accepted: [AtomicU64; HANDSHAKES.len()],
    failed: [AtomicU64; TLS_REASONS.len()],
    ended: [AtomicU64; TLS_REASONS.len()],
}

impl Tally {
    /// Counts a handshake that succeeded.
    pub fn accepted(&self, facts: &Facts) {
        let kind = match facts.session {
            Session::Full => "full",
            Session::Resumed => "resumed",
        };
        let place = HANDSHAKES
            .iter()
            .position(|known| *known == (facts.version, kind));
        count(&self.accepted, place);
    }

    /// Counts a handshake that failed.
    pub fn failed(&self, reason: TlsReason) {
        count(&self.failed, Some(reason as usize));
    }

    /// Counts a session that ended because it would not get in any more.
    pub fn ended(&self, reason: TlsReason) {
        count(&self.ended, Some(reason as usize));
    }

    /// Handshakes that succeeded, in the order of [`HANDSHAKES`].
    pub fn all_accepted(&self) -> [u64; HANDSHAKES.len()] {
        self.accepted
            .each_ref()
            .map(|value| value.load(Ordering::Relaxed))
    }

    /// Handshakes that failed, in the order of [`TLS_REASONS`].
    pub fn all_failed(&self) -> [u64; TLS_REASONS.len()] {
        self.failed.each_ref().map(|value| value.load(Ordering::Relaxed))
    }

    /// Sessions that ended, in the order of [`TLS_REASONS`].
    pub fn all_ended(&self) -> [u64; TLS_REASONS.len()] {
        self.ended.each_ref().map(|value| value.load(Ordering::Relaxed))
    }
}

fn count(values: &[AtomicU64], place: Option<usize>) {
    if let Some(value) = place.and_then(|place| values.get(place)) {
        value.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_counts_for_itself_alone_and_failed_and_ended_apart() {
        let tally = Tally::default();
        for (place, reason) in TLS_REASONS.iter().enumerate() {
            tally.failed(*reason);
            assert_eq!(tally.all_failed()[place], 1);
        }
        tally.ended(TlsReason::CertificateRevoked);
        assert_eq!(tally.all_ended().iter().sum::<u64>(), 1);
        assert_eq!(tally.all_failed().iter().sum::<u64>(), TLS_REASONS.len() as u64);
        assert_eq!(tally.all_accepted(), [0; 4]);
    }
}
