//! All that a ring has under way: sockets, listeners and connections to servers, from the first operation to the last.
//!
//! It is the whole of the driver's rules and asks nobody: what the kernel is to be asked for gathers as [`Op`]s, the
//! kernel's answers come as [`Answer`]s, in whatever order. A descriptor and a buffer live until the last operation that
//! knows them was answered, whoever was dropped before. It must not know how the kernel is asked.

use super::{
    accepting::Accepting,
    buffers::Buffers,
    ops::{Answer, Kind, Op, Token},
    receiving::{Reader, Receiving, Want},
    sending::Sending,
    slots::{Key, Slots},
};
use crate::io::listener::Ahead;
use socket2::SockAddr;
use std::{
    io::{self, IoSlice},
    os::fd::RawFd,
    task::{Poll, Waker},
};

/// Sockets, and listeners, and connections under way, each; far beyond what descriptors allow.
const EACH_MAX: u32 = 1 << 24;

/// A connected socket.
struct Socket {
    descriptor: RawFd,
    receiving: Receiving,
    sending: Sending,
    /// Whether it is among those that have something to send when the turn ends.
    listed: bool,
    life: Life,
}

/// How long something is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// Somebody has it.
    Held,
    /// Nobody reads; what was accepted is still sent.
    Finishing,
    /// It goes with the last operation.
    Ending,
}

struct Listener {
    accepting: Accepting,
    life: Life,
}

/// A connection under way.
struct Connecting {
    descriptor: RawFd,
    /// In memory of its own, because the kernel reads it there.
    address: Box<SockAddr>,
    result: Option<i32>,
    waker: Option<Waker>,
    life: Life,
}

/// The rules; see the module.
pub(super) struct Engine {
    sockets: Slots<Socket>,
    listeners: Slots<Listener>,
    connecting: Slots<Connecting>,
    /// The ring's buffers.
    pub(super) buffers: Buffers,
    ops: Vec<Op>,
    /// Sockets that have something to send.
    to_send: Vec<Key>,
    woken: Vec<Waker>,
}

impl Engine {
    /// Nothing under way.
    pub(super) fn new() -> Self {
        Self {
            sockets: Slots::new(),
            listeners: Slots::new(),
            connecting: Slots::new(),
            buffers: Buffers::new(),
            ops: Vec::new(),
            to_send: Vec::new(),
            woken: Vec::new(),
        }
    }

    /// What the kernel is to be asked for now, in this order. Each must be asked before the next turn ends.
    pub(super) fn take_ops(&mut self, into: &mut Vec<Op>) {
        let mut to_send = std::mem::take(&mut self.to_send);
        for key in to_send.drain(..) {
            if let Some(socket) = self.sockets.get_mut(key) {
                socket.listed = false;
            }
            self.launch(key);
        }
        // Its room is used again.
        self.to_send = to_send;
        self.buffers.post();
        into.append(&mut self.ops);
    }

    /// Whom the answers woke; to be woken when nobody holds this any more.
    pub(super) fn take_woken(&mut self, into: &mut Vec<Waker>) {
        into.append(&mut self.woken);
    }

    /// Whether nothing is under way, and nothing is held by anybody.
    pub(super) fn is_empty(&self) -> bool {
        self.sockets.len() + self.listeners.len() + self.connecting.len() == 0
    }

    /// Ends all that there is, whoever holds it.
    pub(super) fn abandon_all(&mut self) {
        self.sockets.keys().into_iter().for_each(|key| self.abandon(key));
        self.listeners
            .keys()
            .into_iter()
            .for_each(|key| self.stop_listening(key));
        self.connecting
            .keys()
            .into_iter()
            .for_each(|key| self.stop_connecting(key));
    }

    /// What the kernel says.
    pub(super) fn answer(&mut self, answer: &Answer) {
        let (kind, key) = answer.token.parts();
        match kind {
            Kind::Receive => self.received(key, answer),
            Kind::Send => self.sent(key, answer),
            Kind::Accept => self.accepted(key, answer),
            Kind::Connect => self.connected(key, answer),
            Kind::Afar | Kind::Nobody => {}
        }
    }
}

