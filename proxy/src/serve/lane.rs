//! One stream of an HTTP/2 connection: from its request to the last byte of its answer, or of what it is joined to.
//!
//! Its task is the request's alone, so dropping it gives up all that is under way for it, towards the client by a reset.
//! It must not know deadlines: [`super::streams`] does.

use super::{
    answer::ResponseBody,
    connection::Connection,
    forward::Way,
    request,
    switching::{self, Leaving},
};
use crate::{
    http::{
        date,
        interim::{Interim, PASSED_ON_MAX},
        received::{Incoming, Received},
        sending::{Sending, Unsent},
        stream::Http2Stream,
        upload::Upload,
    },
    tunnel::End,
    upstream::{Downstream, Own},
};
use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};
use http::{
    HeaderMap, HeaderName, Method, Request, Response,
    header::{CONNECTION, CONTENT_LENGTH, DATE, EXPECT, TE, TRANSFER_ENCODING, UPGRADE},
    response::Parts,
};
use http_body::Body;
use sallyport_config::model::sending::SendProxy;
use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// Bytes of interim answers to one request: no window of the client's holds them back.
const INTERIM_BYTES_MAX: usize = 64 * 1024;
/// Fields that HTTP/2 does not have (RFC 9113 section 8.2.2).
const NOT_OF_HTTP2: [HeaderName; 6] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    TE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// What a request came by.
#[derive(Clone, Copy)]
pub(super) enum By<'a> {
    /// A connection of HTTP/1.1, which has one at a time.
    Connection,
    /// A stream of HTTP/2.
    Stream(&'a Lane),
    /// Nobody sent it but the gateway itself.
    Nobody,
}

/// A stream whose answer has not begun.
pub(super) struct Lane {
    respond: RefCell<SendResponse<Bytes>>,
    /// Interim answers that may still be passed on, and their bytes.
    interim_left: Cell<(usize, usize)>,
    /// A body whose client waits to be asked for it.
    upload: Option<Rc<Upload>>,
    /// Whether it has been asked.
    asked: Cell<bool>,
    /// Whether it is there to be joined to something.
    connects: bool,
    /// What it leaves HTTP for.
    leaving: RefCell<Option<Leaving>>,
}

impl By<'_> {
    /// How the request's body stands, where somebody needs to know.
    pub(super) fn upload(self, connection: &Connection) -> Option<Rc<Upload>> {
        match self {
            Self::Connection => connection.solo.upload(),
            Self::Stream(lane) => lane.upload.clone(),
            Self::Nobody => None,
        }
    }

    /// Whether any success would join the client to something (RFC 9110 section 9.3.6).
    pub(super) fn connects(self) -> bool {
        matches!(self, Self::Stream(lane) if lane.connects)
    }
}

impl Downstream for Way<'_> {
    fn own(&self) -> &Own {
        &self.connection.own
    }

    fn header(&self, sending: &SendProxy) -> Vec<u8> {
        self.connection.header(sending)
    }

    fn takes_interim(&self) -> bool {
        match self.by {
            By::Connection => self.connection.solo.takes_interim(),
            By::Stream(_) => true,
            By::Nobody => false,
        }
    }

    fn interim(&self, answers: Vec<Interim>) {
        for answer in answers {
            match self.by {
                By::Connection => self.connection.solo.pass(&answer),
                By::Stream(lane) => lane.interim(answer),
                By::Nobody => {}
            }
        }
    }
}

