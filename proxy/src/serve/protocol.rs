//! HTTP on a connection: which version it speaks, what it must react to besides its bytes, and how it ends. Here is
//! HTTP/1.1, by hyper's state machine under our deadlines; HTTP/2 is [`super::http2`]'s.

use super::{
    access,
    answer::ResponseBody,
    clock::Passed,
    connection::{Connection, Watched},
    http2,
    live::Order,
    request, switching,
};
use crate::{
    fault::Fault,
    io::{self, Instant, LocalTimer, Sleep, Stream, Transport, sleep_until},
    telemetry::Count,
    tls::Protocol,
};
use bytes::Bytes;
use hyper::{Request, Response, StatusCode, body::Incoming, server::conn::http1, service::Service};
use hyper_util::rt::TokioIo;
use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// hyper refuses an HTTP/1.1 buffer below this.
const HTTP1_BUFFER_MIN: usize = 8192;
/// What a closing connection still reads of an unread request, so that its answer is not cut off by a reset.
const LINGER_BYTES_MAX: usize = 256 * 1024;
/// And for how long.
pub(super) const LINGER: Duration = Duration::from_secs(2);
/// How often one whose time is over is looked at again.
const JUDGED_EVERY: Duration = Duration::from_secs(1);
/// The client's first bytes on an HTTP/2 connection (RFC 9113 section 3.4).
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Tells HTTP/2 with prior knowledge from HTTP/1.1 by the first bytes of a cleartext connection; where they do not come
/// in time, it is HTTP/1.1 whose deadline has passed. `None` where the client is gone. Cancelling loses nothing.
pub(super) async fn recognise(stream: &mut Stream, limit: Option<Duration>) -> Option<Protocol> {
    let recognised = io::timeout(limit, async {
        loop {
            let ahead = stream.peeked();
            let count = ahead.len().min(H2_PREFACE.len());
            if ahead.get(..count) != H2_PREFACE.get(..count) {
                return Some(Protocol::Http11);
            }
            if count == H2_PREFACE.len() {
                return Some(Protocol::H2);
            }
            if !stream.peek().await.is_ok_and(|came| came > 0) {
                return None;
            }
        }
    });
    recognised.await.unwrap_or(Some(Protocol::Http11))
}

/// Serves requests until the connection ends.
pub(super) async fn serve(transport: Transport, protocol: Protocol, connection: Rc<Connection>) {
    match protocol {
        Protocol::Http11 => serve_http1(transport, connection).await,
        // Boxed: a connection of HTTP/1.1 would carry the room for it.
        Protocol::H2 => Box::pin(http2::serve(transport, connection)).await,
    }
}

/// Answers the requests of one connection.
struct Requests(Rc<Connection>);

impl Service<Request<Incoming>> for Requests {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        Box::pin(request::answer(Rc::clone(&self.0), request))
    }
}

