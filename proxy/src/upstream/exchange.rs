//! One request and its answer, over a kept connection where there is one.
//!
//! A kept connection may have been closed by the server a moment ago. A request that was not sent is sent
//! on another; one that was is sent again only where repeating it is safe (RFC 9110 section 9.2.2) and no
//! byte of a body is lost.

use super::{
    Behalf, Notice, Pool, Server, UpstreamBody, UpstreamFault,
    body::Http1Body,
    pool::{Http1, Ready, Sender2, Shelf},
};
use crate::{
    http::body::{BodyFault, RequestBody},
    io::{self, Instant},
    telemetry::{Count, Counters},
    tls::{Asked, alert_on_certificate},
};
use http::uri::{self, Authority, Scheme};
use hyper::{
    Request, Response, Uri, Version,
    body::Incoming,
    header::{HOST, HeaderValue},
};
use sallyport_config::model::Scheme as ServerScheme;
use std::{
    error::Error,
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

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
struct Failed {
    fault: UpstreamFault,
    /// The request, where it was not sent.
    unsent: Option<Request<RequestBody>>,
}

impl Failed {
    /// The request to send again, where that is safe.
    fn again(self, spare: Option<Request<RequestBody>>) -> Result<Request<RequestBody>, UpstreamFault> {
        match self {
            Self {
                fault: UpstreamFault::Silent,
                ..
            } => Err(UpstreamFault::Silent),
            Self { fault, unsent } => unsent.or(spare).ok_or(fault),
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
        while let Some(kept) = shelf.take(server) {
            let mut spare = copy(&request);
            let stays = matches!(kept, Ready::Http2(_));
            let failed = match exchange(server, shelf, kept, &mut request).await {
                Ok(response) => {
                    counters.add(Count::UpstreamReused);
                    return Ok(response);
                }
                Err(failed) => failed,
            };
            let repeated = failed.unsent.is_none();
            request = failed.again(spare.take())?;
            // A server that refuses every request would otherwise get it without end: what it may have seen
            // goes out once more, and a connection that stays in the pool is not tried twice.
            if repeated || stays {
                break;
            }
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
        let spare = copy(&request);
        let failed = match exchange(server, shelf, fresh.ready, &mut request).await {
            Ok(response) => return Ok(response),
            Err(failed) => failed,
        };
        let silent = matches!(failed.fault, UpstreamFault::Silent);
        let again = failed.unsent.or(spare).filter(|_| !silent);
        Err(Unanswered {
            fault: our_certificate(failed.fault, fresh.asked.as_ref()),
            request: again.map(|mut request| {
                for_http1(&mut request);
                request
            }),
        })
    }

    /// Whether a fault of `server` is worth a line of the log now.
    pub fn notice(&self, server: &Arc<Server>, fault: &UpstreamFault) -> Notice {
        self.notices.notice(server, fault, Instant::now())
    }
}

/// A TLS 1.3 server judges our certificate when we think that the handshake is over.
fn our_certificate(fault: UpstreamFault, asked: Option<&Asked>) -> UpstreamFault {
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
) -> Result<Response<UpstreamBody>, Failed> {
    let limit = server.transport.response_header;
    let silent = |_| Failed {
        fault: UpstreamFault::Silent,
        unsent: None,
    };
    match ready {
        Ready::Http1(connection) => {
            for_http1(request);
            let (response, connection) = io::timeout(limit, over_http1(connection, request))
                .await
                .map_err(silent)??;
            let (parts, incoming) = response.into_parts();
            let body = Http1Body::new(incoming, connection, Rc::clone(shelf), Arc::clone(server));
            Ok(Response::from_parts(parts, UpstreamBody::Http1(body)))
        }
        Ready::Http2(sender) => {
            for_http2(request, server);
            let response = io::timeout(limit, over_http2(sender, request))
                .await
                .map_err(silent)??;
            Ok(response.map(UpstreamBody::Http2))
        }
    }
}

/// Origin form and a `Host` field, also where HTTP/2 was tried first.
fn for_http1(request: &mut Request<RequestBody>) {
    *request.version_mut() = Version::HTTP_11;
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

/// Scheme and authority in the target instead of a `Host` field (RFC 9113 section 8.3.1).
fn for_http2(request: &mut Request<RequestBody>, server: &Server) {
    *request.version_mut() = Version::HTTP_2;
    let host = request.headers_mut().remove(HOST);
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

/// Drives the connection and waits for the answer in one task.
async fn over_http1(
    mut kept: Http1,
    request: &mut Request<RequestBody>,
) -> Result<(Response<Incoming>, Http1), Failed> {
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
        answer.as_mut().poll(&mut settled_here)
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

async fn over_http2(
    mut sender: Sender2,
    request: &mut Request<RequestBody>,
) -> Result<Response<Incoming>, Failed> {
    sender.try_send_request(take(request)).await.map_err(|mut error| {
        let unsent = error.take_message();
        Failed {
            fault: fault(error.into_error()),
            unsent,
        }
    })
}

/// The request; an empty one stays in its place.
fn take(request: &mut Request<RequestBody>) -> Request<RequestBody> {
    std::mem::replace(request, Request::new(RequestBody::Empty))
}

/// Tells the client's faults from the server's.
fn fault(error: hyper::Error) -> UpstreamFault {
    match error.source().and_then(|cause| cause.downcast_ref::<BodyFault>()) {
        Some(BodyFault::Timeout) => UpstreamFault::BodyTimeout,
        Some(BodyFault::TooLarge) => UpstreamFault::BodyTooLarge,
        Some(BodyFault::Client(_)) => UpstreamFault::Body(error),
        Some(BodyFault::TakenBack) | None => UpstreamFault::Exchange(error),
    }
}

/// A second copy of a request that may be sent twice.
fn copy(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let safe = request.method().is_idempotent() && matches!(request.body(), RequestBody::Empty);
    safe.then(|| {
        let mut copy = Request::new(RequestBody::Empty);
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.version_mut() = request.version();
        *copy.headers_mut() = request.headers().clone();
        copy
    })
}
