//! One request and its answer, over a kept connection where there is one.
//!
//! A kept connection may have been closed by the server a moment ago. A request that was not sent is sent
//! on another; one that was is sent again only where repeating it is safe (RFC 9110 section 9.2.2). Its body is
//! remembered for that; where the body is too long for it, the request goes over a connection that is made for it, so
//! that no client learns of a connection that went stale.

use super::{
    Behalf, Notice, Pool, Server, UpstreamBody, UpstreamFault,
    body::Http1Body,
    http2,
    pool::{Http1, Ready, Shelf},
    sealing::seal,
    silence::{TooLong, silence},
};
use crate::{
    http::{
        again::{once_more, take},
        body::{BodyFault, RequestBody},
        interim,
        upload::Upload,
    },
    io::{self, Instant, Sleep},
    telemetry::{Count, Counters},
    tls::{Asked, alert_on_certificate},
};
use http_body::Body;
use hyper::{
    Request, Response, StatusCode, Uri, Version,
    body::Incoming,
    header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderValue, TE, TRANSFER_ENCODING},
};
use std::{
    error::Error,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

/// How much of a request body is remembered until its answer begins.
const REMEMBERED_MAX: usize = 64 << 10;

/// No answer, and the request again where it may be sent to another server: none has seen it, or seeing it twice does
/// no harm (RFC 9110 section 9.2.2) and it has no body that is spent.
pub struct Unanswered {
    /// Why.
    pub fault: UpstreamFault,
    /// In origin form.
    pub request: Option<Request<RequestBody>>,
}

impl From<UpstreamFault> for Unanswered {
    fn from(fault: UpstreamFault) -> Self {
        Self { fault, request: None }
    }
}

/// An exchange that failed.
pub(super) struct Failed {
    pub(super) fault: UpstreamFault,
    /// The request, where it was not sent.
    pub(super) unsent: Option<Request<RequestBody>>,
}

impl Failed {
    /// The request to send again, where that is safe: `spare` is a copy of one that may be repeated. Who waited for a
    /// server that says nothing has waited for long enough.
    fn unanswered(self, spare: Option<Request<RequestBody>>) -> Unanswered {
        let Self { fault, unsent } = self;
        let silent = matches!(fault, UpstreamFault::Silent);
        let clients = matches!(
            fault,
            UpstreamFault::Body(_) | UpstreamFault::BodyTimeout | UpstreamFault::BodyTooLarge
        );
        let spare = spare.filter(|spare| !clients && spare.body().is_whole());
        Unanswered {
            request: unsent.or(spare).filter(|_| !silent),
            fault,
        }
    }
}

impl Pool {
    /// Sends `request` to `server` and returns its answer as soon as the header is there.
    ///
    /// # Errors
    /// What stood in the way.
    pub async fn send(
        &self,
        server: &Arc<Server>,
        mut request: Request<RequestBody>,
        counters: &Counters,
        behalf: Behalf<'_>,
    ) -> Result<Response<UpstreamBody>, Unanswered> {
        let shelf = behalf.shelf(server, self);
        let lasting = !request.method().is_idempotent() || is_rememberable(request.body());
        let next = || {
            if lasting {
                shelf.take(server)
            } else {
                shelf.take_shared(server)
            }
        };
        while let Some(kept) = next() {
            let stays = matches!(kept, Ready::Http2(_));
            let spare = match kept {
                Ready::Http1(_) => copy(&mut request),
                Ready::Http2(_) => copy_of_any(&mut request),
            };
            let outcome = exchange(server, shelf, kept, &mut request, behalf).await;
            let (again, repeated) = match (outcome, spare) {
                (Ok(response), Some(spare)) if !stays && says_stale(&response) => (spare, true),
                (Ok(response), _) => {
                    counters.add(Count::UpstreamReused);
                    return Ok(response);
                }
                (Err(failed), spare) => {
                    let repeated = failed.unsent.is_none();
                    let unanswered = failed.unanswered(spare);
                    (unanswered.request.ok_or(unanswered.fault)?, repeated)
                }
            };
            request = again;
            counters.add(Count::UpstreamStale);
            // A server that refuses every request would otherwise get it without end: what it may have seen
            // goes out once more, and a connection that stays in the pool is not tried twice.
            if repeated || stays {
                break;
            }
        }
        if !lasting && shelf.give_up(server) {
            counters.add(Count::UpstreamFresh);
        }
        // Boxed: connecting is rare, and every request would carry the room for it.
        Box::pin(self.send_fresh(server, request, counters, behalf)).await
    }

    /// Over a connection that is made for it.
    async fn send_fresh(
        &self,
        server: &Arc<Server>,
        mut request: Request<RequestBody>,
        counters: &Counters,
        behalf: Behalf<'_>,
    ) -> Result<Response<UpstreamBody>, Unanswered> {
        let shelf = behalf.shelf(server, self);
        let fresh = match self.connector.connect(server, behalf).await {
            Ok(fresh) => fresh,
            Err(fault) => {
                for_http1(&mut request);
                return Err(Unanswered {
                    fault,
                    request: Some(request),
                });
            }
        };
        counters.add(Count::UpstreamOpened);
        if let Ready::Http2(sender) = &fresh.ready {
            shelf.share(server, sender);
        }
        let spare = copy(&mut request);
        let failed = match exchange(server, shelf, fresh.ready, &mut request, behalf).await {
            Ok(response) => return Ok(response),
            Err(failed) => failed,
        };
        let mut unanswered = failed.unanswered(spare);
        if let Some(request) = &mut unanswered.request {
            for_http1(request);
        }
        unanswered.fault = our_certificate(unanswered.fault, fresh.asked.as_ref());
        Err(unanswered)
    }

    /// Whether a fault of `server` is worth a line of the log now.
    pub fn notice(&self, server: &Arc<Server>, fault: &UpstreamFault) -> Notice {
        self.notices.notice(server, fault, Instant::now())
    }
}

/// A TLS 1.3 server judges our certificate when we think that the handshake is over.
pub(super) fn our_certificate(fault: UpstreamFault, asked: Option<&Asked>) -> UpstreamFault {
    let (UpstreamFault::Exchange(error), Some(asked)) = (&fault, asked) else {
        return fault;
    };
    alert_on_certificate(error, asked).map_or(fault, UpstreamFault::OurCertificate)
}

/// Takes the request out of its place only to hand it over: what an `async fn` is given by value, it carries
/// around in every state.
async fn exchange(
    server: &Arc<Server>,
    shelf: &Rc<Shelf>,
    ready: Ready,
    request: &mut Request<RequestBody>,
    behalf: Behalf<'_>,
) -> Result<Response<UpstreamBody>, Failed> {
    let limit = server.transport.response_header;
    let silent = |TooLong| Failed {
        fault: UpstreamFault::Silent,
        unsent: None,
    };
    let unsealed = |fault| Failed { fault, unsent: None };
    match ready {
        Ready::Http1(connection) => {
            seal(connection.sealer(), request).map_err(unsealed)?;
            for_http1(request);
            let silence = silence(request, limit);
            let (response, connection) = silence
                .bounds(over_http1(connection, request, behalf))
                .await
                .map_err(silent)??;
            let (parts, incoming) = response.into_parts();
            // RFC 9112 section 6.3: framed in two ways, what follows it is not to be trusted.
            let twice = [TRANSFER_ENCODING, CONTENT_LENGTH]
                .iter()
                .all(|name| parts.headers.contains_key(name));
            let kept = (!twice).then(|| Rc::clone(shelf));
            let body = Http1Body::new(incoming, connection, kept, Arc::clone(server));
            Ok(Response::from_parts(parts, UpstreamBody::Http1(body)))
        }
        Ready::Http2(sender) => {
            seal(sender.sealer(), request).map_err(unsealed)?;
            http2::for_http2(request, server);
            let connection = sender.mark();
            let silence = silence(request, limit);
            match silence.bounds(http2::exchange(sender, request, behalf)).await {
                Ok(answered) => Ok(answered?.map(UpstreamBody::Http2)),
                Err(too_long) => {
                    // It may be dead, and nobody would tell.
                    shelf.leave(server, &connection);
                    Err(silent(too_long))
                }
            }
        }
    }
}

/// Origin form and a `Host` field, also where HTTP/2 was tried first; and what HTTP/1.1 alone has to say.
pub(super) fn for_http1(request: &mut Request<RequestBody>) {
    *request.version_mut() = Version::HTTP_11;
    frame(request);
    let held = request.body().upload().is_some_and(|upload| upload.is_held());
    let headers = request.headers_mut();
    if headers.contains_key(TE) {
        // RFC 9110 section 10.1.4: `TE` speaks of this connection.
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    if held {
        headers.insert(EXPECT, HeaderValue::from_static("100-continue"));
    }
    let Some(authority) = request.uri().authority() else {
        return;
    };
    let host = HeaderValue::from_str(authority.as_str());
    let target = request.uri().path_and_query().cloned();
    if let (Ok(host), Some(target)) = (host, target) {
        request.headers_mut().insert(HOST, host);
        *request.uri_mut() = Uri::from(target);
    }
}

/// A body of unknown length is sent in chunks, whatever the method: the library would leave that of a GET out.
fn frame(request: &mut Request<RequestBody>) {
    let (body, headers) = (request.body(), request.headers());
    let unknown = !body.is_end_stream() && body.size_hint().exact().is_none();
    if unknown && !headers.contains_key(CONTENT_LENGTH) {
        let chunked = HeaderValue::from_static("chunked");
        request.headers_mut().insert(TRANSFER_ENCODING, chunked);
    }
}

/// How long a client that waits for `100 Continue` waits for a server that never says it (RFC 9110 section 10.1.1
/// asks for no more than patience).
const CONTINUE_PATIENCE: Duration = Duration::from_secs(1);

/// Drives the connection and waits for the answer in one task.
async fn over_http1(
    mut kept: Http1,
    request: &mut Request<RequestBody>,
    behalf: Behalf<'_>,
) -> Result<(Response<Incoming>, Http1), Failed> {
    let mut hold = Hold::of(request);
    if hold.is_waiting() || behalf.takes_interim() {
        interim::wanted(request);
    }
    // A connection that the server has closed says so here, before the request is spent on it.
    poll_fn(|cx| {
        kept.drive(cx);
        Poll::Ready(())
    })
    .await;
    let mut answer = pin!(kept.send(take(request)));
    // Only the connection settles the answer, and it is driven first: a waker of the answer's own would wake
    // this task for what it already knows.
    let mut settled_here = Context::from_waker(Waker::noop());
    let outcome = poll_fn(|cx| {
        kept.drive(cx);
        if let Some(came) = interim::take() {
            hold.release_if(came.continues);
            behalf.interim(came.others);
        }
        let settled = answer.as_mut().poll(&mut settled_here);
        if settled.is_pending() {
            hold.poll(cx);
        }
        settled
    })
    .await;
    match outcome {
        Ok(response) => Ok((response, kept)),
        Err(mut error) => {
            let unsent = error.take_message();
            Err(Failed {
                fault: fault(error.into_error()),
                unsent,
            })
        }
    }
}

/// A request body that is held until the server says `100 Continue`, or for a while.
pub(super) struct Hold(Option<(Rc<Upload>, Pin<Box<Sleep>>)>);

impl Hold {
    /// Of this request.
    pub(super) fn of(request: &Request<RequestBody>) -> Self {
        let held = request.body().upload().filter(|upload| upload.is_held());
        Self(held.map(|upload| (upload, Box::pin(io::sleep(CONTINUE_PATIENCE)))))
    }

    fn is_waiting(&self) -> bool {
        self.0.is_some()
    }

    /// Lets it come, where the server says so.
    pub(super) fn release_if(&mut self, continues: bool) {
        if continues && let Some((upload, _)) = self.0.take() {
            upload.release();
        }
    }

    /// Lets it come, where the server has said nothing for too long.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        let over = self
            .0
            .as_mut()
            .is_some_and(|(_, sleep)| sleep.as_mut().poll(cx).is_ready());
        self.release_if(over);
    }
}

/// Tells the client's faults from the server's.
fn fault(error: hyper::Error) -> UpstreamFault {
    match error.source().and_then(|cause| cause.downcast_ref::<BodyFault>()) {
        Some(BodyFault::Timeout) => UpstreamFault::BodyTimeout,
        Some(BodyFault::TooLarge) => UpstreamFault::BodyTooLarge,
        Some(BodyFault::Client(_)) => UpstreamFault::Body(error.into()),
        Some(BodyFault::TakenBack) | None => error.into(),
    }
}

/// What it means for an exchange that its request body has ended early.
pub(super) fn body_fault(fault: BodyFault) -> UpstreamFault {
    match fault {
        BodyFault::Timeout => UpstreamFault::BodyTimeout,
        BodyFault::TooLarge => UpstreamFault::BodyTooLarge,
        BodyFault::Client(_) | BodyFault::TakenBack => UpstreamFault::Body(fault.into()),
    }
}

/// A second copy of a request that may be sent twice.
fn copy(request: &mut Request<RequestBody>) -> Option<Request<RequestBody>> {
    let safe = request.method().is_idempotent() && is_rememberable(request.body());
    safe.then(|| once_more(request, REMEMBERED_MAX))
}

/// The same of a request that shares its connection, whatever its body is: a server that closes such a connection says
/// which streams it has not seen, and that is known before much of a body has passed.
fn copy_of_any(request: &mut Request<RequestBody>) -> Option<Request<RequestBody>> {
    let safe = request.method().is_idempotent();
    safe.then(|| once_more(request, REMEMBERED_MAX))
}

/// Whether a body is known to be so short that all of it can be remembered.
fn is_rememberable(body: &RequestBody) -> bool {
    let longest = body.size_hint().upper();
    let short = longest.is_some_and(|longest| longest <= REMEMBERED_MAX as u64);
    matches!(body, RequestBody::Whole(_)) || (short && body.is_whole())
}

/// Whether a server says that it waited on this connection for too long, which some say of an idle one (RFC 9110 section
/// 15.5.9) and which may cross a request.
fn says_stale<B>(response: &Response<B>) -> bool {
    let closes = || {
        response
            .headers()
            .get(CONNECTION)
            .is_some_and(|said| said == "close")
    };
    response.status() == StatusCode::REQUEST_TIMEOUT && closes()
}
