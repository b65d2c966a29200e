//! HTTP/2 to a server: one connection that many requests share, with a task of its own; each request drives its stream.

use super::{
    Behalf, Seal, Server, UpstreamFault,
    exchange::{Failed, Hold, body_fault},
    pool::Ready,
    pulse::{Heard, Pulse},
};
use crate::{
    http::{
        again::take,
        body::RequestBody,
        interim::Came,
        received::{Broken, Received},
        sending::{Sending, Unsent},
    },
    io::{self, AbortHandle, Transport},
};
use bytes::Bytes;
use h2::{
    Reason,
    client::{Builder, Connection, ResponseFuture, SendRequest},
};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING},
    uri::{self, Authority, Scheme},
};
use http_body::{Body, Frame, SizeHint};
use sallyport_config::model::Scheme as ServerScheme;
use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

/// What is kept of a request body for a stream whose server does not read.
const SEND_BUFFER: usize = 64 * 1024;
/// Receive window of a stream: enough for 1 Gbit/s at 2 ms.
const WINDOW: u32 = 256 * 1024;
/// Streams of a connection at once, whatever its server takes. The window of the connection is that of so many streams:
/// clients that do not read what they asked for hold up nobody else.
const STREAMS_MAX: u16 = 100;
/// Frames of a few bytes that nobody has read yet, as the library counts them: in most of the streams at once there may
/// be as many as windows let come.
const SMALL_FRAMES: usize = 64 << 20;
/// How long an upload may go on whose answer is over.
const UPLOAD_LINGER: Duration = Duration::from_secs(10);
/// The largest header section of an answer, as over HTTP/1.1.
const HEADER_BYTES_MAX: u32 = 64 * 1024;

/// Sends requests on a connection.
#[derive(Clone)]
pub(super) struct Sender2 {
    streams: SendRequest<Bytes>,
    /// Requests under way on it.
    under_way: Rc<Cell<usize>>,
    sealer: Option<Rc<dyn Seal>>,
}

impl Sender2 {
    /// What tells a child on it whom requests are from.
    pub(super) fn sealer(&self) -> Option<&Rc<dyn Seal>> {
        self.sealer.as_ref()
    }

    /// Whether it has as many requests under way as it may have: one more would wait for another client's.
    pub(super) fn is_full(&self) -> bool {
        let room = self.streams.current_max_send_streams();
        self.under_way.get() >= room.min(usize::from(STREAMS_MAX))
    }

    /// What tells this connection from others.
    pub(super) fn mark(&self) -> Mark {
        Mark(Rc::clone(&self.under_way))
    }

    /// Whether it is this one.
    pub(super) fn is(&self, mark: &Mark) -> bool {
        Rc::ptr_eq(&self.under_way, &mark.0)
    }

    /// Whether the connection takes no more requests.
    pub(super) fn is_closed(&mut self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        matches!(self.streams.poll_ready(&mut nobody), Poll::Ready(Err(_)))
    }
}

/// A connection, for those that only compare it.
pub(super) struct Mark(Rc<Cell<usize>>);

/// One of the requests of a connection, for as long as it is under way.
struct Seat(Rc<Cell<usize>>);

