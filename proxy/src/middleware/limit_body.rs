//! `limit_body`: a request that brings more than it may is refused, at once where it says so itself.
//!
//! Nothing is kept: a body goes on while it comes, and breaks where it grows too long.

use super::{Around, Next};
use crate::{
    fault::Fault,
    http::{body::RequestBody, call::Answering},
};
use http::Request;
use http_body::Body;
use sallyport_config::model::middleware::limit_body;

/// The compiled middleware.
#[derive(Debug)]
pub(super) struct LimitBody {
    bytes_max: u64,
}

impl LimitBody {
    /// Compiles it.
    pub(super) fn new(settings: limit_body::LimitBody) -> Self {
        Self {
            bytes_max: settings.request_bytes_max,
        }
    }
}

impl Around for LimitBody {
    fn call<'a>(&'a self, mut request: Request<RequestBody>, next: Next<'a>) -> Answering<'a> {
        Box::pin(async move {
            if request.body().size_hint().lower() > self.bytes_max {
                return Err(Fault::BodyTooLarge);
            }
            let overrun = request.body_mut().limit_to(self.bytes_max);
            let answer = next.run(request).await;
            // Over HTTP/2 a body that breaks looks like a server that does.
            match answer {
                Err(_) if overrun.is_so() => Err(Fault::BodyTooLarge),
                answer => answer,
            }
        })
    }
}
