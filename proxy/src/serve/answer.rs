//! What goes back to a client: a server's answer, or one of ours.

use super::{
    access::{Carried, Notes, Pending},
    connection::Connection,
    streams::Turn,
};
use crate::{
    fault::Fault,
    http::{
        call::{AnswerBody, BodyError},
        fields,
        in_flight::Passage,
        pace::Moved,
    },
    io::Instant,
    telemetry::Count,
    upstream::UpstreamBody,
};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

/// A response body, which marks its request as ended when it is done or dropped.
pub(super) struct ResponseBody {
    source: Source,
    /// `None` where somebody else sees to its end.
    under_way: Option<UnderWay>,
    /// Why the body ends early, kept back for one turn.
    broken: Option<BodyError>,
    passage: Passage,
}

enum Source {
    Own(Option<Bytes>),
    Upstream(UpstreamBody),
    Through(AnswerBody),
}

/// Why a response body ended early; the client's connection is cut, so that it notices.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResponseFault {
    /// The server broke it off.
    #[error("the server broke off the response body")]
    Upstream(#[source] BodyError),
}

/// A request under way on a connection.
pub(super) struct UnderWay {
    connection: Rc<Connection>,
    /// Its line of the access log, where that is on.
    pending: Option<Box<Pending>>,
    /// When its answer moved last, where the request's body goes by that.
    moved: Option<Moved>,
}

/// What is known of a request that began.
pub(super) struct Began {
    /// When its first byte came.
    pub at: Instant,
    /// When its answer moved last, where the request's body goes by that.
    pub moved: Option<Moved>,
}

impl UnderWay {
    /// Marks the start; the end is when this is dropped.
    pub(super) fn new<B>(connection: &Rc<Connection>, request: &Request<B>) -> (Self, Began) {
        let at = connection.clock.request_started();
        let lasts = *request.method() == Method::POST && fields::is_grpc(request.headers());
        let moved = lasts.then(|| Moved::new(Cell::new(at)));
        (
            Self {
                connection: Rc::clone(connection),
                pending: Pending::begin(&connection.context, request, at),
                moved: moved.clone(),
            },
            Began { at, moved },
        )
    }

    /// The header of the answer as it goes out; `reason` is the code of a fault.
    pub(super) fn answered(&mut self, status: StatusCode, headers: &HeaderMap, reason: Option<&'static str>) {
        if let Some(pending) = &mut self.pending {
            pending.answered(status, headers, reason);
        }
    }

    /// What went both ways after HTTP was left.
    pub(super) fn carried(&mut self, carried: Carried) {
        if let Some(pending) = &mut self.pending {
            pending.carried(carried);
        }
    }

    /// Why it ended early.
    pub(super) fn broke(&mut self, reason: &'static str) {
        if let Some(pending) = &mut self.pending {
            pending.broke(reason);
        }
    }

    /// What became of its answer when more of it was asked for.
    fn saw<T, E>(&self, polled: &Poll<Option<Result<T, E>>>) {
        let gave = matches!(polled, Poll::Ready(Some(Ok(_))));
        self.connection
            .turn
            .set(if gave { Turn::Gave } else { Turn::Asked });
        if let Some(moved) = self.moved.as_ref().filter(|_| gave) {
            moved.set(Instant::now());
        }
    }

    /// For whoever has something to tell of the request.
    pub(super) fn notes(&self) -> Notes<'_> {
        Notes::of(self.pending.as_deref())
    }
}

impl ResponseFault {
    /// Its code in the access log.
    fn code(&self) -> &'static str {
        match self {
            Self::Upstream(_) => "upstream_broke",
        }
    }
}

