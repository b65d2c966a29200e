//! The receiving half of a socket: what has come and was not read, and what the kernel has been asked for.
//!
//! A socket receives again and again into the ring's buffers, until more waits than somebody reads: then it stops, and
//! goes on one reading at a time into a buffer of its own, which is also what suits bulk. It must not know how the kernel
//! is asked.

#![allow(unsafe_code, reason = "a buffer that the kernel has filled")]

use super::{
    buffers::{Buffers, Filled},
    ops::Answer,
};
use crate::io::buffer::{self, LARGE};
use std::{collections::VecDeque, io, task::Waker};

/// Bytes that wait to be read, beyond which no more are asked for.
pub(super) const UNREAD_MAX: usize = 64 * 1024;
/// A reading of so many bytes is bulk: the next one is one too.
const BULK_MIN: usize = 16 * 1024;

/// Bytes that came together.
enum Piece {
    /// In one of the ring's buffers.
    Filled(Filled),
    /// In memory of its own.
    Own(Vec<u8>),
}

/// What the kernel has been asked for.
enum Flight {
    Nothing,
    /// Bytes again and again.
    Many,
    /// That, but no more of it.
    Ending,
    /// Bytes once, into this buffer.
    Once(Vec<u8>),
}

/// How the bytes ended.
#[derive(Clone, Copy)]
enum End {
    InOrder,
    Error(i32),
}

/// What is to be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// Nothing.
    Nothing,
    /// Bytes again and again.
    Many,
    /// Bytes once.
    Once,
    /// No more of what was asked for.
    End,
}

/// The half.
pub(super) struct Receiving {
    pieces: VecDeque<Piece>,
    /// How much of the first piece was read.
    at: usize,
    unread: usize,
    /// How much may wait before an end is asked for, again where it was asked for in vain.
    unread_max: usize,
    flight: Flight,
    end: Option<End>,
    bulk: bool,
    waker: Option<Waker>,
}

impl Receiving {
    /// Nothing came and nothing was asked for.
    pub(super) fn new() -> Self {
        Self {
            pieces: VecDeque::new(),
            at: 0,
            unread: 0,
            unread_max: UNREAD_MAX,
            flight: Flight::Nothing,
            end: None,
            bulk: false,
            waker: None,
        }
    }

    /// Whether the kernel has been asked for something.
    pub(super) fn is_in_flight(&self) -> bool {
        !matches!(self.flight, Flight::Nothing)
    }

    /// Where the kernel writes to, and how much; of a reading into the socket's own buffer alone.
    pub(super) fn room(&mut self) -> Option<(*mut u8, usize)> {
        match &mut self.flight {
            Flight::Once(buffer) => Some((buffer.as_mut_ptr(), buffer.capacity())),
            _ => None,
        }
    }

    /// Reads what has come, as much as `take` takes; it says how much of a piece that was. `None` where nothing has.
    pub(super) fn read(
        &mut self,
        buffers: &mut Buffers,
        mut take: impl FnMut(&[u8]) -> usize,
    ) -> Option<io::Result<()>> {
        let mut read = false;
        while let Some(piece) = self.pieces.front() {
            let bytes = match piece {
                Piece::Filled(filled) => buffers.bytes(filled, self.at),
                Piece::Own(bytes) => bytes.get(self.at..).unwrap_or_default(),
            };
            let (count, length) = (take(bytes), bytes.len());
            read = true;
            self.unread = self.unread.saturating_sub(count);
            if count < length {
                self.at += count;
                break;
            }
            self.at = 0;
            if let Some(piece) = self.pieces.pop_front() {
                give_back(piece, buffers);
            }
        }
        match self.end {
            _ if read => Some(Ok(())),
            Some(End::InOrder) => Some(Ok(())),
            Some(End::Error(code)) => Some(Err(io::Error::from_raw_os_error(code))),
            None => None,
        }
    }

    /// Somebody waits for bytes. Says what has to be asked for.
    pub(super) fn wait(&mut self, waker: &Waker) -> Want {
        match &mut self.waker {
            Some(known) => known.clone_from(waker),
            None => self.waker = Some(waker.clone()),
        }
        if self.is_in_flight() {
            return Want::Nothing;
        }
        self.ask()
    }

