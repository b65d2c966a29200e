//! A listener: connections that came and were not taken yet, and what the kernel has been asked for.
//!
//! It must not know how the kernel is asked.

use super::{ops::Answer, receiving::Want};
use crate::io::listener::Ahead;
use std::{collections::VecDeque, io, os::fd::RawFd, task::Waker};

/// Connections that wait to be taken, beyond which no more are asked for; the kernel's own queue holds the rest. What
/// comes until the kernel has stopped may be as many as that queue holds.
pub(super) const AHEAD_MAX: usize = 64;

#[derive(PartialEq, Eq)]
enum Flight {
    Nothing,
    One,
    Many,
    Ending,
}

/// The listener.
pub(super) struct Accepting {
    /// Its descriptor.
    pub(super) descriptor: RawFd,
    came: VecDeque<RawFd>,
    flight: Flight,
    ahead: Ahead,
    failed: Option<i32>,
    waker: Option<Waker>,
}

impl Accepting {
    /// Nothing came and nothing was asked for.
    pub(super) fn new(descriptor: RawFd) -> Self {
        Self {
            descriptor,
            came: VecDeque::new(),
            flight: Flight::Nothing,
            ahead: Ahead::Many,
            failed: None,
            waker: None,
        }
    }

    /// Whether the kernel has been asked for something.
    pub(super) fn is_in_flight(&self) -> bool {
        self.flight != Flight::Nothing
    }

    /// A connection that came, or why none does. The caller owns the descriptor.
    pub(super) fn take(&mut self) -> Option<io::Result<RawFd>> {
        if let Some(descriptor) = self.came.pop_front() {
            return Some(Ok(descriptor));
        }
        let failed = self.failed.take()?;
        Some(Err(io::Error::from_raw_os_error(failed)))
    }

    /// Somebody waits for a connection, and wants others to come `ahead`. Says what has to be asked for.
    pub(super) fn wait(&mut self, waker: &Waker, ahead: Ahead) -> Want {
        self.waker = Some(waker.clone());
        self.ahead = ahead;
        self.ask()
    }

    fn ask(&mut self) -> Want {
        match (&self.flight, self.ahead) {
            (Flight::Nothing, Ahead::Many) => {
                self.flight = Flight::Many;
                Want::Many
            }
            (Flight::Nothing, Ahead::None) => {
                self.flight = Flight::One;
                Want::One
            }
            (Flight::Many, Ahead::None) => self.hold(),
            (Flight::Many | Flight::One | Flight::Ending, _) => Want::Nothing,
        }
    }

    /// No more are to come unasked. Says what has to be asked for.
    pub(super) fn hold(&mut self) -> Want {
        if self.flight != Flight::Many {
            return Want::Nothing;
        }
        self.flight = Flight::Ending;
        Want::End
    }

    /// Nobody takes any more: gives what came, to be closed. Says what has to be asked for.
    pub(super) fn abandon(&mut self) -> (Want, VecDeque<RawFd>) {
        self.waker = None;
        let want = if self.is_in_flight() {
            // Once more where it was asked for: that may have been in vain.
            self.flight = Flight::Ending;
            Want::End
        } else {
            Want::Nothing
        };
        (want, std::mem::take(&mut self.came))
    }

    /// The kernel's answer. Whom to wake goes to `woken`. Says what has to be asked for.
    pub(super) fn answered(&mut self, answer: &Answer, woken: &mut Vec<Waker>) -> Want {
        if !answer.more {
            self.flight = Flight::Nothing;
        }
        match answer.result {
            descriptor @ 0.. => self.came.push_back(descriptor),
            error if [-libc::ECANCELED, -libc::EINTR, -libc::EAGAIN].contains(&error) => {
                // Stopped for no reason of its own: on with it, where somebody waits.
                return if self.waker.is_some() {
                    self.ask()
                } else {
                    Want::Nothing
                };
            }
            error => self.failed = Some(-error),
        }
        woken.extend(self.waker.take());
        // Again, where it was asked for in vain.
        if self.is_in_flight() && !self.came.is_empty() && self.came.len().is_multiple_of(AHEAD_MAX) {
            self.flight = Flight::Ending;
            return Want::End;
        }
        Want::Nothing
    }
}
