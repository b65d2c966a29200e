//! Bodies on their way out by a stream of HTTP/2.
//!
//! One piece is in hand at a time, and the next is asked for once the peer, and the library's bound for the stream, have
//! room for the first byte of it. This must not know whose body it is.

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::HeaderMap;
use http_body::Body;
use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll, ready},
};

/// A body and the stream that it goes out by.
pub struct Sending<B> {
    stream: SendStream<Bytes>,
    body: B,
    /// A piece for which there was no room yet.
    waiting: Option<Piece>,
}

struct Piece {
    data: Bytes,
    last: bool,
}

/// Why a body did not go out whole.
#[derive(Debug)]
pub enum Unsent<E> {
    /// It ended early itself.
    Body(E),
    /// The peer wants no more of it, or the connection is over.
    Peer(h2::Error),
}

impl<B: Body<Data = Bytes> + Unpin> Sending<B> {
    /// Sends `body`, of which nothing is asked for before the first poll.
    pub fn new(stream: SendStream<Bytes>, body: B) -> Self {
        Self {
            stream,
            body,
            waiting: None,
        }
    }

    /// Breaks it off because of `cause`: the peer sees the reset that is behind it, or `otherwise`.
    pub fn give_up(&mut self, cause: &(dyn Error + 'static), otherwise: Reason) {
        self.stream.send_reset(reason_of(cause).unwrap_or(otherwise));
    }

    /// Sends on; ready once the library has the end of it. Dropping this before resets the stream, unless
    /// others still hold it.
    ///
    /// # Errors
    /// Why the rest does not go out. Nothing was reset for it.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unsent<B::Error>>> {
        loop {
            if self.waiting.is_some() {
                match self.poll_room(cx) {
                    Poll::Ready(room) => room.map_err(Unsent::Peer)?,
                    Poll::Pending => return self.poll_wanted(cx),
                }
            }
            if let Some(piece) = self.waiting.take()
                && let Poll::Ready(sent) = self.send(piece)
            {
                return Poll::Ready(sent);
            }
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return self.poll_wanted(cx),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if data.is_empty() && !self.body.is_end_stream() => {}
                    Ok(data) => self.take(data),
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        return Poll::Ready(self.end(trailers));
                    }
                },
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Unsent::Body(error))),
                Poll::Ready(None) => {
                    let ended = self.stream.send_data(Bytes::new(), true);
                    return Poll::Ready(ended.map_err(Unsent::Peer));
                }
            }
        }
    }

    fn take(&mut self, data: Bytes) {
        let last = self.body.is_end_stream();
        if !data.is_empty() {
            // No more than one byte: room that is reserved is taken from other streams, and the library asks for the
            // rest once it has the piece.
            self.stream.reserve_capacity(1);
        }
        self.waiting = Some(Piece { data, last });
    }

    fn send(&mut self, Piece { data, last }: Piece) -> Poll<Result<(), Unsent<B::Error>>> {
        match self.stream.send_data(data, last) {
            Ok(()) if last => Poll::Ready(Ok(())),
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(Unsent::Peer(error))),
        }
    }

    fn end(&mut self, trailers: HeaderMap) -> Result<(), Unsent<B::Error>> {
        // What was reserved goes to other streams.
        self.stream.reserve_capacity(0);
        self.stream.send_trailers(trailers).map_err(Unsent::Peer)
    }

    /// An empty piece needs none.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        let empty = self.waiting.as_ref().is_none_or(|piece| piece.data.is_empty());
        while !empty && self.stream.capacity() == 0 {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(error)),
                // No stream that sends any more: the peer has reset it.
                None => return Poll::Ready(Err(Reason::STREAM_CLOSED.into())),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Nothing can be done now. Ready where the peer wants no more, and wakes where it comes to that.
    fn poll_wanted(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unsent<B::Error>>> {
        let reset = ready!(self.stream.poll_reset(cx));
        let error = reset.map_or_else(|error| error, h2::Error::from);
        Poll::Ready(Err(Unsent::Peer(error)))
    }
}

/// The reason of the reset that is somewhere among the causes of `error`, so that it is passed on as it came.
fn reason_of(error: &(dyn Error + 'static)) -> Option<Reason> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<h2::Error>() {
            return found.reason().filter(|_| found.is_reset());
        }
        cause = error.source();
    }
    None
}
