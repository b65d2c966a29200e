//! Response bodies on their way from a server to a client.

use super::{
    Server,
    http2::Http2Body,
    pool::{Http1, Shelf},
};
use crate::{balance::Lease, http::received::Broken};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

/// The body of a server's answer.
pub enum UpstreamBody {
    /// None: what follows is no HTTP.
    Empty,
    /// Over HTTP/1.1: drives its connection, and gives it back at the end.
    Http1(Http1Body),
    /// Over HTTP/2: the connection has a task of its own.
    Http2(Http2Body),
    /// One of the two, with something that ends with it.
    Held(Box<Held>),
}

/// A body and what is held for as long as it lives.
pub struct Held {
    body: UpstreamBody,
    _until_the_end: Lease,
}

impl UpstreamBody {
    /// The same, and `lease` ends with it.
    pub fn holding(self, lease: Lease) -> Self {
        Self::Held(Box::new(Held {
            body: self,
            _until_the_end: lease,
        }))
    }
}

/// A body over HTTP/1.1.
pub struct Http1Body {
    incoming: Incoming,
    connection: Option<Http1>,
    /// Where the connection is kept afterwards, where it may be.
    shelf: Option<Rc<Shelf>>,
    server: Arc<Server>,
}

impl Http1Body {
    pub(super) fn new(
        incoming: Incoming,
        connection: Http1,
        shelf: Option<Rc<Shelf>>,
        server: Arc<Server>,
    ) -> Self {
        Self {
            incoming,
            connection: Some(connection),
            shelf,
            server,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut frame = self.poll_incoming(cx);
        if frame.is_pending()
            && let Some(connection) = &mut self.connection
        {
            connection.drive(cx);
            frame = self.poll_incoming(cx);
        }
        match &frame {
            Poll::Ready(Some(Ok(_))) if !self.incoming.is_end_stream() => {}
            Poll::Ready(Some(Err(_))) => self.connection = None,
            Poll::Ready(_) => self.give_back(cx),
            Poll::Pending => {}
        }
        frame
    }

    /// Takes a frame that is there. Only driving the connection brings more, and the caller drives it next.
    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let incoming = Pin::new(&mut self.incoming);
        match &self.connection {
            Some(connection) => {
                connection.muted(|| incoming.poll_frame(&mut Context::from_waker(Waker::noop())))
            }
            None => incoming.poll_frame(cx),
        }
    }

    /// Keeps the connection where both directions are done with this exchange; else it closes.
    fn give_back(&mut self, cx: &Context<'_>) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        connection.drive(cx);
        if let Some(shelf) = self.shelf.as_ref().filter(|_| connection.is_reusable()) {
            shelf.keep(&self.server, connection);
        }
    }
}

impl Drop for Http1Body {
    /// An answer without a body is over before anybody asks for a frame of it.
    fn drop(&mut self) {
        if self.connection.is_some() && self.incoming.is_end_stream() {
            self.give_back(&Context::from_waker(Waker::noop()));
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Http1(body) => body
                .poll(cx)
                .map(|frame| frame.map(|frame| frame.map_err(Broken::Http1))),
            Self::Http2(body) => Pin::new(body).poll_frame(cx),
            Self::Held(held) => Pin::new(&mut held.body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Http1(body) => body.incoming.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
            Self::Held(held) => held.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Http1(body) => body.incoming.size_hint(),
            Self::Http2(body) => body.size_hint(),
            Self::Held(held) => held.body.size_hint(),
        }
    }
}
