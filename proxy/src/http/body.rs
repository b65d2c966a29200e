//! Request bodies: streamed from client to server, with the client's deadline.
//!
//! How fast it must come is [`super::pace`]'s to judge.

use super::{
    fields,
    in_flight::{Flow, Passage},
    pace::{Demands, Judged, Pace},
    received::{Broken, Incoming},
    replay::Replayed,
    upload::{Upload, Uploading},
};
use crate::io::{Instant, Sleep, sleep_until};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    cell::{Cell, RefCell},
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

/// Why a request body ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyFault {
    /// The client broke it off.
    #[error("the client broke off the request body")]
    Client(#[source] Broken),
    /// It is longer than it may be.
    #[error("the request body is too large")]
    TooLarge,
    /// The client was too slow.
    #[error("the request body did not come in time")]
    Timeout,
    /// It was lent for a try that is over.
    #[error("the request body was taken back")]
    TakenBack,
}

/// The body of a request on its way to a server.
pub enum RequestBody {
    /// None.
    Empty,
    /// From a client.
    Streamed(Box<Streamed>),
    /// Made here, or kept here whole.
    Whole(Option<Bytes>),
    /// One of the others, with somebody who looks on.
    Watched(Box<Watched>),
    /// One of the others, lent for one try.
    Lent(Lent),
    /// One of the others, of which so much is remembered that it can be sent again.
    Replayed(Replayed),
}

/// Lends a body for one try after the other, as long as nobody has read of it.
pub struct Lender {
    body: Rc<RefCell<RequestBody>>,
    tries: Rc<Cell<u32>>,
    touched: Rc<Cell<bool>>,
}

/// A body for one try.
pub struct Lent {
    body: Rc<RefCell<RequestBody>>,
    tries: Rc<Cell<u32>>,
    own: u32,
    touched: Rc<Cell<bool>>,
}

impl Lender {
    /// Lends `body`.
    pub fn new(body: RequestBody) -> Self {
        Self {
            body: Rc::new(RefCell::new(body)),
            tries: Rc::default(),
            touched: Rc::default(),
        }
    }

    /// The body for the next try; the one before has it no longer.
    pub fn lend(&mut self) -> RequestBody {
        if matches!(*self.body.borrow(), RequestBody::Empty) {
            return RequestBody::Empty;
        }
        let own = self.tries.get().wrapping_add(1);
        self.tries.set(own);
        RequestBody::Lent(Lent {
            body: Rc::clone(&self.body),
            tries: Rc::clone(&self.tries),
            own,
            touched: Rc::clone(&self.touched),
        })
    }

    /// Whether nobody has read of it.
    pub fn is_untouched(&self) -> bool {
        !self.touched.get()
    }
}

impl Lent {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        // A try that is over must not take from the one that came after it.
        if self.own != self.tries.get() {
            return Poll::Ready(Some(Err(BodyFault::TakenBack)));
        }
        self.touched.set(true);
        Pin::new(&mut *self.body.borrow_mut()).poll_frame(cx)
    }
}

/// A body that somebody looks on at.
pub struct Watched {
    body: RequestBody,
    onlooker: Rc<dyn Onlooker>,
}

/// Sees a body pass by.
pub trait Onlooker {
    /// A piece of it.
    fn passes(&self, data: &Bytes);

    /// More of it is wanted than has come.
    fn starves(&self) {}

    /// No more of it comes. May be told more than once; the first time counts.
    fn ended(&self, end: BodyEnd);
}

/// How a body came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEnd {
    /// It is whole.
    Whole,
    /// The rest never comes.
    BrokenOff,
}

impl Drop for Watched {
    fn drop(&mut self) {
        let end = if self.body.is_end_stream() {
            BodyEnd::Whole
        } else {
            BodyEnd::BrokenOff
        };
        self.onlooker.ended(end);
    }
}

/// A body from a client.
pub struct Streamed {
    incoming: Incoming,
    pace: Pace,
    /// Somebody who wants to know the same.
    tally: Option<Rc<Cell<u64>>>,
    sleep: Option<Pin<Box<Sleep>>>,
    allowance: Option<Allowance>,
    /// How it stands, for others.
    upload: Option<Uploading>,
    /// Whose bytes in flight its own are.
    flow: Option<Flow>,
    passage: Passage,
}

/// How long a body may be.
struct Allowance {
    bytes_max: u64,
    overrun: Overrun,
}

/// Whether a body grew too long.
#[derive(Clone, Debug, Default)]
pub struct Overrun(Rc<Cell<bool>>);

impl Overrun {
    /// Whether it did.
    pub fn is_so(&self) -> bool {
        self.0.get()
    }
}

impl RequestBody {
    /// Has others see how the body of a client stands, and say when it may come.
    pub fn watch(&mut self, watcher: Rc<Upload>) {
        match self {
            Self::Streamed(body) => body.upload = Some(Uploading(watcher)),
            Self::Replayed(replayed) => replayed.watch(watcher),
            Self::Empty | Self::Whole(_) | Self::Watched(_) | Self::Lent(_) => watcher.complete(),
        }
    }

    /// Has the bytes of a client's body count as those of `flow`, where it has any.
    pub fn counts_as(&mut self, flow: impl FnOnce() -> Flow) {
        if let Self::Streamed(body) = self {
            body.flow = Some(flow());
        }
    }

    /// How the body stands, where somebody watches.
    pub fn upload(&self) -> Option<Rc<Upload>> {
        match self {
            Self::Empty | Self::Whole(_) => None,
            Self::Streamed(body) => body.upload.as_ref().map(|uploading| Rc::clone(&uploading.0)),
            Self::Watched(watched) => watched.body.upload(),
            Self::Lent(lent) => lent.body.borrow().upload(),
            Self::Replayed(replayed) => replayed.upload(),
        }
    }