impl Lane {
    fn new(respond: SendResponse<Bytes>, request: &Request<Incoming>, connects: bool) -> Self {
        let expects = request
            .headers()
            .get(EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        let waits = expects && !request.body().is_end_stream();
        Self {
            respond: RefCell::new(respond),
            interim_left: Cell::new((PASSED_ON_MAX, INTERIM_BYTES_MAX)),
            upload: waits.then(|| Rc::new(Upload::held())),
            asked: Cell::new(false),
            connects,
            leaving: RefCell::new(None),
        }
    }

    /// The stream is to leave HTTP once the client was told.
    pub(super) fn leave(&self, leaving: Leaving) {
        self.leaving.replace(Some(leaving));
    }

    /// Polls what its request comes to. Ready without it where the client has given the stream up.
    fn poll<F: Future>(&self, answer: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        if let Poll::Ready(answer) = answer.poll(cx) {
            return Poll::Ready(Some(answer));
        }
        if let Some(upload) = &self.upload
            && !upload.is_held()
            && !self.asked.replace(true)
        {
            self.send_early(Interim::go_on());
        }
        self.respond.borrow_mut().poll_reset(cx).map(|_| None)
    }

    /// Passes an interim answer on, unless there were too many.
    fn interim(&self, answer: Interim) {
        let (count, bytes) = self.interim_left.get();
        let left = count.checked_sub(1).zip(bytes.checked_sub(answer.size()));
        if let Some(left) = left {
            self.interim_left.set(left);
            self.send_early(answer);
        }
    }

    fn send_early(&self, answer: Interim) {
        let mut respond = self.respond.borrow_mut();
        // The library would queue it for a stream that is over, too.
        if is_over(&mut respond) {
            return;
        }
        if let Err(error) = respond.send_informational(answer.into_response()) {
            tracing::debug!(%error, "an interim answer was not passed on");
        }
    }
}

/// Answers the request of a stream, and serves the stream to its end.
pub(super) async fn carry(
    connection: Rc<Connection>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    if is_over(&mut respond) {
        // Given up before anybody looked at it: no server is to hear of it.
        return;
    }
    let Some((request, receive)) = taken(request) else {
        return respond.send_reset(Reason::PROTOCOL_ERROR);
    };
    let asks_for_none = *request.method() == Method::HEAD;
    let lane = Lane::new(respond, &request, receive.is_some());
    let answered = {
        // Boxed: a stream that only sends its answer would carry the room for it.
        let answered = request::answered(Rc::clone(&connection), request, By::Stream(&lane));
        let mut answered = Box::pin(answered);
        poll_fn(|cx| lane.poll(answered.as_mut(), cx)).await
    };
    let Some(Ok(response)) = answered else {
        return;
    };
    let respond = lane.respond.into_inner();
    match (lane.leaving.into_inner(), receive) {
        // Boxed: it is rare, and every stream would carry the room for it.
        (Some(leaving), Some(receive)) => {
            Box::pin(join(&connection, respond, response, receive, leaving)).await;
        }
        (_, receive) => {
            drop(receive);
            send(respond, response, asks_for_none).await;
        }
    }
}

/// Whether the client has given a stream up. Who waits next has itself woken for that.
fn is_over(respond: &mut SendResponse<Bytes>) -> bool {
    let mut nobody = Context::from_waker(Waker::noop());
    respond.poll_reset(&mut nobody).is_ready()
}

/// The request, and what comes by its stream where that is no body; `None` for one that has both.
fn taken(request: Request<RecvStream>) -> Option<(Request<Incoming>, Option<RecvStream>)> {
    let (head, stream) = request.into_parts();
    if head.method != Method::CONNECT {
        let body = Incoming::Http2(Received::new(stream, &head.headers));
        return Some((Request::from_parts(head, body), None));
    }
    let without = !head.headers.contains_key(CONTENT_LENGTH);
    without.then(|| (Request::from_parts(head, Incoming::Nothing), Some(stream)))
}

/// Joins a stream to what its request has opened.
async fn join(
    connection: &Connection,
    mut respond: SendResponse<Bytes>,
    response: Response<ResponseBody>,
    receive: RecvStream,
    leaving: Leaving,
) {
    let (mut head, _) = response.into_parts();
    finish(&mut head);
    match respond.send_response(Response::from_parts(head, ()), false) {
        Ok(send) => {
            let client = End::from(Http2Stream::new(send, receive));
            switching::join(connection, client, Vec::new(), leaving).await;
        }
        Err(error) => tracing::debug!(%error, "a stream ended before it was joined"),
    }
}

/// Sends an answer; of one to a HEAD no more than the header section.
async fn send(mut respond: SendResponse<Bytes>, response: Response<ResponseBody>, head_alone: bool) {
    let (mut head, body) = response.into_parts();
    finish(&mut head);
    let bodiless = body.is_end_stream();
    if let Some(length) = body.size_hint().exact().filter(|_| !bodiless) {
        let said = head.headers.entry(CONTENT_LENGTH);
        said.or_insert_with(|| length.into());
    }
    let ends = bodiless || head_alone;
    let stream = match respond.send_response(Response::from_parts(head, ()), ends) {
        Ok(stream) if !ends => stream,
        Ok(_) => return,
        Err(error) => {
            tracing::debug!(%error, "an answer cannot be sent");
            return respond.send_reset(Reason::INTERNAL_ERROR);
        }
    };
    drop(respond);
    let mut sending = Sending::new(stream, body);
    match poll_fn(|cx| sending.poll(cx)).await {
        Ok(()) => {}
        Err(Unsent::Body(fault)) => sending.give_up(&fault, Reason::INTERNAL_ERROR),
        Err(Unsent::Peer(error)) => tracing::debug!(%error, "the rest of an answer is not wanted"),
    }
}

/// What every answer needs on HTTP/2, and what none may have.
fn finish(head: &mut Parts) {
    strip(&mut head.headers);
    head.headers.entry(DATE).or_insert_with(date::now);
}

fn strip(headers: &mut HeaderMap) {
    for name in &NOT_OF_HTTP2 {
        headers.remove(name);
    }
}
