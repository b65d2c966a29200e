//! An answer's body that holds something until its end.

use crate::http::call::{AnswerBody, BodyError};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll},
};

struct Guarded<G> {
    body: AnswerBody,
    /// Let go of at the end, or with the body.
    held: Option<G>,
}

/// `body`, holding `held`.
pub(super) fn guarded<G: Unpin + 'static>(body: AnswerBody, held: G) -> AnswerBody {
    AnswerBody::Streamed(Box::pin(Guarded {
        body,
        held: Some(held),
    }))
}

impl<G: Unpin> Body for Guarded<G> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.held = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