/// Sockets.
impl Engine {
    /// Takes over a connected socket in blocking mode: on a non-blocking one the kernel would answer EAGAIN instead of
    /// waiting. `None` where there is no room; the descriptor is the caller's then.
    pub(super) fn add(&mut self, descriptor: RawFd) -> Option<Key> {
        let socket = Socket {
            descriptor,
            receiving: Receiving::new(),
            sending: Sending::new(),
            listed: false,
            life: Life::Held,
        };
        self.sockets.insert(socket, EACH_MAX).ok()
    }

    /// The socket's descriptor.
    pub(super) fn descriptor(&self, key: Key) -> Option<RawFd> {
        self.sockets.get(key).map(|socket| socket.descriptor)
    }

    /// Has `reader` read what has come; nothing read is the end.
    pub(super) fn poll_read(
        &mut self,
        key: Key,
        waker: &Waker,
        reader: &mut impl Reader,
    ) -> Poll<io::Result<()>> {
        let Some(socket) = self.sockets.get_mut(key) else {
            return Poll::Ready(Err(gone()));
        };
        let descriptor = socket.descriptor;
        if let Some(read) = socket.receiving.read(descriptor, &mut self.buffers, reader) {
            return Poll::Ready(read);
        }
        let want = socket.receiving.wait(waker);
        self.receive(key, descriptor, want);
        Poll::Pending
    }