async fn serve_http1(transport: Transport, connection: Rc<Connection>) {
    let limits = connection.entry.limits;
    let io = TokioIo::new(Watched::new(transport, &connection, Protocol::Http11));
    let mut http = http1::Builder::new()
        .timer(LocalTimer)
        .header_read_timeout(None)
        .max_headers(limits.headers_max)
        .max_header_size(limits.header_bytes_max)
        .max_buf_size(limits.header_bytes_max.max(HTTP1_BUFFER_MIN))
        .serve_connection(io, Requests(Rc::clone(&connection)));
    let mut watch = Watch::new(&connection);
    let ending = poll_fn(|cx| {
        // Not `poll_without_shutdown`: it leaves behind what is not written yet.
        if let Poll::Ready(outcome) = Pin::new(&mut http).poll(cx) {
            return Poll::Ready(Ending::Http1(outcome));
        }
        match watch.poll(cx) {
            Poll::Ready(Event::Drain) => {
                Pin::new(&mut http).graceful_shutdown();
                Pin::new(&mut http).poll(cx).map(Ending::Http1)
            }
            Poll::Ready(Event::Close) => Poll::Ready(Ending::Closed),
            Poll::Ready(Event::Passed(passed)) => Poll::Ready(Ending::Passed(passed)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    let leave = report(&ending, &connection);
    let left = http.into_parts();
    let early = left.read_buf.into();
    drop(left.io);
    match (ending, connection.solo.left()) {
        (Ending::Http1(Ok(())), Some(leaving)) => {
            if let Some(transport) = connection.leftover.take() {
                switching::join(&connection, transport, early, leaving).await;
            }
        }
        _ => finish(leave, &connection).await,
    }
}

/// Takes leave of the client.
pub(super) async fn finish(leave: Leave, connection: &Connection) {
    let Some(transport) = connection.leftover.take() else {
        return;
    };
    match leave {
        Leave::Linger => linger(transport).await,
        Leave::Tell(fault) => tell(transport, fault).await,
        Leave::Drop => {}
        Leave::Reset => transport.reset(),
    }
}

/// How a connection ended.
pub(super) enum Ending {
    /// HTTP/1.1 is done with it.
    Http1(Result<(), hyper::Error>),
    /// HTTP/2 is.
    Http2(Result<(), h2::Error>),
    /// It was told to close.
    Closed,
    /// It had its time.
    Passed(Passed),
}

/// What becomes of the transport.
pub(super) enum Leave {
    /// What was said last shall arrive.
    Linger,
    /// The client of HTTP/1.1 is told why, outside the library, which has said nothing of the kind.
    Tell(Fault),
    /// It is of no use any more.
    Drop,
    /// Nobody shall take what was sent for the whole.
    Reset,
}

/// Counts and logs an ending, once.
pub(super) fn report(ending: &Ending, connection: &Connection) -> Leave {
    let counters = &connection.context.counters;
    let (peer, entry) = (connection.peer.0, connection.entry.name.as_str());
    match ending {
        Ending::Http1(Ok(())) | Ending::Http2(Ok(())) | Ending::Passed(Passed::Idle) => {
            if matches!(ending, Ending::Passed(_)) && connection.clock.worn().is_none() {
                counters.add(Count::IdleTimeout);
            }
            Leave::Linger
        }
        Ending::Passed(Passed::Write) => cut(connection, Count::WriteTimeout),
        // It is told to ask no more, and goes on.
        Ending::Passed(Passed::Age) => Leave::Linger,
        Ending::Passed(Passed::Header) => {
            counters.add(Count::RequestTimeout);
            tracing::debug!(%peer, entry, "closed: no request header in time");
            let begun = connection.clock.is_within_header();
            let status = begun.then_some(StatusCode::REQUEST_TIMEOUT);
            access::refused_request(connection, status, Count::RequestTimeout.code());
            if !begun {
                return Leave::Linger;
            }
            counters.add(Count::Requests);
            counters.add(Count::AnswersClient);
            Leave::Tell(Fault::RequestTimeout)
        }
        Ending::Closed => Leave::Linger,
        Ending::Http1(Err(_)) | Ending::Http2(Err(_)) if connection.cut.get().is_some() => {
            cut(connection, connection.cut.get().unwrap_or(Count::AnswerIdle))
        }
        Ending::Http1(Err(error)) if error.is_parse() || error.is_parse_too_large() => {
            counters.add(Count::Requests);
            counters.add(Count::AnswersClient);
            // hyper has answered by itself.
            let (status, reason) = if error.is_parse_too_large() {
                (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, Count::HeaderTooLarge)
            } else {
                (StatusCode::BAD_REQUEST, Count::BadRequest)
            };
            counters.add(reason);
            access::refused_request(connection, Some(status), reason.code());
            tracing::debug!(%peer, entry, %error, "closed: malformed request");
            Leave::Linger
        }
        Ending::Http2(Err(error)) => {
            tracing::debug!(%peer, entry, %error, "connection broke");
            Leave::Drop
        }
        Ending::Http1(Err(error)) => {
            let cause = std::error::Error::source(error)
                .map(ToString::to_string)
                .unwrap_or_default();
            tracing::debug!(%peer, entry, %error, cause, "connection broke");
            Leave::Drop
        }
    }
}

/// A connection that is ended for what its client does.
fn cut(connection: &Connection, reason: Count) -> Leave {
    connection.context.counters.add(reason);
    let (peer, entry) = (connection.peer.0, connection.entry.name.as_str());
    tracing::debug!(%peer, entry, reason = reason.code(), "closed: over a limit");
    match reason {
        // The goodbye shall arrive.
        Count::H2Resets | Count::H2ControlFrames => {
            access::refused_request(connection, None, reason.code());
            Leave::Linger
        }
        _ => Leave::Reset,
    }
}

/// What a connection must react to besides its own bytes.
pub(super) enum Event {
    /// Ask for no more.
    Drain,
    /// Close now.
    Close,
    /// A deadline.
    Passed(Passed),
}

/// Watches for orders and deadlines.
pub(super) struct Watch {
    connection: Rc<Connection>,
    sleep: Option<Pin<Box<Sleep>>>,
    draining: Order,
}

impl Watch {
    /// Of this connection.
    pub(super) fn new(connection: &Rc<Connection>) -> Self {
        Self {
            connection: Rc::clone(connection),
            sleep: None,
            draining: Order::Serve,
        }
    }

    /// Ready with what there is to react to. To be polled after the connection's bytes.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        self.connection.handle.listen(cx);
        match self.connection.handle.order() {
            Order::Close => return Poll::Ready(Event::Close),
            Order::Drain if self.draining == Order::Serve => {
                self.draining = Order::Drain;
                return Poll::Ready(Event::Drain);
            }
            Order::Serve | Order::Drain => {}
        }
        if self.connection.solo.poll_gone(cx).is_ready() {
            return Poll::Ready(Event::Close);
        }
        loop {
            if let (Some(reason), Order::Serve) = (self.connection.clock.worn(), self.draining) {
                self.draining = Order::Drain;
                self.connection.context.counters.add(reason);
                return Poll::Ready(Event::Drain);
            }
            match ready!(self.poll_deadline(cx)) {
                Some(Passed::Age) => self.connection.clock.grew_old(),
                Some(passed) => return Poll::Ready(Event::Passed(passed)),
                None => {}
            }
        }
    }

    /// The timer is armed for the earliest deadline that stood when it was, and corrected when it fires, so
    /// that a request costs no timer operation. `None`: it fired for whoever writes, to judge whether the client takes it.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Option<Passed>> {
        let Some((deadline, passed)) = self.next_deadline() else {
            return Poll::Pending;
        };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if deadline <= Instant::now() {
                return Poll::Ready(passed);
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    fn next_deadline(&self) -> Option<(Instant, Option<Passed>)> {
        let limits = &self.connection.entry.timeouts;
        let own = self.connection.clock.deadline(limits);
        let own = own.map(|(at, passed)| (at, Some(passed)));
        let taking = limits
            .body_idle
            .and_then(|idle| self.connection.taking.due(idle))
            .map(|due| (later(due), None));
        own.into_iter().chain(taking).min_by_key(|(at, _)| *at)
    }
}

/// A moment to come: this one, or where it has passed, another look in a while.
fn later(due: Instant) -> Instant {
    let now = Instant::now();
    if due > now { due } else { now + JUDGED_EVERY }
}

/// Answers a request of HTTP/1.1 that never became one, and takes leave.
async fn tell(mut transport: Transport, fault: Fault) {
    let answer = written(&fault.into_answer());
    let telling = async {
        let mut left = answer.as_slice();
        while !left.is_empty() {
            let count = poll_fn(|cx| Pin::new(&mut transport).poll_write(cx, left)).await?;
            if count == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
            left = left.get(count..).unwrap_or_default();
        }
        poll_fn(|cx| Pin::new(&mut transport).poll_flush(cx)).await
    };
    if let Ok(Ok(())) = io::timeout(Some(LINGER), telling).await {
        linger(transport).await;
    }
}

/// An answer of ours in the form of HTTP/1.1.
fn written(answer: &Response<Bytes>) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {}\r\n", answer.status()).into_bytes();
    for (name, value) in answer.headers() {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(format!("content-length: {}\r\n\r\n", answer.body().len()).as_bytes());
    text.extend_from_slice(answer.body());
    text
}

/// Ends a connection so that its last answer arrives: our side is shut down, then what the client still
/// sends is read and thrown away for a while. Closing with unread bytes would send a reset instead.
pub(super) async fn linger(mut transport: Transport) {
    let ending = async {
        poll_fn(|cx| Pin::new(&mut transport).poll_shutdown(cx)).await?;
        let mut sink = [0u8; 4096];
        let mut left = LINGER_BYTES_MAX;
        while left > 0 {
            let mut into = ReadBuf::new(&mut sink);
            poll_fn(|cx| Pin::new(&mut transport).poll_read(cx, &mut into)).await?;
            if into.filled().is_empty() {
                break;
            }
            left = left.saturating_sub(into.filled().len());
        }
        std::io::Result::Ok(())
    };
    // Whether the client waited or not, the connection is over.
    let _ = io::timeout(Some(LINGER), ending).await;
}
