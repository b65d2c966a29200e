//! Request bodies: streamed from client to server, with the client's deadline.
//!
//! The deadline is for the whole request, extended for as long as the body keeps a minimum rate, so that a
//! long upload at a fair rate lives and a trickle does not.

use super::{
    fields,
    upload::{Upload, Watched},
};
use crate::io::{Instant, Sleep, sleep_until};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

/// The rate that extends a request past its deadline, in bytes a second.
pub const BODY_RATE_MIN: u64 = 1024;
/// How often a request past its deadline is judged.
const JUDGED_EVERY: Duration = Duration::from_secs(1);

/// Why a request body ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyFault {
    /// The client broke it off.
    #[error("the client broke off the request body")]
    Client(#[source] hyper::Error),
    /// The client was too slow.
    #[error("the request body did not come in time")]
    Timeout,
}

/// The body of a request on its way to a server.
pub enum RequestBody {
    /// None.
    Empty,
    /// From a client.
    Streamed(Box<Streamed>),
}

/// A body from a client.
pub struct Streamed {
    incoming: Incoming,
    started: Instant,
    limit: Option<Duration>,
    received: u64,
    /// Somebody who wants to know the same.
    tally: Option<Rc<Cell<u64>>>,
    sleep: Option<Pin<Box<Sleep>>>,
    /// How it stands, for others.
    upload: Option<Watched>,
}

impl RequestBody {
    /// Has others see how the body stands, and say when it may come.
    pub fn watch(&mut self, watcher: Rc<Upload>) {
        match self {
            Self::Empty => watcher.complete(),
            Self::Streamed(body) => body.upload = Some(Watched(watcher)),
        }
    }

    /// How the body stands, where somebody watches.
    pub fn upload(&self) -> Option<&Rc<Upload>> {
        match self {
            Self::Empty => None,
            Self::Streamed(body) => body.upload.as_ref().map(|watched| &watched.0),
        }
    }

    /// Wraps what came with a request whose first byte came at `started`; `limit` is the deadline of the
    /// whole request, `tally` is told how many bytes have come.
    pub fn new(
        incoming: Incoming,
        started: Instant,
        limit: Option<Duration>,
        tally: Option<Rc<Cell<u64>>>,
    ) -> Self {
        if incoming.is_end_stream() {
            return Self::Empty;
        }
        Self::Streamed(Box::new(Streamed {
            incoming,
            started,
            limit,
            received: 0,
            tally,
            sleep: None,
            upload: None,
        }))
    }
}

impl Streamed {
    fn complete(&self) {
        if let Some(upload) = &self.upload {
            upload.0.complete();
        }
    }

    /// Judges the client's pace while nothing comes.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<BodyFault> {
        let Some(limit) = self.limit else {
            return Poll::Pending;
        };
        let deadline = self.started + limit;
        loop {
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            ready!(sleep.as_mut().poll(cx));
            let elapsed = self.started.elapsed();
            if self.received < elapsed.as_secs().saturating_mul(BODY_RATE_MIN) {
                return Poll::Ready(BodyFault::Timeout);
            }
            sleep.as_mut().reset(Instant::now() + JUDGED_EVERY);
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let Self::Streamed(body) = &mut *self else {
            return Poll::Ready(None);
        };
        if let Some(upload) = &body.upload {
            ready!(upload.0.poll_released(cx));
        }
        match Pin::new(&mut body.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(mut frame))) => {
                if let Some(trailers) = frame.trailers_mut() {
                    fields::strip_trailers(trailers);
                }
                let count = frame.data_ref().map_or(0, Bytes::len);
                body.received = body
                    .received
                    .saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
                if let Some(tally) = &body.tally {
                    tally.set(body.received);
                }
                if body.incoming.is_end_stream() {
                    body.complete();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(BodyFault::Client(error)))),
            Poll::Ready(None) => {
                body.complete();
                Poll::Ready(None)
            }
            Poll::Pending => {
                if let Some(upload) = &body.upload {
                    upload.0.starve();
                }
                body.poll_deadline(cx).map(|fault| Some(Err(fault)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streamed(body) => body.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streamed(body) => body.incoming.size_hint(),
        }
    }
}
