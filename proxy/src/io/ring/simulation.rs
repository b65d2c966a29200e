//! The engine against a kernel that answers in every order it may: late, short, cancelled, cancelled in vain, without
//! buffers, or with an end of what should have gone on. What breaks names the seed; `SALLYPORT_RING_SEED` repeats one,
//! `SALLYPORT_RING_WORLDS` has more of them.
//!
//! The kernel here looks at what the real one would: that no descriptor is used after its end or closed twice, that
//! memory of an operation stays what it was until the answer, and that every buffer comes back. The peers look at the
//! bytes: each stream arrives whole and in order, in either direction.

#![allow(unsafe_code, reason = "this is the kernel's side")]

use super::{
    buffers,
    engine::Engine,
    ops::{Answer, Kind, Op, Token},
    slots::Key,
};
use socket2::SockAddr;
use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    io::IoSlice,
    net::SocketAddr,
    os::fd::RawFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, Wake, Waker},
};

/// Steps of one world.
const STEPS: usize = 1_500;
/// Worlds in a test run.
const WORLDS: u64 = 80;
/// The longest stream of a peer.
const STREAM_MAX: usize = 400_000;

/// Numbers from a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// Once in so many times.
    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// A size of any magnitude up to `most`, at least 1.
    fn size(&mut self, most: usize) -> usize {
        let bits = self.below(usize::BITS as usize - most.leading_zeros() as usize + 1);
        (1 + self.below(1 << bits)).min(most.max(1))
    }
}

