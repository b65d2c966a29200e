//! Those who hold sockets, listeners and connections under way: they poll when they are woken, and drop at any time.

use super::{Dice, Flag, byte_at, world::World};
use crate::io::{
    listener::Ahead,
    ring::{engine::Engine, receiving::Reader, slots::Key},
};
use socket2::SockAddr;
use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    os::fd::RawFd,
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
    task::{Poll, Waker},
};

/// Somebody who holds a socket.
pub(super) struct Holder {
    key: Key,
    pub(super) descriptor: RawFd,
    pub(super) read: usize,
    pub(super) written: Vec<u8>,
    pub(super) reading: Arc<Flag>,
    writing: Arc<Flag>,
    pub(super) ended: bool,
    failed: bool,
    /// Reads but seldom, so that what comes waits.
    lazy: bool,
}

impl Holder {
    pub(super) fn read(&mut self, engine: &mut Engine, world: &mut World, dice: &mut Dice) {
        let mut into = Into {
            room: dice.size(100_000),
            came: Vec::new(),
            world,
            dice,
        };
        let waker = Waker::from(Arc::clone(&self.reading));
        let polled = engine.poll_read(self.key, &waker, &mut into);
        let came = into.came;
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

    fn write(&mut self, engine: &mut Engine, world: &mut World, dice: &mut Dice) {
        let sizes = [dice.size(90_000), dice.size(3_000)];
        let parts = sizes.map(|size| (0..size).map(|_| dice.next() as u8).collect::<Vec<u8>>());
        let slices = [IoSlice::new(&parts[0]), IoSlice::new(&parts[1])];
        let waker = Waker::from(Arc::clone(&self.writing));
        let accepted = engine.poll_write(self.key, &waker, &slices, |descriptor, slices| {
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            world.send_now(descriptor, &bytes, dice)
        });
        match accepted {
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

/// Where a reading goes.
struct Into<'a> {
    room: usize,
    came: Vec<u8>,
    world: &'a mut World,
    dice: &'a mut Dice,
}

impl Reader for Into<'_> {
    fn room(&self) -> usize {
        self.room
    }

    fn take(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room);
        self.came.extend_from_slice(&bytes[..count]);
        self.room -= count;
        count
    }

    fn receive(&mut self, descriptor: RawFd) -> io::Result<usize> {
        let came = self.world.receive(descriptor, self.room, self.dice)?;
        Ok(self.take(&came))
    }
}

/// All who hold something.
#[derive(Default)]
pub(super) struct Holders {
    pub(super) sockets: Vec<Holder>,
    pub(super) listeners: Vec<(Key, Arc<Flag>)>,
    pub(super) connecting: Vec<(Key, RawFd, Arc<Flag>)>,
    /// Nobody's any more, but not sent yet.
    pub(super) left: Vec<Holder>,
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

    pub(super) fn act(&mut self, engine: &mut Engine, world: &mut World, dice: &mut Dice) {
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
            _ => self.talk(engine, world, dice),
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

    pub(super) fn release(&mut self, holder: Holder, engine: &mut Engine, world: &World) {
        let broken = engine.sending_state(holder.key).is_err();
        if engine.release(holder.key) {
            holder.writing.0.store(true, Ordering::Relaxed);
            self.left.push(holder);
        } else if !broken {
            // Nothing was left to send.
            check_sent(&holder, world);
        }
    }

    pub(super) fn look(&mut self, engine: &mut Engine, dice: &mut Dice) {
        let mut came = Vec::new();
        for (key, flag) in &self.listeners {
            while flag.take() {
                if dice.once_in(4) {
                    engine.hold_accepting(*key);
                }
                let ahead = if dice.once_in(2) { Ahead::None } else { Ahead::Many };
                match engine.poll_accept(*key, &Waker::from(Arc::clone(flag)), ahead) {
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

    fn talk(&mut self, engine: &mut Engine, world: &mut World, dice: &mut Dice) {
        let count = self.sockets.len();
        let Some(holder) = self.sockets.get_mut(dice.below(count)) else {
            return;
        };
        let now = !holder.lazy || dice.once_in(20);
        if now && !holder.ended && holder.reading.take() {
            holder.read(engine, world, dice);
        }
        if !holder.failed && dice.once_in(4) {
            holder.write(engine, world, dice);
        }
    }

    pub(super) fn see_to_those_left(&mut self, engine: &mut Engine, world: &mut World, dice: &mut Dice) {
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