    /// Accepts bytes for sending. Pending where enough of them wait. `send` sends by the descriptor, without waiting.
    pub(super) fn poll_write(
        &mut self,
        key: Key,
        waker: &Waker,
        parts: &[IoSlice<'_>],
        send: impl FnOnce(RawFd, &[IoSlice<'_>]) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let Some(socket) = self.sockets.get_mut(key) else {
            return Poll::Ready(Err(gone()));
        };
        if socket.sending.is_full() && !socket.sending.is_in_flight() {
            self.launch(key);
        }
        let Some(socket) = self.sockets.get_mut(key) else {
            return Poll::Ready(Err(gone()));
        };
        let descriptor = socket.descriptor;
        let accepted = socket
            .sending
            .accept(waker, parts, |parts| send(descriptor, parts));
        if socket.sending.is_waiting() && !std::mem::replace(&mut socket.listed, true) {
            self.to_send.push(key);
        }
        accepted
    }

    /// Whether sending has failed, and by what.
    pub(super) fn sending_state(&self, key: Key) -> io::Result<()> {
        self.sockets
            .get(key)
            .map_or_else(|| Err(gone()), |socket| socket.sending.state())
    }

    /// Ready once everything that was accepted is with the kernel.
    pub(super) fn poll_sent(&mut self, key: Key, waker: &Waker) -> Poll<io::Result<()>> {
        match self.sockets.get_mut(key) {
            Some(socket) => socket.sending.poll_sent(waker),
            None => Poll::Ready(Err(gone())),
        }
    }

    /// Nobody reads or writes any more. True where bytes are left to send: then somebody has to see to it that
    /// [`Engine::abandon`] comes.
    pub(super) fn release(&mut self, key: Key) -> bool {
        let Some(socket) = self.sockets.get_mut(key) else {
            return false;
        };
        if socket.sending.is_unsent() {
            socket.life = Life::Finishing;
            // What comes meanwhile is read and thrown away: unread bytes would make a reset of the end.
            socket.receiving.discard(&mut self.buffers);
            return true;
        }
        self.abandon(key);
        false
    }

    /// Ends a socket: what is in flight is cancelled, and the descriptor is closed after it.
    pub(super) fn abandon(&mut self, key: Key) {
        let Some(socket) = self
            .sockets
            .get_mut(key)
            .filter(|socket| socket.life != Life::Ending)
        else {
            return;
        };
        socket.life = Life::Ending;
        let (descriptor, want) = (socket.descriptor, socket.receiving.abandon(&mut self.buffers));
        let cancel = socket.sending.abandon();
        self.receive(key, descriptor, want);
        if cancel {
            self.ops.push(Op::Cancel(Token::new(Kind::Send, key)));
        }
        self.close_if_done(key);
    }

    fn launch(&mut self, key: Key) {
        if let Some(socket) = self.sockets.get_mut(key)
            && socket.sending.launch()
        {
            let token = Token::new(Kind::Send, key);
            self.ops.push(Op::Send(socket.descriptor, token));
        }
    }

    fn receive(&mut self, key: Key, descriptor: RawFd, want: Want) {
        let token = Token::new(Kind::Receive, key);
        match want {
            Want::Nothing | Want::One => {}
            Want::Many => self.ops.push(Op::ReceiveMany(descriptor, token)),
            Want::Readable => self.ops.push(Op::Readable(descriptor, token)),
            Want::End => self.ops.push(Op::Cancel(token)),
        }
    }

    fn received(&mut self, key: Key, answer: &Answer) {
        let Some(socket) = self.sockets.get_mut(key) else {
            return;
        };
        let want = socket
            .receiving
            .answered(answer, &mut self.buffers, &mut self.woken);
        if socket.life != Life::Held {
            socket.receiving.discard(&mut self.buffers);
        }
        // A cancellation may have come while there was nothing to cancel.
        let again = socket.life == Life::Ending && answer.more;
        let (descriptor, want) = (socket.descriptor, if again { Want::End } else { want });
        self.receive(key, descriptor, want);
        self.close_if_done(key);
    }

    fn sent(&mut self, key: Key, answer: &Answer) {
        let Some(socket) = self.sockets.get_mut(key) else {
            return;
        };
        if socket.sending.answered(answer, &mut self.woken) {
            let token = Token::new(Kind::Send, key);
            self.ops.push(Op::Send(socket.descriptor, token));
        }
        self.close_if_done(key);
    }

    fn close_if_done(&mut self, key: Key) {
        let Some(socket) = self.sockets.get(key) else {
            return;
        };
        let in_flight = socket.receiving.is_in_flight() || socket.sending.is_in_flight();
        if socket.life == Life::Ending && !in_flight {
            self.ops.push(Op::Close(socket.descriptor));
            drop(self.sockets.remove(key));
        }
    }
}

/// Listeners.
impl Engine {
    /// Takes over a listening socket in blocking mode. `None` where there is no room; the descriptor is the caller's
    /// then.
    pub(super) fn listen(&mut self, descriptor: RawFd) -> Option<Key> {
        let listener = Listener {
            accepting: Accepting::new(descriptor),
            life: Life::Held,
        };
        self.listeners.insert(listener, EACH_MAX).ok()
    }

    /// The next connection; its descriptor is the caller's. Others may come `ahead`.
    pub(super) fn poll_accept(&mut self, key: Key, waker: &Waker, ahead: Ahead) -> Poll<io::Result<RawFd>> {
        let Some(listener) = self.listeners.get_mut(key) else {
            return Poll::Ready(Err(gone()));
        };
        if let Some(taken) = listener.accepting.take() {
            return Poll::Ready(taken);
        }
        let want = listener.accepting.wait(waker, ahead);
        let descriptor = listener.accepting.descriptor;
        self.accept(key, descriptor, want);
        Poll::Pending
    }

    /// No connections come until somebody waits for one again; those that came wait to be taken.
    pub(super) fn hold_accepting(&mut self, key: Key) {
        if let Some(listener) = self.listeners.get_mut(key) {
            let (descriptor, want) = (listener.accepting.descriptor, listener.accepting.hold());
            self.accept(key, descriptor, want);
        }
    }

    /// A connection that is there already; its descriptor is the caller's.
    pub(super) fn accept_waiting(&mut self, key: Key) -> Option<RawFd> {
        let listener = self.listeners.get_mut(key)?;
        listener.accepting.take()?.ok()
    }

    /// Ends a listener.
    pub(super) fn stop_listening(&mut self, key: Key) {
        let Some(listener) = self.listeners.get_mut(key) else {
            return;
        };
        listener.life = Life::Ending;
        let descriptor = listener.accepting.descriptor;
        let (want, came) = listener.accepting.abandon();
        self.ops.extend(came.into_iter().map(Op::Close));
        self.accept(key, descriptor, want);
        self.close_listener_if_done(key);
    }

    fn accept(&mut self, key: Key, descriptor: RawFd, want: Want) {
        let token = Token::new(Kind::Accept, key);
        match want {
            Want::Nothing | Want::Readable => {}
            Want::One => self.ops.push(Op::AcceptOne(descriptor, token)),
            Want::Many => self.ops.push(Op::Accept(descriptor, token)),
            Want::End => self.ops.push(Op::Cancel(token)),
        }
    }

    fn accepted(&mut self, key: Key, answer: &Answer) {
        let Some(listener) = self.listeners.get_mut(key) else {
            return;
        };
        let want = listener.accepting.answered(answer, &mut self.woken);
        let descriptor = listener.accepting.descriptor;
        if listener.life == Life::Ending {
            let (_, came) = listener.accepting.abandon();
            self.ops.extend(came.into_iter().map(Op::Close));
        }
        let again = listener.life == Life::Ending && answer.more;
        let want = if again { Want::End } else { want };
        self.accept(key, descriptor, want);
        self.close_listener_if_done(key);
    }

    fn close_listener_if_done(&mut self, key: Key) {
        let Some(listener) = self.listeners.get(key) else {
            return;
        };
        if listener.life == Life::Ending && !listener.accepting.is_in_flight() {
            self.ops.push(Op::Close(listener.accepting.descriptor));
            drop(self.listeners.remove(key));
        }
    }
}

/// Connections to servers.
impl Engine {
    /// Begins to connect a socket in blocking mode. `None` where there is no room; the descriptor is the caller's then.
    pub(super) fn connect(&mut self, descriptor: RawFd, address: SockAddr) -> Option<Key> {
        let connecting = Connecting {
            descriptor,
            address: Box::new(address),
            result: None,
            waker: None,
            life: Life::Held,
        };
        let key = self.connecting.insert(connecting, EACH_MAX).ok()?;
        self.ops
            .push(Op::Connect(descriptor, Token::new(Kind::Connect, key)));
        Some(key)
    }

    /// Ready once it is connected or not; a connected descriptor is the caller's.
    pub(super) fn poll_connected(&mut self, key: Key, waker: &Waker) -> Poll<io::Result<RawFd>> {
        let Some(connecting) = self.connecting.get_mut(key) else {
            return Poll::Ready(Err(gone()));
        };
        let Some(result) = connecting.result else {
            connecting.waker = Some(waker.clone());
            return Poll::Pending;
        };
        let descriptor = connecting.descriptor;
        drop(self.connecting.remove(key));
        if result < 0 {
            self.ops.push(Op::Close(descriptor));
            return Poll::Ready(Err(io::Error::from_raw_os_error(-result)));
        }
        Poll::Ready(Ok(descriptor))
    }

    /// Nobody waits any more.
    pub(super) fn stop_connecting(&mut self, key: Key) {
        let Some(connecting) = self.connecting.get_mut(key) else {
            return;
        };
        if connecting.life == Life::Ending {
            return;
        }
        if connecting.result.is_some() {
            let descriptor = connecting.descriptor;
            drop(self.connecting.remove(key));
            self.ops.push(Op::Close(descriptor));
            return;
        }
        connecting.life = Life::Ending;
        self.ops.push(Op::Cancel(Token::new(Kind::Connect, key)));
    }

    fn connected(&mut self, key: Key, answer: &Answer) {
        let Some(connecting) = self.connecting.get_mut(key) else {
            return;
        };
        connecting.result = Some(answer.result);
        if connecting.life == Life::Ending {
            let descriptor = connecting.descriptor;
            drop(self.connecting.remove(key));
            self.ops.push(Op::Close(descriptor));
            return;
        }
        self.woken.extend(connecting.waker.take());
    }
}

/// Memory of operations, for whoever asks the kernel.
impl Engine {
    /// What a send is to send.
    pub(super) fn bytes_of(&self, token: Token) -> &[u8] {
        let (_, key) = token.parts();
        self.sockets
            .get(key)
            .map(|socket| socket.sending.bytes())
            .unwrap_or_default()
    }

    /// Where a connection goes.
    pub(super) fn address_of(&self, token: Token) -> Option<&SockAddr> {
        let (_, key) = token.parts();
        self.connecting.get(key).map(|connecting| &*connecting.address)
    }
}

fn gone() -> io::Error {
    io::ErrorKind::NotConnected.into()
}