    /// Wraps what came with a request whose first byte came at `started`; `demands` are made of its pace, `tally` is
    /// told how many bytes have come.
    pub fn new(incoming: Incoming, started: Instant, demands: Demands, tally: Option<Rc<Cell<u64>>>) -> Self {
        if incoming.is_end_stream() {
            return Self::Empty;
        }
        Self::Streamed(Box::new(Streamed {
            incoming,
            pace: Pace::new(demands, started),
            tally,
            sleep: None,
            upload: None,
            allowance: None,
            flow: None,
            passage: Passage::default(),
        }))
    }

    /// Lets it bring at most `bytes_max`; of two limits the smaller counts.
    pub fn limit_to(&mut self, bytes_max: u64) -> Overrun {
        let Self::Streamed(body) = self else {
            return Overrun::default();
        };
        let allowance = body.allowance.get_or_insert_with(|| Allowance {
            bytes_max,
            overrun: Overrun::default(),
        });
        allowance.bytes_max = allowance.bytes_max.min(bytes_max);
        allowance.overrun.clone()
    }
}

impl RequestBody {
    /// The same body, and `onlooker` sees it pass.
    pub fn watched(self, onlooker: Rc<dyn Onlooker>) -> Self {
        Self::Watched(Box::new(Watched { body: self, onlooker }))
    }

    /// The same body once more, to be sent where this one was sent in vain; of what passes up to `bytes_max` are
    /// remembered. Where more passes, [`RequestBody::is_whole`] says so.
    pub fn remembered(&mut self, bytes_max: usize) -> Self {
        match self {
            Self::Empty => Self::Empty,
            Self::Whole(bytes) => Self::Whole(bytes.clone()),
            Self::Replayed(replayed) => Self::Replayed(replayed.another()),
            Self::Streamed(_) | Self::Watched(_) | Self::Lent(_) => {
                let replayed = Replayed::new(std::mem::replace(self, Self::Empty), bytes_max);
                let another = Self::Replayed(replayed.another());
                *self = Self::Replayed(replayed);
                another
            }
        }
    }

    /// Whether all of the body is there or still to come.
    pub fn is_whole(&self) -> bool {
        match self {
            Self::Replayed(replayed) => replayed.is_whole(),
            Self::Empty | Self::Whole(_) | Self::Streamed(_) | Self::Watched(_) | Self::Lent(_) => true,
        }
    }
}

impl Watched {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            self.onlooker.starves();
            return Poll::Pending;
        };
        match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or((), |data| self.onlooker.passes(data)),
            Some(Err(_)) => self.onlooker.ended(BodyEnd::BrokenOff),
            None => self.onlooker.ended(BodyEnd::Whole),
        }
        Poll::Ready(frame)
    }
}

impl Streamed {
    fn complete(&self) {
        if let Some(upload) = &self.upload {
            upload.0.complete();
        }
    }

    /// Judges how much has come.
    fn check_length(&self) -> Result<(), BodyFault> {
        match &self.allowance {
            Some(allowance) if self.pace.received() > allowance.bytes_max => {
                allowance.overrun.0.set(true);
                Err(BodyFault::TooLarge)
            }
            _ => Ok(()),
        }
    }

    /// Judges the client's pace while nothing comes. The timer is armed for the deadline that stood when it was, and
    /// corrected when it fires, so that a piece of a body costs no timer operation.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<BodyFault> {
        let mut fired = false;
        loop {
            let deadline = match self.pace.waits(Instant::now()) {
                Judged::TooSlow => return Poll::Ready(BodyFault::Timeout),
                Judged::Until(None) => return Poll::Pending,
                Judged::Until(Some(deadline)) => deadline,
            };
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            if sleep.deadline() > deadline || fired {
                sleep.as_mut().reset(deadline);
            }
            ready!(sleep.as_mut().poll(cx));
            fired = true;
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
        let body = match &mut *self {
            Self::Empty => return Poll::Ready(None),
            Self::Whole(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Lent(lent) => return lent.poll_frame(cx),
            Self::Watched(watched) => return watched.poll_frame(cx),
            Self::Replayed(replayed) => return replayed.poll_frame(cx),
            Self::Streamed(body) => body,
        };
        if let Some(upload) = &body.upload {
            ready!(upload.0.poll_released(cx));
        }
        if let Some(flow) = &body.flow {
            let left = body.incoming.size_hint();
            ready!(body.passage.poll_room(|| flow, &left, cx));
        }
        match Pin::new(&mut body.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(mut frame))) => {
                if let Some(trailers) = frame.trailers_mut() {
                    fields::strip_trailers(trailers);
                }
                let count = frame.data_ref().map_or(0, Bytes::len);
                body.pace
                    .came(u64::try_from(count).unwrap_or(u64::MAX), Instant::now);
                if let Some(tally) = &body.tally {
                    tally.set(body.pace.received());
                }
                if body.incoming.is_end_stream() {
                    body.complete();
                }
                if let Some(flow) = &body.flow {
                    frame = body.passage.passes(|| flow, frame);
                }
                Poll::Ready(Some(body.check_length().map(|()| frame)))
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
            Self::Whole(bytes) => bytes.is_none(),
            Self::Lent(lent) => lent.body.borrow().is_end_stream(),
            Self::Watched(watched) => watched.body.is_end_stream(),
            Self::Replayed(replayed) => replayed.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streamed(body) => body.incoming.size_hint(),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Lent(lent) => lent.body.borrow().size_hint(),
            Self::Watched(watched) => watched.body.size_hint(),
            Self::Replayed(replayed) => replayed.size_hint(),
        }
    }
}
