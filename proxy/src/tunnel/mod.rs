//! Bytes between a client and a server, both ways, until both have ended.
//!
//! Each direction ends by itself: the end of one side's bytes is passed on and the other direction goes on. What
//! breaks is passed on as a break, so that nobody takes half of something for the whole. It must not know routers,
//! deadlines and orders: whoever polls it does.

mod end;
mod half;

pub use end::End;

use crate::io::Instant;
use half::{Broken, Half};
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::AsyncWrite;

/// A client joined to a server.
pub struct Tunnel {
    client: End,
    server: End,
    to_server: Half,
    to_client: Half,
    moved: Instant,
}

/// Bytes that a tunnel has carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// From the client to the server.
    pub to_server: u64,
    /// From the server to the client.
    pub to_client: u64,
}

/// Why a tunnel ended before both sides had.
#[derive(Debug, thiserror::Error)]
pub enum TunnelFault {
    /// The client's connection broke.
    #[error("the client's connection broke")]
    Client(#[source] io::Error),
    /// The server's connection broke.
    #[error("the server's connection broke")]
    Server(#[source] io::Error),
}

impl Tunnel {
    /// Joins the two; `preface` goes to the server before the client's bytes.
    pub fn new(client: impl Into<End>, server: impl Into<End>, preface: Vec<u8>) -> Self {
        Self {
            client: client.into(),
            server: server.into(),
            to_server: Half::with(preface),
            to_client: Half::default(),
            moved: Instant::now(),
        }
    }

    /// The same, where bytes of the server have come already: they go to the client first.
    #[must_use]
    pub fn after(mut self, early: Vec<u8>) -> Self {
        self.to_client = Half::with(early);
        self
    }

    /// Carries what has come. Ready once both directions have ended, or where one side broke. Dropping the future
    /// that polls this loses nothing; dropping the tunnel closes both sides.
    ///
    /// # Errors
    /// Whose connection broke.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TunnelFault>> {
        let before = self.progress();
        let to_server = self.to_server.poll(cx, &mut self.client, &mut self.server);
        let to_client = self.to_client.poll(cx, &mut self.server, &mut self.client);
        if self.progress() != before {
            self.moved = Instant::now();
        }
        match (to_server, to_client) {
            (Poll::Ready(Err(Broken::Reader(error))), _) => Poll::Ready(Err(TunnelFault::Client(error))),
            (_, Poll::Ready(Err(Broken::Reader(error)))) => Poll::Ready(Err(TunnelFault::Server(error))),
            // Who takes no more may have sent its last word before: that still goes to the other side.
            (Poll::Ready(Err(Broken::Writer(error))), Poll::Ready(_)) => {
                Poll::Ready(Err(TunnelFault::Server(error)))
            }
            (Poll::Ready(_), Poll::Ready(Err(Broken::Writer(error)))) => {
                Poll::Ready(Err(TunnelFault::Client(error)))
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    }

    /// When a byte moved last.
    pub fn moved(&self) -> Instant {
        self.moved
    }

    /// What it has carried so far.
    pub fn carried(&self) -> Carried {
        Carried {
            to_server: self.to_server.carried(),
            to_client: self.to_client.carried(),
        }
    }

    /// Grows with every byte that either side gave or took.
    fn progress(&self) -> u64 {
        self.to_server.progress().wrapping_add(self.to_client.progress())
    }

    /// Ends both sides in order, as far as they take it. The caller sets the deadline.
    pub async fn end(mut self) {
        poll_fn(|cx| {
            // A side that takes no end is closed all the same.
            let client = Pin::new(&mut self.client).poll_shutdown(cx);
            let server = Pin::new(&mut self.server).poll_shutdown(cx);
            if client.is_ready() && server.is_ready() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Breaks both sides off: each sees a reset, not an end.
    pub fn reset(self) {
        self.client.reset();
        self.server.reset();
    }
}