impl Seat {
    fn take(under_way: &Rc<Cell<usize>>) -> Self {
        under_way.set(under_way.get() + 1);
        Self(Rc::clone(under_way))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// What a connection is opened with.
fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(usize::from(STREAMS_MAX))
        .initial_window_size(WINDOW)
        .initial_connection_window_size(u32::from(STREAMS_MAX) * WINDOW)
        .data_frame_budget(SMALL_FRAMES)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_send_buffer_size(SEND_BUFFER);
    builder
}

/// Speaks HTTP/2 on a connection. Nothing has come of the server yet.
///
/// # Errors
/// Where it takes nothing.
pub(super) async fn begin(
    transport: Transport,
) -> Result<(SendRequest<Bytes>, Connection<Transport, Bytes>), UpstreamFault> {
    Ok(builder().handshake(transport).await?)
}

/// Serves a connection until it ends, or its server is found to be gone.
async fn attend(mut connection: Connection<Heard, Bytes>, mut pulse: Pulse) -> Result<(), h2::Error> {
    poll_fn(|cx| {
        if pulse.poll(cx).is_ready() {
            tracing::debug!("http/2 connection to a server given up: it does not answer");
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut connection).poll(cx)
    })
    .await
}

/// A connection that is ready for requests.
///
/// # Errors
/// Where it takes nothing.
pub(super) async fn open(transport: Transport, sealer: Option<Rc<dyn Seal>>) -> Result<Ready, UpstreamFault> {
    let (transport, heard) = Heard::new(transport);
    let (streams, mut connection) = builder().handshake(transport).await?;
    let under_way = Rc::default();
    let pulse = Pulse::new(connection.ping_pong(), heard, Rc::clone(&under_way));
    run(attend(connection, pulse));
    Ok(Ready::Http2(Sender2 {
        streams,
        under_way,
        sealer,
    }))
}

/// Has a connection served by a task, which ends with it: when the peer ends it, or when nobody holds its sender or one
/// of its streams.
pub(super) fn run(connection: impl Future<Output = Result<(), h2::Error>> + 'static) {
    io::detach(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "http/2 connection to a server ended");
        }
    });
}

/// Scheme and authority in the target instead of a `Host` field (RFC 9113 section 8.3.1).
pub(super) fn for_http2(request: &mut Request<RequestBody>, server: &Server) {
    *request.version_mut() = Version::HTTP_2;
    let held = request.body().upload().is_some_and(|upload| upload.is_held());
    let headers = request.headers_mut();
    for name in [EXPECT, CONNECTION, TRANSFER_ENCODING] {
        headers.remove(name);
    }
    if held {
        headers.insert(EXPECT, HeaderValue::from_static("100-continue"));
    }
    let host = headers.remove(HOST);
    let named = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let scheme = if server.url.scheme == ServerScheme::Https {
        Scheme::HTTPS
    } else {
        Scheme::HTTP
    };
    let mut target = uri::Parts::default();
    target.scheme = Some(scheme);
    target.authority = Some(named.unwrap_or_else(|| server.authority.clone()));
    target.path_and_query = request.uri().path_and_query().cloned();
    if let Ok(uri) = Uri::from_parts(target) {
        *request.uri_mut() = uri;
    }
}

/// Says how long a body is, where nobody did and it means something (RFC 9110 section 8.6).
fn say_length(headers: &mut HeaderMap, method: &Method, body: &RequestBody) {
    let Some(length) = body.size_hint().exact() else {
        return;
    };
    let silent = [Method::GET, Method::HEAD, Method::DELETE, Method::CONNECT].contains(method);
    if length > 0 || !silent {
        headers
            .entry(CONTENT_LENGTH)
            .or_insert_with(|| HeaderValue::from(length));
    }
}

/// Sends a request and waits for its answer's header section. Dropping the future resets the stream.
pub(super) async fn exchange(
    sender: Sender2,
    request: &mut Request<RequestBody>,
    behalf: Behalf<'_>,
) -> Result<Response<Http2Body>, Failed> {
    let seat = Seat::take(&sender.under_way);
    let Sender2 { mut streams, .. } = sender;
    // One that takes no more says so here, before the request is spent on it.
    if let Err(error) = poll_fn(|cx| streams.poll_ready(cx)).await {
        return Err(Failed {
            fault: error.into(),
            unsent: Some(take(request)),
        });
    }
    let hold = Hold::of(request);
    let (mut head, body) = take(request).into_parts();
    say_length(&mut head.headers, &head.method, &body);
    let whole = body.is_end_stream();
    let (answer, stream) = streams
        .send_request(Request::from_parts(head, ()), whole)
        .map_err(UpstreamFault::from)?;
    let mut asking = Asking {
        opening: Some(streams),
        answer,
        upload: (!whole).then(|| Sending::new(stream, body)),
        hold,
    };
    let answer = poll_fn(|cx| asking.poll(cx, behalf)).await?;
    let uploading = asking.upload.take().map(Uploading::begin);
    let (head, stream) = answer.into_parts();
    let body = Http2Body {
        received: Received::new(stream, &head.headers),
        uploading,
        _seat: Some(seat),
    };
    Ok(Response::from_parts(head, body))
}

