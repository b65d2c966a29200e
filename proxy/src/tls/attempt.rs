//! What is known of a handshake while it is under way, also after it failed or was cut off.
//!
//! The library calls certificates, verifier and tickets back without saying for which connection. It does so only
//! inside a step of that connection's handshake, so [`Attempt::lend`] lends the connection's record to the thread
//! for exactly that long. Nothing is shared between connections.

use super::facts::ClientChain;
use std::{
    cell::RefCell,
    net::IpAddr,
    pin::Pin,
    task::{Context, Poll},
};

thread_local! {
    static CURRENT: RefCell<Option<Record>> = const { RefCell::new(None) };
}

/// What a session goes back to, carried from ticket to ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Proven {
    /// When the full handshake was, in seconds of the process's own clock.
    pub at: u64,
    /// When what was verified then runs out, in seconds of UNIX time.
    pub until: u64,
}

impl Proven {
    /// What holds for both. Taking the earlier of each never lets anything live longer.
    fn earlier(self, other: Self) -> Self {
        Self {
            at: self.at.min(other.at),
            until: self.until.min(other.until),
        }
    }
}

/// The record of one handshake.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// The address that the client connected to.
    pub local: Option<IpAddr>,
    /// The server name of the hello, lower case.
    pub sni: Option<String>,
    /// The version that the hello and the policy come to.
    pub version: Option<&'static str>,
    /// What the client showed, also where it was refused.
    pub shown: Option<ClientChain>,
    /// What a session of this handshake goes back to.
    pub proven: Option<Proven>,
}

impl Record {
    /// Adds a limit to what a session of this handshake goes back to.
    pub(super) fn limit(&mut self, proven: Proven) {
        self.proven = Some(self.proven.map_or(proven, |known| known.earlier(proven)));
    }
}

/// One handshake, as its caller keeps it: what was learned survives a deadline that cuts it off.
#[derive(Debug, Default)]
pub struct Attempt(RefCell<Record>);

impl Attempt {
    /// The handshake of a connection to `local`.
    pub fn new(local: IpAddr) -> Self {
        Self(RefCell::new(Record {
            local: Some(local.to_canonical()),
            ..Record::default()
        }))
    }

    /// The server name of the hello, where it was read.
    pub fn sni(&self) -> Option<String> {
        self.0.borrow().sni.clone()
    }

    /// The TLS version, where the hello was read.
    pub fn version(&self) -> Option<&'static str> {
        self.0.borrow().version
    }

    /// What the client showed, verified, unverified or refused.
    pub fn take_shown(&self) -> Option<ClientChain> {
        self.0.borrow_mut().shown.take()
    }

    /// The same, left where it is.
    pub fn shown(&self) -> Option<ClientChain> {
        self.0.borrow().shown.clone()
    }

    /// The address that the client connected to.
    pub(super) fn local(&self) -> Option<IpAddr> {
        self.0.borrow().local
    }

    /// Changes the record between polls.
    pub(super) fn note(&self, change: impl FnOnce(&mut Record)) {
        change(&mut self.0.borrow_mut());
    }

    /// Does `step` of the handshake so that [`current`] is this record.
    pub(super) fn lend<T>(&self, step: impl FnOnce() -> T) -> T {
        CURRENT.set(Some(self.0.take()));
        let done = step();
        self.0.replace(CURRENT.take().unwrap_or_default());
        done
    }

    /// Runs `handshake` so that [`current`] is this record. Cancelling it keeps the record.
    pub(super) fn scope<F: Future + Unpin>(&self, handshake: F) -> Scoped<'_, F> {
        Scoped {
            attempt: self,
            handshake,
        }
    }
}

/// See [`Attempt::scope`].
pub(super) struct Scoped<'a, F> {
    attempt: &'a Attempt,
    handshake: F,
}

impl<F: Future + Unpin> Future for Scoped<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let attempt = self.attempt;
        attempt.lend(|| Pin::new(&mut self.handshake).poll(cx))
    }
}

/// Does something with the record of the handshake that is being polled; `None` outside of one.
pub(super) fn current<T>(with: impl FnOnce(&mut Record) -> T) -> Option<T> {
    CURRENT.with_borrow_mut(|record| record.as_mut().map(with))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[test]
    fn each_handshake_sees_its_own_record_and_nobody_sees_one_outside() {
        let (one, two) = (
            Attempt::new([127, 0, 0, 1].into()),
            Attempt::new([127, 0, 0, 2].into()),
        );
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let step = |name: &'static str| {
            poll_fn(move |_| {
                current(|record| record.sni = Some(name.to_owned() + &record.sni.take().unwrap_or_default()));
                Poll::<()>::Pending
            })
        };
        let (mut first, mut second) = (one.scope(step("a")), two.scope(step("b")));
        for _ in 0..2 {
            assert!(Pin::new(&mut first).poll(&mut cx).is_pending());
            assert!(current(|_| ()).is_none());
            assert!(Pin::new(&mut second).poll(&mut cx).is_pending());
        }
        assert_eq!(
            (one.sni().as_deref(), two.sni().as_deref()),
            (Some("aa"), Some("bb"))
        );
    }

    #[test]
    fn limits_only_ever_come_nearer() {
        let mut record = Record::default();
        for (at, until) in [(5, 90), (9, 50), (7, 70)] {
            record.limit(Proven { at, until });
        }
        assert_eq!(record.proven, Some(Proven { at: 5, until: 50 }));
    }
}
