//! What the kernel is asked for, and the number by which its answer finds who asked.
//!
//! It must not know how the kernel is asked.

use super::slots::Key;
use std::os::fd::RawFd;

/// Where `kind` stands in a token: above a packed key.
const KIND_SHIFT: u32 = 60;

/// Whose answer it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A listener's connections.
    Accept,
    /// A socket's bytes that come.
    Receive,
    /// A socket's bytes that go.
    Send,
    /// A connection to a server.
    Connect,
    /// Wakes from other threads.
    Afar,
    /// Nobody waits for it.
    Nobody,
}

/// An operation's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Token(pub(super) u64);

impl Token {
    /// Of `key`'s operation of a kind.
    pub(super) fn new(kind: Kind, key: Key) -> Self {
        Self((kind as u64) << KIND_SHIFT | key.pack())
    }

    /// Of an operation that there is once.
    pub(super) fn single(kind: Kind) -> Self {
        let key = Key {
            index: 0,
            generation: 0,
        };
        Self::new(kind, key)
    }

    /// What it was made of.
    pub(super) fn parts(self) -> (Kind, Key) {
        let kind = match self.0 >> KIND_SHIFT {
            0 => Kind::Accept,
            1 => Kind::Receive,
            2 => Kind::Send,
            3 => Kind::Connect,
            4 => Kind::Afar,
            _ => Kind::Nobody,
        };
        (kind, Key::unpack(self.0))
    }
}

/// What the kernel is asked for. The memory of an operation belongs to whom its token names, and is looked up there when
/// it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// Connections, again and again.
    Accept(RawFd, Token),
    /// A connection.
    AcceptOne(RawFd, Token),
    /// Bytes into the ring's buffers, again and again.
    ReceiveMany(RawFd, Token),
    /// Word of the next time that there is something to read.
    Readable(RawFd, Token),
    /// The bytes that are in flight, from where they stand.
    Send(RawFd, Token),
    /// A connection to somewhere.
    Connect(RawFd, Token),
    /// An end of whatever has this token. Its own answer is for nobody.
    Cancel(Token),
    /// The descriptor's end; no operation of it is under way.
    Close(RawFd),
}

/// What the kernel says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    /// Of which operation.
    pub(super) token: Token,
    /// What came of it: a count, a descriptor, or an error's number below zero.
    pub(super) result: i32,
    /// The buffer that was filled.
    pub(super) buffer: Option<u16>,
    /// Whether the operation goes on.
    pub(super) more: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_keeps_its_parts() {
        let key = Key {
            index: u32::MAX,
            generation: 0x0fff_ffff,
        };
        for kind in [
            Kind::Accept,
            Kind::Receive,
            Kind::Send,
            Kind::Connect,
            Kind::Afar,
            Kind::Nobody,
        ] {
            assert_eq!(Token::new(kind, key).parts(), (kind, key));
        }
    }
}
