//! Questions to the kernel's network configuration (rtnetlink), and orders to it: one request, its whole answer.
//!
//! Attributes that are not asked for are passed over, so that a newer kernel's are no error. What an answer means is
//! for those who ask.
#![allow(unsafe_code, reason = "nix has no such socket option")]

use netlink_packet_core::{NetlinkBuffer, NlasIterator};
use nix::{
    libc,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
    },
};
use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

/// `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
/// Only where nothing is there yet, of a request that makes something.
pub(super) const EXCLUSIVE: u16 = 0x200;
/// Of a request that makes something.
pub(super) const CREATE: u16 = 0x400;
const MESSAGE_ERROR: u16 = 2;
const MESSAGE_DONE: u16 = 3;
/// The set changed while it was listed.
const INTERRUPTED: u16 = 0x10;
/// How often a listing that was interrupted is asked for again.
const TRIES: u32 = 8;
/// The kernel makes no part of a listing larger than this.
const PART_BYTES: usize = 64 * 1024;

/// A socket to ask on.
pub(super) struct Netlink {
    socket: OwnedFd,
}

/// One part of an answer.
pub(super) struct Message {
    payload: Vec<u8>,
}

impl Netlink {
    /// Opens a socket in this thread's network namespace.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub(super) fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        let netlink = Self { socket };
        netlink.check_strictly()?;
        Ok(netlink)
    }

    /// Lets the kernel heed what a listing's header asks for: a host may have a million routes, of which only the
    /// local ones are wanted.
    fn check_strictly(&self) -> io::Result<()> {
        let on: libc::c_int = 1;
        let size = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the kernel reads `size` bytes at `on`, which outlives the call; the descriptor is ours.
        let code = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_NETLINK,
                libc::NETLINK_GET_STRICT_CHK,
                (&raw const on).cast(),
                size,
            )
        };
        if code == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Everything of a kind; a listing during which the set changed is asked for again.
    ///
    /// # Errors
    /// What the kernel answered, or that it changes all the time.
    pub(super) fn list(&self, kind: u16, body: &[u8]) -> io::Result<Vec<Message>> {
        for _ in 0..TRIES {
            if let Some(whole) = self.ask(kind, DUMP, body)? {
                return Ok(whole);
            }
        }
        Err(io::Error::new(
            io::ErrorKind::Interrupted,
            "what is listed changes all the time",
        ))
    }

    /// One object, or an order that the kernel confirms.
    ///
    /// # Errors
    /// What the kernel answered.
    pub(super) fn request(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<Vec<Message>> {
        Ok(self.ask(kind, flags | ACK, body)?.unwrap_or_default())
    }

    /// `None` where the answer is a mixture of two states.
    fn ask(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<Option<Vec<Message>>> {
        send(
            self.socket.as_raw_fd(),
            &frame(kind, flags | REQUEST, body),
            MsgFlags::empty(),
        )?;
        let mut answer = Answer::default();
        let mut buffer = vec![0u8; PART_BYTES];
        while !answer.ended {
            let count = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC)?;
            let part = buffer.get(..count).ok_or(io::ErrorKind::InvalidData)?;
            answer.read(part)?;
        }
        Ok((!answer.mixed).then_some(answer.messages))
    }
}

#[derive(Default)]
struct Answer {
    messages: Vec<Message>,
    mixed: bool,
    ended: bool,
}

impl Answer {
    /// Takes what one read gave: whole messages.
    fn read(&mut self, mut part: &[u8]) -> io::Result<()> {
        while part.len() >= HEADER_BYTES {
            let message = NetlinkBuffer::new_checked(part).map_err(|_| io::ErrorKind::InvalidData)?;
            self.mixed |= message.flags() & INTERRUPTED != 0;
            match message.message_type() {
                MESSAGE_DONE | MESSAGE_ERROR => {
                    self.ended = true;
                    outcome(message.payload())?;
                }
                _ => self.messages.push(Message {
                    payload: message.payload().to_vec(),
                }),
            }
            let length = usize::try_from(message.length()).unwrap_or(usize::MAX);
            let next = length.checked_next_multiple_of(4).unwrap_or(usize::MAX);
            part = part.get(next..).unwrap_or_default();
        }
        Ok(())
    }
}

/// The error number with which an answer ends; 0 is none.
fn outcome(payload: &[u8]) -> io::Result<()> {
    let code = payload.first_chunk().copied().map_or(0, i32::from_ne_bytes);
    match code {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno.saturating_neg())),
    }
}

