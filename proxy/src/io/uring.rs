//! A TCP socket on the ring: one receive and one send in flight at most, each owning its buffer and a
//! share of the descriptor until the kernel is done with it.
//!
//! A write is complete for the caller once its bytes are copied; the send is queued in the same turn and
//! awaited only past [`WRITE_HIGH_WATER`], so that the answer's send and the next receive enter the kernel
//! together. Dropping the socket never loses bytes that were accepted: a send in flight gets
//! [`LAST_SEND_GRACE`], then the socket is shut down, which completes whatever the kernel still holds.

#![allow(
    unsafe_code,
    reason = "the kernel reads and writes buffers that operations own"
)]

use super::buffer::{self, LARGE, SMALL};
use io_uring::{cqueue, opcode, squeue, types};
use nix::sys::socket::{Shutdown, shutdown};
use socket2::SockRef;
use std::{
    future::Future,
    io::{self, IoSlice},
    os::fd::{AsRawFd, OwnedFd},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};
use tokio::io::ReadBuf;
use tokio_uring::{InFlightOneshot, OneshotOutputTransform, UnsubmittedOneshot};

/// Bytes accepted and not yet sent, beyond which a writer waits.
pub(super) const WRITE_HIGH_WATER: usize = 128 * 1024;
/// How long a send that outlives its socket may take.
const LAST_SEND_GRACE: Duration = Duration::from_secs(5);

/// A buffer and the descriptor that an operation holds.
struct Held {
    buffer: Vec<u8>,
    _fd: Rc<OwnedFd>,
}

struct Complete;

impl OneshotOutputTransform for Complete {
    type Output = (i32, Held);
    type StoredData = Held;

    fn transform_oneshot_output(self, held: Held, cqe: cqueue::Entry) -> (i32, Held) {
        (cqe.result(), held)
    }
}

type InFlight = InFlightOneshot<Held, Complete>;

/// The sending half: what was accepted and is not with the kernel yet.
struct Outgoing {
    fd: Rc<OwnedFd>,
    send: Option<InFlight>,
    send_at: usize,
    queued: Vec<u8>,
    failed: Option<i32>,
    /// The writer that waits, where the reader drives the send in flight instead of it.
    writer: Option<Waker>,
}

impl Outgoing {
    fn accept(&mut self, parts: &[IoSlice<'_>]) -> usize {
        let room = WRITE_HIGH_WATER.saturating_sub(self.queued.len()).max(1);
        if self.queued.capacity() == 0 {
            let total: usize = parts.iter().map(|part| part.len()).sum();
            self.queued = buffer::take(if total > SMALL { LARGE } else { SMALL });
        }
        let mut accepted = 0;
        for part in parts {
            let count = part.len().min(room - accepted);
            self.queued
                .extend_from_slice(part.get(..count).unwrap_or_default());
            accepted += count;
            if accepted == room {
                break;
            }
        }
        accepted
    }

    /// Drives the send in flight; ready when it ended (the next one, if any, is then in flight).
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(send) = self.send.as_mut() else {
            self.start();
            return Poll::Ready(Ok(()));
        };
        let (result, held) = ready!(Pin::new(send).poll(cx));
        self.send = None;
        match usize::try_from(result) {
            Ok(count) if self.send_at + count < held.buffer.len() => {
                self.send_at += count;
                self.submit(held.buffer);
            }
            Ok(_) => {
                buffer::give(held.buffer);
                self.start();
            }
            Err(_) => {
                self.failed = Some(-result);
                self.queued = Vec::new();
            }
        }
        Poll::Ready(self.state())
    }