impl From<UpstreamFault> for Failed {
    fn from(fault: UpstreamFault) -> Self {
        Self { fault, unsent: None }
    }
}

/// A request whose answer has not begun.
struct Asking {
    /// There until the server has room for the stream.
    opening: Option<SendRequest<Bytes>>,
    answer: ResponseFuture,
    upload: Option<Sending<RequestBody>>,
    hold: Hold,
}

impl Asking {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        behalf: Behalf<'_>,
    ) -> Poll<Result<Response<h2::RecvStream>, UpstreamFault>> {
        if let Poll::Ready(answer) = self.poll_answer(cx, behalf) {
            return Poll::Ready(answer);
        }
        if let Some(streams) = &mut self.opening {
            match streams.poll_ready(cx) {
                Poll::Pending => return Poll::Pending,
                // What ails the connection comes to the stream as well.
                Poll::Ready(_) => self.opening = None,
            }
        }
        self.hold.poll(cx);
        match self.upload.as_mut().map(|upload| upload.poll(cx)) {
            None | Some(Poll::Pending) => Poll::Pending,
            Some(Poll::Ready(Err(Unsent::Body(fault)))) => {
                if let Some(mut upload) = self.upload.take() {
                    upload.give_up(&fault, Reason::CANCEL);
                }
                Poll::Ready(Err(body_fault(fault)))
            }
            // Who wants no more of it answers, or says why not.
            Some(Poll::Ready(Ok(()) | Err(Unsent::Peer(_)))) => {
                self.upload = None;
                self.poll_answer(cx, behalf)
            }
        }
    }

    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        behalf: Behalf<'_>,
    ) -> Poll<Result<Response<h2::RecvStream>, UpstreamFault>> {
        let mut came = Came::default();
        let interim = loop {
            match self.answer.poll_informational(cx) {
                Poll::Ready(Some(Ok(answer))) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
                    // RFC 9113 section 8.6: there is no such thing.
                    return Poll::Ready(Err(UpstreamFault::Switched));
                }
                Poll::Ready(Some(Ok(answer))) => came.note(answer.status(), answer.headers()),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error.into())),
                Poll::Ready(None) => break Poll::Ready(()),
                Poll::Pending => break Poll::Pending,
            }
        };
        self.hold.release_if(came.continues);
        behalf.interim(came.others);
        if interim.is_pending() {
            return Poll::Pending;
        }
        Pin::new(&mut self.answer).poll(cx).map_err(UpstreamFault::from)
    }
}

/// The rest of a request body, which goes on while its answer comes: neither may have to wait for the other. It ends by
/// itself, with its client, or when the answer is given up.
struct Uploading(AbortHandle);

impl Uploading {
    fn begin(mut upload: Sending<RequestBody>) -> Self {
        let rest = async move {
            if let Err(Unsent::Body(fault)) = poll_fn(|cx| upload.poll(cx)).await {
                upload.give_up(&fault, Reason::CANCEL);
            }
        };
        // One for each request that is under way.
        Self(io::spawn(rest).abort_handle())
    }
}

/// The body of an HTTP/2 server's answer.
pub struct Http2Body {
    received: Received,
    uploading: Option<Uploading>,
    _seat: Option<Seat>,
}

impl Http2Body {
    /// One of a stream on which nothing more is sent.
    pub(super) fn of(stream: h2::RecvStream, headers: &HeaderMap) -> Self {
        Self {
            received: Received::new(stream, headers),
            uploading: None,
            _seat: None,
        }
    }
}

impl Drop for Http2Body {
    fn drop(&mut self) {
        let Some(Uploading(rest)) = self.uploading.take() else {
            return;
        };
        if !self.received.is_whole() {
            return rest.abort();
        }
        // A server that has answered in full may still want the rest, for a while. One at most for each upload.
        io::detach(async move {
            io::sleep(UPLOAD_LINGER).await;
            rest.abort();
        });
    }
}

impl Body for Http2Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        Pin::new(&mut self.received).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.received.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.received.size_hint()
    }
}
