//! The streams of an HTTP/2 connection: each ends by itself where its client does not take its answer.
//!
//! The library asks for more of an answer only when the client has made room, so nobody would look at a deadline inside
//! the answer; the task that carries the stream does. Dropping what it carries resets the stream and no other.

use super::connection::Connection;
use crate::{
    io::{self, Instant, Sleep, sleep_until},
    telemetry::Count,
};
use sallyport_config::model::limits::Timeouts;
use std::{
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

/// What became of an answer while its task ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nobody asked for more of it.
    #[default]
    Nothing,
    /// It was asked for more and had none, or an end.
    Asked,
    /// It gave some, and was not asked again.
    Gave,
}

/// Begins the task of a stream. There are as many as `limits.h2_streams` allows.
pub(super) fn begin(connection: &Rc<Connection>, stream: impl Future<Output = ()> + 'static) {
    let timeouts = &connection.entry.timeouts;
    if timeouts.write.is_none() && timeouts.body_idle.is_none() {
        io::detach(stream);
        return;
    }
    io::detach(Stream {
        future: Some(stream),
        connection: Rc::clone(connection),
        answering: Answering::default(),
        sleep: None,
    });
}

pin_project_lite::pin_project! {
    struct Stream<F> {
        #[pin]
        future: Option<F>,
        connection: Rc<Connection>,
        answering: Answering,
        sleep: Option<Pin<Box<Sleep>>>,
    }
}

impl<F: Future<Output = ()>> Future for Stream<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let connection = this.connection;
        let Some(future) = this.future.as_mut().as_pin_mut() else {
            return Poll::Ready(());
        };
        connection.turn.set(Turn::Nothing);
        if future.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let timeouts = &connection.entry.timeouts;
        this.answering.saw(connection.turn.take(), timeouts, Instant::now);
        let mut fired = false;
        while let Some((deadline, reason)) = this.answering.deadline(timeouts) {
            let sleep = this.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            if sleep.deadline() > deadline || fired {
                sleep.as_mut().reset(deadline);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            // It may have been armed for an earlier deadline than stands now.
            fired = true;
            if deadline > Instant::now() {
                continue;
            }
            if reason == Count::AnswerIdle && connection.taking.is_waiting() {
                // Nobody's stream gets through to this client; that is judged for the connection.
                this.answering.waits_anew(Instant::now());
                continue;
            }
            connection.context.counters.add(reason);
            let (peer, entry, reason_code) = (connection.peer.0, &connection.entry.name, reason.code());
            tracing::debug!(%peer, entry, reason = reason_code, "stream reset: its answer is not taken");
            let before = connection.cut.replace(Some(reason));
            this.future.set(None);
            connection.cut.set(before);
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

/// How far an answer is. Pure.
#[derive(Debug, Default)]
struct Answering {
    began: Option<Instant>,
    /// Since when the client has some and asks for no more.
    waits: Option<Instant>,
}

impl Answering {
    fn saw(&mut self, turn: Turn, timeouts: &Timeouts, now: impl Fn() -> Instant) {
        if turn != Turn::Nothing && self.began.is_none() && timeouts.write.is_some() {
            self.began = Some(now());
        }
        match turn {
            Turn::Nothing => {}
            Turn::Asked => self.waits = None,
            Turn::Gave => self.waits = timeouts.body_idle.map(|_| now()),
        }
    }

    fn waits_anew(&mut self, now: Instant) {
        self.waits = Some(now);
    }

    fn deadline(&self, timeouts: &Timeouts) -> Option<(Instant, Count)> {
        let due = |from: Option<Instant>, limit| Some(from? + limit?);
        let write = due(self.began, timeouts.write).map(|at| (at, Count::WriteTimeout));
        let idle = due(self.waits, timeouts.body_idle).map(|at| (at, Count::AnswerIdle));
        write.into_iter().chain(idle).min_by_key(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    fn timeouts(write: Option<u32>, body_idle: Option<u32>) -> Timeouts {
        Timeouts {
            read_header: None,
            read: None,
            write: write.map(|seconds| SECOND * seconds),
            idle: None,
            tls_handshake: None,
            proxy_header: None,
            body_idle: body_idle.map(|seconds| SECOND * seconds),
            keep_alive_max_time: None,
        }
    }

    #[test]
    fn an_answer_is_due_where_its_client_takes_none_and_not_where_its_server_gives_none() {
        let start = Instant::now();
        let limits = timeouts(None, Some(5));
        let mut answering = Answering::default();
        assert_eq!(answering.deadline(&limits), None);
        answering.saw(Turn::Asked, &limits, || start);
        assert_eq!(answering.deadline(&limits), None);
        answering.saw(Turn::Gave, &limits, || start + SECOND);
        answering.saw(Turn::Nothing, &limits, || start + SECOND * 3);
        assert_eq!(
            answering.deadline(&limits),
            Some((start + SECOND * 6, Count::AnswerIdle))
        );
        answering.saw(Turn::Asked, &limits, || start + SECOND * 4);
        assert_eq!(answering.deadline(&limits), None);
    }

    #[test]
    fn the_whole_of_an_answer_is_due_from_its_beginning() {
        let start = Instant::now();
        let limits = timeouts(Some(10), Some(5));
        let mut answering = Answering::default();
        answering.saw(Turn::Nothing, &limits, || start);
        answering.saw(Turn::Asked, &limits, || start + SECOND);
        assert_eq!(
            answering.deadline(&limits),
            Some((start + SECOND * 11, Count::WriteTimeout))
        );
        answering.saw(Turn::Gave, &limits, || start + SECOND * 2);
        assert_eq!(
            answering.deadline(&limits),
            Some((start + SECOND * 7, Count::AnswerIdle))
        );
        answering.saw(Turn::Gave, &limits, || start + SECOND * 9);
        assert_eq!(
            answering.deadline(&limits),
            Some((start + SECOND * 11, Count::WriteTimeout))
        );
    }
}