    /// [`Outgoing::poll_step`] for a writer, which is woken also when a reader drove the step.
    fn poll_writer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let step = self.poll_step(cx);
        if step.is_pending() {
            self.writer = Some(cx.waker().clone());
        }
        step
    }

    /// Lets bytes that wait behind a send go while nobody but a reader looks.
    fn step_for_reader(&mut self, cx: &mut Context<'_>) {
        let send_ended = !self.queued.is_empty() && self.poll_step(cx).is_ready();
        if let Some(writer) = self.writer.take_if(|_| send_ended) {
            writer.wake();
        }
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.send.is_some() {
            ready!(self.poll_writer(cx)?);
        }
        Poll::Ready(self.state())
    }

    fn state(&self) -> io::Result<()> {
        self.failed
            .map_or(Ok(()), |code| Err(io::Error::from_raw_os_error(code)))
    }

    fn start(&mut self) {
        if self.send.is_none() && !self.queued.is_empty() {
            self.send_at = 0;
            let buffer = std::mem::take(&mut self.queued);
            self.submit(buffer);
        }
    }

    fn submit(&mut self, buffer: Vec<u8>) {
        let rest = buffer.get(self.send_at..).unwrap_or_default();
        let count = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(types::Fd(self.fd.as_raw_fd()), rest.as_ptr(), count)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build();
        self.send = Some(submit(&self.fd, buffer, entry));
    }
}

/// The socket.
pub(super) struct Socket {
    fd: Rc<OwnedFd>,
    receive: Option<InFlight>,
    received: Vec<u8>,
    received_at: usize,
    receive_size: usize,
    outgoing: Outgoing,
}

impl Socket {
    /// Takes over a connected socket in blocking mode: on a non-blocking one the ring would answer EAGAIN
    /// instead of waiting.
    pub(super) fn new(fd: OwnedFd) -> Self {
        let fd = Rc::new(fd);
        Self {
            outgoing: Outgoing {
                fd: Rc::clone(&fd),
                send: None,
                send_at: 0,
                queued: Vec::new(),
                failed: None,
                writer: None,
            },
            fd,
            receive: None,
            received: Vec::new(),
            received_at: 0,
            receive_size: SMALL,
        }
    }

    /// The descriptor, for calls that are no operations of the ring.
    pub(super) fn descriptor(&self) -> SockRef<'_> {
        SockRef::from(&*self.fd)
    }

    /// Reads what has come into `into`; nothing filled is the end of the stream. Cancelling keeps the
    /// receive in flight, and the next call gets its bytes.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.outgoing.step_for_reader(cx);
        if self.received_at == self.received.len() {
            let receive = match self.receive.as_mut() {
                Some(receive) => receive,
                None => self.receive.insert(receive(&self.fd, self.receive_size)),
            };
            let (result, held) = ready!(Pin::new(receive).poll(cx));
            self.receive = None;
            self.take_received(result, held.buffer)?;
        }
        let available = self.received.get(self.received_at..).unwrap_or_default();
        let count = available.len().min(into.remaining());
        into.put_slice(available.get(..count).unwrap_or_default());
        self.received_at += count;
        if self.received_at == self.received.len() {
            buffer::give(std::mem::take(&mut self.received));
            self.received_at = 0;
        }
        Poll::Ready(Ok(()))
    }

    fn take_received(&mut self, result: i32, mut buffer: Vec<u8>) -> io::Result<()> {
        let Ok(count) = usize::try_from(result) else {
            buffer::give(buffer);
            return Err(io::Error::from_raw_os_error(-result));
        };
        let count = count.min(buffer.capacity());
        // SAFETY: the completion says that the kernel wrote `count` bytes from the start, and `count` is
        // within the capacity; held by the byte-for-byte transfers of the whole-program tests.
        unsafe { buffer.set_len(count) };
        self.receive_size = if count == buffer.capacity() { LARGE } else { SMALL };
        self.received = buffer;
        self.received_at = 0;
        Ok(())
    }

    /// Accepts bytes for sending. Pending where [`WRITE_HIGH_WATER`] bytes wait already. Cancelling loses
    /// nothing: what was accepted is sent.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.outgoing.queued.len() >= WRITE_HIGH_WATER {
            ready!(self.outgoing.poll_writer(cx)?);
        } else if self.outgoing.send.is_some() {
            let _ = self.outgoing.poll_step(cx)?;
        }
        self.outgoing.state()?;
        let accepted = self.outgoing.accept(parts);
        self.outgoing.start();
        Poll::Ready(Ok(accepted))
    }

    /// Gets queued bytes going. It does not wait for them: that is what [`Socket::poll_sent`] does.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.outgoing.queued.is_empty() {
            let _ = self.outgoing.poll_step(cx)?;
        }
        Poll::Ready(self.outgoing.state())
    }

    /// Ready once everything that was accepted is in the kernel.
    pub(super) fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.poll_sent(cx)
    }

    /// Sends FIN after all that was accepted.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.outgoing.poll_sent(cx)?);
        Poll::Ready(shutdown(self.fd.as_raw_fd(), Shutdown::Write).map_err(io::Error::from))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        buffer::give(std::mem::take(&mut self.received));
        let fd = Rc::clone(&self.fd);
        if self.outgoing.send.is_some() && self.outgoing.failed.is_none() {
            let left = Outgoing {
                fd: Rc::clone(&fd),
                send: self.outgoing.send.take(),
                send_at: self.outgoing.send_at,
                queued: std::mem::take(&mut self.outgoing.queued),
                failed: None,
                writer: None,
            };
            drop(super::spawn(finish(left)));
        } else if self.receive.is_some() {
            release(&fd);
        }
    }
}

