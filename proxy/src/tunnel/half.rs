//! One direction of a tunnel: bytes from a reader to a writer, with no more in hand than one reading.
//!
//! A quiet direction holds no memory: it reads into its worker's own buffer and keeps only what the writer did not
//! take.

use super::End;
use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is read at once, and so what a direction may have in hand.
const READ_BYTES: usize = 64 * 1024;
/// How often a direction reads before others get their turn.
const READS_MAX: usize = 16;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Half {
    /// Read and not yet taken by the writer, from `pending_at` on.
    pending: Vec<u8>,
    pending_at: usize,
    carried: u64,
    taken: u64,
    stage: Stage,
    /// Why the writer takes no more. It is told again whenever somebody asks.
    refused: Option<io::ErrorKind>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Open,
    /// The reader has ended; the writer is to be told.
    Ending,
    Done,
}

/// Which side broke.
#[derive(Debug)]
pub(super) enum Broken {
    Reader(io::Error),
    Writer(io::Error),
}

/// What one reading came to.
enum Read {
    Bytes,
    End,
}

impl Half {
    /// A direction that begins with these bytes, which it does not count.
    pub(super) fn with(pending: Vec<u8>) -> Self {
        Self {
            pending,
            ..Self::default()
        }
    }

    /// Bytes read so far.
    pub(super) fn carried(&self) -> u64 {
        self.carried
    }

    /// Grows with every byte that was read or written.
    pub(super) fn progress(&self) -> u64 {
        self.carried.wrapping_add(self.taken)
    }

    /// Carries on; ready when this direction has ended, again and again.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut End,
        writer: &mut End,
    ) -> Poll<Result<(), Broken>> {
        if let Some(kind) = self.refused {
            return Poll::Ready(Err(Broken::Writer(kind.into())));
        }
        let carried = self.carry(cx, reader, writer);
        if let Poll::Ready(Err(Broken::Writer(error))) = &carried {
            self.refused = Some(error.kind());
            self.pending = Vec::new();
        }
        carried
    }

    fn carry(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut End,
        writer: &mut End,
    ) -> Poll<Result<(), Broken>> {
        for _ in 0..READS_MAX {
            ready!(self.poll_pending(cx, writer))?;
            match self.stage {
                Stage::Done => return Poll::Ready(Ok(())),
                Stage::Ending => {
                    ready!(Pin::new(&mut *writer).poll_shutdown(cx)).map_err(Broken::Writer)?;
                    self.stage = Stage::Done;
                    return Poll::Ready(Ok(()));
                }
                Stage::Open => {}
            }
            match self.poll_read(cx, reader, writer)? {
                Poll::Ready(Read::Bytes) => {}
                Poll::Ready(Read::End) => self.stage = Stage::Ending,
                Poll::Pending => {
                    // Nothing more for now: what was written goes out.
                    let _ = Pin::new(writer).poll_flush(cx).map_err(Broken::Writer)?;
                    return Poll::Pending;
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ready once the writer has taken everything in hand.
    fn poll_pending(&mut self, cx: &mut Context<'_>, writer: &mut End) -> Poll<Result<(), Broken>> {
        while let Some(rest) = self
            .pending
            .get(self.pending_at..)
            .filter(|rest| !rest.is_empty())
        {
            match ready!(Pin::new(&mut *writer).poll_write(cx, rest)).map_err(Broken::Writer)? {
                0 => return Poll::Ready(Err(Broken::Writer(io::ErrorKind::WriteZero.into()))),
                taken => {
                    self.pending_at += taken;
                    self.taken += u64::try_from(taken).unwrap_or(0);
                }
            }
        }
        self.pending = Vec::new();
        self.pending_at = 0;
        Poll::Ready(Ok(()))
    }

    /// Reads once and hands on what the writer takes at once; the rest stays in hand.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut End,
        writer: &mut End,
    ) -> Result<Poll<Read>, Broken> {
        BUFFER.with_borrow_mut(|buffer| {
            let mut into = ReadBuf::new(buffer);
            match Pin::new(reader).poll_read(cx, &mut into) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(read) => read.map_err(Broken::Reader)?,
            }
            let came = into.filled();
            if came.is_empty() {
                return Ok(Poll::Ready(Read::End));
            }
            self.carried += u64::try_from(came.len()).unwrap_or(u64::MAX);
            let taken = match Pin::new(writer).poll_write(cx, came) {
                Poll::Ready(taken) => taken.map_err(Broken::Writer)?,
                Poll::Pending => 0,
            };
            self.pending
                .extend_from_slice(came.get(taken..).unwrap_or_default());
            Ok(Poll::Ready(Read::Bytes))
        })
    }
}
