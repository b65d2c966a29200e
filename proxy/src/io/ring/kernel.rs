//! The ring itself: operations in, answers out, one call to wait.
//!
//! It must not know what operations are for.

#![allow(
    unsafe_code,
    reason = "the kernel reads and writes memory that operations name"
)]

use super::{
    buffers::{Buffers, COUNT},
    engine::Engine,
    ops::{Answer, Kind, Op, Token},
};
use io_uring::{IoUring, Probe, cqueue, opcode, squeue, types};
use std::{io, os::fd::RawFd, time::Duration};

/// Entries of the submission queue; more are handed over early, never lost.
const ENTRIES: u32 = 4096;
/// Answers that fit; more wait in the kernel.
const ANSWERS: u32 = 16_384;
/// The ring's only group of buffers.
const GROUP: u16 = 0;
/// `IORING_ENTER_GETEVENTS` of `linux/io_uring.h`.
const GET_EVENTS: u32 = 1;

/// What is asked for where something is to be read.
const READABLE: u32 = libc::POLLIN as u32;

/// How long to wait for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Not at all.
    No,
    /// For so long.
    AtMost(Duration),
    /// Until there is one.
    Forever,
}

/// The ring.
pub(super) struct Kernel {
    ring: IoUring,
}

fn builder() -> io_uring::Builder {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_cqsize(ANSWERS);
    builder
}

/// Whether the kernel offers all that this driver uses.
///
/// # Errors
/// What it refuses.
pub(super) fn probe() -> io::Result<()> {
    let ring: IoUring = builder().build(8)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let needed = [
        opcode::Accept::CODE,
        opcode::Connect::CODE,
        opcode::Recv::CODE,
        opcode::Send::CODE,
        opcode::AsyncCancel::CODE,
        opcode::PollAdd::CODE,
        opcode::Close::CODE,
    ];
    let ring_features = ring.params().is_feature_ext_arg() && ring.params().is_feature_skip_cqe_on_success();
    if !ring_features || !needed.iter().all(|code| probe.is_supported(*code)) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    register(&ring, &Buffers::new())?;
    ring.submitter().unregister_buf_ring(GROUP)
}

fn register(ring: &IoUring, buffers: &Buffers) -> io::Result<()> {
    // SAFETY: the list has as many entries as are named and stays where it is while `buffers` lives, which is until the
    // ring is gone (`Driver`) or it was unregistered (`probe`).
    unsafe {
        ring.submitter()
            .register_buf_ring(buffers.address(), COUNT, GROUP)
    }
}

impl Kernel {
    /// A ring that receives into these buffers, which must outlive it.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub(super) fn new(buffers: &Buffers) -> io::Result<Self> {
        let ring = builder().build(ENTRIES)?;
        register(&ring, buffers)?;
        Ok(Self { ring })
    }

    /// Asks for an operation of the engine's.
    ///
    /// # Errors
    /// Where the kernel takes nothing more.
    pub(super) fn ask(&mut self, op: Op, engine: &Engine) -> io::Result<()> {
        self.push(&entry(op, engine))
    }

    /// Asks for word of each time that a descriptor becomes readable.
    ///
    /// # Errors
    /// Where the kernel takes nothing more.
    pub(super) fn watch(&mut self, descriptor: RawFd, token: Token) -> io::Result<()> {
        let entry = opcode::PollAdd::new(types::Fd(descriptor), READABLE)
            .multi(true)
            .build();
        self.push(&entry.user_data(token.0))
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: the engine keeps the memory that an operation names, and its descriptor, until the operation was
            // answered; held by the simulation, which looks at both at every answer.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.ring.submit()?;
        }
    }

    /// Hands over what was asked for, and waits for an answer.
    ///
    /// # Errors
    /// Where the ring is of no use any more.
    pub(super) fn enter(&mut self, wait: Wait) -> io::Result<()> {
        let entered = match wait {
            Wait::Forever => self.ring.submit_and_wait(1),
            Wait::AtMost(limit) => {
                let limit = types::Timespec::from(limit);
                let args = types::SubmitArgs::new().timespec(&limit);
                self.ring.submitter().submit_with_args(1, &args)
            }
            Wait::No => self.look(),
        };
        match entered.map_err(|error| (error.raw_os_error(), error)) {
            Ok(_) => Ok(()),
            // The time passed, a signal came, or answers have to be taken first.
            Err((Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN), _)) => Ok(()),
            Err((_, error)) => Err(error),
        }
    }

    /// Without waiting; the kernel runs what it has put off only when it is asked for answers.
    fn look(&mut self) -> io::Result<usize> {
        let count = u32::try_from(self.ring.submission().len()).unwrap_or(u32::MAX);
        // SAFETY: no argument is handed over, and as many entries as were pushed.
        unsafe {
            self.ring
                .submitter()
                .enter::<libc::sigset_t>(count, 0, GET_EVENTS, None)
        }
    }

    /// Takes the answers that there are.
    pub(super) fn answers(&mut self, into: &mut Vec<Answer>) {
        into.extend(self.ring.completion().map(|entry| Answer {
            token: Token(entry.user_data()),
            result: entry.result(),
            buffer: cqueue::buffer_select(entry.flags()),
            more: cqueue::more(entry.flags()),
        }));
    }
}

fn entry(op: Op, engine: &Engine) -> squeue::Entry {
    let nobody = Token::single(Kind::Nobody);
    let (entry, token) = match op {
        Op::Accept(descriptor, token) => {
            let accept = opcode::AcceptMulti::new(types::Fd(descriptor)).flags(libc::SOCK_CLOEXEC);
            (accept.build(), token)
        }
        Op::AcceptOne(descriptor, token) => {
            let nowhere = std::ptr::null_mut();
            let accept = opcode::Accept::new(types::Fd(descriptor), nowhere, nowhere.cast());
            (accept.flags(libc::SOCK_CLOEXEC).build(), token)
        }
        Op::ReceiveMany(descriptor, token) => (
            opcode::RecvMulti::new(types::Fd(descriptor), GROUP).build(),
            token,
        ),
        Op::Readable(descriptor, token) => (
            opcode::PollAdd::new(types::Fd(descriptor), READABLE).build(),
            token,
        ),
        Op::Send(descriptor, token) => {
            let bytes = engine.bytes_of(token);
            let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            let send = opcode::Send::new(types::Fd(descriptor), bytes.as_ptr(), count);
            (send.flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL).build(), token)
        }
        Op::Connect(descriptor, token) => {
            let address = engine.address_of(token);
            let (start, length) = address.map_or((std::ptr::null(), 0), |address| {
                (address.as_ptr().cast(), address.len())
            });
            (
                opcode::Connect::new(types::Fd(descriptor), start, length).build(),
                token,
            )
        }
        Op::Cancel(token) => (quiet(opcode::AsyncCancel::new(token.0).build()), nobody),
        Op::Close(descriptor) => (quiet(opcode::Close::new(types::Fd(descriptor)).build()), nobody),
    };
    entry.user_data(token.0)
}

/// Without an answer where it went well.
fn quiet(entry: squeue::Entry) -> squeue::Entry {
    entry.flags(squeue::Flags::SKIP_SUCCESS)
}
