//! `compress`: answers in fewer bytes, for clients that accept it.
//!
//! What a client gets is what the server sent, piece by piece: whenever nothing more is there, what was compressed so far goes
//! out. Never touched are gRPC, what is compressed already, parts of a whole, and what says `no-transform`.

mod body;
mod eligible;
mod encoder;
mod negotiate;

pub use negotiate::accepts_gzip;

use super::{Around, Making, Next};
use crate::{
    fault::Fault,
    http::{
        body::RequestBody,
        call::{AnswerBody, Answering},
    },
};
use body::{Compressing, Room, Slot};
use eligible::Eligible;
use encoder::Encoder;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response,
    header::{ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, ETAG, VARY},
};
use negotiate::Offer;
use sallyport_config::model::middleware::compress::{self, Encoding};
use std::sync::Arc;

/// The compiled middleware.
#[derive(Debug)]
pub(super) struct Compress {
    offer: Offer,
    eligible: Eligible,
    room: Arc<Room>,
}

impl Compress {
    /// Compiles it.
    pub(super) fn new(settings: &compress::Compress, making: Making<'_>) -> Self {
        Self {
            offer: Offer::new(settings),
            eligible: Eligible::new(settings),
            // No middleware is called so: all share one.
            room: making.kept.state("", |_: &Room| true, Room::default),
        }
    }

    async fn run(
        &self,
        request: Request<RequestBody>,
        next: Next<'_>,
    ) -> Result<Response<AnswerBody>, Fault> {
        let wanted = self.offer.choose(request.headers());
        let may = eligible::request_may(request.method(), request.headers());
        let head_alone = request.method() == Method::HEAD;
        let mut answer = next.run(request).await?;
        if !may || !self.eligible.answer_may(&answer) {
            return Ok(answer);
        }
        vary(answer.headers_mut());
        // A header alone tells of the body as it is: what is not sent is not compressed.
        let Some(encoding) = wanted.filter(|_| !head_alone) else {
            return Ok(answer);
        };
        let made = Room::slot(&self.room).and_then(|slot| Some((slot, Encoder::new(encoding)?)));
        Ok(match made {
            Some((slot, encoder)) => compressed(answer, encoding, encoder, slot),
            // Too many at once: what is not compressed is still right.
            None => answer,
        })
    }
}

impl Around for Compress {
    fn call<'a>(&'a self, request: Request<RequestBody>, next: Next<'a>) -> Answering<'a> {
        Box::pin(self.run(request, next))
    }
}

fn compressed(
    mut answer: Response<AnswerBody>,
    encoding: Encoding,
    encoder: Encoder,
    slot: Slot,
) -> Response<AnswerBody> {
    let headers = answer.headers_mut();
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.word()));
    headers.remove(CONTENT_LENGTH);
    // Ranges would be of the bytes before.
    headers.remove(ACCEPT_RANGES);
    weaken(headers);
    answer.map(|body| AnswerBody::Streamed(Box::pin(Compressing::new(body, encoder, slot))))
}

/// Says that answers to other clients may differ (RFC 9110 section 12.5.5).
fn vary(headers: &mut HeaderMap) {
    let said = headers
        .get_all(VARY)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut names = said.flat_map(|list| list.split(',')).map(str::trim);
    if !names.any(|name| name == "*" || name.eq_ignore_ascii_case(ACCEPT_ENCODING.as_str())) {
        headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

/// The bytes are others than those that a strong tag stands for (RFC 9110 section 8.8.1).
fn weaken(headers: &mut HeaderMap) {
    let strong = headers.get(ETAG).filter(|tag| tag.as_bytes().starts_with(b"\""));
    let Some(tag) = strong else { return };
    match HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()) {
        Ok(weak) => drop(headers.insert(ETAG, weak)),
        Err(_) => drop(headers.remove(ETAG)),
    }
}

#[cfg(test)]
mod tests;
