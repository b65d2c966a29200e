//! What a middleware asks of the stages behind it, without knowing them: a request goes to a service, and an answer
//! comes back.

use super::body::RequestBody;
use crate::{fault::Fault, telemetry::Count};
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use sallyport_config::model::ServiceRef;
use std::{
    error::Error,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

/// Asks services. Whoever walks the stages implements it and hands it in.
pub trait Call {
    /// Sends a request, in origin form and with the `Host` that the client asked for, to a service. Returns as soon
    /// as the header of its answer is there. Cancelling gives the request up.
    fn call<'a>(&'a self, service: &'a ServiceRef, request: Request<RequestBody>) -> Answering<'a>;

    /// The same for a request that is not the client's own, such as one that asks whether the client may pass: of its
    /// answer nothing goes to the client before the middleware says so.
    fn aside<'a>(&'a self, service: &'a ServiceRef, request: Request<RequestBody>) -> Answering<'a> {
        self.call(service, request)
    }

    /// The router whose request it is.
    fn router(&self) -> &str {
        ""
    }

    /// A middleware has verified that the request is from this user.
    fn user(&self, _: &str) {}

    /// Counts something that is no fault of this request.
    fn count(&self, _: Count) {}
}

/// An answer that is awaited, or what the client is told instead.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, Fault>> + 'a>>;

/// Why a body ended early.
pub type BodyError = Box<dyn Error + Send + Sync>;

/// The body of an answer that comes through a middleware.
pub enum AnswerBody {
    /// Made here.
    Own(Option<Bytes>),
    /// From a server, or made of what comes from one.
    Streamed(Pin<Box<dyn Body<Data = Bytes, Error = BodyError>>>),
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Own(body) => Poll::Ready(body.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streamed(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(body) => body.is_none(),
            Self::Streamed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(body) => SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64)),
            Self::Streamed(body) => body.size_hint(),
        }
    }
}
