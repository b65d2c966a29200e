//! The sending half of a socket: what was accepted, what of it is with the kernel, and what is not yet.
//!
//! Bytes are accepted by copying them and go at the end of the driver's turn, all that came together in one send; who
//! accepted them waits only where [`WAITING_MAX`] wait already. What is large goes at once and uncopied, as far as the
//! socket has room for it. It must not know how the kernel is asked.

use super::ops::Answer;
use crate::io::buffer::{self, LARGE, SMALL};
use std::{
    io::{self, IoSlice},
    task::{Poll, Waker},
};

/// Bytes that wait behind those in flight, beyond which none are accepted.
pub(super) const WAITING_MAX: usize = LARGE;

/// So many bytes at once are worth a call of their own.
const LARGE_MIN: usize = 16 * 1024;

/// Bytes that the kernel has.
struct Flight {
    buffer: Vec<u8>,
    at: usize,
}

/// The half.
pub(super) struct Sending {
    waiting: Vec<u8>,
    flight: Option<Flight>,
    failed: Option<i32>,
    waker: Option<Waker>,
    /// Nothing that is left is worth sending again.
    abandoned: bool,
}

impl Sending {
    /// Nothing was accepted.
    pub(super) fn new() -> Self {
        Self {
            waiting: Vec::new(),
            flight: None,
            failed: None,
            waker: None,
            abandoned: false,
        }
    }

    /// Whether the kernel has bytes.
    pub(super) fn is_in_flight(&self) -> bool {
        self.flight.is_some()
    }

    /// Whether there is something that was not sent and can be.
    pub(super) fn is_unsent(&self) -> bool {
        self.failed.is_none() && (self.flight.is_some() || !self.waiting.is_empty())
    }

    /// What the kernel is to send.
    pub(super) fn bytes(&self) -> &[u8] {
        let flight = self.flight.as_ref();
        flight
            .and_then(|flight| flight.buffer.get(flight.at..))
            .unwrap_or_default()
    }

    /// Accepts bytes; [`Sending::launch`] has to be called before the turn ends. Pending where there is no room. `send`
    /// sends from where they are, without waiting.
    pub(super) fn accept(
        &mut self,
        waker: &Waker,
        parts: &[IoSlice<'_>],
        send: impl FnOnce(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if let Some(code) = self.failed {
            return Poll::Ready(Err(io::Error::from_raw_os_error(code)));
        }
        let total: usize = parts.iter().map(|part| part.len()).sum();
        if total >= LARGE_MIN && self.flight.is_none() && self.waiting.is_empty() {
            match send(parts) {
                Ok(count) if count > 0 => return Poll::Ready(Ok(count)),
                Err(error) if !is_passing(error.raw_os_error().unwrap_or(libc::EIO)) => {
                    self.failed = Some(error.raw_os_error().unwrap_or(libc::EIO));
                    return Poll::Ready(Err(error));
                }
                // It has no room: copied, they go when it has.
                Ok(_) | Err(_) => {}
            }
        }
        let room = WAITING_MAX - self.waiting.len().min(WAITING_MAX);
        if room == 0 && total > 0 {
            self.wait(waker);
            return Poll::Pending;
        }
        self.make_room(total.min(room));
        let mut accepted = 0;
        for part in parts {
            let count = part.len().min(room - accepted);
            self.waiting
                .extend_from_slice(part.get(..count).unwrap_or_default());
            accepted += count;
        }
        Poll::Ready(Ok(accepted))
    }

    fn make_room(&mut self, count: usize) {
        let wanted = self.waiting.len() + count;
        if wanted <= self.waiting.capacity() {
            return;
        }
        let mut larger = buffer::take(if wanted > SMALL { LARGE } else { SMALL });
        larger.extend_from_slice(&self.waiting);
        buffer::give(std::mem::replace(&mut self.waiting, larger));
    }

    /// Whether bytes wait, and nothing before them is in flight.
    pub(super) fn is_waiting(&self) -> bool {
        self.flight.is_none() && !self.waiting.is_empty()
    }

    /// Whether as much waits as may.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= WAITING_MAX
    }

    /// What waits is to be sent. True where the kernel has to be asked.
    pub(super) fn launch(&mut self) -> bool {
        if self.flight.is_some() || self.waiting.is_empty() {
            return false;
        }
        self.flight = Some(Flight {
            buffer: std::mem::take(&mut self.waiting),
            at: 0,
        });
        true
    }

    /// Ready once everything that was accepted is with the kernel.
    pub(super) fn poll_sent(&mut self, waker: &Waker) -> Poll<io::Result<()>> {
        if let Some(code) = self.failed {
            return Poll::Ready(Err(io::Error::from_raw_os_error(code)));
        }
        if self.flight.is_none() && self.waiting.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.wait(waker);
        Poll::Pending
    }

    fn wait(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(known) => known.clone_from(waker),
            None => self.waker = Some(waker.clone()),
        }
    }

    /// Whether sending has failed, and by what.
    pub(super) fn state(&self) -> io::Result<()> {
        self.failed
            .map_or(Ok(()), |code| Err(io::Error::from_raw_os_error(code)))
    }

    /// Nothing more is to be sent. True where what is in flight has to be cancelled.
    pub(super) fn abandon(&mut self) -> bool {
        self.abandoned = true;
        self.waker = None;
        buffer::give(std::mem::take(&mut self.waiting));
        self.flight.is_some()
    }

    /// The kernel's answer. Whom to wake goes to `woken`. True where the kernel has to be asked again.
    pub(super) fn answered(&mut self, answer: &Answer, woken: &mut Vec<Waker>) -> bool {
        let Some(mut flight) = self.flight.take() else {
            return false;
        };
        match usize::try_from(answer.result) {
            Ok(0) => self.failed = Some(libc::EPIPE),
            Ok(count) => flight.at += count,
            Err(_) if is_passing(-answer.result) => {}
            Err(_) => self.failed = Some(-answer.result),
        }
        let left = flight.at < flight.buffer.len() && self.failed.is_none();
        if left && !self.abandoned {
            self.flight = Some(flight);
            return true;
        }
        buffer::give(flight.buffer);
        if self.failed.is_some() {
            buffer::give(std::mem::take(&mut self.waiting));
        }
        let again = self.launch();
        woken.extend(self.waker.take());
        again
    }
}

/// Whether an error says nothing about the connection.
fn is_passing(code: i32) -> bool {
    code == libc::EINTR || code == libc::EAGAIN
}
