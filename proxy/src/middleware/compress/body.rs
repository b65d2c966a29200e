//! A body that is compressed while it passes. Bounded: what goes in comes out before more is taken.

use super::encoder::Encoder;
use crate::http::call::{AnswerBody, BodyError};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

/// Encoders at the same time in the whole process; each holds about a mebibyte.
const ENCODERS_MAX: usize = 512;
/// What goes out as one piece.
const PIECE_BYTES: usize = 16 << 10;
/// What one turn takes in: other requests of the worker wait meanwhile.
const TURN_BYTES: usize = 256 << 10;

/// Counts the encoders of the process.
#[derive(Debug, Default)]
pub(super) struct Room(AtomicUsize);

/// The place of one encoder.
#[derive(Debug)]
pub(super) struct Slot(Arc<Room>);

impl Room {
    /// A place, where there is one.
    pub(super) fn slot(this: &Arc<Self>) -> Option<Slot> {
        let slot = Slot(Arc::clone(this));
        // What was added is taken back with `slot`.
        (this.0.fetch_add(1, Ordering::AcqRel) < ENCODERS_MAX).then_some(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The body.
pub(super) struct Compressing {
    body: AnswerBody,
    /// `None` once the last byte is out.
    encoder: Option<(Encoder, Slot)>,
    /// Bytes went in that may not have come out.
    unflushed: bool,
    trailers: Option<HeaderMap>,
}

type Piece = Option<Result<Frame<Bytes>, BodyError>>;

impl Compressing {
    /// `body`, compressed.
    pub(super) fn new(body: AnswerBody, encoder: Encoder, slot: Slot) -> Self {
        Self {
            body,
            encoder: Some((encoder, slot)),
            unflushed: false,
            trailers: None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Piece> {
        let mut taken = 0;
        while taken < TURN_BYTES {
            let Some((encoder, _)) = &mut self.encoder else {
                let trailers = self.trailers.take();
                return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
            };
            if encoder.ready() >= PIECE_BYTES {
                return Poll::Ready(Some(Ok(Frame::data(encoder.take()))));
            }
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return self.poll_flush(),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        taken += data.len().max(1);
                        self.unflushed = true;
                        if let Err(error) = encoder.write(&data) {
                            return Poll::Ready(Some(Err(error.into())));
                        }
                    }
                    Err(frame) => {
                        self.trailers = frame.into_trailers().ok();
                        return self.end();
                    }
                },
                Poll::Ready(None) => return self.end(),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Nothing more is there now: what was taken in goes out, so that a slow stream is not kept back.
    fn poll_flush(&mut self) -> Poll<Piece> {
        let Some((encoder, _)) = self.encoder.as_mut().filter(|_| self.unflushed) else {
            return Poll::Pending;
        };
        self.unflushed = false;
        match encoder.flush() {
            Err(error) => Poll::Ready(Some(Err(error.into()))),
            Ok(()) if encoder.ready() == 0 => Poll::Pending,
            Ok(()) => Poll::Ready(Some(Ok(Frame::data(encoder.take())))),
        }
    }

    fn end(&mut self) -> Poll<Piece> {
        let rest = self.encoder.take().map(|(encoder, _slot)| encoder.finish());
        Poll::Ready(rest.map(|rest| rest.map(Frame::data).map_err(BodyError::from)))
    }
}

impl Body for Compressing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Piece> {
        self.poll(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.encoder.is_none() && self.trailers.is_none()
    }
}
