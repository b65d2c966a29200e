//! How long a server may say nothing: from the moment on at which it has all of a request that there is.
//!
//! While a client is waited for the server is not, so that a slow upload costs no server its good name. A server that
//! takes nothing of what is there is waited for.

use crate::{
    http::body::{BodyEnd, Onlooker, RequestBody},
    io::{Instant, Sleep, sleep_until},
};
use bytes::Bytes;
use http::Request;
use std::{
    cell::{Cell, RefCell},
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

/// The server has said nothing for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Bounds the silence after `request`, which is about to be sent; `None` is no bound, and costs nothing.
pub(super) fn silence(request: &mut Request<RequestBody>, limit: Option<Duration>) -> Silence {
    let streams = !matches!(request.body(), RequestBody::Empty | RequestBody::Whole(_));
    let now = Instant::now;
    let began = match limit {
        None => Began::Never,
        Some(limit) if !streams => Began::At(now() + limit),
        Some(limit) => {
            let turn = Rc::new(Turn {
                servers_since: Cell::new(Some(now())),
                ..Turn::default()
            });
            let body = std::mem::replace(request.body_mut(), RequestBody::Empty);
            *request.body_mut() = body.watched(Rc::clone(&turn) as Rc<dyn Onlooker>);
            Began::With(turn, limit)
        }
    };
    Silence(began)
}

/// A bound that waits for what it bounds.
pub(super) struct Silence(Began);

enum Began {
    Never,
    /// It ends then.
    At(Instant),
    With(Rc<Turn>, Duration),
}

impl Silence {
    /// Awaits `answer` for as long as the server may be silent.
    pub(super) fn bounds<F: Future>(self, answer: F) -> Bounded<F> {
        Bounded {
            answer,
            began: self.0,
            sleep: None,
        }
    }

    fn poll(began: &Began, sleep: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> Poll<TooLong> {
        loop {
            let deadline = match began {
                Began::Never => return Poll::Pending,
                Began::At(deadline) => *deadline,
                Began::With(turn, limit) => ready!(turn.poll_servers(cx)) + *limit,
            };
            let armed = sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            // Armed for what stood then, and corrected when it fires: a piece of a body costs no timer operation.
            ready!(armed.as_mut().poll(cx));
            if armed.deadline() >= deadline {
                return Poll::Ready(TooLong);
            }
            armed.as_mut().reset(deadline);
        }
    }
}

pin_project_lite::pin_project! {
    /// An answer and the bound on the silence before it; see [`Silence::bounds`].
    pub(super) struct Bounded<F> {
        #[pin]
        answer: F,
        began: Began,
        sleep: Option<Pin<Box<Sleep>>>,
    }
}

impl<F: Future> Future for Bounded<F> {
    type Output = Result<F::Output, TooLong>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(answer) = this.answer.poll(cx) {
            return Poll::Ready(Ok(answer));
        }
        Silence::poll(this.began, this.sleep, cx).map(Err)
    }
}

/// Whose turn it is while a body is sent.
#[derive(Default)]
struct Turn {
    /// Since when the server is the one that is waited for; `None` while the client is.
    servers_since: Cell<Option<Instant>>,
    ended: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl Turn {
    fn poll_servers(&self, cx: &Context<'_>) -> Poll<Instant> {
        *self.waiting.borrow_mut() = Some(cx.waker().clone());
        self.servers_since.get().map_or(Poll::Pending, Poll::Ready)
    }

    fn now_the_servers(&self) {
        if self.servers_since.replace(Some(Instant::now())).is_none()
            && let Some(waiting) = self.waiting.borrow_mut().take()
        {
            waiting.wake();
        }
    }
}

impl Onlooker for Turn {
    fn passes(&self, _: &Bytes) {
        self.now_the_servers();
    }

    fn starves(&self) {
        if !self.ended.get() {
            self.servers_since.set(None);
        }
    }

    fn ended(&self, _: BodyEnd) {
        if !self.ended.replace(true) {
            self.now_the_servers();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_waited_for_but_while_the_client_is() {
        let turn = Turn {
            servers_since: Cell::new(Some(Instant::now())),
            ..Turn::default()
        };
        let cx = Context::from_waker(Waker::noop());
        let first = turn.poll_servers(&cx);
        assert!(first.is_ready());
        turn.starves();
        assert!(
            turn.poll_servers(&cx).is_pending(),
            "the client has nothing to give"
        );
        turn.passes(&Bytes::from_static(b"x"));
        assert!(turn.poll_servers(&cx).is_ready() && turn.poll_servers(&cx) != first);
        turn.starves();
        turn.ended(BodyEnd::Whole);
        let ended = turn.poll_servers(&cx);
        assert!(ended.is_ready());
        turn.starves();
        turn.ended(BodyEnd::BrokenOff);
        assert_eq!(turn.poll_servers(&cx), ended, "it ends once");
    }
}