/// A request as the kernel reads it: `struct nlmsghdr`, then the body.
fn frame(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER_BYTES + body.len()).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(HEADER_BYTES + body.len());
    frame.extend_from_slice(&length.to_ne_bytes());
    frame.extend_from_slice(&kind.to_ne_bytes());
    frame.extend_from_slice(&flags.to_ne_bytes());
    // A sequence number and the kernel's port: one request a time makes both needless.
    frame.extend_from_slice(&[0; 8]);
    frame.extend_from_slice(body);
    frame
}

/// An attribute of a request's body, padded as the kernel wants it.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = Vec::with_capacity(8 + value.len());
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

impl Message {
    /// The fixed part and the attributes after it, `None` where it is shorter.
    pub(super) fn split<const FIXED: usize>(&self) -> Option<(&[u8; FIXED], Attributes<'_>)> {
        let (fixed, rest) = self.payload.split_first_chunk()?;
        Some((fixed, Attributes(rest)))
    }
}

/// Attributes, each a kind and a value.
#[derive(Clone, Copy)]
pub(super) struct Attributes<'m>(&'m [u8]);

impl<'m> Attributes<'m> {
    /// The value of the first attribute of this kind. After a malformed one nothing is found.
    pub(super) fn find(self, kind: u16) -> Option<&'m [u8]> {
        let found = NlasIterator::new(self.0)
            .map_while(Result::ok)
            .find(|attribute| attribute.kind() == kind)?;
        let bytes: &'m [u8] = found.into_inner();
        bytes.get(4..usize::from(u16::from_ne_bytes(*bytes.first_chunk()?)))
    }

    /// The attributes inside the value of one.
    pub(super) fn nested(self, kind: u16) -> Option<Self> {
        self.find(kind).map(Self)
    }

    /// A number of this machine's byte order.
    pub(super) fn number(self, kind: u16) -> Option<u32> {
        let value = self.find(kind)?;
        Some(u32::from_ne_bytes(*value.first_chunk()?))
    }

    /// A string that ends with a zero byte.
    pub(super) fn text(self, kind: u16) -> Option<&'m str> {
        let value = self.find(kind)?;
        let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
        std::str::from_utf8(value.get(..end)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = frame(kind, flags, body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn an_answer_ends_with_its_last_part_and_says_whether_it_is_whole() {
        let mut answer = Answer::default();
        let mut part = message(16, 0, &[1; 7]);
        part.extend(message(16, INTERRUPTED, &[2; 4]));
        answer.read(&part).expect("two messages");
        assert!(!answer.ended && answer.mixed);
        assert_eq!(answer.messages.len(), 2);
        answer.read(&message(MESSAGE_DONE, 0, &[0; 4])).expect("the end");
        assert!(answer.ended);
    }

    #[test]
    fn a_refusal_is_the_kernels_error_number() {
        let refusal = message(MESSAGE_ERROR, 0, &(-libc::ENODEV).to_ne_bytes());
        let error = Answer::default().read(&refusal).expect_err("a refusal");
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn attributes_are_found_nested_and_padded() {
        let inner = [attribute(1, b"bond\0"), attribute(4, b"x\0")].concat();
        let bytes = [
            attribute(3, b"eth0\0"),
            attribute(18 | 0x8000, &inner),
            attribute(5, &[9]),
        ]
        .concat();
        let all = Attributes(&bytes);
        assert_eq!(all.text(3), Some("eth0"));
        assert_eq!(all.find(5), Some(&[9][..]));
        assert_eq!(all.nested(18).and_then(|inner| inner.text(1)), Some("bond"));
        assert_eq!(all.number(5), None);
        assert_eq!(all.text(7), None);
    }

    #[test]
    fn no_cut_or_lying_length_panics() {
        let whole = [attribute(3, b"eth0\0"), attribute(10, &7u32.to_ne_bytes())].concat();
        for end in 0..whole.len() {
            let cut = whole.get(..end).expect("within");
            assert_eq!(Attributes(cut).number(10), None);
            let _short = Answer::default().read(&message(16, 0, cut).split_off(4));
        }
        for lie in 0..=u8::MAX {
            let mut lying = whole.clone();
            lying.splice(0..1, [lie]);
            let _found = Attributes(&lying).number(10);
            let _inside = Answer::default().read(&lying);
        }
    }
}