fn receive(fd: &Rc<OwnedFd>, size: usize) -> InFlight {
    let mut buffer = buffer::take(size);
    let room = u32::try_from(buffer.capacity()).unwrap_or(u32::MAX);
    let entry = opcode::Recv::new(types::Fd(fd.as_raw_fd()), buffer.as_mut_ptr(), room).build();
    // Between requests nothing can have come yet; in a bulk transfer it has.
    let entry = if size == SMALL { poll_first(entry) } else { entry };
    submit(fd, buffer, entry)
}

/// `IORING_RECVSEND_POLL_FIRST` of `linux/io_uring.h`.
const POLL_FIRST: u16 = 1;
/// Where `ioprio` stands in `struct io_uring_sqe`.
const IOPRIO_AT: usize = 2;

/// Makes a receive wait for readiness before its first try, which saves a doomed one. The library has no
/// setter for the field.
fn poll_first(mut entry: squeue::Entry) -> squeue::Entry {
    const {
        assert!(
            size_of::<squeue::Entry>() == 64,
            "an entry is one `struct io_uring_sqe`"
        )
    };
    let field = std::ptr::from_mut(&mut entry)
        .cast::<u8>()
        .wrapping_add(IOPRIO_AT)
        .cast::<u16>();
    // SAFETY: the entry is a transparent `struct io_uring_sqe`, whose layout is the kernel's ABI: the field
    // lies inside it and any value is a valid one; held by `poll_first_sets_its_field_alone`.
    unsafe { field.write_unaligned(POLL_FIRST) };
    entry
}

/// Submits an operation on `buffer`. Its memory is the vector's heap block, which moving the vector into
/// the operation leaves in place; the operation keeps it and the descriptor until its completion, dropped
/// or not (tokio-uring parks the data of a dropped operation).
fn submit(fd: &Rc<OwnedFd>, buffer: Vec<u8>, entry: squeue::Entry) -> InFlight {
    UnsubmittedOneshot::new(
        Held {
            buffer,
            _fd: Rc::clone(fd),
        },
        Complete,
        entry,
    )
    .submit()
}

/// Sends what a dropped socket left, then completes whatever the kernel still holds for it.
async fn finish(mut left: Outgoing) {
    let _ = super::timeout(
        Some(LAST_SEND_GRACE),
        std::future::poll_fn(|cx| left.poll_sent(cx)),
    )
    .await;
    release(&left.fd);
}

/// Completes operations in flight; the descriptor closes with the last of them. An error means that the
/// peer was faster.
fn release(fd: &OwnedFd) {
    let _ = shutdown(fd.as_raw_fd(), Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poll_first_sets_its_field_alone() {
        // SAFETY: both types have 64 bytes, and every byte of an entry that `build` made is initialised.
        let bytes = |entry: squeue::Entry| unsafe { std::mem::transmute::<squeue::Entry, [u8; 64]>(entry) };
        let plain = || opcode::Recv::new(types::Fd(7), std::ptr::null_mut(), 9).build();
        let mut expected = bytes(plain());
        expected[IOPRIO_AT] = 1;
        assert_eq!(bytes(poll_first(plain())), expected);
    }
}