impl Drop for ResponseBody {
    /// Whoever drops a body before its end has lost the client.
    fn drop(&mut self) {
        let ended = self.source.is_end_stream();
        let cut = self
            .under_way
            .as_ref()
            .and_then(|under_way| under_way.connection.cut.get());
        if let Some(pending) = self.pending().filter(|_| !ended) {
            match cut {
                Some(reason) => pending.broke(reason.code()),
                None => pending.broke_off(),
            }
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.connection.clock.request_ended();
        self.connection.solo.end();
        if let Some(pending) = self.pending.take() {
            pending.end(&self.connection);
        }
    }
}

impl ResponseBody {
    /// A server's body.
    pub(super) fn upstream(body: UpstreamBody, under_way: UnderWay) -> Self {
        Self::streamed(Source::Upstream(body), under_way)
    }

    /// A body that came through middlewares.
    pub(super) fn through(body: AnswerBody, under_way: UnderWay) -> Self {
        Self::streamed(Source::Through(body), under_way)
    }

    fn streamed(source: Source, under_way: UnderWay) -> Self {
        under_way
            .connection
            .clock
            .answer_began(&under_way.connection.entry.timeouts);
        Self {
            source,
            under_way: Some(under_way),
            broken: None,
            passage: Passage::default(),
        }
    }

    /// The header of the answer as it goes out; `reason` is the code of a fault.
    pub(super) fn answered(&mut self, status: StatusCode, headers: &HeaderMap, reason: Option<&'static str>) {
        if let Some(under_way) = &mut self.under_way {
            under_way.answered(status, headers, reason);
        }
    }

    fn pending(&mut self) -> Option<&mut Pending> {
        self.under_way.as_mut()?.pending.as_deref_mut()
    }

    /// No body, and no request's end: what follows is no HTTP.
    pub(super) fn nothing() -> Self {
        Self {
            source: Source::Own(None),
            under_way: None,
            broken: None,
            passage: Passage::default(),
        }
    }

    fn own(body: Bytes, under_way: UnderWay) -> Self {
        Self {
            source: Source::Own(Some(body)),
            under_way: Some(under_way),
            broken: None,
            passage: Passage::default(),
        }
    }
}

/// The answer to a fault.
pub(super) fn fault(fault: Fault, under_way: UnderWay) -> Response<ResponseBody> {
    fault.into_answer().map(|body| ResponseBody::own(body, under_way))
}

/// An answer of ours with headers.
pub(super) fn own(
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    under_way: UnderWay,
) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::own(body, under_way));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Counts an answer by its class.
pub(super) fn count(status: StatusCode) -> Count {
    match status.as_u16() {
        ..400 => Count::AnswersOk,
        400..500 => Count::AnswersClient,
        _ => Count::AnswersServer,
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = ResponseFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseFault>>> {
        let polled = self.poll_source(cx);
        if let Some(under_way) = &self.under_way {
            under_way.saw(&polled);
        }
        if let (Some(pending), Poll::Ready(Some(frame))) = (self.pending(), &polled) {
            match frame {
                Ok(frame) => frame.data_ref().map_or((), |data| pending.sent(data)),
                Err(fault) => pending.broke(fault.code()),
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}

impl Source {
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(body) => body.is_none(),
            Self::Upstream(body) => body.is_end_stream(),
            Self::Through(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(body) => SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64)),
            Self::Upstream(body) => body.size_hint(),
            Self::Through(body) => body.size_hint(),
        }
    }
}

impl ResponseBody {
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ResponseFault>>> {
        let this = self;
        if let Some(error) = this.broken.take() {
            return Poll::Ready(Some(Err(ResponseFault::Upstream(error))));
        }
        if let Some(UnderWay { connection, .. }) = &this.under_way {
            let left = this.source.size_hint();
            ready!(this.passage.poll_room(|| connection.answers_flow(), &left, cx));
        }
        let frame = match &mut this.source {
            Source::Own(body) => return Poll::Ready(body.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::Upstream(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(BodyError::from))),
            Source::Through(body) => Pin::new(body).poll_frame(cx),
        };
        match frame {
            Poll::Ready(Some(Err(error))) => {
                // An error drops what waits to be written; a turn later that is on its way.
                this.broken = Some(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(match &this.under_way {
                Some(UnderWay { connection, .. }) => this.passage.passes(|| connection.answers_flow(), frame),
                None => frame,
            }))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}
