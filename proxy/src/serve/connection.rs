//! A connection that came through the first stages: what is known of it, and its bytes on the way to HTTP.

use super::{
    announce::{self, Announced},
    clock::Clock,
    context::Context,
    frames::{Flood, Frames, Told},
    live::{Handle, Order},
    solo::Solo,
    streams::Turn,
    taking::Taking,
    uplinks,
};
use crate::{
    accept::PeerAddress,
    http::{forwarded, in_flight::Flow},
    io::{Instant, Transport},
    preamble::{ClientAddress, Preamble},
    snapshot::{Entry, Side},
    telemetry::Count,
    tls::{Facts, Protocol},
    uplink::context::Guard,
    upstream::Own,
};
use hyper::{
    StatusCode,
    header::{CONNECTION, HeaderValue},
    http::response,
};
use sallyport_config::model::sending::SendProxy;
use std::{
    cell::{Cell, OnceCell, RefCell},
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{self, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is known of a connection.
pub(super) struct Connection {
    /// The worker.
    pub context: Rc<Context>,
    /// The entry point as it was when the connection came.
    pub entry: Arc<Entry>,
    /// The socket's peer.
    pub peer: PeerAddress,
    /// The client.
    pub client: ClientAddress,
    /// How the client is known, and what a trusted PROXY header says beside it.
    pub preamble: Preamble,
    /// What the handshake proved; `None` in the clear.
    pub tls: Option<Rc<Facts>>,
    /// What judges whom its requests are from, where it is a parent's.
    pub guard: Option<Guard>,
    /// What servers are told of it.
    pub forwarded: forwarded::Facts,
    /// Its deadlines.
    pub clock: Clock,
    /// Its place in the table.
    pub handle: Rc<Handle>,
    /// This end of its socket.
    pub local: SocketAddr,
    /// What of its requests, and of their answers, is on its way.
    pub flows: Flows,
    /// Connections to servers that serve it alone.
    pub own: Own,
    /// What it is called towards servers that are told, once one was.
    pub unique_id: OnceCell<String>,
    /// Whether the client takes what it is sent.
    pub taking: Taking,
    /// What became of an answer in the turn under way.
    pub turn: Cell<Turn>,
    /// Why it, or the stream whose turn it is, is cut off.
    pub cut: Cell<Option<Count>>,
    /// Its bytes, once HTTP is done with them.
    pub leftover: RefCell<Option<Transport>>,
    /// What HTTP/1.1 has under way.
    pub solo: Solo,
}

/// Both directions of a connection, once there is anything that counts.
#[derive(Default)]
pub(super) struct Flows {
    requests: OnceCell<Flow>,
    answers: OnceCell<Flow>,
}

impl Connection {
    /// Bytes of requests that are on their way.
    pub(super) fn requests_flow(&self) -> &Flow {
        self.flows
            .requests
            .get_or_init(|| Flow::new(&self.context.in_flight))
    }

    /// Bytes of answers that are on their way.
    pub(super) fn answers_flow(&self) -> &Flow {
        self.flows
            .answers
            .get_or_init(|| Flow::new(&self.context.in_flight))
    }

    /// Whether it speaks HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.clock.protocol() == Protocol::H2
    }

    /// Whether a parent speaks on it, who has many clients of its own.
    pub(super) fn is_a_parents(&self) -> bool {
        match &*self.entry.side {
            Side::Parents(parents) => uplinks::is_proven(parents.proof, self),
            Side::Clients(_) => false,
        }
    }

    /// Says in an HTTP/1.1 answer that there will be no other.
    pub(super) fn say_last(&self, head: &mut response::Parts) {
        let last = self.clock.worn().is_some() || self.handle.order() != Order::Serve;
        if last && head.status != StatusCode::SWITCHING_PROTOCOLS && !self.is_http2() {
            head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }

    /// The PROXY header that `sending` asks for.
    pub(super) fn header(&self, sending: &SendProxy) -> Vec<u8> {
        let announced = Announced {
            preamble: &self.preamble,
            local: self.local,
            tls: self.tls.as_deref(),
            authority: self.tls.as_ref().and_then(|tls| tls.sni.as_deref()),
            alpn: self.tls.as_ref().and_then(|tls| tls.alpn).map(str::as_bytes),
            unique_id: self.unique_id.get_or_init(announce::fresh_id),
        };
        announced.header(sending)
    }
}

/// A transport that tells its connection what passes: when bytes come, whether the client takes what it is sent, and on
/// HTTP/2 which frames there are.
pub(super) struct Watched {
    /// There until this is dropped.
    transport: Option<Transport>,
    connection: Rc<Connection>,
    frames: Option<Box<Frames>>,
}

impl Watched {
    /// Watches `transport`.
    pub(super) fn new(transport: Transport, connection: &Rc<Connection>, protocol: Protocol) -> Self {
        let frames = match protocol {
            Protocol::Http11 => None,
            Protocol::H2 => Some(Box::new(Frames::new(&connection.entry.limits, Instant::now()))),
        };
        Self {
            transport: Some(transport),
            connection: Rc::clone(connection),
            frames,
        }
    }

    /// Writes the interim answers that wait. The library must not write meanwhile.
    fn poll_interim(&mut self, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        let connection = Rc::clone(&self.connection);
        let mut queue = connection.solo.queue().borrow_mut();
        while !queue.is_empty() {
            let taken = ready!(self.transport().poll_write(cx, &queue))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            drop(queue.drain(..taken));
        }
        Poll::Ready(Ok(()))
    }

    fn transport(&mut self) -> Pin<&mut Transport> {
        Pin::new(self.transport.as_mut().expect("only dropping takes it"))
    }

    /// Counts the frames that came.
    fn count_frames(&mut self, bytes: &[u8], cx: &mut task::Context<'_>) -> io::Result<()> {
        let Some(frames) = &mut self.frames else {
            return Ok(());
        };
        let Err(flood) = frames.came(bytes, Instant::now) else {
            return Ok(());
        };
        if let Some(goodbye) = frames.goodbye() {
            // Whether it arrives or not, the connection is over.
            let _ = self.transport().poll_write(cx, &goodbye);
            let _ = self.transport().poll_flush(cx);
        }
        Err(self.cut(match flood {
            Flood::Resets => Count::H2Resets,
            Flood::Control => Count::H2ControlFrames,
        }))
    }

    /// Notes what HTTP says to the client by frames of its own.
    fn note_frames(&mut self, bytes: &[u8]) {
        if let Some(frames) = &mut self.frames {
            let counters = &self.connection.context.counters;
            frames.went(bytes, |told| {
                counters.add(match told {
                    Told::StreamRefused => Count::H2Streams,
                    Told::StreamMalformed => Count::BadRequest,
                    Told::HeaderTooLarge => Count::HeaderTooLarge,
                    Told::Broken => Count::H2Protocol,
                    Told::Calm => Count::H2ControlFrames,
                });
            });
        }
    }

    fn cut(&self, reason: Count) -> io::Error {
        self.connection.cut.set(Some(reason));
        io::Error::other(reason.code())
    }

    /// Judges the client where it does not take what waits for it.
    fn judge<T>(&mut self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let connection = &self.connection;
        let (taking, timeouts) = (&connection.taking, &connection.entry.timeouts);
        let (Poll::Pending, Some(idle)) = (&written, timeouts.body_idle) else {
            taking.goes_on(Instant::now);
            return written;
        };
        let now = Instant::now();
        let taken = || self.transport.as_ref().map_or(0, Transport::taken);
        taking.waits(|| now, taken);
        let rate = connection.entry.limits.body_rate_min;
        if taking.due(idle).is_some_and(|due| due <= now) && taking.is_too_slow(now, idle, rate, taken()) {
            return Poll::Ready(Err(self.cut(Count::AnswerIdle)));
        }
        Poll::Pending
    }
}

impl Drop for Watched {
    /// HTTP is done with it; how the connection ends is not HTTP's to say.
    fn drop(&mut self) {
        self.connection.leftover.replace(self.transport.take());
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = self.transport().poll_read(cx, into);
        let came = into.filled().get(before..).unwrap_or_default();
        if !came.is_empty() {
            self.connection.clock.bytes_came();
            self.connection.solo.fed();
            self.count_frames(came, cx)?;
        } else if matches!(read, Poll::Ready(Ok(()))) && self.connection.solo.holds_end(cx) {
            return Poll::Pending;
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.poll_interim(cx)?.is_pending() {
            return self.judge(Poll::Pending);
        }
        let written = self.transport().poll_write(cx, bytes);
        self.connection.solo.wrote(&written);
        if let Poll::Ready(Ok(count)) = written {
            self.note_frames(bytes.get(..count).unwrap_or_default());
        }
        self.judge(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.poll_interim(cx)?.is_pending() {
            return self.judge(Poll::Pending);
        }
        let written = self.transport().poll_write_vectored(cx, parts);
        self.connection.solo.wrote(&written);
        if let Poll::Ready(Ok(mut count)) = written {
            for part in parts {
                let took = part.len().min(count);
                self.note_frames(part.get(..took).unwrap_or_default());
                count -= took;
            }
        }
        self.judge(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.as_ref().is_some_and(Transport::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        // The library flushes once it has nothing unwritten.
        self.connection.solo.flushed();
        if self.poll_interim(cx)?.is_pending() {
            return self.judge(Poll::Pending);
        }
        let flushed = self.transport().poll_flush(cx);
        self.judge(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        self.transport().poll_shutdown(cx)
    }
}