    fn ask(&mut self) -> Want {
        self.unread_max = UNREAD_MAX;
        if self.bulk {
            self.flight = Flight::Once(buffer::take(LARGE));
            Want::Once
        } else {
            self.flight = Flight::Many;
            Want::Many
        }
    }

    /// Nobody will read any more: what waits is thrown away. Says what has to be asked for.
    pub(super) fn abandon(&mut self, buffers: &mut Buffers) -> Want {
        self.discard(buffers);
        match self.flight {
            Flight::Nothing | Flight::Ending => Want::Nothing,
            Flight::Many => {
                self.flight = Flight::Ending;
                Want::End
            }
            Flight::Once(_) => Want::End,
        }
    }

    /// Throws away what waits.
    pub(super) fn discard(&mut self, buffers: &mut Buffers) {
        self.waker = None;
        self.unread = 0;
        self.at = 0;
        for piece in std::mem::take(&mut self.pieces) {
            give_back(piece, buffers);
        }
    }

    /// The kernel's answer. Whom to wake goes to `woken`. Says what has to be asked for.
    pub(super) fn answered(
        &mut self,
        answer: &Answer,
        buffers: &mut Buffers,
        woken: &mut Vec<Waker>,
    ) -> Want {
        let count = usize::try_from(answer.result).unwrap_or(0);
        let filled = answer.buffer.map(|number| buffers.filled(number, count));
        let own = self.landed(answer.more, count);
        match answer.result {
            1.. => {
                let piece = match (filled, own) {
                    (Some(filled), _) => self.keep(filled, buffers),
                    (None, Some(own)) => Some(Piece::Own(own)),
                    (None, None) => None,
                };
                self.unread += count;
                self.pieces.extend(piece);
                woken.extend(self.waker.take());
                return self.enough();
            }
            0 => self.end = Some(End::InOrder),
            error if is_passing(-error) => {
                if -error == libc::ENOBUFS {
                    buffers.were_too_few();
                }
            }
            error => self.end = Some(End::Error(-error)),
        }
        filled.into_iter().for_each(|filled| buffers.give_back(filled));
        own.into_iter().for_each(buffer::give);
        if self.end.is_some() {
            woken.extend(self.waker.take());
            return Want::Nothing;
        }
        // Stopped for no reason of the peer's: on with it, where somebody waits.
        if self.waker.is_some() && !self.is_in_flight() {
            return self.ask();
        }
        Want::Nothing
    }

    /// What was in flight is not any more, unless there is more. Gives the socket's own buffer with what it holds.
    fn landed(&mut self, more: bool, count: usize) -> Option<Vec<u8>> {
        if more {
            return None;
        }
        let Flight::Once(mut buffer) = std::mem::replace(&mut self.flight, Flight::Nothing) else {
            return None;
        };
        let count = count.min(buffer.capacity());
        // SAFETY: the kernel says that it wrote `count` bytes from the start, which is within the capacity; held by the
        // simulation.
        unsafe { buffer.set_len(count) };
        self.bulk = count >= BULK_MIN;
        Some(buffer)
    }

    /// The buffer itself, or a copy where buffers are scarce.
    fn keep(&mut self, filled: Filled, buffers: &mut Buffers) -> Option<Piece> {
        if !buffers.are_scarce() {
            return Some(Piece::Filled(filled));
        }
        let copy = buffers.bytes(&filled, 0).to_vec();
        buffers.give_back(filled);
        Some(Piece::Own(copy))
    }

    fn enough(&mut self) -> Want {
        let goes_on = matches!(self.flight, Flight::Many | Flight::Ending);
        if self.unread < self.unread_max || !goes_on {
            return Want::Nothing;
        }
        self.flight = Flight::Ending;
        self.bulk = true;
        self.unread_max += UNREAD_MAX;
        Want::End
    }
}

fn give_back(piece: Piece, buffers: &mut Buffers) {
    match piece {
        Piece::Filled(filled) => buffers.give_back(filled),
        Piece::Own(bytes) => buffer::give(bytes),
    }
}

/// Whether an error says nothing about the connection.
fn is_passing(code: i32) -> bool {
    [libc::ENOBUFS, libc::ECANCELED, libc::EINTR, libc::EAGAIN].contains(&code)
}
