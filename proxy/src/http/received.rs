//! Bodies as they come from a peer, over either version, and why they end early.
//!
//! What is taken of a body over HTTP/2 makes room for more of it; what nobody takes stays within its stream's window.

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, header::CONTENT_LENGTH};
use http_body::{Body, Frame, SizeHint};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

/// Why a body, or the exchange that it belongs to, ended early.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// Over HTTP/1.1.
    #[error(transparent)]
    Http1(hyper::Error),
    /// Over HTTP/2.
    #[error("http2 error")]
    Http2(#[source] h2::Error),
    /// The connection broke under HTTP/2.
    #[error("connection error")]
    Io(#[source] io::Error),
}

impl From<hyper::Error> for Broken {
    fn from(error: hyper::Error) -> Self {
        Self::Http1(error)
    }
}

impl From<h2::Error> for Broken {
    fn from(error: h2::Error) -> Self {
        if !error.is_io() {
            return Self::Http2(error);
        }
        Self::Io(
            error
                .into_io()
                .unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()),
        )
    }
}

/// A body from a peer.
pub enum Incoming {
    /// None, whatever its peer sends: those bytes are somebody else's.
    Nothing,
    /// Over HTTP/1.1.
    Http1(hyper::body::Incoming),
    /// Over HTTP/2.
    Http2(Received),
}

/// A body that comes by a stream of HTTP/2.
pub struct Received {
    stream: RecvStream,
    /// Bytes that are to come, where that was said.
    left: Option<u64>,
    data: Stage,
}

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Data,
    Trailers,
    /// It is whole.
    Done,
    /// The rest never comes.
    Broken,
}

impl Received {
    /// What comes by `stream` after a header section of these fields.
    pub fn new(stream: RecvStream, headers: &HeaderMap) -> Self {
        let ended = stream.is_end_stream();
        let said = headers.get(CONTENT_LENGTH);
        // The library refuses one that is no number, and several that differ.
        let said = said.and_then(|value| value.to_str().ok()?.parse().ok());
        Self {
            left: said.or_else(|| ended.then_some(0)),
            data: if ended { Stage::Done } else { Stage::Data },
            stream,
        }
    }

    /// Whether all of it has come and been taken.
    pub fn is_whole(&self) -> bool {
        self.data != Stage::Broken && self.is_end_stream()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.data == Stage::Data {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(bytes)) => {
                    // A stream that is over needs no room.
                    let _ = self.stream.flow_control().release_capacity(bytes.len());
                    let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                    self.left = self.left.map(|left| left.saturating_sub(count));
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(self.fail(error)))),
                None => self.data = Stage::Trailers,
            }
        }
        if self.data != Stage::Trailers {
            return Poll::Ready(None);
        }
        let trailers = ready!(self.stream.poll_trailers(cx));
        self.data = Stage::Done;
        match trailers {
            Ok(trailers) => Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers)))),
            Err(error) => Poll::Ready(Some(Err(self.fail(error)))),
        }
    }

    /// Whatever a reset says, NO_ERROR too, half of a body is not the whole. After the end of one the library tells of no
    /// reset.
    fn fail(&mut self, error: h2::Error) -> Broken {
        self.data = Stage::Broken;
        error.into()
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.get_mut().poll(cx)
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.data, Stage::Done | Stage::Broken) || self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Nothing => Poll::Ready(None),
            Self::Http1(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(Broken::Http1))),
            Self::Http2(body) => body.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Nothing => SizeHint::with_exact(0),
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}
