//! The receiving half of a socket: what has come and was not read, and what the kernel has been asked for.
//!
//! A socket receives again and again into the ring's buffers, until more waits than somebody reads: then it stops, and
//! goes on by asking when there is something to read, which is then read straight to where it is wanted. That is also what
//! suits bulk: it costs no second copy. It must not know how the kernel is asked.

use super::{
    buffers::{Buffers, Filled},
    ops::Answer,
};
use std::{collections::VecDeque, io, os::fd::RawFd, task::Waker};

/// Bytes that wait to be read, beyond which no more are asked for.
pub(super) const UNREAD_MAX: usize = 32 * 1024;
/// A reading of fewer bytes, although there was room for more, is no bulk any more.
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
    /// Word of something to read.
    Readable,
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
    /// A connection, and no other.
    One,
    /// Bytes, or connections, again and again.
    Many,
    /// Word of something to read.
    Readable,
    /// No more of what was asked for.
    End,
}

/// Who reads.
pub(super) trait Reader {
    /// How much more it takes.
    fn room(&self) -> usize;

    /// Takes of these bytes as many as there is room for, and says how many.
    fn take(&mut self, bytes: &[u8]) -> usize;

    /// Reads from the socket itself, without waiting; says how much.
    ///
    /// # Errors
    /// `WouldBlock` where there is nothing, and those of the socket.
    fn receive(&mut self, descriptor: RawFd) -> io::Result<usize>;
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

    /// Reads what has come. `None` where nothing has.
    pub(super) fn read(
        &mut self,
        descriptor: RawFd,
        buffers: &mut Buffers,
        reader: &mut impl Reader,
    ) -> Option<io::Result<()>> {
        if self.read_pieces(buffers, reader) {
            return Some(Ok(()));
        }
        match self.end {
            Some(End::InOrder) => Some(Ok(())),
            Some(End::Error(code)) => Some(Err(io::Error::from_raw_os_error(code))),
            None if self.bulk && !self.is_in_flight() => self.read_bulk(descriptor, reader),
            None => None,
        }
    }

    fn read_bulk(&mut self, descriptor: RawFd, reader: &mut impl Reader) -> Option<io::Result<()>> {
        let room = reader.room();
        match reader.receive(descriptor) {
            Ok(0) if room > 0 => self.end = Some(End::InOrder),
            Ok(count) => self.bulk = count >= room.min(BULK_MIN),
            Err(error) if is_passing(error.raw_os_error().unwrap_or(libc::EIO)) => return None,
            Err(error) => {
                self.end = Some(End::Error(error.raw_os_error().unwrap_or(libc::EIO)));
                return Some(Err(error));
            }
        }
        Some(Ok(()))
    }

    /// Whether there was something.
    fn read_pieces(&mut self, buffers: &mut Buffers, reader: &mut impl Reader) -> bool {
        let mut read = false;
        while let Some(piece) = self.pieces.front() {
            let bytes = match piece {
                Piece::Filled(filled) => buffers.bytes(filled, self.at),
                Piece::Own(bytes) => bytes.get(self.at..).unwrap_or_default(),
            };
            let (count, length) = (reader.take(bytes), bytes.len());
            read = true;
            self.unread = self.unread.saturating_sub(count);
            if count < length {
                self.at += count;
                break;
            }
            self.at = 0;
            if let Some(Piece::Filled(filled)) = self.pieces.pop_front() {
                buffers.give_back(filled);
            }
        }
        read
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
            self.flight = Flight::Readable;
            Want::Readable
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
            Flight::Readable => Want::End,
        }
    }

    /// Throws away what waits.
    pub(super) fn discard(&mut self, buffers: &mut Buffers) {
        self.waker = None;
        self.unread = 0;
        self.at = 0;
        for piece in std::mem::take(&mut self.pieces) {
            if let Piece::Filled(filled) = piece {
                buffers.give_back(filled);
            }
        }
    }

    /// The kernel's answer. Whom to wake goes to `woken`. Says what has to be asked for.
    pub(super) fn answered(
        &mut self,
        answer: &Answer,
        buffers: &mut Buffers,
        woken: &mut Vec<Waker>,
    ) -> Want {
        let readable = matches!(self.flight, Flight::Readable);
        if !answer.more {
            self.flight = Flight::Nothing;
        }
        let count = usize::try_from(answer.result).unwrap_or(0);
        let filled = answer.buffer.map(|number| buffers.filled(number, count));
        match (answer.result, filled) {
            (1.., Some(filled)) => {
                let piece = Self::keep(filled, buffers);
                self.unread += count;
                self.pieces.push_back(piece);
                woken.extend(self.waker.take());
                return self.enough();
            }
            (0.., None) if readable => {}
            (result, filled) => {
                filled.into_iter().for_each(|filled| buffers.give_back(filled));
                if is_passing(-result) {
                    return self.stopped(-result, buffers);
                }
                self.end = Some(if result < 0 {
                    End::Error(-result)
                } else {
                    End::InOrder
                });
            }
        }
        woken.extend(self.waker.take());
        Want::Nothing
    }

    /// For no reason of the peer's: on with it, where somebody waits.
    fn stopped(&mut self, code: i32, buffers: &mut Buffers) -> Want {
        if code == libc::ENOBUFS {
            buffers.were_too_few();
        }
        if self.waker.is_some() && !self.is_in_flight() {
            self.ask()
        } else {
            Want::Nothing
        }
    }

    /// The buffer itself, or a copy where buffers are scarce.
    fn keep(filled: Filled, buffers: &mut Buffers) -> Piece {
        if !buffers.are_scarce() {
            return Piece::Filled(filled);
        }
        let copy = buffers.bytes(&filled, 0).to_vec();
        buffers.give_back(filled);
        Piece::Own(copy)
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

/// Whether an error says nothing about the connection.
fn is_passing(code: i32) -> bool {
    [libc::ENOBUFS, libc::ECANCELED, libc::EINTR, libc::EAGAIN].contains(&code)
}
