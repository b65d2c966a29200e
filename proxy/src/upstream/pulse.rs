//! Whether the server of a shared HTTP/2 connection is still there.
//!
//! Where packets are dropped on the way nobody is told: the kernel goes on sending for a quarter of an hour, and every
//! request that shares the connection waits with it. So a server that says nothing while requests are under way is asked
//! by a PING. Seldom: some servers take many of them for an attack. An idle connection is never asked.

use crate::io::{self, Instant, Sleep, Transport};
use h2::{Ping, PingPong};
use std::{
    cell::Cell,
    future::Future,
    io::{IoSlice, Result},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How often somebody looks.
const LOOK: Duration = Duration::from_secs(5);
/// How long a server may say nothing before it is asked, and after that.
const QUIET: Duration = Duration::from_secs(10);
/// Between two questions that were answered.
const APART: Duration = Duration::from_secs(300);

/// A connection that tells how often bytes came.
pub(super) struct Heard {
    transport: Transport,
    times: Rc<Cell<u64>>,
}

/// Looks after a connection.
pub(super) struct Pulse {
    ping: Option<PingPong>,
    heard: Rc<Cell<u64>>,
    under_way: Rc<Cell<usize>>,
    quiet: Quiet,
    sleep: Pin<Box<Sleep>>,
}

/// How long a server has said nothing. Pure.
struct Quiet {
    heard: u64,
    since: Instant,
    asked: Option<Instant>,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judged {
    Fine,
    Ask,
    Gone,
}

impl Quiet {
    fn new(now: Instant) -> Self {
        Self {
            heard: 0,
            since: now,
            asked: None,
        }
    }

    /// Judges at `now`, when bytes have come `heard` times; `busy` where something is due.
    fn judge(&mut self, now: Instant, heard: u64, busy: bool) -> Judged {
        if heard != self.heard || !busy {
            self.heard = heard;
            self.since = now;
            return Judged::Fine;
        }
        match self.asked {
            Some(asked) if asked >= self.since && now >= asked + QUIET => Judged::Gone,
            Some(asked) if asked >= self.since || now < asked + APART => Judged::Fine,
            _ if now >= self.since + QUIET => {
                self.asked = Some(now);
                Judged::Ask
            }
            _ => Judged::Fine,
        }
    }
}

impl Heard {
    /// Listens to `transport`.
    pub(super) fn new(transport: Transport) -> (Self, Rc<Cell<u64>>) {
        let times = Rc::new(Cell::new(0));
        let heard = Self {
            transport,
            times: Rc::clone(&times),
        };
        (heard, times)
    }
}

impl Pulse {
    /// Of a connection on which so many requests are under way.
    pub(super) fn new(ping: Option<PingPong>, heard: Rc<Cell<u64>>, under_way: Rc<Cell<usize>>) -> Self {
        Self {
            ping,
            heard,
            under_way,
            quiet: Quiet::new(Instant::now()),
            sleep: Box::pin(io::sleep(LOOK)),
        }
    }

    /// Ready where the server is gone. To be polled before the connection, which sends the question.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.sleep.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            self.sleep.as_mut().reset(now + LOOK);
            match self.quiet.judge(now, self.heard.get(), self.under_way.get() > 0) {
                Judged::Fine => {}
                Judged::Gone => return Poll::Ready(()),
                Judged::Ask => self.ask(),
            }
        }
        Poll::Pending
    }

    fn ask(&mut self) {
        if let Some(ping) = &mut self.ping {
            // The answer to the question before makes room for this one; that it came the bytes have told.
            let _ = ping.poll_pong(&mut Context::from_waker(Waker::noop()));
            let _ = ping.send_ping(Ping::opaque());
        }
    }
}

impl AsyncRead for Heard {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.transport).poll_read(cx, into);
        if into.filled().len() > before {
            self.times.set(self.times.get().wrapping_add(1));
        }
        read
    }
}

impl AsyncWrite for Heard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.transport).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.transport).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found every five seconds where bytes come in the given looks.
    fn found(heard_at: &[u32], busy: bool, looks: u32) -> Vec<(u32, Judged)> {
        let start = Instant::now();
        let mut quiet = Quiet::new(start);
        let mut heard = 0;
        let mut found = Vec::new();
        for look in 1..=looks {
            heard += u64::from(heard_at.contains(&look));
            let judged = quiet.judge(start + look * LOOK, heard, busy);
            if judged != Judged::Fine {
                found.push((look, judged));
            }
            if judged == Judged::Gone {
                break;
            }
        }
        found
    }

    #[test]
    fn who_says_nothing_is_asked_and_who_does_not_answer_is_gone() {
        assert_eq!(found(&[], true, 20), [(2, Judged::Ask), (4, Judged::Gone)]);
        assert_eq!(found(&[1], true, 20), [(3, Judged::Ask), (5, Judged::Gone)]);
    }

    #[test]
    fn who_answers_is_not_asked_again_for_a_while() {
        assert_eq!(found(&[3], true, 61), [(2, Judged::Ask)]);
        let again = [(2, Judged::Ask), (62, Judged::Ask), (64, Judged::Gone)];
        assert_eq!(found(&[3], true, 100), again);
    }

    #[test]
    fn an_idle_connection_and_one_that_is_heard_are_never_asked() {
        assert_eq!(found(&[], false, 200), []);
        let always: Vec<u32> = (1..200).collect();
        assert_eq!(found(&always, true, 199), []);
    }
}