/// What a peer sends at a position of its stream.
fn byte_at(descriptor: RawFd, position: usize) -> u8 {
    (position.wrapping_mul(31) ^ (position >> 8) ^ descriptor as usize) as u8
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Flag {
    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// An operation that the kernel has.
struct Running {
    op: Op,
    cancelled: bool,
    /// What a send showed when it was asked for; where a receive was to write to.
    shown: Vec<u8>,
    room: Option<(usize, usize)>,
}

/// The far end of a connection.
#[derive(Default)]
struct Peer {
    /// How much it sends, and has sent.
    length: usize,
    sent: usize,
    /// What it ends with.
    reset: bool,
    /// What it got.
    got: Vec<u8>,
}

#[derive(Default)]
struct World {
    running: BTreeMap<u64, Running>,
    /// Answers that wait to be delivered; those of one operation keep their order.
    answers: Vec<Answer>,
    open: HashSet<RawFd>,
    peers: BTreeMap<RawFd, Peer>,
    next_descriptor: RawFd,
    /// How many buffers the kernel has taken.
    taken: u16,
    /// No more faults: whatever is under way comes to its end.
    calm: bool,
    met: BTreeMap<&'static str, u64>,
}

impl World {
    fn meet(&mut self, what: &'static str) {
        *self.met.entry(what).or_default() += 1;
    }

    fn descriptor(&mut self, dice: &mut Dice) -> RawFd {
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

    fn take(&mut self, op: Op, engine: &mut Engine, dice: &mut Dice) {
        let (descriptor, token) = match op {
            Op::Close(descriptor) => {
                let uses = |running: &Running| descriptor_of(running.op) == Some(descriptor);
                assert!(!self.running.values().any(uses), "{descriptor} is closed in use");
                assert!(self.open.remove(&descriptor), "{descriptor} is closed twice");
                return;
            }
            Op::Cancel(token) => return self.cancel(token, dice),
            Op::Accept(descriptor, token)
            | Op::ReceiveMany(descriptor, token)
            | Op::Receive(descriptor, token)
            | Op::Send(descriptor, token)
            | Op::Connect(descriptor, token) => (descriptor, token),
        };
        assert!(self.open.contains(&descriptor), "{op:?} on a closed descriptor");
        let running = Running {
            op,
            cancelled: false,
            shown: engine.bytes_of(token).to_vec(),
            room: room_of(engine, op, token),
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
            }
            return;
        }
        if let Some(running) = self.running.get_mut(&token.0) {
            running.cancelled = true;
        }
    }

    /// One of the operations under way gets somewhere.
    fn work(&mut self, engine: &mut Engine, dice: &mut Dice) {
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
            Op::Receive(descriptor, _) => self.receive(token, descriptor, engine, dice),
            Op::Send(descriptor, _) => self.send(token, descriptor, engine, dice),
            Op::Accept(..) => self.accept(token, dice),
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

    fn receive(&mut self, token: u64, descriptor: RawFd, engine: &mut Engine, dice: &mut Dice) {
        let op = Op::Receive(descriptor, Token(token));
        let room = room_of(engine, op, Token(token));
        let asked = self.running.get(&token).and_then(|running| running.room);
        assert!(room.is_some() && room == asked, "the memory of a receive moved");
        let Some((start, size)) = room else { return };
        match self.comes(descriptor, size, dice) {
            Err(end) => self.answer(token, end, None, false),
            Ok(count) => {
                self.meet("bulk");
                self.write(descriptor, start as *mut u8, count);
                self.answer(token, count as i32, None, false);
            }
        }
    }

    fn write(&mut self, descriptor: RawFd, start: *mut u8, count: usize) {
        let peer = self.peers.entry(descriptor).or_default();
        for offset in 0..count {
            // SAFETY: the engine gave room for so many bytes.
            unsafe { start.add(offset).write(byte_at(descriptor, peer.sent + offset)) };
        }
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

    fn accept(&mut self, token: u64, dice: &mut Dice) {
        if self.calm || self.peers.len() > 60 {
            return;
        }
        if dice.once_in(10) {
            return self.answer(token, -libc::EMFILE, None, false);
        }
        let descriptor = self.descriptor(dice);
        let more = !dice.once_in(5);
        self.answer(token, descriptor, None, more);
    }

    /// One answer is delivered.
    fn deliver(&mut self, engine: &mut Engine, dice: &mut Dice) {
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
        | Op::ReceiveMany(descriptor, _)
        | Op::Receive(descriptor, _)
        | Op::Send(descriptor, _)
        | Op::Connect(descriptor, _)
        | Op::Close(descriptor) => Some(descriptor),
        Op::Cancel(_) => None,
    }
}

fn room_of(engine: &mut Engine, op: Op, token: Token) -> Option<(usize, usize)> {
    match op {
        Op::Receive(..) => engine.room_of(token).map(|(start, size)| (start.addr(), size)),
        _ => None,
    }
}

/// Somebody who holds a socket.
struct Holder {
    key: Key,
    descriptor: RawFd,
    read: usize,
    written: Vec<u8>,
    reading: Arc<Flag>,
    writing: Arc<Flag>,
    ended: bool,
    failed: bool,
    /// Reads but seldom, so that what comes waits.
    lazy: bool,
}

impl Holder {
    fn read(&mut self, engine: &mut Engine, dice: &mut Dice) {
        let (mut room, mut came) = (dice.size(100_000), Vec::new());
        let polled = engine.poll_read(self.key, &Waker::from(Arc::clone(&self.reading)), |bytes| {
            let count = bytes.len().min(room);
            came.extend_from_slice(&bytes[..count]);
            room -= count;
            count
        });
        for (offset, byte) in came.iter().enumerate() {
            let expected = byte_at(self.descriptor, self.read + offset);
            assert_eq!(*byte, expected, "{} at {}", self.descriptor, self.read + offset);
        }
        self.read += came.len();
        match polled {
            Poll::Pending => {}
            Poll::Ready(Ok(())) if !came.is_empty() => {
                // More may be there, and nobody wakes for it.
                self.reading.0.store(true, Ordering::Relaxed);
            }
            Poll::Ready(_) => self.ended = true,
        }
    }

    fn write(&mut self, engine: &mut Engine, dice: &mut Dice) {
        let sizes = [dice.size(90_000), dice.size(3_000)];
        let parts = sizes.map(|size| (0..size).map(|_| dice.next() as u8).collect::<Vec<u8>>());
        let slices = [IoSlice::new(&parts[0]), IoSlice::new(&parts[1])];
        match engine.poll_write(self.key, &Waker::from(Arc::clone(&self.writing)), &slices) {
            Poll::Ready(Ok(accepted)) => {
                let all = parts.concat();
                assert!(accepted > 0);
                self.written.extend_from_slice(&all[..accepted]);
            }
            Poll::Ready(Err(_)) => self.failed = true,
            Poll::Pending => {}
        }
    }
}

/// All who hold something.
#[derive(Default)]
struct Holders {
    sockets: Vec<Holder>,
    listeners: Vec<(Key, Arc<Flag>)>,
    connecting: Vec<(Key, RawFd, Arc<Flag>)>,
    /// Nobody's any more, but not sent yet.
    left: Vec<Holder>,
}

impl Holders {
    fn hold(&mut self, engine: &mut Engine, descriptor: RawFd, dice: &mut Dice) {
        self.sockets.push(Holder {
            key: engine.add(descriptor).expect("there is room"),
            descriptor,
            read: 0,
            written: Vec::new(),
            reading: Arc::new(Flag(AtomicBool::new(true))),
            writing: Arc::default(),
            ended: false,
            failed: false,
            lazy: dice.once_in(3),
        });
    }

    fn act(&mut self, engine: &mut Engine, world: &mut World, dice: &mut Dice) {
        match dice.below(40) {
            0 if world.peers.len() < 60 => {
                let descriptor = world.descriptor(dice);
                let key = engine.listen(descriptor).expect("there is room");
                self.listeners.push((key, Arc::new(Flag(AtomicBool::new(true)))));
            }
            1 if world.peers.len() < 60 => {
                let descriptor = world.descriptor(dice);
                let address = SockAddr::from(SocketAddr::from(([127, 0, 0, 1], 1)));
                let key = engine.connect(descriptor, address).expect("there is room");
                self.connecting
                    .push((key, descriptor, Arc::new(Flag(AtomicBool::new(true)))));
            }
            2 if world.peers.len() < 60 => {
                let descriptor = world.descriptor(dice);
                self.hold(engine, descriptor, dice);
            }
            3 => self.drop_one(engine, world, dice),
            4..10 => self.look(engine, dice),
            _ => self.talk(engine, dice),
        }
        self.see_to_those_left(engine, world, dice);
    }

    fn drop_one(&mut self, engine: &mut Engine, world: &World, dice: &mut Dice) {
        match dice.below(4) {
            0 if !self.listeners.is_empty() => {
                let (key, _) = self.listeners.swap_remove(dice.below(self.listeners.len()));
                engine.stop_listening(key);
            }
            1 if !self.connecting.is_empty() => {
                let (key, ..) = self.connecting.swap_remove(dice.below(self.connecting.len()));
                engine.stop_connecting(key);
            }
            _ if !self.sockets.is_empty() => {
                let holder = self.sockets.swap_remove(dice.below(self.sockets.len()));
                self.release(holder, engine, world);
            }
            _ => {}
        }
    }

    fn release(&mut self, holder: Holder, engine: &mut Engine, world: &World) {
        let broken = engine.sending_state(holder.key).is_err();
        if engine.release(holder.key) {
            holder.writing.0.store(true, Ordering::Relaxed);
            self.left.push(holder);
        } else if !broken {
            // Nothing was left to send.
            check_sent(&holder, world);
        }
    }

    fn look(&mut self, engine: &mut Engine, dice: &mut Dice) {
        let mut came = Vec::new();
        for (key, flag) in &self.listeners {
            while flag.take() {
                match engine.poll_accept(*key, &Waker::from(Arc::clone(flag))) {
                    Poll::Ready(Ok(descriptor)) => came.push(descriptor),
                    Poll::Ready(Err(_)) => {}
                    Poll::Pending => break,
                }
                flag.0.store(true, Ordering::Relaxed);
            }
        }
        self.connecting.retain(|(key, descriptor, flag)| {
            if !flag.take() {
                return true;
            }
            match engine.poll_connected(*key, &Waker::from(Arc::clone(flag))) {
                Poll::Pending => true,
                Poll::Ready(connected) => {
                    came.extend(connected.inspect(|is| assert_eq!(is, descriptor)));
                    false
                }
            }
        });
        for descriptor in came {
            self.hold(engine, descriptor, dice);
        }
    }

    fn talk(&mut self, engine: &mut Engine, dice: &mut Dice) {
        let count = self.sockets.len();
        let Some(holder) = self.sockets.get_mut(dice.below(count)) else {
            return;
        };
        if !holder.ended && !(holder.lazy && !dice.once_in(20)) && holder.reading.take() {
            holder.read(engine, dice);
        }
        if !holder.failed && dice.once_in(4) {
            holder.write(engine, dice);
        }
    }

    fn see_to_those_left(&mut self, engine: &mut Engine, world: &mut World, dice: &mut Dice) {
        self.left.retain(|holder| {
            if !world.calm && dice.once_in(200) {
                // Its time is over.
                engine.abandon(holder.key);
                return false;
            }
            if !holder.writing.take() {
                return true;
            }
            match engine.poll_sent(holder.key, &Waker::from(Arc::clone(&holder.writing))) {
                Poll::Pending => true,
                Poll::Ready(sent) => {
                    if sent.is_ok() {
                        check_sent(holder, world);
                    }
                    engine.abandon(holder.key);
                    false
                }
            }
        });
    }
}

fn check_sent(holder: &Holder, world: &World) {
    let got = world.peers.get(&holder.descriptor).map(|peer| &peer.got);
    assert!(
        got == Some(&holder.written),
        "{}: not all was sent",
        holder.descriptor
    );
}

fn turn(engine: &mut Engine, world: &mut World, dice: &mut Dice) {
    let mut ops = Vec::new();
    engine.take_ops(&mut ops);
    let mut ops = VecDeque::from(ops);
    while let Some(op) = ops.pop_front() {
        world.take(op, engine, dice);
    }
}

/// Says which seed it was.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("SALLYPORT_RING_SEED={}", self.0);
        }
    }
}

/// One world from its first operation to its last. What occurred goes to `met`.
fn live(seed: u64, met: &mut BTreeMap<&'static str, u64>) {
    let _named = Named(seed);
    let mut dice = Dice(seed);
    let (mut engine, mut world, mut holders) = (Engine::new(), World::default(), Holders::default());
    let buffers = [8, 300, usize::from(buffers::COUNT)][dice.below(3)];
    engine.buffers.lessen(buffers, dice.size(128) as u16);
    for _ in 0..STEPS {
        match dice.below(8) {
            0..3 => holders.act(&mut engine, &mut world, &mut dice),
            3 => turn(&mut engine, &mut world, &mut dice),
            4..6 => world.work(&mut engine, &mut dice),
            _ => world.deliver(&mut engine, &mut dice),
        }
        for holder in holders.sockets.iter().chain(&holders.left) {
            let got = &world.peers[&holder.descriptor].got;
            assert!(
                holder.written.starts_with(got),
                "{}: what was sent",
                holder.descriptor
            );
        }
    }
    settle(&mut engine, &mut world, &mut holders, &mut dice);
    assert_eq!(engine.buffers.at_rest(), buffers);
    for (what, times) in world.met {
        *met.entry(what).or_default() += times;
    }
}

/// Everybody goes on until all streams have ended, and only when woken; then everything is dropped.
fn settle(engine: &mut Engine, world: &mut World, holders: &mut Holders, dice: &mut Dice) {
    world.calm = true;
    let drive = |engine: &mut Engine, world: &mut World, dice: &mut Dice| {
        turn(engine, world, dice);
        for _ in 0..20 {
            world.work(engine, dice);
            world.deliver(engine, dice);
        }
    };
    let mut rounds = 0;
    while holders.sockets.iter().any(|holder| !holder.ended) || !holders.connecting.is_empty() {
        rounds += 1;
        assert!(rounds < 100_000, "somebody was never woken");
        drive(engine, world, dice);
        holders.look(engine, dice);
        for holder in &mut holders.sockets {
            if !holder.ended && holder.reading.take() {
                holder.read(engine, dice);
            }
        }
    }
    for holder in &holders.sockets {
        let peer = &world.peers[&holder.descriptor];
        assert_eq!(holder.read, peer.length, "{}: all was read", holder.descriptor);
    }
    for holder in std::mem::take(&mut holders.sockets) {
        holders.release(holder, engine, world);
    }
    for (key, _) in std::mem::take(&mut holders.listeners) {
        engine.stop_listening(key);
    }
    while !engine.is_empty() || !holders.left.is_empty() {
        rounds += 1;
        assert!(rounds < 200_000, "somebody never ended");
        drive(engine, world, dice);
        holders.see_to_those_left(engine, world, dice);
    }
    turn(engine, world, dice);
    assert!(world.running.is_empty() && world.answers.is_empty());
    assert!(world.open.is_empty(), "open: {:?}", world.open);
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn answers_in_any_order_lose_and_leave_nothing() {
    let mut met = BTreeMap::new();
    if let Some(seed) = from_environment("SALLYPORT_RING_SEED") {
        return live(seed, &mut met);
    }
    let worlds = from_environment("SALLYPORT_RING_WORLDS").unwrap_or(WORLDS);
    let first = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.as_nanos() as u64);
    for seed in (0..worlds).map(|world| first.wrapping_add(world)) {
        live(seed, &mut met);
    }
    for what in [
        "bulk",
        "cancelled",
        "cancelled in vain",
        "interrupted",
        "no buffers",
        "short send",
        "stopped",
    ] {
        assert!(met.contains_key(what), "{what} never occurred: {met:?}");
    }
}

#[test]
fn an_answer_that_nobody_expects_is_nobodys() {
    let mut engine = Engine::new();
    for kind in [
        Kind::Accept,
        Kind::Receive,
        Kind::Send,
        Kind::Connect,
        Kind::Nobody,
    ] {
        let key = Key {
            index: 3,
            generation: 9,
        };
        engine.answer(&Answer {
            token: Token::new(kind, key),
            result: -1,
            buffer: None,
            more: false,
        });
    }
    assert!(engine.is_empty());
}
