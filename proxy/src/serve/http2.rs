//! HTTP/2 on a connection: the library's frames and streams under our deadlines, orders and endings. Each stream has a
//! task of its own.

use super::{
    clock::Passed,
    connection::{Connection, Watched},
    lane,
    protocol::{Ending, Event, LINGER, Leave, Watch, finish, report},
    streams,
};
use crate::{
    io::{self, Sleep, Transport},
    tls::Protocol,
};
use bytes::Bytes;
use h2::server::{Builder, Connection as Serving, Handshake};
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

/// Receive window of a stream.
const WINDOW: u32 = 256 * 1024;
/// Streams of a client that may fill their windows together before they wait for one another. A parent's are of many
/// clients, none of whom is to wait for another's.
const STREAMS_OF_A_CLIENT: u32 = 4;
/// Frames of a few bytes of a parent's that nobody has read yet, as the library counts them.
const SMALL_FRAMES_OF_A_PARENT: usize = 16 << 20;
/// Errors of a parent's streams that the library answers by resets before it ends the connection.
const ERRORS_OF_A_PARENT: usize = 1 << 20;
/// The largest window (RFC 9113 section 6.9.1).
const WINDOWS_MAX: u32 = (1 << 31) - 1;
/// What is kept of an answer for a stream whose client does not read: with all streams of a connection under way, 16 MiB.
const SEND_BUFFER: usize = 64 * 1024;

/// The library's side of a connection.
struct Http {
    connection: Rc<Connection>,
    stage: Stage,
    /// Whether the client is told to ask no more.
    drains: bool,
}

enum Stage {
    /// The client's first bytes are due.
    Beginning(Handshake<Watched, Bytes>),
    Serving(Serving<Watched, Bytes>),
}

impl Http {
    fn new(transport: Transport, connection: &Rc<Connection>) -> Self {
        let limits = &connection.entry.limits;
        let io = Watched::new(transport, connection, Protocol::H2);
        let mut builder = Builder::new();
        builder
            .max_concurrent_streams(limits.h2_streams_max)
            // The library answers what is beyond this by itself, and nobody would count it.
            .max_header_list_size(
                u32::try_from(limits.header_bytes_max)
                    .unwrap_or(u32::MAX)
                    .saturating_mul(2),
            )
            // Resets are counted here, by `limits.h2_resets`.
            .max_pending_accept_reset_streams(usize::try_from(limits.h2_resets_max).unwrap_or(usize::MAX))
            .initial_window_size(WINDOW)
            .initial_connection_window_size(STREAMS_OF_A_CLIENT * WINDOW)
            // What still comes of streams that were reset is no error of the client's.
            .max_concurrent_reset_streams(remembered_resets(limits.h2_streams_max))
            .max_send_buffer_size(SEND_BUFFER)
            .enable_connect_protocol();
        if connection.is_a_parents() {
            builder
                .initial_connection_window_size(
                    limits
                        .h2_streams_max
                        .saturating_mul(WINDOW)
                        .clamp(WINDOW, WINDOWS_MAX),
                )
                .data_frame_budget(SMALL_FRAMES_OF_A_PARENT)
                .max_local_error_reset_streams(Some(ERRORS_OF_A_PARENT));
        }
        let beginning = builder.handshake(io);
        Self {
            connection: Rc::clone(connection),
            stage: Stage::Beginning(beginning),
            drains: false,
        }
    }

    /// Reads and writes, and begins a task for each request that comes. Ready when the connection is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            match &mut self.stage {
                Stage::Beginning(beginning) => {
                    let mut serving = ready!(Pin::new(beginning).poll(cx))?;
                    if self.drains {
                        serving.graceful_shutdown();
                    }
                    self.stage = Stage::Serving(serving);
                }
                Stage::Serving(serving) => match ready!(serving.poll_accept(cx)) {
                    None => return Poll::Ready(Ok(())),
                    Some(accepted) => {
                        let (request, respond) = accepted?;
                        let stream = lane::carry(Rc::clone(&self.connection), request, respond);
                        streams::begin(&self.connection, stream);
                    }
                },
            }
        }
    }

    /// Tells the client to ask no more, and goes on with what is under way.
    fn drain(&mut self) {
        self.drains = true;
        if let Stage::Serving(serving) = &mut self.stage {
            serving.graceful_shutdown();
        }
    }
}

/// Serves requests until the connection ends.
pub(super) async fn serve(transport: Transport, connection: Rc<Connection>) {
    let mut http = Http::new(transport, &connection);
    let mut watch = Watch::new(&connection);
    let mut farewell: Option<Pin<Box<Sleep>>> = None;
    let ending = poll_fn(|cx| {
        if let Poll::Ready(outcome) = http.poll(cx) {
            return Poll::Ready(Ending::Http2(outcome));
        }
        match watch.poll(cx) {
            Poll::Ready(Event::Drain) => {
                http.drain();
                http.poll(cx).map(Ending::Http2)
            }
            Poll::Pending if is_overdrawn(&connection) => Poll::Ready(Ending::Closed),
            Poll::Ready(Event::Passed(Passed::Idle)) => {
                // A polite goodbye waits for the client's word, and a client may never give it.
                http.drain();
                let patience = farewell.get_or_insert_with(|| Box::pin(io::sleep(LINGER)));
                if patience.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Ending::Passed(Passed::Idle));
                }
                http.poll(cx).map(Ending::Http2)
            }
            Poll::Ready(Event::Close) => Poll::Ready(Ending::Closed),
            Poll::Ready(Event::Passed(passed)) => Poll::Ready(Ending::Passed(passed)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    let leave = match report(&ending, &connection) {
        // It was told why, by GOAWAY.
        Leave::Drop => Leave::Linger,
        leave => leave,
    };
    drop(http);
    finish(leave, &connection).await;
}

/// Streams that were reset and are remembered for a second: some generations of them.
fn remembered_resets(streams: u32) -> usize {
    usize::try_from(streams.saturating_mul(4)).unwrap_or(usize::MAX)
}

/// Whether a client that was told to ask no more goes on asking: what was on its way is as many streams as it may have.
fn is_overdrawn(connection: &Connection) -> bool {
    connection.clock.requests_when_worn() > connection.entry.limits.h2_streams_max
}
