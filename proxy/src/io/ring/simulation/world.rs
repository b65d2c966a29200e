//! The kernel's side and the peers': operations under way, answers on their way, descriptors, streams.

#![allow(unsafe_code, reason = "the kernel writes to memory")]

use super::{Dice, STREAM_MAX, byte_at};
use crate::io::ring::{
    buffers,
    engine::Engine,
    ops::{Answer, Op, Token},
};
use std::{
    collections::{BTreeMap, HashSet},
    io,
    os::fd::RawFd,
    task::Waker,
};

/// An operation that the kernel has.
pub(super) struct Running {
    op: Op,
    cancelled: bool,
    /// What a send showed when it was asked for.
    shown: Vec<u8>,
}

/// The far end of a connection.
#[derive(Default)]
pub(super) struct Peer {
    /// How much it sends, and has sent.
    pub(super) length: usize,
    sent: usize,
    /// What it ends with.
    reset: bool,
    /// What it got.
    pub(super) got: Vec<u8>,
}

#[derive(Default)]
pub(super) struct World {
    pub(super) running: BTreeMap<u64, Running>,
    /// Answers that wait to be delivered; those of one operation keep their order.
    pub(super) answers: Vec<Answer>,
    pub(super) open: HashSet<RawFd>,
    pub(super) peers: BTreeMap<RawFd, Peer>,
    next_descriptor: RawFd,
    /// How many buffers the kernel has taken.
    taken: u16,
    /// No more faults: whatever is under way comes to its end.
    pub(super) calm: bool,
    pub(super) met: BTreeMap<&'static str, u64>,
}

impl World {
    fn meet(&mut self, what: &'static str) {
        *self.met.entry(what).or_default() += 1;
    }

    pub(super) fn descriptor(&mut self, dice: &mut Dice) -> RawFd {
        self.next_descriptor += 1;
        let descriptor = self.next_descriptor;
        self.open.insert(descriptor);
        let length = dice.size(STREAM_MAX);
        let reset = dice.once_in(5);
        self.peers.insert(
            descriptor,
            Peer {
                length,
                reset,
                ..Peer::default()
            },
        );
        descriptor
    }

    pub(super) fn take(&mut self, op: Op, engine: &mut Engine, dice: &mut Dice) {
        let (descriptor, token) = match op {
            Op::Close(descriptor) => {
                let uses = |running: &Running| descriptor_of(running.op) == Some(descriptor);
                assert!(!self.running.values().any(uses), "{descriptor} is closed in use");
                assert!(self.open.remove(&descriptor), "{descriptor} is closed twice");
                return;
            }
            Op::Cancel(token) => return self.cancel(token, dice),
            Op::Accept(descriptor, token)
            | Op::AcceptOne(descriptor, token)
            | Op::ReceiveMany(descriptor, token)
            | Op::Readable(descriptor, token)
            | Op::Send(descriptor, token)
            | Op::Connect(descriptor, token) => (descriptor, token),
        };
        assert!(self.open.contains(&descriptor), "{op:?} on a closed descriptor");
        let running = Running {
            op,
            cancelled: false,
            shown: engine.bytes_of(token).to_vec(),
        };
        if let Op::Send(..) = op {
            assert!(!running.shown.is_empty(), "a send of nothing");
        }
        assert!(
            self.running.insert(token.0, running).is_none(),
            "{op:?} is under way already"
        );
    }

    fn cancel(&mut self, token: Token, dice: &mut Dice) {
        let op = self.running.get(&token.0).map(|running| running.op);
        if !self.calm && dice.once_in(8) {
            self.meet("cancelled in vain");
            // It was just at work: there is an answer on its way.
            if let Some(Op::Accept(..)) = op {
                let descriptor = self.descriptor(dice);
                self.answer(token.0, descriptor, None, true);
            } else if let Some(Op::AcceptOne(..)) = op {
                let descriptor = self.descriptor(dice);
                self.answer(token.0, descriptor, None, false);
            }
            return;
        }
        if let Some(running) = self.running.get_mut(&token.0) {
            running.cancelled = true;
        }
    }

    /// One of the operations under way gets somewhere.
    pub(super) fn work(&mut self, engine: &mut Engine, dice: &mut Dice) {
        let Some(token) = self.running.keys().nth(dice.below(self.running.len())).copied() else {
            return;
        };
        let Some(running) = self.running.get(&token) else {
            return;
        };
        let (op, cancelled) = (running.op, running.cancelled);
        if cancelled && dice.once_in(2) {
            self.meet("cancelled");
            return self.answer(token, -libc::ECANCELED, None, false);
        }
        match op {
            Op::ReceiveMany(descriptor, _) => self.receive_many(token, descriptor, engine, dice),
            Op::Readable(..) => self.answer(token, i32::from(libc::POLLIN), None, false),
            Op::Send(descriptor, _) => self.send(token, descriptor, engine, dice),
            Op::Accept(..) => {
                let more = !dice.once_in(5);
                self.accept(token, more, dice);
            }
            Op::AcceptOne(..) => self.accept(token, false, dice),
            Op::Connect(..) => {
                let refused = !self.calm && dice.once_in(3);
                let result = if refused { -libc::ECONNREFUSED } else { 0 };
                assert!(engine.address_of(Token(token)).is_some());
                self.answer(token, result, None, false);
            }
            Op::Cancel(_) | Op::Close(_) => {}
        }
    }

    fn answer(&mut self, token: u64, result: i32, buffer: Option<u16>, more: bool) {
        if !more {
            self.running.remove(&token);
        }
        self.answers.push(Answer {
            token: Token(token),
            result,
            buffer,
            more,
        });
    }

