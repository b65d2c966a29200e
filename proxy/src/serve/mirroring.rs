//! Copies of requests for services whose answers nobody sees.
//!
//! A copy goes out once the request itself was answered. Its body is kept while it passes on its way to the server, up to
//! a limit; how many copies there are at once is limited too. A copy that cannot be made costs the client nothing.

use super::{balancing, connection::Connection};
use crate::{
    http::{
        again::same_head,
        body::{BodyEnd, Onlooker, RequestBody},
    },
    io,
    telemetry::Count,
    upstream::UpstreamBody,
};
use bytes::{Bytes, BytesMut};
use http::{
    Request, Response,
    header::{CONTENT_LENGTH, EXPECT},
};
use http_body::Body;
use sallyport_config::model::{
    ServiceRef,
    service::{Mirror, MirrorBody},
};
use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

/// Copies that one worker has at once, with those whose request is still on its way.
pub(super) const COPIES_MAX: usize = 64;
/// How long a copy may take from when its request was answered to the end of its answer.
const COPY_LIMIT: Duration = Duration::from_secs(30);

/// A request that is to be copied once it was answered.
pub(super) struct Copying {
    connection: Rc<Connection>,
    head: Request<()>,
    body: Option<Rc<Kept>>,
    services: Vec<(ServiceRef, Place)>,
}

/// One of the copies of a worker.
struct Place(Rc<Connection>);

impl Place {
    fn take(connection: &Rc<Connection>) -> Option<Self> {
        let copies = &connection.context.copies;
        (copies.get() < COPIES_MAX).then(|| {
            copies.set(copies.get() + 1);
            Self(Rc::clone(connection))
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let copies = &self.0.context.copies;
        copies.set(copies.get().saturating_sub(1));
    }
}

impl Copying {
    /// Begins to keep what passes, where there is somebody to copy for.
    pub(super) fn begin(
        connection: &Rc<Connection>,
        mirrors: &[(&Mirror, MirrorBody)],
        request: &mut Request<RequestBody>,
    ) -> Option<Self> {
        let mut services = Vec::new();
        let mut limit = None;
        for (mirror, body) in mirrors {
            let Some(place) = Place::take(connection) else {
                connection.context.counters.add(Count::MirrorDropped);
                continue;
            };
            services.push((mirror.service.clone(), place));
            limit = limit.max(match body {
                MirrorBody::UpTo(limit) => Some(*limit),
                MirrorBody::None => None,
            });
        }
        if services.is_empty() {
            return None;
        }
        let mut head = same_head(request, ());
        head.headers_mut().remove(EXPECT);
        let body = limit
            .filter(|_| !request.body().is_end_stream())
            .map(|limit| Kept::of(limit, request.body_mut()));
        if body.is_none() && !request.body().is_end_stream() {
            head.headers_mut().remove(CONTENT_LENGTH);
        }
        Some(Self {
            connection: Rc::clone(connection),
            head,
            body,
            services,
        })
    }

    /// Sends the copies; the request was answered.
    pub(super) fn go(self) {
        for (service, place) in self.services {
            let copy = Copy {
                head: self.head.clone(),
                body: self.body.clone(),
                connection: Rc::clone(&self.connection),
                service,
                _place: place,
            };
            // Bounded by the places.
            drop(io::spawn(async move {
                let counters = std::sync::Arc::clone(&copy.connection.context.counters);
                let sent = io::timeout(Some(COPY_LIMIT), copy.send()).await;
                counters.add(match sent {
                    Ok(Some(())) => Count::Mirrored,
                    Ok(None) | Err(_) => Count::MirrorDropped,
                });
            }));
        }
    }
}

struct Copy {
    head: Request<()>,
    body: Option<Rc<Kept>>,
    connection: Rc<Connection>,
    service: ServiceRef,
    _place: Place,
}

impl Copy {
    async fn send(self) -> Option<()> {
        let body = match &self.body {
            None => RequestBody::Empty,
            Some(kept) => RequestBody::Whole(Some(poll_fn(|cx| kept.poll_whole(cx)).await?)),
        };
        let request = self.head.map(|()| body);
        let view = self.connection.context.view();
        let client = self.connection.client.0.ip();
        let answer = balancing::ask_aside(&self.connection, &view, &self.service, client, request).await?;
        throw_away(answer).await
    }
}

/// Reads an answer to its end, so that its connection can be used again.
async fn throw_away(answer: Response<UpstreamBody>) -> Option<()> {
    let mut body = answer.into_body();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        frame.ok()?;
    }
    Some(())
}

/// A body that passes on its way to a server.
struct Kept {
    limit: usize,
    state: RefCell<State>,
    length: Cell<usize>,
}

enum State {
    Passing(BytesMut, Vec<Waker>),
    Whole(Bytes),
    /// Too long, or broken off.
    Lost,
}

impl Kept {
    fn of(limit: u64, body: &mut RequestBody) -> Rc<Self> {
        let kept = Rc::new(Self {
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            state: RefCell::new(State::Passing(BytesMut::new(), Vec::new())),
            length: Cell::new(0),
        });
        let onlooker: Rc<dyn Onlooker> = Rc::clone(&kept) as Rc<dyn Onlooker>;
        let passing = std::mem::replace(body, RequestBody::Empty);
        *body = passing.watched(onlooker);
        kept
    }

    fn settle(&self, end: impl FnOnce(BytesMut) -> State) {
        let before = self.state.replace(State::Lost);
        let State::Passing(bytes, waiting) = before else {
            self.state.replace(before);
            return;
        };
        self.state.replace(end(bytes));
        waiting.into_iter().for_each(Waker::wake);
    }

    fn poll_whole(&self, cx: &Context<'_>) -> Poll<Option<Bytes>> {
        match &mut *self.state.borrow_mut() {
            State::Whole(bytes) => Poll::Ready(Some(bytes.clone())),
            State::Lost => Poll::Ready(None),
            State::Passing(_, waiting) => {
                waiting.push(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Onlooker for Kept {
    fn passes(&self, data: &Bytes) {
        self.length.set(self.length.get().saturating_add(data.len()));
        if self.length.get() > self.limit {
            return self.settle(|_| State::Lost);
        }
        if let State::Passing(bytes, _) = &mut *self.state.borrow_mut() {
            // Copied: a piece may keep the whole buffer alive that it was read into.
            bytes.extend_from_slice(data);
        }
    }

    fn ended(&self, end: BodyEnd) {
        self.settle(|bytes| match end {
            BodyEnd::Whole => State::Whole(bytes.freeze()),
            BodyEnd::BrokenOff => State::Lost,
        });
    }
}