    /// The end of a peer's stream, or how much of it comes now.
    fn comes(&mut self, descriptor: RawFd, most: usize, dice: &mut Dice) -> Result<usize, i32> {
        let peer = self.peers.entry(descriptor).or_default();
        let left = peer.length - peer.sent;
        match (left, peer.reset) {
            (0, true) => Err(-libc::ECONNRESET),
            (0, false) => Err(0),
            // Bulk more often than not.
            _ if dice.once_in(2) => Ok(left.min(most)),
            _ => Ok(dice.size(left.min(most))),
        }
    }

    fn receive_many(&mut self, token: u64, descriptor: RawFd, engine: &mut Engine, dice: &mut Dice) {
        let next = engine.buffers.take_at(self.taken);
        let count = self.comes(descriptor, buffers::SIZE, dice);
        let stopped = !self.calm && dice.once_in(12);
        match (count, next) {
            (Err(end), _) => self.answer(token, end, None, false),
            _ if !self.calm && dice.once_in(20) => {
                self.meet("interrupted");
                self.answer(token, -libc::EINTR, None, false);
            }
            (Ok(_), None) => {
                self.meet("no buffers");
                self.answer(token, -libc::ENOBUFS, None, false);
            }
            (Ok(count), Some((number, start, size))) => {
                assert_eq!(size, buffers::SIZE);
                self.taken = self.taken.wrapping_add(1);
                self.write(descriptor, start.as_ptr(), count);
                if stopped {
                    self.meet("stopped");
                }
                self.answer(token, count as i32, Some(number), !stopped);
            }
        }
    }

    /// Somebody reads without asking the ring.
    pub(super) fn receive(&mut self, descriptor: RawFd, room: usize, dice: &mut Dice) -> io::Result<Vec<u8>> {
        let reads = |running: &Running| matches!(running.op, Op::ReceiveMany(of, _) if of == descriptor);
        assert!(!self.running.values().any(reads), "two read at once");
        assert!(self.open.contains(&descriptor), "a read of a closed descriptor");
        if dice.once_in(4) {
            return Err(passing());
        }
        let count = match self.comes(descriptor, room, dice) {
            Ok(count) => count,
            Err(0) => return Ok(Vec::new()),
            Err(error) => return Err(io::Error::from_raw_os_error(-error)),
        };
        self.meet("bulk");
        let mut bytes = vec![0; count];
        self.write(descriptor, bytes.as_mut_ptr(), count);
        Ok(bytes)
    }

    /// Somebody sends without asking the ring.
    pub(super) fn send_now(&mut self, descriptor: RawFd, bytes: &[u8], dice: &mut Dice) -> io::Result<usize> {
        let sends = |running: &Running| matches!(running.op, Op::Send(of, _) if of == descriptor);
        assert!(!self.running.values().any(sends), "two send at once");
        assert!(self.open.contains(&descriptor), "a send on a closed descriptor");
        if dice.once_in(3) {
            return Err(passing());
        }
        self.meet("sent at once");
        let count = dice.size(bytes.len());
        let peer = self.peers.entry(descriptor).or_default();
        peer.got.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn write(&mut self, descriptor: RawFd, start: *mut u8, count: usize) {
        let peer = self.peers.entry(descriptor).or_default();
        let bytes: Vec<u8> = (0..count)
            .map(|offset| byte_at(descriptor, peer.sent + offset))
            .collect();
        // SAFETY: the engine gave room for so many bytes.
        unsafe { start.copy_from_nonoverlapping(bytes.as_ptr(), count) };
        peer.sent += count;
    }

    fn send(&mut self, token: u64, descriptor: RawFd, engine: &mut Engine, dice: &mut Dice) {
        let bytes = engine.bytes_of(Token(token)).to_vec();
        let shown = self.running.get(&token).map(|running| running.shown.clone());
        assert_eq!(Some(&bytes), shown.as_ref(), "the memory of a send changed");
        if !self.calm && dice.once_in(30) {
            return self.answer(token, -libc::EPIPE, None, false);
        }
        if !self.calm && dice.once_in(10) {
            return self.answer(token, -libc::EINTR, None, false);
        }
        let count = if dice.once_in(3) {
            self.meet("short send");
            dice.size(bytes.len())
        } else {
            bytes.len()
        };
        let peer = self.peers.entry(descriptor).or_default();
        peer.got.extend_from_slice(&bytes[..count]);
        self.answer(token, count as i32, None, false);
    }

    fn accept(&mut self, token: u64, more: bool, dice: &mut Dice) {
        if self.calm || self.peers.len() > 60 {
            return;
        }
        if dice.once_in(10) {
            return self.answer(token, -libc::EMFILE, None, false);
        }
        let descriptor = self.descriptor(dice);
        self.answer(token, descriptor, None, more);
    }

    /// One answer is delivered.
    pub(super) fn deliver(&mut self, engine: &mut Engine, dice: &mut Dice) {
        let Some(any) = self.answers.get(dice.below(self.answers.len())) else {
            return;
        };
        let token = any.token;
        let first = self.answers.iter().position(|answer| answer.token == token);
        let answer = self.answers.remove(first.expect("it is one of them"));
        engine.answer(&answer);
        let mut woken = Vec::new();
        engine.take_woken(&mut woken);
        woken.into_iter().for_each(Waker::wake);
    }
}

fn descriptor_of(op: Op) -> Option<RawFd> {
    match op {
        Op::Accept(descriptor, _)
        | Op::AcceptOne(descriptor, _)
        | Op::ReceiveMany(descriptor, _)
        | Op::Readable(descriptor, _)
        | Op::Send(descriptor, _)
        | Op::Connect(descriptor, _)
        | Op::Close(descriptor) => Some(descriptor),
        Op::Cancel(_) => None,
    }
}

/// Not now.
fn passing() -> io::Error {
    io::Error::from_raw_os_error(libc::EAGAIN)
}
